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

#include "layered/lib/prefix-trie.h"

#include <stdlib.h>
#include <string.h>

#include "byte-order.h"
#include "util.h"

/* What prefix_trie_update() was asked to do. */
struct update {
    const struct prefix_trie_class *class;
    const struct prefix_key *key;
    unsigned int len;
    prefix_trie_update_func *func;
    void *aux;
};

static struct prefix_trie_node *node_create(const struct update *,
                                            void *value);
static struct prefix_trie_node *node_own(struct prefix_trie_node *,
                                         const struct prefix_trie_class *);
static struct prefix_trie_node *node_finish(struct prefix_trie_node *,
                                            const struct prefix_trie_class *);
static struct prefix_trie_node *node_update(struct prefix_trie_node *,
                                            const struct update *);

/* Returns another reference to the trie 'root'. */
struct prefix_trie_node *
prefix_trie_ref(const struct prefix_trie_node *root_)
{
    struct prefix_trie_node *root = CONST_CAST(struct prefix_trie_node *,
                                               root_);

    if (root) {
        ovs_refcount_ref(&root->ref_cnt);
    }
    return root;
}

/* Drops a reference to the trie 'root', whose values are of 'class', and
 * everything that nothing else refers to with it. */
void
prefix_trie_unref(struct prefix_trie_node *root,
                  const struct prefix_trie_class *class)
{
    if (root && ovs_refcount_unref(&root->ref_cnt) == 1) {
        if (root->value && class->unref) {
            class->unref(root->value);
        }
        prefix_trie_unref(root->child[0], class);
        prefix_trie_unref(root->child[1], class);
        free(root);
    }
}

/* Has 'func', with 'aux', replace the value that the trie '*root', of 'class',
 * has at the first 'len' bits of 'key', the other bits of which must be 0. */
void
prefix_trie_update(struct prefix_trie_node **root,
                   const struct prefix_trie_class *class,
                   const struct prefix_key *key, unsigned int len,
                   prefix_trie_update_func *func, void *aux)
{
    const struct update update = {
        .class = class, .key = key, .len = len, .func = func, .aux = aux,
    };

    *root = node_update(*root, &update);
}

/* Calls 'func', if nonnull, for every value in 'root', in ascending order of
 * the keys, a prefix before longer ones that start with it.  Returns the
 * number of bytes that the nodes of the trie take. */
size_t
prefix_trie_visit(const struct prefix_trie_node *root,
                  prefix_trie_visit_func *func, void *aux)
{
    size_t size = 0;

    while (root) {
        size += sizeof *root;
        if (root->value && func) {
            func(root->value, aux);
        }
        size += prefix_trie_visit(root->child[0], func, aux);
        root = root->child[1];
    }
    return size;
}

/* Returns the value that 'root' has at exactly the first 'len' bits of 'key',
 * NULL if none. */
void *
prefix_trie_find(const struct prefix_trie_node *root,
                 const struct prefix_key *key, unsigned int len)
{
    while (root && root->len < len) {
        root = root->child[prefix_key_bit(key, root->len)];
    }
    return (root && root->len == len
            && root->key.w[0] == key->w[0] && root->key.w[1] == key->w[1]
            ? root->value : NULL);
}

/* Finds the values in 'root' whose prefixes 'key' starts with, among those
 * that weigh at least 'min_weight' and share a label with 'labels'.  (A few
 * others may be among them.)  Stores them in 'values', the shortest prefix
 * first, and returns their number, at most PREFIX_TRIE_MAX_VALUES. */
size_t
prefix_trie_walk(const struct prefix_trie_node *root,
                 const struct prefix_key *key, uint64_t min_weight,
                 uint8_t labels, void *values[PREFIX_TRIE_MAX_VALUES])
{
    size_t n = 0;

    while (root && root->weight >= min_weight && root->labels & labels
           && prefix_key_common(&root->key, key, root->len) >= root->len) {
        /* Without a branch, which could not be predicted. */
        values[n] = root->value;
        n += root->value != NULL;
        if (root->len >= PREFIX_TRIE_MAX_BITS) {
            break;
        }
        root = root->child[prefix_key_bit(key, root->len)];
    }
    return n;
}

/* Returns the number of leading bits of 'key' that tell what
 * prefix_trie_walk() finds: for every key that has them, too, that finds the
 * same values, as far as they weigh enough and have the labels. */
unsigned int
prefix_trie_depth(const struct prefix_trie_node *root,
                  const struct prefix_key *key, uint64_t min_weight,
                  uint8_t labels)
{
    unsigned int n_bits = 0;

    while (root && root->weight >= min_weight && root->labels & labels) {
        unsigned int common = prefix_key_common(&root->key, key, root->len);

        if (common < root->len) {
            return common + 1;
        }
        if (root->value) {
            n_bits = root->len;
        }
        if (root->len >= PREFIX_TRIE_MAX_BITS) {
            break;
        }

        bool bit = prefix_key_bit(key, root->len);
        const struct prefix_trie_node *other = root->child[!bit];

        if (other && other->weight >= min_weight && other->labels & labels) {
            n_bits = root->len + 1;
        }
        root = root->child[bit];
    }
    return n_bits;
}

/* Returns the key whose first bits are the 'n' bytes at 'bytes', in network
 * byte order. */
struct prefix_key
prefix_key_from_bytes(const void *bytes, size_t n)
{
    struct prefix_key key;
    ovs_be64 words[2] = { 0, 0 };

    memcpy(words, bytes, MIN(n, sizeof words));
    key.w[0] = ntohll(words[0]);
    key.w[1] = ntohll(words[1]);
    return key;
}

/* Returns 'key' with all bits but the first 'len' set to 0. */
struct prefix_key
prefix_key_mask(const struct prefix_key *key, unsigned int len)
{
    struct prefix_key masked = { { 0, 0 } };

    if (len > 64) {
        masked.w[0] = key->w[0];
        masked.w[1] = key->w[1] & (UINT64_MAX << (128 - len));
    } else if (len) {
        masked.w[0] = key->w[0] & (UINT64_MAX << (64 - len));
    }
    return masked;
}


/* Returns a new node for the prefix of 'update' with 'value'. */
static struct prefix_trie_node *
node_create(const struct update *update, void *value)
{
    struct prefix_trie_node *node = xmalloc(sizeof *node);

    ovs_refcount_init(&node->ref_cnt);
    node->len = update->len;
    node->value = value;
    node->child[0] = node->child[1] = NULL;
    node->key = *update->key;
    return node;
}

/* Returns 'node' if the caller has the only reference to it, otherwise gives
 * that up and returns a copy. */
static struct prefix_trie_node *
node_own(struct prefix_trie_node *node, const struct prefix_trie_class *class)
{
    if (ovs_refcount_read(&node->ref_cnt) == 1) {
        /* Pairs with the release in ovs_refcount_unref(), in whichever thread
         * dropped the reference before. */
        atomic_thread_fence(memory_order_acquire);
        return node;
    }

    struct prefix_trie_node *copy = xmalloc(sizeof *copy);

    /* All but the number of references, which other threads may change. */
    ovs_refcount_init(&copy->ref_cnt);
    copy->len = node->len;
    copy->labels = node->labels;
    copy->weight = node->weight;
    copy->value = node->value;
    memcpy(copy->child, node->child, sizeof copy->child);
    copy->key = node->key;
    prefix_trie_ref(copy->child[0]);
    prefix_trie_ref(copy->child[1]);
    if (copy->value && class->ref) {
        class->ref(copy->value);
    }
    prefix_trie_unref(node, class);
    return copy;
}

/* Brings 'node', which is not shared, up to date after a change to its value
 * or below.  Returns the node that should be in its place. */
static struct prefix_trie_node *
node_finish(struct prefix_trie_node *node,
            const struct prefix_trie_class *class)
{
    if (!node->value && (!node->child[0] || !node->child[1])) {
        struct prefix_trie_node *child = node->child[!node->child[0]];

        free(node);
        return child;
    }

    node->weight = 0;
    node->labels = 0;
    if (node->value) {
        node->weight = class->weight ? class->weight(node->value) : 0;
        node->labels = class->labels ? class->labels(node->value) : UINT8_MAX;
    }
    for (int i = 0; i < 2; i++) {
        if (node->child[i]) {
            node->weight = MAX(node->weight, node->child[i]->weight);
            node->labels |= node->child[i]->labels;
        }
    }
    return node;
}

/* Carries out 'update' in the trie 'node', which it takes over, and returns
 * the trie that takes its place. */
static struct prefix_trie_node *
node_update(struct prefix_trie_node *node, const struct update *update)
{
    const struct prefix_trie_class *class = update->class;
    unsigned int common = node ? prefix_key_common(&node->key, update->key,
                                                   MIN(node->len, update->len))
                               : 0;

    if (node && common == node->len) {
        node = node_own(node, class);
        if (common == update->len) {
            node->value = update->func(node->value, update->aux);
        } else {
            bool bit = prefix_key_bit(update->key, common);
            struct prefix_trie_node *child = node->child[bit];
            uint64_t old_weight = child ? child->weight : 0;
            uint8_t old_labels = child ? child->labels : 0;

            child = node->child[bit] = node_update(child, update);
            if (child && child->weight >= old_weight
                && !(old_labels & ~child->labels)) {
                /* No need to look at the other child, which is probably not
                 * in the processor's cache. */
                node->weight = MAX(node->weight, child->weight);
                node->labels |= child->labels;
                return node;
            }
        }
        return node_finish(node, class);
    }

    /* There is no node for the prefix yet. */
    void *value = update->func(NULL, update->aux);
    if (!value) {
        return node;
    }

    struct prefix_trie_node *new = node_create(update, value);
    if (node && common == update->len) {
        new->child[prefix_key_bit(&node->key, common)] = node;
        return node_finish(new, class);
    }
    new = node_finish(new, class);
    if (!node) {
        return new;
    }

    struct prefix_key key = prefix_key_mask(update->key, common);
    const struct update fork = { .key = &key, .len = common };
    struct prefix_trie_node *parent = node_create(&fork, NULL);
    bool bit = prefix_key_bit(update->key, common);

    parent->child[bit] = new;
    parent->child[!bit] = node;
    return node_finish(parent, class);
}
