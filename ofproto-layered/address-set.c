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

#include "layered/ofproto-layered/address-set.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ovs-atomic.h"
#include "ovs-rcu.h"
#include "packets.h"
#include "util.h"

#include "openvswitch/dynamic-string.h"

#define ADDRESS_MAX_BYTES 16

/* The addresses as the fewest prefixes that cover them: disjoint, and no two
 * of them halves of a shorter one. */
struct address_table {
    struct ovs_refcount ref_cnt;
    size_t n;
    struct address_prefix *prefixes;        /* Sorted. */
    size_t start[N_ADDRESS_FAMILIES + 1];   /* First of each family. */
};

/* The contents of a set.  Immutable, holds references to the tables. */
struct set_contents {
    struct address_table *current;      /* Either may be NULL. */
    struct address_table *previous;
    uint64_t current_version;           /* First version of 'current'. */
    uint64_t previous_version;
};

struct address_set {
    struct ovs_refcount ref_cnt;
    char *name;
    OVSRCU_TYPE(struct set_contents *) contents;    /* NULL at first. */
};

/* Prefixes. */

/* Returns the width of addresses of 'family' in bits. */
unsigned int
address_family_bits(enum address_family family)
{
    switch (family) {
    case ADDRESS_IPV4:
        return 32;
    case ADDRESS_IPV6:
        return 128;
    case ADDRESS_MAC:
        return 48;
    case N_ADDRESS_FAMILIES:
    default:
        OVS_NOT_REACHED();
    }
}

/* Returns the number of leading bits, at most 'n_bits', in which 'a' and 'b'
 * are the same. */
static unsigned int
common_bits(const uint8_t *a, const uint8_t *b, unsigned int n_bits)
{
    for (unsigned int i = 0; i * 8 < n_bits; i++) {
        uint8_t diff = a[i] ^ b[i];

        if (diff) {
            return MIN(n_bits, i * 8 + 7 - log_2_floor(diff));
        }
    }
    return n_bits;
}

/* Sets all but the first 'len' bits of 'bytes', of which there are 'n_bytes',
 * to 'value'. */
static void
fill_tail(uint8_t *bytes, size_t n_bytes, unsigned int len, bool value)
{
    for (size_t i = len / 8; i < n_bytes; i++) {
        uint8_t tail = i == len / 8 ? 0xff >> (len % 8) : 0xff;

        bytes[i] = value ? bytes[i] | tail : bytes[i] & ~tail;
    }
}

/* Orders prefixes by family, then by address.  Of two prefixes of which one
 * covers the other, the shorter comes first. */
int
address_prefix_compare(const struct address_prefix *a,
                       const struct address_prefix *b)
{
    if (a->family != b->family) {
        return a->family < b->family ? -1 : 1;
    }

    int cmp = memcmp(a->bytes, b->bytes, sizeof a->bytes);

    return cmp ? cmp : a->len < b->len ? -1 : a->len > b->len;
}

static int
compare_prefixes(const void *a, const void *b)
{
    return address_prefix_compare(a, b);
}

/* Appends 'prefix' to 's' in the form that address_table_parse() takes. */
void
address_prefix_format(const struct address_prefix *prefix, struct ds *s)
{
    struct eth_addr mac, mac_mask;
    struct in6_addr ipv6, mask;
    ovs_be32 ipv4;

    memset(&mask, 0xff, sizeof mask);
    fill_tail(mask.s6_addr, sizeof mask, prefix->len, false);

    switch ((enum address_family) prefix->family) {
    case ADDRESS_IPV4:
        memcpy(&ipv4, prefix->bytes, sizeof ipv4);
        ip_format_masked(ipv4, be32_prefix_mask(prefix->len), s);
        break;
    case ADDRESS_IPV6:
        memcpy(&ipv6, prefix->bytes, sizeof ipv6);
        ipv6_format_masked(&ipv6, &mask, s);
        break;
    case ADDRESS_MAC:
        memcpy(&mac, prefix->bytes, sizeof mac);
        memcpy(&mac_mask, &mask, sizeof mac_mask);
        eth_format_masked(mac, &mac_mask, s);
        break;
    case N_ADDRESS_FAMILIES:
    default:
        OVS_NOT_REACHED();
    }
}

/* Drops from the 'n' sorted 'prefixes' those that others cover, and merges
 * halves.  Returns the number that is left. */
size_t
address_prefixes_merge(struct address_prefix *prefixes, size_t n)
{
    size_t n_out = 0;

    for (size_t i = 0; i < n; i++) {
        struct address_prefix prefix = prefixes[i];

        while (n_out) {
            const struct address_prefix *last = &prefixes[n_out - 1];
            unsigned int common = common_bits(last->bytes, prefix.bytes,
                                              last->len);

            if (last->family != prefix.family) {
                break;
            } else if (common == last->len) {
                prefix = *last;         /* Covers 'prefix'. */
            } else if (last->len == prefix.len && common + 1 == last->len) {
                prefix = *last;         /* The other half. */
                prefix.len--;
            } else {
                break;
            }
            n_out--;
        }
        prefixes[n_out++] = prefix;
    }
    return n_out;
}

/* Takes from the range of 'n_bytes' wide numbers or addresses, 'first' to
 * 'last', the longest block at its beginning that a prefix can stand for.
 * Stores the prefix in 'prefix', except for its family, and lets 'first' be
 * what follows.  Returns false if that was all of the range. */
bool
address_range_pop(uint8_t *first, const uint8_t *last, size_t n_bytes,
                  struct address_prefix *prefix)
{
    uint8_t end[ADDRESS_MAX_BYTES];
    unsigned int len = n_bytes * 8;

    memcpy(end, first, n_bytes);
    while (len && !(first[(len - 1) / 8] & (0x80 >> ((len - 1) % 8)))) {
        uint8_t longer[ADDRESS_MAX_BYTES];

        memcpy(longer, first, n_bytes);
        fill_tail(longer, n_bytes, len - 1, true);
        if (memcmp(longer, last, n_bytes) > 0) {
            break;
        }
        memcpy(end, longer, n_bytes);
        len--;
    }

    memset(prefix->bytes, 0, sizeof prefix->bytes);
    memcpy(prefix->bytes, first, n_bytes);
    prefix->len = len;

    if (!memcmp(end, last, n_bytes)) {
        return false;
    }
    memcpy(first, end, n_bytes);

    size_t i = n_bytes;

    while (!++first[--i]) {
        continue;
    }
    return true;
}

/* Parsing. */

/* Parses the 17 characters, or fewer, of an Ethernet address. */
static bool
parse_mac(const char *s, uint8_t bytes[ETH_ADDR_LEN])
{
    for (int i = 0; i < ETH_ADDR_LEN; i++) {
        unsigned int value = 0;
        int n_digits;

        for (n_digits = 0; isxdigit((unsigned char) *s); n_digits++) {
            value = value * 16 + hexit_value((unsigned char) *s++);
        }
        if (n_digits < 1 || n_digits > 2
            || *s++ != (i < ETH_ADDR_LEN - 1 ? ':' : '\0')) {
            return false;
        }
        bytes[i] = value;
    }
    return true;
}

/* Parses 's' as an address of any family, without a mask, into 'p'.  Returns
 * true if successful. */
bool
address_parse(const char *s, struct address_prefix *p)
{
    memset(p, 0, sizeof *p);
    if (!strchr(s, ':')) {
        p->family = ADDRESS_IPV4;
        if (inet_pton(AF_INET, s, p->bytes) != 1) {
            return false;
        }
    } else if (inet_pton(AF_INET6, s, p->bytes) == 1) {
        p->family = ADDRESS_IPV6;
    } else if (parse_mac(s, p->bytes)) {
        p->family = ADDRESS_MAC;
    } else {
        return false;
    }
    p->len = address_family_bits(p->family);
    return true;
}

/* Parses 's', a number of bits or a mask of leading ones, into p->len, for the
 * address 'p'. */
static bool
parse_mask(const char *s, struct address_prefix *p)
{
    struct address_prefix mask;

    if (s[strspn(s, "0123456789")] == '\0') {
        int len;

        if (!str_to_int(s, 10, &len) || len > p->len) {
            return false;
        }
        p->len = len;
    } else {
        uint8_t ones[ADDRESS_MAX_BYTES];

        if (!address_parse(s, &mask) || mask.family != p->family) {
            return false;
        }
        memset(ones, 0xff, sizeof ones);
        p->len = common_bits(mask.bytes, ones, p->len);
        fill_tail(ones, sizeof ones, p->len, false);
        if (memcmp(mask.bytes, ones, sizeof ones)) {
            return false;
        }
    }
    fill_tail(p->bytes, sizeof p->bytes, p->len, false);
    return true;
}

static void
append_prefix(struct address_table *table, size_t *allocated,
              const struct address_prefix *prefix)
{
    if (table->n >= *allocated) {
        table->prefixes = x2nrealloc(table->prefixes, allocated,
                                     sizeof *table->prefixes);
    }
    table->prefixes[table->n++] = *prefix;
}

/* Parses 's' and appends its prefixes to 'table'.  Returns NULL if successful,
 * otherwise what is wrong, which the caller must not free. */
static const char *
parse_one(const char *s, struct address_table *table, size_t *allocated)
{
    static const char invalid[] =
        "not an IPv4, IPv6 or Ethernet address, prefix or range";
    char copy[2 * INET6_ADDRSTRLEN];
    struct address_prefix p;

    if (!*s) {
        return "empty address";
    } else if (strlen(s) >= sizeof copy) {
        return invalid;
    }
    ovs_strlcpy(copy, s, sizeof copy);

    char *delim = strpbrk(copy, "/-");
    char delim_char = delim ? *delim : '\0';

    if (delim) {
        *delim++ = '\0';
    }
    if (!address_parse(copy, &p)) {
        return invalid;
    }
    if (delim_char == '-') {
        struct address_prefix last;
        bool more;

        if (!address_parse(delim, &last)) {
            return invalid;
        } else if (last.family != p.family) {
            return "range mixes families of addresses";
        } else if (memcmp(p.bytes, last.bytes, sizeof p.bytes) > 0) {
            return "range ends before it begins";
        }

        uint8_t first[ADDRESS_MAX_BYTES];

        memcpy(first, p.bytes, sizeof first);
        do {
            more = address_range_pop(first, last.bytes,
                                     address_family_bits(last.family) / 8, &p);
            append_prefix(table, allocated, &p);
        } while (more);
        return NULL;
    }
    if (delim_char == '/' && !parse_mask(delim, &p)) {
        return "invalid mask";
    }
    append_prefix(table, allocated, &p);
    return NULL;
}

/* Creates a table of the 'n' 'addresses', each an address, a prefix
 * (ADDRESS/BITS or ADDRESS/MASK) or a range (ADDRESS-ADDRESS) of any family,
 * and stores it in '*tablep', owned by the caller.  Bits of an address that
 * its mask does not have are ignored.
 *
 * Returns NULL if successful, otherwise an error message that begins with the
 * address it is about, which the caller must free(), and sets '*tablep' to
 * NULL. */
char *
address_table_parse(const char *const *addresses, size_t n,
                    struct address_table **tablep)
{
    struct address_table *table = xzalloc(sizeof *table);
    size_t allocated = n;

    ovs_refcount_init(&table->ref_cnt);
    table->prefixes = xmalloc(n * sizeof *table->prefixes);
    for (size_t i = 0; i < n; i++) {
        const char *error = parse_one(addresses[i], table, &allocated);

        if (error) {
            address_table_unref(table);
            *tablep = NULL;
            return xasprintf("%s%s%s", addresses[i], *addresses[i] ? ": " : "",
                             error);
        }
    }

    if (table->n) {
        qsort(table->prefixes, table->n, sizeof *table->prefixes,
              compare_prefixes);
        table->n = address_prefixes_merge(table->prefixes, table->n);
        table->prefixes = xrealloc(table->prefixes,
                                   table->n * sizeof *table->prefixes);
    }
    for (size_t i = 0; i < table->n; i++) {
        table->start[table->prefixes[i].family + 1] = i + 1;
    }
    for (int i = 1; i <= N_ADDRESS_FAMILIES; i++) {
        table->start[i] = MAX(table->start[i], table->start[i - 1]);
    }
    *tablep = table;
    return NULL;
}

/* Tables. */

/* Returns a new reference to 'table_', which may be NULL.  Thread-safe. */
struct address_table *
address_table_ref(const struct address_table *table_)
{
    struct address_table *table = CONST_CAST(struct address_table *, table_);

    if (table) {
        ovs_refcount_ref(&table->ref_cnt);
    }
    return table;
}

/* Gives up a reference to 'table', which may be NULL, and frees it with the
 * last one, at once.  Thread-safe. */
void
address_table_unref(struct address_table *table)
{
    if (table && ovs_refcount_unref(&table->ref_cnt) == 1) {
        free(table->prefixes);
        free(table);
    }
}

/* Returns the prefixes of 'table', in the order of address_prefix_compare(),
 * and stores their number in '*n'.  They are the fewest prefixes that cover
 * the addresses, thus disjoint.  They belong to 'table'. */
const struct address_prefix *
address_table_prefixes(const struct address_table *table, size_t *n)
{
    *n = table->n;
    return table->prefixes;
}

/* Returns whether 'table' has 'address', which is of 'family' and in network
 * byte order.  Stores in '*n_bits', if nonnull, the number of leading bits of
 * 'address' that decide that: it is the same for all the addresses that have
 * them, and not for all the addresses that have fewer of them. */
bool
address_table_contains(const struct address_table *table,
                       enum address_family family, const void *address,
                       unsigned int *n_bits)
{
    unsigned int width = address_family_bits(family);
    size_t low = table->start[family];
    size_t high = table->start[family + 1];
    unsigned int decided = 0;
    bool found = false;

    /* Find the first prefix, 'low', whose address is greater.  Only the one
     * before it can have 'address', and no other than these two have more bits
     * in common with it. */
    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (memcmp(table->prefixes[mid].bytes, address, width / 8) <= 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    if (low > table->start[family]) {
        const struct address_prefix *p = &table->prefixes[low - 1];
        unsigned int common = common_bits(p->bytes, address, p->len);

        found = common == p->len;
        decided = found ? common : common + 1;
    }
    if (!found && low < table->start[family + 1]) {
        const struct address_prefix *p = &table->prefixes[low];

        decided = MAX(decided, common_bits(p->bytes, address, p->len) + 1);
    }

    if (n_bits) {
        *n_bits = decided;
    }
    return found;
}

/* Sets. */

/* Returns a new set called 'name', without contents yet, owned by the
 * caller. */
struct address_set *
address_set_create(const char *name)
{
    struct address_set *set = xzalloc(sizeof *set);

    ovs_refcount_init(&set->ref_cnt);
    set->name = xstrdup(name);
    ovsrcu_init(&set->contents, NULL);
    return set;
}

static void
set_contents_destroy(struct set_contents *contents)
{
    if (contents) {
        address_table_unref(contents->current);
        address_table_unref(contents->previous);
        free(contents);
    }
}

static void
address_set_destroy(struct address_set *set)
{
    set_contents_destroy(ovsrcu_get_protected(struct set_contents *,
                                              &set->contents));
    free(set->name);
    free(set);
}

/* Returns a new reference to 'set_', which may be NULL.  Thread-safe. */
struct address_set *
address_set_ref(const struct address_set *set_)
{
    struct address_set *set = CONST_CAST(struct address_set *, set_);

    if (set) {
        ovs_refcount_ref(&set->ref_cnt);
    }
    return set;
}

/* Gives up a reference to 'set', which may be NULL.  It is freed after the
 * last one, when no RCU reader can use it any more.  Thread-safe. */
void
address_set_unref(struct address_set *set)
{
    if (set && ovs_refcount_unref(&set->ref_cnt) == 1) {
        ovsrcu_postpone(address_set_destroy, set);
    }
}

/* Returns the name of 'set', without "$", owned by 'set'. */
const char *
address_set_name(const struct address_set *set)
{
    return set->name;
}

/* Lets 'table' be the contents of 'set' from 'version' on, which must not be
 * less than any that was published before.  The contents until then remain for
 * the versions before; earlier ones are forgotten.  To publish twice for one
 * version replaces what was published first.
 *
 * Takes over the caller's reference to 'table', which may be NULL for no
 * contents.  Only the configuration's thread may call this. */
void
address_set_publish(struct address_set *set, struct address_table *table,
                    uint64_t version)
{
    struct set_contents *old = ovsrcu_get_protected(struct set_contents *,
                                                    &set->contents);
    struct set_contents *new = xzalloc(sizeof *new);

    new->current = table;
    new->current_version = version;
    if (old && old->current_version < version) {
        new->previous = address_table_ref(old->current);
        new->previous_version = old->current_version;
    } else if (old) {
        new->previous = address_table_ref(old->previous);
        new->previous_version = old->previous_version;
    }
    ovsrcu_set(&set->contents, new);
    if (old) {
        ovsrcu_postpone(set_contents_destroy, old);
    }
}

/* Returns the contents of 'set' as of 'version', or NULL if there are none,
 * valid until the caller quiesces.  Thread-safe. */
const struct address_table *
address_set_get(const struct address_set *set, uint64_t version)
{
    const struct set_contents *contents
        = ovsrcu_get(struct set_contents *, &set->contents);

    if (!contents) {
        return NULL;
    } else if (version >= contents->current_version) {
        return contents->current;
    } else if (version >= contents->previous_version) {
        return contents->previous;
    } else {
        return NULL;
    }
}
