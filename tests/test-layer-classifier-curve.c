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

/* Measurements of the layer classifier. */

#include <config.h>

#undef NDEBUG
#include "layered/tests/test-layer-classifier.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "command-line.h"
#include "flow.h"
#include "layered/ofproto-layered/address-set.h"
#include "layered/ofproto-layered/layer-condition.h"
#include "openvswitch/dynamic-string.h"
#include "ovs-rcu.h"
#include "packets.h"
#include "random.h"
#include "util.h"

/* Of this thread, as other processes should not matter. */
static double
seconds(void)
{
    struct timespec now;

    xclock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static uint32_t
inside(void)
{
    return 0x0a000000 | random_uint32() >> 8;
}

/* A rule as in a usual ACL, and a packet, '*flow', that meets it if it is from
 * none of the sets.  The port's own address is 10.9.9.9. */
static struct test_rule *
acl_rule(uint64_t precedence, bool with_sets, struct flow *flow)
{
    struct ds s = DS_EMPTY_INITIALIZER;
    bool tcp = rnd(3);
    int len;

    memset(flow, 0, sizeof *flow);
    flow->dl_type = htons(ETH_TYPE_IP);
    flow->nw_proto = tcp ? IPPROTO_TCP : IPPROTO_UDP;
    flow->nw_src = htonl(inside());
    flow->nw_dst = htonl(0x0a090909);
    flow->tp_src = htons(1024 + rnd(60000));
    flow->tp_dst = htons(1 + rnd(10000));

    ds_put_cstr(&s, tcp ? "tcp" : "udp");
    if (with_sets && one_in(2)) {
        ds_put_format(&s, ",nw_src=$s%u", rnd(n_test_sets));
    } else {
        /* Few that are wide, as otherwise no rule below them matters. */
        len = one_in(20) ? 8 + rnd(16) : 24 + rnd(9);
        ds_put_format(&s, ",nw_src="IP_FMT"/%d",
                      IP_ARGS(flow->nw_src & be32_prefix_mask(len)), len);
    }
    if (rnd(4)) {
        ds_put_cstr(&s, ",nw_dst=$self");
    } else {
        len = 16 + rnd(9);
        ds_put_format(&s, ",nw_dst="IP_FMT"/%d",
                      IP_ARGS(flow->nw_dst & be32_prefix_mask(len)), len);
    }
    if (rnd(4)) {
        ds_put_format(&s, ",tp_dst=%u", ntohs(flow->tp_dst));
    } else if (one_in(2)) {
        ds_put_format(&s, ",tp_dst=%u-%u", ntohs(flow->tp_dst),
                      ntohs(flow->tp_dst) + rnd(1000));
    }

    struct test_rule *rule = test_create_rule(ds_cstr(&s), precedence);
    ds_destroy(&s);
    return rule;
}

static struct address_table *
acl_table(size_t n)
{
    char **addresses = xmalloc(n * sizeof *addresses);
    struct address_table *table;

    for (size_t i = 0; i < n; i++) {
        int len = 24 + rnd(9);

        ovs_be32 address = htonl(inside()) & be32_prefix_mask(len);

        addresses[i] = xasprintf(IP_FMT "/%d", IP_ARGS(address), len);
    }
    table = test_parse_table(addresses, n);
    free(addresses);
    return table;
}

/* Returns the nanoseconds that a look-up of one of 'flows' takes. */
static double
time_lookups(const struct layer_classifier *cls,
             const struct condition_self *self, const struct flow *flows,
             size_t n, bool with_wc, unsigned int *n_found)
{
    struct flow_wildcards wc;
    struct flow flow = flows[0];
    size_t n_lookups = 200000;
    double start = seconds();

    flow_wildcards_init_catchall(&wc);
    *n_found = 0;
    for (size_t i = 0; i < n_lookups; i++) {
        const struct flow *f = &flows[i % n];

        /* The caller has the flow at hand, in the processor's cache. */
        flow.nw_src = f->nw_src;
        flow.nw_dst = f->nw_dst;
        flow.nw_proto = f->nw_proto;
        flow.tp_dst = f->tp_dst;
        *n_found += layer_classifier_lookup(cls, 1, self, &flow,
                                            with_wc ? &wc : NULL) != NULL;
    }
    return (seconds() - start) / n_lookups * 1e9;
}

static void
measure_rules(size_t n, bool with_sets)
{
    char *own[1] = { xstrdup("10.9.9.9") };
    struct condition_self self = { .addresses = test_parse_table(own, 1) };
    struct test_rule **rules = xmalloc(n * sizeof *rules);
    struct layer_classifier *empty = layer_classifier_create();
    struct layer_classifier *cls, *next;
    struct classifier_edit *edit;
    unsigned int n_found;
    struct flow *flows;
    size_t n_flows = 1000;
    double start, build, change, ns, ns_wc;
    size_t n_changes = 0;

    test_create_sets(MIN(MAX(n / 20, 2), 1000));
    for (size_t i = 0; i < n_test_sets; i++) {
        address_set_publish(test_sets[i], acl_table(20), 1);
    }
    flows = xmalloc(MAX(n, n_flows) * sizeof *flows);
    for (size_t i = 0; i < n; i++) {
        rules[i] = acl_rule((uint64_t) random_uint32() << 32 | i, with_sets,
                            &flows[i]);
    }
    for (size_t i = 0; i < n_flows; i++) {
        struct flow flow = flows[rnd(i < n ? n : i)];

        /* Half of them meet a rule, the others often do not. */
        if (i % 2) {
            flow.nw_src = htonl(inside());
        }
        flows[i] = flow;
    }

    start = seconds();
    edit = classifier_edit_begin(empty);
    for (size_t i = 0; i < n; i++) {
        classifier_edit_insert(edit, &rules[i]->up, 1);
    }
    cls = classifier_edit_commit(edit);
    build = seconds() - start;

    time_lookups(cls, &self, flows, n_flows, false, &n_found);
    ns = time_lookups(cls, &self, flows, n_flows, false, &n_found);
    ns_wc = time_lookups(cls, &self, flows, n_flows, true, &n_found);

    start = seconds();
    for (; n_changes < 2000 && seconds() - start < 1; n_changes += 2) {
        struct test_rule *rule = rules[rnd(n)];

        edit = classifier_edit_begin(cls);
        classifier_edit_remove(edit, &rule->up);
        next = classifier_edit_commit(edit);
        layer_classifier_unref(cls);
        cls = next;

        edit = classifier_edit_begin(cls);
        classifier_edit_insert(edit, &rule->up, 1);
        next = classifier_edit_commit(edit);
        layer_classifier_unref(cls);
        cls = next;
    }
    change = (seconds() - start) / n_changes;

    printf("%7"PRIuSIZE" %4s %6.1f%% %9.0f %9.0f %9.1f %9.2f %9"PRIuSIZE"\n",
           n, with_sets ? "yes" : "no", n_found / 2000.0, ns, ns_wc,
           build * 1e3, change * 1e6, layer_classifier_memory(cls) / n);

    layer_classifier_unref(cls);
    layer_classifier_unref(empty);
    for (size_t i = 0; i < n; i++) {
        test_destroy_rule(rules[i]);
    }
    free(rules);
    free(flows);
    address_table_unref(self.addresses);
    test_destroy_sets();
    ovsrcu_quiesce();
}

static void
measure_set(size_t n)
{
    struct layer_classifier *empty = layer_classifier_create();
    struct layer_classifier *cls, *next;
    struct condition_self self = { .addresses = NULL };
    const struct address_prefix *prefixes;
    struct test_rule *rules[1000];
    struct classifier_edit *edit;
    struct address_table *table, *old;
    struct flow flows[1000];
    unsigned int n_found;
    double start, build, more, replace, ns;
    size_t n_prefixes, size;

    test_create_sets(1);
    table = acl_table(n);
    address_set_publish(test_sets[0], address_table_ref(table), 1);
    prefixes = address_table_prefixes(table, &n_prefixes);
    for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
        struct ds s = DS_EMPTY_INITIALIZER;

        ds_put_format(&s, "tcp,nw_src=$s0,tp_dst=%"PRIuSIZE, i + 1);
        rules[i] = test_create_rule(ds_cstr(&s), i);
        ds_destroy(&s);

        memset(&flows[i], 0, sizeof flows[i]);
        flows[i].dl_type = htons(ETH_TYPE_IP);
        flows[i].nw_proto = IPPROTO_TCP;
        if (i % 2) {
            flows[i].nw_src = htonl(inside());
        } else {
            memcpy(&flows[i].nw_src, prefixes[rnd(n_prefixes)].bytes, 4);
        }
        flows[i].tp_dst = htons(1 + rnd(1000));
    }

    start = seconds();
    edit = classifier_edit_begin(empty);
    classifier_edit_insert(edit, &rules[0]->up, 1);
    cls = classifier_edit_commit(edit);
    build = seconds() - start;
    size = layer_classifier_memory(cls);

    start = seconds();
    edit = classifier_edit_begin(cls);
    for (size_t i = 1; i < ARRAY_SIZE(rules); i++) {
        classifier_edit_insert(edit, &rules[i]->up, 1);
    }
    next = classifier_edit_commit(edit);
    layer_classifier_unref(cls);
    cls = next;
    more = (seconds() - start) / (ARRAY_SIZE(rules) - 1);

    time_lookups(cls, &self, flows, ARRAY_SIZE(flows), true, &n_found);
    ns = time_lookups(cls, &self, flows, ARRAY_SIZE(flows), true, &n_found);

    /* One more prefix. */
    char **texts = xmalloc((n_prefixes + 1) * sizeof *texts);
    for (size_t i = 0; i < n_prefixes; i++) {
        struct ds s = DS_EMPTY_INITIALIZER;

        address_prefix_format(&prefixes[i], &s);
        texts[i] = ds_steal_cstr(&s);
    }
    texts[n_prefixes] = xstrdup("11.1.1.1");
    old = table;
    table = test_parse_table(texts, n_prefixes + 1);
    free(texts);
    start = seconds();
    edit = classifier_edit_begin(cls);
    classifier_edit_replace_set(edit, test_sets[0], old, table);
    next = classifier_edit_commit(edit);
    replace = seconds() - start;

    printf("%7"PRIuSIZE" %9.0f %9.2f %9.2f %9.2f %9"PRIuSIZE
           " %9"PRIuSIZE"\n", n, ns, build * 1e3, more * 1e6, replace * 1e6,
           size / n_prefixes,
           (layer_classifier_memory(cls) - size) / (ARRAY_SIZE(rules) - 1));

    layer_classifier_unref(next);
    layer_classifier_unref(cls);
    layer_classifier_unref(empty);
    for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
        test_destroy_rule(rules[i]);
    }
    address_table_unref(old);
    address_table_unref(table);
    test_destroy_sets();
    ovsrcu_quiesce();
}

/* Implements the "curve" command. */
void
test_classifier_curve(struct ovs_cmdl_context *ctx)
{
    size_t max = ctx->argc > 1 ? atoi(ctx->argv[1]) : 100000;

    random_set_seed(1);
    printf("  rules sets  found ns/lookup   with wc  build ms us/change"
           "    B/rule\n");
    for (int with_sets = 0; with_sets < 2; with_sets++) {
        for (size_t n = 10; n <= max; n *= 10) {
            measure_rules(n, with_sets);
        }
    }
    printf("\nprefixes in set, 1000 rules with it\n"
           "      n ns/lookup  build ms   us/rule us/prefix  B/prefix"
           "    B/rule\n");
    for (size_t n = 10; n <= max; n *= 10) {
        measure_set(n);
    }
}
