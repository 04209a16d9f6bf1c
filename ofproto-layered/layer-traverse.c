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

#include "layered/ofproto-layered/layer-traverse.h"

#include <netinet/icmp6.h>

#include "dp-packet.h"
#include "flow.h"
#include "hash.h"
#include "layered/ofproto-layered/layer-packet.h"
#include "layered/ofproto-layered/nat-pool.h"
#include "odp-util.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/match.h"
#include "ovs-rcu.h"
#include "packets.h"
#include "timeval.h"
#include "util.h"

/* So many connections are judged again between two quiescent states. */
#define REJUDGE_SLICE 256

/* Internals of a traversal. */
struct walk {
    struct layer_traversal *t;
    bool trackable;             /* 'key' is valid... */
    struct conn_key key;        /* ...of the packet as it entered the port. */
    uint32_t hash;              /* conn_table_hash() of 'key'. */
    const struct connection *former; /* Its translations should be kept. */
    bool again;                 /* 'former' is judged again. */
    bool related;               /* An ICMP error about 't->conn'. */
    bool may_expire;            /* Has any of its layer flows timed out? */
    size_t hint;                /* Where its next layer flow might be. */
    struct conn_draft pending;  /* Layer flows that the packet is about to
                                 * make, by the traversal's 'rules'. */
};

/* Conversion between flows and endpoints. */

static struct in6_addr
flow_src(const struct flow *flow)
{
    return (flow->dl_type == htons(ETH_TYPE_IP)
            ? in6_addr_mapped_ipv4(flow->nw_src) : flow->ipv6_src);
}

static struct in6_addr
flow_dst(const struct flow *flow)
{
    return (flow->dl_type == htons(ETH_TYPE_IP)
            ? in6_addr_mapped_ipv4(flow->nw_dst) : flow->ipv6_dst);
}

static struct conn_endpoint
flow_source(const struct flow *flow)
{
    return (struct conn_endpoint) {
        .addr = flow_src(flow),
        .port = nw_proto_has_ports(flow->nw_proto) ? flow->tp_src : 0,
    };
}

static struct conn_endpoint
flow_destination(const struct flow *flow)
{
    return (struct conn_endpoint) {
        .addr = flow_dst(flow),
        .port = nw_proto_has_ports(flow->nw_proto) ? flow->tp_dst : 0,
    };
}

/* Unwildcards what conn_key_from_flow() looks at. */
static void
unwildcard_key(const struct flow *flow, struct flow_wildcards *wc)
{
    WC_MASK_FIELD(wc, nw_proto);
    if (flow->dl_type == htons(ETH_TYPE_IP)) {
        WC_MASK_FIELD(wc, nw_src);
        WC_MASK_FIELD(wc, nw_dst);
    } else {
        WC_MASK_FIELD(wc, ipv6_src);
        WC_MASK_FIELD(wc, ipv6_dst);
    }
    if (flow->nw_frag & FLOW_NW_FRAG_LATER) {
        return;
    }
    if (nw_proto_has_ports(flow->nw_proto)) {
        WC_MASK_FIELD(wc, tp_src);
        WC_MASK_FIELD(wc, tp_dst);
    } else if (flow->nw_proto == IPPROTO_ICMP
               || flow->nw_proto == IPPROTO_ICMPV6) {
        WC_MASK_FIELD(wc, tp_src);      /* Type. */
    }
}

/* Address translation. */

static bool
nat_specs_equal(const struct layer_nat_spec *a, const struct layer_nat_spec *b)
{
    return (a->ipv6 == b->ipv6 && a->hash_src == b->hash_src
            && a->n_targets == b->n_targets
            && !memcmp(a->targets, b->targets,
                       a->n_targets * sizeof *a->targets));
}

/* Returns the 'type' action of 'rule', which must have one. */
static const struct layer_nat_spec *
find_nat_spec(const struct layer_rule *rule, enum layer_action_type type)
{
    for (size_t i = 0; i < rule->actions->n; i++) {
        if (rule->actions->list[i].type == type) {
            return rule->actions->list[i].nat;
        }
    }
    OVS_NOT_REACHED();
}

/* Returns the translation in 'former', a layer flow of 'w->former' or NULL,
 * that 'type' with 'spec' made for a packet as 'nat' is for, NULL if there is
 * none. */
static const struct conn_nat *
find_former_nat(const struct walk *w, const struct conn_layer *former,
                enum layer_action_type type, const struct layer_nat_spec *spec,
                const struct conn_draft_nat *nat)
{
    for (size_t i = 0; former && i < former->n_nats; i++) {
        const struct conn_nat *fn = &former->nats[i];
        struct conn_endpoint from, remote;

        if (fn->source != nat->source
            || !nat_specs_equal(find_nat_spec(fn->rule, type), spec)) {
            continue;
        }
        from = connection_endpoint(w->former, fn->from);
        if (!conn_endpoint_equals(&from, &nat->from)) {
            continue;
        }
        remote = connection_endpoint(w->former, fn->remote);
        if (!fn->source || conn_endpoint_equals(&remote, &nat->remote)) {
            return fn;
        }
    }
    return NULL;
}

/* Has 'nat', which translates as another connection's does, have a reference
 * of its own to the NAT pool's tuple. */
static void
share_tuple(const struct walk *w, struct conn_draft_nat *nat)
{
    struct nat_tuple tuple = {
        .addr = nat->to.addr,
        .port = nat->to.port,
        .remote = nat->remote.addr,
        .remote_port = nat->remote.port,
        .nw_proto = w->t->flow->nw_proto,
    };

    nat_pool_ref(&tuple);
    nat->leased = true;
}

static enum drop_reason
execute_snat(struct walk *w, const struct layer_rule *rule,
             const struct layer_nat_spec *spec,
             const struct conn_layer *former)
{
    struct layer_traversal *t = w->t;
    struct conn_draft_nat *nat = conn_draft_add_nat(&w->pending);
    const struct conn_nat *kept;

    w->pending.nw_proto = t->flow->nw_proto;
    nat->source = true;
    nat->leased = false;
    nat->from = flow_source(t->flow);
    nat->remote = flow_destination(t->flow);
    nat->rule = rule;
    kept = find_former_nat(w, former, LA_SNAT, spec, nat);
    if (kept) {
        nat->to = connection_endpoint(w->former, kept->to);
        if (t->commit) {
            share_tuple(w, nat);
        }
    } else {
        bool (*choose)(const struct nat_target *, uint8_t,
                       const struct in6_addr *, ovs_be16,
                       const struct in6_addr *, ovs_be16, struct nat_tuple *)
            = t->commit ? nat_pool_allocate : nat_pool_peek;
        struct nat_tuple tuple;

        if (!choose(&spec->targets[0], t->flow->nw_proto, &nat->from.addr,
                    nat->from.port, &nat->remote.addr, nat->remote.port,
                    &tuple)) {
            w->pending.n_nats--;
            return DROP_SNAT_EXHAUSTED;
        }
        nat->to.addr = tuple.addr;
        nat->to.port = tuple.port;
        nat->leased = t->commit;
    }
    conn_set_source(&nat->to, t->flow, t->wc);
    return DROP_NONE;
}

static void
execute_dnat(struct walk *w, const struct layer_rule *rule,
             const struct layer_nat_spec *spec,
             const struct conn_layer *former)
{
    struct layer_traversal *t = w->t;
    struct conn_draft_nat *nat = conn_draft_add_nat(&w->pending);
    const struct conn_nat *kept;

    nat->source = false;
    nat->leased = false;
    nat->from = flow_destination(t->flow);
    nat->rule = rule;
    kept = find_former_nat(w, former, LA_DNAT, spec, nat);
    if (kept) {
        nat->to = connection_endpoint(w->former, kept->to);
    } else {
        const struct nat_target *target = &spec->targets[0];

        if (spec->n_targets > 1) {
            struct conn_key key;
            uint32_t hash;

            memset(&key, 0, sizeof key);
            key.src = flow_src(t->flow);
            if (!spec->hash_src) {
                key.dst = nat->from.addr;
                key.tp_src = flow_source(t->flow).port;
                key.tp_dst = nat->from.port;
                key.nw_proto = t->flow->nw_proto;
            }
            hash = conn_key_hash(&key, 0x6c62);
            target = &spec->targets[((uint64_t) hash * spec->n_targets) >> 32];
        }
        nat->to.addr = target->min;
        nat->to.port = (target->min_port && nat->from.port
                        ? htons(target->min_port) : nat->from.port);
    }
    conn_set_destination(&nat->to, t->flow, t->wc);
}

/* Replaces the source, if 'source' is true, or the destination address, if it
 * is that of 'from', by that of 'to'. */
static void
replace_address(struct layer_traversal *t, bool source,
                const struct conn_endpoint *from,
                const struct conn_endpoint *to)
{
    struct in6_addr addr = source ? flow_src(t->flow) : flow_dst(t->flow);
    struct conn_endpoint endpoint = { .addr = to->addr };

    if (!ipv6_addr_equals(&addr, &from->addr)) {
        return;
    } else if (source) {
        conn_set_source(&endpoint, t->flow, t->wc);
    } else {
        conn_set_destination(&endpoint, t->flow, t->wc);
    }
}

/* Translates the addresses of an ICMP error that goes in the direction that
 * 'cl', of 't->conn', is for, or the other one if 'reply' is true, and is
 * about a packet in the opposite direction.  It need not be from the host that
 * the packet was for. */
static void
translate_error(const struct conn_layer *cl, bool reply,
                struct layer_traversal *t)
{
    struct conn_rewrite rw;

    conn_layer_rewrite(t->conn, cl, &rw);
    if (rw.snat) {
        replace_address(t, !reply, reply ? &rw.snat_to : &rw.snat_from,
                        reply ? &rw.snat_from : &rw.snat_to);
    }
    if (rw.dnat) {
        replace_address(t, reply, reply ? &rw.dnat_to : &rw.dnat_from,
                        reply ? &rw.dnat_from : &rw.dnat_to);
    }
}

/* Rules. */

static void
add_rule(struct layer_traversal *t, const struct layer_rule *rule)
{
    if (OVS_UNLIKELY(t->n_rules >= t->allocated_rules)) {
        if (t->rules == t->rules_stub) {
            t->rules = xmemdup(t->rules_stub, sizeof t->rules_stub);
        }
        t->rules = x2nrealloc(t->rules, &t->allocated_rules, sizeof *t->rules);
    }
    t->rules[t->n_rules++] = rule;
}

/* Executes the actions of 'rule' other than its verdict on the packet.  Adds
 * what they translate to 'w->pending', and what else they set to '*marks'.
 * 'former' as for judge(). */
static enum drop_reason
execute_rule(struct walk *w, const struct layer_rule *rule,
             const struct conn_layer *former, struct conn_marks *marks)
{
    struct layer_traversal *t = w->t;
    struct flow *flow = t->flow;

    add_rule(t, rule);
    for (size_t i = 0; i < rule->actions->n; i++) {
        const struct layer_action *a = &rule->actions->list[i];
        struct conn_marks one = CONN_MARKS_INITIALIZER;
        enum drop_reason reason;

        switch (a->type) {
        case LA_SNAT:
        case LA_DNAT:
            if (!w->trackable) {
                break;
            }
            if (a->nat->ipv6 != (flow->dl_type == htons(ETH_TYPE_IPV6))) {
                return DROP_NAT_FAMILY;
            }
            if (a->type == LA_SNAT) {
                reason = execute_snat(w, rule, a->nat, former);
                if (reason) {
                    return reason;
                }
            } else {
                execute_dnat(w, rule, a->nat, former);
            }
            break;
        case LA_COUNT:
            break;
        case LA_SET_DSCP:
            marks->dscp = one.dscp = a->dscp;
            conn_marks_apply(&one, flow, t->wc);
            break;
        case LA_SET_MAC_SRC:
            marks->set_src = one.set_src = true;
            marks->dl_src = one.dl_src = a->mac;
            conn_marks_apply(&one, flow, t->wc);
            break;
        case LA_SET_MAC_DST:
            marks->set_dst = one.set_dst = true;
            marks->dl_dst = one.dl_dst = a->mac;
            conn_marks_apply(&one, flow, t->wc);
            break;
        case LA_DEC_TTL:
            marks->dec_ttl++;
            one.dec_ttl = 1;
            if (!conn_marks_apply(&one, flow, t->wc)) {
                return DROP_TTL;
            }
            break;
        }
    }
    return DROP_NONE;
}

/* Judges the packet by the rules of 'step->layer', and completes 'step'.
 * Stores what they set in '*marks', and adds what they translate to
 * 'w->pending'.  'former' is the layer flow that the connection has so far, if
 * that is judged again or opened anew. */
static enum drop_reason
judge(struct walk *w, const struct conn_layer *former,
      struct layer_step *step, struct conn_marks *marks)
{
    size_t first_nat = w->pending.n_nats;
    struct layer_traversal *t = w->t;
    const struct layer_side *side = &step->layer->sides[t->dir];
    enum layer_verdict remembered = LV_NONE;
    bool remembered_stateful = false;

    *marks = (struct conn_marks) CONN_MARKS_INITIALIZER;
    step->verdict = LV_NONE;
    for (size_t i = 0; i < side->n; i++) {
        const struct layer_group *group = side->groups[i].group;
        const struct classifier_rule *cr;
        enum layer_verdict verdict;

        if (group->match
            && !condition_matches(group->match, t->version, &t->stack->self,
                                  t->flow, t->wc)) {
            continue;
        }
        cr = layer_classifier_lookup(group->rules, t->version,
                                     &t->stack->self, t->flow, t->wc);
        if (!cr) {
            if (group->default_verdict == LV_NONE) {
                continue;
            }
            step->group = group;
            step->rule = NULL;
            step->verdict = group->default_verdict;
            step->stateful = w->pending.n_nats > first_nat;
            return step->verdict == LV_DENY ? DROP_GROUP_DEFAULT : DROP_NONE;
        }

        const struct layer_rule *rule = layer_rule_from_cr(cr);
        enum drop_reason reason = execute_rule(w, rule, former, marks);
        verdict = rule->actions->verdict;
        if (verdict != LV_NONE || reason) {
            step->group = group;
            step->rule = rule;
        }
        if (reason) {
            step->verdict = LV_DENY;
            return reason;
        }
        switch (verdict) {
        case LV_NONE:
            break;
        case LV_ALLOW:
            step->verdict = LV_ALLOW;
            step->stateful = (rule->actions->stateful
                              || w->pending.n_nats > first_nat);
            return DROP_NONE;
        case LV_DENY:
            step->verdict = LV_DENY;
            return DROP_RULE;
        case LV_REJECT:
            step->verdict = LV_REJECT;
            return DROP_REJECT;
        case LV_ALLOW_CONTINUE:
        case LV_DENY_CONTINUE:
            remembered = verdict;
            remembered_stateful = rule->actions->stateful;
            break;
        }
    }

    if (remembered == LV_DENY_CONTINUE) {
        step->verdict = LV_DENY;
        return DROP_RULE;
    }
    if (remembered == LV_NONE && side->default_verdict == LV_DENY) {
        step->group = NULL;
        step->rule = NULL;
        step->verdict = LV_DENY;
        return DROP_DEFAULT;
    }
    step->verdict = LV_ALLOW;
    step->stateful = remembered_stateful || w->pending.n_nats > first_nat;
    return DROP_NONE;
}

/* Layers. */

/* Returns the layer flow of 'w->t->conn' in 'layer', NULL if there is none. */
static const struct conn_layer *
find_layer_flow(struct walk *w, const struct layer *layer)
{
    const struct connection *conn = w->t->conn;
    const struct conn_layer *cl;

    if (OVS_UNLIKELY(w->may_expire)) {
        return connection_find_layer(conn, layer, w->t->now);
    }
    /* A connection that the other direction has opened has its layer flows
     * the other way round. */
    cl = conn_path_find(conn->path, layer, w->hint);
    if (cl) {
        w->hint = cl - conn->path->layers + (cl->dir == w->t->dir ? 1 : -1);
    }
    return cl;
}

/* Takes the packet through 'layer'.  Returns DROP_NONE to go on. */
static enum drop_reason
walk_layer(struct walk *w, struct layer *layer)
{
    struct layer_traversal *t = w->t;
    struct layer_step *step = &t->steps[t->n_steps++];
    const struct conn_layer *former = NULL;
    size_t first_rule = t->n_rules;
    size_t first_nat = w->pending.n_nats;
    struct conn_marks marks;
    enum drop_reason reason;

    *step = (struct layer_step) { .layer = layer };
    if (w->former) {
        former = conn_path_find(w->former->path, layer, t->n_steps - 1);
    } else if (t->conn) {
        const struct conn_layer *cl = find_layer_flow(w, layer);

        if (cl) {
            step->flow = cl;
            step->rule = cl->n_uses ? cl->uses[cl->n_uses - 1]->rule : NULL;
            step->verdict = LV_ALLOW;
            step->stateful = true;
            if (w->related) {
                translate_error(cl, t->dir != cl->dir, t);
                return DROP_NONE;
            }
            return (conn_layer_apply(t->conn, cl, t->dir != cl->dir,
                                     t->flow, t->wc)
                    ? DROP_NONE : DROP_TTL);
        }
    }

    reason = judge(w, former, step, &marks);
    if (!reason && step->stateful && w->trackable) {
        if (!w->again && w->key.nw_proto == IPPROTO_TCP && !layer->tcp_loose
            && !tcp_flags_open(ntohs(t->flow->tcp_flags))) {
            reason = DROP_NO_CONNECTION;
            step->verdict = LV_DENY;
            step->stateful = false;
        } else {
            *conn_draft_add_layer(&w->pending) = (struct conn_draft_layer) {
                .layer = layer,
                .dir = t->dir,
                .first_rule = first_rule,
                .n_rules = t->n_rules - first_rule,
                .first_nat = first_nat,
                .n_nats = w->pending.n_nats - first_nat,
                .marks = marks,
            };
            return DROP_NONE;
        }
    } else {
        step->stateful = false;
    }
    conn_draft_drop_nats(&w->pending, first_nat);
    return reason;
}

/* Takes the packet through all layers. */
static void
walk_layers(struct walk *w)
{
    struct layer_traversal *t = w->t;
    const struct layer_stack *stack = t->stack;

    w->may_expire = t->conn && connection_expires(t->conn) <= t->now;
    w->hint = t->conn && t->dir != t->conn->live->dir ? stack->n - 1 : 0;
    for (size_t i = 0; i < stack->n; i++) {
        struct layer *layer
            = stack->layers[t->dir == LAYER_OUTBOUND
                            ? i : stack->n - 1 - i].layer;

        t->drop = walk_layer(w, layer);
        if (t->drop) {
            t->drop_layer = layer;
            t->reject = t->drop == DROP_REJECT;
            break;
        }
    }
}

static void
walk_init(struct walk *w, struct layer_traversal *t)
{
    w->t = t;
    w->trackable = false;
    w->former = NULL;
    w->again = false;
    w->related = false;
    conn_draft_init(&w->pending);
    t->steps = (t->stack->n <= ARRAY_SIZE(t->steps_stub) ? t->steps_stub
                : xmalloc(t->stack->n * sizeof *t->steps));
    t->rules = t->rules_stub;
    t->allocated_rules = ARRAY_SIZE(t->rules_stub);
}

static void
walk_uninit(struct walk *w)
{
    conn_draft_uninit(&w->pending);
}

/* Connections. */

/* Takes the rules of the layer flows that the packet is about to make out of
 * those that the traversal itself has to account for. */
static void
forget_pending_rules(struct walk *w)
{
    const struct conn_draft *d = &w->pending;
    struct layer_traversal *t = w->t;
    size_t n = 0;

    for (size_t i = 0, p = 0; i < t->n_rules; i++) {
        while (p < d->n_layers
               && (d->layers[p].known
                   || i >= (d->layers[p].first_rule
                            + d->layers[p].n_rules))) {
            p++;
        }
        if (p >= d->n_layers || i < d->layers[p].first_rule) {
            t->rules[n++] = t->rules[i];
        }
    }
    t->n_rules = n;
}

/* Returns true if any layer of 'w''s pending layer flows is loose. */
static bool
pending_is_loose(const struct walk *w)
{
    for (size_t i = 0; i < w->pending.n_layers; i++) {
        if (w->pending.layers[i].layer->tcp_loose) {
            return true;
        }
    }
    return false;
}

/* Makes the keys of a connection whose packet entered the port with 'w->key'
 * and leaves it as t->flow says, and their hashes.  Returns false if no
 * connection has such, as an address has become an IPv4-mapped one. */
static bool
make_keys(const struct walk *w, struct conn_key keys[], uint32_t hashes[])
{
    const struct layer_traversal *t = w->t;
    enum layer_direction back = layer_direction_opposite(t->dir);
    struct conn_key out;

    keys[t->dir] = w->key;
    hashes[t->dir] = w->hash;
    if (!conn_key_from_flow(t->flow, &out)) {
        return false;
    }
    conn_key_reverse(&out, &keys[back]);
    hashes[back] = conn_table_hash(t->port->conns, &keys[back]);
    conn_table_prefetch(t->port->conns, back, hashes[back]);
    return true;
}

/* Opens a connection for the packet, which the layers have let pass, or adds
 * layer flows to the one it has.  'old' is one that it opens anew, if any.
 * 'entry' is the packet as it entered the port, and is lost. */
static void
commit(struct walk *w, struct flow *entry, const struct connection *old)
{
    struct layer_traversal *t = w->t;
    struct port_stats *ps = &CONST_CAST(struct layer_port *, t->port)->stats;
    struct conn_key keys[N_LAYER_DIRECTIONS];
    uint32_t hashes[N_LAYER_DIRECTIONS];
    struct connection *conn;
    struct conn_live *live;

    if (!make_keys(w, keys, hashes)) {
        t->drop = DROP_NAT_FAMILY;
        return;
    }
    if (t->conn) {
        live = conn_live_ref(t->conn->live);
        old = t->conn;
        for (size_t i = 0; i < old->path->n; i++) {
            const struct conn_layer *cl = &old->path->layers[i];

            if (connection_find_layer(old, cl->layer, t->now)) {
                conn_draft_add_known(&w->pending, old, cl);
            }
        }
    } else {
        uint16_t tcp_flags = ntohs(entry->tcp_flags);
        bool loose = (w->key.nw_proto == IPPROTO_TCP && pending_is_loose(w)
                      && !tcp_flags_open(tcp_flags));
        struct conn_progress progress;

        conn_progress_init(&progress, w->key.nw_proto, loose);
        if (loose) {
            /* It may have FIN or RST. */
            conn_progress_packet(&progress, w->key.nw_proto, tcp_flags, false);
        }
        live = conn_live_create(t->port->conns, entry, t->dir, &progress,
                                t->now);
    }

    conn = connection_create(t->port->conns, keys, hashes, t->stack->version,
                             live, &w->pending, t->rules, ps);
    switch (conn_table_insert(t->port->conns, conn, old,
                              t->stack->flow_limit)) {
    case CONN_INSERTED:
        forget_pending_rules(w);
        t->conn = conn;
        break;
    case CONN_TUPLE_IN_USE:
        t->drop = DROP_TUPLE_IN_USE;
        break;
    case CONN_LIMIT:
        t->drop = DROP_FLOW_LIMIT;
        break;
    }
}

/* Does what commit() would do about the tuples of the connection. */
static void
check_tuples(const struct walk *w, const struct connection *old)
{
    struct layer_traversal *t = w->t;
    struct conn_key keys[N_LAYER_DIRECTIONS];
    uint32_t hashes[N_LAYER_DIRECTIONS];

    if (!make_keys(w, keys, hashes)) {
        t->drop = DROP_NAT_FAMILY;
    } else if (conn_table_has_others(t->port->conns, keys,
                                     t->conn ? t->conn : old, t->now)) {
        t->drop = DROP_TUPLE_IN_USE;
    }
}

/* Judges 'conn', of 'port', by 'stack' with its opening packet, and replaces
 * or removes it accordingly. */
static void
rejudge(const struct layer_port *port, const struct layer_stack *stack,
        uint64_t version, const struct connection *conn)
{
    struct flow_wildcards wc;
    struct connection *new = NULL;
    struct flow flow;
    struct walk w;

    connection_get_opener(conn, &flow);
    flow_wildcards_init_catchall(&wc);
    struct layer_traversal t = {
        .port = port,
        .stack = stack,
        .version = version,
        .dir = conn->live->dir,
        .flow = &flow,
        .wc = &wc,
        .commit = true,
        .now = time_msec(),
    };
    walk_init(&w, &t);
    w.former = conn;
    w.again = true;
    w.trackable = true;
    w.key = conn->keys[t.dir];
    w.hash = conn->hashes[t.dir];
    walk_layers(&w);

    struct conn_key keys[N_LAYER_DIRECTIONS];
    uint32_t hashes[N_LAYER_DIRECTIONS];
    if (!t.drop && w.pending.n_layers && make_keys(&w, keys, hashes)) {
        new = connection_create(
            port->conns, keys, hashes, stack->version,
            conn_live_ref(conn->live), &w.pending, t.rules,
            &CONST_CAST(struct layer_port *, port)->stats);
        if (conn_table_insert(port->conns, new, conn, UINT32_MAX)
            != CONN_INSERTED) {
            new = NULL;
        }
    }
    if (!new) {
        conn_table_remove(port->conns, conn);
    }
    walk_uninit(&w);
    layer_traversal_uninit(&t);
}

/* Judges again all connections of 'port' that another stack than 'stack', its
 * present one, has judged, and removes those that are more than it allows.
 * The caller has references to both.  Quiesces. */
void
layer_traverse_rejudge_all(const struct layer_port *port,
                           const struct layer_stack *stack, uint64_t version)
{
    struct connection **list;
    size_t n;

    list = conn_table_list(port->conns, &n);
    for (size_t i = 0; i < n; i++) {
        if (list[i]->version != stack->version) {
            rejudge(port, stack, version, list[i]);
        }
        connection_unref(list[i]);
        if (!(i % REJUDGE_SLICE)) {
            ovsrcu_quiesce();
        }
    }
    free(list);
    conn_table_shrink(port->conns, stack->flow_limit);
}

/* Returns the connection of 'key', whose conn_table_hash() is 'hash', judged
 * by 't->stack'. */
static const struct connection *
lookup(struct layer_traversal *t, const struct conn_key *key, uint32_t hash)
{
    const struct connection *conn;

    conn = conn_table_lookup_hash(t->port->conns, t->dir, key, hash, t->now);
    if (OVS_UNLIKELY(conn && conn->version < t->stack->version)) {
        rejudge(t->port, t->stack, t->version, conn);
        conn = conn_table_lookup_hash(t->port->conns, t->dir, key, hash,
                                      t->now);
    }
    if (OVS_UNLIKELY(conn && t->commit
                     && connection_expires(conn) <= t->now)) {
        conn_table_expire(t->port->conns, conn, t->now);
        conn = conn_table_lookup_hash(t->port->conns, t->dir, key, hash,
                                      t->now);
    }
    return conn;
}

/* Packets that need more than their flow. */

/* Substitutes the protocol and ports of the first fragment in a later one.
 * Returns false if they are not known. */
static bool
handle_later_fragment(struct layer_traversal *t)
{
    struct layer_port *port = CONST_CAST(struct layer_port *, t->port);
    struct flow *flow = t->flow;
    struct fragment_key key;
    bool known;

    if (!t->packet || !fragment_key_from_packet(t->packet, flow, &key)) {
        return false;
    }

    ovs_mutex_lock(&port->fragments_mutex);
    known = fragment_table_get(port->fragments[t->dir], &key, t->now,
                               &flow->nw_proto, &flow->tp_src, &flow->tp_dst);
    ovs_mutex_unlock(&port->fragments_mutex);
    return known;
}

/* Remembers the protocol and ports of the first fragment 'entry', which has
 * been judged.  What is refused must not have others forgotten: anybody could
 * send that. */
static void
remember_fragment(const struct layer_traversal *t, const struct flow *entry)
{
    struct layer_port *port = CONST_CAST(struct layer_port *, t->port);
    struct fragment_table *table = port->fragments[t->dir];
    struct fragment_key key;

    if (!t->commit || !t->packet
        || !fragment_key_from_packet(t->packet, entry, &key)) {
        return;
    }

    ovs_mutex_lock(&port->fragments_mutex);
    if (!t->drop || fragment_table_has_room(table, &key, t->now)) {
        fragment_table_put(table, &key, entry->nw_proto, entry->tp_src,
                           entry->tp_dst, t->now);
    }
    ovs_mutex_unlock(&port->fragments_mutex);
}

/* Looks for the connection that the ICMP error is about. */
static const struct connection *
find_related(struct layer_traversal *t, struct conn_key *quoted)
{
    struct conn_key key;

    t->cacheable = false;
    if (!t->packet || !icmp_error_get_quoted(t->packet, t->flow, quoted)
        || !layer_stack_tracks(t->stack, quoted->nw_proto)) {
        return NULL;
    }
    conn_key_reverse(quoted, &key);
    return lookup(t, &key, conn_table_hash(t->port->conns, &key));
}

/* Translates the packet 'quoted' in an ICMP error about 'conn'. */
static void
translate_quoted(struct layer_traversal *t, const struct connection *conn,
                 const struct conn_key *quoted)
{
    const struct conn_key *to = &conn->keys[layer_direction_opposite(t->dir)];

    if (t->commit && memcmp(to, quoted, sizeof *to)) {
        icmp_error_rewrite_quoted(t->packet, t->flow, to);
    }
}

/* Adds the rules of the layer flows by which the packet has passed layers to
 * those that 't' itself has to account for. */
static void
credit_layer_flows(struct layer_traversal *t)
{
    for (size_t i = 0; i < t->n_steps; i++) {
        const struct conn_layer *cl = t->steps[i].flow;

        for (size_t j = 0; cl && cl->dir == t->dir && j < cl->n_uses; j++) {
            add_rule(t, cl->uses[j]->rule);
        }
    }
}

/* The connections that have seen the packet already that the calling thread's
 * next traversals are of, and which of them it opened, as bits. */
struct handed_over {
    const struct connection *conns[2];
    uint8_t opened;
};
DEFINE_STATIC_PER_THREAD_DATA(struct handed_over, handed_over,
                              { { NULL }, 0 });

/* Has the calling thread's next traversals, which are to be of the same packet
 * as its last, know that the 'n_conns', at most 2, 'conns' have seen it, some
 * of which may be NULL, and that it opened those whose bits are in 'opened'.
 */
void
layer_traverse_hand_over(const struct connection *const conns[],
                         size_t n_conns, uint8_t opened)
{
    struct handed_over *h = handed_over_get();

    for (size_t i = 0; i < ARRAY_SIZE(h->conns); i++) {
        h->conns[i] = i < n_conns ? conns[i] : NULL;
    }
    h->opened = opened;
}

/* Returns true if 't->conn' has seen the packet already, and updates
 * 't->known'. */
static bool
take_handed_over(struct layer_traversal *t)
{
    struct handed_over *h = handed_over_get();

    for (size_t i = 0; i < ARRAY_SIZE(h->conns); i++) {
        if (OVS_UNLIKELY(h->conns[i] && h->conns[i] == t->conn)) {
            t->known = !(h->opened & 1 << i);
            h->conns[i] = NULL;
            return true;
        }
    }
    return false;
}

/* Takes the packet of 't' through the layers of its port. */
void
layer_traverse(struct layer_traversal *t)
{
    const struct layer_stack *stack = t->stack;
    const struct connection *old = NULL;
    struct flow *flow = t->flow;
    struct flow entry, first;
    struct conn_key quoted;
    uint16_t tcp_flags;
    bool seen;
    struct walk w;

    t->cacheable = true;
    walk_init(&w, t);

    bool later = is_ip_any(flow) && flow->nw_frag & FLOW_NW_FRAG_LATER;
    bool fragment = (is_ip_any(flow) && flow->nw_frag & FLOW_NW_FRAG_ANY
                     && stack->uses_l4);
    uint8_t later_proto = flow->nw_proto;
    if (fragment) {
        t->cacheable = false;
        if (later) {
            if (!handle_later_fragment(t)) {
                t->drop = DROP_FRAGMENT;
                goto exit;
            }
            /* Judged like the first. */
            flow->nw_frag &= ~FLOW_NW_FRAG_LATER;
        }
    }

    if (stack->keeps_state && is_ip_any(flow)) {
        WC_MASK_FIELD(t->wc, nw_proto);
        if (is_icmpv4(flow, NULL) || is_icmpv6(flow, NULL)) {
            /* Errors may be about connections, even if none are of ICMP. */
            WC_MASK_FIELD(t->wc, tp_src);
        }
        if (flow_is_icmp_error(flow)) {
            unwildcard_key(flow, t->wc);
            t->conn = find_related(t, &quoted);
            w.related = t->conn != NULL;
        } else if (layer_stack_tracks(stack, flow->nw_proto)) {
            unwildcard_key(flow, t->wc);
            if (flow->nw_proto == IPPROTO_TCP && !t->sees_all) {
                t->wc->masks.tcp_flags |= htons(TCP_STATE_FLAGS);
            }
            w.trackable = conn_key_from_flow(flow, &w.key);
        }
    }
    if (w.trackable) {
        tcp_flags = ntohs(flow->tcp_flags);
        t->tracked = true;
        t->key = w.key;
        w.hash = conn_table_hash(t->port->conns, &w.key);
        t->misses_version = conn_table_misses_version_hash(t->port->conns,
                                                           w.hash);
        t->conn = lookup(t, &w.key, w.hash);
        if (t->conn && !later
            && connection_may_reopen(t->conn, tcp_flags, t->dir)) {
            w.former = old = t->conn;
            t->conn = NULL;
        }
        if (flow->nw_proto == IPPROTO_TCP && tcp_flags & TCP_STATE_FLAGS) {
            t->cacheable = false;
        }
    }

    t->known = t->conn != NULL;
    seen = t->commit && t->conn && take_handed_over(t);
    if (!t->conn) {
        entry = *flow;
    }
    if (fragment) {
        first = *flow;
    }
    tcp_flags = later ? 0 : ntohs(flow->tcp_flags);
    walk_layers(&w);

    if (!t->drop && w.pending.n_layers) {
        if (t->commit) {
            commit(&w, &entry, old);
        } else {
            t->cacheable = false;
            check_tuples(&w, old);
        }
    }
    if (w.related) {
        if (!t->drop) {
            translate_quoted(t, t->conn, &quoted);
        }
        t->conn = NULL;
    }
    if (fragment && !later) {
        remember_fragment(t, &first);
    } else if (fragment) {
        flow->nw_frag |= FLOW_NW_FRAG_LATER;
        flow->nw_proto = later_proto;
        flow->tp_src = flow->tp_dst = 0;
    }
    if (t->conn && t->commit && !t->drop && t->known && !seen) {
        connection_see_packet(t->conn, t->dir, tcp_flags, t->now);
    }

    if (t->drop && t->conn) {
        credit_layer_flows(t);
        t->conn = NULL;
    }

exit:
    /* A connection in the other direction may change what becomes of a packet
     * that has none, so that the refusal of one is never cached: nobody would
     * look at the datapath flow at once. */
    if (t->reject
        || (t->drop && t->tracked)
        || (t->conn && !connection_can_cache(t->conn, t->dir))) {
        t->cacheable = false;
    }
    walk_uninit(&w);
}

/* Appends to 'ds' what 'step' was, in a few words. */
void
layer_step_format(const struct layer_step *step, struct ds *ds)
{
    ds_put_cstr(ds, layer_verdict_to_string(step->verdict));
    if (step->stateful) {
        ds_put_cstr(ds, ",stateful");
    }
    if (step->flow) {
        ds_put_cstr(ds, " by layer flow");
    } else if (step->rule) {
        ds_put_format(ds, " by rule %s:%"PRIu16" ", step->group->name,
                      step->rule->priority);
        condition_format(step->rule->condition, ds);
        ds_put_cstr(ds, " actions=");
        layer_actions_format(step->rule->actions, ds);
    } else if (step->group) {
        ds_put_format(ds, " by default of group %s", step->group->name);
    } else {
        ds_put_cstr(ds, " by default");
    }
}

/* Frees what a traversal has allocated. */
void
layer_traversal_uninit(struct layer_traversal *t)
{
    if (t->steps != t->steps_stub) {
        free(t->steps);
    }
    if (t->rules != t->rules_stub) {
        free(t->rules);
    }
}
