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


/* Fuzzes the completion of checksums of emulated NICs with frames of any
 * contents: needs a compiler with -fsanitize=fuzzer.
 *
 * What a NIC has to do is worked out here with Open vSwitch's own parser and
 * checksums.  A frame whose checksum is to be completed has to have the right
 * one afterward, and no other frame may change.  The first byte of the input
 * says what to prepare: with bit 0, the checksum field of a packet that has
 * one gets the sum of the pseudo header, and with bit 1 the right checksum. */

#include <config.h>

#undef NDEBUG

#include <netinet/icmp6.h>
#include <netinet/ip6.h>

#include "csum.h"
#include "dp-packet.h"
#include "flow.h"
#include "layered/lib/simnic-link.h"
#include "packets.h"
#include "util.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* The part of a TCP or UDP packet that its checksum covers. */
struct l4 {
    const void *l3;
    bool ipv6;
    uint8_t proto;
    void *data;
    size_t size;
    ovs_be16 *field;            /* The checksum. */
};

/* Returns true if there is a routing header or a fragment header between 'ip6'
 * and 'l4', as flow_extract() has found it. */
static bool
is_rerouted(const struct ovs_16aligned_ip6_hdr *ip6, const void *l4)
{
    const struct ovs_16aligned_ip6_frag *frag = NULL;
    const struct ip6_rt_hdr *rt = NULL;
    size_t size = ntohs(ip6->ip6_plen);
    uint8_t proto = ip6->ip6_nxt;
    const void *data = ip6 + 1;
    uint8_t nw_frag = 0;

    if (data == l4) {
        return false;
    }
    ovs_assert(parse_ipv6_ext_hdrs(&data, &size, &proto, &nw_frag, &frag,
                                   &rt));
    return frag || rt;
}

/* Finds the part of 'packet' that a checksum of TCP or UDP covers.  Returns
 * false if there is none. */
static bool
find_l4(struct dp_packet *packet, struct l4 *l4)
{
    struct flow flow;

    flow_extract(packet, &flow);
    l4->l3 = dp_packet_l3(packet);
    l4->data = dp_packet_l4(packet);
    l4->size = dp_packet_l4_size(packet);
    l4->proto = flow.nw_proto;
    l4->ipv6 = flow.dl_type == htons(ETH_TYPE_IPV6);
    if (!l4->data || flow.nw_frag
        || (!l4->ipv6 && flow.dl_type != htons(ETH_TYPE_IP))
        || IP_VER(*(const uint8_t *) l4->l3) != (l4->ipv6 ? 6 : 4)
        || (l4->ipv6 && is_rerouted(l4->l3, l4->data))) {
        return false;
    }
    if (((const char *) l4->l3 - (char *) dp_packet_data(packet)
         != ETH_HEADER_LEN + (VLAN_HEADER_LEN
                              * flow_count_vlan_headers(&flow)))) {
        return false;           /* IEEE 802.2, which nobody sends IP in. */
    }
    if (l4->proto == IPPROTO_TCP && l4->size >= TCP_HEADER_LEN) {
        l4->field = &((struct tcp_header *) l4->data)->tcp_csum;
    } else if (l4->proto == IPPROTO_UDP && l4->size >= UDP_HEADER_LEN
               && (ntohs(((struct udp_header *) l4->data)->udp_len)
                   == l4->size)) {
        l4->field = &((struct udp_header *) l4->data)->udp_csum;
    } else {
        return false;
    }
    return true;
}

/* Returns the checksum of the pseudo header of 'l4' and the 'l4->size' bytes
 * of 'data'. */
static ovs_be16
get_csum(const struct l4 *l4, const void *data)
{
    return (l4->ipv6
            ? packet_csum_upperlayer6(l4->l3, data, l4->proto, l4->size)
            : csum_finish(csum_continue(packet_csum_pseudoheader(l4->l3),
                                        data, l4->size)));
}

/* Returns what Linux puts into the checksum field of what its device is to
 * complete. */
static ovs_be16
get_partial(const struct l4 *l4)
{
    void *zeros = xzalloc(l4->size);
    ovs_be16 partial = ~get_csum(l4, zeros);

    free(zeros);
    return partial;
}

static void
set_csum(const struct l4 *l4)
{
    *l4->field = 0;
    *l4->field = get_csum(l4, l4->data);
    if (!*l4->field && l4->proto == IPPROTO_UDP) {
        *l4->field = htons(0xffff);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > UINT16_MAX) {
        return 0;
    }
    flow_limit_vlans(2);

    uint8_t mode = *data++;
    struct dp_packet *packet = dp_packet_clone_data(data, --size);
    struct l4 l4;
    bool found = find_l4(packet, &l4);

    if (found && mode & 1) {
        *l4.field = get_partial(&l4);
    } else if (found && mode & 2) {
        set_csum(&l4);
    }

    /* What is to come out. */
    struct dp_packet *expected = dp_packet_clone_data(dp_packet_data(packet),
                                                      size);
    struct l4 expected_l4;
    bool partial = false;

    if (found) {
        ovs_assert(find_l4(expected, &expected_l4));
        partial = *l4.field == get_partial(&l4);
        if (partial) {
            set_csum(&expected_l4);
        }
    }

    dp_packet_reset_offsets(packet);    /* The NIC has not parsed it. */
    simnic_link_complete_csum(packet);
    ovs_assert(dp_packet_size(packet) == size);

    ovs_assert(!memcmp(dp_packet_data(packet), dp_packet_data(expected),
                       size));
    if (partial) {
        ovs_assert(find_l4(packet, &l4) && !get_csum(&l4, l4.data));
    }

    /* Once is enough. */
    struct dp_packet *again = dp_packet_clone_data(dp_packet_data(packet),
                                                   size);
    simnic_link_complete_csum(again);
    ovs_assert(!memcmp(dp_packet_data(packet), dp_packet_data(again), size));

    dp_packet_delete(again);
    dp_packet_delete(expected);
    dp_packet_delete(packet);
    return 0;
}
