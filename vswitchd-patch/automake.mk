EXTRA_DIST += vswitchd-patch/series $(OVS_PATCHES)
OVS_PATCHES = \
	vswitchd-patch/0001-ofproto-derive-from-dpif.patch \
	vswitchd-patch/0002-xlate-hooks.patch \
	vswitchd-patch/0003-xlate-cache-hooks.patch \
	vswitchd-patch/0004-dpif-netdev-miss-hook.patch \
	vswitchd-patch/0005-dpif-offload-register.patch \
	vswitchd-patch/0006-bridge-datapath-types.patch \
	vswitchd-patch/0007-bridge-keep-devices.patch \
	vswitchd-patch/0008-vswitchd-layered.patch \
	vswitchd-patch/0009-schema-policy-layers.patch \
	vswitchd-patch/0010-vsctl-policy-layers.patch \
	vswitchd-patch/0011-bridge-policy-layers.patch \
	vswitchd-patch/0012-upcall-stale-flows.patch \
	vswitchd-patch/0013-packets-later-fragments.patch \
	vswitchd-patch/0014-ofproto-dpif-execute-in-any-thread.patch \
	vswitchd-patch/0015-schema-nic.patch \
	vswitchd-patch/0016-dpif-netdev-final-offload-stats.patch \
	vswitchd-patch/0017-upcall-generation.patch \
	vswitchd-patch/0018-dpif-netdev-poll-hook.patch \
	vswitchd-patch/0019-upcall-miss-hook.patch \
	vswitchd-patch/0020-cmap-prefetch.patch \
	vswitchd-patch/0021-dpif-netdev-emc-prefetch.patch
