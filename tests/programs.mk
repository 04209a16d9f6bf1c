# Included by Open vSwitch's Makefile.am, in whose source tree this folder is
# "layered/tests".

# An ovs-vswitchd whose hooks the tests control.
noinst_PROGRAMS += layered/tests/ovs-vswitchd
layered_tests_ovs_vswitchd_SOURCES = \
	$(vswitchd_ovs_vswitchd_SOURCES) \
	layered/tests/dpif-queued.c \
	layered/tests/test-hooks.c
layered_tests_ovs_vswitchd_LDADD = $(vswitchd_ovs_vswitchd_LDADD)
layered_tests_ovs_vswitchd_LDFLAGS = $(vswitchd_ovs_vswitchd_LDFLAGS)

# Tests of modules.
noinst_PROGRAMS += \
	layered/tests/test-connection \
	layered/tests/test-layer-classifier \
	layered/tests/test-layer-packet \
	layered/tests/test-layer-parse \
	layered/tests/test-poll-share \
	layered/tests/test-simnic-placement
layered_tests_test_connection_SOURCES = layered/tests/test-connection.c
layered_tests_test_connection_LDADD = $(vswitchd_ovs_vswitchd_LDADD)
layered_tests_test_layer_classifier_SOURCES = \
	layered/tests/test-layer-classifier-curve.c \
	layered/tests/test-layer-classifier.c \
	layered/tests/test-layer-classifier.h
layered_tests_test_layer_classifier_LDADD = $(vswitchd_ovs_vswitchd_LDADD)
layered_tests_test_layer_packet_SOURCES = layered/tests/test-layer-packet.c
layered_tests_test_layer_packet_LDADD = $(vswitchd_ovs_vswitchd_LDADD)
layered_tests_test_layer_parse_SOURCES = layered/tests/test-layer-parse.c
layered_tests_test_layer_parse_LDADD = $(vswitchd_ovs_vswitchd_LDADD)
layered_tests_test_poll_share_SOURCES = layered/tests/test-poll-share.c
layered_tests_test_poll_share_LDADD = $(vswitchd_ovs_vswitchd_LDADD)
layered_tests_test_simnic_placement_SOURCES = \
	layered/tests/test-simnic-placement.c
layered_tests_test_simnic_placement_LDADD = lib/libopenvswitch.la
