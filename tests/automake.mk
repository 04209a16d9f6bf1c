EXTRA_DIST += \
	tests/bench-forwarding \
	tests/bench-policy \
	tests/bench_pmds.py \
	tests/bench_real.py \
	tests/bench_report.py \
	tests/bench_switch.py \
	tests/build.at \
	tests/dpif-queued.c \
	tests/fuzz-layer-file.c \
	tests/fuzz-layer-packet.c \
	tests/fuzz-layer-parse.c \
	tests/fuzz-layer-traverse.c \
	tests/fuzz-nic-caps.c \
	tests/fuzz-nic-frame.c \
	tests/hooks.at \
	tests/layer-classifier.at \
	tests/layer-connection.at \
	tests/layer-hostile.at \
	tests/layer-oracle.at \
	tests/layer-packet.at \
	tests/layer-parse.at \
	tests/layer-policy.at \
	tests/layer-state.at \
	tests/layered-macros.at \
	tests/loadgen.at \
	tests/nic-bridge.at \
	tests/nic-churn.at \
	tests/nic-churn.py \
	tests/nic-config.at \
	tests/nic-placement.at \
	tests/nic-faults.at \
	tests/nic-frames.py \
	tests/nic-layers.at \
	tests/nic-limits.at \
	tests/nic-macros.at \
	tests/nic-ovs-offload.at \
	tests/nic-table.at \
	tests/nic-vm.at \
	tests/oracle \
	tests/ovs-parity \
	tests/poll-share.at \
	tests/private-netns \
	tests/private_ovs.py \
	tests/programs.mk \
	tests/provider.at \
	tests/run-fuzzers \
	tests/shared-writes.c \
	tests/stress-layers \
	tests/system-benchmark.at \
	tests/system-layers.at \
	tests/system-nic-offloads-macros.at \
	tests/system-nic-offloads.at \
	tests/system-nic-offloads.sed \
	tests/system-nic.at \
	tests/system-provider.at \
	tests/system-testsuite.at \
	tests/test-connection.c \
	tests/test-hooks.c \
	tests/test-layer-classifier-curve.c \
	tests/test-layer-classifier.c \
	tests/test-layer-classifier.h \
	tests/test-layer-packet.c \
	tests/test-layer-parse.c \
	tests/test-poll-share.c \
	tests/test-simnic-placement.c \
	tests/testsuite.at \
	tests/tsan.h \
	tests/tsan.supp \
	tests/unified-flow.at \
	tests/unified-upcall.at \
	tests/vsctl-layer.at

# The suites use the macros of Open vSwitch's, and run in its build directory
# with its tests/atconfig and tests/atlocal, under names of their own.
TESTSUITE_AT = \
	$(srcdir)/tests/build.at \
	$(srcdir)/tests/hooks.at \
	$(srcdir)/tests/layer-classifier.at \
	$(srcdir)/tests/layer-connection.at \
	$(srcdir)/tests/layer-hostile.at \
	$(srcdir)/tests/layer-oracle.at \
	$(srcdir)/tests/layer-packet.at \
	$(srcdir)/tests/layer-parse.at \
	$(srcdir)/tests/layer-policy.at \
	$(srcdir)/tests/layer-state.at \
	$(srcdir)/tests/layered-macros.at \
	$(srcdir)/tests/loadgen.at \
	$(srcdir)/tests/nic-bridge.at \
	$(srcdir)/tests/nic-churn.at \
	$(srcdir)/tests/nic-config.at \
	$(srcdir)/tests/nic-faults.at \
	$(srcdir)/tests/nic-layers.at \
	$(srcdir)/tests/nic-limits.at \
	$(srcdir)/tests/nic-macros.at \
	$(srcdir)/tests/nic-ovs-offload.at \
	$(srcdir)/tests/nic-placement.at \
	$(srcdir)/tests/nic-table.at \
	$(srcdir)/tests/nic-vm.at \
	$(srcdir)/tests/poll-share.at \
	$(srcdir)/tests/provider.at \
	$(srcdir)/tests/testsuite.at \
	$(srcdir)/tests/unified-flow.at \
	$(srcdir)/tests/unified-upcall.at \
	$(srcdir)/tests/vsctl-layer.at
SYSTEM_TESTSUITE_AT = \
	$(srcdir)/tests/layered-macros.at \
	$(srcdir)/tests/system-benchmark.at \
	$(srcdir)/tests/system-layers.at \
	$(srcdir)/tests/system-nic.at \
	$(srcdir)/tests/system-provider.at \
	$(srcdir)/tests/system-testsuite.at

MAKE_TESTSUITE = $(MKDIR_P) tests && $(AUTOM4TE) --language=autotest \
	-I '$(srcdir)' -I ovs/patched
RUN_TESTSUITE = cd $(OVS_BUILD) && $(SHELL)
AUTOTEST_PATH = utilities:vswitchd:ovsdb:vtep:tests:ipsec:layered/tests:
# Most tests wait rather than compute.
TESTSUITEFLAGS = -j8

tests/layered-testsuite: ovs/patched.stamp $(TESTSUITE_AT)
	$(AM_V_GEN)$(MAKE_TESTSUITE) -o $@.tmp $(srcdir)/tests/testsuite.at
	$(AM_V_at)mv $@.tmp $@
tests/layered-system-testsuite: ovs/patched.stamp $(SYSTEM_TESTSUITE_AT)
	$(AM_V_GEN)$(MAKE_TESTSUITE) -o $@.tmp $(srcdir)/tests/system-testsuite.at
	$(AM_V_at)mv $@.tmp $@
CLEANFILES += tests/layered-testsuite tests/layered-system-testsuite

# Open vSwitch's tests of offload, made fit for emulated NICs.
NIC_OFFLOADS_AT = tests/nic-offloads-tc.at tests/nic-offloads-dpdk.at
$(NIC_OFFLOADS_AT): ovs/patched.stamp $(srcdir)/tests/system-nic-offloads.sed
	$(AM_V_GEN)$(MKDIR_P) tests && case $@ in \
	*-tc.at) in=system-offloads-traffic.at ;; \
	*) in=system-dpdk-offloads.at ;; \
	esac && sed -f $(srcdir)/tests/system-nic-offloads.sed \
	    ovs/patched/tests/$$in > $@.tmp
	$(AM_V_at)mv $@.tmp $@
tests/nic-offloads-testsuite: $(NIC_OFFLOADS_AT) \
		$(srcdir)/tests/system-nic-offloads.at \
		$(srcdir)/tests/system-nic-offloads-macros.at
	$(AM_V_GEN)$(MAKE_TESTSUITE) -I . -o $@.tmp \
	    $(srcdir)/tests/system-nic-offloads.at
	$(AM_V_at)mv $@.tmp $@
CLEANFILES += tests/nic-offloads-testsuite $(NIC_OFFLOADS_AT)

check-local: ovs-all tests/layered-testsuite
	$(RUN_TESTSUITE) '$(abs_builddir)/tests/layered-testsuite' -C tests \
	    AUTOTEST_PATH='$(AUTOTEST_PATH)' $(TESTSUITEFLAGS)

check-system: ovs-all tests/layered-system-testsuite
	srcdir='$(abs_srcdir)'; $(RUN_TESTSUITE) "$$srcdir/tests/private-netns" \
	    $(SHELL) '$(abs_builddir)/tests/layered-system-testsuite' \
	    -C tests AUTOTEST_PATH='$(AUTOTEST_PATH)' $(TESTSUITEFLAGS) -j1
.PHONY: check-system

# By default the tests of offload only: -k and numbers select others.
NICFLAGS = -k offload -k offloads
check-nic-offloads: ovs-all tests/nic-offloads-testsuite
	srcdir='$(abs_srcdir)'; $(RUN_TESTSUITE) "$$srcdir/tests/private-netns" \
	    $(SHELL) '$(abs_builddir)/tests/nic-offloads-testsuite' \
	    -C tests AUTOTEST_PATH='$(AUTOTEST_PATH)' $(NICFLAGS) -j1
.PHONY: check-nic-offloads

# Open vSwitch's own suites, with every bridge a layered bridge.
PARITY = $(PYTHON3) $(srcdir)/tests/ovs-parity \
	--build $(OVS_BUILD) --source ovs/patched \
	--base-build ovs/base-build --base-source ovs/base \
	--base-make '$(MAKE) ovs-base'
PARITYFLAGS =
check-ovs: ovs-all
	+@cd $(OVS_BUILD) && $(MAKE_CHECK_FILES)
	$(PARITY) --work ovs/parity-unit --report ovs/parity-unit.txt \
	    $(PARITYFLAGS) unit
check-ovs-system: ovs-all
	+@cd $(OVS_BUILD) && $(MAKE_CHECK_FILES)
	$(PARITY) --work ovs/parity-system --report ovs/parity-system.txt \
	    $(PARITYFLAGS) system
.PHONY: check-ovs check-ovs-system

CHECKPATCH = $(PYTHON3) '$(abs_builddir)/ovs/patched/utilities/checkpatch.py'
check-style: ovs/patched.stamp
	@cd '$(srcdir)'; status=0; \
	for file in lib/*.[ch] ofproto-layered/*.[ch] tests/*.[ch] \
	        utilities/*.[ch]; do \
	    test ! -e "$$file" || $(CHECKPATCH) -q -f "$$file" || status=1; \
	done; \
	for file in vswitchd-patch/*.patch; do \
	    $(CHECKPATCH) -q -s --skip-committer-signoff "$$file" || status=1; \
	done; \
	exit $$status
.PHONY: check-style
