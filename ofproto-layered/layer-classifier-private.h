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

#ifndef LAYERED_LAYER_CLASSIFIER_PRIVATE_H
#define LAYERED_LAYER_CLASSIFIER_PRIVATE_H 1

#include "flow.h"
#include "layered/lib/prefix-trie.h"
#include "layered/ofproto-layered/address-set.h"
#include "layered/ofproto-layered/layer-classifier.h"
#include "layered/ofproto-layered/layer-condition.h"
#include "openvswitch/meta-flow.h"
#include "ovs-atomic.h"

/* The inside of the layer classifier
 * ==================================
 *
 * The rules are the leaves of a tree.  On the way from the root to a rule is a
 * "branch" for each term of its condition that can be looked up, at most
 * CLS_MAX_KEYS of them: Ethernet type, IP protocol, source, destination,
 * destination port or ICMP type, source port, and then whatever else the rule
 * has.  A rule that does not look at, say, the source has no branch for it.
 * Terms that cannot be looked up are the rule's "residue", and are tested one
 * by one.  (P. Gupta and N. McKeown, "Algorithms for packet classification",
 * IEEE Network 15(2), 2001, calls this a hierarchical trie.)
 *
 * A branch is for one field, and of one of three kinds:
 *
 *    - A prefix trie maps prefixes of the field to the nodes below.
 *
 *    - $self and $self_mac lead to one node.
 *
 *    - Terms with address sets are "atoms".  A branch maps atoms to the nodes
 *      below, and an "index" for the field, which all branches share, finds
 *      the atoms that an address meets: a prefix trie maps prefixes to the
 *      "sources" that have them, which are the sets and lists of prefixes that
 *      atoms consist of, and each source knows its atoms.
 *
 * Thus a term with many alternatives costs memory once.  Only one such term of
 * a rule, which must not have sets, may be put into a branch's prefix trie, as
 * what is below is there once for each of its prefixes.
 *
 * Each branch and each node knows the highest precedence below.  A look-up
 * visits first what promises most, and nothing that cannot beat what it has
 * found.  That is also why it need not look at most of the packet's fields.
 *
 * All of the tree is persistent, in the manner of prefix tries.
 *
 *
 * Labels
 * ======
 *
 * An index serves all rules, but to tell that a TCP packet meets no atom of
 * TCP rules should not take more bits of its address than those rules need.
 * So the entries of an index are labelled with the kinds of rules that have
 * them in a term; the Ethernet type and the IP protocol on the way to a branch
 * tell which label it wants. */

/* Terms of a rule that can be looked up. */
#define CLS_MAX_KEYS 8

/* A rule at the end of its way. */
struct cls_entry {
    const struct classifier_rule *rule;
    uint64_t precedence;        /* The rule's. */
    uint64_t residue;           /* Terms to test: bit I for term I, the last
                                 * bit for all terms from there on. */
};

enum cls_branch_kind {
    CLS_PREFIXES,               /* Prefix trie of "struct cls_node"s. */
    CLS_SELF,                   /* The port's own addresses. */
    CLS_ATOMS                   /* Map from atoms to "struct cls_node"s. */
};

/* A branch of a node. */
struct cls_branch {
    uint8_t kind;               /* enum cls_branch_kind. */
    uint16_t field;             /* enum mf_field_id. */
    uint64_t max;               /* The highest precedence below. */
    union {
        struct prefix_trie_node *trie;  /* CLS_PREFIXES, CLS_ATOMS. */
        struct cls_node *node;          /* CLS_SELF. */
    };
};

/* A node, in one piece with its branches and, after those, its entries. */
struct cls_node {
    struct ovs_refcount ref_cnt;
    uint32_t n_branches;        /* In descending order of 'max'. */
    uint32_t n_entries;         /* In descending order of precedence. */
    uint64_t max;               /* The highest precedence here and below. */
    struct cls_branch branches[];
};

static inline struct cls_entry *
cls_node_entries(const struct cls_node *node)
{
    return CONST_CAST(struct cls_entry *,
                      ALIGNED_CAST(const struct cls_entry *,
                                   &node->branches[node->n_branches]));
}

/* Labels of entries of an index. */
enum cls_label {
    CLS_LABEL_ANY,              /* Of rules for any Ethernet type. */
    CLS_LABEL_IP,               /* Of rules for any protocol. */
    CLS_LABEL_ARP,
    CLS_LABEL_TCP,
    CLS_LABEL_UDP,
    CLS_LABEL_ICMP,
    CLS_LABEL_SCTP,
    CLS_LABEL_OTHER,
    CLS_N_LABELS
};

/* An atom of a source, and how many rules' terms have it. */
struct cls_atom {
    struct prefix_key key;
    size_t n;
};

/* A source: what an atom may consist of. */
struct cls_source {
    struct ovs_refcount ref_cnt;
    uint8_t labels;                     /* Those whose number is not 0. */
    uint32_t n_terms[CLS_N_LABELS];     /* Rules' terms with each label. */
    struct cls_holders *only;           /* This source and no other. */
    struct address_table *table;        /* Of a set: what is in the index. */
    size_t n_atoms;
    struct cls_atom atoms[];
};

/* The sources that have a prefix. */
struct cls_holders {
    struct ovs_refcount ref_cnt;
    uint8_t labels;                     /* Of all of them. */
    uint32_t n;
    struct prefix_key sources[];
};

/* The index of the terms with sets about one field. */
struct cls_index {
    const struct mf_field *field;
    enum address_family family;
    struct prefix_trie_node *prefixes;  /* Of "struct cls_holders". */
    struct prefix_trie_node *sources;   /* Of "struct cls_source". */
};

/* One version of a classifier.  Also what an edit works on. */
struct layer_classifier {
    struct ovs_refcount ref_cnt;
    struct cls_node *root;
    struct prefix_trie_node *rules;     /* By descending precedence. */
    struct prefix_trie_node *sets;      /* Number of terms that name each. */
    size_t n_rules;
    size_t n_l4;                        /* Rules that look at L4. */
    size_t n_indexes;
    struct cls_index *indexes;
};

extern const struct prefix_trie_class cls_node_class;
extern const struct prefix_trie_class cls_source_class;
extern const struct prefix_trie_class cls_holders_class;

bool cls_field_family(const struct mf_field *, enum address_family *);
enum cls_label cls_label_below(enum cls_label, enum mf_field_id,
                               const struct prefix_key *);

/* Keys of sources in an index.  That of a list of prefixes is a hash that is
 * taken to be unique. */
#define CLS_SELF_KEY ((struct prefix_key) { { 1, 0 } })

static inline struct prefix_key
cls_set_key(const struct address_set *set)
{
    return (struct prefix_key) { { (uintptr_t) set, 0 } };
}

/* layer-classifier-index.c. */
struct cls_index *cls_index_find(const struct layer_classifier *,
                                 enum mf_field_id);
void cls_index_put_term(struct layer_classifier *,
                        const struct condition_term *,
                        const struct prefix_key *atom, enum cls_label,
                        uint64_t version);
void cls_index_remove_term(struct layer_classifier *,
                           const struct condition_term *,
                           const struct prefix_key *atom, enum cls_label);
void cls_index_replace_set(struct cls_index *, const struct address_set *,
                           const struct address_table *);
struct prefix_key cls_atom_key(const struct condition_term *);
bool cls_value_prefix(const struct mf_field *, const struct condition_value *,
                      struct prefix_key *, unsigned int *len);
size_t cls_index_memory(const struct cls_index *);

#endif /* layer-classifier-private.h */
