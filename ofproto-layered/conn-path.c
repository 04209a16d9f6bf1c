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

#include "layered/ofproto-layered/conn-path.h"

#include "flow.h"
#include "hash.h"
#include "layered/ofproto-layered/nat-pool.h"
#include "layered/ofproto-layered/port-stats.h"
#include "odp-util.h"
#include "openvswitch/match.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "packets.h"
#include "util.h"
#include "uuid.h"

struct conn_paths {
    struct ovs_refcount ref_cnt;
    struct ovs_mutex mutex;             /* To change the maps. */
    struct cmap paths;                  /* Of conn_path. */
    struct cmap openers;                /* Of conn_opener. */
};

/* Rewrites. */

/* Has the packet in 'flow' be from 'to', whose port may be 0 to keep the one
 * that it has. */
void
conn_set_source(const struct conn_endpoint *to, struct flow *flow,
                struct flow_wildcards *wc)
{
    if (flow->dl_type == htons(ETH_TYPE_IP)) {
        WC_MASK_FIELD(wc, nw_src);
        flow->nw_src = in6_addr_get_mapped_ipv4(&to->addr);
    } else {
        WC_MASK_FIELD(wc, ipv6_src);
        flow->ipv6_src = to->addr;
    }
    if (to->port) {
        WC_MASK_FIELD(wc, tp_src);
        flow->tp_src = to->port;
    }
}

/* Has the packet in 'flow' be for 'to', as conn_set_source() does. */
void
conn_set_destination(const struct conn_endpoint *to, struct flow *flow,
                     struct flow_wildcards *wc)
{
    if (flow->dl_type == htons(ETH_TYPE_IP)) {
        WC_MASK_FIELD(wc, nw_dst);
        flow->nw_dst = in6_addr_get_mapped_ipv4(&to->addr);
    } else {
        WC_MASK_FIELD(wc, ipv6_dst);
        flow->ipv6_dst = to->addr;
    }
    if (to->port) {
        WC_MASK_FIELD(wc, tp_dst);
        flow->tp_dst = to->port;
    }
}

/* Sets in 'flow' what 'marks' say.  Returns false if the packet's time to live
 * does not allow it. */
bool
conn_marks_apply(const struct conn_marks *marks, struct flow *flow,
                 struct flow_wildcards *wc)
{
    if (marks->dscp >= 0 && is_ip_any(flow)) {
        wc->masks.nw_tos |= IP_DSCP_MASK;
        flow->nw_tos = (flow->nw_tos & ~IP_DSCP_MASK) | marks->dscp << 2;
    }
    if (marks->set_src) {
        WC_MASK_FIELD(wc, dl_src);
        flow->dl_src = marks->dl_src;
    }
    if (marks->set_dst) {
        WC_MASK_FIELD(wc, dl_dst);
        flow->dl_dst = marks->dl_dst;
    }
    if (marks->dec_ttl && is_ip_any(flow)) {
        WC_MASK_FIELD(wc, nw_ttl);
        if (flow->nw_ttl <= marks->dec_ttl) {
            return false;
        }
        flow->nw_ttl -= marks->dec_ttl;
    }
    return true;
}

/* Applies 'rw' to the packet in 'flow', or undoes its translations if 'reply'
 * is true.  Returns false if the packet's time to live does not allow it. */
bool
conn_rewrite_apply(const struct conn_rewrite *rw, bool reply,
                   struct flow *flow, struct flow_wildcards *wc)
{
    if (rw->snat) {
        if (reply) {
            conn_set_destination(&rw->snat_from, flow, wc);
        } else {
            conn_set_source(&rw->snat_to, flow, wc);
        }
    }
    if (rw->dnat) {
        if (reply) {
            conn_set_source(&rw->dnat_from, flow, wc);
        } else {
            conn_set_destination(&rw->dnat_to, flow, wc);
        }
    }
    return reply || conn_marks_apply(&rw->marks, flow, wc);
}

/* Drafts. */

/* Initializes 'draft' without any layer flow.  The caller sets 'nw_proto'
 * before there are translations of sources. */
void
conn_draft_init(struct conn_draft *draft)
{
    draft->nw_proto = 0;
    draft->n_layers = draft->n_nats = draft->n_extra = 0;
    draft->layers = draft->layers_stub;
    draft->allocated_layers = ARRAY_SIZE(draft->layers_stub);
    draft->nats = draft->nats_stub;
    draft->allocated_nats = ARRAY_SIZE(draft->nats_stub);
    draft->extra = draft->extra_stub;
    draft->allocated_extra = ARRAY_SIZE(draft->extra_stub);
}

/* Takes back 'draft''s translations from number 'n' on. */
void
conn_draft_drop_nats(struct conn_draft *draft, size_t n)
{
    while (draft->n_nats > n) {
        const struct conn_draft_nat *nat = &draft->nats[--draft->n_nats];

        if (nat->leased) {
            struct nat_tuple tuple = {
                .addr = nat->to.addr,
                .port = nat->to.port,
                .remote = nat->remote.addr,
                .remote_port = nat->remote.port,
                .nw_proto = draft->nw_proto,
            };

            nat_pool_release(&tuple);
        }
    }
}

/* Frees 'draft', with the NAT pool's tuples that it still has. */
void
conn_draft_uninit(struct conn_draft *draft)
{
    conn_draft_drop_nats(draft, 0);
    if (draft->layers != draft->layers_stub) {
        free(draft->layers);
    }
    if (draft->nats != draft->nats_stub) {
        free(draft->nats);
    }
    if (draft->extra != draft->extra_stub) {
        free(draft->extra);
    }
}

/* Returns 'array', which has 'n' members of 'size' bytes and room for
 * '*allocated', with room for one more. */
static void *
grow(void *array, size_t n, size_t *allocated, size_t size, const void *stub)
{
    void *new;

    if (n < *allocated) {
        return array;
    }
    *allocated *= 2;
    if (array != stub) {
        return xrealloc(array, *allocated * size);
    }
    new = xmalloc(*allocated * size);
    memcpy(new, array, n * size);
    return new;
}

/* Returns a new layer flow of 'draft', which the caller fills in.  Valid until
 * the next one. */
struct conn_draft_layer *
conn_draft_add_layer(struct conn_draft *draft)
{
    draft->layers = grow(draft->layers, draft->n_layers,
                         &draft->allocated_layers, sizeof *draft->layers,
                         draft->layers_stub);
    return &draft->layers[draft->n_layers++];
}

/* Returns a new translation of 'draft', which the caller fills in.  Valid
 * until the next one. */
struct conn_draft_nat *
conn_draft_add_nat(struct conn_draft *draft)
{
    draft->nats = grow(draft->nats, draft->n_nats, &draft->allocated_nats,
                       sizeof *draft->nats, draft->nats_stub);
    return &draft->nats[draft->n_nats++];
}

static bool
is_half(const struct conn_endpoint *endpoint, const struct in6_addr *addr,
        ovs_be16 port)
{
    return (endpoint->port == port
            && !memcmp(&endpoint->addr, addr, sizeof *addr));
}

/* Returns the place where a connection with 'keys' has 'endpoint', in
 * draft->extra if need be. */
static uint16_t
find_place(struct conn_draft *draft, const struct conn_key keys[],
           const struct conn_endpoint *endpoint)
{
    const struct conn_key *out = &keys[LAYER_OUTBOUND];
    const struct conn_key *in = &keys[LAYER_INBOUND];

    if (is_half(endpoint, &out->src, out->tp_src)) {
        return CONN_OUT_SRC;
    } else if (is_half(endpoint, &out->dst, out->tp_dst)) {
        return CONN_OUT_DST;
    } else if (is_half(endpoint, &in->src, in->tp_src)) {
        return CONN_IN_SRC;
    } else if (is_half(endpoint, &in->dst, in->tp_dst)) {
        return CONN_IN_DST;
    }
    for (size_t i = 0; i < draft->n_extra; i++) {
        if (conn_endpoint_equals(&draft->extra[i], endpoint)) {
            return CONN_EXTRA + i;
        }
    }
    draft->extra = grow(draft->extra, draft->n_extra, &draft->allocated_extra,
                        sizeof *draft->extra, draft->extra_stub);
    draft->extra[draft->n_extra++] = *endpoint;
    return CONN_EXTRA + draft->n_extra - 1;
}

/* Paths. */

static const struct layer_rule *
draft_rule(const struct conn_draft_layer *dl,
           const struct layer_rule *const rules[], size_t i)
{
    return dl->known ? dl->known->uses[i]->rule : rules[dl->first_rule + i];
}

static bool
marks_are_empty(const struct conn_marks *marks)
{
    return (marks->dscp < 0 && !marks->set_src && !marks->set_dst
            && !marks->dec_ttl);
}

static uint32_t
draft_hash(const struct conn_draft *draft,
           const struct layer_rule *const rules[])
{
    uint32_t hash = draft->n_extra;

    for (size_t i = 0; i < draft->n_layers; i++) {
        const struct conn_draft_layer *dl = &draft->layers[i];

        hash = hash_add64(hash, (uintptr_t) dl->layer);
        hash = hash_add(hash, dl->dir);
        for (size_t j = 0; j < dl->n_rules; j++) {
            const struct layer_rule *rule = draft_rule(dl, rules, j);

            hash = hash_add64(hash, (uintptr_t) rule);
        }
        if (!marks_are_empty(&dl->marks)) {
            hash = hash_bytes(&dl->marks, sizeof dl->marks, hash);
        }
    }
    for (size_t i = 0; i < draft->n_nats; i++) {
        const struct conn_draft_nat *nat = &draft->nats[i];

        hash = hash_add(hash, (nat->places[0] | nat->places[1] << 8
                               | nat->places[2] << 16));
    }
    return hash_finish(hash, draft->n_layers);
}

static bool
path_is(const struct conn_path *path, const struct conn_draft *draft,
        const struct layer_rule *const rules[])
{
    if (path->n != draft->n_layers || path->n_extra != draft->n_extra) {
        return false;
    }
    for (size_t i = 0; i < path->n; i++) {
        const struct conn_draft_layer *dl = &draft->layers[i];
        const struct conn_layer *cl = &path->layers[i];

        if (cl->layer != dl->layer || cl->dir != dl->dir
            || cl->n_uses != dl->n_rules || cl->n_nats != dl->n_nats
            || memcmp(&cl->marks, &dl->marks, sizeof cl->marks)) {
            return false;
        }
        for (size_t j = 0; j < cl->n_uses; j++) {
            if (cl->uses[j]->rule != draft_rule(dl, rules, j)) {
                return false;
            }
        }
        for (size_t j = 0; j < cl->n_nats; j++) {
            const struct conn_draft_nat *dn = &draft->nats[dl->first_nat + j];
            const struct conn_nat *nat = &cl->nats[j];

            if (nat->source != dn->source || nat->rule != dn->rule
                || nat->from != dn->places[0] || nat->to != dn->places[1]
                || nat->remote != dn->places[2]) {
                return false;
            }
        }
    }
    return true;
}

/* Returns the path that 'draft' describes, with a reference, NULL if there is
 * none. */
static struct conn_path *
find_path(const struct conn_paths *paths, const struct conn_draft *draft,
          const struct layer_rule *const rules[], uint32_t hash)
{
    struct conn_path *path;

    CMAP_FOR_EACH_WITH_HASH (path, node, hash, &paths->paths) {
        if (path_is(path, draft, rules)
            && ovs_refcount_try_ref_rcu(&path->ref_cnt)) {
            return path;
        }
    }
    return NULL;
}

static void
conn_layer_init(struct conn_layer *cl, const struct conn_draft *draft,
                const struct conn_draft_layer *dl,
                const struct layer_rule *const rules[], struct port_stats *ps)
{
    *cl = (struct conn_layer) {
        .layer = layer_ref(dl->layer),
        .dir = dl->dir,
        .rewrites = dl->n_nats || !marks_are_empty(&dl->marks),
        .marks = dl->marks,
        .n_nats = dl->n_nats,
        .nats = xmalloc(dl->n_nats * sizeof *cl->nats),
        .n_uses = dl->n_rules,
        .uses = xmalloc(dl->n_rules * sizeof *cl->uses),
    };
    for (size_t i = 0; i < cl->n_nats; i++) {
        const struct conn_draft_nat *dn = &draft->nats[dl->first_nat + i];
        struct conn_nat *nat = &cl->nats[i];

        *nat = (struct conn_nat) {
            .source = dn->source,
            .from = dn->places[0],
            .to = dn->places[1],
            .remote = dn->places[2],
            .rule = layer_rule_ref(dn->rule),
        };
        if (nat->source) {
            cl->snat_from = cl->snat ? cl->snat_from : nat->from;
            cl->snat_to = nat->to;
            cl->snat = true;
        } else {
            cl->dnat_from = cl->dnat ? cl->dnat_from : nat->from;
            cl->dnat_to = nat->to;
            cl->dnat = true;
        }
    }
    for (size_t i = 0; i < cl->n_uses; i++) {
        cl->uses[i] = rule_stats_ref(
            dl->known ? dl->known->uses[i]
            : port_stats_rule(ps, rules[dl->first_rule + i]));
    }
}

/* Sets the timeouts of 'path' from those of its layers. */
static void
set_timeouts(struct conn_path *path)
{
    for (size_t state = 0; state < N_CONN_STATES; state++) {
        uint32_t first = UINT32_MAX, first_nat = UINT32_MAX, last = 0;

        for (size_t i = 0; i < path->n; i++) {
            const struct conn_layer *cl = &path->layers[i];
            uint32_t seconds = cl->layer->timeouts.seconds[state];

            first = MIN(first, seconds);
            last = MAX(last, seconds);
            if (conn_layer_is_nat(cl)) {
                first_nat = MIN(first_nat, seconds);
            }
        }
        path->expires[state] = first;
        /* Without what translates its addresses, nothing is left of it. */
        path->over[state] = MIN(last, first_nat);
    }
}

static void
path_free(struct conn_path *path)
{
    for (size_t i = 0; i < path->n; i++) {
        struct conn_layer *cl = &path->layers[i];

        for (size_t j = 0; j < cl->n_nats; j++) {
            layer_rule_unref(cl->nats[j].rule);
        }
        free(cl->nats);
        for (size_t j = 0; j < cl->n_uses; j++) {
            rule_stats_unref(cl->uses[j]);
        }
        free(cl->uses);
        layer_unref(cl->layer);
    }
    conn_paths_unref(path->paths);
    free(path);
}

static struct conn_path *
make_path(struct conn_paths *paths, const struct conn_draft *draft,
          const struct layer_rule *const rules[], struct port_stats *ps,
          uint32_t hash)
{
    struct conn_path *new, *path;

    new = xzalloc(sizeof *new + draft->n_layers * sizeof *new->layers);
    ovs_refcount_init(&new->ref_cnt);
    new->hash = hash;
    ovs_refcount_ref(&paths->ref_cnt);
    new->paths = paths;
    new->n_extra = draft->n_extra;
    new->n = draft->n_layers;
    for (size_t i = 0; i < new->n; i++) {
        conn_layer_init(&new->layers[i], draft, &draft->layers[i], rules, ps);
        new->snat |= new->layers[i].snat;
    }
    set_timeouts(new);

    ovs_mutex_lock(&paths->mutex);
    path = find_path(paths, draft, rules, hash);
    if (!path) {
        cmap_insert(&paths->paths, &new->node, hash);
    }
    ovs_mutex_unlock(&paths->mutex);
    if (path) {
        path_free(new);
    }
    return path ? path : new;
}

/* Returns the path that 'draft' describes for a connection with 'keys', with a
 * reference.  Stores in draft->extra the endpoints for which such a connection
 * must have room of its own.
 *
 * 'rules' are those that 'draft' refers to, and 'ps' has their statistics;
 * both may be NULL if all of its layer flows are known. */
const struct conn_path *
conn_paths_get(struct conn_paths *paths, struct conn_draft *draft,
               const struct layer_rule *const rules[], struct port_stats *ps,
               const struct conn_key keys[])
{
    struct conn_path *path;
    uint32_t hash;

    draft->n_extra = 0;
    for (size_t i = 0; i < draft->n_nats; i++) {
        struct conn_draft_nat *nat = &draft->nats[i];

        nat->places[0] = find_place(draft, keys, &nat->from);
        nat->places[1] = find_place(draft, keys, &nat->to);
        nat->places[2] = (nat->source
                          ? find_place(draft, keys, &nat->remote) : 0);
    }

    hash = draft_hash(draft, rules);
    path = find_path(paths, draft, rules, hash);
    return path ? path : make_path(paths, draft, rules, ps, hash);
}

void
conn_path_unref(const struct conn_path *path_)
{
    struct conn_path *path = CONST_CAST(struct conn_path *, path_);

    if (path && ovs_refcount_unref(&path->ref_cnt) == 1) {
        struct conn_paths *paths = path->paths;

        ovs_mutex_lock(&paths->mutex);
        cmap_remove(&paths->paths, &path->node, path->hash);
        ovs_mutex_unlock(&paths->mutex);
        ovsrcu_postpone(path_free, path);
    }
}

/* Returns the layer flow of 'path' in 'layer', of whatever version, NULL if
 * there is none.  It is sought from number 'hint' on first. */
const struct conn_layer *
conn_path_find(const struct conn_path *path, const struct layer *layer,
               size_t hint)
{
    for (size_t i = 0, j = hint; i < path->n; i++, j++) {
        const struct conn_layer *cl;

        j = j < path->n ? j : 0;
        cl = &path->layers[j];
        if (cl->layer == layer
            || uuid_equals(&cl->layer->uuid, &layer->uuid)) {
            return cl;
        }
    }
    return NULL;
}

/* Openers. */

struct conn_opener {
    struct cmap_node node;              /* In a conn_paths. */
    struct ovs_refcount ref_cnt;
    uint32_t hash;
    struct conn_paths *paths;           /* Reference. */
    struct miniflow flow;               /* Last, as values follow. */
};

/* Returns a hash of 'flow', of what distinguishes openers as a rule. */
static uint32_t
opener_hash(const struct flow *flow)
{
    const struct {
        ovs_be64 tun_id;
        union flow_in_port in_port;
        ovs_be16 tcp_flags;
        uint8_t nw_proto, nw_ttl;
        struct eth_addr dl_src, dl_dst;
        ovs_be16 dl_type;
        uint8_t nw_tos, pad;
    } fields = {
        .tun_id = flow->tunnel.tun_id,
        .in_port = flow->in_port,
        .tcp_flags = flow->tcp_flags,
        .nw_proto = flow->nw_proto,
        .nw_ttl = flow->nw_ttl,
        .dl_src = flow->dl_src,
        .dl_dst = flow->dl_dst,
        .dl_type = flow->dl_type,
        .nw_tos = flow->nw_tos,
    };

    BUILD_ASSERT_DECL(sizeof fields == 32);
    return hash_words64((const uint64_t *) &fields, sizeof fields / 8, 0);
}

static bool
opener_is(const struct conn_opener *opener, const struct flow *flow)
{
    struct flow own;

    /* Faster than to find out which fields of 'flow' are not zero. */
    miniflow_expand(&opener->flow, &own);
    return !memcmp(&own, flow, sizeof own);
}

/* Returns the opener for packets with 'flow', which should have only what many
 * packets have in common, with a reference. */
const struct conn_opener *
conn_paths_get_opener(struct conn_paths *paths, const struct flow *flow)
{
    uint32_t hash = opener_hash(flow);
    struct conn_opener *opener;
    struct miniflow map;

    CMAP_FOR_EACH_WITH_HASH (opener, node, hash, &paths->openers) {
        if (opener_is(opener, flow)
            && ovs_refcount_try_ref_rcu(&opener->ref_cnt)) {
            return opener;
        }
    }

    /* Two threads may make the same one, which is no harm. */
    miniflow_map_init(&map, flow);
    opener = xmalloc(sizeof *opener
                     + MINIFLOW_VALUES_SIZE(miniflow_n_values(&map)));
    ovs_refcount_init(&opener->ref_cnt);
    opener->hash = hash;
    ovs_refcount_ref(&paths->ref_cnt);
    opener->paths = paths;
    opener->flow = map;
    miniflow_init(&opener->flow, flow);
    ovs_mutex_lock(&paths->mutex);
    cmap_insert(&paths->openers, &opener->node, hash);
    ovs_mutex_unlock(&paths->mutex);
    return opener;
}

static void
opener_free(struct conn_opener *opener)
{
    conn_paths_unref(opener->paths);
    free(opener);
}

void
conn_opener_unref(const struct conn_opener *opener_)
{
    struct conn_opener *opener = CONST_CAST(struct conn_opener *, opener_);

    if (opener && ovs_refcount_unref(&opener->ref_cnt) == 1) {
        struct conn_paths *paths = opener->paths;

        ovs_mutex_lock(&paths->mutex);
        cmap_remove(&paths->openers, &opener->node, opener->hash);
        ovs_mutex_unlock(&paths->mutex);
        ovsrcu_postpone(opener_free, opener);
    }
}

/* Stores in 'flow' what 'opener' was made of. */
void
conn_opener_expand(const struct conn_opener *opener, struct flow *flow)
{
    miniflow_expand(&opener->flow, flow);
}

/* The set of them. */

struct conn_paths *
conn_paths_create(void)
{
    struct conn_paths *paths = xmalloc(sizeof *paths);

    ovs_refcount_init(&paths->ref_cnt);
    ovs_mutex_init(&paths->mutex);
    cmap_init(&paths->paths);
    cmap_init(&paths->openers);
    return paths;
}

/* Drops a reference to 'paths'.  Each of its paths and openers has one. */
void
conn_paths_unref(struct conn_paths *paths)
{
    if (paths && ovs_refcount_unref(&paths->ref_cnt) == 1) {
        cmap_destroy(&paths->paths);
        cmap_destroy(&paths->openers);
        ovs_mutex_destroy(&paths->mutex);
        free(paths);
    }
}

size_t
conn_paths_count(const struct conn_paths *paths)
{
    return cmap_count(&paths->paths);
}

size_t
conn_paths_count_openers(const struct conn_paths *paths)
{
    return cmap_count(&paths->openers);
}
