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

#ifndef LAYERED_OBJECT_POOL_H
#define LAYERED_OBJECT_POOL_H 1

#include <stddef.h>

/* Object pools
 * ============
 *
 * Memory for small objects, all of one size, that one thread allocates and
 * another one frees: a thread that polls ports opens connections, and the
 * thread that runs RCU's callbacks frees those that are gone.  With malloc()
 * both would take the lock of the same arena each time, and the former would
 * wait for the latter.
 *
 * Freed objects go back to the thread that allocates in batches ("magazines"
 * in Bonwick and Adams, "Magazines and Vmem", USENIX 2001).  A pool keeps but
 * a few thousand of them; what is more goes back to malloc().
 *
 *
 * Thread-safety
 * =============
 *
 * All functions may be called in any thread.  Allocation and freeing take a
 * lock once in a batch. */

struct object_pool;

struct object_pool *object_pool_create(size_t size);
void *object_pool_alloc(struct object_pool *);
void object_pool_free(struct object_pool *, void *);

#endif /* object-pool.h */
