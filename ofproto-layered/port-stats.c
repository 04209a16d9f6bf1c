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

#include "layered/ofproto-layered/port-stats.h"

#include "coverage.h"
#include "dpif.h"
#include "hash.h"
#include "ovs-rcu.h"
#include "util.h"

COVERAGE_DEFINE(layered_drop_rule);
COVERAGE_DEFINE(layered_drop_reject);
COVERAGE_DEFINE(layered_drop_group_default);
COVERAGE_DEFINE(layered_drop_default);
COVERAGE_DEFINE(layered_drop_no_connection);
COVERAGE_DEFINE(layered_drop_snat_exhausted);
COVERAGE_DEFINE(layered_drop_tuple_in_use);
COVERAGE_DEFINE(layered_drop_nat_family);
COVERAGE_DEFINE(layered_drop_fragment);
COVERAGE_DEFINE(layered_drop_flow_limit);
COVERAGE_DEFINE(layered_drop_ttl);
COVERAGE_DEFINE(layered_drop_not_ready);

const char *
drop_reason_to_string(enum drop_reason reason)
{
    switch (reason) {
    case DROP_NONE: return "none";
    case DROP_RULE: return "rule";
    case DROP_REJECT: return "reject";
    case DROP_GROUP_DEFAULT: return "group-default";
    case DROP_DEFAULT: return "default";
    case DROP_NO_CONNECTION: return "no-connection";
    case DROP_SNAT_EXHAUSTED: return "snat-exhausted";
    case DROP_TUPLE_IN_USE: return "tuple-in-use";
    case DROP_NAT_FAMILY: return "nat-family";
    case DROP_FRAGMENT: return "fragment";
    case DROP_FLOW_LIMIT: return "flow-limit";
    case DROP_TTL: return "ttl";
    case DROP_NOT_READY: return "not-ready";
    case N_DROP_REASONS:
    default: OVS_NOT_REACHED();
    }
}

static void
cover_drop(enum drop_reason reason, uint64_t n)
{
    switch (reason) {
    case DROP_NONE: break;
    case DROP_RULE: COVERAGE_ADD(layered_drop_rule, n); break;
    case DROP_REJECT: COVERAGE_ADD(layered_drop_reject, n); break;
    case DROP_GROUP_DEFAULT:
        COVERAGE_ADD(layered_drop_group_default, n);
        break;
    case DROP_DEFAULT: COVERAGE_ADD(layered_drop_default, n); break;
    case DROP_NO_CONNECTION:
        COVERAGE_ADD(layered_drop_no_connection, n);
        break;
    case DROP_SNAT_EXHAUSTED:
        COVERAGE_ADD(layered_drop_snat_exhausted, n);
        break;
    case DROP_TUPLE_IN_USE: COVERAGE_ADD(layered_drop_tuple_in_use, n); break;
    case DROP_NAT_FAMILY: COVERAGE_ADD(layered_drop_nat_family, n); break;
    case DROP_FRAGMENT: COVERAGE_ADD(layered_drop_fragment, n); break;
    case DROP_FLOW_LIMIT: COVERAGE_ADD(layered_drop_flow_limit, n); break;
    case DROP_TTL: COVERAGE_ADD(layered_drop_ttl, n); break;
    case DROP_NOT_READY: COVERAGE_ADD(layered_drop_not_ready, n); break;
    case N_DROP_REASONS:
    default: OVS_NOT_REACHED();
    }
}

/* Cells. */

void
stats_cell_credit(struct stats_cell *cell,
                  const struct dpif_flow_stats *stats)
{
    uint64_t orig;

    atomic_add_relaxed(&cell->packets, stats->n_packets, &orig);
    atomic_add_relaxed(&cell->bytes, stats->n_bytes, &orig);
}

struct stats_value
stats_cell_get(const struct stats_cell *cell_)
{
    struct stats_cell *cell = CONST_CAST(struct stats_cell *, cell_);
    struct stats_value value;

    atomic_read_relaxed(&cell->packets, &value.packets);
    atomic_read_relaxed(&cell->bytes, &value.bytes);
    return value;
}

static void
stats_cell_init(struct stats_cell *cell)
{
    atomic_init(&cell->packets, 0);
    atomic_init(&cell->bytes, 0);
}

/* Packets by name. */

struct named_stats *
named_stats_ref(const struct named_stats *ns_)
{
    struct named_stats *ns = CONST_CAST(struct named_stats *, ns_);

    ovs_refcount_ref(&ns->ref_cnt);
    return ns;
}

void
named_stats_unref(struct named_stats *ns)
{
    if (ns && ovs_refcount_unref(&ns->ref_cnt) == 1) {
        free(ns->name);
        free(ns);
    }
}

void
named_stats_credit(struct named_stats *ns,
                   const struct dpif_flow_stats *stats)
{
    stats_cell_credit(&ns->cell, stats);
    cover_drop(ns->reason, stats->n_packets);
}

static struct named_stats *
find_named(const struct port_stats *ps, const char *name,
           enum drop_reason reason, uint32_t hash)
{
    struct named_stats *ns;

    CMAP_FOR_EACH_WITH_HASH (ns, node, hash, &ps->named) {
        if (ns->reason == reason && !strcmp(ns->name, name)) {
            return ns;
        }
    }
    return NULL;
}

/* Returns the cell of 'ps' for the counter 'name', if 'reason' is DROP_NONE,
 * or for the packets that the layer 'name' drops for 'reason'.  Makes it if
 * necessary.  It belongs to 'ps', and lives until the caller quiesces unless
 * that takes a reference. */
struct named_stats *
port_stats_named(struct port_stats *ps, const char *name,
                 enum drop_reason reason)
{
    uint32_t hash = hash_string(name, reason);
    struct named_stats *ns = find_named(ps, name, reason, hash);

    if (!ns) {
        ovs_mutex_lock(&ps->mutex);
        ns = find_named(ps, name, reason, hash);
        if (!ns) {
            ns = xzalloc(sizeof *ns);
            ovs_refcount_init(&ns->ref_cnt);
            ns->name = xstrdup(name);
            ns->reason = reason;
            stats_cell_init(&ns->cell);
            cmap_insert(&ps->named, &ns->node, hash);
        }
        ovs_mutex_unlock(&ps->mutex);
    }
    return ns;
}

/* Packets by rule. */

struct rule_stats *
rule_stats_ref(const struct rule_stats *rs_)
{
    struct rule_stats *rs = CONST_CAST(struct rule_stats *, rs_);

    ovs_refcount_ref(&rs->ref_cnt);
    return rs;
}

void
rule_stats_unref(struct rule_stats *rs)
{
    if (rs && ovs_refcount_unref(&rs->ref_cnt) == 1) {
        for (size_t i = 0; i < rs->n_counters; i++) {
            named_stats_unref(rs->counters[i]);
        }
        free(rs->counters);
        layer_rule_unref(rs->rule);
        free(rs);
    }
}

/* Credits to 'rs' and its counters packets that its rule acted on. */
void
rule_stats_credit(struct rule_stats *rs, const struct dpif_flow_stats *stats)
{
    stats_cell_credit(&rs->cell, stats);
    for (size_t i = 0; i < rs->n_counters; i++) {
        named_stats_credit(rs->counters[i], stats);
    }
}

/* Returns the cell of 'ps' for 'rule', NULL if 'rule' has not acted on a
 * packet yet. */
const struct rule_stats *
port_stats_find_rule(const struct port_stats *ps,
                     const struct layer_rule *rule)
{
    struct rule_stats *rs;

    CMAP_FOR_EACH_WITH_HASH (rs, node, hash_pointer(rule, 0), &ps->rules) {
        if (rs->rule == rule) {
            return rs;
        }
    }
    return NULL;
}

static struct rule_stats *
rule_stats_create(struct port_stats *ps, const struct layer_rule *rule)
{
    const struct layer_actions *actions = rule->actions;
    struct rule_stats *rs = xzalloc(sizeof *rs);

    ovs_refcount_init(&rs->ref_cnt);
    rs->rule = layer_rule_ref(rule);
    stats_cell_init(&rs->cell);
    rs->counters = xmalloc(actions->n * sizeof *rs->counters);
    for (size_t i = 0; i < actions->n; i++) {
        if (actions->list[i].type == LA_COUNT) {
            rs->counters[rs->n_counters++] = named_stats_ref(
                port_stats_named(ps, actions->list[i].counter, DROP_NONE));
        }
    }
    return rs;
}

/* Like port_stats_find_rule(), but makes the cell if necessary. */
struct rule_stats *
port_stats_rule(struct port_stats *ps, const struct layer_rule *rule)
{
    struct rule_stats *rs = CONST_CAST(struct rule_stats *,
                                       port_stats_find_rule(ps, rule));

    if (!rs) {
        struct rule_stats *new = rule_stats_create(ps, rule);

        ovs_mutex_lock(&ps->mutex);
        rs = CONST_CAST(struct rule_stats *, port_stats_find_rule(ps, rule));
        if (!rs) {
            cmap_insert(&ps->rules, &new->node, hash_pointer(rule, 0));
            rs = new;
            new = NULL;
        }
        ovs_mutex_unlock(&ps->mutex);
        rule_stats_unref(new);
    }
    return rs;
}

/* Drops the cells of 'ps' of rules that do not exist any more. */
void
port_stats_forget_rules(struct port_stats *ps)
{
    struct rule_stats *rs;

    ovs_mutex_lock(&ps->mutex);
    CMAP_FOR_EACH (rs, node, &ps->rules) {
        if (layer_rule_is_retired(rs->rule)) {
            cmap_remove(&ps->rules, &rs->node, hash_pointer(rs->rule, 0));
            ovsrcu_postpone(rule_stats_unref, rs);
        }
    }
    ovs_mutex_unlock(&ps->mutex);
}

/* Tiers. */

const char *
port_tier_to_string(enum port_tier tier)
{
    switch (tier) {
    case TIER_NIC: return "nic";
    case TIER_DATAPATH: return "datapath";
    case TIER_CACHE: return "cache";
    case TIER_RULES: return "rules";
    case N_TIERS:
    default: OVS_NOT_REACHED();
    }
}

/* Counts 'n' packets that 'tier' handled. */
void
port_stats_hit(struct port_stats *ps, enum port_tier tier, uint64_t n)
{
    uint64_t orig;

    atomic_add_relaxed(&ps->hits[tier], n, &orig);
}

uint64_t
port_stats_hits(const struct port_stats *ps_, enum port_tier tier)
{
    struct port_stats *ps = CONST_CAST(struct port_stats *, ps_);
    uint64_t n;

    atomic_read_relaxed(&ps->hits[tier], &n);
    return n;
}

/* Counts a direction of a connection that has got to the datapath. */
void
port_stats_promote(struct port_stats *ps)
{
    uint64_t orig;

    atomic_add_relaxed(&ps->promotions, 1, &orig);
}

uint64_t
port_stats_promotions(const struct port_stats *ps_)
{
    struct port_stats *ps = CONST_CAST(struct port_stats *, ps_);
    uint64_t n;

    atomic_read_relaxed(&ps->promotions, &n);
    return n;
}

/* The port. */

void
port_stats_init(struct port_stats *ps)
{
    for (size_t i = 0; i < N_TIERS; i++) {
        atomic_init(&ps->hits[i], 0);
    }
    atomic_init(&ps->promotions, 0);
    ovs_mutex_init(&ps->mutex);
    cmap_init(&ps->rules);
    cmap_init(&ps->named);
}

void
port_stats_uninit(struct port_stats *ps)
{
    struct named_stats *ns;
    struct rule_stats *rs;

    CMAP_FOR_EACH (rs, node, &ps->rules) {
        ovsrcu_postpone(rule_stats_unref, rs);
    }
    cmap_destroy(&ps->rules);
    CMAP_FOR_EACH (ns, node, &ps->named) {
        ovsrcu_postpone(named_stats_unref, ns);
    }
    cmap_destroy(&ps->named);
    ovs_mutex_destroy(&ps->mutex);
}
