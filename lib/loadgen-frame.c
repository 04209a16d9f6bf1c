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
#include "ovs-thread.h"
#include "packets.h"
#include "unaligned.h"

/* The first sequence number of both sides. */
#define ISN 0x10000000

static const struct {
    uint16_t flags;
    uint32_t seq, ack;
} kinds[N_KINDS] = {
    [KIND_DATA] = { TCP_ACK, ISN + 1, ISN + 1 },
    [KIND_SYN] = { TCP_SYN, ISN, 0 },
    [KIND_SYN_ACK] = { TCP_SYN | TCP_ACK, ISN, ISN + 1 },
    [KIND_ACK] = { TCP_ACK, ISN + 1, ISN + 1 },
    [KIND_OPEN_ACK] = { TCP_ACK, ISN + 1, ISN + 1 },
    [KIND_WIRE_FIN] = { TCP_FIN | TCP_ACK, ISN + 1, ISN + 1 },
    [KIND_VM_FIN] = { TCP_FIN | TCP_ACK, ISN + 1, ISN + 2 },
    [KIND_LAST] = { TCP_ACK, ISN + 2, ISN + 2 },
};

/* Partial checksums of what is the same in all packets of a kind: in the TCP
 * header with its pseudo-header, and in the IP header. */
static uint32_t tcp_sums[N_KINDS];
static uint32_t ip_sum;
static struct frame templates[N_KINDS];

/* Returns the sum that 'partial' stands for, in 16 bits. */
uint16_t
loadgen_csum_fold(uint32_t partial)
{
    return (OVS_FORCE uint16_t) ~csum_finish(partial);
}

/* Must be called before any other function here. */
void
loadgen_frames_init(void)
{
    static struct ovsthread_once once = OVSTHREAD_ONCE_INITIALIZER;

    if (!ovsthread_once_start(&once)) {
        return;
    }
    for (int i = 0; i < N_KINDS; i++) {
        struct frame *f = &templates[i];

        f->eth.eth_src = (struct eth_addr) ETH_ADDR_C(02,4c,47,00,00,00);
        f->eth.eth_dst = (struct eth_addr) ETH_ADDR_C(02,4c,47,00,ff,00);
        f->eth.eth_type = htons(ETH_TYPE_IP);
        f->ip.ip_ihl_ver = IP_IHL_VER(5, 4);
        f->ip.ip_tot_len = htons(IP_HEADER_LEN + TCP_HEADER_LEN);
        f->ip.ip_frag_off = htons(IP_DONT_FRAGMENT);
        f->ip.ip_ttl = 64;
        f->ip.ip_proto = IPPROTO_TCP;
        put_16aligned_be32(&f->tcp.tcp_seq, htonl(kinds[i].seq));
        put_16aligned_be32(&f->tcp.tcp_ack, htonl(kinds[i].ack));
        f->tcp.tcp_ctl = TCP_CTL(kinds[i].flags, 5);
        f->tcp.tcp_winsz = htons(UINT16_MAX);
        f->magic = MAGIC;

        ip_sum = loadgen_csum_fold(csum_continue(0, &f->ip, sizeof f->ip));
        tcp_sums[i] = loadgen_csum_fold(
            csum_add16(csum_add16(csum_continue(0, &f->tcp, sizeof f->tcp),
                                  htons(IPPROTO_TCP)),
                       htons(TCP_HEADER_LEN)));
    }
    ovsthread_once_done(&once);
}

/* Makes '*f' a frame of kind 'kind' with mark 'mark', numbered 'id', all but
 * for the addresses and ports, whose partial checksums are 'address_sum' and
 * 'port_sum', and the run, all of which the caller fills in. */
void
loadgen_frame_init(struct frame *f, enum kind kind, uint32_t mark, uint16_t id,
                   uint16_t address_sum, uint16_t port_sum)
{
    ovs_be16 ip_id = (OVS_FORCE ovs_be16) id;

    memcpy(f, &templates[kind], sizeof *f);
    f->ip.ip_id = ip_id;
    f->ip.ip_csum = csum_finish(csum_add16(ip_sum + address_sum, ip_id));
    f->tcp.tcp_csum = csum_finish(tcp_sums[kind] + address_sum + port_sum);
    put_16aligned_be32(&f->mark, htonl((uint32_t) kind << 29 | mark));
}

/* Turns 'f', of kind 'old', round, and makes it one of kind 'new'. */
void
loadgen_frame_turn(struct frame *f, enum kind old, enum kind new)
{
    struct eth_addr mac = f->eth.eth_src;
    f->eth.eth_src = f->eth.eth_dst;
    f->eth.eth_dst = mac;

    ovs_16aligned_be32 address = f->ip.ip_src;
    f->ip.ip_src = f->ip.ip_dst;
    f->ip.ip_dst = address;

    ovs_be16 port = f->tcp.tcp_src;
    f->tcp.tcp_src = f->tcp.tcp_dst;
    f->tcp.tcp_dst = port;

    if (new != old) {
        uint32_t mark = ntohl(get_16aligned_be32(&f->mark));

        mark = (mark & 0x1fffffff) | ((uint32_t) new << 29);
        put_16aligned_be32(&f->mark, htonl(mark));
        put_16aligned_be32(&f->tcp.tcp_seq, htonl(kinds[new].seq));
        put_16aligned_be32(&f->tcp.tcp_ack, htonl(kinds[new].ack));
        f->tcp.tcp_ctl = TCP_CTL(kinds[new].flags, 5);

        /* RFC 1624, equation 3. */
        uint16_t sum = ~(OVS_FORCE uint16_t) f->tcp.tcp_csum;
        f->tcp.tcp_csum = csum_finish(sum + (uint16_t) ~tcp_sums[old]
                                      + tcp_sums[new]);
    }
}

/* Returns true if the checksums of 'f' are right. */
bool
loadgen_frame_has_good_checksums(const struct frame *f)
{
    uint32_t tcp = packet_csum_pseudoheader(&f->ip);

    return !csum(&f->ip, sizeof f->ip)
        && !csum_finish(csum_continue(tcp, &f->tcp, sizeof f->tcp));
}
