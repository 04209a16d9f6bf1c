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


#include <config.h>

#include "layered/lib/simnic-driver-private.h"

#include <errno.h>
#include <string.h>

#include "layered/lib/netdev-simnic.h"
#include "layered/lib/simnic-switch.h"
#include "netdev.h"
#include "odp-util.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/poll-loop.h"
#include "ovs-rcu.h"
#include "seq.h"
#include "timeval.h"
#include "util.h"

/* How often the driver's thread looks after things, in ms.  Short enough that
 * a flow that comes to life again is soon in the NIC, long enough to cost
 * nothing. */
#define RUN_INTERVAL 250

/* Flows that the driver's thread puts or takes out in one go, so that it does
 * not keep others waiting for long. */
#define RUN_MAX 1024

static void *simnic_driver_main(void *);

/* NICs and ports
 * ============== */

static struct driver_nic *
nic_ref(struct simnic_driver *d, struct simnic *simnic)
    OVS_REQUIRES(d->mutex)
{
    struct driver_nic *nic;

    LIST_FOR_EACH (nic, node, &d->nics) {
        if (nic->nic == simnic) {
            nic->n_ports++;
            return nic;
        }
    }

    nic = xzalloc(sizeof *nic);
    nic->nic = simnic_ref(simnic);
    nic->n_ports = 1;
    nic->seqno = seq_read(simnic_get_seq(simnic));
    nic->configured = simnic_get_config(simnic, &nic->config);
    nic->placement = simnic_placement_create(
        nic->configured ? nic->config.table_size : 0, driver_candidate_used);
    ovs_list_init(&nic->entries);
    ovs_list_push_back(&d->nics, &nic->node);
    return nic;
}

static void
nic_unref(struct simnic_driver *d, struct driver_nic *nic,
          struct released *released)
    OVS_REQUIRES(d->mutex)
{
    if (!--nic->n_ports) {
        struct entry *e;

        /* Flows from tunnels may be left. */
        LIST_FOR_EACH_SAFE (e, nic_node, &nic->entries) {
            driver_destroy_entry(d, e, released);
        }
        ovs_list_remove(&nic->node);
        simnic_placement_destroy(nic->placement);
        simnic_unref(nic->nic);
        free(nic);
    }
}

/* Checks all flows of 'nic' against its capabilities and ports again. */
static void
recheck(struct simnic_driver *d, struct driver_nic *nic)
    OVS_REQUIRES(d->mutex)
{
    struct entry *e;

    LIST_FOR_EACH (e, nic_node, &nic->entries) {
        driver_set_refused(d, e, driver_check_entry(d, e));
    }
}

static void
recheck_all(struct simnic_driver *d)
    OVS_REQUIRES(d->mutex)
{
    struct driver_nic *nic;

    LIST_FOR_EACH (nic, node, &d->nics) {
        recheck(d, nic);
    }
}

/* Ends the relation of 'port' with its function. */
static void
unbind_port(struct simnic_driver *d, struct simnic_driver_port *port,
            struct released *released)
    OVS_REQUIRES(d->mutex)
{
    struct driver_nic *nic = port->nic;
    struct entry *e;

    HMAP_FOR_EACH_SAFE (e, node, &d->entries) {
        if (e->port == port) {
            driver_destroy_entry(d, e, released);
        }
    }
    simnic_switch_remove_port(d->sw, port->port_no);
    port->function = NULL;
    port->nic = NULL;
    recheck_all(d);
    if (nic) {
        nic_unref(d, nic, released);
    }
}

static void
bind_port(struct simnic_driver *d, struct simnic_driver_port *port)
    OVS_REQUIRES(d->mutex)
{
    if (port->tunnel) {
        simnic_switch_add_tunnel(d->sw, port->port_no, port->netdev);
    } else {
        struct simnic_function *function;

        function = netdev_simnic_get_function(port->netdev);
        if (!function) {
            return;
        }
        port->function = function;
        port->index = simnic_function_get_index(function);
        port->nic = nic_ref(d, simnic_function_get_nic(function));
        bitmap_set(port->nic->down, port->index,
                   !simnic_function_is_up(function));
        simnic_switch_add_function(d->sw, port->port_no, function);
        simnic_function_bind(function, port->port_no, d->sw);
    }
    recheck_all(d);
}

/* Makes 'netdev', a representor or a tunnel, the port 'port_no'.  The caller
 * keeps a reference to 'netdev' until it has removed the port. */
void
simnic_driver_add_port(struct simnic_driver *d,
                       struct simnic_driver_port *port, odp_port_t port_no,
                       struct netdev *netdev)
{
    port->port_no = port_no;
    port->netdev = netdev;
    port->tunnel = !netdev_is_simnic(netdev);
    port->function = NULL;
    port->nic = NULL;
    port->index = 0;
    atomic_init(&port->n_outside, 0);

    ovs_mutex_lock(&d->mutex);
    ovs_list_push_back(&d->ports, &port->node);
    bind_port(d, port);
    ovs_mutex_unlock(&d->mutex);

    if (!port->tunnel && !d->running) {
        d->running = true;
        d->thread = ovs_thread_create("simnic_driver", simnic_driver_main, d);
    }
}

/* Undoes simnic_driver_add_port(): forgets the flows that come from 'port',
 * and takes those out of NICs that go there. */
void
simnic_driver_remove_port(struct simnic_driver *d,
                          struct simnic_driver_port *port)
{
    struct released released = { NULL, 0, 0 };
    struct simnic_function *function;

    ovs_mutex_lock(&d->mutex);
    function = (port->tunnel ? NULL
                : netdev_simnic_get_function(port->netdev));
    if (function && function == port->function) {
        simnic_function_unbind(function);
    }
    ovs_list_remove(&port->node);
    unbind_port(d, port, &released);
    driver_release(d, &released);
    ovs_mutex_unlock(&d->mutex);
}

/* Finds out whether 'port' has become another function by configuration. */
void
simnic_driver_update_port(struct simnic_driver *d,
                          struct simnic_driver_port *port)
{
    struct released released = { NULL, 0, 0 };

    ovs_mutex_lock(&d->mutex);
    if (!port->tunnel
        && netdev_simnic_get_function(port->netdev) != port->function) {
        unbind_port(d, port, &released);
        bind_port(d, port);
    }
    driver_release(d, &released);
    ovs_mutex_unlock(&d->mutex);
}

/* The driver's thread
 * =================== */

/* Notes changes of the configuration of 'nic', and flows that are gone by a
 * reset. */
static void
run_changes(struct simnic_driver *d, struct driver_nic *nic,
            long long int now)
    OVS_REQUIRES(d->mutex)
{
    uint64_t seqno = seq_read(simnic_get_seq(nic->nic));
    struct simnic_config config;
    bool configured;
    struct entry *e;

    if (seqno == nic->seqno) {
        return;
    }
    nic->seqno = seqno;

    configured = simnic_get_config(nic->nic, &config);
    if (configured) {
        bool caps = (nic->configured != configured
                     || nic->config.caps != config.caps);

        nic->config = config;
        nic->configured = true;
        if (caps) {
            recheck(d, nic);
        }
    } else {
        nic->configured = false;
    }
    simnic_placement_set_table_size(nic->placement,
                                    configured ? config.table_size : 0);

    LIST_FOR_EACH (e, nic_node, &nic->entries) {
        if (e->flow && simnic_flow_is_gone(e->flow)) {
            driver_take_out(e);
            e->error = EAGAIN;
            simnic_placement_leave(nic->placement, &e->candidate);
            simnic_placement_demand(nic->placement, &e->candidate, now);
            driver_watch_create(d, e);
        }
    }
}

/* Notes links that have gone down or come up. */
static void
run_links(struct simnic_driver *d, struct driver_nic *nic)
    OVS_REQUIRES(d->mutex)
{
    unsigned long int down[BITMAP_N_LONGS(SIMNIC_MAX_FUNCTIONS)] = { 0 };
    struct simnic_driver_port *port;
    struct entry *e;

    LIST_FOR_EACH (port, node, &d->ports) {
        if (port->nic == nic) {
            const struct simnic_function *function;

            function = netdev_simnic_get_function(port->netdev);
            bitmap_set(down, port->index, (function != port->function
                                           || !function
                                           || !simnic_function_is_up(
                                               function)));
        }
    }
    if (!bitmap_equal(down, nic->down, SIMNIC_MAX_FUNCTIONS)) {
        memcpy(nic->down, down, sizeof nic->down);
        LIST_FOR_EACH (e, nic_node, &nic->entries) {
            driver_update_entry(d, e);
        }
    }
}

static void
run_placement(struct simnic_driver *d, struct driver_nic *nic,
              long long int now)
    OVS_REQUIRES(d->mutex)
{
    struct simnic_placement *p = nic->placement;
    struct simnic_candidate *c;

    while ((c = simnic_placement_find_surplus(p)) != NULL) {
        driver_evict(d, entry_from_candidate(c), SIMNIC_EV_EVICTED_LRU);
    }
    if (nic->config.idle_timeout) {
        long long int before = now - nic->config.idle_timeout * 1000LL;

        for (size_t i = 0; i < RUN_MAX; i++) {
            c = simnic_placement_find_idle(p, before);
            if (!c) {
                break;
            }
            driver_evict(d, entry_from_candidate(c), SIMNIC_EV_EVICTED_IDLE);
        }
    }

    simnic_placement_start_round(p, now);
    for (size_t i = 0; i < RUN_MAX; i++) {
        c = simnic_placement_next(p);
        if (!c) {
            break;
        }
        driver_may_enter(d, entry_from_candidate(c), now);
    }
}

static void *
simnic_driver_main(void *d_)
{
    struct simnic_driver *d = d_;

    while (!latch_is_set(&d->exit_latch)) {
        long long int now = time_msec();
        struct driver_nic *nic;

        ovs_mutex_lock(&d->mutex);
        driver_process_demand(d);
        LIST_FOR_EACH (nic, node, &d->nics) {
            run_changes(d, nic, now);
            run_links(d, nic);
            run_placement(d, nic, now);
            seq_wait(simnic_get_seq(nic->nic), nic->seqno);
        }
        ovs_mutex_unlock(&d->mutex);

        latch_wait(&d->exit_latch);
        poll_timer_wait(RUN_INTERVAL);
        poll_block();
    }
    return NULL;
}

/* Life and inspection
 * =================== */

/* Returns a new driver without ports.  The caller must destroy it. */
struct simnic_driver *
simnic_driver_create(void)
{
    struct simnic_driver *d = xzalloc(sizeof *d);

    d->sw = simnic_switch_create();
    ovs_mutex_init(&d->mutex);
    ovs_mutex_lock(&d->mutex);
    ovs_list_init(&d->ports);
    ovs_list_init(&d->nics);
    hmap_init(&d->entries);
    ovs_mutex_unlock(&d->mutex);
    classifier_init(&d->outside, NULL);
    atomic_init(&d->n_tunnel_outside, 0);
    mpsc_queue_init(&d->demand);
    latch_init(&d->exit_latch);
    return d;
}

static void
free_driver(struct simnic_driver *d)
{
    ovs_mutex_lock(&d->mutex);
    driver_process_demand(d);
    hmap_destroy(&d->entries);
    ovs_mutex_unlock(&d->mutex);
    ovs_mutex_destroy(&d->mutex);
    mpsc_queue_destroy(&d->demand);
    classifier_destroy(&d->outside);
    latch_destroy(&d->exit_latch);
    free(d);
}

/* Destroys 'd', which must not have ports any more, once no PMD thread can be
 * using it. */
void
simnic_driver_destroy(struct simnic_driver *d)
{
    if (d->running) {
        latch_set(&d->exit_latch);
        xpthread_join(d->thread, NULL);
    }
    simnic_driver_flush(d);
    simnic_switch_destroy(d->sw);
    ovsrcu_postpone(free_driver, d);
}

/* Sets what to call for a reference that the driver lets go of its own
 * accord. */
void
simnic_driver_set_unreference_cb(struct simnic_driver *d,
                                 dpif_offload_flow_unreference_cb *cb)
{
    d->unreference_cb = cb;
}

/* Returns the ports and meters of 'd', which owns them. */
struct simnic_switch *
simnic_driver_get_switch(const struct simnic_driver *d)
{
    return d->sw;
}

/* Returns true if a port of 'd' is a function of a NIC. */
bool
simnic_driver_has_nics(struct simnic_driver *d)
{
    bool any;

    ovs_mutex_lock(&d->mutex);
    any = !ovs_list_is_empty(&d->nics);
    ovs_mutex_unlock(&d->mutex);
    return any;
}

/* Stores in '*n_in' the number of flows that are in NICs, and in '*n_known'
 * the number of all that the driver knows. */
void
simnic_driver_count(struct simnic_driver *d, uint64_t *n_in,
                    uint64_t *n_known)
{
    struct driver_nic *nic;

    ovs_mutex_lock(&d->mutex);
    *n_in = 0;
    *n_known = hmap_count(&d->entries);
    LIST_FOR_EACH (nic, node, &d->nics) {
        *n_in += simnic_placement_n_in(nic->placement);
    }
    ovs_mutex_unlock(&d->mutex);
}

/* Appends a description of the NICs and their accounts to 'ds'. */
void
simnic_driver_format(struct simnic_driver *d, struct ds *ds)
{
    struct driver_nic *nic;

    ovs_mutex_lock(&d->mutex);
    LIST_FOR_EACH (nic, node, &d->nics) {
        ds_put_format(ds, "  - %s: ports:%"PRIuSIZE" flows:%"PRIuSIZE
                      " in:%u share:%u\n", simnic_get_name(nic->nic),
                      nic->n_ports, ovs_list_size(&nic->entries),
                      simnic_placement_n_in(nic->placement),
                      simnic_placement_share(nic->placement));
        simnic_placement_format(nic->placement, ds);
    }
    ovs_mutex_unlock(&d->mutex);
}

/* Returns the entry of the flow that matches 'match'. */
static struct entry *
find_entry_by_match(const struct driver_nic *nic, const struct match *match)
{
    struct minimatch minimatch;
    struct entry *e, *found = NULL;

    minimatch_init(&minimatch, match);
    LIST_FOR_EACH (e, nic_node, &nic->entries) {
        if (minimatch_equal(&e->match, &minimatch)) {
            found = e;
            break;
        }
    }
    minimatch_destroy(&minimatch);
    return found;
}

static char *
why_not_in(const struct entry *e)
{
    const char *nic = simnic_get_name(e->nic->nic);

    if (e->flow) {
        return (simnic_flow_is_gone(e->flow)
                ? xasprintf("%s is being reset", nic) : NULL);
    }
    if (e->error == EAGAIN) {
        return xasprintf("%s is being reset", nic);
    }
    if (e->error) {
        return xasprintf("put failed: %s", ovs_strerror(e->error));
    }
    if (e->candidate.place == SIMNIC_PLACE_WAITING
        && e->candidate.verdict <= SIMNIC_V_REPLACE_OTHER) {
        return xstrdup("about to be put");
    }
    return xstrdup(simnic_verdict_to_string(e->candidate.verdict));
}

static char *
why(struct simnic_driver *d, const struct match *match,
    const struct nlattr *actions, size_t actions_len)
    OVS_REQUIRES(d->mutex)
{
    odp_port_t in_port = match->flow.in_port.odp_port;
    const struct simnic_driver_port *port = driver_find_port(d, in_port);
    struct driver_nic *nic;
    struct entry *e;
    char *reason;
    size_t down;

    if (!port || (!port->tunnel && !port->nic)) {
        return NULL;
    }
    if (!dpif_offload_enabled()) {
        return xstrdup("hw-offload is off");
    }
    nic = driver_find_flow_nic(d, in_port, ODPP_NONE, actions, actions_len);
    if (!nic) {
        return xstrdup("none of its ports is a function of a NIC");
    }
    if (!nic->configured) {
        return xasprintf("%s is not configured", simnic_get_name(nic->nic));
    }
    reason = driver_check_flow(d, nic, match, actions, actions_len);
    if (reason) {
        return reason;
    }
    e = find_entry_by_match(nic, match);
    if (!e) {
        return xstrdup("not put since hw-offload is on");
    }
    down = driver_find_down(e->functions, nic);
    if (down < SIMNIC_MAX_FUNCTIONS) {
        return (down
                ? xasprintf("link of vf%"PRIuSIZE" is down", down - 1)
                : xstrdup("link of pf0 is down"));
    }
    return e->refused ? xstrdup(e->refused) : why_not_in(e);
}

/* Returns why the flow that matches 'match' and has the 'actions_len' bytes of
 * 'actions' is not in a NIC, as a string that the caller frees, or NULL if it
 * is in one or does not come from one. */
char *
simnic_driver_why(struct simnic_driver *d, const struct match *match,
                  const struct nlattr *actions, size_t actions_len)
{
    char *reason;

    ovs_mutex_lock(&d->mutex);
    reason = why(d, match, actions, actions_len);
    ovs_mutex_unlock(&d->mutex);
    return reason;
}
