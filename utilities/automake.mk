EXTRA_DIST += \
	utilities/build \
	utilities/compile-commands \
	utilities/get-ovs \
	utilities/install-deps \
	utilities/layer-file.c \
	utilities/layer-file.h \
	utilities/patch-ovs \
	utilities/quickstart \
	utilities/run-tests \
	utilities/vsctl-layer.c \
	utilities/vsctl-layer.h \
	utilities/vsctl-layer.man
