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

/* Fuzzes the parsers of conditions, actions and address sets, one of which the
 * first byte selects.  What they accept must have a canonical form that they
 * accept, too, and that is its own canonical form. */

#include <config.h>
#undef NDEBUG

#include <stdlib.h>
#include <string.h>

#include "flow.h"
#include "ovs-rcu.h"
#include "random.h"
#include "svec.h"
#include "util.h"

#include "layered/ofproto-layered/address-set.h"
#include "layered/ofproto-layered/layer-action.h"
#include "layered/ofproto-layered/layer-condition.h"

#include "openvswitch/dynamic-string.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct address_set *sets[2];

static struct address_set *
find_set(const char *name, void *aux OVS_UNUSED)
{
    for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
        if (!strcmp(name, address_set_name(sets[i]))) {
            return sets[i];
        }
    }
    return NULL;
}

static void
create_sets(void)
{
    static const char *const addresses[] = {
        "10.0.0.0/8", "192.168.1.1", "fd00::/64", "aa:bb:cc:dd:ee:ff",
    };

    sets[0] = address_set_create("a");
    sets[1] = address_set_create("b");

    struct address_table *table;
    char *error = address_table_parse(addresses, ARRAY_SIZE(addresses),
                                      &table);

    ovs_assert(!error);
    address_set_publish(sets[0], table, 1);
}

/* Checks that all the flows that have the unwildcarded bits in common with
 * some flow get the same answer. */
static void
match_flow(const struct condition *c, uint32_t seed)
{
    static const ovs_be16 types[] = {
        CONSTANT_HTONS(ETH_TYPE_IP), CONSTANT_HTONS(ETH_TYPE_IPV6),
        CONSTANT_HTONS(ETH_TYPE_ARP),
    };
    static const uint8_t protocols[] = { 1, 6, 17, 58, 132 };
    struct flow_wildcards wc;
    struct flow flow;

    random_set_seed(seed | 1);
    random_bytes(&flow, sizeof flow);
    memset(&flow.tunnel.metadata, 0, sizeof flow.tunnel.metadata);
    flow.packet_type = 0;
    flow.dl_type = types[random_range(ARRAY_SIZE(types))];
    flow.nw_proto = protocols[random_range(ARRAY_SIZE(protocols))];
    flow.nw_frag = random_range(8) ? 0 : FLOW_NW_FRAG_MASK;
    flow_wildcards_init_catchall(&wc);

    bool matches = condition_matches(c, 1, NULL, &flow, &wc);
    const uint8_t *mask = (const uint8_t *) &wc.masks;

    for (int i = 0; i < 10; i++) {
        struct flow other = flow;
        uint8_t *bytes = (uint8_t *) &other;

        for (size_t j = 0; j < sizeof other; j++) {
            bytes[j] ^= random_uint32() & ~mask[j];
        }
        memset(&other.tunnel.metadata, 0, sizeof other.tunnel.metadata);
        ovs_assert(condition_matches(c, 1, NULL, &other, NULL) == matches);
    }
}

static void
fuzz_condition(const char *text)
{
    struct condition *c, *again;
    char *error = condition_parse(text, find_set, NULL, &c);

    if (error) {
        ovs_assert(!c);
        free(error);
        return;
    }
    error = condition_parse(c->text, find_set, NULL, &again);
    ovs_assert(!error);
    ovs_assert(!strcmp(c->text, again->text));
    ovs_assert(c->n_terms == again->n_terms);
    for (size_t i = 0; i < c->n_terms; i++) {
        const struct condition_term *a = &c->terms[i];
        const struct condition_term *b = &again->terms[i];

        ovs_assert(a->field == b->field && a->self == b->self
                   && a->n_sets == b->n_sets && a->n_values == b->n_values);
        ovs_assert(!a->n_values || !memcmp(a->values, b->values,
                                           a->n_values * sizeof *a->values));
    }
    match_flow(c, strlen(text));
    condition_destroy(again);
    condition_destroy(c);
}

static void
fuzz_actions(const char *text)
{
    struct layer_actions *actions, *again;
    char *error = layer_actions_parse(text, &actions);

    if (error) {
        ovs_assert(!actions);
        free(error);
        return;
    }
    error = layer_actions_parse(actions->text, &again);
    ovs_assert(!error);
    ovs_assert(!strcmp(actions->text, again->text));
    ovs_assert(actions->n == again->n);
    ovs_assert(actions->verdict == again->verdict);
    ovs_assert(actions->stateful == again->stateful);
    layer_actions_destroy(again);
    layer_actions_destroy(actions);
}

/* Parses the words of 'text'.  Returns NULL if one is invalid. */
static struct address_table *
parse_table(const char *text)
{
    struct svec words = SVEC_EMPTY_INITIALIZER;
    struct address_table *table;
    char *copy = xstrdup(text);
    char *save_ptr = NULL;

    for (char *word = strtok_r(copy, " \n", &save_ptr); word;
         word = strtok_r(NULL, " \n", &save_ptr)) {
        svec_add(&words, word);
    }

    char *error = address_table_parse((const char *const *) words.names,
                                      words.n, &table);

    ovs_assert(!error == (table != NULL));
    free(error);
    svec_destroy(&words);
    free(copy);
    return table;
}

static void
fuzz_addresses(const char *text)
{
    struct address_table *table = parse_table(text);
    struct ds s = DS_EMPTY_INITIALIZER;
    size_t n, n_again;

    if (!table) {
        return;
    }

    const struct address_prefix *prefixes = address_table_prefixes(table, &n);

    for (size_t i = 0; i < n; i++) {
        unsigned int n_bits;

        address_prefix_format(&prefixes[i], &s);
        ds_put_char(&s, ' ');
        ovs_assert(!i || address_prefix_compare(&prefixes[i - 1],
                                                &prefixes[i]) < 0);
        ovs_assert(address_table_contains(table, prefixes[i].family,
                                          prefixes[i].bytes, &n_bits));
        ovs_assert(n_bits == prefixes[i].len);
    }

    struct address_table *again = parse_table(ds_cstr(&s));
    const struct address_prefix *prefixes_again;

    ovs_assert(again);
    prefixes_again = address_table_prefixes(again, &n_again);
    ovs_assert(n == n_again);
    for (size_t i = 0; i < n; i++) {
        ovs_assert(!address_prefix_compare(&prefixes[i], &prefixes_again[i]));
    }
    ds_destroy(&s);
    address_table_unref(again);
    address_table_unref(table);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size) {
        return 0;
    }
    if (!sets[0]) {
        create_sets();
    }

    char *text = xmemdup0((const char *) data + 1, size - 1);

    switch (data[0] % 3) {
    case 0:
        fuzz_condition(text);
        break;
    case 1:
        fuzz_actions(text);
        break;
    default:
        fuzz_addresses(text);
        break;
    }
    free(text);
    return 0;
}
