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

#ifndef LAYERED_ADDRESS_SET_H
#define LAYERED_ADDRESS_SET_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ds;

/* Address sets
 * ============
 *
 * An "address set" is a named set of IPv4 and IPv6 addresses, prefixes and
 * ranges, and of Ethernet addresses, to which conditions refer as "$name".  A
 * set lives as long as something refers to it; its contents, an immutable
 * "address table", change with the policy.
 *
 * A packet must see the contents of every set as of one version of the policy,
 * so that a set keeps the table of the version before, until no reader can
 * want it any more.
 *
 *
 * Thread-safety
 * =============
 *
 * Tables are immutable.  address_set_get() may be called from any thread,
 * without locks, under RCU's rules.  Everything that changes a set is up to
 * one thread at a time, that of the configuration. */

enum address_family {
    ADDRESS_IPV4,               /* 32 bits. */
    ADDRESS_IPV6,               /* 128 bits. */
    ADDRESS_MAC,                /* 48 bits. */
    N_ADDRESS_FAMILIES
};

/* An address and the number of its leading bits that count, most significant
 * bit first, as in a packet.  The other bits are zero. */
struct address_prefix {
    uint8_t bytes[16];
    uint8_t len;                /* In bits, at most the family's width. */
    uint8_t family;             /* enum address_family. */
};

unsigned int address_family_bits(enum address_family);
int address_prefix_compare(const struct address_prefix *,
                           const struct address_prefix *);
bool address_parse(const char *, struct address_prefix *);
void address_prefix_format(const struct address_prefix *, struct ds *);
size_t address_prefixes_merge(struct address_prefix *, size_t n);
bool address_range_pop(uint8_t *first, const uint8_t *last, size_t n_bytes,
                       struct address_prefix *);

/* Tables. */
struct address_table;

char *address_table_parse(const char *const *addresses, size_t n,
                          struct address_table **)
    __attribute__((warn_unused_result));
struct address_table *address_table_ref(const struct address_table *);
void address_table_unref(struct address_table *);
const struct address_prefix *address_table_prefixes(
    const struct address_table *, size_t *n);
bool address_table_contains(const struct address_table *, enum address_family,
                            const void *address, unsigned int *n_bits);

/* Sets. */
struct address_set;

struct address_set *address_set_create(const char *name);
struct address_set *address_set_ref(const struct address_set *);
void address_set_unref(struct address_set *);
const char *address_set_name(const struct address_set *);
void address_set_publish(struct address_set *, struct address_table *,
                         uint64_t version);
const struct address_table *address_set_get(const struct address_set *,
                                            uint64_t version);

#endif /* address-set.h */
