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

#include "layered/ofproto-layered/layer-port.h"

#include "flow.h"
#include "hash.h"
#include "layered/ofproto-layered/layer-packet.h"
#include "openvswitch/shash.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "util.h"

/* Datagrams in fragments that a port remembers, in each direction. */
#define MAX_FRAGMENTED 1024

/* Refusals that a port sends in a millisecond, and at once. */
#define REJECT_RATE 1
#define REJECT_BURST 1000

struct layer_snapshot {
    uint64_t version;
    size_t n;
    struct {
        const struct layer_port *port;  /* Whose it is, not to be followed: an
                                         * index may have a new owner. */
        struct layer_stack *stack;      /* NULL if the interface has no
                                         * policy. */
    } stacks[];                         /* By the ports' 'index'. */
};

static struct ovs_mutex mutex = OVS_MUTEX_INITIALIZER;

/* What is known of an interface by name, as far as anything is. */
struct iface {
    struct layer_stack *stack;          /* Reference, or NULL. */
    struct layer_port *port;            /* Reference, or NULL. */
};
static struct shash ifaces OVS_GUARDED_BY(mutex) = SHASH_INITIALIZER(&ifaces);

/* Published. */
static OVSRCU_TYPE(struct layer_snapshot *) snapshot
    = OVSRCU_INITIALIZER(NULL);
static struct cmap ports = CMAP_INITIALIZER;
static struct cmap ports_by_number = CMAP_INITIALIZER;
static uint64_t policy_version OVS_GUARDED_BY(mutex);

/* Of struct admission, by name of interface. */
static struct shash admissions OVS_GUARDED_BY(mutex)
    = SHASH_INITIALIZER(&admissions);

/* Returns the newest snapshot, NULL if there is none.  It and all that it
 * refers to are valid until the caller quiesces. */
const struct layer_snapshot *
layer_snapshot_get(void)
{
    return ovsrcu_get(struct layer_snapshot *, &snapshot);
}

/* Returns 'port''s stack in 's', NULL if its policy is not known. */
const struct layer_stack *
layer_snapshot_stack(const struct layer_snapshot *s,
                     const struct layer_port *port)
{
    return (s && port->index < s->n && s->stacks[port->index].port == port
            ? s->stacks[port->index].stack : NULL);
}

uint64_t
layer_snapshot_version(const struct layer_snapshot *s)
{
    return s ? s->version : 0;
}

/* Makes and publishes the snapshot of the ports and policies there are.  They
 * keep their references to the stacks until those are replaced. */
static void
publish_snapshot(void)
    OVS_REQUIRES(mutex)
{
    struct layer_snapshot *old = ovsrcu_get_protected(struct layer_snapshot *,
                                                      &snapshot);
    struct layer_snapshot *new;
    struct shash_node *node;
    size_t n = 0;

    SHASH_FOR_EACH (node, &ifaces) {
        const struct iface *iface = node->data;

        if (iface->port) {
            n = MAX(n, iface->port->index + 1);
        }
    }

    new = xzalloc(sizeof *new + n * sizeof *new->stacks);
    new->version = policy_version;
    new->n = n;
    SHASH_FOR_EACH (node, &ifaces) {
        const struct iface *iface = node->data;

        if (iface->port) {
            new->stacks[iface->port->index].port = iface->port;
            new->stacks[iface->port->index].stack = iface->stack;
        }
    }
    ovsrcu_set(&snapshot, new);
    if (old) {
        ovsrcu_postpone(free, old);
    }
}

static struct iface *
get_iface(const char *name)
    OVS_REQUIRES(mutex)
{
    struct iface *iface = shash_find_data(&ifaces, name);

    if (!iface) {
        iface = xzalloc(sizeof *iface);
        shash_add(&ifaces, name, iface);
    }
    return iface;
}

/* Drops 'iface' if nothing is known of it any more. */
static void
put_iface(const char *name, struct iface *iface)
    OVS_REQUIRES(mutex)
{
    if (!iface->stack && !iface->port) {
        shash_find_and_delete(&ifaces, name);
        free(iface);
    }
}

/* Returns the lowest number that is no port's. */
static size_t
free_index(void)
    OVS_REQUIRES(mutex)
{
    const struct layer_snapshot *s = layer_snapshot_get();
    size_t n = s ? s->n : 0;
    struct shash_node *node;
    size_t index = 0;
    bool *used;

    used = xcalloc(n + 1, sizeof *used);
    SHASH_FOR_EACH (node, &ifaces) {
        const struct iface *iface = node->data;

        if (iface->port) {
            used[iface->port->index] = true;
        }
    }
    while (used[index]) {
        index++;
    }
    free(used);
    return index;
}

/* Applies the policy of admission to 'port'. */
static void
set_admission(struct layer_port *port)
    OVS_REQUIRES(mutex)
{
    const struct admission *a = shash_find_data(&admissions, port->name);

    a = a ? a : &admission_default;
    atomic_store_relaxed(&port->promote_packets, a->packets);
    atomic_store_relaxed(&port->promote_bytes, a->bytes);
    atomic_store_relaxed(&port->promote_age, a->age);
}

/* Takes over the contents of 'policies', which are the "struct admission"s of
 * interfaces, by name, as the policy of admission.  Others have the default
 * one. */
void
layer_ports_set_admission(struct shash *policies)
{
    struct layer_port *port;

    ovs_mutex_lock(&mutex);
    shash_swap(policies, &admissions);
    CMAP_FOR_EACH (port, node, &ports) {
        set_admission(port);
    }
    ovs_mutex_unlock(&mutex);
    shash_clear_free_data(policies);
}

/* Returns the policy of admission for connections whose packets come from
 * 'port'. */
struct admission
layer_port_get_admission(const struct layer_port *port_)
{
    struct layer_port *port = CONST_CAST(struct layer_port *, port_);
    struct admission a;

    atomic_read_relaxed(&port->promote_packets, &a.packets);
    atomic_read_relaxed(&port->promote_bytes, &a.bytes);
    atomic_read_relaxed(&port->promote_age, &a.age);
    return a;
}

static uint32_t
hash_number(const struct ofproto_dpif *ofproto, ofp_port_t ofp_port)
{
    return hash_pointer(ofproto, ofp_to_u16(ofp_port));
}

/* Adds a port for interface 'name', which translation will know as 'ofport',
 * and which is 'ofp_port' of 'ofproto'. */
void
layer_port_create(const char *name, const struct ofport_dpif *ofport,
                  struct ofproto_dpif *ofproto, ofp_port_t ofp_port)
{
    struct layer_port *port = xzalloc(sizeof *port);

    ovs_refcount_init(&port->ref_cnt);
    port->ofport = ofport;
    port->ofproto = ofproto;
    port->ofp_port = ofp_port;
    port->name = xstrdup(name);
    port->conns = conn_table_create();
    port_stats_init(&port->stats);
    ovs_mutex_init(&port->fragments_mutex);
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        port->fragments[i] = fragment_table_create(MAX_FRAGMENTED);
    }
    ovs_mutex_init(&port->rejects_mutex);
    token_bucket_init(&port->rejects, REJECT_RATE, REJECT_BURST);

    ovs_mutex_lock(&mutex);
    struct iface *iface = get_iface(name);
    port->index = free_index();
    iface->port = port;
    set_admission(port);
    publish_snapshot();
    cmap_insert(&ports, &port->node, hash_pointer(ofport, 0));
    cmap_insert(&ports_by_number, &port->number_node,
                hash_number(ofproto, ofp_port));
    ovs_mutex_unlock(&mutex);
}

/* Removes the port that translation knows as 'ofport', if there is one. */
void
layer_port_destroy(const struct ofport_dpif *ofport)
{
    struct layer_port *port;

    ovs_mutex_lock(&mutex);
    port = CONST_CAST(struct layer_port *, layer_port_lookup(ofport));
    if (port) {
        struct iface *iface = get_iface(port->name);

        if (iface->port == port) {
            iface->port = NULL;
        }
        put_iface(port->name, iface);
        cmap_remove(&ports, &port->node, hash_pointer(ofport, 0));
        cmap_remove(&ports_by_number, &port->number_node,
                    hash_number(port->ofproto, port->ofp_port));
        publish_snapshot();
        ovsrcu_postpone(layer_port_unref, port);
    }
    ovs_mutex_unlock(&mutex);
}

/* Returns the port that translation knows as 'ofport', NULL if there is none.
 * Valid until the caller quiesces. */
const struct layer_port *
layer_port_lookup(const struct ofport_dpif *ofport)
{
    const struct layer_port *port;

    CMAP_FOR_EACH_WITH_HASH (port, node, hash_pointer(ofport, 0), &ports) {
        if (port->ofport == ofport) {
            return port;
        }
    }
    return NULL;
}

/* Returns port 'ofp_port' of 'ofproto', NULL if it has none.  Valid until the
 * caller quiesces. */
const struct layer_port *
layer_port_lookup_number(const struct ofproto_dpif *ofproto,
                         ofp_port_t ofp_port)
{
    const struct layer_port *port;

    CMAP_FOR_EACH_WITH_HASH (port, number_node, hash_number(ofproto, ofp_port),
                             &ports_by_number) {
        if (port->ofproto == ofproto && port->ofp_port == ofp_port) {
            return port;
        }
    }
    return NULL;
}

/* Returns true if a port of 'ofproto' has layers, or a policy that is not
 * known yet. */
bool
layer_bridge_needs_hooks(const struct ofproto_dpif *ofproto)
{
    struct shash_node *node;
    bool needs = false;

    ovs_mutex_lock(&mutex);
    SHASH_FOR_EACH (node, &ifaces) {
        const struct iface *iface = node->data;

        if (iface->port && iface->port->ofproto == ofproto
            && (!iface->stack || iface->stack->n)) {
            needs = true;
            break;
        }
    }
    ovs_mutex_unlock(&mutex);
    return needs;
}

/* Returns true if the policy of interface 'name' is known. */
bool
layer_iface_is_known(const char *name)
{
    const struct iface *iface;
    bool known;

    ovs_mutex_lock(&mutex);
    iface = shash_find_data(&ifaces, name);
    known = iface && iface->stack;
    ovs_mutex_unlock(&mutex);
    return known;
}

/* Returns true if 'port' may answer a packet with a refusal.  Answers take
 * longer than the packets, and go to whom the packets say that they are from,
 * so that there must not be any number of them. */
bool
layer_port_may_reject(const struct layer_port *port_)
{
    struct layer_port *port = CONST_CAST(struct layer_port *, port_);
    bool may;

    ovs_mutex_lock(&port->rejects_mutex);
    may = token_bucket_withdraw(&port->rejects, 1);
    ovs_mutex_unlock(&port->rejects_mutex);
    return may;
}

struct layer_port *
layer_port_ref(const struct layer_port *port_)
{
    struct layer_port *port = CONST_CAST(struct layer_port *, port_);

    ovs_refcount_ref(&port->ref_cnt);
    return port;
}

void
layer_port_unref(struct layer_port *port)
{
    if (port && ovs_refcount_unref(&port->ref_cnt) == 1) {
        conn_table_destroy(port->conns);
        port_stats_uninit(&port->stats);
        for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
            fragment_table_destroy(port->fragments[i]);
        }
        ovs_mutex_destroy(&port->fragments_mutex);
        ovs_mutex_destroy(&port->rejects_mutex);
        free(port->name);
        free(port);
    }
}

/* Publishes the 'n' stacks of 'assignments', all at once, as of 'version', and
 * takes over the references to them.
 *
 * Returns the ports concerned, each with a reference, in an array that ends
 * with NULL, for layer_ports_list_free(). */
struct layer_port **
layer_ports_publish(uint64_t version,
                    const struct layer_assignment *assignments, size_t n)
{
    struct layer_port **changed = xmalloc((n + 1) * sizeof *changed);
    struct layer_stack **old = xmalloc(n * sizeof *old);
    size_t n_changed = 0;

    ovs_mutex_lock(&mutex);
    for (size_t i = 0; i < n; i++) {
        struct iface *iface = get_iface(assignments[i].iface);

        old[i] = iface->stack;
        iface->stack = assignments[i].stack;
        if (iface->port) {
            changed[n_changed++] = layer_port_ref(iface->port);
        }
        put_iface(assignments[i].iface, iface);
    }
    policy_version = version;
    publish_snapshot();
    ovs_mutex_unlock(&mutex);

    for (size_t i = 0; i < n; i++) {
        if (old[i]) {
            atomic_store_relaxed(&old[i]->retired, true);
            layer_stack_unref_postponed(old[i]);
        }
    }
    free(old);
    changed[n_changed] = NULL;
    return changed;
}

/* Returns all ports, each with a reference, in an array that ends with NULL,
 * for layer_ports_list_free(). */
struct layer_port **
layer_ports_list(void)
{
    struct layer_port **list;
    struct shash_node *node;
    size_t n = 0;

    ovs_mutex_lock(&mutex);
    list = xmalloc((shash_count(&ifaces) + 1) * sizeof *list);
    SHASH_FOR_EACH (node, &ifaces) {
        const struct iface *iface = node->data;

        if (iface->port) {
            list[n++] = layer_port_ref(iface->port);
        }
    }
    list[n] = NULL;
    ovs_mutex_unlock(&mutex);
    return list;
}

void
layer_ports_list_free(struct layer_port **list)
{
    for (size_t i = 0; list[i]; i++) {
        layer_port_unref(list[i]);
    }
    free(list);
}
