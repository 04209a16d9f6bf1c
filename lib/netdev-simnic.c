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

#include "layered/lib/netdev-simnic.h"

#include <errno.h>

#include "dp-packet.h"
#include "hash.h"
#include "layered/lib/simnic-private.h"
#include "netdev-provider.h"
#include "openvswitch/list.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "packets.h"
#include "smap.h"
#include "timeval.h"
#include "util.h"

VLOG_DEFINE_THIS_MODULE(netdev_simnic);

/* How often changes of the links' state are looked for, in ms. */
#define CHECK_INTERVAL 500

/* Interface:options whose keys start with this are the link's own. */
#define LINK_PREFIX "link-"

/* What is visible of the state of a netdev's link. */
struct link_state {
    bool up;
    int mtu;
    const char *type;                   /* Static string or NULL. */
};

/* A representor. */
struct netdev_simnic {
    struct netdev up;
    struct ovs_list node;               /* In 'netdevs'. */

    /* Written by the thread that configures.  NULL if it is not configured. */
    OVSRCU_TYPE(struct simnic_function *) function;

    struct ovs_mutex mutex;
    struct smap config OVS_GUARDED;     /* As given, empty if it was unusable.
                                         */
    struct eth_addr mac OVS_GUARDED;
    bool mac_is_set OVS_GUARDED;        /* By netdev_set_etheraddr(). */
    enum netdev_flags flags OVS_GUARDED;

    struct link_state state;            /* As last seen by the run function. */
};

struct netdev_rxq_simnic {
    struct netdev_rxq up;
};

/* All the netdevs. */
static struct ovs_mutex netdevs_mutex = OVS_MUTEX_INITIALIZER;
static struct ovs_list netdevs OVS_GUARDED_BY(netdevs_mutex)
    = OVS_LIST_INITIALIZER(&netdevs);

static const struct netdev_class netdev_simnic_class;

static struct netdev_simnic *
netdev_simnic_cast(const struct netdev *netdev)
{
    ovs_assert(netdev_is_simnic(netdev));
    return CONTAINER_OF(netdev, struct netdev_simnic, up);
}

/* Returns true if 'netdev' is the representor of a function of an emulated
 * NIC. */
bool
netdev_is_simnic(const struct netdev *netdev)
{
    return netdev_get_class(netdev) == &netdev_simnic_class;
}

/* Returns the function that 'netdev', which must be a representor, stands for,
 * or NULL if it has none because it is not configured.  It stays valid until
 * the calling thread quiesces.  It changes when the netdev is configured
 * anew; so does its netdev_get_change_seq(). */
struct simnic_function *
netdev_simnic_get_function(const struct netdev *netdev)
{
    return ovsrcu_get(struct simnic_function *,
                      &netdev_simnic_cast(netdev)->function);
}

/* Life cycle. */

static struct netdev *
netdev_simnic_alloc(void)
{
    struct netdev_simnic *dev = xzalloc(sizeof *dev);

    return &dev->up;
}

static int
netdev_simnic_construct(struct netdev *netdev)
{
    struct netdev_simnic *dev = netdev_simnic_cast(netdev);

    ovsrcu_init(&dev->function, NULL);
    ovs_mutex_init(&dev->mutex);
    ovs_mutex_lock(&dev->mutex);
    smap_init(&dev->config);
    dev->flags = NETDEV_UP;
    eth_addr_random(&dev->mac);
    ovs_mutex_unlock(&dev->mutex);

    ovs_mutex_lock(&netdevs_mutex);
    ovs_list_push_back(&netdevs, &dev->node);
    ovs_mutex_unlock(&netdevs_mutex);
    return 0;
}

static void
netdev_simnic_destruct(struct netdev *netdev)
{
    struct netdev_simnic *dev = netdev_simnic_cast(netdev);
    struct simnic_function *function
        = ovsrcu_get_protected(struct simnic_function *, &dev->function);

    ovs_mutex_lock(&netdevs_mutex);
    ovs_list_remove(&dev->node);
    ovs_mutex_unlock(&netdevs_mutex);

    if (function) {
        simnic_function_detach(function);
    }
    ovs_mutex_lock(&dev->mutex);
    smap_destroy(&dev->config);
    ovs_mutex_unlock(&dev->mutex);
    ovs_mutex_destroy(&dev->mutex);
}

static void
netdev_simnic_dealloc(struct netdev *netdev)
{
    free(netdev_simnic_cast(netdev));
}

/* Configuration. */

/* What Interface:options say. */
struct simnic_options {
    const char *nic;
    const char *netdev;
    const char *link;                   /* NULL for automatic. */
    int function;                       /* Index. */
    struct smap link_options;
};

/* Parses 'args' into 'options', which refers to them; the caller destroys
 * 'options->link_options' in any case.  Returns NULL if successful, otherwise
 * an error message that the caller frees. */
static char *
parse_options(const struct smap *args, struct simnic_options *options)
{
    const struct smap_node *node;
    const char *function = NULL;

    *options = (struct simnic_options) { .nic = NULL };
    smap_init(&options->link_options);

    SMAP_FOR_EACH (node, args) {
        if (!strcmp(node->key, "nic")) {
            options->nic = node->value;
        } else if (!strcmp(node->key, "function")) {
            function = node->value;
        } else if (!strcmp(node->key, "netdev")) {
            options->netdev = node->value;
        } else if (!strcmp(node->key, "link")) {
            options->link = node->value;
        } else if (!strncmp(node->key, LINK_PREFIX, strlen(LINK_PREFIX))
                   && node->key[strlen(LINK_PREFIX)]) {
            smap_add(&options->link_options,
                     node->key + strlen(LINK_PREFIX), node->value);
        } else {
            return xasprintf("options:%s: no such option of type simnic",
                             node->key);
        }
    }

    if (!options->nic || !options->nic[0]) {
        return xstrdup("options:nic: missing, the name of a NIC is required");
    } else if (!function) {
        return xstrdup("options:function: missing, pf0, vf0, vf1 and so on "
                       "is required");
    } else if (!options->netdev || !options->netdev[0]) {
        return xstrdup("options:netdev: missing, the name of a network device "
                       "is required");
    }

    options->function = simnic_function_from_name(function);
    if (options->function < 0) {
        return xasprintf("options:function: \"%s\" is no function (must be "
                         "pf0 or vf0 to vf%d)", function, SIMNIC_MAX_VFS - 1);
    }
    if (options->link && strcmp(options->link, "afxdp")
        && strcmp(options->link, "system") && strcmp(options->link, "tap")
        && strcmp(options->link, "dummy")) {
        return xasprintf("options:link: \"%s\" is no type of link (must be "
                         "afxdp, system, tap or dummy)", options->link);
    }
    return NULL;
}

/* Returns the MAC address that the representor of function 'index' of the NIC
 * called 'nic' has unless it is set: always the same, and locally
 * administered. */
static struct eth_addr
default_mac(const char *nic, int index)
{
    uint32_t hash = hash_string(nic, index);
    struct eth_addr mac;

    eth_addr_from_uint64(((uint64_t) hash_add(hash, index) << 32) | hash,
                         &mac);
    eth_addr_mark_random(&mac);
    return mac;
}

/* Called by the main thread only.  Must not hold 'dev->mutex' while it opens
 * or closes links: these take the mutex of all netdevs, which in turn is held
 * by callers of others of this class's functions. */
static int
netdev_simnic_set_config(struct netdev *netdev, const struct smap *args,
                         char **errp)
{
    struct netdev_simnic *dev = netdev_simnic_cast(netdev);
    struct simnic_function *old
        = ovsrcu_get_protected(struct simnic_function *, &dev->function);
    struct simnic_function *function = NULL;
    struct simnic_options options;
    bool same;
    char *error;

    ovs_mutex_lock(&dev->mutex);
    same = old && smap_equal(&dev->config, args);
    ovs_mutex_unlock(&dev->mutex);
    if (same) {
        return 0;
    }

    /* Without a usable configuration, it keeps the one it has. */
    error = parse_options(args, &options);
    if (error) {
        goto error;
    }

    /* It may be the same function with another link, so the old one has to go
     * first. */
    if (old) {
        ovsrcu_set(&dev->function, NULL);
        simnic_function_detach(old);
    }
    error = simnic_function_attach(options.nic, options.function,
                                   options.netdev, options.link,
                                   &options.link_options, &function);
    ovs_mutex_lock(&dev->mutex);
    smap_destroy(&dev->config);
    if (error) {
        smap_init(&dev->config);
    } else {
        smap_clone(&dev->config, args);
        if (!dev->mac_is_set) {
            dev->mac = default_mac(options.nic, options.function);
        }
    }
    ovs_mutex_unlock(&dev->mutex);
    if (!error) {
        ovsrcu_set(&dev->function, function);
    }
    netdev_change_seq_changed(netdev);

    /* The link may come up before the run function looks again.  Since the
     * caller may have seen it down in between, that is to be announced. */
    ovs_mutex_lock(&netdevs_mutex);
    dev->state = (struct link_state) { .up = false };
    ovs_mutex_unlock(&netdevs_mutex);

error:
    smap_destroy(&options.link_options);
    if (!error) {
        return 0;
    }
    VLOG_WARN_BUF(errp, "%s: %s", netdev_get_name(netdev), error);
    free(error);
    return EINVAL;
}

static int
netdev_simnic_get_config(const struct netdev *netdev, struct smap *args)
{
    struct netdev_simnic *dev = netdev_simnic_cast(netdev);
    const struct smap_node *node;

    ovs_mutex_lock(&dev->mutex);
    SMAP_FOR_EACH (node, &dev->config) {
        smap_replace(args, node->key, node->value);
    }
    ovs_mutex_unlock(&dev->mutex);
    return 0;
}

/* State. */

static struct link_state
get_link_state(const struct simnic_function *function)
{
    struct link_state state = { .up = false };

    if (function) {
        state.up = simnic_function_is_up(function);
        state.mtu = simnic_function_get_mtu(function);
        state.type = simnic_function_get_link_type(function);
    }
    return state;
}

/* Carries on with the NICs, and announces changes of the links' state. */
static void
netdev_simnic_run(const struct netdev_class *class OVS_UNUSED)
{
    static long long int next_check = LLONG_MIN;
    struct netdev_simnic *dev;

    simnic_run();

    if (time_msec() < next_check) {
        return;
    }
    next_check = time_msec() + CHECK_INTERVAL;

    ovs_mutex_lock(&netdevs_mutex);
    LIST_FOR_EACH (dev, node, &netdevs) {
        struct link_state state
            = get_link_state(netdev_simnic_get_function(&dev->up));

        if (state.up != dev->state.up || state.mtu != dev->state.mtu
            || state.type != dev->state.type) {
            dev->state = state;
            netdev_change_seq_changed(&dev->up);
        }
    }
    ovs_mutex_unlock(&netdevs_mutex);
}

static void
netdev_simnic_wait(const struct netdev_class *class OVS_UNUSED)
{
    bool any;

    simnic_wait();

    ovs_mutex_lock(&netdevs_mutex);
    any = !ovs_list_is_empty(&netdevs);
    ovs_mutex_unlock(&netdevs_mutex);
    if (any) {
        poll_timer_wait(CHECK_INTERVAL);
    }
}

static int
netdev_simnic_get_carrier(const struct netdev *netdev, bool *carrier)
{
    *carrier = get_link_state(netdev_simnic_get_function(netdev)).up;
    return 0;
}

static int
netdev_simnic_get_mtu(const struct netdev *netdev, int *mtup)
{
    int mtu = get_link_state(netdev_simnic_get_function(netdev)).mtu;

    if (mtu <= 0) {
        return EOPNOTSUPP;
    }
    *mtup = mtu;
    return 0;
}

static int
netdev_simnic_get_etheraddr(const struct netdev *netdev, struct eth_addr *mac)
{
    struct netdev_simnic *dev = netdev_simnic_cast(netdev);

    ovs_mutex_lock(&dev->mutex);
    *mac = dev->mac;
    ovs_mutex_unlock(&dev->mutex);
    return 0;
}

static int
netdev_simnic_set_etheraddr(struct netdev *netdev, const struct eth_addr mac)
{
    struct netdev_simnic *dev = netdev_simnic_cast(netdev);

    ovs_mutex_lock(&dev->mutex);
    dev->mac_is_set = true;
    if (!eth_addr_equals(dev->mac, mac)) {
        dev->mac = mac;
        netdev_change_seq_changed(netdev);
    }
    ovs_mutex_unlock(&dev->mutex);
    return 0;
}

static int
netdev_simnic_update_flags(struct netdev *netdev, enum netdev_flags off,
                           enum netdev_flags on, enum netdev_flags *old_flags)
{
    struct netdev_simnic *dev = netdev_simnic_cast(netdev);

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
netdev_simnic_get_status(const struct netdev *netdev, struct smap *smap)
{
    struct netdev_simnic *dev = netdev_simnic_cast(netdev);
    struct simnic_function *function = netdev_simnic_get_function(netdev);
    char *error = NULL;

    if (!function) {
        return 0;
    }

    struct link_state state = get_link_state(function);
    smap_add(smap, "nic", simnic_get_name(simnic_function_get_nic(function)));
    smap_add(smap, "function", simnic_function_get_name(function));
    ovs_mutex_lock(&dev->mutex);
    smap_add(smap, "netdev", smap_get_def(&dev->config, "netdev", ""));
    ovs_mutex_unlock(&dev->mutex);
    smap_add(smap, "link_type", state.type ? state.type : "none");
    smap_add(smap, "link_state", simnic_link_state(function, &error));
    if (error) {
        smap_add_nocopy(smap, xstrdup("link_error"), error);
    }
    return 0;
}

/* Statistics. */

static int
netdev_simnic_get_stats(const struct netdev *netdev,
                        struct netdev_stats *stats)
{
    struct simnic_function *function = netdev_simnic_get_function(netdev);
    struct simnic_function_stats s = { .from_link = 0 };

    if (function) {
        simnic_function_get_stats(function, &s);
    }

    /* What is not kept. */
    memset(stats, 0xff, sizeof *stats);

    stats->rx_packets = s.from_link;
    stats->rx_bytes = s.from_link_bytes;
    stats->tx_packets = s.to_link;
    stats->tx_bytes = s.to_link_bytes;
    stats->rx_dropped = 0;
    stats->tx_dropped = 0;
    stats->rx_errors = 0;
    stats->tx_errors = 0;
    for (int i = 0; i < SIMNIC_N_DROPS; i++) {
        stats->rx_dropped += s.rx_dropped[i];
        stats->tx_dropped += s.tx_dropped[i];
    }
    return 0;
}

static void
add_counter(struct netdev_custom_stats *custom, const char *prefix,
            const char *name, uint64_t value)
{
    struct netdev_custom_counter *counter = &custom->counters[custom->size++];

    counter->value = value;
    snprintf(counter->name, sizeof counter->name, "nic_%s%s", prefix, name);
    for (char *p = counter->name; *p; p++) {
        if (*p == '-') {
            *p = '_';
        }
    }
}

static int
netdev_simnic_get_custom_stats(const struct netdev *netdev,
                               struct netdev_custom_stats *custom)
{
    struct simnic_function *function = netdev_simnic_get_function(netdev);
    struct simnic_function_stats s;

    if (!function) {
        return EOPNOTSUPP;
    }
    simnic_function_get_stats(function, &s);

    const struct {
        const char *name;
        uint64_t value;
    } counters[] = {
        { "hits", s.hits },
        { "hit_bytes", s.hit_bytes },
        { "misses_host", s.misses_host },
        { "misses_vm", s.misses_vm },
        { "synthetic", s.synthetic },
        { "from_host", s.from_host },
        { "held", s.held },
    };

    custom->label = xstrdup("NIC stats");
    custom->size = 0;
    custom->counters = xcalloc(ARRAY_SIZE(counters) + SIMNIC_N_DROPS,
                               sizeof *custom->counters);
    for (size_t i = 0; i < ARRAY_SIZE(counters); i++) {
        add_counter(custom, "", counters[i].name, counters[i].value);
    }
    for (int i = 0; i < SIMNIC_N_DROPS; i++) {
        add_counter(custom, "dropped_", simnic_drop_to_string(i),
                    s.rx_dropped[i] + s.tx_dropped[i]);
    }
    return 0;
}

/* Input and output. */

static struct netdev_rxq *
netdev_simnic_rxq_alloc(void)
{
    struct netdev_rxq_simnic *rx = xzalloc(sizeof *rx);

    return &rx->up;
}

static int
netdev_simnic_rxq_construct(struct netdev_rxq *rxq OVS_UNUSED)
{
    return 0;
}

static void
netdev_simnic_rxq_destruct(struct netdev_rxq *rxq OVS_UNUSED)
{
}

static void
netdev_simnic_rxq_dealloc(struct netdev_rxq *rxq)
{
    free(CONTAINER_OF(rxq, struct netdev_rxq_simnic, up));
}

static int
netdev_simnic_rxq_recv(struct netdev_rxq *rxq, struct dp_packet_batch *batch,
                       int *qfill)
{
    struct simnic_function *function = netdev_simnic_get_function(rxq->netdev);

    if (qfill) {
        *qfill = -ENOTSUP;
    }
    return function ? simnic_function_recv(function, batch) : EAGAIN;
}

static void
netdev_simnic_rxq_wait(struct netdev_rxq *rxq)
{
    struct simnic_function *function = netdev_simnic_get_function(rxq->netdev);

    if (function) {
        simnic_function_recv_wait(function);
    }
}

static int
netdev_simnic_rxq_drain(struct netdev_rxq *rxq)
{
    struct simnic_function *function = netdev_simnic_get_function(rxq->netdev);

    if (function) {
        simnic_function_drain(function);
    }
    return 0;
}

static int
netdev_simnic_send(struct netdev *netdev, int qid OVS_UNUSED,
                   struct dp_packet_batch *batch,
                   bool concurrent_txq OVS_UNUSED)
{
    struct simnic_function *function = netdev_simnic_get_function(netdev);

    if (!function) {
        dp_packet_delete_batch(batch, true);
        return ENETDOWN;
    }
    simnic_function_send(function, batch);
    return 0;
}

static const struct netdev_class netdev_simnic_class = {
    .type = "simnic",
    .is_pmd = true,
    .run = netdev_simnic_run,
    .wait = netdev_simnic_wait,
    .alloc = netdev_simnic_alloc,
    .construct = netdev_simnic_construct,
    .destruct = netdev_simnic_destruct,
    .dealloc = netdev_simnic_dealloc,
    .get_config = netdev_simnic_get_config,
    .set_config = netdev_simnic_set_config,
    .send = netdev_simnic_send,
    .set_etheraddr = netdev_simnic_set_etheraddr,
    .get_etheraddr = netdev_simnic_get_etheraddr,
    .get_mtu = netdev_simnic_get_mtu,
    .get_carrier = netdev_simnic_get_carrier,
    .get_stats = netdev_simnic_get_stats,
    .get_custom_stats = netdev_simnic_get_custom_stats,
    .get_status = netdev_simnic_get_status,
    .update_flags = netdev_simnic_update_flags,
    .rxq_alloc = netdev_simnic_rxq_alloc,
    .rxq_construct = netdev_simnic_rxq_construct,
    .rxq_destruct = netdev_simnic_rxq_destruct,
    .rxq_dealloc = netdev_simnic_rxq_dealloc,
    .rxq_recv = netdev_simnic_rxq_recv,
    .rxq_wait = netdev_simnic_rxq_wait,
    .rxq_drain = netdev_simnic_rxq_drain,
};

/* Registers the netdev class "simnic".  Must be called once, by the main
 * thread, before any datapath is opened.  Starts no thread. */
void
netdev_simnic_register(void)
{
    netdev_register_provider(&netdev_simnic_class);
}
