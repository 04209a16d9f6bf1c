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

#include "layered/ofproto-layered/layer-condition.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "flow.h"
#include "packets.h"
#include "svec.h"
#include "util.h"

#include "layered/ofproto-layered/address-set.h"
#include "layered/ofproto-layered/layer-condition-private.h"
#include "layered/ofproto-layered/layer-text.h"

#include "openvswitch/dynamic-string.h"
#include "openvswitch/ofp-parse.h"

/* A condition that is being parsed. */
struct condition_parser {
    struct condition *condition;
    struct svec texts;          /* Of the terms, as the user has them. */
    size_t allocated_terms;
    condition_find_set *find_set;
    void *aux;
};

/* Returns whether 'mf' is of a packet, rather than of the pipeline, and fits
 * in a condition. */
static bool
is_packet_field(const struct mf_field *mf)
{
    return ((mf->id >= MFF_ETH_SRC
             || (mf->id >= MFF_TUN_ID && mf->id < MFF_METADATA))
            && mf->n_bytes <= CONDITION_MAX_BYTES);
}

/* Returns the field by whose name the bits of 'mf' can be in a condition
 * once, of those that overlap each other. */
static enum mf_field_id
overlap_id(const struct mf_field *mf)
{
    return (mf->id == MFF_DL_VLAN || mf->id == MFF_VLAN_VID ? MFF_VLAN_TCI
            : mf->id == MFF_DL_VLAN_PCP ? MFF_VLAN_PCP
            : mf->id == MFF_IP_DSCP_SHIFTED ? MFF_IP_DSCP
            : mf->id);
}

/* Values under masks. */

static void
prefix_to_value(const struct address_prefix *prefix, struct condition_value *v)
{
    memset(v, 0, sizeof *v);
    memcpy(v->value, prefix->bytes, sizeof v->value);
    for (int i = 0; i < prefix->len; i++) {
        v->mask[i / 8] |= 0x80 >> (i % 8);
    }
}

static int
compare_values(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct condition_value));
}

static int
compare_prefixes(const void *a, const void *b)
{
    return address_prefix_compare(a, b);
}

/* Sorts the values of 'term', and has as few of them as possible: prefixes are
 * merged, and duplicates of others dropped. */
static void
normalize_values(struct condition_term *term)
{
    bool flags = (term->field->string == MFS_TCP_FLAGS
                  || term->field->string == MFS_TNL_FLAGS);
    struct address_prefix *prefixes
        = xmalloc(term->n_values * sizeof *prefixes);
    size_t n_prefixes = 0;
    size_t n_others = 0;

    for (size_t i = 0; i < term->n_values; i++) {
        struct condition_value *v = &term->values[i];
        int len = flags ? -1 : condition_value_mask_len(term->field, v);

        if (len >= 0) {
            struct address_prefix *p = &prefixes[n_prefixes++];

            memset(p, 0, sizeof *p);
            memcpy(p->bytes, v->value, sizeof p->bytes);
            p->len = len;
        } else {
            term->values[n_others++] = *v;
        }
    }

    qsort(prefixes, n_prefixes, sizeof *prefixes, compare_prefixes);
    n_prefixes = address_prefixes_merge(prefixes, n_prefixes);

    size_t n = 0;

    if (n_others) {
        qsort(term->values, n_others, sizeof *term->values, compare_values);
    }
    for (size_t i = 0; i < n_others; i++) {
        if (!n || compare_values(&term->values[n - 1], &term->values[i])) {
            term->values[n++] = term->values[i];
        }
    }
    for (size_t i = 0; i < n_prefixes; i++) {
        prefix_to_value(&prefixes[i], &term->values[n++]);
    }
    term->n_values = n;
    free(prefixes);
}

static int
compare_sets(const void *a_, const void *b_)
{
    struct address_set *const *a = a_;
    struct address_set *const *b = b_;

    return strcmp(address_set_name(*a), address_set_name(*b));
}

static void
normalize_sets(struct condition_term *term)
{
    size_t n = 0;

    if (term->n_sets) {
        qsort(term->sets, term->n_sets, sizeof *term->sets, compare_sets);
    }
    for (size_t i = 0; i < term->n_sets; i++) {
        if (n && !compare_sets(&term->sets[n - 1], &term->sets[i])) {
            address_set_unref(term->sets[i]);
        } else {
            term->sets[n++] = term->sets[i];
        }
    }
    term->n_sets = n;
}

/* Terms. */

static bool
term_equals(const struct condition_term *a, const struct condition_term *b)
{
    return (a->field == b->field && a->self == b->self
            && a->n_sets == b->n_sets && a->n_values == b->n_values
            && !memcmp(a->values, b->values, a->n_values * sizeof *a->values)
            && (!a->n_sets
                || !memcmp(a->sets, b->sets, a->n_sets * sizeof *a->sets)));
}

static void
term_add_value(struct condition_term *term, const uint8_t *value,
               const uint8_t *mask)
{
    if (!(term->n_values & (term->n_values - 1))) {
        term->values = xrealloc(term->values, MAX(1, 2 * term->n_values)
                                              * sizeof *term->values);
    }

    struct condition_value *v = &term->values[term->n_values++];

    memset(v, 0, sizeof *v);
    for (int i = 0; i < term->field->n_bytes; i++) {
        v->value[i] = value[i] & mask[i];
        v->mask[i] = mask[i];
    }
}

/* Returns whether 'term' holds for every packet that has the field. */
static bool
term_is_wild(const struct condition_term *term)
{
    for (size_t i = 0; i < term->n_values; i++) {
        if (is_all_zeros(term->values[i].mask, CONDITION_MAX_BYTES)) {
            return true;
        }
    }
    return false;
}

/* Returns whether 'c' demands that the Ethernet type is 'a' or 'b'. */
static bool
demands_type(const struct condition *c, uint16_t a, uint16_t b)
{
    return condition_demands(c, MFF_ETH_TYPE, a, b);
}

static bool
demands_ip_proto(const struct condition *c, uint8_t nw_proto)
{
    return (demands_type(c, ETH_TYPE_IP, ETH_TYPE_IPV6)
            && condition_demands(c, MFF_IP_PROTO, nw_proto, nw_proto));
}

/* Returns whether 'c' demands neighbor discovery, of type 'a' or 'b'. */
static bool
demands_nd(const struct condition *c, uint16_t a, uint16_t b)
{
    return (demands_type(c, ETH_TYPE_IPV6, ETH_TYPE_IPV6)
            && demands_ip_proto(c, IPPROTO_ICMPV6)
            && condition_demands(c, MFF_ICMPV6_TYPE, a, b)
            && (!condition_find_term(c, MFF_ICMPV6_CODE)
                || condition_demands(c, MFF_ICMPV6_CODE, 0, 0)));
}

/* Returns whether 'c' demands a VLAN tag. */
static bool
demands_vlan(const struct condition *c)
{
    const struct condition_term *term;
    bool vlan = false;

    if ((term = condition_find_term(c, MFF_VLAN_TCI))
        || (term = condition_find_term(c, MFF_VLAN_VID))) {
        vlan = true;
        for (size_t i = 0; i < term->n_values; i++) {
            vlan = vlan && term->values[i].value[0] & (VLAN_CFI >> 8);
        }
    } else if ((term = condition_find_term(c, MFF_DL_VLAN))) {
        /* That is, any but OFP10_VLAN_NONE. */
        vlan = true;
        for (size_t i = 0; i < term->n_values; i++) {
            vlan = vlan && term->values[i].value[0] != 0xff;
        }
    }
    return vlan;
}

/* Returns NULL if 'c' demands all that 'mf' needs in a packet, otherwise what
 * it needs. */
static const char *
missing_prereq(const struct condition *c, const struct mf_field *mf)
{
    bool ip = demands_type(c, ETH_TYPE_IP, ETH_TYPE_IP);
    bool ipv6 = demands_type(c, ETH_TYPE_IPV6, ETH_TYPE_IPV6);

    switch (mf->prereqs) {
    case MFP_NONE:
    case MFP_ETHERNET:
        return NULL;
    case MFP_ARP:
        return (demands_type(c, ETH_TYPE_ARP, ETH_TYPE_RARP)
                ? NULL : "arp or rarp");
    case MFP_VLAN_VID:
        return demands_vlan(c) ? NULL : "a VLAN, e.g. vlan_tci=0x1000/0x1000";
    case MFP_IPV4:
        return ip ? NULL : "ip";
    case MFP_IPV6:
        return ipv6 ? NULL : "ip6";
    case MFP_IP_ANY:
        return (demands_type(c, ETH_TYPE_IP, ETH_TYPE_IPV6)
                ? NULL : "ip or ip6");
    case MFP_NSH:
        return (demands_type(c, ETH_TYPE_NSH, ETH_TYPE_NSH)
                ? NULL : "dl_type=0x894f");
    case MFP_MPLS:
        return (demands_type(c, ETH_TYPE_MPLS, ETH_TYPE_MPLS_MCAST)
                ? NULL : "mpls or mplsm");
    case MFP_TCP:
        return demands_ip_proto(c, IPPROTO_TCP) ? NULL : "tcp or tcp6";
    case MFP_UDP:
        return demands_ip_proto(c, IPPROTO_UDP) ? NULL : "udp or udp6";
    case MFP_SCTP:
        return demands_ip_proto(c, IPPROTO_SCTP) ? NULL : "sctp or sctp6";
    case MFP_ICMPV4:
        return ip && demands_ip_proto(c, IPPROTO_ICMP) ? NULL : "icmp";
    case MFP_ICMPV6:
        return ipv6 && demands_ip_proto(c, IPPROTO_ICMPV6) ? NULL : "icmp6";
    case MFP_ND:
        return (demands_nd(c, ND_NEIGHBOR_SOLICIT, ND_NEIGHBOR_ADVERT)
                ? NULL : "icmp6 with icmpv6_type 135 or 136");
    case MFP_ND_SOLICIT:
        return (demands_nd(c, ND_NEIGHBOR_SOLICIT, ND_NEIGHBOR_SOLICIT)
                ? NULL : "icmp6 with icmpv6_type 135");
    case MFP_ND_ADVERT:
        return (demands_nd(c, ND_NEIGHBOR_ADVERT, ND_NEIGHBOR_ADVERT)
                ? NULL : "icmp6 with icmpv6_type 136");
    case MFP_CT_VALID:
    default:
        OVS_NOT_REACHED();
    }
}

/* Parsing. */

/* Returns whether 's' is an address of 'family' with or without a mask.  The
 * parsers of Open vSwitch take e.g. 10.0.0.300 for 10.0.0.44. */
static bool
is_address(const char *s, enum address_family family)
{
    struct address_prefix p;
    char *copy = xstrdup(s);
    char *mask = strchr(copy, '/');
    bool ok = true;

    if (mask) {
        int len;

        *mask++ = '\0';
        ok = (mask[strspn(mask, "0123456789")]
              ? address_parse(mask, &p) && p.family == family
              : str_to_int(mask, 10, &len)
                && len <= address_family_bits(family));
    }
    ok = ok && address_parse(copy, &p) && p.family == family;
    free(copy);
    return ok;
}

/* Parses 's' as a value of 'mf', with a mask if it has one. */
static char * OVS_WARN_UNUSED_RESULT
parse_masked(const struct mf_field *mf, const char *s, union mf_value *value,
             union mf_value *mask)
{
    struct mf_field number = *mf;
    enum address_family family;
    union mf_value valid;

    memset(value, 0, sizeof *value);
    memset(mask, 0, sizeof *mask);
    if ((mf->string == MFS_TCP_FLAGS || mf->string == MFS_TNL_FLAGS)
        && isdigit((unsigned char) *s)) {
        number.string = MFS_HEXADECIMAL;
    } else if ((mf->string == MFS_DECIMAL || mf->string == MFS_HEXADECIMAL)
               && !isdigit((unsigned char) *s) && strcmp(s, "*")) {
        return xasprintf("%s: not a number", s);
    } else if (condition_field_family(mf, &family)
               && !is_address(s, family) && strcmp(s, "*")) {
        return xasprintf("%s: not an %s address", s,
                         family == ADDRESS_IPV4 ? "IPv4"
                         : family == ADDRESS_IPV6 ? "IPv6" : "Ethernet");
    }

    char *error = mf_parse(&number, s, NULL, value, mask);

    if (error) {
        return error;
    }
    for (int i = 0; i < mf->n_bytes; i++) {
        value->b[i] &= mask->b[i];
    }
    if (!is_all_zeros(mask, mf->n_bytes) && !mf_is_value_valid(mf, value)
        && !(mf->id == MFF_DL_VLAN
             && value->be16 == htons(OFP10_VLAN_NONE))) {
        return xasprintf("%s: not a value of %s", s, mf->name);
    }

    /* A mask of all the bits there are is an exact match. */
    memset(&valid, 0xff, sizeof valid);
    if (mf->id == MFF_TCP_FLAGS) {
        valid.be16 = TCP_FLAGS_BE16(OVS_BE16_MAX);
    } else if (mf->id == MFF_TUN_FLAGS) {
        valid.be16 = htons(FLOW_TNL_PUB_F_MASK);
    } else if (mf->id == MFF_VLAN_VID) {
        valid.be16 = htons(VLAN_VID_MASK | VLAN_CFI);
    } else if (mf->id == MFF_IPV6_LABEL) {
        valid.be32 = htonl(IPV6_LABEL_MASK);
    }
    for (int i = 0; i < mf->n_bytes; i++) {
        mask->b[i] &= valid.b[i];
    }
    if (!memcmp(mask, &valid, mf->n_bytes)) {
        memset(mask, 0xff, mf->n_bytes);
    }
    return NULL;
}

/* Parses 's', of the form "$NAME", and adds it to 'term'. */
static char * OVS_WARN_UNUSED_RESULT
parse_set(struct condition_parser *parser, struct condition_term *term,
          const char *s)
{
    const char *name = s + 1;
    enum address_family family;

    if (!condition_field_family(term->field, &family)) {
        return xasprintf("%s: not a field of addresses", s);
    } else if (!strcmp(name, "self") || !strcmp(name, "self_mac")) {
        bool mac = name[4] != '\0';

        if (mac != (family == ADDRESS_MAC)) {
            return xasprintf("%s: not a field of %s addresses", s,
                             mac ? "Ethernet" : "IP");
        }
        term->self = true;
        return NULL;
    }

    struct address_set *set = parser->find_set(name, parser->aux);

    if (!set) {
        return xasprintf("%s: unknown address set", s);
    }
    term->sets = xrealloc(term->sets, (term->n_sets + 1) * sizeof *term->sets);
    term->sets[term->n_sets++] = address_set_ref(set);
    return NULL;
}

/* Parses 's', of the form "A-B", of which 'delim' is the "-", and adds it to
 * 'term'. */
static char * OVS_WARN_UNUSED_RESULT
parse_range(struct condition_term *term, char *s, char *delim)
{
    const struct mf_field *mf = term->field;
    union mf_value first, last, mask;
    struct address_prefix prefix;
    bool more;

    if (strpbrk(s, "/*")) {
        return xasprintf("%s: range of masked values", s);
    } else if (!delim[1]) {
        return xasprintf("%s: incomplete range", s);
    }

    *delim = '\0';
    char *error = parse_masked(mf, trim(s), &first, &mask);
    if (!error) {
        error = parse_masked(mf, trim(delim + 1), &last, &mask);
    }
    *delim = '-';
    if (error) {
        return error;
    } else if (memcmp(&first, &last, mf->n_bytes) > 0) {
        return xasprintf("%s: range ends before it begins", s);
    }

    do {
        struct condition_value v;

        more = address_range_pop(first.b, last.b, mf->n_bytes, &prefix);
        prefix_to_value(&prefix, &v);
        term_add_value(term, v.value, v.mask);
    } while (more);
    return NULL;
}

/* Parses 's', one alternative, and adds it to 'term'. */
static char * OVS_WARN_UNUSED_RESULT
parse_alternative(struct condition_parser *parser, struct condition_term *term,
                  char *s)
{
    const struct mf_field *mf = term->field;
    char *delim = strchr(s + 1, '-');

    if (*s == '$') {
        return parse_set(parser, term, s);
    } else if (delim && condition_field_has_ranges(mf)) {
        return parse_range(term, s, delim);
    }

    union mf_value value, mask;
    char *error = parse_masked(mf, s, &value, &mask);

    if (!error) {
        term_add_value(term, value.b, mask.b);
    }
    return error;
}

static bool
is_keyword(const char *text)
{
    const struct ofp_protocol *protocol;

    return ofp_parse_protocol(text, &protocol);
}

/* Adds 'term', which came from 'text', to the condition.  Takes over what it
 * owns. */
static char * OVS_WARN_UNUSED_RESULT
add_term(struct condition_parser *parser, struct condition_term *term,
         const char *text)
{
    struct condition *c = parser->condition;

    for (size_t i = 0; i < c->n_terms; i++) {
        const struct condition_term *other = &c->terms[i];

        if (overlap_id(other->field) == overlap_id(term->field)) {
            const char *other_text = parser->texts.names[i];
            char *error = NULL;

            if (is_keyword(text) || is_keyword(other_text)) {
                if (!term_equals(term, other)) {
                    error = xasprintf("%s: contradicts %s", text, other_text);
                }
            } else if (other->field == term->field) {
                error = xasprintf("%s: %s is given twice", text,
                                  condition_field_name(term->field));
            } else {
                error = xasprintf("%s: overlaps %s", text, other_text);
            }
            condition_term_destroy(term);
            return error;
        }
    }

    if (c->n_terms >= parser->allocated_terms) {
        c->terms = x2nrealloc(c->terms, &parser->allocated_terms,
                              sizeof *c->terms);
    }
    c->terms[c->n_terms++] = *term;
    svec_add(&parser->texts, text);
    return NULL;
}

/* Adds the term that a keyword stands for. */
static char * OVS_WARN_UNUSED_RESULT
add_keyword_term(struct condition_parser *parser, enum mf_field_id id,
                 uint16_t number, const char *keyword)
{
    struct condition_term term = { .field = mf_from_id(id) };
    union mf_value value, mask;

    memset(&mask, 0xff, sizeof mask);
    if (term.field->n_bytes == 1) {
        value.u8 = number;
    } else {
        value.be16 = htons(number);
    }
    term_add_value(&term, value.b, mask.b);
    return add_term(parser, &term, keyword);
}

/* Parses 'alternatives', what the term 'text' has after "NAME=" without the
 * braces, about field 'mf'. */
static char * OVS_WARN_UNUSED_RESULT
parse_alternatives(struct condition_parser *parser, const struct mf_field *mf,
                   const char *text, const char *name, char *alternatives)
{
    struct condition_term term = { .field = mf };
    char *s = alternatives;

    while (s) {
        char *next = strchr(s, ',');

        if (next) {
            *next++ = '\0';
        }
        s = trim(s);
        if (!*s) {
            condition_term_destroy(&term);
            return xasprintf("%s: missing value", text);
        }

        char *error = parse_alternative(parser, &term, s);

        if (error) {
            char *message = xasprintf("%s=%s", name, error);

            free(error);
            condition_term_destroy(&term);
            return message;
        }
        s = next;
    }

    normalize_values(&term);
    normalize_sets(&term);
    return add_term(parser, &term, text);
}

/* Returns the field that "tp_src", or if 'dst' "tp_dst", stands for in 'c', or
 * NULL if there is none. */
static const struct mf_field *
resolve_tp(const struct condition *c, bool dst)
{
    bool ip = demands_type(c, ETH_TYPE_IP, ETH_TYPE_IP);
    bool ipv6 = demands_type(c, ETH_TYPE_IPV6, ETH_TYPE_IPV6);

    return (demands_ip_proto(c, IPPROTO_TCP)
            ? mf_from_id(dst ? MFF_TCP_DST : MFF_TCP_SRC)
            : demands_ip_proto(c, IPPROTO_UDP)
            ? mf_from_id(dst ? MFF_UDP_DST : MFF_UDP_SRC)
            : demands_ip_proto(c, IPPROTO_SCTP)
            ? mf_from_id(dst ? MFF_SCTP_DST : MFF_SCTP_SRC)
            : ip && demands_ip_proto(c, IPPROTO_ICMP)
            ? mf_from_id(dst ? MFF_ICMPV4_CODE : MFF_ICMPV4_TYPE)
            : ipv6 && demands_ip_proto(c, IPPROTO_ICMPV6)
            ? mf_from_id(dst ? MFF_ICMPV6_CODE : MFF_ICMPV6_TYPE)
            : NULL);
}

/* Returns whether what 'name' means depends on the protocol. */
static bool
is_ambiguous(const char *name)
{
    return (!strcmp(name, "tp_src") || !strcmp(name, "tp_dst")
            || !strcmp(name, "icmp_type") || !strcmp(name, "icmp_code"));
}

/* Returns the field that 'name', for which is_ambiguous() is true, stands for
 * in 'c', or NULL if there is none. */
static const struct mf_field *
resolve_ambiguous(const struct condition *c, const char *name)
{
    if (!strcmp(name, "tp_src") || !strcmp(name, "tp_dst")) {
        return resolve_tp(c, !strcmp(name, "tp_dst"));
    }
    /* Open vSwitch prints these for ICMPv6 as well. */
    bool ipv6 = (demands_type(c, ETH_TYPE_IPV6, ETH_TYPE_IPV6)
                 && demands_ip_proto(c, IPPROTO_ICMPV6));

    return (!strcmp(name, "icmp_type")
            ? mf_from_id(ipv6 ? MFF_ICMPV6_TYPE : MFF_ICMPV4_TYPE)
            : mf_from_id(ipv6 ? MFF_ICMPV6_CODE : MFF_ICMPV4_CODE));
}

/* Parses 'text', one term.  What some names mean depends on other terms:
 * parses only them if 'ambiguous' is true, otherwise all but them. */
static char * OVS_WARN_UNUSED_RESULT
parse_term(struct condition_parser *parser, const char *text, bool ambiguous)
{
    const struct ofp_protocol *protocol;
    const struct mf_field *mf;
    char *error = NULL;
    char *copy = xstrdup(text);
    char *value = strchr(copy, '=');

    if (value) {
        *value++ = '\0';
        value = trim(value);

        size_t len = strlen(value);

        if (value[0] == '{' && value[len - 1] == '}') {
            value[len - 1] = '\0';
            value++;
        }
    }

    char *name = trim(copy);
    const char *brace = strpbrk(name, "{}");

    if (!brace && value) {
        brace = strpbrk(value, "{}");
    }
    if (brace) {
        error = xasprintf("%s: stray %c", text, *brace);
        goto exit;
    } else if (!*name) {
        error = (*text ? xasprintf("%s: missing name", text)
                 : xstrdup("empty term"));
        goto exit;
    } else if (is_ambiguous(name)) {
        if (!ambiguous) {
            goto exit;
        }
        mf = resolve_ambiguous(parser->condition, name);
        if (!mf) {
            error = xasprintf("%s: needs tcp, udp, sctp or icmp", text);
            goto exit;
        }
    } else if (ambiguous) {
        goto exit;
    } else if (ofp_parse_protocol(name, &protocol)) {
        if (value) {
            error = xasprintf("%s: %s takes no value", text, name);
            goto exit;
        }
        error = add_keyword_term(parser, MFF_ETH_TYPE, protocol->dl_type,
                                 name);
        if (!error && protocol->nw_proto) {
            error = add_keyword_term(parser, MFF_IP_PROTO, protocol->nw_proto,
                                     name);
        }
        goto exit;
    } else {
        mf = mf_from_name(name);
        if (!mf) {
            error = xasprintf("%s: unknown %s", name,
                              value ? "field" : "keyword");
            goto exit;
        } else if (!is_packet_field(mf)) {
            error = xasprintf("%s: not a field of packets", name);
            goto exit;
        }
    }
    if (!value) {
        error = xasprintf("%s: missing value", name);
    } else {
        error = parse_alternatives(parser, mf, text, name, value);
    }

exit:
    free(copy);
    return error;
}

/* Splits 'text' at the commas outside of braces. */
static void
split_terms(const char *text, struct svec *terms)
{
    char *copy = xstrdup(text);
    char *start = trim(copy);
    bool braces = false;

    if (!*start) {
        free(copy);
        return;
    }
    for (char *p = start; ; p++) {
        if (*p == '{' || *p == '}') {
            braces = *p == '{';
        } else if (!*p || (*p == ',' && !braces)) {
            bool last = !*p;

            *p = '\0';
            svec_add(terms, trim(start));
            if (last) {
                break;
            }
            start = p + 1;
        }
    }
    free(copy);
}

static int
compare_terms(const void *a_, const void *b_)
{
    const struct condition_term *a = a_;
    const struct condition_term *b = b_;

    return a->field->id < b->field->id ? -1 : a->field->id > b->field->id;
}

static char * OVS_WARN_UNUSED_RESULT
parse_terms(struct condition_parser *parser, const struct svec *texts)
{
    struct condition *c = parser->condition;
    char *error = NULL;

    for (int tp = 0; tp < 2; tp++) {
        for (size_t i = 0; i < texts->n && !error; i++) {
            error = parse_term(parser, texts->names[i], tp);
        }
    }
    for (size_t i = 0; i < c->n_terms && !error; i++) {
        const char *prereq = missing_prereq(c, c->terms[i].field);

        if (prereq) {
            error = xasprintf("%s: needs %s", parser->texts.names[i], prereq);
        }
    }
    return error;
}

/* Parses 'text' into a new condition and stores it in '*conditionp', with one
 * reference, owned by the caller.  'find_set', which is passed 'aux', finds
 * the address sets.
 *
 * Returns NULL if successful, otherwise an error message that begins with the
 * part of 'text' that it is about, which the caller must free(), and sets
 * '*conditionp' to NULL. */
char *
condition_parse(const char *text, condition_find_set *find_set, void *aux,
                struct condition **conditionp)
{
    struct condition *c = xzalloc(sizeof *c);
    struct condition_parser parser = {
        .condition = c,
        .texts = SVEC_EMPTY_INITIALIZER,
        .find_set = find_set,
        .aux = aux,
    };
    struct svec texts = SVEC_EMPTY_INITIALIZER;

    split_terms(text, &texts);

    char *error = parse_terms(&parser, &texts);

    svec_destroy(&texts);
    svec_destroy(&parser.texts);
    if (error) {
        condition_destroy(c);
        *conditionp = NULL;
        return error;
    }

    /* Terms that hold anyway served as no more than a mention. */
    size_t n = 0;
    for (size_t i = 0; i < c->n_terms; i++) {
        if (term_is_wild(&c->terms[i])) {
            condition_term_destroy(&c->terms[i]);
        } else {
            c->terms[n++] = c->terms[i];
        }
    }
    c->n_terms = n;
    if (n) {
        qsort(c->terms, n, sizeof *c->terms, compare_terms);
    }

    struct ds s = DS_EMPTY_INITIALIZER;

    condition_format_terms(c, &s);
    c->text = ds_steal_cstr(&s);
    *conditionp = c;
    return NULL;
}
