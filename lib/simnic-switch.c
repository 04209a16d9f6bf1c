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

#include "layered/lib/simnic-switch.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "bitmap.h"
#include "cmap.h"
#include "coverage.h"
#include "dp-packet.h"
#include "hash.h"
#include "netdev.h"
#include "openvswitch/ofp-meter.h"
#include "ovs-atomic.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "timeval.h"
#include "util.h"

COVERAGE_DEFINE(simnic_drop_meter);

/* The same limits as those of the userspace datapath. */
#define MAX_METERS (1 << 18)
#define MAX_BANDS 8
#define SUPPORTED_METER_FLAGS \
    (OFPMF13_STATS | OFPMF13_PKTPS | OFPMF13_KBPS | OFPMF13_BURST)

/* A port of the datapath that is of use to the NICs. */
struct switch_port {
    struct cmap_node node;      /* In struct simnic_switch's 'ports'. */
    odp_port_t port_no;

    /* Exactly one of these is nonnull. */
    struct simnic_function *function;
    struct netdev *tunnel;      /* Has a reference. */
};

/* A "band" of a meter lets 'rate' through in the long run, and 'burst_size' at
 * once.  Its bucket is filled as time passes and emptied by packets. */
struct meter_band {
    uint32_t rate;
    uint32_t burst_size;
    atomic_uint64_t bucket;     /* In 1/1000 packets, or in bits. */
    atomic_uint64_t packet_count;   /* Dropped. */
    atomic_uint64_t byte_count;
};

struct meter {
    struct cmap_node node;      /* In struct simnic_switch's 'meters'. */
    uint32_t id;
    uint16_t flags;             /* OFPMF13_*. */
    uint16_t n_bands;
    uint32_t max_delta_t;       /* In ms: fills any bucket. */
    atomic_uint64_t used;       /* In ms. */
    atomic_uint64_t packet_count;
    atomic_uint64_t byte_count;
    struct meter_band bands[];
};

struct simnic_switch {
    struct ovs_mutex mutex;     /* For changes. */
    struct cmap ports;          /* Contains struct switch_ports. */
    struct cmap meters;         /* Contains struct meters. */
};

/* Creates a switch without ports and meters.  The caller owns it. */
struct simnic_switch *
simnic_switch_create(void)
{
    struct simnic_switch *sw = xzalloc(sizeof *sw);

    ovs_mutex_init(&sw->mutex);
    cmap_init(&sw->ports);
    cmap_init(&sw->meters);
    return sw;
}

static uint32_t
hash_port(odp_port_t port_no)
{
    return hash_int(odp_to_u32(port_no), 0);
}

static uint32_t
hash_meter(uint32_t id)
{
    return hash_int(id, 0);
}

static void
free_port(struct switch_port *port)
{
    netdev_close(port->tunnel);
    free(port);
}

static struct switch_port *
find_port(const struct simnic_switch *sw, odp_port_t port_no)
{
    struct switch_port *port;

    CMAP_FOR_EACH_WITH_HASH (port, node, hash_port(port_no), &sw->ports) {
        if (port->port_no == port_no) {
            return port;
        }
    }
    return NULL;
}

static void
remove_port(struct simnic_switch *sw, struct switch_port *port)
    OVS_REQUIRES(sw->mutex)
{
    cmap_remove(&sw->ports, &port->node, hash_port(port->port_no));
    ovsrcu_postpone(free_port, port);
}

static struct meter *
find_meter(const struct simnic_switch *sw, uint32_t id)
{
    struct meter *meter;

    CMAP_FOR_EACH_WITH_HASH (meter, node, hash_meter(id), &sw->meters) {
        if (meter->id == id) {
            return meter;
        }
    }
    return NULL;
}

static void
remove_meter(struct simnic_switch *sw, struct meter *meter)
    OVS_REQUIRES(sw->mutex)
{
    cmap_remove(&sw->meters, &meter->node, hash_meter(meter->id));
    ovsrcu_postpone(free, meter);
}

static void
free_switch(struct simnic_switch *sw)
{
    cmap_destroy(&sw->ports);
    cmap_destroy(&sw->meters);
    ovs_mutex_destroy(&sw->mutex);
    free(sw);
}

/* Destroys 'sw', with its ports and meters, once no thread can be reading it
 * any more.  A null 'sw' is fine. */
void
simnic_switch_destroy(struct simnic_switch *sw)
{
    struct switch_port *port;
    struct meter *meter;

    if (!sw) {
        return;
    }

    ovs_mutex_lock(&sw->mutex);
    CMAP_FOR_EACH (port, node, &sw->ports) {
        remove_port(sw, port);
    }
    CMAP_FOR_EACH (meter, node, &sw->meters) {
        remove_meter(sw, meter);
    }
    ovs_mutex_unlock(&sw->mutex);
    ovsrcu_postpone(free_switch, sw);
}

static void
add_port(struct simnic_switch *sw, odp_port_t port_no,
         struct simnic_function *function, struct netdev *tunnel)
{
    struct switch_port *port = xzalloc(sizeof *port);
    struct switch_port *old;

    port->port_no = port_no;
    port->function = function;
    port->tunnel = tunnel;

    ovs_mutex_lock(&sw->mutex);
    old = find_port(sw, port_no);
    if (old) {
        remove_port(sw, old);
    }
    cmap_insert(&sw->ports, &port->node, hash_port(port_no));
    ovs_mutex_unlock(&sw->mutex);
}

/* Makes 'port_no' of the datapath stand for 'function', in place of what it
 * stood for.  The caller must remove the port before 'function' goes away. */
void
simnic_switch_add_function(struct simnic_switch *sw, odp_port_t port_no,
                           struct simnic_function *function)
{
    add_port(sw, port_no, function, NULL);
}

/* Makes 'port_no' of the datapath stand for the tunnel 'netdev', in place of
 * what it stood for.  Takes a reference of its own, and gives it back after a
 * grace period when the port has been removed. */
void
simnic_switch_add_tunnel(struct simnic_switch *sw, odp_port_t port_no,
                         struct netdev *netdev)
{
    add_port(sw, port_no, NULL, netdev_ref(netdev));
}

/* Forgets 'port_no', if it is known. */
void
simnic_switch_remove_port(struct simnic_switch *sw, odp_port_t port_no)
{
    struct switch_port *port;

    ovs_mutex_lock(&sw->mutex);
    port = find_port(sw, port_no);
    if (port) {
        remove_port(sw, port);
    }
    ovs_mutex_unlock(&sw->mutex);
}

/* Returns the function that 'port_no' stands for, NULL if none.  Without
 * locks; valid until the thread quiesces. */
struct simnic_function *
simnic_switch_find_function(const struct simnic_switch *sw, odp_port_t port_no)
{
    const struct switch_port *port = find_port(sw, port_no);

    return port ? port->function : NULL;
}

/* Returns the tunnel that 'port_no' stands for, NULL if none.  Without locks;
 * valid until the thread quiesces, unless the caller takes a reference. */
struct netdev *
simnic_switch_find_tunnel(const struct simnic_switch *sw, odp_port_t port_no)
{
    const struct switch_port *port = find_port(sw, port_no);

    return port ? port->tunnel : NULL;
}

/* Meters
 * ======
 *
 * These compute as dp_netdev_run_meter() of the userspace datapath does, so
 * that a packet has the same fate in the NIC and in software.  The buckets are
 * the NICs' own: hardware has no way to share them with software. */

/* Adds 'n' to '*value', up to 'max'. */
static void
atomic_sat_add(atomic_uint64_t *value, uint64_t n, uint64_t max)
{
    uint64_t current, new;

    atomic_read_relaxed(value, &current);
    do {
        new = MIN(current + n, max);
    } while (!atomic_compare_exchange_weak_relaxed(value, &current, new));
}

/* Subtracts 'n' from '*value' and returns true, or leaves it alone and returns
 * false if it is less. */
static bool
atomic_bound_sub(atomic_uint64_t *value, uint64_t n)
{
    uint64_t current;

    atomic_read_relaxed(value, &current);
    do {
        if (current < n) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_relaxed(value, &current,
                                                   current - n));
    return true;
}

/* Creates meter 'meter_id' as 'config' says, with full buckets, in place of
 * the one that had the number.  Returns 0, or EFBIG, EBADF, EINVAL or ENODEV
 * if the number, the flags, the number of bands or the type of a band is
 * beyond what is supported. */
int
simnic_switch_meter_set(struct simnic_switch *sw, ofproto_meter_id meter_id,
                        const struct ofputil_meter_config *config)
{
    uint32_t id = meter_id.uint32;
    struct meter *meter, *old;

    if (id >= MAX_METERS) {
        return EFBIG;
    }
    if (config->flags & ~SUPPORTED_METER_FLAGS) {
        return EBADF;
    }
    if (config->n_bands > MAX_BANDS) {
        return EINVAL;
    }
    for (size_t i = 0; i < config->n_bands; i++) {
        if (config->bands[i].type != OFPMBT13_DROP) {
            return ENODEV;
        }
    }

    meter = xzalloc(sizeof *meter + config->n_bands * sizeof meter->bands[0]);
    meter->id = id;
    meter->flags = config->flags;
    meter->n_bands = config->n_bands;
    atomic_init(&meter->used, time_msec());
    for (size_t i = 0; i < config->n_bands; i++) {
        struct meter_band *band = &meter->bands[i];
        uint64_t bucket;

        band->rate = config->bands[i].rate;
        band->burst_size = config->bands[i].burst_size;
        if (!band->burst_size) {
            band->burst_size = band->rate;
        }
        bucket = band->burst_size * 1000ULL;
        atomic_init(&band->bucket, bucket);
        if (band->rate && bucket / band->rate > meter->max_delta_t) {
            meter->max_delta_t = bucket / band->rate;
        }
    }

    ovs_mutex_lock(&sw->mutex);
    old = find_meter(sw, id);
    if (old) {
        remove_meter(sw, old);
    }
    cmap_insert(&sw->meters, &meter->node, hash_meter(id));
    ovs_mutex_unlock(&sw->mutex);
    return 0;
}

/* Adds what the NICs have counted of meter 'meter_id' to 'stats', which may be
 * null.  Returns 0, or EFBIG or ENOENT if there is no such meter. */
int
simnic_switch_meter_get(const struct simnic_switch *sw,
                        ofproto_meter_id meter_id,
                        struct ofputil_meter_stats *stats)
{
    struct meter *meter;
    uint64_t n;

    if (meter_id.uint32 >= MAX_METERS) {
        return EFBIG;
    }
    meter = find_meter(sw, meter_id.uint32);
    if (!meter) {
        return ENOENT;
    }
    if (!stats) {
        return 0;
    }

    atomic_read_relaxed(&meter->packet_count, &n);
    stats->packet_in_count += n;
    atomic_read_relaxed(&meter->byte_count, &n);
    stats->byte_in_count += n;
    for (size_t i = 0; i < stats->n_bands && i < meter->n_bands; i++) {
        atomic_read_relaxed(&meter->bands[i].packet_count, &n);
        stats->bands[i].packet_count += n;
        atomic_read_relaxed(&meter->bands[i].byte_count, &n);
        stats->bands[i].byte_count += n;
    }
    return 0;
}

/* Deletes meter 'meter_id', having added what the NICs have counted of it to
 * 'stats', which may be null.  Packets of flows that name it pass freely from
 * now on.  Returns as simnic_switch_meter_get() does. */
int
simnic_switch_meter_del(struct simnic_switch *sw, ofproto_meter_id meter_id,
                        struct ofputil_meter_stats *stats)
{
    int error;

    ovs_mutex_lock(&sw->mutex);
    error = simnic_switch_meter_get(sw, meter_id, stats);
    if (!error) {
        remove_meter(sw, find_meter(sw, meter_id.uint32));
    }
    ovs_mutex_unlock(&sw->mutex);
    return error;
}

/* Applies meter 'meter_id' to 'batch' at the time 'now', in milliseconds: the
 * packets beyond its rate are deleted and leave the batch.  If there is no
 * such meter, all of them pass. */
void
simnic_switch_run_meter(const struct simnic_switch *sw, uint32_t meter_id,
                        struct dp_packet_batch *batch, long long int now)
{
    unsigned long failed_bands[BITMAP_N_LONGS(MAX_BANDS)] = { 0 };
    struct meter *meter = find_meter(sw, meter_id);
    const size_t n = dp_packet_batch_size(batch);
    uint64_t band_packets[MAX_BANDS] = { 0 };
    uint64_t band_bytes[MAX_BANDS] = { 0 };
    uint64_t bytes, volume, used, old;
    struct dp_packet *packet;
    bool pktps;

    if (!meter) {
        return;
    }

    atomic_read_relaxed(&meter->used, &used);
    do {
        if (used >= now) {
            /* Another thread has already advanced the time. */
            used = now;
            break;
        }
    } while (!atomic_compare_exchange_weak_relaxed(&meter->used, &used,
                                                   (uint64_t) now));

    /* Refill all buckets right away, since other threads may use them. */
    if (used < now) {
        uint64_t delta_t = MIN(now - used, meter->max_delta_t);

        for (size_t m = 0; m < meter->n_bands; m++) {
            struct meter_band *band = &meter->bands[m];

            atomic_sat_add(&band->bucket, delta_t * band->rate,
                           band->burst_size * 1000ULL);
        }
    }

    bytes = 0;
    DP_PACKET_BATCH_FOR_EACH (i, packet, batch) {
        bytes += dp_packet_size(packet);
    }
    atomic_add_relaxed(&meter->packet_count, n, &old);
    atomic_add_relaxed(&meter->byte_count, bytes, &old);

    /* ms * packets/s = 1/1000 packets; ms * kbit/s = bits. */
    pktps = (meter->flags & OFPMF13_PKTPS) != 0;
    volume = pktps ? n * 1000 : bytes * 8;

    /* Drain the buckets for all of the packets at once, where possible. */
    for (size_t m = 0; m < meter->n_bands; m++) {
        if (!atomic_bound_sub(&meter->bands[m].bucket, volume)) {
            bitmap_set1(failed_bands, m);
        }
    }
    if (bitmap_is_all_zeros(failed_bands, meter->n_bands)) {
        return;
    }

    /* Otherwise packet by packet.  Of the bands that a packet exceeds, the one
     * with the highest rate acts on it. */
    size_t j;
    DP_PACKET_BATCH_REFILL_FOR_EACH (j, n, packet, batch) {
        uint64_t size = dp_packet_size(packet);
        uint32_t exceeded_rate = 0;
        int exceeded = -1;
        size_t b;

        BITMAP_FOR_EACH_1 (b, meter->n_bands, failed_bands) {
            struct meter_band *band = &meter->bands[b];

            if (!atomic_bound_sub(&band->bucket, pktps ? 1000 : size * 8)
                && band->rate > exceeded_rate) {
                exceeded_rate = band->rate;
                exceeded = b;
            }
        }

        if (exceeded >= 0) {
            band_packets[exceeded]++;
            band_bytes[exceeded] += size;
            dp_packet_delete(packet);
        } else {
            dp_packet_batch_add(batch, packet);
        }
    }

    for (size_t m = 0; m < meter->n_bands; m++) {
        if (band_packets[m]) {
            atomic_add_relaxed(&meter->bands[m].packet_count, band_packets[m],
                               &old);
            atomic_add_relaxed(&meter->bands[m].byte_count, band_bytes[m],
                               &old);
            COVERAGE_ADD(simnic_drop_meter, band_packets[m]);
        }
    }
}
