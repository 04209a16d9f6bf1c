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

#include "layered/lib/netdev-loadgen.h"

#include <errno.h>

#include "dp-packet.h"
#include "layered/lib/loadgen.h"
#include "netdev-provider.h"
#include "openvswitch/vlog.h"
#include "ovs-thread.h"
#include "packets.h"
#include "smap.h"
#include "util.h"

VLOG_DEFINE_THIS_MODULE(netdev_loadgen);

#define CHECKSUM_OFFLOADS \
    (NETDEV_TX_OFFLOAD_IPV4_CKSUM | NETDEV_TX_OFFLOAD_TCP_CKSUM)

struct netdev_loadgen {
    struct netdev up;
    struct loadgen_port *port;

    struct ovs_mutex mutex;
    struct smap config OVS_GUARDED;     /* As given. */
    struct eth_addr mac OVS_GUARDED;
    enum netdev_flags flags OVS_GUARDED;
    int requested_n_txq OVS_GUARDED;
    int requested_n_rxq OVS_GUARDED;
};

struct netdev_rxq_loadgen {
    struct netdev_rxq up;
};

static struct netdev_loadgen *
netdev_loadgen_cast(const struct netdev *netdev)
{
    return CONTAINER_OF(netdev, struct netdev_loadgen, up);
}

static struct netdev *
netdev_loadgen_alloc(void)
{
    struct netdev_loadgen *dev = xzalloc(sizeof *dev);

    return &dev->up;
}

static int
netdev_loadgen_construct(struct netdev *netdev)
{
    struct netdev_loadgen *dev = netdev_loadgen_cast(netdev);

    dev->port = loadgen_port_create(netdev_get_name(netdev));
    ovs_mutex_init(&dev->mutex);
    ovs_mutex_lock(&dev->mutex);
    smap_init(&dev->config);
    eth_addr_random(&dev->mac);
    dev->flags = NETDEV_UP;
    dev->requested_n_txq = dev->requested_n_rxq = 1;
    ovs_mutex_unlock(&dev->mutex);
    netdev->ol_flags = CHECKSUM_OFFLOADS;
    return 0;
}

static void
netdev_loadgen_destruct(struct netdev *netdev)
{
    struct netdev_loadgen *dev = netdev_loadgen_cast(netdev);

    loadgen_port_destroy(dev->port);
    ovs_mutex_lock(&dev->mutex);
    smap_destroy(&dev->config);
    ovs_mutex_unlock(&dev->mutex);
    ovs_mutex_destroy(&dev->mutex);
}

static void
netdev_loadgen_dealloc(struct netdev *netdev)
{
    free(netdev_loadgen_cast(netdev));
}

/* Configuration. */

struct loadgen_options {
    enum loadgen_role role;
    unsigned int vm;
    unsigned int wire;
    unsigned int n_rxq;
    bool verify_checksums;
};

/* Parses 'args' into 'options'.  Returns NULL if successful, otherwise an
 * error message that the caller frees. */
static char *
parse_options(const struct smap *args, struct loadgen_options *options)
{
    const struct smap_node *node;
    const char *role = NULL, *vm = NULL;

    *options = (struct loadgen_options) { .n_rxq = 1 };
    SMAP_FOR_EACH (node, args) {
        if (!strcmp(node->key, "role")) {
            role = node->value;
        } else if (!strcmp(node->key, "vm")) {
            vm = node->value;
        } else if (!strcmp(node->key, "wire")) {
            if (!str_to_uint(node->value, 10, &options->wire)
                || options->wire >= LOADGEN_MAX_WIRES) {
                return xasprintf("options:wire: \"%s\" is not a number from 0 "
                                 "to %d", node->value, LOADGEN_MAX_WIRES - 1);
            }
        } else if (!strcmp(node->key, "n_rxq")) {
            if (!str_to_uint(node->value, 10, &options->n_rxq)
                || options->n_rxq < 1 || options->n_rxq > LOADGEN_MAX_VMS) {
                return xasprintf("options:n_rxq: \"%s\" is not a number from "
                                 "1 to %d", node->value, LOADGEN_MAX_VMS);
            }
        } else if (!strcmp(node->key, "verify-checksums")) {
            if (strcmp(node->value, "true") && strcmp(node->value, "false")) {
                return xasprintf("options:verify-checksums: \"%s\" is neither "
                                 "true nor false", node->value);
            }
            options->verify_checksums = !strcmp(node->value, "true");
        } else {
            return xasprintf("options:%s: no such option of type loadgen",
                             node->key);
        }
    }

    if (!role) {
        return xstrdup("options:role: missing, vm or wire is required");
    } else if (!strcmp(role, "wire")) {
        options->role = LOADGEN_WIRE;
        if (vm) {
            return xstrdup("options:vm: only for role vm");
        }
    } else if (!strcmp(role, "vm")) {
        options->role = LOADGEN_VM;
        if (!vm) {
            return xstrdup("options:vm: missing, required for role vm");
        } else if (!str_to_uint(vm, 10, &options->vm)
                   || options->vm >= LOADGEN_MAX_VMS) {
            return xasprintf("options:vm: \"%s\" is not a number from 0 to %d",
                             vm, LOADGEN_MAX_VMS - 1);
        }
    } else {
        return xasprintf("options:role: \"%s\" is neither vm nor wire", role);
    }
    return NULL;
}

static int
netdev_loadgen_set_config(struct netdev *netdev, const struct smap *args,
                          char **errp)
{
    struct netdev_loadgen *dev = netdev_loadgen_cast(netdev);
    struct loadgen_options options;
    char *error;

    error = parse_options(args, &options);
    if (error) {
        VLOG_WARN_BUF(errp, "%s: %s", netdev_get_name(netdev), error);
        free(error);
        return EINVAL;
    }

    loadgen_port_configure(dev->port, options.role, options.vm, options.wire,
                           options.verify_checksums);
    netdev->ol_flags = options.verify_checksums ? 0 : CHECKSUM_OFFLOADS;

    ovs_mutex_lock(&dev->mutex);
    smap_destroy(&dev->config);
    smap_clone(&dev->config, args);
    dev->mac = (struct eth_addr) ETH_ADDR_C(02,4c,47,00,00,00);
    if (options.role == LOADGEN_VM) {
        dev->mac.ea[5] = options.vm;
    } else {
        dev->mac.ea[4] = 0xff;
        dev->mac.ea[5] = options.wire;
    }
    if (dev->requested_n_rxq != options.n_rxq) {
        dev->requested_n_rxq = options.n_rxq;
        netdev_request_reconfigure(netdev);
    }
    ovs_mutex_unlock(&dev->mutex);
    netdev_change_seq_changed(netdev);
    return 0;
}

static int
netdev_loadgen_get_config(const struct netdev *netdev, struct smap *args)
{
    struct netdev_loadgen *dev = netdev_loadgen_cast(netdev);
    const struct smap_node *node;

    ovs_mutex_lock(&dev->mutex);
    SMAP_FOR_EACH (node, &dev->config) {
        smap_replace(args, node->key, node->value);
    }
    ovs_mutex_unlock(&dev->mutex);
    return 0;
}

/* A queue for each PMD thread, so that none has to take a lock for it. */
static int
netdev_loadgen_set_tx_multiq(struct netdev *netdev, unsigned int n_txq)
{
    struct netdev_loadgen *dev = netdev_loadgen_cast(netdev);

    ovs_mutex_lock(&dev->mutex);
    if (dev->requested_n_txq != n_txq) {
        dev->requested_n_txq = n_txq;
        netdev_request_reconfigure(netdev);
    }
    ovs_mutex_unlock(&dev->mutex);
    return 0;
}

static int
netdev_loadgen_reconfigure(struct netdev *netdev)
{
    struct netdev_loadgen *dev = netdev_loadgen_cast(netdev);

    ovs_mutex_lock(&dev->mutex);
    netdev->n_txq = dev->requested_n_txq;
    netdev->n_rxq = dev->requested_n_rxq;
    ovs_mutex_unlock(&dev->mutex);
    return 0;
}

/* State. */

static int
netdev_loadgen_get_numa_id(const struct netdev *netdev OVS_UNUSED)
{
    return 0;
}

static int
netdev_loadgen_get_mtu(const struct netdev *netdev OVS_UNUSED, int *mtup)
{
    *mtup = ETH_PAYLOAD_MAX;
    return 0;
}

static int
netdev_loadgen_get_etheraddr(const struct netdev *netdev, struct eth_addr *mac)
{
    struct netdev_loadgen *dev = netdev_loadgen_cast(netdev);

    ovs_mutex_lock(&dev->mutex);
    *mac = dev->mac;
    ovs_mutex_unlock(&dev->mutex);
    return 0;
}

static int
netdev_loadgen_set_etheraddr(struct netdev *netdev OVS_UNUSED,
                             const struct eth_addr mac OVS_UNUSED)
{
    return EOPNOTSUPP;
}

static int
netdev_loadgen_update_flags(struct netdev *netdev, enum netdev_flags off,
                            enum netdev_flags on,
                            enum netdev_flags *old_flags)
{
    struct netdev_loadgen *dev = netdev_loadgen_cast(netdev);

    if ((off | on) & ~(NETDEV_UP | NETDEV_PROMISC)) {
        return EINVAL;
    }

    ovs_mutex_lock(&dev->mutex);
    *old_flags = dev->flags;
    dev->flags = (dev->flags | on) & ~off;
    if (dev->flags != *old_flags) {
        netdev_change_seq_changed(netdev);
    }
    ovs_mutex_unlock(&dev->mutex);
    return 0;
}

static int
netdev_loadgen_get_stats(const struct netdev *netdev,
                         struct netdev_stats *stats)
{
    struct netdev_loadgen *dev = netdev_loadgen_cast(netdev);
    struct loadgen_counters counters;

    loadgen_port_get_counters(dev->port, &counters);
    memset(stats, 0xff, sizeof *stats); /* What is not kept. */
    stats->rx_packets = counters.sent;
    stats->tx_packets = counters.received + counters.foreign;
    stats->rx_dropped = counters.overflow;
    return 0;
}

/* Input and output. */

static struct netdev_rxq *
netdev_loadgen_rxq_alloc(void)
{
    struct netdev_rxq_loadgen *rx = xzalloc(sizeof *rx);

    return &rx->up;
}

static int
netdev_loadgen_rxq_construct(struct netdev_rxq *rxq OVS_UNUSED)
{
    return 0;
}

static void
netdev_loadgen_rxq_destruct(struct netdev_rxq *rxq OVS_UNUSED)
{
}

static void
netdev_loadgen_rxq_dealloc(struct netdev_rxq *rxq)
{
    free(CONTAINER_OF(rxq, struct netdev_rxq_loadgen, up));
}

static int
netdev_loadgen_rxq_recv(struct netdev_rxq *rxq, struct dp_packet_batch *batch,
                        int *qfill)
{
    struct netdev_loadgen *dev = netdev_loadgen_cast(rxq->netdev);

    if (qfill) {
        *qfill = -ENOTSUP;
    }
    dp_packet_batch_init(batch);
    return loadgen_port_receive(dev->port, rxq->queue_id, rxq->netdev->n_rxq,
                                batch);
}

static int
netdev_loadgen_send(struct netdev *netdev, int qid OVS_UNUSED,
                    struct dp_packet_batch *batch,
                    bool concurrent_txq OVS_UNUSED)
{
    loadgen_port_transmit(netdev_loadgen_cast(netdev)->port, batch);
    return 0;
}

static const struct netdev_class netdev_loadgen_class = {
    .type = "loadgen",
    .is_pmd = true,
    .alloc = netdev_loadgen_alloc,
    .construct = netdev_loadgen_construct,
    .destruct = netdev_loadgen_destruct,
    .dealloc = netdev_loadgen_dealloc,
    .get_config = netdev_loadgen_get_config,
    .set_config = netdev_loadgen_set_config,
    .get_numa_id = netdev_loadgen_get_numa_id,
    .set_tx_multiq = netdev_loadgen_set_tx_multiq,
    .reconfigure = netdev_loadgen_reconfigure,
    .send = netdev_loadgen_send,
    .get_mtu = netdev_loadgen_get_mtu,
    .get_etheraddr = netdev_loadgen_get_etheraddr,
    .set_etheraddr = netdev_loadgen_set_etheraddr,
    .get_stats = netdev_loadgen_get_stats,
    .update_flags = netdev_loadgen_update_flags,
    .rxq_alloc = netdev_loadgen_rxq_alloc,
    .rxq_construct = netdev_loadgen_rxq_construct,
    .rxq_destruct = netdev_loadgen_rxq_destruct,
    .rxq_dealloc = netdev_loadgen_rxq_dealloc,
    .rxq_recv = netdev_loadgen_rxq_recv,
};

/* Registers the netdev class "loadgen".  Must be called once, by the main
 * thread, before any datapath is opened.  Starts no thread. */
void
netdev_loadgen_register(void)
{
    netdev_register_provider(&netdev_loadgen_class);
}
