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

#ifndef LAYERED_LAYER_TRAVERSE_H
#define LAYERED_LAYER_TRAVERSE_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layered/ofproto-layered/connection.h"
#include "layered/ofproto-layered/layer-policy.h"
#include "layered/ofproto-layered/layer-port.h"
#include "layered/ofproto-layered/port-stats.h"

struct dp_packet;
struct ds;
struct flow;
struct flow_wildcards;

/* Traversal
 * =========
 *
 * Takes a packet through the layers of a port: finds its connection, has the
 * layers that have a layer flow of it rewrite it and the others judge it by
 * their rules, and, unless it may not have side effects, opens connections.
 *
 * Works on the flow and the wildcards of a translation, and unwildcards what
 * the outcome depends on.
 *
 *
 * Thread-safety
 * =============
 *
 * May be used in any thread, under RCU: the results are valid until the caller
 * quiesces.  A traversal must not be copied: it has pointers into itself. */

/* What one layer did with a packet. */
struct layer_step {
    const struct layer *layer;
    const struct conn_layer *flow;      /* It passed by this layer flow... */
    const struct layer_group *group;    /* ...or the group that decided, */
    const struct layer_rule *rule;      /* and the rule, NULL for defaults. */
    enum layer_verdict verdict;         /* LV_ALLOW, LV_DENY, LV_REJECT. */
    bool stateful;                      /* A connection is or will be there. */
};

void layer_step_format(const struct layer_step *, struct ds *);

struct layer_traversal {
    /* Given by the caller. */
    const struct layer_port *port;
    const struct layer_stack *stack;
    uint64_t version;                   /* Of the snapshot. */
    enum layer_direction dir;
    struct flow *flow;
    struct flow_wildcards *wc;
    struct dp_packet *packet;           /* NULL if there is none at hand. */
    bool commit;                        /* May there be side effects? */
    bool sees_all;                      /* Does the caller see all packets of
                                         * connections, whatever their TCP
                                         * flags?  'wc' need not have these. */
    long long int now;                  /* In ms. */

    /* Results. */
    enum drop_reason drop;
    const struct layer *drop_layer;     /* NULL if no layer in particular. */
    bool reject;                        /* To be answered with a refusal. */
    bool cacheable;                     /* May a datapath flow do the same? */
    const struct connection *conn;      /* NULL if there is none. */
    bool known;                         /* Was it there before? */
    bool tracked;                       /* 'key' was looked up... */
    struct conn_key key;
    uint64_t misses_version;            /* ...as of this. */

    size_t n_steps;
    struct layer_step *steps;
    size_t n_rules, allocated_rules;    /* Rules that acted, except those... */
    const struct layer_rule **rules;    /* ...of layer flows. */

    /* To do without malloc() usually: 'steps' and 'rules' may point here.
     * Need no initialization. */
    struct layer_step steps_stub[8];
    const struct layer_rule *rules_stub[16];
};

void layer_traverse(struct layer_traversal *);
void layer_traverse_hand_over(const struct connection *const conns[],
                              size_t n_conns, uint8_t opened);
void layer_traversal_uninit(struct layer_traversal *);

void layer_traverse_rejudge_all(const struct layer_port *,
                                const struct layer_stack *,
                                uint64_t version);

#endif /* layer-traverse.h */
