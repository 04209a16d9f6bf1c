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
#include "layered/ofproto-layered/nat-pool.h"
#include "layered/ofproto-layered/object-pool.h"
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

/* About how many connections a round of maintenance of all tables looks at. */
#define AGE_MAX 131072

/* All tables together hold about so many connections.  When they do, those
 * that have more than an equal share do not grow.  The others do, lest a
 * machine with few connections suffers from those with many, so that there may
 * be twice as many at the utmost. */
#define CONN_GLOBAL_LIMIT 16000000

/* The number of connections, but for up to COUNT_BATCH of each table: threads
 * that open connections should seldom write to the same place. */
#define COUNT_BATCH 64
static atomic_llong n_connections = 0;
static atomic_count n_tables = ATOMIC_COUNT_INIT(0);

/* Look-ups that fail are remembered by number of buckets. */
#define N_MISS_BUCKETS 1024

/* Maps of a table, for each direction.  A power of 2. */
#define N_MAPS 64

struct conn_table {
    struct ovs_mutex mutex;
    uint32_t basis;             /* Makes collisions of hashes hard to
                                 * provoke. */

    /* By 'keys', of connections.  There are several maps, by the high bits of
     * the hash, because a map that has to grow does so at once, while others
     * wait for the mutex. */
    struct cmap maps[N_LAYER_DIRECTIONS][N_MAPS];
    atomic_size_t n;            /* Connections. */
    size_t next_map;            /* To be aged. */
    struct conn_paths *paths;   /* Reference. */
    struct ovs_list half_open OVS_GUARDED; /* Oldest first, of connections. */
    struct ovs_list others OVS_GUARDED; /* Not recently looked at first. */
    struct ovs_list unsorted OVS_GUARDED; /* To be put in one of these. */
    int n_uncounted OVS_GUARDED; /* Connections not in 'n_connections'. */
    atomic_uint64_t evicted;
    atomic_uint64_t opened;

    /* By hash of tuple, how often a connection has come into being. */
    atomic_uint64_t insertions[N_MISS_BUCKETS];
};

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

/* Memory: for mutable parts, and for connections by number of endpoints of
 * their own.  Those of more are rare. */
#define MAX_POOLED_EXTRA 1
static struct object_pool *live_pool;
static struct object_pool *conn_pools[MAX_POOLED_EXTRA + 1];

static size_t
connection_size(size_t n_extra)
{
    return sizeof(struct connection) + n_extra * sizeof(struct conn_endpoint);
}

static void
pools_init(void)
{
    static struct ovsthread_once once = OVSTHREAD_ONCE_INITIALIZER;

    if (ovsthread_once_start(&once)) {
        live_pool = object_pool_create(sizeof(struct conn_live));
        for (size_t i = 0; i <= MAX_POOLED_EXTRA; i++) {
            conn_pools[i] = object_pool_create(connection_size(i));
        }
        ovsthread_once_done(&once);
    }
}

/* Returns the mutable part of a new connection of 'table' that 'opener', as it
 * entered the port in direction 'dir', opens.  Changes 'opener'. */
struct conn_live *
conn_live_create(struct conn_table *table, struct flow *opener,
                 enum layer_direction dir,
                 const struct conn_progress *progress, long long int now)
{
    struct conn_live *live = object_pool_alloc(live_pool);

    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        atomic_init(&live->promoted[i], false);
        atomic_init(&live->packets[i], 0);
        atomic_init(&live->bytes[i], 0);
    }
    atomic_init(&live->used, now);
    live->created = now;
    ovs_refcount_init(&live->ref_cnt);
    atomic_init(&live->progress, progress_to_u32(progress));
    live->ipv6_label = opener->ipv6_label;
    live->dir = dir;

    /* The keys have the tuple, and nothing looks at the source port of a
     * tunnel, which is a hash of the tuple. */
    opener->nw_src = opener->nw_dst = 0;
    opener->ipv6_src = opener->ipv6_dst = in6addr_any;
    opener->ipv6_label = 0;
    if (nw_proto_has_ports(opener->nw_proto)) {
        opener->tp_src = opener->tp_dst = 0;
    }
    opener->tunnel.tp_src = 0;
    live->opener = conn_paths_get_opener(table->paths, opener);
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
        conn_opener_unref(live->opener);
        object_pool_free(live_pool, live);
    }
}

/* Connections. */

/* Returns a new connection for 'table' with 'keys', whose conn_table_hash()es
 * are 'hashes', and the layer flows of 'draft', which 'rules' and 'ps' are for
 * (see conn_paths_get()).  Takes over the reference to 'live', and from
 * 'draft' the NAT pool's tuples. */
struct connection *
connection_create(struct conn_table *table, const struct conn_key keys[],
                  const uint32_t hashes[], uint64_t version,
                  struct conn_live *live, struct conn_draft *draft,
                  const struct layer_rule *const rules[],
                  struct port_stats *ps)
{
    const struct conn_path *path = conn_paths_get(table->paths, draft, rules,
                                                  ps, keys);
    struct connection *conn;

    conn = (path->n_extra <= MAX_POOLED_EXTRA
            ? object_pool_alloc(conn_pools[path->n_extra])
            : xmalloc(connection_size(path->n_extra)));
    memcpy(conn->keys, keys, sizeof conn->keys);
    conn->live = live;
    conn->path = path;
    conn->version = version;
    ovs_list_init(&conn->list_node);
    memcpy(conn->hashes, hashes, sizeof conn->hashes);
    ovs_refcount_init(&conn->ref_cnt);
    atomic_init(&conn->gone, false);
    if (OVS_UNLIKELY(draft->n_extra)) {
        memcpy(conn->extra, draft->extra,
               draft->n_extra * sizeof *conn->extra);
    }
    draft->n_nats = 0;
    return conn;
}

struct connection *
connection_ref(const struct connection *conn_)
{
    struct connection *conn = CONST_CAST(struct connection *, conn_);

    ovs_refcount_ref(&conn->ref_cnt);
    return conn;
}

/* Returns the endpoint that 'conn' has in 'place', an enum conn_place. */
struct conn_endpoint
connection_endpoint(const struct connection *conn, uint16_t place)
{
    const struct conn_key *key = &conn->keys[place < CONN_IN_SRC
                                             ? LAYER_OUTBOUND : LAYER_INBOUND];

    switch (place) {
    case CONN_OUT_SRC:
    case CONN_IN_SRC:
        return (struct conn_endpoint) { key->src, key->tp_src };
    case CONN_OUT_DST:
    case CONN_IN_DST:
        return (struct conn_endpoint) { key->dst, key->tp_dst };
    default:
        return conn->extra[place - CONN_EXTRA];
    }
}

/* Stores in '*tuple' the NAT pool's tuple that 'conn' has for 'nat'. */
static void
get_nat_tuple(const struct connection *conn, const struct conn_nat *nat,
              struct nat_tuple *tuple)
{
    struct conn_endpoint to = connection_endpoint(conn, nat->to);
    struct conn_endpoint remote = connection_endpoint(conn, nat->remote);

    *tuple = (struct nat_tuple) {
        .addr = to.addr,
        .port = to.port,
        .remote = remote.addr,
        .remote_port = remote.port,
        .nw_proto = conn->keys[0].nw_proto,
    };
}

/* Stores in '*rw' what the layer flow 'cl' does to packets of 'conn'. */
void
conn_layer_rewrite(const struct connection *conn, const struct conn_layer *cl,
                   struct conn_rewrite *rw)
{
    *rw = (struct conn_rewrite) {
        .snat = cl->snat,
        .dnat = cl->dnat,
        .marks = cl->marks,
    };
    if (cl->snat) {
        rw->snat_from = connection_endpoint(conn, cl->snat_from);
        rw->snat_to = connection_endpoint(conn, cl->snat_to);
    }
    if (cl->dnat) {
        rw->dnat_from = connection_endpoint(conn, cl->dnat_from);
        rw->dnat_to = connection_endpoint(conn, cl->dnat_to);
    }
}

/* Does to the packet in 'flow' what the layer flow 'cl' does to packets of
 * 'conn', or undoes its translations if 'reply' is true.  Returns false if the
 * packet's time to live does not allow it. */
bool
conn_layer_apply(const struct connection *conn, const struct conn_layer *cl,
                 bool reply, struct flow *flow, struct flow_wildcards *wc)
{
    struct conn_rewrite rw;

    if (!cl->rewrites) {
        return true;
    }
    conn_layer_rewrite(conn, cl, &rw);
    return conn_rewrite_apply(&rw, reply, flow, wc);
}

/* Adds 'cl', a layer flow of 'conn', to 'draft', for another connection with
 * the same tuples. */
void
conn_draft_add_known(struct conn_draft *draft, const struct connection *conn,
                     const struct conn_layer *cl)
{
    struct conn_draft_layer *dl = conn_draft_add_layer(draft);

    *dl = (struct conn_draft_layer) {
        .layer = cl->layer,
        .dir = cl->dir,
        .known = cl,
        .n_rules = cl->n_uses,
        .first_nat = draft->n_nats,
        .n_nats = cl->n_nats,
        .marks = cl->marks,
    };
    draft->nw_proto = conn->keys[0].nw_proto;
    for (size_t i = 0; i < cl->n_nats; i++) {
        const struct conn_nat *nat = &cl->nats[i];
        struct conn_draft_nat *dn = conn_draft_add_nat(draft);

        *dn = (struct conn_draft_nat) {
            .source = nat->source,
            .leased = nat->source,
            .from = connection_endpoint(conn, nat->from),
            .to = connection_endpoint(conn, nat->to),
            .rule = nat->rule,
        };
        if (nat->source) {
            struct nat_tuple tuple;

            dn->remote = connection_endpoint(conn, nat->remote);
            get_nat_tuple(conn, nat, &tuple);
            nat_pool_ref(&tuple);
        }
    }
}

static void
release_nat_tuples(const struct connection *conn)
{
    for (size_t i = 0; i < conn->path->n; i++) {
        const struct conn_layer *cl = &conn->path->layers[i];

        for (size_t j = 0; j < cl->n_nats; j++) {
            if (cl->nats[j].source) {
                struct nat_tuple tuple;

                get_nat_tuple(conn, &cl->nats[j], &tuple);
                nat_pool_release(&tuple);
            }
        }
    }
}

static void
connection_free(struct connection *conn)
{
    size_t n_extra = conn->path->n_extra;

    if (conn->path->snat) {
        release_nat_tuples(conn);
    }
    conn_path_unref(conn->path);
    conn_live_unref(conn->live);
    if (n_extra <= MAX_POOLED_EXTRA) {
        object_pool_free(conn_pools[n_extra], conn);
    } else {
        free(conn);
    }
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

/* Returns the time, in ms, until which 'conn' lasts without a packet where it
 * has the timeouts 'seconds'. */
static long long int
expires(const struct connection *conn, const uint32_t seconds[N_CONN_STATES])
{
    struct conn_progress progress = connection_progress(conn);
    long long int used;

    atomic_read_relaxed(&conn->live->used, &used);
    return used + seconds[progress.state] * 1000LL;
}

/* Returns the time, in ms, at which 'cl', of 'conn', times out. */
static long long int
conn_layer_expires(const struct connection *conn, const struct conn_layer *cl)
{
    return expires(conn, cl->layer->timeouts.seconds);
}

/* Returns the time, in ms, at which 'conn' loses a layer flow unless there is
 * a packet. */
long long int
connection_expires(const struct connection *conn)
{
    return expires(conn, conn->path->expires);
}

/* Returns true if 'conn' as a whole is over at 'now': no layer flow is left,
 * or one that translated addresses is gone. */
static bool
connection_is_over(const struct connection *conn, long long int now)
{
    return expires(conn, conn->path->over) <= now;
}

/* Returns 'conn''s layer flow in 'layer', of whatever version, NULL if it has
 * none or that has timed out at 'now'. */
const struct conn_layer *
connection_find_layer(const struct connection *conn, const struct layer *layer,
                      long long int now)
{
    const struct conn_layer *cl = conn_path_find(conn->path, layer, 0);

    return cl && conn_layer_expires(conn, cl) > now ? cl : NULL;
}

/* Credits to the rules of 'conn''s layer flows packets in direction 'dir' that
 * these let pass. */
void
connection_credit_rules(const struct connection *conn,
                        enum layer_direction dir,
                        const struct dpif_flow_stats *stats)
{
    for (size_t i = 0; i < conn->path->n; i++) {
        const struct conn_layer *cl = &conn->path->layers[i];

        for (size_t j = 0; cl->dir == dir && j < cl->n_uses; j++) {
            rule_stats_credit(cl->uses[j], stats);
        }
    }
}

/* Stores in 'flow' the packet that opened 'conn', as it entered the port, with
 * the tuple that 'conn' has now. */
void
connection_get_opener(const struct connection *conn, struct flow *flow)
{
    const struct conn_live *live = conn->live;
    const struct conn_key *key = &conn->keys[live->dir];

    conn_opener_expand(live->opener, flow);
    flow->ipv6_label = live->ipv6_label;
    if (flow->dl_type == htons(ETH_TYPE_IP)) {
        flow->nw_src = in6_addr_get_mapped_ipv4(&key->src);
        flow->nw_dst = in6_addr_get_mapped_ipv4(&key->dst);
    } else {
        flow->ipv6_src = key->src;
        flow->ipv6_dst = key->dst;
    }
    if (nw_proto_has_ports(flow->nw_proto)) {
        flow->tp_src = key->tp_src;
        flow->tp_dst = key->tp_dst;
    }
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

struct conn_table *
conn_table_create(void)
{
    struct conn_table *table = xzalloc(sizeof *table);

    pools_init();
    ovs_mutex_init(&table->mutex);
    table->basis = random_uint32();
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        for (size_t j = 0; j < N_MAPS; j++) {
            cmap_init(&table->maps[i][j]);
        }
    }
    table->paths = conn_paths_create();
    ovs_list_init(&table->half_open);
    ovs_list_init(&table->others);
    ovs_list_init(&table->unsorted);
    atomic_count_inc(&n_tables);
    return table;
}

/* Returns the hash of 'key' in 'table'. */
uint32_t
conn_table_hash(const struct conn_table *table, const struct conn_key *key)
{
    return conn_key_hash(key, table->basis);
}

static struct cmap *
get_map(const struct conn_table *table, enum layer_direction dir,
        uint32_t hash)
{
    return CONST_CAST(struct cmap *,
                      &table->maps[dir][hash / (UINT32_MAX / N_MAPS + 1)]);
}

/* Counts connections that have been added to 'table', or removed. */
static void
count(struct conn_table *table, int n)
    OVS_REQUIRES(table->mutex)
{
    size_t orig;

    atomic_add_relaxed(&table->n, n, &orig);
    table->n_uncounted += n;
    if (abs(table->n_uncounted) >= COUNT_BATCH) {
        long long int orig_all;

        atomic_add_relaxed(&n_connections, table->n_uncounted, &orig_all);
        table->n_uncounted = 0;
    }
}

/* Returns about how many connections there are in all tables. */
static long long int
count_all(void)
{
    long long int n;

    atomic_read_relaxed(&n_connections, &n);
    return n;
}

/* Takes 'conn' out of 'table', and what it stood for too unless 'replaced' is
 * true. */
static void
remove__(struct conn_table *table, struct connection *conn, bool replaced)
    OVS_REQUIRES(table->mutex)
{
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        cmap_remove(get_map(table, i, conn->hashes[i]), &conn->nodes[i],
                    conn->hashes[i]);
    }
    atomic_store_relaxed(&conn->gone, true);
    if (!replaced) {
        ovs_list_remove(&conn->list_node);
        count(table, -1);
    }
    ovsrcu_postpone(connection_unref, conn);
}

void
conn_table_destroy(struct conn_table *table)
{
    if (table) {
        long long int orig;

        ovs_mutex_lock(&table->mutex);
        for (size_t i = 0; i < N_MAPS; i++) {
            struct connection *conn;

            CMAP_FOR_EACH (conn, nodes[0], &table->maps[0][i]) {
                remove__(table, conn, false);
            }
        }
        atomic_add_relaxed(&n_connections, table->n_uncounted, &orig);
        ovs_mutex_unlock(&table->mutex);

        for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
            for (size_t j = 0; j < N_MAPS; j++) {
                cmap_destroy(&table->maps[i][j]);
            }
        }
        ovs_mutex_destroy(&table->mutex);
        conn_paths_unref(table->paths);
        atomic_count_dec(&n_tables);
        free(table);
    }
}

static struct connection *
find(const struct conn_table *table, enum layer_direction dir,
     const struct conn_key *key, uint32_t hash)
{
    const struct cmap *map = get_map(table, dir, hash);
    struct connection *conn;

    if (dir == LAYER_OUTBOUND) {
        CMAP_FOR_EACH_WITH_HASH (conn, nodes[LAYER_OUTBOUND], hash, map) {
            if (!memcmp(&conn->keys[LAYER_OUTBOUND], key, sizeof *key)) {
                return conn;
            }
        }
    } else {
        CMAP_FOR_EACH_WITH_HASH (conn, nodes[LAYER_INBOUND], hash, map) {
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
    return conn_table_lookup_hash(table, dir, key,
                                  conn_table_hash(table, key), now);
}

/* conn_table_lookup() for who knows conn_table_hash() of 'key', 'hash'. */
const struct connection *
conn_table_lookup_hash(const struct conn_table *table,
                       enum layer_direction dir, const struct conn_key *key,
                       uint32_t hash, long long int now)
{
    const struct connection *conn = find(table, dir, key, hash);

    return conn && !connection_is_over(conn, now) ? conn : NULL;
}

/* Fetches into the processor's cache what the look-up of 'hash' in direction
 * 'dir', or an insertion, looks at. */
void
conn_table_prefetch(const struct conn_table *table, enum layer_direction dir,
                    uint32_t hash)
{
    cmap_prefetch(get_map(table, dir, hash), hash);
}

/* Puts 'conn' in the list that it belongs to, at the end. */
static void
enlist(struct conn_table *table, struct connection *conn)
    OVS_REQUIRES(table->mutex)
{
    struct conn_progress progress = connection_progress(conn);

    ovs_list_push_back(conn_progress_is_half_open(&progress)
                       ? &table->half_open : &table->others,
                       &conn->list_node);
}

/* Puts up to 'n' connections that are unsorted in the lists that they belong
 * to.  Returns true if there are more. */
static bool
sort(struct conn_table *table, int n)
    OVS_REQUIRES(table->mutex)
{
    for (int i = 0; i < n && !ovs_list_is_empty(&table->unsorted); i++) {
        enlist(table, CONTAINER_OF(ovs_list_pop_front(&table->unsorted),
                                   struct connection, list_node));
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
    struct connection *conn = NULL;
    uint64_t orig;

    sort(table, EVICT_TRIES);
    for (int i = 0; i < EVICT_TRIES && !ovs_list_is_empty(&table->half_open);
         i++) {
        conn = CONTAINER_OF(ovs_list_front(&table->half_open),
                            struct connection, list_node);
        struct conn_progress progress = connection_progress(conn);
        if (conn_progress_is_half_open(&progress)) {
            goto found;
        }
        ovs_list_remove(&conn->list_node);
        enlist(table, conn);
    }
    for (int i = 0; i < EVICT_TRIES && !ovs_list_is_empty(&table->others);
         i++) {
        long long int used;

        conn = CONTAINER_OF(ovs_list_front(&table->others),
                            struct connection, list_node);
        atomic_read_relaxed(&conn->live->used, &used);
        if (used + 1000 < now) {
            goto found;
        }
        ovs_list_remove(&conn->list_node);
        ovs_list_push_back(&table->others, &conn->list_node);
    }
    if (ovs_list_is_empty(&table->others)) {
        return false;
    }
    conn = CONTAINER_OF(ovs_list_front(&table->others), struct connection,
                        list_node);

found:
    remove__(table, conn, false);
    atomic_add_relaxed(&table->evicted, 1, &orig);
    COVERAGE_INC(layered_conn_evicted);
    return true;
}

/* Returns true if 'table' must not have more connections than it has, where
 * its own limit is 'limit'. */
static bool
is_full(const struct conn_table *table, uint32_t limit)
{
    size_t n = conn_table_count(table);

    return (n >= MAX(limit, 1)
            || (count_all() >= CONN_GLOBAL_LIMIT
                && n >= CONN_GLOBAL_LIMIT / atomic_count_get(&n_tables)));
}

/* Notes that 'conn' has come into being, for conn_table_misses_version().  It
 * must be in 'table' already. */
static void
note_insertion(struct conn_table *table, const struct connection *conn)
{
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        uint32_t bucket = conn->hashes[i] % N_MISS_BUCKETS;
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

    ovs_mutex_lock(&table->mutex);
    if (old && connection_is_gone(old)) {
        result = CONN_TUPLE_IN_USE;
        goto exit;
    }
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        struct connection *other = find(table, i, &conn->keys[i],
                                        conn->hashes[i]);

        if (other && other != old) {
            if (!connection_is_over(other, time_msec())) {
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
            if (!evict(table, time_msec())) {
                result = CONN_LIMIT;
                goto exit;
            }
        }
    }

    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        cmap_insert(get_map(table, i, conn->hashes[i]), &conn->nodes[i],
                    conn->hashes[i]);
    }
    if (replaces) {
        ovs_list_replace(&conn->list_node, &old->list_node);
        /* Not before: every look-up finds one of them. */
        remove__(table, old, true);
    } else {
        uint64_t orig;

        enlist(table, conn);
        count(table, 1);
        atomic_add_relaxed(&table->opened, 1, &orig);
        COVERAGE_INC(layered_conn_opened);
    }
    note_insertion(table, conn);

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
        const struct connection *other
            = find(table, i, &keys[i], conn_table_hash(table, &keys[i]));

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
    if (!connection_is_gone(conn)) {
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
    size_t allocated = 0;

    *n = 0;
    for (size_t i = 0; i < N_MAPS; i++) {
        struct connection *conn;

        CMAP_FOR_EACH (conn, nodes[0], &table->maps[0][i]) {
            if (*n >= allocated) {
                list = x2nrealloc(list, &allocated, sizeof *list);
            }
            list[(*n)++] = connection_ref(conn);
        }
    }
    return list;
}

size_t
conn_table_count(const struct conn_table *table)
{
    size_t n;

    atomic_read_relaxed(&CONST_CAST(struct conn_table *, table)->n, &n);
    return n;
}

/* Returns how many different paths the connections of 'table' have. */
size_t
conn_table_count_paths(const struct conn_table *table)
{
    return conn_paths_count(table->paths);
}

/* Returns how many different openers the connections of 'table' have. */
size_t
conn_table_count_openers(const struct conn_table *table)
{
    return conn_paths_count_openers(table->paths);
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
    return conn_table_misses_version_hash(table, conn_table_hash(table, key));
}

/* conn_table_misses_version() for who knows conn_table_hash() of the tuple,
 * 'hash'. */
uint64_t
conn_table_misses_version_hash(const struct conn_table *table, uint32_t hash)
{
    uint32_t bucket = hash % N_MISS_BUCKETS;
    uint64_t version;

    atomic_read_explicit(&CONST_CAST(struct conn_table *, table)
                         ->insertions[bucket], &version, memory_order_acquire);
    return version;
}

/* Replaces 'conn', if it is still in 'table', by one with the layer flows of
 * 'draft', which are some of those of 'conn'. */
static void
replace(struct conn_table *table, const struct connection *conn,
        struct conn_draft *draft)
{
    struct connection *new = connection_create(
        table, conn->keys, conn->hashes, conn->version,
        conn_live_ref(conn->live), draft, NULL, NULL);

    conn_table_insert(table, new, conn, UINT32_MAX);
}

/* Replaces 'conn', if it is still in 'table', by one without the layer flow
 * 'dropped', which must not be its only one, nor translate addresses. */
void
conn_table_drop_layer(struct conn_table *table, const struct connection *conn,
                      const struct conn_layer *dropped)
{
    struct conn_draft draft;

    conn_draft_init(&draft);
    for (size_t i = 0; i < conn->path->n; i++) {
        if (&conn->path->layers[i] != dropped) {
            conn_draft_add_known(&draft, conn, &conn->path->layers[i]);
        }
    }
    replace(table, conn, &draft);
    conn_draft_uninit(&draft);
}

/* Removes 'conn', if it is still in 'table', if it is over at 'now', in ms.
 * Otherwise, replaces it by one without the layer flows that have timed out,
 * if there are any: the next packet would bring them back to life. */
void
conn_table_expire(struct conn_table *table, const struct connection *conn,
                  long long int now)
{
    struct conn_draft draft;

    if (OVS_LIKELY(connection_expires(conn) > now)) {
        return;
    } else if (connection_is_over(conn, now)) {
        conn_table_remove(table, conn);
        COVERAGE_INC(layered_conn_expired);
        return;
    }

    conn_draft_init(&draft);
    for (size_t i = 0; i < conn->path->n; i++) {
        const struct conn_layer *cl = &conn->path->layers[i];

        if (conn_layer_expires(conn, cl) > now) {
            conn_draft_add_known(&draft, conn, cl);
        }
    }
    if (draft.n_layers) {
        replace(table, conn, &draft);
    } else {
        /* Its state has changed meanwhile. */
        conn_table_remove(table, conn);
    }
    conn_draft_uninit(&draft);
}

/* Removes from 'map', of 'table', what has timed out at 'now'.  It may miss
 * something if it has removed, or replaced, something else, which it tells by
 * returning true. */
static bool
age_map(struct conn_table *table, const struct cmap *map, long long int now)
{
    struct cmap_position pos = { 0, 0, 0 };
    struct cmap_node *node;
    bool changed = false;

    for (int i = 1; (node = cmap_next_position(map, &pos)); i++) {
        const struct connection *conn = CONTAINER_OF(node, struct connection,
                                                     nodes[0]);

        if (connection_expires(conn) <= now) {
            conn_table_expire(table, conn, now);
            changed = true;
        }
        if (!(i % SLICE)) {
            ovsrcu_quiesce();
        }
    }
    return changed;
}

/* Has 'table' know which connections are half open. */
static void
sort_half_open(struct conn_table *table)
{
    bool more;

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

/* Removes from 'table' connections and layer flows that have timed out at
 * 'now', in ms, and has it know which ones are half open.  To be called for
 * all tables, from one thread, which quiesces.
 *
 * This does not go through the whole of the table each time if there are very
 * many connections, lest it is all that the thread does.  (What has timed out
 * takes part in nothing anyway.) */
void
conn_table_age(struct conn_table *table, long long int now)
{
    size_t n = AGE_MAX * N_MAPS / MAX(count_all(), 1);

    n = MIN(MAX(n, 1), N_MAPS);
    for (size_t i = 0; i < n; i++) {
        const struct cmap *map = &table->maps[0][table->next_map];

        while (age_map(table, map, now) && cmap_count(map) < SLICE) {
            continue;
        }
        table->next_map = (table->next_map + 1) % N_MAPS;
        if (!table->next_map) {
            sort_half_open(table);
        }
    }
}

/* Removes from 'table' connections that are more than 'limit', such as when
 * that has been lowered.  The caller quiesces. */
void
conn_table_shrink(struct conn_table *table, uint32_t limit)
{
    size_t max = MAX(limit, 1);

    while (conn_table_count(table) > max) {
        ovs_mutex_lock(&table->mutex);
        for (int i = 0; i < SLICE && conn_table_count(table) > max; i++) {
            evict(table, time_msec());
        }
        ovs_mutex_unlock(&table->mutex);
        ovsrcu_quiesce();
    }
}
