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

#include "layered/ofproto-layered/poll-share.h"

#include "coverage.h"
#include "dpif.h"
#include "dpif-netdev.h"
#include "flow.h"
#include "layered/ofproto-layered/layer-policy.h"
#include "layered/ofproto-layered/layer-port.h"
#include "ofproto/ofproto-dpif-xlate.h"
#include "ofproto/ofproto-dpif.h"
#include "openvswitch/list.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "util.h"

COVERAGE_DEFINE(layered_poll_deferred);

/* How far a port may be ahead of another one that is busy and still be polled,
 * in cycles.  Two full batches of established packets take about as long, so
 * that ports which all send such packets take turns as if there were no
 * shares.  It adds about 10 us to what a packet waits for; a batch that opens
 * connections alone takes ten times as long.
 *
 * (Where the counter of cycles is slower than the processor, as on ARM, shares
 * are the same but in coarser steps.) */
#define QUANTUM 32768

/* A port is ahead by this at most, in cycles: as much as a batch of packets
 * takes of which each needs a translation.  What takes longer is not the
 * port's fault: the thread lost its processor for a while. */
#define MAX_AHEAD (32 * QUANTUM)

/* After so many cycles of expected work, busy ports are left to a later round:
 * 20 batches of established packets, or one that opens connections.  So
 * packets that have just come wait for one such batch and not for one of each
 * port. */
#define ROUND (8 * QUANTUM)

/* A port that gets busy is behind the clock by this at most, in cycles, and by
 * no more than it has left to others before.  So one that needs less than its
 * share is polled as soon as the round is over, even if there are many others
 * that would be next.  It is the most that a port can save up. */
#define CREDIT ROUND

/* For so long, in ms, it may be that ports are treated as what they were: with
 * layers or without. */
#define REFRESH_MS 100

/* A queue.  The first one of each port has the account for all of them. */
struct share_queue {
    size_t account;             /* Index of the queue that has the account. */
    bool charged;
    bool busy;                  /* The last poll brought packets, */
    uint64_t cost;              /* which took so many cycles. */

    size_t sibling;             /* Next queue of the port, in a circle. */

    /* The account. */
    size_t turn;                /* Queue that is polled next, if busy. */
    size_t n_busy;              /* Queues. */
    uint64_t used;              /* Cycles, from where the port got busy. */
};

struct poll_share {
    uint64_t clock;             /* The most that the least 'used' of all ports
                                 * that are busy has ever been. */
    long long int refreshed;    /* When 'charged' was, in ms. */
    size_t n;
    struct share_queue queues[];
};

/* The hook of a datapath. */
struct share_hook {
    struct dpif_netdev_poll_hook up;
    struct ovs_list list_node;  /* In 'hooks'. */
    const struct dpif_backer *backer;
};

static struct ovs_mutex mutex = OVS_MUTEX_INITIALIZER;
static struct ovs_list hooks OVS_GUARDED_BY(mutex)
    = OVS_LIST_INITIALIZER(&hooks);

/* Returns shares of the 'n' queues of 'polls', none of which is charged, for
 * the caller to free with free(). */
struct poll_share *
poll_share_create(const struct dpif_netdev_poll *polls, size_t n)
{
    struct poll_share *share = xzalloc(sizeof *share
                                       + n * sizeof share->queues[0]);

    share->clock = CREDIT;
    share->n = n;
    for (size_t i = 0; i < n; i++) {
        size_t first = 0;

        share->queues[i].sibling = i;
        while (polls[first].port_no != polls[i].port_no) {
            first++;
        }
        share->queues[i].account = share->queues[i].turn = first;
        share->queues[i].sibling = share->queues[first].sibling;
        share->queues[first].sibling = i;
    }
    return share;
}

/* Sets 'busy' of 'q' to 'busy', with its port's 'used' according to the
 * clock if the port gets busy. */
static void
set_busy(struct poll_share *share, struct share_queue *q, bool busy)
{
    struct share_queue *account = &share->queues[q->account];

    if (busy != q->busy) {
        if (!busy) {
            account->n_busy--;
        } else if (!account->n_busy++) {
            account->used = MAX(account->used, share->clock - CREDIT);
        }
        q->busy = busy;
    }
}

/* From now on charges the packets of queue number 'queue', or does not.  It
 * has to be the same for all queues of a port. */
void
poll_share_set_charged(struct poll_share *share, size_t queue, bool charged)
{
    struct share_queue *q = &share->queues[queue];

    if (charged != q->charged) {
        set_busy(share, q, false);
        q->charged = charged;
    }
}

/* Returns a queue of the port with 'account' that is busy, another one each
 * time. */
static size_t
take_turns(struct poll_share *share, struct share_queue *account)
{
    size_t i;

    do {
        i = account->turn;
        account->turn = share->queues[i].sibling;
    } while (!share->queues[i].busy);
    return i;
}

/* Says which of 'polls' are to be polled next, when 'least' is the least
 * 'used' of ports that are busy, UINT64_MAX if there are none. */
static void
choose(struct poll_share *share, struct dpif_netdev_poll *polls,
       uint64_t least)
{
    uint64_t limit = least == UINT64_MAX ? least : least + QUANTUM;
    uint64_t sum = 0;

    /* All that have nothing to send as far as is known. */
    for (size_t i = 0; i < share->n; i++) {
        const struct share_queue *q = &share->queues[i];

        polls[i].skip = (q->charged
                         && (q->busy
                             || share->queues[q->account].used > limit));
    }

    /* One of each port that is not ahead, as long as there is time. */
    for (size_t i = 0; i < share->n; i++) {
        struct share_queue *account = &share->queues[i];

        if (account->n_busy && account->used <= limit && sum < ROUND) {
            size_t turn = take_turns(share, account);

            polls[turn].skip = false;
            sum += share->queues[turn].cost;
        } else if (account->n_busy) {
            account->used = MIN(account->used, least + MAX_AHEAD);
            COVERAGE_INC(layered_poll_deferred);
        }
    }
}

/* Charges what has been polled of 'polls', the queues that 'share' was created
 * for, and says which of them are to be polled next.  A queue that nothing is
 * charged for is always one of them. */
void
poll_share_plan(struct poll_share *share, struct dpif_netdev_poll *polls)
{
    uint64_t least = UINT64_MAX;
    size_t i;

    for (i = 0; i < share->n; i++) {
        struct share_queue *q = &share->queues[i];

        if (q->charged && !polls[i].skip) {
            set_busy(share, q, polls[i].n_packets > 0);
            if (q->busy) {
                q->cost = polls[i].cycles;
                share->queues[q->account].used += q->cost;
            }
        }
        polls[i].n_packets = 0;
        polls[i].cycles = 0;
    }

    for (i = 0; i < share->n; i++) {
        const struct share_queue *account = &share->queues[i];

        if (account->n_busy) {
            least = MIN(least, account->used);
        }
    }
    if (least != UINT64_MAX) {
        share->clock = MAX(share->clock, least);
    }

    choose(share, polls, least);
}

/* The hook. */

/* Returns true if port 'port_no' of the datapath of 'backer' has layers. */
static bool
has_layers(const struct dpif_backer *backer, odp_port_t port_no)
{
    const struct flow flow = { .in_port.odp_port = port_no };
    const struct ofproto_dpif *ofproto;
    const struct layer_stack *stack;
    const struct layer_port *port;
    ofp_port_t ofp_port;

    ofproto = xlate_lookup_ofproto(backer, &flow, &ofp_port, NULL);
    port = ofproto ? layer_port_lookup_number(ofproto, ofp_port) : NULL;
    stack = port ? layer_snapshot_stack(layer_snapshot_get(), port) : NULL;
    return stack && stack->n;
}

/* Implementation of 'plan' in struct dpif_netdev_poll_hook. */
static void
plan(struct dpif_netdev_poll_hook *up, struct dpif_netdev_poll *polls,
     size_t n, long long int now, void **aux)
{
    struct share_hook *hook = CONTAINER_OF(up, struct share_hook, up);
    struct poll_share *share = *aux;

    if (OVS_UNLIKELY(!share)) {
        share = *aux = poll_share_create(polls, n);
        share->refreshed = now - REFRESH_MS;
    }
    if (OVS_UNLIKELY(now - share->refreshed >= REFRESH_MS)) {
        share->refreshed = now;
        for (size_t i = 0; i < n; i++) {
            poll_share_set_charged(share, i,
                                   has_layers(hook->backer,
                                              polls[i].port_no));
        }
    }
    poll_share_plan(share, polls);
}

/* Returns the hook of 'backer', NULL if it has none. */
static struct share_hook *
find(const struct dpif_backer *backer)
    OVS_REQUIRES(mutex)
{
    struct share_hook *hook;

    LIST_FOR_EACH (hook, list_node, &hooks) {
        if (hook->backer == backer) {
            return hook;
        }
    }
    return NULL;
}

/* Has the VM ports of 'backer' that a thread polls share its time, if it is a
 * userspace datapath, until poll_share_disable().  For the main thread. */
void
poll_share_enable(struct dpif_backer *backer)
{
    struct share_hook *hook;

    if (!dpif_is_netdev(backer->dpif)) {
        return;
    }
    ovs_mutex_lock(&mutex);
    if (!find(backer)) {
        hook = xmalloc(sizeof *hook);
        hook->up.plan = plan;
        hook->backer = backer;
        ovs_list_push_back(&hooks, &hook->list_node);
        dpif_netdev_set_poll_hook(backer->dpif, &hook->up);
    }
    ovs_mutex_unlock(&mutex);
}

/* Undoes poll_share_enable(), if need be.  For the main thread, before
 * 'backer' is closed, which waits for the RCU grace period. */
void
poll_share_disable(struct dpif_backer *backer)
{
    struct share_hook *hook;

    ovs_mutex_lock(&mutex);
    hook = find(backer);
    if (hook) {
        dpif_netdev_set_poll_hook(backer->dpif, NULL);
        ovs_list_remove(&hook->list_node);
        ovsrcu_postpone(free, hook);
    }
    ovs_mutex_unlock(&mutex);
}
