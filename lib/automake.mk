# Included by Open vSwitch's Makefile.am, in whose source tree this folder is
# "layered/lib".  What is here would be at home in Open vSwitch's own lib/ and
# knows nothing of layers.

lib_libopenvswitch_la_SOURCES += \
	layered/lib/prefix-trie.c \
	layered/lib/prefix-trie.h
