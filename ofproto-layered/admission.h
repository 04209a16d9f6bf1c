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

#ifndef LAYERED_ADMISSION_H
#define LAYERED_ADMISSION_H 1

#include <stdbool.h>
#include <stdint.h>

#include "ovs-atomic.h"

struct smap;

/* Admission
 * =========
 *
 * Which connections get a flow of the datapath's own, and with it a place in
 * a NIC, and which ones are left to the unified flow table.  A datapath flow
 * costs much to make, to dump and to revalidate, and forwards a packet at a
 * little less cost; so a connection has to prove itself first.
 *
 * Plain data and pure functions, for any thread. */

/* A direction of a connection is admitted that has had so much traffic of
 * late, "of late" meaning that what is older by a second counts half.  0
 * admits at once. */
struct admission {
    uint32_t packets;           /* Packets, or */
    uint32_t bytes;             /* bytes, or */
    uint32_t age;               /* a quarter of these packets once the
                                 * connection is so old, in ms. */
};

extern const struct admission admission_default;
extern const struct admission admission_default_nic;

bool admission_set(struct admission *, const char *key, const char *value,
                   char **errorp);
char *admission_parse(const struct smap *, const struct admission *defaults,
                      struct admission *)
    __attribute__((warn_unused_result));

/* Returns true if 'a' admits a connection that is 'age', in ms, old and has
 * had 'packets' of 'bytes' of late. */
static inline bool
admission_admits(const struct admission *a, uint32_t packets, uint32_t bytes,
                 long long int age)
{
    return (packets >= a->packets || bytes >= a->bytes
            || (age >= a->age && packets >= (a->packets + 3) / 4));
}

#endif /* admission.h */
