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

#ifndef LAYERED_CONNECTION_H
#define LAYERED_CONNECTION_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cmap.h"
#include "layered/ofproto-layered/conn-path.h"
#include "layered/ofproto-layered/conn-state.h"
#include "layered/ofproto-layered/layer-packet.h"
#include "layered/ofproto-layered/layer-policy.h"
#include "openvswitch/list.h"
#include "ovs-atomic.h"
#include "packets.h"

struct dpif_flow_stats;
struct flow;
struct flow_wildcards;

/* Connections
 * ===========
 *
 * The state of a VM port.  A "connection" is what the port remembers of one
 * conversation of its VM: the tuple of its packets as the VM sends them and as
 * they arrive from the network, and a "layer flow" in each of the port's
 * layers that keeps state for it.  A layer flow lets both directions pass its
 * layer without a rule, and rewrites them.  All layer flows of a connection
 * share its progress (see conn-state.h), its counters and its time of last
 * use, while each layer has timeouts of its own.
 *
 * There may be millions of connections, so that what they have in common is
 * not in them: the layer flows are in a "path", and the headers of the opening
 * packet other than the tuple in an "opener", both of which connections share;
 * see conn-path.h.  The tuples that source NAT has from the pool are not
 * stored anywhere: they follow from the path and the connection, which has a
 * reference to each in the pool.
 *
 * A connection is immutable but for what its "conn_live" holds.  What changes
 * its shape, such as a policy that judges it differently or a layer flow's
 * timeout, replaces it by another that shares the conn_live.
 *
 *
 * Thread-safety
 * =============
 *
 * Look-ups run in any thread under RCU.  A table's mutex serializes the
 * changes of that table.  Who wants to keep a connection beyond the RCU grace
 * period takes a reference. */

struct conn_table;

/* The mutable part of a connection. */
struct conn_live {
    atomic_uint64_t packets[N_LAYER_DIRECTIONS];
    atomic_uint64_t bytes[N_LAYER_DIRECTIONS];
    atomic_llong used;                  /* In ms. */
    long long int created;              /* In ms. */
    const struct conn_opener *opener;   /* Reference. */
    struct ovs_refcount ref_cnt;
    atomic_uint32_t progress;           /* struct conn_progress. */
    ovs_be32 ipv6_label;                /* Of the opening packet. */
    uint8_t dir;                        /* enum layer_direction of that. */
    atomic_bool promoted[N_LAYER_DIRECTIONS]; /* Been in the datapath? */
};

struct connection {
    struct cmap_node nodes[N_LAYER_DIRECTIONS];
    struct conn_key keys[N_LAYER_DIRECTIONS]; /* Tuple on entry to the port. */
    struct conn_live *live;             /* Reference. */
    const struct conn_path *path;       /* Reference. */
    uint64_t version;           /* Of the stack that judged it. */
    struct ovs_list list_node;  /* In the table's lists.  Guarded. */
    uint32_t hashes[N_LAYER_DIRECTIONS]; /* Of 'keys', in its table. */
    struct ovs_refcount ref_cnt;
    atomic_bool gone;           /* Removed or replaced. */
    struct conn_endpoint extra[]; /* See conn-path.h. */
};

struct connection *connection_create(struct conn_table *,
                                     const struct conn_key keys[],
                                     const uint32_t hashes[],
                                     uint64_t version, struct conn_live *,
                                     struct conn_draft *,
                                     const struct layer_rule *const rules[],
                                     struct port_stats *);
/* Fetches 'conn', which may be NULL, into the processor's cache. */
static inline void
connection_prefetch(const struct connection *conn)
{
    if (conn) {
        OVS_PREFETCH(conn->keys);
        OVS_PREFETCH(&conn->live);
    }
}

struct connection *connection_ref(const struct connection *);
void connection_unref(struct connection *);
struct conn_live *conn_live_create(struct conn_table *, struct flow *opener,
                                   enum layer_direction,
                                   const struct conn_progress *,
                                   long long int now);
struct conn_live *conn_live_ref(const struct conn_live *);
void conn_live_unref(struct conn_live *);

/* Layer flows of a connection. */
struct conn_endpoint connection_endpoint(const struct connection *,
                                         uint16_t place);
void conn_layer_rewrite(const struct connection *, const struct conn_layer *,
                        struct conn_rewrite *);
bool conn_layer_apply(const struct connection *, const struct conn_layer *,
                      bool reply, struct flow *, struct flow_wildcards *);
void conn_draft_add_known(struct conn_draft *, const struct connection *,
                          const struct conn_layer *);
const struct conn_layer *connection_find_layer(const struct connection *,
                                               const struct layer *,
                                               long long int now);
void connection_credit_rules(const struct connection *, enum layer_direction,
                             const struct dpif_flow_stats *);

void connection_get_opener(const struct connection *, struct flow *);
struct conn_progress connection_progress(const struct connection *);
bool connection_may_reopen(const struct connection *, uint16_t tcp_flags,
                           enum layer_direction);
void connection_see_packet(const struct connection *, enum layer_direction,
                           uint16_t tcp_flags, long long int now);
void connection_account(const struct connection *, enum layer_direction,
                        const struct dpif_flow_stats *, bool seen);
long long int connection_expires(const struct connection *);
bool connection_is_gone(const struct connection *);
bool connection_is_stale(const struct connection *, long long int now);
bool connection_can_cache(const struct connection *, enum layer_direction);
bool connection_promote(const struct connection *, enum layer_direction);

/* Tables. */
enum conn_insert_result {
    CONN_INSERTED,
    CONN_TUPLE_IN_USE,
    CONN_LIMIT,
};

struct conn_table *conn_table_create(void);
void conn_table_destroy(struct conn_table *);
uint32_t conn_table_hash(const struct conn_table *, const struct conn_key *);
const struct connection *conn_table_lookup(const struct conn_table *,
                                           enum layer_direction,
                                           const struct conn_key *,
                                           long long int now);
const struct connection *conn_table_lookup_hash(const struct conn_table *,
                                                enum layer_direction,
                                                const struct conn_key *,
                                                uint32_t hash,
                                                long long int now);
void conn_table_prefetch(const struct conn_table *, enum layer_direction,
                         uint32_t hash);
enum conn_insert_result conn_table_insert(struct conn_table *,
                                          struct connection *,
                                          const struct connection *old,
                                          uint32_t limit);
bool conn_table_has_others(const struct conn_table *, const struct conn_key[],
                           const struct connection *old, long long int now);
void conn_table_remove(struct conn_table *, const struct connection *);
struct connection **conn_table_list(const struct conn_table *, size_t *n);
size_t conn_table_count(const struct conn_table *);
uint64_t conn_table_evicted(const struct conn_table *);
uint64_t conn_table_opened(const struct conn_table *);
uint64_t conn_table_misses_version(const struct conn_table *,
                                   const struct conn_key *);
uint64_t conn_table_misses_version_hash(const struct conn_table *,
                                        uint32_t hash);
size_t conn_table_count_paths(const struct conn_table *);
size_t conn_table_count_openers(const struct conn_table *);
void conn_table_drop_layer(struct conn_table *, const struct connection *,
                           const struct conn_layer *);
void conn_table_expire(struct conn_table *, const struct connection *,
                       long long int now);
void conn_table_age(struct conn_table *, long long int now);
void conn_table_shrink(struct conn_table *, uint32_t limit);

#endif /* connection.h */
