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

#include "layered/ofproto-layered/layered-inspect.h"

#include "dpif.h"
#include "layered/ofproto-layered/layer-port.h"
#include "layered/ofproto-layered/layered-inspect-state.h"
#include "layered/ofproto-layered/layered-inspect-unified.h"
#include "layered/ofproto-layered/ofproto-layered.h"
#include "netdev.h"
#include "ofproto/ofproto-dpif.h"
#include "unixctl.h"
#include "util.h"

#include "openvswitch/dynamic-string.h"
#include "openvswitch/json.h"
#include "openvswitch/ofp-port.h"
#include "openvswitch/shash.h"

/* Returns the ofproto of 'layered', which owns it. */
static const struct ofproto *
layered_to_ofproto(const struct ofproto_layered *layered)
{
    return &layered->up.up;
}

/* Adds to 'bridges' all the layered bridges, by name, as far as they have a
 * port named 'iface', or all of them if 'iface' is NULL. */
static void
collect_bridges(const char *iface, struct shash *bridges)
{
    const struct ofproto_layered *layered;

    LIST_FOR_EACH (layered, list_node, ofproto_layered_get_all()) {
        const struct ofproto *ofproto = layered_to_ofproto(layered);

        if (!iface || shash_find(&ofproto->port_by_name, iface)) {
            shash_add(bridges, ofproto->name, layered);
        }
    }
}

/* Returns the layers of 'port', NULL if they are not known. */
static const struct layer_stack *
get_stack(const struct layer_port *port)
{
    return port ? layer_snapshot_stack(layer_snapshot_get(), port) : NULL;
}

/* Returns the number of rules of 'layer' in both directions. */
static size_t
count_rules(const struct layer *layer)
{
    size_t n = 0;

    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        for (size_t j = 0; j < layer->sides[i].n; j++) {
            n += layer_classifier_count(layer->sides[i].groups[j]
                                        .group->rules);
        }
    }
    return n;
}

static void
show_port_text(const char *name, const struct ofport *port,
               const struct layer_port *layer_port, struct ds *ds)
{
    const struct layer_stack *stack = get_stack(layer_port);

    ds_put_format(ds, "  %s %"PRIu32": (%s)", name,
                  ofp_to_u16(port->ofp_port), netdev_get_type(port->netdev));
    if (!stack) {
        ds_put_cstr(ds, " policy not known yet\n");
    } else if (!stack->n) {
        ds_put_cstr(ds, " no layers\n");
    } else {
        ds_put_format(ds, " generation %"PRIu64", %"PRIuSIZE" connections of "
                      "%"PRIu32"\n", stack->version,
                      conn_table_count(layer_port->conns), stack->flow_limit);
        for (size_t i = 0; i < stack->n; i++) {
            ds_put_format(ds, "    %"PRId64": %s, %"PRIuSIZE" rules\n",
                          stack->layers[i].position,
                          stack->layers[i].layer->name,
                          count_rules(stack->layers[i].layer));
        }
    }
}

static struct json *
show_port_json(const struct ofport *port, const struct layer_port *layer_port)
{
    const struct layer_stack *stack = get_stack(layer_port);
    struct json *layers = json_array_create_empty();
    struct json *json = json_object_create();

    json_object_put(json, "ofport",
                    json_integer_create(ofp_to_u16(port->ofp_port)));
    json_object_put_string(json, "type", netdev_get_type(port->netdev));
    json_object_put(json, "layers", layers);
    if (!stack) {
        json_object_put(json, "known", json_boolean_create(false));
    } else if (stack->n) {
        json_object_put(json, "generation",
                        json_integer_create(stack->version));
        json_object_put(json, "connections", json_integer_create(
                            conn_table_count(layer_port->conns)));
        json_object_put(json, "flow_limit",
                        json_integer_create(stack->flow_limit));
        for (size_t i = 0; i < stack->n; i++) {
            struct json *layer = json_object_create();

            json_object_put(layer, "position", json_integer_create(
                                stack->layers[i].position));
            json_object_put_string(layer, "name",
                                   stack->layers[i].layer->name);
            json_object_put(layer, "rules", json_integer_create(
                                count_rules(stack->layers[i].layer)));
            json_array_add(layers, layer);
        }
    }
    return json;
}

/* Shows 'layered' and its port 'iface', or all its ports if 'iface' is NULL,
 * in 'ds' if that is nonnull, and otherwise in the object 'json'. */
static void
show_bridge(const struct ofproto_layered *layered, const char *iface,
            struct ds *ds, struct json *json)
{
    const struct ofproto *ofproto = layered_to_ofproto(layered);
    const char *datapath = dpif_name(layered->up.backer->dpif);
    struct json *json_ports = NULL;

    if (ds) {
        ds_put_format(ds, "%s: %s on %s\n", ofproto->name, ofproto->type,
                      datapath);
    } else {
        struct json *json_bridge = json_object_create();

        json_ports = json_object_create();
        json_object_put_string(json_bridge, "type", ofproto->type);
        json_object_put_string(json_bridge, "datapath", datapath);
        json_object_put(json_bridge, "ports", json_ports);
        json_object_put(json, ofproto->name, json_bridge);
    }

    const struct shash_node **ports = shash_sort(&ofproto->port_by_name);
    for (size_t i = 0; i < shash_count(&ofproto->port_by_name); i++) {
        const char *name = ports[i]->name;
        const struct ofport *port = ports[i]->data;
        const struct layer_port *layer_port = layer_port_lookup(
            ofp_port_to_ofport(&layered->up, port->ofp_port));

        if (iface && strcmp(iface, name)) {
            continue;
        }
        if (ds) {
            show_port_text(name, port, layer_port, ds);
        } else {
            json_object_put(json_ports, name,
                            show_port_json(port, layer_port));
        }
    }
    free(ports);
}

static void
layered_show(struct unixctl_conn *conn, int argc, const char *argv[],
             void *aux OVS_UNUSED)
{
    bool text = (unixctl_command_get_output_format(conn)
                 == UNIXCTL_OUTPUT_FMT_TEXT);
    struct json *json = text ? NULL : json_object_create();
    const char *iface = argc > 1 ? argv[1] : NULL;
    struct shash bridges = SHASH_INITIALIZER(&bridges);
    struct ds ds = DS_EMPTY_INITIALIZER;

    collect_bridges(iface, &bridges);

    const struct shash_node **nodes = shash_sort(&bridges);
    for (size_t i = 0; i < shash_count(&bridges); i++) {
        show_bridge(nodes[i]->data, iface, text ? &ds : NULL, json);
    }
    free(nodes);

    if (iface && shash_is_empty(&bridges)) {
        ds_put_format(&ds, "%s: no such port on a layered bridge", iface);
        unixctl_command_reply_error(conn, ds_cstr(&ds));
        json_destroy(json);
    } else if (text) {
        unixctl_command_reply(conn, ds_cstr(&ds));
    } else {
        unixctl_command_reply_json(conn, json);
    }
    ds_destroy(&ds);
    shash_destroy(&bridges);
}

/* Registers the commands.  Must be called once. */
void
layered_inspect_init(void)
{
    layered_inspect_state_init();
    layered_inspect_unified_init();
    unixctl_command_register("layered/show", "[iface]", 0, 1, layered_show,
                             NULL);
}
