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

#ifndef SIMNIC_H
#define SIMNIC_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "openvswitch/types.h"

struct dp_packet_batch;
struct dpif_flow_stats;
struct ds;
struct json;
struct match;
struct netdev;
struct nlattr;
struct seq;
struct simnic_switch;
struct smap;

/* Emulated SR-IOV NIC
 * ===================
 *
 * A network adapter in software, for machines that have none of the kind: it
 * has a physical function (PF), whose far end is the wire, and up to 128
 * virtual functions (VFs), whose far ends are in VMs.  (US 8,930,690,
 * figures 1, 2 and 4.)  It stands where a physical NIC stands: it sees every
 * frame of its VMs and of the wire first.
 *
 *     VM  ---link---  VF  --.                    .-- PF  ---link---  wire
 *                           |-- virtual bridge --|
 *     VM  ---link---  VF  --'    (flow table)    '
 *                                     | miss
 *                            representors of the functions
 *                                     |
 *                                Open vSwitch
 *
 * A frame from a link is looked up in the flow table.  On a hit the NIC acts
 * alone: it rewrites the frame and sends it out on the links that the flow's
 * actions name.  On a miss it passes the frame on by the function's
 * "representor", a network device of Open vSwitch's; what Open vSwitch sends
 * to that device goes out on the function's link.
 *
 * With the miss path "vm", the NIC instead hands a frame that misses back to
 * the VM's driver, which sends it again by its "synthetic path", which leads
 * to the same representor past the NIC.  A driver may hold a list of the
 * conditions, never the actions, of its VF's flows, and send by the synthetic
 * path at once what is not on it, which spares the NIC a miss.  Whatever a
 * driver does, the NIC judges each frame by its own table, and Open vSwitch
 * judges each frame that comes by the synthetic path by its own policy.
 *
 * The NIC knows nothing of the purpose of flows.  What it holds is for its
 * driver on the host to say, which is an offload provider.
 *
 *
 * Order
 * =====
 *
 * While frames of a connection are on their way through Open vSwitch, because
 * they missed, those that come after and hit are held back in the NIC until
 * Open vSwitch is done with these, so that they do not overtake them.  It is
 * done with a frame when it asks the representor for the next ones.  If that
 * takes more than 100 ms or SIMNIC_HOLD_MAX frames, or if another frame of the
 * connection misses, then the frames that are held go to Open vSwitch as well.
 * When a flow is deleted, all frames that it has forwarded are on the link
 * before the next frame is a miss.
 *
 *
 * Thread-safety
 * =============
 *
 * A NIC runs in threads of its own; each function belongs to one of them.
 *
 * simnic_run(), simnic_wait() and simnic_function_attach() are for the main
 * thread; simnic_configure(), simnic_unconfigure() and, for each function,
 * simnic_function_recv() for one thread at a time; the rest for any.
 * None of the NIC's threads ever waits for a lock that a caller may hold while
 * it deletes a flow.
 *
 *
 * Life cycle
 * ==========
 *
 * A NIC exists from when it is first named, by its configuration or by a
 * function, until neither is left; it runs once it has its configuration. */

#define SIMNIC_MAX_VFS 128
#define SIMNIC_MAX_FUNCTIONS (SIMNIC_MAX_VFS + 1)

/* Defaults and limits of the configuration. */
#define SIMNIC_DEFAULT_TABLE_SIZE 65536
#define SIMNIC_MAX_TABLE_SIZE (1 << 24)
#define SIMNIC_DEFAULT_IDLE_TIMEOUT 10  /* In seconds, as max-idle of Open
                                         * vSwitch. */
#define SIMNIC_MAX_THREADS 64

/* Frames of a connection that are held at most. */
#define SIMNIC_HOLD_MAX 256

struct simnic;                  /* An adapter. */
struct simnic_function;         /* A function of an adapter. */
struct simnic_flow;             /* A flow in the table of an adapter. */

enum simnic_miss_path {
    SIMNIC_MISS_HOST,           /* By the representor. */
    SIMNIC_MISS_VM,             /* Back to the VM's driver. */
};

struct simnic_config {
    unsigned int table_size;    /* In flows. */
    uint32_t caps;              /* Of SIMNIC_CAP_*. */
    enum simnic_miss_path miss_path;
    unsigned int idle_timeout;  /* In seconds, 0 for none. */
    unsigned int n_threads;
    bool driver_list;           /* Do VMs' drivers hold lists? */
};

/* Adapters. */
void simnic_config_init(struct simnic_config *);
void simnic_configure(const char *name, const struct simnic_config *);
void simnic_unconfigure(const char *name);
void simnic_run(void);
void simnic_wait(void);

struct simnic *simnic_ref(const struct simnic *);
void simnic_unref(struct simnic *);
const char *simnic_get_name(const struct simnic *);
bool simnic_get_config(const struct simnic *, struct simnic_config *);
struct seq *simnic_get_seq(const struct simnic *);
char *simnic_get_error(const char *name);
void simnic_get_status(const char *name, struct smap *);
void simnic_get_statistics(const char *name, struct smap *);

/* Functions. */
int simnic_function_from_name(const char *name);
char *simnic_function_attach(const char *nic, int index, const char *netdev,
                             const char *link_type,
                             const struct smap *link_options,
                             struct simnic_function **);
void simnic_function_detach(struct simnic_function *);
struct simnic *simnic_function_get_nic(const struct simnic_function *);
const char *simnic_function_get_name(const struct simnic_function *);
int simnic_function_get_index(const struct simnic_function *);

int simnic_function_recv(struct simnic_function *, struct dp_packet_batch *);
void simnic_function_recv_wait(struct simnic_function *);
void simnic_function_drain(struct simnic_function *);
void simnic_function_send(struct simnic_function *, struct dp_packet_batch *);

bool simnic_function_is_up(const struct simnic_function *);
int simnic_function_get_mtu(const struct simnic_function *);
const char *simnic_function_get_link_type(const struct simnic_function *);

/* Counters of a function, in frames unless the name says otherwise.  "From"
 * and "to" are from the point of view of what is at the function's far end.
 *
 * Of the frames from the link, each is counted as exactly one of hits,
 * misses_host, misses_vm, synthetic, held now (if it is), and rx_dropped.  A
 * frame that missed and that no queue took is only counted as dropped. */
enum simnic_drop {
    SIMNIC_DROP_LINK_DOWN,      /* The function's link is down. */
    SIMNIC_DROP_TX,             /* The link did not take it. */
    SIMNIC_DROP_HOST_QUEUE,     /* Open vSwitch does not keep up. */
    SIMNIC_DROP_RESET,          /* The NIC is being reset. */
    SIMNIC_DROP_INVALID,        /* The frame is too short. */
    SIMNIC_DROP_ACTION,         /* An action failed, such as an output to a
                                 * port that is gone; counted where the frame
                                 * came from. */
    SIMNIC_N_DROPS
};
struct simnic_function_stats {
    uint64_t from_link, from_link_bytes;
    uint64_t to_link, to_link_bytes;
    uint64_t hits, hit_bytes;   /* The NIC acted alone. */
    uint64_t misses_host;       /* Passed to Open vSwitch by the NIC. */
    uint64_t misses_vm;         /* Handed back to the VM's driver. */
    uint64_t synthetic;         /* Not on the driver's list. */
    uint64_t from_host;         /* Open vSwitch sent them. */
    uint64_t held;              /* Were held back for the sake of order. */
    uint64_t held_now;          /* Are held back. */
    uint64_t in_host;           /* Open vSwitch is not done with them yet. */
    uint64_t rx_dropped[SIMNIC_N_DROPS]; /* From the link. */
    uint64_t tx_dropped[SIMNIC_N_DROPS]; /* Instead of going to the link. */
};
void simnic_function_get_stats(const struct simnic_function *,
                               struct simnic_function_stats *);
const char *simnic_drop_to_string(enum simnic_drop);

/* The command interface, for the driver on the host.
 *
 * Flows concern a function once it is bound to a port of a datapath.  Until
 * then all its frames are misses. */
void simnic_function_bind(struct simnic_function *, odp_port_t,
                          const struct simnic_switch *);
void simnic_function_unbind(struct simnic_function *);

int simnic_flow_put(struct simnic *, const struct match *,
                    const struct nlattr *actions, size_t actions_len,
                    struct simnic_flow **);
int simnic_flow_modify(struct simnic_flow *, const struct nlattr *actions,
                       size_t actions_len);
void simnic_flow_del(struct simnic_flow *, struct dpif_flow_stats *);
bool simnic_flow_is_gone(const struct simnic_flow *);
void simnic_flow_get_stats(const struct simnic_flow *,
                           struct dpif_flow_stats *);
bool simnic_is_resetting(const struct simnic *);

/* What the driver counts with the NIC, for simnic_get_statistics(). */
enum simnic_event {
    SIMNIC_EV_PLACED,           /* A flow was put into the NIC. */
    SIMNIC_EV_EVICTED_IDLE,     /* It was not used for the idle timeout. */
    SIMNIC_EV_EVICTED_LRU,      /* It made room for one of its own VM. */
    SIMNIC_EV_EVICTED_SHARE,    /* It made room for another VM, as its own had
                                 * more than its share. */
    SIMNIC_EV_REFUSED,          /* Beyond the NIC's capabilities. */
    SIMNIC_EV_PUT_FAILED,       /* The NIC reported an error. */
    SIMNIC_EV_NO_ROOM,          /* The NIC was full. */
    SIMNIC_N_EVENTS
};
void simnic_count_event(struct simnic *, enum simnic_event);

/* Inspection and faults. */
void simnic_unixctl_init(void);

#endif /* simnic.h */
