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

#include <errno.h>

#include "coverage.h"
#include "netlink.h"
#include "odp-util.h"
#include "openvswitch/vlog.h"
#include "timeval.h"
#include "util.h"

VLOG_DEFINE_THIS_MODULE(simnic_flow);

COVERAGE_DEFINE(simnic_reset);

/* The flow table of an emulated NIC, as its driver commands it. */

static void
flow_destroy(struct simnic_flow *flow)
{
    if (flow->condition) {
        cls_rule_destroy(&flow->condition->cr);
        free(flow->condition);
    }
    cls_rule_destroy(&flow->cr);
    free(CONST_CAST(struct simnic_actions *,
                    ovsrcu_get_protected(const struct simnic_actions *,
                                         &flow->actions)));
    simnic_unref(flow->nic);
    free(flow);
}

static bool
contains_push(const struct nlattr *actions, size_t len)
{
    const struct nlattr *a;
    unsigned int left;

    NL_ATTR_FOR_EACH (a, left, actions, len) {
        if (nl_attr_type(a) == OVS_ACTION_ATTR_TUNNEL_PUSH
            || (nl_attr_type(a) == OVS_ACTION_ATTR_CLONE
                && contains_push(nl_attr_get(a), nl_attr_get_size(a)))) {
            return true;
        }
    }
    return false;
}

static struct simnic_actions *
actions_create(const struct nlattr *data, size_t len)
{
    struct simnic_actions *actions = xmalloc(sizeof *actions + len);

    actions->len = len;
    actions->pushes = contains_push(data, len);
    actions->pop_port = ODPP_NONE;
    if (len && nl_attr_type(data) == OVS_ACTION_ATTR_TUNNEL_POP) {
        actions->pop_port = nl_attr_get_odp_port(data);
    }
    nullable_memcpy(actions->data, data, len);
    return actions;
}

/* Puts 'flow' on the list of the driver of the VF that its frames come from,
 * if that is one. */
static void
list_condition(struct simnic *nic, struct simnic_flow *flow,
               const struct match *match)
    OVS_REQUIRES(nic->mutex)
{
    uint32_t in_port = odp_to_u32(match->flow.in_port.odp_port);

    for (size_t i = 1; i < SIMNIC_MAX_FUNCTIONS; i++) {
        struct simnic_function *function = nic->functions[i];
        uint32_t port;

        if (!function) {
            continue;
        }
        atomic_read_relaxed(&function->port, &port);
        if (port == in_port) {
            struct simnic_condition *condition = xmalloc(sizeof *condition);

            condition->function = function;
            cls_rule_init(&condition->cr, match, 0);
            classifier_insert(&function->list, &condition->cr,
                              OVS_VERSION_MIN, NULL, 0);
            flow->condition = condition;
            return;
        }
    }
}

/* Puts a flow that matches 'match' and has the 'actions_len' bytes of
 * 'actions', which must be within the capabilities, into the table of 'nic'.
 * Stores it in '*flowp', which is to go to simnic_flow_del() in any event.
 *
 * Returns 0 if successful, otherwise a positive errno value: ENOSPC if the
 * table is full, EEXIST if there is a flow of that match, EAGAIN if the NIC is
 * being reset, ENODEV if it does not run, EIO if it fails. */
int
simnic_flow_put(struct simnic *nic, const struct match *match,
                const struct nlattr *actions, size_t actions_len,
                struct simnic_flow **flowp)
{
    struct simnic_flow *flow;
    int error = 0;

    *flowp = NULL;
    ovs_mutex_lock(&nic->mutex);
    if (!nic->configured) {
        error = ENODEV;
    } else if (simnic_is_resetting(nic)) {
        error = EAGAIN;
    } else if (nic->put_fail) {
        error = EIO;
    } else if (nic->table_full || nic->n_flows >= nic->config.table_size) {
        error = ENOSPC;
    } else if (classifier_find_match_exactly(&nic->table, match, 0,
                                             OVS_VERSION_MAX)) {
        error = EEXIST;
    } else {
        flow = xzalloc(sizeof *flow);
        flow->nic = simnic_ref(nic);
        ovsrcu_init(&flow->actions, actions_create(actions, actions_len));
        atomic_init(&flow->used, 0);
        cls_rule_init(&flow->cr, match, 0);

        ovs_list_push_back(&nic->flows, &flow->node);
        nic->n_flows++;
        list_condition(nic, flow, match);
        classifier_insert(&nic->table, &flow->cr, OVS_VERSION_MIN, NULL, 0);
        *flowp = flow;
    }
    ovs_mutex_unlock(&nic->mutex);
    return error;
}

/* Gives 'flow' the 'actions_len' bytes of 'actions' instead of those that it
 * has.  When it returns, no frame is forwarded as the old ones say.  Returns 0
 * if successful, EIO if the NIC fails, and then 'flow' is as it was. */
int
simnic_flow_modify(struct simnic_flow *flow, const struct nlattr *actions,
                   size_t actions_len)
{
    struct simnic *nic = flow->nic;
    const struct simnic_actions *old;
    int error = 0;

    ovs_mutex_lock(&nic->mutex);
    if (nic->put_fail) {
        error = EIO;
    } else {
        old = ovsrcu_get_protected(const struct simnic_actions *,
                                   &flow->actions);
        ovsrcu_set(&flow->actions, actions_create(actions, actions_len));
        ovsrcu_postpone(free, CONST_CAST(struct simnic_actions *, old));
        simnic_sync_threads(nic);
    }
    ovs_mutex_unlock(&nic->mutex);
    return error;
}

/* Takes 'flow' out of the table, if it is there. */
static void
remove_flow(struct simnic *nic, struct simnic_flow *flow)
    OVS_REQUIRES(nic->mutex)
{
    if (!simnic_read_bool(&flow->gone)) {
        classifier_remove_assert(&nic->table, &flow->cr);
        if (flow->condition && flow->condition->function) {
            classifier_remove_assert(&flow->condition->function->list,
                                     &flow->condition->cr);
            flow->condition->function = NULL;
        }
        ovs_list_remove(&flow->node);
        nic->n_flows--;
        atomic_store(&flow->gone, true);
    }
}

/* Takes all flows out of the table of 'nic'.  When it returns, none forwards
 * any frame.  They stay with the driver until simnic_flow_del(). */
void
simnic_flow_remove_all(struct simnic *nic)
{
    struct simnic_flow *flow;

    LIST_FOR_EACH_SAFE (flow, node, &nic->flows) {
        remove_flow(nic, flow);
    }
    simnic_sync_threads(nic);
}

static void
read_stats(const struct simnic_flow *flow_, struct dpif_flow_stats *stats)
{
    struct simnic_flow *flow = CONST_CAST(struct simnic_flow *, flow_);

    stats->n_packets = simnic_read(&flow->n_packets);
    stats->n_bytes = simnic_read(&flow->n_bytes);
    atomic_read_relaxed(&flow->used, &stats->used);
    atomic_read_relaxed(&flow->tcp_flags, &stats->tcp_flags);
}

/* Takes 'flow' out of the NIC, if it has not gone yet, and forgets it.  When
 * it returns, no frame is forwarded as 'flow' says, and all that have been are
 * in '*stats' and on their links. */
void
simnic_flow_del(struct simnic_flow *flow, struct dpif_flow_stats *stats)
{
    struct simnic *nic = flow->nic;

    ovs_mutex_lock(&nic->mutex);
    remove_flow(nic, flow);
    simnic_sync_threads(nic);
    ovs_mutex_unlock(&nic->mutex);

    read_stats(flow, stats);
    ovsrcu_postpone(flow_destroy, flow);
}

/* Returns true if 'flow' is no longer in the NIC, although nobody has deleted
 * it. */
bool
simnic_flow_is_gone(const struct simnic_flow *flow)
{
    return simnic_read_bool(&flow->gone);
}

/* Stores in '*stats' what 'flow' has forwarded. */
void
simnic_flow_get_stats(const struct simnic_flow *flow_,
                      struct dpif_flow_stats *stats)
{
    struct simnic_flow *flow = CONST_CAST(struct simnic_flow *, flow_);
    struct simnic *nic = flow->nic;
    long long int now = time_msec();
    long long int lag;

    atomic_read_relaxed(&nic->stats_lag, &lag);
    if (!lag) {
        read_stats(flow, stats);
        return;
    }
    ovs_mutex_lock(&nic->mutex);
    if (now - flow->lagging_since >= lag) {
        read_stats(flow, &flow->lagging);
        flow->lagging_since = now;
    }
    *stats = flow->lagging;
    ovs_mutex_unlock(&nic->mutex);
}

/* Resets 'nic': it forgets all flows, and loses all frames for a moment. */
void
simnic_reset(struct simnic *nic)
{
    ovs_mutex_lock(&nic->mutex);
    atomic_store_relaxed(&nic->reset_until, time_msec() + SIMNIC_RESET_MS);
    simnic_flow_remove_all(nic);
    ovs_mutex_unlock(&nic->mutex);

    COVERAGE_INC(simnic_reset);
    SIMNIC_ADD(nic->resets, 1);
    VLOG_WARN("%s: has been reset", nic->name);
    seq_change(nic->seq);
}
