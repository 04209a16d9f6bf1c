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

/* Tests the layer classifier against linear evaluation of the same rules, and
 * measures it.  Usage:
 *
 *    random SEED N   N edits of random rules and sets, with random packets
 *    wildcards       which bits look-ups unwildcard in some fixed cases
 *    leak            creates and destroys, for memory checkers
 *    curve           measures look-ups, changes and memory */

#include <config.h>

#undef NDEBUG
#include "layered/ofproto-layered/layer-classifier.h"

#include <stdlib.h>
#include <string.h>

#include "command-line.h"
#include "flow.h"
#include "layered/ofproto-layered/address-set.h"
#include "layered/ofproto-layered/layer-condition.h"
#include "layered/tests/test-layer-classifier.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/match.h"
#include "ovs-rcu.h"
#include "packets.h"
#include "random.h"
#include "util.h"

#define N_SETS 8

/* Address sets, for the names s0, s1, ... */
struct address_set **test_sets;
size_t n_test_sets;

static struct address_set *
find_set(const char *name, void *aux OVS_UNUSED)
{
    for (size_t i = 0; i < n_test_sets; i++) {
        if (!strcmp(address_set_name(test_sets[i]), name)) {
            return test_sets[i];
        }
    }
    return NULL;
}

/* Creates 'n' address sets without contents. */
void
test_create_sets(size_t n)
{
    n_test_sets = n;
    test_sets = xmalloc(n * sizeof *test_sets);
    for (size_t i = 0; i < n; i++) {
        char *name = xasprintf("s%"PRIuSIZE, i);

        test_sets[i] = address_set_create(name);
        free(name);
    }
}

/* Destroys what test_create_sets() created. */
void
test_destroy_sets(void)
{
    for (size_t i = 0; i < n_test_sets; i++) {
        address_set_unref(test_sets[i]);
    }
    free(test_sets);
    n_test_sets = 0;
}

/* Returns a new rule with the condition 'text'. */
struct test_rule *
test_create_rule(const char *text, uint64_t precedence)
{
    struct test_rule *rule = xmalloc(sizeof *rule);
    char *error = condition_parse(text, find_set, NULL, &rule->condition);

    if (error) {
        ovs_fatal(0, "%s: %s", text, error);
    }
    rule->up.condition = rule->condition;
    rule->up.precedence = precedence;
    return rule;
}

/* Destroys 'rule'. */
void
test_destroy_rule(struct test_rule *rule)
{
    condition_destroy(rule->condition);
    free(rule);
}

/* Returns a new table of the 'n' 'addresses', which it frees. */
struct address_table *
test_parse_table(char **addresses, size_t n)
{
    struct address_table *table;
    char *error = address_table_parse((const char *const *) addresses, n,
                                      &table);

    if (error) {
        ovs_fatal(0, "%s", error);
    }
    for (size_t i = 0; i < n; i++) {
        free(addresses[i]);
    }
    return table;
}

/* Random things.  Few different values, so that things often match. */

static void
put_ipv4(struct ds *s)
{
    ds_put_format(s, "10.%u.%u.%u", rnd(2), rnd(2), rnd(8));
}

static void
put_ipv6(struct ds *s)
{
    ds_put_format(s, "fd00:%x::%x", rnd(3), rnd(8));
}

static void
put_mac(struct ds *s)
{
    ds_put_format(s, "02:00:00:00:00:%02x", rnd(8));
}

static void
put_address(struct ds *s, enum address_family family, bool with_masks)
{
    static const int lens[] = { 0, 8, 15, 16, 23, 24, 28, 30, 31 };
    static const int lens6[] = { 0, 16, 30, 32, 48, 64, 96, 125, 127 };

    switch (family) {
    case ADDRESS_IPV4:
        if (one_in(6)) {
            ds_put_format(s, "10.0.0.%u-10.0.%u.%u", rnd(4), rnd(2),
                          4 + rnd(6));
            break;
        }
        put_ipv4(s);
        if (with_masks && one_in(6)) {
            ds_put_cstr(s, one_in(2) ? "/255.0.255.255" : "/0.0.0.5");
        } else if (one_in(2)) {
            ds_put_format(s, "/%d", lens[rnd(ARRAY_SIZE(lens))]);
        }
        break;

    case ADDRESS_IPV6:
        put_ipv6(s);
        if (with_masks && one_in(6)) {
            ds_put_cstr(s, "/ffff::ffff");
        } else if (one_in(2)) {
            ds_put_format(s, "/%d", lens6[rnd(ARRAY_SIZE(lens6))]);
        }
        break;

    case ADDRESS_MAC:
        put_mac(s);
        if (with_masks && one_in(3)) {
            ds_put_cstr(s, one_in(2) ? "/ff:ff:ff:ff:ff:fc"
                        : "/01:00:00:00:00:03");
        }
        break;

    case N_ADDRESS_FAMILIES:
    default:
        OVS_NOT_REACHED();
    }
}

static void
put_alternative(struct ds *s, enum address_family family)
{
    if (one_in(4)) {
        ds_put_format(s, "$s%u", rnd(n_test_sets));
    } else if (one_in(6)) {
        ds_put_cstr(s, family == ADDRESS_MAC ? "$self_mac" : "$self");
    } else {
        put_address(s, family, true);
    }
}

static void
maybe_address(struct ds *s, const char *field, enum address_family family,
              unsigned int odds)
{
    if (one_in(odds)) {
        ds_put_format(s, ",%s=", field);
        if (one_in(4)) {
            unsigned int n = 1 + rnd(4);

            ds_put_char(s, '{');
            for (unsigned int i = 0; i < n; i++) {
                ds_put_cstr(s, i ? "," : "");
                put_alternative(s, family);
            }
            ds_put_char(s, '}');
        } else {
            put_alternative(s, family);
        }
    }
}

static void
maybe_port(struct ds *s, const char *field, unsigned int odds)
{
    if (one_in(odds)) {
        ds_put_format(s, ",%s=", field);
        switch (rnd(4)) {
        case 0:
            ds_put_format(s, "%u", rnd(16));
            break;
        case 1:
            ds_put_format(s, "%u-%u", rnd(16), 16 + rnd(16));
            break;
        case 2:
            ds_put_format(s, "{%u,%u,%u-%u}", rnd(16), rnd(16), rnd(8),
                          8 + rnd(60000));
            break;
        case 3:
            ds_put_format(s, "0x%x/0x%x", rnd(2) << 2, 0xfffc >> rnd(3) & ~3);
            break;
        }
    }
}

static struct test_rule *
random_rule(uint64_t precedence)
{
    static const char *const ip_protos[] = { "tcp", "udp", "sctp" };
    struct ds s = DS_EMPTY_INITIALIZER;
    bool v6 = one_in(3);
    enum address_family family = v6 ? ADDRESS_IPV6 : ADDRESS_IPV4;
    const char *src = v6 ? ",ipv6_src" : ",nw_src";
    const char *dst = v6 ? ",ipv6_dst" : ",nw_dst";

    switch (rnd(10)) {
    case 0:
        maybe_address(&s, "dl_src", ADDRESS_MAC, 2);
        if (one_in(3)) {
            ds_put_format(&s, ",tun_id=%u", rnd(4));
        }
        if (one_in(3)) {
            ds_put_format(&s, ",dl_vlan=%u", rnd(4));
        }
        break;

    case 1:
        ds_put_cstr(&s, "arp");
        maybe_address(&s, "arp_spa", ADDRESS_IPV4, 2);
        maybe_address(&s, "arp_tpa", ADDRESS_IPV4, 2);
        maybe_address(&s, "arp_sha", ADDRESS_MAC, 3);
        if (one_in(3)) {
            ds_put_format(&s, ",arp_op=%u", 1 + rnd(2));
        }
        break;

    case 2:
        ds_put_cstr(&s, v6 ? "ip6" : "ip");
        maybe_address(&s, src + 1, family, 2);
        maybe_address(&s, dst + 1, family, 2);
        if (one_in(3)) {
            ds_put_format(&s, ",nw_proto={6,%u}", 10 + rnd(8));
        }
        break;

    case 3:
        ds_put_cstr(&s, v6 ? "icmp6" : "icmp");
        maybe_address(&s, src + 1, family, 2);
        maybe_address(&s, dst + 1, family, 3);
        if (v6 && one_in(2)) {
            ds_put_cstr(&s, ",icmpv6_type=135,icmpv6_code=0");
            maybe_address(&s, "nd_target", ADDRESS_IPV6, 1);
        } else if (one_in(2)) {
            ds_put_format(&s, ",%s=%u", v6 ? "icmpv6_type" : "icmp_type",
                          rnd(3));
        }
        break;

    default: {
        const char *proto = ip_protos[rnd(5) % 3];

        ds_put_format(&s, "%s%s", proto, v6 ? "6" : "");
        maybe_address(&s, src + 1, family, 2);
        maybe_address(&s, dst + 1, family, 2);
        maybe_address(&s, "dl_dst", ADDRESS_MAC, 10);
        char *field = xasprintf("%s_dst", proto);
        maybe_port(&s, field, 2);
        free(field);
        field = xasprintf("%s_src", proto);
        maybe_port(&s, field, 4);
        free(field);
        if (one_in(10)) {
            ds_put_format(&s, ",nw_tos=%u", rnd(3) * 4);
        }
        if (one_in(10) && !strcmp(proto, "tcp")) {
            ds_put_cstr(&s, ",tcp_flags=+syn-ack");
        }
        break;
    }
    }

    const char *text = ds_cstr(&s);
    struct test_rule *rule = test_create_rule(text + (text[0] == ','),
                                              precedence);
    ds_destroy(&s);
    return rule;
}

static struct address_table *
random_table(void)
{
    char *addresses[12];
    size_t n = rnd(12);

    for (size_t i = 0; i < n; i++) {
        struct ds s = DS_EMPTY_INITIALIZER;

        put_address(&s, rnd(N_ADDRESS_FAMILIES), false);
        addresses[i] = ds_steal_cstr(&s);
    }
    return test_parse_table(addresses, n);
}

static struct eth_addr
random_mac(void)
{
    struct eth_addr mac = ETH_ADDR_C(02,00,00,00,00,00);

    mac.ea[5] = rnd(8);
    return mac;
}

static ovs_be32
random_ipv4(void)
{
    return htonl((one_in(10) ? 11u : 10u) << 24 | rnd(2) << 16 | rnd(2) << 8
                 | rnd(10));
}

static struct in6_addr
random_ipv6(void)
{
    struct in6_addr a = { .s6_addr = { 0xfd, 0 } };

    a.s6_addr[3] = rnd(3);
    a.s6_addr[15] = rnd(9);
    return a;
}

/* A packet with Ethernet type 'dl_type', or any if that is 0. */
static void
random_flow(ovs_be16 dl_type, struct flow *flow)
{
    static const uint16_t types[] = {
        ETH_TYPE_IP, ETH_TYPE_IP, ETH_TYPE_IP, ETH_TYPE_IPV6, ETH_TYPE_IPV6,
        ETH_TYPE_ARP, 0x1234,
    };
    static const uint8_t protos[] = {
        IPPROTO_TCP, IPPROTO_TCP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDP,
        IPPROTO_SCTP, IPPROTO_ICMP, 12,
    };

    memset(flow, 0, sizeof *flow);
    flow->dl_src = random_mac();
    flow->dl_dst = random_mac();
    flow->tunnel.tun_id = htonll(rnd(4));
    if (one_in(4)) {
        flow->vlans[0].tpid = htons(ETH_TYPE_VLAN_8021Q);
        flow->vlans[0].tci = htons(VLAN_CFI | rnd(4));
    }
    flow->dl_type = dl_type ? dl_type : htons(types[rnd(ARRAY_SIZE(types))]);
    if (flow->dl_type == htons(ETH_TYPE_ARP)) {
        flow->nw_src = random_ipv4();
        flow->nw_dst = random_ipv4();
        flow->arp_sha = random_mac();
        flow->arp_tha = random_mac();
        flow->nw_proto = 1 + rnd(2);
        return;
    } else if (flow->dl_type == htons(ETH_TYPE_IP)) {
        flow->nw_src = random_ipv4();
        flow->nw_dst = random_ipv4();
    } else if (flow->dl_type == htons(ETH_TYPE_IPV6)) {
        flow->ipv6_src = random_ipv6();
        flow->ipv6_dst = random_ipv6();
    } else {
        return;
    }
    flow->nw_proto = protos[rnd(ARRAY_SIZE(protos))];
    if (flow->nw_proto == IPPROTO_ICMP
        && flow->dl_type == htons(ETH_TYPE_IPV6)) {
        flow->nw_proto = IPPROTO_ICMPV6;
    }
    flow->nw_tos = rnd(3) * 4;
    if (one_in(12)) {
        flow->nw_frag = FLOW_NW_FRAG_ANY | (one_in(2) ? FLOW_NW_FRAG_LATER
                                            : 0);
    }
    if (!(flow->nw_frag & FLOW_NW_FRAG_LATER)) {
        flow->tp_src = htons(one_in(8) ? rnd(65536) : rnd(24));
        flow->tp_dst = htons(one_in(8) ? rnd(65536) : rnd(24));
        flow->tcp_flags = htons(rnd(64));
        if (flow->nw_proto == IPPROTO_ICMP
            || flow->nw_proto == IPPROTO_ICMPV6) {
            flow->tp_src = htons(one_in(2) ? ND_NEIGHBOR_SOLICIT : rnd(4));
            flow->tp_dst = htons(one_in(8));
            flow->nd_target = random_ipv6();
        }
    }
}

/* A version of the policy: the classifier, and its rules in descending order
 * of precedence. */
struct test_version {
    uint64_t version;
    struct layer_classifier *cls;
    const struct test_rule **rules;
    size_t n_rules;
};

static const struct classifier_rule *
linear_lookup(const struct test_version *v, const struct condition_self *self,
              const struct flow *flow)
{
    for (size_t i = 0; i < v->n_rules; i++) {
        if (condition_matches(v->rules[i]->condition, v->version, self, flow,
                              NULL)) {
            return &v->rules[i]->up;
        }
    }
    return NULL;
}

static void
fail(const struct test_version *v, const struct flow *flow,
     const struct classifier_rule *expected,
     const struct classifier_rule *found, const struct flow *orig,
     struct flow_wildcards *wc)
{
    const struct classifier_rule *rules[2] = { expected, found };
    struct ds s = DS_EMPTY_INITIALIZER;

    for (int i = 0; i < 2; i++) {
        ds_put_format(&s, "\n%s ", i ? "found" : "expected");
        if (rules[i]) {
            ds_put_format(&s, "%"PRIu64" ", rules[i]->precedence);
            condition_format(rules[i]->condition, &s);
        } else {
            ds_put_cstr(&s, "none");
        }
    }
    ds_put_cstr(&s, "\nflow ");
    flow_format(&s, flow, NULL);
    if (orig) {
        struct match match;

        ds_put_cstr(&s, "\norig ");
        flow_format(&s, orig, NULL);
        ds_put_cstr(&s, "\nmatch ");
        match_init(&match, orig, wc);
        match_format(&match, NULL, &s, 0);
    }
    ovs_fatal(0, "version %"PRIu64":%s", v->version, ds_cstr(&s));
}

/* Makes 'flow' like 'other' in bits that 'wc' has as wildcards, but not in
 * those that are always matched. */
static void
mix_flow(struct flow *flow, const struct flow *other,
         const struct flow_wildcards *wc_)
{
    struct flow_wildcards wc = *wc_;
    uint64_t *a = (uint64_t *) flow;
    const uint64_t *b = (const uint64_t *) other;
    const uint64_t *mask = (const uint64_t *) &wc.masks;

    WC_MASK_FIELD(&wc, dl_type);
    WC_MASK_FIELD(&wc, nw_frag);
    if (is_icmpv4(flow, NULL) || is_icmpv6(flow, NULL)) {
        /* Type and code are 8 bits wide. */
        WC_MASK_FIELD_MASK(&wc, tp_src, htons(0xff00));
        WC_MASK_FIELD_MASK(&wc, tp_dst, htons(0xff00));
    }
    for (size_t i = 0; i < FLOW_U64S; i++) {
        a[i] = (a[i] & mask[i]) | (b[i] & ~mask[i]);
    }
}

static void
check_flow(const struct test_version *v, const struct condition_self *self,
           const struct flow *flow)
{
    const struct classifier_rule *expected, *found;
    struct flow_wildcards wc;

    flow_wildcards_init_catchall(&wc);
    expected = linear_lookup(v, self, flow);
    found = layer_classifier_lookup(v->cls, v->version, self, flow, &wc);
    if (found != expected) {
        fail(v, flow, expected, found, NULL, NULL);
    }
    found = layer_classifier_lookup(v->cls, v->version, self, flow, NULL);
    ovs_assert(found == expected);

    for (int i = 0; i < 8; i++) {
        struct flow other, mixed = *flow;

        random_flow(flow->dl_type, &other);
        mix_flow(&mixed, &other, &wc);
        found = linear_lookup(v, self, &mixed);
        if (found != expected) {
            fail(v, &mixed, expected, found, flow, &wc);
        }
    }
    for (int i = 0; i < 8; i++) {
        struct flow other = *flow, mixed = *flow;
        size_t ofs = rnd(2) ? offsetof(struct flow, nw_src) : 0;

        /* One bit. */
        ofs += rnd(sizeof *flow - ofs);
        ((uint8_t *) &other)[ofs] ^= 1u << rnd(8);
        if (other.vlans[0].tci != flow->vlans[0].tci
            || other.packet_type != flow->packet_type
            || other.nw_proto != flow->nw_proto) {
            continue;
        }
        mix_flow(&mixed, &other, &wc);
        found = linear_lookup(v, self, &mixed);
        if (found != expected) {
            fail(v, &mixed, expected, found, flow, &wc);
        }
    }
}

static void
check_version(const struct test_version *v, const struct condition_self *self)
{
    const struct classifier_rule **rules = layer_classifier_rules(v->cls);
    bool l4 = false;

    ovs_assert(layer_classifier_count(v->cls) == v->n_rules);
    for (size_t i = 0; i < v->n_rules; i++) {
        ovs_assert(rules[i] == &v->rules[i]->up);
        l4 = l4 || condition_uses_l4(v->rules[i]->condition);
    }
    ovs_assert(!rules[v->n_rules]);
    ovs_assert(l4 == layer_classifier_uses_l4(v->cls));
    free(rules);

    for (size_t i = 0; i < n_test_sets; i++) {
        bool uses = false;

        for (size_t j = 0; j < v->n_rules; j++) {
            const struct condition *c = v->rules[j]->condition;

            for (size_t k = 0; k < c->n_terms; k++) {
                for (size_t l = 0; l < c->terms[k].n_sets; l++) {
                    uses = uses || c->terms[k].sets[l] == test_sets[i];
                }
            }
        }
        ovs_assert(uses == layer_classifier_uses_set(v->cls, test_sets[i]));
    }

    for (int i = 0; i < 40; i++) {
        struct flow flow;

        random_flow(0, &flow);
        check_flow(v, self, &flow);
    }
}

static void
test_version_destroy(struct test_version *v)
{
    layer_classifier_unref(v->cls);
    free(v->rules);
}

/* Makes the next version of 'old'. */
static void
random_edit(const struct test_version *old, size_t target,
            struct test_rule ***all, size_t *n_all, struct test_version *v)
{
    struct classifier_edit *edit = classifier_edit_begin(old->cls);
    size_t n_changes = one_in(8) ? rnd(target + 1) : rnd(4);

    v->version = old->version + 1;
    v->n_rules = old->n_rules;
    v->rules = xmalloc((old->n_rules + n_changes) * sizeof *v->rules);
    for (size_t i = 0; i < old->n_rules; i++) {
        v->rules[i] = old->rules[i];
    }

    /* The order of the two must not matter. */
    bool sets_first = one_in(2);
    for (int turn = 0; turn < 2; turn++) {
        if (sets_first == !turn) {
            while (one_in(2)) {
                struct address_set *set = test_sets[rnd(n_test_sets)];
                struct address_table *table = one_in(10) ? NULL
                                              : random_table();
                struct address_table *before = CONST_CAST(
                    struct address_table *,
                    address_set_get(set, v->version));

                if (before) {
                    before = address_table_ref(before);
                }
                address_set_publish(set, table, v->version);
                classifier_edit_replace_set(edit, set, before,
                                            address_set_get(set, v->version));
                address_table_unref(before);
                break;
            }
            continue;
        }
        for (size_t i = 0; i < n_changes; i++) {
            if (rnd(2 * target) < v->n_rules) {
                size_t j = rnd(v->n_rules);

                classifier_edit_remove(edit, &v->rules[j]->up);
                v->n_rules--;
                memmove(&v->rules[j], &v->rules[j + 1],
                        (v->n_rules - j) * sizeof *v->rules);
            } else {
                uint64_t precedence;
                struct test_rule *rule;
                size_t j;

                do {
                    precedence = (one_in(50) ? (one_in(2) ? 0 : UINT64_MAX)
                                  : (uint64_t) rnd(8) << 56 | rnd(100000));
                    for (j = 0; j < v->n_rules; j++) {
                        if (v->rules[j]->up.precedence <= precedence) {
                            break;
                        }
                    }
                } while (j < v->n_rules
                         && v->rules[j]->up.precedence == precedence);

                rule = random_rule(precedence);
                *all = xrealloc(*all, (*n_all + 1) * sizeof **all);
                (*all)[(*n_all)++] = rule;
                classifier_edit_insert(edit, &rule->up, v->version);
                memmove(&v->rules[j + 1], &v->rules[j],
                        (v->n_rules - j) * sizeof *v->rules);
                v->rules[j] = rule;
                v->n_rules++;
            }
        }
    }
    v->cls = classifier_edit_commit(edit);
}

static void
test_random(struct ovs_cmdl_context *ctx)
{
    struct condition_self self = { .addresses = NULL };
    struct test_rule **all = NULL;
    struct test_version old, new;
    size_t n_all = 0;
    int n = atoi(ctx->argv[2]);

    random_set_seed(atoi(ctx->argv[1]));
    test_create_sets(N_SETS);
    old = (struct test_version) { .cls = layer_classifier_create() };

    size_t target = one_in(3) ? 200 : 1 + rnd(40);
    for (int i = 0; i < n; i++) {
        address_table_unref(self.addresses);
        self.addresses = one_in(10) ? NULL : random_table();
        self.mac = random_mac();
        self.has_mac = !one_in(10);

        random_edit(&old, target, &all, &n_all, &new);
        check_version(&new, &self);
        check_version(&old, &self);
        test_version_destroy(&old);
        old = new;
        ovsrcu_quiesce();
    }

    /* Nothing is left if all rules go. */
    struct classifier_edit *edit = classifier_edit_begin(old.cls);
    for (size_t i = 0; i < old.n_rules; i++) {
        classifier_edit_remove(edit, &old.rules[i]->up);
    }
    struct layer_classifier *empty = classifier_edit_commit(edit);
    ovs_assert(!layer_classifier_count(empty));
    for (size_t i = 0; i < n_test_sets; i++) {
        ovs_assert(!layer_classifier_uses_set(empty, test_sets[i]));
    }
    ovs_assert(layer_classifier_memory(empty) < 2048);
    layer_classifier_unref(empty);

    test_version_destroy(&old);
    address_table_unref(self.addresses);
    for (size_t i = 0; i < n_all; i++) {
        test_destroy_rule(all[i]);
    }
    free(all);
    test_destroy_sets();
}

/* Fixed cases of what look-ups unwildcard. */

static void
show_wildcards(const char *const texts[], size_t n, const struct flow *flow)
{
    struct layer_classifier *empty = layer_classifier_create();
    struct classifier_edit *edit = classifier_edit_begin(empty);
    const struct classifier_rule *found;
    struct layer_classifier *cls;
    struct test_rule *rules[8];
    struct ds s = DS_EMPTY_INITIALIZER;
    struct match match;

    for (size_t i = 0; i < n; i++) {
        rules[i] = test_create_rule(texts[i], n - i);
        classifier_edit_insert(edit, &rules[i]->up, 1);
    }
    cls = classifier_edit_commit(edit);

    memset(&match, 0, sizeof match);
    match.flow = *flow;
    flow_wildcards_init_catchall(&match.wc);
    found = layer_classifier_lookup(cls, 1, NULL, flow, &match.wc);
    flow_zero_wildcards(&match.flow, &match.wc);
    match_format(&match, NULL, &s, OFP_DEFAULT_PRIORITY);
    printf("%s: %s\n", found ? texts[n - found->precedence] : "none",
           ds_cstr(&s));

    ds_destroy(&s);
    layer_classifier_unref(cls);
    layer_classifier_unref(empty);
    for (size_t i = 0; i < n; i++) {
        test_destroy_rule(rules[i]);
    }
}

#define SHOW_WILDCARDS(FLOW, ...)                                       \
    show_wildcards((const char *const[]) { __VA_ARGS__ },               \
                   ARRAY_SIZE(((const char *const[]) { __VA_ARGS__ })), \
                   FLOW)

static void
test_wildcards(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    static const char *const contents[][2] = {
        { "10.1.0.0/16", "192.168.0.0/24" },
        { "10.2.3.0/24", "10.1.2.4" },
    };
    struct flow flow;

    test_create_sets(ARRAY_SIZE(contents));
    for (size_t i = 0; i < n_test_sets; i++) {
        char *addresses[2] = { xstrdup(contents[i][0]),
                               xstrdup(contents[i][1]) };

        address_set_publish(test_sets[i], test_parse_table(addresses, 2), 1);
    }

    memset(&flow, 0, sizeof flow);
    flow.dl_type = htons(ETH_TYPE_IP);
    flow.nw_proto = IPPROTO_TCP;
    flow.nw_src = htonl(0x0a010203);
    flow.nw_dst = htonl(0x0a020304);
    flow.tp_src = htons(1025);
    flow.tp_dst = htons(80);

    /* Only as many bits as tell. */
    SHOW_WILDCARDS(&flow, "ip,nw_src=10.0.0.0/8");
    SHOW_WILDCARDS(&flow, "ip,nw_src=11.0.0.0/8");
    SHOW_WILDCARDS(&flow, "ip,nw_src=10.1.2.3", "ip");
    SHOW_WILDCARDS(&flow, "tcp,tp_dst=80");
    SHOW_WILDCARDS(&flow, "tcp,tp_dst=443");

    /* Rules that cannot beat the result do not matter. */
    SHOW_WILDCARDS(&flow, "ip,nw_src=10.0.0.0/8", "tcp,tp_dst=80",
                   "ip,nw_src=10.1.0.0/16");
    SHOW_WILDCARDS(&flow, "ip,nw_src=10.1.0.0/16", "ip,nw_src=10.0.0.0/8",
                   "ip,nw_src=10.1.2.3,nw_dst=10.1.1.1");
    SHOW_WILDCARDS(&flow, "ip", "udp,tp_dst=53");

    /* Nor do those for other protocols, but for the protocol. */
    SHOW_WILDCARDS(&flow, "udp,nw_src=10.1.2.0/24,tp_dst=53",
                   "tcp,nw_src=10.0.0.0/8");
    SHOW_WILDCARDS(&flow, "udp,nw_src=$s1", "tcp,nw_src=$s0");
    SHOW_WILDCARDS(&flow, "ip6,ipv6_src=fd00::1", "arp", "ip");

    /* Address sets. */
    SHOW_WILDCARDS(&flow, "ip,nw_src=$s0");
    SHOW_WILDCARDS(&flow, "ip,nw_src=$s1", "ip,nw_src=$s0");
    SHOW_WILDCARDS(&flow, "ip,nw_src=$s0,nw_dst=$s1", "tcp,tp_dst=80");

    test_destroy_sets();
}

static void
test_leak(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    struct layer_classifier *versions[8];
    struct test_rule *rules[100];

    test_create_sets(N_SETS);
    for (size_t i = 0; i < n_test_sets; i++) {
        address_set_publish(test_sets[i], random_table(), 1);
    }

    layer_classifier_unref(NULL);
    versions[0] = layer_classifier_create();
    for (size_t i = 1; i < ARRAY_SIZE(versions); i++) {
        struct classifier_edit *edit = classifier_edit_begin(versions[i - 1]);

        for (size_t j = 0; j < ARRAY_SIZE(rules); j++) {
            if (i == 1) {
                rules[j] = random_rule(j + 1);
                classifier_edit_insert(edit, &rules[j]->up, 1);
            } else if (j % 8 == i) {
                classifier_edit_remove(edit, &rules[j]->up);
            }
        }
        versions[i] = classifier_edit_commit(edit);
    }
    ovs_assert(layer_classifier_ref(versions[3]) == versions[3]);
    layer_classifier_unref(versions[3]);
    for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
        /* From both ends. */
        layer_classifier_unref(versions[i % 2 ? 8 - i : i]);
    }
    for (size_t j = 0; j < ARRAY_SIZE(rules); j++) {
        test_destroy_rule(rules[j]);
    }
    test_destroy_sets();
}

static const struct ovs_cmdl_command commands[] = {
    { "random", "seed n", 2, 2, test_random, OVS_RO },
    { "wildcards", NULL, 0, 0, test_wildcards, OVS_RO },
    { "leak", NULL, 0, 0, test_leak, OVS_RO },
    { "curve", "[max]", 0, 1, test_classifier_curve, OVS_RO },
    { NULL, NULL, 0, 0, NULL, OVS_RO },
};

int
main(int argc, char *argv[])
{
    struct ovs_cmdl_context ctx = { .argc = argc - 1, .argv = argv + 1 };

    set_program_name(argv[0]);
    ovs_cmdl_run_command(&ctx, commands);
    ovsrcu_exit();
    return 0;
}
