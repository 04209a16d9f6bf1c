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

/* Shows what nat-pool.c, conn-state.c and layer-packet.c do, for
 * layer-packet.at.  Packets are in hexadecimal. */

#include <config.h>

#undef NDEBUG

#include <netinet/ip6.h>

#include "command-line.h"
#include "crc32c.h"
#include "csum.h"
#include "dp-packet.h"
#include "flow.h"
#include "hash.h"
#include "layered/ofproto-layered/conn-state.h"
#include "layered/ofproto-layered/layer-action.h"
#include "layered/ofproto-layered/layer-packet.h"
#include "layered/ofproto-layered/nat-pool.h"
#include "ovs-thread.h"
#include "packets.h"
#include "random.h"
#include "smap.h"
#include "util.h"

#include "openvswitch/dynamic-string.h"
#include "openvswitch/hmap.h"

static struct in6_addr
parse_address(const char *s)
{
    struct in6_addr addr;
    ovs_be32 ip;

    if (ip_parse(s, &ip)) {
        return in6_addr_mapped_ipv4(ip);
    } else if (!ipv6_parse(s, &addr)) {
        ovs_fatal(0, "%s: not an address", s);
    }
    return addr;
}

static uint8_t
parse_proto(const char *s)
{
    return (!strcmp(s, "tcp") ? IPPROTO_TCP
            : !strcmp(s, "udp") ? IPPROTO_UDP
            : !strcmp(s, "sctp") ? IPPROTO_SCTP
            : !strcmp(s, "icmp") ? IPPROTO_ICMP
            : !strcmp(s, "icmp6") ? IPPROTO_ICMPV6
            : atoi(s));
}

static void
print_address(const struct in6_addr *addr)
{
    struct ds s = DS_EMPTY_INITIALIZER;

    ipv6_format_mapped(addr, &s);
    fputs(ds_cstr(&s), stdout);
    ds_destroy(&s);
}

/* NAT. */

/* nat: executes commands from stdin, one a line:
 *
 *   target MIN MAX MIN-PORT MAX-PORT
 *   alloc PROTO SRC SPORT REMOTE RPORT
 *   fill PROTO SRC SPORT REMOTE RPORT: as many as there are
 *   release N: the Nth tuple of "alloc", from 0
 *   release-fill: all those of "fill"
 */
static void
test_nat(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    static struct nat_tuple tuples[100], filled[1 << 18];
    size_t n_tuples = 0, n_filled = 0;
    struct nat_target target;
    char line[512];

    while (fgets(line, sizeof line, stdin)) {
        char *argv[6] = { NULL };
        char *save_ptr = NULL;

        for (size_t i = 0; i < ARRAY_SIZE(argv); i++) {
            argv[i] = strtok_r(i ? NULL : line, " \n", &save_ptr);
        }
        if (!argv[0]) {
            continue;
        } else if (!strcmp(argv[0], "target")) {
            target.min = parse_address(argv[1]);
            target.max = parse_address(argv[2]);
            target.min_port = atoi(argv[3]);
            target.max_port = atoi(argv[4]);
        } else if (!strcmp(argv[0], "release")) {
            nat_pool_release(&tuples[atoi(argv[1])]);
        } else if (!strcmp(argv[0], "release-fill")) {
            while (n_filled) {
                nat_pool_release(&filled[--n_filled]);
            }
        } else {
            struct in6_addr src = parse_address(argv[2]);
            struct in6_addr remote = parse_address(argv[4]);
            bool fill = !strcmp(argv[0], "fill");
            struct nat_tuple *tuple;

            do {
                tuple = fill ? &filled[n_filled] : &tuples[n_tuples];
                if (!nat_pool_allocate(&target, parse_proto(argv[1]), &src,
                                       htons(atoi(argv[3])), &remote,
                                       htons(atoi(argv[5])), tuple)) {
                    tuple = NULL;
                } else if (fill) {
                    n_filled++;
                } else {
                    n_tuples++;
                    print_address(&tuple->addr);
                    printf(" %"PRIu16"\n", ntohs(tuple->port));
                }
            } while (fill && tuple);
            if (fill) {
                printf("%"PRIuSIZE"\n", n_filled);
            } else if (!tuple) {
                printf("exhausted\n");
            }
        }
    }
    printf("count %"PRIuSIZE"\n", nat_pool_count());
}

struct shadow {
    struct hmap_node node;
    struct nat_tuple tuple;
};

/* nat-random N: allocates and releases tuples N times, at random, and checks
 * that none is out twice. */
static void
test_nat_random(struct ovs_cmdl_context *ctx)
{
    struct hmap out = HMAP_INITIALIZER(&out);
    struct shadow **list = xmalloc(sizeof *list << 17);
    const struct in6_addr remotes[] = {
        parse_address("8.8.8.8"), parse_address("8.8.4.4"),
    };
    /* One target that is soon exhausted, one that is not, and that of other
     * ports of the same addresses. */
    const struct nat_target targets[] = {
        { parse_address("1.0.0.1"), parse_address("1.0.0.3"), 2000, 2299 },
        { parse_address("1.0.0.3"), parse_address("1.0.0.4"), 0, 0 },
        { parse_address("1.0.0.2"), parse_address("1.0.0.2"), 64, 8191 },
    };
    int n_exhausted = 0, n_kept = 0, n_max = 0, n = 0;

    random_set_seed(1);
    for (int i = 0; i < atoi(ctx->argv[1]); i++) {
        /* Grows for a while, then shrinks. */
        if (random_range(100) < (i >> 15 & 1 ? 20 : 80) || !n) {
            const struct nat_target *target
                = &targets[random_range(ARRAY_SIZE(targets))];
            uint8_t proto = random_range(5) ? IPPROTO_TCP : IPPROTO_UDP;
            ovs_be16 port = htons(random_range(5) ? random_range(65536) : 77);
            const struct in6_addr *remote = &remotes[!random_range(4)];
            struct in6_addr src
                = in6_addr_mapped_ipv4(htonl(0x0a000000 | random_range(256)));
            struct shadow *s = xzalloc(sizeof *s), *other;

            if (!nat_pool_allocate(target, proto, &src, port, remote,
                                   htons(443), &s->tuple)) {
                n_exhausted++;
                free(s);
                continue;
            }

            uint16_t got = ntohs(s->tuple.port);
            uint32_t hash = hash_bytes(&s->tuple, sizeof s->tuple, 0);

            n_kept += s->tuple.port == port;
            ovs_assert(memcmp(&s->tuple.addr, &target->min, 16) >= 0
                       && memcmp(&s->tuple.addr, &target->max, 16) <= 0);
            ovs_assert(target->min_port
                       ? got >= target->min_port && got <= target->max_port
                       : got >= 1024 || s->tuple.port == port);
            HMAP_FOR_EACH_WITH_HASH (other, node, hash, &out) {
                ovs_assert(memcmp(&other->tuple, &s->tuple, sizeof s->tuple));
            }
            hmap_insert(&out, &s->node, hash);
            list[n++] = s;
            n_max = MAX(n, n_max);
        } else {
            int victim = random_range(n);
            struct shadow *s = list[victim];

            hmap_remove(&out, &s->node);
            nat_pool_release(&s->tuple);
            free(s);
            list[victim] = list[--n];
        }
        ovs_assert(i % 1000 || nat_pool_count() == n);
    }
    printf("exhausted: %s, kept: %s, many: %s\n", n_exhausted ? "yes" : "no",
           n_kept ? "yes" : "no", n_max > 10000 ? "yes" : "no");
    while (n) {
        nat_pool_release(&list[--n]->tuple);
        hmap_remove(&out, &list[n]->node);
        free(list[n]);
    }
    hmap_destroy(&out);
    free(list);
    printf("count %"PRIuSIZE"\n", nat_pool_count());
}

#define N_THREADS 4
#define N_PER_THREAD 5000

static void *
nat_thread(void *tuples_)
{
    const struct nat_target target = {
        parse_address("1.0.0.1"), parse_address("1.0.0.1"),
        1, N_THREADS * N_PER_THREAD
    };
    struct in6_addr src = parse_address("10.0.0.1");
    struct in6_addr remote = parse_address("8.8.8.8");
    struct nat_tuple *tuples = tuples_;

    for (int i = 0; i < 3 * N_PER_THREAD; i++) {
        struct nat_tuple *tuple = &tuples[i % N_PER_THREAD];

        if (i >= N_PER_THREAD) {
            nat_pool_release(tuple);
        }
        ovs_assert(nat_pool_allocate(&target, IPPROTO_UDP, &src,
                                     htons(i % 1000), &remote, htons(53),
                                     tuple));
    }
    return NULL;
}

/* nat-threads: lets threads exhaust a target together. */
static void
test_nat_threads(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    static struct nat_tuple tuples[N_THREADS][N_PER_THREAD];
    static bool seen[65536];
    pthread_t threads[N_THREADS];

    for (size_t i = 0; i < N_THREADS; i++) {
        threads[i] = ovs_thread_create("nat", nat_thread, tuples[i]);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        xpthread_join(threads[i], NULL);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        for (size_t j = 0; j < N_PER_THREAD; j++) {
            ovs_assert(!seen[ntohs(tuples[i][j].port)]);
            seen[ntohs(tuples[i][j].port)] = true;
        }
    }
    printf("count %"PRIuSIZE"\n", nat_pool_count());
}

/* State. */

static uint16_t
parse_tcp_letters(const char *s)
{
    static const char names[] = "FSRPAUEC";
    uint16_t flags = 0;

    for (; *s; s++) {
        flags |= 1 << (strchr(names, *s) - names);
    }
    return flags;
}

static void
print_progress(const char *packet, const struct conn_progress *progress)
{
    printf("%s: %s%s%s%s\n", packet, conn_state_to_string(progress->state),
           conn_progress_is_half_open(progress) ? " half-open" : "",
           conn_progress_can_cache(progress, false) ? " cache" : "",
           conn_progress_can_cache(progress, true) ? " cache-reply" : "");
}

/* state PROTO PACKET...: shows the state after each packet.  A packet is ">"
 * or "<" with the initials of TCP flags.  The first one opens the
 * connection. */
static void
test_state(struct ovs_cmdl_context *ctx)
{
    uint8_t nw_proto = parse_proto(ctx->argv[1]);
    struct conn_progress progress;

    for (int i = 2; i < ctx->argc; i++) {
        const char *packet = ctx->argv[i];
        uint16_t flags = parse_tcp_letters(packet + 1);
        bool reply = packet[0] == '<';

        if (i == 2) {
            bool loose = nw_proto == IPPROTO_TCP && !tcp_flags_open(flags);

            conn_progress_init(&progress, nw_proto, loose);
            if (loose) {
                conn_progress_packet(&progress, nw_proto, flags, reply);
            }
        } else if (conn_progress_may_reopen(&progress, nw_proto, flags,
                                            reply)) {
            printf("%s: opens a new connection\n", packet);
            return;
        } else {
            struct conn_progress old = progress;
            bool changed = conn_progress_packet(&progress, nw_proto, flags,
                                                reply);

            ovs_assert(changed == !!memcmp(&old, &progress, sizeof old));
            if (!(flags & (TCP_SYN | TCP_FIN | TCP_RST))
                && conn_progress_can_cache(&old, reply)) {
                ovs_assert(!changed);
            }
        }
        print_progress(packet, &progress);
    }
}

/* timeouts [KEY=VALUE]...: shows the timeouts or the error. */
static void
test_timeouts(struct ovs_cmdl_context *ctx)
{
    struct smap config = SMAP_INITIALIZER(&config);
    struct conn_timeouts timeouts;

    for (int i = 1; i < ctx->argc; i++) {
        char *save_ptr = NULL;
        char *key = strtok_r(ctx->argv[i], "=", &save_ptr);

        smap_add(&config, key, save_ptr);
    }

    char *error = conn_timeouts_parse(&config, &timeouts);

    if (error) {
        printf("%s\n", error);
        ovs_assert(!memcmp(&timeouts, &conn_timeouts_default,
                           sizeof timeouts));
    } else {
        for (size_t i = 0; i < N_CONN_STATES; i++) {
            printf("%s%s %"PRIu32, i ? ", " : "", conn_state_to_string(i),
                   timeouts.seconds[i]);
        }
        putchar('\n');
    }
    free(error);
    smap_destroy(&config);
}

/* Packets. */

static struct dp_packet *
parse_hex(const char *hex)
{
    struct dp_packet buffer;

    dp_packet_init(&buffer, 0);
    if (dp_packet_put_hex(&buffer, hex, NULL)[0] != '\0') {
        ovs_fatal(0, "%s: not hexadecimal", hex);
    }

    /* A copy without room at its end. */
    struct dp_packet *packet = dp_packet_clone_data(dp_packet_data(&buffer),
                                                    dp_packet_size(&buffer));

    dp_packet_uninit(&buffer);
    return packet;
}

static void
print_hex(const struct dp_packet *packet)
{
    const uint8_t *data = dp_packet_data(packet);

    for (size_t i = 0; i < dp_packet_size(packet); i++) {
        printf("%02"PRIx8, data[i]);
    }
    putchar('\n');
}

static void
print_key(const struct conn_key *key)
{
    printf("%"PRIu8" ", key->nw_proto);
    print_address(&key->src);
    printf(" %"PRIu16" > ", ntohs(key->tp_src));
    print_address(&key->dst);
    printf(" %"PRIu16"\n", ntohs(key->tp_dst));
}

static void
put_be16(char *p, ovs_be16 x)
{
    memcpy(p, &x, sizeof x);
}

/* Returns a description of the checksums of the IP packet of 'size' bytes at
 * 'l3', which is recomputed.  'payload' and 'n_payload' are set to what is
 * behind an ICMP header. */
static const char *
check_csum(const void *l3, size_t size, const void **payload,
           size_t *n_payload)
{
    const struct ip_header *ip = l3;
    const struct ovs_16aligned_ip6_hdr *ip6 = l3;
    bool ipv6 = IP_VER(ip->ip_ihl_ver) == 6;
    const struct ip6_rt_hdr *route = NULL;
    struct in6_addr dst;
    const void *l4;
    uint8_t proto;
    size_t total;

    if (ipv6) {
        const struct ovs_16aligned_ip6_frag *frag;
        uint8_t nw_frag = 0;
        size_t left = size - sizeof *ip6;

        proto = ip6->ip6_nxt;
        l4 = ip6 + 1;
        total = ntohs(ip6->ip6_plen) + sizeof *ip6;
        if (!parse_ipv6_ext_hdrs(&l4, &left, &proto, &nw_frag, &frag,
                                 &route)) {
            return "malformed";
        }
    } else {
        proto = ip->ip_proto;
        l4 = (const char *) l3 + IP_IHL(ip->ip_ihl_ver) * 4;
        total = ntohs(ip->ip_tot_len);
        if (csum(ip, IP_IHL(ip->ip_ihl_ver) * 4)) {
            return "bad IP checksum";
        }
    }
    *payload = (const char *) l4 + ICMP_HEADER_LEN;
    *n_payload = MIN(total, size)
                 - ((const char *) *payload - (const char *) l3);
    if (total > size) {
        return "incomplete";
    }

    size_t n = (const char *) l3 + total - (const char *) l4;
    uint32_t sum = 0;

    if (proto == IPPROTO_UDP && !((const struct udp_header *) l4)->udp_csum) {
        return "no UDP checksum";
    } else if (proto == IPPROTO_SCTP) {
        struct dp_packet *copy = dp_packet_clone_data(l4, n);
        struct sctp_header *sctp = dp_packet_data(copy);
        ovs_be32 crc = get_16aligned_be32(&sctp->sctp_csum);

        put_16aligned_be32(&sctp->sctp_csum, 0);
        crc ^= crc32c(dp_packet_data(copy), n);
        dp_packet_delete(copy);
        return crc ? "bad CRC" : "good CRC";
    } else if (proto != IPPROTO_TCP && proto != IPPROTO_UDP
               && proto != IPPROTO_ICMP && proto != IPPROTO_ICMPV6) {
        return "no checksum";
    }

    if (ipv6) {
        memcpy(&dst, &ip6->ip6_dst, sizeof dst);
        if (route && route->segments_left) {
            /* The last address of the route. */
            memcpy(&dst, (const char *) route + 8
                   + (route->hdrlen / 2 - 1) * sizeof dst, sizeof dst);
        }
        sum = csum_continue(sum, &ip6->ip6_src, sizeof ip6->ip6_src);
        sum = csum_continue(sum, &dst, sizeof dst);
        sum = csum_add16(sum, htons(proto));
        sum = csum_add16(sum, htons(n));
    } else if (proto != IPPROTO_ICMP) {
        sum = packet_csum_pseudoheader(ip);
    }
    return (csum_finish(csum_continue(sum, l4, n))
            ? "bad checksum" : "good checksum");
}

static void
print_csum(struct dp_packet *packet)
{
    struct flow flow;
    const void *payload, *payload2;
    size_t n;

    flow_extract(packet, &flow);
    printf("%s", check_csum(dp_packet_l3(packet),
                            (char *) dp_packet_tail(packet)
                            - (char *) dp_packet_l3(packet), &payload, &n));
    if (flow_is_icmp_error(&flow)) {
        printf(", quoted: %s", check_csum(payload, n, &payload2, &n));
    }
    putchar('\n');
}

/* wrap HEX SRC DST TYPE CODE SIZE: shows an ICMP or ICMPv6 error from SRC to
 * DST about packet HEX, of which SIZE bytes are quoted. */
static void
test_wrap(struct ovs_cmdl_context *ctx)
{
    struct dp_packet *packet = parse_hex(ctx->argv[1]);
    struct in6_addr src = parse_address(ctx->argv[2]);
    struct in6_addr dst = parse_address(ctx->argv[3]);
    bool ipv6 = !IN6_IS_ADDR_V4MAPPED(&src);
    size_t l3_len = ipv6 ? IPV6_HEADER_LEN : IP_HEADER_LEN;
    size_t l4_len = ICMP_HEADER_LEN + atoi(ctx->argv[6]);
    struct dp_packet *error = dp_packet_new(0);
    struct flow flow;

    flow_extract(packet, &flow);
    dp_packet_put(error, dp_packet_data(packet), ETH_HEADER_LEN);

    char *l3 = dp_packet_put_zeros(error, l3_len + l4_len);
    char *l4 = l3 + l3_len;

    memcpy(l4 + ICMP_HEADER_LEN, dp_packet_l3(packet),
           MIN(l4_len - ICMP_HEADER_LEN, dp_packet_l3_size(packet)));
    l4[0] = atoi(ctx->argv[4]);
    l4[1] = atoi(ctx->argv[5]);
    if (ipv6) {
        struct ovs_16aligned_ip6_hdr *nh = (void *) l3;

        nh->ip6_vfc = 0x60;
        nh->ip6_plen = htons(l4_len);
        nh->ip6_nxt = IPPROTO_ICMPV6;
        nh->ip6_hlim = 64;
        memcpy(&nh->ip6_src, &src, sizeof src);
        memcpy(&nh->ip6_dst, &dst, sizeof dst);
        put_be16(l4 + 2, packet_csum_upperlayer6(nh, l4, IPPROTO_ICMPV6,
                                                 l4_len));
    } else {
        struct ip_header *nh = (void *) l3;

        nh->ip_ihl_ver = 0x45;
        nh->ip_tot_len = htons(l3_len + l4_len);
        nh->ip_ttl = 64;
        nh->ip_proto = IPPROTO_ICMP;
        put_16aligned_be32(&nh->ip_src, in6_addr_get_mapped_ipv4(&src));
        put_16aligned_be32(&nh->ip_dst, in6_addr_get_mapped_ipv4(&dst));
        nh->ip_csum = csum(nh, sizeof *nh);
        put_be16(l4 + 2, csum(l4, l4_len));
    }
    print_hex(error);
    dp_packet_delete(error);
    dp_packet_delete(packet);
}

/* key HEX: shows the key of a packet. */
static void
test_key(struct ovs_cmdl_context *ctx)
{
    struct dp_packet *packet = parse_hex(ctx->argv[1]);
    struct conn_key key;
    struct flow flow;

    flow_extract(packet, &flow);
    if (conn_key_from_flow(&flow, &key)) {
        print_key(&key);
    } else {
        printf("none%s\n", flow_is_icmp_error(&flow) ? " (error)" : "");
    }
    dp_packet_delete(packet);
}

/* quoted HEX: shows the key that an error quotes. */
static void
test_quoted(struct ovs_cmdl_context *ctx)
{
    struct dp_packet *packet = parse_hex(ctx->argv[1]);
    struct conn_key key, key2;
    struct flow flow;

    flow_extract(packet, &flow);

    bool found = icmp_error_get_quoted(packet, &flow, &key);

    /* Offsets do not matter. */
    dp_packet_reset_offsets(packet);
    ovs_assert(icmp_error_get_quoted(packet, &flow, &key2) == found);
    if (found) {
        ovs_assert(!memcmp(&key, &key2, sizeof key));
        print_key(&key);
    } else {
        printf("none\n");
    }
    dp_packet_delete(packet);
}

/* rewrite HEX SRC SPORT DST DPORT: rewrites the packet that an error quotes,
 * and shows the checksums before and after. */
static void
test_rewrite(struct ovs_cmdl_context *ctx)
{
    struct dp_packet *packet = parse_hex(ctx->argv[1]);
    struct conn_key key;
    struct flow flow;

    flow_extract(packet, &flow);
    print_csum(packet);
    ovs_assert(icmp_error_get_quoted(packet, &flow, &key));
    key.src = parse_address(ctx->argv[2]);
    key.tp_src = htons(atoi(ctx->argv[3]));
    key.dst = parse_address(ctx->argv[4]);
    key.tp_dst = htons(atoi(ctx->argv[5]));
    if (icmp_error_rewrite_quoted(packet, &flow, &key)) {
        print_csum(packet);
        flow.nw_dst = in6_addr_get_mapped_ipv4(&key.src);
        flow.ipv6_dst = key.src;
        ovs_assert(icmp_error_get_quoted(packet, &flow, &key));
        print_key(&key);
    } else {
        printf("refused\n");
    }
    dp_packet_delete(packet);
}

/* reject HEX: shows the answer that refuses a packet. */
static void
test_reject(struct ovs_cmdl_context *ctx)
{
    struct dp_packet *packet = parse_hex(ctx->argv[1]);
    struct dp_packet *answer;
    struct flow flow;

    flow_extract(packet, &flow);
    answer = compose_rejection(packet, &flow);
    if (answer) {
        size_t l3_ofs = answer->l3_ofs;
        size_t l4_ofs = answer->l4_ofs;

        flow_extract(answer, &flow);
        ovs_assert(answer->l3_ofs == l3_ofs && answer->l4_ofs == l4_ofs);
        flow.in_port.ofp_port = OFPP_ANY;
        flow_print(stdout, &flow, NULL);
        putchar('\n');
        if (flow.nw_proto == IPPROTO_TCP) {
            const struct tcp_header *tcp = dp_packet_l4(answer);

            printf("seq %"PRIu32" ack %"PRIu32"\n",
                   ntohl(get_16aligned_be32(&tcp->tcp_seq)),
                   ntohl(get_16aligned_be32(&tcp->tcp_ack)));
        } else {
            struct conn_key key;

            printf("size %"PRIuSIZE", quotes ", dp_packet_l3_size(answer));
            if (icmp_error_get_quoted(answer, &flow, &key)) {
                print_key(&key);
            } else {
                printf("nothing\n");
            }
        }
        print_csum(answer);
    } else {
        printf("none\n");
    }
    dp_packet_delete(answer);
    dp_packet_delete(packet);
}

/* fragments MAX [TIME:HEX]...: puts first fragments into a table for MAX of
 * them and finds later ones, at these times, in ms. */
static void
test_fragments(struct ovs_cmdl_context *ctx)
{
    struct fragment_table *table = fragment_table_create(atoi(ctx->argv[1]));

    for (int i = 2; i < ctx->argc; i++) {
        char *hex = NULL;
        long long int now = strtoll(ctx->argv[i], &hex, 10);
        struct dp_packet *packet = parse_hex(hex + 1);
        struct fragment_key key;
        struct conn_key conn_key;
        struct flow flow;

        flow_extract(packet, &flow);
        dp_packet_reset_offsets(packet);
        if (!fragment_key_from_packet(packet, &flow, &key)) {
            printf("no fragment\n");
        } else if (!(flow.nw_frag & FLOW_NW_FRAG_LATER)) {
            printf("first\n");
            fragment_table_put(table, &key, flow.nw_proto, flow.tp_src,
                               flow.tp_dst, now);
        } else if (fragment_table_get(table, &key, now, &flow.nw_proto,
                                      &flow.tp_src, &flow.tp_dst)) {
            printf("later: ");
            ovs_assert(conn_key_from_flow(&flow, &conn_key));
            print_key(&conn_key);
        } else {
            printf("later: unknown\n");
            ovs_assert(!conn_key_from_flow(&flow, &conn_key));
        }
        dp_packet_delete(packet);
    }
    fragment_table_destroy(table);
}

static void
try_all(const struct dp_packet *orig, size_t size)
{
    struct dp_packet *packet = dp_packet_clone_data(dp_packet_data(orig),
                                                    size);
    struct fragment_key fragment_key;
    struct conn_key key;
    struct flow flow;

    flow_extract(packet, &flow);
    conn_key_from_flow(&flow, &key);
    fragment_key_from_packet(packet, &flow, &fragment_key);
    dp_packet_delete(compose_rejection(packet, &flow));
    if (icmp_error_get_quoted(packet, &flow, &key)) {
        icmp_error_rewrite_quoted(packet, &flow, &key);
        ovs_assert(!memcmp(dp_packet_data(packet), dp_packet_data(orig),
                           size));
    }
    dp_packet_delete(packet);
}

/* mangle HEX: tries the packet with each size, and with each byte changed. */
static void
test_mangle(struct ovs_cmdl_context *ctx)
{
    struct dp_packet *packet = parse_hex(ctx->argv[1]);
    uint8_t *data = dp_packet_data(packet);

    for (size_t i = 1; i <= dp_packet_size(packet); i++) {
        try_all(packet, i);
    }
    for (size_t i = 0; i < dp_packet_size(packet); i++) {
        uint8_t byte = data[i];

        for (int j = 0; j < 256; j++) {
            data[i] = j;
            try_all(packet, dp_packet_size(packet));
        }
        data[i] = byte;
    }
    dp_packet_delete(packet);
}

int
main(int argc, char *argv[])
{
    static const struct ovs_cmdl_command commands[] = {
        { "nat", NULL, 0, 0, test_nat, OVS_RO },
        { "nat-random", "N", 1, 1, test_nat_random, OVS_RO },
        { "nat-threads", NULL, 0, 0, test_nat_threads, OVS_RO },
        { "state", "PROTO PACKET...", 1, INT_MAX, test_state, OVS_RO },
        { "timeouts", "[KEY=VALUE]...", 0, INT_MAX, test_timeouts, OVS_RO },
        { "wrap", "HEX SRC DST TYPE CODE SIZE", 6, 6, test_wrap, OVS_RO },
        { "key", "HEX", 1, 1, test_key, OVS_RO },
        { "quoted", "HEX", 1, 1, test_quoted, OVS_RO },
        { "rewrite", "HEX SRC SPORT DST DPORT", 5, 5, test_rewrite, OVS_RO },
        { "reject", "HEX", 1, 1, test_reject, OVS_RO },
        { "mangle", "HEX", 1, 1, test_mangle, OVS_RO },
        { "fragments", "MAX [TIME:HEX]...", 1, INT_MAX, test_fragments,
          OVS_RO },
        { NULL, NULL, 0, 0, NULL, OVS_RO },
    };
    struct ovs_cmdl_context ctx = { .argc = argc - 1, .argv = argv + 1 };

    set_program_name(argv[0]);
    if (argc < 2) {
        ovs_fatal(0, "a command is required");
    }
    ovs_cmdl_run_command(&ctx, commands);
    return 0;
}
