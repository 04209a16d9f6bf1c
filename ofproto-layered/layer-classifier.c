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

#include "layered/ofproto-layered/layer-classifier-private.h"
#include "packets.h"
#include "util.h"

/* Versions of classifiers and how one is made from another.
 * layer-classifier-private.h has the overview, layer-classifier-lookup.c the
 * look-up. */

/* An edit is a version that nobody else knows of yet.  What it does not share
 * with other versions it changes in place. */
struct classifier_edit {
    struct layer_classifier *cls;
};

/* A branch on the way to a rule. */
struct plan_key {
    enum cls_branch_kind kind;
    const struct condition_term *term;
    struct prefix_key atom;             /* CLS_ATOMS. */
};

/* The way to a rule. */
struct plan {
    struct layer_classifier *cls;
    const struct classifier_rule *rule;
    bool add;                           /* Or remove. */
    uint64_t version;                   /* If adding. */
    uint64_t residue;                   /* Terms that are not in 'keys'. */
    size_t n_keys;
    struct plan_key keys[CLS_MAX_KEYS];
};

/* Position on the way to a rule. */
struct plan_step {
    const struct plan *plan;
    size_t i;                           /* Next key. */
    enum cls_label label;
};

static void plan_init(struct plan *, const struct condition *);
static struct cls_node *plan_apply(const struct plan_step *,
                                   struct cls_node *);
static void edit_apply(struct classifier_edit *,
                       const struct classifier_rule *, bool add,
                       uint64_t version);

static void cls_node_ref(void *);
static void cls_node_unref(void *);
static uint64_t cls_node_weight(const void *);
static struct cls_node *node_own(struct cls_node *, size_t n_branches,
                                 size_t n_entries);
static struct cls_node *node_remove_branch(struct cls_node *, size_t);
static struct cls_node *node_update_entry(struct cls_node *,
                                          const struct plan *);
static struct cls_node *node_finish(struct cls_node *);
static size_t node_memory(const struct cls_node *);

const struct prefix_trie_class cls_node_class = {
    .ref = cls_node_ref,
    .unref = cls_node_unref,
    .weight = cls_node_weight,
};

/* Values that are not owned, or numbers. */
static const struct prefix_trie_class plain_class;

/* Returns a new classifier without rules. */
struct layer_classifier *
layer_classifier_create(void)
{
    struct layer_classifier *cls = xzalloc(sizeof *cls);

    ovs_refcount_init(&cls->ref_cnt);
    return cls;
}

/* Returns another reference to 'cls', which may be null. */
struct layer_classifier *
layer_classifier_ref(const struct layer_classifier *cls_)
{
    struct layer_classifier *cls = CONST_CAST(struct layer_classifier *, cls_);

    if (cls) {
        ovs_refcount_ref(&cls->ref_cnt);
    }
    return cls;
}

/* Drops a reference to 'cls', which may be null.  The last one frees what no
 * other version shares. */
void
layer_classifier_unref(struct layer_classifier *cls)
{
    if (cls && ovs_refcount_unref(&cls->ref_cnt) == 1) {
        cls_node_unref(cls->root);
        prefix_trie_unref(cls->rules, &plain_class);
        prefix_trie_unref(cls->sets, &plain_class);
        for (size_t i = 0; i < cls->n_indexes; i++) {
            prefix_trie_unref(cls->indexes[i].prefixes, &cls_holders_class);
            prefix_trie_unref(cls->indexes[i].sources, &cls_source_class);
        }
        free(cls->indexes);
        free(cls);
    }
}

/* Returns the number of rules in 'cls'. */
size_t
layer_classifier_count(const struct layer_classifier *cls)
{
    return cls->n_rules;
}

static void
append_rule(void *rule, void *next_)
{
    const struct classifier_rule ***next = next_;

    *(*next)++ = rule;
}

/* Returns all rules in 'cls', in descending order of precedence, with a null
 * pointer at the end.  The caller must free the array. */
const struct classifier_rule **
layer_classifier_rules(const struct layer_classifier *cls)
{
    const struct classifier_rule **rules, **next;

    next = rules = xmalloc((cls->n_rules + 1) * sizeof *rules);
    prefix_trie_visit(cls->rules, append_rule, &next);
    *next = NULL;
    return rules;
}

/* Returns whether the condition of any rule in 'cls' names 'set'. */
bool
layer_classifier_uses_set(const struct layer_classifier *cls,
                          const struct address_set *set)
{
    const struct prefix_key key = cls_set_key(set);

    return prefix_trie_find(cls->sets, &key, 64);
}

/* Returns whether the condition of any rule in 'cls' looks at L4. */
bool
layer_classifier_uses_l4(const struct layer_classifier *cls)
{
    return cls->n_l4 > 0;
}

/* Returns the number of bytes that 'cls' takes, including what it shares with
 * other versions, but neither rules nor conditions nor the contents of sets.
 * Takes time in proportion. */
size_t
layer_classifier_memory(const struct layer_classifier *cls)
{
    size_t size = sizeof *cls;

    size += cls->root ? node_memory(cls->root) : 0;
    size += prefix_trie_visit(cls->rules, NULL, NULL);
    size += prefix_trie_visit(cls->sets, NULL, NULL);
    for (size_t i = 0; i < cls->n_indexes; i++) {
        size += cls_index_memory(&cls->indexes[i]);
    }
    return size;
}

/* Begins to make another version of 'cls', which itself does not change and
 * need not outlive the edit. */
struct classifier_edit *
classifier_edit_begin(const struct layer_classifier *cls)
{
    struct classifier_edit *edit = xmalloc(sizeof *edit);
    struct layer_classifier *new = xmalloc(sizeof *new);

    ovs_refcount_init(&new->ref_cnt);
    new->root = cls->root;
    new->rules = cls->rules;
    new->sets = cls->sets;
    new->n_rules = cls->n_rules;
    new->n_l4 = cls->n_l4;
    new->n_indexes = cls->n_indexes;
    if (new->root) {
        cls_node_ref(new->root);
    }
    prefix_trie_ref(new->rules);
    prefix_trie_ref(new->sets);
    new->indexes = new->n_indexes ? xmemdup(cls->indexes, cls->n_indexes
                                            * sizeof *cls->indexes) : NULL;
    for (size_t i = 0; i < new->n_indexes; i++) {
        prefix_trie_ref(new->indexes[i].prefixes);
        prefix_trie_ref(new->indexes[i].sources);
    }
    edit->cls = new;
    return edit;
}

/* Adds 'rule', which must not be there yet, and no other with its precedence.
 * It must stay as it is as long as any version has it.  A set that no rule of
 * the classifier has named so far has its contents as of 'version'. */
void
classifier_edit_insert(struct classifier_edit *edit,
                       const struct classifier_rule *rule, uint64_t version)
{
    edit_apply(edit, rule, true, version);
}

/* Removes 'rule', which must be there. */
void
classifier_edit_remove(struct classifier_edit *edit,
                       const struct classifier_rule *rule)
{
    edit_apply(edit, rule, false, 0);
}

/* Has the contents of 'set', if any rule names it, be 'new' instead of 'old'.
 * Either may be null for a set without contents.  Takes time in proportion to
 * the number of entries in both, but changes only what differs. */
void
classifier_edit_replace_set(struct classifier_edit *edit,
                            const struct address_set *set,
                            const struct address_table *old OVS_UNUSED,
                            const struct address_table *new)
{
    for (size_t i = 0; i < edit->cls->n_indexes; i++) {
        cls_index_replace_set(&edit->cls->indexes[i], set, new);
    }
}

/* Ends 'edit' and returns the version that it made, of which the caller has
 * the only reference. */
struct layer_classifier *
classifier_edit_commit(struct classifier_edit *edit)
{
    struct layer_classifier *cls = edit->cls;

    free(edit);
    return cls;
}

/* Returns the label of what is below a branch for field 'id' with 'key', in a
 * node that is itself under 'label'. */
enum cls_label
cls_label_below(enum cls_label label, enum mf_field_id id,
                const struct prefix_key *key)
{
    if (id == MFF_ETH_TYPE) {
        return key->w[0] >> 48 == ETH_TYPE_ARP ? CLS_LABEL_ARP : CLS_LABEL_IP;
    } else if (id == MFF_IP_PROTO) {
        switch (key->w[0] >> 56) {
        case IPPROTO_TCP:
            return CLS_LABEL_TCP;
        case IPPROTO_UDP:
            return CLS_LABEL_UDP;
        case IPPROTO_ICMP:
        case IPPROTO_ICMPV6:
            return CLS_LABEL_ICMP;
        case IPPROTO_SCTP:
            return CLS_LABEL_SCTP;
        default:
            return CLS_LABEL_OTHER;
        }
    }
    return label;
}

/* The way to a rule. */

/* Returns where on the way to a rule a branch for field 'mf' comes, or -1 if
 * there can be none. */
static int
field_rank(const struct mf_field *mf)
{
    if (mf->n_bytes > CONDITION_MAX_BYTES || mf->n_bits != mf->n_bytes * 8
        || mf->id == MFF_ND_OPTIONS_TYPE) {
        return -1;
    }

    if (mf->id == MFF_ETH_TYPE) {
        return 0;
    } else if (mf->id == MFF_IP_PROTO) {
        return 1;
    } else if (mf->id == MFF_IPV4_SRC || mf->id == MFF_IPV6_SRC
               || mf->id == MFF_ARP_SPA) {
        return 2;
    } else if (mf->id == MFF_IPV4_DST || mf->id == MFF_IPV6_DST
               || mf->id == MFF_ARP_TPA || mf->id == MFF_ND_TARGET) {
        return 3;
    } else if (mf->id == MFF_TCP_DST || mf->id == MFF_UDP_DST
               || mf->id == MFF_SCTP_DST || mf->id == MFF_ICMPV4_TYPE
               || mf->id == MFF_ICMPV6_TYPE) {
        return 4;
    } else if (mf->id == MFF_TCP_SRC || mf->id == MFF_UDP_SRC
               || mf->id == MFF_SCTP_SRC || mf->id == MFF_ICMPV4_CODE
               || mf->id == MFF_ICMPV6_CODE) {
        return 5;
    }
    return 6 + mf->id;
}

/* Returns whether all values of 'term' are prefixes. */
static bool
term_has_prefixes(const struct condition_term *term)
{
    for (size_t i = 0; i < term->n_values; i++) {
        struct prefix_key key;
        unsigned int len;

        if (!cls_value_prefix(term->field, &term->values[i], &key, &len)) {
            return false;
        }
    }
    return true;
}

/* Finds the way to rules with condition 'c'. */
static void
plan_init(struct plan *plan, const struct condition *c)
{
    struct {
        int rank;
        size_t term;
    } order[CLS_MAX_KEYS];
    const struct condition_term *spread = NULL;
    size_t n = 0;

    /* Choose the terms. */
    for (size_t i = 0; i < c->n_terms && i < 63; i++) {
        const struct condition_term *term = &c->terms[i];
        int rank = field_rank(term->field);
        size_t j;

        if (rank < 0 || !term_has_prefixes(term)
            || (!term->n_values && !term->n_sets && !term->self)) {
            continue;
        }
        for (j = n; j > 0 && order[j - 1].rank > rank; j--) {
            if (j < CLS_MAX_KEYS) {
                order[j] = order[j - 1];
            }
        }
        if (j < CLS_MAX_KEYS) {
            order[j].rank = rank;
            order[j].term = i;
            n = MIN(n + 1, CLS_MAX_KEYS);
        }
    }

    /* Of those with several values, the last goes into a prefix trie. */
    for (size_t i = 0; i < n; i++) {
        const struct condition_term *term = &c->terms[order[i].term];

        if (term->n_values > 1 && !term->n_sets && !term->self) {
            spread = term;
        }
    }

    plan->n_keys = 0;
    plan->residue = (c->n_terms >= 64 ? UINT64_MAX
                     : (UINT64_C(1) << c->n_terms) - 1);
    for (size_t i = 0; i < n; i++) {
        const struct condition_term *term = &c->terms[order[i].term];
        struct plan_key *key = &plan->keys[plan->n_keys];
        enum address_family family;

        key->term = term;
        if (!term->n_sets && !term->self
            && (term->n_values == 1 || term == spread)) {
            key->kind = CLS_PREFIXES;
        } else if (!cls_field_family(term->field, &family)) {
            continue;
        } else if (!term->n_sets && !term->n_values) {
            key->kind = CLS_SELF;
        } else {
            key->kind = CLS_ATOMS;
            key->atom = cls_atom_key(term);
        }
        plan->residue &= ~(UINT64_C(1) << order[i].term);
        plan->n_keys++;
    }
}

/* Carries out the rest of 'step_' in 'node', which it takes over.  Returns the
 * node that takes its place, NULL if nothing is left.  The type is for
 * prefix_trie_update(). */
static void *
plan_apply__(void *node, void *step_)
{
    return plan_apply(step_, node);
}

static struct cls_node *
plan_apply(const struct plan_step *step, struct cls_node *node)
{
    const struct plan *plan = step->plan;

    if (step->i >= plan->n_keys) {
        return node_finish(node_update_entry(node, plan));
    }

    const struct plan_key *key = &plan->keys[step->i];
    const struct condition_term *term = key->term;
    size_t n_branches = node ? node->n_branches : 0;
    size_t n_entries = node ? node->n_entries : 0;
    struct plan_step next = {
        .plan = plan, .i = step->i + 1, .label = step->label,
    };
    struct cls_branch *b;
    size_t i;

    for (i = 0; i < n_branches; i++) {
        if (node->branches[i].field == term->field->id
            && node->branches[i].kind == key->kind) {
            break;
        }
    }
    if (i < n_branches) {
        node = node_own(node, n_branches, n_entries);
    } else {
        node = node_own(node, n_branches + 1, n_entries);
        node->branches[i] = (struct cls_branch) {
            .kind = key->kind, .field = term->field->id,
        };
    }

    b = &node->branches[i];
    switch (key->kind) {
    case CLS_PREFIXES:
        for (size_t j = 0; j < term->n_values; j++) {
            struct prefix_key prefix;
            unsigned int len;

            cls_value_prefix(term->field, &term->values[j], &prefix, &len);
            next.label = cls_label_below(step->label, term->field->id,
                                         &prefix);
            prefix_trie_update(&b->trie, &cls_node_class, &prefix, len,
                               plan_apply__, &next);
        }
        break;

    case CLS_SELF:
        b->node = plan_apply(&next, b->node);
        break;

    case CLS_ATOMS:
        if (plan->add) {
            cls_index_put_term(plan->cls, term, &key->atom, step->label,
                               plan->version);
        } else {
            cls_index_remove_term(plan->cls, term, &key->atom, step->label);
        }
        prefix_trie_update(&b->trie, &cls_node_class, &key->atom, 128,
                           plan_apply__, &next);
        break;
    }

    if (!b->trie) {
        node = node_remove_branch(node, i);
    } else {
        b->max = b->kind == CLS_SELF ? b->node->max : b->trie->weight;
    }
    return node_finish(node);
}

/* What an edit calls for a value that is a number of terms. */
static void *
update_count(void *count, void *add)
{
    return (void *) ((uintptr_t) count + (*(bool *) add ? 1 : -1));
}

/* What an edit calls for the rule of a precedence. */
static void *
update_rule(void *old, void *plan_)
{
    const struct plan *plan = plan_;

    ovs_assert(plan->add ? !old : old == plan->rule);
    return plan->add ? CONST_CAST(struct classifier_rule *, plan->rule) : NULL;
}

/* Adds or removes 'rule'. */
static void
edit_apply(struct classifier_edit *edit, const struct classifier_rule *rule,
           bool add, uint64_t version)
{
    const struct prefix_key precedence = { { ~rule->precedence, 0 } };
    const struct condition *c = rule->condition;
    struct layer_classifier *cls = edit->cls;
    struct plan plan = {
        .cls = cls, .rule = rule, .add = add, .version = version,
    };
    const struct plan_step step = { .plan = &plan, .label = CLS_LABEL_ANY };

    prefix_trie_update(&cls->rules, &plain_class, &precedence, 64,
                       update_rule, &plan);
    plan_init(&plan, c);
    cls->root = plan_apply(&step, cls->root);

    for (size_t i = 0; i < c->n_terms; i++) {
        for (size_t j = 0; j < c->terms[i].n_sets; j++) {
            const struct prefix_key key = cls_set_key(c->terms[i].sets[j]);

            prefix_trie_update(&cls->sets, &plain_class, &key, 64,
                               update_count, &add);
        }
    }
    cls->n_rules += add ? 1 : -1;
    if (condition_uses_l4(c)) {
        cls->n_l4 += add ? 1 : -1;
    }
}

/* Nodes. */

static void
cls_node_ref(void *node_)
{
    struct cls_node *node = node_;

    ovs_refcount_ref(&node->ref_cnt);
}

static void
branch_ref(const struct cls_branch *b)
{
    if (b->kind == CLS_SELF) {
        cls_node_ref(b->node);
    } else {
        prefix_trie_ref(b->trie);
    }
}

static void
cls_node_unref(void *node_)
{
    struct cls_node *node = node_;

    if (node && ovs_refcount_unref(&node->ref_cnt) == 1) {
        for (size_t i = 0; i < node->n_branches; i++) {
            if (node->branches[i].kind == CLS_SELF) {
                cls_node_unref(node->branches[i].node);
            } else {
                prefix_trie_unref(node->branches[i].trie, &cls_node_class);
            }
        }
        free(node);
    }
}

static uint64_t
cls_node_weight(const void *node_)
{
    const struct cls_node *node = node_;

    return node->max;
}

static size_t
node_size(size_t n_branches, size_t n_entries)
{
    return (sizeof(struct cls_node)
            + n_branches * sizeof(struct cls_branch)
            + n_entries * sizeof(struct cls_entry));
}

/* Returns a node that is not shared with what 'node', which may be null, has,
 * and room for 'n_branches' and 'n_entries', which must not be fewer.  The
 * caller must fill in those that it gains.  Takes over 'node'. */
static struct cls_node *
node_own(struct cls_node *node, size_t n_branches, size_t n_entries)
{
    size_t size = node_size(n_branches, n_entries);
    size_t old_entries = node ? node->n_entries : 0;

    if (!node) {
        node = xzalloc(size);
        ovs_refcount_init(&node->ref_cnt);
    } else if (ovs_refcount_read(&node->ref_cnt) > 1) {
        struct cls_node *copy = xmalloc(size);

        /* All but the number of references, which other threads may
         * change. */
        ovs_refcount_init(&copy->ref_cnt);
        copy->n_branches = node->n_branches;
        copy->n_entries = node->n_entries;
        copy->max = node->max;
        memcpy(copy->branches, node->branches,
               node_size(node->n_branches, node->n_entries) - sizeof *node);
        for (size_t i = 0; i < copy->n_branches; i++) {
            branch_ref(&copy->branches[i]);
        }
        cls_node_unref(node);
        node = copy;
    } else {
        /* Pairs with the release in ovs_refcount_unref(), in whichever thread
         * dropped the reference before. */
        atomic_thread_fence(memory_order_acquire);
        if (n_branches > node->n_branches || n_entries > node->n_entries) {
            node = xrealloc(node, size);
        }
    }

    const struct cls_entry *old = cls_node_entries(node);
    node->n_branches = n_branches;
    memmove(cls_node_entries(node), old, old_entries * sizeof *old);
    node->n_entries = n_entries;
    return node;
}

/* Removes branch 'i', which is empty, from 'node', which is not shared. */
static struct cls_node *
node_remove_branch(struct cls_node *node, size_t i)
{
    struct cls_branch *b = &node->branches[i];
    size_t n = node->n_branches - i - 1;

    memmove(b, b + 1, (n * sizeof *b
                       + node->n_entries * sizeof(struct cls_entry)));
    node->n_branches--;
    return node;
}

/* Adds the rule of 'plan' to 'node', or removes it.  Takes over 'node', and
 * returns the node that takes its place. */
static struct cls_node *
node_update_entry(struct cls_node *node, const struct plan *plan)
{
    uint64_t precedence = plan->rule->precedence;
    size_t n = node ? node->n_entries : 0;
    size_t n_branches = node ? node->n_branches : 0;
    struct cls_entry *entries = node ? cls_node_entries(node) : NULL;
    size_t low = 0;

    for (size_t high = n; low < high;) {
        size_t mid = (low + high) / 2;

        if (entries[mid].precedence > precedence) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }

    /* A rule may come here twice if a term has the same value twice. */
    if ((low < n && entries[low].precedence == precedence) == plan->add) {
        return node;
    }

    node = node_own(node, n_branches, n + plan->add);
    entries = cls_node_entries(node);
    if (plan->add) {
        memmove(&entries[low + 1], &entries[low], (n - low) * sizeof *entries);
        entries[low] = (struct cls_entry) {
            .rule = plan->rule,
            .precedence = precedence,
            .residue = plan->residue,
        };
    } else {
        memmove(&entries[low], &entries[low + 1],
                (n - low - 1) * sizeof *entries);
        node->n_entries--;
    }
    return node;
}

/* Puts the branches of 'node', which may have changed and is null or not
 * shared, into order.  Returns the node that should be in its place. */
static struct cls_node *
node_finish(struct cls_node *node)
{
    if (!node) {
        return NULL;
    } else if (!node->n_branches && !node->n_entries) {
        free(node);
        return NULL;
    }

    for (size_t i = 1; i < node->n_branches; i++) {
        struct cls_branch b = node->branches[i];
        size_t j;

        for (j = i; j > 0 && node->branches[j - 1].max < b.max; j--) {
            node->branches[j] = node->branches[j - 1];
        }
        node->branches[j] = b;
    }

    uint64_t max = node->n_branches ? node->branches[0].max : 0;
    if (node->n_entries) {
        max = MAX(max, cls_node_entries(node)[0].precedence);
    }
    node->max = max;
    return node;
}

static void
add_node_size(void *node, void *size)
{
    *(size_t *) size += node_memory(node);
}

static size_t
node_memory(const struct cls_node *node)
{
    size_t size = node_size(node->n_branches, node->n_entries);

    for (size_t i = 0; i < node->n_branches; i++) {
        const struct cls_branch *b = &node->branches[i];

        if (b->kind == CLS_SELF) {
            size += node_memory(b->node);
        } else {
            size += prefix_trie_visit(b->trie, add_node_size, &size);
        }
    }
    return size;
}
