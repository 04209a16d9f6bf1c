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

#include "layered/ofproto-layered/layer-config.h"

#include "coverage.h"
#include "hash.h"
#include "layered/ofproto-layered/address-set.h"
#include "layered/ofproto-layered/admission-config.h"
#include "layered/ofproto-layered/layer-compile.h"
#include "layered/ofproto-layered/layer-errors.h"
#include "layered/ofproto-layered/layer-policy.h"
#include "layered/ofproto-layered/layer-port.h"
#include "layered/ofproto-layered/layer-traverse.h"
#include "layered/ofproto-layered/nic-config.h"
#include "layered/ofproto-layered/unified-answer.h"
#include "openvswitch/hmap.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/vlog.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "ovsdb-idl.h"
#include "ovsdb-idl-provider.h"
#include "seq.h"
#include "timeval.h"
#include "util.h"
#include "vswitch-idl.h"

VLOG_DEFINE_THIS_MODULE(layer_config);

COVERAGE_DEFINE(layered_policy_change);

static struct vlog_rate_limit rl = VLOG_RATE_LIMIT_INIT(5, 20);

/* How often connections that have timed out are removed, in ms. */
#define AGE_INTERVAL 1000

static struct ovs_mutex mutex = OVS_MUTEX_INITIALIZER;
static struct layer_config_progress progress OVS_GUARDED_BY(mutex);
static struct layer_compiler *compiler; /* Constant once there are threads. */
static struct seq *config_seq;
static char *db_remote;

/* Returns what changes whenever the progress does. */
struct seq *
layer_config_seq(void)
{
    return config_seq;
}

struct layer_config_progress
layer_config_get_progress(void)
{
    struct layer_config_progress p;

    ovs_mutex_lock(&mutex);
    p = progress;
    ovs_mutex_unlock(&mutex);
    return p;
}

struct layer_config_sizes
layer_config_get_sizes(void)
{
    struct layer_config_sizes sizes = { .layers = 0 };

    if (compiler) {
        layer_compiler_get_sizes(compiler, &sizes);
    }
    return sizes;
}

static void
ignore_datum(struct ovsdb_idl_row *row OVS_UNUSED,
             const struct ovsdb_datum *datum OVS_UNUSED)
{
}

/* Has 'idl' follow the tables of policy layers, and the interfaces. */
static void
monitor_tables(struct ovsdb_idl *idl)
{
    static const struct ovsdb_idl_column *const columns[] = {
        &ovsrec_open_vswitch_col_next_cfg,
        &ovsrec_layer_col_name,
        &ovsrec_layer_col_outbound,
        &ovsrec_layer_col_inbound,
        &ovsrec_layer_col_default_outbound,
        &ovsrec_layer_col_default_inbound,
        &ovsrec_layer_col_timeouts,
        &ovsrec_layer_col_options,
        &ovsrec_layer_group_col_name,
        &ovsrec_layer_group_col_match,
        &ovsrec_layer_group_col_rules,
        &ovsrec_layer_group_col_default_,
        &ovsrec_layer_rule_col_name,
        &ovsrec_layer_rule_col_priority,
        &ovsrec_layer_rule_col_match,
        &ovsrec_layer_rule_col_actions,
        &ovsrec_layer_address_set_col_name,
        &ovsrec_layer_address_set_col_addresses,
        &ovsrec_interface_col_name,
        &ovsrec_interface_col_layers,
        &ovsrec_interface_col_layer_config,
        &ovsrec_interface_col_external_ids,
    };
    /* Written by us.  The bridge clears that of an Interface at times, which
     * has to be noticed. */
    static const struct ovsdb_idl_column *const errors[] = {
        &ovsrec_layer_col_error,
        &ovsrec_layer_group_col_error,
        &ovsrec_layer_rule_col_error,
        &ovsrec_layer_address_set_col_error,
    };

    for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
        /* This adds it too.  Not ovsdb_idl_track_add_all(), which adds all the
         * columns there are: statistics are no change of policy. */
        ovsdb_idl_track_add_column(idl, columns[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        ovsdb_idl_add_column(idl, errors[i]);
        ovsdb_idl_omit_alert(idl, errors[i]);
    }
    ovsdb_idl_add_column(idl, &ovsrec_interface_col_error);
}

/* Publishes what 'lc' has compiled, as 'version', and waits until all live
 * connections have been judged by it.  Quiesces. */
static void
publish(struct layer_compiler *lc, uint64_t version)
{
    struct layer_assignment *assignments;
    struct layer_port **ports;
    size_t n;

    assignments = layer_compiler_get_assignments(lc, version, &n);
    ports = layer_ports_publish(version, assignments, n);
    layer_compiler_published(lc, assignments, n);

    for (size_t i = 0; ports[i]; i++) {
        const struct layer_stack *stack
            = layer_snapshot_stack(layer_snapshot_get(), ports[i]);

        if (stack) {
            struct layer_stack *ref = layer_stack_ref(stack);

            layer_traverse_rejudge_all(ports[i], ref, version);
            layer_stack_unref_postponed(ref);
        }
        port_stats_forget_rules(&ports[i]->stats);
    }
    layer_ports_list_free(ports);
    unified_answer_run();
    COVERAGE_INC(layered_policy_change);
}

static void
set_progress(const struct ovsdb_idl *idl, uint64_t version)
{
    const struct ovsrec_open_vswitch *cfg = ovsrec_open_vswitch_first(idl);

    ovs_mutex_lock(&mutex);
    progress.loaded = true;
    progress.next_cfg = cfg ? cfg->next_cfg : 0;
    progress.version = version;
    ovs_mutex_unlock(&mutex);
    seq_change(config_seq);
}

/* Removes what has timed out, once in a while. */
static void
run_aging(long long int *next_age)
{
    long long int now = time_msec();

    if (now >= *next_age) {
        struct layer_port **ports = layer_ports_list();

        for (size_t i = 0; ports[i]; i++) {
            conn_table_age(ports[i]->conns, now);
        }
        layer_ports_list_free(ports);
        unified_answer_age(now);
        *next_age = now + AGE_INTERVAL;
    }
    poll_timer_wait_until(*next_age);
}

/* Goes on with committing 'txn', which writes errors and what NICs report, if
 * that is nonnull.  Returns it if it is not complete yet, NULL otherwise. */
static struct ovsdb_idl_txn *
commit_errors(struct ovsdb_idl_txn *txn, struct layer_errors *errors)
{
    enum ovsdb_idl_txn_status status;

    if (!txn) {
        return NULL;
    }
    status = ovsdb_idl_txn_commit(txn);
    if (status == TXN_INCOMPLETE) {
        return txn;
    }
    if (status != TXN_SUCCESS && status != TXN_UNCHANGED) {
        VLOG_INFO_RL(&rl, "cannot write status to the database: %s",
                     ovsdb_idl_txn_status_to_string(status));
        if (status == TXN_TRY_AGAIN) {
            layer_errors_write_failed(errors);
            poll_immediate_wake();
        }
    }
    ovsdb_idl_txn_destroy(txn);
    return NULL;
}

static void *
config_main(void *aux OVS_UNUSED)
{
    struct ovsdb_idl *idl = ovsdb_idl_create(db_remote, &ovsrec_idl_class,
                                             false, true);
    struct layer_compiler *lc = compiler;
    struct layer_errors *errors = layer_compiler_get_errors(lc);
    struct nic_config *nics = nic_config_create();
    struct ovsdb_idl_txn *txn = NULL;
    long long int next_age = 0;
    unsigned int seqno = 0;
    uint64_t version = 0;
    bool reported = true;       /* Has the progress been? */

    /* Log about the connection as the main thread does about its own. */
    set_subprogram_name("");
    monitor_tables(idl);
    nic_config_monitor(idl);
    admission_config_monitor(idl);
    for (;;) {
        /* It takes seconds to read a large transaction.  The IDL knows nothing
         * of policy, and whoever waits for a grace period need not wait for
         * it. */
        ovsrcu_quiesce_start();
        ovsdb_idl_run(idl);
        ovsrcu_quiesce_end();

        txn = commit_errors(txn, errors);
        if (!txn) {
            if (ovsdb_idl_has_ever_connected(idl)
                && ovsdb_idl_get_seqno(idl) != seqno) {
                seqno = ovsdb_idl_get_seqno(idl);
                if (layer_compiler_run(lc, idl, version + 1)) {
                    publish(lc, ++version);
                }
                nic_config_run(nics, idl, errors);
                admission_config_run(idl);
                ovsdb_idl_track_clear(idl);
                reported = false;
            }
            if (nic_config_run_reports(nics, idl, errors)
                || layer_errors_are_pending(errors)) {
                txn = ovsdb_idl_txn_create(idl);
                layer_errors_write(errors, idl);
                nic_config_write_reports(nics, idl);
                txn = commit_errors(txn, errors);
            }
            if (!txn && !reported) {
                set_progress(idl, version);
                reported = true;
            }
        }

        run_aging(&next_age);
        if (txn) {
            ovsdb_idl_txn_wait(txn);
        } else {
            nic_config_wait(nics);
        }
        ovsdb_idl_wait(idl);
        poll_block();
    }
    return NULL;
}

/* Prepares for the configuration in the database at 'remote'.  Must be called
 * once, by the main thread, ahead of all other functions. */
void
layer_config_init(const char *remote)
{
    /* The compiler takes the rules of a group from the datum.  That the IDL
     * knows which rows these are as well would make a small change of a large
     * group, such as a rule that is added, take longer than all the rest. */
    ovsrec_layer_group_col_rules.parse = ignore_datum;

    config_seq = seq_create();
    compiler = layer_compiler_create();
    db_remote = xstrdup(remote);
}

/* Starts following the database.  Must be called once, by the main thread,
 * when it is certain that no other process does. */
void
layer_config_start(void)
{
    ovs_thread_create("layer_config", config_main, NULL);
}
