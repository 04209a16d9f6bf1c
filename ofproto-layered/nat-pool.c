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

#include "hash.h"
#include "layered/ofproto-layered/layer-action.h"
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

/* Representation of a set of ports
 * ================================
 *
 * Most remote endpoints have one connection from an address, some have very
 * many.  A pool with up to N_FEW ports has them inside, one with up to
 * MAX_LIST has an array of its own, both sorted, and one with more has a
 * bitmap, which it keeps until MIN_MAP are left.  So a port does not take more
 * memory in a large pool than in a small one, and no operation takes longer
 * than one on a list of MAX_LIST. */
#define N_FEW 8
#define MIN_MAP 128
#define MAX_LIST 512

/* Bitmap of all ports, with summaries that find a 0 in constant time. */
struct port_map {
    uint64_t taken[1024];       /* Ports. */
    uint64_t full[16];          /* Members of 'taken' that are all 1s. */
    uint64_t all_full;          /* Members of 'full' that are all 1s, and 1s
                                 * beyond. */
};

/* The ports of one address that are out towards one remote endpoint. */
struct nat_pool {
    struct hmap_node node;      /* In struct nat_shard's 'pools'. */
    struct nat_tuple tuple;     /* With 'port' zero. */
    uint32_t n;                 /* Ports, 0 to 65536. */
    uint32_t max_list;          /* Capacity of list, 0 if 'map' is used. */
    union {
        uint16_t few[N_FEW];    /* If 'max_list' is N_FEW. */
        uint16_t *list;         /* If it is greater. */
        struct port_map *map;
    };
};

/* The pools are spread over shards by the hash of their tuples, so that
 * threads seldom wait for each other. */
#define N_SHARDS 64             /* A power of 2. */

OVS_ALIGNED_STRUCT(CACHE_LINE_SIZE, nat_shard) {
    struct ovs_mutex mutex;
    struct hmap pools OVS_GUARDED;      /* Contains "struct nat_pool"s. */
    size_t n OVS_GUARDED;               /* Tuples. */
};

static struct nat_shard shards[N_SHARDS];

/* Makes collisions of hashes hard to provoke.  Constant after
 * init_shards(). */
static uint32_t hash_basis;

static bool
has_ports(uint8_t nw_proto)
{
    return (nw_proto == IPPROTO_TCP
            || nw_proto == IPPROTO_UDP
            || nw_proto == IPPROTO_SCTP);
}

/* Sets of ports. */

static uint16_t *
pool_list(const struct nat_pool *pool)
{
    return (pool->max_list == N_FEW
            ? CONST_CAST(uint16_t *, pool->few) : pool->list);
}

/* Returns the index of the first port in 'pool''s list from 'port'. */
static uint32_t
list_lower_bound(const struct nat_pool *pool, uint32_t port)
{
    const uint16_t *list = pool_list(pool);
    uint32_t low = 0;
    uint32_t high = pool->n;

    while (low < high) {
        uint32_t mid = (low + high) / 2;

        if (list[mid] < port) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static uint32_t
list_next_free(const struct nat_pool *pool, uint32_t port)
{
    const uint16_t *list = pool_list(pool);
    uint32_t start = list_lower_bound(pool, port);
    uint32_t low = start;
    uint32_t high = pool->n;

    /* Finds the end of the run of successive ports that starts at 'port'. */
    while (low < high) {
        uint32_t mid = (low + high) / 2;

        if (list[mid] - port == mid - start) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return port + (low - start);
}

static uint32_t
map_next_free(const struct port_map *map, uint32_t port)
{
    uint32_t i = port / 64;
    uint64_t zeros = ~map->taken[i] & (UINT64_MAX << port % 64);

    if (zeros) {
        return i * 64 + raw_ctz(zeros);
    }

    if (++i >= ARRAY_SIZE(map->taken)) {
        return NO_PORT;
    }

    uint32_t j = i / 64;

    zeros = ~map->full[j] & (UINT64_MAX << i % 64);
    if (!zeros) {
        zeros = ~map->all_full & (UINT64_MAX << (j + 1));
        if (!zeros) {
            return NO_PORT;
        }
        j = raw_ctz(zeros);
        zeros = ~map->full[j];
    }
    i = j * 64 + raw_ctz(zeros);
    return i * 64 + raw_ctz(~map->taken[i]);
}

static void
map_take(struct port_map *map, uint16_t port)
{
    uint32_t i = port / 64;
    uint32_t j = i / 64;

    map->taken[i] |= UINT64_C(1) << port % 64;
    if (map->taken[i] == UINT64_MAX) {
        map->full[j] |= UINT64_C(1) << i % 64;
        if (map->full[j] == UINT64_MAX) {
            map->all_full |= UINT64_C(1) << j;
        }
    }
}

static void
map_put_back(struct port_map *map, uint16_t port)
{
    uint32_t i = port / 64;
    uint32_t j = i / 64;

    map->taken[i] &= ~(UINT64_C(1) << port % 64);
    map->full[j] &= ~(UINT64_C(1) << i % 64);
    map->all_full &= ~(UINT64_C(1) << j);
}

/* Returns the first port from 'port' that is free, NO_PORT if there is
 * none. */
static uint32_t
pool_next_free(const struct nat_pool *pool, uint32_t port)
{
    return (pool->max_list
            ? list_next_free(pool, port) : map_next_free(pool->map, port));
}

/* Makes room for another port. */
static void
pool_grow(struct nat_pool *pool)
{
    uint16_t *list = pool_list(pool);
    uint32_t max_list = pool->max_list * 2;

    if (max_list <= MAX_LIST) {
        uint16_t *new_list = xmalloc(max_list * sizeof *new_list);

        memcpy(new_list, list, pool->n * sizeof *list);
        if (pool->max_list > N_FEW) {
            free(list);
        }
        pool->list = new_list;
        pool->max_list = max_list;
    } else {
        struct port_map *map = xzalloc(sizeof *map);

        map->all_full = UINT64_MAX << ARRAY_SIZE(map->full);
        for (uint32_t i = 0; i < pool->n; i++) {
            map_take(map, list[i]);
        }
        free(list);
        pool->map = map;
        pool->max_list = 0;
    }
}

/* Replaces the bitmap of 'pool' by a list. */
static void
pool_shrink(struct nat_pool *pool)
{
    struct port_map *map = pool->map;
    uint32_t n = 0;

    pool->max_list = MIN_MAP * 2;
    pool->list = xmalloc(pool->max_list * sizeof *pool->list);
    for (size_t i = 0; i < ARRAY_SIZE(map->taken); i++) {
        for (uint64_t bits = map->taken[i]; bits; bits &= bits - 1) {
            pool->list[n++] = i * 64 + raw_ctz(bits);
        }
    }
    ovs_assert(n == pool->n);
    free(map);
}

/* Takes 'port', which must be free. */
static void
pool_take(struct nat_pool *pool, uint16_t port)
{
    if (pool->n == pool->max_list) {
        pool_grow(pool);
    }
    if (pool->max_list) {
        uint16_t *list = pool_list(pool);
        uint32_t i = list_lower_bound(pool, port);

        memmove(&list[i + 1], &list[i], (pool->n - i) * sizeof *list);
        list[i] = port;
    } else {
        map_take(pool->map, port);
    }
    pool->n++;
}

/* Puts back 'port', which must be taken. */
static void
pool_put_back(struct nat_pool *pool, uint16_t port)
{
    ovs_assert(pool_next_free(pool, port) != port);
    pool->n--;
    if (pool->max_list) {
        uint16_t *list = pool_list(pool);
        uint32_t i = list_lower_bound(pool, port);

        memmove(&list[i], &list[i + 1], (pool->n - i) * sizeof *list);
    } else {
        map_put_back(pool->map, port);
        if (pool->n == MIN_MAP) {
            pool_shrink(pool);
        }
    }
}

/* Returns 'preferred' if it is not NO_PORT and free, otherwise a free port
 * from 'min' to 'max', any with about the same probability (RFC 6056), or
 * NO_PORT if all of them are taken. */
static uint32_t
pool_choose(const struct nat_pool *pool, uint32_t preferred, uint32_t min,
            uint32_t max)
{
    if (preferred != NO_PORT && pool_next_free(pool, preferred) == preferred) {
        return preferred;
    }

    uint32_t hint = min + random_uint32() % (max - min + 1);
    uint32_t port = pool_next_free(pool, hint);

    if (port > max) {
        port = pool_next_free(pool, min);
    }
    return port <= max ? port : NO_PORT;
}

/* Pools. */

static void
init_shards(void)
{
    static struct ovsthread_once once = OVSTHREAD_ONCE_INITIALIZER;

    if (ovsthread_once_start(&once)) {
        hash_basis = random_uint32();
        for (size_t i = 0; i < N_SHARDS; i++) {
            ovs_mutex_init_adaptive(&shards[i].mutex);
            ovs_mutex_lock(&shards[i].mutex);
            hmap_init(&shards[i].pools);
            ovs_mutex_unlock(&shards[i].mutex);
        }
        ovsthread_once_done(&once);
    }
}

/* Returns the shard with the pool for 'tuple', whose port must be zero, and
 * sets '*hash' to the hash of 'tuple'. */
static struct nat_shard *
get_shard(const struct nat_tuple *tuple, uint32_t *hash)
{
    init_shards();
    *hash = hash_bytes(tuple, sizeof *tuple, hash_basis);

    /* The bits of the hash that hmap uses first are the lowest ones. */
    return &shards[(*hash >> 26) % N_SHARDS];
}

static struct nat_pool *
find_pool(const struct nat_shard *shard, const struct nat_tuple *tuple,
          uint32_t hash)
    OVS_REQUIRES(shard->mutex)
{
    struct nat_pool *pool;

    HMAP_FOR_EACH_WITH_HASH (pool, node, hash, &shard->pools) {
        if (!memcmp(&pool->tuple, tuple, sizeof *tuple)) {
            return pool;
        }
    }
    return NULL;
}

/* Finds a port for 'tuple', whose port is zero, as pool_choose() does, and
 * takes it if 'take' is true.  Returns the port or NO_PORT. */
static uint32_t
find_port(const struct nat_tuple *tuple, uint32_t preferred, uint32_t min,
          uint32_t max, bool take)
{
    static const struct nat_pool empty = { .max_list = N_FEW };
    uint32_t hash;
    struct nat_shard *shard = get_shard(tuple, &hash);

    ovs_mutex_lock(&shard->mutex);

    struct nat_pool *pool = find_pool(shard, tuple, hash);
    uint32_t port = pool_choose(pool ? pool : &empty, preferred, min, max);

    if (take && port != NO_PORT) {
        if (!pool) {
            pool = xzalloc(sizeof *pool);
            pool->tuple = *tuple;
            pool->max_list = N_FEW;
            hmap_insert(&shard->pools, &pool->node, hash);
        }
        pool_take(pool, port);
        shard->n++;
    }
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
        if (!has_ports(nw_proto)) {
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

/* Makes available again 'tuple', which must be as nat_pool_allocate() set
 * it. */
void
nat_pool_release(const struct nat_tuple *tuple)
{
    if (!has_ports(tuple->nw_proto)) {
        return;
    }

    /* Not a copy, for its padding. */
    struct nat_tuple key;

    memset(&key, 0, sizeof key);
    key.addr = tuple->addr;
    key.remote = tuple->remote;
    key.remote_port = tuple->remote_port;
    key.nw_proto = tuple->nw_proto;

    uint32_t hash;
    struct nat_shard *shard = get_shard(&key, &hash);

    ovs_mutex_lock(&shard->mutex);

    struct nat_pool *pool = find_pool(shard, &key, hash);

    ovs_assert(pool);
    pool_put_back(pool, ntohs(tuple->port));
    shard->n--;
    if (!pool->n) {
        hmap_remove(&shard->pools, &pool->node);
        if (pool->max_list > N_FEW) {
            free(pool->list);
        }
        free(pool);
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
