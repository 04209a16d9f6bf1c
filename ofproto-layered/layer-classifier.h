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

#ifndef LAYERED_LAYER_CLASSIFIER_H
#define LAYERED_LAYER_CLASSIFIER_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct address_set;
struct address_table;
struct condition;
struct condition_self;
struct flow;
struct flow_wildcards;

/* Layer classifier
 * ================
 *
 * Finds, among the rules of a group, the one of highest precedence whose
 * condition a packet meets, and unwildcards little more than what it takes to
 * tell.
 *
 * A classifier is an immutable version; changing one makes another, which
 * shares with it all that did not change, so that a change costs in proportion
 * to itself.  A condition with sets of n sources, m destinations and k ports
 * costs memory in proportion to n + m + k, and the entries of an address set
 * are there once for each classifier and field, however many conditions refer
 * to it.
 *
 *
 * Thread-safety
 * =============
 *
 * Look-ups may run in any thread, without locks, as long as the caller has a
 * reference or is protected by RCU (layer_classifier_unref() does not wait for
 * readers; postpone it).  Edits are up to one thread at a time. */

/* A rule, as the classifier sees it.  Embed it in the rule.  Constant while it
 * is in a classifier; the classifier does not own it. */
struct classifier_rule {
    const struct condition *condition;
    uint64_t precedence;        /* The highest wins.  Unique in the group. */
};

struct layer_classifier;

struct layer_classifier *layer_classifier_create(void);
struct layer_classifier *layer_classifier_ref(const struct layer_classifier *);
void layer_classifier_unref(struct layer_classifier *);

const struct classifier_rule *layer_classifier_lookup(
    const struct layer_classifier *, uint64_t version,
    const struct condition_self *, const struct flow *,
    struct flow_wildcards *);

size_t layer_classifier_count(const struct layer_classifier *);
const struct classifier_rule **layer_classifier_rules(
    const struct layer_classifier *);
bool layer_classifier_uses_set(const struct layer_classifier *,
                               const struct address_set *);
bool layer_classifier_uses_l4(const struct layer_classifier *);
size_t layer_classifier_memory(const struct layer_classifier *);

/* Editing. */
struct classifier_edit;

struct classifier_edit *classifier_edit_begin(const struct layer_classifier *);
void classifier_edit_insert(struct classifier_edit *,
                            const struct classifier_rule *, uint64_t version);
void classifier_edit_remove(struct classifier_edit *,
                            const struct classifier_rule *);
void classifier_edit_replace_set(struct classifier_edit *,
                                 const struct address_set *,
                                 const struct address_table *old,
                                 const struct address_table *new);
struct layer_classifier *classifier_edit_commit(struct classifier_edit *);

#endif /* layer-classifier.h */
