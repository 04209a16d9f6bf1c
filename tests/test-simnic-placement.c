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


/* Tests which flows a NIC holds (simnic-placement.h), in simulated time.
 * Usage:
 *
 *    room             flows come in while there is room
 *    lru SEED         the victim is the least recently used of its account
 *    fair             shares of accounts
 *    thrash           bounds on evictions
 *    shrink           changes of the table size
 *    random SEED N    N random steps at many table sizes */

#include <config.h>

#undef NDEBUG
#include "layered/lib/simnic-placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command-line.h"
#include "openvswitch/dynamic-string.h"
#include "random.h"
#include "util.h"

#define MAX_FLOWS 4096

/* A flow, and what the NIC would know of it. */
struct test_flow {
    struct simnic_candidate candidate;
    uint32_t account;
    long long int used;         /* While it is in the NIC. */
    bool added;
};

static struct test_flow flows[MAX_FLOWS];
static struct simnic_placement *p;
static unsigned int table_size;
static long long int now;
static unsigned int n_evicted;

static struct test_flow *
flow_from_candidate(const struct simnic_candidate *c)
{
    return CONTAINER_OF(c, struct test_flow, candidate);
}

static long long int
test_used(const struct simnic_candidate *c)
{
    ovs_assert(c->place == SIMNIC_PLACE_IN);
    return flow_from_candidate(c)->used;
}

static void
start(unsigned int size)
{
    memset(flows, 0, sizeof flows);
    table_size = size;
    now = 1000000;
    n_evicted = 0;
    p = simnic_placement_create(size, test_used);
}

static void
stop(void)
{
    for (size_t i = 0; i < MAX_FLOWS; i++) {
        if (flows[i].added) {
            simnic_placement_remove(p, &flows[i].candidate);
        }
    }
    ovs_assert(!simnic_placement_n_in(p));
    simnic_placement_destroy(p);
}

static void
add(size_t i, uint32_t account)
{
    flows[i].account = account;
    flows[i].added = true;
    simnic_placement_add(p, &flows[i].candidate, account);
}

static bool
is_in(size_t i)
{
    return flows[i].added && flows[i].candidate.place == SIMNIC_PLACE_IN;
}

/* Returns the flow of 'account' in the NIC that is least recently used, found
 * the slow way; of all accounts, if 'account' is UINT32_MAX. */
static struct test_flow *
slow_lru(uint32_t account)
{
    struct test_flow *lru = NULL;

    for (size_t i = 0; i < MAX_FLOWS; i++) {
        if (is_in(i)
            && (account == UINT32_MAX || flows[i].account == account)
            && (!lru || flows[i].used < lru->used)) {
            lru = &flows[i];
        }
    }
    return lru;
}

/* Checks that 'victim' may be replaced by 'c'. */
static void
check_victim(const struct simnic_candidate *c,
             const struct simnic_candidate *victim)
{
    const struct test_flow *v = flow_from_candidate(victim);
    const struct test_flow *f = flow_from_candidate(c);
    unsigned int share = simnic_placement_share(p);
    unsigned int n = simnic_placement_account_n_in(p, f->account);
    unsigned int n_victim = simnic_placement_account_n_in(p, v->account);
    bool idle = now - v->used >= SIMNIC_IDLE_MIN;

    ovs_assert(simnic_placement_n_in(p) == table_size);
    ovs_assert(now - victim->entered >= SIMNIC_MIN_RESIDENCE);
    if (n >= share) {
        ovs_assert(v->account == f->account && idle);
        ovs_assert(v->used == slow_lru(v->account)->used);
    } else if (n_victim > share) {
        ovs_assert(v->used == slow_lru(v->account)->used);
    } else {
        ovs_assert(idle);
        ovs_assert(v->used == slow_lru(UINT32_MAX)->used);
    }
}

/* Tries to bring 'c' in, as the driver does. */
static enum simnic_verdict
try(struct simnic_candidate *c)
{
    struct simnic_candidate *victim;
    enum simnic_verdict verdict;

    verdict = simnic_placement_ask(p, c, now, &victim);
    if (verdict <= SIMNIC_V_REPLACE_OTHER) {
        ovs_assert((verdict == SIMNIC_V_ROOM) == !victim);
        if (victim) {
            check_victim(c, victim);
            simnic_placement_evict(p, victim);
            n_evicted++;
        }
        flow_from_candidate(c)->used = now;
        simnic_placement_enter(p, c, now);
        ovs_assert(simnic_placement_n_in(p) <= table_size);
    }
    return verdict;
}

/* A packet of flow 'i': seen by the NIC or by software. */
static void
packet(size_t i)
{
    if (is_in(i)) {
        flows[i].used = now;
    } else {
        simnic_placement_demand(p, &flows[i].candidate, now);
    }
}

static void
run_round(void)
{
    struct simnic_candidate *c;

    simnic_placement_start_round(p, now);
    while ((c = simnic_placement_next(p)) != NULL) {
        try(c);
    }
}

static unsigned int
count_in(uint32_t account)
{
    unsigned int n = 0;

    for (size_t i = 0; i < MAX_FLOWS; i++) {
        n += is_in(i) && flows[i].account == account;
    }
    ovs_assert(n == simnic_placement_account_n_in(p, account));
    return n;
}

static void
test_room(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    for (unsigned int size = 1; size <= 1024; size *= 2) {
        start(size);
        for (size_t i = 0; i < size + 1; i++) {
            add(i, i % 3);
            packet(i);
            ovs_assert((try(&flows[i].candidate) == SIMNIC_V_ROOM)
                       == (i < size));
        }
        ovs_assert(simnic_placement_n_in(p) == size);

        /* The last one comes in as soon as another one leaves. */
        simnic_placement_remove(p, &flows[0].candidate);
        flows[0].added = false;
        run_round();
        ovs_assert(is_in(size));

        /* After an error, only once the time is up. */
        simnic_placement_leave(p, &flows[size].candidate);
        simnic_placement_fail(p, &flows[size].candidate, now);
        packet(size);
        run_round();
        ovs_assert(!is_in(size));
        now += SIMNIC_RETRY_INTERVAL;
        packet(size);
        run_round();
        ovs_assert(is_in(size));

        /* A table of size 0 takes nothing. */
        simnic_placement_set_table_size(p, 0);
        table_size = 0;
        while (simnic_placement_find_surplus(p)) {
            simnic_placement_evict(p, simnic_placement_find_surplus(p));
        }
        now++;
        packet(1);
        run_round();
        ovs_assert(!simnic_placement_n_in(p));
        stop();
    }
}

static void
test_lru(struct ovs_cmdl_context *ctx)
{
    random_set_seed(atoi(ctx->argv[1]));
    for (unsigned int size = 1; size <= 256; size *= 2) {
        start(size);
        for (size_t i = 0; i < size; i++) {
            add(i, 0);
            packet(i);
            ovs_assert(try(&flows[i].candidate) == SIMNIC_V_ROOM);
        }

        /* Use them in a random order, at times that the module does not
         * learn.  Then each newcomer replaces the oldest. */
        for (size_t i = 0; i < 3 * size; i++) {
            now++;
            packet(random_range(size));
        }
        now += SIMNIC_IDLE_MIN;
        for (size_t i = size; i < 2 * size; i++) {
            struct test_flow *oldest = slow_lru(0);
            long long int used = oldest->used;
            struct simnic_candidate *victim;

            add(i, 0);
            packet(i);
            ovs_assert(simnic_placement_ask(p, &flows[i].candidate, now,
                                            &victim)
                       == SIMNIC_V_REPLACE_OWN);
            ovs_assert(flow_from_candidate(victim)->used == used);
            ovs_assert(try(&flows[i].candidate) == SIMNIC_V_REPLACE_OWN);
            now += 1000;

            /* Stay idle, but for the newcomers. */
            for (size_t j = size; j <= i; j++) {
                packet(j);
            }
        }

        /* All are busy now. */
        add(2 * size, 0);
        packet(2 * size);
        ovs_assert(try(&flows[2 * size].candidate) == SIMNIC_V_OVER_SHARE);

        /* Idle timeout: one by one, the oldest first. */
        for (size_t i = size; i < 2 * size; i++) {
            now++;
            packet(i);
        }
        for (size_t i = size; i < 2 * size; i++) {
            struct simnic_candidate *c;

            c = simnic_placement_find_idle(p, flows[i].used + 1);
            ovs_assert(c == &flows[i].candidate);
            simnic_placement_leave(p, c);
            ovs_assert(!simnic_placement_find_idle(p, flows[i].used + 1));
        }
        stop();
    }
}

/* All flows of all accounts are busy all of the time, the first account's
 * from the start, the others' later. */
static void
test_fair__(unsigned int size, unsigned int n_accounts, unsigned int n_each)
{
    size_t n = 0;

    start(size);
    for (uint32_t account = 0; account < n_accounts; account++) {
        for (size_t i = 0; i < n_each; i++) {
            add(n++, account);
        }
    }
    for (size_t i = 0; i < n_each; i++) {
        packet(i);
    }
    run_round();
    ovs_assert(count_in(0) == MIN(n_each, size));

    for (size_t t = 0; t < 60 * 4; t++) {
        now += 250;
        for (size_t i = 0; i < n; i++) {
            packet(i);
        }
        run_round();
    }

    unsigned int share = MAX(1, size / n_accounts);
    unsigned int total = 0, least = UINT32_MAX, most = 0;
    for (uint32_t account = 0; account < n_accounts; account++) {
        unsigned int n_in = count_in(account);

        total += n_in;
        least = MIN(least, n_in);
        most = MAX(most, n_in);
    }
    ovs_assert(total == MIN(size, n));
    if (n_accounts <= size) {
        ovs_assert(least >= MIN(share, n_each));
        ovs_assert(most <= share + size % n_accounts || total < size
                   || n_each <= share);
    } else {
        ovs_assert(most == 1);
    }

    /* They stay: there is no more thrashing once shares are right. */
    n_evicted = 0;
    for (size_t t = 0; t < 20 * 4; t++) {
        now += 250;
        for (size_t i = 0; i < n; i++) {
            packet(i);
        }
        run_round();
    }
    ovs_assert(!n_evicted);

    /* The others' demand ends, and their flows become idle: the first may have
     * all. */
    for (size_t t = 0; t < 20 * 4; t++) {
        struct simnic_candidate *c;

        now += 250;
        for (size_t i = 0; i < n_each; i++) {
            packet(i);
        }
        while ((c = simnic_placement_find_idle(p, now - 10000)) != NULL) {
            simnic_placement_leave(p, c);
        }
        run_round();
    }
    ovs_assert(count_in(0) == MIN(n_each, size));
    stop();
}

static void
test_fair(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    for (unsigned int size = 1; size <= 64; size++) {
        for (unsigned int n_accounts = 1; n_accounts <= 8; n_accounts++) {
            test_fair__(size, n_accounts, 3);
            test_fair__(size, n_accounts, 100);
        }
    }
    test_fair__(1024, 3, 1024);
    test_fair__(1000, 129, 31);
}

static void
test_thrash(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    static const unsigned int sizes[] = { 1, 16, 100, 1000 };

    for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
        unsigned int max = MAX(SIMNIC_MIN_EVICTIONS, sizes[s] / 8);
        long long int start_time;
        size_t next;

        /* The account's flows come and go: each has a packet once only. */
        start(sizes[s]);
        start_time = now;
        for (size_t i = 0; i < MAX_FLOWS; i++) {
            add(i, 0);
        }
        next = 0;
        for (size_t t = 0; t < 30000; t++) {
            now++;
            packet(next);
            if (flows[next].candidate.place == SIMNIC_PLACE_WAITING) {
                try(&flows[next].candidate);
            }
            if (flows[next].candidate.place == SIMNIC_PLACE_WAITING) {
                simnic_placement_leave(p, &flows[next].candidate);
            }
            next = (next + 1) % MAX_FLOWS;
        }
        ovs_assert(n_evicted);
        ovs_assert(n_evicted
                   <= max * (1 + (now - start_time) / 1000));
        ovs_assert(n_evicted
                   <= sizes[s] * (1 + (now - start_time)
                                  / SIMNIC_MIN_RESIDENCE));
        stop();
    }
}

static void
test_shrink(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    struct simnic_candidate *c;

    start(100);
    for (size_t i = 0; i < 90; i++) {
        add(i, 0);
        packet(i);
        try(&flows[i].candidate);
        now++;
    }
    for (size_t i = 90; i < 100; i++) {
        add(i, 1);
        packet(i);
        try(&flows[i].candidate);
        now++;
    }
    ovs_assert(simnic_placement_n_in(p) == 100);
    ovs_assert(!simnic_placement_find_surplus(p));

    /* Those of the larger account leave, the oldest first. */
    table_size = 20;
    simnic_placement_set_table_size(p, table_size);
    for (size_t i = 0; (c = simnic_placement_find_surplus(p)) != NULL; i++) {
        ovs_assert(c == &flows[i].candidate);
        simnic_placement_evict(p, c);
    }
    ovs_assert(count_in(0) == 10 && count_in(1) == 10);

    table_size = 30;
    simnic_placement_set_table_size(p, table_size);
    for (size_t i = 0; i < 100; i++) {
        packet(i);
    }
    run_round();
    ovs_assert(count_in(0) == 20 && count_in(1) == 10);
    stop();
}

static void
test_random(struct ovs_cmdl_context *ctx)
{
    static const unsigned int sizes[] = { 0, 1, 2, 3, 5, 16, 64, 500 };
    int n = atoi(ctx->argv[2]);

    random_set_seed(atoi(ctx->argv[1]));
    for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
        struct simnic_candidate *c;

        start(sizes[s]);
        for (int step = 0; step < n; step++) {
            size_t i = random_range(MAX_FLOWS / 4);

            now += random_range(20);
            if (!flows[i].added) {
                add(i, random_range(6));
                packet(i);
            } else if (!random_range(50)) {
                simnic_placement_remove(p, &flows[i].candidate);
                flows[i].added = false;
            } else {
                packet(i);
            }
            if (!random_range(20)) {
                run_round();
            }
            if (!random_range(20)) {
                c = simnic_placement_find_idle(p, now - 3000);
                if (c) {
                    ovs_assert(flow_from_candidate(c)->used < now - 3000);
                    simnic_placement_leave(p, c);
                }
            }
            if (!random_range(500)) {
                table_size = random_range(2 * sizes[s] + 1);
                simnic_placement_set_table_size(p, table_size);
                while ((c = simnic_placement_find_surplus(p)) != NULL) {
                    simnic_placement_evict(p, c);
                }
            }
            ovs_assert(simnic_placement_n_in(p) <= table_size);
        }

        unsigned int total = 0;
        for (uint32_t account = 0; account < 6; account++) {
            total += count_in(account);
        }
        ovs_assert(total == simnic_placement_n_in(p));

        struct ds ds = DS_EMPTY_INITIALIZER;
        simnic_placement_format(p, &ds);
        ds_destroy(&ds);
        stop();
    }
}

static const struct ovs_cmdl_command commands[] = {
    { "room", NULL, 0, 0, test_room, OVS_RO },
    { "lru", "seed", 1, 1, test_lru, OVS_RO },
    { "fair", NULL, 0, 0, test_fair, OVS_RO },
    { "thrash", NULL, 0, 0, test_thrash, OVS_RO },
    { "shrink", NULL, 0, 0, test_shrink, OVS_RO },
    { "random", "seed n", 2, 2, test_random, OVS_RO },
    { NULL, NULL, 0, 0, NULL, OVS_RO },
};

int
main(int argc, char *argv[])
{
    struct ovs_cmdl_context ctx = { .argc = argc - 1, .argv = argv + 1 };

    set_program_name(argv[0]);
    ovs_cmdl_run_command(&ctx, commands);
    return 0;
}
