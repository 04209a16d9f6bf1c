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

#include "connectivity.h"
#include "layered/lib/simnic-caps.h"
#include "layered/lib/simnic-link.h"
#include "odp-util.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/json.h"
#include "openvswitch/ofpbuf.h"
#include "openvswitch/vlog.h"
#include "svec.h"
#include "timeval.h"
#include "unixctl.h"
#include "util.h"

VLOG_DEFINE_THIS_MODULE(simnic_unixctl);

/* What users see of emulated NICs, and the faults that they inject. */

static size_t
count_dead_threads(struct simnic *nic)
    OVS_REQUIRES(nic->mutex)
{
    size_t n = 0;

    for (size_t i = 0; i < nic->n_threads; i++) {
        n += !simnic_read_bool(&nic->threads[i]->alive);
    }
    return n;
}

static size_t
count_busy_threads(struct simnic *nic)
    OVS_REQUIRES(nic->mutex)
{
    size_t n = 0;

    for (size_t i = 0; i < nic->n_threads; i++) {
        n += simnic_read(&nic->threads[i]->batches) % 2;
    }
    return n;
}

/* Returns what is wrong with the NIC 'name', as a string that the caller
 * frees, or NULL if nothing is, or there is no such NIC.  Not for a thread of
 * a NIC. */
char *
simnic_get_error(const char *name)
{
    struct ds ds = DS_EMPTY_INITIALIZER;
    struct simnic *nic = simnic_find(name);

    if (nic) {
        size_t n_dead;

        ovs_mutex_lock(&nic->mutex);
        n_dead = count_dead_threads(nic);
        if (n_dead) {
            ds_put_format(&ds, "%"PRIuSIZE" of %"PRIuSIZE" threads died; ",
                          n_dead, nic->n_threads);
        }
        for (size_t i = 0; nic->configured && i < SIMNIC_MAX_FUNCTIONS; i++) {
            struct simnic_function *function = nic->functions[i];

            if (function && !ovsrcu_get(struct simnic_link *,
                                        &function->link)) {
                char *error;

                simnic_link_state(function, &error);
                ds_put_format(&ds, "%s: %s; ", function->name, error);
                free(error);
            }
        }
        ovs_mutex_unlock(&nic->mutex);
        simnic_unref(nic);
    }
    ds_chomp(&ds, ' ');
    ds_chomp(&ds, ';');
    return ds.length ? ds_steal_cstr(&ds) : NULL;
}

/* Adds to 'status' the state of the NIC 'name' and of its functions. */
void
simnic_get_status(const char *name, struct smap *status)
{
    struct simnic *nic = simnic_find(name);

    if (!nic) {
        return;
    }
    ovs_mutex_lock(&nic->mutex);
    smap_add(status, "state",
             !nic->configured ? "stopped"
             : simnic_is_resetting(nic) ? "resetting" : "running");
    smap_add_format(status, "threads", "%"PRIuSIZE,
                    nic->n_threads - count_dead_threads(nic));
    for (size_t i = 0; i < SIMNIC_MAX_FUNCTIONS; i++) {
        struct simnic_function *function = nic->functions[i];

        if (function) {
            char *error;
            const char *state = simnic_link_state(function, &error);

            if (error) {
                smap_add_format(status, function->name, "%s (%s)", state,
                                error);
            } else {
                smap_add(status, function->name, state);
            }
            free(error);
        }
    }
    ovs_mutex_unlock(&nic->mutex);
    simnic_unref(nic);
}

static void
put_counter(struct json *json, const char *name, unsigned long long int value)
{
    json_object_put(json, name, json_integer_create(value));
}

/* Puts "dropped_REASON" into 'json' for each reason that has been one. */
static void
put_drops(struct json *json, const char *prefix, const uint64_t *drops)
{
    for (size_t i = 0; i < SIMNIC_N_DROPS; i++) {
        if (drops[i]) {
            char *name = xasprintf("%s%s", prefix, simnic_drop_to_string(i));

            for (char *p = name; *p; p++) {
                *p = *p == '-' ? '_' : *p;
            }
            put_counter(json, name, drops[i]);
            free(name);
        }
    }
}

static struct json *
nic_counters_to_json(struct simnic *nic)
    OVS_REQUIRES(nic->mutex)
{
    static const char *const event_names[SIMNIC_N_EVENTS] = {
        [SIMNIC_EV_PLACED] = "flows_placed",
        [SIMNIC_EV_EVICTED_IDLE] = "evictions_idle",
        [SIMNIC_EV_EVICTED_LRU] = "evictions_lru",
        [SIMNIC_EV_EVICTED_SHARE] = "evictions_share",
        [SIMNIC_EV_REFUSED] = "flows_refused",
        [SIMNIC_EV_PUT_FAILED] = "put_failures",
        [SIMNIC_EV_NO_ROOM] = "no_room",
    };
    struct json *json = json_object_create();
    uint64_t drops[SIMNIC_N_DROPS] = { 0 };
    struct simnic_function_stats sum;

    memset(&sum, 0, sizeof sum);
    for (size_t i = 0; i < SIMNIC_MAX_FUNCTIONS; i++) {
        if (nic->functions[i]) {
            struct simnic_function_stats stats;

            simnic_function_get_stats(nic->functions[i], &stats);
            sum.hits += stats.hits;
            sum.hit_bytes += stats.hit_bytes;
            sum.misses_host += stats.misses_host;
            sum.misses_vm += stats.misses_vm;
            sum.synthetic += stats.synthetic;
            sum.from_host += stats.from_host;
            sum.held += stats.held;
            for (size_t j = 0; j < SIMNIC_N_DROPS; j++) {
                drops[j] += stats.rx_dropped[j] + stats.tx_dropped[j];
            }
        }
    }

    put_counter(json, "flows", nic->n_flows);
    put_counter(json, "hits", sum.hits);
    put_counter(json, "hit_bytes", sum.hit_bytes);
    put_counter(json, "misses_host", sum.misses_host);
    put_counter(json, "misses_vm", sum.misses_vm);
    put_counter(json, "synthetic", sum.synthetic);
    put_counter(json, "from_host", sum.from_host);
    put_counter(json, "held", sum.held);
    for (size_t i = 0; i < SIMNIC_N_EVENTS; i++) {
        put_counter(json, event_names[i], simnic_read(&nic->events[i]));
    }
    put_counter(json, "resets", simnic_read(&nic->resets));
    put_counter(json, "thread_deaths", simnic_read(&nic->thread_deaths));
    put_drops(json, "dropped_", drops);
    return json;
}

/* Adds to 'statistics' the counters of the NIC 'name': those of its functions
 * added up, and those of its driver. */
void
simnic_get_statistics(const char *name, struct smap *statistics)
{
    struct simnic *nic = simnic_find(name);
    struct shash_node *node;
    struct json *json;

    if (!nic) {
        return;
    }
    ovs_mutex_lock(&nic->mutex);
    json = nic_counters_to_json(nic);
    ovs_mutex_unlock(&nic->mutex);
    SHASH_FOR_EACH (node, json_object(json)) {
        smap_add_format(statistics, node->name, "%"PRId64,
                        json_integer(node->data));
    }
    json_destroy(json);
    simnic_unref(nic);
}

/* simnic/show. */

static struct json *
function_to_json(struct simnic_function *function)
{
    struct json *json = json_object_create();
    struct json *counters = json_object_create();
    const char *link_type = simnic_function_get_link_type(function);
    struct simnic_function_stats stats;
    uint32_t port;
    char *error;

    json_object_put_string(json, "netdev", function->netdev);
    json_object_put_string(json, "link", link_type ? link_type : "none");
    json_object_put_string(json, "state",
                           simnic_link_state(function, &error));
    if (error) {
        json_object_put_string(json, "why", error);
        free(error);
    }
    atomic_read_relaxed(&function->port, &port);
    if (u32_to_odp(port) != ODPP_NONE) {
        json_object_put(json, "port", json_integer_create(port));
    }

    simnic_function_get_stats(function, &stats);
    put_counter(counters, "from_link", stats.from_link);
    put_counter(counters, "from_link_bytes", stats.from_link_bytes);
    put_counter(counters, "to_link", stats.to_link);
    put_counter(counters, "to_link_bytes", stats.to_link_bytes);
    put_counter(counters, "hits", stats.hits);
    put_counter(counters, "hit_bytes", stats.hit_bytes);
    put_counter(counters, "misses_host", stats.misses_host);
    put_counter(counters, "misses_vm", stats.misses_vm);
    put_counter(counters, "synthetic", stats.synthetic);
    put_counter(counters, "from_host", stats.from_host);
    put_counter(counters, "held", stats.held);
    put_counter(counters, "held_now", stats.held_now);
    put_counter(counters, "in_host", stats.in_host);
    put_drops(counters, "rx_dropped_", stats.rx_dropped);
    put_drops(counters, "tx_dropped_", stats.tx_dropped);
    json_object_put(json, "statistics", counters);
    return json;
}

static struct json *
faults_to_json(struct simnic *nic)
    OVS_REQUIRES(nic->mutex)
{
    struct json *json = json_array_create_empty();
    long long int lag;

    if (nic->table_full) {
        json_array_add(json, json_string_create("table-full"));
    }
    if (nic->put_fail) {
        json_array_add(json, json_string_create("put-fail"));
    }
    atomic_read_relaxed(&nic->stats_lag, &lag);
    if (lag) {
        json_array_add(json, json_string_create_nocopy(
                                 xasprintf("stats-lag %lld", lag)));
    }
    for (size_t i = 0; i < SIMNIC_MAX_FUNCTIONS; i++) {
        struct simnic_function *function = nic->functions[i];

        if (!function) {
            continue;
        }

        const struct {
            const atomic_bool *flag;
            const char *name;
        } faults[] = {
            { &function->link_cut, "link-down" },
            { &function->vanished, "vanish" },
            { &function->ignore_list, "ignore-list" },
            { &function->forge_list, "forge-list" },
        };
        for (size_t j = 0; j < ARRAY_SIZE(faults); j++) {
            if (simnic_read_bool(faults[j].flag)) {
                json_array_add(json, json_string_create_nocopy(
                                         xasprintf("%s %s", faults[j].name,
                                                   function->name)));
            }
        }
    }
    return json;
}

static struct json *
nic_to_json(struct simnic *nic)
{
    struct json *json = json_object_create();
    struct json *functions = json_object_create();
    struct ds caps = DS_EMPTY_INITIALIZER;

    ovs_mutex_lock(&nic->mutex);
    json_object_put_string(json, "name", nic->name);
    json_object_put_string(json, "state",
                           !nic->configured ? "stopped"
                           : simnic_is_resetting(nic) ? "resetting"
                           : "running");
    json_object_put(json, "flows", json_integer_create(nic->n_flows));
    json_object_put(json, "flow_table_size",
                    json_integer_create(nic->config.table_size));
    simnic_caps_format(nic->config.caps, &caps);
    json_object_put_string(json, "capabilities", ds_cstr(&caps));
    ds_destroy(&caps);
    json_object_put_string(json, "miss_path",
                           nic->config.miss_path == SIMNIC_MISS_VM
                           ? "vm" : "host");
    json_object_put(json, "idle_timeout",
                    json_integer_create(nic->config.idle_timeout));
    json_object_put(json, "driver_list",
                    json_boolean_create(nic->config.driver_list));
    json_object_put(json, "threads", json_integer_create(nic->n_threads));
    json_object_put(json, "threads_dead",
                    json_integer_create(count_dead_threads(nic)));
    json_object_put(json, "threads_busy",
                    json_integer_create(count_busy_threads(nic)));
    json_object_put(json, "faults", faults_to_json(nic));
    json_object_put(json, "statistics", nic_counters_to_json(nic));
    for (size_t i = 0; i < SIMNIC_MAX_FUNCTIONS; i++) {
        if (nic->functions[i]) {
            json_object_put(functions, nic->functions[i]->name,
                            function_to_json(nic->functions[i]));
        }
    }
    ovs_mutex_unlock(&nic->mutex);
    json_object_put(json, "functions", functions);
    return json;
}

static long long int
get_integer(const struct json *object, const char *name)
{
    return json_integer(shash_find_data(json_object(object), name));
}

static const char *
get_string(const struct json *object, const char *name)
{
    return json_string(shash_find_data(json_object(object), name));
}

/* Compares names of functions so that vf10 comes after vf9. */
static int
compare_functions(const void *a_, const void *b_)
{
    const struct shash_node *const *a = a_;
    const struct shash_node *const *b = b_;
    int a_index = simnic_function_from_name((*a)->name);
    int b_index = simnic_function_from_name((*b)->name);

    return a_index < b_index ? -1 : a_index > b_index;
}

/* Appends the counters in 'json' that are not 0. */
static void
format_counters(const struct json *json, struct ds *ds)
{
    const struct shash_node **nodes = shash_sort(json_object(json));

    for (size_t i = 0; i < shash_count(json_object(json)); i++) {
        long long int value = json_integer(nodes[i]->data);

        if (value) {
            ds_put_format(ds, " %s:%lld", nodes[i]->name, value);
        }
    }
    free(nodes);
    ds_put_char(ds, '\n');
}

static void
format_nic(const struct json *json, struct ds *ds)
{
    const struct json *faults = shash_find_data(json_object(json), "faults");
    const struct shash *functions
        = json_object(shash_find_data(json_object(json), "functions"));
    const struct shash_node **nodes = shash_sort(functions);

    ds_put_format(ds, "%s: %s\n", get_string(json, "name"),
                  get_string(json, "state"));
    ds_put_format(ds, "  flows: %lld of %lld\n", get_integer(json, "flows"),
                  get_integer(json, "flow_table_size"));
    ds_put_format(ds, "  capabilities: %s\n",
                  get_string(json, "capabilities"));
    ds_put_format(ds, "  miss path: %s\n", get_string(json, "miss_path"));
    ds_put_format(ds, "  idle timeout: %lld s\n",
                  get_integer(json, "idle_timeout"));
    ds_put_format(ds, "  threads: %lld, %lld of them dead\n",
                  get_integer(json, "threads"),
                  get_integer(json, "threads_dead"));
    ds_put_cstr(ds, "  faults:");
    for (size_t i = 0; i < json_array_size(faults); i++) {
        ds_put_format(ds, "%s %s", i ? "," : "",
                      json_string(json_array_at(faults, i)));
    }
    ds_put_cstr(ds, json_array_size(faults) ? "\n" : " none\n");
    ds_put_cstr(ds, "  statistics:");
    format_counters(shash_find_data(json_object(json), "statistics"), ds);

    if (nodes) {
        qsort(nodes, shash_count(functions), sizeof *nodes, compare_functions);
    }
    for (size_t i = 0; i < shash_count(functions); i++) {
        const struct json *function = nodes[i]->data;
        const struct shash *members = json_object(function);

        ds_put_format(ds, "  %s: %s, %s (%s)", nodes[i]->name,
                      get_string(function, "state"),
                      get_string(function, "netdev"),
                      get_string(function, "link"));
        if (shash_find(members, "port")) {
            ds_put_format(ds, ", port %lld", get_integer(function, "port"));
        }
        if (shash_find(members, "why")) {
            ds_put_format(ds, ", %s", get_string(function, "why"));
        }
        ds_put_cstr(ds, "\n   ");
        format_counters(shash_find_data(members, "statistics"), ds);
    }
    free(nodes);
}

/* Calls 'convert' for the NIC that the command names, or for all if it names
 * none, and replies with what it and 'format' make of it. */
static void
reply_for_nics(struct unixctl_conn *conn, int argc, const char *argv[],
               struct json *(*convert)(struct simnic *),
               void (*format)(const struct json *, struct ds *))
{
    struct json *array = json_array_create_empty();
    struct svec names = SVEC_EMPTY_INITIALIZER;
    const char *name;
    size_t i;

    if (argc > 1) {
        svec_add(&names, argv[1]);
    } else {
        struct shash_node *node;

        ovs_mutex_lock(&simnic_nics_mutex);
        SHASH_FOR_EACH (node, &simnic_nics) {
            svec_add(&names, node->name);
        }
        ovs_mutex_unlock(&simnic_nics_mutex);
        svec_sort(&names);
    }

    SVEC_FOR_EACH (i, name, &names) {
        struct simnic *nic = simnic_find(name);

        if (nic) {
            json_array_add(array, convert(nic));
            simnic_unref(nic);
        } else if (argc > 1) {
            char *error = xasprintf("%s: no such NIC", name);

            unixctl_command_reply_error(conn, error);
            free(error);
            json_destroy(array);
            svec_destroy(&names);
            return;
        }
    }
    svec_destroy(&names);

    if (unixctl_command_get_output_format(conn) == UNIXCTL_OUTPUT_FMT_JSON) {
        unixctl_command_reply_json(conn, array);
    } else {
        struct ds ds = DS_EMPTY_INITIALIZER;

        for (i = 0; i < json_array_size(array); i++) {
            format(json_array_at(array, i), &ds);
        }
        unixctl_command_reply(conn, ds_cstr_ro(&ds));
        ds_destroy(&ds);
        json_destroy(array);
    }
}

static void
unixctl_show(struct unixctl_conn *conn, int argc, const char *argv[],
             void *aux OVS_UNUSED)
{
    reply_for_nics(conn, argc, argv, nic_to_json, format_nic);
}

/* simnic/dump-flows. */

static char *
datapath_match_to_string(const struct minimatch *minimatch)
{
    struct ds ds = DS_EMPTY_INITIALIZER;
    struct ofpbuf key, mask;
    struct match match;

    minimatch_expand(minimatch, &match);

    struct odp_flow_key_parms parms = {
        .flow = &match.flow,
        .mask = &match.wc.masks,
        .support = {
            .max_vlan_headers = SIZE_MAX,
            .max_mpls_depth = SIZE_MAX,
            .recirc = true,
        },
    };

    ofpbuf_init(&key, 0);
    ofpbuf_init(&mask, 0);
    odp_flow_key_from_flow(&parms, &key);
    parms.key_buf = &key;
    odp_flow_key_from_mask(&parms, &mask);
    odp_flow_format(key.data, key.size, mask.data, mask.size, NULL, &ds,
                    false, false);
    ofpbuf_uninit(&key);
    ofpbuf_uninit(&mask);
    return ds_steal_cstr(&ds);
}

static struct json *
flow_to_json(struct simnic_flow *flow)
{
    const struct simnic_actions *actions
        = ovsrcu_get(const struct simnic_actions *, &flow->actions);
    struct json *json = json_object_create();
    struct ds ds = DS_EMPTY_INITIALIZER;
    long long int used;
    uint16_t tcp_flags;

    json_object_put(json, "match",
                    json_string_create_nocopy(
                        datapath_match_to_string(&flow->cr.match)));
    format_odp_actions(&ds, actions->data, actions->len, NULL);
    json_object_put(json, "actions",
                    json_string_create_nocopy(ds_steal_cstr(&ds)));
    put_counter(json, "packets", simnic_read(&flow->n_packets));
    put_counter(json, "bytes", simnic_read(&flow->n_bytes));
    atomic_read_relaxed(&flow->used, &used);
    json_object_put(json, "used", used ? json_integer_create(time_msec()
                                                             - used)
                                       : json_null_create());
    atomic_read_relaxed(&flow->tcp_flags, &tcp_flags);
    ds_init(&ds);
    packet_format_tcp_flags(&ds, tcp_flags);
    json_object_put(json, "flags",
                    json_string_create_nocopy(ds_steal_cstr(&ds)));
    return json;
}

static struct json *
nic_flows_to_json(struct simnic *nic)
{
    struct json *json = json_object_create();
    struct json *array = json_array_create_empty();
    struct simnic_flow *flow;

    json_object_put_string(json, "name", nic->name);
    ovs_mutex_lock(&nic->mutex);
    LIST_FOR_EACH (flow, node, &nic->flows) {
        json_array_add(array, flow_to_json(flow));
    }
    ovs_mutex_unlock(&nic->mutex);
    json_object_put(json, "flows", array);
    return json;
}

static void
format_nic_flows(const struct json *json, struct ds *ds)
{
    const struct json *array = shash_find_data(json_object(json), "flows");

    ds_put_format(ds, "%s:\n", get_string(json, "name"));
    for (size_t i = 0; i < json_array_size(array); i++) {
        const struct json *flow = json_array_at(array, i);
        const struct json *used = shash_find_data(json_object(flow), "used");
        const char *flags = get_string(flow, "flags");

        ds_put_format(ds, "%s, packets:%lld, bytes:%lld, used:",
                      get_string(flow, "match"),
                      get_integer(flow, "packets"),
                      get_integer(flow, "bytes"));
        if (used->type == JSON_INTEGER) {
            ds_put_format(ds, "%.3fs", json_integer(used) / 1000.0);
        } else {
            ds_put_cstr(ds, "never");
        }
        if (strcmp(flags, "none")) {
            ds_put_format(ds, ", flags:%s", flags);
        }
        ds_put_format(ds, ", actions:%s\n", get_string(flow, "actions"));
    }
}

static void
unixctl_dump_flows(struct unixctl_conn *conn, int argc, const char *argv[],
                   void *aux OVS_UNUSED)
{
    reply_for_nics(conn, argc, argv, nic_flows_to_json, format_nic_flows);
}

/* simnic/dump-lists. */

static struct json *
nic_lists_to_json(struct simnic *nic)
{
    struct json *json = json_object_create();
    struct json *functions = json_object_create();

    json_object_put_string(json, "name", nic->name);
    ovs_mutex_lock(&nic->mutex);
    for (size_t i = 1; i < SIMNIC_MAX_FUNCTIONS; i++) {
        struct simnic_condition *condition;
        struct json *list;

        if (!nic->functions[i]) {
            continue;
        }
        list = json_array_create_empty();
        CLS_FOR_EACH (condition, cr, &nic->functions[i]->list) {
            json_array_add(list,
                           json_string_create_nocopy(
                               datapath_match_to_string(
                                   &condition->cr.match)));
        }
        json_object_put(functions, nic->functions[i]->name, list);
    }
    ovs_mutex_unlock(&nic->mutex);
    json_object_put(json, "functions", functions);
    return json;
}

static void
format_nic_lists(const struct json *json, struct ds *ds)
{
    const struct shash *functions
        = json_object(shash_find_data(json_object(json), "functions"));
    const struct shash_node **nodes = shash_sort(functions);

    ds_put_format(ds, "%s:\n", get_string(json, "name"));
    if (nodes) {
        qsort(nodes, shash_count(functions), sizeof *nodes, compare_functions);
    }
    for (size_t i = 0; i < shash_count(functions); i++) {
        const struct json *list = nodes[i]->data;

        ds_put_format(ds, "  %s:\n", nodes[i]->name);
        for (size_t j = 0; j < json_array_size(list); j++) {
            ds_put_format(ds, "    %s\n",
                          json_string(json_array_at(list, j)));
        }
    }
    free(nodes);
}

static void
unixctl_dump_lists(struct unixctl_conn *conn, int argc, const char *argv[],
                   void *aux OVS_UNUSED)
{
    reply_for_nics(conn, argc, argv, nic_lists_to_json, format_nic_lists);
}

/* simnic/fault. */

static void
clear_faults(struct simnic *nic)
    OVS_REQUIRES(nic->mutex)
{
    nic->table_full = false;
    nic->put_fail = false;
    atomic_store_relaxed(&nic->stats_lag, 0);
    for (size_t i = 0; i < SIMNIC_MAX_FUNCTIONS; i++) {
        struct simnic_function *function = nic->functions[i];

        if (function) {
            atomic_store_relaxed(&function->link_cut, false);
            atomic_store_relaxed(&function->vanished, false);
            atomic_store_relaxed(&function->ignore_list, false);
            atomic_store_relaxed(&function->forge_list, false);
        }
    }
}

/* Injects into a function of 'nic', 'arg', the fault of that name, or takes it
 * away.  Returns NULL if successful, otherwise an error message that the
 * caller frees. */
static char *
inject_function_fault(struct simnic *nic, const char *fault, const char *arg)
    OVS_REQUIRES(nic->mutex)
{
    int index = arg ? simnic_function_from_name(arg) : -1;
    struct simnic_function *function = index < 0 ? NULL
                                                 : nic->functions[index];

    if (!arg) {
        return xasprintf("%s: which function is missing", fault);
    } else if (!function) {
        return xasprintf("%s: no such function of %s", arg, nic->name);
    } else if (!strcmp(fault, "link-down")) {
        atomic_store_relaxed(&function->link_cut, true);
    } else if (!strcmp(fault, "link-up")) {
        atomic_store_relaxed(&function->link_cut, false);
    } else if (!strcmp(fault, "vanish")) {
        atomic_store_relaxed(&function->vanished, true);
    } else if (!strcmp(fault, "appear")) {
        atomic_store_relaxed(&function->vanished, false);
    } else if (!strcmp(fault, "ignore-list")) {
        atomic_store_relaxed(&function->ignore_list, true);
    } else if (!strcmp(fault, "forge-list")) {
        atomic_store_relaxed(&function->forge_list, true);
    } else if (!strcmp(fault, "honor-list")) {
        atomic_store_relaxed(&function->ignore_list, false);
        atomic_store_relaxed(&function->forge_list, false);
    } else {
        return xasprintf("%s: unknown fault", fault);
    }
    return NULL;
}

/* Parses 'arg', "on" (also if NULL) or "off", into '*flag'. */
static char *
parse_switch(const char *arg, bool *flag)
{
    if (!arg || !strcmp(arg, "on")) {
        *flag = true;
    } else if (!strcmp(arg, "off")) {
        *flag = false;
    } else {
        return xasprintf("%s: neither \"on\" nor \"off\"", arg);
    }
    return NULL;
}

static char *
inject_thread_fault(struct simnic *nic, const char *arg)
    OVS_REQUIRES(nic->mutex)
{
    unsigned int id = 0;

    if (arg && !str_to_uint(arg, 10, &id)) {
        return xasprintf("%s: not the number of a thread", arg);
    } else if (id >= nic->n_threads) {
        return xasprintf("%u: no such thread of %s", id, nic->name);
    }
    atomic_store_relaxed(&nic->threads[id]->die, true);
    seq_change(nic->threads[id]->wake_seq);
    return NULL;
}

static char *
inject_stats_lag(struct simnic *nic, const char *arg)
{
    unsigned int lag = 1000;

    if (arg && !str_to_uint(arg, 10, &lag)) {
        return xasprintf("%s: not a time in ms", arg);
    }
    atomic_store_relaxed(&nic->stats_lag, lag);
    return NULL;
}

static void
unixctl_fault(struct unixctl_conn *conn, int argc, const char *argv[],
              void *aux OVS_UNUSED)
{
    struct simnic *nic = simnic_find(argv[1]);
    const char *fault = argv[2];
    const char *arg = argc > 3 ? argv[3] : NULL;
    char *error;

    if (!nic) {
        error = xasprintf("%s: no such NIC", argv[1]);
        unixctl_command_reply_error(conn, error);
        free(error);
        return;
    }

    if (!strcmp(fault, "reset")) {
        simnic_reset(nic);
        error = NULL;
    } else {
        ovs_mutex_lock(&nic->mutex);
        if (!strcmp(fault, "none")) {
            clear_faults(nic);
            error = NULL;
        } else if (!strcmp(fault, "table-full")) {
            error = parse_switch(arg, &nic->table_full);
        } else if (!strcmp(fault, "put-fail")) {
            error = parse_switch(arg, &nic->put_fail);
        } else if (!strcmp(fault, "stats-lag")) {
            error = inject_stats_lag(nic, arg);
        } else if (!strcmp(fault, "thread-dead")) {
            error = inject_thread_fault(nic, arg);
        } else {
            error = inject_function_fault(nic, fault, arg);
        }
        ovs_mutex_unlock(&nic->mutex);
        seq_change(nic->seq);
        seq_change(connectivity_seq_get());
    }
    simnic_unref(nic);

    if (error) {
        unixctl_command_reply_error(conn, error);
        free(error);
    } else {
        VLOG_INFO("%s: fault %s%s%s", argv[1], fault, arg ? " " : "",
                  arg ? arg : "");
        unixctl_command_reply(conn, NULL);
    }
}

/* Registers the commands. */
void
simnic_unixctl_init(void)
{
    unixctl_command_register("simnic/show", "[NIC]", 0, 1, unixctl_show, NULL);
    unixctl_command_register("simnic/dump-flows", "[NIC]", 0, 1,
                             unixctl_dump_flows, NULL);
    unixctl_command_register("simnic/dump-lists", "[NIC]", 0, 1,
                             unixctl_dump_lists, NULL);
    unixctl_command_register("simnic/fault", "NIC FAULT [ARG]", 2, 3,
                             unixctl_fault, NULL);
}
