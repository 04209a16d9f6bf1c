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
#include "layered/ofproto-layered/conn-state.h"
#include "layered/ofproto-layered/layer-packet.h"
#include "layered/ofproto-layered/layer-policy.h"
#include "layered/ofproto-layered/nat-pool.h"
#include "openvswitch/list.h"
#include "ovs-atomic.h"
#include "packets.h"

struct dpif_flow_stats;
struct flow;
struct flow_wildcards;
struct rule_stats;

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

/* A tuple from the NAT pool, to be returned when nobody refers to it. */
struct nat_lease {
    struct ovs_refcount ref_cnt;
    struct nat_tuple tuple;
};

struct nat_lease *nat_lease_create(const struct nat_tuple *);
struct nat_lease *nat_lease_ref(struct nat_lease *);

struct conn_endpoint {
    struct in6_addr addr;
    ovs_be16 port;
};

/* The translation of the source or the destination by one rule. */
struct conn_nat {
    bool source;
    struct conn_endpoint from, to;
    struct layer_rule *rule;            /* Reference. */
    struct nat_lease *lease;            /* Reference, NULL for destinations and
                                         * in a trace. */
};

/* What a layer does to the headers of a connection's packets.  Immutable,
 * shared by versions of a connection. */
struct conn_rewrite {
    struct ovs_refcount ref_cnt;

    /* What 'nats' add up to, for packets in the direction of the one that made
     * it; undone in the other.  A port of 0 stays as it is. */
    bool snat, dnat;
    struct conn_endpoint snat_from, snat_to, dnat_from, dnat_to;
    struct conn_nat *nats;              /* In order of execution. */
    size_t n_nats;

    /* Of packets in that direction only. */
    int dscp;                           /* -1 for none. */
    int dec_ttl;                        /* How often. */
    bool set_src, set_dst;
    struct eth_addr dl_src, dl_dst;
};

struct conn_rewrite *conn_rewrite_create(void);
struct conn_rewrite *conn_rewrite_ref(const struct conn_rewrite *);
void conn_rewrite_unref(struct conn_rewrite *);
void conn_rewrite_add_nat(struct conn_rewrite *, const struct conn_nat *);
bool conn_rewrite_is_nat(const struct conn_rewrite *);
bool conn_rewrite_apply(const struct conn_rewrite *, bool reply,
                        struct flow *, struct flow_wildcards *);

/* A layer flow. */
struct conn_layer {
    struct layer *layer;                /* Reference. */
    enum layer_direction dir;           /* Of the packet that made it. */
    struct conn_rewrite *rewrite;       /* Reference, or NULL. */
    struct rule_stats **uses;           /* References to rules that acted... */
    size_t n_uses;                      /* ...of which the last decided. */
};

void conn_layer_clone(struct conn_layer *, const struct conn_layer *);
void conn_layer_uninit(struct conn_layer *);

/* The mutable part of a connection. */
struct conn_live {
    struct ovs_refcount ref_cnt;
    struct ovs_list list_node;          /* In the table's lists.  Guarded. */
    struct connection *current;         /* NULL when removed.  Guarded. */
    enum layer_direction dir;           /* Of the opening packet. */
    struct miniflow *opener;            /* It, as it entered the port. */
    long long int created;              /* In ms. */
    atomic_llong used;                  /* In ms. */
    atomic_uint32_t progress;           /* struct conn_progress. */
    atomic_bool promoted[N_LAYER_DIRECTIONS]; /* Been in the datapath? */
    atomic_uint64_t packets[N_LAYER_DIRECTIONS];
    atomic_uint64_t bytes[N_LAYER_DIRECTIONS];
};

struct connection {
    struct cmap_node nodes[N_LAYER_DIRECTIONS];
    struct conn_key keys[N_LAYER_DIRECTIONS]; /* Tuple on entry to the port. */
    struct ovs_refcount ref_cnt;
    uint64_t version;           /* Of the stack that judged it. */
    atomic_bool gone;           /* Removed or replaced. */
    struct conn_live *live;
    size_t n;
    struct conn_layer layers[];
};

struct connection *connection_create(const struct conn_key keys[],
                                     uint64_t version, struct conn_live *,
                                     size_t max_layers);
struct connection *connection_ref(const struct connection *);
void connection_unref(struct connection *);
struct conn_live *conn_live_create(const struct flow *opener,
                                   enum layer_direction,
                                   const struct conn_progress *,
                                   long long int now);
struct conn_live *conn_live_ref(const struct conn_live *);
void conn_live_unref(struct conn_live *);

const struct conn_layer *connection_find_layer(const struct connection *,
                                               const struct layer *,
                                               long long int now);
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
struct conn_table;

enum conn_insert_result {
    CONN_INSERTED,
    CONN_TUPLE_IN_USE,
    CONN_LIMIT,
};

struct conn_table *conn_table_create(void);
void conn_table_destroy(struct conn_table *);
const struct connection *conn_table_lookup(const struct conn_table *,
                                           enum layer_direction,
                                           const struct conn_key *,
                                           long long int now);
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
void conn_table_drop_layer(struct conn_table *, const struct connection *,
                           const struct conn_layer *);
void conn_table_expire(struct conn_table *, const struct connection *,
                       long long int now);
void conn_table_age(struct conn_table *, long long int now);
void conn_table_shrink(struct conn_table *, uint32_t limit);

#endif /* connection.h */
