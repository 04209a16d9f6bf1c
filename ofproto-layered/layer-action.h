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

#ifndef LAYERED_LAYER_ACTION_H
#define LAYERED_LAYER_ACTION_H 1

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "openvswitch/types.h"

struct ds;

/* Actions
 * =======
 *
 * The "actions" of a rule: what it does to the headers, what it counts, and
 * its verdict.  Parsed, checked and immutable; owned by the rule. */

enum layer_verdict {
    LV_NONE,                    /* "next": no verdict. */
    LV_ALLOW,
    LV_DENY,
    LV_ALLOW_CONTINUE,
    LV_DENY_CONTINUE,
    LV_REJECT,
};

enum layer_action_type {
    LA_SNAT,
    LA_DNAT,
    LA_COUNT,
    LA_SET_DSCP,
    LA_SET_MAC_SRC,
    LA_SET_MAC_DST,
    LA_DEC_TTL,
};

/* One target of a translation.  IPv4 addresses are IPv4-mapped. */
struct nat_target {
    struct in6_addr min, max;   /* Addresses, equal for dnat. */
    uint16_t min_port;          /* 0 if there are no ports. */
    uint16_t max_port;
};

struct layer_nat_spec {
    bool ipv6;                  /* Family of all the targets. */
    bool hash_src;              /* dnat: "hash=src". */
    size_t n_targets;           /* 1 for snat. */
    struct nat_target targets[];
};

struct layer_action {
    enum layer_action_type type;
    union {
        struct layer_nat_spec *nat;     /* LA_SNAT, LA_DNAT. */
        char *counter;                  /* LA_COUNT. */
        uint8_t dscp;                   /* LA_SET_DSCP, 0..63. */
        struct eth_addr mac;            /* LA_SET_MAC_*. */
    };
};

struct layer_actions {
    char *text;                 /* Canonical. */
    enum layer_verdict verdict;
    bool stateful;              /* "stateful", or implied by snat or dnat. */
    size_t n;
    struct layer_action *list;  /* In order of execution. */
};

char *layer_actions_parse(const char *text, struct layer_actions **)
    __attribute__((warn_unused_result));
void layer_actions_destroy(struct layer_actions *);
void layer_actions_format(const struct layer_actions *, struct ds *);

const char *layer_verdict_to_string(enum layer_verdict);

#endif /* layer-action.h */
