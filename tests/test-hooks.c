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


/* Tests the hooks that vswitchd-patch/ adds to Open vSwitch, from inside an
 * ovs-vswitchd: "test-hooks/..." commands attach hooks to a bridge that do
 * simple things to packets, and show what they were called for. */

#include <config.h>

#include "dpif-netdev.h"
#include "dpif-offload.h"
#include "dpif-offload-provider.h"
#include "flow.h"
#include "netlink.h"
#include "ofproto/ofproto-dpif.h"
#include "ofproto/ofproto-dpif-trace.h"
#include "ofproto/ofproto-dpif-upcall.h"
#include "ofproto/ofproto-dpif-xlate.h"
#include "ofproto/ofproto-dpif-xlate-cache.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/ofpbuf.h"
#include "ovs-atomic.h"
#include "packets.h"
#include "unixctl.h"
#include "util.h"

/* What a hook does to packets.  Values from 0 are a DSCP to set. */
enum { HOOK_DROP = -2, HOOK_PASS = -1 };

struct test_hook {
    struct xc_hook xc;
    const char *name;
    int act;
    atomic_uint64_t n_packets;
    atomic_uint64_t n_bytes;
    atomic_count n_refs;        /* Entries of translation caches. */
};

static struct test_hook receive_hook, output_hook;

/* Translation hooks. */

static void
credit(struct test_hook *hook, const struct dpif_flow_stats *stats)
{
    uint64_t orig;

    atomic_add_relaxed(&hook->n_packets, stats->n_packets, &orig);
    atomic_add_relaxed(&hook->n_bytes, stats->n_bytes, &orig);
}

static bool
test_is_stale(const struct xc_hook *xc OVS_UNUSED)
{
    return false;
}

static void
test_push_stats(struct xc_hook *xc, const struct dpif_flow_stats *stats,
                bool offloaded OVS_UNUSED)
{
    credit(CONTAINER_OF(xc, struct test_hook, xc), stats);
}

static void
test_unref(struct xc_hook *xc)
{
    atomic_count_dec(&CONTAINER_OF(xc, struct test_hook, xc)->n_refs);
}

static bool
test_xlate(struct test_hook *hook, const struct xlate_hook_params *params)
{
    struct xlate_in *xin = params->xin;

    if (xin->resubmit_stats) {
        credit(hook, xin->resubmit_stats);
    }
    if (xin->xcache) {
        atomic_count_inc(&hook->n_refs);
        xlate_cache_add_hook(xin->xcache, &hook->xc);
    }
    if (xin->trace) {
        oftrace_report(xin->trace, OFT_DETAIL, hook->name);
    }
    if (hook->act >= 0 && is_ip_any(&xin->flow)) {
        params->wc->masks.nw_tos |= IP_DSCP_MASK;
        xin->flow.nw_tos &= ~IP_DSCP_MASK;
        xin->flow.nw_tos |= hook->act << 2;
    }
    return hook->act != HOOK_DROP;
}

static bool
test_receive(const struct xlate_hook_params *params)
{
    return test_xlate(&receive_hook, params);
}

static bool
test_output(const struct xlate_hook_params *params)
{
    return test_xlate(&output_hook, params);
}

static const struct xlate_hooks test_xlate_hooks = {
    .receive = test_receive,
    .output = test_output,
};

/* Miss hook: answers with an output to 'miss_port' for TCP packets. */

static atomic_count miss_answers;
static struct ofpbuf miss_actions;

static bool
test_answer(struct dpif_netdev_miss_hook *hook OVS_UNUSED,
            const struct dp_packet *packet OVS_UNUSED,
            const struct miniflow *key, long long int now OVS_UNUSED,
            const struct nlattr **actions, size_t *actions_len)
{
    if (MINIFLOW_GET_BE16(key, dl_type) != htons(ETH_TYPE_IP)
        || MINIFLOW_GET_U8(key, nw_proto) != IPPROTO_TCP) {
        return false;
    }
    atomic_count_inc(&miss_answers);
    *actions = miss_actions.data;
    *actions_len = miss_actions.size;
    return true;
}

static struct dpif_netdev_miss_hook test_miss_hook = { .answer = test_answer };

/* The same for a datapath that passes packets to handlers. */
static bool
test_answer_upcall(struct udpif_miss_hook *hook OVS_UNUSED,
                   const struct dp_packet *packet OVS_UNUSED,
                   const struct flow *flow, const struct nlattr **actions,
                   size_t *actions_len)
{
    if (!is_ip_any(flow) || flow->nw_proto != IPPROTO_TCP) {
        return false;
    }
    atomic_count_inc(&miss_answers);
    *actions = miss_actions.data;
    *actions_len = miss_actions.size;
    return true;
}

static struct udpif_miss_hook test_udpif_miss_hook
    = { .answer = test_answer_upcall };

/* Poll hook: PMD threads do not poll 'poll_skip'.  Counts rounds and what is
 * polled. */

static atomic_uint32_t poll_skip;
static atomic_uint64_t poll_rounds, poll_packets;

static void
test_plan(struct dpif_netdev_poll_hook *hook OVS_UNUSED,
          struct dpif_netdev_poll *queues, size_t n,
          long long int now OVS_UNUSED, void **aux)
{
    uint64_t orig;
    uint32_t skip;

    if (!*aux) {
        *aux = xmalloc(sizeof n);
        *(size_t *) *aux = n;
    }
    ovs_assert(*(size_t *) *aux == n);

    atomic_read_relaxed(&poll_skip, &skip);
    for (size_t i = 0; i < n; i++) {
        ovs_assert(!queues[i].skip || !queues[i].n_packets);
        ovs_assert(!queues[i].n_packets || queues[i].cycles);
        atomic_add_relaxed(&poll_packets, queues[i].n_packets, &orig);
        queues[i].n_packets = 0;
        queues[i].cycles = 0;
        queues[i].skip = queues[i].port_no == u32_to_odp(skip);
    }
    atomic_add_relaxed(&poll_rounds, 1, &orig);
}

static struct dpif_netdev_poll_hook test_poll_hook = { .plan = test_plan };

/* Offload provider: takes no port. */

static int
test_offload_open(const struct dpif_offload_class *class, struct dpif *dpif,
                  struct dpif_offload **offloadp)
{
    *offloadp = xmalloc(sizeof **offloadp);
    dpif_offload_init(*offloadp, class, dpif);
    return 0;
}

static void
test_offload_close(struct dpif_offload *offload)
{
    dpif_offload_destroy(offload);
    free(offload);
}

static bool
test_offload_can_offload(struct dpif_offload *offload OVS_UNUSED,
                         struct netdev *netdev OVS_UNUSED)
{
    return false;
}

static int
test_offload_port_add(struct dpif_offload *offload OVS_UNUSED,
                      struct netdev *netdev OVS_UNUSED,
                      odp_port_t port_no OVS_UNUSED)
{
    OVS_NOT_REACHED();
}

static int
test_offload_port_del(struct dpif_offload *offload OVS_UNUSED,
                      odp_port_t port_no OVS_UNUSED)
{
    return 0;
}

static struct netdev *
test_offload_get_netdev(const struct dpif_offload *offload OVS_UNUSED,
                        odp_port_t port_no OVS_UNUSED)
{
    return NULL;
}

static const struct dpif_offload_class test_offload_class = {
    .type = "test",
    .supported_dpif_types = (const char *const[]) { "dummy", NULL },
    .impl_type = DPIF_OFFLOAD_IMPL_FLOWS_DPIF_SYNCED,
    .open = test_offload_open,
    .close = test_offload_close,
    .can_offload = test_offload_can_offload,
    .port_add = test_offload_port_add,
    .port_del = test_offload_port_del,
    .get_netdev = test_offload_get_netdev,
};

/* Commands. */

static int
parse_act(const char *s)
{
    return (!strcmp(s, "drop") ? HOOK_DROP
            : !strncmp(s, "dscp=", 5) ? atoi(s + 5)
            : HOOK_PASS);
}

/* test-hooks/xlate BRIDGE off | BRIDGE RECEIVE OUTPUT */
static void
test_hooks_xlate(struct unixctl_conn *conn, int argc, const char *argv[],
                 void *aux OVS_UNUSED)
{
    struct ofproto_dpif *ofproto = ofproto_dpif_lookup_by_name(argv[1]);

    if (!ofproto) {
        unixctl_command_reply_error(conn, "no such bridge");
    } else if (argc == 3) {
        ofproto_dpif_set_xlate_hooks(ofproto, NULL);
        unixctl_command_reply(conn, NULL);
    } else {
        receive_hook.act = parse_act(argv[2]);
        output_hook.act = parse_act(argv[3]);
        ofproto_dpif_set_xlate_hooks(ofproto, &test_xlate_hooks);
        unixctl_command_reply(conn, NULL);
    }
}

/* test-hooks/miss BRIDGE off | BRIDGE drop | BRIDGE DATAPATH-PORT */
static void
test_hooks_miss(struct unixctl_conn *conn, int argc OVS_UNUSED,
                const char *argv[], void *aux OVS_UNUSED)
{
    struct ofproto_dpif *ofproto = ofproto_dpif_lookup_by_name(argv[1]);

    if (!ofproto) {
        unixctl_command_reply_error(conn, "no such bridge");
    } else {
        bool on = strcmp(argv[2], "off");

        ofpbuf_clear(&miss_actions);
        if (strcmp(argv[2], "drop")) {
            nl_msg_put_odp_port(&miss_actions, OVS_ACTION_ATTR_OUTPUT,
                                u32_to_odp(atoi(argv[2])));
        }
        if (dpif_is_netdev(ofproto->backer->dpif)) {
            dpif_netdev_set_miss_hook(ofproto->backer->dpif,
                                      on ? &test_miss_hook : NULL);
        } else {
            udpif_set_miss_hook(ofproto->backer->udpif,
                                on ? &test_udpif_miss_hook : NULL);
        }
        unixctl_command_reply(conn, NULL);
    }
}

/* test-hooks/poll BRIDGE off | BRIDGE DATAPATH-PORT
 */
static void
test_hooks_poll(struct unixctl_conn *conn, int argc OVS_UNUSED,
                const char *argv[], void *aux OVS_UNUSED)
{
    struct ofproto_dpif *ofproto = ofproto_dpif_lookup_by_name(argv[1]);

    if (!ofproto || !dpif_is_netdev(ofproto->backer->dpif)) {
        unixctl_command_reply_error(conn, "no such bridge");
    } else if (!strcmp(argv[2], "off")) {
        dpif_netdev_set_poll_hook(ofproto->backer->dpif, NULL);
        unixctl_command_reply(conn, NULL);
    } else {
        atomic_store_relaxed(&poll_skip, atoi(argv[2]));
        dpif_netdev_set_poll_hook(ofproto->backer->dpif, &test_poll_hook);
        unixctl_command_reply(conn, NULL);
    }
}

/* test-hooks/polled */
static void
test_hooks_polled(struct unixctl_conn *conn, int argc OVS_UNUSED,
                  const char *argv[] OVS_UNUSED, void *aux OVS_UNUSED)
{
    uint64_t rounds, packets;
    char *reply;

    atomic_read_relaxed(&poll_rounds, &rounds);
    atomic_read_relaxed(&poll_packets, &packets);
    reply = xasprintf("rounds=%"PRIu64" packets=%"PRIu64"\n", rounds,
                      packets);
    unixctl_command_reply(conn, reply);
    free(reply);
}

static void
show_hook(struct test_hook *hook, struct ds *ds)
{
    uint64_t n_packets, n_bytes;

    atomic_read_relaxed(&hook->n_packets, &n_packets);
    atomic_read_relaxed(&hook->n_bytes, &n_bytes);
    ds_put_format(ds, "%s: packets=%"PRIu64" bytes=%"PRIu64" refs=%u\n",
                  hook->name, n_packets, n_bytes,
                  atomic_count_get(&hook->n_refs));
}

static void
test_hooks_show(struct unixctl_conn *conn, int argc OVS_UNUSED,
                const char *argv[] OVS_UNUSED, void *aux OVS_UNUSED)
{
    struct ds ds = DS_EMPTY_INITIALIZER;

    show_hook(&receive_hook, &ds);
    show_hook(&output_hook, &ds);
    ds_put_format(&ds, "miss: answers=%u\n", atomic_count_get(&miss_answers));
    unixctl_command_reply(conn, ds_cstr(&ds));
    ds_destroy(&ds);
}

static void
init_hook(struct test_hook *hook, const char *name)
{
    hook->xc.push_stats = test_push_stats;
    hook->xc.is_stale = test_is_stale;
    hook->xc.unref = test_unref;
    hook->name = name;
    hook->act = HOOK_PASS;
}

OVS_CONSTRUCTOR(test_hooks_init) {
    init_hook(&receive_hook, "receive hook");
    init_hook(&output_hook, "output hook");
    ofpbuf_init(&miss_actions, 64);

    unixctl_command_register("test-hooks/xlate", "bridge receive output", 2, 3,
                             test_hooks_xlate, NULL);
    unixctl_command_register("test-hooks/miss", "bridge port", 2, 2,
                             test_hooks_miss, NULL);
    unixctl_command_register("test-hooks/poll", "bridge port", 2, 2,
                             test_hooks_poll, NULL);
    unixctl_command_register("test-hooks/polled", "", 0, 0, test_hooks_polled,
                             NULL);
    unixctl_command_register("test-hooks/show", "", 0, 0, test_hooks_show,
                             NULL);
    dpif_offload_register_provider(&test_offload_class);
}
