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

#include "layered/ofproto-layered/layer-packet.h"

#include <netinet/icmp6.h>
#include <netinet/ip6.h>

#include "crc32c.h"
#include "csum.h"
#include "dp-packet.h"
#include "flow.h"
#include "hash.h"
#include "packets.h"
#include "random.h"
#include "util.h"

#include "openvswitch/hmap.h"
#include "openvswitch/list.h"

/* ICMPv6 types below are errors, others are informational (RFC 4443, section
 * 2.1). */
#define ICMP6_MIN_INFORMATIONAL 128

/* The last ICMPv6 error of those that quote a packet (RFC 4443, section 3). */
#define ICMP6_MAX_ERROR ICMP6_PARAM_PROB

/* The ICMP type with the highest number that was ever in use and is no error
 * (RFC 950). */
#define ICMP4_MAX_TYPE 18

/* Codes of "destination unreachable" (RFC 792, RFC 1812 section 5.2.7.1). */
#define ICMP4_PORT_UNREACH 3
#define ICMP4_ADMIN_PROHIBITED 13

/* What an error must quote at least of a packet's transport header (RFC 792),
 * with the ports. */
#define MIN_QUOTED_L4 ICMP_ERROR_DATA_L4_LEN

/* The size of an error, with its IP header, up to which it quotes: for IPv4
 * from RFC 1812, section 4.3.2.3, for IPv6 the minimum MTU (RFC 4443, section
 * 3.1). */
#define MAX_IPV4_ERROR 576
#define MAX_IPV6_ERROR 1280

#define REJECTION_TTL 64

/* How long a fragment is remembered.  Hosts give up reassembly after 15 s or
 * longer (RFC 791), IPv6 ones after 60 s (RFC 8200), Linux after 30 s. */
#define FRAGMENT_TIMEOUT_MS (30 * 1000)

/* An IP packet, in a frame or quoted by an ICMP error. */
struct ip_info {
    char *l3;
    size_t l3_size;             /* Without padding.  Of a quoted packet, what
                                 * there is of it. */
    char *l4;
    size_t l4_size;
    bool complete;              /* All of the packet is there. */
    struct in6_addr src, dst;   /* IPv4 addresses are IPv4-mapped. */
    bool ipv6;
    uint8_t nw_proto;           /* IPPROTO_FRAGMENT: IPv6 later fragment. */
    uint8_t nw_frag;            /* FLOW_NW_FRAG_*. */
    ovs_be32 frag_id;           /* If 'nw_frag' is nonzero. */
    bool routed;                /* IPv6: 'dst' is not the final one. */
};

static struct icmp6_header *
icmp6_header(const struct ip_info *ip)
{
    return ALIGNED_CAST(struct icmp6_header *, ip->l4);
}

static struct icmp_header *
icmp_header(const struct ip_info *ip)
{
    return ALIGNED_CAST(struct icmp_header *, ip->l4);
}

/* ICMP errors that quote a packet. */
static bool
icmp4_type_is_error(uint8_t type)
{
    return (type == ICMP4_DST_UNREACH
            || type == ICMP4_SOURCEQUENCH
            || type == ICMP4_REDIRECT
            || type == ICMP4_TIME_EXCEEDED
            || type == ICMP4_PARAM_PROB);
}

static bool
icmp6_type_is_error(uint8_t type)
{
    return type && type <= ICMP6_MAX_ERROR;
}

/* ICMPv6 types that have nothing to do with a connection: errors, MLD (RFC
 * 2710, RFC 3810) and NDP (RFC 4861). */
static bool
icmp6_type_is_untracked(uint8_t type)
{
    return (type < ICMP6_MIN_INFORMATIONAL
            || (type >= MLD_QUERY && type <= ND_REDIRECT)
            || type == MLD2_REPORT);
}

/* Parsing. */

static bool
parse_ipv4(char *data, size_t size, bool quoted, struct ip_info *ip)
{
    const struct ip_header *nh = ALIGNED_CAST(struct ip_header *, data);

    if (size < IP_HEADER_LEN || IP_VER(nh->ip_ihl_ver) != 4) {
        return false;
    }

    size_t header_len = IP_IHL(nh->ip_ihl_ver) * 4;
    size_t total_len = ntohs(nh->ip_tot_len);

    if (header_len < IP_HEADER_LEN || header_len > size
        || total_len < header_len || (total_len > size && !quoted)) {
        return false;
    }

    ip->complete = total_len <= size;
    ip->l3_size = MIN(total_len, size);
    ip->l4 = data + header_len;
    ip->l4_size = ip->l3_size - header_len;
    in6_addr_set_mapped_ipv4(&ip->src, get_16aligned_be32(&nh->ip_src));
    in6_addr_set_mapped_ipv4(&ip->dst, get_16aligned_be32(&nh->ip_dst));
    ip->nw_proto = nh->ip_proto;
    if (IP_IS_FRAGMENT(nh->ip_frag_off)) {
        ip->nw_frag = FLOW_NW_FRAG_ANY;
        if (IP_IS_LATER_FRAG(nh->ip_frag_off)) {
            ip->nw_frag |= FLOW_NW_FRAG_LATER;
        }
        ip->frag_id = htonl(ntohs(nh->ip_id));
    }
    return true;
}

static bool
parse_ipv6(char *data, size_t size, bool quoted, struct ip_info *ip)
{
    const struct ovs_16aligned_ip6_hdr *nh
        = ALIGNED_CAST(struct ovs_16aligned_ip6_hdr *, data);

    if (size < IPV6_HEADER_LEN || IP_VER(data[0]) != 6) {
        return false;
    }

    size_t total_len = IPV6_HEADER_LEN + ntohs(nh->ip6_plen);

    if (total_len > size && !quoted) {
        return false;
    }

    ip->ipv6 = true;
    ip->complete = total_len <= size;
    ip->l3_size = MIN(total_len, size);
    memcpy(&ip->src, &nh->ip6_src, sizeof ip->src);
    memcpy(&ip->dst, &nh->ip6_dst, sizeof ip->dst);
    ip->nw_proto = nh->ip6_nxt;

    const void *l4 = data + IPV6_HEADER_LEN;
    const struct ovs_16aligned_ip6_frag *frag;
    const struct ip6_rt_hdr *route;

    ip->l4_size = ip->l3_size - IPV6_HEADER_LEN;
    if (!parse_ipv6_ext_hdrs(&l4, &ip->l4_size, &ip->nw_proto, &ip->nw_frag,
                             &frag, &route)) {
        return false;
    }
    ip->l4 = CONST_CAST(void *, l4);
    if (ip->nw_frag) {
        ip->frag_id = get_16aligned_be32(&frag->ip6f_ident);
    }
    ip->routed = route && route->segments_left;
    return true;
}

/* Parses the IP packet of 'dl_type' in the 'size' bytes at 'data'.  That which
 * is 'quoted' may lack any part at the end beyond the IP headers.
 *
 * Returns true if successful, false if it is not IP or is malformed. */
static bool
parse_ip(char *data, size_t size, ovs_be16 dl_type, bool quoted,
         struct ip_info *ip)
{
    memset(ip, 0, sizeof *ip);
    ip->l3 = data;
    return (dl_type == htons(ETH_TYPE_IP)
            ? parse_ipv4(data, size, quoted, ip)
            : dl_type == htons(ETH_TYPE_IPV6)
            ? parse_ipv6(data, size, quoted, ip)
            : false);
}

/* Parses the IP packet in 'packet', whose offsets are not looked at, as they
 * need not be set.  'flow' tells what it should be. */
static bool
parse_packet(const struct dp_packet *packet, const struct flow *flow,
             struct ip_info *ip)
{
    char *data = dp_packet_data(packet);
    size_t size = dp_packet_size(packet);
    ovs_be16 dl_type;

    if (dp_packet_is_eth(packet)) {
        struct dp_packet frame;

        if (size < ETH_HEADER_LEN) {
            return false;
        }
        dp_packet_use_const(&frame, data, size);
        parse_tcp_flags(&frame, &dl_type, NULL, NULL);
        data += frame.l3_ofs;
        size -= frame.l3_ofs;
    } else if (pt_ns(packet->packet_type) == OFPHTN_ETHERTYPE) {
        dl_type = pt_ns_type_be(packet->packet_type);
    } else {
        return false;
    }
    return (dl_type == get_dl_type(flow)
            && parse_ip(data, size, dl_type, false, ip));
}

static uint8_t
l4_type(const struct ip_info *ip)
{
    return ip->l4[0];
}

/* Connection keys. */

/* Initializes '*key' with the tuple of 'flow', and returns true, if 'flow' is
 * one that belongs to a connection.  Returns false for a 'flow' that is not
 * IP, and for ICMPv6's NDP and MLD and the errors of ICMP and ICMPv6.
 *
 * The ports, and for ICMP the type, are those in 'flow'.  For a later
 * fragment, the caller should replace them, and for IPv6 also 'nw_proto', by
 * those of the first fragment.  This returns false if that was obviously not
 * done: if there are no ports, or no protocol.
 *
 * Also returns false for IPv6 with an IPv4-mapped address, which RFC 6890 does
 * not allow to be sent.  It must not be mistaken for an IPv4 connection. */
bool
conn_key_from_flow(const struct flow *flow, struct conn_key *key)
{
    ovs_be16 dl_type = get_dl_type(flow);
    bool later = flow->nw_frag & FLOW_NW_FRAG_LATER;

    memset(key, 0, sizeof *key);
    if (dl_type == htons(ETH_TYPE_IP)) {
        in6_addr_set_mapped_ipv4(&key->src, flow->nw_src);
        in6_addr_set_mapped_ipv4(&key->dst, flow->nw_dst);
    } else if (dl_type == htons(ETH_TYPE_IPV6)
               && !IN6_IS_ADDR_V4MAPPED(&flow->ipv6_src)
               && !IN6_IS_ADDR_V4MAPPED(&flow->ipv6_dst)) {
        key->src = flow->ipv6_src;
        key->dst = flow->ipv6_dst;
        if (flow->nw_proto == IPPROTO_ICMPV6
            && icmp6_type_is_untracked(ntohs(flow->tp_src))) {
            return false;
        }
        if (later && flow->nw_proto == IPPROTO_FRAGMENT) {
            return false;
        }
    } else {
        return false;
    }

    key->nw_proto = flow->nw_proto;
    if (nw_proto_has_ports(key->nw_proto)) {
        key->tp_src = flow->tp_src;
        key->tp_dst = flow->tp_dst;
        return !later || key->tp_src || key->tp_dst;
    }
    return !flow_is_icmp_error(flow);
}

/* As conn_key_from_flow(), for a packet that a datapath has just received and
 * that is not a fragment.  Returns false also if it is one, or has been
 * recirculated. */
bool
conn_key_from_miniflow(const struct miniflow *mf, struct conn_key *key)
{
    ovs_be16 dl_type = MINIFLOW_GET_BE16(mf, dl_type);

    if ((dl_type != htons(ETH_TYPE_IP) && dl_type != htons(ETH_TYPE_IPV6))
        || MINIFLOW_GET_U8(mf, nw_frag) || miniflow_get_recirc_id(mf)) {
        return false;
    }

    memset(key, 0, sizeof *key);
    key->nw_proto = MINIFLOW_GET_U8(mf, nw_proto);
    if (nw_proto_has_ports(key->nw_proto)) {
        key->tp_src = MINIFLOW_GET_BE16(mf, tp_src);
        key->tp_dst = MINIFLOW_GET_BE16(mf, tp_dst);
    } else if (key->nw_proto == IPPROTO_ICMP
               || key->nw_proto == IPPROTO_ICMPV6) {
        struct flow flow;

        miniflow_expand(mf, &flow);
        return conn_key_from_flow(&flow, key);
    }

    if (dl_type == htons(ETH_TYPE_IP)) {
        in6_addr_set_mapped_ipv4(&key->src, MINIFLOW_GET_BE32(mf, nw_src));
        in6_addr_set_mapped_ipv4(&key->dst, MINIFLOW_GET_BE32(mf, nw_dst));
        return true;
    }

    uint64_t src[2], dst[2];

    for (size_t i = 0; i < 2; i++) {
        src[i] = miniflow_get(mf, FLOW_U64_OFFSET(ipv6_src) + i);
        dst[i] = miniflow_get(mf, FLOW_U64_OFFSET(ipv6_dst) + i);
    }
    memcpy(&key->src, src, sizeof key->src);
    memcpy(&key->dst, dst, sizeof key->dst);
    return (!IN6_IS_ADDR_V4MAPPED(&key->src)
            && !IN6_IS_ADDR_V4MAPPED(&key->dst));
}

/* Initializes '*reverse' with the tuple of the answer to a packet with 'key'.
 * They may be the same. */
void
conn_key_reverse(const struct conn_key *key, struct conn_key *reverse)
{
    struct conn_key copy = *key;

    *reverse = copy;
    reverse->src = copy.dst;
    reverse->dst = copy.src;
    reverse->tp_src = copy.tp_dst;
    reverse->tp_dst = copy.tp_src;
}

/* Returns a hash of 'key'. */
uint32_t
conn_key_hash(const struct conn_key *key, uint32_t basis)
{
    BUILD_ASSERT_DECL(sizeof *key == 40);

    return hash_bytes32((const uint32_t *) key, sizeof *key, basis);
}

/* ICMP errors. */

/* Returns true if 'flow' is an ICMP or ICMPv6 error about another packet, part
 * of which it quotes.  A redirect of ICMPv6 is not, but a part of NDP. */
bool
flow_is_icmp_error(const struct flow *flow)
{
    uint16_t type = ntohs(flow->tp_src);

    return ((is_icmpv4(flow, NULL) && icmp4_type_is_error(type))
            || (is_icmpv6(flow, NULL) && icmp6_type_is_error(type)));
}

/* Finds 'error', the ICMP error in 'packet', and 'quoted', the packet that it
 * quotes, of which it must have the ports.  Returns true if successful. */
static bool
parse_icmp_error(const struct dp_packet *packet, const struct flow *flow,
                 struct ip_info *error, struct ip_info *quoted)
{
    /* Both versions have the same size, and the quoted packet is of the same
     * version. */
    BUILD_ASSERT_DECL(ICMP_HEADER_LEN == ICMP6_DATA_HEADER_LEN);

    if (!parse_packet(packet, flow, error)
        || error->nw_frag & FLOW_NW_FRAG_LATER
        || error->nw_proto != (error->ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)
        || error->l4_size < ICMP_HEADER_LEN
        || !(error->ipv6
             ? icmp6_type_is_error(l4_type(error))
             : icmp4_type_is_error(l4_type(error)))
        || !parse_ip(error->l4 + ICMP_HEADER_LEN,
                     error->l4_size - ICMP_HEADER_LEN, get_dl_type(flow),
                     true, quoted)
        || quoted->nw_frag & FLOW_NW_FRAG_LATER) {
        return false;
    }

    if (quoted->ipv6) {
        if (IN6_IS_ADDR_V4MAPPED(&quoted->src)
            || IN6_IS_ADDR_V4MAPPED(&quoted->dst)) {
            return false;
        }
        if (quoted->nw_proto == IPPROTO_ICMPV6) {
            return (quoted->l4_size >= MIN_QUOTED_L4
                    && !icmp6_type_is_untracked(l4_type(quoted)));
        }
    } else if (quoted->nw_proto == IPPROTO_ICMP) {
        return (quoted->l4_size >= MIN_QUOTED_L4
                && !icmp4_type_is_error(l4_type(quoted)));
    }
    return (!nw_proto_has_ports(quoted->nw_proto)
            || quoted->l4_size >= MIN_QUOTED_L4);
}

/* Stores in '*key' the tuple of the packet that 'packet', an ICMP or ICMPv6
 * error with headers 'flow', quotes.  'packet' may have any contents.  Its
 * offsets are not used.
 *
 * An error goes to the sender of the packet that it is about.  This returns
 * false if the destination in 'flow' is not the source of the quoted packet,
 * as nobody else can know that the error concerns it.  So 'flow' and the
 * quoted packet must have been translated equally far.
 *
 * Returns true if successful, false if 'packet' is no ICMP error, or quotes
 * too little, or quotes something that conn_key_from_flow() would refuse. */
bool
icmp_error_get_quoted(const struct dp_packet *packet, const struct flow *flow,
                      struct conn_key *key)
{
    struct ip_info error, quoted;

    if (!parse_icmp_error(packet, flow, &error, &quoted)) {
        return false;
    }

    struct in6_addr dst = (error.ipv6 ? flow->ipv6_dst
                           : in6_addr_mapped_ipv4(flow->nw_dst));

    if (!ipv6_addr_equals(&quoted.src, &dst)) {
        return false;
    }

    memset(key, 0, sizeof *key);
    key->src = quoted.src;
    key->dst = quoted.dst;
    key->nw_proto = quoted.nw_proto;
    if (nw_proto_has_ports(key->nw_proto)) {
        memcpy(&key->tp_src, quoted.l4, sizeof key->tp_src);
        memcpy(&key->tp_dst, quoted.l4 + 2, sizeof key->tp_dst);
    }
    return true;
}

/* Where the checksum of the packet 'ip', of one of the protocols whose
 * checksum covers addresses, is, or NULL if it is absent. */
static ovs_be16 *
find_l4_csum(const struct ip_info *ip)
{
    size_t ofs;

    switch (ip->nw_proto) {
    case IPPROTO_TCP:
        ofs = offsetof(struct tcp_header, tcp_csum);
        break;
    case IPPROTO_UDP:
        ofs = offsetof(struct udp_header, udp_csum);
        break;
    case IPPROTO_ICMPV6:
        ofs = offsetof(struct icmp6_header, icmp6_cksum);
        if (ip->ipv6) {
            break;
        }
        return NULL;
    default:
        return NULL;
    }

    ovs_be16 *csum = ALIGNED_CAST(ovs_be16 *, ip->l4 + ofs);

    return (ip->l4_size < ofs + sizeof *csum ? NULL
            : ip->nw_proto == IPPROTO_UDP && !*csum ? NULL
            : csum);
}

/* Updates '*csum', if not NULL, for data that had the sum 'old' and has the
 * sum 'new', both as csum() returns them (RFC 1624). */
static void
update_csum(ovs_be16 *csum, ovs_be16 old, ovs_be16 new)
{
    if (csum && old != new) {
        *csum = recalc_csum16(*csum, (OVS_FORCE ovs_be16) ~old,
                              (OVS_FORCE ovs_be16) ~new);
    }
}

/* Overwrites the 'n' bytes at 'dst', an even number, by those at 'src', and
 * updates 'csum1' and 'csum2', where not NULL. */
static void
set_field(void *dst, const void *src, size_t n, ovs_be16 *csum1,
          ovs_be16 *csum2)
{
    ovs_be16 old = csum(dst, n);
    ovs_be16 new = csum(src, n);

    memcpy(dst, src, n);
    update_csum(csum1, old, new);
    update_csum(csum2, old, new);
}

static void
set_ports(const struct ip_info *ip, const struct conn_key *key,
          ovs_be16 *l4_csum)
{
    /* SCTP's checksum is a CRC-32c of the whole packet (RFC 9260, appendix A).
     * It can only be updated, and checked, if all of it is there. */
    bool update_crc = (ip->nw_proto == IPPROTO_SCTP && ip->complete
                       && !ip->nw_frag && ip->l4_size >= SCTP_HEADER_LEN);
    const uint8_t *data = (const uint8_t *) ip->l4;
    struct sctp_header *sctp = ALIGNED_CAST(struct sctp_header *, ip->l4);
    ovs_be32 crc = 0;

    if (update_crc) {
        crc = get_16aligned_be32(&sctp->sctp_csum);
        put_16aligned_be32(&sctp->sctp_csum, 0);
        crc ^= crc32c(data, ip->l4_size);
    }
    set_field(ip->l4, &key->tp_src, sizeof key->tp_src, l4_csum, NULL);
    set_field(ip->l4 + 2, &key->tp_dst, sizeof key->tp_dst, l4_csum, NULL);
    if (update_crc) {
        crc ^= crc32c(data, ip->l4_size);
        put_16aligned_be32(&sctp->sctp_csum, crc);
    }
}

/* Replaces the addresses and ports of the packet that 'packet', an ICMP or
 * ICMPv6 error with headers 'flow', quotes by those of 'key', whose protocol
 * must be the same, as icmp_error_get_quoted() tells.
 *
 * Updates the checksums of the quoted packet, as far as they are quoted, and
 * the one of the error, so that they are right or wrong afterward as they were
 * before.  The outer headers, and the flags for checksum offloading, which is
 * not done for ICMP, are not changed.
 *
 * Returns true if successful, false, without a change, if 'packet' does not
 * quote a packet of the same protocol and IP version as 'key'. */
bool
icmp_error_rewrite_quoted(struct dp_packet *packet, const struct flow *flow,
                          const struct conn_key *key)
{
    struct ip_info error, quoted;

    if (!parse_icmp_error(packet, flow, &error, &quoted)
        || quoted.nw_proto != key->nw_proto
        || quoted.ipv6 == IN6_IS_ADDR_V4MAPPED(&key->src)
        || quoted.ipv6 == IN6_IS_ADDR_V4MAPPED(&key->dst)) {
        return false;
    }

    /* Everything that may change, a multiple of 2 bytes. */
    size_t n = (quoted.l4 - quoted.l3
                + ROUND_DOWN(MIN(quoted.l4_size, TCP_HEADER_LEN), 2));
    ovs_be16 old_csum = csum(quoted.l3, n);
    ovs_be16 *l4_csum = find_l4_csum(&quoted);

    if (quoted.ipv6) {
        struct ovs_16aligned_ip6_hdr *nh
            = ALIGNED_CAST(struct ovs_16aligned_ip6_hdr *, quoted.l3);

        set_field(&nh->ip6_src, &key->src, sizeof key->src, l4_csum, NULL);
        set_field(&nh->ip6_dst, &key->dst, sizeof key->dst,
                  quoted.routed ? NULL : l4_csum, NULL);
    } else {
        struct ip_header *nh = ALIGNED_CAST(struct ip_header *, quoted.l3);
        ovs_be32 src = in6_addr_get_mapped_ipv4(&key->src);
        ovs_be32 dst = in6_addr_get_mapped_ipv4(&key->dst);

        set_field(&nh->ip_src, &src, sizeof src, l4_csum, &nh->ip_csum);
        set_field(&nh->ip_dst, &dst, sizeof dst, l4_csum, &nh->ip_csum);
    }
    if (nw_proto_has_ports(quoted.nw_proto)) {
        set_ports(&quoted, key, l4_csum);
    }
    if (l4_csum && quoted.nw_proto == IPPROTO_UDP && !*l4_csum) {
        *l4_csum = OVS_BE16_MAX;
    }

    update_csum(error.ipv6 ? &icmp6_header(&error)->icmp6_cksum
                : &icmp_header(&error)->icmp_csum,
                old_csum, csum(quoted.l3, n));
    return true;
}

/* Fragments. */

/* Stores in '*key' what all fragments of the datagram of which 'packet', with
 * headers 'flow', is a fragment have in common, as they arrive: rewrites in
 * 'flow' do not matter.  The offsets of 'packet' are not used.
 *
 * Fragments of IPv6 have in common the addresses and the identification alone
 * (RFC 8200, section 4.5), and only the first one has the protocol.
 *
 * Returns true if successful, false if 'packet' is not a fragment. */
bool
fragment_key_from_packet(const struct dp_packet *packet,
                         const struct flow *flow, struct fragment_key *key)
{
    struct ip_info ip;

    if (!parse_packet(packet, flow, &ip) || !ip.nw_frag) {
        return false;
    }

    memset(key, 0, sizeof *key);
    key->src = ip.src;
    key->dst = ip.dst;
    key->id = ip.frag_id;
    key->nw_proto = ip.ipv6 ? IPPROTO_FRAGMENT : ip.nw_proto;
    return true;
}

struct fragment {
    struct hmap_node node;      /* In struct fragment_table's 'fragments'. */
    struct ovs_list list_node;  /* In struct fragment_table's 'list'. */
    struct fragment_key key;
    long long int expires;      /* In ms, on the caller's clock. */
    ovs_be16 tp_src, tp_dst;
    uint8_t nw_proto;
};

struct fragment_table {
    size_t max;
    uint32_t basis;             /* Makes collisions of hashes hard to
                                 * provoke. */
    struct hmap fragments;      /* Contains "struct fragment"s. */
    struct ovs_list list;       /* The same, the oldest first. */
};

/* Returns a new table of up to 'max' datagrams. */
struct fragment_table *
fragment_table_create(size_t max)
{
    struct fragment_table *table = xmalloc(sizeof *table);

    table->max = MAX(max, 1);
    table->basis = random_uint32();
    hmap_init(&table->fragments);
    ovs_list_init(&table->list);
    return table;
}

static void
fragment_destroy(struct fragment_table *table, struct fragment *fragment)
{
    hmap_remove(&table->fragments, &fragment->node);
    ovs_list_remove(&fragment->list_node);
    free(fragment);
}

/* Destroys 'table', which may be NULL. */
void
fragment_table_destroy(struct fragment_table *table)
{
    if (table) {
        struct fragment *fragment;

        LIST_FOR_EACH_SAFE (fragment, list_node, &table->list) {
            fragment_destroy(table, fragment);
        }
        hmap_destroy(&table->fragments);
        free(table);
    }
}

static uint32_t
fragment_key_hash(const struct fragment_table *table,
                  const struct fragment_key *key)
{
    return hash_bytes(key, sizeof *key, table->basis);
}

static struct fragment *
fragment_find(const struct fragment_table *table,
              const struct fragment_key *key)
{
    struct fragment *fragment;

    HMAP_FOR_EACH_WITH_HASH (fragment, node, fragment_key_hash(table, key),
                             &table->fragments) {
        if (!memcmp(&fragment->key, key, sizeof *key)) {
            return fragment;
        }
    }
    return NULL;
}

/* Remembers that the first fragment of the datagram 'key' had 'nw_proto' and
 * the ports 'tp_src' and 'tp_dst', for 30 s from 'now', a time in ms, or until
 * there are too many.  Replaces what was known of 'key', as identifications
 * are used again. */
void
fragment_table_put(struct fragment_table *table,
                   const struct fragment_key *key, uint8_t nw_proto,
                   ovs_be16 tp_src, ovs_be16 tp_dst, long long int now)
{
    struct fragment *fragment = fragment_find(table, key);

    if (fragment) {
        fragment_destroy(table, fragment);
    }
    while (!ovs_list_is_empty(&table->list)) {
        fragment = CONTAINER_OF(ovs_list_front(&table->list),
                                struct fragment, list_node);
        if (now < fragment->expires
            && hmap_count(&table->fragments) < table->max) {
            break;
        }
        fragment_destroy(table, fragment);
    }

    fragment = xmalloc(sizeof *fragment);
    fragment->key = *key;
    fragment->expires = now + FRAGMENT_TIMEOUT_MS;
    fragment->tp_src = tp_src;
    fragment->tp_dst = tp_dst;
    fragment->nw_proto = nw_proto;
    hmap_insert(&table->fragments, &fragment->node,
                fragment_key_hash(table, key));
    ovs_list_push_back(&table->list, &fragment->list_node);
}

/* Returns true if fragment_table_put() for 'key' at 'now' would not have
 * 'table' forget another datagram ahead of time. */
bool
fragment_table_has_room(const struct fragment_table *table,
                        const struct fragment_key *key, long long int now)
{
    if (hmap_count(&table->fragments) < table->max
        || fragment_find(table, key)) {
        return true;
    }
    return now >= CONTAINER_OF(ovs_list_front(&table->list), struct fragment,
                               list_node)->expires;
}

/* If 'table' has the first fragment of the datagram 'key' at 'now', stores its
 * protocol and ports, and returns true.  Otherwise, returns false. */
bool
fragment_table_get(struct fragment_table *table,
                   const struct fragment_key *key, long long int now,
                   uint8_t *nw_proto, ovs_be16 *tp_src, ovs_be16 *tp_dst)
{
    struct fragment *fragment = fragment_find(table, key);

    if (!fragment) {
        return false;
    } else if (now >= fragment->expires) {
        fragment_destroy(table, fragment);
        return false;
    }
    *nw_proto = fragment->nw_proto;
    *tp_src = fragment->tp_src;
    *tp_dst = fragment->tp_dst;
    return true;
}

/* Rejections. */

/* Whether 'addr' is one that a single host can have on a network, and so may
 * be sent to, or get an answer (RFC 1122, section 3.2.1.3 and 3.2.2). */
static bool
is_unicast(const struct in6_addr *addr)
{
    if (IN6_IS_ADDR_V4MAPPED(addr)) {
        ovs_be32 ip = in6_addr_get_mapped_ipv4(addr);
        uint8_t first = ntohl(ip) >> 24;

        /* 0/8, 127/8, 224/4 and 240/4 with the broadcast address. */
        return first && first != 127 && first < 224;
    }
    return !ipv6_is_zero(addr) && !ipv6_addr_is_multicast(addr);
}

static bool
may_reject(const struct dp_packet *packet, const struct ip_info *ip)
{
    const struct eth_header *eth = dp_packet_data(packet);

    if (eth_addr_is_multicast(eth->eth_dst)
        || eth_addr_is_multicast(eth->eth_src)
        || !is_unicast(&ip->src) || !is_unicast(&ip->dst)
        || ip->nw_frag & FLOW_NW_FRAG_LATER) {
        return false;
    }

    if (ip->nw_proto == IPPROTO_TCP) {
        const struct tcp_header *tcp
            = ALIGNED_CAST(struct tcp_header *, ip->l4);

        if (ip->l4_size < TCP_HEADER_LEN) {
            return false;
        }

        size_t header_len = TCP_OFFSET(tcp->tcp_ctl) * 4;

        return (header_len >= TCP_HEADER_LEN && header_len <= ip->l4_size
                && !(TCP_FLAGS(tcp->tcp_ctl) & TCP_RST));
    } else if (ip->ipv6 && ip->nw_proto == IPPROTO_ICMPV6) {
        return ip->l4_size && !icmp6_type_is_untracked(l4_type(ip));
    } else if (!ip->ipv6 && ip->nw_proto == IPPROTO_ICMP) {
        return (ip->l4_size && l4_type(ip) <= ICMP4_MAX_TYPE
                && !icmp4_type_is_error(l4_type(ip)));
    }
    return true;
}

/* Fills in the TCP header 'rst' of an answer to the segment in 'ip' (RFC 9293,
 * section 3.10.7.1).  Its checksum is left zero. */
static void
fill_rst(struct tcp_header *rst, const struct ip_info *ip)
{
    const struct tcp_header *tcp = ALIGNED_CAST(struct tcp_header *, ip->l4);
    uint16_t flags = TCP_FLAGS(tcp->tcp_ctl);

    rst->tcp_src = tcp->tcp_dst;
    rst->tcp_dst = tcp->tcp_src;
    if (flags & TCP_ACK) {
        rst->tcp_seq = tcp->tcp_ack;
        rst->tcp_ctl = TCP_CTL(TCP_RST, TCP_HEADER_LEN / 4);
    } else {
        uint32_t seq = ntohl(get_16aligned_be32(&tcp->tcp_seq));
        uint32_t len = (ip->l4_size - TCP_OFFSET(tcp->tcp_ctl) * 4
                        + !!(flags & TCP_SYN) + !!(flags & TCP_FIN));

        put_16aligned_be32(&rst->tcp_ack, htonl(seq + len));
        rst->tcp_ctl = TCP_CTL(TCP_RST | TCP_ACK, TCP_HEADER_LEN / 4);
    }
}

/* Fills in the ICMP or ICMPv6 error 'icmp' about the packet in 'ip', of which
 * it quotes 'n' bytes.  Its checksum is left zero. */
static void
fill_unreachable(struct icmp_header *icmp, const struct ip_info *ip, size_t n,
                 bool fix_ip_csum)
{
    bool udp = ip->nw_proto == IPPROTO_UDP;

    memcpy(icmp + 1, ip->l3, n);
    if (ip->ipv6) {
        icmp->icmp_type = ICMP6_DST_UNREACH;
        icmp->icmp_code = (udp ? ICMP6_DST_UNREACH_NOPORT
                           : ICMP6_DST_UNREACH_ADMIN);
    } else {
        icmp->icmp_type = ICMP4_DST_UNREACH;
        icmp->icmp_code = udp ? ICMP4_PORT_UNREACH : ICMP4_ADMIN_PROHIBITED;
        if (fix_ip_csum) {
            struct ip_header *nh
                = ALIGNED_CAST(struct ip_header *, icmp + 1);

            nh->ip_csum = 0;
            nh->ip_csum = csum(nh, ip->l4 - ip->l3);
        }
    }
}

/* Composes the answer that refuses 'packet', with headers 'flow', to its
 * sender: TCP RST, or ICMP or ICMPv6 "destination unreachable".  The answer is
 * to the packet as it arrived, rewrites in 'flow' do not matter, and has the
 * same VLAN tags.  The offsets of 'packet' are not used.
 *
 * Returns a new packet that the caller must free, with offsets and complete
 * checksums, or NULL if the packet must not be answered: later fragments,
 * those to or from other than single hosts, RST, ICMP errors (RFC 1122,
 * section 3.2.2, RFC 4443, section 2.4), NDP and MLD, malformed ones, and
 * those that are not IP over Ethernet. */
struct dp_packet *
compose_rejection(const struct dp_packet *packet, const struct flow *flow)
{
    struct ip_info ip;

    if (!dp_packet_is_eth(packet) || !parse_packet(packet, flow, &ip)
        || !may_reject(packet, &ip)) {
        return NULL;
    }

    bool tcp = ip.nw_proto == IPPROTO_TCP;
    size_t l3_len = ip.ipv6 ? IPV6_HEADER_LEN : IP_HEADER_LEN;
    size_t max = ip.ipv6 ? MAX_IPV6_ERROR : MAX_IPV4_ERROR;
    size_t n_quoted = MIN(ip.l3_size, max - l3_len - ICMP_HEADER_LEN);
    size_t l4_len = tcp ? TCP_HEADER_LEN : ICMP_HEADER_LEN + n_quoted;

    /* Ethernet, with the tags, but not a header of IEEE 802.2. */
    const struct eth_header *eth = dp_packet_data(packet);
    const char *frame = dp_packet_data(packet);
    size_t tags_end = 2 * ETH_ADDR_LEN;
    size_t l3_ofs = ip.l3 - frame;
    ovs_be16 eth_type;

    for (; tags_end + VLAN_HEADER_LEN < l3_ofs; tags_end += VLAN_HEADER_LEN) {
        memcpy(&eth_type, frame + tags_end, sizeof eth_type);
        if (!eth_type_vlan(eth_type)) {
            break;
        }
    }
    eth_type = htons(ip.ipv6 ? ETH_TYPE_IPV6 : ETH_TYPE_IP);

    /* The headroom of 2 aligns the IP header to 4 bytes. */
    struct dp_packet *b
        = dp_packet_new_with_headroom(tags_end + 2 + l3_len + l4_len, 2);

    dp_packet_put(b, &eth->eth_src, ETH_ADDR_LEN);
    dp_packet_put(b, &eth->eth_dst, ETH_ADDR_LEN);
    dp_packet_put(b, frame + 2 * ETH_ADDR_LEN, tags_end - 2 * ETH_ADDR_LEN);
    dp_packet_put(b, &eth_type, sizeof eth_type);

    char *l3 = dp_packet_put_zeros(b, l3_len + l4_len);
    char *l4 = l3 + l3_len;
    uint8_t nw_proto = (tcp ? IPPROTO_TCP
                        : ip.ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);

    dp_packet_set_l3(b, l3);
    dp_packet_set_l4(b, l4);
    if (tcp) {
        fill_rst(ALIGNED_CAST(struct tcp_header *, l4), &ip);
    } else {
        fill_unreachable(ALIGNED_CAST(struct icmp_header *, l4), &ip, n_quoted,
                         dp_packet_ip_checksum_partial(packet));
    }

    ovs_be16 *l4_csum = (tcp
        ? &ALIGNED_CAST(struct tcp_header *, l4)->tcp_csum
        : &ALIGNED_CAST(struct icmp_header *, l4)->icmp_csum);

    if (ip.ipv6) {
        struct ovs_16aligned_ip6_hdr *nh
            = ALIGNED_CAST(struct ovs_16aligned_ip6_hdr *, l3);

        nh->ip6_vfc = 6 << 4;
        nh->ip6_plen = htons(l4_len);
        nh->ip6_nxt = nw_proto;
        nh->ip6_hlim = REJECTION_TTL;
        memcpy(&nh->ip6_src, &ip.dst, sizeof nh->ip6_src);
        memcpy(&nh->ip6_dst, &ip.src, sizeof nh->ip6_dst);
        *l4_csum = packet_csum_upperlayer6(nh, l4, nw_proto, l4_len);
    } else {
        struct ip_header *nh = ALIGNED_CAST(struct ip_header *, l3);

        /* Never a fragment, so the identification does not matter (RFC
         * 6864). */
        nh->ip_ihl_ver = IP_IHL_VER(IP_HEADER_LEN / 4, 4);
        nh->ip_tot_len = htons(l3_len + l4_len);
        nh->ip_frag_off = htons(IP_DONT_FRAGMENT);
        nh->ip_ttl = REJECTION_TTL;
        nh->ip_proto = nw_proto;
        put_16aligned_be32(&nh->ip_src, in6_addr_get_mapped_ipv4(&ip.dst));
        put_16aligned_be32(&nh->ip_dst, in6_addr_get_mapped_ipv4(&ip.src));
        nh->ip_csum = csum(nh, sizeof *nh);
        *l4_csum = csum_finish(csum_continue(tcp ? packet_csum_pseudoheader(nh)
                                             : 0, l4, l4_len));
    }
    return b;
}
