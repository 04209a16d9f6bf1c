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

#include "layered/lib/simnic-private.h"

#include <ctype.h>
#include <errno.h>

#include "connectivity.h"
#include "coverage.h"
#include "layered/lib/simnic-caps.h"
#include "layered/lib/simnic-link.h"
#include "layered/lib/simnic-switch.h"
#include "odp-util.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "timeval.h"
#include "util.h"

VLOG_DEFINE_THIS_MODULE(simnic);

/* How often a link that cannot be opened is tried again, in ms. */
#define REOPEN_INTERVAL 1000

/* A thread that finds no frames looks this often before it sleeps.  It takes
 * some time to fall asleep and to wake up. */
#define SPIN_ROUNDS 8

/* Waits until what has been postponed so far is done.  (checkpatch.py warns of
 * calls by the other name, since a grace period is mostly enough.  Where this
 * is used it is not: the function has to have been called.) */
#define wait_for_postponed ovsrcu_barrier

struct ovs_mutex simnic_nics_mutex = OVS_MUTEX_INITIALIZER;

/* All NICs, by name. */
struct shash simnic_nics OVS_GUARDED_BY(simnic_nics_mutex)
    = SHASH_INITIALIZER(&simnic_nics);

/* Adapters. */

void
simnic_config_init(struct simnic_config *config)
{
    *config = (struct simnic_config) {
        .table_size = SIMNIC_DEFAULT_TABLE_SIZE,
        .caps = SIMNIC_CAPS_ALL,
        .miss_path = SIMNIC_MISS_HOST,
        .idle_timeout = SIMNIC_DEFAULT_IDLE_TIMEOUT,
        .n_threads = 1,
        .driver_list = false,
    };
}

static struct simnic *
nic_create(const char *name)
    OVS_REQUIRES(simnic_nics_mutex)
{
    struct simnic *nic = xzalloc(sizeof *nic);

    nic->name = xstrdup(name);
    ovs_refcount_init(&nic->ref_cnt);
    nic->seq = seq_create();
    ovs_mutex_init(&nic->mutex);
    simnic_config_init(&nic->config);
    classifier_init(&nic->table, NULL);
    ovs_list_init(&nic->flows);
    shash_add(&simnic_nics, name, nic);
    return nic;
}

static void
nic_destroy(struct simnic *nic)
{
    classifier_destroy(&nic->table);
    ovs_mutex_destroy(&nic->mutex);
    seq_destroy(nic->seq);
    free(nic->name);
    free(nic);
}

/* Returns the NIC 'name', with a reference for the caller.  If there is none,
 * creates it if 'create', and otherwise returns NULL. */
static struct simnic *
nic_get(const char *name, bool create)
{
    struct simnic *nic;

    ovs_mutex_lock(&simnic_nics_mutex);
    nic = shash_find_data(&simnic_nics, name);
    if (nic) {
        ovs_refcount_ref(&nic->ref_cnt);
    } else if (create) {
        nic = nic_create(name);
    }
    ovs_mutex_unlock(&simnic_nics_mutex);
    return nic;
}

/* Returns the NIC 'name', with a reference for the caller, or NULL if there is
 * none. */
struct simnic *
simnic_find(const char *name)
{
    return nic_get(name, false);
}

struct simnic *
simnic_ref(const struct simnic *nic_)
{
    struct simnic *nic = CONST_CAST(struct simnic *, nic_);

    ovs_refcount_ref(&nic->ref_cnt);
    return nic;
}

void
simnic_unref(struct simnic *nic)
{
    if (nic) {
        ovs_mutex_lock(&simnic_nics_mutex);
        if (ovs_refcount_unref(&nic->ref_cnt) == 1) {
            shash_find_and_delete(&simnic_nics, nic->name);
            ovsrcu_postpone(nic_destroy, nic);
        }
        ovs_mutex_unlock(&simnic_nics_mutex);
    }
}

const char *
simnic_get_name(const struct simnic *nic)
{
    return nic->name;
}

/* Returns what changes whenever there may be something for the driver of 'nic'
 * to look after: the configuration, a reset, a link that went up or down. */
struct seq *
simnic_get_seq(const struct simnic *nic)
{
    return nic->seq;
}

/* Stores the configuration of 'nic' in '*config' and returns true if it has
 * one, that is, if it runs. */
bool
simnic_get_config(const struct simnic *nic_, struct simnic_config *config)
{
    struct simnic *nic = CONST_CAST(struct simnic *, nic_);
    bool configured;

    ovs_mutex_lock(&nic->mutex);
    *config = nic->config;
    configured = nic->configured;
    ovs_mutex_unlock(&nic->mutex);
    return configured;
}

/* Returns true if 'nic' is being reset, so that it takes no flows. */
bool
simnic_is_resetting(const struct simnic *nic_)
{
    struct simnic *nic = CONST_CAST(struct simnic *, nic_);
    long long int until;

    atomic_read_relaxed(&nic->reset_until, &until);
    return time_msec() < until;
}

void
simnic_count_event(struct simnic *nic, enum simnic_event event)
{
    SIMNIC_ADD(nic->events[event], 1);
}

/* Threads. */

/* Has 'thread' sleep until there may be something to do. */
static void
thread_sleep(struct simnic_thread *thread, uint64_t wake_seqno)
{
    const struct simnic_functions *functions
        = ovsrcu_get(struct simnic_functions *, &thread->functions);

    for (size_t i = 0; i < functions->n; i++) {
        struct simnic_link *link = ovsrcu_get(struct simnic_link *,
                                              &functions->array[i]->link);

        if (link) {
            simnic_link_wait(link);
        }
    }
    seq_wait(thread->wake_seq, wake_seqno);
    poll_block();
}

/* Takes frames from the functions of 'thread'.  Those that had none for some
 * rounds are passed over in more and more rounds, up to 63 of 64, unless
 * 'all': looking in vain costs about as much as forwarding some frames.
 * Returns true if there were any frames. */
static bool
poll_functions(struct simnic_thread *thread, unsigned int round, bool all)
{
    const struct simnic_functions *functions
        = ovsrcu_get(struct simnic_functions *, &thread->functions);
    bool busy = false;

    for (size_t i = 0; i < functions->n; i++) {
        struct simnic_function *function = functions->array[i];

        if (all || !(round & ((1u << MIN(function->idle, 6)) - 1))) {
            if (simnic_bridge_poll(thread, function)) {
                function->idle = 0;
                busy = true;
            } else {
                function->idle++;
            }
        }
    }
    return busy;
}

static void *
thread_main(void *thread_)
{
    struct simnic_thread *thread = thread_;
    unsigned int idle = 0;              /* Rounds without any frame. */
    unsigned int round = 0;

    while (!simnic_read_bool(&thread->exit)
           && !simnic_read_bool(&thread->die)) {
        uint64_t wake_seqno = seq_read(thread->wake_seq);
        bool busy = simnic_bridge_run_holds(thread);

        busy |= poll_functions(thread, round++, idle > 0);
        if (busy) {
            idle = 0;
        } else if (++idle >= SPIN_ROUNDS) {
            thread_sleep(thread, wake_seqno);
        }
        if (!(round % 1024)) {
            coverage_try_clear();
        }
        ovsrcu_quiesce();
    }
    simnic_bridge_give_up_holds(thread);
    if (!simnic_read_bool(&thread->exit)) {
        SIMNIC_ADD(thread->nic->thread_deaths, 1);
        VLOG_ERR("%s: thread %d has died", thread->nic->name, thread->id);
    }
    atomic_store(&thread->alive, false);
    return NULL;
}

/* Wakes up the threads of 'nic'. */
static void
wake_threads(struct simnic *nic)
    OVS_REQUIRES(nic->mutex)
{
    for (size_t i = 0; i < nic->n_threads; i++) {
        seq_change(nic->threads[i]->wake_seq);
    }
}

/* Waits until no thread of 'nic' uses anything that it has found before this
 * is called.  Takes no longer than a batch of frames does. */
void
simnic_sync_threads(struct simnic *nic)
{
    atomic_thread_fence(memory_order_seq_cst);
    for (size_t i = 0; i < nic->n_threads; i++) {
        struct simnic_thread *thread = nic->threads[i];
        uint64_t before, now;

        atomic_read_explicit(&thread->batches, &before, memory_order_acquire);
        now = before;
        while (before % 2 && now == before) {
            sched_yield();
            atomic_read_explicit(&thread->batches, &now,
                                 memory_order_acquire);
        }
    }
}

static void
thread_start(struct simnic_thread *thread)
{
    char *name = xasprintf("simnic_%s_%d", thread->nic->name, thread->id);

    atomic_store(&thread->exit, false);
    atomic_store(&thread->die, false);
    atomic_store(&thread->alive, true);
    thread->restart = 0;
    thread->pthread = ovs_thread_create(name, thread_main, thread);
    free(name);
}

static struct simnic_thread *
thread_create(struct simnic *nic, int id)
{
    struct simnic_thread *thread = xzalloc_cacheline(sizeof *thread);
    struct simnic_functions *none = xzalloc(sizeof *none);

    thread->nic = nic;
    thread->id = id;
    thread->wake_seq = seq_create();
    ovs_list_init(&thread->holds);
    for (size_t i = 0; i < ARRAY_SIZE(thread->tx); i++) {
        dp_packet_batch_init(&thread->tx[i].batch);
    }
    ovsrcu_init(&thread->functions, none);
    return thread;
}

static void
thread_destroy(struct simnic_thread *thread)
{
    atomic_store(&thread->exit, true);
    seq_change(thread->wake_seq);
    xpthread_join(thread->pthread, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(thread->tx); i++) {
        dp_packet_batch_destroy(&thread->tx[i].batch);
    }
    seq_destroy(thread->wake_seq);
    ovsrcu_postpone(free, ovsrcu_get_protected(struct simnic_functions *,
                                               &thread->functions));
    free_cacheline(thread);
}

/* Tells each thread of 'nic' which functions it has.  Returns once none uses
 * any other. */
static void
assign_functions(struct simnic *nic)
    OVS_REQUIRES(nic->mutex)
{
    for (size_t i = 0; i < nic->n_threads; i++) {
        struct simnic_thread *thread = nic->threads[i];
        struct simnic_functions *functions, *old;

        functions = xmalloc(sizeof *functions + (SIMNIC_MAX_FUNCTIONS
                                                 * sizeof(void *)));
        functions->n = 0;
        for (size_t j = i; j < SIMNIC_MAX_FUNCTIONS; j += nic->n_threads) {
            if (nic->functions[j]) {
                functions->array[functions->n++] = nic->functions[j];
            }
        }
        old = ovsrcu_get_protected(struct simnic_functions *,
                                   &thread->functions);
        ovsrcu_set(&thread->functions, functions);
        ovsrcu_postpone(free, old);
    }
    wake_threads(nic);
    simnic_sync_threads(nic);
}

static void
start_threads(struct simnic *nic, size_t n)
    OVS_REQUIRES(nic->mutex)
{
    nic->threads = xmalloc(n * sizeof *nic->threads);
    for (size_t i = 0; i < n; i++) {
        nic->threads[i] = thread_create(nic, i);
    }
    nic->n_threads = n;
    assign_functions(nic);
    for (size_t i = 0; i < n; i++) {
        thread_start(nic->threads[i]);
    }
}

static void
stop_threads(struct simnic *nic)
    OVS_REQUIRES(nic->mutex)
{
    for (size_t i = 0; i < nic->n_threads; i++) {
        thread_destroy(nic->threads[i]);
    }
    free(nic->threads);
    nic->threads = NULL;
    nic->n_threads = 0;
}

/* Starts those threads of 'nic' again that have died. */
static void
run_threads(struct simnic *nic)
    OVS_REQUIRES(nic->mutex)
{
    for (size_t i = 0; i < nic->n_threads; i++) {
        struct simnic_thread *thread = nic->threads[i];

        if (simnic_read_bool(&thread->alive)) {
            continue;
        } else if (!thread->restart) {
            thread->restart = time_msec() + SIMNIC_RESTART_MS;
            seq_change(nic->seq);
        } else if (time_msec() >= thread->restart) {
            xpthread_join(thread->pthread, NULL);
            thread_start(thread);
            VLOG_INFO("%s: thread %d has been started again", nic->name,
                      thread->id);
            seq_change(nic->seq);
        }
    }
}

/* Gives the NIC 'name' the configuration 'config', and starts it if it is not
 * running. */
void
simnic_configure(const char *name, const struct simnic_config *config)
{
    struct simnic *nic = nic_get(name, true);
    bool is_new;

    ovs_mutex_lock(&nic->mutex);
    is_new = !nic->configured;
    if (!is_new && nic->config.n_threads != config->n_threads) {
        stop_threads(nic);
    }
    nic->config = *config;
    nic->configured = true;
    atomic_store_relaxed(&nic->miss_path, config->miss_path);
    atomic_store_relaxed(&nic->driver_list, config->driver_list);
    if (!nic->n_threads) {
        start_threads(nic, config->n_threads);
    }
    ovs_mutex_unlock(&nic->mutex);
    seq_change(nic->seq);
    seq_change(connectivity_seq_get());

    if (!is_new) {
        simnic_unref(nic);      /* The configuration has one already. */
    }
}

/* Stops the NIC 'name', if it is running. */
void
simnic_unconfigure(const char *name)
{
    struct simnic *nic = simnic_find(name);
    bool configured;

    if (!nic) {
        return;
    }
    ovs_mutex_lock(&nic->mutex);
    configured = nic->configured;
    if (configured) {
        stop_threads(nic);
        simnic_flow_remove_all(nic);
        nic->configured = false;
        simnic_config_init(&nic->config);
    }
    ovs_mutex_unlock(&nic->mutex);
    seq_change(nic->seq);
    seq_change(connectivity_seq_get());

    if (configured) {
        simnic_unref(nic);
    }
    simnic_unref(nic);
}

/* Functions. */

/* Returns the index of the function 'name' ("pf0", "vf0" to "vf127"), or -1 if
 * there is none of that name. */
int
simnic_function_from_name(const char *name)
{
    unsigned int k;

    if (!strcmp(name, "pf0")) {
        return 0;
    }
    if (!strncmp(name, "vf", 2) && str_to_uint(name + 2, 10, &k)
        && k < SIMNIC_MAX_VFS && (name[2] != '0' || !name[3])
        && isdigit((unsigned char) name[2])) {
        return k + 1;
    }
    return -1;
}

const char *
simnic_function_get_name(const struct simnic_function *function)
{
    return function->name;
}

/* Returns 0 for the PF, K + 1 for VF K. */
int
simnic_function_get_index(const struct simnic_function *function)
{
    return function->index;
}

struct simnic *
simnic_function_get_nic(const struct simnic_function *function)
{
    return function->nic;
}

/* Makes 'link', which may be NULL, the link of 'function' in place of the one
 * that it has, and 'error' the reason why there is none.  A function that is
 * detached gets no link any more. */
static void
set_link(struct simnic_function *function, struct simnic_link *link,
         char *error)
{
    struct simnic_link *old;

    ovs_mutex_lock(&function->link_mutex);
    if (link && function->detached) {
        simnic_link_close_postponed(link);
        link = NULL;
    }
    old = ovsrcu_get_protected(struct simnic_link *, &function->link);
    ovsrcu_set(&function->link, link);
    free(function->link_error);
    function->link_error = error;
    ovs_mutex_unlock(&function->link_mutex);

    if (old) {
        ovs_mutex_lock(&function->nic->mutex);
        wake_threads(function->nic);
        ovs_mutex_unlock(&function->nic->mutex);
        simnic_link_close_postponed(old);
    }
    seq_change(function->nic->seq);
    seq_change(connectivity_seq_get());
}

/* Opens the link of 'function' if it should be open and is not, and closes it
 * if it should not be. */
static void
run_link(struct simnic_function *function)
{
    struct simnic *nic = function->nic;
    struct simnic_link *link = ovsrcu_get_protected(struct simnic_link *,
                                                    &function->link);
    bool vanished = simnic_read_bool(&function->vanished);
    long long int now = time_msec();
    bool configured;

    ovs_mutex_lock(&nic->mutex);
    configured = nic->configured;
    ovs_mutex_unlock(&nic->mutex);

    if (link) {
        if (!configured) {
            set_link(function, NULL, NULL);
        } else if (vanished || simnic_link_is_gone(link)) {
            VLOG_WARN("%s: %s has lost its device %s", nic->name,
                      function->name, function->netdev);
            set_link(function, NULL, xasprintf("%s: the device is gone",
                                               function->netdev));
            function->next_open = now + REOPEN_INTERVAL;
        }
    } else if (configured && !vanished && now >= function->next_open) {
        char *error = NULL;

        link = simnic_link_open(function->netdev, function->link_type,
                                &function->link_options, &error);
        if (link) {
            VLOG_INFO("%s: %s is linked to %s (%s)", nic->name,
                      function->name, function->netdev,
                      simnic_link_get_type(link));
            set_link(function, link, NULL);
            ovs_mutex_lock(&nic->mutex);
            wake_threads(nic);
            ovs_mutex_unlock(&nic->mutex);
        } else {
            bool is_news;

            ovs_mutex_lock(&function->link_mutex);
            is_news = !nullable_string_is_equal(error, function->link_error);
            ovs_mutex_unlock(&function->link_mutex);
            if (is_news) {
                VLOG_WARN("%s: %s has no link: %s", nic->name,
                          function->name, error);
                set_link(function, NULL, error);
            } else {
                free(error);
            }
            function->next_open = now + REOPEN_INTERVAL;
        }
    }
}

/* Makes the function with 'index' of the NIC 'nic_name' one whose far end is
 * the device 'netdev'.  'link_type' is a type of simnic-link.h, NULL for
 * automatic.  A device that cannot be opened is no error: it is tried again
 * every second.  Quiesces if the function is in use.
 *
 * Returns NULL and stores the function in '*functionp' if successful,
 * otherwise a message that the caller frees. */
char *
simnic_function_attach(const char *nic_name, int index, const char *netdev,
                       const char *link_type,
                       const struct smap *link_options,
                       struct simnic_function **functionp)
{
    static atomic_count last_id = ATOMIC_COUNT_INIT(0);
    struct simnic *nic = nic_get(nic_name, true);
    struct simnic_function *function;

    ovs_assert(index >= 0 && index < SIMNIC_MAX_FUNCTIONS);
    *functionp = NULL;

    ovs_mutex_lock(&nic->mutex);
    if (nic->functions[index]) {
        /* Perhaps its netdev has been deleted, but its provider of offload
         * keeps it until no thread uses it any more. */
        ovs_mutex_unlock(&nic->mutex);
        wait_for_postponed();
        ovs_mutex_lock(&nic->mutex);
    }
    if (nic->functions[index]) {
        char *error = xasprintf("%s of %s is in use already",
                                nic->functions[index]->name, nic_name);

        ovs_mutex_unlock(&nic->mutex);
        simnic_unref(nic);
        return error;
    }

    function = xzalloc_cacheline(sizeof *function);
    function->nic = nic;
    function->index = index;
    function->id = atomic_count_inc(&last_id) + 1;
    if (index) {
        snprintf(function->name, sizeof function->name, "vf%d", index - 1);
    } else {
        ovs_strlcpy(function->name, "pf0", sizeof function->name);
    }
    function->netdev = xstrdup(netdev);
    function->link_type = nullable_xstrdup(link_type);
    smap_clone(&function->link_options, link_options);
    ovsrcu_init(&function->link, NULL);
    ovs_mutex_init(&function->link_mutex);
    atomic_init(&function->port, odp_to_u32(ODPP_NONE));
    ovsrcu_init(&function->sw, NULL);
    classifier_init(&function->list, NULL);

    nic->functions[index] = function;
    assign_functions(nic);
    ovs_mutex_unlock(&nic->mutex);

    run_link(function);
    *functionp = function;
    return NULL;
}

static void
function_destroy(struct simnic_function *function)
{
    simnic_function_drain(function);
    classifier_destroy(&function->list);
    ovs_mutex_lock(&function->link_mutex);
    free(function->link_error);
    ovs_mutex_unlock(&function->link_mutex);
    ovs_mutex_destroy(&function->link_mutex);
    smap_destroy(&function->link_options);
    free(function->link_type);
    free(function->netdev);
    simnic_unref(function->nic);
    free_cacheline(function);
}

/* Undoes simnic_function_attach().  Postpones what may still be read.  Any
 * thread may call this, but for a function only once. */
void
simnic_function_detach(struct simnic_function *function)
{
    const struct simnic_switch *sw = ovsrcu_get(const struct simnic_switch *,
                                                &function->sw);
    struct simnic *nic = function->nic;
    struct simnic_flow *flow;

    if (sw) {
        uint32_t port;

        /* The provider has not been told yet that the port is no longer this
         * function, so make sure that nobody finds it. */
        atomic_read_relaxed(&function->port, &port);
        simnic_switch_remove_port(CONST_CAST(struct simnic_switch *, sw),
                                  u32_to_odp(port));
    }
    simnic_function_unbind(function);

    ovs_mutex_lock(&nic->mutex);
    nic->functions[function->index] = NULL;
    assign_functions(nic);
    LIST_FOR_EACH (flow, node, &nic->flows) {
        if (flow->condition && flow->condition->function == function) {
            classifier_remove_assert(&function->list, &flow->condition->cr);
            flow->condition->function = NULL;
        }
    }
    ovs_mutex_unlock(&nic->mutex);

    /* The main thread may be about to open the link. */
    ovs_mutex_lock(&function->link_mutex);
    function->detached = true;
    ovs_mutex_unlock(&function->link_mutex);
    set_link(function, NULL, NULL);
    ovsrcu_postpone(function_destroy, function);
}

/* Receives up to NETDEV_MAX_BURST frames that missed.  Everything received
 * before counts as dealt with: Open vSwitch has sent what it is going to send.
 * Returns 0 or EAGAIN. */
int
simnic_function_recv(struct simnic_function *function,
                     struct dp_packet_batch *batch)
{
    struct simnic_ring *ring = &function->ring;
    uint64_t tail = simnic_read(&ring->tail);
    uint64_t done = simnic_read(&ring->done);
    uint64_t head;

    if (done != tail) {
        atomic_store_explicit(&ring->done, tail, memory_order_release);
    }
    atomic_read_explicit(&ring->head, &head, memory_order_acquire);
    if (head == tail) {
        return EAGAIN;
    }
    head = MIN(head, tail + NETDEV_MAX_BURST);
    while (tail < head) {
        dp_packet_batch_add(batch, ring->frames[tail++ % SIMNIC_RING_SIZE]);
    }
    atomic_store_explicit(&ring->tail, tail, memory_order_release);
    return 0;
}

/* Has poll_block() wake up when there may be frames to receive. */
void
simnic_function_recv_wait(struct simnic_function *function)
{
    /* It is PMD threads that receive, and they do not wait. */
    if (simnic_read(&function->ring.head)
        != simnic_read(&function->ring.tail)) {
        poll_immediate_wake();
    } else {
        poll_timer_wait(1);
    }
}

/* Drops all frames that have not been received. */
void
simnic_function_drain(struct simnic_function *function)
{
    struct dp_packet_batch batch;

    dp_packet_batch_init(&batch);
    while (!simnic_function_recv(function, &batch)) {
        SIMNIC_ADD(function->stats.rx_dropped[SIMNIC_DROP_HOST_QUEUE],
                   dp_packet_batch_size(&batch));
        dp_packet_delete_batch(&batch, true);
        dp_packet_batch_reset(&batch);
    }
    dp_packet_batch_destroy(&batch);
}

/* Sends 'batch', which this takes over, from Open vSwitch to what is at the
 * far end of 'function'. */
void
simnic_function_send(struct simnic_function *function,
                     struct dp_packet_batch *batch)
{
    SIMNIC_ADD(function->stats.from_host, dp_packet_batch_size(batch));
    simnic_bridge_deliver(function, batch);
}

/* Returns "up", or what else there is to be said of the link of 'function',
 * with a reason in '*errorp', which may become NULL and which the caller
 * frees. */
const char *
simnic_link_state(struct simnic_function *function, char **errorp)
{
    struct simnic_link *link = ovsrcu_get(struct simnic_link *,
                                          &function->link);

    *errorp = NULL;
    if (simnic_read_bool(&function->link_cut)) {
        *errorp = xstrdup("cut by simnic/fault");
        return "down";
    }
    if (!link) {
        ovs_mutex_lock(&function->link_mutex);
        *errorp = nullable_xstrdup(function->link_error);
        ovs_mutex_unlock(&function->link_mutex);
        if (!*errorp) {
            *errorp = xasprintf("there is no NIC %s", function->nic->name);
        }
        return "down";
    }
    return simnic_link_is_up(link) ? "up" : "down";
}

bool
simnic_function_is_up(const struct simnic_function *function_)
{
    struct simnic_function *function = CONST_CAST(struct simnic_function *,
                                                  function_);
    char *error;
    bool up = !strcmp(simnic_link_state(function, &error), "up");

    free(error);
    return up;
}

/* Returns the MTU of the link, or a default if it is not open. */
int
simnic_function_get_mtu(const struct simnic_function *function)
{
    struct simnic_link *link = ovsrcu_get(struct simnic_link *,
                                          &function->link);

    return link ? simnic_link_get_mtu(link) : ETH_PAYLOAD_MAX;
}

/* Returns the type of the link, or NULL if it is not open. */
const char *
simnic_function_get_link_type(const struct simnic_function *function)
{
    struct simnic_link *link = ovsrcu_get(struct simnic_link *,
                                          &function->link);

    return link ? simnic_link_get_type(link) : NULL;
}

void
simnic_function_get_stats(const struct simnic_function *function,
                          struct simnic_function_stats *stats)
{
    const struct simnic_counters *c = &function->stats;

#define COPY(MEMBER) stats->MEMBER = simnic_read(&c->MEMBER);
    COPY(from_link) COPY(from_link_bytes) COPY(to_link) COPY(to_link_bytes)
    COPY(hits) COPY(hit_bytes) COPY(misses_host) COPY(misses_vm)
    COPY(synthetic) COPY(from_host) COPY(held) COPY(held_now)
    for (size_t i = 0; i < SIMNIC_N_DROPS; i++) {
        COPY(rx_dropped[i]) COPY(tx_dropped[i])
    }
#undef COPY
    stats->in_host = simnic_read(&function->ring.done);
    stats->in_host = simnic_read(&function->ring.head) - stats->in_host;
}

const char *
simnic_drop_to_string(enum simnic_drop reason)
{
    switch (reason) {
    case SIMNIC_DROP_LINK_DOWN: return "link-down";
    case SIMNIC_DROP_TX: return "tx";
    case SIMNIC_DROP_HOST_QUEUE: return "host-queue";
    case SIMNIC_DROP_RESET: return "reset";
    case SIMNIC_DROP_INVALID: return "invalid";
    case SIMNIC_DROP_ACTION: return "action";
    case SIMNIC_N_DROPS: break;
    }
    OVS_NOT_REACHED();
}

/* Makes 'function' the port 'port' of a datapath whose ports and meters are in
 * 'sw'. */
void
simnic_function_bind(struct simnic_function *function, odp_port_t port,
                     const struct simnic_switch *sw)
{
    atomic_store_relaxed(&function->port, odp_to_u32(port));
    ovsrcu_set(&function->sw, sw);
}

/* Undoes simnic_function_bind().  When it returns, no thread uses the
 * 'simnic_switch'. */
void
simnic_function_unbind(struct simnic_function *function)
{
    struct simnic *nic = function->nic;

    ovsrcu_set(&function->sw, NULL);
    atomic_store_relaxed(&function->port, odp_to_u32(ODPP_NONE));
    ovs_mutex_lock(&nic->mutex);
    simnic_sync_threads(nic);
    ovs_mutex_unlock(&nic->mutex);
}

/* Looks after all NICs: opens links that are to be open, starts threads that
 * have died. */
void
simnic_run(void)
{
    struct simnic **nics;
    struct shash_node *node;
    size_t n = 0;

    ovs_mutex_lock(&simnic_nics_mutex);
    nics = xmalloc(shash_count(&simnic_nics) * sizeof *nics);
    SHASH_FOR_EACH (node, &simnic_nics) {
        nics[n++] = simnic_ref(node->data);
    }
    ovs_mutex_unlock(&simnic_nics_mutex);

    for (size_t i = 0; i < n; i++) {
        struct simnic_function *functions[SIMNIC_MAX_FUNCTIONS];

        ovs_mutex_lock(&nics[i]->mutex);
        run_threads(nics[i]);
        memcpy(functions, nics[i]->functions, sizeof functions);
        ovs_mutex_unlock(&nics[i]->mutex);

        for (size_t j = 0; j < SIMNIC_MAX_FUNCTIONS; j++) {
            if (functions[j]) {
                run_link(functions[j]);
            }
        }
        simnic_unref(nics[i]);
    }
    free(nics);
}

/* Has poll_block() wake up when simnic_run() has something to do. */
void
simnic_wait(void)
{
    bool any;

    ovs_mutex_lock(&simnic_nics_mutex);
    any = !shash_is_empty(&simnic_nics);
    ovs_mutex_unlock(&simnic_nics_mutex);
    if (any) {
        poll_timer_wait(REOPEN_INTERVAL / 2);
    }
}
