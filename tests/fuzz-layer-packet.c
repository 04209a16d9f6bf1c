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

/* Fuzzes layer-packet.c with frames of any contents, and checks that what it
 * makes of them is consistent: needs a compiler with -fsanitize=fuzzer.  The
 * first byte of the input says how the packet is passed. */

#include <config.h>

#undef NDEBUG

#include "csum.h"
#include "dp-packet.h"
#include "flow.h"
#include "layered/ofproto-layered/layer-packet.h"
#include "packets.h"
#include "util.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* Returns true if 'packet' is an IP packet with the right checksums in its
 * headers, those of IP and of TCP or ICMP or ICMPv6. */
static bool
csum_ok(struct dp_packet *packet)
{
    struct flow flow;

    flow_extract(packet, &flow);

    const void *l3 = dp_packet_l3(packet);
    const void *l4 = dp_packet_l4(packet);
    size_t l4_size = dp_packet_l4_size(packet);

    if (!l4) {
        return false;
    } else if (flow.dl_type == htons(ETH_TYPE_IP)) {
        const struct ip_header *ip = l3;

        return (!csum(ip, IP_IHL(ip->ip_ihl_ver) * 4)
                && !csum_finish(csum_continue(
                    flow.nw_proto == IPPROTO_ICMP
                    ? 0 : packet_csum_pseudoheader(ip), l4, l4_size)));
    } else if (flow.dl_type == htons(ETH_TYPE_IPV6)) {
        return !packet_csum_upperlayer6(l3, l4, flow.nw_proto, l4_size);
    }
    return false;
}

static void
check_error(struct dp_packet *packet, struct flow *flow)
{
    struct conn_key key, new_key, got;
    bool ipv6 = flow->dl_type == htons(ETH_TYPE_IPV6);
    size_t size = dp_packet_size(packet);

    if (!icmp_error_get_quoted(packet, flow, &key)) {
        return;
    }
    ovs_assert(flow_is_icmp_error(flow));
    ovs_assert(ipv6 == !IN6_IS_ADDR_V4MAPPED(&key.src));
    ovs_assert(conn_key_hash(&key, 1) == conn_key_hash(&key, 1));

    /* The same key changes nothing. */
    struct dp_packet *copy = dp_packet_clone_data(dp_packet_data(packet),
                                                  size);
    copy->packet_type = packet->packet_type;
    ovs_assert(icmp_error_rewrite_quoted(packet, flow, &key));
    ovs_assert(!memcmp(dp_packet_data(packet), dp_packet_data(copy), size));

    /* Another one is there afterward, and its opposite is not. */
    bool ok = csum_ok(copy);

    conn_key_reverse(&key, &new_key);
    new_key.src.s6_addr[15] ^= 0x5a;
    if (new_key.tp_src) {
        new_key.tp_src ^= htons(0x8001);
    }
    ovs_assert(icmp_error_rewrite_quoted(copy, flow, &new_key));
    ovs_assert(dp_packet_size(copy) == size);
    ovs_assert(csum_ok(copy) == ok);

    struct flow new_flow = *flow;

    new_flow.ipv6_dst = new_key.src;
    new_flow.nw_dst = in6_addr_get_mapped_ipv4(&new_key.src);
    ovs_assert(icmp_error_get_quoted(copy, &new_flow, &got));
    ovs_assert(!memcmp(&got, &new_key, sizeof got));
    new_key.nw_proto ^= 1;
    ovs_assert(!icmp_error_rewrite_quoted(copy, flow, &new_key));
    dp_packet_delete(copy);
}

static void
check_rejection(struct dp_packet *packet, struct flow *flow)
{
    struct dp_packet *answer = compose_rejection(packet, flow);
    struct conn_key key;
    struct flow back;

    if (!answer) {
        return;
    }
    ovs_assert(csum_ok(answer));
    flow_extract(answer, &back);
    ovs_assert(back.dl_type == flow->dl_type);
    ovs_assert(eth_addr_equals(back.dl_dst, flow->dl_src));
    ovs_assert(eth_addr_equals(back.dl_src, flow->dl_dst));
    ovs_assert(!memcmp(back.vlans, flow->vlans, sizeof back.vlans));
    ovs_assert(back.nw_src == flow->nw_dst && back.nw_dst == flow->nw_src);
    ovs_assert(ipv6_addr_equals(&back.ipv6_src, &flow->ipv6_dst));
    ovs_assert(ipv6_addr_equals(&back.ipv6_dst, &flow->ipv6_src));
    ovs_assert(!compose_rejection(answer, &back));

    /* What it quotes is what it is about. */
    if (flow_is_icmp_error(&back)
        && icmp_error_get_quoted(answer, &back, &key)) {
        struct conn_key orig;

        ovs_assert(conn_key_from_flow(flow, &orig));
        if (!orig.tp_src && !orig.tp_dst) {
            /* Perhaps the header was too short for flow_extract(). */
            key.tp_src = key.tp_dst = 0;
        }
        ovs_assert(!memcmp(&orig, &key, sizeof key));
    }
    dp_packet_delete(answer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fragment_table *table;

    if (size < 2 || size > UINT16_MAX) {
        return 0;
    }
    if (!table) {
        table = fragment_table_create(100);
    }

    uint8_t mode = *data++;
    struct dp_packet *packet = dp_packet_clone_data(data, --size);

    if (mode & 1) {
        packet->packet_type = (mode & 2 ? htonl(PT_IPV4) : htonl(PT_IPV6));
    }

    struct flow flow;

    flow_extract(packet, &flow);
    if (mode & 4) {
        dp_packet_reset_offsets(packet);
    }
    if (mode & 8) {
        dp_packet_ip_checksum_set_partial(packet);
    }

    struct fragment_key fragment;
    struct conn_key key, reverse;

    if (conn_key_from_flow(&flow, &key)) {
        conn_key_reverse(&key, &reverse);
        conn_key_reverse(&reverse, &reverse);
        ovs_assert(!memcmp(&key, &reverse, sizeof key));
        ovs_assert(!flow_is_icmp_error(&flow));
    }
    if (fragment_key_from_packet(packet, &flow, &fragment)) {
        ovs_be16 tp_src, tp_dst;
        uint8_t nw_proto;

        ovs_assert(flow.nw_frag);
        if (flow.nw_frag & FLOW_NW_FRAG_LATER) {
            fragment_table_get(table, &fragment, size, &nw_proto, &tp_src,
                               &tp_dst);
        } else {
            fragment_table_put(table, &fragment, flow.nw_proto, flow.tp_src,
                               flow.tp_dst, size);
        }
    }
    check_rejection(packet, &flow);
    check_error(packet, &flow);

    /* With a flow of something else. */
    memset(&flow, mode, sizeof flow);
    icmp_error_get_quoted(packet, &flow, &key);
    icmp_error_rewrite_quoted(packet, &flow, &key);
    dp_packet_delete(compose_rejection(packet, &flow));

    dp_packet_delete(packet);
    return 0;
}
