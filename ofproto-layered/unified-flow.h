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

#ifndef LAYERED_UNIFIED_FLOW_H
#define LAYERED_UNIFIED_FLOW_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cmap.h"
#include "flow.h"
#include "layered/ofproto-layered/connection.h"
#include "layered/ofproto-layered/layer-packet.h"
#include "layered/ofproto-layered/layer-policy.h"
#include "openvswitch/match.h"
#include "ovs-atomic.h"

struct forwarding;
struct layer_port;
struct miniflow;
struct nlattr;
struct route_image;
struct rule_stats;

/* The unified flow table
 * ======================
 *
 * A "unified flow" is what all layers, on both sides, and the bridge between
 * them make of one direction of one connection: a header transposition and
 * outputs, as datapath actions.  A datapath keeps those of its connections in
 * a table, by exact match, from where packets that no flow of the datapath
 * matches are forwarded without translation.
 *
 * What unified flows of many connections have in common is their "route": the
 * port that the packets come from and all that matters of their headers but
 * for the tuple; the layers and forwarding that they pass; and what these are
 * to be credited to.  A flow adds the connections, one at each port whose
 * layers keep state, whose tuple it matches; they are the state that a look-up
 * finds.
 *
 *
 * Validity
 * ========
 *
 * A flow holds as long as the translations of the datapath are of its route's
 * generation, none of the stacks of layers has been replaced, and all its
 * connections are as they were.  One that does not is simply not used: the
 * next packet replaces it.
 *
 *
 * Thread-safety
 * =============
 *
 * Look-ups run in any thread, without a lock; their result is valid until the
 * thread quiesces.  Changes take the lock of a part of the table.  A packet
 * writes to its flow and its connections only. */

/* The layers of a port that the packets of a route pass. */
struct unified_stage {
    struct layer_port *port;            /* Reference. */
    struct layer_stack *stack;          /* Reference. */
    enum layer_direction dir;
    bool stateful;                      /* Is there a connection? */
    size_t n_rules;
    struct rule_stats **rules;          /* References.  Those that acted, but
                                         * for those of the connection. */
};

/* The outbound layers of one port and the inbound layers of another. */
enum { UNIFIED_MAX_STAGES = 2 };

/* Traffic that is yet to be credited. */
struct unified_traffic {
    uint64_t n_packets, n_bytes;
    uint64_t n_opened[UNIFIED_MAX_STAGES]; /* Packets that opened one. */
    long long int used;                 /* In ms. */
};

struct unified_route {
    struct cmap_node node;              /* In a unified_table. */
    uint32_t hash;
    struct ovs_refcount ref_cnt;
    uint64_t generation;
    struct forwarding *forwarding;      /* Reference. */
    size_t n_stages;
    size_t key_stage;                   /* The first that is stateful. */
    struct unified_stage stages[UNIFIED_MAX_STAGES];
    struct match match;                 /* But for the tuple. */
    struct minimatch minimatch;         /* Likewise. */
    struct route_image *image;          /* Likewise. */

    /* For unified_table_run(). */
    struct unified_traffic pending;
    bool orphan;                        /* No longer in the table. */
};

/* 'traffic' of a flow, so that one operation adds a packet: bytes, packets,
 * and stages, as bits, where the first packet opened a connection.  There is
 * room for more than what comes in a second. */
#define UNIFIED_BYTES_BITS 36
#define UNIFIED_PACKETS_BITS 26
#define UNIFIED_PACKET(SIZE) ((UINT64_C(1) << UNIFIED_BYTES_BITS) | (SIZE))
#define UNIFIED_OPENED(STAGES) \
    ((uint64_t) (STAGES) << (UNIFIED_BYTES_BITS + UNIFIED_PACKETS_BITS))
BUILD_ASSERT_DECL(UNIFIED_BYTES_BITS + UNIFIED_PACKETS_BITS
                  + UNIFIED_MAX_STAGES <= 64);

struct unified_flow {
    struct cmap_node node;              /* In a unified_table. */
    struct unified_route *route;        /* Reference. */
    uint32_t hash;
    uint16_t actions_len;
    bool removed;                       /* Guarded. */
    struct connection *conns[UNIFIED_MAX_STAGES]; /* References. */
    atomic_uint64_t traffic;            /* That is yet to be credited. */
    atomic_uint32_t recent_packets;     /* For admission, halved */
    atomic_uint32_t recent_bytes;       /* once in a while. */
    uint64_t actions[];                 /* Struct nlattr. */
};

bool unified_flow_is_valid(const struct unified_flow *, uint64_t generation,
                           long long int now);

struct unified_table;

struct unified_table *unified_table_create(void);
void unified_table_destroy(struct unified_table *);
size_t unified_table_count(const struct unified_table *);
size_t unified_table_count_routes(const struct unified_table *);
uint32_t unified_table_hash(const struct unified_table *,
                            const struct conn_key *, odp_port_t in_port);
struct unified_flow *unified_table_lookup(const struct unified_table *,
                                          const struct conn_key *,
                                          uint32_t hash,
                                          const struct miniflow *);
struct unified_route *unified_table_get_route(
    struct unified_table *, const struct forwarding *, uint64_t generation,
    const struct unified_stage *, size_t n_stages, const struct flow *,
    const struct flow_wildcards *, const struct miniflow *);
struct unified_flow *unified_table_insert(
    struct unified_table *, uint32_t hash, struct unified_flow *old,
    struct unified_route *,
    const struct connection *const conns[], uint8_t opened,
    size_t packet_size, const struct nlattr *actions, size_t actions_len);
uint32_t unified_table_prefetch(const struct unified_table *,
                                const uint32_t hashes[], size_t n);
void unified_table_run(struct unified_table *, uint64_t generation,
                       long long int now, bool age);

#endif /* unified-flow.h */
