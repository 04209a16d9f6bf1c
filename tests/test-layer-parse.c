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

/* Parses conditions, actions and address sets, prints what they are in their
 * canonical form, and matches flows against them. */

#include <config.h>
#undef NDEBUG

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command-line.h"
#include "flow.h"
#include "ovs-rcu.h"
#include "packets.h"
#include "random.h"
#include "svec.h"
#include "util.h"

#include "layered/ofproto-layered/address-set.h"
#include "layered/ofproto-layered/layer-action.h"
#include "layered/ofproto-layered/layer-condition.h"

#include "openvswitch/dynamic-string.h"
#include "openvswitch/match.h"
#include "openvswitch/ofp-flow.h"
#include "openvswitch/shash.h"

/* The sets of the command line, and what "$self" stands for. */
static struct shash sets = SHASH_INITIALIZER(&sets);
static struct condition_self self;

/* Prints 'error' and exits. */
OVS_NO_RETURN static void
fail(char *error)
{
    printf("error: %s\n", error);
    free(error);
    exit(1);
}

static struct address_table *
parse_table(const struct svec *addresses)
{
    struct address_table *table;
    char *error = address_table_parse(
        (const char *const *) addresses->names, addresses->n, &table);

    if (error) {
        fail(error);
    }
    return table;
}

static struct address_set *
find_set(const char *name, void *aux OVS_UNUSED)
{
    return shash_find_data(&sets, name);
}

/* Parses the arguments NAME=ADDRESS,ADDRESS,... from 'argv[first]' on.  The
 * names "self" and "self_mac" are for the port. */
static void
parse_sets(int argc, char *argv[], int first)
{
    for (int i = first; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        struct svec addresses;

        if (!equals) {
            ovs_fatal(0, "%s: not a set", argv[i]);
        }
        *equals++ = '\0';
        if (!strcmp(argv[i], "self_mac")) {
            self.has_mac = eth_addr_from_string(equals, &self.mac);
            continue;
        }

        svec_init(&addresses);
        while (equals) {
            const char *word = strsep(&equals, ",");

            if (*word) {
                svec_add(&addresses, word);
            }
        }

        struct address_table *table = parse_table(&addresses);

        if (!strcmp(argv[i], "self")) {
            self.addresses = table;
        } else {
            struct address_set *set = address_set_create(argv[i]);

            address_set_publish(set, table, 1);
            shash_add(&sets, argv[i], set);
        }
        svec_destroy(&addresses);
    }
}

static void
destroy_sets(void)
{
    struct shash_node *node;

    SHASH_FOR_EACH (node, &sets) {
        address_set_unref(node->data);
    }
    shash_destroy(&sets);
    address_table_unref(self.addresses);
}

/* Parses 'text' into a condition that parses again to itself. */
static struct condition *
parse_condition(const char *text)
{
    struct condition *c, *again;
    char *error = condition_parse(text, find_set, NULL, &c);

    if (error) {
        fail(error);
    }
    error = condition_parse(c->text, find_set, NULL, &again);
    if (error) {
        ovs_fatal(0, "%s does not parse: %s", c->text, error);
    } else if (strcmp(c->text, again->text)) {
        ovs_fatal(0, "%s becomes %s", c->text, again->text);
    }
    condition_destroy(again);
    return c;
}

static void
test_condition(struct ovs_cmdl_context *ctx)
{
    parse_sets(ctx->argc, ctx->argv, 2);

    struct condition *c = parse_condition(ctx->argv[1]);

    printf("%s%s\n", *c->text ? c->text : "(any packet)",
           condition_uses_l4(c) ? " (L4)" : "");
    condition_destroy(c);
    destroy_sets();
}

static void
test_actions(struct ovs_cmdl_context *ctx)
{
    struct layer_actions *actions, *again;
    char *error = layer_actions_parse(ctx->argv[1], &actions);

    if (error) {
        fail(error);
    }
    error = layer_actions_parse(actions->text, &again);
    if (error) {
        ovs_fatal(0, "%s does not parse: %s", actions->text, error);
    } else if (strcmp(actions->text, again->text)
               || actions->verdict != again->verdict
               || actions->stateful != again->stateful) {
        ovs_fatal(0, "%s becomes %s", actions->text, again->text);
    }
    printf("%s%s\n", actions->text, actions->stateful ? " (state)" : "");
    layer_actions_destroy(again);
    layer_actions_destroy(actions);
}

/* Checks that the answer of 'table' about 'p' holds for all the addresses that
 * have the bits in common with it that were looked at. */
static void
check_contains(const struct address_table *table,
               const struct address_prefix *p)
{
    unsigned int width = address_family_bits(p->family);
    unsigned int n_bits;
    bool has = address_table_contains(table, p->family, p->bytes, &n_bits);

    for (int i = 0; i < 64; i++) {
        struct address_prefix other = *p;

        for (unsigned int bit = n_bits; bit < width; bit++) {
            if (random_range(2)) {
                other.bytes[bit / 8] ^= 0x80 >> (bit % 8);
            }
        }
        ovs_assert(address_table_contains(table, p->family, other.bytes, NULL)
                   == has);
    }
}

static void
test_set(struct ovs_cmdl_context *ctx)
{
    struct svec addresses = SVEC_EMPTY_INITIALIZER;
    struct ds s = DS_EMPTY_INITIALIZER;
    size_t n;

    for (int i = 1; i < ctx->argc; i++) {
        svec_add(&addresses, ctx->argv[i]);
    }

    struct address_table *table = parse_table(&addresses);
    const struct address_prefix *prefixes = address_table_prefixes(table, &n);

    for (size_t i = 0; i < n; i++) {
        struct address_prefix p = prefixes[i];

        address_prefix_format(&p, &s);
        ds_put_char(&s, '\n');
        ovs_assert(address_table_contains(table, p.family, p.bytes, NULL));
        check_contains(table, &p);
        if (p.len) {
            p.bytes[(p.len - 1) / 8] ^= 0x80 >> ((p.len - 1) % 8);
            check_contains(table, &p);
        }
    }
    fputs(ds_cstr(&s), stdout);
    ds_destroy(&s);
    svec_destroy(&addresses);
    address_table_unref(table);
}

/* "lookup ADDRESS ADDRESS...": looks for the first in the set of others. */
static void
test_lookup(struct ovs_cmdl_context *ctx)
{
    struct svec addresses = SVEC_EMPTY_INITIALIZER;
    struct address_table *table, *sought;
    unsigned int n_bits;
    size_t n;

    svec_add(&addresses, ctx->argv[1]);
    sought = parse_table(&addresses);
    svec_clear(&addresses);
    for (int i = 2; i < ctx->argc; i++) {
        svec_add(&addresses, ctx->argv[i]);
    }
    table = parse_table(&addresses);

    const struct address_prefix *p = address_table_prefixes(sought, &n);
    bool has = address_table_contains(table, p->family, p->bytes, &n_bits);

    check_contains(table, p);
    printf("%s, %u bits\n", has ? "yes" : "no", n_bits);
    svec_destroy(&addresses);
    address_table_unref(sought);
    address_table_unref(table);
}

/* Tests the versions of a set. */
static void
test_versions(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    struct address_set *set = address_set_create("s");
    struct address_table *t[4];

    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        ovs_ignore(address_table_parse(NULL, 0, &t[i]));
    }
    ovs_assert(!strcmp(address_set_name(set), "s"));
    ovs_assert(!address_set_get(set, 100));
    address_set_publish(set, address_table_ref(t[0]), 10);
    ovs_assert(!address_set_get(set, 9));
    ovs_assert(address_set_get(set, 10) == t[0]);
    ovs_assert(address_set_get(set, 100) == t[0]);
    address_set_publish(set, address_table_ref(t[1]), 20);
    ovs_assert(!address_set_get(set, 9));
    ovs_assert(address_set_get(set, 19) == t[0]);
    ovs_assert(address_set_get(set, 20) == t[1]);
    address_set_publish(set, address_table_ref(t[2]), 20);
    ovs_assert(address_set_get(set, 19) == t[0]);
    ovs_assert(address_set_get(set, 20) == t[2]);
    address_set_publish(set, address_table_ref(t[3]), 21);
    ovs_assert(!address_set_get(set, 19));
    ovs_assert(address_set_get(set, 20) == t[2]);
    ovs_assert(address_set_get(set, UINT64_MAX) == t[3]);
    address_set_publish(set, NULL, 22);
    ovs_assert(address_set_get(set, 21) == t[3]);
    ovs_assert(!address_set_get(set, 22));
    address_set_unref(set);
    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        address_table_unref(t[i]);
    }
    ovsrcu_quiesce();
}

/* Checks that all the flows that have the unwildcarded bits of 'flow' in
 * common with it get the same answer. */
static void
check_wildcards(const struct condition *c, const struct flow *flow,
                const struct flow_wildcards *wc, bool matches)
{
    const uint8_t *mask = (const uint8_t *) &wc->masks;

    for (int i = 0; i < 2000; i++) {
        struct flow other = *flow;
        uint8_t *bytes = (uint8_t *) &other;

        for (size_t j = 0; j < sizeof other; j++) {
            bytes[j] ^= random_uint32() & ~mask[j];
        }
        memset(&other.tunnel.metadata, 0, sizeof other.tunnel.metadata);
        if (condition_matches(c, 1, &self, &other, NULL) != matches) {
            ovs_fatal(0, "wildcards too much");
        }
    }
}

static void
test_match(struct ovs_cmdl_context *ctx)
{
    struct ds s = DS_EMPTY_INITIALIZER;
    struct flow_wildcards wc;
    struct match match;
    struct flow flow;

    parse_sets(ctx->argc, ctx->argv, 3);

    struct condition *c = parse_condition(ctx->argv[1]);
    char *error = parse_ofp_exact_flow(&flow, NULL, NULL, ctx->argv[2], NULL);

    if (error) {
        fail(error);
    }
    flow_wildcards_init_catchall(&wc);

    bool matches = condition_matches(c, 1, &self, &flow, &wc);

    check_wildcards(c, &flow, &wc, matches);
    wc.masks.packet_type = 0;
    match_init(&match, &flow, &wc);
    match_format(&match, NULL, &s, OFP_DEFAULT_PRIORITY);
    printf("%s%s%s\n", matches ? "yes" : "no", s.length ? ": " : "",
           ds_cstr(&s));
    ds_destroy(&s);
    condition_destroy(c);
    destroy_sets();
}

static const struct ovs_cmdl_command commands[] = {
    {"condition", "TEXT [SET=ADDRESS,...]...", 1, INT_MAX, test_condition,
     OVS_RO},
    {"actions", "TEXT", 1, 1, test_actions, OVS_RO},
    {"set", "ADDRESS...", 0, INT_MAX, test_set, OVS_RO},
    {"lookup", "ADDRESS ADDRESS...", 1, INT_MAX, test_lookup, OVS_RO},
    {"versions", "", 0, 0, test_versions, OVS_RO},
    {"match", "TEXT FLOW [SET=ADDRESS,...]...", 2, INT_MAX, test_match,
     OVS_RO},
    {NULL, NULL, 0, 0, NULL, OVS_RO},
};

int
main(int argc, char *argv[])
{
    struct ovs_cmdl_context ctx = { .argc = argc - 1, .argv = argv + 1 };

    set_program_name(argv[0]);
    ovs_cmdl_run_command(&ctx, commands);
    return 0;
}
