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


#ifndef SIMNIC_DRIVER_PRIVATE_H
#define SIMNIC_DRIVER_PRIVATE_H 1

#include <pthread.h>

#include "bitmap.h"
#include "classifier.h"
#include "dpif.h"
#include "latch.h"
#include "layered/lib/simnic-driver.h"
#include "layered/lib/simnic-placement.h"
#include "layered/lib/simnic.h"
#include "mpsc-queue.h"
#include "openvswitch/hmap.h"
#include "openvswitch/list.h"
#include "openvswitch/match.h"
#include "openvswitch/thread.h"
#include "ovs-atomic.h"
#include "ovs-thread.h"

/* What the modules of the driver of emulated NICs share
 * =====================================================
 *
 * simnic-driver.c has NICs, ports and the thread; simnic-driver-flows.c has
 * flows. */

struct driver_nic {
    struct ovs_list node;       /* In struct simnic_driver's 'nics'. */
    struct simnic *nic;         /* Has a reference. */
    size_t n_ports;

    /* The configuration as of 'seqno'. */
    uint64_t seqno;
    bool configured;
    struct simnic_config config;

    struct simnic_placement *placement;
    struct ovs_list entries;    /* Contains struct entries. */

    /* Functions whose link is down. */
    unsigned long int down[BITMAP_N_LONGS(SIMNIC_MAX_FUNCTIONS)];
};

/* What one PMD thread calls a flow. */
struct reference {
    struct hmap_node node;      /* In struct entry's 'references'. */
    unsigned int pmd_id;
    void *reference;
};

/* Recognizes the packets of a flow that software sees. */
struct watch {
    struct cls_rule cr;         /* In struct simnic_driver's 'outside'. */
    struct ovs_refcount ref_cnt;
    struct entry *entry;        /* NULL once it is no longer wanted. */

    /* Is it in the queue, because software saw a packet? */
    atomic_bool marked;
    long long int marked_at;    /* In ms, if so. */
    struct mpsc_queue_node node;
};

/* A flow of the datapath that, when it was put first, its NIC could carry, at
 * least if it were given all capabilities. */
struct entry {
    struct hmap_node node;      /* In struct simnic_driver's 'entries'. */
    struct ovs_list nic_node;   /* In struct driver_nic's 'entries'. */
    struct driver_nic *nic;
    struct simnic_driver_port *port;
    ovs_u128 ufid;
    struct minimatch match;
    struct nlattr *actions;
    size_t actions_len;
    struct hmap references;     /* Contains struct references. */

    /* Functions of the NIC that it comes from or goes to. */
    unsigned long int functions[BITMAP_N_LONGS(SIMNIC_MAX_FUNCTIONS)];
    uint32_t account;

    /* In the placement, unless 'refused' or a function's link is down. */
    struct simnic_candidate candidate;
    char *refused;              /* Why its NIC cannot carry it, or NULL. */
    int error;                  /* Of the last put. */

    struct simnic_flow *flow;   /* Nonnull if it is in the NIC. */
    struct watch *watch;        /* Nonnull if it is outside, a candidate. */

    struct dpif_flow_stats base;        /* Of former stays in the NIC. */
    struct dpif_flow_stats reported;    /* The highest so far. */
};

struct simnic_driver {
    struct simnic_switch *sw;
    dpif_offload_flow_unreference_cb *unreference_cb;

    struct ovs_mutex mutex;
    struct ovs_list ports OVS_GUARDED;  /* Contains simnic_driver_ports. */
    struct ovs_list nics OVS_GUARDED;   /* Contains struct driver_nics. */
    struct hmap entries OVS_GUARDED;    /* Contains struct entries. */

    /* Watches.  Changes need 'mutex'. */
    struct classifier outside;
    atomic_uint32_t n_tunnel_outside;   /* Those of flows from tunnels. */
    struct mpsc_queue demand;           /* Contains marked watches. */

    bool running;               /* Is there a thread? */
    pthread_t thread;
    struct latch exit_latch;
};

/* References that are to be released. */
struct released {
    struct reference *refs;
    size_t n, allocated;
};

/* simnic-driver-flows.c.  Those that take a struct simnic_driver need its
 * mutex. */
static inline struct entry *
entry_from_candidate(const struct simnic_candidate *c)
{
    return CONTAINER_OF(c, struct entry, candidate);
}

long long int driver_candidate_used(const struct simnic_candidate *);
void driver_watch_create(struct simnic_driver *, struct entry *);
void driver_process_demand(struct simnic_driver *);
struct simnic_driver_port *driver_find_port(const struct simnic_driver *,
                                            odp_port_t);
struct driver_nic *driver_find_flow_nic(const struct simnic_driver *,
                                        odp_port_t in_port,
                                        odp_port_t orig_in_port,
                                        const struct nlattr *actions,
                                        size_t actions_len);
size_t driver_find_down(const unsigned long int *functions,
                        const struct driver_nic *);
char *driver_check_flow(const struct simnic_driver *,
                        const struct driver_nic *, const struct match *,
                        const struct nlattr *actions, size_t actions_len);
char *driver_check_entry(const struct simnic_driver *, const struct entry *);
void driver_take_out(struct entry *);
void driver_evict(struct simnic_driver *, struct entry *, enum simnic_event);
bool driver_may_enter(struct simnic_driver *, struct entry *,
                      long long int now);
void driver_update_entry(struct simnic_driver *, struct entry *);
void driver_set_refused(struct simnic_driver *, struct entry *, char *refused);
void driver_destroy_entry(struct simnic_driver *, struct entry *,
                          struct released *);
void driver_release(struct simnic_driver *, struct released *);

#endif /* simnic-driver-private.h */
