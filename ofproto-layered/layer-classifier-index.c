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

#include "layered/ofproto-layered/layer-classifier.h"

#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "layered/ofproto-layered/layer-classifier-private.h"
#include "ovs-thread.h"
#include "random.h"
#include "util.h"

/* The indexes of terms with address sets.  layer-classifier-private.h has the
 * overview. */

/* An alternative of a term, or several, as an index has it. */
struct source_ref {
    struct prefix_key key;
    const struct address_set *set;      /* NULL if not a set. */
    bool self;
};

/* A change to the entry that an index has for a prefix. */
struct holders_change {
    const struct cls_index *index;
    const struct prefix_key *source;
    enum { HOLDERS_ADD, HOLDERS_REMOVE, HOLDERS_RELABEL } what;
};

/* A change to a source. */
struct source_change {
    const struct cls_index *index;
    const struct source_ref *ref;
    const struct prefix_key *atom;
    enum cls_label label;
    bool add;
    uint64_t version;
};

static struct cls_index *index_get(struct layer_classifier *,
                                   const struct mf_field *);
static void index_change_prefix(struct cls_index *, struct holders_change *,
                                const struct address_prefix *);
static void index_change_table(struct cls_index *, struct holders_change *,
                               const struct address_table *);
static void index_change_values(struct cls_index *, struct holders_change *,
                                const struct condition_term *);
static void index_update_term(struct layer_classifier *,
                              const struct condition_term *,
                              const struct prefix_key *atom, enum cls_label,
                              bool add, uint64_t version);
static size_t term_sources(const struct condition_term *,
                           struct source_ref **);

static void source_ref__(void *);
static void source_unref(void *);
static prefix_trie_update_func source_update;
static struct cls_source *source_own(struct cls_source *, size_t n_atoms);
static void source_set_table(struct cls_source *,
                             const struct address_table *);

static void holders_ref(void *);
static void holders_unref(void *);
static uint8_t holders_labels(const void *);
static prefix_trie_update_func holders_update;
static struct cls_holders *holders_create(size_t n);

const struct prefix_trie_class cls_source_class = {
    .ref = source_ref__,
    .unref = source_unref,
};

const struct prefix_trie_class cls_holders_class = {
    .ref = holders_ref,
    .unref = holders_unref,
    .labels = holders_labels,
};

/* Returns whether 'mf' has addresses, and of which family. */
bool
cls_field_family(const struct mf_field *mf, enum address_family *family)
{
    switch (mf->string) {
    case MFS_IPV4:
        *family = ADDRESS_IPV4;
        break;
    case MFS_IPV6:
        *family = ADDRESS_IPV6;
        break;
    case MFS_ETHERNET:
        *family = ADDRESS_MAC;
        break;
    case MFS_DECIMAL:
    case MFS_HEXADECIMAL:
    case MFS_CT_STATE:
    case MFS_OFP_PORT:
    case MFS_OFP_PORT_OXM:
    case MFS_FRAG:
    case MFS_TNL_FLAGS:
    case MFS_TCP_FLAGS:
    case MFS_PACKET_TYPE:
    default:
        return false;
    }
    return mf->n_bytes * 8 == address_family_bits(*family);
}

/* Stores in '*key' and '*len' the prefix that 'value' is for field 'mf'.
 * Returns false if it is none, as its mask is not that of a prefix. */
bool
cls_value_prefix(const struct mf_field *mf,
                 const struct condition_value *value,
                 struct prefix_key *key, unsigned int *len)
{
    struct prefix_key mask, rest;

    *key = prefix_key_from_bytes(value->value, mf->n_bytes);
    mask = prefix_key_from_bytes(value->mask, mf->n_bytes);

    /* Values that are not whole bytes are aligned to the right. */
    unsigned int n_unused = mf->n_bytes * 8 - mf->n_bits;
    if (mf->maskable == MFM_NONE && n_unused) {
        mask.w[0] |= UINT64_MAX << (64 - n_unused);
    }

    *len = (mask.w[0] != UINT64_MAX ? clz64(~mask.w[0])
            : 64 + clz64(~mask.w[1]));
    rest = prefix_key_mask(&mask, *len);
    if (memcmp(&mask, &rest, sizeof mask)) {
        return false;
    }
    *key = prefix_key_mask(key, *len);
    return true;
}

/* Returns the key of the atom that 'term' is. */
struct prefix_key
cls_atom_key(const struct condition_term *term)
{
    struct source_ref *refs;
    struct prefix_key key;
    size_t n = term_sources(term, &refs);

    if (n == 1) {
        key = refs[0].key;
    } else {
        struct prefix_key *keys = xmalloc(n * sizeof *keys);
        ovs_u128 hash;

        for (size_t i = 0; i < n; i++) {
            keys[i] = refs[i].key;
        }
        hash_bytes128(keys, n * sizeof *keys, 1, &hash);
        key = (struct prefix_key) { { hash.u64.hi, hash.u64.lo | 1 } };
        free(keys);
    }
    free(refs);
    return key;
}

/* Returns the index of 'cls' for the field 'id', NULL if none. */
struct cls_index *
cls_index_find(const struct layer_classifier *cls, enum mf_field_id id)
{
    for (size_t i = 0; i < cls->n_indexes; i++) {
        if (cls->indexes[i].field->id == id) {
            return &cls->indexes[i];
        }
    }
    return NULL;
}

/* Notes in the index for its field that one more rule, with 'label', has
 * 'term', which is 'atom'.  Sets that the index does not have yet have their
 * contents as of 'version'. */
void
cls_index_put_term(struct layer_classifier *cls,
                   const struct condition_term *term,
                   const struct prefix_key *atom, enum cls_label label,
                   uint64_t version)
{
    index_update_term(cls, term, atom, label, true, version);
}

/* Undoes cls_index_put_term(). */
void
cls_index_remove_term(struct layer_classifier *cls,
                      const struct condition_term *term,
                      const struct prefix_key *atom, enum cls_label label)
{
    index_update_term(cls, term, atom, label, false, 0);
}

/* If 'index' has 'set', makes its contents those of 'table'. */
void
cls_index_replace_set(struct cls_index *index, const struct address_set *set,
                      const struct address_table *table)
{
    const struct prefix_key key = cls_set_key(set);
    struct cls_source *source = prefix_trie_find(index->sources, &key, 128);

    if (!source || source->table == table) {
        return;
    }

    const struct address_prefix *a, *b;
    struct address_table *old;
    size_t n_a = 0, n_b = 0;
    size_t i = 0, j = 0;

    a = source->table ? address_table_prefixes(source->table, &n_a) : NULL;
    b = table ? address_table_prefixes(table, &n_b) : NULL;
    old = source->table ? address_table_ref(source->table) : NULL;

    while (i < n_a || j < n_b) {
        int cmp = (i >= n_a ? 1 : j >= n_b ? -1
                   : address_prefix_compare(&a[i], &b[j]));

        if (cmp) {
            struct holders_change change = {
                .index = index,
                .source = &key,
                .what = cmp < 0 ? HOLDERS_REMOVE : HOLDERS_ADD,
            };

            index_change_prefix(index, &change, cmp < 0 ? &a[i] : &b[j]);
        }
        i += cmp <= 0;
        j += cmp >= 0;
    }

    struct source_change change = {
        .index = index,
        .ref = &(struct source_ref) { .key = key, .set = set },
    };
    prefix_trie_update(&index->sources, &cls_source_class, &key, 128,
                       source_update, &change);
    source = prefix_trie_find(index->sources, &key, 128);
    source_set_table(source, table);
    address_table_unref(old);
}

static void
add_source_size(void *source_, void *size_)
{
    const struct cls_source *source = source_;
    size_t *size = size_;

    *size += sizeof *source + source->n_atoms * sizeof *source->atoms;
    *size += sizeof *source->only + sizeof *source->only->sources;
}

static void
add_holders_size(void *holders_, void *size_)
{
    const struct cls_holders *holders = holders_;
    size_t *size = size_;

    /* Those with one source are shared, and the source's. */
    if (holders->n > 1) {
        *size += sizeof *holders + holders->n * sizeof *holders->sources;
    }
}

/* Returns the number of bytes that 'index' takes. */
size_t
cls_index_memory(const struct cls_index *index)
{
    size_t size = sizeof *index;

    size += prefix_trie_visit(index->sources, add_source_size, &size);
    size += prefix_trie_visit(index->prefixes, add_holders_size, &size);
    return size;
}


/* Indexes. */

/* Returns the index of 'cls' for field 'mf', which it creates if there is
 * none. */
static struct cls_index *
index_get(struct layer_classifier *cls, const struct mf_field *mf)
{
    struct cls_index *index = cls_index_find(cls, mf->id);

    if (!index) {
        cls->indexes = xrealloc(cls->indexes, (cls->n_indexes + 1)
                                              * sizeof *cls->indexes);
        index = &cls->indexes[cls->n_indexes++];
        *index = (struct cls_index) { .field = mf };
        cls_field_family(mf, &index->family);
    }
    return index;
}

/* Applies 'change' to the entry for 'prefix', if that is of the family of
 * 'index'. */
static void
index_change_prefix(struct cls_index *index, struct holders_change *change,
                    const struct address_prefix *prefix)
{
    if (prefix->family == index->family) {
        struct prefix_key key = prefix_key_from_bytes(prefix->bytes, 16);

        prefix_trie_update(&index->prefixes, &cls_holders_class, &key,
                           prefix->len, holders_update, change);
    }
}

/* Applies 'change' to the entries for all prefixes in 'table'. */
static void
index_change_table(struct cls_index *index, struct holders_change *change,
                   const struct address_table *table)
{
    const struct address_prefix *prefixes;
    size_t n = 0;

    prefixes = table ? address_table_prefixes(table, &n) : NULL;
    for (size_t i = 0; i < n; i++) {
        index_change_prefix(index, change, &prefixes[i]);
    }
}

/* Applies 'change' to the entries for the values of 'term'. */
static void
index_change_values(struct cls_index *index, struct holders_change *change,
                    const struct condition_term *term)
{
    for (size_t i = 0; i < term->n_values; i++) {
        struct prefix_key key;
        unsigned int len;

        cls_value_prefix(term->field, &term->values[i], &key, &len);
        prefix_trie_update(&index->prefixes, &cls_holders_class, &key, len,
                           holders_update, change);
    }
}

/* Adds 'term', which is 'atom', to its index, or removes it, once, under
 * 'label'. */
static void
index_update_term(struct layer_classifier *cls,
                  const struct condition_term *term,
                  const struct prefix_key *atom, enum cls_label label,
                  bool add, uint64_t version)
{
    struct cls_index *index = index_get(cls, term->field);
    struct source_ref *refs;
    size_t n = term_sources(term, &refs);

    for (size_t i = 0; i < n; i++) {
        const struct source_ref *ref = &refs[i];
        const struct cls_source *source;
        struct address_table *table;
        uint8_t old_labels, labels;

        source = prefix_trie_find(index->sources, &ref->key, 128);
        old_labels = source ? source->labels : 0;
        table = source && source->table ? address_table_ref(source->table)
                                        : NULL;

        struct source_change change = {
            .index = index, .ref = ref, .atom = atom, .label = label,
            .add = add, .version = version,
        };
        prefix_trie_update(&index->sources, &cls_source_class, &ref->key, 128,
                           source_update, &change);

        source = prefix_trie_find(index->sources, &ref->key, 128);
        labels = source ? source->labels : 0;
        if (labels != old_labels && !ref->self) {
            struct holders_change hc = {
                .index = index,
                .source = &ref->key,
                .what = (!old_labels ? HOLDERS_ADD
                         : !labels ? HOLDERS_REMOVE
                         : HOLDERS_RELABEL),
            };

            if (ref->set) {
                index_change_table(index, &hc, source ? source->table : table);
            } else {
                index_change_values(index, &hc, term);
            }
        }
        address_table_unref(table);
    }
    free(refs);
}

/* Stores in '*refs', which the caller must free, the sources that 'term'
 * consists of, and returns their number. */
static size_t
term_sources(const struct condition_term *term, struct source_ref **refs)
{
    struct source_ref *r = xcalloc(term->n_sets + 2, sizeof *r);
    size_t n = 0;

    for (size_t i = 0; i < term->n_sets; i++) {
        size_t j;

        for (j = 0; j < i; j++) {
            if (term->sets[i] == term->sets[j]) {
                break;
            }
        }
        if (j == i) {
            r[n].set = term->sets[i];
            r[n++].key = cls_set_key(term->sets[i]);
        }
    }
    if (term->self) {
        r[n].self = true;
        r[n++].key = CLS_SELF_KEY;
    }
    if (term->n_values) {
        static struct ovsthread_once once = OVSTHREAD_ONCE_INITIALIZER;
        static uint32_t basis;
        uint64_t *words = xmalloc(term->n_values * 3 * sizeof *words);
        ovs_u128 hash;

        if (ovsthread_once_start(&once)) {
            basis = random_uint32();
            ovsthread_once_done(&once);
        }
        for (size_t i = 0; i < term->n_values; i++) {
            struct prefix_key key;
            unsigned int len;

            cls_value_prefix(term->field, &term->values[i], &key, &len);
            words[i * 3] = key.w[0];
            words[i * 3 + 1] = key.w[1];
            words[i * 3 + 2] = len;
        }
        hash_bytes128(words, term->n_values * 3 * sizeof *words, basis, &hash);
        r[n++].key = (struct prefix_key) { { hash.u64.hi, hash.u64.lo | 1 } };
        free(words);
    }
    *refs = r;
    return n;
}

/* Sources. */

static void
source_ref__(void *source_)
{
    struct cls_source *source = source_;

    ovs_refcount_ref(&source->ref_cnt);
}

static void
source_unref(void *source_)
{
    struct cls_source *source = source_;

    if (ovs_refcount_unref(&source->ref_cnt) == 1) {
        holders_unref(source->only);
        address_table_unref(source->table);
        free(source);
    }
}

/* Returns 'source', or a new one if it is null, or a copy that takes the place
 * of the caller's reference if there are others, with room for 'n_atoms'. */
static struct cls_source *
source_own(struct cls_source *source, size_t n_atoms)
{
    size_t size = sizeof *source + n_atoms * sizeof source->atoms[0];

    if (source && ovs_refcount_read(&source->ref_cnt) == 1) {
        atomic_thread_fence(memory_order_acquire);
        return xrealloc(source, size);
    }

    struct cls_source *copy = xzalloc(size);
    if (source) {
        copy->labels = source->labels;
        memcpy(copy->n_terms, source->n_terms, sizeof copy->n_terms);
        copy->only = source->only;
        copy->table = source->table ? address_table_ref(source->table) : NULL;
        copy->n_atoms = source->n_atoms;
        memcpy(copy->atoms, source->atoms,
               MIN(n_atoms, source->n_atoms) * sizeof source->atoms[0]);
        holders_ref(copy->only);
        source_unref(source);
    }
    ovs_refcount_init(&copy->ref_cnt);
    return copy;
}

/* Makes 'table' what 'source', a set, has in the index. */
static void
source_set_table(struct cls_source *source, const struct address_table *table)
{
    address_table_unref(source->table);
    source->table = table ? address_table_ref(table) : NULL;
}

/* Counts one term more or less in a source, as 'change_', a struct
 * source_change, says.  If it names no atom, only sees to it that the source
 * is not shared. */
static void *
source_update(void *source_, void *change_)
{
    struct cls_source *source = source_;
    const struct source_change *change = change_;
    size_t n_atoms = source ? source->n_atoms : 0;
    size_t i;

    if (!change->atom) {
        return source_own(source, n_atoms);
    }

    for (i = 0; i < n_atoms; i++) {
        if (!memcmp(&source->atoms[i].key, change->atom,
                    sizeof *change->atom)) {
            break;
        }
    }
    if (!change->add && i >= n_atoms) {
        OVS_NOT_REACHED();
    }

    bool is_new = !source;
    source = source_own(source, n_atoms + (i >= n_atoms));
    if (is_new && change->ref->set) {
        source_set_table(source, address_set_get(change->ref->set,
                                                 change->version));
    }
    if (i >= n_atoms) {
        source->atoms[i].key = *change->atom;
        source->atoms[i].n = 0;
        source->n_atoms++;
    }
    source->atoms[i].n += change->add ? 1 : -1;
    source->n_terms[change->label] += change->add ? 1 : -1;
    if (!source->atoms[i].n) {
        source->atoms[i] = source->atoms[--source->n_atoms];
        if (!source->n_atoms) {
            source_unref(source);
            return NULL;
        }
    }

    uint8_t labels = source->labels & ~(1u << change->label);
    if (source->n_terms[change->label]) {
        labels |= 1u << change->label;
    }
    if (labels != source->labels) {
        struct cls_holders *only = holders_create(1);

        only->labels = labels;
        only->sources[0] = change->ref->key;
        holders_unref(source->only);
        source->only = only;
        source->labels = labels;
    }
    return source;
}

/* The sources of a prefix. */

static struct cls_holders *
holders_create(size_t n)
{
    struct cls_holders *holders;

    holders = xmalloc(sizeof *holders + n * sizeof holders->sources[0]);
    ovs_refcount_init(&holders->ref_cnt);
    holders->n = n;
    return holders;
}

static void
holders_ref(void *holders_)
{
    struct cls_holders *holders = holders_;

    ovs_refcount_ref(&holders->ref_cnt);
}

static void
holders_unref(void *holders_)
{
    struct cls_holders *holders = holders_;

    if (holders && ovs_refcount_unref(&holders->ref_cnt) == 1) {
        free(holders);
    }
}

static uint8_t
holders_labels(const void *holders_)
{
    const struct cls_holders *holders = holders_;

    return holders->labels;
}

/* Applies 'change_', a struct holders_change, to the sources of a prefix,
 * 'holders_'. */
static void *
holders_update(void *holders_, void *change_)
{
    struct cls_holders *holders = holders_;
    const struct holders_change *change = change_;
    size_t n = holders ? holders->n : 0;
    struct cls_holders *new;
    size_t n_new = 0;

    new = holders_create(n + 1);
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&holders->sources[i], change->source,
                   sizeof *change->source)) {
            new->sources[n_new++] = holders->sources[i];
        }
    }
    if (n_new < n ? change->what != HOLDERS_REMOVE
        : change->what == HOLDERS_ADD) {
        new->sources[n_new++] = *change->source;
    }
    holders_unref(holders);

    new->n = n_new;
    new->labels = 0;
    for (size_t i = 0; i < n_new; i++) {
        const struct cls_source *source;

        source = prefix_trie_find(change->index->sources, &new->sources[i],
                                  128);
        new->labels |= source->labels;
        if (n_new == 1) {
            /* The usual case.  All such prefixes of a source share this. */
            free(new);
            new = source->only;
            holders_ref(new);
        }
    }
    if (!n_new) {
        free(new);
        new = NULL;
    }
    return new;
}
