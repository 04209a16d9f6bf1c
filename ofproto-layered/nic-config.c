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

#include "layered/ofproto-layered/nic-config.h"

#include <limits.h>

#include "layered/lib/simnic-caps.h"
#include "layered/lib/simnic.h"
#include "layered/ofproto-layered/admission.h"
#include "layered/ofproto-layered/layer-errors.h"
#include "openvswitch/poll-loop.h"
#include "openvswitch/shash.h"
#include "openvswitch/vlog.h"
#include "ovsdb-idl.h"
#include "smap.h"
#include "timeval.h"
#include "util.h"
#include "uuid.h"
#include "vswitch-idl.h"

VLOG_DEFINE_THIS_MODULE(nic_config);

/* How often the status of the NICs is compared to the database, in ms. */
#define STATUS_INTERVAL 1000

/* A NIC that has, or had, a usable row. */
struct nic {
    struct uuid uuid;                   /* Of its row. */
    struct simnic_config config;        /* What is in force. */
    bool row_is_bad;                    /* Is there an error in the row? */
    bool exists;                        /* For nic_config_run(). */
};

struct nic_config {
    struct shash nics;                  /* Of struct nic, by name. */
    bool has_run;                       /* Has the table been read once? */

    long long int next_status;          /* When to look next, in ms. */
    long long int next_statistics;
    long long int statistics_interval;
    bool write_statistics;              /* Is it time to write them? */
};

/* Returns a new reader of the NIC table, which lives as long as the process.
 */
struct nic_config *
nic_config_create(void)
{
    struct nic_config *nc = xzalloc(sizeof *nc);

    shash_init(&nc->nics);
    nc->next_status = LLONG_MIN;
    nc->next_statistics = LLONG_MIN;
    return nc;
}

/* Has 'idl' follow the NIC table. */
void
nic_config_monitor(struct ovsdb_idl *idl)
{
    static const struct ovsdb_idl_column *const columns[] = {
        &ovsrec_nic_col_name,
        &ovsrec_nic_col_type,
        &ovsrec_nic_col_flow_table_size,
        &ovsrec_nic_col_capabilities,
        &ovsrec_nic_col_miss_path,
        &ovsrec_nic_col_idle_timeout,
        &ovsrec_nic_col_options,
    };
    /* Written by us. */
    static const struct ovsdb_idl_column *const reports[] = {
        &ovsrec_nic_col_status,
        &ovsrec_nic_col_statistics,
        &ovsrec_nic_col_error,
    };

    for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
        ovsdb_idl_track_add_column(idl, columns[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(reports); i++) {
        ovsdb_idl_add_column(idl, reports[i]);
        ovsdb_idl_omit_alert(idl, reports[i]);
    }

    /* For the interval of statistics. */
    ovsdb_idl_add_column(idl, &ovsrec_open_vswitch_col_other_config);
    ovsdb_idl_omit_alert(idl, &ovsrec_open_vswitch_col_other_config);
}

/* From row to configuration. */

static char *
parse_option(const char *key, const char *value, struct simnic_config *config)
{
    struct admission ignored;   /* See admission-config.h. */
    char *error;

    if (!strcmp(key, "threads")) {
        unsigned int n;

        if (!str_to_uint(value, 10, &n) || !n || n > SIMNIC_MAX_THREADS) {
            return xasprintf("options:threads: \"%s\" is not a number from 1 "
                             "to %d", value, SIMNIC_MAX_THREADS);
        }
        config->n_threads = n;
    } else if (!strcmp(key, "driver-list")) {
        if (strcmp(value, "true") && strcmp(value, "false")) {
            return xasprintf("options:driver-list: \"%s\" is neither true nor "
                             "false", value);
        }
        config->driver_list = !strcmp(value, "true");
    } else if (admission_set(&ignored, key, value, &error)) {
        char *prefixed = error ? xasprintf("options:%s", error) : NULL;

        free(error);
        return prefixed;
    } else {
        return xasprintf("options:%s: no such option", key);
    }
    return NULL;
}

/* Parses 'row' into '*config'.  Returns NULL if successful, otherwise an error
 * message that the caller frees.  (The schema rules out some of what is
 * checked here; a database may have another schema.) */
static char *
parse_row(const struct ovsrec_nic *row, struct simnic_config *config)
{
    const struct smap_node *node;

    simnic_config_init(config);

    if (!row->name[0]) {
        return xstrdup("name: must not be empty");
    }
    if (strcmp(row->type, "simnic")) {
        return xasprintf("type: \"%s\" is no type of NIC (must be simnic)",
                         row->type);
    }
    if (row->n_flow_table_size) {
        if (row->flow_table_size[0] < 1
            || row->flow_table_size[0] > SIMNIC_MAX_TABLE_SIZE) {
            return xasprintf("flow_table_size: %"PRId64" is not from 1 to %d",
                             row->flow_table_size[0], SIMNIC_MAX_TABLE_SIZE);
        }
        config->table_size = row->flow_table_size[0];
    }
    if (row->n_capabilities) {
        config->caps = 0;
        for (size_t i = 0; i < row->n_capabilities; i++) {
            enum simnic_cap cap;

            if (!simnic_cap_from_name(row->capabilities[i], &cap)) {
                return xasprintf("capabilities: \"%s\" is no capability",
                                 row->capabilities[i]);
            }
            config->caps |= cap;
        }
    }
    if (row->miss_path) {
        if (!strcmp(row->miss_path, "vm")) {
            config->miss_path = SIMNIC_MISS_VM;
        } else if (!strcmp(row->miss_path, "host")) {
            config->miss_path = SIMNIC_MISS_HOST;
        } else {
            return xasprintf("miss_path: \"%s\" is neither host nor vm",
                             row->miss_path);
        }
    }
    if (row->n_idle_timeout) {
        if (row->idle_timeout[0] < 0
            || row->idle_timeout[0] > UINT_MAX / 1000) {
            return xasprintf("idle_timeout: %"PRId64" is not from 0 to %u",
                             row->idle_timeout[0], UINT_MAX / 1000);
        }
        config->idle_timeout = row->idle_timeout[0];
    }
    SMAP_FOR_EACH (node, &row->options) {
        char *error = parse_option(node->key, node->value, config);

        if (error) {
            return error;
        }
    }
    return NULL;
}

static bool
configs_equal(const struct simnic_config *a, const struct simnic_config *b)
{
    return (a->table_size == b->table_size
            && a->caps == b->caps
            && a->miss_path == b->miss_path
            && a->idle_timeout == b->idle_timeout
            && a->n_threads == b->n_threads
            && a->driver_list == b->driver_list);
}

/* Brings the error column of 'row' in line with 'error', which it takes over
 * and which may be NULL. */
static void
set_error(struct layer_errors *errors, const struct ovsrec_nic *row,
          char *error)
{
    layer_errors_set(errors, ET_NIC, &row->header_.uuid, row->error, error);
}

/* Puts 'row' into force if it is usable. */
static void
run_row(struct nic_config *nc, const struct ovsrec_nic *row,
        struct layer_errors *errors)
{
    struct nic *nic = shash_find_data(&nc->nics, row->name);
    struct simnic_config config;
    char *error = parse_row(row, &config);

    if (error) {
        if (nic) {
            nic->exists = true;
            nic->uuid = row->header_.uuid;
            nic->row_is_bad = true;
        }
        set_error(errors, row, error);
        return;
    }

    if (!nic) {
        nic = xzalloc(sizeof *nic);
        shash_add(&nc->nics, row->name, nic);
        simnic_configure(row->name, &config);
    } else if (!configs_equal(&nic->config, &config)) {
        simnic_configure(row->name, &config);
    }
    nic->exists = true;
    nic->uuid = row->header_.uuid;
    nic->config = config;
    nic->row_is_bad = false;
    set_error(errors, row, simnic_get_error(row->name));
}

/* Puts the rows of 'idl' that are usable into force, and those that are not
 * into 'errors', if any of them have changed since the last call.  The NICs
 * whose rows are gone lose their configuration.  (All of the rows are read: a
 * host has few NICs.) */
void
nic_config_run(struct nic_config *nc, const struct ovsdb_idl *idl,
               struct layer_errors *errors)
{
    const struct ovsrec_nic *row;
    struct shash_node *node;

    if (nc->has_run && !ovsrec_nic_track_get_first(idl)) {
        return;
    }
    nc->has_run = true;

    OVSREC_NIC_FOR_EACH_TRACKED (row, idl) {
        if (ovsrec_nic_is_deleted(row)) {
            layer_errors_forget(errors, &row->header_.uuid);
        }
    }

    SHASH_FOR_EACH (node, &nc->nics) {
        struct nic *nic = node->data;

        nic->exists = false;
    }
    OVSREC_NIC_FOR_EACH (row, idl) {
        run_row(nc, row, errors);
    }
    SHASH_FOR_EACH_SAFE (node, &nc->nics) {
        struct nic *nic = node->data;

        if (!nic->exists) {
            simnic_unconfigure(node->name);
            shash_delete(&nc->nics, node);
            free(nic);
        }
    }

    /* A new NIC has a status at once. */
    nc->next_status = LLONG_MIN;
}

/* Reports. */

/* Returns the interval of statistics, in ms.  It is that of the statistics of
 * bridges. */
static long long int
get_statistics_interval(const struct ovsdb_idl *idl)
{
    const struct ovsrec_open_vswitch *cfg = ovsrec_open_vswitch_first(idl);

    return cfg ? MAX(smap_get_int(&cfg->other_config, "stats-update-interval",
                                  5000), 5000) : 5000;
}

/* Returns true if the status column of 'row' is not that of the NIC.  Stores
 * the NIC's in 'status', which the caller has initialized. */
static bool
status_differs(const struct ovsrec_nic *row, struct smap *status)
{
    simnic_get_status(row->name, status);
    return !smap_equal(status, &row->status);
}

/* Looks whether there is something for nic_config_write_reports() to write,
 * and passes on to 'errors' what the NICs report of themselves.  Does nothing
 * most of the time.  Returns true if there is something to write. */
bool
nic_config_run_reports(struct nic_config *nc, const struct ovsdb_idl *idl,
                       struct layer_errors *errors)
{
    long long int interval, now = time_msec();
    bool differs = false;
    struct shash_node *node;

    if (shash_is_empty(&nc->nics)) {
        return false;
    }

    interval = get_statistics_interval(idl);
    if (interval != nc->statistics_interval) {
        nc->statistics_interval = interval;
        nc->next_statistics = LLONG_MIN;
    }
    if (now >= nc->next_statistics) {
        nc->next_statistics = now + interval;
        nc->next_status = LLONG_MIN;
        nc->write_statistics = true;
    }
    if (now < nc->next_status) {
        return nc->write_statistics;
    }
    nc->next_status = now + STATUS_INTERVAL;

    SHASH_FOR_EACH (node, &nc->nics) {
        const struct nic *nic = node->data;
        const struct ovsrec_nic *row
            = ovsrec_nic_get_for_uuid(idl, &nic->uuid);

        if (!row) {
            continue;
        }
        if (!nic->row_is_bad) {
            char *error = simnic_get_error(node->name);

            if (!nullable_string_is_equal(error, row->error)) {
                set_error(errors, row, error);
            } else {
                free(error);
            }
        }

        struct smap status = SMAP_INITIALIZER(&status);
        differs |= status_differs(row, &status);
        smap_destroy(&status);
    }
    return differs || nc->write_statistics;
}

static void
write_statistics(const struct ovsrec_nic *row)
{
    struct smap statistics = SMAP_INITIALIZER(&statistics);
    const struct smap_node *node;
    const char **keys;
    int64_t *values;
    size_t n = 0;

    simnic_get_statistics(row->name, &statistics);
    keys = xcalloc(smap_count(&statistics), sizeof *keys);
    values = xcalloc(smap_count(&statistics), sizeof *values);
    SMAP_FOR_EACH (node, &statistics) {
        long long int value;

        if (str_to_llong(node->value, 10, &value)) {
            keys[n] = node->key;
            values[n++] = value;
        }
    }
    ovsrec_nic_set_statistics(row, keys, values, n);
    free(keys);
    free(values);
    smap_destroy(&statistics);
}

/* Writes what the NICs report to the rows of 'idl', as part of the transaction
 * under way, as far as it is not there yet. */
void
nic_config_write_reports(struct nic_config *nc, const struct ovsdb_idl *idl)
{
    const struct shash_node *node;

    SHASH_FOR_EACH (node, &nc->nics) {
        const struct nic *nic = node->data;
        const struct ovsrec_nic *row
            = ovsrec_nic_get_for_uuid(idl, &nic->uuid);
        struct smap status = SMAP_INITIALIZER(&status);

        if (row) {
            if (status_differs(row, &status)) {
                ovsrec_nic_set_status(row, &status);
            }
            if (nc->write_statistics) {
                write_statistics(row);
            }
        }
        smap_destroy(&status);
    }
    nc->write_statistics = false;
}

/* Arranges for poll_block() to wake up when nic_config_run_reports() may have
 * something to do. */
void
nic_config_wait(const struct nic_config *nc)
{
    if (!shash_is_empty(&nc->nics)) {
        poll_timer_wait_until(nc->next_status);
    }
}
