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

#ifndef LAYERED_TSAN_H
#define LAYERED_TSAN_H 1

/* For builds with ThreadSanitizer, which does not know fences: included ahead
 * of every source, this tells it what the fence in ovs_refcount_unref() does.
 * There is no config.h yet when "configure" tries its compiler. */

#if __has_include("config.h")
#include <config.h>

#include <sanitizer/tsan_interface.h>

#include "ovs-atomic.h"

static inline unsigned int
tsan_refcount_unref(struct ovs_refcount *refcount)
{
    unsigned int old_refcount;

    __tsan_release(refcount);
    old_refcount = ovs_refcount_unref(refcount);
    if (old_refcount == 1) {
        __tsan_acquire(refcount);
    }
    return old_refcount;
}

#define ovs_refcount_unref(REFCOUNT) tsan_refcount_unref(REFCOUNT)
#endif

#endif /* tsan.h */
