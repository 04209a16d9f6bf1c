/*
 * Licensed under the Apache License, Version 2.0 (the "License");
 * you may not use this file except in compliance with the License.
 * You may obtain a copy of the License at:
 *
 *     http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS,
 * WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
 * See the License for the specific language governing permissions and
 * limitations under the License.
 */


/* Fuzzes what decides whether an emulated NIC can carry a flow: needs a
 * compiler with -fsanitize=fuzzer.
 *
 * The flow is one that Open vSwitch could have: the input is either text, a
 * match and actions with a newline between, as for "dpctl/add-flow", or says
 * which pieces such a text is to be made of and which fields the match is to
 * have.  The answer has to be the same when asked again, and more capabilities
 * never make a NIC refuse a flow. */

#include <config.h>

#undef NDEBUG

#include "dpif.h"
#include "flow.h"
#include "layered/lib/netdev-simnic.h"
#include "layered/lib/simnic-caps.h"
#include "layered/lib/simnic-switch.h"
#include "layered/lib/simnic.h"
#include "netdev.h"
#include "odp-util.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/match.h"
#include "openvswitch/meta-flow.h"
#include "openvswitch/ofp-meter.h"
#include "openvswitch/ofpbuf.h"
#include "openvswitch/vlog.h"
#include "smap.h"
#include "util.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* Ports 1, 2 and 3 are functions of the NIC, 4 is one of another NIC, 5 is a
 * tunnel.  There are meters 0 and 1. */
static const struct simnic *nic;
static struct simnic_switch *sw;

static const char *const match_pieces[] = {
    "in_port(1)", "in_port(2)", "in_port(4)", "in_port(5)", "in_port(9)",
    "recirc_id(0)", "recirc_id(7)", "skb_mark(1)", "dp_hash(1)",
    "ct_state(+trk)", "ct_state(-trk)", "ct_zone(0)", "packet_type(ns=0,id=0)",
    "tunnel(tun_id=0x1,src=1.1.1.1,dst=2.2.2.2,flags(-df+csum+key))",
    "tunnel(tun_id=0x1,geneve({class=1,type=2,len=4,0x1}),flags(key))",
    "eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02)",
    "eth(src=00:00:00:00:00:01/ff:00:00:00:00:00)",
    "eth_type(0x8100)", "vlan(vid=1,pcp=0)", "vlan(vid=1/0x7)", "encap(",
    "eth_type(0x0800)", "eth_type(0x86dd)", "eth_type(0x0806)",
    "eth_type(0x8847)", "eth_type(0x88cc)", "eth_type(0x894f)",
    "ipv4(src=10.0.0.1,dst=10.0.0.2,proto=6,tos=0,ttl=64,frag=no)",
    "ipv4(src=10.0.0.0/255.0.0.0,dst=10.0.0.2,proto=17,frag=no)",
    "ipv4(proto=1,frag=no)", "ipv4(frag=later)", "ipv4(frag=first)",
    "ipv4(proto=132)", "ipv4(proto=6/0x7)",
    "ipv6(src=::1,dst=::2,label=0,proto=6,tclass=0,hlimit=64,frag=no)",
    "ipv6(src=::1,dst=::/0,proto=17)", "ipv6(proto=58,frag=no)",
    "arp(sip=1.2.3.4,tip=1.2.3.5,op=1,sha=00:00:00:00:00:01)",
    "tcp(src=1,dst=2)", "tcp(src=1/0xff)", "tcp_flags(0x2)",
    "tcp_flags(0/0x7)", "udp(src=1,dst=2)", "sctp(src=1,dst=2)",
    "icmp(type=8,code=0)", "icmpv6(type=135,code=0)", "nd(target=::3)",
    "mpls(label=1,tc=0,ttl=64,bos=1)", ")",
};

static const char *const action_pieces[] = {
    "1", "2", "4", "5", "9", "drop", "ct", "ct(commit)", "ct_clear",
    "recirc(1)", "hash(l4(0))", "trunc(100)", "meter(0)", "meter(1)",
    "meter(2)", "meter(300000)", "clone(", "check_pkt_len(size=9,gt(1),le(2))",
    "sample(sample=50.0%,actions(2))", "userspace(pid=1)", "lb_output(1)",
    "set(eth(src=00:00:00:00:00:01))",
    "set(eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02))",
    "set(ipv4(src=1.2.3.4))", "set(ipv4(ttl=1))", "set(ipv6(src=::1))",
    "set(tcp(src=1))", "set(udp(dst=1))", "set(sctp(dst=1))",
    "set(icmp(type=0))", "set(skb_mark(1))", "set(nd(target=::3))",
    "set(tunnel(tun_id=0x1,dst=2.2.2.2,ttl=64,flags(key)))",
    "set(arp(sip=1.2.3.4))", "set(mpls(label=1,tc=0,ttl=1,bos=1))",
    "push_vlan(vid=1,pcp=0)", "pop_vlan", "push_mpls(label=1,tc=0,ttl=64,"
    "bos=1,eth_type=0x8847)", "pop_mpls(eth_type=0x800)", "pop_eth",
    "push_eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02,type=0x800)",
    "pop_nsh()", "dec_ttl(le_1(1))", "tnl_pop(5)", "tnl_pop(1)",
    "tnl_push(tnl_port(5),header(size=50,type=4,eth(dst=00:00:00:00:00:01,"
    "src=00:00:00:00:00:02,dl_type=0x0800),ipv4(src=1.1.1.1,dst=1.1.1.2,"
    "proto=17,tos=0,ttl=64,frag=0x4000),udp(src=0,dst=4789,csum=0x0),"
    "vxlan(flags=0x8000000,vni=0x1)),out_port(1))", ")",
};

static void
initialize(void)
{
    struct ofputil_meter_band band = { .type = OFPMBT13_DROP, .rate = 1000 };
    struct ofputil_meter_config config = {
        .flags = OFPMF13_KBPS,
        .n_bands = 1,
        .bands = &band,
    };
    struct smap options = SMAP_INITIALIZER(&options);
    struct simnic_function *function;
    struct netdev *tunnel;

    vlog_set_levels(NULL, VLF_ANY_DESTINATION, VLL_OFF);
    sw = simnic_switch_create();
    for (int i = 1; i <= 4; i++) {
        /* These NICs are not configured, so nothing is opened. */
        char *error = simnic_function_attach(i < 4 ? "nic0" : "nic1", i,
                                             "none", "dummy", &options,
                                             &function);

        ovs_assert(!error);
        simnic_switch_add_function(sw, u32_to_odp(i), function);
        if (i == 1) {
            nic = simnic_function_get_nic(function);
        }
    }
    ovs_assert(!netdev_open("tunnel", "vxlan", &tunnel));
    simnic_switch_add_tunnel(sw, u32_to_odp(5), tunnel);
    for (uint32_t i = 0; i < 2; i++) {
        ovs_assert(!simnic_switch_meter_set(sw, (ofproto_meter_id) { i },
                                            &config));
    }
}

/* The input. */
struct input {
    const uint8_t *data;
    size_t left;
};

static uint8_t
take(struct input *in)
{
    return in->left ? (in->left--, *in->data++) : 0;
}

/* Returns a text of up to 15 of the 'n' 'pieces', which the caller frees. */
static char *
take_text(struct input *in, const char *const *pieces, size_t n)
{
    struct ds ds = DS_EMPTY_INITIALIZER;
    bool separate = false;
    int n_open = 0;

    for (int i = take(in) % 16; i > 0; i--) {
        const char *piece = pieces[take(in) % n];
        size_t length = strlen(piece);

        if (!strcmp(piece, ")")) {
            if (!n_open) {
                continue;
            }
            n_open--;
        } else if (separate) {
            ds_put_char(&ds, ',');
        }
        ds_put_cstr(&ds, piece);
        separate = piece[length - 1] != '(';
        n_open += !separate;
    }
    ds_put_char_multiple(&ds, ')', n_open);
    return ds_steal_cstr(&ds);
}

/* Sets some fields of 'match' to any value with any mask. */
static void
take_fields(struct input *in, struct match *match)
{
    for (int i = take(in) % 8; i > 0; i--) {
        const struct mf_field *mf = mf_from_id(take(in) % MFF_N_IDS);
        union mf_value value, mask;
        uint8_t kind = take(in);
        char *error;

        if (mf_is_tun_metadata(mf)) {
            continue;           /* Needs a table of options. */
        }
        memset(&value, 0, sizeof value);
        memset(&mask, kind & 1 ? 0xff : 0, sizeof mask);
        for (int j = 0; j < mf->n_bytes; j++) {
            ((uint8_t *) &value)[j] = kind & 2 ? take(in) : 0;
            if (!(kind & 1)) {
                ((uint8_t *) &mask)[j] = take(in);
            }
        }
        mf_set(mf, &value, &mask, match, &error);
        free(error);
    }
}

/* Parses 'text' into 'match'.  Returns true if it is a match of a datapath. */
static bool
parse_match(const char *text, struct match *match)
{
    struct ofpbuf key, mask;
    bool ok;

    ofpbuf_init(&key, 0);
    ofpbuf_init(&mask, 0);
    ok = (!odp_flow_from_string(text, NULL, &key, &mask, NULL)
          && !parse_key_and_mask_to_match(key.data, key.size, mask.data,
                                          mask.size, match));
    ofpbuf_uninit(&key);
    ofpbuf_uninit(&mask);
    return ok;
}

static char *
check(uint32_t caps, const struct match *match, const struct ofpbuf *actions)
{
    return simnic_caps_check(caps, nic, sw, match, actions->data,
                             actions->size);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };
    char *match_text, *actions_text;
    struct match match;

    if (!sw) {
        initialize();
    }
    if (size > 8192) {
        return 0;
    }

    uint8_t mode = take(&in);
    uint32_t caps = take(&in);

    caps |= take(&in) << 8;
    caps |= take(&in) << 16;
    caps = (mode & 1 ? caps : ~(caps & (caps >> 1))) & SIMNIC_CAPS_ALL;
    match_init_catchall(&match);
    if (mode & 2) {
        match_text = xmemdup0((const char *) in.data, in.left);
        actions_text = strchr(match_text, '\n');
        if (actions_text) {
            *actions_text++ = '\0';
        }
        actions_text = xstrdup(actions_text ? actions_text : "");
    } else {
        match_text = take_text(&in, match_pieces, ARRAY_SIZE(match_pieces));
        actions_text = take_text(&in, action_pieces,
                                 ARRAY_SIZE(action_pieces));
    }

    struct ofpbuf actions;

    ofpbuf_init(&actions, 0);
    if ((match_text[0] && !parse_match(match_text, &match))
        || odp_actions_from_string(actions_text, NULL, &actions)) {
        goto exit;
    }
    if (!(mode & 2)) {
        if (mode & 4) {
            match_set_in_port(&match, 0);
            match.flow.in_port.odp_port = u32_to_odp(1);
        }
        take_fields(&in, &match);
        match_zero_wildcarded_fields(&match);
    }

    char *reason = check(caps, &match, &actions);
    char *again = check(caps, &match, &actions);
    char *all = check(SIMNIC_CAPS_ALL, &match, &actions);

    ovs_assert(nullable_string_is_equal(reason, again));
    ovs_assert(!reason || reason[0]);
    ovs_assert(reason || !all);
    ovs_assert(!all || !strstr(all, "capability"));
    free(reason);
    free(again);
    free(all);

exit:
    ofpbuf_uninit(&actions);
    free(match_text);
    free(actions_text);
    return 0;
}
