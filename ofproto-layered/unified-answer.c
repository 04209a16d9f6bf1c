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

#include "layered/ofproto-layered/unified-answer.h"

#include "coverage.h"
#include "dp-packet.h"
#include "dpif.h"
#include "dpif-netdev.h"
#include "flow.h"
#include "layered/ofproto-layered/admission.h"
#include "layered/ofproto-layered/forwarding.h"
#include "layered/ofproto-layered/layer-packet.h"
#include "layered/ofproto-layered/layer-port.h"
#include "layered/ofproto-layered/layer-traverse.h"
#include "layered/ofproto-layered/layer-xlate.h"
#include "layered/ofproto-layered/unified-flow.h"
#include "netlink.h"
#include "odp-util.h"
#include "ofproto/ofproto-dpif-upcall.h"
#include "ofproto/ofproto-dpif-xlate.h"
#include "ofproto/ofproto-dpif.h"
#include "openvswitch/list.h"
#include "openvswitch/ofpbuf.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "packets.h"
#include "timeval.h"
#include "util.h"

COVERAGE_DEFINE(layered_answer_hit);
COVERAGE_DEFINE(layered_answer_open);
COVERAGE_DEFINE(layered_answer_promote);
COVERAGE_DEFINE(layered_answer_leave);

/* How many promotions a datapath makes in a second, and at once.  Each costs
 * about 20 us, so that a host with more connections that prove themselves than
 * that spends a twentieth of a core on making datapath flows, and forwards the
 * others from the unified flow table. */
#define PROMOTE_RATE 2000

/* Answers for one datapath. */
struct unified_answer {
    struct dpif_netdev_miss_hook poll_hook; /* One of these */
    struct udpif_miss_hook upcall_hook;     /* is set. */
    struct ovs_list list_node;          /* In 'answers'. */
    struct dpif_backer *backer;
    struct unified_table *table;
    struct forwarding_cache *forwardings;
    atomic_uint32_t promotions;         /* That may be made. */
};

static struct ovs_mutex mutex = OVS_MUTEX_INITIALIZER;
static struct ovs_list answers OVS_GUARDED_BY(mutex)
    = OVS_LIST_INITIALIZER(&answers);

/* A packet on its way to a flow. */
struct opening {
    struct unified_answer *ua;
    const struct dp_packet *packet;
    const struct miniflow *headers;
    uint32_t hash;
    struct unified_flow *old;           /* That does not hold any more. */
    uint64_t generation;
    long long int now;

    struct flow entry;                  /* As the packet came. */
    struct flow flow;                   /* As it is now. */
    struct flow_wildcards wc;
    struct layer_traversal traversals[UNIFIED_MAX_STAGES];
    size_t n;
};

/* Takes the packet through the layers of 'port' in direction 'dir'.  Returns
 * false if that drops it, or its policy is not known. */
static bool
pass_layers(struct opening *o, const struct layer_snapshot *snapshot,
            const struct layer_port *port, enum layer_direction dir)
{
    struct layer_traversal *t = &o->traversals[o->n++];

    memset(t, 0, offsetof(struct layer_traversal, steps_stub));
    t->port = port;
    t->stack = layer_snapshot_stack(snapshot, port);
    t->version = layer_snapshot_version(snapshot);
    t->dir = dir;
    t->flow = &o->flow;
    t->wc = &o->wc;
    t->packet = CONST_CAST(struct dp_packet *, o->packet);
    t->commit = true;
    t->sees_all = true;
    t->now = o->now;
    t->cacheable = true;
    if (!t->stack) {
        t->drop = DROP_NOT_READY;
    } else if (t->stack->n) {
        layer_traverse(t);
    }
    return !t->drop;
}

/* Returns true if the drop by the last layers that the packet has passed is
 * done with: nothing has to be sent, and no datapath flow made. */
static bool
finish_drop(struct opening *o)
{
    const struct layer_traversal *t = &o->traversals[o->n - 1];
    const struct dpif_flow_stats stats = {
        .n_packets = 1,
        .n_bytes = dp_packet_size(o->packet),
        .used = o->now,
        .tcp_flags = ntohs(o->entry.tcp_flags),
    };

    if (!t->stack || t->reject || t->cacheable || o->n > 1) {
        return false;
    }
    layer_xlate_credit_drop(t, &stats);
    return true;
}

/* Stores in 'conns' the connections of the packet, by stage, NULL where there
 * is none.  Returns those that it has opened, as bits. */
static uint8_t
get_connections(const struct opening *o,
                const struct connection *conns[UNIFIED_MAX_STAGES])
{
    uint8_t opened = 0;

    for (size_t i = 0; i < UNIFIED_MAX_STAGES; i++) {
        const struct layer_traversal *t = &o->traversals[i];

        conns[i] = i < o->n ? t->conn : NULL;
        opened |= (conns[i] && !t->known) << i;
    }
    return opened;
}

/* Leaves the packet, which may have opened connections, to translation. */
static bool
leave(const struct opening *o)
{
    const struct connection *conns[UNIFIED_MAX_STAGES];
    uint8_t opened = get_connections(o, conns);

    layer_traverse_hand_over(conns, o->n, opened);
    COVERAGE_INC(layered_answer_leave);
    return false;
}

/* Makes '*stage' of what 't' has done, with room for rules in 'rules', of
 * which there are '*n_rules' already and at most 'max_rules'.  Returns false
 * if that is not possible. */
static bool
make_stage(const struct layer_traversal *t, struct rule_stats **rules,
           size_t *n_rules, size_t max_rules, struct unified_stage *stage)
{
    struct port_stats *ps = &CONST_CAST(struct layer_port *, t->port)->stats;

    if (t->n_rules > max_rules - *n_rules || (t->tracked && !t->conn)) {
        return false;
    }
    *stage = (struct unified_stage) {
        .port = CONST_CAST(struct layer_port *, t->port),
        .stack = CONST_CAST(struct layer_stack *, t->stack),
        .dir = t->dir,
        .stateful = t->conn != NULL,
        .n_rules = t->n_rules,
        .rules = rules + *n_rules,
    };
    for (size_t i = 0; i < t->n_rules; i++) {
        rules[(*n_rules)++] = port_stats_rule(ps, t->rules[i]);
    }
    return true;
}

/* Adds the flow that forwards the packet, and those like it, by 'f'.  Returns
 * NULL if there cannot be one. */
static struct unified_flow *
add_flow(struct opening *o, const struct forwarding *f)
{
    const struct connection *conns[UNIFIED_MAX_STAGES];
    uint8_t opened = get_connections(o, conns);
    struct unified_stage stages[UNIFIED_MAX_STAGES];
    struct unified_flow *uf = NULL;
    struct rule_stats *rules[32];
    uint64_t stub[512 / 8];
    struct ofpbuf actions = OFPBUF_STUB_INITIALIZER(stub);
    struct flow_wildcards *wc = &o->wc;
    struct unified_route *route;
    struct flow base;
    size_t n_rules = 0;

    if (!conns[0] && !conns[1]) {
        return NULL;
    }
    for (size_t i = 0; i < o->n; i++) {
        if (!make_stage(&o->traversals[i], rules, &n_rules, ARRAY_SIZE(rules),
                        &stages[i])) {
            return NULL;
        }
    }

    base = o->entry;
    if (commit_odp_actions(&o->flow, &base, &actions, wc,
                           o->ua->backer->rt_support.masked_set_action,
                           false, false, NULL)) {
        goto exit;
    }
    ofpbuf_put(&actions, f->actions, f->actions_len);
    flow_wildcards_or(wc, wc, &f->wc);

    /* The flow itself matches the tuple. */
    wc->masks.nw_proto = 0;
    wc->masks.nw_src = wc->masks.nw_dst = 0;
    wc->masks.ipv6_src = wc->masks.ipv6_dst = in6addr_any;
    if (nw_proto_has_ports(o->entry.nw_proto)) {
        wc->masks.tp_src = wc->masks.tp_dst = 0;
    }

    route = unified_table_get_route(o->ua->table, f, o->generation, stages,
                                    o->n, &o->entry, wc, o->headers);
    uf = unified_table_insert(o->ua->table, o->hash, o->old, route, conns,
                              opened, dp_packet_size(o->packet), actions.data,
                              actions.size);

exit:
    ofpbuf_uninit(&actions);
    return uf;
}

/* Returns true if the packet is to have a datapath flow at once. */
static bool
admits_at_once(const struct opening *o)
{
    const struct admission a
        = layer_port_get_admission(o->traversals[0].port);

    if (a.packets || ntohs(o->entry.tcp_flags) & TCP_STATE_FLAGS) {
        return false;
    }
    for (size_t i = 0; i < o->n; i++) {
        const struct layer_traversal *t = &o->traversals[i];

        if (t->conn && !connection_can_cache(t->conn, t->dir)) {
            return false;
        }
    }
    return true;
}

/* Where packets come from. */
struct origin {
    const struct unified_answer *ua;
    uint32_t odp_port;
    const struct layer_port *port;      /* NULL if not of a layered bridge. */
    struct ofproto_dpif *ofproto;       /* Its bridge, */
    ofp_port_t ofp_port;                /* and number there. */
};

/* What answer() is going to look up. */
struct expected {
    const struct miniflow *packet;
    struct conn_key key;
    uint32_t hash;
};

/* That of a batch of packets, in their order.  Valid until the thread
 * quiesces, which it does not do within a batch. */
struct expectation {
    struct expected list[NETDEV_MAX_BURST];
    size_t i, n;
    struct origin origin;               /* Of the first that is not known. */
};
DEFINE_STATIC_PER_THREAD_DATA(struct expectation, expectation, { .n = 0 });

/* Stores in '*origin' where packets with 'flow' come from. */
static void
find_origin(const struct unified_answer *ua, const struct flow *flow,
            struct origin *origin)
{
    origin->ua = ua;
    origin->odp_port = odp_to_u32(flow->in_port.odp_port);
    origin->ofproto = xlate_lookup_ofproto(ua->backer, flow,
                                           &origin->ofp_port, NULL);
    origin->port = (origin->ofproto
                    ? layer_port_lookup_number(origin->ofproto,
                                               origin->ofp_port) : NULL);
}

/* Stores in '*origin' where the packet of 'o' comes from.  Several packets of
 * a batch should not each take the lock that find_origin() takes, which all
 * threads share. */
static void
get_origin(const struct opening *o, struct origin *origin)
{
    const struct origin *known = &expectation_get()->origin;

    if (known->port && known->ua == o->ua
        && known->odp_port == odp_to_u32(o->entry.in_port.odp_port)
        && !flow_tnl_dst_is_set(&o->entry.tunnel)) {
        *origin = *known;
    } else {
        find_origin(o->ua, &o->entry, origin);
    }
}

/* Takes the packet through layers and forwarding.  As answer(). */
static bool
open_flow(struct opening *o, const struct nlattr **actions,
          size_t *actions_len)
{
    const struct layer_snapshot *snapshot = layer_snapshot_get();
    const struct layer_port *out;
    const struct forwarding *f;
    struct origin origin;

    get_origin(o, &origin);
    if (!origin.port || (o->entry.tunnel.flags & FLOW_TNL_F_UDPIF
                         && o->entry.tunnel.metadata.present.len)) {
        /* Not ours, or with options whose form is the datapath's. */
        return false;
    }
    layer_traverse_hand_over(NULL, 0, 0);

    o->flow = o->entry;
    if (!pass_layers(o, snapshot, origin.port, LAYER_OUTBOUND)) {
        *actions = NULL;
        *actions_len = 0;
        return finish_drop(o) || leave(o);
    }

    f = forwarding_find(o->ua->forwardings, origin.ofproto, origin.ofp_port,
                        &o->flow, o->generation);
    if (!f || !f->usable) {
        return leave(o);
    }

    out = f->output ? layer_port_lookup(f->output) : NULL;
    if (f->output && !out) {
        return leave(o);
    }
    if (out) {
        if (!pass_layers(o, snapshot, out, LAYER_INBOUND)) {
            return leave(o);
        }
        if (o->traversals[1].stack->n && !f->plain) {
            return leave(o);
        }
    }

    struct unified_flow *uf = admits_at_once(o) ? NULL : add_flow(o, f);

    if (!uf) {
        return leave(o);
    }
    *actions = (const struct nlattr *) uf->actions;
    *actions_len = uf->actions_len;
    COVERAGE_INC(layered_answer_open);
    return true;
}

/* Has the connections of 'uf' see a packet with 'tcp_flags' of its direction.
 * Returns false, having changed nothing, if that opens one anew. */
static bool
see_packet(const struct unified_flow *uf, uint16_t tcp_flags,
           long long int now)
{
    const struct unified_route *route = uf->route;

    if (OVS_UNLIKELY(tcp_flags & TCP_SYN)) {
        for (size_t i = 0; i < route->n_stages; i++) {
            if (uf->conns[i]
                && connection_may_reopen(uf->conns[i], tcp_flags,
                                         route->stages[i].dir)) {
                return false;
            }
        }
    }
    for (size_t i = 0; i < route->n_stages; i++) {
        if (uf->conns[i]) {
            connection_see_packet(uf->conns[i], route->stages[i].dir,
                                  tcp_flags, now);
        }
    }
    return true;
}

/* Returns true if all connections of 'uf' are in a state in which a datapath
 * flow may forward their packets. */
static bool
can_promote(const struct unified_flow *uf)
{
    for (size_t i = 0; i < uf->route->n_stages; i++) {
        if (uf->conns[i]
            && !connection_can_cache(uf->conns[i],
                                     uf->route->stages[i].dir)) {
            return false;
        }
    }
    return true;
}

/* Takes note of a packet of 'uf' of 'size' bytes that a datapath flow could
 * have forwarded, at 'now'.  Returns true if it should, and so be made. */
static bool
admit(struct unified_answer *ua, struct unified_flow *uf, size_t size,
      long long int now)
{
    const struct admission a
        = layer_port_get_admission(uf->route->stages[0].port);
    const struct connection *conn = uf->conns[uf->route->key_stage];
    uint32_t packets, bytes, promotions;
    bool admitted = false;

    /* Another thread may do the same at the same time; a packet more or less
     * does not matter. */
    atomic_read_relaxed(&uf->recent_packets, &packets);
    atomic_read_relaxed(&uf->recent_bytes, &bytes);
    packets++;
    bytes = MIN(bytes, UINT32_MAX / 2) + size;
    if (OVS_UNLIKELY(admission_admits(&a, packets, bytes,
                                      now - conn->live->created))
        && can_promote(uf)) {
        if (!a.packets) {
            return true;
        }
        atomic_read_relaxed(&ua->promotions, &promotions);
        if (promotions) {
            atomic_store_relaxed(&ua->promotions, promotions - 1);
            packets = bytes = 0;
            admitted = true;
        }
    }
    atomic_store_relaxed(&uf->recent_packets, packets);
    atomic_store_relaxed(&uf->recent_bytes, bytes);
    return admitted;
}

static bool
get_key(const struct unified_answer *ua, const struct miniflow *packet,
        struct conn_key *key, uint32_t *hash)
{
    uint32_t in_port;

    if (!conn_key_from_miniflow(packet, key)) {
        return false;
    }
    in_port = MINIFLOW_GET_TYPE__(packet, uint32_t, in_port);
    *hash = unified_table_hash(ua->table, key, u32_to_odp(in_port));
    return true;
}

/* Fetches what is needed to open connections for the packets of 'e' other than
 * 'known', bits, as far as they come from the same port as the first one. */
static void
expect_openings(const struct unified_answer *ua, struct expectation *e,
                uint32_t known)
{
    struct origin *origin = &e->origin;

    for (size_t i = 0; i < e->n; i++) {
        const struct miniflow *packet = e->list[i].packet;

        if (known & UINT32_C(1) << i) {
            continue;
        }
        if (!origin->port) {
            struct flow flow;

            miniflow_expand(packet, &flow);
            if (!flow_tnl_dst_is_set(&flow.tunnel)) {
                find_origin(ua, &flow, origin);
            }
            if (!origin->port) {
                return;
            }
        }
        if (MINIFLOW_GET_TYPE__(packet, uint32_t, in_port)
            == origin->odp_port) {
            const struct conn_table *conns = origin->port->conns;

            conn_table_prefetch(conns, LAYER_OUTBOUND,
                                conn_table_hash(conns, &e->list[i].key));
        }
    }
}

/* Implementation of 'expect' in struct dpif_netdev_miss_hook. */
static void
expect(struct dpif_netdev_miss_hook *hook,
       const struct miniflow *const packets[], size_t n)
{
    struct unified_answer *ua = CONTAINER_OF(hook, struct unified_answer,
                                              poll_hook);
    struct expectation *e = expectation_get();
    uint32_t hashes[NETDEV_MAX_BURST];

    ovs_assert(n <= ARRAY_SIZE(e->list));
    e->i = e->n = 0;
    e->origin.port = NULL;
    for (size_t i = 0; i < n; i++) {
        struct expected *next = &e->list[e->n];

        if (get_key(ua, packets[i], &next->key, &next->hash)) {
            next->packet = packets[i];
            hashes[e->n++] = next->hash;
        }
    }
    expect_openings(ua, e, unified_table_prefetch(ua->table, hashes, e->n));
}

/* As get_key(), if possible from what expect() has found out. */
static bool
get_expected_key(const struct unified_answer *ua,
                 const struct miniflow *packet, struct conn_key *key,
                 uint32_t *hash)
{
    struct expectation *e = expectation_get();

    if (OVS_LIKELY(e->i < e->n && e->list[e->i].packet == packet)) {
        *key = e->list[e->i].key;
        *hash = e->list[e->i].hash;
        e->i++;
        return true;
    }
    return get_key(ua, packet, key, hash);
}

/* If it is known what becomes of 'packet', whose headers and metadata are
 * 'mf', stores that in '*actions' and '*actions_len' and returns true.
 * Otherwise returns false to have it translated by the same thread, next. */
static bool
answer(struct unified_answer *ua, const struct dp_packet *packet,
       const struct miniflow *mf, long long int now,
       const struct nlattr **actions, size_t *actions_len)
{
    struct unified_flow *uf;
    struct conn_key key;
    uint64_t generation;
    uint64_t orig;
    uint32_t hash;

    if (!get_expected_key(ua, mf, &key, &hash)) {
        return false;
    }

    generation = udpif_reval_seqno(ua->backer->udpif);
    uf = unified_table_lookup(ua->table, &key, hash, mf);
    if (OVS_LIKELY(uf && unified_flow_is_valid(uf, generation, now))) {
        uint16_t tcp_flags = miniflow_get_tcp_flags(mf);
        size_t size = dp_packet_size(packet);

        if (OVS_LIKELY(see_packet(uf, tcp_flags, now))) {
            if (!(tcp_flags & TCP_STATE_FLAGS) && admit(ua, uf, size, now)) {
                layer_traverse_hand_over(
                    (const struct connection *const *) uf->conns,
                    uf->route->n_stages, 0);
                COVERAGE_INC(layered_answer_promote);
                return false;
            }
            atomic_add_relaxed(&uf->traffic, UNIFIED_PACKET(size), &orig);
            *actions = (const struct nlattr *) uf->actions;
            *actions_len = uf->actions_len;
            COVERAGE_INC(layered_answer_hit);
            return true;
        }
    }

    struct opening o;
    bool done;

    /* Not all of it, as it is large. */
    o.ua = ua;
    o.packet = packet;
    o.headers = mf;
    o.hash = hash;
    o.old = uf;
    o.generation = generation;
    o.now = now;
    miniflow_expand(mf, &o.entry);
    flow_wildcards_init_catchall(&o.wc);
    o.n = 0;
    done = open_flow(&o, actions, actions_len);
    for (size_t i = 0; i < o.n; i++) {
        layer_traversal_uninit(&o.traversals[i]);
    }
    return done;
}

/* Implementation of 'answer' in struct dpif_netdev_miss_hook. */
static bool
answer_poll(struct dpif_netdev_miss_hook *hook, const struct dp_packet *packet,
            const struct miniflow *mf, long long int now,
            const struct nlattr **actions, size_t *actions_len)
{
    return answer(CONTAINER_OF(hook, struct unified_answer, poll_hook), packet,
                  mf, now, actions, actions_len);
}

/* Implementation of 'answer' in struct udpif_miss_hook. */
static bool
answer_upcall(struct udpif_miss_hook *hook, const struct dp_packet *packet,
              const struct flow *flow, const struct nlattr **actions,
              size_t *actions_len)
{
    struct {
        struct miniflow mf;
        uint64_t buf[FLOW_U64S];
    } m;

    miniflow_map_init(&m.mf, flow);
    miniflow_init(&m.mf, flow);
    return answer(CONTAINER_OF(hook, struct unified_answer, upcall_hook),
                  packet, &m.mf, time_msec(), actions, actions_len);
}

/* Has the datapath of 'ua' ask it, or ask it no more: the userspace datapath
 * in the threads that poll ports, others in the handlers of upcalls. */
static void
set_hook(struct unified_answer *ua, bool ask)
{
    struct dpif_backer *backer = ua->backer;

    if (dpif_is_netdev(backer->dpif)) {
        dpif_netdev_set_miss_hook(backer->dpif, ask ? &ua->poll_hook : NULL);
    } else {
        udpif_set_miss_hook(backer->udpif, ask ? &ua->upcall_hook : NULL);
    }
}

/* Returns the answers for 'backer', NULL if there are none. */
static struct unified_answer *
find(const struct dpif_backer *backer)
    OVS_REQUIRES(mutex)
{
    struct unified_answer *ua;

    LIST_FOR_EACH (ua, list_node, &answers) {
        if (ua->backer == backer) {
            return ua;
        }
    }
    return NULL;
}

/* Answers for misses of 'backer', until unified_answer_disable().  For the
 * main thread. */
void
unified_answer_enable(struct dpif_backer *backer)
{
    struct unified_answer *ua;

    ovs_mutex_lock(&mutex);
    if (!find(backer)) {
        ua = xmalloc(sizeof *ua);
        ua->poll_hook.expect = expect;
        ua->poll_hook.answer = answer_poll;
        ua->upcall_hook.answer = answer_upcall;
        ua->backer = backer;
        ua->table = unified_table_create();
        ua->forwardings = forwarding_cache_create();
        atomic_init(&ua->promotions, PROMOTE_RATE);
        ovs_list_push_back(&answers, &ua->list_node);
        set_hook(ua, true);
    }
    ovs_mutex_unlock(&mutex);
}

static void
destroy(struct unified_answer *ua)
{
    unified_table_destroy(ua->table);
    forwarding_cache_destroy(ua->forwardings);
    free(ua);
}

/* Undoes unified_answer_enable(), if need be.  For the main thread, before
 * 'backer' is closed, which waits for the RCU grace period. */
void
unified_answer_disable(struct dpif_backer *backer)
{
    struct unified_answer *ua;

    ovs_mutex_lock(&mutex);
    ua = find(backer);
    if (ua) {
        set_hook(ua, false);
        ovs_list_remove(&ua->list_node);
        ovsrcu_postpone(destroy, ua);
    }
    ovs_mutex_unlock(&mutex);
}

static void
run(struct unified_answer *ua, long long int now, bool age)
{
    uint64_t generation = udpif_reval_seqno(ua->backer->udpif);

    unified_table_run(ua->table, generation, now, age);
    if (age) {
        forwarding_cache_run(ua->forwardings, generation);
        atomic_store_relaxed(&ua->promotions, PROMOTE_RATE);
    }
}

/* Credits what has been forwarded, and removes what is outdated at 'now', in
 * ms. */
void
unified_answer_age(long long int now)
{
    struct unified_answer *ua;

    ovs_mutex_lock(&mutex);
    LIST_FOR_EACH (ua, list_node, &answers) {
        run(ua, now, true);
    }
    ovs_mutex_unlock(&mutex);
}

/* Credits what has been forwarded until now, and removes what is outdated. */
void
unified_answer_run(void)
{
    struct unified_answer *ua;

    ovs_mutex_lock(&mutex);
    LIST_FOR_EACH (ua, list_node, &answers) {
        run(ua, time_msec(), false);
    }
    ovs_mutex_unlock(&mutex);
}

/* Returns how much there is in all tables. */
struct unified_sizes
unified_answer_get_sizes(void)
{
    struct unified_sizes sizes = { .flows = 0 };
    struct unified_answer *ua;

    ovs_mutex_lock(&mutex);
    LIST_FOR_EACH (ua, list_node, &answers) {
        sizes.flows += unified_table_count(ua->table);
        sizes.routes += unified_table_count_routes(ua->table);
        sizes.forwardings += forwarding_cache_count(ua->forwardings);
    }
    ovs_mutex_unlock(&mutex);
    return sizes;
}
