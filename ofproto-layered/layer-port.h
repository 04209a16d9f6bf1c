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

#ifndef LAYERED_LAYER_PORT_H
#define LAYERED_LAYER_PORT_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cmap.h"
#include "layered/ofproto-layered/admission.h"
#include "layered/ofproto-layered/connection.h"
#include "layered/ofproto-layered/layer-policy.h"
#include "layered/ofproto-layered/port-stats.h"
#include "openvswitch/token-bucket.h"
#include "openvswitch/types.h"

struct fragment_table;
struct ofport_dpif;
struct ofproto_dpif;
struct shash;

/* Ports
 * =====
 *
 * Brings together a port of a layered bridge, which comes and goes with the
 * bridge, and its policy, which comes and goes with the configuration, by the
 * name of the interface that both are for.  A port holds the state that its
 * layers keep; its "stack" holds their policy.
 *
 * The stacks of all ports are published together, as a "snapshot", so that a
 * packet that passes two ports sees both under the same version of the policy.
 *
 *
 * Life cycle
 * ==========
 *
 * A port lives from layer_port_create() to layer_port_destroy().  An interface
 * has a policy from the first layer_ports_publish() that names it; until then
 * its port has no stack, and forwards nothing.
 *
 *
 * Thread-safety
 * =============
 *
 * Translation finds snapshots and ports under RCU, without locks.  Ports are
 * created and destroyed by the main thread and policies published by the
 * thread of the configuration; a mutex inside serializes them. */

struct layer_port {
    struct cmap_node node;              /* By 'ofport'. */
    struct cmap_node number_node;       /* By 'ofproto' and 'ofp_port'. */
    struct ovs_refcount ref_cnt;
    const struct ofport_dpif *ofport;   /* Only a name for the port. */
    struct ofproto_dpif *ofproto;       /* Its bridge. */
    ofp_port_t ofp_port;
    char *name;                         /* Of the interface. */
    size_t index;                       /* Of its stack in snapshots. */
    atomic_uint32_t promote_packets;    /* See layer_port_get_admission(). */
    atomic_uint32_t promote_bytes;
    atomic_uint32_t promote_age;

    struct conn_table *conns;
    struct port_stats stats;

    struct ovs_mutex fragments_mutex;
    struct fragment_table *fragments[N_LAYER_DIRECTIONS];

    struct ovs_mutex rejects_mutex;
    struct token_bucket rejects;        /* Refusals that may be sent. */
};

struct layer_snapshot;

const struct layer_snapshot *layer_snapshot_get(void);
const struct layer_stack *layer_snapshot_stack(const struct layer_snapshot *,
                                               const struct layer_port *);
uint64_t layer_snapshot_version(const struct layer_snapshot *);

void layer_port_create(const char *name, const struct ofport_dpif *,
                       struct ofproto_dpif *, ofp_port_t);
void layer_port_destroy(const struct ofport_dpif *);
const struct layer_port *layer_port_lookup(const struct ofport_dpif *);
const struct layer_port *layer_port_lookup_number(const struct ofproto_dpif *,
                                                  ofp_port_t);
bool layer_bridge_needs_hooks(const struct ofproto_dpif *);
bool layer_iface_is_known(const char *name);
bool layer_port_may_reject(const struct layer_port *);
struct admission layer_port_get_admission(const struct layer_port *);
struct layer_port *layer_port_ref(const struct layer_port *);
void layer_port_unref(struct layer_port *);

/* Publication. */
struct layer_assignment {
    const char *iface;
    struct layer_stack *stack;  /* Reference, or NULL: iface is no more. */
};

struct layer_port **layer_ports_publish(uint64_t version,
                                        const struct layer_assignment *,
                                        size_t n);
void layer_ports_set_admission(struct shash *policies);
struct layer_port **layer_ports_list(void);
void layer_ports_list_free(struct layer_port **);

#endif /* layer-port.h */
