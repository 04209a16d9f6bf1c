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

#ifndef LOADGEN_PRIVATE_H
#define LOADGEN_PRIVATE_H 1

#include "dp-packet.h"
#include "layered/lib/loadgen.h"
#include "openvswitch/compiler.h"
#include "ovs-atomic.h"
#include "packets.h"
#include "unaligned.h"

/* What the files of the load generator share.  Functions that take a port want
 * its mutex to be held. */

/* Packets that a port keeps for use, at most. */
#define POOL_SIZE 1024

/* Packets that wait to be received, at most, for each queue. */
#define RING_SIZE 4096
BUILD_ASSERT_DECL(IS_POW2(RING_SIZE));

/* Frames. */

/* What a packet means. */
enum kind {
    KIND_DATA,                  /* Sent by either. */
    KIND_SYN_ACK,
    KIND_SYN,
    KIND_WIRE_FIN,              /* The wire's FIN-ACK. */
    KIND_ACK,                   /* Of a connection that will be closed. */
    KIND_LAST,                  /* The wire's ACK, which is the last packet. */
    KIND_VM_FIN,                /* The machine's FIN-ACK. */
    KIND_OPEN_ACK,              /* Of a standing connection. */
    N_KINDS
};

/* A frame.  All of its members are aligned to 16 bits, as is the whole. */
struct frame {
    struct eth_header eth;
    struct ip_header ip;
    struct tcp_header tcp;
    uint8_t magic;              /* Always MAGIC. */
    uint8_t run;                /* Of the program's starts, modulo 256. */
    ovs_16aligned_be32 mark;    /* From the left: 3 bits enum kind, 5 bits
                                 * machine, 24 bits connection. */
};
BUILD_ASSERT_DECL(sizeof(struct frame) == 60);

#define MAGIC 0x4c
#define SLOT_MASK 0xffffff
#define SLOT_SPRAY SLOT_MASK    /* In SYNs that are not to be answered. */

void loadgen_frames_init(void);
uint16_t loadgen_csum_fold(uint32_t partial);
void loadgen_frame_init(struct frame *, enum kind, uint32_t mark, uint16_t id,
                        uint16_t address_sum, uint16_t port_sum);
void loadgen_frame_turn(struct frame *, enum kind old, enum kind new);
bool loadgen_frame_has_good_checksums(const struct frame *);

/* Returns true if 'packet' has a frame of ours in it. */
static inline bool
loadgen_packet_is_ours(const struct dp_packet *packet)
{
    const struct frame *f = dp_packet_data(packet);

    return dp_packet_size(packet) == sizeof *f
        && f->eth.eth_type == htons(ETH_TYPE_IP)
        && f->ip.ip_ihl_ver == IP_IHL_VER(5, 4)
        && f->ip.ip_proto == IPPROTO_TCP
        && f->magic == MAGIC;
}

/* Ports. */

/* State of a connection of a virtual machine. */
enum conn_state {
    CONN_IDLE,
    CONN_SYN,                   /* Sent, no answer yet; likewise below. */
    CONN_ACK,
    CONN_FIN,
    CONN_OPEN,                  /* Standing connections only. */
};

struct conn {
    ovs_be32 client;
    ovs_be32 service;
    ovs_be16 client_port;
    ovs_be16 service_port;
    uint16_t address_sum;       /* Folded partial checksums. */
    uint16_t port_sum;
    uint16_t tx_id;             /* The next packet's number.  While it opens
                                 * and closes: that of the connection. */
    uint16_t rx_id;             /* The number expected next. */
    uint32_t rx_bitmap;         /* Bit I: number rx_id - 1 - I arrived. */
    uint32_t deadline;          /* In ms, modulo 2**32. */
    uint8_t state;              /* enum conn_state. */
    uint8_t tries;
};
BUILD_ASSERT_DECL(sizeof(struct conn) == 32);

struct ring {
    unsigned int head, tail;    /* Packets are taken at the tail. */
    struct dp_packet *packets[RING_SIZE];
};

/* What may be sent at a limited rate. */
struct pace {
    uint64_t credit;            /* In millionths of a packet. */
    long long int last;         /* When credit was given last, in us. */
};

struct loadgen_port {
    char *name;
    struct ovs_refcount ref_cnt;

    struct ovs_mutex mutex;

    /* Everything below is guarded by 'mutex'. */
    enum loadgen_role role;
    unsigned int vm;
    unsigned int wire;          /* The number of the wire. */
    bool verify_checksums;
    struct loadgen_counters counters;

    struct dp_packet *pool[POOL_SIZE];
    unsigned int n_pool;
    unsigned int n_idle;        /* Times in a row there was nothing. */

    /* What waits to be received.  Of a wire, one ring for each machine that
     * sent, of a machine, only the first.  NULL until it is needed. */
    struct ring *rings[LOADGEN_MAX_VMS];

    /* Wires only. */
    struct loadgen_expectation wire_src[LOADGEN_MAX_VMS];
    struct loadgen_expectation wire_dst[LOADGEN_MAX_VMS];

    /* Machines only. */
    struct conn *conns;         /* NULL if there is no program.  First the
                                 * standing connections, then the slots. */
    struct loadgen_program program;
    uint8_t run;
    enum loadgen_activity active;

    uint32_t open_first;        /* Standing connections below this are open, */
    uint32_t open_next;         /* those from this on have not been tried. */
    uint32_t scan;              /* Where to look for what is overdue. */

    uint32_t data_next;         /* The next connection in turn. */
    uint32_t n_under_way;       /* Data. */
    long long int last_data;    /* When data came or went last, in us. */
    long long int last_arrival; /* When data came last, in us. */
    long long int now;          /* When the batch at hand came, in us. */

    uint32_t *free_slots;       /* Numbers of slots that are not in use. */
    uint32_t n_free_slots;
    uint64_t n_started;         /* Connections, for their addresses. */

    uint32_t random;            /* State of the random number generator. */
    struct pace data_pace, churn_pace, spray_pace;
};

void loadgen_packet_reset(struct dp_packet *);
struct dp_packet *loadgen_packet_get(struct loadgen_port *);
void loadgen_packet_put(struct loadgen_port *, struct dp_packet *);
void loadgen_ring_push(struct loadgen_port *, unsigned int ring,
                       struct dp_packet *);
void loadgen_ring_pop_batch(struct loadgen_port *, unsigned int ring,
                            struct dp_packet_batch *);

void loadgen_vm_receive(struct loadgen_port *, struct dp_packet_batch *);
void loadgen_vm_transmit(struct loadgen_port *, struct dp_packet *);
void loadgen_vm_clear(struct loadgen_port *);

void loadgen_wires_expect(unsigned int vm, const struct loadgen_expectation *,
                          const struct loadgen_expectation *);

#endif /* loadgen-private.h */
