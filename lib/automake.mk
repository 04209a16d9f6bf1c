# Included by Open vSwitch's Makefile.am, in whose source tree this folder is
# "layered/lib".  What is here would be at home in Open vSwitch's own lib/ and
# knows nothing of layers.

lib_libopenvswitch_la_SOURCES += \
	layered/lib/dpif-offload-simnic.c \
	layered/lib/dpif-offload-simnic.h \
	layered/lib/loadgen-frame.c \
	layered/lib/loadgen-private.h \
	layered/lib/loadgen-unixctl.c \
	layered/lib/loadgen-vm.c \
	layered/lib/loadgen.c \
	layered/lib/loadgen.h \
	layered/lib/netdev-loadgen.c \
	layered/lib/netdev-loadgen.h \
	layered/lib/netdev-simnic.c \
	layered/lib/netdev-simnic.h \
	layered/lib/prefix-trie.c \
	layered/lib/prefix-trie.h \
	layered/lib/simnic-bridge.c \
	layered/lib/simnic-caps.c \
	layered/lib/simnic-caps.h \
	layered/lib/simnic-driver-flows.c \
	layered/lib/simnic-driver-private.h \
	layered/lib/simnic-driver.c \
	layered/lib/simnic-driver.h \
	layered/lib/simnic-flow.c \
	layered/lib/simnic-link.c \
	layered/lib/simnic-link.h \
	layered/lib/simnic-placement.c \
	layered/lib/simnic-placement.h \
	layered/lib/simnic-private.h \
	layered/lib/simnic-switch.c \
	layered/lib/simnic-switch.h \
	layered/lib/simnic-unixctl.c \
	layered/lib/simnic.c \
	layered/lib/simnic.h

MAN_FRAGMENTS += \
	layered/lib/loadgen-unixctl.man \
	layered/lib/simnic-unixctl.man
