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

#include "layered/lib/simnic-link.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip6.h>
#include <sys/stat.h>

#include "coverage.h"
#include "csum.h"
#include "dp-packet.h"
#include "flow.h"
#include "netdev.h"
#include "netdev-afxdp.h"
#include "netdev-provider.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/shash.h"
#include "openvswitch/vlog.h"
#include "ovs-atomic.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "packets.h"
#include "smap.h"
#include "timeval.h"
#include "util.h"

VLOG_DEFINE_THIS_MODULE(simnic_link);

COVERAGE_DEFINE(simnic_link_csum_completed);
COVERAGE_DEFINE(simnic_link_send_failed);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(5, 20);

/* How old what is known of the state of a device may be, in ms. */
#define REFRESH_INTERVAL 200

/* How long an AF_XDP link waits at most, in ms.  If all its buffers were in
 * use when it last received, then it must receive again to give the kernel
 * those that have become free since. */
#define AFXDP_MAX_WAIT 50

struct simnic_link {
    struct netdev *netdev;
    struct netdev_rxq *rxq;
    const char *type;           /* Static string. */
    int ifindex;                /* 0 if it is not a kernel device, or a tap
                                 * device. */
    bool is_tap;                /* The device may be moved to another namespace
                                 * and renamed: the link stays the same. */
    bool is_afxdp;
    size_t max_frame;           /* In bytes; a larger one would not fit into
                                 * the device's buffers.  0 for no limit. */
    bool received;              /* Has simnic_link_recv() been called?  Only
                                 * for the thread that receives. */

    /* What is known of the device's state.  See refresh(). */
    atomic_llong next_refresh;  /* In ms, see time_msec(). */
    atomic_uint64_t change_seq; /* Of 'netdev', as of the last refresh. */
    atomic_bool up;
    atomic_bool gone;           /* Never becomes false again. */
    atomic_int mtu;
};

/* A device that has links, or had some.  Open vSwitch itself may keep a netdev
 * alive, for routes to the device, after its last link is closed, so that the
 * name could not be opened as another type: this is how to recognize it. */
struct device {
    int n_links;
    const char *type;           /* Of the last one; static string. */
};
static struct ovs_mutex devices_mutex = OVS_MUTEX_INITIALIZER;
static struct shash devices OVS_GUARDED_BY(devices_mutex)
    = SHASH_INITIALIZER(&devices);

static void
device_link_opened(const char *name, const char *type)
{
    struct device *device;

    ovs_mutex_lock(&devices_mutex);
    device = shash_find_data(&devices, name);
    if (!device) {
        device = xzalloc(sizeof *device);
        shash_add(&devices, name, device);
    }
    device->n_links++;
    device->type = type;
    ovs_mutex_unlock(&devices_mutex);
}

/* Notes that a link of the device called 'name' is closed.  'is_left' is
 * whether there still is a netdev. */
static void
device_link_closed(const char *name, bool is_left)
{
    struct shash_node *node;

    ovs_mutex_lock(&devices_mutex);
    node = shash_find(&devices, name);
    if (node) {
        struct device *device = node->data;

        device->n_links--;
        if (!device->n_links && !is_left) {
            shash_delete(&devices, node);
            free(device);
        }
    }
    ovs_mutex_unlock(&devices_mutex);
}

/* Makes the name of the netdev called 'name' free, if what is there is left
 * over from a link that is closed.  Returns true if so. */
static bool
free_name(const char *name)
{
    struct netdev *netdev = netdev_from_name(name);
    const struct device *device;
    bool is_leftover;

    ovs_mutex_lock(&devices_mutex);
    device = shash_find_data(&devices, name);
    is_leftover = (netdev && device && !device->n_links
                   && !strcmp(netdev_get_type(netdev), device->type));
    ovs_mutex_unlock(&devices_mutex);

    if (is_leftover) {
        netdev_remove(netdev);
    } else {
        netdev_close(netdev);
    }
    return is_leftover;
}

/* Opening. */

static bool
device_exists(const char *name)
{
    return if_nametoindex(name) > 0;
}

/* Opens device 'name' as one of 'type', with 'options'.  Returns the link, or
 * NULL with '*errorp' set to a string that the caller frees. */
static struct simnic_link *
open_as(const char *name, const char *type, const struct smap *options,
        char **errorp)
{
    struct netdev_rxq *rxq = NULL;
    struct netdev *netdev = NULL;
    enum netdev_flags flags;
    char *reason = NULL;
    int error;

    if (!strcmp(type, "afxdp") || !strcmp(type, "system")) {
        /* Sockets that are left over may be those of a device that is gone. */
        free_name(name);
    }
    error = netdev_open(name, type, &netdev);
    if (error == EEXIST && free_name(name)) {
        error = netdev_open(name, type, &netdev);
    }
    if (error) {
        if (error == ENODEV) {
            *errorp = xasprintf("%s: no such device", name);
        } else if (error == EEXIST) {
            *errorp = xasprintf("%s: in use as a device of another type than "
                                "%s", name, type);
        } else if (error == EAFNOSUPPORT) {
            *errorp = xasprintf("%s: this Open vSwitch has no devices of type "
                                "%s", name, type);
        } else {
            *errorp = xasprintf("%s: cannot be opened as %s: %s", name, type,
                                ovs_strerror(error));
        }
        return NULL;
    }

    netdev_get_flags(netdev, &flags);
    if (flags & NETDEV_LOOPBACK) {
        *errorp = xasprintf("%s: is a loopback device", name);
        goto error;
    }

    error = netdev_set_config(netdev, options, &reason);
    if (error) {
        *errorp = xasprintf("%s: cannot be configured as %s: %s", name, type,
                            reason ? reason : ovs_strerror(error));
        goto error;
    }

    /* One queue for each direction.  Not every class can say so or needs
     * reconfiguration. */
    error = netdev_set_tx_multiq(netdev, 1);
    if (!error || error == EOPNOTSUPP) {
        error = netdev_reconfigure(netdev);
    }
    if (error && error != EOPNOTSUPP) {
        *errorp = xasprintf("%s: cannot be set up as %s: %s", name, type,
                            ovs_strerror(error));
        goto error;
    }

    /* As bridges do with their ports. */
    error = netdev_turn_flags_on(netdev, NETDEV_UP | NETDEV_PROMISC, NULL);
    if (error) {
        *errorp = xasprintf("%s: cannot be brought up: %s", name,
                            ovs_strerror(error));
        goto error;
    }

    error = netdev_rxq_open(netdev, &rxq, 0);
    if (error) {
        *errorp = xasprintf("%s: cannot receive as %s: %s", name, type,
                            ovs_strerror(error));
        goto error;
    }

    struct simnic_link *link = xzalloc(sizeof *link);
    link->netdev = netdev;
    link->rxq = rxq;
    link->type = netdev_get_type(netdev);
    link->is_afxdp = !strcmp(type, "afxdp");
    link->is_tap = !strcmp(type, "tap");
    link->ifindex = (link->is_tap || !strcmp(type, "dummy")
                     ? 0 : if_nametoindex(name));
    atomic_init(&link->next_refresh, LLONG_MIN);
    atomic_init(&link->change_seq, 0);
    atomic_init(&link->up, false);
    atomic_init(&link->gone, false);
    atomic_init(&link->mtu, 0);
    device_link_opened(name, link->type);
    free(reason);
    return link;

error:
    free(reason);
    netdev_close(netdev);
    return NULL;
}

/* Adds to a copy of 'options', which the caller destroys, what an AF_XDP
 * socket needs to work as a link. */
static void
get_afxdp_options(struct smap *copy, const struct smap *options)
{
    if (options) {
        smap_clone(copy, options);
    } else {
        smap_init(copy);
    }
    smap_replace(copy, "n_rxq", "1");
    if (!smap_get(copy, "xdp-mode")) {
        smap_add(copy, "xdp-mode", "native");
    }
}

#ifdef HAVE_AF_XDP
/* Limits the size of the frames that can be sent on 'link', an AF_XDP link, to
 * what fits into its buffers, of which its netdev does not take care.  Returns
 * NULL if successful, otherwise the reason why not, which the caller frees. */
static char *
set_max_frame(struct simnic_link *link)
{
    const char *name = netdev_get_name(link->netdev);
    int mtu;

    if (netdev_get_mtu(link->netdev, &mtu)) {
        return xasprintf("%s: its MTU is unknown", name);
    } else if (netdev_afxdp_verify_mtu_size(link->netdev, mtu)) {
        return xasprintf("%s: its MTU, %d, is too large for afxdp", name, mtu);
    }
    link->max_frame = ETH_HEADER_LEN + 2 * VLAN_HEADER_LEN + mtu;
    return NULL;
}
#else
static char *
set_max_frame(struct simnic_link *link OVS_UNUSED)
{
    return NULL;
}
#endif

static struct simnic_link *
open_as_afxdp(const char *name, const struct smap *options, char **errorp)
{
    struct simnic_link *link;
    struct smap copy;

    get_afxdp_options(&copy, options);
    link = open_as(name, "afxdp", &copy, errorp);
    smap_destroy(&copy);
    if (link) {
        *errorp = set_max_frame(link);
        if (*errorp) {
            simnic_link_close(link);
            link = NULL;
        }
    }
    return link;
}

#ifdef HAVE_AF_XDP
/* Returns true if device 'name' has several receive queues, according to the
 * kernel. */
static bool
has_several_queues(const char *name)
{
    char *path = xasprintf("%s/%s/queues/rx-1", "/sys/class/net", name);
    struct stat s;
    bool several = !stat(path, &s);

    free(path);
    return several;
}

/* Opens device 'name' as an AF_XDP link if that is sure to get all of its
 * frames.  Returns the link, or NULL with '*errorp' set to the reason, which
 * the caller frees. */
static struct simnic_link *
try_afxdp(const char *name, const struct smap *options, char **errorp)
{
    if (has_several_queues(name)) {
        *errorp = xasprintf("%s: has several receive queues", name);
        return NULL;
    }

    return open_as_afxdp(name, options, errorp);
}
#else
static struct simnic_link *
try_afxdp(const char *name, const struct smap *options OVS_UNUSED,
          char **errorp)
{
    *errorp = xasprintf("%s: this Open vSwitch has no devices of type afxdp",
                        name);
    return NULL;
}
#endif

/* Opens a link with the device 'netdev', which it brings up, with Open
 * vSwitch's netdev of 'type', one of those in the comment in simnic-link.h.
 * With a 'type' of NULL it takes "afxdp" if that works for the device, and
 * otherwise "system".  'options', which may be NULL, is that netdev's
 * configuration.
 *
 * Returns the link, which the caller closes with simnic_link_close().  If it
 * cannot be opened, returns NULL and sets '*errorp' to the reason, which names
 * what is wrong and which the caller frees.
 *
 * For a thread that may wait for netdevs to be opened: not for a netdev
 * class's construct, destruct or dealloc function. */
struct simnic_link *
simnic_link_open(const char *netdev, const char *type,
                 const struct smap *options, char **errorp)
{
    *errorp = NULL;
    if (type && !strcmp(type, "tap")) {
        return open_as(netdev, "tap", options, errorp);
    } else if (type && !strcmp(type, "dummy")) {
        return open_as(netdev, "dummy", options, errorp);
    } else if (type && strcmp(type, "afxdp") && strcmp(type, "system")) {
        *errorp = xasprintf("%s: unknown type of link (must be afxdp, system, "
                            "tap or dummy)", type);
        return NULL;
    } else if (!device_exists(netdev)) {
        *errorp = xasprintf("%s: no such device", netdev);
        return NULL;
    }

    if (type) {
        return (!strcmp(type, "afxdp")
                ? open_as_afxdp(netdev, options, errorp)
                : open_as(netdev, "system", options, errorp));
    }

    char *reason;
    struct simnic_link *link = try_afxdp(netdev, options, &reason);
    if (!link) {
        VLOG_INFO_RL(&rl, "using an AF_PACKET socket for %s instead of an "
                     "AF_XDP socket (%s)", netdev, reason);
        free(reason);
        link = open_as(netdev, "system", options, errorp);
    }
    return link;
}

/* Closes 'link', which may be NULL.  No thread may use it any more.
 *
 * For a thread that may wait for netdevs to be closed, as
 * simnic_link_open(). */
void
simnic_link_close(struct simnic_link *link)
{
    if (link) {
        char *name = xstrdup(netdev_get_name(link->netdev));
        struct netdev *left;

        netdev_rxq_close(link->rxq);
        netdev_close(link->netdev);
        free(link);

        left = netdev_from_name(name);
        device_link_closed(name, left != NULL);
        netdev_close(left);
        free(name);
    }
}

/* Closes 'link', which may be NULL, once no thread uses it any more. */
void
simnic_link_close_postponed(struct simnic_link *link)
{
    if (link) {
        ovsrcu_postpone(simnic_link_close, link);
    }
}

/* State. */

static void
set_gone(struct simnic_link *link)
{
    bool was_gone;

    atomic_read_relaxed(&link->gone, &was_gone);
    if (!was_gone) {
        VLOG_INFO_RL(&rl, "%s: the device is gone",
                     netdev_get_name(link->netdev));
    }
    atomic_store_relaxed(&link->gone, true);
    atomic_store_relaxed(&link->up, false);
}

/* Notes whether the device of 'link' is still there.  One that has been
 * deleted and made again by the same name is not. */
static void
check_gone(struct simnic_link *link)
{
    if (link->ifindex
        && if_nametoindex(netdev_get_name(link->netdev)) != link->ifindex) {
        set_gone(link);
    }
}

/* Returns true if the device of 'link' has carrier, as far as that can be
 * seen: not in another namespace. */
static bool
has_carrier(const struct simnic_link *link)
{
    return (netdev_get_carrier(link->netdev)
            || (link->is_tap
                && !device_exists(netdev_get_name(link->netdev))));
}

/* Brings what is known of the state of the device of 'link' up to date if it
 * is too old, or the device is known to have changed.  Takes system calls
 * then. */
static void
refresh(const struct simnic_link *link_)
{
    struct simnic_link *link = CONST_CAST(struct simnic_link *, link_);
    uint64_t old_seq, seq = netdev_get_change_seq(link->netdev);
    long long int next, now = time_msec();
    bool up, gone;
    int mtu;

    atomic_read_relaxed(&link->next_refresh, &next);
    atomic_read_relaxed(&link->change_seq, &old_seq);
    if (now < next && seq == old_seq) {
        return;
    }

    /* One thread is enough. */
    if (!atomic_compare_exchange_strong(&link->next_refresh, &next,
                                        now + REFRESH_INTERVAL)) {
        return;
    }
    atomic_store_relaxed(&link->change_seq, seq);

    atomic_read_relaxed(&link->gone, &gone);
    if (gone) {
        return;
    }
    up = has_carrier(link);
    atomic_store_relaxed(&link->up, up);
    atomic_store_relaxed(&link->mtu,
                         netdev_get_mtu(link->netdev, &mtu) ? 0 : mtu);
    if (!up || seq != old_seq) {
        check_gone(link);
    }
}

/* Returns true if 'link' has carrier, as of at most REFRESH_INTERVAL ago. */
bool
simnic_link_is_up(const struct simnic_link *link)
{
    bool up;

    refresh(link);
    atomic_read_relaxed(&CONST_CAST(struct simnic_link *, link)->up, &up);
    return up;
}

/* Returns true if the device of 'link' has been deleted.  The link will never
 * work again, even if a device of the same name comes: it has to be closed and
 * opened again. */
bool
simnic_link_is_gone(const struct simnic_link *link)
{
    bool gone;

    refresh(link);
    atomic_read_relaxed(&CONST_CAST(struct simnic_link *, link)->gone, &gone);
    return gone;
}

/* Returns the MTU of the device of 'link', in bytes without the Ethernet
 * header, or 0 if it is unknown. */
int
simnic_link_get_mtu(const struct simnic_link *link)
{
    int mtu;

    refresh(link);
    atomic_read_relaxed(&CONST_CAST(struct simnic_link *, link)->mtu, &mtu);
    return mtu;
}

/* Returns the type of the netdev of 'link': "afxdp", "system", "tap" or
 * "dummy".  The string is static. */
const char *
simnic_link_get_type(const struct simnic_link *link)
{
    return link->type;
}

/* Checksums. */

/* Returns the 16-bit sum that a sender leaves in the checksum field if it
 * wants the device to do the rest. */
static ovs_be16
fold(uint32_t pseudo_sum)
{
    return ~csum_finish(pseudo_sum);
}

/* Completes the checksum of the 'l4_len' bytes of TCP or UDP, as 'proto' says,
 * at 'l4', if it only has the sum of the pseudo header yet, apart from
 * 'ip_sum', which is the part of that that is the IP version's own: the
 * addresses.  Returns true if so. */
static bool
complete_l4_csum(uint8_t proto, void *l4, size_t l4_len, uint32_t ip_sum)
{
    ovs_be16 *field;

    if (proto == IPPROTO_TCP && l4_len >= TCP_HEADER_LEN) {
        field = &((struct tcp_header *) l4)->tcp_csum;
    } else if (proto == IPPROTO_UDP && l4_len >= UDP_HEADER_LEN) {
        struct udp_header *udp = l4;

        /* What the length of UDP leaves over belongs to nobody. */
        if (ntohs(udp->udp_len) != l4_len) {
            return false;
        }
        field = &udp->udp_csum;
    } else {
        return false;
    }

    uint32_t pseudo_sum = csum_add16(ip_sum, htons(proto));
    pseudo_sum = csum_add16(pseudo_sum, htons(l4_len));
    if (*field != fold(pseudo_sum)) {
        return false;
    }

    /* The field itself contributes the sum of the pseudo header.  (If the
     * checksum was complete and is the same by coincidence, then this yields
     * the same again.) */
    *field = csum(l4, l4_len);
    if (!*field && proto == IPPROTO_UDP) {
        *field = htons(0xffff);     /* 0 would mean that there is none. */
    }
    return true;
}

static bool
complete_ipv4_csum(void *l3, size_t l3_len)
{
    const struct ip_header *ip = l3;

    if (l3_len < IP_HEADER_LEN || IP_VER(ip->ip_ihl_ver) != 4
        || IP_IS_FRAGMENT(ip->ip_frag_off)) {
        return false;
    }

    size_t ip_len = IP_IHL(ip->ip_ihl_ver) * 4;
    size_t tot_len = ntohs(ip->ip_tot_len);
    if (ip_len < IP_HEADER_LEN || tot_len < ip_len || tot_len > l3_len) {
        return false;
    }

    uint32_t sum = csum_add32(0, get_16aligned_be32(&ip->ip_src));
    sum = csum_add32(sum, get_16aligned_be32(&ip->ip_dst));
    return complete_l4_csum(ip->ip_proto, (char *) l3 + ip_len,
                            tot_len - ip_len, sum);
}

static bool
complete_ipv6_csum(void *l3, size_t l3_len)
{
    const struct ovs_16aligned_ip6_frag *frag_hdr = NULL;
    const struct ip6_rt_hdr *rt_hdr = NULL;
    const struct ovs_16aligned_ip6_hdr *ip6 = l3;

    if (l3_len < IPV6_HEADER_LEN || (ip6->ip6_vfc >> 4) != 6
        || ntohs(ip6->ip6_plen) > l3_len - IPV6_HEADER_LEN) {
        return false;
    }

    const void *data = (char *) l3 + IPV6_HEADER_LEN;
    size_t size = ntohs(ip6->ip6_plen);
    uint8_t proto = ip6->ip6_nxt;
    uint8_t frag = 0;

    if (proto != IPPROTO_TCP && proto != IPPROTO_UDP
        && !parse_ipv6_ext_hdrs(&data, &size, &proto, &frag, &frag_hdr,
                                &rt_hdr)) {
        return false;
    }
    /* With a routing header, the destination of the pseudo header is another
     * one. */
    if (frag || frag_hdr || rt_hdr) {
        return false;
    }

    uint32_t sum = csum_continue(0, &ip6->ip6_src, sizeof ip6->ip6_src);
    sum = csum_continue(sum, &ip6->ip6_dst, sizeof ip6->ip6_dst);
    return complete_l4_csum(proto, CONST_CAST(void *, data), size, sum);
}

/* Completes the checksum of TCP or UDP of 'packet', if the sender has left
 * that to its NIC: if its checksum field has the sum of the pseudo header.
 * Changes nothing else, and nothing in any other packet.  The packet may be
 * any whatsoever; it need not have been parsed.
 *
 * simnic_link_recv() does this to all frames.  For any thread. */
void
simnic_link_complete_csum(struct dp_packet *packet)
{
    const struct eth_header *eth = dp_packet_data(packet);
    char *data = dp_packet_data(packet);
    size_t size = dp_packet_size(packet);
    size_t ofs = ETH_HEADER_LEN;
    bool completed = false;
    ovs_be16 eth_type;

    if (size < ETH_HEADER_LEN) {
        return;
    }
    eth_type = eth->eth_type;
    for (int i = 0; i < 2 && eth_type_vlan(eth_type); i++) {
        const struct vlan_header *vlan;

        if (size - ofs < VLAN_HEADER_LEN) {
            return;
        }
        vlan = ALIGNED_CAST(const struct vlan_header *, data + ofs);
        eth_type = vlan->vlan_next_type;
        ofs += VLAN_HEADER_LEN;
    }

    if (eth_type == htons(ETH_TYPE_IP)) {
        completed = complete_ipv4_csum(data + ofs, size - ofs);
    } else if (eth_type == htons(ETH_TYPE_IPV6)) {
        completed = complete_ipv6_csum(data + ofs, size - ofs);
    }
    if (completed) {
        /* Nothing is left to be done for whoever sends it. */
        dp_packet_l4_checksum_set_unknown(packet);
        COVERAGE_INC(simnic_link_csum_completed);
    }
}

/* Input and output. */

/* Receives frames from 'link' into 'batch', which must have been initialized
 * and which this empties first, and completes their checksums.  Returns 0 with
 * at least one frame, which the caller owns, EAGAIN if there is none at
 * present, or another positive errno value. */
int
simnic_link_recv(struct simnic_link *link, struct dp_packet_batch *batch)
{
    struct dp_packet *packet;
    int error;

    dp_packet_batch_reset(batch);
    link->received = true;
    error = netdev_rxq_recv(link->rxq, batch, NULL);
    if (error) {
        if (link->is_tap && error == EBADFD) {
            set_gone(link);     /* The kernel says so. */
        } else if (error != EAGAIN && error != EMSGSIZE) {
            check_gone(link);
        }
        return error;
    }

    DP_PACKET_BATCH_FOR_EACH (i, packet, batch) {
        simnic_link_complete_csum(packet);
    }
    return dp_packet_batch_is_empty(batch) ? EAGAIN : 0;
}

/* Arranges for poll_block() to wake up when there may be frames to receive
 * from 'link'. */
void
simnic_link_wait(struct simnic_link *link)
{
    if (link->is_afxdp) {
        /* The rxq knows its socket only once it has received. */
        if (!link->received) {
            poll_immediate_wake();
            return;
        }
        poll_timer_wait(AFXDP_MAX_WAIT);
    }
    netdev_rxq_wait(link->rxq);
}

/* Drops the frames of 'batch' that are larger than 'max_frame' bytes.  Returns
 * how many there were. */
static unsigned int
drop_too_large(struct dp_packet_batch *batch, size_t max_frame)
{
    const size_t n = dp_packet_batch_size(batch);
    struct dp_packet *packet;
    unsigned int dropped = 0;
    size_t i;

    DP_PACKET_BATCH_REFILL_FOR_EACH (i, n, packet, batch) {
        if (dp_packet_size(packet) <= max_frame) {
            dp_packet_batch_add(batch, packet);
        } else {
            dp_packet_delete(packet);
            dropped++;
        }
    }
    return dropped;
}

/* Sends the frames of 'batch' on 'link', and takes them over in any case.
 * 'batch' is empty afterwards.  Returns the number of frames that the device
 * did not take: where the device reports nothing but an error, all of them. */
unsigned int
simnic_link_send(struct simnic_link *link, struct dp_packet_batch *batch)
{
    unsigned int n, dropped = 0;

    if (link->max_frame) {
        dropped = drop_too_large(batch, link->max_frame);
    }
    n = dp_packet_batch_size(batch);
    if (n) {
        if (netdev_send(link->netdev, 0, batch, true)) {
            dropped += n;
        }
        dp_packet_batch_reset(batch);
    }
    if (dropped) {
        COVERAGE_ADD(simnic_link_send_failed, dropped);
    }
    return dropped;
}
