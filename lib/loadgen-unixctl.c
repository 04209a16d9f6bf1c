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

#include "layered/lib/loadgen.h"

#include "openvswitch/dynamic-string.h"
#include "openvswitch/json.h"
#include "openvswitch/vlog.h"
#include "packets.h"
#include "unixctl.h"
#include "util.h"

VLOG_DEFINE_THIS_MODULE(loadgen_unixctl);

static bool
parse_number(const char *value, uint64_t min, uint64_t max, uint64_t *number)
{
    unsigned long long int n;

    if (value[strspn(value, "0123456789")]
        || !str_to_ullong(value, 10, &n) || n < min || n > max) {
        return false;
    }
    *number = n;
    return true;
}

/* Parses "KEY=VALUE" in 'arg' into '*program'.  Returns NULL if successful,
 * otherwise an error message that the caller frees. */
static char *
parse_argument(const char *arg, struct loadgen_program *p)
{
    const char *value = strchr(arg, '=');

    if (!value) {
        return xasprintf("%s: not of the form KEY=VALUE", arg);
    }
    value++;

    char *key = xmemdup0(arg, value - 1 - arg);
    char *error = NULL;
    bool ok = true;
    ovs_be32 ip, mask;
    uint64_t n;

    /* Members of 64, 32 and 16 bits that are plain numbers. */
    const struct {
        const char *key;
        uint64_t *u64;
        uint32_t *u32;
        uint16_t *u16;
        uint64_t min, max;
    } numbers[] = {
        { "clients", NULL, &p->n_clients, NULL, 1, UINT32_MAX },
        { "client-port", NULL, NULL, &p->client_port, 1, UINT16_MAX },
        { "client-ports", NULL, &p->n_client_ports, NULL, 1, UINT16_MAX },
        { "services", NULL, &p->n_services, NULL, 1, UINT32_MAX },
        { "service-port", NULL, NULL, &p->service_port, 1, UINT16_MAX },
        { "connections", NULL, &p->n_connections, NULL, 0,
          LOADGEN_MAX_CONNECTIONS - 1 },
        { "window", NULL, &p->window, NULL, 1, UINT32_MAX },
        { "data-rate", &p->data_rate, NULL, NULL, 0, UINT32_MAX },
        { "slots", NULL, &p->n_slots, NULL, 0, LOADGEN_MAX_CONNECTIONS - 1 },
        { "tuples", NULL, &p->n_tuples, NULL, 1, UINT32_MAX },
        { "churn-rate", &p->churn_rate, NULL, NULL, 0, UINT32_MAX },
        { "timeout", NULL, &p->timeout, NULL, 1, 3600000 },
        { "spray-rate", &p->spray_rate, NULL, NULL, 0, UINT32_MAX },
    };

    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        if (!strcmp(key, numbers[i].key)) {
            if (!parse_number(value, numbers[i].min, numbers[i].max, &n)) {
                error = xasprintf("%s: \"%s\" is not a number from %"PRIu64
                                  " to %"PRIu64, key, value, numbers[i].min,
                                  numbers[i].max);
            } else if (numbers[i].u64) {
                *numbers[i].u64 = n;
            } else if (numbers[i].u32) {
                *numbers[i].u32 = n;
            } else {
                *numbers[i].u16 = n;
            }
            goto done;
        }
    }

    if (!strcmp(key, "client")) {
        ok = ip_parse(value, &ip);
        p->client = ok ? ntohl(ip) : 0;
    } else if (!strcmp(key, "service")) {
        ok = ip_parse(value, &ip);
        p->service = ok ? ntohl(ip) : 0;
    } else if (!strcmp(key, "wire-src") || !strcmp(key, "wire-dst")) {
        char *e = ip_parse_masked(value, &ip, &mask);

        ok = !e;
        free(e);
        if (ok) {
            struct loadgen_expectation *x
                = !strcmp(key, "wire-src") ? &p->wire_src : &p->wire_dst;

            x->address = ip & mask;
            x->mask = mask;
        }
    } else if (!strcmp(key, "order")) {
        if (!strcmp(value, "turn")) {
            p->random_order = false;
        } else if (!strcmp(value, "random")) {
            p->random_order = true;
        } else {
            error = xasprintf("order: \"%s\" is neither turn nor random",
                              value);
        }
    } else {
        error = xasprintf("%s: unknown key", key);
    }
    if (!ok) {
        error = xasprintf("%s: \"%s\" is no IPv4 address", key, value);
    }

done:
    free(key);
    return error;
}

/* Returns the port called 'name', with a reference that the caller drops, or
 * replies to 'conn' that there is none and returns NULL. */
static struct loadgen_port *
find_port(struct unixctl_conn *conn, const char *name)
{
    struct loadgen_port *port = loadgen_port_find(name);

    if (!port) {
        char *error = xasprintf("%s: no such interface of type loadgen", name);

        unixctl_command_reply_error(conn, error);
        free(error);
    }
    return port;
}

/* Replies to 'conn' with the outcome of a command about the port called
 * 'name', 'error' being NULL if it was successful.  Frees 'error'. */
static void
reply(struct unixctl_conn *conn, const char *name, char *error)
{
    if (error) {
        char *s = xasprintf("%s: %s", name, error);

        unixctl_command_reply_error(conn, s);
        free(s);
        free(error);
    } else {
        unixctl_command_reply(conn, NULL);
    }
}

/* "loadgen/start" and, with 'change' nonnull, "loadgen/change". */
static void
unixctl_start(struct unixctl_conn *conn, int argc, const char *argv[],
              void *change)
{
    struct loadgen_port *port = find_port(conn, argv[1]);
    struct loadgen_program program;
    char *error = NULL;

    if (!port) {
        return;
    }
    if (!change || !loadgen_port_get_program(port, &program)) {
        loadgen_program_init(&program);
    }
    for (int i = 2; i < argc && !error; i++) {
        error = parse_argument(argv[i], &program);
    }
    if (!error) {
        error = (change ? loadgen_port_change : loadgen_port_start)(port,
                                                                    &program);
    }
    reply(conn, argv[1], error);
    loadgen_port_unref(port);
}

static void
unixctl_run(struct unixctl_conn *conn, int argc, const char *argv[],
            void *aux OVS_UNUSED)
{
    struct loadgen_port *port = find_port(conn, argv[1]);
    enum loadgen_activity active = 0;
    char *error = NULL;

    if (!port) {
        return;
    }
    for (int i = 2; i < argc && !error; i++) {
        if (!strcmp(argv[i], "data")) {
            active |= LOADGEN_DATA;
        } else if (!strcmp(argv[i], "churn")) {
            active |= LOADGEN_CHURN;
        } else if (!strcmp(argv[i], "spray")) {
            active |= LOADGEN_SPRAY;
        } else {
            error = xasprintf("\"%s\" is none of data, churn and spray",
                              argv[i]);
        }
    }
    reply(conn, argv[1], error ? error : loadgen_port_run(port, active));
    loadgen_port_unref(port);
}

static void
unixctl_stop(struct unixctl_conn *conn, int argc OVS_UNUSED,
             const char *argv[], void *aux OVS_UNUSED)
{
    struct loadgen_port *port = find_port(conn, argv[1]);

    if (port) {
        loadgen_port_stop(port);
        loadgen_port_unref(port);
        unixctl_command_reply(conn, NULL);
    }
}

/* Appends a line about the port that 'json' describes to 's'. */
static void
format_port(const struct json *json, struct ds *s)
{
    const struct shash *object = json_object(json);
    const struct json *state = shash_find_data(object, "state");
    const struct shash_node **nodes;
    const struct shash *counters;

    ds_put_format(s, "%s: %s", json_string(shash_find_data(object, "name")),
                  json_string(shash_find_data(object, "role")));
    if (state) {
        ds_put_format(s, " %"PRId64", %s",
                      json_integer(shash_find_data(object, "vm")),
                      json_string(state));
    }
    ds_put_char(s, '\n');

    counters = json_object(shash_find_data(object, "counters"));
    nodes = shash_sort(counters);
    for (size_t i = 0; i < shash_count(counters); i++) {
        int64_t value = json_integer(nodes[i]->data);

        if (value) {
            ds_put_format(s, "  %s: %"PRId64"\n", nodes[i]->name, value);
        }
    }
    free(nodes);
}

static void
unixctl_show(struct unixctl_conn *conn, int argc, const char *argv[],
             void *aux OVS_UNUSED)
{
    struct json *array = json_array_create_empty();

    if (argc > 1) {
        struct loadgen_port *port = find_port(conn, argv[1]);

        if (!port) {
            json_destroy(array);
            return;
        }
        json_array_add(array, loadgen_port_to_json(port));
        loadgen_port_unref(port);
    } else {
        loadgen_ports_to_json(array);
    }

    if (unixctl_command_get_output_format(conn) == UNIXCTL_OUTPUT_FMT_JSON) {
        unixctl_command_reply_json(conn, array);
    } else {
        struct ds s = DS_EMPTY_INITIALIZER;

        for (size_t i = 0; i < json_array_size(array); i++) {
            format_port(json_array_at(array, i), &s);
        }
        unixctl_command_reply(conn, ds_cstr(&s));
        ds_destroy(&s);
        json_destroy(array);
    }
}

/* Registers the commands. */
void
loadgen_unixctl_init(void)
{
    unixctl_command_register("loadgen/start", "PORT [KEY=VALUE]...", 1,
                             INT_MAX, unixctl_start, NULL);
    unixctl_command_register("loadgen/change", "PORT [KEY=VALUE]...", 1,
                             INT_MAX, unixctl_start, &loadgen_unixctl_init);
    unixctl_command_register("loadgen/run", "PORT [data] [churn] [spray]", 1,
                             4, unixctl_run, NULL);
    unixctl_command_register("loadgen/stop", "PORT", 1, 1, unixctl_stop, NULL);
    unixctl_command_register("loadgen/show", "[PORT]", 0, 1, unixctl_show,
                             NULL);
}
