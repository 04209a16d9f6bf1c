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

/* Fuzzes the traversal of layers with sequences of packets, as time passes and
 * the policy changes, at two ports with low limits of connections.  Needs a
 * compiler with -fsanitize=fuzzer, the sources of ofproto-layered that it
 * uses, and "-Wl,--wrap=time_msec", because it has a clock of its own.
 *
 * Checks that the table of connections is consistent and within its limit,
 * that replies to the packets that pass get back to their senders, that what
 * may be cached depends on nothing but what is unwildcarded, and that nothing
 * remains of the ports in the end. */

#include <config.h>
#undef NDEBUG

#include <stdlib.h>
#include <string.h>

#include "bitmap.h"
#include "dp-packet.h"
#include "flow.h"
#include "layered/ofproto-layered/address-set.h"
#include "layered/ofproto-layered/layer-packet.h"
#include "layered/ofproto-layered/layer-policy.h"
#include "layered/ofproto-layered/layer-port.h"
#include "layered/ofproto-layered/layer-traverse.h"
#include "layered/ofproto-layered/nat-pool.h"
#include "ovs-rcu.h"
#include "packets.h"
#include "timeval.h"
#include "util.h"
#include "uuid.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);
long long int __wrap_time_msec(void);

#define N_PORTS 2
#define N_POLICIES 2
#define N_HISTORY 8
#define MAX_LAYERS 4

/* Time. */

static long long int now = 1000000;

long long int
__wrap_time_msec(void)
{
    return now;
}

/* Policy. */

struct rule_text {
    uint16_t priority;
    const char *match;
    const char *actions;
};

struct layer_text {
    const char *name;
    bool tcp_loose;
    uint32_t timeout;                   /* In seconds, 0 for defaults. */
    struct group_text {
        enum layer_direction dir;
        const char *match;              /* Null: always. */
        enum layer_verdict default_verdict;
        struct rule_text rules[8];
    } groups[4];
};

#define NO_GROUP { LAYER_OUTBOUND, NULL, LV_NONE, { { 0, NULL, NULL } } }

static const struct layer_text policies[N_POLICIES][MAX_LAYERS] = {
    {
        { "guard", false, 5, {
            { LAYER_OUTBOUND, "ip", LV_NONE, {
                { 100, "ip,nw_src=$self", "next,count(own)" },
                { 90, "ip,nw_src=10.9.0.0/16", "deny" },
            } },
            { LAYER_OUTBOUND, NULL, LV_ALLOW, {
                { 10, "tcp,tp_dst=22", "reject" },
                { 9, "tcp", "allow_continue,stateful" },
                { 8, "ip,nw_proto=47", "allow,stateful" },
            } },
            NO_GROUP,
            NO_GROUP,
        } },
        { "acl", false, 0, {
            { LAYER_OUTBOUND, NULL, LV_NONE, {
                { 200, "tcp,tp_dst={80,443}", "allow,stateful" },
                { 190, "udp,nw_dst=$ext", "allow,stateful" },
                { 180, "icmp", "allow,stateful" },
                { 170, "icmp6", "allow,stateful" },
                { 160, "sctp", "allow,stateful" },
                { 150, "udp6,ipv6_dst=$ext", "allow,stateful" },
                { 140, "ip6", "allow_continue" },
            } },
            { LAYER_INBOUND, NULL, LV_DENY, {
                { 100, "tcp,tp_dst=8000-8100", "allow,stateful" },
                { 90, "udp,tp_src=53", "allow" },
                { 80, "icmp", "allow" },
                { 70, "tcp6", "allow,stateful,set_dscp(10)" },
            } },
            NO_GROUP,
            NO_GROUP,
        } },
        { "nat", false, 20, {
            { LAYER_OUTBOUND, NULL, LV_NONE, {
                { 100, "ip,nw_src=10.0.0.0/24,nw_dst=$ext",
                  "snat(192.0.2.1-192.0.2.2:1024-1026)" },
                { 90, "ip6,ipv6_src=fd00::/64,ipv6_dst=$ext",
                  "snat([fd01::1]:2000-2001)" },
                { 80, "udp,nw_dst=10.0.0.8", "snat(192.0.2.9),set_dscp(3)" },
            } },
            { LAYER_INBOUND, NULL, LV_NONE, {
                { 100, "tcp,nw_dst=203.0.113.1",
                  "dnat(10.0.0.1:8000|10.0.0.2:8001)" },
                { 90, "tcp6,ipv6_dst=fd02::1", "dnat([fd00::1]:8000)" },
                { 80, "udp,nw_dst=203.0.113.1", "dnat(10.0.0.1,hash=src)" },
            } },
            NO_GROUP,
            NO_GROUP,
        } },
        { "loose", true, 3, {
            { LAYER_OUTBOUND, NULL, LV_NONE, {
                { 100, "tcp", "allow,stateful,dec_ttl" },
                { 90, "udp", "set_mac(dst,02:00:00:00:00:99),count(udp)" },
            } },
            { LAYER_INBOUND, "ip,nw_dst=10.0.0.0/24", LV_NONE, {
                { 100, "tcp", "allow,stateful" },
            } },
            NO_GROUP,
            NO_GROUP,
        } },
    },
    {
        /* Without state in the first layer; other translations. */
        { "guard", false, 5, {
            { LAYER_OUTBOUND, NULL, LV_ALLOW, {
                { 10, "tcp,tp_dst=22", "deny" },
            } },
            NO_GROUP,
            NO_GROUP,
            NO_GROUP,
        } },
        { "acl", true, 10, {
            { LAYER_OUTBOUND, NULL, LV_NONE, {
                { 200, "tcp,tp_dst=443", "allow,stateful" },
                { 190, "udp", "allow,stateful" },
                { 180, "icmp", "deny" },
            } },
            { LAYER_INBOUND, NULL, LV_ALLOW, {
                { 100, "tcp,tp_dst=8000", "deny" },
                { 90, "tcp", "allow,stateful" },
            } },
            NO_GROUP,
            NO_GROUP,
        } },
        { "nat", false, 0, {
            { LAYER_OUTBOUND, NULL, LV_NONE, {
                { 100, "ip,nw_src=10.0.0.0/24,nw_dst=$ext",
                  "snat(192.0.2.2-192.0.2.3)" },
            } },
            { LAYER_INBOUND, NULL, LV_NONE, {
                { 100, "tcp,nw_dst=203.0.113.1", "dnat(10.0.0.2:8001)" },
            } },
            NO_GROUP,
            NO_GROUP,
        } },
        { NULL, false, 0, { NO_GROUP, NO_GROUP, NO_GROUP, NO_GROUP } },
    },
};

static struct address_set *ext;
static struct layer *layers[N_POLICIES][MAX_LAYERS];
static uint64_t version;

static struct address_table *
parse_addresses(const char *const *addresses, size_t n)
{
    struct address_table *table;
    char *error = address_table_parse(addresses, n, &table);

    ovs_assert(!error);
    return table;
}

static struct address_set *
find_set(const char *name, void *aux OVS_UNUSED)
{
    return !strcmp(name, "ext") ? ext : NULL;
}

static struct layer_group *
make_group(const struct group_text *text, const struct uuid *uuid)
{
    struct protocol_set stateful = { .bits = { 0 } };
    struct layer_classifier *empty = layer_classifier_create();
    struct classifier_edit *edit = classifier_edit_begin(empty);
    struct condition *match = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(text->rules) && text->rules[i].match;
         i++) {
        const struct rule_text *rt = &text->rules[i];
        struct uuid rule_uuid = *uuid;
        struct layer_actions *actions;
        struct condition *condition;
        struct layer_rule *rule;
        char *error;

        rule_uuid.parts[3] += i + 1;
        error = condition_parse(rt->match, find_set, NULL, &condition);
        ovs_assert(!error);
        error = layer_actions_parse(rt->actions, &actions);
        ovs_assert(!error);
        rule = layer_rule_create(&rule_uuid, NULL, rt->priority, condition,
                                 actions);
        protocol_set_add_rule(&stateful, rule);
        classifier_edit_insert(edit, &rule->cr, version);
    }
    if (text->match) {
        char *error = condition_parse(text->match, find_set, NULL, &match);

        ovs_assert(!error);
    }
    layer_classifier_unref(empty);
    return layer_group_create(uuid, "", match, text->default_verdict,
                              classifier_edit_commit(edit), &stateful);
}

static struct layer *
make_layer(const struct layer_text *text, unsigned int index)
{
    /* The versions of a layer have the same UUID. */
    struct uuid uuid = { .parts = { 1, index, 0, 0 } };
    struct layer_side sides[N_LAYER_DIRECTIONS];
    struct conn_timeouts timeouts = conn_timeouts_default;

    for (size_t i = 0; text->timeout && i < N_CONN_STATES; i++) {
        timeouts.seconds[i] = text->timeout + i;
    }
    for (size_t dir = 0; dir < N_LAYER_DIRECTIONS; dir++) {
        struct layer_side *side = &sides[dir];

        side->groups = xmalloc(ARRAY_SIZE(text->groups)
                               * sizeof *side->groups);
        side->default_verdict = LV_ALLOW;
        side->n = 0;
        for (size_t i = 0; i < ARRAY_SIZE(text->groups); i++) {
            const struct group_text *gt = &text->groups[i];
            struct uuid group_uuid = uuid;

            if (gt->dir == dir && gt->rules[0].match) {
                group_uuid.parts[2] = i + 1;
                side->groups[side->n++] = (struct layer_side_group) {
                    .key = i,
                    .group = make_group(gt, &group_uuid),
                };
            }
        }
    }
    return layer_create(&uuid, text->name, sides, &timeouts, text->tcp_loose);
}

static void
make_policies(void)
{
    static const char *const addresses[] = {
        "198.51.100.0/24", "203.0.113.7", "fd05::/64",
    };

    version = 1;
    ext = address_set_create("ext");
    address_set_publish(ext, parse_addresses(addresses,
                                             ARRAY_SIZE(addresses)), version);
    for (size_t i = 0; i < N_POLICIES; i++) {
        for (size_t j = 0; j < MAX_LAYERS && policies[i][j].name; j++) {
            layers[i][j] = make_layer(&policies[i][j], j);
        }
    }
}

/* Ports. */

static const struct fuzz_port {
    const char *name;
    const char *self;
    uint32_t flow_limit;
    unsigned int layers;                /* A bit for each that it has. */
} ports[N_PORTS] = {
    { "p0", "10.0.0.1", 6, 0xf },
    { "p1", "10.0.0.2", 2, 0x6 },
};

/* Only their addresses matter. */
static char ofports[N_PORTS];

static const struct ofport_dpif *
get_ofport(size_t i)
{
    return ALIGNED_CAST(const struct ofport_dpif *, &ofports[i]);
}

static const struct layer_port *
get_port(size_t i)
{
    return layer_port_lookup(get_ofport(i));
}

/* Publishes policy 'policy' at all ports, or none if that is negative. */
static void
publish(int policy)
{
    struct layer_assignment assignments[N_PORTS];

    version++;
    for (size_t i = 0; i < N_PORTS; i++) {
        struct condition_self self = { .has_mac = false };
        struct layer_position positions[MAX_LAYERS];
        size_t n = 0;

        assignments[i].iface = ports[i].name;
        assignments[i].stack = NULL;
        if (policy < 0) {
            continue;
        }
        self.addresses = parse_addresses(&ports[i].self, 1);
        for (size_t j = 0; j < MAX_LAYERS; j++) {
            if (layers[policy][j] && ports[i].layers & (1u << j)) {
                positions[n++] = (struct layer_position) {
                    .position = j,
                    .layer = layer_ref(layers[policy][j]),
                };
            }
        }
        assignments[i].stack = layer_stack_create(
            version, n, positions, &self, ports[i].flow_limit);
    }

    struct layer_port **changed = layer_ports_publish(version, assignments,
                                                      N_PORTS);

    for (size_t i = 0; policy >= 0 && changed[i]; i++) {
        layer_traverse_rejudge_all(
            changed[i], layer_snapshot_stack(layer_snapshot_get(), changed[i]),
            version);
        port_stats_forget_rules(&changed[i]->stats);
    }
    layer_ports_list_free(changed);
}

/* Checks. */

static void
check_table(size_t i)
{
    const struct layer_port *port = get_port(i);
    size_t n;
    struct connection **list = conn_table_list(port->conns, &n);

    ovs_assert(n == conn_table_count(port->conns));
    ovs_assert(n <= ports[i].flow_limit);
    for (size_t a = 0; a < n; a++) {
        ovs_assert(list[a]->path->n > 0);
        ovs_assert(!connection_is_gone(list[a]));
        for (size_t b = 0; b < a; b++) {
            for (size_t dir = 0; dir < N_LAYER_DIRECTIONS; dir++) {
                ovs_assert(memcmp(&list[a]->keys[dir], &list[b]->keys[dir],
                                  sizeof list[a]->keys[dir]));
            }
        }
    }
    for (size_t a = 0; a < n; a++) {
        connection_unref(list[a]);
    }
    free(list);
}

/* What a packet did. */
struct passage {
    size_t port;
    enum layer_direction dir;
    struct flow before, after;
};

/* Starts a traversal of 'p->port' in 'p->dir', by 'p->after' and 'wc'. */
static void
traversal_init(struct layer_traversal *t, struct passage *p,
               struct flow_wildcards *wc, struct dp_packet *packet,
               bool commit)
{
    const struct layer_snapshot *snapshot = layer_snapshot_get();

    memset(t, 0, sizeof *t);
    t->port = get_port(p->port);
    t->stack = layer_snapshot_stack(snapshot, t->port);
    t->version = layer_snapshot_version(snapshot);
    t->dir = p->dir;
    t->flow = &p->after;
    t->wc = wc;
    t->packet = packet;
    t->commit = commit;
    t->now = now;
    flow_wildcards_init_catchall(wc);
    WC_MASK_FIELD(wc, packet_type);
    WC_MASK_FIELD(wc, dl_type);
    if (is_ip_any(&p->after)) {
        WC_MASK_FIELD(wc, nw_frag);
    }
}

static bool
rules_do_nat(const struct layer_traversal *t)
{
    for (size_t i = 0; i < t->n_rules; i++) {
        const struct layer_actions *actions = t->rules[i]->actions;

        for (size_t j = 0; j < actions->n; j++) {
            if (actions->list[j].type == LA_SNAT
                || actions->list[j].type == LA_DNAT) {
                return true;
            }
        }
    }
    return false;
}

/* Stores in '*reply' the flow of a reply to 'flow'. */
static void
reverse(const struct flow *flow, struct flow *reply)
{
    *reply = *flow;
    reply->dl_src = flow->dl_dst;
    reply->dl_dst = flow->dl_src;
    reply->nw_src = flow->nw_dst;
    reply->nw_dst = flow->nw_src;
    reply->ipv6_src = flow->ipv6_dst;
    reply->ipv6_dst = flow->ipv6_src;
    if (flow->nw_proto == IPPROTO_ICMP) {
        reply->tp_src = htons(ntohs(flow->tp_src) == 8 ? 0 : 8);
    } else if (flow->nw_proto == IPPROTO_ICMPV6) {
        reply->tp_src = htons(ntohs(flow->tp_src) == 128 ? 129 : 128);
    } else {
        reply->tp_src = flow->tp_dst;
        reply->tp_dst = flow->tp_src;
    }
}

static bool
has_ports(uint8_t nw_proto)
{
    return (nw_proto == IPPROTO_TCP || nw_proto == IPPROTO_UDP
            || nw_proto == IPPROTO_SCTP);
}

/* Checks that a reply to what 'p' let pass, as part of 'conn', gets back.
 * Port 0 need not: to a translation it means that the port stays as it is. */
static void
check_reply(const struct passage *p, const struct connection *conn)
{
    struct passage r = { .port = p->port,
                         .dir = layer_direction_opposite(p->dir) };
    struct layer_traversal t;
    struct flow_wildcards wc;
    struct conn_key key, back;

    if (p->after.nw_frag
        || (has_ports(p->before.nw_proto)
            && (!p->before.tp_src || !p->before.tp_dst))) {
        return;
    }
    reverse(&p->after, &r.after);
    if (r.after.nw_proto == IPPROTO_TCP) {
        r.after.tcp_flags = htons(TCP_ACK);
    }
    r.before = r.after;
    traversal_init(&t, &r, &wc, NULL, false);
    layer_traverse(&t);
    ovs_assert(t.drop || t.conn == conn);
    if (!t.drop && !rules_do_nat(&t)
        && conn_key_from_flow(&p->before, &key)) {
        ovs_assert(conn_key_from_flow(&r.after, &back));
        conn_key_reverse(&back, &back);
        ovs_assert(!memcmp(&key, &back, sizeof key));
    }
    layer_traversal_uninit(&t);
}

/* Changes in 'flow' what 'wc' wildcards, as far as a packet of its kind has
 * it. */
static void
change_wildcarded(struct flow *flow, const struct flow_wildcards *wc,
                  uint8_t seed)
{
#define CHANGE(FIELD)                                                   \
    do {                                                                \
        uint8_t *value = (uint8_t *) &flow->FIELD;                      \
        const uint8_t *mask = (const uint8_t *) &wc->masks.FIELD;       \
        for (size_t i_ = 0; i_ < sizeof flow->FIELD; i_++) {            \
            value[i_] ^= (seed + i_ * 37) & ~mask[i_];                  \
        }                                                               \
    } while (0)
    CHANGE(dl_src);
    CHANGE(dl_dst);
    if (is_ip_any(flow)) {
        if (flow->dl_type == htons(ETH_TYPE_IP)) {
            CHANGE(nw_src);
            CHANGE(nw_dst);
        } else {
            CHANGE(ipv6_src);
            CHANGE(ipv6_dst);
        }
        CHANGE(nw_tos);
        CHANGE(nw_ttl);
        if (wc->masks.nw_proto == UINT8_MAX) {
            CHANGE(tp_src);
            CHANGE(tp_dst);
            if (flow->nw_proto == IPPROTO_TCP) {
                CHANGE(tcp_flags);
                flow->tcp_flags &= htons(0x0fff);
            }
        }
    }
#undef CHANGE
}

/* Checks that what may be cached for 'p->before' holds for other packets that
 * are like it in what is unwildcarded. */
static void
check_wildcards(const struct passage *p, uint8_t seed)
{
    struct passage a = { .port = p->port, .dir = p->dir,
                         .after = p->before };
    struct passage b = a;
    struct layer_traversal ta, tb;
    struct flow_wildcards wa, wb;

    traversal_init(&ta, &a, &wa, NULL, false);
    layer_traverse(&ta);
    if (ta.cacheable) {
        change_wildcarded(&b.after, &wa, seed);
        traversal_init(&tb, &b, &wb, NULL, false);
        layer_traverse(&tb);
        ovs_assert(ta.drop == tb.drop && ta.drop_layer == tb.drop_layer);
        ovs_assert(ta.conn == tb.conn);
        ovs_assert(ta.n_steps == tb.n_steps);
        for (size_t i = 0; i < ta.n_steps; i++) {
            ovs_assert(ta.steps[i].flow == tb.steps[i].flow
                       && ta.steps[i].rule == tb.steps[i].rule
                       && ta.steps[i].verdict == tb.steps[i].verdict);
        }
        layer_traversal_uninit(&tb);
    }
    layer_traversal_uninit(&ta);
}

/* Returns true if the same packet may have another fate, because of the port
 * that a source NAT draws, or the connection that is evicted. */
static bool
depends_on_luck(enum drop_reason drop)
{
    return (drop == DROP_SNAT_EXHAUSTED || drop == DROP_TUPLE_IN_USE
            || drop == DROP_FLOW_LIMIT);
}

/* Takes 'packet', if nonnull, whose flow is 'p->before', through 'p->port'.
 * Returns true if it passes. */
static bool
pass(struct passage *p, struct dp_packet *packet, uint8_t seed)
{
    struct layer_traversal t;
    struct flow_wildcards wc;

    /* What a trace says is what happens. */
    p->after = p->before;
    traversal_init(&t, p, &wc, packet, false);
    layer_traverse(&t);

    enum drop_reason predicted = t.drop;

    layer_traversal_uninit(&t);

    p->after = p->before;
    traversal_init(&t, p, &wc, packet, true);
    layer_traverse(&t);

    bool ok = !t.drop;

    ovs_assert(t.n_steps <= t.stack->n);
    ovs_assert(predicted == t.drop || depends_on_luck(predicted)
               || depends_on_luck(t.drop));
    if (ok && t.conn) {
        check_reply(p, t.conn);
    }
    layer_traversal_uninit(&t);
    if (!p->before.nw_frag && !flow_is_icmp_error(&p->before)) {
        check_wildcards(p, seed);
    }
    check_table(p->port);
    return ok;
}

/* Input. */

struct reader {
    const uint8_t *p, *end;
};

static uint8_t
get(struct reader *r)
{
    return r->p < r->end ? *r->p++ : 0;
}

/* Reads the flow of a packet that may well have to do with the policy. */
static void
get_flow(struct reader *r, struct flow *flow)
{
    static const uint8_t protocols[] = {
        IPPROTO_TCP, IPPROTO_TCP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDP,
        IPPROTO_ICMP, IPPROTO_SCTP, IPPROTO_GRE,
    };
    static const char *const v4[] = {
        "10.0.0.1", "10.0.0.2", "10.9.0.1", "10.0.0.8", "198.51.100.1",
        "203.0.113.1", "203.0.113.7", "192.0.2.1",
    };
    static const char *const v6[] = {
        "fd00::1", "fd00::2", "fd05::1", "fd05::2", "fd02::1", "fd01::1",
        "fe80::1", "ff02::1",
    };
    static const uint16_t sports[] = { 1024, 1025, 1026, 1027, 2000, 53, 1,
                                       40000 };
    static const uint16_t dports[] = { 80, 443, 22, 8000, 8001, 53, 1024,
                                       9 };
    uint8_t a = get(r), b = get(r), c = get(r);

    memset(flow, 0, sizeof *flow);
    flow->dl_src = (struct eth_addr) ETH_ADDR_C(02,00,00,00,00,01);
    flow->dl_dst = (struct eth_addr) ETH_ADDR_C(02,00,00,00,00,02);
    flow->nw_proto = protocols[a & 7];
    flow->nw_ttl = a & 0x10 ? 64 : a >> 5;
    if (a & 8) {
        flow->dl_type = htons(ETH_TYPE_IPV6);
        if (flow->nw_proto == IPPROTO_ICMP) {
            flow->nw_proto = IPPROTO_ICMPV6;
        }
        ovs_assert(ipv6_parse(v6[b & 7], &flow->ipv6_src));
        ovs_assert(ipv6_parse(v6[(b >> 3) & 7], &flow->ipv6_dst));
    } else {
        flow->dl_type = htons(ETH_TYPE_IP);
        ovs_assert(ip_parse(v4[b & 7], &flow->nw_src));
        ovs_assert(ip_parse(v4[(b >> 3) & 7], &flow->nw_dst));
    }
    if (b >> 6 == 3) {
        flow->nw_frag = (c & 1 ? FLOW_NW_FRAG_ANY
                         : FLOW_NW_FRAG_ANY | FLOW_NW_FRAG_LATER);
    }
    if (flow->nw_proto == IPPROTO_ICMP) {
        flow->tp_src = htons(c & 0x80 ? c & 15 : c & 8);
    } else if (flow->nw_proto == IPPROTO_ICMPV6) {
        flow->tp_src = htons(c & 0x80 ? c : 128 + (c & 1));
    } else if (flow->nw_proto != IPPROTO_GRE) {
        flow->tp_src = htons(sports[c & 7]);
        flow->tp_dst = htons(dports[(c >> 3) & 7]);
        if (flow->nw_proto == IPPROTO_TCP) {
            flow->tcp_flags = htons(c >> 6 == 3 ? get(r) : TCP_SYN);
        }
    }
}

/* Takes a packet with 'flow' through 'p'. */
static bool
pass_flow(struct passage *p, const struct flow *flow, uint8_t seed)
{
    struct dp_packet packet;
    bool ok;

    dp_packet_init(&packet, 256);
    flow_compose(&packet, flow, NULL, 0, false);
    flow_extract(&packet, &p->before);
    ok = pass(p, &packet, seed);
    dp_packet_uninit(&packet);
    return ok;
}

/* Passes an ICMP or ICMPv6 error of 'type' about 'about', which has passed,
 * back to where that came from. */
static void
pass_error(const struct passage *about, uint8_t type)
{
    struct passage p = { .port = about->port,
                         .dir = layer_direction_opposite(about->dir) };
    bool ipv4 = about->after.dl_type == htons(ETH_TYPE_IP);
    struct dp_packet quoted, packet;
    struct flow flow = about->after;

    if (!is_ip_any(&flow)) {
        return;
    }
    dp_packet_init(&quoted, 256);
    flow.vlans[0].tci = flow.vlans[1].tci = 0;
    flow_compose(&quoted, &flow, NULL, 0, false);

    size_t size = dp_packet_size(&quoted) - ETH_HEADER_LEN;
    const uint8_t *l3 = (uint8_t *) dp_packet_data(&quoted) + ETH_HEADER_LEN;

    dp_packet_init(&packet, 256);
    if (ipv4) {
        eth_compose(&packet, flow.dl_src, flow.dl_dst, ETH_TYPE_IP,
                    IP_HEADER_LEN + ICMP_HEADER_LEN + size);

        struct ip_header *ip = (void *) ((uint8_t *) dp_packet_data(&packet)
                                         + ETH_HEADER_LEN);

        memset(ip, 0, IP_HEADER_LEN + ICMP_HEADER_LEN);
        ip->ip_ihl_ver = IP_IHL_VER(5, 4);
        ip->ip_tot_len = htons(IP_HEADER_LEN + ICMP_HEADER_LEN + size);
        ip->ip_ttl = 64;
        ip->ip_proto = IPPROTO_ICMP;
        put_16aligned_be32(&ip->ip_src, htonl(0xcb007164));
        put_16aligned_be32(&ip->ip_dst, flow.nw_src);
        ((uint8_t *) (ip + 1))[0] = type & 1 ? 3 : 11;
        memcpy((uint8_t *) (ip + 1) + ICMP_HEADER_LEN, l3, size);
    } else {
        eth_compose(&packet, flow.dl_src, flow.dl_dst, ETH_TYPE_IPV6,
                    IPV6_HEADER_LEN + ICMP6_DATA_HEADER_LEN + size);

        uint8_t *ip6 = (uint8_t *) dp_packet_data(&packet) + ETH_HEADER_LEN;
        ovs_be16 len = htons(ICMP6_DATA_HEADER_LEN + size);

        memset(ip6, 0, IPV6_HEADER_LEN + ICMP6_DATA_HEADER_LEN);
        ip6[0] = 0x60;
        memcpy(ip6 + 4, &len, 2);
        ip6[6] = IPPROTO_ICMPV6;
        ip6[7] = 64;
        ip6[8] = 0xfd;
        memcpy(ip6 + 24, &flow.ipv6_src, 16);
        ip6[40] = 1 + type % 4;
        memcpy(ip6 + IPV6_HEADER_LEN + ICMP6_DATA_HEADER_LEN, l3, size);
    }
    flow_extract(&packet, &p.before);
    pass(&p, &packet, type);
    dp_packet_uninit(&packet);
    dp_packet_uninit(&quoted);
}

static void
run(struct reader *r)
{
    struct passage history[N_HISTORY];
    size_t n_history = 0;

    while (r->p < r->end) {
        uint8_t op = get(r);
        struct passage p = { .port = op & 1, .dir = (op >> 1) & 1 };
        struct flow flow;
        bool ok = false;

        switch (op >> 2 & 7) {
        case 0:
        case 1:
            get_flow(r, &flow);
            ok = pass_flow(&p, &flow, op);
            break;

        case 2:
        case 3:
            /* A reply to, or another packet of, what passed. */
            if (n_history) {
                const struct passage *h
                    = &history[get(r) % MIN(n_history, N_HISTORY)];

                if (op & 4) {
                    flow = h->before;
                    p.dir = h->dir;
                } else {
                    reverse(&h->after, &flow);
                    p.dir = layer_direction_opposite(h->dir);
                }
                p.port = h->port;
                if (flow.nw_proto == IPPROTO_TCP) {
                    flow.tcp_flags = htons(get(r));
                }
                if (is_ip_any(&flow)) {
                    ok = pass_flow(&p, &flow, op);
                }
            }
            break;

        case 4:
            if (n_history) {
                pass_error(&history[get(r) % MIN(n_history, N_HISTORY)], op);
            }
            break;

        case 5: {
            size_t wanted = get(r);
            size_t size = MIN(wanted, r->end - r->p);
            struct dp_packet *packet = dp_packet_clone_data(r->p, size);

            r->p += size;
            flow_extract(packet, &p.before);
            ok = pass(&p, packet, op);
            dp_packet_delete(packet);
            break;
        }

        case 6:
            now += op & 1 ? get(r) * 1000LL : get(r);
            if (op & 2) {
                for (size_t i = 0; i < N_PORTS; i++) {
                    conn_table_age(get_port(i)->conns, now);
                    check_table(i);
                }
            }
            break;

        case 7:
            publish(op & 1);
            for (size_t i = 0; i < N_PORTS; i++) {
                check_table(i);
            }
            break;
        }
        if (ok) {
            history[n_history++ % N_HISTORY] = p;
        }
        ovsrcu_quiesce();
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = { data, data + size };

    if (!version) {
        make_policies();
    }
    for (size_t i = 0; i < N_PORTS; i++) {
        layer_port_create(ports[i].name, get_ofport(i), NULL, i + 1);
    }
    publish(0);
    run(&r);
    for (size_t i = 0; i < N_PORTS; i++) {
        layer_port_destroy(get_ofport(i));
    }
    publish(-1);

    /* What is postponed may postpone more. */
    for (int i = 0; i < 5; i++) {
        ovsrcu_quiesce();
    }
    ovs_assert(!nat_pool_count());
    return 0;
}
