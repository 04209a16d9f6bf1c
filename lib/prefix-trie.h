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

#ifndef LAYERED_PREFIX_TRIE_H
#define LAYERED_PREFIX_TRIE_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ovs-atomic.h"
#include "util.h"

/* Prefix trie
 * ===========
 *
 * A persistent map from prefixes of up to 128 bits to values: a binary trie
 * whose paths are compressed, so that it has at most two nodes for each
 * prefix.  (D. R. Morrison, "PATRICIA", JACM 15(4), 1968.)  With prefixes of
 * full length it is an ordinary ordered map.
 *
 * A trie is no more than a pointer to its root, NULL if it is empty.  Tries
 * share nodes: prefix_trie_ref() makes a copy in no time, and changing one of
 * the two copies then makes copies of the nodes on the way to the change only
 * (J. R. Driscoll et al., "Making data structures persistent", 1989).  A node
 * that is not shared changes in place, so that many changes to one trie cost
 * little more than in a trie that is not persistent.
 *
 * A value has a "weight" and "labels".  Each node knows the greatest weight
 * and all of the labels below it, so that a walk passes over what weighs too
 * little and what has no label in common with it.
 *
 *
 * Values
 * ======
 *
 * A value is a non-null pointer.  The trie owns one reference to it for each
 * node that has it.  Thus a value that is to be changed in place has to be
 * referred to by nothing else, which the function that prefix_trie_update()
 * calls must see to; the trie sees to it that the nodes above are not shared.
 *
 *
 * Thread-safety
 * =============
 *
 * Any number of threads may read a trie and, at the same time, one may update
 * another trie that shares nodes with it.  Only one thread at a time may
 * update tries that share nodes.  The last reference to a trie must not go
 * while another thread reads it: postpone prefix_trie_unref(). */

#define PREFIX_TRIE_MAX_BITS 128

/* No more values than these are on the path to any key. */
#define PREFIX_TRIE_MAX_VALUES (PREFIX_TRIE_MAX_BITS + 1)

/* A key: the most significant bit of w[0] is the first one.  The bits beyond
 * a prefix's length are 0. */
struct prefix_key {
    uint64_t w[2];
};

struct prefix_trie_node {
    struct ovs_refcount ref_cnt;
    uint8_t len;                /* In bits. */
    uint8_t labels;             /* Of all values from here on down. */
    uint64_t weight;            /* The greatest from here on down. */
    void *value;                /* NULL if the node is only a fork. */
    struct prefix_trie_node *child[2];
    struct prefix_key key;
};

/* What a trie needs to know about its values.  Null functions do nothing, or
 * return 0 for the weight and all labels. */
struct prefix_trie_class {
    void (*ref)(void *value);
    void (*unref)(void *value);
    uint64_t (*weight)(const void *value);
    uint8_t (*labels)(const void *value);
};

struct prefix_trie_node *prefix_trie_ref(const struct prefix_trie_node *);
void prefix_trie_unref(struct prefix_trie_node *,
                       const struct prefix_trie_class *);

/* Takes over the trie's reference to the value 'old', or NULL if there is
 * none, and returns the value that is to take its place, with a reference, or
 * NULL for none. */
typedef void *prefix_trie_update_func(void *old, void *aux);
void prefix_trie_update(struct prefix_trie_node **,
                        const struct prefix_trie_class *,
                        const struct prefix_key *, unsigned int len,
                        prefix_trie_update_func *, void *aux);

typedef void prefix_trie_visit_func(void *value, void *aux);
size_t prefix_trie_visit(const struct prefix_trie_node *,
                         prefix_trie_visit_func *, void *aux);

void *prefix_trie_find(const struct prefix_trie_node *,
                       const struct prefix_key *, unsigned int len);
size_t prefix_trie_walk(const struct prefix_trie_node *,
                        const struct prefix_key *, uint64_t min_weight,
                        uint8_t labels,
                        void *values[PREFIX_TRIE_MAX_VALUES]);
unsigned int prefix_trie_depth(const struct prefix_trie_node *,
                               const struct prefix_key *, uint64_t min_weight,
                               uint8_t labels);

struct prefix_key prefix_key_from_bytes(const void *, size_t n);
struct prefix_key prefix_key_mask(const struct prefix_key *, unsigned int len);

/* Returns how many leading bits, at most 'max', 'a' and 'b' have in common. */
static inline unsigned int
prefix_key_common(const struct prefix_key *a, const struct prefix_key *b,
                  unsigned int max)
{
    uint64_t diff = a->w[0] ^ b->w[0];
    unsigned int n;

    if (diff) {
        n = raw_clz64(diff);
    } else {
        diff = a->w[1] ^ b->w[1];
        n = 64 + (diff ? raw_clz64(diff) : 64);
    }
    return MIN(n, max);
}

/* Returns bit 'i' of 'key', counted from the most significant one. */
static inline bool
prefix_key_bit(const struct prefix_key *key, unsigned int i)
{
    return (key->w[i / 64] >> (63 - i % 64)) & 1;
}

#endif /* prefix-trie.h */
