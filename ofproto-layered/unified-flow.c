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

#include "layered/ofproto-layered/unified-flow.h"

#include "coverage.h"
#include "dp-packet.h"
#include "dpif.h"
#include "hash.h"
#include "layered/ofproto-layered/forwarding.h"
#include "layered/ofproto-layered/layer-port.h"
#include "layered/ofproto-layered/layer-xlate.h"
#include "layered/ofproto-layered/object-pool.h"
#include "layered/ofproto-layered/port-stats.h"
#include "netlink.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "packets.h"
#include "random.h"
#include "util.h"

COVERAGE_DEFINE(layered_unified_insert);
COVERAGE_DEFINE(layered_unified_remove);

/* So many parts has a table, each with a lock and a map of its own: threads
 * that insert do not wait for each other, and no insertion has to enlarge the
 * map of a million flows. */
#define N_SHARDS 64

struct unified_shard {
    PADDED_MEMBERS(CACHE_LINE_SIZE,
        struct ovs_mutex mutex;         /* To change 'flows'. */
        struct cmap flows;              /* Of struct unified_flow. */
    );
};

struct unified_table {
    struct unified_shard shards[N_SHARDS];
    uint32_t basis;

    struct ovs_mutex routes_mutex;
    struct cmap routes;                 /* Of struct unified_route. */

    struct ovs_mutex run_mutex;         /* For one unified_table_run(). */
};

/* Memory for flows.  Most have few actions and are of one size, which takes
 * two cache lines along with what malloc() adds. */
#define FLOW_SIZE (128 - sizeof(size_t))
#define FLOW_ACTIONS_SIZE (FLOW_SIZE - offsetof(struct unified_flow, actions))

static struct object_pool *flow_pool;   /* Of all tables. */

static void
flow_pool_init(void)
{
    static struct ovsthread_once once = OVSTHREAD_ONCE_INITIALIZER;

    if (ovsthread_once_start(&once)) {
        flow_pool = object_pool_create(FLOW_SIZE);
        ovsthread_once_done(&once);
    }
}

/* Returns memory for a flow with 'actions_len' bytes of actions. */
static struct unified_flow *
flow_alloc(size_t actions_len)
{
    return (actions_len <= FLOW_ACTIONS_SIZE
            ? object_pool_alloc(flow_pool)
            : xmalloc(sizeof(struct unified_flow) + actions_len));
}

static void
flow_free(struct unified_flow *flow)
{
    if (flow->actions_len <= FLOW_ACTIONS_SIZE) {
        object_pool_free(flow_pool, flow);
    } else {
        free(flow);
    }
}

/* Routes. */

static bool
stages_equal(const struct unified_stage *a, const struct unified_stage *b)
{
    return (a->port == b->port && a->stack == b->stack && a->dir == b->dir
            && a->stateful == b->stateful && a->n_rules == b->n_rules
            && (!a->n_rules || !memcmp(a->rules, b->rules,
                                       a->n_rules * sizeof *a->rules)));
}

/* What a route matches in packets that have the same fields as the one that it
 * was made for: their values are in the same places. */
struct route_image {
    struct flowmap map;
    size_t n;
    uint64_t words[];                   /* 'n' values, then 'n' masks. */
};

static struct route_image *
make_image(const struct match *match, const struct miniflow *packet)
{
    size_t n = miniflow_n_values(packet);
    struct route_image *image;
    size_t i = 0, idx;

    image = xmalloc(sizeof *image + 2 * n * sizeof *image->words);
    image->map = packet->map;
    image->n = n;
    FLOWMAP_FOR_EACH_INDEX (idx, packet->map) {
        image->words[i] = flow_u64_value(&match->flow, idx);
        image->words[n + i] = flow_u64_value(&match->wc.masks, idx);
        i++;
    }
    return image;
}

/* Returns true if a flow of 'route' matches 'packet', but for the tuple. */
static bool
route_matches_packet(const struct unified_route *route,
                     const struct miniflow *packet)
{
    const struct route_image *image = route->image;
    const uint64_t *values = miniflow_get_values(packet);
    const uint64_t *masks = image->words + image->n;
    uint64_t differences = 0;

    if (OVS_UNLIKELY(!flowmap_equal(packet->map, image->map))) {
        return miniflow_equal_in_minimask(packet, route->minimatch.flow,
                                          route->minimatch.mask);
    }
    for (size_t i = 0; i < image->n; i++) {
        differences |= (values[i] ^ image->words[i]) & masks[i];
    }
    return !differences;
}

/* Returns true if a flow of 'route' matches the packets that are the same as
 * 'flow' in what 'wc' looks at, or a subset of them that has 'flow'. */
static bool
route_matches(const struct unified_route *route, const struct flow *flow_,
              const struct flow_wildcards *wc)
{
    const struct match *match = &route->match;
    const uint64_t *route_flow = flow_u64_lvalue(
        CONST_CAST(struct flow *, &match->flow), 0);
    const uint64_t *route_mask = flow_u64_lvalue(
        CONST_CAST(struct flow *, &match->wc.masks), 0);
    const uint64_t *flow = flow_u64_lvalue(CONST_CAST(struct flow *, flow_),
                                           0);
    const uint64_t *mask = flow_u64_lvalue(
        CONST_CAST(struct flow *, &wc->masks), 0);
    uint64_t differences = 0;

    for (size_t i = 0; i < FLOW_U64S; i++) {
        differences |= ((mask[i] & ~route_mask[i])
                        | ((route_flow[i] ^ flow[i]) & route_mask[i]));
    }
    return !differences;
}

static void
route_free(struct unified_route *route)
{
    for (size_t i = 0; i < route->n_stages; i++) {
        struct unified_stage *stage = &route->stages[i];

        for (size_t j = 0; j < stage->n_rules; j++) {
            rule_stats_unref(stage->rules[j]);
        }
        free(stage->rules);
        layer_stack_unref(stage->stack);
        layer_port_unref(stage->port);
    }
    forwarding_unref(route->forwarding);
    minimatch_destroy(&route->minimatch);
    free(route->image);
    free(route);
}

static void
route_unref(struct unified_route *route)
{
    if (ovs_refcount_unref(&route->ref_cnt) == 1) {
        ovsrcu_postpone(route_free, route);
    }
}

static bool
route_is_valid(const struct unified_route *route, uint64_t generation)
{
    if (route->generation != generation) {
        return false;
    }
    for (size_t i = 0; i < route->n_stages; i++) {
        bool retired;

        atomic_read_relaxed(&route->stages[i].stack->retired, &retired);
        if (retired) {
            return false;
        }
    }
    return true;
}

/* Returns the route by 'forwarding', of 'generation', and 'n_stages' 'stages',
 * for packets that are the same as 'flow' in what 'wc' looks at, which should
 * not be the tuple, such as 'packet'.  'stages' may be on the stack.  The
 * caller has to release the reference, by passing it on to
 * unified_table_insert(). */
struct unified_route *
unified_table_get_route(struct unified_table *table,
                        const struct forwarding *forwarding,
                        uint64_t generation,
                        const struct unified_stage *stages, size_t n_stages,
                        const struct flow *flow,
                        const struct flow_wildcards *wc,
                        const struct miniflow *packet)
{
    uint32_t hash = hash_pointer(forwarding, generation);
    struct unified_route *route;

    for (size_t i = 0; i < n_stages; i++) {
        hash = hash_pointer(stages[i].stack, hash);
        for (size_t j = 0; j < stages[i].n_rules; j++) {
            hash = hash_pointer(stages[i].rules[j], hash);
        }
    }
    CMAP_FOR_EACH_WITH_HASH (route, node, hash, &table->routes) {
        bool equal = (route->forwarding == forwarding
                      && route->generation == generation
                      && route->n_stages == n_stages);

        for (size_t i = 0; equal && i < n_stages; i++) {
            equal = stages_equal(&route->stages[i], &stages[i]);
        }
        if (equal && route_matches(route, flow, wc)
            && ovs_refcount_try_ref_rcu(&route->ref_cnt)) {
            return route;
        }
    }

    route = xzalloc(sizeof *route);
    ovs_refcount_init(&route->ref_cnt);
    ovs_refcount_ref(&route->ref_cnt);  /* The table's. */
    route->hash = hash;
    route->generation = generation;
    route->forwarding = forwarding_ref(forwarding);
    route->n_stages = n_stages;
    route->key_stage = SIZE_MAX;
    for (size_t i = 0; i < n_stages; i++) {
        struct unified_stage *stage = &route->stages[i];

        *stage = stages[i];
        layer_port_ref(stage->port);
        layer_stack_ref(stage->stack);
        stage->rules = xmemdup(stages[i].rules,
                               stage->n_rules * sizeof *stage->rules);
        for (size_t j = 0; j < stage->n_rules; j++) {
            rule_stats_ref(stage->rules[j]);
        }
        if (stage->stateful) {
            route->key_stage = MIN(route->key_stage, i);
        }
    }
    match_init(&route->match, flow, wc);
    minimatch_init(&route->minimatch, &route->match);
    route->image = make_image(&route->match, packet);

    ovs_mutex_lock(&table->routes_mutex);
    cmap_insert(&table->routes, &route->node, hash);
    ovs_mutex_unlock(&table->routes_mutex);
    return route;
}

/* Flows. */

/* The connection of 'flow' whose tuple is that of the flow's packets. */
static const struct conn_key *
unified_flow_key(const struct unified_flow *flow)
{
    size_t i = flow->route->key_stage;

    return &flow->conns[i]->keys[flow->route->stages[i].dir];
}

/* Returns true if packets may be forwarded by 'flow' at 'now', in ms, where
 * 'generation' is that of the datapath's translations. */
bool
unified_flow_is_valid(const struct unified_flow *flow, uint64_t generation,
                      long long int now)
{
    if (!route_is_valid(flow->route, generation)) {
        return false;
    }
    for (size_t i = 0; i < flow->route->n_stages; i++) {
        if (flow->conns[i] && connection_is_stale(flow->conns[i], now)) {
            return false;
        }
    }
    return true;
}

/* Credits 'traffic' that came by 'route' to all but connections. */
static void
route_credit(const struct unified_route *route,
             const struct unified_traffic *traffic)
{
    const struct dpif_flow_stats stats = {
        .n_packets = traffic->n_packets,
        .n_bytes = traffic->n_bytes,
        .used = traffic->used,
    };

    forwarding_credit(route->forwarding, &stats);
    for (size_t i = 0; i < route->n_stages; i++) {
        const struct unified_stage *stage = &route->stages[i];

        for (size_t j = 0; j < stage->n_rules; j++) {
            rule_stats_credit(stage->rules[j], &stats);
        }
        if (stage->stack->n) {
            port_stats_hit(&stage->port->stats, TIER_RULES,
                           traffic->n_opened[i]);
            port_stats_hit(&stage->port->stats, TIER_CACHE,
                           traffic->n_packets - traffic->n_opened[i]);
        }
    }
}

/* Credits what 'flow' has forwarded since the last call to its connections,
 * and adds it to '*sum', which is of its route. */
static void
unified_flow_credit(struct unified_flow *flow, struct unified_traffic *sum)
{
    const struct unified_route *route = flow->route;
    uint64_t traffic;

    atomic_read_relaxed(&flow->traffic, &traffic);
    if (!traffic) {
        return;
    }
    while (!atomic_compare_exchange_weak_relaxed(&flow->traffic, &traffic,
                                                 0)) {
        continue;
    }

    uint64_t opened = traffic >> (UNIFIED_BYTES_BITS + UNIFIED_PACKETS_BITS);
    struct dpif_flow_stats stats = {
        .n_packets = (traffic >> UNIFIED_BYTES_BITS
                      & ((UINT64_C(1) << UNIFIED_PACKETS_BITS) - 1)),
        .n_bytes = traffic & ((UINT64_C(1) << UNIFIED_BYTES_BITS) - 1),
    };

    for (size_t i = 0; i < route->n_stages; i++) {
        if (flow->conns[i]) {
            atomic_read_relaxed(&flow->conns[i]->live->used, &stats.used);
            layer_xlate_credit_connection(flow->conns[i],
                                          route->stages[i].dir, &stats, true);
        }
        sum->n_opened[i] += opened >> i & 1;
    }
    sum->n_packets += stats.n_packets;
    sum->n_bytes += stats.n_bytes;
    sum->used = MAX(sum->used, stats.used);
}

/* As unified_flow_credit(), and to its route. */
static void
credit_at_once(struct unified_flow *flow)
{
    struct unified_traffic traffic = { .n_packets = 0 };

    unified_flow_credit(flow, &traffic);
    if (traffic.n_packets) {
        route_credit(flow->route, &traffic);
    }
}

static void
unified_flow_free(struct unified_flow *flow)
{
    /* Threads may have forwarded packets by it to the end. */
    credit_at_once(flow);
    for (size_t i = 0; i < UNIFIED_MAX_STAGES; i++) {
        connection_unref(flow->conns[i]);
    }
    route_unref(flow->route);
    flow_free(flow);
}

/* Tables. */

/* Returns a new, empty table. */
struct unified_table *
unified_table_create(void)
{
    struct unified_table *table = xzalloc_cacheline(sizeof *table);

    flow_pool_init();
    for (size_t i = 0; i < N_SHARDS; i++) {
        ovs_mutex_init(&table->shards[i].mutex);
        cmap_init(&table->shards[i].flows);
    }
    table->basis = random_uint32();
    ovs_mutex_init(&table->routes_mutex);
    cmap_init(&table->routes);
    ovs_mutex_init(&table->run_mutex);
    return table;
}

static size_t
shard_index(uint32_t hash)
{
    /* Maps use the lower bits. */
    return hash >> 26;
}
BUILD_ASSERT_DECL(N_SHARDS == 1 << (32 - 26));

static struct unified_shard *
get_shard(const struct unified_table *table_, uint32_t hash)
{
    struct unified_table *table = CONST_CAST(struct unified_table *, table_);

    return &table->shards[shard_index(hash)];
}

static void
remove__(struct unified_shard *shard, struct unified_flow *flow, uint32_t hash)
    OVS_REQUIRES(shard->mutex)
{
    if (!flow->removed) {
        flow->removed = true;
        cmap_remove(&shard->flows, &flow->node, hash);
        ovsrcu_postpone(unified_flow_free, flow);
        COVERAGE_INC(layered_unified_remove);
    }
}

/* Destroys 'table', which no thread may be using. */
void
unified_table_destroy(struct unified_table *table)
{
    struct unified_route *route;

    for (size_t i = 0; i < N_SHARDS; i++) {
        struct unified_shard *shard = &table->shards[i];
        struct unified_flow *flow;

        ovs_mutex_lock(&shard->mutex);
        CMAP_FOR_EACH (flow, node, &shard->flows) {
            remove__(shard, flow, flow->hash);
        }
        ovs_mutex_unlock(&shard->mutex);
        cmap_destroy(&shard->flows);
        ovs_mutex_destroy(&shard->mutex);
    }
    ovs_mutex_lock(&table->routes_mutex);
    CMAP_FOR_EACH (route, node, &table->routes) {
        cmap_remove(&table->routes, &route->node, route->hash);
        route_unref(route);
    }
    ovs_mutex_unlock(&table->routes_mutex);
    cmap_destroy(&table->routes);
    ovs_mutex_destroy(&table->routes_mutex);
    ovs_mutex_destroy(&table->run_mutex);
    free_cacheline(table);
}

/* Returns how many flows 'table' has. */
size_t
unified_table_count(const struct unified_table *table)
{
    size_t n = 0;

    for (size_t i = 0; i < N_SHARDS; i++) {
        n += cmap_count(&table->shards[i].flows);
    }
    return n;
}

/* Returns how many routes 'table' has. */
size_t
unified_table_count_routes(const struct unified_table *table)
{
    return cmap_count(&table->routes);
}

/* Returns the hash in 'table' of packets with tuple 'key' from 'in_port'. */
uint32_t
unified_table_hash(const struct unified_table *table,
                   const struct conn_key *key, odp_port_t in_port)
{
    return conn_key_hash(key, table->basis ^ odp_to_u32(in_port));
}

/* Returns the flow for the packet 'packet', whose tuple is 'key' and whose
 * hash is 'hash', NULL if there is none.  It need not be valid.  */
struct unified_flow *
unified_table_lookup(const struct unified_table *table,
                     const struct conn_key *key, uint32_t hash,
                     const struct miniflow *packet)
{
    const struct unified_shard *shard = get_shard(table, hash);
    struct unified_flow *flow;

    CMAP_FOR_EACH_WITH_HASH (flow, node, hash, &shard->flows) {
        if (!memcmp(unified_flow_key(flow), key, sizeof *key)
            && route_matches_packet(flow->route, packet)) {
            return flow;
        }
    }
    return NULL;
}

/* Fetches into the processor's cache what look-ups of 'hashes', 'n' of them,
 * and the use of what they find, need.  One after the other would wait for
 * memory, together they wait once for each step from hash to connection.
 * Returns those for which there seems to be a flow, as bits. */
uint32_t
unified_table_prefetch(const struct unified_table *table,
                       const uint32_t hashes[], size_t n)
{
    const struct unified_flow *flows[NETDEV_MAX_BURST];
    size_t n_flows = 0;
    uint32_t found = 0;

    BUILD_ASSERT_DECL(NETDEV_MAX_BURST <= 32);
    ovs_assert(n <= ARRAY_SIZE(flows));
    for (size_t i = 0; i < n; i++) {
        cmap_prefetch(&get_shard(table, hashes[i])->flows, hashes[i]);
    }
    for (size_t i = 0; i < n; i++) {
        const struct cmap_node *node
            = cmap_find(&get_shard(table, hashes[i])->flows, hashes[i]);

        if (node) {
            flows[n_flows] = CONTAINER_OF(node, struct unified_flow, node);
            OVS_PREFETCH(flows[n_flows]);
            OVS_PREFETCH(flows[n_flows]->actions);
            n_flows++;
            found |= UINT32_C(1) << i;
        }
    }
    for (size_t i = 0; i < n_flows; i++) {
        for (size_t j = 0; j < UNIFIED_MAX_STAGES; j++) {
            connection_prefetch(flows[i]->conns[j]);
        }
    }
    for (size_t i = 0; i < n_flows; i++) {
        for (size_t j = 0; j < UNIFIED_MAX_STAGES; j++) {
            if (flows[i]->conns[j]) {
                OVS_PREFETCH(flows[i]->conns[j]->live);
            }
        }
    }
    return found;
}

/* Inserts a flow by 'route' for packets with hash 'hash', the first of which,
 * of 'packet_size' bytes, the connections have seen.  'conns' are these, by
 * stage, and 'opened' has a bit for each that it opened.  'old', which may be
 * NULL, is a flow for the same packets that it takes the place of; that
 * several threads insert flows for the same packets at once does not matter.
 * Takes over the reference to 'route'. */
struct unified_flow *
unified_table_insert(struct unified_table *table, uint32_t hash,
                     struct unified_flow *old, struct unified_route *route,
                     const struct connection *const conns[], uint8_t opened,
                     size_t packet_size, const struct nlattr *actions,
                     size_t actions_len)
{
    struct unified_shard *shard = get_shard(table, hash);
    struct unified_flow *flow;

    flow = flow_alloc(actions_len);
    flow->hash = hash;
    flow->route = route;
    for (size_t i = 0; i < UNIFIED_MAX_STAGES; i++) {
        flow->conns[i] = (i < route->n_stages && conns[i]
                          ? connection_ref(conns[i]) : NULL);
    }
    atomic_init(&flow->traffic,
                UNIFIED_OPENED(opened) | UNIFIED_PACKET(packet_size));
    atomic_init(&flow->recent_packets, 0);
    atomic_init(&flow->recent_bytes, 0);
    flow->removed = false;
    flow->actions_len = actions_len;
    memcpy(flow->actions, actions, actions_len);

    ovs_mutex_lock(&shard->mutex);
    if (old) {
        remove__(shard, old, hash);
    }
    cmap_insert(&shard->flows, &flow->node, hash);
    ovs_mutex_unlock(&shard->mutex);
    COVERAGE_INC(layered_unified_insert);
    if (old) {
        credit_at_once(old);
    }
    return flow;
}

/* Halves '*counter', which other threads write to as well. */
static void
decay(atomic_uint32_t *counter)
{
    uint32_t value;

    atomic_read_relaxed(counter, &value);
    if (value) {
        atomic_store_relaxed(counter, value / 2);
    }
}

/* Credits what the flows of 'table' have forwarded and removes those that are
 * not valid at 'now', in ms, where 'generation' is that of the datapath's
 * translations.  To be called about once a second with 'age' true.  Quiesces
 * if so. */
void
unified_table_run(struct unified_table *table, uint64_t generation,
                  long long int now, bool age)
{
    struct unified_route *route;

    ovs_mutex_lock(&table->run_mutex);
    for (size_t i = 0; i < N_SHARDS; i++) {
        struct unified_shard *shard = &table->shards[i];
        struct unified_flow *flow;

        CMAP_FOR_EACH (flow, node, &shard->flows) {
            if (!unified_flow_is_valid(flow, generation, now)) {
                ovs_mutex_lock(&shard->mutex);
                remove__(shard, flow, flow->hash);
                ovs_mutex_unlock(&shard->mutex);
                credit_at_once(flow);
                continue;
            }
            if (OVS_LIKELY(!flow->route->orphan)) {
                unified_flow_credit(flow, &flow->route->pending);
            } else {
                credit_at_once(flow);
            }
            if (age) {
                decay(&flow->recent_packets);
                decay(&flow->recent_bytes);
            }
        }
        if (age) {
            ovsrcu_quiesce();
        }
    }

    CMAP_FOR_EACH (route, node, &table->routes) {
        if (route->pending.n_packets) {
            route_credit(route, &route->pending);
            memset(&route->pending, 0, sizeof route->pending);
        }
        /* One reference is the table's. */
        if (!route_is_valid(route, generation)
            || ovs_refcount_read(&route->ref_cnt) == 1) {
            ovs_mutex_lock(&table->routes_mutex);
            cmap_remove(&table->routes, &route->node, route->hash);
            ovs_mutex_unlock(&table->routes_mutex);
            route->orphan = true;
            route_unref(route);
        }
    }
    ovs_mutex_unlock(&table->run_mutex);
}
