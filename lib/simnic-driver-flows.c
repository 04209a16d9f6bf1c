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

#include "layered/lib/simnic-driver-private.h"

#include <errno.h>
#include <string.h>

#include "coverage.h"
#include "dp-packet.h"
#include "flow.h"
#include "hash.h"
#include "layered/lib/simnic-caps.h"
#include "layered/lib/simnic-switch.h"
#include "netdev.h"
#include "netlink.h"
#include "odp-util.h"
#include "openvswitch/vlog.h"
#include "ovs-rcu.h"
#include "packets.h"
#include "timeval.h"
#include "tnl-ports.h"
#include "util.h"
#include "uuid.h"

VLOG_DEFINE_THIS_MODULE(dpif_offload_simnic);

COVERAGE_DEFINE(simnic_driver_demand);
COVERAGE_DEFINE(simnic_driver_look);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(60, 60);

static void
add_stats(struct dpif_flow_stats *sum, const struct dpif_flow_stats *stats)
{
    sum->n_packets += stats->n_packets;
    sum->n_bytes += stats->n_bytes;
    sum->used = MAX(sum->used, stats->used);
    sum->tcp_flags |= stats->tcp_flags;
}

long long int
driver_candidate_used(const struct simnic_candidate *c)
{
    struct dpif_flow_stats stats;

    simnic_flow_get_stats(entry_from_candidate(c)->flow, &stats);
    return stats.used;
}

/* Watches
 * ======= */

static void
watch_free(struct watch *w)
{
    cls_rule_destroy(&w->cr);
    free(w);
}

static void
watch_unref(struct watch *w)
{
    if (ovs_refcount_unref(&w->ref_cnt) == 1) {
        ovsrcu_postpone(watch_free, w);
    }
}

void
driver_watch_create(struct simnic_driver *d, struct entry *e)
    OVS_REQUIRES(d->mutex)
{
    struct watch *w;
    uint32_t old;

    if (e->watch || classifier_find_minimatch_exactly(&d->outside, &e->match,
                                                      0, OVS_VERSION_MAX)) {
        return;
    }
    w = xzalloc(sizeof *w);
    cls_rule_init_from_minimatch(&w->cr, &e->match, 0);
    ovs_refcount_init(&w->ref_cnt);
    atomic_init(&w->marked, false);
    w->entry = e;
    e->watch = w;
    classifier_insert(&d->outside, &w->cr, OVS_VERSION_MIN, NULL, 0);
    atomic_add(e->port->tunnel ? &d->n_tunnel_outside : &e->port->n_outside,
               1, &old);
}

static void
watch_destroy(struct simnic_driver *d, struct entry *e)
    OVS_REQUIRES(d->mutex)
{
    struct watch *w = e->watch;
    uint32_t old;

    if (w) {
        e->watch = NULL;
        w->entry = NULL;
        classifier_remove_assert(&d->outside, &w->cr);
        atomic_sub(e->port->tunnel
                   ? &d->n_tunnel_outside : &e->port->n_outside, 1, &old);
        watch_unref(w);
    }
}

/* Marks the flow of 'flow', if it is outside the NIC. */
static void
mark_demand(struct simnic_driver *d, struct flow *flow)
{
    const struct cls_rule *cr;
    bool marked = false;
    struct watch *w;

    cr = classifier_lookup(&d->outside, OVS_VERSION_MAX, flow, NULL, NULL);
    if (!cr) {
        return;
    }
    w = CONTAINER_OF(cr, struct watch, cr);
    atomic_read_relaxed(&w->marked, &marked);
    if (!marked && atomic_compare_exchange_strong(&w->marked, &marked, true)) {
        if (ovs_refcount_try_ref_rcu(&w->ref_cnt)) {
            COVERAGE_INC(simnic_driver_demand);
            w->marked_at = time_msec();
            mpsc_queue_insert(&d->demand, &w->node);
        }
    }
}

static void
mark_tunnel_demand(struct simnic_driver *d, const struct dp_packet *packet,
                   struct flow *flow)
{
    struct flow_wildcards wc;
    struct dp_packet_batch batch;
    struct dp_packet *clone;
    struct netdev *tunnel;
    odp_port_t port_no;

    flow_wildcards_init_catchall(&wc);
    port_no = tnl_port_map_lookup(flow, &wc);
    tunnel = (port_no != ODPP_NONE
              ? simnic_switch_find_tunnel(d->sw, port_no) : NULL);
    if (!tunnel) {
        return;
    }

    dp_packet_batch_init_packet(&batch, dp_packet_clone(packet));
    netdev_pop_header(tunnel, &batch);
    DP_PACKET_BATCH_FOR_EACH (i, clone, &batch) {
        struct flow inner;

        clone->md.in_port.odp_port = port_no;
        flow_extract(clone, &inner);
        mark_demand(d, &inner);
    }
    dp_packet_delete_batch(&batch, true);
}

/* Tells 'd' that software has received 'packet' from 'port', which is a
 * function.  For PMD threads; takes no locks.  Costs next to nothing while all
 * candidates are in the NIC. */
void
simnic_driver_saw_packet(struct simnic_driver *d,
                         struct simnic_driver_port *port,
                         struct dp_packet *packet)
{
    uint32_t n_outside, n_tunnel_outside;
    struct flow flow;

    atomic_read_relaxed(&port->n_outside, &n_outside);
    atomic_read_relaxed(&d->n_tunnel_outside, &n_tunnel_outside);
    if (OVS_LIKELY(!n_outside && !n_tunnel_outside)) {
        return;
    }

    COVERAGE_INC(simnic_driver_look);
    flow_extract(packet, &flow);
    flow.in_port.odp_port = port->port_no;
    if (n_outside) {
        mark_demand(d, &flow);
    }
    if (n_tunnel_outside) {
        mark_tunnel_demand(d, packet, &flow);
    }
}

void
driver_process_demand(struct simnic_driver *d)
    OVS_REQUIRES(d->mutex)
{
    struct mpsc_queue_node *node;

    mpsc_queue_acquire(&d->demand);
    while ((node = mpsc_queue_pop(&d->demand)) != NULL) {
        struct watch *w = CONTAINER_OF(node, struct watch, node);
        long long int marked_at = w->marked_at;

        atomic_store(&w->marked, false);
        if (w->entry) {
            simnic_placement_demand(w->entry->nic->placement,
                                    &w->entry->candidate, marked_at);
        }
        watch_unref(w);
    }
    mpsc_queue_release(&d->demand);
}

/* Entries
 * ======= */

static struct entry *
find_entry(const struct simnic_driver *d, const ovs_u128 *ufid)
    OVS_REQUIRES(d->mutex)
{
    struct entry *e;

    HMAP_FOR_EACH_WITH_HASH (e, node, hash_bytes(ufid, sizeof *ufid, 0),
                             &d->entries) {
        if (ovs_u128_equals(e->ufid, *ufid)) {
            return e;
        }
    }
    return NULL;
}

struct simnic_driver_port *
driver_find_port(const struct simnic_driver *d, odp_port_t port_no)
    OVS_REQUIRES(d->mutex)
{
    struct simnic_driver_port *port;

    LIST_FOR_EACH (port, node, &d->ports) {
        if (port->port_no == port_no) {
            return port;
        }
    }
    return NULL;
}

/* Returns the first port that is a function among those that 'actions' output
 * to, NULL if there is none.  If 'e' is nonnull, also notes the functions of
 * its NIC, and the VM it is for. */
static struct simnic_driver_port *
find_outputs(const struct simnic_driver *d, const struct nlattr *actions,
             size_t actions_len, struct entry *e)
    OVS_REQUIRES(d->mutex)
{
    struct simnic_driver_port *first = NULL;
    const struct nlattr *a;
    size_t left;

    NL_ATTR_FOR_EACH (a, left, actions, actions_len) {
        struct simnic_driver_port *port = NULL;

        if (nl_attr_type(a) == OVS_ACTION_ATTR_OUTPUT) {
            port = driver_find_port(d, nl_attr_get_odp_port(a));
            if (e && port && port->nic == e->nic) {
                bitmap_set1(e->functions, port->index);
                if (!e->account) {
                    e->account = port->index;
                }
            }
        } else if (nl_attr_type(a) == OVS_ACTION_ATTR_CLONE) {
            port = find_outputs(d, nl_attr_get(a), nl_attr_get_size(a), e);
        }
        if (!first && port && port->nic) {
            first = port;
        }
    }
    return first;
}

/* Returns the NIC that a flow from 'in_port' is for: the one that it comes
 * from, or if it comes from a tunnel, the one that the outer packet comes from
 * or that it goes to. */
struct driver_nic *
driver_find_flow_nic(const struct simnic_driver *d, odp_port_t in_port,
                     odp_port_t orig_in_port, const struct nlattr *actions,
                     size_t actions_len)
    OVS_REQUIRES(d->mutex)
{
    struct simnic_driver_port *port = driver_find_port(d, in_port);

    if (port && port->tunnel) {
        port = driver_find_port(d, orig_in_port);
        if (!port || !port->nic) {
            port = find_outputs(d, actions, actions_len, NULL);
        }
    }
    return port ? port->nic : NULL;
}

static void
set_actions(struct simnic_driver *d, struct entry *e,
            const struct nlattr *actions, size_t actions_len)
    OVS_REQUIRES(d->mutex)
{
    free(e->actions);
    e->actions = xmemdup(actions, actions_len);
    e->actions_len = actions_len;

    memset(e->functions, 0, sizeof e->functions);
    e->account = 0;
    if (e->port->nic == e->nic) {
        bitmap_set1(e->functions, e->port->index);
        e->account = e->port->index;
    }
    find_outputs(d, actions, actions_len, e);
}

char *
driver_check_flow(const struct simnic_driver *d, const struct driver_nic *nic,
                  const struct match *match, const struct nlattr *actions,
                  size_t actions_len)
{
    return simnic_caps_check(nic->configured
                             ? nic->config.caps : SIMNIC_CAPS_ALL,
                             nic->nic, d->sw, match, actions, actions_len);
}

char *
driver_check_entry(const struct simnic_driver *d, const struct entry *e)
{
    struct match match;

    minimatch_expand(&e->match, &match);
    return driver_check_flow(d, e->nic, &match, e->actions, e->actions_len);
}

/* Takes 'e' out of its NIC, if it is there.  The caller must tell the
 * placement. */
void
driver_take_out(struct entry *e)
{
    if (e->flow) {
        struct dpif_flow_stats stats;

        simnic_flow_del(e->flow, &stats);
        add_stats(&e->base, &stats);
        e->flow = NULL;
    }
}

/* Takes 'e' out of its NIC for the reason 'event'. */
void
driver_evict(struct simnic_driver *d, struct entry *e, enum simnic_event event)
    OVS_REQUIRES(d->mutex)
{
    driver_take_out(e);
    if (event == SIMNIC_EV_EVICTED_IDLE) {
        e->error = 0;
        e->candidate.verdict = SIMNIC_V_ROOM;
        simnic_placement_leave(e->nic->placement, &e->candidate);
    } else {
        simnic_placement_evict(e->nic->placement, &e->candidate);
    }
    simnic_count_event(e->nic->nic, event);
    driver_watch_create(d, e);
}

/* Puts 'e', which waits, into its NIC if the placement and the NIC agree.
 * Returns true if they do. */
bool
driver_may_enter(struct simnic_driver *d, struct entry *e, long long int now)
    OVS_REQUIRES(d->mutex)
{
    struct simnic_placement *p = e->nic->placement;
    struct simnic_candidate *victim;
    struct match match;

    switch (simnic_placement_ask(p, &e->candidate, now, &victim)) {
    case SIMNIC_V_ROOM:
        break;

    case SIMNIC_V_REPLACE_OWN:
        driver_evict(d, entry_from_candidate(victim), SIMNIC_EV_EVICTED_LRU);
        break;

    case SIMNIC_V_REPLACE_OTHER:
        driver_evict(d, entry_from_candidate(victim), SIMNIC_EV_EVICTED_SHARE);
        break;

    case SIMNIC_V_OVER_SHARE:
    case SIMNIC_V_FULL:
    case SIMNIC_V_RESIDENCE:
    case SIMNIC_V_RATE:
        e->error = 0;
        return false;

    case SIMNIC_V_ERROR:
    default:
        return false;
    }

    minimatch_expand(&e->match, &match);
    e->error = simnic_flow_put(e->nic->nic, &match, e->actions,
                               e->actions_len, &e->flow);
    if (e->error) {
        VLOG_DBG_RL(&rl, "%s: put of flow "UUID_FMT" failed: %s",
                    simnic_get_name(e->nic->nic),
                    UUID_ARGS((struct uuid *) &e->ufid),
                    ovs_strerror(e->error));
        simnic_count_event(e->nic->nic, e->error == ENOSPC
                           ? SIMNIC_EV_NO_ROOM : SIMNIC_EV_PUT_FAILED);
        simnic_placement_fail(p, &e->candidate, now);
        return false;
    }
    simnic_count_event(e->nic->nic, SIMNIC_EV_PLACED);
    simnic_placement_enter(p, &e->candidate, now);
    watch_destroy(d, e);
    return true;
}

/* Returns the index of a function that 'e' is in need of and whose link is
 * down, SIMNIC_MAX_FUNCTIONS if there is none. */
size_t
driver_find_down(const unsigned long int *functions,
                 const struct driver_nic *nic)
{
    size_t i;

    BITMAP_FOR_EACH_1 (i, SIMNIC_MAX_FUNCTIONS, functions) {
        if (bitmap_is_set(nic->down, i)) {
            break;
        }
    }
    return i;
}

/* Makes 'e' a candidate of its NIC's placement, or no longer one, as it must
 * be after a change. */
void
driver_update_entry(struct simnic_driver *d, struct entry *e)
    OVS_REQUIRES(d->mutex)
{
    bool eligible = (!e->refused
                     && (driver_find_down(e->functions, e->nic)
                         == SIMNIC_MAX_FUNCTIONS));

    if (eligible && !e->candidate.account) {
        simnic_placement_add(e->nic->placement, &e->candidate, e->account);
        driver_watch_create(d, e);
    } else if (!eligible && e->candidate.account) {
        driver_take_out(e);
        simnic_placement_remove(e->nic->placement, &e->candidate);
        watch_destroy(d, e);
    }
}

/* Sets why the NIC cannot carry 'e', and takes ownership of 'refused'. */
void
driver_set_refused(struct simnic_driver *d, struct entry *e, char *refused)
    OVS_REQUIRES(d->mutex)
{
    if (refused && !e->refused) {
        simnic_count_event(e->nic->nic, SIMNIC_EV_REFUSED);
    }
    free(e->refused);
    e->refused = refused;
    driver_update_entry(d, e);
}

static void
get_entry_stats(struct entry *e, struct dpif_flow_stats *stats)
{
    *stats = e->base;
    if (e->flow) {
        struct dpif_flow_stats now;

        simnic_flow_get_stats(e->flow, &now);
        add_stats(stats, &now);
    }

    /* A NIC's statistics may lag, but what has been told is never taken
     * back. */
    stats->n_packets = MAX(stats->n_packets, e->reported.n_packets);
    stats->n_bytes = MAX(stats->n_bytes, e->reported.n_bytes);
    stats->used = MAX(stats->used, e->reported.used);
    stats->tcp_flags |= e->reported.tcp_flags;
    e->reported = *stats;
}

/* Destroys 'e'.  Moves its references to 'released'. */
void
driver_destroy_entry(struct simnic_driver *d, struct entry *e,
                     struct released *released)
    OVS_REQUIRES(d->mutex)
{
    struct reference *ref;

    driver_take_out(e);
    simnic_placement_remove(e->nic->placement, &e->candidate);
    watch_destroy(d, e);
    hmap_remove(&d->entries, &e->node);
    ovs_list_remove(&e->nic_node);
    HMAP_FOR_EACH_POP (ref, node, &e->references) {
        if (released->n >= released->allocated) {
            released->refs = x2nrealloc(released->refs, &released->allocated,
                                        sizeof *released->refs);
        }
        released->refs[released->n++] = *ref;
        free(ref);
    }
    hmap_destroy(&e->references);
    minimatch_destroy(&e->match);
    free(e->actions);
    free(e->refused);
    free(e);
}

/* Gives the references in 'released' back to the datapath.  If that were done
 * without the mutex, then the same flow could be put again in between, and the
 * datapath would take it for one that is not here, and never delete it. */
void
driver_release(struct simnic_driver *d, struct released *released)
    OVS_REQUIRES(d->mutex)
{
    for (size_t i = 0; i < released->n; i++) {
        if (d->unreference_cb) {
            d->unreference_cb(released->refs[i].pmd_id,
                              released->refs[i].reference);
        }
    }
    free(released->refs);
}

static struct reference *
find_reference(const struct entry *e, unsigned int pmd_id)
{
    struct reference *ref;

    HMAP_FOR_EACH_WITH_HASH (ref, node, hash_int(pmd_id, 0), &e->references) {
        if (ref->pmd_id == pmd_id) {
            return ref;
        }
    }
    return NULL;
}

/* Makes 'reference' what thread 'pmd_id' calls 'e'.  Returns what it has
 * called it until now, NULL if nothing. */
static void *
set_reference(struct entry *e, unsigned int pmd_id, void *reference)
{
    struct reference *ref = find_reference(e, pmd_id);
    void *previous = NULL;

    if (ref) {
        previous = ref->reference;
    } else {
        ref = xmalloc(sizeof *ref);
        ref->pmd_id = pmd_id;
        hmap_insert(&e->references, &ref->node, hash_int(pmd_id, 0));
    }
    ref->reference = reference;
    return previous;
}

/* Commands of the datapath
 * ======================== */

static struct entry *
create_entry(struct simnic_driver *d, const struct dpif_offload_flow_put *put,
             char **reason)
    OVS_REQUIRES(d->mutex)
{
    struct driver_nic *nic;
    struct entry *e;

    nic = driver_find_flow_nic(d, put->in_port, put->orig_in_port,
                               put->actions, put->actions_len);
    if (!nic) {
        *reason = xstrdup("none of its ports is a function of a NIC");
        return NULL;
    }
    *reason = driver_check_flow(d, nic, put->match, put->actions,
                                put->actions_len);
    if (*reason) {
        char *never = simnic_caps_check(SIMNIC_CAPS_ALL, nic->nic, d->sw,
                                        put->match, put->actions,
                                        put->actions_len);

        if (never) {
            free(never);
            simnic_count_event(nic->nic, SIMNIC_EV_REFUSED);
            return NULL;
        }

        /* It is for the NIC as soon as that is given more capabilities. */
    }

    e = xzalloc(sizeof *e);
    e->nic = nic;
    e->port = driver_find_port(d, put->in_port);
    e->ufid = *put->ufid;
    minimatch_init(&e->match, put->match);
    hmap_init(&e->references);
    hmap_insert(&d->entries, &e->node,
                hash_bytes(&e->ufid, sizeof e->ufid, 0));
    ovs_list_push_back(&nic->entries, &e->nic_node);
    set_actions(d, e, put->actions, put->actions_len);
    driver_set_refused(d, e, nullable_xstrdup(*reason));
    return e;
}

/* Gives 'e' the actions of 'put', in the NIC as well if it is there. */
static void
modify_entry(struct simnic_driver *d, struct entry *e,
             const struct dpif_offload_flow_put *put, char **reason)
    OVS_REQUIRES(d->mutex)
{
    if (e->actions_len == put->actions_len
        && !memcmp(e->actions, put->actions, put->actions_len)) {
        return;
    }

    uint32_t account = e->account;

    set_actions(d, e, put->actions, put->actions_len);
    *reason = driver_check_entry(d, e);
    driver_set_refused(d, e, nullable_xstrdup(*reason));
    if (e->flow) {
        int error = (account == e->account
                     ? simnic_flow_modify(e->flow, e->actions, e->actions_len)
                     : 0);

        /* Never leave it there with the actions of old. */
        if (error || account != e->account) {
            driver_take_out(e);
            simnic_placement_leave(e->nic->placement, &e->candidate);
            driver_watch_create(d, e);
        }
        if (error) {
            e->error = error;
            simnic_count_event(e->nic->nic, SIMNIC_EV_PUT_FAILED);
            simnic_placement_fail(e->nic->placement, &e->candidate,
                                  time_msec());
        }
    }
    if (account != e->account && e->candidate.account) {
        simnic_placement_remove(e->nic->placement, &e->candidate);
        simnic_placement_add(e->nic->placement, &e->candidate, e->account);
    }
}

/* Adds the flow of 'put', or gives it other actions.  Returns 0 if the driver
 * has taken it and its reference into its books, which does not mean that it
 * is in the NIC; stores the reference that it replaces in
 * '*previous_flow_reference', NULL if none.  Returns EOPNOTSUPP if it is new
 * and no NIC can carry it, whatever its capabilities. */
int
simnic_driver_put(struct simnic_driver *d, struct dpif_offload_flow_put *put,
                  void **previous_flow_reference)
{
    long long int now = time_msec();
    char *reason = NULL;
    struct entry *e;

    *previous_flow_reference = NULL;

    ovs_mutex_lock(&d->mutex);
    e = find_entry(d, put->ufid);
    if (e) {
        modify_entry(d, e, put, &reason);
    } else {
        e = create_entry(d, put, &reason);
    }
    if (e) {
        *previous_flow_reference = set_reference(e, put->pmd_id,
                                                 put->flow_reference);
        if (e->candidate.account && !e->flow) {
            simnic_placement_demand(e->nic->placement, &e->candidate, now);
            if (e->candidate.place == SIMNIC_PLACE_WAITING
                && !driver_may_enter(d, e, now) && !e->error) {
                simnic_count_event(e->nic->nic, SIMNIC_EV_NO_ROOM);
            }
        }
        if (put->stats) {
            get_entry_stats(e, put->stats);
        }
    }
    ovs_mutex_unlock(&d->mutex);

    if (reason) {
        VLOG_DBG_RL(&rl, "flow "UUID_FMT" from port %"PRIu32" stays in "
                    "software: %s", UUID_ARGS((struct uuid *) put->ufid),
                    put->in_port, reason);
        free(reason);
    }
    return e ? 0 : EOPNOTSUPP;
}

/* Deletes the reference of 'del'; the caller gets it back.  With the last one,
 * the flow goes: when this returns, the NIC forwards no packet of it.  Stores
 * in '*del->stats', if nonnull, all that NICs have forwarded of the flow, to
 * the last packet if it goes.  Returns 0, or ENOENT if there is no such flow
 * or reference. */
int
simnic_driver_del(struct simnic_driver *d, struct dpif_offload_flow_del *del)
{
    struct released released = { NULL, 0, 0 };
    struct reference *ref;
    struct entry *e;

    ovs_mutex_lock(&d->mutex);
    e = find_entry(d, del->ufid);
    ref = e ? find_reference(e, del->pmd_id) : NULL;
    if (!ref || ref->reference != del->flow_reference) {
        ovs_mutex_unlock(&d->mutex);
        return ENOENT;
    }
    hmap_remove(&e->references, &ref->node);
    free(ref);

    bool last = hmap_is_empty(&e->references);
    if (last) {
        driver_take_out(e);
    }
    if (del->stats) {
        get_entry_stats(e, del->stats);
    }
    if (last) {
        driver_destroy_entry(d, e, &released);
    }
    ovs_mutex_unlock(&d->mutex);

    ovs_assert(!released.n);
    return 0;
}

/* Stores in '*stats' what NICs have forwarded of flow 'ufid', and in '*attrs'
 * where it is.  Returns false if there is no such flow. */
bool
simnic_driver_get_stats(struct simnic_driver *d, const ovs_u128 *ufid,
                        struct dpif_flow_stats *stats,
                        struct dpif_flow_attrs *attrs)
{
    struct entry *e;

    ovs_mutex_lock(&d->mutex);
    e = find_entry(d, ufid);
    if (e) {
        bool in = e->flow && !simnic_flow_is_gone(e->flow);

        get_entry_stats(e, stats);
        attrs->offloaded = in;
        attrs->dp_layer = in ? "simnic" : "ovs";
        attrs->dp_extra_info = NULL;
    }
    ovs_mutex_unlock(&d->mutex);
    return e != NULL;
}

/* Forgets all flows, and releases their references. */
void
simnic_driver_flush(struct simnic_driver *d)
{
    struct released released = { NULL, 0, 0 };
    struct entry *e;

    ovs_mutex_lock(&d->mutex);
    HMAP_FOR_EACH_SAFE (e, node, &d->entries) {
        driver_destroy_entry(d, e, &released);
    }
    driver_release(d, &released);
    ovs_mutex_unlock(&d->mutex);
}
