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

#ifndef LAYERED_LAYER_POLICY_H
#define LAYERED_LAYER_POLICY_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layered/ofproto-layered/conn-state.h"
#include "layered/ofproto-layered/layer-action.h"
#include "layered/ofproto-layered/layer-classifier.h"
#include "layered/ofproto-layered/layer-condition.h"
#include "openvswitch/uuid.h"
#include "ovs-atomic.h"

/* Policy
 * ======
 *
 * What has been configured, ready for packets: rules, the groups that hold
 * them, the layers that groups make up, and for each VM port the "stack" of
 * its layers.
 *
 * All of these are immutable versions.  A change of configuration makes new
 * versions of what it concerns, which share the rest: a changed rule makes a
 * new rule, a new version of its group and of the group's layer, and of the
 * stacks that have the layer, and nothing else.  Layers are shared by any
 * number of stacks.
 *
 *
 * Thread-safety
 * =============
 *
 * Objects count their references.  A reader under RCU finds a stack through
 * the snapshot in layer-port.h, and everything else through the stack, without
 * taking references; who drops the last reference to a stack that readers may
 * have seen must postpone that. */

enum layer_direction {
    LAYER_OUTBOUND,             /* Sent by the VM. */
    LAYER_INBOUND,              /* To be delivered to the VM. */
};
#define N_LAYER_DIRECTIONS 2

const char *layer_direction_to_string(enum layer_direction);
bool layer_direction_from_string(const char *, enum layer_direction *);

static inline enum layer_direction
layer_direction_opposite(enum layer_direction dir)
{
    return dir == LAYER_OUTBOUND ? LAYER_INBOUND : LAYER_OUTBOUND;
}

struct layer_rule {
    struct classifier_rule cr;          /* In its group's classifier. */
    struct ovs_refcount ref_cnt;
    atomic_bool retired;                /* Removed, or replaced by another. */
    struct uuid uuid;                   /* Of the Layer_Rule. */
    char *name;                         /* NULL if it has none. */
    uint16_t priority;
    struct condition *condition;
    struct layer_actions *actions;
};

struct layer_rule *layer_rule_create(const struct uuid *, const char *name,
                                     uint16_t priority, struct condition *,
                                     struct layer_actions *);
struct layer_rule *layer_rule_ref(const struct layer_rule *);
void layer_rule_unref(struct layer_rule *);
void layer_rule_retire(struct layer_rule *);
bool layer_rule_is_retired(const struct layer_rule *);
size_t layer_rule_memory(const struct layer_rule *);

static inline const struct layer_rule *
layer_rule_from_cr(const struct classifier_rule *cr)
{
    return CONTAINER_OF(cr, struct layer_rule, cr);
}

/* The IP protocols for which there may be state, a bit for each. */
struct protocol_set {
    unsigned long bits[256 / (8 * sizeof(unsigned long))];
};

struct layer_group {
    struct ovs_refcount ref_cnt;
    struct uuid uuid;                   /* Of the Layer_Group. */
    char *name;                         /* "" if it has none. */
    struct condition *match;            /* NULL: always. */
    enum layer_verdict default_verdict; /* LV_NONE, LV_ALLOW or LV_DENY. */
    struct layer_classifier *rules;
    struct protocol_set stateful;       /* That rules keep state for. */
};

struct layer_group *layer_group_create(const struct uuid *, const char *name,
                                       struct condition *match,
                                       enum layer_verdict default_verdict,
                                       struct layer_classifier *,
                                       const struct protocol_set *stateful);
struct layer_group *layer_group_ref(const struct layer_group *);
void layer_group_unref(struct layer_group *);

/* The groups of a layer in one direction. */
struct layer_side {
    size_t n;
    struct layer_side_group {
        int64_t key;
        struct layer_group *group;
    } *groups;                          /* In ascending order of 'key'. */
    enum layer_verdict default_verdict; /* LV_ALLOW or LV_DENY, the former if
                                         * none are configured. */
};

struct layer {
    struct ovs_refcount ref_cnt;
    struct uuid uuid;                   /* Of the Layer: its identity. */
    char *name;
    struct layer_side sides[N_LAYER_DIRECTIONS];
    struct conn_timeouts timeouts;
    bool tcp_loose;
};

struct layer *layer_create(const struct uuid *, const char *name,
                           struct layer_side sides[N_LAYER_DIRECTIONS],
                           const struct conn_timeouts *, bool tcp_loose);
struct layer *layer_ref(const struct layer *);
void layer_unref(struct layer *);

/* A VM port's layers, in ascending order of position, the first nearest the
 * VM.  A port without layers has a stack with 'n' == 0. */
struct layer_stack {
    struct ovs_refcount ref_cnt;
    uint64_t version;                   /* Of the policy that has it first. */
    atomic_bool retired;                /* Is there a newer one? */

    struct condition_self self;
    uint32_t flow_limit;                /* Connections. */

    struct protocol_set stateful;       /* Of all its layers. */
    bool keeps_state;                   /* 'stateful' is not empty. */
    bool uses_l4;                       /* Ports may matter. */

    size_t n;
    struct layer_position {
        int64_t position;
        struct layer *layer;
    } layers[];
};

/* VFP's default (Firestone, NSDI 2017, section 7). */
#define LAYER_FLOW_LIMIT_DEFAULT 500000

struct layer_stack *layer_stack_create(uint64_t version, size_t n,
                                       const struct layer_position[],
                                       const struct condition_self *,
                                       uint32_t flow_limit);
struct layer_stack *layer_stack_ref(const struct layer_stack *);
void layer_stack_unref(struct layer_stack *);
void layer_stack_unref_postponed(struct layer_stack *);
bool layer_stack_tracks(const struct layer_stack *, uint8_t nw_proto);

void protocol_set_add_rule(struct protocol_set *, const struct layer_rule *);

#endif /* layer-policy.h */
