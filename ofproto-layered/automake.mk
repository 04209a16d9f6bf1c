# Included by Open vSwitch's Makefile.am, in whose source tree this folder is
# "layered/ofproto-layered".

noinst_LTLIBRARIES += layered/ofproto-layered/libofproto-layered.la
layered_ofproto_layered_libofproto_layered_la_SOURCES = \
	layered/ofproto-layered/address-set.c \
	layered/ofproto-layered/address-set.h \
	layered/ofproto-layered/admission-config.c \
	layered/ofproto-layered/admission-config.h \
	layered/ofproto-layered/admission.c \
	layered/ofproto-layered/admission.h \
	layered/ofproto-layered/conn-path.c \
	layered/ofproto-layered/conn-path.h \
	layered/ofproto-layered/conn-state.c \
	layered/ofproto-layered/conn-state.h \
	layered/ofproto-layered/connection.c \
	layered/ofproto-layered/connection.h \
	layered/ofproto-layered/forwarding.c \
	layered/ofproto-layered/forwarding.h \
	layered/ofproto-layered/layer-action.c \
	layered/ofproto-layered/layer-action.h \
	layered/ofproto-layered/layer-classifier-index.c \
	layered/ofproto-layered/layer-classifier-lookup.c \
	layered/ofproto-layered/layer-classifier-private.h \
	layered/ofproto-layered/layer-classifier.c \
	layered/ofproto-layered/layer-classifier.h \
	layered/ofproto-layered/layer-compile.c \
	layered/ofproto-layered/layer-compile.h \
	layered/ofproto-layered/layer-condition-parse.c \
	layered/ofproto-layered/layer-condition-private.h \
	layered/ofproto-layered/layer-condition.c \
	layered/ofproto-layered/layer-condition.h \
	layered/ofproto-layered/layer-config.c \
	layered/ofproto-layered/layer-config.h \
	layered/ofproto-layered/layer-errors.c \
	layered/ofproto-layered/layer-errors.h \
	layered/ofproto-layered/layer-packet.c \
	layered/ofproto-layered/layer-packet.h \
	layered/ofproto-layered/layer-policy.c \
	layered/ofproto-layered/layer-policy.h \
	layered/ofproto-layered/layer-port.c \
	layered/ofproto-layered/layer-port.h \
	layered/ofproto-layered/layer-text.h \
	layered/ofproto-layered/layer-traverse.c \
	layered/ofproto-layered/layer-traverse.h \
	layered/ofproto-layered/layer-xlate.c \
	layered/ofproto-layered/layer-xlate.h \
	layered/ofproto-layered/layered-inspect-json.c \
	layered/ofproto-layered/layered-inspect-json.h \
	layered/ofproto-layered/layered-inspect-state.c \
	layered/ofproto-layered/layered-inspect-state.h \
	layered/ofproto-layered/layered-inspect-unified.c \
	layered/ofproto-layered/layered-inspect-unified.h \
	layered/ofproto-layered/layered-inspect.c \
	layered/ofproto-layered/layered-inspect.h \
	layered/ofproto-layered/layered-type.c \
	layered/ofproto-layered/layered-type.h \
	layered/ofproto-layered/layered.c \
	layered/ofproto-layered/layered.h \
	layered/ofproto-layered/nat-pool.c \
	layered/ofproto-layered/nat-pool.h \
	layered/ofproto-layered/nic-config.c \
	layered/ofproto-layered/nic-config.h \
	layered/ofproto-layered/object-pool.c \
	layered/ofproto-layered/object-pool.h \
	layered/ofproto-layered/ofproto-layered.c \
	layered/ofproto-layered/ofproto-layered.h \
	layered/ofproto-layered/poll-share.c \
	layered/ofproto-layered/poll-share.h \
	layered/ofproto-layered/port-stats.c \
	layered/ofproto-layered/port-stats.h \
	layered/ofproto-layered/unified-answer.c \
	layered/ofproto-layered/unified-answer.h \
	layered/ofproto-layered/unified-flow.c \
	layered/ofproto-layered/unified-flow.h
layered_ofproto_layered_libofproto_layered_la_LIBADD = ofproto/libofproto.la

MAN_FRAGMENTS += layered/ofproto-layered/layered-unixctl.man
