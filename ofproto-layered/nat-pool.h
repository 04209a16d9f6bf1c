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

#ifndef LAYERED_NAT_POOL_H
#define LAYERED_NAT_POOL_H 1

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "openvswitch/types.h"

struct nat_target;

/* NAT pool
 * ========
 *
 * Hands out the translated tuples of source NAT: protocol, translated address
 * and port, remote address and port.  No tuple is out twice at any time, in
 * the whole switch: whoever answers must know whom.  The same address and port
 * may be out several times, for different remote endpoints.
 *
 * Allocation takes constant time, amortized, for each address that it has to
 * try, also when nearly all ports are taken, and at most
 * NAT_POOL_MAX_ADDRESSES are tried.  A tuple takes 10 to 20 bytes.
 *
 * References to a tuple are counted, so that versions of a connection can
 * share it.
 *
 *
 * Thread-safety
 * =============
 *
 * All functions may be called from any thread.  They take short locks. */

#define NAT_POOL_MAX_ADDRESSES 64

/* A tuple.  IPv4 addresses are IPv4-mapped. */
struct nat_tuple {
    struct in6_addr addr;       /* Translated source address. */
    struct in6_addr remote;
    ovs_be16 port;              /* Translated source port. */
    ovs_be16 remote_port;
    uint8_t nw_proto;
};

bool nat_pool_allocate(const struct nat_target *, uint8_t nw_proto,
                       const struct in6_addr *src, ovs_be16 src_port,
                       const struct in6_addr *remote, ovs_be16 remote_port,
                       struct nat_tuple *);
bool nat_pool_peek(const struct nat_target *, uint8_t nw_proto,
                   const struct in6_addr *src, ovs_be16 src_port,
                   const struct in6_addr *remote, ovs_be16 remote_port,
                   struct nat_tuple *);
void nat_pool_ref(const struct nat_tuple *);
void nat_pool_release(const struct nat_tuple *);
size_t nat_pool_count(void);

#endif /* nat-pool.h */
