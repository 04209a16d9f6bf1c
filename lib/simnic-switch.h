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

#ifndef SIMNIC_SWITCH_H
#define SIMNIC_SWITCH_H 1

#include "openvswitch/ofp-meter.h"
#include "openvswitch/types.h"

struct dp_packet_batch;
struct netdev;
struct simnic_function;

/* What the emulated NICs of a datapath have in common
 * ===================================================
 *
 * The actions of flows speak of the datapath's ports and meters.  This is
 * where a NIC finds out what they are:
 *
 *     - Which port is which function, of whichever NIC.
 *     - Which port is a tunnel, with the netdev that can add and remove its
 *       headers.
 *     - The meters, each with its bands and its buckets.
 *
 * The offload provider owns it, and changes it as the datapath changes.
 *
 *
 * Thread-safety
 * =============
 *
 * Any thread may look up and run meters, without locks.  Changes lock.  What
 * has been looked up stays valid until the thread quiesces.  Destroying
 * postpones what readers may still use. */

struct simnic_switch;

struct simnic_switch *simnic_switch_create(void);
void simnic_switch_destroy(struct simnic_switch *);

void simnic_switch_add_function(struct simnic_switch *, odp_port_t,
                                struct simnic_function *);
void simnic_switch_add_tunnel(struct simnic_switch *, odp_port_t,
                              struct netdev *);
void simnic_switch_remove_port(struct simnic_switch *, odp_port_t);

struct simnic_function *simnic_switch_find_function(
    const struct simnic_switch *, odp_port_t);
struct netdev *simnic_switch_find_tunnel(const struct simnic_switch *,
                                         odp_port_t);

int simnic_switch_meter_set(struct simnic_switch *, ofproto_meter_id,
                            const struct ofputil_meter_config *);
int simnic_switch_meter_get(const struct simnic_switch *, ofproto_meter_id,
                            struct ofputil_meter_stats *);
int simnic_switch_meter_del(struct simnic_switch *, ofproto_meter_id,
                            struct ofputil_meter_stats *);
void simnic_switch_run_meter(const struct simnic_switch *, uint32_t meter_id,
                             struct dp_packet_batch *, long long int now);

#endif /* simnic-switch.h */
