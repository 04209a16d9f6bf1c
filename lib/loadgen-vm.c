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

#include "csum.h"
#include "hash.h"
#include "timeval.h"
#include "util.h"

/* What a port does that plays a virtual machine. */

/* Connections looked at, for each poll, for answers that are overdue. */
#define SCAN 8

/* How often a packet of a connection that is opened and closed is sent, until
 * the connection is given up. */
#define MAX_TRIES 4

/* If nothing has come back for this long, in us, what is under way is lost. */
#define GIVE_UP 50000

/* xorshift; the library's is slower, and shared by all that a thread does. */
static uint32_t
next_random(struct loadgen_port *port)
{
    uint32_t x = port->random;

    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return port->random = x;
}

/* Gives 'conn' the addresses of connection number 't' of program 'p'. */
static void
conn_set_tuple(const struct loadgen_program *p, struct conn *conn, uint64_t t)
{
    uint64_t client = t / p->n_services;

    conn->service = htonl(p->service + t % p->n_services);
    conn->service_port = htons(p->service_port);
    conn->client = htonl(p->client
                         + client / p->n_client_ports % p->n_clients);
    conn->client_port = htons(p->client_port + client % p->n_client_ports);
    conn->address_sum = loadgen_csum_fold(
        csum_add32(csum_add32(0, conn->client), conn->service));
    conn->port_sum = loadgen_csum_fold(
        csum_add16(csum_add16(0, conn->client_port), conn->service_port));
}

/* Adds to 'batch' a packet of 'conn', which is number 'slot', numbered
 * 'id'. */
static void
vm_emit(struct loadgen_port *port, const struct conn *conn, uint32_t slot,
        enum kind kind, uint16_t id, struct dp_packet_batch *batch)
{
    struct dp_packet *packet = loadgen_packet_get(port);
    struct frame *f = dp_packet_data(packet);

    loadgen_frame_init(f, kind, port->vm << 24 | slot, id, conn->address_sum,
                       conn->port_sum);
    f->eth.eth_src.ea[5] = port->vm;
    f->eth.eth_dst.ea[5] = port->wire;
    f->run = port->run;
    put_16aligned_be32(&f->ip.ip_src, conn->client);
    put_16aligned_be32(&f->ip.ip_dst, conn->service);
    f->tcp.tcp_src = conn->client_port;
    f->tcp.tcp_dst = conn->service_port;
    loadgen_packet_reset(packet);
    dp_packet_batch_add(batch, packet);
}

static unsigned int
batch_room(const struct dp_packet_batch *batch)
{
    return NETDEV_MAX_BURST - dp_packet_batch_size(batch);
}

/* Returns how many of 'want' packets may be sent at 'rate' at time 'now', in
 * us.  Those that are sent are to be subtracted by pace_spend(). */
static unsigned int
pace_get(struct pace *pace, uint64_t rate, long long int now,
         unsigned int want)
{
    if (!rate) {
        return want;
    }

    uint64_t limit = MAX(rate / 100, 1) * 1000000;
    uint64_t elapsed = MIN(now - pace->last, 1000000);
    pace->last = now;
    pace->credit = MIN(pace->credit + rate * elapsed, limit);
    return MIN(want, pace->credit / 1000000);
}

static void
pace_spend(struct pace *pace, uint64_t rate, unsigned int n)
{
    if (rate) {
        pace->credit -= n * UINT64_C(1000000);
    }
}

static bool
is_overdue(const struct conn *conn, uint32_t now)
{
    return (int32_t) (now - conn->deadline) >= 0;
}

/* Opens standing connections.  'now' is in ms. */
static void
vm_open(struct loadgen_port *port, uint32_t now, struct dp_packet_batch *batch)
{
    const struct loadgen_program *p = &port->program;

    while (port->open_first < port->open_next
           && port->conns[port->open_first].state == CONN_OPEN) {
        port->open_first++;
    }
    for (int i = 0; i < SCAN && port->open_first < port->open_next; i++) {
        uint32_t slot = port->open_first
            + port->scan++ % (port->open_next - port->open_first);
        struct conn *conn = &port->conns[slot];

        if (conn->state == CONN_SYN && is_overdue(conn, now)
            && batch_room(batch)) {
            conn->deadline = now + p->timeout;
            port->counters.retransmitted++;
            vm_emit(port, conn, slot, KIND_SYN, 0, batch);
        }
    }
    while (port->open_next < p->n_connections
           && port->open_next - port->open_first < p->window
           && batch_room(batch)) {
        struct conn *conn = &port->conns[port->open_next];

        conn->state = CONN_SYN;
        conn->deadline = now + p->timeout;
        vm_emit(port, conn, port->open_next++, KIND_SYN, 0, batch);
    }
}

/* Opens connections that are to be closed again, and sends again what was not
 * answered in time. */
static void
vm_churn(struct loadgen_port *port, long long int now_us, uint32_t now,
         struct dp_packet_batch *batch)
{
    const struct loadgen_program *p = &port->program;

    if (port->n_free_slots < p->n_slots) {
        for (int i = 0; i < SCAN && batch_room(batch); i++) {
            uint32_t slot = p->n_connections + port->scan++ % p->n_slots;
            struct conn *conn = &port->conns[slot];

            if (conn->state == CONN_IDLE || !is_overdue(conn, now)) {
                continue;
            }
            if (++conn->tries > MAX_TRIES) {
                conn->state = CONN_IDLE;
                port->free_slots[port->n_free_slots++] = slot;
                port->counters.failed++;
                continue;
            }
            conn->deadline = now + p->timeout;
            port->counters.retransmitted++;
            vm_emit(port, conn, slot,
                    conn->state == CONN_SYN ? KIND_SYN
                    : conn->state == CONN_ACK ? KIND_ACK : KIND_VM_FIN,
                    conn->tx_id, batch);
        }
    }
    if (!(port->active & LOADGEN_CHURN)) {
        return;
    }

    unsigned int n = pace_get(&port->churn_pace, p->churn_rate, now_us,
                              MIN(batch_room(batch), port->n_free_slots));
    for (unsigned int i = 0; i < n; i++) {
        uint32_t slot = port->free_slots[--port->n_free_slots];
        struct conn *conn = &port->conns[slot];

        conn_set_tuple(p, conn, p->n_connections
                       + port->n_started++ % p->n_tuples);
        conn->state = CONN_SYN;
        conn->tries = 1;
        conn->tx_id++;
        conn->deadline = now + p->timeout;
        vm_emit(port, conn, slot, KIND_SYN, conn->tx_id, batch);
    }
    port->counters.started += n;
    pace_spend(&port->churn_pace, p->churn_rate, n);
}

/* Sends in the standing connections. */
static void
vm_data(struct loadgen_port *port, long long int now,
        struct dp_packet_batch *batch)
{
    const struct loadgen_program *p = &port->program;
    uint32_t slots[NETDEV_MAX_BURST];
    unsigned int n;

    if (port->n_under_way >= p->window && now - port->last_data > GIVE_UP) {
        port->counters.given_up += port->n_under_way;
        port->n_under_way = 0;
    }
    if (port->n_under_way >= p->window) {
        return;
    }
    n = MIN(batch_room(batch), p->window - port->n_under_way);
    n = pace_get(&port->data_pace, p->data_rate, now, n);
    for (unsigned int i = 0; i < n; i++) {
        if (p->random_order) {
            slots[i] = ((uint64_t) next_random(port) * p->n_connections) >> 32;
        } else {
            slots[i] = port->data_next;
            if (++port->data_next >= p->n_connections) {
                port->data_next = 0;
            }
        }
        OVS_PREFETCH(&port->conns[slots[i]]);
    }
    for (unsigned int i = 0; i < n; i++) {
        struct conn *conn = &port->conns[slots[i]];

        vm_emit(port, conn, slots[i], KIND_DATA, conn->tx_id++, batch);
    }
    if (n) {
        port->n_under_way += n;
        port->counters.data_sent += n;
        port->last_data = now;
        pace_spend(&port->data_pace, p->data_rate, n);
    }
}

/* Sends SYNs. */
static void
vm_spray(struct loadgen_port *port, long long int now,
         struct dp_packet_batch *batch)
{
    const struct loadgen_program *p = &port->program;
    unsigned int n = pace_get(&port->spray_pace, p->spray_rate, now,
                              batch_room(batch));

    for (unsigned int i = 0; i < n; i++) {
        struct conn conn;

        conn_set_tuple(p, &conn, next_random(port));
        vm_emit(port, &conn, SLOT_SPRAY, KIND_SYN, i, batch);
    }
    port->counters.sprayed += n;
    pace_spend(&port->spray_pace, p->spray_rate, n);
}

/* Adds to 'batch' what machine 'port' sends now. */
void
loadgen_vm_receive(struct loadgen_port *port, struct dp_packet_batch *batch)
{
    long long int now = time_usec();

    loadgen_ring_pop_batch(port, 0, batch);
    if (!port->conns) {
        return;
    }
    if (port->open_first < port->program.n_connections) {
        vm_open(port, now / 1000, batch);
        return;
    }
    if (port->program.n_slots) {
        vm_churn(port, now, now / 1000, batch);
    }
    if (port->active & LOADGEN_DATA && port->program.n_connections) {
        vm_data(port, now, batch);
    }
    if (port->active & LOADGEN_SPRAY) {
        vm_spray(port, now, batch);
    }
}

/* Notes the arrival of the data packet numbered 'id' in 'conn'. */
static void
vm_arrival(struct loadgen_port *port, struct conn *conn, uint16_t id)
{
    int ahead = (int16_t) (id - conn->rx_id);

    if (ahead >= 0) {
        port->counters.gaps += ahead;
        conn->rx_bitmap = (ahead < 31 ? conn->rx_bitmap << (ahead + 1) : 0)
            | 1;
        conn->rx_id = id + 1;
    } else {
        uint32_t bit = ahead >= -32 ? UINT32_C(1) << (-ahead - 1) : 0;

        if (conn->rx_bitmap & bit) {
            port->counters.duplicated++;
            return;
        }
        conn->rx_bitmap |= bit;
        port->counters.reordered++;
    }
    port->counters.data_received++;
    port->last_data = port->last_arrival = port->now;
    if (port->n_under_way) {
        port->n_under_way--;
    }
}

/* Continues with 'conn', which was in state 'from', by turning 'packet' round
 * and sending it as one of kind 'reply'. */
static void
vm_continue(struct loadgen_port *port, struct conn *conn, enum conn_state to,
            struct dp_packet *packet, enum kind kind, enum kind reply)
{
    conn->state = to;
    conn->tries = 1;
    conn->deadline = port->now / 1000 + port->program.timeout;
    loadgen_frame_turn(dp_packet_data(packet), kind, reply);
    loadgen_ring_push(port, 0, packet);
}

/* Handles 'packet', which has a frame in it and has come to machine 'port'.
 * Takes it. */
void
loadgen_vm_transmit(struct loadgen_port *port, struct dp_packet *packet)
{
    const struct loadgen_program *p = &port->program;
    struct frame *f = dp_packet_data(packet);
    uint32_t mark = ntohl(get_16aligned_be32(&f->mark));
    uint16_t id = (OVS_FORCE uint16_t) f->ip.ip_id;
    uint32_t slot = mark & SLOT_MASK;
    enum kind kind = mark >> 29;

    if (OVS_UNLIKELY(((mark >> 24) & 31) != port->vm)) {
        port->counters.misdelivered++;
        goto done;
    }
    if (OVS_UNLIKELY(!port->conns || f->run != port->run
                     || slot >= p->n_connections + p->n_slots)) {
        port->counters.unexpected++;
        goto done;
    }

    struct conn *conn = &port->conns[slot];
    bool standing = slot < p->n_connections;

    if (!standing && (id != conn->tx_id || conn->state == CONN_IDLE)) {
        /* Of an earlier connection in this slot. */
        port->counters.unexpected++;
        goto done;
    }
    if (OVS_UNLIKELY(get_16aligned_be32(&f->ip.ip_src) != conn->service
                     || get_16aligned_be32(&f->ip.ip_dst) != conn->client
                     || f->tcp.tcp_src != conn->service_port
                     || f->tcp.tcp_dst != conn->client_port)) {
        port->counters.mistranslated++;
        goto done;
    }

    if (kind == KIND_DATA && standing) {
        vm_arrival(port, conn, id);
    } else if (kind == KIND_SYN_ACK && conn->state == CONN_SYN) {
        if (standing) {
            port->counters.opened++;
            vm_continue(port, conn, CONN_OPEN, packet, kind, KIND_OPEN_ACK);
        } else {
            vm_continue(port, conn, CONN_ACK, packet, kind, KIND_ACK);
        }
        return;
    } else if (kind == KIND_WIRE_FIN && conn->state == CONN_ACK) {
        vm_continue(port, conn, CONN_FIN, packet, kind, KIND_VM_FIN);
        return;
    } else if (kind == KIND_LAST && conn->state == CONN_FIN) {
        conn->state = CONN_IDLE;
        port->free_slots[port->n_free_slots++] = slot;
        port->counters.completed++;
    } else {
        port->counters.unexpected++;
    }

done:
    loadgen_packet_put(port, packet);
}

/* Programs. */

/* Frees the program of 'port'. */
void
loadgen_vm_clear(struct loadgen_port *port)
{
    port->active = 0;
    free(port->conns);
    port->conns = NULL;
    free(port->free_slots);
    port->free_slots = NULL;
    port->n_free_slots = 0;
    memset(&port->program, 0, sizeof port->program);
}

/* Fills '*program' with defaults: no connections at all. */
void
loadgen_program_init(struct loadgen_program *program)
{
    *program = (struct loadgen_program) {
        .client = 0x0a000002,           /* 10.0.0.2 */
        .n_clients = 1,
        .client_port = 1024,
        .n_client_ports = 64512,
        .service = 0xc6120001,          /* 198.18.0.1 */
        .n_services = 1,
        .service_port = 80,
        .window = 256,
        .n_tuples = 64000,
        .timeout = 1000,
    };
}

/* Gives 'port' the program 'program', instead of any that it has, and has it
 * open the standing connections.  Returns NULL if successful, otherwise an
 * error message that the caller frees. */
char *
loadgen_port_start(struct loadgen_port *port,
                   const struct loadgen_program *program)
{
    uint32_t n = program->n_connections + program->n_slots;
    uint64_t n_tuples = program->n_connections
        + (uint64_t) (program->n_slots ? program->n_tuples : 0);
    struct conn *conns;
    uint32_t *free_slots;

    if (port->role != LOADGEN_VM) {
        return xstrdup("is not a virtual machine");
    } else if (program->n_connections >= LOADGEN_MAX_CONNECTIONS
               || program->n_slots >= LOADGEN_MAX_CONNECTIONS
               || n >= LOADGEN_MAX_CONNECTIONS) {
        return xasprintf("connections and slots: more than %d in all",
                         LOADGEN_MAX_CONNECTIONS - 1);
    } else if (program->client_port + program->n_client_ports - 1
               > UINT16_MAX) {
        return xasprintf("client-ports: more than there are from %"PRIu16,
                         program->client_port);
    } else if (n_tuples > (uint64_t) program->n_clients
               * program->n_client_ports * program->n_services) {
        return xasprintf("%"PRIu64" connections are more than there are "
                         "clients, client-ports and services for", n_tuples);
    } else if (program->n_slots > program->n_tuples) {
        return xstrdup("slots: more than tuples");
    }

    conns = xcalloc(n + 1, sizeof *conns);
    for (uint32_t i = 0; i < n; i++) {
        conn_set_tuple(program, &conns[i], i);
        conns[i].rx_bitmap = UINT32_MAX;
    }
    free_slots = xmalloc(MAX(program->n_slots, 1) * sizeof *free_slots);
    for (uint32_t i = 0; i < program->n_slots; i++) {
        free_slots[i] = n - 1 - i;
    }

    loadgen_wires_expect(port->vm, &program->wire_src, &program->wire_dst);

    ovs_mutex_lock(&port->mutex);
    loadgen_vm_clear(port);
    port->program = *program;
    port->conns = conns;
    port->free_slots = free_slots;
    port->n_free_slots = program->n_slots;
    port->run++;
    port->open_first = port->open_next = 0;
    port->data_next = 0;
    port->n_under_way = 0;
    port->n_started = 0;
    port->random = hash_uint64(port->vm) | 1;
    memset(&port->data_pace, 0, sizeof port->data_pace);
    memset(&port->churn_pace, 0, sizeof port->churn_pace);
    memset(&port->spray_pace, 0, sizeof port->spray_pace);
    ovs_mutex_unlock(&port->mutex);
    return NULL;
}

/* Changes the program of 'port' to 'program' in what does not need the
 * connections to be opened anew: the order of data, the window, the timeout
 * and all rates.  Returns NULL if successful, otherwise an error message that
 * the caller frees. */
char *
loadgen_port_change(struct loadgen_port *port,
                    const struct loadgen_program *program)
{
    struct loadgen_program *p = &port->program;
    char *error = NULL;

    ovs_mutex_lock(&port->mutex);
    if (port->conns) {
        p->random_order = program->random_order;
        p->window = program->window;
        p->data_rate = program->data_rate;
        p->churn_rate = program->churn_rate;
        p->timeout = program->timeout;
        p->spray_rate = program->spray_rate;
    } else {
        error = xstrdup("has not been started");
    }
    ovs_mutex_unlock(&port->mutex);
    return error;
}

/* Stores the program of 'port' in '*program'.  Returns false if there is
 * none. */
bool
loadgen_port_get_program(struct loadgen_port *port,
                         struct loadgen_program *program)
{
    ovs_mutex_lock(&port->mutex);
    bool any = port->conns != NULL;
    *program = port->program;
    ovs_mutex_unlock(&port->mutex);
    return any;
}

/* From now on, 'port' does what is in 'active', and nothing else, once its
 * standing connections are open.  Connections that are being opened and closed
 * come to their end.  Returns NULL if successful, otherwise an error message
 * that the caller frees. */
char *
loadgen_port_run(struct loadgen_port *port, enum loadgen_activity active)
{
    char *error = NULL;

    ovs_mutex_lock(&port->mutex);
    if (!port->conns) {
        error = xstrdup("has not been started");
    } else if (active & LOADGEN_CHURN && !port->program.n_slots) {
        error = xstrdup("churn: has been started without slots");
    } else if (active & LOADGEN_DATA && !port->program.n_connections) {
        error = xstrdup("data: has been started without connections");
    } else {
        if (active & LOADGEN_DATA && !(port->active & LOADGEN_DATA)) {
            port->n_under_way = 0;
        }
        port->active = active;
    }
    ovs_mutex_unlock(&port->mutex);
    return error;
}

/* Ends the program of 'port', without a word to the wire. */
void
loadgen_port_stop(struct loadgen_port *port)
{
    ovs_mutex_lock(&port->mutex);
    loadgen_vm_clear(port);
    ovs_mutex_unlock(&port->mutex);
}
