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

#ifndef SIMNIC_PLACEMENT_H
#define SIMNIC_PLACEMENT_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heap.h"

struct ds;

/* Which flows are in a NIC
 * ========================
 *
 * A NIC has room for a limited number of flows, its "table size".  This module
 * decides which ones, of those that it could carry, are in it.  It only
 * decides: its user puts flows into the NIC, takes them out, and reports that
 * here.  It never reads a clock, so that tests can make time pass.
 *
 *
 * Terms
 * =====
 *
 * A "candidate" is a flow that the NIC could carry.  It is in one of these
 * places:
 *
 *     in       In the NIC.
 *     waiting  In software, and has "demand": lately, it was put, or software
 *              saw a packet of it.
 *     aside    In software, without demand.
 *
 * Each candidate belongs to an "account", which stands for a VM (or for the
 * wire).  An account is "wanting" while it has candidates in or waiting.  All
 * wanting accounts have the same "share": the table size divided by their
 * number, at least 1.
 *
 * A flow is "idle" if it was not used for SIMNIC_IDLE_MIN.
 *
 *
 * Policy
 * ======
 *
 * While there is room, a candidate that waits comes in at once, whatever its
 * account has.  When the NIC is full, a flow must leave for it, a "victim":
 *
 *     - If the account has its share or more, it may only replace its own
 *       least recently used flow, and that only if it is idle.  So a VM with
 *       many flows cannot push out another's, and its own busy flows stay
 *       rather than take turns.
 *
 *     - If the account has less than its share, it may replace the least
 *       recently used flow of the account that exceeds its share by most, idle
 *       or not.  (If none exceeds it, as when there are more accounts than
 *       room, then it may replace the one that is least recently used of all,
 *       if that is idle.)
 *
 * Bounds on thrashing: no flow leaves for another one before it has been in
 * the NIC for SIMNIC_MIN_RESIDENCE, and no more than the larger of
 * SIMNIC_MIN_EVICTIONS and 1/8 of the table size leave for others per second.
 *
 * When several accounts have candidates that wait, they take turns; within an
 * account, the candidate with the latest demand comes first.  Demand that is
 * older than SIMNIC_DEMAND_TTL is forgotten.
 *
 *
 * Thread-safety
 * =============
 *
 * None: the user must lock.  Times are in milliseconds. */

/* Shorter than this, a pause is part of the ordinary pace of a connection,
 * such as the round trip to a far peer or a TCP retransmission. */
#define SIMNIC_IDLE_MIN 1000

/* Putting a flow and taking it out costs about as much as forwarding some
 * hundred packets in software, so a stay must be long enough to pay. */
#define SIMNIC_MIN_RESIDENCE 1000

#define SIMNIC_MIN_EVICTIONS 16         /* Per second. */

/* How long demand lasts.  As long as it takes a flow to become idle, so that a
 * candidate replaces only a flow that was used before it had its demand. */
#define SIMNIC_DEMAND_TTL SIMNIC_IDLE_MIN

#define SIMNIC_RETRY_INTERVAL 1000      /* After the NIC reported an error. */

enum simnic_place {
    SIMNIC_PLACE_ASIDE,
    SIMNIC_PLACE_WAITING,
    SIMNIC_PLACE_IN,
};

/* An answer to "May this candidate come in?" */
enum simnic_verdict {
    SIMNIC_V_ROOM,              /* Yes. */
    SIMNIC_V_REPLACE_OWN,       /* In place of a flow of its own account. */
    SIMNIC_V_REPLACE_OTHER,     /* In place of another account's. */
    SIMNIC_V_OVER_SHARE,        /* No: its account has its share, in use. */
    SIMNIC_V_FULL,              /* No: no account exceeds its share. */
    SIMNIC_V_RESIDENCE,         /* No: the victim has only just come in. */
    SIMNIC_V_RATE,              /* No: too many evictions this second. */
    SIMNIC_V_ERROR,             /* No: the NIC has just reported an error. */
};

struct simnic_account;
struct simnic_placement;

/* To be embedded in the user's representation of a flow.  The members are
 * private to the module. */
struct simnic_candidate {
    struct simnic_account *account;     /* NULL if in no placement. */
    struct heap_node node;              /* In the account's 'in', 'waiting'. */
    enum simnic_place place;
    enum simnic_verdict verdict;        /* The latest. */
    long long int entered;              /* If 'place' is SIMNIC_PLACE_IN. */
    long long int retry_at;             /* No demand counts before then. */
};

/* Returns when the flow of a candidate that is in the NIC was last used there,
 * 0 if never.  It may not decrease. */
typedef long long int simnic_used_func(const struct simnic_candidate *);

struct simnic_placement *simnic_placement_create(unsigned int table_size,
                                                 simnic_used_func *);
void simnic_placement_destroy(struct simnic_placement *);
void simnic_placement_set_table_size(struct simnic_placement *,
                                     unsigned int table_size);

void simnic_placement_add(struct simnic_placement *, struct simnic_candidate *,
                          uint32_t account);
void simnic_placement_remove(struct simnic_placement *,
                             struct simnic_candidate *);
void simnic_placement_demand(struct simnic_placement *,
                             struct simnic_candidate *, long long int now);

enum simnic_verdict simnic_placement_ask(struct simnic_placement *,
                                         struct simnic_candidate *,
                                         long long int now,
                                         struct simnic_candidate **victim);
void simnic_placement_enter(struct simnic_placement *,
                            struct simnic_candidate *, long long int now);
void simnic_placement_leave(struct simnic_placement *,
                            struct simnic_candidate *);
void simnic_placement_evict(struct simnic_placement *,
                            struct simnic_candidate *);
void simnic_placement_fail(struct simnic_placement *,
                           struct simnic_candidate *, long long int now);

void simnic_placement_start_round(struct simnic_placement *,
                                  long long int now);
struct simnic_candidate *simnic_placement_next(struct simnic_placement *);

struct simnic_candidate *simnic_placement_find_idle(struct simnic_placement *,
                                                    long long int before);
struct simnic_candidate *simnic_placement_find_surplus(
    struct simnic_placement *);

unsigned int simnic_placement_n_in(const struct simnic_placement *);
unsigned int simnic_placement_share(const struct simnic_placement *);
unsigned int simnic_placement_account_n_in(const struct simnic_placement *,
                                           uint32_t account);
const char *simnic_verdict_to_string(enum simnic_verdict);
void simnic_placement_format(const struct simnic_placement *, struct ds *);

#endif /* simnic-placement.h */
