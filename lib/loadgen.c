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

#include "layered/lib/loadgen-private.h"

#include <errno.h>
#include <sched.h>

#include "coverage.h"
#include "hash.h"
#include "openvswitch/json.h"
#include "openvswitch/shash.h"
#include "timeval.h"
#include "util.h"

COVERAGE_DEFINE(loadgen_packet_new);
COVERAGE_DEFINE(loadgen_overflow);

/* After so many times in a row that there is nothing to receive, others may
 * have the processor. */
#define MAX_IDLE 1000

/* Room for headers in front of a packet. */
#define HEADROOM 128

/* All the ports, by name. */
static struct ovs_mutex ports_mutex = OVS_MUTEX_INITIALIZER;
static struct shash ports OVS_GUARDED_BY(ports_mutex)
    = SHASH_INITIALIZER(&ports);

static uint64_t
read_tsc(void)
{
#ifdef __x86_64__
    uint32_t low, high;

    asm volatile("rdtsc" : "=a" (low), "=d" (high));
    return ((uint64_t) high << 32) | low;
#else
    return 0;
#endif
}

/* Makes 'packet', with a frame in it, look as a network device passes it on
 * that has checked the checksums. */
void
loadgen_packet_reset(struct dp_packet *packet)
{
    dp_packet_reset_offsets(packet);
    dp_packet_reset_offload(packet);
    dp_packet_reset_cutlen(packet);
    dp_packet_set_l2_pad_size(packet, 0);
    packet->packet_type = htonl(PT_ETH);
    dp_packet_ip_checksum_set_good(packet);
    dp_packet_l4_checksum_set_good(packet);
    dp_packet_l4_proto_set_tcp(packet);
}

/* Returns a packet with room for a frame in it, and nothing in the frame. */
struct dp_packet *
loadgen_packet_get(struct loadgen_port *port)
{
    struct dp_packet *packet;

    if (port->n_pool) {
        return port->pool[--port->n_pool];
    }
    COVERAGE_INC(loadgen_packet_new);
    packet = dp_packet_new_with_headroom(sizeof(struct frame), HEADROOM);
    dp_packet_put_uninit(packet, sizeof(struct frame));
    return packet;
}

/* Takes 'packet', which has the size of a frame. */
void
loadgen_packet_put(struct loadgen_port *port, struct dp_packet *packet)
{
    if (port->n_pool < POOL_SIZE && packet->source == DPBUF_MALLOC) {
        port->pool[port->n_pool++] = packet;
    } else {
        dp_packet_delete(packet);
    }
}

void
loadgen_ring_push(struct loadgen_port *port, unsigned int i,
                  struct dp_packet *packet)
{
    struct ring *ring = port->rings[i];

    if (OVS_UNLIKELY(!ring)) {
        ring = port->rings[i] = xzalloc(sizeof *ring);
    }
    if (OVS_LIKELY(ring->head - ring->tail < RING_SIZE)) {
        ring->packets[ring->head++ % RING_SIZE] = packet;
    } else {
        COVERAGE_INC(loadgen_overflow);
        port->counters.overflow++;
        loadgen_packet_put(port, packet);
    }
}

void
loadgen_ring_pop_batch(struct loadgen_port *port, unsigned int i,
                       struct dp_packet_batch *batch)
{
    struct ring *ring = port->rings[i];

    if (ring) {
        while (ring->tail != ring->head
               && dp_packet_batch_size(batch) < NETDEV_MAX_BURST) {
            struct dp_packet *packet = ring->packets[ring->tail++ % RING_SIZE];

            loadgen_packet_reset(packet);
            dp_packet_batch_add(batch, packet);
        }
    }
}

/* Lets go of all packets. */
static void
port_purge(struct loadgen_port *port)
{
    for (unsigned int i = 0; i < LOADGEN_MAX_VMS; i++) {
        struct ring *ring = port->rings[i];

        if (ring) {
            while (ring->tail != ring->head) {
                dp_packet_delete(ring->packets[ring->tail++ % RING_SIZE]);
            }
            free(ring);
            port->rings[i] = NULL;
        }
    }
    while (port->n_pool) {
        dp_packet_delete(port->pool[--port->n_pool]);
    }
}

/* Returns a new port called 'name', which plays the wire until it is
 * configured.  The caller owns it, and frees it with loadgen_port_destroy().
 * There must be no other of that name. */
struct loadgen_port *
loadgen_port_create(const char *name)
{
    struct loadgen_port *port = xzalloc(sizeof *port);

    loadgen_frames_init();
    port->name = xstrdup(name);
    ovs_refcount_init(&port->ref_cnt);
    ovs_mutex_init(&port->mutex);
    port->role = LOADGEN_WIRE;
    port->random = 1;

    ovs_mutex_lock(&ports_mutex);
    shash_add(&ports, name, port);
    ovs_mutex_unlock(&ports_mutex);
    return port;
}

/* Removes 'port' and drops the caller's reference to it.  No packet must be
 * received from or transmitted to it any more. */
void
loadgen_port_destroy(struct loadgen_port *port)
{
    ovs_mutex_lock(&ports_mutex);
    shash_find_and_delete_assert(&ports, port->name);
    ovs_mutex_unlock(&ports_mutex);
    loadgen_port_unref(port);
}

/* Drops a reference to 'port'. */
void
loadgen_port_unref(struct loadgen_port *port)
{
    if (ovs_refcount_unref(&port->ref_cnt) == 1) {
        port_purge(port);
        loadgen_vm_clear(port);
        ovs_mutex_destroy(&port->mutex);
        free(port->name);
        free(port);
    }
}

/* Returns the port called 'name' with a reference that the caller drops, or
 * NULL if there is none. */
struct loadgen_port *
loadgen_port_find(const char *name)
{
    struct loadgen_port *port;

    ovs_mutex_lock(&ports_mutex);
    port = shash_find_data(&ports, name);
    if (port) {
        ovs_refcount_ref(&port->ref_cnt);
    }
    ovs_mutex_unlock(&ports_mutex);
    return port;
}

/* Makes 'port' play 'role', as machine number 'vm' that sends to wire number
 * 'wire', or as that wire.  With 'verify_checksums', it recalculates the
 * checksums of what it is sent, which must be complete then.  Ends its program
 * if its role or number changes. */
void
loadgen_port_configure(struct loadgen_port *port, enum loadgen_role role,
                       unsigned int vm, unsigned int wire,
                       bool verify_checksums)
{
    ovs_assert(vm < LOADGEN_MAX_VMS && wire < LOADGEN_MAX_WIRES);
    ovs_mutex_lock(&port->mutex);
    if (port->role != role || port->vm != vm) {
        loadgen_vm_clear(port);
        port_purge(port);
        port->role = role;
        port->vm = vm;
    }
    port->wire = wire;
    port->verify_checksums = verify_checksums;
    ovs_mutex_unlock(&port->mutex);
}

/* The wire's side. */

static void
wire_transmit(struct loadgen_port *port, struct dp_packet *packet)
{
    struct frame *f = dp_packet_data(packet);
    uint32_t mark = ntohl(get_16aligned_be32(&f->mark));
    unsigned int vm = (mark >> 24) & 31;
    uint32_t slot = mark & SLOT_MASK;
    enum kind kind = mark >> 29;
    const struct loadgen_expectation *src = &port->wire_src[vm];
    const struct loadgen_expectation *dst = &port->wire_dst[vm];

    if (OVS_UNLIKELY((get_16aligned_be32(&f->ip.ip_src) & src->mask)
                     != src->address
                     || (get_16aligned_be32(&f->ip.ip_dst) & dst->mask)
                     != dst->address)) {
        port->counters.mistranslated++;
    }

    switch (kind) {
    case KIND_DATA:
        loadgen_frame_turn(f, kind, kind);
        break;

    case KIND_SYN:
        if (slot == SLOT_SPRAY) {
            loadgen_packet_put(port, packet);
            return;
        }
        loadgen_frame_turn(f, kind, KIND_SYN_ACK);
        break;

    case KIND_ACK:
        loadgen_frame_turn(f, kind, KIND_WIRE_FIN);
        break;

    case KIND_VM_FIN:
        loadgen_frame_turn(f, kind, KIND_LAST);
        break;

    case KIND_OPEN_ACK:
        loadgen_packet_put(port, packet);
        return;

    case KIND_SYN_ACK:
    case KIND_WIRE_FIN:
    case KIND_LAST:
    case N_KINDS:
    default:
        port->counters.unexpected++;
        loadgen_packet_put(port, packet);
        return;
    }
    loadgen_ring_push(port, vm, packet);
}

/* Has all wires expect of machine 'vm' what 'src' and 'dst' say.  Must not be
 * called with any port's mutex. */
void
loadgen_wires_expect(unsigned int vm, const struct loadgen_expectation *src,
                     const struct loadgen_expectation *dst)
{
    struct shash_node *node;

    ovs_mutex_lock(&ports_mutex);
    SHASH_FOR_EACH (node, &ports) {
        struct loadgen_port *wire = node->data;

        ovs_mutex_lock(&wire->mutex);
        wire->wire_src[vm] = *src;
        wire->wire_dst[vm] = *dst;
        ovs_mutex_unlock(&wire->mutex);
    }
    ovs_mutex_unlock(&ports_mutex);
}

/* Either side. */

/* Gives 'packet', which has a frame in it, the hash that hardware would. */
static void
set_rss_hash(struct dp_packet *packet)
{
    const struct frame *f = dp_packet_data(packet);
    uint32_t hash;

    hash = hash_add(0, (OVS_FORCE uint32_t) get_16aligned_be32(&f->ip.ip_src));
    hash = hash_add(hash,
                    (OVS_FORCE uint32_t) get_16aligned_be32(&f->ip.ip_dst));
    hash = hash_add(hash, ((OVS_FORCE uint32_t) f->tcp.tcp_src << 16
                           | (OVS_FORCE uint32_t) f->tcp.tcp_dst));
    dp_packet_set_rss_hash(packet, hash_finish(hash, 12));
}

/* Receives from 'port' into 'batch', which must be empty, what is for queue
 * number 'queue' of 'n_queues'.  Returns 0 if successful, EAGAIN if there is
 * nothing now.  The caller owns the packets. */
int
loadgen_port_receive(struct loadgen_port *port, unsigned int queue,
                     unsigned int n_queues, struct dp_packet_batch *batch)
{
    uint64_t start = read_tsc();

    ovs_mutex_lock(&port->mutex);
    if (port->role == LOADGEN_WIRE) {
        for (unsigned int i = queue; i < LOADGEN_MAX_VMS; i += n_queues) {
            loadgen_ring_pop_batch(port, i, batch);
        }
    } else if (!queue) {
        loadgen_vm_receive(port, batch);
    }

    struct dp_packet *packet;
    DP_PACKET_BATCH_FOR_EACH (i, packet, batch) {
        set_rss_hash(packet);
    }

    size_t n = dp_packet_batch_size(batch);
    bool yield = false;
    if (n) {
        port->counters.sent += n;
        port->counters.cycles += read_tsc() - start;
        port->n_idle = 0;
    } else if (++port->n_idle >= MAX_IDLE) {
        port->n_idle = 0;
        yield = true;
    }
    ovs_mutex_unlock(&port->mutex);

    if (yield) {
        sched_yield();
    }
    return n ? 0 : EAGAIN;
}

/* Transmits the packets of 'batch' to 'port', which takes them and empties
 * 'batch'. */
void
loadgen_port_transmit(struct loadgen_port *port, struct dp_packet_batch *batch)
{
    uint64_t start = read_tsc();
    struct dp_packet *packet;

    ovs_mutex_lock(&port->mutex);
    if (port->conns) {
        /* Get what is needed for each packet into the cache. */
        port->now = time_usec();
        DP_PACKET_BATCH_FOR_EACH (i, packet, batch) {
            const struct frame *f = dp_packet_data(packet);
            uint32_t slot;

            if (dp_packet_size(packet) == sizeof *f) {
                slot = ntohl(get_16aligned_be32(&f->mark)) & SLOT_MASK;
                OVS_PREFETCH_WRITE(&port->conns[slot]);
            }
        }
    }
    DP_PACKET_BATCH_FOR_EACH (i, packet, batch) {
        if (OVS_UNLIKELY(!loadgen_packet_is_ours(packet))) {
            port->counters.foreign++;
            dp_packet_delete(packet);
            continue;
        }
        port->counters.received++;
        if (OVS_UNLIKELY(packet->source != DPBUF_MALLOC)) {
            struct dp_packet *clone = dp_packet_clone(packet);

            dp_packet_delete(packet);
            packet = clone;
        }
        if (port->verify_checksums
            && !loadgen_frame_has_good_checksums(dp_packet_data(packet))) {
            port->counters.bad_checksum++;
        }
        if (port->role == LOADGEN_WIRE) {
            wire_transmit(port, packet);
        } else {
            loadgen_vm_transmit(port, packet);
        }
    }
    port->counters.cycles += read_tsc() - start;
    ovs_mutex_unlock(&port->mutex);
    dp_packet_batch_reset(batch);
}

/* Stores the counters of 'port' in '*counters'. */
void
loadgen_port_get_counters(struct loadgen_port *port,
                          struct loadgen_counters *counters)
{
    ovs_mutex_lock(&port->mutex);
    *counters = port->counters;
    ovs_mutex_unlock(&port->mutex);
}

/* Returns a description of 'port', for the caller to free. */
struct json *
loadgen_port_to_json(struct loadgen_port *port)
{
    struct json *json = json_object_create();
    struct json *counters = json_object_create();

    ovs_mutex_lock(&port->mutex);
    json_object_put_string(json, "name", port->name);
    json_object_put_string(json, "role",
                           port->role == LOADGEN_VM ? "vm" : "wire");
    if (port->role == LOADGEN_VM) {
        const char *state = !port->conns ? "stopped"
            : port->open_first < port->program.n_connections ? "opening"
            : "open";
        struct json *active = json_array_create_empty();

        json_object_put(json, "vm", json_integer_create(port->vm));
        json_object_put_string(json, "state", state);
        json_object_put(json, "connections",
                        json_integer_create(port->program.n_connections));
        json_object_put(json, "open",
                        json_integer_create(port->open_first));
        json_object_put(json, "slots",
                        json_integer_create(port->program.n_slots));
        json_object_put(json, "slots_in_use",
                        json_integer_create(port->program.n_slots
                                            - port->n_free_slots));
        json_object_put(json, "under_way",
                        json_integer_create(port->n_under_way));
        if (port->active & LOADGEN_DATA) {
            json_array_add(active, json_string_create("data"));
        }
        if (port->active & LOADGEN_CHURN) {
            json_array_add(active, json_string_create("churn"));
        }
        if (port->active & LOADGEN_SPRAY) {
            json_array_add(active, json_string_create("spray"));
        }
        json_object_put(json, "active", active);
        json_object_put(json, "last_arrival",
                        json_integer_create(port->last_arrival));
    }
#define LOADGEN_COUNTER(NAME)                                           \
    json_object_put(counters, #NAME,                                    \
                    json_integer_create(port->counters.NAME));
    LOADGEN_COUNTERS
#undef LOADGEN_COUNTER
    ovs_mutex_unlock(&port->mutex);
    json_object_put(json, "counters", counters);
    json_object_put(json, "time", json_integer_create(time_usec()));
    return json;
}

/* Appends descriptions of all ports, in order of their names, to 'array'. */
void
loadgen_ports_to_json(struct json *array)
{
    const struct shash_node **nodes;
    size_t n;

    ovs_mutex_lock(&ports_mutex);
    nodes = shash_sort(&ports);
    n = shash_count(&ports);
    for (size_t i = 0; i < n; i++) {
        json_array_add(array, loadgen_port_to_json(nodes[i]->data));
    }
    ovs_mutex_unlock(&ports_mutex);
    free(nodes);
}
