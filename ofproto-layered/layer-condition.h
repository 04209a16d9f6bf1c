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

#ifndef LAYERED_LAYER_CONDITION_H
#define LAYERED_LAYER_CONDITION_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ovs-atomic.h"

#include "openvswitch/meta-flow.h"

struct address_set;
struct ds;
struct flow;
struct flow_wildcards;

/* Conditions
 * ==========
 *
 * The "match" of a rule or a group: a conjunction of "terms", each about one
 * field.  A term holds if one of its "alternatives" does: a value under a
 * mask, an address set's having the address, or the address's being one of
 * the port at hand ($self, $self_mac).  A range of values stands as the few
 * masked values that cover it.
 *
 * A condition is immutable, and has one owner. */

/* Fields wider than this cannot be in conditions. */
#define CONDITION_MAX_BYTES 16

/* A value under a mask, in network byte order, as mf_get_value() has it.  Bits
 * that are 0 in the mask are 0 in the value. */
struct condition_value {
    uint8_t value[CONDITION_MAX_BYTES];
    uint8_t mask[CONDITION_MAX_BYTES];
};

struct condition_term {
    const struct mf_field *field;
    bool self;                          /* $self or $self_mac. */
    struct address_set **sets;          /* $name. */
    size_t n_sets;
    struct condition_value *values;
    size_t n_values;
};

struct condition {
    char *text;                         /* Canonical, see below. */
    size_t n_terms;
    struct condition_term *terms;       /* In increasing order of field ID. */
};

/* What $self and $self_mac stand for at one port. */
struct condition_self {
    struct address_table *addresses;    /* NULL if there are none. */
    struct eth_addr mac;
    bool has_mac;
};

/* Finds the address set 'name' for condition_parse(), which takes a reference
 * of its own.  Returns NULL if there is none. */
typedef struct address_set *condition_find_set(const char *name, void *aux);

char *condition_parse(const char *text, condition_find_set *, void *aux,
                      struct condition **)
    __attribute__((warn_unused_result));
void condition_destroy(struct condition *);
void condition_format(const struct condition *, struct ds *);

bool condition_matches(const struct condition *, uint64_t version,
                       const struct condition_self *, const struct flow *,
                       struct flow_wildcards *);
bool condition_term_matches(const struct condition_term *, uint64_t version,
                            const struct condition_self *, const struct flow *,
                            struct flow_wildcards *);
bool condition_uses_l4(const struct condition *);

#endif /* layer-condition.h */
