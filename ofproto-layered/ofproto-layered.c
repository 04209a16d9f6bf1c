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

#include "layered/ofproto-layered/ofproto-layered.h"

#include <errno.h>

#include "layered/ofproto-layered/layered-type.h"
#include "util.h"

#include "openvswitch/vlog.h"

VLOG_DEFINE_THIS_MODULE(ofproto_layered);

/* All layered bridges, 'list_node' of struct ofproto_layered. */
static struct ovs_list all_layered = OVS_LIST_INITIALIZER(&all_layered);

/* Filled in by ofproto_layered_register(), constant afterwards. */
static struct ofproto_class ofproto_layered_class;
static const struct ofproto_class *const base = &ofproto_dpif_class;

/* Returns the layered bridge that 'ofproto' is part of, or NULL if 'ofproto'
 * is not a layered bridge. */
struct ofproto_layered *
ofproto_layered_cast(const struct ofproto *ofproto)
{
    return (ofproto->ofproto_class == &ofproto_layered_class
            ? CONTAINER_OF(ofproto, struct ofproto_layered, up.up)
            : NULL);
}

/* Returns the list of all layered bridges, through 'list_node' of struct
 * ofproto_layered.  For the main thread. */
const struct ovs_list *
ofproto_layered_get_all(void)
{
    return &all_layered;
}

/* Factory functions. */

static void
init(const struct shash *iface_hints OVS_UNUSED)
{
    /* ofproto calls the base's init() too, which keeps the hints. */
}

static int
del(const char *type, const char *name)
{
    return base->del(layered_type_to_dpif_type(type), name);
}

static const char *
port_open_type(const char *datapath_type, const char *port_type)
{
    return base->port_open_type(layered_type_to_dpif_type(datapath_type),
                                port_type);
}

/* Type functions.
 *
 * ofproto calls the first group of these for each datapath type of each class.
 * A datapath belongs to its dpif type: as long as that is not claimed, it is
 * ofproto_dpif_class that is called for it. */

static int
type_run(const char *type)
{
    return layered_type_is_claimed(type) ? base->type_run(type) : 0;
}

static void
type_wait(const char *type)
{
    if (layered_type_is_claimed(type)) {
        base->type_wait(type);
    }
}

static void
type_get_memory_usage(const char *type, struct simap *usage)
{
    if (layered_type_is_claimed(type)) {
        base->type_get_memory_usage(type, usage);
    }
}

static void
type_set_config(const char *type, const struct smap *other_config)
{
    if (layered_type_is_claimed(type)) {
        base->type_set_config(type, other_config);
    }
}

/* The following are for the rows of the Datapath table.  A user may name a
 * datapath by any of its types there. */

static void
get_datapath_cap(const char *type, struct smap *cap)
{
    base->get_datapath_cap(layered_type_to_dpif_type(type), cap);
}

static void
ct_set_zone_timeout_policy(const char *type, uint16_t zone,
                           struct simap *timeout_policy)
{
    base->ct_set_zone_timeout_policy(layered_type_to_dpif_type(type), zone,
                                     timeout_policy);
}

static void
ct_del_zone_timeout_policy(const char *type, uint16_t zone)
{
    base->ct_del_zone_timeout_policy(layered_type_to_dpif_type(type), zone);
}

static void
ct_zone_limit_update(const char *type, int32_t zone, int64_t *limit)
{
    base->ct_zone_limit_update(layered_type_to_dpif_type(type), zone, limit);
}

static void
ct_zone_limit_protection_update(const char *type, bool protected)
{
    base->ct_zone_limit_protection_update(layered_type_to_dpif_type(type),
                                          protected);
}

/* Life cycle of a bridge. */

static struct ofproto *
alloc(void)
{
    struct ofproto_layered *layered = xzalloc(sizeof *layered);

    return &layered->up.up;
}

static int
construct(struct ofproto *ofproto)
{
    struct ofproto_layered *layered = ofproto_layered_cast(ofproto);
    const char *dpif_type = layered_type_to_dpif_type(ofproto->type);
    int error;

    layered->up.dpif_type = dpif_type;
    error = base->construct(ofproto);
    if (error) {
        if (strcmp(ofproto->type, dpif_type)) {
            VLOG_ERR("%s: datapath type \"%s\" needs a datapath of type "
                     "\"%s\", which cannot be opened: %s", ofproto->name,
                     ofproto->type, dpif_type, ovs_strerror(error));
        }
        return error;
    }

    ovs_list_push_back(&all_layered, &layered->list_node);
    return 0;
}

static void
destruct(struct ofproto *ofproto, bool del_)
{
    ovs_list_remove(&ofproto_layered_cast(ofproto)->list_node);
    base->destruct(ofproto, del_);
}

static void
dealloc(struct ofproto *ofproto)
{
    free(ofproto_layered_cast(ofproto));
}

/* Registers the class of layered bridges.  Must be called once, by the main
 * thread, after layered_type_init() and before ofproto_init(), so that a
 * claimed type is found here ahead of ofproto_dpif_class. */
void
ofproto_layered_register(void)
{
    struct ofproto_class *class = &ofproto_layered_class;

    *class = *base;
    class->base = base;

    class->init = init;
    class->enumerate_types = layered_type_enumerate;
    class->del = del;
    class->port_open_type = port_open_type;

    class->type_run = type_run;
    class->type_wait = type_wait;
    class->type_get_memory_usage = type_get_memory_usage;
    class->type_set_config = type_set_config;

    class->get_datapath_cap = get_datapath_cap;
    class->ct_set_zone_timeout_policy = ct_set_zone_timeout_policy;
    class->ct_del_zone_timeout_policy = ct_del_zone_timeout_policy;
    class->ct_zone_limit_update = ct_zone_limit_update;
    class->ct_zone_limit_protection_update = ct_zone_limit_protection_update;

    class->alloc = alloc;
    class->construct = construct;
    class->destruct = destruct;
    class->dealloc = dealloc;

    ofproto_class_register(class);
}
