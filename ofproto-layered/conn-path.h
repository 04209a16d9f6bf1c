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

#ifndef LAYERED_CONN_PATH_H
#define LAYERED_CONN_PATH_H 1

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cmap.h"
#include "layered/ofproto-layered/conn-state.h"
#include "layered/ofproto-layered/layer-packet.h"
#include "layered/ofproto-layered/layer-policy.h"
#include "openvswitch/types.h"
#include "ovs-atomic.h"

struct flow;
struct flow_wildcards;
struct miniflow;
struct port_stats;
struct rule_stats;

/* What connections have in common
 * ===============================
 *
 * A port may have a million connections, but its policy does no more than some
 * hundred different things to them.  So what the layers do to a connection is
 * kept apart from it and shared: the "path" that a connection takes, which is
 * the sequence of its layer flows with the rules that made them.  All
 * connections that the same rules let pass have the same path.
 *
 * A path does not say which addresses and ports a connection has.  It says in
 * which "place" of the connection they are: its two tuples have the first and
 * the last, and the connection has room of its own for those in between, if
 * there are any.  So whoever wants to know how a layer flow translates packets
 * needs both the path and the connection: see conn_layer_rewrite() in
 * connection.h.
 *
 * Connections also share, as an "opener", those headers of the packets that
 * opened them that are not in their tuples.
 *
 * Paths and openers are immutable.  A "conn_paths" holds those of a port, and
 * finds them by content.  They go with their last connection, so that there
 * are never more of them than connections.
 *
 *
 * Thread-safety
 * =============
 *
 * Look-ups take no lock and may run in any thread.  Making and freeing a path
 * or an opener takes the mutex of its "conn_paths"; that is rare.  Paths and
 * openers are freed under RCU: they may be read, without a reference, as long
 * as the connection that refers to them may. */

/* Half a tuple.  IPv4 addresses are IPv4-mapped. */
struct conn_endpoint {
    struct in6_addr addr;
    ovs_be16 port;              /* 0 for protocols without ports. */
};

/* Not memcmp(), as an endpoint has padding. */
static inline bool
conn_endpoint_equals(const struct conn_endpoint *a,
                     const struct conn_endpoint *b)
{
    return a->port == b->port && !memcmp(&a->addr, &b->addr, sizeof a->addr);
}

/* Where a connection has an endpoint: in 'keys', or in 'extra'. */
enum conn_place {
    CONN_OUT_SRC,               /* Of keys[LAYER_OUTBOUND]. */
    CONN_OUT_DST,
    CONN_IN_SRC,                /* Of keys[LAYER_INBOUND]. */
    CONN_IN_DST,
    CONN_EXTRA                  /* extra[0], extra[1] is the next one... */
};

/* The translation of the source or the destination by one rule. */
struct conn_nat {
    bool source;
    uint16_t from, to;          /* Places. */
    uint16_t remote;            /* The place of whom the packet was for; with
                                 * 'to', the tuple of a source NAT. */
    struct layer_rule *rule;    /* Reference. */
};

/* What a layer sets in packets in the direction of the one that made the layer
 * flow, other than translations.  No padding: it is hashed and compared
 * whole. */
struct conn_marks {
    struct eth_addr dl_src, dl_dst;
    bool set_src, set_dst;
    int8_t dscp;                /* -1 for none. */
    uint8_t pad;                /* Zero. */
    uint16_t dec_ttl;           /* How often. */
};

#define CONN_MARKS_INITIALIZER { .dscp = -1 }

/* What a layer does to the headers of one connection's packets. */
struct conn_rewrite {
    /* For packets in the direction of the one that made it; undone in the
     * other.  A port of 0 stays as it is. */
    bool snat, dnat;
    struct conn_endpoint snat_from, snat_to, dnat_from, dnat_to;

    struct conn_marks marks;            /* In that direction only. */
};

bool conn_rewrite_apply(const struct conn_rewrite *, bool reply,
                        struct flow *, struct flow_wildcards *);
bool conn_marks_apply(const struct conn_marks *, struct flow *,
                      struct flow_wildcards *);
void conn_set_source(const struct conn_endpoint *, struct flow *,
                     struct flow_wildcards *);
void conn_set_destination(const struct conn_endpoint *, struct flow *,
                          struct flow_wildcards *);

/* A layer flow of the connections that have the path. */
struct conn_layer {
    struct layer *layer;                /* Reference. */
    enum layer_direction dir;           /* Of the packet that made it. */

    /* Rewrites. */
    bool rewrites;                      /* Are there any? */
    bool snat, dnat;                    /* What 'nats' add up to, with... */
    uint16_t snat_from, snat_to;        /* ...the places... */
    uint16_t dnat_from, dnat_to;        /* ...of the endpoints. */
    struct conn_marks marks;
    size_t n_nats;
    struct conn_nat *nats;              /* In order of execution. */

    size_t n_uses;                      /* Rules that acted... */
    struct rule_stats **uses;           /* ...of which the last decided.
                                         * References. */
};

static inline bool
conn_layer_is_nat(const struct conn_layer *cl)
{
    return cl->snat || cl->dnat;
}

struct conn_path {
    struct cmap_node node;              /* In a conn_paths. */
    struct ovs_refcount ref_cnt;
    uint32_t hash;
    struct conn_paths *paths;           /* Reference. */

    /* By state, the seconds without a packet until a connection loses a layer
     * flow, and until it is over. */
    uint32_t expires[N_CONN_STATES];
    uint32_t over[N_CONN_STATES];

    size_t n_extra;                     /* Of connections. */
    bool snat;                          /* Has any layer flow source NAT? */
    size_t n;
    struct conn_layer layers[];
};

void conn_path_unref(const struct conn_path *);
const struct conn_layer *conn_path_find(const struct conn_path *,
                                        const struct layer *, size_t hint);

/* A path in the making
 * --------------------
 *
 * What is known of a connection's layer flows before the connection is made,
 * and the translations with the endpoints themselves. */

struct conn_draft_nat {
    bool source;
    bool leased;                        /* The NAT pool's tuple is ours. */
    struct conn_endpoint from, to, remote;
    const struct layer_rule *rule;
    uint16_t places[3];                 /* Of these, for conn_paths_get(). */
};

struct conn_draft_layer {
    const struct layer *layer;
    enum layer_direction dir;
    const struct conn_layer *known;     /* Taken over from another path, or
                                         * NULL: made by... */
    size_t first_rule, n_rules;         /* ...these rules. */
    size_t first_nat, n_nats;
    struct conn_marks marks;
};

struct conn_draft {
    uint8_t nw_proto;
    size_t n_layers, allocated_layers;
    struct conn_draft_layer *layers;
    size_t n_nats, allocated_nats;
    struct conn_draft_nat *nats;
    size_t n_extra, allocated_extra;
    struct conn_endpoint *extra;

    /* To do without malloc() usually. */
    struct conn_draft_layer layers_stub[8];
    struct conn_draft_nat nats_stub[4];
    struct conn_endpoint extra_stub[4];
};

void conn_draft_init(struct conn_draft *);
void conn_draft_uninit(struct conn_draft *);
struct conn_draft_layer *conn_draft_add_layer(struct conn_draft *);
struct conn_draft_nat *conn_draft_add_nat(struct conn_draft *);
void conn_draft_drop_nats(struct conn_draft *, size_t n);

/* The paths and openers of a port. */
struct conn_paths *conn_paths_create(void);
void conn_paths_unref(struct conn_paths *);
const struct conn_path *conn_paths_get(struct conn_paths *,
                                       struct conn_draft *,
                                       const struct layer_rule *const rules[],
                                       struct port_stats *,
                                       const struct conn_key keys[]);
size_t conn_paths_count(const struct conn_paths *);

/* Openers. */
struct conn_opener;

const struct conn_opener *conn_paths_get_opener(struct conn_paths *,
                                                const struct flow *);
void conn_opener_unref(const struct conn_opener *);
void conn_opener_expand(const struct conn_opener *, struct flow *);
size_t conn_paths_count_openers(const struct conn_paths *);

#endif /* conn-path.h */
