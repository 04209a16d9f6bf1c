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


#include <config.h>

#include "layered/lib/simnic-caps.h"

#include <string.h>

#include "flow.h"
#include "layered/lib/simnic-switch.h"
#include "layered/lib/simnic.h"
#include "netlink.h"
#include "odp-util.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/match.h"
#include "openvswitch/meta-flow.h"
#include "packets.h"
#include "util.h"

/* In the order of enum simnic_cap. */
static const char *const cap_names[SIMNIC_N_CAPS] = {
    "masked", "vlan", "arp", "ipv4", "ipv6", "tcp", "tcp-flags", "udp", "sctp",
    "icmp", "frag", "set-eth", "set-ipv4", "set-ipv6", "set-l4", "push-vlan",
    "pop-vlan", "push-tunnel", "pop-tunnel", "meter", "multi-output",
};

/* Stores the capability called 'name' in '*cap' and returns true, or returns
 * false if there is none. */
bool
simnic_cap_from_name(const char *name, enum simnic_cap *cap)
{
    for (size_t i = 0; i < SIMNIC_N_CAPS; i++) {
        if (!strcmp(name, cap_names[i])) {
            *cap = 1u << i;
            return true;
        }
    }
    return false;
}

/* Appends the names of 'caps' to 'ds', with commas between. */
void
simnic_caps_format(uint32_t caps, struct ds *ds)
{
    const char *separator = "";

    for (size_t i = 0; i < SIMNIC_N_CAPS; i++) {
        if (caps & (1u << i)) {
            ds_put_format(ds, "%s%s", separator, cap_names[i]);
            separator = ",";
        }
    }
}

struct checker {
    uint32_t caps;
    const struct simnic *nic;
    const struct simnic_switch *sw;
    const struct match *match;

    /* The bits of the match that nobody has accounted for yet.  What is left
     * in the end is what the NIC cannot match on.  So a field that is new to
     * Open vSwitch is refused until somebody adds it here. */
    struct flow_wildcards rest;

    unsigned int n_outputs;
    char *reason;               /* NULL as long as all is well. */
};

static void OVS_PRINTF_FORMAT(2, 3)
refuse(struct checker *c, const char *format, ...)
{
    if (!c->reason) {
        va_list args;

        va_start(args, format);
        c->reason = xvasprintf(format, args);
        va_end(args);
    }
}

/* Refuses the flow if the NIC lacks 'cap', which 'what' is in need of. */
static void
need(struct checker *c, enum simnic_cap cap, const char *what)
{
    if (!(c->caps & cap)) {
        refuse(c, "capability %s is missing (%s)",
               cap_names[raw_ctz(cap)], what);
    }
}

/* Matches
 * ======= */

#define MASK(FIELD) (c->match->wc.masks.FIELD)
#define IS_MATCHED(FIELD) (!is_all_zeros(&MASK(FIELD), sizeof MASK(FIELD)))
#define IS_EXACT(FIELD) (is_all_ones(&MASK(FIELD), sizeof MASK(FIELD)))

/* Accounts for FIELD: NICs can match it. */
#define ALLOW(FIELD) \
    memset(&c->rest.masks.FIELD, 0, sizeof c->rest.masks.FIELD)

/* Accounts for FIELD if only the value 0 matches, which is what it always has
 * in a NIC, as well as in software where a packet comes from a port.  If not,
 * it is refused with the rest. */
#define ALLOW_ZERO(FIELD)                                               \
    do {                                                                \
        if (masked_is_zero(&c->match->flow.FIELD, &MASK(FIELD),         \
                           sizeof MASK(FIELD))) {                       \
            ALLOW(FIELD);                                               \
        }                                                               \
    } while (0)

static bool
masked_is_zero(const void *value_, const void *mask_, size_t n)
{
    const uint8_t *value = value_;
    const uint8_t *mask = mask_;

    for (size_t i = 0; i < n; i++) {
        if (value[i] & mask[i]) {
            return false;
        }
    }
    return true;
}

static void
check_metadata(struct checker *c)
{
    ALLOW_ZERO(recirc_id);
    ALLOW_ZERO(skb_priority);
    ALLOW_ZERO(pkt_mark);
    ALLOW_ZERO(dp_hash);
    ALLOW_ZERO(packet_type);    /* PT_ETH. */

    /* There is no connection tracking in a NIC. */
    ALLOW_ZERO(ct_state);
    ALLOW_ZERO(ct_zone);
    ALLOW_ZERO(ct_mark);
    ALLOW_ZERO(ct_label);
    ALLOW_ZERO(ct_nw_proto);
    ALLOW_ZERO(ct_nw_src);
    ALLOW_ZERO(ct_nw_dst);
    ALLOW_ZERO(ct_ipv6_src);
    ALLOW_ZERO(ct_ipv6_dst);
    ALLOW_ZERO(ct_tp_src);
    ALLOW_ZERO(ct_tp_dst);
}

static void
check_tunnel(struct checker *c)
{
    if (simnic_switch_find_tunnel(c->sw, c->match->flow.in_port.odp_port)) {
        need(c, SIMNIC_CAP_POP_TUNNEL, "the flow's input is a tunnel");
        ALLOW(tunnel.ip_dst);
        ALLOW(tunnel.ip_src);
        ALLOW(tunnel.ipv6_dst);
        ALLOW(tunnel.ipv6_src);
        ALLOW(tunnel.tun_id);
        ALLOW(tunnel.flags);
        ALLOW(tunnel.ip_tos);
        ALLOW(tunnel.ip_ttl);
        ALLOW(tunnel.tp_src);
        ALLOW(tunnel.tp_dst);
    } else {
        ALLOW_ZERO(tunnel.ip_dst);
        ALLOW_ZERO(tunnel.ip_src);
        ALLOW_ZERO(tunnel.ipv6_dst);
        ALLOW_ZERO(tunnel.ipv6_src);
        ALLOW_ZERO(tunnel.tun_id);
        ALLOW_ZERO(tunnel.flags);
        ALLOW_ZERO(tunnel.ip_tos);
        ALLOW_ZERO(tunnel.ip_ttl);
        ALLOW_ZERO(tunnel.tp_src);
        ALLOW_ZERO(tunnel.tp_dst);
    }

    /* Only that there is no such thing. */
    ALLOW_ZERO(tunnel.gbp_id);
    ALLOW_ZERO(tunnel.gbp_flags);
    ALLOW_ZERO(tunnel.erspan_ver);
    ALLOW_ZERO(tunnel.erspan_idx);
    ALLOW_ZERO(tunnel.erspan_dir);
    ALLOW_ZERO(tunnel.erspan_hwid);
    ALLOW_ZERO(tunnel.gtpu_flags);
    ALLOW_ZERO(tunnel.gtpu_msgtype);
    ALLOW_ZERO(tunnel.metadata.present);
    ALLOW_ZERO(tunnel.metadata.opts);

    /* Not a field. */
    c->rest.masks.tunnel.metadata.tab = NULL;
}

static void
check_ethernet(struct checker *c)
{
    const struct flow *flow = &c->match->flow;

    ALLOW(dl_dst);
    ALLOW(dl_src);
    ALLOW(dl_type);
    for (size_t i = 0; i < FLOW_MAX_VLAN_HEADERS; i++) {
        ovs_be16 tci_mask = MASK(vlans[i].tci);

        /* To match the lack of a tag takes no capability. */
        if (flow->vlans[i].tci & tci_mask
            || flow->vlans[i].tpid & MASK(vlans[i].tpid)
            || (tci_mask && !(tci_mask & htons(VLAN_CFI)))) {
            need(c, SIMNIC_CAP_VLAN, "matches on vlan");
        }
        ALLOW(vlans[i]);
    }
}

static void
check_l4(struct checker *c)
{
    uint8_t proto = c->match->flow.nw_proto;
    bool ports = IS_MATCHED(tp_src) || IS_MATCHED(tp_dst);

    if (!IS_EXACT(nw_proto)) {
        return;
    }
    if (proto == IPPROTO_TCP) {
        if (ports) {
            need(c, SIMNIC_CAP_TCP, "matches on tcp ports");
        }
        if (IS_MATCHED(tcp_flags)) {
            need(c, SIMNIC_CAP_TCP_FLAGS, "matches on tcp_flags");
        }
        ALLOW(tcp_flags);
    } else if (proto == IPPROTO_UDP) {
        if (ports) {
            need(c, SIMNIC_CAP_UDP, "matches on udp ports");
        }
    } else if (proto == IPPROTO_SCTP) {
        if (ports) {
            need(c, SIMNIC_CAP_SCTP, "matches on sctp ports");
        }
    } else if (proto == (c->match->flow.dl_type == htons(ETH_TYPE_IP)
                         ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
        if (ports) {
            need(c, SIMNIC_CAP_ICMP, "matches on icmp type or code");
        }
    } else {
        return;
    }
    ALLOW(tp_src);
    ALLOW(tp_dst);
}

static void
check_l3(struct checker *c)
{
    const struct flow *flow = &c->match->flow;

    if (!IS_EXACT(dl_type)) {
        return;
    }
    if (flow->dl_type == htons(ETH_TYPE_ARP)) {
        need(c, SIMNIC_CAP_ARP, "matches on arp");
        ALLOW(nw_src);
        ALLOW(nw_dst);
        ALLOW(nw_proto);
        ALLOW(arp_sha);
        ALLOW(arp_tha);
        return;
    } else if (flow->dl_type == htons(ETH_TYPE_IP)) {
        need(c, SIMNIC_CAP_IPV4, "matches on ipv4");
        ALLOW(nw_src);
        ALLOW(nw_dst);
    } else if (flow->dl_type == htons(ETH_TYPE_IPV6)) {
        need(c, SIMNIC_CAP_IPV6, "matches on ipv6");
        ALLOW(ipv6_src);
        ALLOW(ipv6_dst);
        ALLOW(ipv6_label);
    } else {
        return;
    }
    ALLOW(nw_proto);
    ALLOW(nw_tos);
    ALLOW(nw_ttl);

    /* Flows match that the packet is no fragment as a matter of course. */
    if (flow->nw_frag & MASK(nw_frag)
        || (MASK(nw_frag) & FLOW_NW_FRAG_MASK) == FLOW_NW_FRAG_LATER) {
        need(c, SIMNIC_CAP_FRAG, "matches on ip_frag");
    }
    ALLOW(nw_frag);
    check_l4(c);
}

/* Checks what the flows of a NIC without "masked" must have. */
static void
check_exact(struct checker *c)
{
    const struct flow *flow = &c->match->flow;
    const char *field = NULL;

    if (c->caps & SIMNIC_CAP_MASKED) {
        return;
    }
    if (!IS_EXACT(dl_type) || !is_ip_any(flow)) {
        field = "eth_type";
    } else if (!IS_EXACT(nw_proto)) {
        field = "ip_proto";
    } else if (flow->dl_type == htons(ETH_TYPE_IP)
               ? !IS_EXACT(nw_src) : !IS_EXACT(ipv6_src)) {
        field = "source address";
    } else if (flow->dl_type == htons(ETH_TYPE_IP)
               ? !IS_EXACT(nw_dst) : !IS_EXACT(ipv6_dst)) {
        field = "destination address";
    } else if (flow->nw_proto == IPPROTO_TCP || flow->nw_proto == IPPROTO_UDP
               || flow->nw_proto == IPPROTO_SCTP) {
        if (!IS_EXACT(tp_src)) {
            field = "source port";
        } else if (!IS_EXACT(tp_dst)) {
            field = "destination port";
        }
    }
    if (field) {
        refuse(c, "capability masked is missing (no exact match on %s of ip)",
               field);
    }
}

static void
check_in_port(struct checker *c)
{
    odp_port_t in_port = c->match->flow.in_port.odp_port;
    const struct simnic_function *function;

    if (!IS_EXACT(in_port.odp_port)) {
        refuse(c, "matches on in_port with a mask");
        return;
    }
    function = simnic_switch_find_function(c->sw, in_port);
    if (!(function
          ? simnic_function_get_nic(function) == c->nic
          : simnic_switch_find_tunnel(c->sw, in_port) != NULL)) {
        refuse(c, "input from port %"PRIu32", which is no function of %s",
               in_port, simnic_get_name(c->nic));
    }
    ALLOW(in_port);
}

static void
check_match(struct checker *c)
{
    check_in_port(c);
    check_metadata(c);
    check_tunnel(c);
    check_ethernet(c);
    check_l3(c);
    if (!c->reason && !is_all_zeros(&c->rest.masks, sizeof c->rest.masks)) {
        for (enum mf_field_id i = 0; i < MFF_N_IDS; i++) {
            const struct mf_field *mf = mf_from_id(i);

            if (!mf_is_tun_metadata(mf) && !mf_is_all_wild(mf, &c->rest)) {
                refuse(c, "matches on %s", mf->name);
                return;
            }
        }
        refuse(c, "matches on %s",
               is_all_zeros(&c->rest.masks.tunnel,
                            sizeof c->rest.masks.tunnel)
               ? "a field that no NIC knows" : "tunnel options");
    }
    check_exact(c);
}

/* Actions
 * ======= */

/* Returns what 'a' is called in ovs-actions(7), with the name of the field for
 * an action that sets one.  The caller frees it. */
static char *
format_action(const struct nlattr *a)
{
    struct ds ds = DS_EMPTY_INITIALIZER;
    char *paren, *inner;

    format_odp_actions(&ds, a, NLA_ALIGN(a->nla_len), NULL);
    paren = strchr(ds_cstr(&ds), '(');
    if (paren) {
        inner = (nl_attr_type(a) == OVS_ACTION_ATTR_SET
                 || nl_attr_type(a) == OVS_ACTION_ATTR_SET_MASKED
                 ? strchr(paren + 1, '(') : NULL);
        if (inner) {
            ds_truncate(&ds, inner + 1 - ds.string);
            ds_put_cstr(&ds, "...))");
        } else {
            ds_truncate(&ds, paren - ds.string);
        }
    }
    return ds_steal_cstr(&ds);
}

static void
refuse_action(struct checker *c, const struct nlattr *a)
{
    char *action = format_action(a);

    refuse(c, "action %s", action);
    free(action);
}

static void
check_set(struct checker *c, const struct nlattr *a)
{
    enum ovs_key_attr type = nl_attr_type(nl_attr_get(a));
    enum simnic_cap cap;
    char *action;

    switch (type) {
    case OVS_KEY_ATTR_ETHERNET:
        cap = SIMNIC_CAP_SET_ETH;
        break;

    case OVS_KEY_ATTR_IPV4:
        cap = SIMNIC_CAP_SET_IPV4;
        break;

    case OVS_KEY_ATTR_IPV6:
        cap = SIMNIC_CAP_SET_IPV6;
        break;

    case OVS_KEY_ATTR_TCP:
    case OVS_KEY_ATTR_UDP:
    case OVS_KEY_ATTR_SCTP:
        cap = SIMNIC_CAP_SET_L4;
        break;

    case OVS_KEY_ATTR_UNSPEC:
    case OVS_KEY_ATTR_ENCAP:
    case OVS_KEY_ATTR_PRIORITY:
    case OVS_KEY_ATTR_IN_PORT:
    case OVS_KEY_ATTR_VLAN:
    case OVS_KEY_ATTR_ETHERTYPE:
    case OVS_KEY_ATTR_ICMP:
    case OVS_KEY_ATTR_ICMPV6:
    case OVS_KEY_ATTR_ARP:
    case OVS_KEY_ATTR_ND:
    case OVS_KEY_ATTR_SKB_MARK:
    case OVS_KEY_ATTR_TUNNEL:
    case OVS_KEY_ATTR_TCP_FLAGS:
    case OVS_KEY_ATTR_DP_HASH:
    case OVS_KEY_ATTR_RECIRC_ID:
    case OVS_KEY_ATTR_MPLS:
    case OVS_KEY_ATTR_CT_STATE:
    case OVS_KEY_ATTR_CT_ZONE:
    case OVS_KEY_ATTR_CT_MARK:
    case OVS_KEY_ATTR_CT_LABELS:
    case OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV4:
    case OVS_KEY_ATTR_CT_ORIG_TUPLE_IPV6:
    case OVS_KEY_ATTR_NSH:
    case OVS_KEY_ATTR_TUNNEL_INFO:
    case OVS_KEY_ATTR_PACKET_TYPE:
    case OVS_KEY_ATTR_ND_EXTENSIONS:
    case __OVS_KEY_ATTR_MAX:
    default:
        refuse_action(c, a);
        return;
    }

    action = format_action(a);
    need(c, cap, action);
    free(action);
}

static void
check_output(struct checker *c, odp_port_t port_no)
{
    const struct simnic_function *function;

    function = simnic_switch_find_function(c->sw, port_no);
    if (!function) {
        refuse(c, "output to port %"PRIu32", which is no function of %s",
               port_no, simnic_get_name(c->nic));
    } else if (simnic_function_get_nic(function) != c->nic) {
        refuse(c, "output to %s of %s, which is no function of %s",
               simnic_function_get_name(function),
               simnic_get_name(simnic_function_get_nic(function)),
               simnic_get_name(c->nic));
    }
    if (++c->n_outputs > 1) {
        need(c, SIMNIC_CAP_MULTI_OUTPUT, "several outputs");
    }
}

/* Refuses the flow if 'port_no' is no tunnel that the NIC can handle. */
static void
check_tunnel_port(struct checker *c, odp_port_t port_no,
                  const struct nlattr *a)
{
    if (!simnic_switch_find_tunnel(c->sw, port_no)) {
        char *action = format_action(a);

        refuse(c, "action %s of port %"PRIu32", which is no known tunnel",
               action, port_no);
        free(action);
    }
}

/* Refuses the flow if the NICs have not been told of meter 'meter_id', which
 * happens if it is older than hw-offload=true.  They would let all pass. */
static void
check_meter(struct checker *c, uint32_t meter_id)
{
    ofproto_meter_id id = { meter_id };

    if (simnic_switch_meter_get(c->sw, id, NULL)) {
        refuse(c, "action meter: %s does not know meter %"PRIu32,
               simnic_get_name(c->nic), meter_id);
    }
}

static void
check_actions(struct checker *c, const struct nlattr *actions,
              size_t actions_len)
{
    const struct ovs_action_push_tnl *push;
    const struct nlattr *a;
    size_t left;

    NL_ATTR_FOR_EACH (a, left, actions, actions_len) {
        enum ovs_action_attr type = nl_attr_type(a);

        switch (type) {
        case OVS_ACTION_ATTR_OUTPUT:
            check_output(c, nl_attr_get_odp_port(a));
            break;

        case OVS_ACTION_ATTR_SET:
        case OVS_ACTION_ATTR_SET_MASKED:
            check_set(c, a);
            break;

        case OVS_ACTION_ATTR_PUSH_VLAN:
            need(c, SIMNIC_CAP_PUSH_VLAN, "push_vlan");
            break;

        case OVS_ACTION_ATTR_POP_VLAN:
            need(c, SIMNIC_CAP_POP_VLAN, "pop_vlan");
            break;

        case OVS_ACTION_ATTR_CLONE:
            check_actions(c, nl_attr_get(a), nl_attr_get_size(a));
            break;

        case OVS_ACTION_ATTR_TUNNEL_PUSH:
            push = nl_attr_get(a);
            need(c, SIMNIC_CAP_PUSH_TUNNEL, "tnl_push");
            check_tunnel_port(c, push->tnl_port, a);
            break;

        case OVS_ACTION_ATTR_TUNNEL_POP:
            need(c, SIMNIC_CAP_POP_TUNNEL, "tnl_pop");
            check_tunnel_port(c, nl_attr_get_odp_port(a), a);
            break;

        case OVS_ACTION_ATTR_METER:
            need(c, SIMNIC_CAP_METER, "meter");
            check_meter(c, nl_attr_get_u32(a));
            break;

        case OVS_ACTION_ATTR_DROP:
            break;

        case OVS_ACTION_ATTR_UNSPEC:
        case OVS_ACTION_ATTR_USERSPACE:
        case OVS_ACTION_ATTR_SAMPLE:
        case OVS_ACTION_ATTR_RECIRC:
        case OVS_ACTION_ATTR_HASH:
        case OVS_ACTION_ATTR_PUSH_MPLS:
        case OVS_ACTION_ATTR_POP_MPLS:
        case OVS_ACTION_ATTR_CT:
        case OVS_ACTION_ATTR_TRUNC:
        case OVS_ACTION_ATTR_PUSH_ETH:
        case OVS_ACTION_ATTR_POP_ETH:
        case OVS_ACTION_ATTR_CT_CLEAR:
        case OVS_ACTION_ATTR_PUSH_NSH:
        case OVS_ACTION_ATTR_POP_NSH:
        case OVS_ACTION_ATTR_CHECK_PKT_LEN:
        case OVS_ACTION_ATTR_ADD_MPLS:
        case OVS_ACTION_ATTR_DEC_TTL:
        case OVS_ACTION_ATTR_PSAMPLE:
        case OVS_ACTION_ATTR_LB_OUTPUT:
        case __OVS_ACTION_ATTR_MAX:
        default:
            refuse_action(c, a);
            break;
        }
        if (c->reason) {
            return;
        }
    }
}

/* Returns NULL if 'nic', with the capabilities 'caps', can match 'match' and
 * carry out the 'actions_len' bytes of 'actions', where 'sw' tells what ports
 * are.  Otherwise, returns the reason, which names the field, the action or
 * the capability, for people to read; the caller frees it.  When in doubt, the
 * answer is no, since software can do everything. */
char *
simnic_caps_check(uint32_t caps, const struct simnic *nic,
                  const struct simnic_switch *sw, const struct match *match,
                  const struct nlattr *actions, size_t actions_len)
{
    struct checker c = {
        .caps = caps,
        .nic = nic,
        .sw = sw,
        .match = match,
        .rest = match->wc,
    };

    check_match(&c);
    if (!c.reason) {
        check_actions(&c, actions, actions_len);
    }
    return c.reason;
}
