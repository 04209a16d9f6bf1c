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

#include "layered/lib/dpif-offload-simnic.h"

#include <errno.h>

#include "dpif.h"
#include "dpif-offload.h"
#include "dpif-offload-provider.h"
#include "layered/lib/netdev-simnic.h"
#include "layered/lib/simnic-driver.h"
#include "layered/lib/simnic-switch.h"
#include "netdev-provider.h"
#include "netdev-vport.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/json.h"
#include "openvswitch/list.h"
#include "openvswitch/ofp-meter.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "smap.h"
#include "util.h"

/* The provider of a datapath. */
struct simnic_offload {
    struct dpif_offload offload;
    struct ovs_list node;       /* In 'offloads'. */
    char *dpif_name;
    struct simnic_driver *driver;
    struct ovsthread_once once_enable;
};

struct simnic_port {
    struct dpif_offload_port pm_port;
    struct simnic_driver_port driver_port;
};

/* All providers, for dpif_offload_simnic_why(). */
static struct ovs_mutex offloads_mutex = OVS_MUTEX_INITIALIZER;
static struct ovs_list offloads OVS_GUARDED_BY(offloads_mutex)
    = OVS_LIST_INITIALIZER(&offloads);

static struct simnic_offload *
simnic_offload_cast(const struct dpif_offload *offload)
{
    return CONTAINER_OF(offload, struct simnic_offload, offload);
}

static struct simnic_port *
simnic_port_cast(struct dpif_offload_port *port)
{
    return CONTAINER_OF(port, struct simnic_port, pm_port);
}

static int
simnic_offload_open(const struct dpif_offload_class *class,
                    struct dpif *dpif, struct dpif_offload **offloadp)
{
    struct simnic_offload *o = xzalloc(sizeof *o);

    dpif_offload_init(&o->offload, class, dpif);
    o->once_enable = (struct ovsthread_once) OVSTHREAD_ONCE_INITIALIZER;
    o->dpif_name = xstrdup(dpif_name(dpif));
    o->driver = simnic_driver_create();

    ovs_mutex_lock(&offloads_mutex);
    ovs_list_push_back(&offloads, &o->node);
    ovs_mutex_unlock(&offloads_mutex);

    *offloadp = &o->offload;
    return 0;
}

/* Ports
 * ===== */

/* The provider takes the representors of functions, and tunnels, whose headers
 * a NIC can add and remove. */
static bool
simnic_offload_can_offload(struct dpif_offload *offload OVS_UNUSED,
                           struct netdev *netdev)
{
    return (netdev_is_simnic(netdev)
            || (netdev_vport_is_vport_class(netdev->netdev_class)
                && netdev->netdev_class->pop_header != NULL));
}

static void
enable_port(struct dpif_offload *offload, struct dpif_offload_port *port)
{
    atomic_store_relaxed(&port->netdev->hw_info.post_process_api_supported,
                         true);
    dpif_offload_set_netdev_offload(port->netdev, offload);
}

static int simnic_offload_port_del(struct dpif_offload *, odp_port_t);

static int
simnic_offload_port_add(struct dpif_offload *offload, struct netdev *netdev,
                        odp_port_t port_no)
{
    struct simnic_offload *o = simnic_offload_cast(offload);
    struct dpif_offload_port *old;
    struct simnic_port *port;

    if (dpif_offload_port_mgr_find_by_odp_port(offload, port_no)) {
        return EEXIST;
    }
    old = dpif_offload_port_mgr_find_by_netdev(offload, netdev);
    if (old) {
        if (netdev_is_simnic(netdev)) {
            return EEXIST;
        }
        /* A tunnel that gets another number, because its UDP port changes, is
         * added by the new one before it is deleted by the old one. */
        simnic_offload_port_del(offload, old->port_no);
    }

    /* The port must be complete before PMD threads can find it. */
    port = xzalloc(sizeof *port);
    simnic_driver_add_port(o->driver, &port->driver_port, port_no, netdev);
    if (!dpif_offload_port_mgr_add(offload, &port->pm_port, netdev, port_no,
                                   false)) {
        simnic_driver_remove_port(o->driver, &port->driver_port);
        ovsrcu_postpone(free, port);
        return EEXIST;
    }
    if (dpif_offload_enabled()) {
        enable_port(offload, &port->pm_port);
    }
    return 0;
}

static void
free_port(struct simnic_port *port)
{
    netdev_close(port->pm_port.netdev);
    free(port);
}

static int
simnic_offload_port_del(struct dpif_offload *offload, odp_port_t port_no)
{
    struct simnic_offload *o = simnic_offload_cast(offload);
    struct dpif_offload_port *pm_port;

    pm_port = dpif_offload_port_mgr_remove(offload, port_no);
    if (pm_port) {
        struct simnic_port *port = simnic_port_cast(pm_port);

        if (dpif_offload_enabled()) {
            dpif_offload_set_netdev_offload(pm_port->netdev, NULL);
        }
        simnic_driver_remove_port(o->driver, &port->driver_port);
        ovsrcu_postpone(free_port, port);
    }
    return 0;
}

static void
simnic_offload_port_set_config(struct dpif_offload *offload,
                               odp_port_t port_no,
                               const struct smap *cfg OVS_UNUSED)
{
    struct simnic_offload *o = simnic_offload_cast(offload);
    struct dpif_offload_port *port;

    port = dpif_offload_port_mgr_find_by_odp_port(offload, port_no);
    if (port) {
        simnic_driver_update_port(o->driver,
                                  &simnic_port_cast(port)->driver_port);
    }
}

static struct netdev *
simnic_offload_get_netdev(const struct dpif_offload *offload,
                          odp_port_t port_no)
{
    struct dpif_offload_port *port;

    port = dpif_offload_port_mgr_find_by_odp_port(offload, port_no);
    return port ? port->netdev : NULL;
}

static void
simnic_offload_close(struct dpif_offload *offload)
{
    struct simnic_offload *o = simnic_offload_cast(offload);
    struct dpif_offload_port *port;

    ovs_mutex_lock(&offloads_mutex);
    ovs_list_remove(&o->node);
    ovs_mutex_unlock(&offloads_mutex);

    /* Some ports, especially internal ones, may not have been deleted. */
    DPIF_OFFLOAD_PORT_FOR_EACH (port, offload) {
        simnic_offload_port_del(offload, port->port_no);
    }
    simnic_driver_destroy(o->driver);
    ovsthread_once_destroy(&o->once_enable);
    dpif_offload_destroy(offload);
    free(o->dpif_name);
    free(o);
}

static void
simnic_offload_set_config(struct dpif_offload *offload,
                          const struct smap *other_config)
{
    struct simnic_offload *o = simnic_offload_cast(offload);

    if (smap_get_bool(other_config, "hw-offload", false)
        && ovsthread_once_start(&o->once_enable)) {
        struct dpif_offload_port *port;

        DPIF_OFFLOAD_PORT_FOR_EACH (port, offload) {
            enable_port(offload, port);
        }
        ovsthread_once_done(&o->once_enable);
    }
}

/* Flows
 * ===== */

static int
simnic_offload_flow_put(const struct dpif_offload *offload,
                        struct netdev *netdev OVS_UNUSED,
                        struct dpif_offload_flow_put *put,
                        void **previous_flow_reference)
{
    return simnic_driver_put(simnic_offload_cast(offload)->driver, put,
                             previous_flow_reference);
}

static int
simnic_offload_flow_del(const struct dpif_offload *offload,
                        struct netdev *netdev OVS_UNUSED,
                        struct dpif_offload_flow_del *del)
{
    return simnic_driver_del(simnic_offload_cast(offload)->driver, del);
}

static bool
simnic_offload_flow_stats(const struct dpif_offload *offload,
                          struct netdev *netdev OVS_UNUSED,
                          const ovs_u128 *ufid, struct dpif_flow_stats *stats,
                          struct dpif_flow_attrs *attrs)
{
    return simnic_driver_get_stats(simnic_offload_cast(offload)->driver, ufid,
                                   stats, attrs);
}

static int
simnic_offload_flow_flush(const struct dpif_offload *offload)
{
    simnic_driver_flush(simnic_offload_cast(offload)->driver);
    return 0;
}

static uint64_t
simnic_offload_flow_count(const struct dpif_offload *offload)
{
    uint64_t n_in, n_known;

    simnic_driver_count(simnic_offload_cast(offload)->driver, &n_in, &n_known);
    return n_in;
}

static void
simnic_offload_register_flow_unreference_cb(
    const struct dpif_offload *offload, dpif_offload_flow_unreference_cb *cb)
{
    simnic_driver_set_unreference_cb(simnic_offload_cast(offload)->driver, cb);
}

/* Nothing is to be done to a packet that missed: the NIC passes it on as it
 * came.  But the driver wants to know of it. */
static int
simnic_offload_hw_post_process(const struct dpif_offload *offload,
                               struct netdev *netdev,
                               unsigned int pmd_id OVS_UNUSED,
                               struct dp_packet *packet,
                               void **flow_reference)
{
    struct dpif_offload_port *port;

    *flow_reference = NULL;
    port = dpif_offload_port_mgr_find_by_netdev(offload, netdev);
    if (OVS_LIKELY(port)) {
        simnic_driver_saw_packet(simnic_offload_cast(offload)->driver,
                                 &simnic_port_cast(port)->driver_port, packet);
    }
    return 0;
}

/* Meters
 * ====== */

static struct simnic_switch *
get_switch(const struct dpif_offload *offload)
{
    return simnic_driver_get_switch(simnic_offload_cast(offload)->driver);
}

static int
simnic_offload_meter_set(const struct dpif_offload *offload,
                         ofproto_meter_id meter_id,
                         struct ofputil_meter_config *config)
{
    return simnic_switch_meter_set(get_switch(offload), meter_id, config);
}

static int
simnic_offload_meter_get(const struct dpif_offload *offload,
                         ofproto_meter_id meter_id,
                         struct ofputil_meter_stats *stats)
{
    return simnic_switch_meter_get(get_switch(offload), meter_id, stats);
}

static int
simnic_offload_meter_del(const struct dpif_offload *offload,
                         ofproto_meter_id meter_id,
                         struct ofputil_meter_stats *stats)
{
    return simnic_switch_meter_del(get_switch(offload), meter_id, stats);
}

/* Inspection
 * ========== */

static void
simnic_offload_get_debug(const struct dpif_offload *offload, struct ds *ds,
                         struct json *json)
{
    struct simnic_driver *driver = simnic_offload_cast(offload)->driver;

    if (json) {
        uint64_t n_in, n_known;

        simnic_driver_count(driver, &n_in, &n_known);
        json_object_put(json, "offloaded_flows", json_integer_create(n_in));
        json_object_put(json, "known_flows", json_integer_create(n_known));
    } else if (ds) {
        simnic_driver_format(driver, ds);
    }
}

static bool
simnic_offload_is_unused(const struct dpif_offload *offload)
{
    return !simnic_driver_has_nics(simnic_offload_cast(offload)->driver);
}

static int
simnic_offload_get_global_stats(const struct dpif_offload *offload,
                                struct netdev_custom_stats *stats)
{
    uint64_t n_in, n_known;

    simnic_driver_count(simnic_offload_cast(offload)->driver, &n_in, &n_known);
    stats->label = xstrdup(dpif_offload_name(offload));
    stats->size = 3;
    stats->counters = xcalloc(stats->size, sizeof *stats->counters);
    ovs_strzcpy(stats->counters[0].name, "Offloaded port count",
                sizeof stats->counters[0].name);
    stats->counters[0].value = dpif_offload_port_mgr_port_count(offload);
    ovs_strzcpy(stats->counters[1].name, "Offloaded flow count",
                sizeof stats->counters[1].name);
    stats->counters[1].value = n_in;
    ovs_strzcpy(stats->counters[2].name, "Candidate flow count",
                sizeof stats->counters[2].name);
    stats->counters[2].value = n_known;
    return 0;
}

char *
dpif_offload_simnic_why(const char *dpif_name_, const struct match *match,
                        const struct nlattr *actions, size_t actions_len)
{
    struct simnic_offload *o;
    char *reason = NULL;

    ovs_mutex_lock(&offloads_mutex);
    LIST_FOR_EACH (o, node, &offloads) {
        if (!strcmp(o->dpif_name, dpif_name_)) {
            reason = simnic_driver_why(o->driver, match, actions, actions_len);
            break;
        }
    }
    ovs_mutex_unlock(&offloads_mutex);
    return reason;
}

static const struct dpif_offload_class dpif_offload_simnic_class = {
    .type = "simnic",
    .impl_type = DPIF_OFFLOAD_IMPL_FLOWS_DPIF_SYNCED,
    .supported_dpif_types = (const char *const[]) { "netdev", "dummy", NULL },
    .open = simnic_offload_open,
    .close = simnic_offload_close,
    .set_config = simnic_offload_set_config,
    .get_debug = simnic_offload_get_debug,
    .is_unused = simnic_offload_is_unused,
    .get_global_stats = simnic_offload_get_global_stats,
    .can_offload = simnic_offload_can_offload,
    .port_add = simnic_offload_port_add,
    .port_del = simnic_offload_port_del,
    .port_set_config = simnic_offload_port_set_config,
    .flow_flush = simnic_offload_flow_flush,
    .flow_count = simnic_offload_flow_count,
    .meter_set = simnic_offload_meter_set,
    .meter_get = simnic_offload_meter_get,
    .meter_del = simnic_offload_meter_del,
    .get_netdev = simnic_offload_get_netdev,
    .netdev_hw_post_process = simnic_offload_hw_post_process,
    .netdev_flow_put = simnic_offload_flow_put,
    .netdev_flow_del = simnic_offload_flow_del,
    .netdev_flow_stats = simnic_offload_flow_stats,
    .register_flow_unreference_cb
        = simnic_offload_register_flow_unreference_cb,
};

/* Registers the class.  Must be called before any datapath is opened. */
void
dpif_offload_simnic_register(void)
{
    dpif_offload_register_provider(&dpif_offload_simnic_class);
}
