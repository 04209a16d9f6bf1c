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

#include "layered/ofproto-layered/layer-xlate.h"

#include "dp-packet.h"
#include "flow.h"
#include "layered/ofproto-layered/layer-packet.h"
#include "layered/ofproto-layered/layer-port.h"
#include "layered/ofproto-layered/layer-traverse.h"
#include "odp-util.h"
#include "ofproto/ofproto-dpif-trace.h"
#include "ofproto/ofproto-dpif-xlate-cache.h"
#include "ofproto/ofproto-dpif-xlate.h"
#include "ofproto/ofproto-dpif.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/ofp-actions.h"
#include "openvswitch/vlog.h"
#include "ovs-thread.h"
#include "packets.h"
#include "timeval.h"
#include "util.h"

VLOG_DEFINE_THIS_MODULE(layer_xlate);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(5, 20);

/* True while the calling thread sends a packet of our own, which the layers
 * are not to judge. */
DEFINE_STATIC_PER_THREAD_DATA(bool, sending, false);

/* Who wants to know what the layers do in the calling thread's
 * translations. */
struct observer {
    void (*func)(const struct layer_traversal *, void *aux);
    void *aux;
};
DEFINE_STATIC_PER_THREAD_DATA(struct observer, observer, { NULL, NULL });

/* Has FUNC be called, with AUX, for each port's layers that a packet passes in
 * a translation by the calling thread, until another call with NULL. */
void
layer_xlate_observe(void (*func)(const struct layer_traversal *, void *aux),
                    void *aux)
{
    *observer_get() = (struct observer) { func, aux };
}

/* If nonnull, the calling thread translates without layers and wants to know
 * this. */
DEFINE_STATIC_PER_THREAD_DATA(struct layer_probe *, probing, NULL);

/* Has the layers stand aside in the calling thread's translations, which are
 * to be without side effects, and notes there in 'probe' what ports packets
 * are output to, until another call with NULL. */
void
layer_xlate_probe(struct layer_probe *probe)
{
    *probing_get() = probe;
}

/* Credits
 * -------
 *
 * What the packets of a datapath flow are to be credited to, as far as one
 * port's layers go, and what makes its translation outdated. */

struct layer_credit {
    struct xc_hook up;
    struct layer_port *port;            /* Reference. */
    struct layer_stack *stack;          /* Reference, or NULL. */
    enum layer_direction dir;
    struct connection *conn;            /* Reference, or NULL. */
    bool missed;                        /* There was no connection for... */
    struct conn_key key;                /* ...this tuple... */
    uint64_t misses_version;            /* ...as of this. */
    struct named_stats *drop;           /* Reference, or NULL. */
    size_t n_rules;
    struct rule_stats *rules[];         /* References. */
};

static struct layer_credit *
layer_credit_cast(const struct xc_hook *hook)
{
    return CONTAINER_OF(hook, struct layer_credit, up);
}

/* Credits 'stats' of packets in direction 'dir' to all that 'conn' is made of.
 * 'seen' as for connection_account(). */
void
layer_xlate_credit_connection(const struct connection *conn,
                              enum layer_direction dir,
                              const struct dpif_flow_stats *stats, bool seen)
{
    connection_account(conn, dir, stats, seen);
    connection_credit_rules(conn, dir, stats);
}

/* The datapath flow of a connection goes on until it is revalidated, and so
 * forwards packets of one that has taken the place of the connection
 * meanwhile, such as the last of its handshake.  Has that know. */
static void
tell_successor(const struct layer_credit *credit,
               const struct dpif_flow_stats *stats)
{
    const struct connection *old = credit->conn;
    const struct connection *new;

    if (!stats->n_packets || !connection_is_gone(old)) {
        return;
    }
    new = conn_table_lookup(credit->port->conns, credit->dir,
                            &old->keys[credit->dir], time_msec());
    if (new && new->live != old->live && stats->used >= new->live->created) {
        connection_see_packet(new, credit->dir,
                              stats->tcp_flags & ~TCP_STATE_FLAGS,
                              stats->used);
    }
}

/* Credits 'stats'.  'seen' as for connection_account(). */
static void
layer_credit_push(const struct layer_credit *credit,
                  const struct dpif_flow_stats *stats, bool seen)
{
    if (credit->conn) {
        layer_xlate_credit_connection(credit->conn, credit->dir, stats, seen);
        if (!seen) {
            tell_successor(credit, stats);
        }
    }
    for (size_t i = 0; i < credit->n_rules; i++) {
        rule_stats_credit(credit->rules[i], stats);
    }
    if (credit->drop) {
        named_stats_credit(credit->drop, stats);
    }
}

/* Counts 'stats', of packets that did not need translation. */
static void
count_hits(const struct layer_credit *credit,
           const struct dpif_flow_stats *stats, bool offloaded)
{
    struct port_stats *ps = &credit->port->stats;

    if (stats->n_packets && credit->stack && credit->stack->n) {
        port_stats_hit(ps, offloaded ? TIER_NIC : TIER_DATAPATH,
                       stats->n_packets);
        if (credit->conn && connection_promote(credit->conn, credit->dir)) {
            port_stats_promote(ps);
        }
    }
}

static void
layer_credit_push_stats(struct xc_hook *hook,
                        const struct dpif_flow_stats *stats,
                        bool offloaded)
{
    const struct layer_credit *credit = layer_credit_cast(hook);

    layer_credit_push(credit, stats, false);
    count_hits(credit, stats, offloaded);
}

static bool
layer_credit_is_stale(const struct xc_hook *hook)
{
    const struct layer_credit *credit = layer_credit_cast(hook);
    bool retired = true;

    if (credit->stack) {
        atomic_read_relaxed(&credit->stack->retired, &retired);
    }
    return (retired
            || (credit->conn
                && connection_is_stale(credit->conn, time_msec()))
            || (credit->missed
                && conn_table_misses_version(credit->port->conns, &credit->key)
                   != credit->misses_version));
}

static void
layer_credit_unref(struct xc_hook *hook)
{
    struct layer_credit *credit = layer_credit_cast(hook);

    for (size_t i = 0; i < credit->n_rules; i++) {
        rule_stats_unref(credit->rules[i]);
    }
    named_stats_unref(credit->drop);
    connection_unref(credit->conn);
    layer_stack_unref(credit->stack);
    layer_port_unref(credit->port);
    free(credit);
}

static struct layer_credit *
layer_credit_create(const struct layer_traversal *t)
{
    struct port_stats *ps = &CONST_CAST(struct layer_port *, t->port)->stats;
    struct layer_credit *credit;

    credit = xmalloc(sizeof *credit + t->n_rules * sizeof *credit->rules);
    *credit = (struct layer_credit) {
        .up = {
            .push_stats = layer_credit_push_stats,
            .is_stale = layer_credit_is_stale,
            .unref = layer_credit_unref,
        },
        .port = layer_port_ref(t->port),
        .stack = t->stack ? layer_stack_ref(t->stack) : NULL,
        .dir = t->dir,
        .conn = t->conn ? connection_ref(t->conn) : NULL,
        .missed = t->tracked && !t->conn,
        .key = t->key,
        .misses_version = t->misses_version,
        .n_rules = t->n_rules,
    };
    for (size_t i = 0; i < t->n_rules; i++) {
        credit->rules[i] = rule_stats_ref(port_stats_rule(ps, t->rules[i]));
    }
    if (t->drop) {
        credit->drop = named_stats_ref(port_stats_named(
            ps, t->drop_layer ? t->drop_layer->name : "", t->drop));
    }
    return credit;
}

/* Credits the packets of 't' at once and later, as the translation wants. */
static void
account(const struct layer_traversal *t, const struct xlate_in *xin)
{
    if (xin->resubmit_stats || xin->xcache) {
        struct layer_credit *credit = layer_credit_create(t);

        if (xin->resubmit_stats && xin->resubmit_stats->n_packets) {
            layer_credit_push(credit, xin->resubmit_stats, t->commit);
            if (!t->commit) {
                count_hits(credit, xin->resubmit_stats, false);
            } else if (credit->stack && credit->stack->n) {
                port_stats_hit(&credit->port->stats,
                               t->known ? TIER_CACHE : TIER_RULES,
                               xin->resubmit_stats->n_packets);
            }
        }
        if (xin->xcache) {
            xlate_cache_add_hook(xin->xcache, &credit->up);
        } else {
            layer_credit_unref(&credit->up);
        }
    }
}

/* Credits 'stats' of packets that 't' dropped, by rules alone. */
void
layer_xlate_credit_drop(const struct layer_traversal *t,
                        const struct dpif_flow_stats *stats)
{
    struct layer_credit *credit = layer_credit_create(t);

    layer_credit_push(credit, stats, true);
    port_stats_hit(&credit->port->stats, TIER_RULES, stats->n_packets);
    layer_credit_unref(&credit->up);
}

/* Tracing. */

static void
trace_step(const struct layer_step *step, struct ovs_list *trace)
{
    struct ds ds = DS_EMPTY_INITIALIZER;

    ds_put_format(&ds, "layer %s: ", step->layer->name);
    layer_step_format(step, &ds);
    oftrace_report(trace, OFT_DETAIL, ds_cstr(&ds));
    ds_destroy(&ds);
}

static void
trace(const struct layer_traversal *t, struct ovs_list *trace_)
{
    struct ds ds = DS_EMPTY_INITIALIZER;

    ds_put_format(&ds, "%s layers of %s", layer_direction_to_string(t->dir),
                  t->port->name);
    struct ovs_list *list = &oftrace_report(trace_, OFT_BRIDGE,
                                            ds_cstr(&ds))->subs;
    for (size_t i = 0; i < t->n_steps; i++) {
        trace_step(&t->steps[i], list);
    }
    if (t->drop) {
        ds_clear(&ds);
        ds_put_format(&ds, "dropped: %s", drop_reason_to_string(t->drop));
        oftrace_report(list, OFT_DETAIL, ds_cstr(&ds));
    }
    ds_destroy(&ds);
}

/* Refusals. */

/* Gives 'packet' the addresses and ports of 'flow', as far as it is long
 * enough for such. */
static void
set_tuple(struct dp_packet *packet, const struct flow *flow)
{
    struct flow had;

    flow_extract(packet, &had);
    if (!dp_packet_l4(packet)
        || had.dl_type != flow->dl_type || had.nw_proto != flow->nw_proto) {
        return;
    }
    if (flow->dl_type == htons(ETH_TYPE_IP)) {
        packet_set_ipv4(packet, flow->nw_src, flow->nw_dst, had.nw_tos,
                        had.nw_ttl);
    } else if (flow->dl_type == htons(ETH_TYPE_IPV6)) {
        packet_set_ipv6(packet, &flow->ipv6_src, &flow->ipv6_dst, had.nw_tos,
                        had.ipv6_label, had.nw_ttl);
    }
    if (had.nw_frag & FLOW_NW_FRAG_LATER) {
        return;
    }

    size_t l4_size = dp_packet_l4_size(packet);

    if (flow->nw_proto == IPPROTO_TCP && l4_size >= TCP_HEADER_LEN) {
        packet_set_tcp_port(packet, flow->tp_src, flow->tp_dst);
    } else if (flow->nw_proto == IPPROTO_UDP && l4_size >= UDP_HEADER_LEN) {
        packet_set_udp_port(packet, flow->tp_src, flow->tp_dst);
    } else if (flow->nw_proto == IPPROTO_SCTP && l4_size >= SCTP_HEADER_LEN) {
        packet_set_sctp_port(packet, flow->tp_src, flow->tp_dst);
    }
}

/* Answers the packet, which entered 't''s port as 'entry', with a refusal:
 * back to the VM, or, as if the VM had sent it, to the network. */
static void
reject(const struct layer_traversal *t, const struct flow *entry)
{
    uint64_t stub[128 / 8];
    struct ofpbuf ofpacts = OFPBUF_STUB_INITIALIZER(stub);
    struct dp_packet *packet, *answer;
    struct flow flow;

    if (!layer_port_may_reject(t->port)) {
        return;
    }
    packet = dp_packet_clone(t->packet);
    set_tuple(packet, entry);
    flow_extract(packet, &flow);
    answer = compose_rejection(packet, &flow);
    dp_packet_delete(packet);
    if (!answer) {
        return;
    }

    flow_extract(answer, &flow);
    if (t->dir == LAYER_OUTBOUND) {
        flow.in_port.ofp_port = OFPP_NONE;
        ofpact_put_OUTPUT(&ofpacts)->port = t->port->ofp_port;
    } else {
        struct ofpact_resubmit *resubmit = ofpact_put_RESUBMIT(&ofpacts);

        flow.in_port.ofp_port = t->port->ofp_port;
        resubmit->in_port = OFPP_IN_PORT;
        resubmit->table_id = 0;
    }

    bool *sendingp = sending_get();
    bool was_sending = *sendingp;
    *sendingp = t->dir == LAYER_OUTBOUND;
    ofproto_dpif_execute_actions(
        t->port->ofproto, ofproto_dpif_get_tables_version(t->port->ofproto),
        &flow, NULL, ofpacts.data, ofpacts.size, answer);
    *sendingp = was_sending;
    dp_packet_delete(answer);
    ofpbuf_uninit(&ofpacts);
}

/* Hooks. */

/* Returns the snapshot for this translation, always the same. */
static const struct layer_snapshot *
get_snapshot(struct xlate_in *xin)
{
    if (!xin->hook_data) {
        xin->hook_data = layer_snapshot_get();
    }
    return xin->hook_data;
}

/* Returns true if the port with 'stack' may answer 'packet'.  Who gets a copy
 * of a packet of which it is not known whom it is for must not answer in the
 * name of that, and have its MAC address learned, unless it is known to be
 * it. */
static bool
may_answer(const struct xlate_hook_params *p, const struct layer_stack *stack,
           const struct flow *packet)
{
    return (p->xin->allow_side_effects
            && (!p->flood
                || (stack->self.has_mac
                    && eth_addr_equals(stack->self.mac, packet->dl_dst))));
}

static bool
traverse(const struct xlate_hook_params *p, enum layer_direction dir)
{
    const struct layer_port *port = layer_port_lookup(p->ofport);
    const struct layer_snapshot *snapshot = get_snapshot(p->xin);
    struct xlate_in *xin = p->xin;

    if (*sending_get() || !port) {
        return true;
    }

    /* A packet-out is sent, unless it is part of a bundle that fails. */
    bool side_effects = (xin->packet
                         && (xin->allow_side_effects || xin->in_packet_out));
    struct layer_traversal t = {
        .port = port,
        .stack = layer_snapshot_stack(snapshot, port),
        .version = layer_snapshot_version(snapshot),
        .dir = dir,
        .flow = &xin->flow,
        .wc = p->wc,
        .packet = CONST_CAST(struct dp_packet *, xin->packet),
        .commit = side_effects,
        .now = time_msec(),
        .cacheable = true,
    };
    struct flow entry;

    if (!t.stack) {
        t.drop = DROP_NOT_READY;
        t.cacheable = false;
        VLOG_DBG_RL(&rl, "%s: dropped a packet, policy not known yet",
                    port->name);
    } else if (t.stack->n) {
        if (side_effects) {
            entry = xin->flow;
        }
        layer_traverse(&t);
    }

    account(&t, xin);
    if (OVS_UNLIKELY(xin->trace) && (t.n_steps || t.drop)) {
        trace(&t, xin->trace);
    }
    if (OVS_UNLIKELY(observer_get()->func)) {
        observer_get()->func(&t, observer_get()->aux);
    }
    if (!t.cacheable) {
        p->xout->avoid_caching = true;
    }
    if (t.reject && side_effects && may_answer(p, t.stack, &entry)) {
        reject(&t, &entry);
    }
    layer_traversal_uninit(&t);
    return !t.drop;
}

static bool
receive(const struct xlate_hook_params *p)
{
    return OVS_UNLIKELY(*probing_get()) || traverse(p, LAYER_OUTBOUND);
}

static bool
output(const struct xlate_hook_params *p)
{
    struct layer_probe *probe = *probing_get();

    if (OVS_UNLIKELY(probe)) {
        probe->n_outputs++;
        probe->output = p->ofport;
        return true;
    }
    return traverse(p, LAYER_INBOUND);
}

const struct xlate_hooks layer_xlate_hooks = {
    .receive = receive,
    .output = output,
};
