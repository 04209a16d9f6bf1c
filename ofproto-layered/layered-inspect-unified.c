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

#include "layered/ofproto-layered/layered-inspect-unified.h"

#include <netinet/icmp6.h>

#include "dpif.h"
#include "dpif-offload.h"
#include "flow.h"
#include "layered/lib/dpif-offload-simnic.h"
#include "layered/ofproto-layered/admission.h"
#include "layered/ofproto-layered/layer-port.h"
#include "layered/ofproto-layered/layer-traverse.h"
#include "layered/ofproto-layered/layer-xlate.h"
#include "layered/ofproto-layered/layered-inspect-json.h"
#include "layered/ofproto-layered/unified-answer.h"
#include "netlink.h"
#include "odp-netlink.h"
#include "odp-util.h"
#include "ofproto/ofproto-dpif-xlate.h"
#include "ofproto/ofproto-dpif.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/match.h"
#include "packets.h"
#include "timeval.h"
#include "unixctl.h"
#include "util.h"

struct unified {
    const struct layer_port *port;
    const struct layer_stack *stack;
    odp_port_t odp_port;        /* Of 'port'. */
    struct json *json;          /* Array. */
    long long int now;

    /* The connections of the port, in order of their outbound key, and whether
     * each direction has been seen in the datapath. */
    struct connection **conns;
    size_t n_conns;
    bool (*in_datapath)[N_LAYER_DIRECTIONS];
};

/* Applies the header fields that 'a', a "set" action, sets to 'flow'. */
static void
apply_set(const struct nlattr *a, struct flow *flow)
{
    enum ovs_key_attr type = nl_attr_type(a);
    const void *p = nl_attr_get(a);

    if (type == OVS_KEY_ATTR_IPV4) {
        const struct ovs_key_ipv4 *value = p, *mask = value + 1;

        flow->nw_src = ((flow->nw_src & ~mask->ipv4_src)
                        | (value->ipv4_src & mask->ipv4_src));
        flow->nw_dst = ((flow->nw_dst & ~mask->ipv4_dst)
                        | (value->ipv4_dst & mask->ipv4_dst));
    } else if (type == OVS_KEY_ATTR_IPV6) {
        const struct ovs_key_ipv6 *value = p, *mask = value + 1;
        const struct in6_addr *src = (const void *) &value->ipv6_src;
        const struct in6_addr *dst = (const void *) &value->ipv6_dst;

        if (!ipv6_mask_is_any((const void *) &mask->ipv6_src)) {
            flow->ipv6_src = *src;
        }
        if (!ipv6_mask_is_any((const void *) &mask->ipv6_dst)) {
            flow->ipv6_dst = *dst;
        }
    } else if (type == OVS_KEY_ATTR_TCP || type == OVS_KEY_ATTR_UDP
               || type == OVS_KEY_ATTR_SCTP) {
        const struct ovs_key_tcp *value = p, *mask = value + 1;

        flow->tp_src = ((flow->tp_src & ~mask->tcp_src)
                        | (value->tcp_src & mask->tcp_src));
        flow->tp_dst = ((flow->tp_dst & ~mask->tcp_dst)
                        | (value->tcp_dst & mask->tcp_dst));
    }
}

/* Executes 'actions' on 'flow' up to the output to 'port'.  Returns false if
 * there is none. */
static bool
find_output(const struct layer_port *port, const struct nlattr *actions,
            size_t actions_len, struct flow *flow)
{
    const struct nlattr *a;
    size_t left;

    NL_ATTR_FOR_EACH_UNSAFE (a, left, actions, actions_len) {
        switch (nl_attr_type(a)) {
        case OVS_ACTION_ATTR_OUTPUT:
            if (odp_port_to_ofport(port->ofproto->backer,
                                   nl_attr_get_odp_port(a))
                == port->ofport) {
                return true;
            }
            break;
        case OVS_ACTION_ATTR_SET_MASKED:
            apply_set(nl_attr_get(a), flow);
            break;
        default:
            break;
        }
    }
    return false;
}

static int
compare_key_and_connection(const void *key, const void *conn_)
{
    const struct connection *const *conn = conn_;

    return memcmp(key, &(*conn)->keys[LAYER_OUTBOUND],
                  sizeof(struct conn_key));
}

static int
compare_connections(const void *a_, const void *b)
{
    const struct connection *const *a = a_;

    return compare_key_and_connection(&(*a)->keys[LAYER_OUTBOUND], b);
}

/* Finds the connection whose packets leave the VM with the tuple of 'flow', or
 * reach it with that if 'dir' is LAYER_INBOUND. */
static size_t
find_connection(const struct unified *u, const struct flow *flow,
                enum layer_direction dir)
{
    struct conn_key key, out;

    if (conn_key_from_flow(flow, &key)) {
        if (dir == LAYER_INBOUND) {
            conn_key_reverse(&key, &out);
        } else {
            out = key;
        }
        struct connection **conn = NULL;

        if (u->n_conns) {
            conn = bsearch(&out, u->conns, u->n_conns, sizeof *u->conns,
                           compare_key_and_connection);
        }
        if (conn) {
            return conn - u->conns;
        }
    }
    return SIZE_MAX;
}

/* Adds the steps of 't' to 'json'. */
static void
add_steps(const struct layer_traversal *t, struct json *json)
{
    for (size_t i = 0; i < t->n_steps; i++) {
        json_array_add(json, inspect_step_to_json(&t->steps[i]));
    }
}

/* Collects the steps of a packet through the layers of a port. */
struct step_collector {
    const struct layer_port *port;
    enum layer_direction dir;
    struct json *json;
};

static void
collect_steps(const struct layer_traversal *t, void *sc_)
{
    struct step_collector *sc = sc_;

    if (t->port == sc->port && t->dir == sc->dir) {
        add_steps(t, sc->json);
    }
}

/* Translates 'flow', which enters 'ofproto' through 'in_port', without side
 * effects.  Stores what it depends on in 'wc' and appends its datapath actions
 * to 'actions'.  Returns the steps of the packet through the port's layers in
 * direction 'dir'. */
static struct json *
translate(const struct unified *u, struct ofproto_dpif *ofproto,
          ofp_port_t in_port, const struct flow *flow,
          enum layer_direction dir, struct flow_wildcards *wc,
          struct ofpbuf *actions)
{
    struct step_collector sc = {
        .port = u->port,
        .dir = dir,
        .json = json_array_create_empty(),
    };
    struct xlate_out xout;
    struct xlate_in xin;

    xlate_in_init(&xin, ofproto, ofproto_dpif_get_tables_version(ofproto),
                  flow, in_port, NULL, ntohs(flow->tcp_flags), NULL, wc,
                  actions);
    layer_xlate_observe(collect_steps, &sc);
    xlate_actions(&xin, &xout);
    layer_xlate_observe(NULL, NULL);
    xlate_out_uninit(&xout);
    return sc.json;
}

/* Returns the steps of 'entry', a packet of the datapath, through the layers
 * in direction 'dir'. */
static struct json *
make_layers(const struct unified *u, const struct flow *entry,
            enum layer_direction dir)
{
    struct ofproto_dpif *ofproto;
    struct flow_wildcards wc;
    struct ofpbuf actions;
    ofp_port_t in_port;
    struct json *json;

    ofproto = xlate_lookup_ofproto(u->port->ofproto->backer, entry, &in_port,
                                   NULL);
    if (!ofproto) {
        return json_array_create_empty();
    }
    ofpbuf_init(&actions, 64);
    json = translate(u, ofproto, in_port, entry, dir, &wc, &actions);
    ofpbuf_uninit(&actions);
    return json;
}

static const char *
state_of(const struct connection *conn)
{
    struct conn_progress progress;

    if (!conn) {
        return "none";
    }
    progress = connection_progress(conn);
    return conn_state_to_string(progress.state);
}

/* Returns why datapath flow 'f', whose key is 'flow', is not in a NIC.  The
 * caller frees it. */
static char *
why_in_software(const struct unified *u, const struct dpif_flow *f,
                const struct flow *flow)
{
    struct match match;
    char *why = NULL;

    memset(&match, 0, sizeof match);
    match.flow = *flow;
    if (!odp_flow_key_to_mask(f->mask, f->mask_len, &match.wc, flow, NULL)) {
        /* As dpif-netdev does: the lack of a VLAN tag is an exact match, but
         * not on all of its bits. */
        if (!flow->vlans[0].tci) {
            memset(match.wc.masks.vlans, 0, sizeof match.wc.masks.vlans);
            match.wc.masks.vlans[0].tci = htons(VLAN_VID_MASK | VLAN_CFI);
        }
        why = dpif_offload_simnic_why(
            dpif_name(u->port->ofproto->backer->dpif), &match, f->actions,
            f->actions_len);
    }
    return (why ? why
            : xstrdup(dpif_offload_enabled()
                      ? "its input port is not a NIC's"
                      : "hw-offload is off"));
}

/* Adds datapath flow 'f', if packets of it pass the port. */
static void
add_datapath_flow(struct unified *u, const struct dpif_flow *f)
{
    const struct connection *conn = NULL;
    enum layer_direction dir;
    struct flow flow, entry;
    size_t i;

    if (odp_flow_key_to_flow(f->key, f->key_len, &entry, NULL)
        == ODP_FIT_ERROR) {
        return;
    }
    flow = entry;
    if (odp_port_to_ofport(u->port->ofproto->backer, flow.in_port.odp_port)
        == u->port->ofport) {
        dir = LAYER_OUTBOUND;
    } else if (find_output(u->port, f->actions, f->actions_len, &flow)) {
        dir = LAYER_INBOUND;
    } else {
        return;
    }
    i = find_connection(u, &flow, dir);
    if (i != SIZE_MAX) {
        conn = u->conns[i];
        u->in_datapath[i][dir] = true;
    }

    struct json *json = json_object_create();
    struct ds ds = DS_EMPTY_INITIALIZER;

    json_object_put_string(json, "direction", layer_direction_to_string(dir));
    odp_flow_format(f->key, f->key_len, f->mask, f->mask_len, NULL, &ds, false,
                    false);
    json_object_put_string(json, "match", ds_cstr(&ds));
    ds_clear(&ds);
    format_odp_actions(&ds, f->actions, f->actions_len, NULL);
    json_object_put_string(json, "actions", ds_cstr(&ds));
    ds_destroy(&ds);
    json_object_put_string(json, "state", state_of(conn));
    json_object_put(json, "packets", json_integer_create(f->stats.n_packets));
    json_object_put(json, "bytes", json_integer_create(f->stats.n_bytes));
    json_object_put(json, "used",
                    (f->stats.used
                     ? json_integer_create(MAX(u->now - f->stats.used, 0))
                     : json_null_create()));
    json_object_put_string(json, "tier",
                           f->attrs.offloaded ? "nic" : "datapath");
    if (!f->attrs.offloaded) {
        json_object_put(json, "why",
                        json_string_create_nocopy(
                            why_in_software(u, f, &entry)));
    }
    json_object_put(json, "layers", make_layers(u, &entry, dir));
    json_array_add(u->json, json);
}

static void
add_datapath_flows(struct unified *u)
{
    struct dpif_flow_dump_thread *thread;
    struct dpif_flow_dump *dump;
    struct dpif_flow f;

    dump = dpif_flow_dump_create(u->port->ofproto->backer->dpif, false, NULL);
    thread = dpif_flow_dump_thread_create(dump);
    while (dpif_flow_dump_next(thread, &f, 1)) {
        add_datapath_flow(u, &f);
    }
    dpif_flow_dump_thread_destroy(thread);
    dpif_flow_dump_destroy(dump);
}

/* Returns the type of the ICMP message that answers 'type', or that itself. */
static ovs_be16
icmp_reply_type(uint8_t nw_proto, ovs_be16 type)
{
    static const uint8_t pairs[][3] = {
        { IPPROTO_ICMP, ICMP4_ECHO_REQUEST, ICMP4_ECHO_REPLY },
        { IPPROTO_ICMP, ICMP4_TIMESTAMP, ICMP4_TIMESTAMPREPLY },
        { IPPROTO_ICMP, ICMP4_INFOREQUEST, ICMP4_INFOREPLY },
        { IPPROTO_ICMPV6, ICMP6_ECHO_REQUEST, ICMP6_ECHO_REPLY },
    };

    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        for (size_t j = 1; j < 3; j++) {
            if (nw_proto == pairs[i][0] && type == htons(pairs[i][j])) {
                return htons(pairs[i][3 - j]);
            }
        }
    }
    return type;
}

/* Makes 'flow' a packet of direction 'dir' of 'conn' as it enters the port's
 * layers. */
static void
make_packet(const struct connection *conn, enum layer_direction dir,
            struct flow *flow)
{
    const struct conn_key *key = &conn->keys[dir];

    connection_get_opener(conn, flow);
    if (dir != conn->live->dir) {
        struct eth_addr mac = flow->dl_src;

        flow->dl_src = flow->dl_dst;
        flow->dl_dst = mac;
        flow->tp_src = icmp_reply_type(flow->nw_proto, flow->tp_src);
    }
    if (IN6_IS_ADDR_V4MAPPED(&key->src)) {
        flow->nw_src = in6_addr_get_mapped_ipv4(&key->src);
        flow->nw_dst = in6_addr_get_mapped_ipv4(&key->dst);
    } else {
        flow->ipv6_src = key->src;
        flow->ipv6_dst = key->dst;
    }
    if (key->tp_src || key->tp_dst) {
        flow->tp_src = key->tp_src;
        flow->tp_dst = key->tp_dst;
    }
    flow->nw_frag = 0;
    flow->tcp_flags = 0;
    flow->recirc_id = 0;
}

static void
put_match(const struct unified *u, const struct flow *flow,
          const struct flow_wildcards *wc, struct json *json)
{
    struct odputil_keybuf key_stub, mask_stub;
    struct ofpbuf key, mask;
    struct ds ds = DS_EMPTY_INITIALIZER;
    struct odp_flow_key_parms parms = {
        .flow = flow,
        .mask = &wc->masks,
        .support = u->port->ofproto->backer->rt_support.odp,
    };

    ofpbuf_use_stack(&key, &key_stub, sizeof key_stub);
    odp_flow_key_from_flow(&parms, &key);
    ofpbuf_use_stack(&mask, &mask_stub, sizeof mask_stub);
    parms.key_buf = &key;
    odp_flow_key_from_mask(&parms, &mask);
    odp_flow_format(key.data, key.size, mask.data, mask.size, NULL, &ds, false,
                    false);
    json_object_put_string(json, "match", ds_cstr(&ds));
    ds_destroy(&ds);
}

static void
put_actions(const struct ofpbuf *actions, struct json *json)
{
    struct ds ds = DS_EMPTY_INITIALIZER;

    format_odp_actions(&ds, actions->data, actions->size, NULL);
    json_object_put_string(json, "actions", ds_cstr(&ds));
    ds_destroy(&ds);
}

/* Returns the number of 'port' in the datapath, ODPP_NONE if it has none. */
static odp_port_t
get_odp_port(const struct layer_port *port)
{
    struct dpif_port dpif_port;
    odp_port_t odp_port = ODPP_NONE;

    if (!dpif_port_query_by_name(port->ofproto->backer->dpif, port->name,
                                 &dpif_port)) {
        odp_port = dpif_port.port_no;
        dpif_port_destroy(&dpif_port);
    }
    return odp_port;
}

/* Adds to 'json' the datapath flow that packets of direction 'dir' of 'conn'
 * need.  That of inbound ones, of which it is not known where they come from,
 * is what the port's layers make of them. */
static void
put_datapath_flow(const struct unified *u, const struct connection *conn,
                  enum layer_direction dir, struct json *json)
{
    struct flow_wildcards wc;
    struct ofpbuf actions;
    struct flow entry;
    struct json *layers;

    make_packet(conn, dir, &entry);
    ofpbuf_init(&actions, 64);
    if (dir == LAYER_OUTBOUND) {
        layers = translate(u, u->port->ofproto, u->port->ofp_port, &entry, dir,
                           &wc, &actions);
        entry.in_port.odp_port = u->odp_port;
    } else {
        struct flow flow = entry;
        struct layer_traversal t = {
            .port = u->port,
            .stack = u->stack,
            .version = layer_snapshot_version(layer_snapshot_get()),
            .dir = dir,
            .flow = &flow,
            .wc = &wc,
            .now = u->now,
        };
        struct flow base = entry;

        layers = json_array_create_empty();
        flow_wildcards_init_catchall(&wc);
        WC_MASK_FIELD(&wc, dl_type);
        WC_MASK_FIELD(&wc, recirc_id);
        wc.masks.nw_frag = FLOW_NW_FRAG_MASK;
        layer_traverse(&t);
        add_steps(&t, layers);
        if (!t.drop) {
            commit_odp_actions(&flow, &base, &actions, &wc, true, false, false,
                               NULL);
            nl_msg_put_odp_port(&actions, OVS_ACTION_ATTR_OUTPUT,
                                u->odp_port);
        }
        layer_traversal_uninit(&t);
        entry.in_port.odp_port = ODPP_NONE;
    }
    put_match(u, &entry, &wc, json);
    put_actions(&actions, json);
    json_object_put(json, "layers", layers);
    ofpbuf_uninit(&actions);
}

/* Returns why direction 'dir' of 'conn' has no datapath flow.  The caller
 * frees it. */
static char *
why_in_cache(const struct unified *u, const struct connection *conn,
             enum layer_direction dir)
{
    const struct admission a = layer_port_get_admission(u->port);

    if (!connection_can_cache(conn, dir)) {
        return xstrdup("state not settled");
    }
    if (!a.packets) {
        /* A packet would have made one at once. */
        return xstrdup("no packet lately");
    }
    if (dir == LAYER_INBOUND) {
        /* Up to the port that the packets come from. */
        return xstrdup("not admitted to the datapath");
    }
    return xasprintf("not admitted: promote-packets=%"PRIu32" "
                     "promote-bytes=%"PRIu32" promote-age=%"PRIu32,
                     a.packets, a.bytes, a.age);
}

/* Adds direction 'dir' of 'conn', which is not in the datapath. */
static void
add_cached(struct unified *u, const struct connection *conn,
           enum layer_direction dir)
{
    struct json *json = json_object_create();
    struct conn_live *live = conn->live;
    uint64_t packets, bytes;
    long long int used;

    json_object_put_string(json, "direction", layer_direction_to_string(dir));
    put_datapath_flow(u, conn, dir, json);
    json_object_put_string(json, "state", state_of(conn));
    atomic_read_relaxed(&live->packets[dir], &packets);
    atomic_read_relaxed(&live->bytes[dir], &bytes);
    atomic_read_relaxed(&live->used, &used);
    json_object_put(json, "packets", json_integer_create(packets));
    json_object_put(json, "bytes", json_integer_create(bytes));
    json_object_put(json, "used", json_integer_create(MAX(u->now - used, 0)));
    json_object_put_string(json, "tier", "cache");
    json_object_put(json, "why",
                    json_string_create_nocopy(why_in_cache(u, conn, dir)));
    json_array_add(u->json, json);
}

static void
format_unified(const struct json *json, struct ds *ds)
{
    static const char *const names[] = {
        "match", "actions", "state", "packets", "bytes", "used", "tier", "why",
    };

    for (size_t i = 0; i < json_array_size(json); i++) {
        const struct json *flow = json_array_at(json, i);
        const struct json *layers = shash_find_data(json_object(flow),
                                                    "layers");

        ds_put_format(ds, "%s:", inspect_get_string(flow, "direction"));
        inspect_format_members(flow, names, ARRAY_SIZE(names), ds);
        ds_put_char(ds, '\n');
        for (size_t j = 0; j < json_array_size(layers); j++) {
            const struct json *step = json_array_at(layers, j);
            const char *match = inspect_get_string(step, "match");

            ds_put_format(ds, "  layer %s: %s by %s",
                          inspect_get_string(step, "layer"),
                          inspect_get_string(step, "verdict"),
                          inspect_get_string(step, "by"));
            if (match) {
                ds_put_format(ds, ", rule %lld %s actions=%s",
                              inspect_get_integer(step, "priority"), match,
                              inspect_get_string(step, "actions"));
            }
            ds_put_char(ds, '\n');
        }
    }
}

static void
layered_unified(struct unixctl_conn *conn, int argc OVS_UNUSED,
                const char *argv[], void *aux OVS_UNUSED)
{
    struct layer_port *port = inspect_get_port(conn, argv[1]);
    struct unified u = { .port = port, .now = time_msec() };

    unified_answer_run();
    if (!port) {
        return;
    }
    u.stack = layer_snapshot_stack(layer_snapshot_get(), port);
    u.odp_port = get_odp_port(port);
    u.json = json_array_create_empty();
    if (u.stack) {
        u.conns = conn_table_list(port->conns, &u.n_conns);
        if (u.n_conns) {
            qsort(u.conns, u.n_conns, sizeof *u.conns, compare_connections);
        }
        u.in_datapath = xcalloc(u.n_conns, sizeof *u.in_datapath);
        add_datapath_flows(&u);
        for (size_t i = 0; i < u.n_conns; i++) {
            for (int dir = 0; dir < N_LAYER_DIRECTIONS; dir++) {
                if (!u.in_datapath[i][dir]) {
                    add_cached(&u, u.conns[i], dir);
                }
            }
            connection_unref(u.conns[i]);
        }
        free(u.conns);
        free(u.in_datapath);
    }
    inspect_reply(conn, u.json, format_unified);
    layer_port_unref(port);
}

/* Registers the command.  Must be called once. */
void
layered_inspect_unified_init(void)
{
    unixctl_command_register("layered/unified", "iface", 1, 1,
                             layered_unified, NULL);
}
