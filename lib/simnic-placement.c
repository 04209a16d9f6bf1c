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

#include "layered/lib/simnic-placement.h"

#include "hash.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/hmap.h"
#include "openvswitch/list.h"
#include "util.h"

/* Steps that a search for the least recently used flow of an account may take.
 * A search that needs more has to do with so many flows that are in use that
 * it makes no difference, and returns the oldest of those that it has seen. */
#define MAX_STEPS 1024

struct simnic_account {
    struct hmap_node node;      /* In struct simnic_placement's 'accounts'. */
    struct ovs_list list_node;  /* In its 'turns'. */
    uint32_t id;
    size_t n_candidates;

    /* Candidates that are in, by when they were last used as far as is known;
     * the oldest first.  A flow in the NIC is used without our being told, so
     * that the actual time may be later, never earlier. */
    struct heap in;

    /* Candidates that wait, by demand, the latest first. */
    struct heap waiting;

    struct heap_node size_node; /* In 'by_size', by the number of 'in'. */
    unsigned int round;         /* The last one in which it got a "no". */
};

struct simnic_placement {
    unsigned int table_size;
    simnic_used_func *used;
    struct hmap accounts;       /* Contains struct simnic_accounts. */
    struct ovs_list turns;      /* The same; the next one to be served is at
                                 * the front. */
    struct heap by_size;        /* The same; the largest first. */
    unsigned int n_in;
    unsigned int n_wanting;     /* Accounts with candidates in or waiting. */
    unsigned int round;

    /* Evictions that are allowed, in 1/1000, as of 'refilled'. */
    unsigned long long int credit;
    long long int refilled;
};

/* A heap has the largest at its top, so what is to be at the top for being old
 * has this as its priority. */
static uint64_t
age_priority(long long int used)
{
    return UINT64_MAX - used;
}

static long long int
age_from_priority(uint64_t priority)
{
    return UINT64_MAX - priority;
}

static unsigned int
max_evictions(const struct simnic_placement *p)
{
    return MAX(SIMNIC_MIN_EVICTIONS, p->table_size / 8);
}

/* Returns a new placement for a NIC with room for 'table_size' flows, which
 * calls 'used' to find out when flows were last used.  The caller must destroy
 * it. */
struct simnic_placement *
simnic_placement_create(unsigned int table_size, simnic_used_func *used)
{
    struct simnic_placement *p = xzalloc(sizeof *p);

    p->table_size = table_size;
    p->used = used;
    hmap_init(&p->accounts);
    ovs_list_init(&p->turns);
    heap_init(&p->by_size);
    p->credit = max_evictions(p) * 1000ULL;
    return p;
}

/* Destroys 'p', which must not have candidates any more.  A null 'p' is
 * fine. */
void
simnic_placement_destroy(struct simnic_placement *p)
{
    if (p) {
        ovs_assert(hmap_is_empty(&p->accounts));
        hmap_destroy(&p->accounts);
        heap_destroy(&p->by_size);
        free(p);
    }
}

/* Changes the table size.  Afterward, simnic_placement_find_surplus() tells
 * which flows must leave. */
void
simnic_placement_set_table_size(struct simnic_placement *p,
                                unsigned int table_size)
{
    p->table_size = table_size;
}

/* Accounts
 * ======== */

static struct simnic_account *
find_account(const struct simnic_placement *p, uint32_t id)
{
    struct simnic_account *a;

    HMAP_FOR_EACH_WITH_HASH (a, node, hash_int(id, 0), &p->accounts) {
        if (a->id == id) {
            return a;
        }
    }
    return NULL;
}

static struct simnic_account *
create_account(struct simnic_placement *p, uint32_t id)
{
    struct simnic_account *a = xzalloc(sizeof *a);

    a->id = id;
    a->round = p->round - 1;
    heap_init(&a->in);
    heap_init(&a->waiting);
    hmap_insert(&p->accounts, &a->node, hash_int(id, 0));
    ovs_list_push_back(&p->turns, &a->list_node);
    heap_insert(&p->by_size, &a->size_node, 0);
    return a;
}

static void
destroy_account(struct simnic_placement *p, struct simnic_account *a)
{
    hmap_remove(&p->accounts, &a->node);
    ovs_list_remove(&a->list_node);
    heap_remove(&p->by_size, &a->size_node);
    heap_destroy(&a->in);
    heap_destroy(&a->waiting);
    free(a);
}

static bool
is_wanting(const struct simnic_account *a)
{
    return !heap_is_empty(&a->in) || !heap_is_empty(&a->waiting);
}

/* Moves 'c' to 'place'; 'time' is when it was last used or demanded. */
static void
move(struct simnic_placement *p, struct simnic_candidate *c,
     enum simnic_place place, long long int time)
{
    struct simnic_account *a = c->account;
    bool was_wanting = is_wanting(a);

    if (c->place == SIMNIC_PLACE_IN) {
        heap_remove(&a->in, &c->node);
        p->n_in--;
    } else if (c->place == SIMNIC_PLACE_WAITING) {
        heap_remove(&a->waiting, &c->node);
    }

    c->place = place;
    if (place == SIMNIC_PLACE_IN) {
        heap_insert(&a->in, &c->node, age_priority(time));
        p->n_in++;
    } else if (place == SIMNIC_PLACE_WAITING) {
        heap_insert(&a->waiting, &c->node, time);
    }

    heap_change(&p->by_size, &a->size_node, heap_count(&a->in));
    p->n_wanting += is_wanting(a) - was_wanting;
}

/* Candidates
 * ========== */

/* Adds 'c' to 'p', aside, in the account numbered 'account'.  The caller keeps
 * the memory, and must remove it before it frees that. */
void
simnic_placement_add(struct simnic_placement *p, struct simnic_candidate *c,
                     uint32_t account)
{
    struct simnic_account *a = find_account(p, account);

    if (!a) {
        a = create_account(p, account);
    }
    a->n_candidates++;
    c->account = a;
    c->place = SIMNIC_PLACE_ASIDE;
    c->verdict = SIMNIC_V_ROOM;
    c->entered = c->retry_at = 0;
}

/* Removes 'c' from 'p', wherever it is.  Does nothing if it is in no
 * placement. */
void
simnic_placement_remove(struct simnic_placement *p, struct simnic_candidate *c)
{
    struct simnic_account *a = c->account;

    if (a) {
        move(p, c, SIMNIC_PLACE_ASIDE, 0);
        c->account = NULL;
        if (!--a->n_candidates) {
            destroy_account(p, a);
        }
    }
}

/* Tells 'p' that 'c' has demand at 'now': makes it wait, unless it is in the
 * NIC, or the NIC has just failed to take it. */
void
simnic_placement_demand(struct simnic_placement *p, struct simnic_candidate *c,
                        long long int now)
{
    if (c->place == SIMNIC_PLACE_WAITING) {
        if (now > c->node.priority) {
            heap_change(&c->account->waiting, &c->node, now);
        }
    } else if (c->place == SIMNIC_PLACE_ASIDE && now >= c->retry_at) {
        move(p, c, SIMNIC_PLACE_WAITING, now);
    }
}

/* Returns the least recently used candidate of 'a' that is in the NIC and
 * stores when it was used in '*used', or returns NULL if it has none. */
static struct simnic_candidate *
find_lru(struct simnic_placement *p, struct simnic_account *a,
         long long int *used)
{
    struct simnic_candidate *oldest = NULL;

    if (heap_is_empty(&a->in)) {
        return NULL;
    }
    for (size_t i = 0; i < MAX_STEPS; i++) {
        struct simnic_candidate *c
            = CONTAINER_OF(heap_max(&a->in), struct simnic_candidate, node);
        long long int actual = MAX(p->used(c), c->entered);

        if (actual <= age_from_priority(c->node.priority)) {
            *used = age_from_priority(c->node.priority);
            return c;
        }
        heap_change(&a->in, &c->node, age_priority(actual));
        if (!oldest || actual < *used) {
            oldest = c;
            *used = actual;
        }
    }
    return oldest;
}

/* Returns the least recently used candidate of all. */
static struct simnic_candidate *
find_lru_of_all(struct simnic_placement *p, long long int *used)
{
    struct simnic_candidate *oldest = NULL;
    struct simnic_account *a;

    LIST_FOR_EACH (a, list_node, &p->turns) {
        struct simnic_candidate *c;
        long long int c_used;

        c = find_lru(p, a, &c_used);
        if (c && (!oldest || c_used < *used)) {
            oldest = c;
            *used = c_used;
        }
    }
    return oldest;
}

static void
refill(struct simnic_placement *p, long long int now)
{
    unsigned long long int max = max_evictions(p) * 1000ULL;

    if (now > p->refilled) {
        /* A second fills it. */
        p->credit += MIN(now - p->refilled, 1000) * max_evictions(p);
        p->refilled = now;
    }
    p->credit = MIN(p->credit, max);
}

static enum simnic_verdict
judge(struct simnic_placement *p, struct simnic_candidate *c,
      long long int now, struct simnic_candidate **victimp)
{
    unsigned int share = simnic_placement_share(p);
    struct simnic_account *a = c->account;
    struct simnic_candidate *victim;
    enum simnic_verdict verdict;
    long long int used = 0;

    if (now < c->retry_at) {
        return SIMNIC_V_ERROR;
    } else if (p->n_in < p->table_size) {
        return SIMNIC_V_ROOM;
    } else if (p->n_in > p->table_size || !p->table_size) {
        return SIMNIC_V_FULL;
    }

    if (heap_count(&a->in) >= share) {
        victim = find_lru(p, a, &used);
        if (!victim || now - used < SIMNIC_IDLE_MIN) {
            return SIMNIC_V_OVER_SHARE;
        }
        verdict = SIMNIC_V_REPLACE_OWN;
    } else {
        struct simnic_account *largest
            = CONTAINER_OF(heap_max(&p->by_size), struct simnic_account,
                           size_node);

        if (heap_count(&largest->in) > share) {
            victim = find_lru(p, largest, &used);
        } else {
            victim = find_lru_of_all(p, &used);
            if (victim && now - used < SIMNIC_IDLE_MIN) {
                victim = NULL;
            }
        }
        if (!victim) {
            return SIMNIC_V_FULL;
        }
        verdict = (victim->account == a
                   ? SIMNIC_V_REPLACE_OWN : SIMNIC_V_REPLACE_OTHER);
    }

    if (now - victim->entered < SIMNIC_MIN_RESIDENCE) {
        return SIMNIC_V_RESIDENCE;
    }
    refill(p, now);
    if (p->credit < 1000) {
        return SIMNIC_V_RATE;
    }
    *victimp = victim;
    return verdict;
}

/* Returns whether 'c', which waits, may come into the NIC.  For
 * SIMNIC_V_REPLACE_*, '*victim' is the candidate that must leave first, by
 * simnic_placement_evict(); otherwise, it is NULL.  Changes nothing, except
 * that a "no" ends the turn of the candidate's account in this round. */
enum simnic_verdict
simnic_placement_ask(struct simnic_placement *p, struct simnic_candidate *c,
                     long long int now, struct simnic_candidate **victim)
{
    *victim = NULL;
    c->verdict = judge(p, c, now, victim);
    if (c->verdict > SIMNIC_V_REPLACE_OTHER) {
        c->account->round = p->round;
    }
    return c->verdict;
}

/* Tells 'p' that 'c' has come into the NIC. */
void
simnic_placement_enter(struct simnic_placement *p, struct simnic_candidate *c,
                       long long int now)
{
    ovs_assert(c->place != SIMNIC_PLACE_IN);
    c->entered = now;
    c->verdict = SIMNIC_V_ROOM;
    move(p, c, SIMNIC_PLACE_IN, now);
}

/* Tells 'p' that 'c' has left the NIC, or need not wait any longer. */
void
simnic_placement_leave(struct simnic_placement *p, struct simnic_candidate *c)
{
    move(p, c, SIMNIC_PLACE_ASIDE, 0);
}

/* Tells 'p' that 'c', a victim, has left the NIC for another. */
void
simnic_placement_evict(struct simnic_placement *p, struct simnic_candidate *c)
{
    ovs_assert(c->place == SIMNIC_PLACE_IN);
    p->credit -= MIN(p->credit, 1000);
    c->verdict = SIMNIC_V_FULL;
    move(p, c, SIMNIC_PLACE_ASIDE, 0);
}

/* Tells 'p' that the NIC failed to take 'c': puts it aside for a while. */
void
simnic_placement_fail(struct simnic_placement *p, struct simnic_candidate *c,
                      long long int now)
{
    c->retry_at = now + SIMNIC_RETRY_INTERVAL;
    c->verdict = SIMNIC_V_ERROR;
    move(p, c, SIMNIC_PLACE_ASIDE, 0);
}

/* Rounds
 * ====== */

/* Starts a round, in which simnic_placement_next() returns candidates that
 * wait, after forgetting demand that is too old. */
void
simnic_placement_start_round(struct simnic_placement *p, long long int now)
{
    struct simnic_account *a;

    p->round++;
    LIST_FOR_EACH (a, list_node, &p->turns) {
        /* The top is the latest: if that is too old, all are. */
        while (!heap_is_empty(&a->waiting)
               && (heap_max(&a->waiting)->priority + SIMNIC_DEMAND_TTL
                   <= now)) {
            move(p, CONTAINER_OF(heap_max(&a->waiting),
                                 struct simnic_candidate, node),
                 SIMNIC_PLACE_ASIDE, 0);
        }
    }
}

/* Returns the candidate that is next to be asked about, NULL if there is none
 * in this round.  The caller must ask, and if the answer is yes, make it enter
 * or fail, before it calls this function again. */
struct simnic_candidate *
simnic_placement_next(struct simnic_placement *p)
{
    struct simnic_account *a;

    LIST_FOR_EACH (a, list_node, &p->turns) {
        if (a->round != p->round && !heap_is_empty(&a->waiting)) {
            ovs_list_remove(&a->list_node);
            ovs_list_push_back(&p->turns, &a->list_node);
            return CONTAINER_OF(heap_max(&a->waiting),
                                struct simnic_candidate, node);
        }
    }
    return NULL;
}

/* Returns a candidate in the NIC that has not been used since 'before', NULL
 * if there is none.  The caller must make it leave before it calls this
 * function again. */
struct simnic_candidate *
simnic_placement_find_idle(struct simnic_placement *p, long long int before)
{
    struct simnic_account *a;

    LIST_FOR_EACH (a, list_node, &p->turns) {
        struct simnic_candidate *c;
        long long int used;

        if (heap_is_empty(&a->in)
            || (age_from_priority(heap_max(&a->in)->priority) >= before)) {
            continue;
        }
        c = find_lru(p, a, &used);
        if (c && used < before) {
            return c;
        }
    }
    return NULL;
}

/* Returns a candidate in the NIC that must leave because there are more than
 * the table size, NULL if there are not: one of the largest account.  The
 * caller must make it leave before it calls this function again. */
struct simnic_candidate *
simnic_placement_find_surplus(struct simnic_placement *p)
{
    struct simnic_account *a;
    long long int used;

    if (p->n_in <= p->table_size) {
        return NULL;
    }
    a = CONTAINER_OF(heap_max(&p->by_size), struct simnic_account, size_node);
    return find_lru(p, a, &used);
}

/* Returns the number of candidates in the NIC. */
unsigned int
simnic_placement_n_in(const struct simnic_placement *p)
{
    return p->n_in;
}

/* Returns the share of each account. */
unsigned int
simnic_placement_share(const struct simnic_placement *p)
{
    return MAX(1, p->table_size / MAX(1, p->n_wanting));
}

/* Returns how many candidates of the account numbered 'account' are in the
 * NIC. */
unsigned int
simnic_placement_account_n_in(const struct simnic_placement *p,
                              uint32_t account)
{
    const struct simnic_account *a = find_account(p, account);

    return a ? heap_count(&a->in) : 0;
}

/* Returns what 'verdict' means to a user who asks why a flow is not in the
 * NIC. */
const char *
simnic_verdict_to_string(enum simnic_verdict verdict)
{
    switch (verdict) {
    case SIMNIC_V_ROOM:
    case SIMNIC_V_REPLACE_OWN:
    case SIMNIC_V_REPLACE_OTHER:
        return "idle";

    case SIMNIC_V_OVER_SHARE:
        return "table full and its VM has its share of it";

    case SIMNIC_V_FULL:
        return "table full";

    case SIMNIC_V_RESIDENCE:
        return "table full and nothing in it has been there for long enough";

    case SIMNIC_V_RATE:
        return "table full and too many flows have left it this second";

    case SIMNIC_V_ERROR:
        return "put failed";

    default:
        OVS_NOT_REACHED();
    }
}

/* Appends a line per account to 'ds'. */
void
simnic_placement_format(const struct simnic_placement *p, struct ds *ds)
{
    const struct simnic_account *a;

    LIST_FOR_EACH (a, list_node, &p->turns) {
        ds_put_format(ds, "    account %"PRIu32": candidates:%"PRIuSIZE
                      " in:%"PRIuSIZE" waiting:%"PRIuSIZE"\n", a->id,
                      a->n_candidates, heap_count(&a->in),
                      heap_count(&a->waiting));
    }
}
