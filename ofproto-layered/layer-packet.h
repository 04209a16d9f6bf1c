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

#ifndef LAYERED_LAYER_PACKET_H
#define LAYERED_LAYER_PACKET_H 1

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "openvswitch/types.h"

struct dp_packet;
struct flow;
struct miniflow;

/* What struct flow does not have of a packet
 * ==========================================
 *
 * ICMP and ICMPv6 errors quote the packet that they are about, fragments have
 * an identification, and refusals are packets of their own.
 *
 * Pure functions on packets of any contents, for any thread. */

/* Returns true if packets of 'nw_proto' have ports. */
static inline bool
nw_proto_has_ports(uint8_t nw_proto)
{
    return (nw_proto == IPPROTO_TCP || nw_proto == IPPROTO_UDP
            || nw_proto == IPPROTO_SCTP);
}

/* The tuple of a packet.  IPv4 addresses are IPv4-mapped, ICMP's ports 0. */
struct conn_key {
    struct in6_addr src, dst;
    ovs_be16 tp_src, tp_dst;
    uint8_t nw_proto;
    uint8_t pad[3];             /* Zero: keys are hashed and compared whole. */
};

bool conn_key_from_flow(const struct flow *, struct conn_key *);
bool conn_key_from_miniflow(const struct miniflow *, struct conn_key *);
void conn_key_reverse(const struct conn_key *, struct conn_key *);
uint32_t conn_key_hash(const struct conn_key *, uint32_t basis);

bool flow_is_icmp_error(const struct flow *);
bool icmp_error_get_quoted(const struct dp_packet *, const struct flow *,
                           struct conn_key *);
bool icmp_error_rewrite_quoted(struct dp_packet *, const struct flow *,
                               const struct conn_key *);

/* Identifies the datagram that a fragment is a part of. */
struct fragment_key {
    struct in6_addr src, dst;
    ovs_be32 id;
    uint8_t nw_proto;           /* IPPROTO_FRAGMENT for IPv6. */
    uint8_t pad[3];             /* Zero. */
};

bool fragment_key_from_packet(const struct dp_packet *, const struct flow *,
                              struct fragment_key *);

/* What only first fragments have, for the later ones: the ports, and for IPv6
 * the protocol.  For one thread at a time, the caller locks. */
struct fragment_table;

struct fragment_table *fragment_table_create(size_t max);
void fragment_table_destroy(struct fragment_table *);
void fragment_table_put(struct fragment_table *, const struct fragment_key *,
                        uint8_t nw_proto, ovs_be16 tp_src, ovs_be16 tp_dst,
                        long long int now);
bool fragment_table_has_room(const struct fragment_table *,
                             const struct fragment_key *, long long int now);
bool fragment_table_get(struct fragment_table *, const struct fragment_key *,
                        long long int now, uint8_t *nw_proto,
                        ovs_be16 *tp_src, ovs_be16 *tp_dst);

struct dp_packet *compose_rejection(const struct dp_packet *,
                                    const struct flow *);

#endif /* layer-packet.h */
