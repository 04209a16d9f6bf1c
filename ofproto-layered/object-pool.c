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

#include "layered/ofproto-layered/object-pool.h"

#include "ovs-thread.h"
#include "util.h"

/* So many objects threads exchange with a pool at once. */
#define BATCH 64

/* So many batches a pool keeps at most. */
#define MAX_BATCHES 64

/* AddressSanitizer finds what uses objects that have been freed only if they
 * really are. */
#if defined(__SANITIZE_ADDRESS__)
#define KEEPS_SPARE false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KEEPS_SPARE false
#endif
#endif
#ifndef KEEPS_SPARE
#define KEEPS_SPARE true
#endif

/* An object that is not in use. */
struct spare {
    struct spare *next;                 /* In its batch. */
    struct spare *next_batch;           /* Of the first of a batch. */
};

struct object_pool {
    size_t size;                        /* Of an object, in bytes. */
    ovsthread_key_t own;                /* Struct own_spares of a thread. */

    struct ovs_mutex mutex;
    struct spare *batches OVS_GUARDED;
    size_t n_batches OVS_GUARDED;
};

/* A thread's own spare objects of a pool, fewer than BATCH. */
struct own_spares {
    struct spare *first;
    size_t n;
    size_t n_new;               /* To be allocated before the pool is asked
                                 * again, as it had nothing. */
};

static void
free_all(struct spare *spare)
{
    while (spare) {
        struct spare *next = spare->next;

        free(spare);
        spare = next;
    }
}

static void
own_spares_destroy(void *own_)
{
    struct own_spares *own = own_;

    free_all(own->first);
    free(own);
}

static struct own_spares *
get_own_spares(struct object_pool *pool)
{
    struct own_spares *own = ovsthread_getspecific(pool->own);

    if (OVS_UNLIKELY(!own)) {
        own = xzalloc(sizeof *own);
        ovsthread_setspecific(pool->own, own);
    }
    return own;
}

/* Returns a new pool of objects of 'size' bytes.  It lasts for the rest of the
 * process: objects may be freed at any time, such as by RCU. */
struct object_pool *
object_pool_create(size_t size)
{
    struct object_pool *pool = xzalloc(sizeof *pool);

    pool->size = MAX(size, sizeof(struct spare));
    ovs_mutex_init(&pool->mutex);
    ovsthread_key_create(&pool->own, own_spares_destroy);
    return pool;
}

/* Takes a batch of objects from 'pool', NULL if it has none. */
static struct spare *
take_batch(struct object_pool *pool)
{
    struct spare *batch;

    ovs_mutex_lock(&pool->mutex);
    batch = pool->batches;
    if (batch) {
        pool->batches = batch->next_batch;
        pool->n_batches--;
    }
    ovs_mutex_unlock(&pool->mutex);
    return batch;
}

/* Gives 'batch' to 'pool', or frees it if there are enough. */
static void
give_batch(struct object_pool *pool, struct spare *batch)
{
    ovs_mutex_lock(&pool->mutex);
    if (pool->n_batches < MAX_BATCHES) {
        batch->next_batch = pool->batches;
        pool->batches = batch;
        pool->n_batches++;
        batch = NULL;
    }
    ovs_mutex_unlock(&pool->mutex);
    free_all(batch);
}

/* Returns memory for an object of 'pool', as xmalloc() would. */
void *
object_pool_alloc(struct object_pool *pool)
{
    struct own_spares *own = KEEPS_SPARE ? get_own_spares(pool) : NULL;
    struct spare *spare;

    if (!own) {
        return xmalloc(pool->size);
    }
    if (!own->n) {
        own->first = own->n_new ? NULL : take_batch(pool);
        if (!own->first) {
            own->n_new = own->n_new ? own->n_new - 1 : BATCH - 1;
            return xmalloc(pool->size);
        }
        own->n = BATCH;
    }
    spare = own->first;
    own->first = spare->next;
    own->n--;
    OVS_PREFETCH_WRITE(own->first);
    return spare;
}

/* Returns 'object' to 'pool', where it comes from. */
void
object_pool_free(struct object_pool *pool, void *object)
{
    struct own_spares *own = KEEPS_SPARE ? get_own_spares(pool) : NULL;
    struct spare *spare = object;

    if (!own) {
        free(object);
        return;
    }
    spare->next = own->first;
    own->first = spare;
    if (++own->n >= BATCH) {
        give_batch(pool, own->first);
        own->first = NULL;
        own->n = 0;
    }
}
