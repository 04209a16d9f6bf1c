EXTRA_DIST += \
	utilities/benchmark \
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

# Arguments for utilities/benchmark, such as BENCHMARKFLAGS=--quick.
BENCHMARKFLAGS =
benchmark: ovs-all
	$(PYTHON3) $(srcdir)/utilities/benchmark --build $(OVS_BUILD) \
	    --schema ovs/patched/vswitchd/vswitch.ovsschema $(BENCHMARKFLAGS)
.PHONY: benchmark
