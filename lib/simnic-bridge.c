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

#include "layered/lib/simnic-private.h"

#include "coverage.h"
#include "dp-packet.h"
#include "flow.h"
#include "layered/lib/simnic-link.h"
#include "layered/lib/simnic-switch.h"
#include "netdev.h"
#include "netlink.h"
#include "odp-execute.h"
#include "odp-util.h"
#include "packets.h"
#include "timeval.h"

/* The virtual bridge of an emulated NIC: the way of a frame from a link. */

COVERAGE_DEFINE(simnic_hit);
COVERAGE_DEFINE(simnic_miss);
COVERAGE_DEFINE(simnic_hold);
COVERAGE_DEFINE(simnic_hold_given_up);

/* Frames from the link of one function that a thread has in its hands. */
struct run {
    struct simnic_thread *thread;
    struct simnic_function *function;
    struct simnic *nic;
    const struct simnic_switch *sw;     /* NULL if there is no port. */
    odp_port_t port;
    long long int now;                  /* In ms. */

    /* Frames that hit 'flow', one after the other. */
    struct simnic_flow *flow;           /* NULL if there are none. */
    struct dp_packet_batch hits;
    uint64_t n_bytes;
    uint16_t tcp_flags;

    /* Frames for Open vSwitch, each with what to count. */
    size_t n_misses;
    struct {
        struct dp_packet *frame;
        atomic_uint64_t *counter;
    } misses[NETDEV_MAX_BURST];
};

static void
run_init(struct run *r, struct simnic_thread *thread,
         struct simnic_function *function)
{
    uint32_t port;

    r->thread = thread;
    r->function = function;
    r->nic = function->nic;
    r->now = time_msec();
    r->flow = NULL;
    dp_packet_batch_init(&r->hits);
    r->n_misses = 0;

    atomic_read_relaxed(&function->port, &port);
    r->port = u32_to_odp(port);
    r->sw = ovsrcu_get(const struct simnic_switch *, &function->sw);
}

/* Tells whoever deletes flows that 'thread' may be using some. */
static void
batch_begin(struct simnic_thread *thread)
{
    SIMNIC_ADD(thread->batches, 1);
    atomic_thread_fence(memory_order_seq_cst);
}

static void
batch_end(struct simnic_thread *thread)
{
    uint64_t orig;

    atomic_add_explicit(&thread->batches, 1, &orig, memory_order_release);
}

/* The queue to Open vSwitch. */

static uint64_t
ring_head(struct simnic_ring *ring)
{
    return simnic_read(&ring->head);
}

static bool
ring_push(struct simnic_ring *ring, struct dp_packet *frame)
{
    uint64_t head = ring_head(ring);
    uint64_t tail;

    atomic_read_explicit(&ring->tail, &tail, memory_order_acquire);
    if (head - tail >= SIMNIC_RING_SIZE) {
        return false;
    }
    ring->frames[head % SIMNIC_RING_SIZE] = frame;
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return true;
}

/* Returns true if Open vSwitch is done with all frames before 'position'. */
static bool
ring_is_done(struct simnic_ring *ring, uint64_t position)
{
    uint64_t done;

    atomic_read_explicit(&ring->done, &done, memory_order_acquire);
    return done >= position;
}

/* Output. */

static bool
is_cut(const struct simnic_function *function)
{
    return OVS_UNLIKELY(simnic_read_bool(&function->link_cut)
                        || simnic_read_bool(&function->vanished));
}

static void
drop_tx(struct simnic_function *function, struct dp_packet_batch *batch,
        enum simnic_drop reason)
{
    SIMNIC_ADD(function->stats.tx_dropped[reason],
               dp_packet_batch_size(batch));
    dp_packet_delete_batch(batch, true);
}

/* Sends 'batch', which this takes over, out by the link of 'function'. */
void
simnic_bridge_deliver(struct simnic_function *function,
                      struct dp_packet_batch *batch)
{
    struct simnic_link *link = ovsrcu_get(struct simnic_link *,
                                          &function->link);
    size_t n = dp_packet_batch_size(batch);
    struct dp_packet *frame;
    unsigned int n_failed;
    uint64_t n_bytes = 0;

    if (OVS_UNLIKELY(simnic_is_resetting(function->nic))) {
        drop_tx(function, batch, SIMNIC_DROP_RESET);
        return;
    }
    if (!link || is_cut(function)) {
        drop_tx(function, batch, SIMNIC_DROP_LINK_DOWN);
        return;
    }

    DP_PACKET_BATCH_FOR_EACH (i, frame, batch) {
        n_bytes += dp_packet_size(frame);
    }
    n_failed = simnic_link_send(link, batch);
    if (OVS_UNLIKELY(n_failed)) {
        /* Which ones is not known. */
        n_failed = MIN(n_failed, n);
        n_bytes = n_bytes * (n - n_failed) / n;
        SIMNIC_ADD(function->stats.tx_dropped[SIMNIC_DROP_TX], n_failed);
    }
    SIMNIC_ADD(function->stats.to_link, n - n_failed);
    SIMNIC_ADD(function->stats.to_link_bytes, n_bytes);
}

static void
tx_flush_one(struct simnic_tx *tx)
{
    simnic_bridge_deliver(tx->function, &tx->batch);
    dp_packet_batch_reset(&tx->batch);
}

static void
tx_flush(struct simnic_thread *thread)
{
    for (size_t i = 0; i < thread->n_tx_pending; i++) {
        struct simnic_tx *tx = &thread->tx[thread->tx_pending[i]];

        if (!dp_packet_batch_is_empty(&tx->batch)) {
            tx_flush_one(tx);
        }
        tx->function = NULL;
    }
    thread->n_tx_pending = 0;
}

static void
tx_add(struct simnic_thread *thread, struct simnic_function *function,
       struct dp_packet *frame)
{
    struct simnic_tx *tx = &thread->tx[function->index];

    if (!tx->function) {
        tx->function = function;
        thread->tx_pending[thread->n_tx_pending++] = function->index;
    }
    dp_packet_batch_add(&tx->batch, frame);
    if (dp_packet_batch_size(&tx->batch) >= NETDEV_MAX_BURST) {
        tx_flush_one(tx);
    }
}

/* Actions. */

static void
drop_for_action(struct run *r, struct dp_packet_batch *batch, bool steal)
{
    SIMNIC_ADD(r->function->stats.tx_dropped[SIMNIC_DROP_ACTION],
               dp_packet_batch_size(batch));
    dp_packet_delete_batch(batch, steal);
}

static void
execute_output(struct run *r, struct dp_packet_batch *batch, odp_port_t port,
               bool steal)
{
    struct simnic_function *out = simnic_switch_find_function(r->sw, port);
    struct dp_packet *frame;

    /* The NIC took the flow when this was a port of its own, but ports come
     * and go. */
    if (OVS_UNLIKELY(!out || out->nic != r->nic)) {
        drop_for_action(r, batch, steal);
        return;
    }
    DP_PACKET_BATCH_FOR_EACH (i, frame, batch) {
        tx_add(r->thread, out, steal ? frame : dp_packet_clone(frame));
    }
}

/* An odp_execute_cb. */
static void
execute_action(void *r_, struct dp_packet_batch *batch,
               const struct nlattr *a, bool steal)
{
    struct run *r = r_;

    if (nl_attr_type(a) == OVS_ACTION_ATTR_OUTPUT) {
        execute_output(r, batch, nl_attr_get_odp_port(a), steal);
        return;
    } else if (nl_attr_type(a) == OVS_ACTION_ATTR_TUNNEL_PUSH) {
        const struct ovs_action_push_tnl *data = nl_attr_get(a);
        struct netdev *tunnel = simnic_switch_find_tunnel(r->sw,
                                                          data->tnl_port);

        if (tunnel && !steal) {
            if (netdev_push_header(tunnel, NULL, batch, data)) {
                drop_for_action(r, batch, true);
                dp_packet_batch_reset(batch);
            }
            return;
        } else if (!tunnel) {
            drop_for_action(r, batch, true);
            dp_packet_batch_reset(batch);
            return;
        }
        /* Nobody would ever see the header. */
    } else if (nl_attr_type(a) == OVS_ACTION_ATTR_METER) {
        simnic_switch_run_meter(r->sw, nl_attr_get_u32(a), batch, r->now);
    } else {
        /* The NIC takes no flow with any other action of this kind. */
        drop_for_action(r, batch, steal);
        return;
    }
    dp_packet_delete_batch(batch, steal);
}

static void
credit(struct simnic_flow *flow, size_t n_packets, uint64_t n_bytes,
       uint16_t tcp_flags, long long int now)
{
    uint16_t flags;

    SIMNIC_ADD(flow->n_packets, n_packets);
    SIMNIC_ADD(flow->n_bytes, n_bytes);
    atomic_store_relaxed(&flow->used, now);
    atomic_read_relaxed(&flow->tcp_flags, &flags);
    if (tcp_flags & ~flags) {
        uint16_t orig;

        atomic_or_relaxed(&flow->tcp_flags, tcp_flags, &orig);
    }
}

/* Carries out the actions of the flow that 'r' has hits of. */
static void
run_hits(struct run *r)
{
    const struct simnic_actions *actions;
    size_t n = dp_packet_batch_size(&r->hits);

    if (!r->flow) {
        return;
    }
    credit(r->flow, n, r->n_bytes, r->tcp_flags, r->now);
    SIMNIC_ADD(r->function->stats.hits, n);
    SIMNIC_ADD(r->function->stats.hit_bytes, r->n_bytes);
    COVERAGE_ADD(simnic_hit, n);

    actions = ovsrcu_get(const struct simnic_actions *, &r->flow->actions);
    odp_execute_actions(r, &r->hits, true, actions->data, actions->len,
                        execute_action);
    dp_packet_batch_reset(&r->hits);
    r->flow = NULL;
}

/* Finishes with all frames: those that hit are on their links before Open
 * vSwitch gets those that missed. */
static void
run_flush(struct run *r)
{
    run_hits(r);
    tx_flush(r->thread);

    for (size_t i = 0; i < r->n_misses; i++) {
        if (ring_push(&r->function->ring, r->misses[i].frame)) {
            SIMNIC_ADD(*r->misses[i].counter, 1);
        } else {
            SIMNIC_ADD(r->function->stats.rx_dropped[SIMNIC_DROP_HOST_QUEUE],
                       1);
            dp_packet_delete(r->misses[i].frame);
        }
    }
    r->n_misses = 0;
}

static void
run_done(struct run *r)
{
    run_flush(r);
    dp_packet_batch_destroy(&r->hits);
}

static void
to_host(struct run *r, struct dp_packet *frame, atomic_uint64_t *counter)
{
    if (r->n_misses == ARRAY_SIZE(r->misses)) {
        run_flush(r);
    }
    r->misses[r->n_misses].frame = frame;
    r->misses[r->n_misses].counter = counter;
    r->n_misses++;
}

/* Counts a frame that no flow matches.  Returns the counter of frames that go
 * to Open vSwitch on the NIC's miss path.  (The VM's driver always sends what
 * it is handed back by its synthetic path.) */
static atomic_uint64_t *
count_miss(struct run *r)
{
    struct simnic_counters *stats = &r->function->stats;
    int miss_path;

    atomic_read_relaxed(&r->nic->miss_path, &miss_path);
    COVERAGE_INC(simnic_miss);
    return (miss_path == SIMNIC_MISS_VM && r->function->index
            ? &stats->misses_vm : &stats->misses_host);
}

static void
hit(struct run *r, struct simnic_flow *flow, struct dp_packet *frame,
    const struct flow *key)
{
    if (r->flow != flow
        || dp_packet_batch_size(&r->hits) >= NETDEV_MAX_BURST) {
        run_hits(r);
        r->flow = flow;
        r->n_bytes = 0;
        r->tcp_flags = 0;
    }
    if (ovsrcu_get(const struct simnic_actions *, &flow->actions)->pushes) {
        /* The source port of the tunnel is to be that of software. */
        dp_packet_set_rss_hash(frame, flow_hash_5tuple(key, 0));
    }
    dp_packet_batch_add(&r->hits, frame);
    r->n_bytes += dp_packet_size(frame);
    r->tcp_flags |= ntohs(key->tcp_flags);
}

/* Order.
 *
 * Frames of a connection, which are told by a hash of their 5-tuples, must not
 * overtake each other.  So as long as some of them are on their way through
 * Open vSwitch, those that hit are held back. */

static size_t
hash_tuple(const struct flow *key)
{
    return flow_hash_5tuple(key, 0) % SIMNIC_N_TUPLES;
}

/* Returns the position in the queue to Open vSwitch up to which that has to be
 * done with it before frames of 'tuple' can overtake no others of 'tuple', 0
 * if it is. */
static uint64_t
find_barrier(struct run *r, size_t tuple)
{
    struct simnic_function *function = r->function;
    uint64_t barrier;

    /* It is beyond the end if the queue was full. */
    barrier = MIN(function->miss_positions[tuple],
                  ring_head(&function->ring) + r->n_misses);
    return ring_is_done(&function->ring, barrier) ? 0 : barrier;
}

static struct simnic_hold *
hold_create(struct run *r, size_t tuple, uint64_t barrier)
{
    struct simnic_hold *hold = xmalloc(sizeof *hold);

    hold->function = r->function;
    hold->function_id = r->function->id;
    hold->tuple = tuple;
    hold->barrier = barrier;
    hold->deadline = r->now + SIMNIC_HOLD_MS;
    hold->n = 0;
    ovs_list_push_back(&r->thread->holds, &hold->node);
    r->function->holds[tuple] = hold;
    return hold;
}

/* Takes 'hold' away from its function, but not its frames. */
static void
hold_remove(struct run *r, struct simnic_hold *hold)
{
    ovs_list_remove(&hold->node);
    r->function->holds[hold->tuple] = NULL;
    r->function->n_held -= hold->n;
    SIMNIC_ADD(r->function->stats.held_now, -hold->n);
}

/* Has the frames of 'hold' be sent to Open vSwitch, and frees it. */
static void
hold_give_up(struct run *r, struct simnic_hold *hold)
{
    COVERAGE_INC(simnic_hold_given_up);
    hold_remove(r, hold);
    for (size_t i = 0; i < hold->n; i++) {
        to_host(r, hold->frames[i], count_miss(r));
    }
    r->function->miss_positions[hold->tuple] = (ring_head(&r->function->ring)
                                                + r->n_misses);
    free(hold);
}

/* Has 'frame', whose headers are in 'key', be sent to Open vSwitch, and
 * counted by 'counter'.  Frames that are held back go there first, so that it
 * does not overtake them, as a FIN would the data. */
static void
to_host_in_order(struct run *r, struct dp_packet *frame,
                 const struct flow *key, atomic_uint64_t *counter)
{
    size_t tuple = hash_tuple(key);

    if (r->function->holds[tuple]) {
        hold_give_up(r, r->function->holds[tuple]);
    }
    to_host(r, frame, counter);
    r->function->miss_positions[tuple] = (ring_head(&r->function->ring)
                                          + r->n_misses);
}

/* Passes on 'frame', whose headers are in 'key' and which no flow matches, by
 * the miss path. */
static void
miss(struct run *r, struct dp_packet *frame, const struct flow *key)
{
    to_host_in_order(r, frame, key, count_miss(r));
}

/* Returns true if 'frame', whose headers are in 'key' and which hits, may be
 * forwarded.  Otherwise, takes it. */
static bool
may_pass(struct run *r, struct dp_packet *frame, const struct flow *key)
{
    struct simnic_function *function = r->function;
    struct simnic_hold *hold;
    size_t tuple;

    if (OVS_LIKELY(!function->n_held && !r->n_misses
                   && ring_is_done(&function->ring,
                                   ring_head(&function->ring)))) {
        return true;
    }

    tuple = hash_tuple(key);
    hold = function->holds[tuple];
    if (!hold) {
        uint64_t barrier = find_barrier(r, tuple);

        if (!barrier) {
            return true;
        }
        hold = hold_create(r, tuple, barrier);
    }
    if (hold->n >= ARRAY_SIZE(hold->frames)
        || function->n_held >= SIMNIC_HELD_MAX) {
        miss(r, frame, key);
        return false;
    }
    COVERAGE_INC(simnic_hold);
    hold->frames[hold->n++] = frame;
    function->n_held++;
    SIMNIC_ADD(function->stats.held, 1);
    SIMNIC_ADD(function->stats.held_now, 1);
    return false;
}

/* Look-up. */

static struct simnic_flow *
lookup(const struct simnic *nic, struct flow *key)
{
    const struct cls_rule *cr = classifier_lookup(&nic->table, OVS_VERSION_MAX,
                                                  key, NULL, NULL);

    return cr ? CONTAINER_OF(cr, struct simnic_flow, cr) : NULL;
}

/* Does what the VM's driver does with a frame that the VM sends: returns true
 * if it sends it by the VF, false if by the synthetic path. */
static bool
driver_takes_vf(const struct simnic_function *function, struct flow *key)
{
    bool listed;

    if (simnic_read_bool(&function->ignore_list)) {
        return true;
    }
    listed = classifier_lookup(&function->list, OVS_VERSION_MAX, key, NULL,
                               NULL) != NULL;
    return listed != simnic_read_bool(&function->forge_list);
}

/* Has the NIC act on 'frame', whose headers are in 'outer_key' and which is in
 * a tunnel that 'outer' terminates.  It acts alone only if it has a flow for
 * what is inside; if not, Open vSwitch gets the frame as it came. */
static void
run_tunneled(struct run *r, struct simnic_flow *outer,
             struct dp_packet *frame, const struct flow *outer_key)
{
    const struct simnic_actions *actions
        = ovsrcu_get(const struct simnic_actions *, &outer->actions);
    struct netdev *tunnel = simnic_switch_find_tunnel(r->sw,
                                                      actions->pop_port);
    struct dp_packet_batch batch;
    struct simnic_flow *flow;
    struct dp_packet *inner;
    struct flow key;

    if (!tunnel) {
        miss(r, frame, outer_key);
        return;
    }
    dp_packet_batch_init_packet(&batch, dp_packet_clone(frame));
    netdev_pop_header(tunnel, &batch);
    if (dp_packet_batch_is_empty(&batch)) {
        miss(r, frame, outer_key);
        return;
    }

    inner = batch.packets[0];           /* The batch needs no destroying. */
    inner->md.in_port.odp_port = actions->pop_port;
    flow_extract(inner, &key);
    flow = lookup(r->nic, &key);
    if (!flow || ovsrcu_get(const struct simnic_actions *,
                            &flow->actions)->pop_port != ODPP_NONE) {
        dp_packet_delete(inner);
        miss(r, frame, &key);
        return;
    }
    if (!may_pass(r, frame, &key)) {
        dp_packet_delete(inner);
        return;
    }
    credit(outer, 1, dp_packet_size(frame), 0, r->now);
    dp_packet_delete(frame);
    hit(r, flow, inner, &key);
}

/* Has the NIC act on 'frame'.  If it 'is_new', the VM's driver gets it first,
 * if there is one that holds a list. */
static void
run_frame(struct run *r, struct dp_packet *frame, bool is_new)
{
    struct simnic_function *function = r->function;
    struct simnic_flow *flow;
    struct flow key;

    pkt_metadata_init(&frame->md, r->port);
    flow_extract(frame, &key);
    if (!r->sw) {
        miss(r, frame, &key);
        return;
    }
    if (is_new && function->index && simnic_read_bool(&r->nic->driver_list)
        && !driver_takes_vf(function, &key)) {
        to_host_in_order(r, frame, &key, &function->stats.synthetic);
        return;
    }

    flow = lookup(r->nic, &key);
    if (!flow) {
        miss(r, frame, &key);
    } else if (ovsrcu_get(const struct simnic_actions *,
                          &flow->actions)->pop_port != ODPP_NONE) {
        run_tunneled(r, flow, frame, &key);
    } else if (may_pass(r, frame, &key)) {
        hit(r, flow, frame, &key);
    }
}

static void
run_new_frame(struct run *r, struct dp_packet *frame)
{
    if (OVS_UNLIKELY(dp_packet_size(frame) < ETH_HEADER_LEN)) {
        SIMNIC_ADD(r->function->stats.rx_dropped[SIMNIC_DROP_INVALID], 1);
        dp_packet_delete(frame);
        return;
    }
    run_frame(r, frame, true);
}

static void
drop_rx(struct simnic_function *function, struct dp_packet_batch *batch,
        enum simnic_drop reason)
{
    SIMNIC_ADD(function->stats.rx_dropped[reason],
               dp_packet_batch_size(batch));
    dp_packet_delete_batch(batch, true);
}

/* Takes a batch of frames from the link of 'function', which is one of
 * 'thread', the caller's, and acts on them.  Returns true if there were any.
 */
bool
simnic_bridge_poll(struct simnic_thread *thread,
                   struct simnic_function *function)
{
    struct simnic_link *link = ovsrcu_get(struct simnic_link *,
                                          &function->link);
    struct dp_packet_batch batch;
    struct dp_packet *frame;
    uint64_t n_bytes = 0;
    struct run r;

    if (!link) {
        return false;
    }
    dp_packet_batch_init(&batch);
    if (simnic_link_recv(link, &batch) || dp_packet_batch_is_empty(&batch)) {
        dp_packet_batch_destroy(&batch);
        return false;
    }

    batch_begin(thread);
    run_init(&r, thread, function);
    DP_PACKET_BATCH_FOR_EACH (i, frame, &batch) {
        n_bytes += dp_packet_size(frame);
    }
    SIMNIC_ADD(function->stats.from_link, dp_packet_batch_size(&batch));
    SIMNIC_ADD(function->stats.from_link_bytes, n_bytes);
    if (is_cut(function)) {
        drop_rx(function, &batch, SIMNIC_DROP_LINK_DOWN);
    } else if (OVS_UNLIKELY(simnic_is_resetting(r.nic))) {
        drop_rx(function, &batch, SIMNIC_DROP_RESET);
    } else {
        DP_PACKET_BATCH_FOR_EACH (i, frame, &batch) {
            run_new_frame(&r, frame);
        }
    }
    run_done(&r);
    batch_end(thread);
    dp_packet_batch_destroy(&batch);
    return true;
}

/* Returns true if the function of 'hold' is one of 'thread', the caller's.  If
 * not, it may have been freed, and another one may be in its place. */
static bool
is_own_function(const struct simnic_thread *thread,
                const struct simnic_hold *hold)
{
    const struct simnic_functions *functions
        = ovsrcu_get(struct simnic_functions *, &thread->functions);

    for (size_t i = 0; i < functions->n; i++) {
        if (functions->array[i] == hold->function
            && functions->array[i]->id == hold->function_id) {
            return true;
        }
    }
    return false;
}

/* Acts on the frames that 'thread', the caller's, holds back, as far as they
 * need not wait any more, or all of them if 'give_up'. */
static void
run_holds(struct simnic_thread *thread, bool give_up)
{
    struct ovs_list holds;

    /* While frames of one are acted on, others may be created. */
    ovs_list_init(&holds);
    ovs_list_push_back_all(&holds, &thread->holds);
    while (!ovs_list_is_empty(&holds)) {
        struct simnic_hold *hold = CONTAINER_OF(ovs_list_front(&holds),
                                                struct simnic_hold, node);
        struct simnic_ring *ring;
        struct run r;
        bool done;

        if (!is_own_function(thread, hold)) {
            /* The function is no more; do not touch it. */
            for (size_t i = 0; i < hold->n; i++) {
                dp_packet_delete(hold->frames[i]);
            }
            ovs_list_remove(&hold->node);
            free(hold);
            continue;
        }

        ring = &hold->function->ring;
        done = ring_is_done(ring, MIN(hold->barrier, ring_head(ring)));
        if (!done && !give_up && time_msec() < hold->deadline) {
            ovs_list_remove(&hold->node);
            ovs_list_push_back(&thread->holds, &hold->node);
            continue;
        }

        batch_begin(thread);
        run_init(&r, thread, hold->function);
        if (done) {
            hold_remove(&r, hold);
            for (size_t i = 0; i < hold->n; i++) {
                run_frame(&r, hold->frames[i], false);
            }
            free(hold);
        } else {
            hold_give_up(&r, hold);
        }
        run_done(&r);
        batch_end(thread);
    }
}

/* Returns true if 'thread', the caller's, still holds frames. */
bool
simnic_bridge_run_holds(struct simnic_thread *thread)
{
    if (ovs_list_is_empty(&thread->holds)) {
        return false;
    }
    run_holds(thread, false);
    return !ovs_list_is_empty(&thread->holds);
}

/* Sends all frames that 'thread', the caller's, holds to Open vSwitch. */
void
simnic_bridge_give_up_holds(struct simnic_thread *thread)
{
    run_holds(thread, true);
}
