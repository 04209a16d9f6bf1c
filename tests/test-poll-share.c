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

/* Tests how ports share the time of a polling thread (poll-share.h), in
 * simulated cycles.  Usage:
 *
 *    equal            ports that always have packets get equal times
 *    queues           a port with several queues gets the time of one port
 *    idle             time that others leave is used, and none is saved up
 *    bursts           nor is any gained by sending in bursts
 *    light            a port that needs less than its share gets all of it
 *    many             the same beside many ports, with many queues
 *    uplink           other ports are polled in each round
 *    delay            the thread loses its processor
 *    come-and-go      ports get and lose their layers, and fall silent */

#include <config.h>

#undef NDEBUG
#include "layered/ofproto-layered/poll-share.h"

#include <stdlib.h>

#include "command-line.h"
#include "dpif-netdev.h"
#include "util.h"

#define BATCH 32
#define MAX_QUEUES 8

/* Cycles that a poll takes at least. */
#define POLL_COST 100

/* Cycles in a simulation: those of about half a second. */
#define DURATION 1000000000

/* A receive queue, and what is on its way to it. */
struct test_queue {
    unsigned int port;
    unsigned int cost;          /* Of a packet, in cycles. */
    double rate;                /* Packets for each cycle. */
    double waiting;             /* Packets. */

    uint64_t cycles;            /* That its packets have taken. */
    uint64_t n_packets;         /* Polled. */
    uint64_t n_skipped;         /* Rounds. */
    double max_waiting;
};

static struct test_queue queues[MAX_QUEUES];
static struct dpif_netdev_poll polls[MAX_QUEUES];
static struct poll_share *share;
static size_t n_queues;
static uint64_t n_rounds;

/* So many packets that a queue never gets empty. */
static const double ENDLESS = 1;

/* Begins with a queue for each port number in 'ports', -1 behind the last one.
 * Those of ports from 100 on are not charged. */
static void
start(const int *ports)
{
    memset(queues, 0, sizeof queues);
    memset(polls, 0, sizeof polls);
    n_rounds = 0;
    for (n_queues = 0; ports[n_queues] >= 0; n_queues++) {
        queues[n_queues].port = ports[n_queues];
        polls[n_queues].port_no = u32_to_odp(ports[n_queues]);
    }
    share = poll_share_create(polls, n_queues);
    for (size_t i = 0; i < n_queues; i++) {
        poll_share_set_charged(share, i, ports[i] < 100);
    }
}

static void
stop(void)
{
    free(share);
}

static void
load(size_t i, unsigned int cost, double rate)
{
    queues[i].cost = cost;
    queues[i].rate = rate;
    queues[i].waiting = 0;
}

static void
reset_counters(void)
{
    n_rounds = 0;
    for (size_t i = 0; i < n_queues; i++) {
        queues[i].cycles = queues[i].n_packets = queues[i].n_skipped = 0;
        queues[i].max_waiting = 0;
    }
}

/* Has 'cycles' pass, in which packets arrive. */
static void
advance(uint64_t cycles)
{
    for (size_t i = 0; i < n_queues; i++) {
        struct test_queue *q = &queues[i];

        q->waiting += q->rate * cycles;
        q->max_waiting = MAX(q->max_waiting, q->waiting);
    }
}

/* Has the thread run for 'duration' cycles, and returns those in which it did
 * something other than polling in vain. */
static uint64_t
run(uint64_t duration)
{
    uint64_t elapsed = 0, busy = 0;

    while (elapsed < duration) {
        uint64_t before = elapsed;

        poll_share_plan(share, polls);
        for (size_t i = 0; i < n_queues; i++) {
            struct test_queue *q = &queues[i];

            if (polls[i].skip) {
                q->n_skipped++;
                continue;
            }

            unsigned int n = MIN(q->waiting, BATCH);
            uint64_t cycles = POLL_COST + (uint64_t) n * q->cost;

            q->waiting -= n;
            q->n_packets += n;
            if (n) {
                q->cycles += cycles;
                busy += cycles;
            }
            polls[i].n_packets += n;
            polls[i].cycles += cycles;
            elapsed += cycles;
            advance(cycles);
        }
        n_rounds++;
        ovs_assert(elapsed > before);   /* Some queue has been polled. */
    }
    return busy;
}

/* Fails unless 'a' and 'b' differ by 'percent' of 'b' at most. */
static void
check_near(uint64_t a, uint64_t b, unsigned int percent)
{
    uint64_t difference = a > b ? a - b : b - a;

    if (difference * 100 > b * percent) {
        ovs_fatal(0, "%"PRIu64" instead of %"PRIu64, a, b);
    }
}

static void
test_equal(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    /* Established packets, packets that open connections, packets that each
     * need a translation. */
    start((int[]) { 1, 2, 3, -1 });
    load(0, 400, ENDLESS);
    load(1, 15000, ENDLESS);
    load(2, 30000, ENDLESS);
    run(DURATION);
    for (size_t i = 0; i < 3; i++) {
        check_near(queues[i].cycles, DURATION / 3, 2);
    }
    stop();

    /* Ports that send the same need not wait. */
    start((int[]) { 1, 2, -1 });
    load(0, 400, ENDLESS);
    load(1, 440, ENDLESS);
    run(DURATION);
    check_near(queues[0].cycles, DURATION / 2, 2);
    check_near(queues[1].cycles, DURATION / 2, 2);
    ovs_assert(queues[0].n_skipped == 0);
    ovs_assert(queues[1].n_skipped < n_rounds / 5);
    stop();
}

static void
test_queues(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    start((int[]) { 1, 2, 1, 1, -1 });
    load(0, 15000, ENDLESS);
    load(1, 400, ENDLESS);
    load(2, 15000, ENDLESS);
    load(3, 15000, ENDLESS);
    run(DURATION);
    check_near(queues[1].cycles, DURATION / 2, 2);
    for (size_t i = 0; i < 4; i++) {
        if (i != 1) {
            check_near(queues[i].cycles, DURATION / 6, 5);
        }
    }
    stop();
}

static void
test_idle(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    start((int[]) { 1, 2, -1 });

    /* No other port has packets. */
    load(0, 15000, ENDLESS);
    load(1, 400, 0);
    run(DURATION);
    ovs_assert(queues[0].n_skipped == 0);
    check_near(queues[0].cycles, DURATION, 1);

    /* From now on, one has, as much as from the beginning. */
    reset_counters();
    load(1, 400, ENDLESS);
    run(DURATION / 100);
    check_near(queues[1].cycles, DURATION / 200, 20);
    run(DURATION);
    check_near(queues[1].cycles, queues[0].cycles, 2);

    /* The first one alone again, and at once. */
    load(1, 400, 0);
    reset_counters();
    run(DURATION / 100);
    ovs_assert(queues[0].n_skipped <= 1);
    stop();
}

static void
test_bursts(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    for (int n = 1; n <= 1024; n *= 2) {
        /* Every time that it has sent 'n' packets, the second port is idle
         * for at least a round. */
        start((int[]) { 1, 2, -1 });
        load(0, 400, ENDLESS);
        load(1, 15000, 0);
        for (int i = 0; i < DURATION / 20000; i++) {
            if (!queues[1].waiting) {
                run(1);
                queues[1].waiting = n;
            }
            run(20000);
        }
        ovs_assert(queues[0].cycles > queues[1].cycles / 100 * 98);
        stop();
    }
}

static void
test_light(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    /* A third of the time, and no more packets waiting than arrive while a
     * batch of the other port is being forwarded, and these are. */
    double rate = 1 / 1200.;

    start((int[]) { 1, 2, -1 });
    load(0, 400, rate);
    load(1, 15000, ENDLESS);
    uint64_t busy = run(DURATION);
    check_near(queues[0].n_packets, rate * DURATION, 1);
    ovs_assert(queues[0].max_waiting < 2 * BATCH * 15000 * rate);
    check_near(busy, DURATION, 5);
    ovs_assert(queues[1].cycles > DURATION / 2);
    stop();
}

static void
test_many(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    /* Nor does it matter how many others there are. */
    double rate = 1 / 5000.;

    start((int[]) { 2, 2, 3, 4, 1, 5, 6, 6, -1 });
    for (size_t i = 0; i < n_queues; i++) {
        load(i, 15000, ENDLESS);
    }
    load(4, 400, rate);
    run(DURATION / 10);
    reset_counters();
    run(DURATION);
    check_near(queues[4].n_packets, rate * DURATION, 1);
    ovs_assert(queues[4].max_waiting < 2 * BATCH * 15000 * rate);
    check_near(queues[0].cycles + queues[1].cycles, queues[2].cycles, 2);
    check_near(queues[6].cycles + queues[7].cycles, queues[5].cycles, 2);
    check_near(queues[0].cycles, queues[1].cycles, 5);
    check_near(queues[3].cycles, queues[5].cycles, 2);
    stop();
}

static void
test_uplink(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    start((int[]) { 100, 1, 2, 100, -1 });
    load(0, 15000, ENDLESS);
    load(1, 400, ENDLESS);
    load(2, 15000, ENDLESS);
    run(DURATION);
    ovs_assert(!queues[0].n_skipped && !queues[3].n_skipped);
    ovs_assert(queues[0].n_packets >= BATCH * (n_rounds - 1));
    check_near(queues[1].cycles, queues[2].cycles, 2);
    stop();
}

static void
test_delay(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    start((int[]) { 1, 2, -1 });
    load(0, 400, ENDLESS);
    load(1, 400, ENDLESS);
    run(DURATION / 10);

    /* While the packets of the first port are forwarded, something else has
     * the processor, for as long as the whole simulation. */
    polls[0].cycles += DURATION;
    reset_counters();
    run(DURATION / 100);
    check_near(queues[0].cycles, queues[1].cycles, 25);
    stop();
}

static void
test_come_and_go(struct ovs_cmdl_context *ctx OVS_UNUSED)
{
    start((int[]) { 1, 2, 3, -1 });
    for (size_t i = 0; i < 3; i++) {
        load(i, i ? 400 : 15000, ENDLESS);
    }
    run(DURATION / 10);

    /* One that loses its layers is not limited. */
    poll_share_set_charged(share, 0, false);
    reset_counters();
    run(DURATION / 10);
    ovs_assert(!queues[0].n_skipped);
    check_near(queues[1].cycles, queues[2].cycles, 2);

    /* The last one that has some has nobody to wait for. */
    poll_share_set_charged(share, 1, false);
    reset_counters();
    run(DURATION / 10);
    ovs_assert(!queues[0].n_skipped && !queues[1].n_skipped
               && !queues[2].n_skipped);

    /* With layers again, all are equal. */
    poll_share_set_charged(share, 0, true);
    poll_share_set_charged(share, 1, true);
    run(DURATION / 10);
    reset_counters();
    run(DURATION);
    for (size_t i = 0; i < 3; i++) {
        check_near(queues[i].cycles, DURATION / 3, 2);
    }

    /* The one that is furthest behind falls silent: the others go on. */
    load(1, 400, 0);
    reset_counters();
    run(DURATION);
    check_near(queues[0].cycles, DURATION / 2, 2);
    check_near(queues[2].cycles, DURATION / 2, 2);

    /* All do, and one begins again. */
    load(0, 15000, 0);
    load(2, 400, 0);
    run(DURATION / 10);
    load(0, 15000, ENDLESS);
    reset_counters();
    run(DURATION / 10);
    check_near(queues[0].cycles, DURATION / 10, 1);
    stop();

    /* Without queues there is nothing to do. */
    start((int[]) { -1 });
    poll_share_plan(share, polls);
    stop();
}

int
main(int argc, char *argv[])
{
    static const struct ovs_cmdl_command commands[] = {
        { "equal", NULL, 0, 0, test_equal, OVS_RO },
        { "queues", NULL, 0, 0, test_queues, OVS_RO },
        { "idle", NULL, 0, 0, test_idle, OVS_RO },
        { "bursts", NULL, 0, 0, test_bursts, OVS_RO },
        { "light", NULL, 0, 0, test_light, OVS_RO },
        { "many", NULL, 0, 0, test_many, OVS_RO },
        { "uplink", NULL, 0, 0, test_uplink, OVS_RO },
        { "delay", NULL, 0, 0, test_delay, OVS_RO },
        { "come-and-go", NULL, 0, 0, test_come_and_go, OVS_RO },
        { NULL, NULL, 0, 0, NULL, OVS_RO },
    };
    struct ovs_cmdl_context ctx = { .argc = argc - 1, .argv = argv + 1 };

    set_program_name(argv[0]);
    ovs_cmdl_run_command(&ctx, commands);
    return 0;
}
