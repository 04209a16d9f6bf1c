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

#ifndef SIMNIC_LINK_H
#define SIMNIC_LINK_H 1

#include <stdbool.h>

struct dp_packet;
struct dp_packet_batch;
struct smap;

/* Link of an emulated NIC
 * =======================
 *
 * The cable between a function of an emulated NIC and what is at its far end:
 * a kernel device (a veth or tap device into a VM's namespace, or the wire),
 * which this module takes frames from and gives frames to, in batches.  It
 * drives the device with Open vSwitch's own netdev of one of these types:
 *
 *     afxdp    AF_XDP sockets, in native mode, with one queue
 *     system   AF_PACKET sockets
 *     tap      a tap device that this creates
 *     dummy    a device for tests
 *
 * As a physical NIC does, it completes the checksums of TCP and UDP that the
 * sender has left to it (a checksum field that has the sum of the pseudo
 * header, which is what Linux puts there).
 *
 *
 * Thread-safety
 * =============
 *
 * One thread at a time may receive and wait.  Any thread may send, and ask for
 * the state.  No thread may use a link that simnic_link_close() closes, nor,
 * after a grace period, one that simnic_link_close_postponed() does. */

struct simnic_link;

struct simnic_link *simnic_link_open(const char *netdev, const char *type,
                                     const struct smap *options,
                                     char **errorp);
void simnic_link_close(struct simnic_link *);
void simnic_link_close_postponed(struct simnic_link *);

int simnic_link_recv(struct simnic_link *, struct dp_packet_batch *);
void simnic_link_wait(struct simnic_link *);
unsigned int simnic_link_send(struct simnic_link *, struct dp_packet_batch *);
void simnic_link_complete_csum(struct dp_packet *);

bool simnic_link_is_up(const struct simnic_link *);
bool simnic_link_is_gone(const struct simnic_link *);
int simnic_link_get_mtu(const struct simnic_link *);
const char *simnic_link_get_type(const struct simnic_link *);

#endif /* simnic-link.h */
