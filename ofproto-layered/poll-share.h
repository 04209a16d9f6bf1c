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

#ifndef LAYERED_POLL_SHARE_H
#define LAYERED_POLL_SHARE_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "openvswitch/types.h"

struct dpif_backer;
struct dpif_netdev_poll;

/* Shares of the time of polling threads
 * =====================================
 *
 * A thread that polls ports takes up to 32 packets from each receive queue in
 * turn.  32 packets that open connections take as long as 1,000 others, so
 * that a machine that sends nothing else would have nearly all of the thread's
 * time.  This module has VM ports on a thread share its time instead.
 *
 * The time that the packets of a VM port have taken is "charged" to it.  In
 * each round, the ports that are behind are polled; those that are ahead of
 * the one furthest behind wait until it has caught up, or has nothing more to
 * send.  Their packets stay in their queues, and are lost, if at all, there.
 * A round is also bounded, in time and to one busy queue of each port.
 *
 * A port takes part as long as it is "busy", that is, its last poll brought
 * packets.  As long as no other port is busy, one is never kept waiting.  When
 * it gets busy, it starts as far as the one furthest behind has come (at the
 * "clock"), or 0.1 ms behind that at most: so a port has no more time later
 * for having been idle before, but one that needs less than its share of the
 * time gets it soon.
 *
 * This is start-time fair queueing (P. Goyal, H. M. Vin, H. Cheng, SIGCOMM
 * 1996), as in Linux's completely fair scheduler, with receive queues for
 * packet flows or processes.  All queues that a thread polls of one port share
 * one charge.
 *
 * Ports without layers, such as those for uplinks and tunnels, carry
 * everybody's packets: they are polled in each round and not charged.
 * Neither is a port that the main thread polls.
 *
 *
 * Thread-safety
 * =============
 *
 * Datapaths are added and removed by the main thread.  A poll_share belongs to
 * one polling thread; threads share nothing but what they read. */

void poll_share_enable(struct dpif_backer *);
void poll_share_disable(struct dpif_backer *);

/* The shares on one thread. */
struct poll_share *poll_share_create(const struct dpif_netdev_poll *,
                                     size_t n);
void poll_share_set_charged(struct poll_share *, size_t queue, bool charged);
void poll_share_plan(struct poll_share *, struct dpif_netdev_poll *);

#endif /* poll-share.h */
