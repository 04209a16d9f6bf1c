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

#include "layered/ofproto-layered/layered-inspect-state.h"

#include "dpif.h"
#include "flow.h"
#include "hash.h"
#include "layered/ofproto-layered/layer-config.h"
#include "layered/ofproto-layered/layer-port.h"
#include "layered/ofproto-layered/layer-traverse.h"
#include "layered/ofproto-layered/layered-inspect-json.h"
#include "layered/ofproto-layered/unified-answer.h"
#include "layered/ofproto-layered/ofproto-layered.h"
#include "netdev.h"
#include "odp-util.h"
#include "ofproto/ofproto-dpif.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/hmap.h"
#include "openvswitch/json.h"
#include "openvswitch/match.h"
#include "openvswitch/ofp-flow.h"
#include "openvswitch/ofp-port.h"
#include "timeval.h"
#include "unixctl.h"
#include "util.h"
#include "uuid.h"

/* Pieces of JSON. */

static const struct json *
get_array(const struct json *object, const char *name)
{
    return shash_find_data(json_object(object), name);
}

static void
put_count(struct json *object, struct stats_value value)
{
    json_object_put(object, "packets", json_integer_create(value.packets));
    json_object_put(object, "bytes", json_integer_create(value.bytes));
}

/* Arguments. */

static const struct layer_stack *
get_stack(const struct layer_port *port)
{
    return layer_snapshot_stack(layer_snapshot_get(), port);
}

/* Returns the layer 'name' of 'stack', NULL if it has none. */
static const struct layer *
find_layer(const struct layer_stack *stack, const char *name)
{
    for (size_t i = 0; stack && i < stack->n; i++) {
        if (!strcmp(stack->layers[i].layer->name, name)) {
            return stack->layers[i].layer;
        }
    }
    return NULL;
}

/* Replies that 'port' has no layer 'name'. */
static void
reply_no_layer(struct unixctl_conn *conn, const struct layer_port *port,
               const char *name)
{
    char *error = xasprintf("%s: no layer \"%s\"", port->name, name);

    unixctl_command_reply_error(conn, error);
    free(error);
}

/* layered/rules. */

/* Of a rule, the number of layer flows that it has decided. */
struct flow_count {
    struct hmap_node node;
    const struct layer_rule *rule;
    size_t n;
};

static struct flow_count *
find_flow_count(const struct hmap *counts, const struct layer_rule *rule)
{
    struct flow_count *fc;

    HMAP_FOR_EACH_WITH_HASH (fc, node, hash_pointer(rule, 0), counts) {
        if (fc->rule == rule) {
            return fc;
        }
    }
    return NULL;
}

/* Initializes 'counts' with a struct flow_count for each rule of 'conns'. */
static void
count_flows(struct hmap *counts, struct connection *const *conns, size_t n)
{
    hmap_init(counts);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < conns[i]->path->n; j++) {
            const struct conn_layer *cl = &conns[i]->path->layers[j];

            if (cl->n_uses) {
                const struct layer_rule *rule
                    = cl->uses[cl->n_uses - 1]->rule;
                struct flow_count *fc = find_flow_count(counts, rule);

                if (!fc) {
                    fc = xzalloc(sizeof *fc);
                    fc->rule = rule;
                    hmap_insert(counts, &fc->node, hash_pointer(rule, 0));
                }
                fc->n++;
            }
        }
    }
}

static void
free_flow_counts(struct hmap *counts)
{
    struct flow_count *fc;

    HMAP_FOR_EACH_POP (fc, node, counts) {
        free(fc);
    }
    hmap_destroy(counts);
}

static void
free_connections(struct connection **conns, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        connection_unref(conns[i]);
    }
    free(conns);
}

static struct json *
rule_to_json(const struct layer_port *port, const struct layer_rule *rule,
             const struct hmap *counts)
{
    const struct flow_count *fc = find_flow_count(counts, rule);
    const struct rule_stats *rs = port_stats_find_rule(&port->stats, rule);
    struct json *json = json_object_create();

    json_object_put(json, "uuid", json_string_create_nocopy(
                        xasprintf(UUID_FMT, UUID_ARGS(&rule->uuid))));
    if (rule->name) {
        json_object_put_string(json, "name", rule->name);
    }
    json_object_put(json, "priority", json_integer_create(rule->priority));
    json_object_put_string(json, "match", rule->condition->text);
    json_object_put_string(json, "actions", rule->actions->text);
    put_count(json, rs ? stats_cell_get(&rs->cell)
              : (struct stats_value) { 0, 0 });
    json_object_put(json, "flows", json_integer_create(fc ? fc->n : 0));
    return json;
}

static void
add_side(struct json *array, const struct layer_port *port,
         const struct layer *layer, enum layer_direction dir,
         const struct hmap *counts)
{
    const struct layer_side *side = &layer->sides[dir];

    for (size_t i = 0; i < side->n; i++) {
        const struct layer_group *group = side->groups[i].group;
        const struct classifier_rule **rules
            = layer_classifier_rules(group->rules);
        struct json *json = json_object_create();
        struct json *json_rules = json_array_create_empty();

        json_object_put_string(json, "layer", layer->name);
        json_object_put_string(json, "direction",
                               layer_direction_to_string(dir));
        json_object_put(json, "key", json_integer_create(side->groups[i].key));
        json_object_put_string(json, "group", group->name);
        if (group->match) {
            json_object_put_string(json, "match", group->match->text);
        }
        json_object_put_string(
            json, "default", (group->default_verdict == LV_NONE ? "next"
                              : layer_verdict_to_string(
                                  group->default_verdict)));
        for (size_t j = 0; rules[j]; j++) {
            json_array_add(json_rules,
                           rule_to_json(port, layer_rule_from_cr(rules[j]),
                                        counts));
        }
        json_object_put(json, "rules", json_rules);
        json_array_add(array, json);
        free(rules);
    }
}

static void
format_rules(const struct json *json, struct ds *ds)
{
    static const char *const counts[] = { "packets", "bytes", "flows" };

    for (size_t i = 0; i < json_array_size(json); i++) {
        const struct json *group = json_array_at(json, i);
        const struct json *rules = get_array(group, "rules");
        const char *match = inspect_get_string(group, "match");
        const char *group_name = inspect_get_string(group, "group");

        ds_put_format(ds, "layer %s %s group %lld%s%s%s%s default=%s\n",
                      inspect_get_string(group, "layer"),
                      inspect_get_string(group, "direction"),
                      inspect_get_integer(group, "key"),
                      group_name[0] ? " " : "", group_name,
                      match ? " match=" : "", match ? match : "",
                      inspect_get_string(group, "default"));
        for (size_t j = 0; j < json_array_size(rules); j++) {
            const struct json *rule = json_array_at(rules, j);
            const char *name = inspect_get_string(rule, "name");

            ds_put_format(ds, "  priority=%lld%s%s",
                          inspect_get_integer(rule, "priority"),
                          name ? " name=" : "", name ? name : "");
            inspect_format_members(rule, counts, ARRAY_SIZE(counts), ds);
            ds_put_format(ds, " match=%s actions=%s\n",
                          inspect_get_string(rule, "match"),
                          inspect_get_string(rule, "actions"));
        }
    }
}

static void
layered_rules(struct unixctl_conn *conn, int argc, const char *argv[],
              void *aux OVS_UNUSED)
{
    struct layer_port *port = inspect_get_port(conn, argv[1]);
    const struct layer_stack *stack;
    enum layer_direction only_dir;
    const char *only = NULL;
    bool has_dir = false;

    unified_answer_run();
    if (!port) {
        return;
    }
    stack = get_stack(port);
    if (argc > 2) {
        has_dir = layer_direction_from_string(argv[2], &only_dir);
        only = argc > 3 ? argv[3] : has_dir ? NULL : argv[2];
        if (argc > 3 && !has_dir) {
            char *error = xasprintf("\"%s\" is neither \"inbound\" nor "
                                    "\"outbound\"", argv[2]);
            unixctl_command_reply_error(conn, error);
            free(error);
            layer_port_unref(port);
            return;
        }
    }
    if (only && !find_layer(stack, only)) {
        reply_no_layer(conn, port, only);
        layer_port_unref(port);
        return;
    }

    size_t n_conns;
    struct connection **conns = conn_table_list(port->conns, &n_conns);
    struct json *json = json_array_create_empty();
    struct hmap counts;
    count_flows(&counts, conns, n_conns);
    for (int dir = 0; dir < N_LAYER_DIRECTIONS; dir++) {
        if (has_dir && dir != only_dir) {
            continue;
        }
        for (size_t i = 0; stack && i < stack->n; i++) {
            size_t index = dir == LAYER_OUTBOUND ? i : stack->n - 1 - i;
            const struct layer *layer = stack->layers[index].layer;

            if (!only || !strcmp(layer->name, only)) {
                add_side(json, port, layer, dir, &counts);
            }
        }
    }
    free_flow_counts(&counts);
    free_connections(conns, n_conns);
    inspect_reply(conn, json, format_rules);
    layer_port_unref(port);
}

/* layered/flows. */

/* Changes 'key', of a packet of 'conn' that the VM sends, as 'cl' does. */
static void
translate_key(const struct connection *conn, const struct conn_layer *cl,
              struct conn_key *key)
{
    const struct conn_endpoint *src = NULL, *dst = NULL;
    struct conn_rewrite rw;

    conn_layer_rewrite(conn, cl, &rw);
    if (cl->dir == LAYER_OUTBOUND) {
        src = rw.snat ? &rw.snat_to : NULL;
        dst = rw.dnat ? &rw.dnat_to : NULL;
    } else {
        src = rw.dnat ? &rw.dnat_from : NULL;
        dst = rw.snat ? &rw.snat_from : NULL;
    }
    if (src) {
        key->src = src->addr;
        key->tp_src = src->port;
    }
    if (dst) {
        key->dst = dst->addr;
        key->tp_dst = dst->port;
    }
}

static struct json *
layer_flow_to_json(const struct connection *conn, const struct conn_layer *cl,
                   const struct conn_key *key, long long int now)
{
    const struct conn_live *live_ = conn->live;
    struct conn_live *live = CONST_CAST(struct conn_live *, live_);
    struct conn_progress progress = connection_progress(conn);
    struct json *json = json_object_create();
    struct conn_key out = *key, in;
    uint64_t packets[N_LAYER_DIRECTIONS], bytes[N_LAYER_DIRECTIONS];
    long long int used;

    translate_key(conn, cl, &out);
    conn_key_reverse(&out, &in);
    atomic_read_relaxed(&live->used, &used);
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        atomic_read_relaxed(&live->packets[i], &packets[i]);
        atomic_read_relaxed(&live->bytes[i], &bytes[i]);
    }

    json_object_put_string(json, "layer", cl->layer->name);
    json_object_put(json, "outbound",
                    json_string_create_nocopy(inspect_key_to_string(key)));
    json_object_put(json, "inbound",
                    json_string_create_nocopy(inspect_key_to_string(&in)));
    json_object_put_string(json, "state",
                           conn_state_to_string(progress.state));
    json_object_put_string(json, "opened",
                           layer_direction_to_string(cl->dir));
    json_object_put(json, "age",
                    json_integer_create((now - live->created) / 1000));
    json_object_put(json, "idle",
                    json_integer_create(MAX(now - used, 0) / 1000));
    json_object_put(json, "timeout", json_integer_create(
                        cl->layer->timeouts.seconds[progress.state]));
    json_object_put(json, "outbound_packets",
                    json_integer_create(packets[LAYER_OUTBOUND]));
    json_object_put(json, "outbound_bytes",
                    json_integer_create(bytes[LAYER_OUTBOUND]));
    json_object_put(json, "inbound_packets",
                    json_integer_create(packets[LAYER_INBOUND]));
    json_object_put(json, "inbound_bytes",
                    json_integer_create(bytes[LAYER_INBOUND]));
    if (cl->n_uses) {
        const struct layer_rule *rule = cl->uses[cl->n_uses - 1]->rule;

        json_object_put(json, "rule_uuid", json_string_create_nocopy(
                            xasprintf(UUID_FMT, UUID_ARGS(&rule->uuid))));
        json_object_put(json, "rule", json_string_create_nocopy(
                            xasprintf("%"PRIu16" %s actions=%s",
                                      rule->priority, rule->condition->text,
                                      rule->actions->text)));
    }
    return json;
}

static void
format_flows(const struct json *json, struct ds *ds)
{
    static const char *const names[] = {
        "outbound", "inbound", "state", "opened", "age", "idle", "timeout",
        "outbound_packets", "outbound_bytes", "inbound_packets",
        "inbound_bytes", "rule",
    };

    for (size_t i = 0; i < json_array_size(json); i++) {
        const struct json *flow = json_array_at(json, i);

        ds_put_format(ds, "layer %s:", inspect_get_string(flow, "layer"));
        inspect_format_members(flow, names, ARRAY_SIZE(names), ds);
        ds_put_char(ds, '\n');
    }
}

static int
compare_connections(const void *a_, const void *b_)
{
    const struct connection *const *a = a_;
    const struct connection *const *b = b_;

    return memcmp((*a)->keys, (*b)->keys, sizeof (*a)->keys);
}

static void
layered_flows(struct unixctl_conn *conn, int argc, const char *argv[],
              void *aux OVS_UNUSED)
{
    struct layer_port *port = inspect_get_port(conn, argv[1]);
    const char *only = argc > 2 ? argv[2] : NULL;
    struct json *json = json_array_create_empty();
    const struct layer_stack *stack;
    long long int now = time_msec();
    struct connection **conns;
    size_t n;

    unified_answer_run();
    if (!port) {
        json_destroy(json);
        return;
    }
    stack = get_stack(port);
    if (only && !find_layer(stack, only)) {
        reply_no_layer(conn, port, only);
        json_destroy(json);
        layer_port_unref(port);
        return;
    }
    conns = conn_table_list(port->conns, &n);
    if (n) {
        qsort(conns, n, sizeof *conns, compare_connections);
    }
    for (size_t i = 0; i < n; i++) {
        struct conn_key key = conns[i]->keys[LAYER_OUTBOUND];

        for (size_t j = 0; stack && j < stack->n; j++) {
            const struct layer *layer = stack->layers[j].layer;
            const struct conn_layer *cl
                = connection_find_layer(conns[i], layer, now);

            if (cl) {
                if (!only || !strcmp(layer->name, only)) {
                    json_array_add(json, layer_flow_to_json(conns[i], cl,
                                                            &key, now));
                }
                translate_key(conns[i], cl, &key);
            }
        }
    }
    free_connections(conns, n);
    inspect_reply(conn, json, format_flows);
    layer_port_unref(port);
}

/* layered/flush. */

/* Forgets 'conn''s layer flow in 'layer', or all of 'conn' if 'layer' is NULL
 * or translates addresses for it, because the other layers' flows are about
 * translated packets.  Returns true if there was something to forget. */
static bool
flush_connection(struct layer_port *port, const struct connection *conn,
                 const struct layer *layer)
{
    const struct conn_layer *cl = NULL;

    if (layer) {
        cl = connection_find_layer(conn, layer, LLONG_MIN);
        if (!cl) {
            return false;
        }
    }
    if (!cl || conn_layer_is_nat(cl) || conn->path->n == 1) {
        conn_table_remove(port->conns, conn);
    } else {
        conn_table_drop_layer(port->conns, conn, cl);
    }
    return true;
}

static void
layered_flush(struct unixctl_conn *conn, int argc, const char *argv[],
              void *aux OVS_UNUSED)
{
    struct layer_port *port = inspect_get_port(conn, argv[1]);
    const struct layer *layer = NULL;
    struct connection **conns;
    size_t n, n_flushed = 0;

    if (!port) {
        return;
    }
    if (argc > 2) {
        layer = find_layer(get_stack(port), argv[2]);
        if (!layer) {
            reply_no_layer(conn, port, argv[2]);
            layer_port_unref(port);
            return;
        }
    }
    conns = conn_table_list(port->conns, &n);
    for (size_t i = 0; i < n; i++) {
        n_flushed += flush_connection(port, conns[i], layer);
    }
    free_connections(conns, n);
    ofproto_layered_revalidate();

    if (unixctl_command_get_output_format(conn) == UNIXCTL_OUTPUT_FMT_JSON) {
        struct json *json = json_object_create();

        json_object_put(json, "flushed", json_integer_create(n_flushed));
        unixctl_command_reply_json(conn, json);
    } else {
        char *s = xasprintf("%"PRIuSIZE" connections\n", n_flushed);

        unixctl_command_reply(conn, s);
        free(s);
    }
    layer_port_unref(port);
}

/* layered/trace. */

static void
format_trace(const struct json *json, struct ds *ds)
{
    const struct json *layers = get_array(json, "layers");

    for (size_t i = 0; i < json_array_size(layers); i++) {
        const struct json *step = json_array_at(layers, i);
        const char *match = inspect_get_string(step, "match");
        const char *group = inspect_get_string(step, "group");

        ds_put_format(ds, "layer %s: %s by %s",
                      inspect_get_string(step, "layer"),
                      inspect_get_string(step, "verdict"),
                      inspect_get_string(step, "by"));
        if (group && group[0]) {
            ds_put_format(ds, " group=%s", group);
        }
        if (match) {
            ds_put_format(ds, " priority=%lld match=%s actions=%s",
                          inspect_get_integer(step, "priority"), match,
                          inspect_get_string(step, "actions"));
        }
        ds_put_char(ds, '\n');
    }
    ds_put_format(ds, "flow: %s\n", inspect_get_string(json, "flow"));
    ds_put_format(ds, "verdict: %s", inspect_get_string(json, "verdict"));
    if (inspect_get_string(json, "reason")) {
        ds_put_format(ds, " (%s)", inspect_get_string(json, "reason"));
    }
    ds_put_char(ds, '\n');
}

static void
trace_port(struct unixctl_conn *conn, const struct layer_port *port,
           enum layer_direction dir, struct flow *flow)
{
    struct flow_wildcards wc;
    struct layer_traversal t = {
        .port = port,
        .stack = get_stack(port),
        .version = layer_snapshot_version(layer_snapshot_get()),
        .dir = dir,
        .flow = flow,
        .wc = &wc,
        .now = time_msec(),
    };
    struct json *json = json_object_create();
    struct json *layers = json_array_create_empty();

    flow_wildcards_init_catchall(&wc);
    if (!t.stack) {
        t.drop = DROP_NOT_READY;
    } else {
        layer_traverse(&t);
    }
    for (size_t i = 0; i < t.n_steps; i++) {
        json_array_add(layers, inspect_step_to_json(&t.steps[i]));
    }
    json_object_put(json, "layers", layers);
    json_object_put_string(json, "verdict", t.drop ? "drop" : "allow");
    if (t.drop) {
        json_object_put_string(json, "reason", drop_reason_to_string(t.drop));
    }
    json_object_put(json, "connection", json_boolean_create(t.conn != NULL));
    json_object_put(json, "flow",
                    json_string_create_nocopy(flow_to_string(flow, NULL)));
    layer_traversal_uninit(&t);
    inspect_reply(conn, json, format_trace);
}

static void
layered_trace(struct unixctl_conn *conn, int argc OVS_UNUSED,
              const char *argv[], void *aux OVS_UNUSED)
{
    struct layer_port *port = inspect_get_port(conn, argv[1]);
    enum layer_direction dir;
    struct flow flow;
    char *error = NULL;

    if (!port) {
        return;
    }
    if (!layer_direction_from_string(argv[2], &dir)) {
        error = xasprintf("\"%s\" is neither \"inbound\" nor \"outbound\"",
                          argv[2]);
    } else {
        error = parse_ofp_exact_flow(&flow, NULL, NULL, argv[3], NULL);
    }
    if (error) {
        unixctl_command_reply_error(conn, error);
        free(error);
    } else {
        trace_port(conn, port, dir, &flow);
    }
    layer_port_unref(port);
}

/* layered/stats. */

static int
compare_named_stats(const void *a_, const void *b_)
{
    const struct named_stats *const *a = a_;
    const struct named_stats *const *b = b_;
    int cmp = strcmp((*a)->name, (*b)->name);

    return cmp ? cmp : (int) (*a)->reason - (int) (*b)->reason;
}

/* Returns the counts of 'ps' by name, of which there are '*n', in order.  The
 * caller frees the array, whose members are valid until it quiesces. */
static const struct named_stats **
sort_named_stats(const struct port_stats *ps, size_t *n)
{
    const struct named_stats **list = NULL;
    const struct named_stats *ns;
    size_t allocated = 0;

    *n = 0;
    CMAP_FOR_EACH (ns, node, &ps->named) {
        if (*n >= allocated) {
            list = x2nrealloc(list, &allocated, sizeof *list);
        }
        list[(*n)++] = ns;
    }
    if (*n) {
        qsort(list, *n, sizeof *list, compare_named_stats);
    }
    return list;
}

static struct json *
port_to_stats_json(const struct layer_port *port)
{
    const struct named_stats **list;
    size_t n;
    struct json *json = json_object_create();
    struct json *drops = json_array_create_empty();
    struct json *counters = json_object_create();
    struct json *hits = json_object_create();

    for (size_t i = 0; i < N_TIERS; i++) {
        json_object_put(hits, port_tier_to_string(i),
                        json_integer_create(port_stats_hits(&port->stats,
                                                            i)));
    }
    list = sort_named_stats(&port->stats, &n);
    for (size_t i = 0; i < n; i++) {
        const struct named_stats *ns = list[i];
        struct json *cell = json_object_create();

        put_count(cell, stats_cell_get(&ns->cell));
        if (ns->reason) {
            json_object_put_string(cell, "layer", ns->name);
            json_object_put_string(cell, "reason",
                                   drop_reason_to_string(ns->reason));
            json_array_add(drops, cell);
        } else {
            json_object_put(counters, ns->name, cell);
        }
    }
    free(list);
    json_object_put(json, "connections",
                    json_integer_create(conn_table_count(port->conns)));
    json_object_put(json, "opened",
                    json_integer_create(conn_table_opened(port->conns)));
    json_object_put(json, "evicted",
                    json_integer_create(conn_table_evicted(port->conns)));
    json_object_put(json, "promotions", json_integer_create(
                        port_stats_promotions(&port->stats)));
    json_object_put(json, "hits", hits);
    json_object_put(json, "drops", drops);
    json_object_put(json, "counters", counters);
    return json;
}

static void
format_stats(const struct json *json, struct ds *ds)
{
    static const char *const conns[] = { "connections", "opened", "evicted" };
    static const char *const tiers[] = { "nic", "datapath", "cache", "rules" };
    static const char *const counts[] = { "packets", "bytes" };
    const struct shash_node **ports = shash_sort(json_object(json));

    for (size_t i = 0; i < shash_count(json_object(json)); i++) {
        const struct json *port = ports[i]->data;
        const struct json *drops = get_array(port, "drops");
        const struct shash *counters
            = json_object(shash_find_data(json_object(port), "counters"));
        const struct shash_node **sorted = shash_sort(counters);

        ds_put_format(ds, "%s:", ports[i]->name);
        inspect_format_members(port, conns, ARRAY_SIZE(conns), ds);
        ds_put_cstr(ds, "\n  hits");
        inspect_format_members(shash_find_data(json_object(port), "hits"),
                               tiers, ARRAY_SIZE(tiers), ds);
        ds_put_format(ds, " promotions=%lld\n",
                      inspect_get_integer(port, "promotions"));
        for (size_t j = 0; j < json_array_size(drops); j++) {
            const struct json *drop = json_array_at(drops, j);

            const char *layer = inspect_get_string(drop, "layer");

            ds_put_cstr(ds, "  drop");
            if (layer[0]) {
                ds_put_format(ds, " layer=%s", layer);
            }
            ds_put_format(ds, " reason=%s",
                          inspect_get_string(drop, "reason"));
            inspect_format_members(drop, counts, ARRAY_SIZE(counts), ds);
            ds_put_char(ds, '\n');
        }
        for (size_t j = 0; j < shash_count(counters); j++) {
            ds_put_format(ds, "  count %s", sorted[j]->name);
            inspect_format_members(sorted[j]->data, counts,
                                   ARRAY_SIZE(counts), ds);
            ds_put_char(ds, '\n');
        }
        free(sorted);
    }
    free(ports);
}

static void
layered_stats(struct unixctl_conn *conn, int argc, const char *argv[],
              void *aux OVS_UNUSED)
{
    struct json *json = json_object_create();

    unified_answer_run();
    if (argc > 1) {
        struct layer_port *port = inspect_get_port(conn, argv[1]);

        if (!port) {
            json_destroy(json);
            return;
        }
        json_object_put(json, port->name, port_to_stats_json(port));
        layer_port_unref(port);
    } else {
        struct layer_port **ports = layer_ports_list();

        for (size_t i = 0; ports[i]; i++) {
            const struct layer_stack *stack = get_stack(ports[i]);

            if (!stack || stack->n) {
                json_object_put(json, ports[i]->name,
                                port_to_stats_json(ports[i]));
            }
        }
        layer_ports_list_free(ports);
    }
    inspect_reply(conn, json, format_stats);
}

/* Registers the commands.  Must be called once. */
void
layered_inspect_state_init(void)
{
    unixctl_command_register("layered/rules", "iface [inbound|outbound] "
                             "[layer]", 1, 3, layered_rules, NULL);
    unixctl_command_register("layered/flows", "iface [layer]", 1, 2,
                             layered_flows, NULL);
    unixctl_command_register("layered/flush", "iface [layer]", 1, 2,
                             layered_flush, NULL);
    unixctl_command_register("layered/trace", "iface inbound|outbound flow", 3,
                             3, layered_trace, NULL);
    unixctl_command_register("layered/stats", "[iface]", 0, 1, layered_stats,
                             NULL);
}
