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

#ifndef LAYERED_PORT_STATS_H
#define LAYERED_PORT_STATS_H 1

#include <stddef.h>
#include <stdint.h>

#include "cmap.h"
#include "layered/ofproto-layered/layer-policy.h"
#include "ovs-atomic.h"
#include "ovs-thread.h"

struct dpif_flow_stats;

/* Statistics
 * ==========
 *
 * What a port counts: packets by rule, by counter of the "count" action, by
 * reason of a drop, and by the tier that handled them.  Each count but the
 * last is a cell of its own that translations refer to, so that the packets of
 * a datapath flow can be credited long after its translation, and cells
 * outlive the port and the policy if need be.
 *
 *
 * Thread-safety
 * =============
 *
 * Cells are atomic.  The set of a port's cells takes a lock to grow, and none
 * to find a cell. */

struct stats_cell {
    atomic_uint64_t packets;
    atomic_uint64_t bytes;
};

struct stats_value {
    uint64_t packets;
    uint64_t bytes;
};

void stats_cell_credit(struct stats_cell *, const struct dpif_flow_stats *);
struct stats_value stats_cell_get(const struct stats_cell *);

/* The packets that a rule acted on at one port. */
struct rule_stats {
    struct cmap_node node;              /* In a port_stats. */
    struct ovs_refcount ref_cnt;
    struct layer_rule *rule;            /* Reference. */
    struct stats_cell cell;
    struct named_stats **counters;      /* Of its "count" actions. */
    size_t n_counters;
};

struct rule_stats *rule_stats_ref(const struct rule_stats *);
void rule_stats_unref(struct rule_stats *);
void rule_stats_credit(struct rule_stats *, const struct dpif_flow_stats *);

/* Why a packet was dropped.  See drop_reason_to_string(). */
enum drop_reason {
    DROP_NONE,
    DROP_RULE,                  /* A rule denies it. */
    DROP_REJECT,                /* A rule rejects it. */
    DROP_GROUP_DEFAULT,         /* A group's default. */
    DROP_DEFAULT,               /* A layer's default. */
    DROP_NO_CONNECTION,         /* TCP that opens nothing. */
    DROP_SNAT_EXHAUSTED,        /* No translated tuple is free. */
    DROP_TUPLE_IN_USE,          /* Replies would be ambiguous. */
    DROP_NAT_FAMILY,            /* IPv4 to IPv6 or the reverse. */
    DROP_FRAGMENT,              /* First fragment unknown. */
    DROP_FLOW_LIMIT,            /* No room for a connection. */
    DROP_TTL,                   /* "dec_ttl" would make it 0. */
    DROP_NOT_READY,             /* The port's policy is not known yet. */
    N_DROP_REASONS
};

const char *drop_reason_to_string(enum drop_reason);

/* Packets counted by name: of the counter 'name' if 'reason' is DROP_NONE,
 * dropped for 'reason' by the layer 'name' otherwise ("" if no layer did). */
struct named_stats {
    struct cmap_node node;              /* In a port_stats. */
    struct ovs_refcount ref_cnt;
    char *name;
    enum drop_reason reason;
    struct stats_cell cell;
};

struct named_stats *named_stats_ref(const struct named_stats *);
void named_stats_unref(struct named_stats *);
void named_stats_credit(struct named_stats *, const struct dpif_flow_stats *);

/* What handles a packet. */
enum port_tier {
    TIER_NIC,
    TIER_DATAPATH,                      /* A datapath flow. */
    TIER_CACHE,                         /* Translation, by a connection. */
    TIER_RULES,                         /* Translation, by rules alone. */
    N_TIERS
};

const char *port_tier_to_string(enum port_tier);

/* All that one port counts. */
struct port_stats {
    atomic_uint64_t hits[N_TIERS];      /* Packets. */
    atomic_uint64_t promotions;         /* Directions of connections that
                                         * have got to the datapath. */
    struct ovs_mutex mutex;             /* To change the maps. */
    struct cmap rules;                  /* Of rule_stats, by 'rule'. */
    struct cmap named;                  /* Of named_stats. */
};

void port_stats_init(struct port_stats *);
void port_stats_uninit(struct port_stats *);
struct rule_stats *port_stats_rule(struct port_stats *,
                                   const struct layer_rule *);
const struct rule_stats *port_stats_find_rule(const struct port_stats *,
                                              const struct layer_rule *);
struct named_stats *port_stats_named(struct port_stats *, const char *name,
                                     enum drop_reason);
void port_stats_forget_rules(struct port_stats *);
void port_stats_hit(struct port_stats *, enum port_tier, uint64_t n);
uint64_t port_stats_hits(const struct port_stats *, enum port_tier);
void port_stats_promote(struct port_stats *);
uint64_t port_stats_promotions(const struct port_stats *);

#endif /* port-stats.h */
