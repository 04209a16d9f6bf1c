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

#ifndef SIMNIC_PRIVATE_H
#define SIMNIC_PRIVATE_H 1

#include "classifier.h"
#include "dp-packet.h"
#include "dpif.h"
#include "layered/lib/simnic.h"
#include "openvswitch/list.h"
#include "openvswitch/match.h"
#include "openvswitch/shash.h"
#include "openvswitch/thread.h"
#include "ovs-atomic.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "seq.h"
#include "smap.h"

struct simnic_link;

/* What the modules of an emulated NIC share
 * =========================================
 *
 * For simnic.c (adapters, functions and threads), simnic-flow.c (the flow
 * table), simnic-bridge.c (the way of a frame) and simnic-unixctl.c (what is
 * shown to users, and faults) only, and netdev-simnic.c for the state of a
 * link. */

/* Counters that several threads may increment. */
#define SIMNIC_ADD(COUNTER, N)                          \
    do {                                                \
        uint64_t simnic_add_orig;                       \
        atomic_add_relaxed(&(COUNTER), (uint64_t) (N),  \
                           &simnic_add_orig);           \
    } while (0)

static inline uint64_t
simnic_read(const atomic_uint64_t *counter_)
{
    atomic_uint64_t *counter = CONST_CAST(atomic_uint64_t *, counter_);
    uint64_t value;

    atomic_read_relaxed(counter, &value);
    return value;
}

static inline bool
simnic_read_bool(const atomic_bool *flag_)
{
    atomic_bool *flag = CONST_CAST(atomic_bool *, flag_);
    bool value;

    atomic_read_relaxed(flag, &value);
    return value;
}

/* A queue of frames with one producer and one consumer: from a function to
 * Open vSwitch.  Positions only grow. */
#define SIMNIC_RING_SIZE 2048           /* A power of 2. */
struct simnic_ring {
    struct dp_packet *frames[SIMNIC_RING_SIZE];
    PADDED_MEMBERS(CACHE_LINE_SIZE,
        atomic_uint64_t head;           /* Of the next to be put in. */
    );
    PADDED_MEMBERS(CACHE_LINE_SIZE,
        atomic_uint64_t tail;           /* Of the next to be taken out. */
        atomic_uint64_t done;           /* All before it, the consumer is done
                                         * with. */
    );
};

/* Hash values that connections are told apart by, for the sake of order. */
#define SIMNIC_N_TUPLES 256

/* Frames that may be held for all connections of a function. */
#define SIMNIC_HELD_MAX (4 * SIMNIC_HOLD_MAX)

struct simnic_counters {
    atomic_uint64_t from_link, from_link_bytes;
    atomic_uint64_t to_link, to_link_bytes;
    atomic_uint64_t hits, hit_bytes;
    atomic_uint64_t misses_host, misses_vm, synthetic, from_host;
    atomic_uint64_t held, held_now;
    atomic_uint64_t rx_dropped[SIMNIC_N_DROPS];
    atomic_uint64_t tx_dropped[SIMNIC_N_DROPS];
};

struct simnic_function {
    struct simnic *nic;                 /* Has a reference. */
    int index;                          /* 0 for the PF, K + 1 for VF K. */
    char name[8];                       /* "pf0" or "vfK". */
    unsigned int id;                    /* No other one has had it. */

    /* The link.  For the main thread, but for what 'link_mutex' guards.  Who
     * reads 'link' needs no lock. */
    char *netdev;
    char *link_type;                    /* NULL for automatic. */
    struct smap link_options;
    OVSRCU_TYPE(struct simnic_link *) link;     /* NULL if it is not open. */
    long long int next_open;            /* When to try again, in ms. */
    struct ovs_mutex link_mutex;        /* For changes of 'link'. */
    char *link_error OVS_GUARDED;       /* Why it is not open, or NULL. */
    bool detached OVS_GUARDED;          /* There is to be no link any more. */

    /* The port of the datapath, ODPP_NONE if none. */
    atomic_uint32_t port;
    OVSRCU_TYPE(const struct simnic_switch *) sw;

    /* Faults. */
    atomic_bool link_cut;               /* The link is down. */
    atomic_bool vanished;               /* The device is gone. */
    atomic_bool ignore_list;            /* The driver sends all to the VF. */
    atomic_bool forge_list;             /* It does the opposite of the list. */

    unsigned int idle;                  /* For its thread: rounds without a
                                         * frame. */
    struct simnic_ring ring;
    struct simnic_counters stats;

    /* For its thread: for each hash of a 5-tuple, the position in 'ring'
     * behind the latest frame of such a connection, and the frames that are
     * held back. */
    uint64_t miss_positions[SIMNIC_N_TUPLES];
    struct simnic_hold *holds[SIMNIC_N_TUPLES];
    size_t n_held;                      /* Frames in all of 'holds'. */

    /* What the VM's driver knows: the conditions of the VF's flows. */
    struct classifier list;
};

/* The actions of a flow. */
struct simnic_actions {
    size_t len;
    bool pushes;                        /* Is there a tnl_push? */
    odp_port_t pop_port;                /* Of tnl_pop, ODPP_NONE if none. */
    struct nlattr data[];
};

/* A condition in the list of a VM's driver. */
struct simnic_condition {
    struct cls_rule cr;                 /* In the function's 'list'. */
    struct simnic_function *function;   /* NULL once it is on no list. */
};

struct simnic_flow {
    struct cls_rule cr;                 /* In the NIC's 'table'. */
    struct simnic *nic;                 /* Has a reference. */
    struct ovs_list node;               /* In the NIC's 'flows'. */
    OVSRCU_TYPE(const struct simnic_actions *) actions;
    struct simnic_condition *condition; /* NULL if it is on no list. */

    atomic_bool gone;                   /* It has left the table. */

    atomic_uint64_t n_packets, n_bytes;
    atomic_llong used;
    atomic_uint16_t tcp_flags;

    /* What the driver is told while statistics lag.  Guarded by the mutex of
     * the NIC. */
    struct dpif_flow_stats lagging;
    long long int lagging_since;
};

/* Frames of a connection that wait, unmodified. */
struct simnic_hold {
    struct ovs_list node;               /* In the thread's 'holds'. */
    struct simnic_function *function;   /* May be gone. */
    unsigned int function_id;           /* Its 'id'. */
    size_t tuple;                       /* The hash of the 5-tuples. */
    uint64_t barrier;                   /* Position in the function's ring. */
    long long int deadline;
    size_t n;
    struct dp_packet *frames[SIMNIC_HOLD_MAX];
};

/* Frames on their way out by a function. */
struct simnic_tx {
    struct simnic_function *function;   /* NULL if it is not pending. */
    struct dp_packet_batch batch;
};

/* The functions of a thread; immutable. */
struct simnic_functions {
    size_t n;
    struct simnic_function *array[];
};

struct simnic_thread {
    struct simnic *nic;
    int id;
    pthread_t pthread;
    long long int restart;              /* When to, in ms, if it has died. */
    OVSRCU_TYPE(struct simnic_functions *) functions;
    struct seq *wake_seq;               /* Wakes it up. */
    atomic_bool exit;                   /* It is to end. */
    atomic_bool die;                    /* Fault: it is to end unasked. */
    atomic_bool alive;

    /* Odd while it has frames in its hands. */
    atomic_uint64_t batches;

    /* For the thread itself. */
    struct ovs_list holds;              /* Of struct simnic_hold. */
    struct simnic_tx tx[SIMNIC_MAX_FUNCTIONS];
    int tx_pending[SIMNIC_MAX_FUNCTIONS];       /* Indexes into tx[]. */
    size_t n_tx_pending;
};

struct simnic {
    char *name;
    struct ovs_refcount ref_cnt;        /* Changes with 'nics_mutex'. */
    struct seq *seq;                    /* Changes with what a driver has to
                                         * look after. */

    /* The configuration. */
    struct ovs_mutex mutex;
    bool configured OVS_GUARDED;
    struct simnic_config config OVS_GUARDED;
    atomic_int miss_path;               /* As in 'config'. */
    atomic_bool driver_list;            /* As in 'config'. */

    struct simnic_function *functions[SIMNIC_MAX_FUNCTIONS] OVS_GUARDED;
    struct simnic_thread **threads OVS_GUARDED;
    size_t n_threads OVS_GUARDED;

    /* The flow table.  Readers need no lock. */
    struct classifier table;
    struct ovs_list flows OVS_GUARDED;  /* Of struct simnic_flow. */
    size_t n_flows OVS_GUARDED;

    /* Faults. */
    bool table_full OVS_GUARDED;
    bool put_fail OVS_GUARDED;
    atomic_llong stats_lag;             /* In ms, 0 for none. */
    atomic_llong reset_until;           /* Frames are lost until then. */

    atomic_uint64_t events[SIMNIC_N_EVENTS];
    atomic_uint64_t resets, thread_deaths;
};

extern struct ovs_mutex simnic_nics_mutex;
extern struct shash simnic_nics OVS_GUARDED_BY(simnic_nics_mutex);

/* How long a reset takes, and how long until a thread that has died is started
 * again, in ms. */
#define SIMNIC_RESET_MS 100
#define SIMNIC_RESTART_MS 1000

/* How long Open vSwitch may take before held frames go to it as well, in ms.
 */
#define SIMNIC_HOLD_MS 100

struct simnic *simnic_find(const char *name);
void simnic_reset(struct simnic *);
void simnic_flow_remove_all(struct simnic *nic) OVS_REQUIRES(nic->mutex);
void simnic_sync_threads(struct simnic *nic) OVS_REQUIRES(nic->mutex);
const char *simnic_link_state(struct simnic_function *, char **errorp);

/* simnic-bridge.c. */
bool simnic_bridge_poll(struct simnic_thread *, struct simnic_function *);
bool simnic_bridge_run_holds(struct simnic_thread *);
void simnic_bridge_give_up_holds(struct simnic_thread *);
void simnic_bridge_deliver(struct simnic_function *, struct dp_packet_batch *);

#endif /* simnic-private.h */
