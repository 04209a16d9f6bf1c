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

#include <string.h>

#include "layered/ofproto-layered/layer-classifier-private.h"
#include "packets.h"
#include "util.h"

/* Looking up packets.  layer-classifier-private.h has the overview. */

/* Atoms that a packet meets for one field and label are remembered for the
 * rest of the look-up, if there are no more than this, so that the index need
 * not be asked again. */
#define MAX_MEMO_ATOMS 16
#define MAX_MEMOS 4

/* Children of a branch with atoms that are visited in one go. */
#define MAX_CANDIDATES 16

/* What an index had to say about the packet. */
struct memo {
    uint16_t field;                     /* enum mf_field_id. */
    uint8_t label;
    bool complete;                      /* All atoms are in 'atoms'. */
    unsigned int n_bits;                /* Bits that it took. */
    size_t n;
    struct prefix_key atoms[MAX_MEMO_ATOMS];
};

/* Whether the packet's address is one of the port's. */
struct self_memo {
    uint16_t field;                     /* enum mf_field_id. */
    bool met;
    unsigned int n_bits;                /* Bits that it took. */
};

struct lookup {
    /* Parameters. */
    const struct layer_classifier *cls;
    uint64_t version;
    const struct condition_self *self;
    const struct flow *flow;
    struct flow_wildcards *wc;          /* May be null. */

    /* What has been found. */
    const struct classifier_rule *best;
    uint64_t best_precedence;
    uint64_t min;                       /* Precedence that would beat it. */

    /* What has been worked out. */
    size_t n_memos;
    size_t n_selfs;
    struct self_memo selfs[MAX_MEMOS];
    struct memo memos[MAX_MEMOS];
};

/* The children of a branch with atoms that the packet meets, as far as they
 * may have something better than what has been found. */
struct candidates {
    const struct lookup *lookup;
    const struct cls_branch *branch;
    uint64_t below;                     /* Pass over this and what is more. */
    bool bounded;                       /* Whether to heed 'below'. */
    bool overflow;                      /* There are more. */
    size_t n;
    const struct cls_node *nodes[MAX_CANDIDATES];   /* Descending 'max'. */
};

/* A function called for atoms. */
typedef void atom_func(const struct prefix_key *atom, void *aux);

static void visit_node(struct lookup *, const struct cls_node *,
                       enum cls_label);
static void visit_prefixes(struct lookup *, const struct cls_branch *,
                           enum cls_label);
static void visit_self(struct lookup *, const struct cls_branch *,
                       enum cls_label);
static void visit_atoms(struct lookup *, const struct cls_branch *,
                        enum cls_label);

/* Returns the rule of highest precedence in 'cls' whose condition 'flow'
 * meets, NULL if there is none, for a port whose own addresses are 'self', as
 * of 'version' of the policy.
 *
 * If 'wc' is nonnull, unwildcards in it the bits of 'flow' that the result
 * depends on. */
const struct classifier_rule *
layer_classifier_lookup(const struct layer_classifier *cls, uint64_t version,
                        const struct condition_self *self,
                        const struct flow *flow, struct flow_wildcards *wc)
{
    struct lookup lookup;

    if (!cls->root) {
        return NULL;
    }

    /* The memos need no initialization. */
    lookup.cls = cls;
    lookup.version = version;
    lookup.self = self;
    lookup.flow = flow;
    lookup.wc = wc;
    lookup.best = NULL;
    lookup.best_precedence = 0;
    lookup.min = 0;
    lookup.n_memos = 0;
    lookup.n_selfs = 0;
    visit_node(&lookup, cls->root, CLS_LABEL_ANY);
    return lookup.best;
}

/* Fields. */

/* Returns whether the packet has field 'mf'.  Conditions decide this in the
 * same way. */
static bool
has_field(const struct lookup *lookup, const struct mf_field *mf)
{
    const struct flow *flow = lookup->flow;
    struct flow_wildcards *wc = lookup->wc;

    if (mf->prereqs == MFP_NONE) {
        return true;
    }
    if (wc) {
        WC_MASK_FIELD(wc, dl_type);
    }
    if (mf->prereqs == MFP_IPV4) {
        return get_dl_type(flow) == htons(ETH_TYPE_IP);
    }
    if (mf->prereqs >= MFP_TCP && mf->prereqs != MFP_CT_VALID
        && is_ip_any(flow)) {
        if (wc) {
            WC_MASK_FIELD_MASK(wc, nw_frag, FLOW_NW_FRAG_LATER);
        }
        if (flow->nw_frag & FLOW_NW_FRAG_LATER) {
            return false;
        }
    }
    return mf_are_prereqs_ok(mf, flow, wc);
}

/* Returns the packet's value of field 'mf', which it has, as a key. */
static struct prefix_key
get_key(const struct lookup *lookup, const struct mf_field *mf)
{
    const struct flow *flow = lookup->flow;
    union mf_value value;

    if (mf->id == MFF_ETH_TYPE) {
        return (struct prefix_key) {
            { (uint64_t) ntohs(flow->dl_type) << 48, 0 }
        };
    } else if (mf->id == MFF_IP_PROTO) {
        return (struct prefix_key) { { (uint64_t) flow->nw_proto << 56, 0 } };
    } else if (mf->id == MFF_IPV4_SRC || mf->id == MFF_ARP_SPA) {
        return (struct prefix_key) {
            { (uint64_t) ntohl(flow->nw_src) << 32, 0 }
        };
    } else if (mf->id == MFF_IPV4_DST || mf->id == MFF_ARP_TPA) {
        return (struct prefix_key) {
            { (uint64_t) ntohl(flow->nw_dst) << 32, 0 }
        };
    } else if (mf->id == MFF_TCP_DST || mf->id == MFF_UDP_DST) {
        return (struct prefix_key) {
            { (uint64_t) ntohs(flow->tp_dst) << 48, 0 }
        };
    }
    mf_get_value(mf, flow, &value);
    return prefix_key_from_bytes(&value, mf->n_bytes);
}

/* Returns whether there is anything of field 'mf' left to unwildcard.  There
 * is not if the packet's connection has been looked up. */
static bool
is_wildcarded(const struct lookup *lookup, const struct mf_field *mf)
{
    const struct flow_wildcards *wc = lookup->wc;

    if (!wc) {
        return false;
    } else if (mf->id == MFF_IPV4_SRC) {
        return wc->masks.nw_src != OVS_BE32_MAX;
    } else if (mf->id == MFF_IPV4_DST) {
        return wc->masks.nw_dst != OVS_BE32_MAX;
    } else if (mf->id == MFF_TCP_DST || mf->id == MFF_UDP_DST) {
        return wc->masks.tp_dst != OVS_BE16_MAX;
    } else if (mf->id == MFF_IP_PROTO) {
        return wc->masks.nw_proto != UINT8_MAX;
    } else if (mf->id == MFF_ETH_TYPE) {
        return wc->masks.dl_type != OVS_BE16_MAX;
    }
    return true;
}

/* Unwildcards the first 'n_bits' bits of field 'mf', or all if it is one of
 * those that are matched whole. */
static void
unwildcard(struct lookup *lookup, const struct mf_field *mf,
           unsigned int n_bits)
{
    struct flow_wildcards *wc = lookup->wc;

    if (!wc || !n_bits) {
        return;
    }
    if (mf->maskable == MFM_NONE) {
        mf_mask_field(mf, wc);
    } else if (mf->id == MFF_IPV4_SRC || mf->id == MFF_ARP_SPA) {
        wc->masks.nw_src |= be32_prefix_mask(n_bits);
    } else if (mf->id == MFF_IPV4_DST || mf->id == MFF_ARP_TPA) {
        wc->masks.nw_dst |= be32_prefix_mask(n_bits);
    } else if (mf->id == MFF_TCP_DST || mf->id == MFF_UDP_DST) {
        wc->masks.tp_dst |= htons(0xffff << (16 - n_bits));
    } else {
        union mf_value mask;

        memset(&mask, 0, mf->n_bytes);
        for (unsigned int i = 0; i * 8 < n_bits; i++) {
            mask.b[i] = (n_bits >= i * 8 + 8 ? 0xff
                         : 0xff << (i * 8 + 8 - n_bits));
        }
        mf_mask_field_masked(mf, &mask, wc);
    }
}

/* Notes that 'rule', with 'precedence', is the best so far. */
static void
set_best(struct lookup *lookup, const struct classifier_rule *rule,
         uint64_t precedence)
{
    lookup->best = rule;
    lookup->best_precedence = precedence;
    lookup->min = precedence < UINT64_MAX ? precedence + 1 : UINT64_MAX;
}

/* Walking the tree. */

/* Returns whether the packet meets the terms of 'e' that are not branches. */
static bool
residue_matches(struct lookup *lookup, const struct cls_entry *e)
{
    const struct condition *c = e->rule->condition;

    for (uint64_t bits = e->residue; bits; bits = zero_rightmost_1bit(bits)) {
        size_t i = raw_ctz(bits);
        size_t end = i < 63 ? i + 1 : c->n_terms;

        for (; i < end; i++) {
            if (!condition_term_matches(&c->terms[i], lookup->version,
                                        lookup->self, lookup->flow,
                                        lookup->wc)) {
                return false;
            }
        }
    }
    return true;
}

/* Looks for something better than the best so far in 'node', under 'label'. */
static void
visit_node(struct lookup *lookup, const struct cls_node *node,
           enum cls_label label)
{
    const struct cls_entry *entries = cls_node_entries(node);
    size_t n_entries = node->n_entries;
    size_t i = 0;

    for (size_t j = 0; ; j++) {
        const struct cls_branch *b = &node->branches[j];
        bool last = j >= node->n_branches;

        for (; i < n_entries && (last || entries[i].precedence > b->max);
             i++) {
            const struct cls_entry *e = &entries[i];

            if (e->precedence < lookup->min) {
                n_entries = 0;
            } else if (residue_matches(lookup, e)) {
                set_best(lookup, e->rule, e->precedence);
                n_entries = 0;
            }
        }
        if (last || b->max < lookup->min) {
            break;
        }

        if (b->kind == CLS_PREFIXES) {
            visit_prefixes(lookup, b, label);
        } else if (b->kind == CLS_SELF) {
            visit_self(lookup, b, label);
        } else {
            visit_atoms(lookup, b, label);
        }
    }
}

/* Looks for something better below 'b', a prefix trie. */
static void
visit_prefixes(struct lookup *lookup, const struct cls_branch *b,
               enum cls_label label)
{
    const struct mf_field *mf = mf_from_id(b->field);
    void *nodes[PREFIX_TRIE_MAX_VALUES];
    uint64_t min = lookup->min;
    size_t n;

    if (!has_field(lookup, mf)) {
        return;
    }

    struct prefix_key key = get_key(lookup, mf);
    n = prefix_trie_walk(b->trie, &key, min, UINT8_MAX, nodes);
    label = cls_label_below(label, mf->id, &key);

    /* There are seldom more than a few, and no more than are needed. */
    while (n) {
        const struct cls_node *node;
        size_t best = 0;

        for (size_t i = 1; i < n; i++) {
            const struct cls_node *candidate = nodes[i];

            node = nodes[best];
            if (candidate->max > node->max) {
                best = i;
            }
        }
        node = nodes[best];
        if (node->max < lookup->min) {
            break;
        }
        nodes[best] = nodes[--n];
        visit_node(lookup, node, label);
    }

    if (is_wildcarded(lookup, mf)) {
        /* If there was something, rules that cannot beat it are no matter. */
        if (lookup->min > min) {
            min = lookup->best_precedence;
        }
        unwildcard(lookup, mf, prefix_trie_depth(b->trie, &key, min,
                                                 UINT8_MAX));
    }
}

/* Returns whether the packet's address in field 'mf', which it has, is the
 * port's own, and stores in '*n_bits' how many of its bits tell. */
static bool
test_self(struct lookup *lookup, const struct mf_field *mf,
          unsigned int *n_bits)
{
    const struct condition_self *self = lookup->self;
    enum address_family family;
    union mf_value value;
    bool met = false;

    for (size_t i = 0; i < lookup->n_selfs; i++) {
        if (lookup->selfs[i].field == mf->id) {
            *n_bits = lookup->selfs[i].n_bits;
            return lookup->selfs[i].met;
        }
    }

    *n_bits = 0;
    mf_get_value(mf, lookup->flow, &value);
    if (!self || !cls_field_family(mf, &family)) {
        /* Not met. */
    } else if (family == ADDRESS_MAC) {
        if (self->has_mac) {
            struct prefix_key a = prefix_key_from_bytes(&value, ETH_ADDR_LEN);
            struct prefix_key b = prefix_key_from_bytes(&self->mac,
                                                        ETH_ADDR_LEN);
            unsigned int common = prefix_key_common(&a, &b, 48);

            met = common == 48;
            *n_bits = MIN(common + 1, 48);
        }
    } else if (self->addresses) {
        met = address_table_contains(self->addresses, family, &value, n_bits);
    }

    if (lookup->n_selfs < MAX_MEMOS) {
        lookup->selfs[lookup->n_selfs++] = (struct self_memo) {
            .field = mf->id, .met = met, .n_bits = *n_bits,
        };
    }
    return met;
}

/* Looks for something better below 'b', for the port's own addresses. */
static void
visit_self(struct lookup *lookup, const struct cls_branch *b,
           enum cls_label label)
{
    const struct mf_field *mf = mf_from_id(b->field);
    unsigned int n_bits;

    if (has_field(lookup, mf)) {
        bool met = test_self(lookup, mf, &n_bits);

        unwildcard(lookup, mf, n_bits);
        if (met) {
            visit_node(lookup, b->node, label);
        }
    }
}

/* Atoms. */

/* Calls 'func', with 'aux', for every atom that consists of the source whose
 * key is 'key' in 'index', and others perhaps. */
static void
for_each_source_atom(const struct cls_index *index,
                     const struct prefix_key *key, atom_func *func, void *aux)
{
    const struct cls_source *source;

    source = prefix_trie_find(index->sources, key, 128);
    if (source) {
        for (size_t i = 0; i < source->n_atoms; i++) {
            func(&source->atoms[i].key, aux);
        }
    }
}

/* Calls 'func', with 'aux', for every atom of terms about 'mf', with 'label',
 * that the packet meets.  Other atoms may be among them that it meets.
 * Returns how many bits of the packet's address tell. */
static unsigned int
for_each_atom(struct lookup *lookup, const struct mf_field *mf,
              enum cls_label label, atom_func *func, void *aux)
{
    const struct prefix_key self_key = CLS_SELF_KEY;
    const struct cls_index *index = cls_index_find(lookup->cls, mf->id);
    const struct prefix_key key = get_key(lookup, mf);
    const struct cls_source *self;
    void *values[PREFIX_TRIE_MAX_VALUES];
    unsigned int n_bits = 0;
    size_t n;

    n = prefix_trie_walk(index->prefixes, &key, 0, 1u << label, values);
    if (is_wildcarded(lookup, mf)) {
        n_bits = prefix_trie_depth(index->prefixes, &key, 0, 1u << label);
    }
    for (size_t i = 0; i < n; i++) {
        const struct cls_holders *holders = values[i];

        for (size_t j = 0; j < holders->n; j++) {
            for_each_source_atom(index, &holders->sources[j], func, aux);
        }
    }

    self = prefix_trie_find(index->sources, &self_key, 128);
    if (self && self->labels & (1u << label)) {
        unsigned int self_bits;

        if (test_self(lookup, mf, &self_bits)) {
            for_each_source_atom(index, &self_key, func, aux);
        }
        n_bits = MAX(n_bits, self_bits);
    }
    return n_bits;
}

/* Adds 'atom' to 'memo_'. */
static void
memo_add(const struct prefix_key *atom, void *memo_)
{
    struct memo *memo = memo_;

    if (memo->n < MAX_MEMO_ATOMS) {
        memo->atoms[memo->n++] = *atom;
    } else {
        memo->complete = false;
    }
}

/* Returns what the index for 'mf' says about the packet for 'label', NULL if
 * there is no room to remember it. */
static const struct memo *
get_memo(struct lookup *lookup, const struct mf_field *mf,
         enum cls_label label)
{
    struct memo *memo;

    for (size_t i = 0; i < lookup->n_memos; i++) {
        memo = &lookup->memos[i];
        if (memo->field == mf->id && memo->label == label) {
            return memo;
        }
    }

    if (lookup->n_memos >= MAX_MEMOS) {
        return NULL;
    }
    memo = &lookup->memos[lookup->n_memos++];
    memo->field = mf->id;
    memo->label = label;
    memo->complete = true;
    memo->n = 0;
    memo->n_bits = for_each_atom(lookup, mf, label, memo_add, memo);
    return memo;
}

/* Adds the child for 'atom', if there is any that matters, to 'c_', a struct
 * candidates. */
static void
candidates_add(const struct prefix_key *atom, void *c_)
{
    struct candidates *c = c_;
    const struct cls_node *node = prefix_trie_find(c->branch->trie, atom, 128);
    size_t i;

    if (!node || node->max < c->lookup->min
        || (c->bounded && node->max >= c->below)) {
        return;
    }

    /* No two children of the branch have the same rule, so that none have the
     * same 'max'. */
    for (i = c->n; i > 0 && c->nodes[i - 1]->max < node->max; i--) {
        continue;
    }
    if (i > 0 && c->nodes[i - 1] == node) {
        return;
    }
    if (c->n >= MAX_CANDIDATES) {
        c->overflow = true;
        if (i >= MAX_CANDIDATES) {
            return;
        }
        c->n--;
    }
    memmove(&c->nodes[i + 1], &c->nodes[i],
            (c->n - i) * sizeof c->nodes[0]);
    c->nodes[i] = node;
    c->n++;
}

/* Looks for something better below 'b', a map from atoms. */
static void
visit_atoms(struct lookup *lookup, const struct cls_branch *b,
            enum cls_label label)
{
    const struct mf_field *mf = mf_from_id(b->field);
    struct candidates c = { .lookup = lookup, .branch = b };
    const struct memo *memo;

    if (!has_field(lookup, mf)) {
        return;
    }

    memo = get_memo(lookup, mf, label);
    do {
        unsigned int n_bits;

        c.n = 0;
        c.overflow = false;
        if (memo && memo->complete) {
            n_bits = memo->n_bits;
            for (size_t i = 0; i < memo->n; i++) {
                candidates_add(&memo->atoms[i], &c);
            }
        } else {
            n_bits = for_each_atom(lookup, mf, label, candidates_add, &c);
        }
        unwildcard(lookup, mf, n_bits);

        for (size_t i = 0; i < c.n && c.nodes[i]->max >= lookup->min; i++) {
            c.below = c.nodes[i]->max;
            c.bounded = true;
            visit_node(lookup, c.nodes[i], label);
        }
    } while (c.overflow && c.n && c.below >= lookup->min);
}
