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

#include "layered/ofproto-layered/connection.h"

#include "coverage.h"
#include "dpif.h"
#include "flow.h"
#include "hash.h"
#include "layered/ofproto-layered/port-stats.h"
#include "odp-util.h"
#include "openvswitch/match.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "random.h"
#include "timeval.h"
#include "util.h"
#include "uuid.h"

COVERAGE_DEFINE(layered_conn_opened);
COVERAGE_DEFINE(layered_conn_evicted);
COVERAGE_DEFINE(layered_conn_expired);

/* How many connections an insertion into a full table looks at, to find one
 * that has been idle since it was last looked at. */
#define EVICT_TRIES 16

/* How many connections an insertion takes out at most.  More than one, so that
 * a table that has too many becomes smaller. */
#define EVICT_MAX 4

/* How many connections a table's maintenance looks at while it holds the
 * mutex, or between two quiescent states. */
#define SLICE 64

/* All tables together hold about so many connections.  When they do, those
 * that have more than an equal share do not grow.  The others do, lest a
 * machine with few connections suffers from those with many, so that there may
 * be twice as many at the utmost. */
#define CONN_GLOBAL_LIMIT 16000000

static atomic_count n_connections = ATOMIC_COUNT_INIT(0);
static atomic_count n_tables = ATOMIC_COUNT_INIT(0);

/* Rewrites. */

/* Returns a new lease of 'tuple', which the caller has from the NAT pool. */
struct nat_lease *
nat_lease_create(const struct nat_tuple *tuple)
{
    struct nat_lease *lease = xmalloc(sizeof *lease);

    ovs_refcount_init(&lease->ref_cnt);
    lease->tuple = *tuple;
    return lease;
}

struct nat_lease *
nat_lease_ref(struct nat_lease *lease)
{
    if (lease) {
        ovs_refcount_ref(&lease->ref_cnt);
    }
    return lease;
}

static void
nat_lease_unref(struct nat_lease *lease)
{
    if (lease && ovs_refcount_unref(&lease->ref_cnt) == 1) {
        nat_pool_release(&lease->tuple);
        free(lease);
    }
}

/* Returns a new rewrite, which changes nothing. */
struct conn_rewrite *
conn_rewrite_create(void)
{
    struct conn_rewrite *rw = xzalloc(sizeof *rw);

    ovs_refcount_init(&rw->ref_cnt);
    rw->dscp = -1;
    return rw;
}

struct conn_rewrite *
conn_rewrite_ref(const struct conn_rewrite *rw_)
{
    struct conn_rewrite *rw = CONST_CAST(struct conn_rewrite *, rw_);

    if (rw) {
        ovs_refcount_ref(&rw->ref_cnt);
    }
    return rw;
}

void
conn_rewrite_unref(struct conn_rewrite *rw)
{
    if (rw && ovs_refcount_unref(&rw->ref_cnt) == 1) {
        for (size_t i = 0; i < rw->n_nats; i++) {
            nat_lease_unref(rw->nats[i].lease);
            layer_rule_unref(rw->nats[i].rule);
        }
        free(rw->nats);
        free(rw);
    }
}

/* Has 'rw' translate as 'nat' does, after what it does already.  Takes over
 * the references in 'nat'. */
void
conn_rewrite_add_nat(struct conn_rewrite *rw, const struct conn_nat *nat)
{
    rw->nats = xrealloc(rw->nats, (rw->n_nats + 1) * sizeof *rw->nats);
    rw->nats[rw->n_nats++] = *nat;
    if (nat->source) {
        if (!rw->snat) {
            rw->snat_from = nat->from;
        }
        rw->snat_to = nat->to;
        rw->snat = true;
    } else {
        if (!rw->dnat) {
            rw->dnat_from = nat->from;
        }
        rw->dnat_to = nat->to;
        rw->dnat = true;
    }
}

/* Returns true if 'rw', which may be NULL, translates addresses. */
bool
conn_rewrite_is_nat(const struct conn_rewrite *rw)
{
    return rw && (rw->snat || rw->dnat);
}

static void
set_src(const struct conn_endpoint *to, struct flow *flow,
        struct flow_wildcards *wc)
{
    if (flow->dl_type == htons(ETH_TYPE_IP)) {
        WC_MASK_FIELD(wc, nw_src);
        flow->nw_src = in6_addr_get_mapped_ipv4(&to->addr);
    } else {
        WC_MASK_FIELD(wc, ipv6_src);
        flow->ipv6_src = to->addr;
    }
    if (to->port) {
        WC_MASK_FIELD(wc, tp_src);
        flow->tp_src = to->port;
    }
}

static void
set_dst(const struct conn_endpoint *to, struct flow *flow,
        struct flow_wildcards *wc)
{
    if (flow->dl_type == htons(ETH_TYPE_IP)) {
        WC_MASK_FIELD(wc, nw_dst);
        flow->nw_dst = in6_addr_get_mapped_ipv4(&to->addr);
    } else {
        WC_MASK_FIELD(wc, ipv6_dst);
        flow->ipv6_dst = to->addr;
    }
    if (to->port) {
        WC_MASK_FIELD(wc, tp_dst);
        flow->tp_dst = to->port;
    }
}

/* Applies 'rw' to the packet in 'flow', or undoes its translations if 'reply'
 * is true.  Returns false if the packet's time to live does not allow it. */
bool
conn_rewrite_apply(const struct conn_rewrite *rw, bool reply,
                   struct flow *flow, struct flow_wildcards *wc)
{
    if (!rw) {
        return true;
    }
    if (reply) {
        if (rw->snat) {
            set_dst(&rw->snat_from, flow, wc);
        }
        if (rw->dnat) {
            set_src(&rw->dnat_from, flow, wc);
        }
        return true;
    }

    if (rw->snat) {
        set_src(&rw->snat_to, flow, wc);
    }
    if (rw->dnat) {
        set_dst(&rw->dnat_to, flow, wc);
    }
    if (rw->dscp >= 0 && is_ip_any(flow)) {
        wc->masks.nw_tos |= IP_DSCP_MASK;
        flow->nw_tos = (flow->nw_tos & ~IP_DSCP_MASK) | rw->dscp << 2;
    }
    if (rw->set_src) {
        WC_MASK_FIELD(wc, dl_src);
        flow->dl_src = rw->dl_src;
    }
    if (rw->set_dst) {
        WC_MASK_FIELD(wc, dl_dst);
        flow->dl_dst = rw->dl_dst;
    }
    if (rw->dec_ttl && is_ip_any(flow)) {
        WC_MASK_FIELD(wc, nw_ttl);
        if (flow->nw_ttl <= rw->dec_ttl) {
            return false;
        }
        flow->nw_ttl -= rw->dec_ttl;
    }
    return true;
}

/* The mutable part. */

static uint32_t
progress_to_u32(const struct conn_progress *progress)
{
    return (progress->state | progress->fin[0] << 8 | progress->fin[1] << 9
            | progress->syn_peer << 10);
}

static struct conn_progress
progress_from_u32(uint32_t x)
{
    return (struct conn_progress) {
        .state = x & 0xff,
        .fin = { x >> 8 & 1, x >> 9 & 1 },
        .syn_peer = x >> 10 & 1,
    };
}

/* Returns the mutable part of a new connection that 'opener', as it entered
 * the port in direction 'dir', opens. */
struct conn_live *
conn_live_create(const struct flow *opener, enum layer_direction dir,
                 const struct conn_progress *progress, long long int now)
{
    struct conn_live *live = xmalloc(sizeof *live);

    ovs_refcount_init(&live->ref_cnt);
    ovs_list_init(&live->list_node);
    live->current = NULL;
    live->dir = dir;
    live->opener = miniflow_create(opener);
    live->created = now;
    atomic_init(&live->used, now);
    atomic_init(&live->progress, progress_to_u32(progress));
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        atomic_init(&live->promoted[i], false);
        atomic_init(&live->packets[i], 0);
        atomic_init(&live->bytes[i], 0);
    }
    return live;
}

struct conn_live *
conn_live_ref(const struct conn_live *live_)
{
    struct conn_live *live = CONST_CAST(struct conn_live *, live_);

    ovs_refcount_ref(&live->ref_cnt);
    return live;
}

void
conn_live_unref(struct conn_live *live)
{
    if (live && ovs_refcount_unref(&live->ref_cnt) == 1) {
        free(live->opener);
        free(live);
    }
}

/* Connections. */

/* Returns a new connection without layer flows, with room for 'max_layers' of
 * them.  Takes over the reference to 'live'. */
struct connection *
connection_create(const struct conn_key keys[], uint64_t version,
                  struct conn_live *live, size_t max_layers)
{
    struct connection *conn;

    conn = xmalloc(sizeof *conn + max_layers * sizeof *conn->layers);
    memcpy(conn->keys, keys, sizeof conn->keys);
    ovs_refcount_init(&conn->ref_cnt);
    conn->version = version;
    atomic_init(&conn->gone, false);
    conn->live = live;
    conn->n = 0;
    return conn;
}

struct connection *
connection_ref(const struct connection *conn_)
{
    struct connection *conn = CONST_CAST(struct connection *, conn_);

    ovs_refcount_ref(&conn->ref_cnt);
    return conn;
}

/* Initializes 'dst' as a copy of 'src', with references of its own. */
void
conn_layer_clone(struct conn_layer *dst, const struct conn_layer *src)
{
    *dst = (struct conn_layer) {
        .layer = layer_ref(src->layer),
        .dir = src->dir,
        .rewrite = conn_rewrite_ref(src->rewrite),
        .uses = xmemdup(src->uses, src->n_uses * sizeof *src->uses),
        .n_uses = src->n_uses,
    };
    for (size_t i = 0; i < dst->n_uses; i++) {
        rule_stats_ref(dst->uses[i]);
    }
}

/* Frees what 'cl' refers to. */
void
conn_layer_uninit(struct conn_layer *cl)
{
    for (size_t i = 0; i < cl->n_uses; i++) {
        rule_stats_unref(cl->uses[i]);
    }
    free(cl->uses);
    conn_rewrite_unref(cl->rewrite);
    layer_unref(cl->layer);
}

static void
connection_free(struct connection *conn)
{
    for (size_t i = 0; i < conn->n; i++) {
        conn_layer_uninit(&conn->layers[i]);
    }
    conn_live_unref(conn->live);
    free(conn);
}

void
connection_unref(struct connection *conn)
{
    if (conn && ovs_refcount_unref(&conn->ref_cnt) == 1) {
        connection_free(conn);
    }
}

struct conn_progress
connection_progress(const struct connection *conn)
{
    uint32_t progress;

    atomic_read_relaxed(&conn->live->progress, &progress);
    return progress_from_u32(progress);
}

/* Returns the time, in ms, at which 'cl' times out. */
static long long int
conn_layer_expires(const struct connection *conn, const struct conn_layer *cl)
{
    struct conn_progress progress = connection_progress(conn);
    long long int used;

    atomic_read_relaxed(&conn->live->used, &used);
    return used + cl->layer->timeouts.seconds[progress.state] * 1000LL;
}

/* Returns the time, in ms, at which 'conn' loses a layer flow unless there is
 * a packet. */
long long int
connection_expires(const struct connection *conn)
{
    long long int expires = LLONG_MAX;

    for (size_t i = 0; i < conn->n; i++) {
        expires = MIN(expires, conn_layer_expires(conn, &conn->layers[i]));
    }
    return expires;
}

/* Returns true if 'conn' as a whole is over at 'now': no layer flow is left,
 * or one that translated addresses is gone. */
static bool
connection_is_over(const struct connection *conn, long long int now)
{
    bool over = true;

    for (size_t i = 0; i < conn->n; i++) {
        const struct conn_layer *cl = &conn->layers[i];
        bool expired = conn_layer_expires(conn, cl) <= now;

        if (expired && conn_rewrite_is_nat(cl->rewrite)) {
            return true;
        }
        over &= expired;
    }
    return over;
}

/* Returns 'conn''s layer flow in 'layer', of whatever version, NULL if it has
 * none or that has timed out at 'now'. */
const struct conn_layer *
connection_find_layer(const struct connection *conn, const struct layer *layer,
                      long long int now)
{
    for (size_t i = 0; i < conn->n; i++) {
        const struct conn_layer *cl = &conn->layers[i];

        if (cl->layer == layer
            || uuid_equals(&cl->layer->uuid, &layer->uuid)) {
            return conn_layer_expires(conn, cl) > now ? cl : NULL;
        }
    }
    return NULL;
}

/* Returns true if a packet in direction 'dir' with 'tcp_flags' opens 'conn',
 * which is at its end, anew. */
bool
connection_may_reopen(const struct connection *conn, uint16_t tcp_flags,
                      enum layer_direction dir)
{
    struct conn_progress progress = connection_progress(conn);

    return conn_progress_may_reopen(&progress, conn->keys[dir].nw_proto,
                                    tcp_flags, dir != conn->live->dir);
}

static void
connection_touch(const struct connection *conn, long long int now)
{
    struct conn_live *live = conn->live;
    long long int used;

    /* Statistics of the datapath may come late. */
    atomic_read_relaxed(&live->used, &used);
    while (now > used
           && !atomic_compare_exchange_weak_relaxed(&live->used, &used, now)) {
        continue;
    }
}

/* Takes note of a packet of 'conn' in direction 'dir' at 'now', in ms.
 * 'tcp_flags' matter for TCP. */
void
connection_see_packet(const struct connection *conn, enum layer_direction dir,
                      uint16_t tcp_flags, long long int now)
{
    struct conn_live *live = conn->live;
    uint32_t old;

    connection_touch(conn, now);
    atomic_read_relaxed(&live->progress, &old);
    for (;;) {
        struct conn_progress progress = progress_from_u32(old);

        if (!conn_progress_packet(&progress, conn->keys[dir].nw_proto,
                                  tcp_flags, dir != live->dir)
            || atomic_compare_exchange_weak_relaxed(
                &live->progress, &old, progress_to_u32(&progress))) {
            break;
        }
    }
}

/* Counts packets of 'conn' in direction 'dir'.  'seen' says whether
 * connection_see_packet() knows of them; a datapath flow forwarded them
 * otherwise. */
void
connection_account(const struct connection *conn, enum layer_direction dir,
                   const struct dpif_flow_stats *stats, bool seen)
{
    struct conn_live *live = conn->live;
    uint64_t orig;

    atomic_add_relaxed(&live->packets[dir], stats->n_packets, &orig);
    atomic_add_relaxed(&live->bytes[dir], stats->n_bytes, &orig);
    if (!seen && stats->n_packets) {
        /* No more than one packet matters: the first of a connection and
         * those that change TCP's state are always seen. */
        connection_see_packet(conn, dir,
                              stats->tcp_flags & ~TCP_STATE_FLAGS,
                              stats->used);
    }
}

/* Returns true if 'conn' has been removed or replaced. */
bool
connection_is_gone(const struct connection *conn)
{
    bool gone;

    atomic_read_relaxed(&CONST_CAST(struct connection *, conn)->gone, &gone);
    return gone;
}

/* Returns true if what a translation took from 'conn' may be outdated. */
bool
connection_is_stale(const struct connection *conn, long long int now)
{
    return connection_is_gone(conn) || connection_expires(conn) <= now;
}

/* Returns true if a datapath flow may forward packets of 'conn' in direction
 * 'dir' that have none of SYN, FIN and RST. */
bool
connection_can_cache(const struct connection *conn, enum layer_direction dir)
{
    struct conn_progress progress = connection_progress(conn);

    return conn_progress_can_cache(&progress, dir != conn->live->dir);
}

/* Notes that packets of 'conn' in direction 'dir' have been forwarded by a
 * datapath flow.  Returns true if they had not been before. */
bool
connection_promote(const struct connection *conn, enum layer_direction dir)
{
    atomic_bool *promoted = &conn->live->promoted[dir];
    bool was_promoted;

    atomic_read_relaxed(promoted, &was_promoted);
    if (!was_promoted) {
        /* Two threads may count it twice, which is no harm. */
        atomic_store_relaxed(promoted, true);
    }
    return !was_promoted;
}

/* Tables. */

/* Look-ups that fail are remembered by number of buckets. */
#define N_MISS_BUCKETS 1024

struct conn_table {
    struct ovs_mutex mutex;
    uint32_t basis;             /* Makes collisions of hashes hard to
                                 * provoke. */
    struct cmap maps[N_LAYER_DIRECTIONS]; /* By 'keys', of connections. */
    struct ovs_list half_open OVS_GUARDED; /* Oldest first, of conn_live. */
    struct ovs_list others OVS_GUARDED; /* Not recently looked at first. */
    struct ovs_list unsorted OVS_GUARDED; /* To be put in one of these. */
    atomic_uint64_t evicted;
    atomic_uint64_t opened;

    /* By hash of tuple, how often a connection has come into being. */
    atomic_uint64_t insertions[N_MISS_BUCKETS];
};

struct conn_table *
conn_table_create(void)
{
    struct conn_table *table = xzalloc(sizeof *table);

    ovs_mutex_init(&table->mutex);
    table->basis = random_uint32();
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        cmap_init(&table->maps[i]);
    }
    ovs_list_init(&table->half_open);
    ovs_list_init(&table->others);
    ovs_list_init(&table->unsorted);
    atomic_count_inc(&n_tables);
    return table;
}

static uint32_t
key_hash(const struct conn_table *table, const struct conn_key *key)
{
    return conn_key_hash(key, table->basis);
}

/* Takes 'conn' out of 'table', and what it stood for too unless 'replaced' is
 * true. */
static void
remove__(struct conn_table *table, struct connection *conn, bool replaced)
    OVS_REQUIRES(table->mutex)
{
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        cmap_remove(&table->maps[i], &conn->nodes[i],
                    key_hash(table, &conn->keys[i]));
    }
    atomic_store_relaxed(&conn->gone, true);
    if (!replaced) {
        conn->live->current = NULL;
        ovs_list_remove(&conn->live->list_node);
        atomic_count_dec(&n_connections);
    }
    ovsrcu_postpone(connection_unref, conn);
}

void
conn_table_destroy(struct conn_table *table)
{
    if (table) {
        struct connection *conn;

        ovs_mutex_lock(&table->mutex);
        CMAP_FOR_EACH (conn, nodes[0], &table->maps[0]) {
            remove__(table, conn, false);
        }
        ovs_mutex_unlock(&table->mutex);

        for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
            cmap_destroy(&table->maps[i]);
        }
        ovs_mutex_destroy(&table->mutex);
        atomic_count_dec(&n_tables);
        free(table);
    }
}

static struct connection *
find(const struct conn_table *table, enum layer_direction dir,
     const struct conn_key *key)
{
    uint32_t hash = key_hash(table, key);
    struct connection *conn;

    if (dir == LAYER_OUTBOUND) {
        CMAP_FOR_EACH_WITH_HASH (conn, nodes[LAYER_OUTBOUND], hash,
                                 &table->maps[LAYER_OUTBOUND]) {
            if (!memcmp(&conn->keys[LAYER_OUTBOUND], key, sizeof *key)) {
                return conn;
            }
        }
    } else {
        CMAP_FOR_EACH_WITH_HASH (conn, nodes[LAYER_INBOUND], hash,
                                 &table->maps[LAYER_INBOUND]) {
            if (!memcmp(&conn->keys[LAYER_INBOUND], key, sizeof *key)) {
                return conn;
            }
        }
    }
    return NULL;
}

/* Returns the connection whose packets enter the port in direction 'dir' with
 * tuple 'key', NULL if there is none at 'now', in ms.  Valid until the caller
 * quiesces. */
const struct connection *
conn_table_lookup(const struct conn_table *table, enum layer_direction dir,
                  const struct conn_key *key, long long int now)
{
    const struct connection *conn = find(table, dir, key);

    return conn && !connection_is_over(conn, now) ? conn : NULL;
}

/* Puts 'live' in the list that it belongs to, at the end. */
static void
enlist(struct conn_table *table, struct conn_live *live)
    OVS_REQUIRES(table->mutex)
{
    struct conn_progress progress = connection_progress(live->current);

    ovs_list_push_back(conn_progress_is_half_open(&progress)
                       ? &table->half_open : &table->others,
                       &live->list_node);
}

/* Puts up to 'n' connections that are unsorted in the lists that they belong
 * to.  Returns true if there are more. */
static bool
sort(struct conn_table *table, int n)
    OVS_REQUIRES(table->mutex)
{
    for (int i = 0; i < n && !ovs_list_is_empty(&table->unsorted); i++) {
        enlist(table, CONTAINER_OF(ovs_list_pop_front(&table->unsorted),
                                   struct conn_live, list_node));
    }
    return !ovs_list_is_empty(&table->unsorted);
}

/* Makes room for a connection: takes out one that is half open, or else one
 * that has been idle, or if there is none nearby any.  Returns false if
 * 'table' is empty. */
static bool
evict(struct conn_table *table, long long int now)
    OVS_REQUIRES(table->mutex)
{
    struct conn_live *live = NULL;
    uint64_t orig;

    sort(table, EVICT_TRIES);
    for (int i = 0; i < EVICT_TRIES && !ovs_list_is_empty(&table->half_open);
         i++) {
        live = CONTAINER_OF(ovs_list_front(&table->half_open),
                            struct conn_live, list_node);
        struct conn_progress progress = connection_progress(live->current);
        if (conn_progress_is_half_open(&progress)) {
            goto found;
        }
        ovs_list_remove(&live->list_node);
        enlist(table, live);
    }
    for (int i = 0; i < EVICT_TRIES && !ovs_list_is_empty(&table->others);
         i++) {
        long long int used;

        live = CONTAINER_OF(ovs_list_front(&table->others),
                            struct conn_live, list_node);
        atomic_read_relaxed(&live->used, &used);
        if (used + 1000 < now) {
            goto found;
        }
        ovs_list_remove(&live->list_node);
        ovs_list_push_back(&table->others, &live->list_node);
    }
    if (ovs_list_is_empty(&table->others)) {
        return false;
    }
    live = CONTAINER_OF(ovs_list_front(&table->others), struct conn_live,
                        list_node);

found:
    remove__(table, live->current, false);
    atomic_add_relaxed(&table->evicted, 1, &orig);
    COVERAGE_INC(layered_conn_evicted);
    return true;
}

/* Returns true if 'table' must not have more connections than it has, where
 * its own limit is 'limit'. */
static bool
is_full(const struct conn_table *table, uint32_t limit)
{
    size_t n = cmap_count(&table->maps[0]);

    return (n >= MAX(limit, 1)
            || (atomic_count_get(&n_connections) >= CONN_GLOBAL_LIMIT
                && n >= CONN_GLOBAL_LIMIT / atomic_count_get(&n_tables)));
}

/* Notes that a connection with 'keys' has come into being, for
 * conn_table_misses_version().  It must be in 'table' already. */
static void
note_insertion(struct conn_table *table, const struct conn_key keys[])
{
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        uint32_t bucket = key_hash(table, &keys[i]) % N_MISS_BUCKETS;
        uint64_t orig;

        atomic_add_explicit(&table->insertions[bucket], 1, &orig,
                            memory_order_release);
    }
}

/* Inserts 'conn' in 'table' in place of 'old', or as a new one if 'old' is
 * NULL, and takes over the reference to it.  A new one must not make more than
 * 'limit', so that another one may have to go.
 *
 * Returns CONN_TUPLE_IN_USE if another connection has one of its tuples, or if
 * 'old' is gone, and CONN_LIMIT if there is no room; 'conn' is freed then. */
enum conn_insert_result
conn_table_insert(struct conn_table *table, struct connection *conn,
                  const struct connection *old_, uint32_t limit)
{
    struct connection *old = CONST_CAST(struct connection *, old_);
    enum conn_insert_result result = CONN_INSERTED;
    long long int now = time_msec();

    ovs_mutex_lock(&table->mutex);
    if (old && old->live->current != old) {
        result = CONN_TUPLE_IN_USE;
        goto exit;
    }
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        struct connection *other = find(table, i, &conn->keys[i]);

        if (other && other != old) {
            if (!connection_is_over(other, now)) {
                result = CONN_TUPLE_IN_USE;
                goto exit;
            }
            remove__(table, other, false);
        }
    }

    bool replaces = old && old->live == conn->live;
    if (!replaces) {
        if (old) {
            remove__(table, old, false);
        }
        for (int i = 0; i < EVICT_MAX && is_full(table, limit); i++) {
            if (!evict(table, now)) {
                result = CONN_LIMIT;
                goto exit;
            }
        }
    }

    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        cmap_insert(&table->maps[i], &conn->nodes[i],
                    key_hash(table, &conn->keys[i]));
    }
    conn->live->current = conn;
    if (replaces) {
        /* Not before: every look-up finds one of them. */
        remove__(table, old, true);
    } else {
        uint64_t orig;

        enlist(table, conn->live);
        atomic_count_inc(&n_connections);
        atomic_add_relaxed(&table->opened, 1, &orig);
        COVERAGE_INC(layered_conn_opened);
    }
    note_insertion(table, conn->keys);

exit:
    ovs_mutex_unlock(&table->mutex);
    if (result != CONN_INSERTED) {
        connection_unref(conn);
    }
    return result;
}

/* Returns true if a connection in 'table' other than 'old', which may be NULL,
 * has one of 'keys' at 'now', in ms, so that there cannot be another one. */
bool
conn_table_has_others(const struct conn_table *table,
                      const struct conn_key keys[],
                      const struct connection *old, long long int now)
{
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        const struct connection *other = find(table, i, &keys[i]);

        if (other && other != old && !connection_is_over(other, now)) {
            return true;
        }
    }
    return false;
}

/* Removes 'conn' from 'table', if it is still there. */
void
conn_table_remove(struct conn_table *table, const struct connection *conn_)
{
    struct connection *conn = CONST_CAST(struct connection *, conn_);

    ovs_mutex_lock(&table->mutex);
    if (conn->live->current == conn) {
        remove__(table, conn, false);
    }
    ovs_mutex_unlock(&table->mutex);
}

/* Returns the connections of 'table' in an array of '*n', each with a
 * reference.  The caller frees all that. */
struct connection **
conn_table_list(const struct conn_table *table, size_t *n)
{
    struct connection **list = NULL;
    struct connection *conn;
    size_t allocated = 0;

    *n = 0;
    CMAP_FOR_EACH (conn, nodes[0], &table->maps[0]) {
        if (*n >= allocated) {
            list = x2nrealloc(list, &allocated, sizeof *list);
        }
        list[(*n)++] = connection_ref(conn);
    }
    return list;
}

size_t
conn_table_count(const struct conn_table *table)
{
    return cmap_count(&table->maps[0]);
}

/* Returns how many connections had to make room for others. */
uint64_t
conn_table_evicted(const struct conn_table *table)
{
    uint64_t evicted;

    atomic_read_relaxed(&CONST_CAST(struct conn_table *, table)->evicted,
                        &evicted);
    return evicted;
}

/* Returns how many connections there have been. */
uint64_t
conn_table_opened(const struct conn_table *table)
{
    uint64_t opened;

    atomic_read_relaxed(&CONST_CAST(struct conn_table *, table)->opened,
                        &opened);
    return opened;
}

/* Returns a number that is another one after a connection with tuple 'key' has
 * come into being, and maybe at other times too.  To be called ahead of the
 * look-up that does not find one. */
uint64_t
conn_table_misses_version(const struct conn_table *table,
                          const struct conn_key *key)
{
    uint32_t bucket = key_hash(table, key) % N_MISS_BUCKETS;
    uint64_t version;

    atomic_read_explicit(&CONST_CAST(struct conn_table *, table)
                         ->insertions[bucket], &version, memory_order_acquire);
    return version;
}

/* Replaces 'conn', if it is still in 'table', by one without the layer flow
 * 'dropped', which must not be its only one, nor translate addresses. */
void
conn_table_drop_layer(struct conn_table *table, const struct connection *conn,
                      const struct conn_layer *dropped)
{
    struct connection *new = connection_create(
        conn->keys, conn->version, conn_live_ref(conn->live), conn->n);

    for (size_t i = 0; i < conn->n; i++) {
        if (&conn->layers[i] != dropped) {
            conn_layer_clone(&new->layers[new->n++], &conn->layers[i]);
        }
    }
    conn_table_insert(table, new, conn, UINT32_MAX);
}

/* Removes 'conn', if it is still in 'table', if it is over at 'now', in ms.
 * Otherwise, replaces it by one without the layer flows that have timed out,
 * if there are any: the next packet would bring them back to life. */
void
conn_table_expire(struct conn_table *table, const struct connection *conn,
                  long long int now)
{
    if (OVS_LIKELY(connection_expires(conn) > now)) {
        return;
    } else if (connection_is_over(conn, now)) {
        conn_table_remove(table, conn);
        COVERAGE_INC(layered_conn_expired);
        return;
    }

    struct connection *new = connection_create(
        conn->keys, conn->version, conn_live_ref(conn->live), conn->n);

    for (size_t i = 0; i < conn->n; i++) {
        const struct conn_layer *cl = &conn->layers[i];

        if (conn_layer_expires(conn, cl) > now) {
            conn_layer_clone(&new->layers[new->n++], cl);
        }
    }
    if (new->n) {
        conn_table_insert(table, new, conn, UINT32_MAX);
    } else {
        /* Its state has changed meanwhile. */
        connection_unref(new);
        conn_table_remove(table, conn);
    }
}

/* Removes from 'table' the connections and layer flows that have timed out at
 * 'now', in ms, and has it know which ones are half open.  The caller
 * quiesces. */
void
conn_table_age(struct conn_table *table, long long int now)
{
    struct cmap_position pos = { 0, 0, 0 };
    struct cmap_node *node;
    bool more;

    for (int i = 1; (node = cmap_next_position(&table->maps[0], &pos)); i++) {
        conn_table_expire(table,
                          CONTAINER_OF(node, struct connection, nodes[0]),
                          now);
        if (!(i % SLICE)) {
            ovsrcu_quiesce();
        }
    }

    ovs_mutex_lock(&table->mutex);
    ovs_list_push_back_all(&table->unsorted, &table->half_open);
    ovs_mutex_unlock(&table->mutex);
    do {
        ovs_mutex_lock(&table->mutex);
        more = sort(table, SLICE);
        ovs_mutex_unlock(&table->mutex);
        ovsrcu_quiesce();
    } while (more);
}

/* Removes from 'table' connections that are more than 'limit', such as when
 * that has been lowered.  The caller quiesces. */
void
conn_table_shrink(struct conn_table *table, uint32_t limit)
{
    size_t max = MAX(limit, 1);

    while (cmap_count(&table->maps[0]) > max) {
        ovs_mutex_lock(&table->mutex);
        for (int i = 0; i < SLICE && cmap_count(&table->maps[0]) > max; i++) {
            evict(table, time_msec());
        }
        ovs_mutex_unlock(&table->mutex);
        ovsrcu_quiesce();
    }
}
