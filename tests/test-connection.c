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

/* Tests connections, what they share, and the NAT pool, and measures them.
 * Usage:
 *
 *    share           sharing of paths and openers, changes of policy, leaks
 *    expiry          layer flows that time out
 *    places          translations that have to be stored in the connection
 *    nat-pool        no tuple twice, all of them found, references
 *    pool            memory that another thread frees
 *    benchmark N [x] opens N connections through 4 layers that keep state, and
 *                    with any second argument changes the policy then
 */

#include <config.h>

#undef NDEBUG
#include "layered/ofproto-layered/connection.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "bitmap.h"
#include "command-line.h"
#include "dpif.h"
#include "flow.h"
#include "layered/ofproto-layered/address-set.h"
#include "layered/ofproto-layered/layer-packet.h"
#include "layered/ofproto-layered/layer-policy.h"
#include "layered/ofproto-layered/layer-port.h"
#include "layered/ofproto-layered/layer-traverse.h"
#include "layered/ofproto-layered/nat-pool.h"
#include "layered/ofproto-layered/object-pool.h"
#include "openvswitch/dynamic-string.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "packets.h"
#include "timeval.h"
#include "util.h"
#include "uuid.h"

/* Policy. */

static uint64_t version;

/* The sets $s0, $s1... */
static struct address_set **sets;
static size_t n_sets;

static struct address_set *
find_set(const char *name, void *aux OVS_UNUSED)
{
    for (size_t i = 0; i < n_sets; i++) {
        if (!strcmp(address_set_name(sets[i]), name)) {
            return sets[i];
        }
    }
    return NULL;
}

/* All rules that have been made, with a reference to each. */
static struct layer_rule **rules;
static size_t n_rules, allocated_rules;

/* A group of rules in the making. */
struct group {
    struct protocol_set stateful;
    struct layer_classifier *empty;
    struct classifier_edit *edit;
    uint16_t priority;
};

static void
group_begin(struct group *g)
{
    memset(g, 0, sizeof *g);
    g->empty = layer_classifier_create();
    g->edit = classifier_edit_begin(g->empty);
    g->priority = UINT16_MAX;
}

/* Adds a rule, of a lower priority than those before it. */
static void
group_add(struct group *g, const char *match, const char *actions_text)
{
    struct layer_actions *actions;
    struct condition *condition;
    struct layer_rule *rule;
    struct uuid uuid;
    char *error;

    error = condition_parse(match, find_set, NULL, &condition);
    ovs_assert(!error);
    error = layer_actions_parse(actions_text, &actions);
    ovs_assert(!error);
    uuid_generate(&uuid);
    rule = layer_rule_create(&uuid, NULL, g->priority--, condition, actions);
    protocol_set_add_rule(&g->stateful, rule);
    classifier_edit_insert(g->edit, &rule->cr, version);
    if (n_rules >= allocated_rules) {
        rules = x2nrealloc(rules, &allocated_rules, sizeof *rules);
    }
    rules[n_rules++] = rule;
}

static struct layer_group *
group_commit(struct group *g)
{
    struct uuid uuid;

    uuid_generate(&uuid);
    layer_classifier_unref(g->empty);
    return layer_group_create(&uuid, "", NULL, LV_NONE,
                              classifier_edit_commit(g->edit), &g->stateful);
}

/* Makes layer number 'id' with 'out' and 'in', which may be NULL, and timeouts
 * of 'timeout' seconds, the defaults if that is 0. */
static struct layer *
make_layer(unsigned int id, struct layer_group *out, struct layer_group *in,
           uint32_t timeout)
{
    struct layer_group *groups[N_LAYER_DIRECTIONS] = { out, in };
    struct conn_timeouts timeouts = conn_timeouts_default;
    struct layer_side sides[N_LAYER_DIRECTIONS];
    struct uuid uuid = { .parts = { 1, id, 0, 0 } };

    for (size_t i = 0; timeout && i < N_CONN_STATES; i++) {
        timeouts.seconds[i] = timeout;
    }
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        sides[i].n = groups[i] ? 1 : 0;
        sides[i].groups = xmalloc(sizeof *sides[i].groups);
        sides[i].groups[0].key = 0;
        sides[i].groups[0].group = groups[i];
        sides[i].default_verdict = LV_ALLOW;
    }
    return layer_create(&uuid, "layer", sides, &timeouts, false);
}

/* Makes layer number 'id' with one outbound rule. */
static struct layer *
make_simple_layer(unsigned int id, const char *match, const char *actions,
                  uint32_t timeout)
{
    struct group g;

    group_begin(&g);
    group_add(&g, match, actions);
    return make_layer(id, group_commit(&g), NULL, timeout);
}

/* The port, of which only the address matters. */

static char ofport;

static const struct ofport_dpif *
get_ofport(void)
{
    return ALIGNED_CAST(const struct ofport_dpif *, &ofport);
}

static const struct layer_port *
get_port(void)
{
    return layer_port_lookup(get_ofport());
}

static void
start(void)
{
    layer_port_create("p0", get_ofport(), NULL, 1);
}

/* Puts 'n' 'layers' in force, and takes over the references to them, or
 * removes the policy if 'n' is 0. */
static void
publish(struct layer *const layers[], size_t n, uint32_t limit)
{
    static const char *const address = "10.0.0.1";
    struct layer_position positions[16];
    struct layer_assignment assignment = { .iface = "p0" };
    struct condition_self self = { .has_mac = false };
    struct layer_port **ports;

    version++;
    if (n) {
        char *error = address_table_parse(&address, 1, &self.addresses);

        ovs_assert(!error);
        for (size_t i = 0; i < n; i++) {
            positions[i].position = i;
            positions[i].layer = layers[i];
        }
        assignment.stack = layer_stack_create(version, n, positions, &self,
                                              limit);
    }
    ports = layer_ports_publish(version, &assignment, 1);
    for (size_t i = 0; n && ports[i]; i++) {
        layer_traverse_rejudge_all(
            ports[i], layer_snapshot_stack(layer_snapshot_get(), ports[i]),
            version);
        port_stats_forget_rules(&ports[i]->stats);
    }
    layer_ports_list_free(ports);
}

/* What is postponed may postpone more. */
static void
quiesce(void)
{
    for (int i = 0; i < 8; i++) {
        ovsrcu_quiesce();
        xnanosleep(20000000);
    }
}

static void
stop(void)
{
    layer_port_destroy(get_ofport());
    publish(NULL, 0, 0);
    for (int i = 0; i < 100 && (!i || nat_pool_count()); i++) {
        quiesce();
    }
    ovs_assert(!nat_pool_count());
    for (size_t i = 0; i < n_rules; i++) {
        layer_rule_unref(rules[i]);
    }
    free(rules);
    rules = NULL;
    n_rules = allocated_rules = 0;
}

/* Packets. */

static void
make_tcp(struct flow *flow, ovs_be32 src, uint16_t sport, ovs_be32 dst,
         uint16_t dport, uint16_t flags)
{
    memset(flow, 0, sizeof *flow);
    flow->in_port.ofp_port = 1;
    flow->dl_src = (struct eth_addr) ETH_ADDR_C(02,00,00,00,00,01);
    flow->dl_dst = (struct eth_addr) ETH_ADDR_C(02,00,00,00,00,02);
    flow->dl_type = htons(ETH_TYPE_IP);
    flow->nw_proto = IPPROTO_TCP;
    flow->nw_ttl = 64;
    flow->nw_src = src;
    flow->nw_dst = dst;
    flow->tp_src = htons(sport);
    flow->tp_dst = htons(dport);
    flow->tcp_flags = htons(flags);
}

/* Makes 'reply' the answer to 'flow', with 'flags'. */
static void
make_reply(const struct flow *flow, struct flow *reply, uint16_t flags)
{
    *reply = *flow;
    reply->dl_src = flow->dl_dst;
    reply->dl_dst = flow->dl_src;
    reply->nw_src = flow->nw_dst;
    reply->nw_dst = flow->nw_src;
    reply->tp_src = flow->tp_dst;
    reply->tp_dst = flow->tp_src;
    reply->tcp_flags = htons(flags);
}

static enum drop_reason
pass_at(struct flow *flow, enum layer_direction dir, long long int now)
{
    const struct layer_snapshot *snapshot = layer_snapshot_get();
    struct flow_wildcards wc;
    struct layer_traversal t = {
        .port = get_port(),
        .stack = layer_snapshot_stack(snapshot, get_port()),
        .version = layer_snapshot_version(snapshot),
        .dir = dir,
        .flow = flow,
        .wc = &wc,
        .commit = true,
        .now = now,
    };
    enum drop_reason drop;

    flow_wildcards_init_catchall(&wc);
    layer_traverse(&t);
    drop = t.drop;
    layer_traversal_uninit(&t);
    return drop;
}

static enum drop_reason
pass(struct flow *flow, enum layer_direction dir)
{
    return pass_at(flow, dir, time_msec());
}

/* Opens TCP connections from ports 1 to 'n' of 10.0.0.1 to 203.0.113.1:80,
 * with 'ttl'.  Stores what becomes of their first packets in 'after', if
 * nonnull. */
static void
open_connections(size_t n, uint8_t ttl, struct flow *after)
{
    for (size_t i = 0; i < n; i++) {
        struct flow flow;

        make_tcp(&flow, htonl(0x0a000001), i + 1, htonl(0xcb007101), 80,
                 TCP_SYN);
        flow.nw_ttl = ttl;
        ovs_assert(pass(&flow, LAYER_OUTBOUND) == DROP_NONE);
        if (after) {
            after[i] = flow;
        }
    }
}

/* Checks that further packets of open_connections() become what 'after' has,
 * and that answers to these get back. */
static void
check_connections(size_t n, const struct flow *after)
{
    for (size_t i = 0; i < n; i++) {
        struct flow flow;

        make_reply(&after[i], &flow, TCP_SYN | TCP_ACK);
        ovs_assert(pass(&flow, LAYER_INBOUND) == DROP_NONE);
        ovs_assert(flow.nw_src == htonl(0xcb007101));
        ovs_assert(flow.nw_dst == htonl(0x0a000001));
        ovs_assert(flow.tp_src == htons(80) && flow.tp_dst == htons(i + 1));

        make_tcp(&flow, htonl(0x0a000001), i + 1, htonl(0xcb007101), 80,
                 TCP_ACK);
        ovs_assert(pass(&flow, LAYER_OUTBOUND) == DROP_NONE);
        ovs_assert(flow.nw_src == after[i].nw_src);
        ovs_assert(flow.nw_dst == after[i].nw_dst);
        ovs_assert(flow.tp_src == after[i].tp_src);
        ovs_assert(flow.tp_dst == after[i].tp_dst);
    }
}

/* Checks how much there is, once nobody uses anything else. */
static void
check_counts(size_t n_conns, size_t n_paths, size_t n_openers, size_t n_tuples)
{
    const struct conn_table *conns = get_port()->conns;

    for (int i = 0; i < 20 && (conn_table_count_paths(conns) != n_paths
                               || conn_table_count_openers(conns) != n_openers
                               || nat_pool_count() != n_tuples); i++) {
        quiesce();
    }
    ovs_assert(conn_table_count(conns) == n_conns);
    ovs_assert(conn_table_count_paths(conns) == n_paths);
    ovs_assert(conn_table_count_openers(conns) == n_openers);
    ovs_assert(nat_pool_count() == n_tuples);
}

/* Puts layers of four kinds in force, and keeps references to them. */
static void
publish_four(struct layer *const layers[])
{
    for (size_t i = 0; i < 4; i++) {
        layer_ref(layers[i]);
    }
    publish(layers, 4, UINT32_MAX);
}

static void
replace_layer(struct layer **layer, struct layer *new)
{
    layer_unref(*layer);
    *layer = new;
}

enum { N_CONNS = 500 };

static void
test_share(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    struct flow *after = xmalloc(N_CONNS * sizeof *after);
    struct connection **list;
    struct layer *layers[4];
    struct connection *held;
    struct flow flow;
    size_t n;

    layers[0] = make_simple_layer(0, "tcp,tp_dst=80", "allow,stateful", 0);
    layers[1] = make_simple_layer(1, "tcp,nw_dst=203.0.113.1",
                                  "dnat(10.1.0.1:81|10.1.0.2:82|10.1.0.3:83)",
                                  0);
    layers[2] = make_simple_layer(2, "tcp", "snat(192.0.2.1-192.0.2.2)", 0);
    layers[3] = make_simple_layer(3, "tcp",
                                  "allow,stateful,count(c),set_dscp(7)", 0);
    start();
    publish_four(layers);

    /* The same for all, though not the target. */
    open_connections(N_CONNS, 64, after);
    check_counts(N_CONNS, 1, 1, N_CONNS);
    check_connections(N_CONNS, after);
    check_counts(N_CONNS, 1, 1, N_CONNS);

    /* A new version of the policy that is like the old one. */
    publish_four(layers);
    check_counts(N_CONNS, 1, 1, N_CONNS);
    check_connections(N_CONNS, after);

    /* Other rules, the same translations. */
    replace_layer(&layers[3], make_simple_layer(3, "ip", "allow,stateful", 0));
    publish_four(layers);
    check_counts(N_CONNS, 1, 1, N_CONNS);
    check_connections(N_CONNS, after);

    /* Other translations, of those from odd ports. */
    struct group g;
    group_begin(&g);
    group_add(&g, "tcp,tp_src=0x1/0x1", "snat(192.0.2.77)");
    group_add(&g, "tcp", "snat(192.0.2.1-192.0.2.2)");
    replace_layer(&layers[2], make_layer(2, group_commit(&g), NULL, 0));
    publish_four(layers);
    check_counts(N_CONNS, 2, 1, N_CONNS);
    for (size_t i = 0; i < N_CONNS; i++) {
        if (ntohs(after[i].tp_src) & 1) {
            after[i].nw_src = htonl(0xc000024d);
        }
    }

    /* The tuples of those that have been translated anew. */
    ovs_assert(N_CONNS == 500);
    for (size_t i = 0; i < N_CONNS; i++) {
        make_tcp(&flow, htonl(0x0a000001), i + 1, htonl(0xcb007101), 80,
                 TCP_ACK);
        ovs_assert(pass(&flow, LAYER_OUTBOUND) == DROP_NONE);
        ovs_assert((flow.nw_src == htonl(0xc000024d)) == (i % 2 == 0));
        after[i] = flow;
    }
    check_connections(N_CONNS, after);

    /* Openers that differ.  What a reply opens would too. */
    make_tcp(&flow, htonl(0x0a000001), 60000, htonl(0xcb007101), 80, TCP_SYN);
    flow.nw_ttl = 63;
    ovs_assert(pass(&flow, LAYER_OUTBOUND) == DROP_NONE);
    check_counts(N_CONNS + 1, 2, 2, N_CONNS + 1);

    /* Both sides close, and the VM opens it again, from the same tuple. */
    struct flow first = flow;
    for (int i = 0; i < 2; i++) {
        static const uint16_t flags[] = { TCP_SYN | TCP_ACK,
                                          TCP_FIN | TCP_ACK };

        make_reply(&first, &flow, flags[i]);
        ovs_assert(pass(&flow, LAYER_INBOUND) == DROP_NONE);
        flow.tcp_flags = htons(i ? TCP_FIN | TCP_ACK : TCP_ACK);
        make_tcp(&flow, htonl(0x0a000001), 60000, htonl(0xcb007101), 80,
                 ntohs(flow.tcp_flags));
        ovs_assert(pass(&flow, LAYER_OUTBOUND) == DROP_NONE);
    }
    make_tcp(&flow, htonl(0x0a000001), 60000, htonl(0xcb007101), 80, TCP_SYN);
    ovs_assert(pass(&flow, LAYER_OUTBOUND) == DROP_NONE);
    ovs_assert(flow.nw_src == first.nw_src && flow.tp_src == first.tp_src);
    ovs_assert(conn_table_opened(get_port()->conns) == N_CONNS + 2);
    check_counts(N_CONNS + 1, 2, 1, N_CONNS + 1);

    /* A layer flow less. */
    list = conn_table_list(get_port()->conns, &n);
    for (size_t i = 0; i < n; i++) {
        const struct conn_layer *cl = connection_find_layer(list[i], layers[3],
                                                            LLONG_MIN);

        ovs_assert(list[i]->path->n == 4);
        conn_table_drop_layer(get_port()->conns, list[i], cl);
        connection_unref(list[i]);
    }
    free(list);
    check_counts(N_CONNS + 1, 2, 1, N_CONNS + 1);
    list = conn_table_list(get_port()->conns, &n);
    for (size_t i = 0; i < n; i++) {
        ovs_assert(list[i]->path->n == 3);
        connection_unref(list[i]);
    }
    free(list);

    /* All are denied.  A tuple is not free before nobody uses it. */
    list = conn_table_list(get_port()->conns, &n);
    held = list[0];
    for (size_t i = 1; i < n; i++) {
        connection_unref(list[i]);
    }
    free(list);
    replace_layer(&layers[0], make_simple_layer(0, "tcp", "deny", 0));
    publish_four(layers);
    check_counts(0, 1, 1, 1);
    connection_unref(held);
    check_counts(0, 0, 0, 0);

    for (size_t i = 0; i < 4; i++) {
        layer_unref(layers[i]);
    }
    free(after);
    stop();
}

static void
test_expiry(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    struct flow *after = xmalloc(N_CONNS * sizeof *after);
    struct layer *layers[4];
    long long int now;
    struct connection **list;
    size_t n;

    layers[0] = make_simple_layer(0, "tcp", "allow,stateful", 5);
    layers[1] = make_simple_layer(1, "tcp", "dnat(10.1.0.1:81)", 20);
    layers[2] = make_simple_layer(2, "tcp", "snat(192.0.2.1)", 30);
    layers[3] = make_simple_layer(3, "tcp", "allow,stateful", 1000);
    start();
    publish_four(layers);
    open_connections(N_CONNS, 64, after);
    now = time_msec();

    conn_table_age(get_port()->conns, now + 4000);
    check_counts(N_CONNS, 1, 1, N_CONNS);
    list = conn_table_list(get_port()->conns, &n);
    ovs_assert(connection_expires(list[0]) <= now + 5000);
    for (size_t i = 0; i < n; i++) {
        connection_unref(list[i]);
    }
    free(list);

    conn_table_age(get_port()->conns, now + 6000);
    check_counts(N_CONNS, 1, 1, N_CONNS);
    list = conn_table_list(get_port()->conns, &n);
    for (size_t i = 0; i < n; i++) {
        ovs_assert(list[i]->path->n == 3);
        connection_unref(list[i]);
    }
    free(list);

    /* With the first translation, all of the connection goes. */
    conn_table_age(get_port()->conns, now + 21000);
    check_counts(0, 0, 0, 0);

    for (size_t i = 0; i < 4; i++) {
        layer_unref(layers[i]);
    }
    free(after);
    stop();
}

static void
test_places(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    struct flow *after = xmalloc(N_CONNS * sizeof *after);
    struct connection **list;
    struct layer *layers[4];
    struct group g;
    size_t n;

    layers[0] = make_simple_layer(0, "tcp", "snat(192.0.2.1)", 0);
    layers[1] = make_simple_layer(1, "tcp",
                                  "dnat(10.1.0.1:81),snat(192.0.2.2)", 0);
    layers[2] = make_simple_layer(2, "tcp",
                                  "dnat(10.1.0.2:82),snat(192.0.2.3)", 0);
    layers[3] = make_simple_layer(3, "tcp", "dnat(10.1.0.3)", 0);
    start();
    publish_four(layers);
    open_connections(N_CONNS, 64, after);
    check_counts(N_CONNS, 1, 1, 3 * N_CONNS);
    list = conn_table_list(get_port()->conns, &n);
    ovs_assert(list[0]->path->n_extra == 4);
    for (size_t i = 0; i < n; i++) {
        connection_unref(list[i]);
    }
    free(list);
    ovs_assert(after[0].nw_src == htonl(0xc0000203));
    ovs_assert(after[0].nw_dst == htonl(0x0a010003));
    ovs_assert(after[0].tp_dst == htons(82));
    check_connections(N_CONNS, after);

    /* A change in the middle keeps the others. */
    replace_layer(&layers[1],
                  make_simple_layer(1, "tcp",
                                    "dnat(10.1.0.7:81),snat(192.0.2.2)", 0));
    publish_four(layers);
    check_counts(N_CONNS, 1, 1, 3 * N_CONNS);
    check_connections(N_CONNS, after);

    /* Layers that the other direction's packets have flows in as well. */
    group_begin(&g);
    group_add(&g, "tcp", "allow,stateful");
    replace_layer(&layers[3], make_layer(3, NULL, group_commit(&g), 0));
    publish_four(layers);
    check_counts(N_CONNS, 1, 1, 3 * N_CONNS);

    for (size_t i = 0; i < 4; i++) {
        layer_unref(layers[i]);
    }
    free(after);
    stop();
}

/* NAT pool. */

static struct nat_target
make_target(uint32_t min, uint32_t max, uint16_t min_port, uint16_t max_port)
{
    return (struct nat_target) {
        .min = in6_addr_mapped_ipv4(htonl(min)),
        .max = in6_addr_mapped_ipv4(htonl(max)),
        .min_port = min_port,
        .max_port = max_port,
    };
}

/* Takes all tuples of 'target' towards a remote endpoint, returns half of them
 * and takes those again. */
static void
exhaust(const struct nat_target *target, size_t n)
{
    struct in6_addr src = in6_addr_mapped_ipv4(htonl(0x0a000001));
    struct in6_addr remote = in6_addr_mapped_ipv4(htonl(0xcb007101));
    struct nat_tuple *tuples = xmalloc(n * sizeof *tuples);
    struct nat_tuple extra;
    size_t before = nat_pool_count();

    for (int round = 0; round < 4; round++) {
        unsigned long *seen = bitmap_allocate(1 << 20);

        for (size_t i = 0; i < n; i++) {
            if (!round || i % 2) {
                ovs_assert(nat_pool_peek(target, IPPROTO_TCP, &src, htons(i),
                                         &remote, htons(80), &extra));
                ovs_assert(nat_pool_allocate(target, IPPROTO_TCP, &src,
                                             htons(i), &remote, htons(80),
                                             &tuples[i]));
            }
        }
        ovs_assert(nat_pool_count() == before + n);
        ovs_assert(!nat_pool_allocate(target, IPPROTO_TCP, &src, htons(1),
                                      &remote, htons(80), &extra));
        ovs_assert(!nat_pool_peek(target, IPPROTO_TCP, &src, htons(1),
                                  &remote, htons(80), &extra));
        for (size_t i = 0; i < n; i++) {
            ovs_be32 addr = in6_addr_get_mapped_ipv4(&tuples[i].addr);
            ovs_be32 min = in6_addr_get_mapped_ipv4(&target->min);
            size_t key = ((ntohl(addr) - ntohl(min)) << 16
                          | ntohs(tuples[i].port));

            ovs_assert(ntohl(addr) >= ntohl(min)
                       && addr <= in6_addr_get_mapped_ipv4(&target->max));
            ovs_assert(ntohs(tuples[i].port) >= target->min_port
                       && (!target->max_port
                           || ntohs(tuples[i].port) <= target->max_port));
            ovs_assert(!bitmap_is_set(seen, key));
            bitmap_set1(seen, key);
        }

        /* Others are not concerned. */
        ovs_assert(nat_pool_allocate(target, IPPROTO_TCP, &src, htons(1),
                                     &remote, htons(81), &extra));
        nat_pool_release(&extra);
        ovs_assert(nat_pool_allocate(target, IPPROTO_UDP, &src, htons(1),
                                     &remote, htons(80), &extra));
        nat_pool_release(&extra);

        /* Who has another reference keeps it. */
        nat_pool_ref(&tuples[1]);
        for (size_t i = 1; i < n; i += 2) {
            nat_pool_release(&tuples[i]);
        }
        ovs_assert(nat_pool_count() == before + n - n / 2 + 1);
        nat_pool_release(&tuples[1]);
        ovs_assert(nat_pool_count() == before + n - n / 2);
        bitmap_free(seen);
    }
    for (size_t i = 0; i < n; i += 2) {
        nat_pool_release(&tuples[i]);
    }
    ovs_assert(nat_pool_count() == before);
    free(tuples);
}

static void
test_nat_pool(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    struct nat_target target;

    target = make_target(0xc0000201, 0xc0000203, 1024, 1025);
    exhaust(&target, 6);
    target = make_target(0xc0000201, 0xc0000201, 2000, 2199);
    exhaust(&target, 200);
    target = make_target(0xc0000201, 0xc0000202, 3000, 3511);
    exhaust(&target, 2 * 512);
    target = make_target(0xc0000201, 0xc0000202, 60000, 65535);
    exhaust(&target, 2 * 5536);
    target = make_target(0xc0000201, 0xc0000201, 1, 65535);
    exhaust(&target, 65535);
    target = make_target(0xc0000201, 0xc0000201, 1, 4096);
    exhaust(&target, 4096);
}

/* benchmark. */

static long long int
now_nsec(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static size_t
allocated(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

/* The policy of the benchmark: an ACL of 1,000 rules with sets, a balancer,
 * source NAT and a layer that counts. */
static void
make_policy(struct layer *layers[], struct ds *targets)
{
    struct group g;

    n_sets = 100;
    sets = xmalloc(n_sets * sizeof *sets);
    for (size_t i = 0; i < n_sets; i++) {
        char *name = xasprintf("s%"PRIuSIZE, i);
        char *addresses[32];
        struct address_table *table;
        char *error;

        sets[i] = address_set_create(name);
        for (size_t j = 0; j < ARRAY_SIZE(addresses); j++) {
            addresses[j] = xasprintf("172.16.%"PRIuSIZE".%"PRIuSIZE, i, j * 7);
        }
        error = address_table_parse((const char *const *) addresses,
                                    ARRAY_SIZE(addresses), &table);
        ovs_assert(!error);
        address_set_publish(sets[i], table, version);
        for (size_t j = 0; j < ARRAY_SIZE(addresses); j++) {
            free(addresses[j]);
        }
        free(name);
    }

    group_begin(&g);
    for (size_t i = 0; i < 999; i++) {
        char *match = xasprintf("tcp,nw_src=$s%"PRIuSIZE",nw_dst=$s%"PRIuSIZE
                                ",tp_dst=%"PRIuSIZE, i % n_sets,
                                (i * 7 + 3) % n_sets, 1000 + i);
        group_add(&g, match, i % 2 ? "deny" : "allow,stateful");
        free(match);
    }
    group_add(&g, "tcp,nw_src=10.0.0.0/8,tp_dst=80", "allow,stateful");
    layers[0] = make_layer(0, group_commit(&g), NULL, 0);

    ds_put_cstr(targets, "dnat(");
    for (int i = 0; i < 64; i++) {
        ds_put_format(targets, "%s10.200.0.%d:8080", i ? "|" : "", i + 1);
    }
    ds_put_cstr(targets, ")");
    group_begin(&g);
    group_add(&g, "tcp,nw_dst=203.0.113.0/24,tp_dst=80", ds_cstr(targets));
    group_add(&g, "tcp", "allow,stateful");
    layers[1] = make_layer(1, group_commit(&g), NULL, 0);
    layers[2] = make_simple_layer(2, "tcp,nw_src=10.0.0.0/8",
                                  "snat(192.0.2.0-192.0.2.31)", 0);
    layers[3] = make_simple_layer(3, "tcp", "allow,stateful,count(all)", 0);
}

/* The flow that opens connection number 'i': through the balancer, or if
 * 'spread' is true to an endpoint of its own. */
static void
make_opener(struct flow *flow, uint32_t i, bool spread)
{
    make_tcp(flow, htonl(0x0a000000 + i % 997), 1024 + i / 997,
             htonl(spread ? 0xc6120000 + i : 0xcb007100 + i % 16), 80,
             TCP_SYN);
}

static void
run_benchmark(uint32_t n, bool spread, bool policy_change)
{
    struct ds targets = DS_EMPTY_INITIALIZER;
    struct layer *layers[4];
    long long int t0, total = 0;
    size_t before, n_dropped = 0;
    struct flow flow;

    start();
    make_policy(layers, &targets);
    for (size_t i = 0; i < 4; i++) {
        layer_ref(layers[i]);
    }
    publish(layers, 4, UINT32_MAX);
    quiesce();
    /* The shards of the pool. */
    nat_pool_count();
    before = allocated();

    t0 = now_nsec();
    for (uint32_t i = 0; i < n; i++) {
        make_opener(&flow, i, spread);
        make_opener(&flow, i, spread);
    }
    total = (now_nsec() - t0) / -2;
    t0 = now_nsec();
    for (uint32_t i = 0; i < n; i++) {
        make_opener(&flow, i, spread);
        n_dropped += pass_at(&flow, LAYER_OUTBOUND, time_msec()) != DROP_NONE;
        if (!(i % 1024)) {
            ovsrcu_quiesce();
        }
    }
    total += now_nsec() - t0;
    quiesce();
    malloc_trim(0);
    printf("%s: %"PRIu32" connections (%"PRIuSIZE" packets dropped): "
           "%.1f bytes each, %.0f ns each\n", spread ? "spread" : "balanced",
           n, n_dropped, 1.0 * (allocated() - before) / n, 1.0 * total / n);

    total = now_nsec();
    for (uint32_t i = 0; i < n; i++) {
        make_opener(&flow, i, spread);
        flow.tcp_flags = htons(TCP_ACK);
        pass(&flow, LAYER_OUTBOUND);
    }
    printf("  known: %.0f ns each\n", 1.0 * (now_nsec() - total) / n);

    total = now_nsec();
    conn_table_age(get_port()->conns, time_msec());
    printf("  aging: %.3f ms\n", (now_nsec() - total) / 1e6);

    if (policy_change) {
        total = now_nsec();
        publish(layers, 4, UINT32_MAX);
        printf("  rejudged: %.0f ns each\n",
               1.0 * (now_nsec() - total) / n);
        quiesce();
        malloc_trim(0);
        printf("  then %.1f bytes each\n", 1.0 * (allocated() - before) / n);
    } else {
        for (size_t i = 0; i < 4; i++) {
            layer_unref(layers[i]);
        }
    }
    stop();
    for (size_t i = 0; i < n_sets; i++) {
        address_set_unref(sets[i]);
    }
    free(sets);
    n_sets = 0;
    ds_destroy(&targets);
}

static void
benchmark(struct ovs_cmdl_context *ctx)
{
    uint32_t n = strtoul(ctx->argv[1], NULL, 10);

    run_benchmark(n, false, ctx->argc > 2);
    run_benchmark(n, true, ctx->argc > 2);
}

/* Object pools. */

#define N_OBJECTS 1000
#define OBJECT_SIZE 24

struct objects {
    struct object_pool *pool;
    uint8_t *list[N_OBJECTS];
};

/* Frees the objects of 'aux', a struct objects, each of which must be as it
 * was left. */
static void *
free_objects(void *aux)
{
    struct objects *objects = aux;

    for (size_t i = 0; i < N_OBJECTS; i++) {
        for (size_t j = 0; j < OBJECT_SIZE; j++) {
            ovs_assert(objects->list[i][j] == (uint8_t) i);
        }
        object_pool_free(objects->pool, objects->list[i]);
    }
    return NULL;
}

/* What one thread allocates and another one frees is never used by two at
 * once, and none of it gets lost. */
static void
test_pool(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    struct object_pool *pool = object_pool_create(OBJECT_SIZE);
    size_t in_use = 0;

    for (int round = 0; round < 200; round++) {
        struct objects o = { .pool = pool };

        if (round == 100) {
            in_use = mallinfo2().uordblks;
        }
        for (size_t i = 0; i < N_OBJECTS; i++) {
            o.list[i] = object_pool_alloc(pool);
            memset(o.list[i], i, OBJECT_SIZE);
        }
        xpthread_join(ovs_thread_create("freer", free_objects, &o), NULL);
    }
    ovs_assert(mallinfo2().uordblks < in_use + 10 * N_OBJECTS * OBJECT_SIZE);
}

int
main(int argc, char *argv[])
{
    static const struct ovs_cmdl_command commands[] = {
        { "share", NULL, 0, 0, test_share, OVS_RO },
        { "expiry", NULL, 0, 0, test_expiry, OVS_RO },
        { "places", NULL, 0, 0, test_places, OVS_RO },
        { "nat-pool", NULL, 0, 0, test_nat_pool, OVS_RO },
        { "pool", NULL, 0, 0, test_pool, OVS_RO },
        { "benchmark", NULL, 1, 2, benchmark, OVS_RO },
        { NULL, NULL, 0, 0, NULL, OVS_RO },
    };
    struct ovs_cmdl_context ctx = { .argc = argc - 1, .argv = argv + 1 };

    ovs_cmdl_run_command(&ctx, commands);
    return 0;
}
