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

/* A layer flow that a packet is about to make. */
struct pending_layer {
    struct layer *layer;
    struct conn_rewrite *rewrite;       /* Reference, or NULL. */
    size_t first_rule, n_rules;         /* In the traversal's 'rules'. */
};

/* Internals of a traversal. */
struct walk {
    struct layer_traversal *t;
    bool trackable;             /* 'key' is valid. */
    struct conn_key key;        /* Of the packet as it entered the port. */
    const struct connection *former; /* Its translations should be kept. */
    bool again;                 /* 'former' is judged again. */
    bool related;               /* An ICMP error about 't->conn'. */
    size_t n_pending;
    struct pending_layer *pending;
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

/* Returns true if packets of 'nw_proto' have ports. */
static bool
has_ports(uint8_t nw_proto)
{
    return (nw_proto == IPPROTO_TCP || nw_proto == IPPROTO_UDP
            || nw_proto == IPPROTO_SCTP);
}

static struct conn_endpoint
flow_source(const struct flow *flow)
{
    return (struct conn_endpoint) {
        .addr = flow_src(flow),
        .port = has_ports(flow->nw_proto) ? flow->tp_src : 0,
    };
}

static struct conn_endpoint
flow_destination(const struct flow *flow)
{
    return (struct conn_endpoint) {
        .addr = flow_dst(flow),
        .port = has_ports(flow->nw_proto) ? flow->tp_dst : 0,
    };
}

/* Not memcmp(), as an endpoint has padding. */
static bool
endpoints_equal(const struct conn_endpoint *a, const struct conn_endpoint *b)
{
    return ipv6_addr_equals(&a->addr, &b->addr) && a->port == b->port;
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
    if (has_ports(flow->nw_proto)) {
        WC_MASK_FIELD(wc, tp_src);
        WC_MASK_FIELD(wc, tp_dst);
        if (flow->nw_proto == IPPROTO_TCP) {
            wc->masks.tcp_flags |= htons(TCP_STATE_FLAGS);
        }
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

/* Returns the translation in 'former', NULL if there is none, that 'type' with
 * 'spec' made for a packet from, or to, 'endpoint', and for a source to
 * 'remote'. */
static const struct conn_nat *
find_former_nat(const struct conn_rewrite *former, enum layer_action_type type,
                const struct layer_nat_spec *spec,
                const struct conn_endpoint *endpoint,
                const struct conn_endpoint *remote)
{
    for (size_t i = 0; former && i < former->n_nats; i++) {
        const struct conn_nat *nat = &former->nats[i];

        if (nat->source == (type == LA_SNAT)
            && nat_specs_equal(find_nat_spec(nat->rule, type), spec)
            && endpoints_equal(&nat->from, endpoint)
            && (!nat->source
                || (ipv6_addr_equals(&nat->lease->tuple.remote, &remote->addr)
                    && nat->lease->tuple.remote_port == remote->port))) {
            return nat;
        }
    }
    return NULL;
}

static void
apply_source(const struct conn_endpoint *to, struct layer_traversal *t)
{
    struct conn_rewrite rw = { .snat = true, .snat_to = *to, .dscp = -1 };

    conn_rewrite_apply(&rw, false, t->flow, t->wc);
}

static void
apply_destination(const struct conn_endpoint *to, struct layer_traversal *t)
{
    struct conn_rewrite rw = { .dnat = true, .dnat_to = *to, .dscp = -1 };

    conn_rewrite_apply(&rw, false, t->flow, t->wc);
}

static enum drop_reason
execute_snat(struct walk *w, const struct layer_rule *rule,
             const struct layer_nat_spec *spec,
             const struct conn_rewrite *former, struct conn_rewrite *rw)
{
    struct layer_traversal *t = w->t;
    struct conn_endpoint src = flow_source(t->flow);
    struct conn_endpoint dst = flow_destination(t->flow);
    const struct conn_nat *kept = find_former_nat(former, LA_SNAT, spec, &src,
                                                  &dst);
    struct conn_nat nat = { .source = true, .from = src };

    if (kept) {
        nat.to = kept->to;
        nat.lease = nat_lease_ref(kept->lease);
    } else {
        bool (*choose)(const struct nat_target *, uint8_t,
                       const struct in6_addr *, ovs_be16,
                       const struct in6_addr *, ovs_be16, struct nat_tuple *)
            = t->commit ? nat_pool_allocate : nat_pool_peek;
        struct nat_tuple tuple;

        if (!choose(&spec->targets[0], t->flow->nw_proto, &src.addr, src.port,
                    &dst.addr, dst.port, &tuple)) {
            return DROP_SNAT_EXHAUSTED;
        }
        nat.to.addr = tuple.addr;
        nat.to.port = tuple.port;
        nat.lease = t->commit ? nat_lease_create(&tuple) : NULL;
    }
    nat.rule = layer_rule_ref(rule);
    conn_rewrite_add_nat(rw, &nat);
    apply_source(&nat.to, t);
    return DROP_NONE;
}

static void
execute_dnat(struct walk *w, const struct layer_rule *rule,
             const struct layer_nat_spec *spec,
             const struct conn_rewrite *former, struct conn_rewrite *rw)
{
    struct layer_traversal *t = w->t;
    struct conn_endpoint dst = flow_destination(t->flow);
    const struct conn_nat *kept = find_former_nat(former, LA_DNAT, spec, &dst,
                                                  NULL);
    struct conn_nat nat = { .from = dst };

    if (kept) {
        nat.to = kept->to;
    } else {
        const struct nat_target *target = &spec->targets[0];

        if (spec->n_targets > 1) {
            struct conn_key key;
            uint32_t hash;

            memset(&key, 0, sizeof key);
            key.src = flow_src(t->flow);
            if (!spec->hash_src) {
                key.dst = dst.addr;
                key.tp_src = flow_source(t->flow).port;
                key.tp_dst = dst.port;
                key.nw_proto = t->flow->nw_proto;
            }
            hash = conn_key_hash(&key, 0x6c62);
            target = &spec->targets[((uint64_t) hash * spec->n_targets) >> 32];
        }
        nat.to.addr = target->min;
        nat.to.port = (target->min_port && dst.port
                       ? htons(target->min_port) : dst.port);
    }
    nat.rule = layer_rule_ref(rule);
    conn_rewrite_add_nat(rw, &nat);
    apply_destination(&nat.to, t);
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
        apply_source(&endpoint, t);
    } else {
        apply_destination(&endpoint, t);
    }
}

/* Translates the addresses of an ICMP error that goes in the direction that
 * 'rw' is for, or the other one if 'reply' is true, and is about a packet in
 * the opposite direction.  It need not be from the host that the packet was
 * for. */
static void
translate_error(const struct conn_rewrite *rw, bool reply,
                struct layer_traversal *t)
{
    if (rw && rw->snat) {
        replace_address(t, !reply, reply ? &rw->snat_to : &rw->snat_from,
                        reply ? &rw->snat_from : &rw->snat_to);
    }
    if (rw && rw->dnat) {
        replace_address(t, reply, reply ? &rw->dnat_to : &rw->dnat_from,
                        reply ? &rw->dnat_from : &rw->dnat_to);
    }
}

/* Rules. */

static void
add_rule(struct layer_traversal *t, const struct layer_rule *rule)
{
    if (t->n_rules >= t->allocated_rules) {
        t->rules = x2nrealloc(t->rules, &t->allocated_rules, sizeof *t->rules);
    }
    t->rules[t->n_rules++] = rule;
}

static struct conn_rewrite *
get_rewrite(struct conn_rewrite **rwp)
{
    if (!*rwp) {
        *rwp = conn_rewrite_create();
    }
    return *rwp;
}

/* Executes the actions of 'rule' other than its verdict on the packet, and
 * adds what they rewrite to '*rwp', which it creates if necessary. */
static enum drop_reason
execute_rule(struct walk *w, const struct layer_rule *rule,
             const struct conn_rewrite *former, struct conn_rewrite **rwp)
{
    struct layer_traversal *t = w->t;
    struct flow *flow = t->flow;

    add_rule(t, rule);
    for (size_t i = 0; i < rule->actions->n; i++) {
        const struct layer_action *a = &rule->actions->list[i];
        struct conn_rewrite one = { .dscp = -1 };
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
                reason = execute_snat(w, rule, a->nat, former,
                                      get_rewrite(rwp));
                if (reason) {
                    return reason;
                }
            } else {
                execute_dnat(w, rule, a->nat, former, get_rewrite(rwp));
            }
            break;
        case LA_COUNT:
            break;
        case LA_SET_DSCP:
            get_rewrite(rwp)->dscp = one.dscp = a->dscp;
            conn_rewrite_apply(&one, false, flow, t->wc);
            break;
        case LA_SET_MAC_SRC:
            get_rewrite(rwp)->set_src = one.set_src = true;
            (*rwp)->dl_src = one.dl_src = a->mac;
            conn_rewrite_apply(&one, false, flow, t->wc);
            break;
        case LA_SET_MAC_DST:
            get_rewrite(rwp)->set_dst = one.set_dst = true;
            (*rwp)->dl_dst = one.dl_dst = a->mac;
            conn_rewrite_apply(&one, false, flow, t->wc);
            break;
        case LA_DEC_TTL:
            get_rewrite(rwp)->dec_ttl++;
            one.dec_ttl = 1;
            if (!conn_rewrite_apply(&one, false, flow, t->wc)) {
                return DROP_TTL;
            }
            break;
        }
    }
    return DROP_NONE;
}

/* Judges the packet by the rules of 'step->layer', and completes 'step'.
 * Stores what the rules rewrite in '*rwp', NULL if nothing.  'former' is what
 * the layer did to the connection so far, if that is judged again or opened
 * anew. */
static enum drop_reason
judge(struct walk *w, const struct conn_rewrite *former,
      struct layer_step *step, struct conn_rewrite **rwp)
{
    struct layer_traversal *t = w->t;
    const struct layer_side *side = &step->layer->sides[t->dir];
    enum layer_verdict remembered = LV_NONE;
    bool remembered_stateful = false;

    *rwp = NULL;
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
            step->stateful = conn_rewrite_is_nat(*rwp);
            return step->verdict == LV_DENY ? DROP_GROUP_DEFAULT : DROP_NONE;
        }

        const struct layer_rule *rule = layer_rule_from_cr(cr);
        enum drop_reason reason = execute_rule(w, rule, former, rwp);
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
                              || conn_rewrite_is_nat(*rwp));
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
    step->stateful = remembered_stateful || conn_rewrite_is_nat(*rwp);
    return DROP_NONE;
}

/* Layers. */

/* Takes the packet through 'layer'.  Returns DROP_NONE to go on. */
static enum drop_reason
walk_layer(struct walk *w, struct layer *layer)
{
    struct layer_traversal *t = w->t;
    struct layer_step *step = &t->steps[t->n_steps++];
    const struct conn_layer *former = NULL;
    size_t first_rule = t->n_rules;
    struct conn_rewrite *rw;
    enum drop_reason reason;

    *step = (struct layer_step) { .layer = layer };
    if (w->former) {
        former = connection_find_layer(w->former, layer, LLONG_MIN);
    } else if (t->conn) {
        const struct conn_layer *cl = connection_find_layer(t->conn, layer,
                                                            t->now);
        if (cl) {
            step->flow = cl;
            step->rule = cl->n_uses ? cl->uses[cl->n_uses - 1]->rule : NULL;
            step->verdict = LV_ALLOW;
            step->stateful = true;
            if (w->related) {
                translate_error(cl->rewrite, t->dir != cl->dir, t);
                return DROP_NONE;
            }
            return (conn_rewrite_apply(cl->rewrite, t->dir != cl->dir,
                                       t->flow, t->wc)
                    ? DROP_NONE : DROP_TTL);
        }
    }

    reason = judge(w, former ? former->rewrite : NULL, step, &rw);
    if (!reason && step->stateful && w->trackable) {
        if (!w->again && w->key.nw_proto == IPPROTO_TCP && !layer->tcp_loose
            && !tcp_flags_open(ntohs(t->flow->tcp_flags))) {
            reason = DROP_NO_CONNECTION;
            step->verdict = LV_DENY;
            step->stateful = false;
        } else {
            w->pending[w->n_pending++] = (struct pending_layer) {
                .layer = layer,
                .rewrite = rw,
                .first_rule = first_rule,
                .n_rules = t->n_rules - first_rule,
            };
            rw = NULL;
        }
    } else {
        step->stateful = false;
    }
    conn_rewrite_unref(rw);
    return reason;
}

/* Takes the packet through all layers. */
static void
walk_layers(struct walk *w)
{
    struct layer_traversal *t = w->t;
    const struct layer_stack *stack = t->stack;

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
    *w = (struct walk) { .t = t };
    w->pending = xmalloc(t->stack->n * sizeof *w->pending);
    t->steps = xmalloc(t->stack->n * sizeof *t->steps);
}

static void
walk_uninit(struct walk *w)
{
    for (size_t i = 0; i < w->n_pending; i++) {
        conn_rewrite_unref(w->pending[i].rewrite);
    }
    free(w->pending);
}

/* Connections. */

/* Takes the rules of the layer flows that the packet is about to make out of
 * those that the traversal itself has to account for. */
static void
forget_pending_rules(struct walk *w)
{
    struct layer_traversal *t = w->t;
    size_t n = 0;

    for (size_t i = 0, p = 0; i < t->n_rules; i++) {
        while (p < w->n_pending
               && i >= w->pending[p].first_rule + w->pending[p].n_rules) {
            p++;
        }
        if (p >= w->n_pending || i < w->pending[p].first_rule) {
            t->rules[n++] = t->rules[i];
        }
    }
    t->n_rules = n;
}

/* Appends the layer flows that the packet is about to make to 'conn'. */
static void
add_pending(struct walk *w, struct connection *conn)
{
    struct layer_traversal *t = w->t;
    struct port_stats *ps = &CONST_CAST(struct layer_port *, t->port)->stats;

    for (size_t i = 0; i < w->n_pending; i++) {
        struct pending_layer *p = &w->pending[i];
        struct conn_layer *cl = &conn->layers[conn->n++];

        *cl = (struct conn_layer) {
            .layer = layer_ref(p->layer),
            .dir = t->dir,
            .rewrite = p->rewrite,
            .uses = xmalloc(p->n_rules * sizeof *cl->uses),
            .n_uses = p->n_rules,
        };
        for (size_t j = 0; j < p->n_rules; j++) {
            cl->uses[j] = rule_stats_ref(
                port_stats_rule(ps, t->rules[p->first_rule + j]));
        }
        p->rewrite = NULL;
    }
}

/* Returns true if any layer of 'w''s pending layer flows is loose. */
static bool
pending_is_loose(const struct walk *w)
{
    for (size_t i = 0; i < w->n_pending; i++) {
        if (w->pending[i].layer->tcp_loose) {
            return true;
        }
    }
    return false;
}

/* Makes the keys of a connection whose packet entered the port with 'w->key'
 * and leaves it as t->flow says.  Returns false if no connection has such, as
 * an address has become an IPv4-mapped one. */
static bool
make_keys(const struct walk *w, struct conn_key keys[])
{
    const struct layer_traversal *t = w->t;
    struct conn_key out;

    keys[t->dir] = w->key;
    if (!conn_key_from_flow(t->flow, &out)) {
        return false;
    }
    conn_key_reverse(&out, &keys[layer_direction_opposite(t->dir)]);
    return true;
}

/* Opens a connection for the packet, which the layers have let pass, or adds
 * layer flows to the one it has.  'old' is one that it opens anew, if any.
 * 'entry' is the packet as it entered the port. */
static void
commit(struct walk *w, const struct flow *entry, const struct connection *old)
{
    struct layer_traversal *t = w->t;
    struct conn_key keys[N_LAYER_DIRECTIONS];
    struct connection *conn;
    struct conn_live *live;

    if (!make_keys(w, keys)) {
        t->drop = DROP_NAT_FAMILY;
        return;
    }
    if (t->conn) {
        live = conn_live_ref(t->conn->live);
        old = t->conn;
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
        live = conn_live_create(entry, t->dir, &progress, t->now);
    }

    conn = connection_create(keys, t->stack->version, live,
                             (t->conn ? t->conn->n : 0) + w->n_pending);
    if (t->conn) {
        for (size_t i = 0; i < t->conn->n; i++) {
            const struct conn_layer *cl = &t->conn->layers[i];

            if (connection_find_layer(t->conn, cl->layer, t->now)) {
                conn_layer_clone(&conn->layers[conn->n++], cl);
            }
        }
    }
    add_pending(w, conn);

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

    if (!make_keys(w, keys)) {
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

    miniflow_expand(conn->live->opener, &flow);
    struct flow entry = flow;
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
    w.trackable = conn_key_from_flow(&entry, &w.key);
    walk_layers(&w);

    struct conn_key keys[N_LAYER_DIRECTIONS];
    if (!t.drop && w.n_pending && make_keys(&w, keys)) {
        new = connection_create(keys, stack->version,
                                conn_live_ref(conn->live), w.n_pending);
        add_pending(&w, new);
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

/* Returns the connection of 'key', judged by 't->stack'. */
static const struct connection *
lookup(struct layer_traversal *t, const struct conn_key *key)
{
    const struct connection *conn;

    conn = conn_table_lookup(t->port->conns, t->dir, key, t->now);
    if (OVS_UNLIKELY(conn && conn->version < t->stack->version)) {
        rejudge(t->port, t->stack, t->version, conn);
        conn = conn_table_lookup(t->port->conns, t->dir, key, t->now);
    }
    if (OVS_UNLIKELY(conn && t->commit
                     && connection_expires(conn) <= t->now)) {
        conn_table_expire(t->port->conns, conn, t->now);
        conn = conn_table_lookup(t->port->conns, t->dir, key, t->now);
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
    return lookup(t, &key);
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

/* Takes the packet of 't' through the layers of its port. */
void
layer_traverse(struct layer_traversal *t)
{
    const struct layer_stack *stack = t->stack;
    const struct connection *old = NULL;
    struct flow *flow = t->flow;
    struct conn_key quoted;
    struct flow entry;
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
            w.trackable = conn_key_from_flow(flow, &w.key);
        }
    }
    if (w.trackable) {
        uint16_t tcp_flags = ntohs(flow->tcp_flags);

        t->tracked = true;
        t->key = w.key;
        t->misses_version = conn_table_misses_version(t->port->conns, &w.key);
        t->conn = lookup(t, &w.key);
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
    entry = *flow;
    walk_layers(&w);

    if (!t->drop && w.n_pending) {
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
        remember_fragment(t, &entry);
    } else if (fragment) {
        flow->nw_frag |= FLOW_NW_FRAG_LATER;
        flow->nw_proto = later_proto;
        flow->tp_src = flow->tp_dst = 0;
    }
    if (t->conn && t->commit && !t->drop && t->known) {
        connection_see_packet(t->conn, t->dir,
                              later ? 0 : ntohs(entry.tcp_flags), t->now);
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
    free(t->steps);
    free(t->rules);
}
