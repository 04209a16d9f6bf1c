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

#include "layered/ofproto-layered/layer-compile.h"

#include <limits.h>

#include "bitmap.h"
#include "hash.h"
#include "layered/ofproto-layered/address-set.h"
#include "layered/ofproto-layered/layer-config.h"
#include "layered/ofproto-layered/layer-errors.h"
#include "layered/ofproto-layered/layer-policy.h"
#include "layered/ofproto-layered/layer-port.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/hmap.h"
#include "openvswitch/shash.h"
#include "ovs-rcu.h"
#include "ovs-thread.h"
#include "smap.h"
#include "sset.h"
#include "util.h"
#include "uuid.h"
#include "vswitch-idl.h"

/* So many rules are compiled between two quiescent states. */
#define RULES_PER_QUIESCENCE 256

/* An address set, known by name.  Exists while there is a row or a rule has
 * tried to refer to it. */
struct comp_set {
    struct address_set *set;            /* Reference. */
    struct address_table *table;        /* NULL if it cannot be used. */
    struct uuid uuid;
    size_t n;                           /* Number of prefixes. */
};

/* A rule in a group.  A row that several groups refer to has several. */
struct comp_rule {
    struct hmap_node row_node;          /* In 'rules', by 'uuid'. */
    struct hmap_node group_node;        /* In the group's 'rules', too. */
    struct uuid uuid;
    struct comp_group *group;
    struct layer_rule *rule;            /* Reference, NULL if in error. */
};

struct comp_group {
    struct hmap_node node;              /* In 'groups', by 'uuid'. */
    struct uuid uuid;
    struct hmap rules;                  /* Of comp_rule. */
    struct uuid *uuids;                 /* Theirs, in ascending order. */
    size_t n_uuids;
    bool incomplete;                    /* Its row refers to a rule that there
                                         * is not. */
    struct layer_classifier *classifier; /* Reference. */
    struct classifier_edit *edit;       /* NULL if there is none under way. */
    unsigned int stateful[257];         /* Rules by protocol, [256] for any. */
    struct layer_group *group;          /* Reference, NULL if in error. */
    bool dirty;                         /* 'group' is to be made anew. */
    uint64_t changed;                   /* Version as of which it is so. */
};

struct comp_layer {
    struct hmap_node node;              /* In 'layers', by 'uuid'. */
    struct uuid uuid;
    struct layer *layer;                /* Reference, NULL if there is none. */
    bool dirty;                         /* 'layer' is to be made anew. */
    uint64_t changed;                   /* Version as of which it is so. */
};

struct comp_iface {
    struct hmap_node node;              /* In 'ifaces', by 'uuid'. */
    struct uuid uuid;
    char *name;
    bool dirty;                         /* Needs a new stack. */
    bool gone;
    bool in_error;                      /* Its configuration is. */
};

/* A reference to be dropped. */
struct retired {
    void (*unref)(void *);
    void *object;
};

struct layer_compiler {
    struct layer_errors *errors;
    struct shash sets;
    struct hmap rules, layers, ifaces;

    /* Changes take 'mutex' as well, so that another thread may look. */
    struct ovs_mutex mutex;
    struct hmap groups;
    struct layer_config_sizes sizes;    /* As of the last run. */

    /* Valid from layer_compiler_run() to layer_compiler_published(). */
    struct ovsdb_idl *idl;
    uint64_t version;

    /* What the policy in force has, and the next one does not.  Readers may
     * find it until that is published, so that it has to wait for a grace
     * period that begins then.  As nothing is handed to RCU before, the thread
     * may quiesce at any time while it compiles. */
    struct retired *retired;
    size_t n_retired, allocated_retired;

    size_t n_addresses;                 /* In sets. */
    size_t rule_memory;                 /* Bytes in rules. */
    unsigned int n_compiled;            /* Rules, since it quiesced. */
};

/* Returns a new compiler, which has not seen any row. */
struct layer_compiler *
layer_compiler_create(void)
{
    struct layer_compiler *lc = xzalloc(sizeof *lc);

    lc->errors = layer_errors_create();
    shash_init(&lc->sets);
    hmap_init(&lc->rules);
    hmap_init(&lc->layers);
    hmap_init(&lc->ifaces);
    ovs_mutex_init(&lc->mutex);
    hmap_init(&lc->groups);
    return lc;
}

/* Has UNREF(OBJECT) be called once the policy that has OBJECT, which must be
 * nonnull, is not in force any more. */
#define RETIRE(LC, UNREF, OBJECT)                                       \
    ((void) sizeof((UNREF)(OBJECT), 1),                                 \
     retire__(LC, (void (*)(void *)) (UNREF), OBJECT))

static void
retire__(struct layer_compiler *lc, void (*unref)(void *), void *object)
{
    if (lc->n_retired >= lc->allocated_retired) {
        lc->retired = x2nrealloc(lc->retired, &lc->allocated_retired,
                                 sizeof *lc->retired);
    }
    lc->retired[lc->n_retired++] = (struct retired) { unref, object };
}

/* Lets go of what has been retired, as what replaces it is published. */
static void
release_retired(struct layer_compiler *lc)
{
    for (size_t i = 0; i < lc->n_retired; i++) {
        ovsrcu_postpone__(lc->retired[i].unref, lc->retired[i].object);
    }
    free(lc->retired);
    lc->retired = NULL;
    lc->n_retired = lc->allocated_retired = 0;
}

/* Returns the errors of the rows. */
struct layer_errors *
layer_compiler_get_errors(struct layer_compiler *lc)
{
    return lc->errors;
}

/* Address sets. */

/* Finds the set 'name' for a condition. */
static struct address_set *
find_set(const char *name, void *lc_)
{
    struct layer_compiler *lc = lc_;
    struct comp_set *cs = shash_find_data(&lc->sets, name);

    return cs && cs->table ? cs->set : NULL;
}

/* Rules. */

/* Adds 'delta' to the number of rules of 'group' that keep state, for the
 * protocols that 'rule' does so for. */
static void
count_stateful(struct comp_group *group, const struct layer_rule *rule,
               int delta)
{
    struct protocol_set set = { .bits = { 0 } };

    protocol_set_add_rule(&set, rule);
    if (bitmap_count1(set.bits, 256) == 256) {
        group->stateful[256] += delta;
    } else {
        size_t i;

        BITMAP_FOR_EACH_1 (i, 256, set.bits) {
            group->stateful[i] += delta;
        }
    }
}

static struct classifier_edit *
get_edit(struct comp_group *group)
{
    if (!group->edit) {
        group->edit = classifier_edit_begin(group->classifier);
    }
    group->dirty = true;
    return group->edit;
}

/* Compiles 'row'.  Returns NULL and stores the reason in '*error' if it cannot
 * be used. */
static struct layer_rule *
compile_rule(struct layer_compiler *lc, const struct ovsrec_layer_rule *row,
             char **errorp)
{
    struct condition *condition;
    struct layer_actions *actions;
    char *error;

    error = condition_parse(row->match, find_set, lc, &condition);
    if (error) {
        *errorp = xasprintf("match: %s", error);
        free(error);
        return NULL;
    }
    error = layer_actions_parse(row->actions, &actions);
    if (error) {
        condition_destroy(condition);
        *errorp = xasprintf("actions: %s", error);
        free(error);
        return NULL;
    }
    *errorp = NULL;
    return layer_rule_create(&row->header_.uuid, row->name, row->priority,
                             condition, actions);
}

/* Puts 'rule', NULL for none, in the place of what 'cr' has in its group.
 * Takes over the reference. */
static void
assign_rule(struct layer_compiler *lc, struct comp_rule *cr,
            struct layer_rule *rule)
{
    struct comp_group *group = cr->group;

    if (cr->rule) {
        classifier_edit_remove(get_edit(group), &cr->rule->cr);
        count_stateful(group, cr->rule, -1);
        lc->rule_memory -= layer_rule_memory(cr->rule);
        layer_rule_retire(cr->rule);
        RETIRE(lc, layer_rule_unref, cr->rule);
    }
    cr->rule = rule;
    if (rule) {
        classifier_edit_insert(get_edit(group), &rule->cr, lc->version);
        count_stateful(group, rule, 1);
        lc->rule_memory += layer_rule_memory(rule);
    }
}

/* Returns true if 'rule' is what 'row' says. */
static bool
rule_equals_row(const struct layer_rule *rule, const struct layer_rule *other)
{
    return (rule && other && rule->priority == other->priority
            && !strcmp(rule->condition->text, other->condition->text)
            && !strcmp(rule->actions->text, other->actions->text)
            && nullable_string_is_equal(rule->name, other->name));
}

/* Brings 'cr' up to date with 'row'.  'rebind' says that the sets that it
 * refers to may be others than before. */
static void
update_rule(struct layer_compiler *lc, struct comp_rule *cr,
            const struct ovsrec_layer_rule *row, bool rebind)
{
    char *error;
    struct layer_rule *rule = compile_rule(lc, row, &error);

    /* Many rules take a while, for which the objects that other threads free
     * should not pile up, nor should ovsrcu_synchronize() have to wait. */
    if (++lc->n_compiled >= RULES_PER_QUIESCENCE) {
        lc->n_compiled = 0;
        ovsrcu_quiesce();
    }

    layer_errors_set(lc->errors, ET_RULE, &cr->uuid, row->error, error);
    if (!rebind && rule_equals_row(rule, cr->rule)) {
        layer_rule_unref(rule);
    } else if (rule || cr->rule) {
        assign_rule(lc, cr, rule);
    }
}

static void
destroy_rule(struct layer_compiler *lc, struct comp_rule *cr)
{
    assign_rule(lc, cr, NULL);
    hmap_remove(&lc->rules, &cr->row_node);
    hmap_remove(&cr->group->rules, &cr->group_node);
    free(cr);
}

static struct comp_rule *
find_group_rule(const struct comp_group *group, const struct uuid *uuid)
{
    struct comp_rule *cr;

    HMAP_FOR_EACH_WITH_HASH (cr, group_node, uuid_hash(uuid), &group->rules) {
        if (uuid_equals(&cr->uuid, uuid)) {
            return cr;
        }
    }
    return NULL;
}

static bool
condition_uses_set(const struct condition *condition,
                   const struct address_set *set)
{
    for (size_t i = 0; i < condition->n_terms; i++) {
        const struct condition_term *term = &condition->terms[i];

        for (size_t j = 0; j < term->n_sets; j++) {
            if (term->sets[j] == set) {
                return true;
            }
        }
    }
    return false;
}

/* Compiles again the rules that are in error, as far as a set, 'set' if that
 * is nonnull, may be the reason, or that use 'set'. */
static void
rebind_rules(struct layer_compiler *lc, const struct address_set *set)
{
    struct comp_rule *cr;

    HMAP_FOR_EACH (cr, row_node, &lc->rules) {
        if (cr->rule && !condition_uses_set(cr->rule->condition, set)) {
            continue;
        }

        const struct ovsrec_layer_rule *row
            = ovsrec_layer_rule_get_for_uuid(lc->idl, &cr->uuid);
        if (row) {
            update_rule(lc, cr, row, cr->rule != NULL);
        }
    }
}

/* Groups. */

static struct comp_group *
find_group(const struct layer_compiler *lc, const struct uuid *uuid)
{
    struct comp_group *group;

    HMAP_FOR_EACH_WITH_HASH (group, node, uuid_hash(uuid), &lc->groups) {
        if (uuid_equals(&group->uuid, uuid)) {
            return group;
        }
    }
    return NULL;
}

static void
destroy_group(struct layer_compiler *lc, struct comp_group *group)
{
    struct comp_rule *cr;

    HMAP_FOR_EACH_SAFE (cr, group_node, &group->rules) {
        destroy_rule(lc, cr);
    }
    if (group->edit) {
        layer_classifier_unref(classifier_edit_commit(group->edit));
    }
    hmap_destroy(&group->rules);
    free(group->uuids);
    ovs_mutex_lock(&lc->mutex);
    hmap_remove(&lc->groups, &group->node);
    ovs_mutex_unlock(&lc->mutex);
    if (group->group) {
        RETIRE(lc, layer_group_unref, group->group);
    }
    RETIRE(lc, layer_classifier_unref, group->classifier);
    free(group);
}

/* Adds rule 'uuid' to 'group'.  Returns false if there is no such row. */
static bool
add_group_rule(struct layer_compiler *lc, struct comp_group *group,
               const struct uuid *uuid)
{
    const struct ovsrec_layer_rule *row
        = ovsrec_layer_rule_get_for_uuid(lc->idl, uuid);
    struct comp_rule *cr;

    if (!row) {
        return false;
    }
    cr = xzalloc(sizeof *cr);
    cr->uuid = *uuid;
    cr->group = group;
    hmap_insert(&lc->rules, &cr->row_node, uuid_hash(uuid));
    hmap_insert(&group->rules, &cr->group_node, uuid_hash(uuid));
    update_rule(lc, cr, row, false);
    return true;
}

/* Brings the set of 'group''s rules up to date with 'row'.  Compares the
 * sorted UUIDs themselves, because that is much faster than to look up each of
 * the rows that 'row' refers to.  ('row->rules' is not there, see
 * layer_config_init().) */
static void
update_group_rules(struct layer_compiler *lc, struct comp_group *group,
                   const struct ovsrec_layer_group *row)
{
    const struct ovsdb_datum *rules
        = ovsrec_layer_group_get_rules(row, OVSDB_TYPE_UUID);
    const struct uuid *old = group->uuids;
    const struct uuid *old_end = old + group->n_uuids;
    struct uuid *uuids = xmalloc(rules->n * sizeof *uuids);
    size_t n = 0;

    group->incomplete = false;
    for (size_t i = 0; i < rules->n || old < old_end;) {
        const struct uuid *new = i < rules->n ? &rules->keys[i].uuid : NULL;
        int cmp = (!new ? 1 : old >= old_end ? -1
                   : uuid_compare_3way(new, old));

        if (cmp > 0) {
            destroy_rule(lc, find_group_rule(group, old));
        } else if (!cmp || add_group_rule(lc, group, new)) {
            uuids[n++] = *new;
        } else {
            group->incomplete = true;
        }
        i += cmp <= 0;
        old += cmp >= 0;
    }
    free(group->uuids);
    group->uuids = uuids;
    group->n_uuids = n;
}

/* Compiles the parts of 'group' other than its rules, from 'row'. */
static void
update_group(struct layer_compiler *lc, struct comp_group *group,
             const struct ovsrec_layer_group *row)
{
    struct condition *match = NULL;
    char *error = NULL;

    if (group->edit) {
        struct layer_classifier *new = classifier_edit_commit(group->edit);

        group->edit = NULL;
        RETIRE(lc, layer_classifier_unref, group->classifier);
        ovs_mutex_lock(&lc->mutex);
        group->classifier = new;
        ovs_mutex_unlock(&lc->mutex);
    }
    if (group->group) {
        RETIRE(lc, layer_group_unref, group->group);
        group->group = NULL;
    }

    if (row->match && row->match[0]) {
        error = condition_parse(row->match, find_set, lc, &match);
    }
    layer_errors_set(lc->errors, ET_GROUP, &group->uuid, row->error,
                     error ? xasprintf("match: %s", error) : NULL);
    if (!error) {
        struct protocol_set stateful = { .bits = { 0 } };

        for (size_t i = 0; i < 256; i++) {
            if (group->stateful[i] || group->stateful[256]) {
                bitmap_set1(stateful.bits, i);
            }
        }
        group->group = layer_group_create(
            &group->uuid, row->name, match,
            (!row->default_ || !strcmp(row->default_, "next") ? LV_NONE
             : !strcmp(row->default_, "allow") ? LV_ALLOW : LV_DENY),
            layer_classifier_ref(group->classifier), &stateful);
    }
    free(error);
    group->dirty = false;
    group->changed = lc->version;
}

static struct comp_group *
create_group(struct layer_compiler *lc, const struct ovsrec_layer_group *row)
{
    struct comp_group *group = xzalloc(sizeof *group);

    group->uuid = row->header_.uuid;
    hmap_init(&group->rules);
    group->classifier = layer_classifier_create();
    ovs_mutex_lock(&lc->mutex);
    hmap_insert(&lc->groups, &group->node, uuid_hash(&group->uuid));
    ovs_mutex_unlock(&lc->mutex);
    update_group_rules(lc, group, row);
    group->dirty = true;
    return group;
}

/* Address sets, continued. */

static void
set_contents(struct layer_compiler *lc, struct comp_set *cs,
             struct address_table *table)
{
    struct address_table *old = cs->table;
    struct comp_group *group;

    cs->table = table;
    lc->n_addresses -= cs->n;
    cs->n = 0;
    if (table) {
        address_table_prefixes(table, &cs->n);
        address_set_publish(cs->set, address_table_ref(table), lc->version);
    }
    lc->n_addresses += cs->n;

    if (old && table) {
        HMAP_FOR_EACH (group, node, &lc->groups) {
            if (layer_classifier_uses_set(group->classifier, cs->set)) {
                classifier_edit_replace_set(get_edit(group), cs->set, old,
                                            table);
            }
            group->dirty |= (group->group && group->group->match
                             && condition_uses_set(group->group->match,
                                                   cs->set));
        }
    } else {
        /* What could not refer to the set now can, or the other way. */
        rebind_rules(lc, cs->set);
        HMAP_FOR_EACH (group, node, &lc->groups) {
            group->dirty |= (!group->group
                             || (group->group->match
                                 && condition_uses_set(group->group->match,
                                                       cs->set)));
        }
    }
    address_table_unref(old);
}

/* Returns what keeps conditions from referring to a set called 'name', NULL if
 * nothing does. */
static char *
check_set_name(const char *name)
{
    return (!strcmp(name, "self") || !strcmp(name, "self_mac")
            ? xasprintf("name: %s: reserved", name)
            : !*name || strpbrk(name, " \t\r\n,{}")
            ? xasprintf("name: \"%s\": conditions cannot refer to it", name)
            : NULL);
}

static void
update_set(struct layer_compiler *lc,
           const struct ovsrec_layer_address_set *row)
{
    struct comp_set *cs = shash_find_data(&lc->sets, row->name);
    struct address_table *table;
    char *error;

    if (!cs) {
        cs = xzalloc(sizeof *cs);
        cs->set = address_set_create(row->name);
        shash_add(&lc->sets, row->name, cs);
    }
    cs->uuid = row->header_.uuid;

    error = check_set_name(row->name);
    if (!error) {
        char *problem = address_table_parse(
            (const char *const *) row->addresses, row->n_addresses, &table);

        if (problem) {
            error = xasprintf("addresses: %s", problem);
            free(problem);
        }
    }
    if (!error) {
        set_contents(lc, cs, table);
    } else if (cs->table) {
        set_contents(lc, cs, NULL);
    }
    layer_errors_set(lc->errors, ET_SET, &row->header_.uuid, row->error,
                     error);
}

/* Removes the sets that have no row any more under their name. */
static void
remove_sets(struct layer_compiler *lc)
{
    struct shash_node *node;

    SHASH_FOR_EACH_SAFE (node, &lc->sets) {
        struct comp_set *cs = node->data;
        const struct ovsrec_layer_address_set *row
            = ovsrec_layer_address_set_get_for_uuid(lc->idl, &cs->uuid);

        if (!row || strcmp(row->name, node->name)) {
            if (cs->table) {
                set_contents(lc, cs, NULL);
            }
            address_set_unref(cs->set);
            shash_delete(&lc->sets, node);
            free(cs);
        }
    }
}

/* Layers. */

static struct comp_layer *
find_layer(const struct layer_compiler *lc, const struct uuid *uuid)
{
    struct comp_layer *layer;

    HMAP_FOR_EACH_WITH_HASH (layer, node, uuid_hash(uuid), &lc->layers) {
        if (uuid_equals(&layer->uuid, uuid)) {
            return layer;
        }
    }
    return NULL;
}

static int
compare_side_groups(const void *a_, const void *b_)
{
    const struct layer_side_group *a = a_;
    const struct layer_side_group *b = b_;

    return a->key < b->key ? -1 : a->key > b->key;
}

static struct layer_side
compile_side(const struct layer_compiler *lc, const int64_t *keys,
             struct ovsrec_layer_group *const *groups, size_t n,
             const char *default_verdict)
{
    struct layer_side side = {
        .groups = xmalloc(n * sizeof *side.groups),
        /* Groups that are in error are groups nevertheless. */
        .default_verdict = (n && default_verdict
                            && !strcmp(default_verdict, "deny")
                            ? LV_DENY : LV_ALLOW),
    };

    for (size_t i = 0; i < n; i++) {
        const struct comp_group *group = find_group(lc,
                                                    &groups[i]->header_.uuid);

        if (group && group->group) {
            side.groups[side.n++] = (struct layer_side_group) {
                .key = keys[i],
                .group = layer_group_ref(group->group),
            };
        }
    }
    qsort(side.groups, side.n, sizeof *side.groups, compare_side_groups);
    return side;
}

/* Checks 'options' and returns what is wrong with them, NULL if nothing. */
static char *
parse_options(const struct smap *options, bool *tcp_loose)
{
    struct smap_node *node;

    *tcp_loose = false;
    SMAP_FOR_EACH (node, options) {
        if (strcmp(node->key, "tcp-loose")) {
            return xasprintf("options: %s: unknown option", node->key);
        }
        if (strcmp(node->value, "true") && strcmp(node->value, "false")) {
            return xasprintf("options: tcp-loose: \"%s\" is neither \"true\" "
                             "nor \"false\"", node->value);
        }
        *tcp_loose = !strcmp(node->value, "true");
    }
    return NULL;
}

static void
compile_layer(struct layer_compiler *lc, struct comp_layer *cl,
              const struct ovsrec_layer *row)
{
    struct layer_side sides[N_LAYER_DIRECTIONS];
    struct conn_timeouts timeouts;
    struct smap smap = SMAP_INITIALIZER(&smap);
    char *error, *error2;
    bool tcp_loose;

    sides[LAYER_OUTBOUND] = compile_side(
        lc, row->key_outbound, row->value_outbound, row->n_outbound,
        row->default_outbound);
    sides[LAYER_INBOUND] = compile_side(
        lc, row->key_inbound, row->value_inbound, row->n_inbound,
        row->default_inbound);

    for (size_t i = 0; i < row->n_timeouts; i++) {
        smap_add_format(&smap, row->key_timeouts[i], "%"PRId64,
                        row->value_timeouts[i]);
    }
    error = conn_timeouts_parse(&smap, &timeouts);
    smap_destroy(&smap);
    if (error) {
        timeouts = conn_timeouts_default;
        error2 = xasprintf("timeouts: %s", error);
        free(error);
        error = error2;
    }
    error2 = parse_options(&row->options, &tcp_loose);
    if (!error) {
        error = error2;
    } else {
        free(error2);
    }
    layer_errors_set(lc->errors, ET_LAYER, &cl->uuid, row->error, error);

    if (cl->layer) {
        RETIRE(lc, layer_unref, cl->layer);
    }
    cl->layer = layer_create(&cl->uuid, row->name, sides, &timeouts,
                             tcp_loose);
    cl->dirty = false;
    cl->changed = lc->version;
}

static bool
any_group_changed(const struct layer_compiler *lc,
                  struct ovsrec_layer_group *const *groups, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct comp_group *group = find_group(lc,
                                                    &groups[i]->header_.uuid);

        if (group && group->changed == lc->version) {
            return true;
        }
    }
    return false;
}

/* Interfaces. */

/* Parses what "$self" stands for from 'addresses', a list separated by commas
 * or spaces.  Returns what is wrong with it, NULL if nothing. */
static char *
parse_self_addresses(const char *addresses, struct address_table **table)
{
    struct sset set;

    sset_from_delimited_string(&set, addresses, ", ");
    const char **array = sset_array(&set);
    char *error = address_table_parse(array, sset_count(&set), table);
    free(array);
    sset_destroy(&set);
    return error;
}

/* Parses 'config', the "layer_config" of an interface.  Returns what is wrong
 * with it, NULL if nothing: that has its default. */
static char *
parse_layer_config(const struct smap *config, struct condition_self *self,
                   unsigned int *flow_limit)
{
    const struct smap_node **nodes = smap_sort(config);
    char *error = NULL;

    self->addresses = NULL;
    *flow_limit = LAYER_FLOW_LIMIT_DEFAULT;
    for (size_t i = 0; i < smap_count(config); i++) {
        const char *key = nodes[i]->key, *value = nodes[i]->value;
        unsigned int number;
        char *e = NULL;

        if (!strcmp(key, "addresses")) {
            e = parse_self_addresses(value, &self->addresses);
        } else if (!strcmp(key, "flow-limit")) {
            if (value[strspn(value, "0123456789")]
                || !str_to_uint(value, 10, &number) || !number) {
                e = xasprintf("\"%s\" is not a number from 1 to %u", value,
                              UINT_MAX);
            } else {
                *flow_limit = number;
            }
        } else if (!strcmp(key, "vni")) {
            if (value[strspn(value, "0123456789")]
                || !str_to_uint(value, 10, &number) || number > 0xffffff) {
                e = xasprintf("\"%s\" is not a number from 0 to 16777215",
                              value);
            }
        } else {
            e = xstrdup("unknown key");
        }
        if (e && !error) {
            error = xasprintf("layer_config: %s: %s", key, e);
        }
        free(e);
    }
    free(nodes);
    return error;
}

static int
compare_positions(const void *a_, const void *b_)
{
    const struct layer_position *a = a_;
    const struct layer_position *b = b_;

    return a->position < b->position ? -1 : a->position > b->position;
}

static struct layer_stack *
compile_stack(struct layer_compiler *lc, struct comp_iface *iface,
              const struct ovsrec_interface *row)
{
    struct condition_self self = { .addresses = NULL };
    const char *mac = smap_get(&row->external_ids, "attached-mac");
    struct layer_position *positions;
    struct layer_stack *stack;
    unsigned int flow_limit;
    char *error = NULL;
    size_t n = 0;

    positions = xmalloc(row->n_layers * sizeof *positions);
    for (size_t i = 0; i < row->n_layers; i++) {
        const struct comp_layer *layer
            = find_layer(lc, &row->value_layers[i]->header_.uuid);

        if (layer && layer->layer) {
            positions[n++] = (struct layer_position) {
                .position = row->key_layers[i],
                .layer = layer_ref(layer->layer),
            };
        }
    }
    qsort(positions, n, sizeof *positions, compare_positions);

    /* State is kept by layer. */
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            if (positions[j].layer == positions[i].layer) {
                if (!error) {
                    error = xasprintf("layers: %"PRId64": layer %s is in "
                                      "position %"PRId64" already",
                                      positions[i].position,
                                      positions[i].layer->name,
                                      positions[j].position);
                }
                layer_unref(positions[i].layer);
                memmove(&positions[i], &positions[i + 1],
                        (n - i - 1) * sizeof *positions);
                n--;
                i--;
                break;
            }
        }
    }

    char *config_error = parse_layer_config(&row->layer_config, &self,
                                            &flow_limit);
    if (config_error && !error) {
        error = config_error;
    } else {
        free(config_error);
    }
    self.has_mac = mac && eth_addr_from_string(mac, &self.mac);
    if (!error && n && mac && !self.has_mac) {
        error = xasprintf("external_ids: attached-mac: %s: not an Ethernet "
                          "address", mac);
    }
    iface->in_error = error != NULL;
    layer_errors_set(lc->errors, ET_IFACE, &iface->uuid, row->error, error);

    stack = layer_stack_create(lc->version, n, positions, &self, flow_limit);
    free(positions);
    return stack;
}

static struct comp_iface *
find_iface(const struct layer_compiler *lc, const struct uuid *uuid)
{
    struct comp_iface *iface;

    HMAP_FOR_EACH_WITH_HASH (iface, node, uuid_hash(uuid), &lc->ifaces) {
        if (uuid_equals(&iface->uuid, uuid)) {
            return iface;
        }
    }
    return NULL;
}

static bool
any_layer_changed(const struct layer_compiler *lc,
                  const struct ovsrec_interface *row)
{
    for (size_t i = 0; i < row->n_layers; i++) {
        const struct comp_layer *layer
            = find_layer(lc, &row->value_layers[i]->header_.uuid);

        if (layer && layer->changed == lc->version) {
            return true;
        }
    }
    return false;
}

/* Processing of changes, table by table, each after those that it refers
 * to. */

static void
run_sets(struct layer_compiler *lc)
{
    const struct ovsrec_layer_address_set *row;

    if (ovsrec_layer_address_set_track_get_first(lc->idl)) {
        remove_sets(lc);
        OVSREC_LAYER_ADDRESS_SET_FOR_EACH_TRACKED (row, lc->idl) {
            if (!ovsrec_layer_address_set_is_deleted(row)) {
                update_set(lc, row);
            } else {
                layer_errors_forget(lc->errors, &row->header_.uuid);
            }
        }
    }
}

static void
run_rules(struct layer_compiler *lc)
{
    const struct ovsrec_layer_rule *row;

    OVSREC_LAYER_RULE_FOR_EACH_TRACKED (row, lc->idl) {
        const struct uuid *uuid = &row->header_.uuid;
        struct comp_rule *cr;

        if (ovsrec_layer_rule_is_deleted(row)) {
            layer_errors_forget(lc->errors, uuid);
            continue;           /* Its groups changed too. */
        }
        HMAP_FOR_EACH_WITH_HASH (cr, row_node, uuid_hash(uuid), &lc->rules) {
            if (uuid_equals(&cr->uuid, uuid)) {
                update_rule(lc, cr, row, false);
            }
        }
    }
}

static void
run_groups(struct layer_compiler *lc)
{
    const struct ovsrec_layer_group *row;
    struct comp_group *group;

    OVSREC_LAYER_GROUP_FOR_EACH_TRACKED (row, lc->idl) {
        group = find_group(lc, &row->header_.uuid);
        if (ovsrec_layer_group_is_deleted(row)) {
            layer_errors_forget(lc->errors, &row->header_.uuid);
            if (group && !ovsrec_layer_group_get_for_uuid(
                    lc->idl, &row->header_.uuid)) {
                destroy_group(lc, group);
            }
        } else if (group) {
            if (ovsrec_layer_group_is_new(row) || group->incomplete
                || ovsrec_layer_group_is_updated(
                    row, OVSREC_LAYER_GROUP_COL_RULES)) {
                update_group_rules(lc, group, row);
            }
            group->dirty = true;
        }
    }
    /* Among them new ones.  The IDL does not track a new row whose columns all
     * have their default values, such as a group that is empty. */
    OVSREC_LAYER_GROUP_FOR_EACH (row, lc->idl) {
        group = find_group(lc, &row->header_.uuid);
        if (!group) {
            group = create_group(lc, row);
        }
        if (group->dirty) {
            update_group(lc, group, row);
        }
    }
}

static void
run_layers(struct layer_compiler *lc)
{
    const struct ovsrec_layer *row;
    struct comp_layer *layer;

    OVSREC_LAYER_FOR_EACH_TRACKED (row, lc->idl) {
        layer = find_layer(lc, &row->header_.uuid);
        if (ovsrec_layer_is_deleted(row)) {
            layer_errors_forget(lc->errors, &row->header_.uuid);
        }
        if (!layer) {
            continue;
        } else if (!ovsrec_layer_is_deleted(row)) {
            layer->dirty = true;
        } else if (!ovsrec_layer_get_for_uuid(lc->idl, &layer->uuid)) {
            if (layer->layer) {
                RETIRE(lc, layer_unref, layer->layer);
            }
            hmap_remove(&lc->layers, &layer->node);
            free(layer);
        }
    }
    /* See run_groups(). */
    OVSREC_LAYER_FOR_EACH (row, lc->idl) {
        layer = find_layer(lc, &row->header_.uuid);
        if (!layer) {
            layer = xzalloc(sizeof *layer);
            layer->uuid = row->header_.uuid;
            layer->dirty = true;
            hmap_insert(&lc->layers, &layer->node, uuid_hash(&layer->uuid));
        }
        if (layer->dirty
            || any_group_changed(lc, row->value_outbound, row->n_outbound)
            || any_group_changed(lc, row->value_inbound, row->n_inbound)) {
            compile_layer(lc, layer, row);
        }
    }
}

/* Returns true if any interface is to have another stack, or none. */
static bool
run_ifaces(struct layer_compiler *lc)
{
    const struct ovsrec_interface *row;
    struct comp_iface *iface;
    bool changed = false;

    OVSREC_INTERFACE_FOR_EACH_TRACKED (row, lc->idl) {
        iface = find_iface(lc, &row->header_.uuid);
        if (!ovsrec_interface_is_deleted(row)) {
            if (!iface) {
                iface = xzalloc(sizeof *iface);
                iface->uuid = row->header_.uuid;
                iface->name = xstrdup(row->name);
                hmap_insert(&lc->ifaces, &iface->node,
                            uuid_hash(&iface->uuid));
            }
            iface->gone = false;
            iface->dirty = true;
        } else if (iface && !ovsrec_interface_get_for_uuid(lc->idl,
                                                           &iface->uuid)) {
            iface->gone = iface->dirty = true;
            layer_errors_forget(lc->errors, &iface->uuid);
        }
    }
    HMAP_FOR_EACH (iface, node, &lc->ifaces) {
        row = ovsrec_interface_get_for_uuid(lc->idl, &iface->uuid);
        if (iface->in_error && row && !row->error) {
            /* The bridge has cleared it. */
            layer_errors_rewrite(lc->errors, &iface->uuid);
        }
        iface->dirty |= row && any_layer_changed(lc, row);
        changed |= iface->dirty;
    }
    return changed;
}

static void
update_sizes(struct layer_compiler *lc)
{
    ovs_mutex_lock(&lc->mutex);
    lc->sizes = (struct layer_config_sizes) {
        .layers = hmap_count(&lc->layers),
        .groups = hmap_count(&lc->groups),
        .rules = hmap_count(&lc->rules),
        .sets = shash_count(&lc->sets),
        .addresses = lc->n_addresses,
        .errors = layer_errors_count(lc->errors),
        .memory = (lc->rule_memory
                   + hmap_count(&lc->rules) * sizeof(struct comp_rule)),
    };
    ovs_mutex_unlock(&lc->mutex);
}

/* Takes note of what changed in 'idl', whose changes the caller must clear
 * thereafter, to be in force as of 'version'.  Returns true if that makes a
 * new policy, which the caller must publish. */
bool
layer_compiler_run(struct layer_compiler *lc, struct ovsdb_idl *idl,
                   uint64_t version)
{
    lc->idl = idl;
    lc->version = version;
    run_sets(lc);
    run_rules(lc);
    run_groups(lc);
    run_layers(lc);
    bool changed = run_ifaces(lc);
    update_sizes(lc);
    if (!changed) {
        /* No port has what has been retired. */
        release_retired(lc);
    }
    return changed;
}

/* Returns a new stack, in an array of '*n', for each interface that needs
 * one, for layer_ports_publish().  The names stay the compiler's until
 * layer_compiler_published(). */
struct layer_assignment *
layer_compiler_get_assignments(struct layer_compiler *lc,
                               uint64_t version OVS_UNUSED, size_t *n)
{
    struct layer_assignment *assignments;
    struct comp_iface *iface;

    assignments = xmalloc(hmap_count(&lc->ifaces) * sizeof *assignments);
    *n = 0;

    /* An interface may be gone and back under another UUID. */
    HMAP_FOR_EACH (iface, node, &lc->ifaces) {
        if (iface->gone) {
            assignments[(*n)++] = (struct layer_assignment) {
                .iface = iface->name,
            };
        }
    }
    HMAP_FOR_EACH (iface, node, &lc->ifaces) {
        if (!iface->gone && iface->dirty) {
            assignments[(*n)++] = (struct layer_assignment) {
                .iface = iface->name,
                .stack = compile_stack(
                    lc, iface, ovsrec_interface_get_for_uuid(lc->idl,
                                                             &iface->uuid)),
            };
        }
    }
    return assignments;
}

/* Tells 'lc' that the 'n' of 'assignments' are published, and frees them. */
void
layer_compiler_published(struct layer_compiler *lc,
                         struct layer_assignment *assignments,
                         size_t n OVS_UNUSED)
{
    struct comp_iface *iface;

    HMAP_FOR_EACH_SAFE (iface, node, &lc->ifaces) {
        iface->dirty = false;
        if (iface->gone) {
            hmap_remove(&lc->ifaces, &iface->node);
            free(iface->name);
            free(iface);
        }
    }
    free(assignments);
    release_retired(lc);
}

/* Stores the size of the configuration in '*sizes'.  May be called from any
 * thread.  That takes some time, for 'memory', as all classifiers are looked
 * at. */
void
layer_compiler_get_sizes(const struct layer_compiler *lc,
                         struct layer_config_sizes *sizes)
{
    const struct layer_classifier **classifiers;
    const struct comp_group *group;
    size_t n = 0;

    ovs_mutex_lock(&lc->mutex);
    *sizes = lc->sizes;
    classifiers = xmalloc(hmap_count(&lc->groups) * sizeof *classifiers);
    HMAP_FOR_EACH (group, node, &lc->groups) {
        classifiers[n++] = layer_classifier_ref(group->classifier);
    }
    ovs_mutex_unlock(&lc->mutex);

    for (size_t i = 0; i < n; i++) {
        struct layer_classifier *cls = CONST_CAST(struct layer_classifier *,
                                                  classifiers[i]);

        sizes->memory += layer_classifier_memory(cls);
        ovsrcu_postpone__((void (*)(void *)) layer_classifier_unref, cls);
    }
    free(classifiers);
}
