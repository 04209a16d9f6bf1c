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

#include "layered/ofproto-layered/forwarding.h"

#include "coverage.h"
#include "dpif.h"
#include "dpif-netdev.h"
#include "flow.h"
#include "layered/ofproto-layered/layer-xlate.h"
#include "netlink.h"
#include "odp-netlink.h"
#include "ofproto/ofproto-dpif-rid.h"
#include "ofproto/ofproto-dpif-xlate-cache.h"
#include "ofproto/ofproto-dpif-xlate.h"
#include "ofproto/ofproto-dpif.h"
#include "openvswitch/match.h"
#include "openvswitch/ofpbuf.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "util.h"

COVERAGE_DEFINE(layered_forwarding_translated);

/* A cache has no more than this.  A pipeline that tells connections apart
 * would fill any cache, without profit: what is beyond is translated in full,
 * as without a cache.  forwarding_cache_run() makes room. */
#define MAX_FORWARDINGS 4096

struct forwarding_cache {
    struct ovs_mutex mutex;             /* To change 'cls'. */
    struct classifier cls;              /* Of struct forwarding. */
    atomic_count n;                     /* How many these are. */
};

static struct forwarding *
forwarding_cast(const struct cls_rule *cr)
{
    return cr ? CONTAINER_OF(cr, struct forwarding, cr) : NULL;
}

struct forwarding *
forwarding_ref(const struct forwarding *f_)
{
    struct forwarding *f = CONST_CAST(struct forwarding *, f_);

    ovs_refcount_ref(&f->ref_cnt);
    return f;
}

static void
forwarding_free(struct forwarding *f)
{
    xlate_cache_delete(f->xcache);
    cls_rule_destroy(&f->cr);
    free(f);
}

void
forwarding_unref(struct forwarding *f)
{
    if (f && ovs_refcount_unref(&f->ref_cnt) == 1) {
        ovsrcu_postpone(forwarding_free, f);
    }
}

/* Credits 'stats' to what took part in 'f': OpenFlow rules, the learned MAC
 * address of the sender and so on. */
void
forwarding_credit(struct forwarding *f, const struct dpif_flow_stats *stats_)
{
    struct dpif_flow_stats stats = *stats_;

    xlate_push_stats(f->xcache, &stats, false);
}

/* Returns true if all that 'xcache' credits is the same for all packets that
 * the translation holds for. */
static bool
is_common(const struct xlate_cache *xcache)
{
    struct ofpbuf entries = xcache->entries;
    struct xc_entry *entry;

    XC_ENTRY_FOR_EACH (entry, &entries) {
        switch (entry->type) {
        case XC_TABLE:
        case XC_RULE:
        case XC_BOND:
        case XC_NETDEV:
        case XC_NORMAL:
        case XC_GROUP:
        case XC_TNL_NEIGH:
        case XC_TUNNEL_HEADER:
            break;
        case XC_NETFLOW:
        case XC_MIRROR:         /* May show the packet before its layers. */
        case XC_LEARN:
        case XC_FIN_TIMEOUT:
        case XC_HOOK:
        default:
            return false;
        }
    }
    return true;
}

/* Has bridges learn from the packet that was translated what they learn when
 * it is forwarded, lest they flood the answer. */
static void
learn(const struct xlate_cache *xcache)
{
    struct ofpbuf entries = xcache->entries;
    struct xc_entry *entry;

    XC_ENTRY_FOR_EACH (entry, &entries) {
        if (entry->type == XC_NORMAL) {
            xlate_mac_learning_update(entry->normal.ofproto,
                                      entry->normal.in_port,
                                      entry->normal.dl_src,
                                      entry->normal.vlan,
                                      entry->normal.is_gratuitous_arp);
        }
    }
}

/* Returns true if 'actions' of a datapath of 'ofproto' may send the packet, or
 * a sample, to a socket of the process.  Other datapaths than the userspace
 * one know sockets by numbers, which can change, and the handler of a sample
 * looks for the datapath flow that it is of. */
static bool
uses_socket(const struct ofpbuf *actions, const struct ofproto_dpif *ofproto)
{
    const struct nlattr *a;
    size_t left;

    if (dpif_is_netdev(ofproto->backer->dpif)) {
        return false;
    }
    NL_ATTR_FOR_EACH (a, left, actions->data, actions->size) {
        uint16_t type = nl_attr_type(a);

        if (type == OVS_ACTION_ATTR_USERSPACE || type == OVS_ACTION_ATTR_SAMPLE
            || type == OVS_ACTION_ATTR_CLONE
            || type == OVS_ACTION_ATTR_CHECK_PKT_LEN) {
            return true;
        }
    }
    return false;
}

/* Translates 'flow', which 'ofproto' received from 'in_port', without layers.
 * Its 'in_port' is one of the datapath's. */
static struct forwarding *
translate(struct ofproto_dpif *ofproto, ofp_port_t in_port,
          const struct flow *flow, uint64_t generation)
{
    struct layer_probe probe = { .n_outputs = 0 };
    struct flow_wildcards wc;
    uint64_t stub[256 / 8];
    struct ofpbuf actions = OFPBUF_STUB_INITIALIZER(stub);
    struct forwarding *f;
    struct match match;
    struct flow entry = *flow;
    struct xlate_out xout;
    struct xlate_in xin;
    bool ok;

    entry.in_port.ofp_port = in_port;
    xlate_in_init(&xin, ofproto, ofproto_dpif_get_tables_version(ofproto),
                  &entry, in_port, NULL, ntohs(flow->tcp_flags), NULL, &wc,
                  &actions);
    xin.xcache = xlate_cache_new();
    layer_xlate_probe(&probe);
    ok = xlate_actions(&xin, &xout) == XLATE_OK;
    layer_xlate_probe(NULL);
    COVERAGE_INC(layered_forwarding_translated);

    f = xmalloc(sizeof *f + actions.size);
    ovs_refcount_init(&f->ref_cnt);
    f->generation = generation;
    f->usable = (ok && !xout.slow && !xout.avoid_caching
                 && !xout.recircs.n_recircs
                 && probe.n_outputs <= 1 && actions.size
                 && is_common(xin.xcache)
                 && !uses_socket(&actions, ofproto));
    if (f->usable) {
        learn(xin.xcache);
    }
    f->output = probe.output;
    f->xcache = xin.xcache;
    atomic_init(&f->used, true);
    f->actions_len = actions.size;
    memcpy(f->actions, actions.data, actions.size);

    const struct nlattr *a = actions.data;
    f->plain = (f->usable && nl_attr_type(a) == OVS_ACTION_ATTR_OUTPUT
                && NLA_ALIGN(a->nla_len) == actions.size);

    WC_MASK_FIELD(&wc, in_port.odp_port);
    /* Translation takes it for granted that the lack of a VLAN tag is an exact
     * match, as it is in a datapath. */
    for (size_t i = 0; i < FLOW_MAX_VLAN_HEADERS; i++) {
        if (!flow->vlans[i].tci) {
            wc.masks.vlans[i].tci = htons(VLAN_VID_MASK | VLAN_CFI);
        }
    }
    match_init(&match, flow, &wc);
    cls_rule_init(&f->cr, &match, 0);
    f->wc = match.wc;

    xlate_out_uninit(&xout);
    ofpbuf_uninit(&actions);
    return f;
}

struct forwarding_cache *
forwarding_cache_create(void)
{
    struct forwarding_cache *cache = xmalloc(sizeof *cache);

    ovs_mutex_init(&cache->mutex);
    classifier_init(&cache->cls, NULL);
    atomic_count_init(&cache->n, 0);
    return cache;
}

/* Drops the reference of 'cache' to 'f', which has been removed from there,
 * once no thread has just found it any more. */
static void
release(struct forwarding_cache *cache, struct forwarding *f)
{
    atomic_count_dec(&cache->n);
    ovsrcu_postpone(forwarding_unref, f);
}

static void
remove__(struct forwarding_cache *cache, struct forwarding *f)
    OVS_REQUIRES(cache->mutex)
{
    if (classifier_remove(&cache->cls, &f->cr)) {
        release(cache, f);
    }
}

/* Destroys 'cache', which no thread may be using. */
void
forwarding_cache_destroy(struct forwarding_cache *cache)
{
    struct forwarding *f;

    ovs_mutex_lock(&cache->mutex);
    CLS_FOR_EACH (f, cr, &cache->cls) {
        remove__(cache, f);
    }
    ovs_mutex_unlock(&cache->mutex);
    classifier_destroy(&cache->cls);
    ovs_mutex_destroy(&cache->mutex);
    free(cache);
}

static struct forwarding *
lookup(const struct forwarding_cache *cache, struct flow *flow)
{
    return forwarding_cast(classifier_lookup(&cache->cls, OVS_VERSION_MAX,
                                             flow, NULL, NULL));
}

/* Returns what becomes of 'flow', which entered 'ofproto' by 'in_port' and has
 * passed outbound layers, where 'generation' is that of the datapath's
 * translations as of now.  'flow->in_port' is one of the datapath's.  Returns
 * NULL if that does not fit in 'cache'. */
const struct forwarding *
forwarding_find(struct forwarding_cache *cache, struct ofproto_dpif *ofproto,
                ofp_port_t in_port, struct flow *flow, uint64_t generation)
{
    struct forwarding *f = lookup(cache, flow);
    bool used;

    if (OVS_LIKELY(f && f->generation == generation)) {
        atomic_read_relaxed(&f->used, &used);
        if (OVS_UNLIKELY(!used)) {
            atomic_store_relaxed(&f->used, true);
        }
        return f;
    }
    if (!f && atomic_count_get(&cache->n) >= MAX_FORWARDINGS) {
        return NULL;
    }

    struct forwarding *new = translate(ofproto, in_port, flow, generation);
    const struct cls_rule *replaced;

    ovs_mutex_lock(&cache->mutex);
    if (f) {
        remove__(cache, f);
    }
    replaced = classifier_replace(&cache->cls, &new->cr, OVS_VERSION_MIN,
                                  NULL, 0);
    atomic_count_inc(&cache->n);
    if (replaced) {
        release(cache, forwarding_cast(replaced));
    }
    ovs_mutex_unlock(&cache->mutex);
    return new;
}

/* Removes from 'cache' what is not of 'generation', or was not used since the
 * last call. */
void
forwarding_cache_run(struct forwarding_cache *cache, uint64_t generation)
{
    struct forwarding *f;

    ovs_mutex_lock(&cache->mutex);
    CLS_FOR_EACH (f, cr, &cache->cls) {
        bool used;

        atomic_read_relaxed(&f->used, &used);
        if (!used || f->generation != generation) {
            remove__(cache, f);
        } else {
            atomic_store_relaxed(&f->used, false);
        }
    }
    ovs_mutex_unlock(&cache->mutex);
}

size_t
forwarding_cache_count(const struct forwarding_cache *cache)
{
    return atomic_count_get(&CONST_CAST(struct forwarding_cache *, cache)->n);
}
