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

#include "layered/ofproto-layered/layered-inspect-json.h"

#include "layered/ofproto-layered/layer-packet.h"
#include "layered/ofproto-layered/layer-port.h"
#include "layered/ofproto-layered/layer-traverse.h"
#include "openvswitch/dynamic-string.h"
#include "packets.h"
#include "unixctl.h"
#include "util.h"
#include "uuid.h"

/* Replies with 'json', or text that 'format' makes of it, and frees it. */
void
inspect_reply(struct unixctl_conn *conn, struct json *json,
              format_func *format)
{
    if (unixctl_command_get_output_format(conn) == UNIXCTL_OUTPUT_FMT_JSON) {
        unixctl_command_reply_json(conn, json);
    } else {
        struct ds ds = DS_EMPTY_INITIALIZER;

        format(json, &ds);
        unixctl_command_reply(conn, ds_cstr(&ds));
        ds_destroy(&ds);
        json_destroy(json);
    }
}

/* Returns member 'name' of 'object', NULL if it is no string. */
const char *
inspect_get_string(const struct json *object, const char *name)
{
    const struct json *json = shash_find_data(json_object(object), name);

    return json && json->type == JSON_STRING ? json_string(json) : NULL;
}

/* Returns member 'name' of 'object', 0 if it is no integer. */
long long int
inspect_get_integer(const struct json *object, const char *name)
{
    const struct json *json = shash_find_data(json_object(object), name);

    return json && json->type == JSON_INTEGER ? json_integer(json) : 0;
}

/* Appends "name=value" for the members 'names' of 'object' that it has, null
 * being a time that has never been. */
void
inspect_format_members(const struct json *object, const char *const names[],
                       size_t n, struct ds *ds)
{
    for (size_t i = 0; i < n; i++) {
        const struct json *json = shash_find_data(json_object(object),
                                                  names[i]);

        if (!json) {
            continue;
        }
        ds_put_format(ds, " %s=", names[i]);
        if (json->type == JSON_STRING) {
            ds_put_cstr(ds, json_string(json));
        } else if (json->type == JSON_NULL) {
            ds_put_cstr(ds, "never");
        } else {
            json_to_ds(json, JSSF_SORT, ds);
        }
    }
}

/* Returns the port of interface 'name', with a reference, NULL if there is
 * none. */
static struct layer_port *
find_port(const char *name)
{
    struct layer_port **ports = layer_ports_list();
    struct layer_port *port = NULL;

    for (size_t i = 0; ports[i]; i++) {
        if (!strcmp(ports[i]->name, name)) {
            port = layer_port_ref(ports[i]);
        }
    }
    layer_ports_list_free(ports);
    return port;
}

/* Returns the port of interface 'name', with a reference.  If there is none,
 * replies with an error and returns NULL. */
struct layer_port *
inspect_get_port(struct unixctl_conn *conn, const char *name)
{
    struct layer_port *port = find_port(name);

    if (!port) {
        char *error = xasprintf("%s: no such port on a layered bridge", name);

        unixctl_command_reply_error(conn, error);
        free(error);
    }
    return port;
}

static void
format_address(const struct in6_addr *addr, struct ds *ds)
{
    if (IN6_IS_ADDR_V4MAPPED(addr)) {
        ds_put_format(ds, IP_FMT, IP_ARGS(in6_addr_get_mapped_ipv4(addr)));
    } else {
        ipv6_format_addr(addr, ds);
    }
}

/* Returns 'key' as "tcp,src=...,dst=...,sport=...,dport=...". */
char *
inspect_key_to_string(const struct conn_key *key)
{
    struct ds ds = DS_EMPTY_INITIALIZER;

    switch (key->nw_proto) {
    case IPPROTO_TCP: ds_put_cstr(&ds, "tcp"); break;
    case IPPROTO_UDP: ds_put_cstr(&ds, "udp"); break;
    case IPPROTO_SCTP: ds_put_cstr(&ds, "sctp"); break;
    case IPPROTO_ICMP: ds_put_cstr(&ds, "icmp"); break;
    case IPPROTO_ICMPV6: ds_put_cstr(&ds, "icmp6"); break;
    default: ds_put_format(&ds, "%"PRIu8, key->nw_proto); break;
    }
    ds_put_cstr(&ds, ",src=");
    format_address(&key->src, &ds);
    ds_put_cstr(&ds, ",dst=");
    format_address(&key->dst, &ds);
    if (key->tp_src || key->tp_dst) {
        ds_put_format(&ds, ",sport=%"PRIu16",dport=%"PRIu16,
                      ntohs(key->tp_src), ntohs(key->tp_dst));
    }
    return ds_steal_cstr(&ds);
}

/* Returns 'step' as JSON. */
struct json *
inspect_step_to_json(const struct layer_step *step)
{
    struct json *json = json_object_create();

    json_object_put_string(json, "layer", step->layer->name);
    json_object_put_string(json, "verdict",
                           layer_verdict_to_string(step->verdict));
    json_object_put(json, "stateful", json_boolean_create(step->stateful));
    if (step->flow) {
        json_object_put_string(json, "by", "layer flow");
    } else if (step->rule) {
        json_object_put_string(json, "by", "rule");
    } else if (step->group) {
        json_object_put_string(json, "by", "group default");
    } else {
        json_object_put_string(json, "by", "default");
    }
    if (step->group) {
        json_object_put_string(json, "group", step->group->name);
    }
    if (step->rule) {
        const struct layer_rule *rule = step->rule;

        if (rule->name) {
            json_object_put_string(json, "rule", rule->name);
        } else {
            json_object_put(json, "rule", json_string_create_nocopy(
                                xasprintf(UUID_FMT, UUID_ARGS(&rule->uuid))));
        }
        json_object_put(json, "priority", json_integer_create(rule->priority));
        json_object_put_string(json, "match", rule->condition->text);
        json_object_put_string(json, "actions", rule->actions->text);
    }
    return json;
}
