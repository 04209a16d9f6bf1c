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

#include "layered/ofproto-layered/ofproto-layered.h"

#include <errno.h>
#include <limits.h>

#include "layered/ofproto-layered/layer-config.h"
#include "layered/ofproto-layered/layer-port.h"
#include "layered/ofproto-layered/layer-xlate.h"
#include "layered/ofproto-layered/layered-type.h"
#include "layered/ofproto-layered/nat-pool.h"
#include "layered/ofproto-layered/poll-share.h"
#include "layered/ofproto-layered/unified-answer.h"
#include "netdev.h"
#include "ofproto/ofproto-dpif-upcall.h"
#include "seq.h"
#include "simap.h"
#include "timeval.h"
#include "util.h"

#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"

VLOG_DEFINE_THIS_MODULE(ofproto_layered);

/* All layered bridges, 'list_node' of struct ofproto_layered. */
static struct ovs_list all_layered = OVS_LIST_INITIALIZER(&all_layered);

/* Filled in by ofproto_layered_register(), constant afterwards. */
static struct ofproto_class ofproto_layered_class;
static const struct ofproto_class *const base = &ofproto_dpif_class;

/* Returns the layered bridge that 'ofproto' is part of, or NULL if 'ofproto'
 * is not a layered bridge. */
struct ofproto_layered *
ofproto_layered_cast(const struct ofproto *ofproto)
{
    return (ofproto->ofproto_class == &ofproto_layered_class
            ? CONTAINER_OF(ofproto, struct ofproto_layered, up.up)
            : NULL);
}

/* Returns the list of all layered bridges, through 'list_node' of struct
 * ofproto_layered.  For the main thread. */
const struct ovs_list *
ofproto_layered_get_all(void)
{
    return &all_layered;
}

/* Policy in force.
 *
 * The configuration publishes policy, which new packets see at once.  For the
 * datapath's flows to follow, bridges need to have the hooks in place, and the
 * flows that the policy concerns need to be revalidated. */

/* How long, in ms, a new port waits for its policy, so that it need not drop
 * packets for a moment. */
#define POLICY_WAIT_MS 1000

static struct {
    int64_t cfg;                /* Open_vSwitch.next_cfg, */
    uint64_t version;           /* and policy that are in force. */

    /* Those that are about to be. */
    bool busy;
    struct layer_config_progress next;
} force;

/* The datapaths that have yet to revalidate flows. */
struct revalidation {
    struct ovs_list list_node;
    struct udpif *udpif;
    uint64_t seq;
};
static struct ovs_list revalidations
    = OVS_LIST_INITIALIZER(&revalidations);

/* Has 'layered' call the hooks if a port of it may need them. */
static void
update_hooks(struct ofproto_layered *layered)
{
    bool wanted = layer_bridge_needs_hooks(&layered->up);

    if (wanted != layered->hooked) {
        layered->hooked = wanted;
        if (wanted) {
            unified_answer_enable(layered->up.backer);
            poll_share_enable(layered->up.backer);
        }
        ofproto_dpif_set_xlate_hooks(&layered->up,
                                     wanted ? &layer_xlate_hooks : NULL);
    }
}

/* Returns true if 'r' is over, also because its datapath is no more. */
static bool
revalidation_is_done(const struct revalidation *r)
{
    struct shash_node *node;

    SHASH_FOR_EACH (node, &all_dpif_backers) {
        const struct dpif_backer *backer = node->data;

        if (backer->udpif == r->udpif) {
            return udpif_revalidate_stale_is_done(r->udpif, r->seq);
        }
    }
    return true;
}

/* Removes the revalidations that are over, or all of them. */
static void
forget_revalidations(bool all)
{
    struct revalidation *r;

    LIST_FOR_EACH_SAFE (r, list_node, &revalidations) {
        if (all || revalidation_is_done(r)) {
            ovs_list_remove(&r->list_node);
            free(r);
        }
    }
}

/* Begins to put the policy that has been published in force. */
static void
start_enforcing(const struct layer_config_progress *progress)
{
    struct ofproto_layered *layered;
    struct shash_node *node;

    force.busy = true;
    force.next = *progress;
    LIST_FOR_EACH (layered, list_node, &all_layered) {
        update_hooks(layered);
    }
    forget_revalidations(true);
    if (progress->version == force.version) {
        return;
    }
    SHASH_FOR_EACH (node, &all_dpif_backers) {
        const struct dpif_backer *backer = node->data;
        struct revalidation *r = xmalloc(sizeof *r);

        r->udpif = backer->udpif;
        r->seq = udpif_revalidate_stale(r->udpif);
        ovs_list_push_back(&revalidations, &r->list_node);
    }
}

/* Puts newly published policy in force, step by step.  What is published
 * meanwhile has to wait: if it were the reason to begin again, nothing would
 * ever be in force as long as the policy changes often. */
static void
run_policy(void)
{
    struct layer_config_progress progress = layer_config_get_progress();

    for (;;) {
        if (force.busy) {
            forget_revalidations(false);
            if (!ovs_list_is_empty(&revalidations)) {
                break;
            }
            force.cfg = force.next.next_cfg;
            force.version = force.next.version;
            force.busy = false;
        }
        if (!progress.loaded
            || (progress.next_cfg == force.cfg
                && progress.version == force.version)) {
            break;
        }
        start_enforcing(&progress);
    }
}

static void
wait_policy(void)
{
    struct revalidation *r;
    uint64_t seqno = seq_read(layer_config_seq());
    struct layer_config_progress progress = layer_config_get_progress();

    if (!force.busy && progress.loaded
        && (progress.next_cfg != force.cfg
            || progress.version != force.version)) {
        poll_immediate_wake();
    }
    seq_wait(layer_config_seq(), seqno);
    LIST_FOR_EACH (r, list_node, &revalidations) {
        if (revalidation_is_done(r)) {
            poll_immediate_wake();
        } else {
            struct seq *dump_seq = udpif_dump_seq(r->udpif);

            seqno = seq_read(dump_seq);
            if (revalidation_is_done(r)) {
                poll_immediate_wake();
            }
            seq_wait(dump_seq, seqno);
        }
    }
}

/* Has the datapath's flows follow what layers have forgotten.  For the main
 * thread. */
void
ofproto_layered_revalidate(void)
{
    struct shash_node *node;

    unified_answer_run();
    SHASH_FOR_EACH (node, &all_dpif_backers) {
        const struct dpif_backer *backer = node->data;

        udpif_revalidate_stale(backer->udpif);
    }
}

/* Returns true if the layers' configuration as of Open_vSwitch.next_cfg
 * 'next_cfg' is in force: published, its errors reported, and no packet
 * forwarded by any other policy any more.  For the main thread. */
bool
ofproto_layered_is_current(int64_t next_cfg)
{
    run_policy();
    return force.cfg >= next_cfg;
}

/* Arranges for poll_block() to wake up when ofproto_layered_is_current() may
 * have another answer. */
void
ofproto_layered_wait_current(void)
{
    wait_policy();
}

/* Waits a moment for the policy of 'iface' to be known.  Once that has been in
 * vain, waits for no other one either until something new is known, lest many
 * ports take many moments. */
static void
wait_for_iface_policy(const char *iface)
{
    static uint64_t seqno_in_vain;
    long long int deadline = time_wall_msec() + POLICY_WAIT_MS;

    while (!layer_iface_is_known(iface)) {
        uint64_t seqno = seq_read(layer_config_seq());

        if (time_wall_msec() >= deadline || seqno == seqno_in_vain) {
            VLOG_WARN("%s: policy not known yet, the port drops all packets "
                      "until it is", iface);
            seqno_in_vain = seqno;
            break;
        }
        if (!layer_iface_is_known(iface)) {
            seq_wait(layer_config_seq(), seqno);
            poll_timer_wait(10);
            poll_block();
        }
    }
}

/* Factory functions. */

static void
init(const struct shash *iface_hints OVS_UNUSED)
{
    /* ofproto calls the base's init() too, which keeps the hints.
     *
     * That it calls us means that there is no other ovs-vswitchd process that
     * works with the database. */
    layer_config_start();
}

static int
del(const char *type, const char *name)
{
    return base->del(layered_type_to_dpif_type(type), name);
}

static const char *
port_open_type(const char *datapath_type, const char *port_type)
{
    return base->port_open_type(layered_type_to_dpif_type(datapath_type),
                                port_type);
}

/* Type functions.
 *
 * ofproto calls the first group of these for each datapath type of each class.
 * A datapath belongs to its dpif type: as long as that is not claimed, it is
 * ofproto_dpif_class that is called for it. */

static int
type_run(const char *type)
{
    if (!strcmp(type, "layered")) {
        run_policy();
    }
    return layered_type_is_claimed(type) ? base->type_run(type) : 0;
}

static void
type_wait(const char *type)
{
    if (!strcmp(type, "layered")) {
        wait_policy();
    }
    if (layered_type_is_claimed(type)) {
        base->type_wait(type);
    }
}

/* Returns the number of connections of all ports. */
static size_t
count_connections(void)
{
    struct layer_port **ports = layer_ports_list();
    size_t n = 0;

    for (size_t i = 0; ports[i]; i++) {
        n += conn_table_count(ports[i]->conns);
    }
    layer_ports_list_free(ports);
    return n;
}

/* Adds 'n' things called 'name' to 'usage', unless there are none. */
static void
put_usage(struct simap *usage, const char *name, size_t n)
{
    if (n) {
        simap_increase(usage, name, MIN(n, UINT_MAX));
    }
}

static void
type_get_memory_usage(const char *type, struct simap *usage)
{
    if (!strcmp(type, "layered")) {
        struct layer_config_sizes sizes = layer_config_get_sizes();

        put_usage(usage, "layers", sizes.layers);
        put_usage(usage, "layer-groups", sizes.groups);
        put_usage(usage, "layer-rules", sizes.rules);
        if (sizes.rules) {
            put_usage(usage, "layer-rules-kB", sizes.memory / 1024);
            put_usage(usage, "layer-bytes-per-rule",
                      sizes.memory / sizes.rules);
        }
        put_usage(usage, "layer-addresses", sizes.addresses);
        put_usage(usage, "layer-connections", count_connections());
        put_usage(usage, "nat-tuples", nat_pool_count());

        struct unified_sizes unified = unified_answer_get_sizes();

        put_usage(usage, "unified-flows", unified.flows);
        put_usage(usage, "unified-routes", unified.routes);
    }
    if (layered_type_is_claimed(type)) {
        base->type_get_memory_usage(type, usage);
    }
}

static void
type_set_config(const char *type, const struct smap *other_config)
{
    if (layered_type_is_claimed(type)) {
        base->type_set_config(type, other_config);
    }
}

/* The following are for the rows of the Datapath table.  A user may name a
 * datapath by any of its types there. */

static void
get_datapath_cap(const char *type, struct smap *cap)
{
    base->get_datapath_cap(layered_type_to_dpif_type(type), cap);
}

static void
ct_set_zone_timeout_policy(const char *type, uint16_t zone,
                           struct simap *timeout_policy)
{
    base->ct_set_zone_timeout_policy(layered_type_to_dpif_type(type), zone,
                                     timeout_policy);
}

static void
ct_del_zone_timeout_policy(const char *type, uint16_t zone)
{
    base->ct_del_zone_timeout_policy(layered_type_to_dpif_type(type), zone);
}

static void
ct_zone_limit_update(const char *type, int32_t zone, int64_t *limit)
{
    base->ct_zone_limit_update(layered_type_to_dpif_type(type), zone, limit);
}

static void
ct_zone_limit_protection_update(const char *type, bool protected)
{
    base->ct_zone_limit_protection_update(layered_type_to_dpif_type(type),
                                          protected);
}

/* Life cycle of a bridge. */

static struct ofproto *
alloc(void)
{
    struct ofproto_layered *layered = xzalloc(sizeof *layered);

    return &layered->up.up;
}

static int
construct(struct ofproto *ofproto)
{
    struct ofproto_layered *layered = ofproto_layered_cast(ofproto);
    const char *dpif_type = layered_type_to_dpif_type(ofproto->type);
    int error;

    layered->up.dpif_type = dpif_type;
    error = base->construct(ofproto);
    if (error) {
        if (strcmp(ofproto->type, dpif_type)) {
            VLOG_ERR("%s: datapath type \"%s\" needs a datapath of type "
                     "\"%s\", which cannot be opened: %s", ofproto->name,
                     ofproto->type, dpif_type, ovs_strerror(error));
        }
        return error;
    }

    ovs_list_push_back(&all_layered, &layered->list_node);
    return 0;
}

static void
destruct(struct ofproto *ofproto, bool del_)
{
    struct ofproto_layered *layered = ofproto_layered_cast(ofproto);

    ovs_list_remove(&layered->list_node);
    if (layered->up.backer->refcount == 1) {
        /* It is about to be closed. */
        poll_share_disable(layered->up.backer);
        unified_answer_disable(layered->up.backer);
    }
    base->destruct(ofproto, del_);
}

static void
dealloc(struct ofproto *ofproto)
{
    free(ofproto_layered_cast(ofproto));
}

/* Ports. */

static const struct ofport_dpif *
get_ofport_dpif(const struct ofport *port)
{
    return ofp_port_to_ofport(&ofproto_layered_cast(port->ofproto)->up,
                              port->ofp_port);
}

static int
port_construct(struct ofport *port)
{
    struct ofproto_layered *layered = ofproto_layered_cast(port->ofproto);
    const char *name = netdev_get_name(port->netdev);

    wait_for_iface_policy(name);
    layer_port_create(name, get_ofport_dpif(port), &layered->up,
                      port->ofp_port);
    update_hooks(layered);

    int error = base->port_construct(port);
    if (error) {
        layer_port_destroy(get_ofport_dpif(port));
    }
    return error;
}

static void
port_destruct(struct ofport *port, bool del_)
{
    const struct ofport_dpif *ofport = get_ofport_dpif(port);

    base->port_destruct(port, del_);
    layer_port_destroy(ofport);
    update_hooks(ofproto_layered_cast(port->ofproto));
}

/* Registers the class of layered bridges.  Must be called once, by the main
 * thread, after layered_type_init() and before ofproto_init(), so that a
 * claimed type is found here ahead of ofproto_dpif_class. */
void
ofproto_layered_register(void)
{
    struct ofproto_class *class = &ofproto_layered_class;

    *class = *base;
    class->base = base;

    class->init = init;
    class->enumerate_types = layered_type_enumerate;
    class->del = del;
    class->port_open_type = port_open_type;

    class->type_run = type_run;
    class->type_wait = type_wait;
    class->type_get_memory_usage = type_get_memory_usage;
    class->type_set_config = type_set_config;

    class->get_datapath_cap = get_datapath_cap;
    class->ct_set_zone_timeout_policy = ct_set_zone_timeout_policy;
    class->ct_del_zone_timeout_policy = ct_del_zone_timeout_policy;
    class->ct_zone_limit_update = ct_zone_limit_update;
    class->ct_zone_limit_protection_update = ct_zone_limit_protection_update;

    class->alloc = alloc;
    class->construct = construct;
    class->destruct = destruct;
    class->dealloc = dealloc;

    class->port_construct = port_construct;
    class->port_destruct = port_destruct;

    ofproto_class_register(class);
}
