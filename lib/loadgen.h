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

#ifndef LOADGEN_H
#define LOADGEN_H 1

#include <stdbool.h>
#include <stdint.h>

#include "openvswitch/types.h"
#include "ovs-thread.h"

/* A packet source and sink for benchmarks, inside the process.
 *
 * A "loadgen port" is the far end of a network device of type "loadgen", and
 * plays what is connected there: a virtual machine, or everything beyond the
 * wire.  A virtual machine opens TCP connections to services, in a number that
 * can be chosen, and sends packets of 60 bytes (64 with the frame check
 * sequence) in them.  The wire answers: it turns round whatever it receives,
 * with the addresses and ports that it received, so that any translation of
 * these in between is undone on the way back if all is well.  It remembers
 * nothing of connections.  The virtual machine checks what comes back.
 *
 * What a virtual machine does is its "program" (struct loadgen_program):
 *
 *   - It opens 'n_connections' standing connections, in the way of TCP, with
 *     few of them at a time, and sends packets in all of them in turn or at
 *     random, each of which the wire sends back ("data").
 *
 *   - It opens and closes up to 'n_slots' connections at a time, over and
 *     over, each in six packets, of which each is sent when the one before has
 *     arrived: SYN, SYN-ACK, ACK, FIN-ACK (of the wire), FIN-ACK, ACK
 *     ("churn").
 *
 *   - It sends SYNs that nobody answers ("spray").
 *
 * Every packet is marked, behind the end of its IP datagram, where Ethernet
 * pads short frames, with the machine and connection that it is of and what it
 * means; the IP identification numbers a connection's packets.  TCP's own
 * numbers are as they should be.
 *
 * Thread-safety: a port has a mutex that every function takes.  With a PMD
 * thread per port there is no contention, and since the mutex is taken once
 * for a batch its cost does not matter. */

struct dp_packet_batch;
struct json;

/* Virtual machines have numbers below this. */
#define LOADGEN_MAX_VMS 32

/* Likewise wires. */
#define LOADGEN_MAX_WIRES 32

/* Standing connections and slots of a program, both together, are fewer than
 * this. */
#define LOADGEN_MAX_CONNECTIONS 0xffffff

enum loadgen_role {
    LOADGEN_VM,
    LOADGEN_WIRE,
};

/* What a program does at the moment. */
enum loadgen_activity {
    LOADGEN_DATA = 1 << 0,
    LOADGEN_CHURN = 1 << 1,
    LOADGEN_SPRAY = 1 << 2,
};

/* Addresses as the wire is expected to see them: those that are 'address' in
 * the bits of 'mask'. */
struct loadgen_expectation {
    ovs_be32 address;
    ovs_be32 mask;
};

/* A virtual machine's program. */
struct loadgen_program {
    /* Connections.  Number T (from 0) is to service T modulo 'n_services', and
     * from the client ports in turn, and then from the next client address. */
    uint32_t client;            /* First client address, in host byte order. */
    uint32_t n_clients;         /* Consecutive addresses. */
    uint16_t client_port;       /* First client port. */
    uint32_t n_client_ports;
    uint32_t service;           /* First service address, in host order. */
    uint32_t n_services;
    uint16_t service_port;

    /* Standing connections, and the data sent in them. */
    uint32_t n_connections;
    bool random_order;          /* Otherwise in turn. */
    uint32_t window;            /* Packets under way at most, also of opening
                                 * connections. */
    uint64_t data_rate;         /* Packets per second, 0 for no limit. */

    /* Connections opened and closed. */
    uint32_t n_slots;
    uint32_t n_tuples;          /* After so many, addresses are used again. */
    uint64_t churn_rate;        /* Connections per second, 0 for no limit. */
    uint32_t timeout;           /* Until a packet is sent again, in ms. */

    uint64_t spray_rate;        /* SYNs per second, 0 for no limit. */

    /* What the wire is to see. */
    struct loadgen_expectation wire_src;
    struct loadgen_expectation wire_dst;
};

/* Counters, in packets unless said otherwise.  All of them grow only. */
#define LOADGEN_COUNTERS                                                     \
    /* All packets. */                                                       \
    LOADGEN_COUNTER(sent)                                                    \
    LOADGEN_COUNTER(received)                                                \
    /* Data, in the standing connections. */                                 \
    LOADGEN_COUNTER(data_sent)                                               \
    LOADGEN_COUNTER(data_received)                                           \
    LOADGEN_COUNTER(gaps)            /* Missing, by the numbers. */          \
    LOADGEN_COUNTER(reordered)       /* Overtaken by later ones. */          \
    LOADGEN_COUNTER(duplicated)                                              \
    LOADGEN_COUNTER(given_up)        /* No longer waited for. */             \
    /* Opening of standing connections, in connections. */                   \
    LOADGEN_COUNTER(opened)                                                  \
    /* Connections opened and closed, in connections. */                     \
    LOADGEN_COUNTER(started)                                                 \
    LOADGEN_COUNTER(completed)                                               \
    LOADGEN_COUNTER(failed)          /* Given up after some retries. */      \
    LOADGEN_COUNTER(retransmitted)                                           \
    LOADGEN_COUNTER(sprayed)                                                 \
    /* What should not arrive. */                                            \
    LOADGEN_COUNTER(misdelivered)    /* Of another machine. */               \
    LOADGEN_COUNTER(mistranslated)   /* Wrong addresses or ports. */         \
    LOADGEN_COUNTER(unexpected)      /* Of no connection, or out of turn. */ \
    LOADGEN_COUNTER(foreign)         /* Not ours. */                         \
    LOADGEN_COUNTER(bad_checksum)                                            \
    LOADGEN_COUNTER(overflow)        /* Dropped, too many wait. */           \
    /* Time that the port itself took, in cycles of the TSC. */              \
    LOADGEN_COUNTER(cycles)

struct loadgen_counters {
#define LOADGEN_COUNTER(NAME) uint64_t NAME;
    LOADGEN_COUNTERS
#undef LOADGEN_COUNTER
};

struct loadgen_port *loadgen_port_create(const char *name);
void loadgen_port_destroy(struct loadgen_port *);
struct loadgen_port *loadgen_port_find(const char *name);
void loadgen_port_unref(struct loadgen_port *);

void loadgen_port_configure(struct loadgen_port *, enum loadgen_role,
                            unsigned int vm, unsigned int wire,
                            bool verify_checksums);

int loadgen_port_receive(struct loadgen_port *, unsigned int queue,
                         unsigned int n_queues, struct dp_packet_batch *);
void loadgen_port_transmit(struct loadgen_port *, struct dp_packet_batch *);
void loadgen_port_get_counters(struct loadgen_port *,
                               struct loadgen_counters *);
struct json *loadgen_port_to_json(struct loadgen_port *);
void loadgen_ports_to_json(struct json *array);

void loadgen_program_init(struct loadgen_program *);
char *loadgen_port_start(struct loadgen_port *,
                         const struct loadgen_program *);
char *loadgen_port_change(struct loadgen_port *,
                          const struct loadgen_program *);
bool loadgen_port_get_program(struct loadgen_port *,
                              struct loadgen_program *);
char *loadgen_port_run(struct loadgen_port *, enum loadgen_activity);
void loadgen_port_stop(struct loadgen_port *);

void loadgen_unixctl_init(void);

#endif /* loadgen.h */
