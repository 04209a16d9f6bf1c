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

#include <stdlib.h>
#include <string.h>

#include "flow.h"
#include "ovs-atomic.h"
#include "packets.h"
#include "util.h"

#include "layered/ofproto-layered/address-set.h"
#include "layered/ofproto-layered/layer-condition-private.h"

#include "openvswitch/dynamic-string.h"
#include "openvswitch/ofp-parse.h"

static const char *const keywords[] = {
    "arp", "icmp", "icmp6", "mpls", "mplsm", "rarp", "sctp", "sctp6", "tcp",
    "tcp6", "udp", "udp6",
    /* Without a protocol, the last resort. */
    "ip", "ipv6",
};

/* Fields. */

/* Returns whether values of 'mf' are ordered, so that there are ranges. */
bool
condition_field_has_ranges(const struct mf_field *mf)
{
    return (mf->string == MFS_DECIMAL || mf->string == MFS_HEXADECIMAL
            || mf->string == MFS_IPV4 || mf->string == MFS_IPV6);
}

/* Returns whether values of 'mf' are addresses, which can be in address sets,
 * and if so stores their family in '*family'. */
bool
condition_field_family(const struct mf_field *mf, enum address_family *family)
{
    *family = (mf->string == MFS_IPV4 ? ADDRESS_IPV4
               : mf->string == MFS_IPV6 ? ADDRESS_IPV6
               : ADDRESS_MAC);
    return mf->string != MFS_DECIMAL && mf->string != MFS_HEXADECIMAL
           && mf->n_bytes * 8 == address_family_bits(*family);
}

/* Returns the name that "ovs-ofctl dump-flows" has for 'mf'. */
const char *
condition_field_name(const struct mf_field *mf)
{
    if (mf->prereqs == MFP_TCP || mf->prereqs == MFP_UDP
        || mf->prereqs == MFP_SCTP) {
        return (mf->id == MFF_TCP_FLAGS ? mf->name
                : mf->id == MFF_TCP_SRC || mf->id == MFF_UDP_SRC
                  || mf->id == MFF_SCTP_SRC ? "tp_src"
                : "tp_dst");
    }
    return (mf->extra_name && (!strncmp(mf->extra_name, "dl_", 3)
                               || !strncmp(mf->extra_name, "nw_", 3))
            ? mf->extra_name : mf->name);
}

static bool
is_l4_field(const struct mf_field *mf)
{
    return mf->prereqs >= MFP_TCP && mf->prereqs != MFP_CT_VALID;
}

/* Stores in 'value' what 'flow' has for 'mf', in mf->n_bytes bytes. */
static void
get_field(const struct mf_field *mf, const struct flow *flow,
          union mf_value *value)
{
    if (mf->id == MFF_ND_OPTIONS_TYPE) {
        value->u8 = ntohs(flow->tcp_flags);
    } else if (mf->id == MFF_DL_VLAN
               && !(flow->vlans[0].tci & htons(VLAN_CFI))) {
        value->be16 = htons(OFP10_VLAN_NONE);
    } else {
        mf_get_value(mf, flow, value);
    }
}

/* Terms. */

/* Returns the number of leading one-bits of the mask of 'v', or -1 if others
 * follow. */
int
condition_value_mask_len(const struct mf_field *mf,
                         const struct condition_value *v)
{
    int len = 0;

    while (len < mf->n_bytes * 8 && v->mask[len / 8] & (0x80 >> (len % 8))) {
        len++;
    }
    for (int i = len; i < mf->n_bytes * 8; i++) {
        if (v->mask[i / 8] & (0x80 >> (i % 8))) {
            return -1;
        }
    }
    return len;
}

/* Frees what 'term' owns. */
void
condition_term_destroy(struct condition_term *term)
{
    for (size_t i = 0; i < term->n_sets; i++) {
        address_set_unref(term->sets[i]);
    }
    free(term->sets);
    free(term->values);
}

/* Returns the term of 'c' about the field 'id', or NULL. */
const struct condition_term *
condition_find_term(const struct condition *c, enum mf_field_id id)
{
    for (size_t i = 0; i < c->n_terms; i++) {
        if (c->terms[i].field->id == id) {
            return &c->terms[i];
        }
    }
    return NULL;
}

/* Returns whether 'c' demands that the field 'id', of one or two bytes, is 'a'
 * or 'b'. */
bool
condition_demands(const struct condition *c, enum mf_field_id id, uint16_t a,
                  uint16_t b)
{
    const struct condition_term *term = condition_find_term(c, id);

    if (!term || !term->n_values) {
        return false;
    }
    for (size_t i = 0; i < term->n_values; i++) {
        const struct condition_value *v = &term->values[i];
        uint16_t value = (term->field->n_bytes == 1 ? v->value[0]
                          : v->value[0] << 8 | v->value[1]);

        if (!is_all_ones(v->mask, term->field->n_bytes)
            || (value != a && value != b)) {
            return false;
        }
    }
    return true;
}

/* Life cycle. */

/* Frees 'c', which may be NULL, at once: where there are RCU readers, postpone
 * the call. */
void
condition_destroy(struct condition *c)
{
    if (c) {
        for (size_t i = 0; i < c->n_terms; i++) {
            condition_term_destroy(&c->terms[i]);
        }
        free(c->terms);
        free(c->text);
        free(c);
    }
}

/* Formatting. */

/* Stores in 'last' the last of the numbers or addresses that 'v' stands for,
 * whose mask is of a prefix. */
static void
last_value(const struct condition_value *v, uint8_t *last)
{
    for (int i = 0; i < CONDITION_MAX_BYTES; i++) {
        last[i] = v->value[i] | ~v->mask[i];
    }
}

/* Returns whether the number 'b' follows 'a', both of 'n' bytes. */
static bool
is_successor(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint8_t next[CONDITION_MAX_BYTES];
    size_t i = n;

    memcpy(next, a, n);
    while (i > 0 && !++next[--i]) {
        continue;
    }
    return !memcmp(next, b, n) && !is_all_zeros(next, n);
}

/* Appends to 's' the value at 'v', and the following ones before 'end' if they
 * make up one range with it.  Returns how many it appended. */
static size_t
format_values(const struct mf_field *mf, const struct condition_value *v,
              const struct condition_value *end, struct ds *s)
{
    union mf_value first, last, mask;
    uint8_t bytes[CONDITION_MAX_BYTES];
    size_t n = 1;

    memcpy(first.b, v->value, mf->n_bytes);
    memcpy(mask.b, v->mask, mf->n_bytes);
    if (condition_field_has_ranges(mf)
        && condition_value_mask_len(mf, v) >= 0) {
        bool address = mf->string == MFS_IPV4 || mf->string == MFS_IPV6;

        last_value(v, bytes);
        while (v + n < end
               && is_successor(bytes, v[n].value, mf->n_bytes)) {
            last_value(&v[n++], bytes);
        }
        if (n > 1 || (!address && !is_all_ones(mask.b, mf->n_bytes))) {
            memcpy(last.b, bytes, mf->n_bytes);
            mf_format(mf, &first, NULL, NULL, s);
            ds_put_char(s, '-');
            mf_format(mf, &last, NULL, NULL, s);
            return n;
        }
    }
    mf_format(mf, &first, &mask, NULL, s);
    return n;
}

static void
format_term(const struct condition_term *term, struct ds *s)
{
    struct ds list = DS_EMPTY_INITIALIZER;
    size_t n = 0;

    if (term->self) {
        ds_put_cstr(&list, (term->field->string == MFS_ETHERNET
                            ? "$self_mac," : "$self,"));
        n++;
    }
    for (size_t i = 0; i < term->n_sets; i++, n++) {
        ds_put_format(&list, "$%s,", address_set_name(term->sets[i]));
    }
    for (size_t i = 0; i < term->n_values; n++) {
        i += format_values(term->field, &term->values[i],
                           &term->values[term->n_values], &list);
        ds_put_char(&list, ',');
    }
    ds_chomp(&list, ',');
    ds_put_format(s, n > 1 ? "%s={%s}" : "%s=%s",
                  condition_field_name(term->field), ds_cstr(&list));
    ds_destroy(&list);
}

/* Appends the canonical text of 'c' to 's': a keyword of ovs-ofctl if there is
 * one, then the other terms. */
void
condition_format_terms(const struct condition *c, struct ds *s)
{
    const struct ofp_protocol *p = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(keywords); i++) {
        if (ofp_parse_protocol(keywords[i], &p)
            && condition_demands(c, MFF_ETH_TYPE, p->dl_type, p->dl_type)
            && (!p->nw_proto
                || condition_demands(c, MFF_IP_PROTO, p->nw_proto,
                                     p->nw_proto))) {
            ds_put_format(s, "%s,", keywords[i]);
            break;
        }
        p = NULL;
    }

    for (size_t i = 0; i < c->n_terms; i++) {
        const struct condition_term *term = &c->terms[i];

        if (!p || (term->field->id != MFF_ETH_TYPE
                   && (term->field->id != MFF_IP_PROTO || !p->nw_proto))) {
            format_term(term, s);
            ds_put_char(s, ',');
        }
    }
    ds_chomp(s, ',');
}

/* Appends the canonical text of 'c' to 's'.  condition_parse() makes of it a
 * condition with the same terms and the same text. */
void
condition_format(const struct condition *c, struct ds *s)
{
    ds_put_cstr(s, c->text);
}

/* Matching. */

/* Unwildcards in 'wc' the first 'n_bits' bits of 'mf', of those in 'mask' if
 * it is nonnull. */
static void
unwildcard(const struct mf_field *mf, unsigned int n_bits,
           const uint8_t *mask, struct flow_wildcards *wc)
{
    union mf_value looked_at;

    if (!wc || !n_bits) {
        return;
    }
    memset(&looked_at, 0, sizeof looked_at);
    if (mf->maskable == MFM_NONE) {
        n_bits = mf->n_bytes * 8;
        mask = NULL;
    }
    for (unsigned int i = 0; i < mf->n_bytes && i * 8 < n_bits; i++) {
        uint8_t byte = n_bits >= i * 8 + 8 ? 0xff
                       : 0xff << (i * 8 + 8 - n_bits);

        looked_at.b[i] = mask ? byte & mask[i] : byte;
    }
    mf_mask_field_masked(mf, &looked_at, wc);
}

/* Returns whether 'flow' has the field 'mf'. */
static bool
has_field(const struct mf_field *mf, const struct flow *flow,
          struct flow_wildcards *wc)
{
    if (wc && mf->prereqs > MFP_ETHERNET && mf->prereqs != MFP_VLAN_VID) {
        WC_MASK_FIELD(wc, dl_type);
    }
    if (is_l4_field(mf) && is_ip_any(flow)) {
        if (wc) {
            WC_MASK_FIELD_MASK(wc, nw_frag, FLOW_NW_FRAG_LATER);
        }
        if (flow->nw_frag & FLOW_NW_FRAG_LATER) {
            return false;
        }
    }
    return (mf_are_prereqs_ok(mf, flow, wc)
            && (mf->id != MFF_DL_VLAN_PCP || is_vlan(flow, wc)));
}

/* Returns whether 'table', which may be NULL, has 'address', and raises
 * '*n_bits' to the number of leading bits that decide that. */
static bool
table_has(const struct address_table *table, enum address_family family,
          const void *address, unsigned int *n_bits)
{
    unsigned int n = 0;
    bool has = (table
                && address_table_contains(table, family, address, &n));

    *n_bits = has ? n : MAX(*n_bits, n);
    return has;
}

/* Returns whether 'term' holds for 'flow' at the port of 'self', with the
 * contents that address sets have as of 'version'.  'self' may be NULL, as for
 * a port without addresses.
 *
 * Unwildcards in 'wc', which may be NULL, bits of 'flow' that decide that: it
 * is the same for all the flows that have them.
 *
 * Thread-safe, under RCU's rules. */
bool
condition_term_matches(const struct condition_term *term, uint64_t version,
                       const struct condition_self *self,
                       const struct flow *flow, struct flow_wildcards *wc)
{
    const struct mf_field *mf = term->field;
    uint8_t masks[CONDITION_MAX_BYTES];
    enum address_family family;
    unsigned int n_bits = 0;
    union mf_value value;

    if (!has_field(mf, flow, wc)) {
        return false;
    }
    get_field(mf, flow, &value);

    /* To know that no value is right takes the bits down to the first wrong
     * one of each. */
    memset(masks, 0, sizeof masks);
    for (size_t i = 0; i < term->n_values; i++) {
        const struct condition_value *v = &term->values[i];
        unsigned int n = 0;

        for (int j = 0; j < mf->n_bytes; j++) {
            uint8_t diff = (value.b[j] ^ v->value[j]) & v->mask[j];

            if (diff) {
                n = j * 8 + 8 - log_2_floor(diff);
                break;
            }
        }
        if (!n) {
            unwildcard(mf, mf->n_bytes * 8, v->mask, wc);
            return true;
        }
        n_bits = MAX(n_bits, n);
        for (int j = 0; j < mf->n_bytes; j++) {
            masks[j] |= v->mask[j];
        }
    }
    if (!term->self && !term->n_sets) {
        unwildcard(mf, n_bits, masks, wc);
        return false;
    }

    bool found = false;

    condition_field_family(mf, &family);
    if (term->self && family == ADDRESS_MAC) {
        if (self && self->has_mac) {
            found = eth_addr_equals(value.mac, self->mac);
            n_bits = 48;
        }
    } else if (term->self && self) {
        found = table_has(self->addresses, family, value.b, &n_bits);
    }
    for (size_t i = 0; i < term->n_sets && !found; i++) {
        found = table_has(address_set_get(term->sets[i], version), family,
                          value.b, &n_bits);
    }
    unwildcard(mf, n_bits, NULL, wc);
    return found;
}

/* Returns the turn of 'term' in condition_matches(): the terms that others
 * depend on and that cost least come first. */
static int
term_turn(const struct condition_term *term)
{
    return (term->field->id == MFF_ETH_TYPE ? 0
            : term->field->id == MFF_IP_PROTO ? 1
            : term->self || term->n_sets ? 3
            : 2);
}

/* Returns whether 'flow' meets 'c'.  The arguments and what is unwildcarded
 * are as for condition_term_matches(). */
bool
condition_matches(const struct condition *c, uint64_t version,
                  const struct condition_self *self, const struct flow *flow,
                  struct flow_wildcards *wc)
{
    for (int turn = 0; turn < 4; turn++) {
        for (size_t i = 0; i < c->n_terms; i++) {
            const struct condition_term *term = &c->terms[i];

            if (term_turn(term) == turn
                && !condition_term_matches(term, version, self, flow, wc)) {
                return false;
            }
        }
    }
    return true;
}

/* Returns whether 'c' looks at headers that later fragments do not have. */
bool
condition_uses_l4(const struct condition *c)
{
    for (size_t i = 0; i < c->n_terms; i++) {
        if (is_l4_field(c->terms[i].field)) {
            return true;
        }
    }
    return false;
}
