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

/* A datapath that is to ofproto as the kernel's is, and needs no kernel.
 *
 * It wraps a dummy datapath, which does all but one thing: it does not
 * translate what misses, but queues it for the handler threads, which receive
 * it with dpif_recv(), have flows put, and the packet executed.  Flows belong
 * to no PMD thread, as in the kernel.
 *
 * "dpif-queued/register" has the bridges of type "dummy" use it from now on.
 * There must not be one yet.  "dpif-queued/hold" has handlers receive nothing,
 * so that the queue fills, until "dpif-queued/release". */

#include <config.h>

#include <errno.h>

#include "dp-packet.h"
#include "dpif.h"
#include "dpif-offload.h"
#include "dpif-provider.h"
#include "flow.h"
#include "netlink.h"
#include "odp-util.h"
#include "openvswitch/list.h"
#include "openvswitch/ofpbuf.h"
#include "openvswitch/poll-loop.h"
#include "ovs-thread.h"
#include "seq.h"
#include "unixctl.h"
#include "util.h"

/* More than that is lost. */
#define MAX_QUEUE 512

struct dpif_queued {
    struct dpif up;
    struct dpif *inner;
};

/* That of 'inner'. */
static struct dpif_class inner_class;

/* A packet that waits for a handler. */
struct queued_upcall {
    struct ovs_list list_node;
    enum dpif_upcall_type type;
    struct dp_packet *packet;
    struct flow flow;
    struct nlattr *userdata;
};

/* There is one such datapath. */
static struct ovs_mutex mutex = OVS_MUTEX_INITIALIZER;
static struct ovs_list queue OVS_GUARDED_BY(mutex)
    = OVS_LIST_INITIALIZER(&queue);
static size_t queue_len OVS_GUARDED_BY(mutex);
static bool held OVS_GUARDED_BY(mutex);
static uint64_t n_misses OVS_GUARDED_BY(mutex); /* That have been queued. */
static struct seq *queue_seq;

static struct dpif *
get_inner(const struct dpif *dpif)
{
    return CONTAINER_OF(dpif, struct dpif_queued, up)->inner;
}

static void
queued_upcall_free(struct queued_upcall *qu)
{
    dp_packet_delete(qu->packet);
    free(qu->userdata);
    free(qu);
}

/* The upcall of 'inner': queues the packet, and says that there is nothing to
 * execute and no flow to install. */
static int
enqueue(const struct dp_packet *packet, const struct flow *flow,
        ovs_u128 *ufid OVS_UNUSED, unsigned pmd_id OVS_UNUSED,
        enum dpif_upcall_type type, const struct nlattr *userdata,
        struct ofpbuf *actions OVS_UNUSED,
        struct flow_wildcards *wc OVS_UNUSED,
        struct ofpbuf *put_actions OVS_UNUSED, void *aux OVS_UNUSED)
{
    int error = ENOSPC;

    ovs_mutex_lock(&mutex);
    if (queue_len < MAX_QUEUE) {
        struct queued_upcall *qu = xmalloc(sizeof *qu);

        qu->type = type;
        qu->packet = dp_packet_clone_data_with_headroom(
            dp_packet_data(packet), dp_packet_size(packet), 128);
        qu->packet->packet_type = packet->packet_type;
        qu->flow = *flow;
        qu->userdata = userdata ? xmemdup(userdata, userdata->nla_len) : NULL;
        ovs_list_push_back(&queue, &qu->list_node);
        queue_len++;
        n_misses += type == DPIF_UC_MISS;
        seq_change(queue_seq);
    } else {
        error = ENOBUFS;
    }
    ovs_mutex_unlock(&mutex);
    return error;
}

/* Returns the next packet, NULL if there is none, or if 'respect_hold' and
 * packets are held. */
static struct queued_upcall *
dequeue(bool respect_hold)
{
    struct queued_upcall *qu = NULL;

    ovs_mutex_lock(&mutex);
    if (queue_len && !(respect_hold && held)) {
        qu = CONTAINER_OF(ovs_list_pop_front(&queue), struct queued_upcall,
                          list_node);
        queue_len--;
    }
    ovs_mutex_unlock(&mutex);
    return qu;
}

static int
queued_recv(struct dpif *dpif OVS_UNUSED, uint32_t handler_id OVS_UNUSED,
            struct dpif_upcall *upcall, struct ofpbuf *buf)
{
    struct queued_upcall *qu = dequeue(true);
    struct odp_flow_key_parms parms = {
        .support = {
            .max_vlan_headers = SIZE_MAX,
            .max_mpls_depth = SIZE_MAX,
            .recirc = true,
            .ct_state = true,
            .ct_zone = true,
            .ct_mark = true,
            .ct_label = true,
            .ct_state_nat = true,
            .ct_orig_tuple = true,
            .ct_orig_tuple6 = true,
        },
    };

    if (!qu) {
        return EAGAIN;
    }
    memset(upcall, 0, sizeof *upcall);
    upcall->type = qu->type;

    dp_packet_init(&upcall->packet, 0);
    dp_packet_reserve_with_tailroom(&upcall->packet, 128,
                                    dp_packet_size(qu->packet));
    dp_packet_put(&upcall->packet, dp_packet_data(qu->packet),
                  dp_packet_size(qu->packet));
    upcall->packet.packet_type = qu->packet->packet_type;

    parms.flow = &qu->flow;
    odp_flow_key_from_flow(&parms, buf);
    upcall->key_len = buf->size;
    if (qu->userdata) {
        ofpbuf_put(buf, qu->userdata, NLA_ALIGN(qu->userdata->nla_len));
        upcall->userdata = ofpbuf_at_assert(buf, upcall->key_len,
                                            sizeof *upcall->userdata);
    }
    upcall->key = buf->data;
    odp_flow_key_hash(upcall->key, upcall->key_len, &upcall->ufid);
    queued_upcall_free(qu);
    return 0;
}

static void
queued_recv_wait(struct dpif *dpif OVS_UNUSED, uint32_t handler_id OVS_UNUSED)
{
    uint64_t seq = seq_read(queue_seq);

    ovs_mutex_lock(&mutex);
    if (queue_len && !held) {
        poll_immediate_wake();
    } else {
        seq_wait(queue_seq, seq);
    }
    ovs_mutex_unlock(&mutex);
}

static void
queued_recv_purge(struct dpif *dpif OVS_UNUSED)
{
    struct queued_upcall *qu;

    while ((qu = dequeue(false))) {
        queued_upcall_free(qu);
    }
}

static int
queued_recv_set(struct dpif *dpif, bool enable)
{
    static bool enabled = false;

    if (enable != enabled) {
        enabled = enable;
        if (enable) {
            inner_class.enable_upcall(get_inner(dpif));
        } else {
            inner_class.disable_upcall(get_inner(dpif));
            queued_recv_purge(dpif);
        }
    }
    return 0;
}

/* One handler, so that packets stay in order whatever connection they are of,
 * which makes for simpler tests. */
static bool
queued_number_handlers_required(struct dpif *dpif OVS_UNUSED,
                                uint32_t *n_handlers)
{
    *n_handlers = 1;
    return true;
}

static int
queued_enumerate(struct sset *all_dps,
                 const struct dpif_class *class OVS_UNUSED)
{
    return inner_class.enumerate(all_dps, &inner_class);
}

static const char *
queued_port_open_type(const struct dpif_class *class OVS_UNUSED,
                      const char *type)
{
    return inner_class.port_open_type(&inner_class, type);
}

static int
queued_open(const struct dpif_class *class, const char *name, bool create,
            struct dpif **dpifp)
{
    struct dpif_queued *dpif;
    struct dpif *inner;
    int error;

    error = inner_class.open(&inner_class, name, create, &inner);
    if (error) {
        return error;
    }
    dpif_attach_offload_providers(inner);
    if (create) {
        inner_class.register_upcall_cb(inner, enqueue, NULL);
    }
    dpif = xmalloc(sizeof *dpif);
    dpif_init(&dpif->up, class, name, 0, 0);
    dpif->inner = inner;
    *dpifp = &dpif->up;
    return 0;
}

static void
queued_close(struct dpif *dpif)
{
    struct dpif *inner = get_inner(dpif);

    dpif_detach_offload_providers(inner);
    dpif_uninit(inner, true);
    free(CONTAINER_OF(dpif, struct dpif_queued, up));
}

/* What 'inner' does as well. */

static int
queued_destroy(struct dpif *dpif)
{
    queued_recv_set(dpif, false);
    return inner_class.destroy(get_inner(dpif));
}

static bool
queued_run(struct dpif *dpif)
{
    return inner_class.run(get_inner(dpif));
}

static void
queued_wait(struct dpif *dpif)
{
    inner_class.wait(get_inner(dpif));
}

static int
queued_get_stats(const struct dpif *dpif, struct dpif_dp_stats *stats)
{
    int error = inner_class.get_stats(get_inner(dpif), stats);

    if (!error) {
        /* 'inner' takes what it cannot have a flow for at once for lost. */
        ovs_mutex_lock(&mutex);
        stats->n_missed += n_misses;
        stats->n_lost -= n_misses;
        ovs_mutex_unlock(&mutex);
    }
    return error;
}

static int
queued_port_add(struct dpif *dpif, struct netdev *netdev, odp_port_t *port_no)
{
    return inner_class.port_add(get_inner(dpif), netdev, port_no);
}

static int
queued_port_del(struct dpif *dpif, odp_port_t port_no)
{
    return inner_class.port_del(get_inner(dpif), port_no);
}

static int
queued_port_set_config(struct dpif *dpif, odp_port_t port_no,
                       const struct smap *cfg)
{
    return inner_class.port_set_config(get_inner(dpif), port_no, cfg);
}

static int
queued_port_query_by_number(const struct dpif *dpif, odp_port_t port_no,
                            struct dpif_port *port)
{
    return inner_class.port_query_by_number(get_inner(dpif), port_no, port);
}

static int
queued_port_query_by_name(const struct dpif *dpif, const char *devname,
                          struct dpif_port *port)
{
    return inner_class.port_query_by_name(get_inner(dpif), devname, port);
}

static int
queued_port_dump_start(const struct dpif *dpif, void **statep)
{
    return inner_class.port_dump_start(get_inner(dpif), statep);
}

static int
queued_port_dump_next(const struct dpif *dpif, void *state,
                      struct dpif_port *port)
{
    return inner_class.port_dump_next(get_inner(dpif), state, port);
}

static int
queued_port_dump_done(const struct dpif *dpif, void *state)
{
    return inner_class.port_dump_done(get_inner(dpif), state);
}

static int
queued_port_poll(const struct dpif *dpif, char **devnamep)
{
    return inner_class.port_poll(get_inner(dpif), devnamep);
}

static void
queued_port_poll_wait(const struct dpif *dpif)
{
    inner_class.port_poll_wait(get_inner(dpif));
}

static int
queued_flow_flush(struct dpif *dpif)
{
    queued_recv_purge(dpif);
    return inner_class.flow_flush(get_inner(dpif));
}

static void
queued_operate(struct dpif *dpif, struct dpif_op **ops, size_t n_ops)
{
    inner_class.operate(get_inner(dpif), ops, n_ops);
}

static int
queued_set_config(struct dpif *dpif, const struct smap *other_config)
{
    return inner_class.set_config(get_inner(dpif), other_config);
}

static int
queued_queue_to_priority(const struct dpif *dpif, uint32_t queue_id,
                         uint32_t *priority)
{
    return inner_class.queue_to_priority(get_inner(dpif), queue_id, priority);
}

/* Dumps of flows. */

struct queued_dump {
    struct dpif_flow_dump up;
    struct dpif_flow_dump *inner;
};

struct queued_dump_thread {
    struct dpif_flow_dump_thread up;
    struct dpif_flow_dump_thread *inner;
};

static struct dpif_flow_dump *
queued_flow_dump_create(const struct dpif *dpif, bool terse,
                        struct dpif_flow_dump_types *types)
{
    struct queued_dump *dump = xmalloc(sizeof *dump);

    dpif_flow_dump_init(&dump->up, dpif, terse, types);
    dump->inner = dpif_flow_dump_create(get_inner(dpif), terse, types);
    return &dump->up;
}

static int
queued_flow_dump_destroy(struct dpif_flow_dump *dump_)
{
    struct queued_dump *dump = CONTAINER_OF(dump_, struct queued_dump, up);
    int error = dpif_flow_dump_destroy(dump->inner);

    free(dump);
    return error;
}

static struct dpif_flow_dump_thread *
queued_flow_dump_thread_create(struct dpif_flow_dump *dump_)
{
    struct queued_dump *dump = CONTAINER_OF(dump_, struct queued_dump, up);
    struct queued_dump_thread *thread = xmalloc(sizeof *thread);

    dpif_flow_dump_thread_init(&thread->up, &dump->up);
    thread->inner = dpif_flow_dump_thread_create(dump->inner);
    return &thread->up;
}

static void
queued_flow_dump_thread_destroy(struct dpif_flow_dump_thread *thread_)
{
    struct queued_dump_thread *thread
        = CONTAINER_OF(thread_, struct queued_dump_thread, up);

    dpif_flow_dump_thread_destroy(thread->inner);
    free(thread);
}

static int
queued_flow_dump_next(struct dpif_flow_dump_thread *thread,
                      struct dpif_flow *flows, int max_flows)
{
    int n = inner_class.flow_dump_next(
        CONTAINER_OF(thread, struct queued_dump_thread, up)->inner,
        flows, max_flows);

    for (int i = 0; i < n; i++) {
        flows[i].pmd_id = PMD_ID_NULL;
    }
    return n;
}

static const struct dpif_class queued_class = {
    .type = "dummy",
    .cleanup_required = true,
    .enumerate = queued_enumerate,
    .port_open_type = queued_port_open_type,
    .open = queued_open,
    .close = queued_close,
    .destroy = queued_destroy,
    .run = queued_run,
    .wait = queued_wait,
    .get_stats = queued_get_stats,
    .port_add = queued_port_add,
    .port_del = queued_port_del,
    .port_set_config = queued_port_set_config,
    .port_query_by_number = queued_port_query_by_number,
    .port_query_by_name = queued_port_query_by_name,
    .port_dump_start = queued_port_dump_start,
    .port_dump_next = queued_port_dump_next,
    .port_dump_done = queued_port_dump_done,
    .port_poll = queued_port_poll,
    .port_poll_wait = queued_port_poll_wait,
    .flow_flush = queued_flow_flush,
    .flow_dump_create = queued_flow_dump_create,
    .flow_dump_destroy = queued_flow_dump_destroy,
    .flow_dump_thread_create = queued_flow_dump_thread_create,
    .flow_dump_thread_destroy = queued_flow_dump_thread_destroy,
    .flow_dump_next = queued_flow_dump_next,
    .operate = queued_operate,
    .recv_set = queued_recv_set,
    .number_handlers_required = queued_number_handlers_required,
    .set_config = queued_set_config,
    .queue_to_priority = queued_queue_to_priority,
    .recv = queued_recv,
    .recv_wait = queued_recv_wait,
    .recv_purge = queued_recv_purge,
};

/* dpif-queued/register */
static void
dpif_queued_register(struct unixctl_conn *conn, int argc OVS_UNUSED,
                     const char *argv[] OVS_UNUSED, void *aux OVS_UNUSED)
{
    int error;

    if (!queue_seq) {
        queue_seq = seq_create();
        inner_class = dpif_netdev_class;
        inner_class.type = queued_class.type;
    }
    error = dp_unregister_provider(queued_class.type);
    if (!error) {
        error = dp_register_provider(&queued_class);
    }
    if (error) {
        unixctl_command_reply_error(conn, ovs_strerror(error));
    } else {
        unixctl_command_reply(conn, NULL);
    }
}

/* dpif-queued/hold, dpif-queued/release */
static void
dpif_queued_hold(struct unixctl_conn *conn, int argc OVS_UNUSED,
                 const char *argv[], void *aux OVS_UNUSED)
{
    ovs_mutex_lock(&mutex);
    held = !strcmp(argv[0], "dpif-queued/hold");
    if (queue_seq) {
        /* Also for the coverage counters of a handler, which add up when it
         * wakes up after a second. */
        seq_change(queue_seq);
    }
    ovs_mutex_unlock(&mutex);
    unixctl_command_reply(conn, NULL);
}

OVS_CONSTRUCTOR(dpif_queued_init) {
    unixctl_command_register("dpif-queued/register", "", 0, 0,
                             dpif_queued_register, NULL);
    unixctl_command_register("dpif-queued/hold", "", 0, 0, dpif_queued_hold,
                             NULL);
    unixctl_command_register("dpif-queued/release", "", 0, 0,
                             dpif_queued_hold, NULL);
}
