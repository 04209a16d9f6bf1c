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

#ifndef SIMNIC_CAPS_H
#define SIMNIC_CAPS_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ds;
struct match;
struct nlattr;
struct simnic;
struct simnic_switch;

/* What an emulated NIC can do
 * ===========================
 *
 * A NIC takes a flow only if it can match on every field that the flow matches
 * on and carry out every one of its actions.  "Capabilities" are the names of
 * what it can match and do.  A set of them is a bitmap.
 *
 * Any thread may call these functions. */

enum simnic_cap {
    /* Matches. */
    SIMNIC_CAP_MASKED = 1 << 0,         /* "masked": flows that leave out some
                                         * of addresses, protocol and ports. */
    SIMNIC_CAP_VLAN = 1 << 1,           /* "vlan" */
    SIMNIC_CAP_ARP = 1 << 2,            /* "arp" */
    SIMNIC_CAP_IPV4 = 1 << 3,           /* "ipv4" */
    SIMNIC_CAP_IPV6 = 1 << 4,           /* "ipv6" */
    SIMNIC_CAP_TCP = 1 << 5,            /* "tcp" */
    SIMNIC_CAP_TCP_FLAGS = 1 << 6,      /* "tcp-flags" */
    SIMNIC_CAP_UDP = 1 << 7,            /* "udp" */
    SIMNIC_CAP_SCTP = 1 << 8,           /* "sctp" */
    SIMNIC_CAP_ICMP = 1 << 9,           /* "icmp", of both versions of IP */
    SIMNIC_CAP_FRAG = 1 << 10,          /* "frag": fragments */

    /* Actions.  Output to one port needs none. */
    SIMNIC_CAP_SET_ETH = 1 << 11,       /* "set-eth" */
    SIMNIC_CAP_SET_IPV4 = 1 << 12,      /* "set-ipv4" */
    SIMNIC_CAP_SET_IPV6 = 1 << 13,      /* "set-ipv6" */
    SIMNIC_CAP_SET_L4 = 1 << 14,        /* "set-l4": ports */
    SIMNIC_CAP_PUSH_VLAN = 1 << 15,     /* "push-vlan" */
    SIMNIC_CAP_POP_VLAN = 1 << 16,      /* "pop-vlan" */
    SIMNIC_CAP_PUSH_TUNNEL = 1 << 17,   /* "push-tunnel" */
    SIMNIC_CAP_POP_TUNNEL = 1 << 18,    /* "pop-tunnel" */
    SIMNIC_CAP_METER = 1 << 19,         /* "meter" */
    SIMNIC_CAP_MULTI_OUTPUT = 1 << 20,  /* "multi-output": to several ports */
};
#define SIMNIC_N_CAPS 21
#define SIMNIC_CAPS_ALL ((1u << SIMNIC_N_CAPS) - 1)

bool simnic_cap_from_name(const char *name, enum simnic_cap *);
void simnic_caps_format(uint32_t caps, struct ds *);

char *simnic_caps_check(uint32_t caps, const struct simnic *,
                        const struct simnic_switch *, const struct match *,
                        const struct nlattr *actions, size_t actions_len);

#endif /* simnic-caps.h */
