EXTRA_DIST += \
	utilities/build \
	utilities/compile-commands \
	utilities/get-ovs \
	utilities/install-deps \
	utilities/patch-ovs \
	utilities/quickstart \
	utilities/run-tests
