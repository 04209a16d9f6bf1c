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

#ifndef SIMNIC_DRIVER_H
#define SIMNIC_DRIVER_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dpif-offload.h"
#include "openvswitch/list.h"
#include "openvswitch/types.h"
#include "ovs-atomic.h"

struct dp_packet;
struct ds;
struct netdev;
struct simnic_driver;
struct simnic_switch;

/* The host's driver of the emulated NICs of a datapath
 * ====================================================
 *
 * Keeps account of the datapath's flows that a NIC can carry, and sees to it
 * that those are in the NIC that simnic-placement.h wants there.  A "flow"
 * here is one of a megaflow's identifier; when several PMD threads of the
 * datapath have it, each adds a "reference", the datapath's own idea of it.
 *
 * A flow that was accepted stays known until all its references are deleted,
 * whether or not it is in a NIC at any time.
 *
 * Packets that software receives from a function are matched against those
 * flows that are not in the NIC, so as to learn which of them have demand.
 *
 * A thread of the driver's does what is not in answer to a call: it takes idle
 * flows out, retries those that wait, and reacts to resets, to links that go
 * down, and to changes of the configuration.  It starts with the first
 * function.
 *
 *
 * Thread-safety
 * =============
 *
 * Any thread may call these functions, but adding, removing and updating ports
 * is for one thread at a time.  They lock, except for
 * simnic_driver_saw_packet().  The callback that releases references is called
 * with the driver's lock, so it must not call these functions. */

/* A port, to be embedded in the user's.  Its memory must remain until a grace
 * period after simnic_driver_remove_port(). */
struct simnic_driver_port {
    struct ovs_list node;       /* In struct simnic_driver's 'ports'. */
    odp_port_t port_no;
    struct netdev *netdev;
    bool tunnel;

    /* If not a tunnel: the function, NULL if there is none at the moment, only
     * to tell whether it has changed, and its NIC. */
    const struct simnic_function *function;
    struct driver_nic *nic;
    int index;                  /* Of the function. */

    /* Flows from it that are candidates outside the NIC. */
    atomic_uint32_t n_outside;
};

struct simnic_driver *simnic_driver_create(void);
void simnic_driver_destroy(struct simnic_driver *);
void simnic_driver_set_unreference_cb(struct simnic_driver *,
                                      dpif_offload_flow_unreference_cb *);
struct simnic_switch *simnic_driver_get_switch(const struct simnic_driver *);

void simnic_driver_add_port(struct simnic_driver *,
                            struct simnic_driver_port *, odp_port_t,
                            struct netdev *);
void simnic_driver_remove_port(struct simnic_driver *,
                               struct simnic_driver_port *);
void simnic_driver_update_port(struct simnic_driver *,
                               struct simnic_driver_port *);

int simnic_driver_put(struct simnic_driver *, struct dpif_offload_flow_put *,
                      void **previous_flow_reference);
int simnic_driver_del(struct simnic_driver *, struct dpif_offload_flow_del *);
bool simnic_driver_get_stats(struct simnic_driver *, const ovs_u128 *ufid,
                             struct dpif_flow_stats *,
                             struct dpif_flow_attrs *);
void simnic_driver_flush(struct simnic_driver *);
void simnic_driver_saw_packet(struct simnic_driver *,
                              struct simnic_driver_port *,
                              struct dp_packet *);

bool simnic_driver_has_nics(struct simnic_driver *);
void simnic_driver_count(struct simnic_driver *, uint64_t *n_in,
                         uint64_t *n_known);
void simnic_driver_format(struct simnic_driver *, struct ds *);
char *simnic_driver_why(struct simnic_driver *, const struct match *,
                        const struct nlattr *actions, size_t actions_len);

#endif /* simnic-driver.h */
