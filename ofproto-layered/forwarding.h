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

#ifndef LAYERED_FORWARDING_H
#define LAYERED_FORWARDING_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "classifier.h"
#include "openvswitch/types.h"
#include "ovs-atomic.h"

struct dpif_flow_stats;
struct flow;
struct nlattr;
struct ofport_dpif;
struct ofproto_dpif;

/* Forwarding
 * ==========
 *
 * What a bridge does with a packet between the outbound layers of the port
 * that it comes from and the inbound layers of the port that it goes to: its
 * OpenFlow tables, its learned MAC addresses, its tunnels.  As a rule none of
 * that depends on the connection, so that it need not be translated again for
 * each new one.
 *
 * A "forwarding" is the result of such a translation, without any layers: the
 * datapath actions, the one port of a layered bridge that the packet is output
 * to, and what its packets are to be credited to.  It holds for all packets
 * that it matches, as a megaflow does, as long as the datapath's translations
 * are of its "generation" (see udpif_reval_seqno()).
 *
 * Not all that a bridge can do can be kept like this.  A forwarding that is
 * not "usable" says so, lest every packet finds out anew.
 *
 *
 * Thread-safety
 * =============
 *
 * forwarding_find() runs in any thread, without a lock if the result is there.
 * The result is valid until the thread quiesces; who keeps it longer takes a
 * reference. */

struct forwarding {
    struct cls_rule cr;                 /* In a forwarding_cache. */
    struct flow_wildcards wc;           /* The mask of 'cr'. */
    struct ovs_refcount ref_cnt;
    uint64_t generation;
    bool usable;                        /* If not, none of what follows. */
    bool plain;                         /* 'actions' are a single output. */
    const struct ofport_dpif *output;   /* Only a name for the port.  NULL if
                                         * no layered bridge outputs it. */
    struct xlate_cache *xcache;         /* To credit. */
    atomic_bool used;                   /* Since forwarding_cache_run(). */
    size_t actions_len;
    uint64_t actions[];                 /* Struct nlattr. */
};

struct forwarding *forwarding_ref(const struct forwarding *);
void forwarding_unref(struct forwarding *);
void forwarding_credit(struct forwarding *, const struct dpif_flow_stats *);

struct forwarding_cache;

struct forwarding_cache *forwarding_cache_create(void);
void forwarding_cache_destroy(struct forwarding_cache *);
const struct forwarding *forwarding_find(struct forwarding_cache *,
                                         struct ofproto_dpif *,
                                         ofp_port_t in_port, struct flow *,
                                         uint64_t generation);
void forwarding_cache_run(struct forwarding_cache *, uint64_t generation);
size_t forwarding_cache_count(const struct forwarding_cache *);

#endif /* forwarding.h */
