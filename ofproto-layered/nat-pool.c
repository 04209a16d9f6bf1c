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

#include "layered/ofproto-layered/nat-pool.h"

#include "ccmap.h"
#include "hash.h"
#include "layered/ofproto-layered/layer-action.h"
#include "layered/ofproto-layered/layer-packet.h"
#include "ovs-thread.h"
#include "packets.h"
#include "random.h"
#include "util.h"

#include "openvswitch/hmap.h"
#include "openvswitch/thread.h"

/* Ports that are used where the target has none: not the well-known ones. */
#define MIN_DYNAMIC_PORT 1024
#define MAX_PORT 65535

/* What the search for a free port returns if there is none. */
#define NO_PORT (MAX_PORT + 1)

/* Representation
 * ==============
 *
 * Of a tuple that is out there is nothing but a hash, in a map from hashes to
 * the number of references to them, so that a million of them take some 16 MB.
 * A tuple whose hash is another one's as well counts as taken: that has
 * somebody get another port than he might have got, about once in a hundred
 * thousand times if there are a million tuples, and does no harm.
 *
 * This tells whether a port is free, and finds a free one as long as there are
 * many.  Where there are few, a "crowd" has a bitmap of the ports, until half
 * of those that it had at first are left. */

/* How many ports are tried before a crowd is made. */
#define TRIES 16

/* Of so few ports, all are tried. */
#define MIN_CROWD 256

/* The ports from 'min' to 'max' of one address towards one remote endpoint, as
 * a bitmap with summaries that find a 0 in constant time. */
struct nat_crowd {
    struct hmap_node node;      /* In struct nat_shard's 'crowds'. */
    struct nat_tuple tuple;     /* With 'port' zero. */
    uint16_t min, max;
    uint32_t n;                 /* Ports that are taken. */
    uint32_t min_n;             /* Freed when there are fewer. */
    uint64_t all_full;          /* Members of 'full' that are all 1s, and 1s
                                 * beyond, as in all of these. */
    uint64_t full[16];          /* Members of 'taken' that are all 1s. */
    uint64_t taken[];           /* Ports, the first is 'min'. */
};

/* Tuples are spread over shards by a hash without the port, so that threads
 * seldom wait for each other. */
#define N_SHARDS 64             /* A power of 2. */

OVS_ALIGNED_STRUCT(CACHE_LINE_SIZE, nat_shard) {
    struct ovs_mutex mutex;
    struct ccmap tuples OVS_GUARDED;    /* By tuple_hash(). */
    struct hmap crowds OVS_GUARDED;     /* Contains "struct nat_crowd"s. */
    size_t n OVS_GUARDED;               /* Tuples. */
};

static struct nat_shard shards[N_SHARDS];

/* Makes collisions of hashes hard to provoke.  Constant after
 * init_shards(). */
static uint32_t hash_basis;

static void
init_shards(void)
{
    static struct ovsthread_once once = OVSTHREAD_ONCE_INITIALIZER;

    if (ovsthread_once_start(&once)) {
        hash_basis = random_uint32();
        for (size_t i = 0; i < N_SHARDS; i++) {
            ovs_mutex_init_adaptive(&shards[i].mutex);
            ovs_mutex_lock(&shards[i].mutex);
            ccmap_init(&shards[i].tuples);
            hmap_init(&shards[i].crowds);
            ovs_mutex_unlock(&shards[i].mutex);
        }
        ovsthread_once_done(&once);
    }
}

/* Returns the shard with the tuples that are 'tuple', whose port must be zero,
 * with some port, and sets '*hash' to the hash of 'tuple'. */
static struct nat_shard *
get_shard(const struct nat_tuple *tuple, uint32_t *hash)
{
    ovs_u128 hash128;

    init_shards();
    hash_bytes128(tuple, sizeof *tuple, hash_basis, &hash128);
    *hash = hash128.u32[0];
    return &shards[hash128.u32[1] % N_SHARDS];
}

/* Returns the hash of a tuple with 'port' that without it has 'hash'. */
static uint32_t
tuple_hash(uint32_t hash, uint16_t port)
{
    return hash_2words(hash, port);
}

/* Crowds. */

static void
crowd_take(struct nat_crowd *crowd, uint16_t port)
{
    uint32_t k = port - crowd->min;
    uint32_t i = k / 64;
    uint32_t j = i / 64;

    crowd->n++;
    crowd->taken[i] |= UINT64_C(1) << k % 64;
    if (crowd->taken[i] == UINT64_MAX) {
        crowd->full[j] |= UINT64_C(1) << i % 64;
        if (crowd->full[j] == UINT64_MAX) {
            crowd->all_full |= UINT64_C(1) << j;
        }
    }
}

static void
crowd_put_back(struct nat_crowd *crowd, uint16_t port)
{
    uint32_t k = port - crowd->min;
    uint32_t i = k / 64;
    uint32_t j = i / 64;

    crowd->n--;
    crowd->taken[i] &= ~(UINT64_C(1) << k % 64);
    crowd->full[j] &= ~(UINT64_C(1) << i % 64);
    crowd->all_full &= ~(UINT64_C(1) << j);
}

static bool
crowd_is_taken(const struct nat_crowd *crowd, uint16_t port)
{
    uint32_t k = port - crowd->min;

    return crowd->taken[k / 64] >> k % 64 & 1;
}

/* Returns the first port from 'port' that is free, NO_PORT if there is
 * none. */
static uint32_t
crowd_next_free(const struct nat_crowd *crowd, uint16_t port)
{
    uint32_t k = port - crowd->min;
    uint32_t i = k / 64;
    uint64_t zeros = ~crowd->taken[i] & (UINT64_MAX << k % 64);

    if (!zeros) {
        uint32_t j = ++i / 64;

        zeros = j < ARRAY_SIZE(crowd->full)
                ? ~crowd->full[j] & (UINT64_MAX << i % 64) : 0;
        if (!zeros) {
            j++;
            zeros = j < ARRAY_SIZE(crowd->full)
                    ? ~crowd->all_full & (UINT64_MAX << j) : 0;
            if (!zeros) {
                return NO_PORT;
            }
            j = raw_ctz(zeros);
            zeros = ~crowd->full[j];
        }
        i = j * 64 + raw_ctz(zeros);
        zeros = ~crowd->taken[i];
    }
    return crowd->min + i * 64 + raw_ctz(zeros);
}

/* Makes a crowd of the ports from 'min' to 'max' that are out for 'tuple',
 * which has 'hash'. */
static struct nat_crowd *
crowd_create(struct nat_shard *shard, const struct nat_tuple *tuple,
             uint32_t hash, uint16_t min, uint16_t max)
    OVS_REQUIRES(shard->mutex)
{
    uint32_t n_ports = max - min + 1;
    uint32_t n_taken = DIV_ROUND_UP(n_ports, 64);
    uint32_t n_full = DIV_ROUND_UP(n_taken, 64);
    struct nat_crowd *crowd;

    crowd = xzalloc(sizeof *crowd + n_taken * sizeof *crowd->taken);
    crowd->tuple = *tuple;
    crowd->min = min;
    crowd->max = max;
    if (n_ports % 64) {
        crowd->taken[n_taken - 1] = UINT64_MAX << n_ports % 64;
    }
    if (n_taken % 64) {
        crowd->full[n_full - 1] = UINT64_MAX << n_taken % 64;
    }
    for (uint32_t j = n_full; j < ARRAY_SIZE(crowd->full); j++) {
        crowd->full[j] = UINT64_MAX;
    }
    crowd->all_full = UINT64_MAX << n_full;
    for (uint32_t port = min; port <= max; port++) {
        if (ccmap_find(&shard->tuples, tuple_hash(hash, port))) {
            crowd_take(crowd, port);
        }
    }
    crowd->min_n = crowd->n / 2;
    hmap_insert(&shard->crowds, &crowd->node, hash);
    return crowd;
}

static struct nat_crowd *
find_crowd(const struct nat_shard *shard, const struct nat_tuple *tuple,
           uint32_t hash, uint16_t min, uint16_t max)
    OVS_REQUIRES(shard->mutex)
{
    struct nat_crowd *crowd;

    HMAP_FOR_EACH_WITH_HASH (crowd, node, hash, &shard->crowds) {
        if (!memcmp(&crowd->tuple, tuple, sizeof *tuple)
            && crowd->min == min && crowd->max == max) {
            return crowd;
        }
    }
    return NULL;
}

/* Has the crowds with 'port' of 'tuple', which has 'hash', know that it has
 * been taken or put back. */
static void
tell_crowds(struct nat_shard *shard, const struct nat_tuple *tuple,
            uint32_t hash, uint16_t port, bool taken)
    OVS_REQUIRES(shard->mutex)
{
    struct nat_crowd *crowd, *unneeded = NULL;

    if (OVS_LIKELY(hmap_is_empty(&shard->crowds))) {
        return;
    }
    HMAP_FOR_EACH_WITH_HASH (crowd, node, hash, &shard->crowds) {
        if (memcmp(&crowd->tuple, tuple, sizeof *tuple)
            || port < crowd->min || port > crowd->max
            || crowd_is_taken(crowd, port) == taken) {
            continue;
        }
        if (taken) {
            crowd_take(crowd, port);
        } else {
            crowd_put_back(crowd, port);
            if (crowd->n < crowd->min_n) {
                unneeded = crowd;
            }
        }
    }
    if (unneeded) {
        hmap_remove(&shard->crowds, &unneeded->node);
        free(unneeded);
    }
}

/* Ports. */

/* Returns true if 'port' is free for 'tuple', whose port is zero and which has
 * 'hash', and takes it then if 'take' is true. */
static bool
try_port(struct nat_shard *shard, const struct nat_tuple *tuple, uint32_t hash,
         uint16_t port, bool take)
    OVS_REQUIRES(shard->mutex)
{
    uint32_t full_hash = tuple_hash(hash, port);

    if (!take) {
        return !ccmap_find(&shard->tuples, full_hash);
    }
    if (ccmap_inc(&shard->tuples, full_hash) > 1) {
        ccmap_dec(&shard->tuples, full_hash);
        return false;
    }
    shard->n++;
    tell_crowds(shard, tuple, hash, port, true);
    return true;
}

/* Finds a free port from 'min' to 'max', any with about the same probability
 * (RFC 6056), as try_port() does.  Returns NO_PORT if there is none. */
static uint32_t
choose_port(struct nat_shard *shard, const struct nat_tuple *tuple,
            uint32_t hash, uint32_t min, uint32_t max, bool take)
    OVS_REQUIRES(shard->mutex)
{
    uint32_t n_ports = max - min + 1;
    uint32_t hint = random_uint32() % n_ports;
    struct nat_crowd *crowd;

    if (n_ports <= MIN_CROWD) {
        for (uint32_t i = 0; i < n_ports; i++) {
            uint32_t port = min + (hint + i) % n_ports;

            if (try_port(shard, tuple, hash, port, take)) {
                return port;
            }
        }
        return NO_PORT;
    }

    crowd = find_crowd(shard, tuple, hash, min, max);
    if (!crowd) {
        for (int i = 0; i < TRIES; i++) {
            uint32_t port = min + hint;

            if (try_port(shard, tuple, hash, port, take)) {
                return port;
            }
            hint = random_uint32() % n_ports;
        }
        crowd = crowd_create(shard, tuple, hash, min, max);
    }
    for (;;) {
        uint32_t port = crowd_next_free(crowd, min + hint);

        if (port == NO_PORT) {
            port = crowd_next_free(crowd, min);
        }
        if (port == NO_PORT
            || try_port(shard, tuple, hash, port, take)) {
            return port;
        }
        /* Another tuple has the same hash. */
        crowd_take(crowd, port);
    }
}

/* Finds a port for 'tuple', whose port is zero: 'preferred' if that is not
 * NO_PORT and free, or else one from 'min' to 'max', and takes it if 'take' is
 * true.  Returns the port or NO_PORT. */
static uint32_t
find_port(const struct nat_tuple *tuple, uint32_t preferred, uint32_t min,
          uint32_t max, bool take)
{
    uint32_t hash;
    struct nat_shard *shard = get_shard(tuple, &hash);
    uint32_t port;

    ovs_mutex_lock(&shard->mutex);
    port = (preferred != NO_PORT
            && try_port(shard, tuple, hash, preferred, take)
            ? preferred
            : choose_port(shard, tuple, hash, min, max, take));
    ovs_mutex_unlock(&shard->mutex);
    return port;
}

/* Addresses. */

static void
address_to_words(const struct in6_addr *addr, uint64_t *high, uint64_t *low)
{
    ovs_be64 words[2];

    memcpy(words, addr, sizeof words);
    *high = ntohll(words[0]);
    *low = ntohll(words[1]);
}

/* Returns the number of addresses from 'min' to 'max', UINT64_MAX if there are
 * more than that. */
static uint64_t
count_addresses(const struct in6_addr *min, const struct in6_addr *max)
{
    uint64_t min_high, min_low, max_high, max_low;

    address_to_words(min, &min_high, &min_low);
    address_to_words(max, &max_high, &max_low);

    uint64_t high = max_high - min_high - (max_low < min_low);
    uint64_t low = max_low - min_low;

    return high || low == UINT64_MAX ? UINT64_MAX : low + 1;
}

/* Returns the 'n'th address after 'addr'. */
static struct in6_addr
add_to_address(const struct in6_addr *addr, uint64_t n)
{
    uint64_t high, low;

    address_to_words(addr, &high, &low);
    low += n;
    high += low < n;

    ovs_be64 words[2] = { htonll(high), htonll(low) };
    struct in6_addr sum;

    memcpy(&sum, words, sizeof sum);
    return sum;
}

static bool
choose_tuple(const struct nat_target *target, uint8_t nw_proto,
             const struct in6_addr *src, ovs_be16 src_port,
             const struct in6_addr *remote, ovs_be16 remote_port,
             struct nat_tuple *tuple, bool take)
{
    uint64_t n_addresses = count_addresses(&target->min, &target->max);
    uint64_t start = hash_bytes(src, sizeof *src, 0) % n_addresses;
    uint32_t preferred = ntohs(src_port);
    uint32_t min = MIN_DYNAMIC_PORT;
    uint32_t max = MAX_PORT;

    if (target->min_port) {
        min = target->min_port;
        max = target->max_port;
        if (preferred < min || preferred > max) {
            preferred = NO_PORT;
        }
    }

    memset(tuple, 0, sizeof *tuple);
    tuple->remote = *remote;
    tuple->remote_port = remote_port;
    tuple->nw_proto = nw_proto;
    for (uint64_t i = 0; i < MIN(n_addresses, NAT_POOL_MAX_ADDRESSES); i++) {
        tuple->addr = add_to_address(&target->min,
                                     (start + i) % n_addresses);
        if (!nw_proto_has_ports(nw_proto)) {
            return true;
        }

        uint32_t port = find_port(tuple, preferred, min, max, take);

        if (port != NO_PORT) {
            tuple->port = htons(port);
            return true;
        }
    }
    return false;
}

/* Allocates a translated tuple for a packet of 'nw_proto' from 'src' and
 * 'src_port' to 'remote' and 'remote_port', with an address and port of
 * 'target', and stores it in '*tuple'.  The caller must pass it to
 * nat_pool_release() at last.
 *
 * The address is chosen by a hash of 'src', so that a host has the same one
 * towards everyone (RFC 4787, section 4.1), and the following ones if it is
 * exhausted.  The port remains 'src_port' if it is one of 'target''s and
 * free.  A target without ports has all of them for this, and otherwise those
 * from 1024.
 *
 * For protocols other than TCP, UDP and SCTP, only the address is chosen.
 * The tuple's port is zero, and nothing is allocated.
 *
 * Returns true if successful, false if all tuples that were tried are out. */
bool
nat_pool_allocate(const struct nat_target *target, uint8_t nw_proto,
                  const struct in6_addr *src, ovs_be16 src_port,
                  const struct in6_addr *remote, ovs_be16 remote_port,
                  struct nat_tuple *tuple)
{
    return choose_tuple(target, nw_proto, src, src_port, remote, remote_port,
                        tuple, true);
}

/* Stores in '*tuple' what nat_pool_allocate() might come up with now, without
 * allocating anything.  The address and whether there is any tuple are the
 * same; if the port cannot be 'src_port', it may be another one. */
bool
nat_pool_peek(const struct nat_target *target, uint8_t nw_proto,
              const struct in6_addr *src, ovs_be16 src_port,
              const struct in6_addr *remote, ovs_be16 remote_port,
              struct nat_tuple *tuple)
{
    return choose_tuple(target, nw_proto, src, src_port, remote, remote_port,
                        tuple, false);
}

/* Stores in '*key' 'tuple' with a port of zero.  Not by a copy, for its
 * padding. */
static void
without_port(const struct nat_tuple *tuple, struct nat_tuple *key)
{
    memset(key, 0, sizeof *key);
    key->addr = tuple->addr;
    key->remote = tuple->remote;
    key->remote_port = tuple->remote_port;
    key->nw_proto = tuple->nw_proto;
}

/* Takes another reference to 'tuple', which nat_pool_allocate() has set, to be
 * given up by nat_pool_release() too. */
void
nat_pool_ref(const struct nat_tuple *tuple)
{
    struct nat_shard *shard;
    struct nat_tuple key;
    uint32_t hash;

    if (!nw_proto_has_ports(tuple->nw_proto)) {
        return;
    }
    without_port(tuple, &key);
    shard = get_shard(&key, &hash);

    ovs_mutex_lock(&shard->mutex);
    ccmap_inc(&shard->tuples, tuple_hash(hash, ntohs(tuple->port)));
    ovs_mutex_unlock(&shard->mutex);
}

/* Gives up a reference to 'tuple', which must be as nat_pool_allocate() set
 * it, and makes it available again if that was the last one. */
void
nat_pool_release(const struct nat_tuple *tuple)
{
    struct nat_shard *shard;
    struct nat_tuple key;
    uint32_t hash;

    if (!nw_proto_has_ports(tuple->nw_proto)) {
        return;
    }
    without_port(tuple, &key);
    shard = get_shard(&key, &hash);

    ovs_mutex_lock(&shard->mutex);
    if (!ccmap_dec(&shard->tuples, tuple_hash(hash, ntohs(tuple->port)))) {
        shard->n--;
        tell_crowds(shard, &key, hash, ntohs(tuple->port), false);
    }
    ovs_mutex_unlock(&shard->mutex);
}

/* Returns the number of tuples that are out, other than those without
 * ports. */
size_t
nat_pool_count(void)
{
    size_t n = 0;

    init_shards();
    for (size_t i = 0; i < N_SHARDS; i++) {
        ovs_mutex_lock(&shards[i].mutex);
        n += shards[i].n;
        ovs_mutex_unlock(&shards[i].mutex);
    }
    return n;
}
