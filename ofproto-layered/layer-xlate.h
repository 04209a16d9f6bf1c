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

#ifndef LAYERED_LAYER_XLATE_H
#define LAYERED_LAYER_XLATE_H 1

#include "layered/ofproto-layered/layer-policy.h"

struct connection;
struct dpif_flow_stats;
struct layer_traversal;
struct ofport_dpif;
struct xlate_hooks;

/* Layers in translation
 * =====================
 *
 * Puts the layers on the way of packets: outbound ones where a packet enters a
 * bridge from a port, inbound ones where it leaves for a port.  Everything
 * else of translation remains ofproto-dpif's.
 *
 * The hooks run in any thread that translates; see struct xlate_hooks. */

extern const struct xlate_hooks layer_xlate_hooks;

/* Translations without layers, of what is between them. */
struct layer_probe {
    size_t n_outputs;                   /* To ports of layered bridges. */
    const struct ofport_dpif *output;   /* The last of these. */
};

void layer_xlate_probe(struct layer_probe *);

/* Credits. */
void layer_xlate_credit_connection(const struct connection *,
                                   enum layer_direction,
                                   const struct dpif_flow_stats *, bool seen);
void layer_xlate_credit_drop(const struct layer_traversal *,
                             const struct dpif_flow_stats *);

/* Inspection. */
void layer_xlate_observe(void (*)(const struct layer_traversal *, void *aux),
                         void *aux);

#endif /* layer-xlate.h */
