man_MANS += Documentation/ovs-layered.7
CLEANFILES += Documentation/ovs-layered.7
EXTRA_DIST += \
	Documentation/ovs-layered.7.in \
	Documentation/performance.md \
	Documentation/performance/connections.svg \
	Documentation/performance/fairness.svg \
	Documentation/performance/memory.svg \
	Documentation/performance/packets.svg \
	Documentation/performance/scale.svg

Documentation/ovs-layered.7: Documentation/ovs-layered.7.in Makefile
	$(AM_V_at)$(MKDIR_P) Documentation
	$(AM_V_GEN)sed -e 's,[@]VERSION[@],$(VERSION),' \
	    $(srcdir)/Documentation/ovs-layered.7.in > $@.tmp && mv $@.tmp $@
