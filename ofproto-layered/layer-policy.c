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

#include "layered/ofproto-layered/layer-policy.h"

#include <string.h>

#include "bitmap.h"
#include "layered/ofproto-layered/address-set.h"
#include "ovs-rcu.h"
#include "util.h"

/* Directions. */

const char *
layer_direction_to_string(enum layer_direction dir)
{
    return dir == LAYER_OUTBOUND ? "outbound" : "inbound";
}

/* Parses 's' into '*dir'.  Returns false if 's' is no direction. */
bool
layer_direction_from_string(const char *s, enum layer_direction *dir)
{
    *dir = !strcmp(s, "outbound") ? LAYER_OUTBOUND : LAYER_INBOUND;
    return *dir == LAYER_OUTBOUND || !strcmp(s, "inbound");
}

/* Rules. */

/* Returns a new rule, which takes over 'condition' and 'actions'.  Of two
 * rules of the same priority the one whose row has the lower UUID comes
 * first, for the sake of a definite order. */
struct layer_rule *
layer_rule_create(const struct uuid *uuid, const char *name,
                  uint16_t priority, struct condition *condition,
                  struct layer_actions *actions)
{
    struct layer_rule *rule = xmalloc(sizeof *rule);
    uint64_t order = (((uint64_t) uuid->parts[0] << 16)
                      | (uuid->parts[1] >> 16));

    *rule = (struct layer_rule) {
        .cr.condition = condition,
        .cr.precedence = ((uint64_t) priority << 48
                          | (~order & ((UINT64_C(1) << 48) - 1))),
        .uuid = *uuid,
        .name = nullable_xstrdup(name),
        .priority = priority,
        .condition = condition,
        .actions = actions,
    };
    ovs_refcount_init(&rule->ref_cnt);
    atomic_init(&rule->retired, false);
    return rule;
}

struct layer_rule *
layer_rule_ref(const struct layer_rule *rule_)
{
    struct layer_rule *rule = CONST_CAST(struct layer_rule *, rule_);

    ovs_refcount_ref(&rule->ref_cnt);
    return rule;
}

void
layer_rule_unref(struct layer_rule *rule)
{
    if (rule && ovs_refcount_unref(&rule->ref_cnt) == 1) {
        free(rule->name);
        condition_destroy(rule->condition);
        layer_actions_destroy(rule->actions);
        free(rule);
    }
}

/* Notes that the newest policy does not have 'rule'. */
void
layer_rule_retire(struct layer_rule *rule)
{
    atomic_store_relaxed(&rule->retired, true);
}

bool
layer_rule_is_retired(const struct layer_rule *rule_)
{
    struct layer_rule *rule = CONST_CAST(struct layer_rule *, rule_);
    bool retired;

    atomic_read_relaxed(&rule->retired, &retired);
    return retired;
}

/* Returns the number of bytes that 'rule' takes, other than in a
 * classifier. */
size_t
layer_rule_memory(const struct layer_rule *rule)
{
    const struct condition *c = rule->condition;
    const struct layer_actions *actions = rule->actions;
    size_t size = (sizeof *rule + (rule->name ? strlen(rule->name) + 1 : 0)
                   + sizeof *c + strlen(c->text) + 1
                   + c->n_terms * sizeof *c->terms
                   + sizeof *actions + strlen(actions->text) + 1
                   + actions->n * sizeof *actions->list);

    for (size_t i = 0; i < c->n_terms; i++) {
        size += (c->terms[i].n_sets * sizeof *c->terms[i].sets
                 + c->terms[i].n_values * sizeof *c->terms[i].values);
    }
    for (size_t i = 0; i < actions->n; i++) {
        const struct layer_action *a = &actions->list[i];

        if (a->type == LA_SNAT || a->type == LA_DNAT) {
            size += (sizeof *a->nat
                     + a->nat->n_targets * sizeof *a->nat->targets);
        } else if (a->type == LA_COUNT) {
            size += strlen(a->counter) + 1;
        }
    }
    return size;
}

/* Adds to 'set' the protocols of the packets for which 'rule' keeps state. */
void
protocol_set_add_rule(struct protocol_set *set, const struct layer_rule *rule)
{
    if (!rule->actions->stateful) {
        return;
    }

    for (size_t i = 0; i < rule->condition->n_terms; i++) {
        const struct condition_term *term = &rule->condition->terms[i];

        if (term->field->id == MFF_IP_PROTO) {
            for (size_t j = 0; j < term->n_values; j++) {
                if (term->values[j].mask[0] != UINT8_MAX) {
                    bitmap_set_multiple(set->bits, 0, 256, true);
                    return;
                }
                bitmap_set1(set->bits, term->values[j].value[0]);
            }
            return;
        }
    }
    bitmap_set_multiple(set->bits, 0, 256, true);
}

/* Groups. */

/* Returns a new group, which takes over 'match' and 'rules'. */
struct layer_group *
layer_group_create(const struct uuid *uuid, const char *name,
                   struct condition *match,
                   enum layer_verdict default_verdict,
                   struct layer_classifier *rules,
                   const struct protocol_set *stateful)
{
    struct layer_group *group = xmalloc(sizeof *group);

    *group = (struct layer_group) {
        .uuid = *uuid,
        .name = xstrdup(name ? name : ""),
        .match = match,
        .default_verdict = default_verdict,
        .rules = rules,
        .stateful = *stateful,
    };
    ovs_refcount_init(&group->ref_cnt);
    return group;
}

struct layer_group *
layer_group_ref(const struct layer_group *group_)
{
    struct layer_group *group = CONST_CAST(struct layer_group *, group_);

    ovs_refcount_ref(&group->ref_cnt);
    return group;
}

void
layer_group_unref(struct layer_group *group)
{
    if (group && ovs_refcount_unref(&group->ref_cnt) == 1) {
        free(group->name);
        condition_destroy(group->match);
        layer_classifier_unref(group->rules);
        free(group);
    }
}

/* Layers. */

/* Returns a new version of the layer 'uuid', which takes over what 'sides'
 * points to. */
struct layer *
layer_create(const struct uuid *uuid, const char *name,
             struct layer_side sides[N_LAYER_DIRECTIONS],
             const struct conn_timeouts *timeouts, bool tcp_loose)
{
    struct layer *layer = xmalloc(sizeof *layer);

    *layer = (struct layer) {
        .uuid = *uuid,
        .name = xstrdup(name),
        .timeouts = *timeouts,
        .tcp_loose = tcp_loose,
    };
    memcpy(layer->sides, sides, sizeof layer->sides);
    ovs_refcount_init(&layer->ref_cnt);
    return layer;
}

struct layer *
layer_ref(const struct layer *layer_)
{
    struct layer *layer = CONST_CAST(struct layer *, layer_);

    ovs_refcount_ref(&layer->ref_cnt);
    return layer;
}

void
layer_unref(struct layer *layer)
{
    if (layer && ovs_refcount_unref(&layer->ref_cnt) == 1) {
        for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
            struct layer_side *side = &layer->sides[i];

            for (size_t j = 0; j < side->n; j++) {
                layer_group_unref(side->groups[j].group);
            }
            free(side->groups);
        }
        free(layer->name);
        free(layer);
    }
}

/* Stacks. */

/* Adds up what a look-up in 'layer' may depend on. */
static void
layer_stack_add_needs(struct layer_stack *stack, const struct layer *layer)
{
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        const struct layer_side *side = &layer->sides[i];

        for (size_t j = 0; j < side->n; j++) {
            const struct layer_group *group = side->groups[j].group;

            for (size_t k = 0; k < ARRAY_SIZE(stack->stateful.bits); k++) {
                stack->stateful.bits[k] |= group->stateful.bits[k];
            }
            stack->uses_l4 |= (layer_classifier_uses_l4(group->rules)
                               || (group->match
                                   && condition_uses_l4(group->match)));
        }
    }
}

/* Returns a new stack of the 'n' layers of 'layers', which are in ascending
 * order of position.  Takes over the references in 'layers' and what 'self'
 * points to. */
struct layer_stack *
layer_stack_create(uint64_t version, size_t n,
                   const struct layer_position layers[],
                   const struct condition_self *self, uint32_t flow_limit)
{
    struct layer_stack *stack = xzalloc(sizeof *stack
                                        + n * sizeof *stack->layers);

    ovs_refcount_init(&stack->ref_cnt);
    atomic_init(&stack->retired, false);
    stack->version = version;
    stack->self = *self;
    stack->flow_limit = flow_limit;
    stack->n = n;
    for (size_t i = 0; i < n; i++) {
        stack->layers[i] = layers[i];
        layer_stack_add_needs(stack, layers[i].layer);
    }
    stack->keeps_state = !bitmap_is_all_zeros(stack->stateful.bits, 256);
    stack->uses_l4 |= stack->keeps_state;
    return stack;
}

struct layer_stack *
layer_stack_ref(const struct layer_stack *stack_)
{
    struct layer_stack *stack = CONST_CAST(struct layer_stack *, stack_);

    ovs_refcount_ref(&stack->ref_cnt);
    return stack;
}

void
layer_stack_unref(struct layer_stack *stack)
{
    if (stack && ovs_refcount_unref(&stack->ref_cnt) == 1) {
        for (size_t i = 0; i < stack->n; i++) {
            layer_unref(stack->layers[i].layer);
        }
        address_table_unref(stack->self.addresses);
        free(stack);
    }
}

/* Drops a reference to 'stack' once no reader has it any more that found it
 * under RCU. */
void
layer_stack_unref_postponed(struct layer_stack *stack)
{
    if (stack) {
        ovsrcu_postpone(layer_stack_unref, stack);
    }
}

/* Returns true if 'stack' may keep state for packets of 'nw_proto'. */
bool
layer_stack_tracks(const struct layer_stack *stack, uint8_t nw_proto)
{
    return bitmap_is_set(stack->stateful.bits, nw_proto);
}
