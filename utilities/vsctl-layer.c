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

#include "layered/utilities/vsctl-layer.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "db-ctl-base.h"
#include "hash.h"
#include "layered/utilities/layer-file.h"
#include "lib/vswitch-idl.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/hmap.h"
#include "openvswitch/json.h"
#include "openvswitch/shash.h"
#include "smap.h"
#include "svec.h"
#include "table.h"
#include "util.h"

/* "add-layer-rule" creates groups whose keys are this far apart. */
#define GROUP_KEY_STEP 10

/* The name of the group in which "add-layer-rule" puts rules by default. */
#define DEFAULT_GROUP "default"

/* True if some command of this run reads the rules of groups.  If not, the IDL
 * does not know them, and they can only be added to. */
static bool rules_are_read;

/* How the user wants tables to be printed. */
static const struct table_style *table_style;

/* Files that the commands of this run read: maps from file name to struct
 * layer_file. */
static struct shash files = SHASH_INITIALIZER(&files);

/* The groups of one direction of a layer, in ascending order of 'keys'. */
struct groups {
    const int64_t *keys;
    struct ovsrec_layer_group **groups;
    size_t n;
};

static struct groups
layer_get_groups(const struct ovsrec_layer *layer,
                 enum layer_direction direction)
{
    return (direction == LAYER_OUTBOUND
            ? (struct groups) { layer->key_outbound, layer->value_outbound,
                                layer->n_outbound }
            : (struct groups) { layer->key_inbound, layer->value_inbound,
                                layer->n_inbound });
}

static void
layer_set_groups(const struct ovsrec_layer *layer,
                 enum layer_direction direction, const int64_t *keys,
                 struct ovsrec_layer_group **groups, size_t n)
{
    if (direction == LAYER_OUTBOUND) {
        ovsrec_layer_set_outbound(layer, keys, groups, n);
    } else {
        ovsrec_layer_set_inbound(layer, keys, groups, n);
    }
}

static void
layer_verify_groups(const struct ovsrec_layer *layer,
                    enum layer_direction direction)
{
    if (direction == LAYER_OUTBOUND) {
        ovsrec_layer_verify_outbound(layer);
    } else {
        ovsrec_layer_verify_inbound(layer);
    }
}

static const char *
layer_get_default(const struct ovsrec_layer *layer,
                  enum layer_direction direction)
{
    return (direction == LAYER_OUTBOUND
            ? layer->default_outbound
            : layer->default_inbound);
}

static void
layer_set_default(const struct ovsrec_layer *layer,
                  enum layer_direction direction, const char *verdict)
{
    if (direction == LAYER_OUTBOUND) {
        ovsrec_layer_set_default_outbound(layer, verdict);
    } else {
        ovsrec_layer_set_default_inbound(layer, verdict);
    }
}

static const struct ovsrec_layer *
find_layer(struct ctl_context *ctx, const char *name, bool must_exist)
{
    const struct ovsrec_layer *layer;

    OVSREC_LAYER_FOR_EACH (layer, ctx->idl) {
        if (!strcmp(layer->name, name)) {
            ovsrec_layer_verify_name(layer);
            return layer;
        }
    }
    if (must_exist) {
        ctl_fatal("no layer named %s", name);
    }
    return NULL;
}

static const struct ovsrec_interface *
find_interface(struct ctl_context *ctx, const char *name)
{
    const struct ovsrec_interface *iface;

    OVSREC_INTERFACE_FOR_EACH (iface, ctx->idl) {
        if (!strcmp(iface->name, name)) {
            ovsrec_interface_verify_name(iface);
            return iface;
        }
    }
    ctl_fatal("no interface named %s", name);
}

/* Returns the group of 'groups' named 'name', or NULL if there is none. */
static struct ovsrec_layer_group *
find_group(const struct ovsrec_layer *layer, enum layer_direction direction,
           const char *name)
{
    struct groups groups = layer_get_groups(layer, direction);
    struct ovsrec_layer_group *group = NULL;

    for (size_t i = 0; i < groups.n; i++) {
        if (groups.groups[i]->name
            && !strcmp(groups.groups[i]->name, name)) {
            if (group) {
                ctl_fatal("layer %s has multiple %s groups named %s",
                          layer->name, layer_direction_to_string(direction),
                          name);
            }
            group = groups.groups[i];
        }
    }
    return group;
}

static enum layer_direction
parse_direction(const char *s)
{
    enum layer_direction direction;

    if (!layer_direction_from_string(s, &direction)) {
        ctl_fatal("%s: direction must be \"outbound\" or \"inbound\"", s);
    }
    return direction;
}

static int
parse_priority(const char *s)
{
    int priority;

    if (!str_to_int(s, 10, &priority)
        || priority < 0 || priority > UINT16_MAX) {
        ctl_fatal("%s: priority must be between 0 and 65535", s);
    }
    return priority;
}

/* If 's' has the form "group=NAME", returns NAME, otherwise NULL. */
static const char *
parse_group_name(const char *s)
{
    return strncmp(s, "group=", 6) ? NULL : s + 6;
}

/* True if 'group' is created by the current transaction. */
static bool
group_is_new(const struct ovsrec_layer_group *group)
{
    return !group->header_.old_datum;
}

static void
pre_layer(struct ctl_context *ctx)
{
    ovsdb_idl_add_column(ctx->idl, &ovsrec_layer_col_name);
}

static void
pre_attach_layer(struct ctl_context *ctx)
{
    pre_layer(ctx);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_interface_col_name);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_interface_col_layers);
}

static void
pre_groups(struct ctl_context *ctx)
{
    pre_layer(ctx);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_layer_col_outbound);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_layer_col_inbound);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_layer_group_col_name);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_layer_group_col_rules);
}

static void
pre_rules(struct ctl_context *ctx)
{
    rules_are_read = true;
    pre_groups(ctx);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_layer_rule_col_priority);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_layer_rule_col_match);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_layer_rule_col_actions);
}

static void
pre_add_layer_rule(struct ctl_context *ctx)
{
    if (shash_find(&ctx->options, "--may-exist")) {
        pre_rules(ctx);
    } else {
        pre_groups(ctx);
    }
}

static void
pre_list_layer_rules(struct ctl_context *ctx)
{
    pre_rules(ctx);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_layer_rule_col_error);
}

static void
pre_dump_layer(struct ctl_context *ctx)
{
    pre_rules(ctx);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_layer_col_default_outbound);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_layer_col_default_inbound);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_layer_group_col_match);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_layer_group_col_default_);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_layer_group_col_external_ids);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_layer_rule_col_name);
    ovsdb_idl_add_column(ctx->idl, &ovsrec_layer_rule_col_external_ids);
}

/* Reads the file here, rather than when the command is run, because that may
 * happen more than once. */
static void
pre_load_layer(struct ctl_context *ctx)
{
    const char *file_name = ctx->argv[2];

    pre_dump_layer(ctx);
    if (!shash_find(&files, file_name)) {
        bool is_stdin = !strcmp(file_name, "-");
        FILE *stream = is_stdin ? stdin : fopen(file_name, "r");
        struct layer_file *file;
        char *error;

        if (!stream) {
            ctl_fatal("%s: open failed (%s)", file_name, ovs_strerror(errno));
        }
        error = layer_file_parse(stream, is_stdin ? "<stdin>" : file_name,
                                 &file);
        if (error) {
            ctl_fatal("%s", error);
        }
        if (!is_stdin) {
            fclose(stream);
        }
        shash_add(&files, file_name, file);
    }
}

static void
cmd_add_layer(struct ctl_context *ctx)
{
    bool may_exist = shash_find(&ctx->options, "--may-exist") != NULL;
    const char *name = ctx->argv[1];

    if (find_layer(ctx, name, false)) {
        if (!may_exist) {
            ctl_fatal("cannot create a layer named %s because a layer named "
                      "%s already exists", name, name);
        }
        return;
    }
    ovsrec_layer_set_name(ovsrec_layer_insert(ctx->txn), name);
}

static void
cmd_del_layer(struct ctl_context *ctx)
{
    bool must_exist = !shash_find(&ctx->options, "--if-exists");
    const struct ovsrec_layer *layer = find_layer(ctx, ctx->argv[1],
                                                  must_exist);

    if (layer) {
        ovsrec_layer_delete(layer);
    }
}

static void
cmd_list_layers(struct ctl_context *ctx)
{
    const struct ovsrec_layer *layer;
    struct svec names = SVEC_EMPTY_INITIALIZER;
    const char *name;
    size_t i;

    OVSREC_LAYER_FOR_EACH (layer, ctx->idl) {
        svec_add(&names, layer->name);
    }
    svec_sort(&names);
    SVEC_FOR_EACH (i, name, &names) {
        ds_put_format(&ctx->output, "%s\n", name);
    }
    svec_destroy(&names);
}

static void
cmd_attach_layer(struct ctl_context *ctx)
{
    bool may_exist = shash_find(&ctx->options, "--may-exist") != NULL;
    const struct ovsrec_interface *iface = find_interface(ctx, ctx->argv[1]);
    const struct ovsrec_layer *layer = find_layer(ctx, ctx->argv[3], true);
    long long int position;

    if (!str_to_llong(ctx->argv[2], 10, &position)) {
        ctl_fatal("%s: position must be an integer", ctx->argv[2]);
    }

    ovsrec_interface_verify_layers(iface);
    for (size_t i = 0; i < iface->n_layers; i++) {
        if (iface->value_layers[i] == layer) {
            if (may_exist && iface->key_layers[i] == position) {
                return;
            }
            ctl_fatal("layer %s is already attached to interface %s in "
                      "position %"PRId64, layer->name, iface->name,
                      iface->key_layers[i]);
        }
    }
    for (size_t i = 0; i < iface->n_layers; i++) {
        if (iface->key_layers[i] == position) {
            ctl_fatal("cannot attach layer %s to interface %s in position "
                      "%lld because layer %s is attached there", layer->name,
                      iface->name, position, iface->value_layers[i]->name);
        }
    }

    size_t n = iface->n_layers;
    int64_t *keys = xmalloc((n + 1) * sizeof *keys);
    struct ovsrec_layer **layers = xmalloc((n + 1) * sizeof *layers);

    for (size_t i = 0; i < n; i++) {
        keys[i] = iface->key_layers[i];
        layers[i] = iface->value_layers[i];
    }
    keys[n] = position;
    layers[n] = CONST_CAST(struct ovsrec_layer *, layer);
    ovsrec_interface_set_layers(iface, keys, layers, n + 1);
    free(keys);
    free(layers);
}

static void
cmd_detach_layer(struct ctl_context *ctx)
{
    bool must_exist = !shash_find(&ctx->options, "--if-exists");
    const struct ovsrec_interface *iface = find_interface(ctx, ctx->argv[1]);
    const struct ovsrec_layer *layer = find_layer(ctx, ctx->argv[2],
                                                  must_exist);

    if (!layer) {
        return;
    }

    int64_t *keys = xmalloc(iface->n_layers * sizeof *keys);
    struct ovsrec_layer **layers = xmalloc(iface->n_layers * sizeof *layers);
    size_t n = 0;

    ovsrec_interface_verify_layers(iface);
    for (size_t i = 0; i < iface->n_layers; i++) {
        if (iface->value_layers[i] != layer) {
            keys[n] = iface->key_layers[i];
            layers[n++] = iface->value_layers[i];
        }
    }
    if (n < iface->n_layers) {
        ovsrec_interface_set_layers(iface, keys, layers, n);
    } else if (must_exist) {
        ctl_fatal("layer %s is not attached to interface %s", layer->name,
                  iface->name);
    }
    free(keys);
    free(layers);
}

/* Adds a group named 'name' behind those that 'layer' has. */
static struct ovsrec_layer_group *
add_group(struct ctl_context *ctx, const struct ovsrec_layer *layer,
          enum layer_direction direction, const char *name)
{
    struct groups old = layer_get_groups(layer, direction);
    int64_t key = GROUP_KEY_STEP;

    if (old.n) {
        int64_t last = old.keys[old.n - 1];

        if (last > INT64_MAX - GROUP_KEY_STEP) {
            ctl_fatal("cannot create a group named %s because there is no "
                      "key above that of the last %s group of layer %s",
                      name, layer_direction_to_string(direction),
                      layer->name);
        }
        key = MAX(last + GROUP_KEY_STEP, key);
    }

    struct ovsrec_layer_group *group = ovsrec_layer_group_insert(ctx->txn);
    ovsrec_layer_group_set_name(group, name);

    int64_t *keys = xmalloc((old.n + 1) * sizeof *keys);
    struct ovsrec_layer_group **groups = xmalloc((old.n + 1) * sizeof *groups);
    for (size_t i = 0; i < old.n; i++) {
        keys[i] = old.keys[i];
        groups[i] = old.groups[i];
    }
    keys[old.n] = key;
    groups[old.n] = group;
    layer_set_groups(layer, direction, keys, groups, old.n + 1);
    free(keys);
    free(groups);
    return group;
}

static void
cmd_add_layer_rule(struct ctl_context *ctx)
{
    bool may_exist = shash_find(&ctx->options, "--may-exist") != NULL;
    enum layer_direction direction = parse_direction(ctx->argv[2]);
    const char *group_name = parse_group_name(ctx->argv[3]);

    if ((group_name != NULL) != (ctx->argc == 7)) {
        if (group_name) {
            ctl_fatal("'add-layer-rule' command requires priority, match, "
                      "and actions");
        }
        ctl_fatal("%s: group must have the form \"group=NAME\"", ctx->argv[3]);
    }

    char **args = &ctx->argv[ctx->argc - 3];
    int priority = parse_priority(args[0]);
    const char *match = args[1];
    const char *actions = args[2];
    const struct ovsrec_layer *layer = find_layer(ctx, ctx->argv[1], true);

    if (!group_name) {
        group_name = DEFAULT_GROUP;
    }
    layer_verify_groups(layer, direction);

    struct ovsrec_layer_group *group = find_group(layer, direction,
                                                  group_name);
    if (!group) {
        group = add_group(ctx, layer, direction, group_name);
    }

    if (may_exist) {
        for (size_t i = 0; i < group->n_rules; i++) {
            const struct ovsrec_layer_rule *rule = group->rules[i];

            if (rule->priority == priority && !strcmp(rule->match, match)
                && !strcmp(rule->actions, actions)) {
                return;
            }
        }
    }

    struct ovsrec_layer_rule *rule = ovsrec_layer_rule_insert(ctx->txn);
    ovsrec_layer_rule_set_priority(rule, priority);
    ovsrec_layer_rule_set_match(rule, match);
    ovsrec_layer_rule_set_actions(rule, actions);

    /* To add one rule to many, send just that.  This transaction's commands
     * do not see the result, so it is not for those that care. */
    if (!group_is_new(group) && (ctx->last_command || !rules_are_read)) {
        ovsrec_layer_group_update_rules_addvalue(group, rule);
        return;
    }

    struct ovsrec_layer_rule **rules = xmalloc((group->n_rules + 1)
                                               * sizeof *rules);
    ovsrec_layer_group_verify_rules(group);
    for (size_t i = 0; i < group->n_rules; i++) {
        rules[i] = group->rules[i];
    }
    rules[group->n_rules] = rule;
    ovsrec_layer_group_set_rules(group, rules, group->n_rules + 1);
    free(rules);
}

/* Deletes from 'group' the rules with the given 'priority', if it is not
 * negative, and 'match', if it is not null.  Returns the number of rules that
 * it deleted. */
static size_t
del_rules(struct ctl_context *ctx, struct ovsrec_layer_group *group,
          int priority, const char *match)
{
    struct ovsrec_layer_rule **keep = xmalloc(group->n_rules * sizeof *keep);
    struct ovsrec_layer_rule **del = xmalloc(group->n_rules * sizeof *del);
    size_t n_keep = 0;
    size_t n_del = 0;

    for (size_t i = 0; i < group->n_rules; i++) {
        struct ovsrec_layer_rule *rule = group->rules[i];

        if ((priority < 0 || rule->priority == priority)
            && (!match || !strcmp(rule->match, match))) {
            del[n_del++] = rule;
        } else {
            keep[n_keep++] = rule;
        }
    }

    /* Rules that nothing refers to any more disappear. */
    if (n_del && n_del < n_keep && ctx->last_command && !group_is_new(group)) {
        /* As for adding. */
        for (size_t i = 0; i < n_del; i++) {
            ovsrec_layer_group_update_rules_delvalue(group, del[i]);
        }
    } else if (n_del) {
        ovsrec_layer_group_verify_rules(group);
        ovsrec_layer_group_set_rules(group, keep, n_keep);
    }
    free(keep);
    free(del);
    return n_del;
}

static void
cmd_del_layer_rule(struct ctl_context *ctx)
{
    bool must_exist = !shash_find(&ctx->options, "--if-exists");
    const char *group_name = NULL;
    const char *match = NULL;
    int priority = -1;
    unsigned int directions = (1u << N_LAYER_DIRECTIONS) - 1;
    int i = 2;

    if (i < ctx->argc) {
        directions = 1u << parse_direction(ctx->argv[i++]);
    }
    if (i < ctx->argc) {
        group_name = parse_group_name(ctx->argv[i]);
        i += group_name != NULL;
    }
    if (i < ctx->argc) {
        priority = parse_priority(ctx->argv[i++]);
    }
    if (i < ctx->argc) {
        match = ctx->argv[i++];
    }
    if (i < ctx->argc) {
        ctl_fatal("'del-layer-rule' command takes nothing after match");
    }

    const struct ovsrec_layer *layer = find_layer(ctx, ctx->argv[1],
                                                  must_exist);
    size_t n_del = 0;

    if (!layer) {
        return;
    }
    for (size_t d = 0; d < N_LAYER_DIRECTIONS; d++) {
        if (!(directions & (1u << d))) {
            continue;
        }

        struct groups groups = layer_get_groups(layer, d);
        layer_verify_groups(layer, d);
        if (group_name) {
            struct ovsrec_layer_group *group = find_group(layer, d,
                                                          group_name);
            if (group) {
                n_del += del_rules(ctx, group, priority, match);
            } else if (must_exist) {
                ctl_fatal("layer %s has no %s group named %s", layer->name,
                          layer_direction_to_string(d), group_name);
            }
        } else {
            for (size_t j = 0; j < groups.n; j++) {
                n_del += del_rules(ctx, groups.groups[j], priority, match);
            }
        }
    }
    if (!n_del && must_exist) {
        ctl_fatal("layer %s has no such rule", layer->name);
    }
}

static int
compare_rules(const void *a_, const void *b_)
{
    const struct ovsrec_layer_rule *a
        = *(struct ovsrec_layer_rule *const *) a_;
    const struct ovsrec_layer_rule *b
        = *(struct ovsrec_layer_rule *const *) b_;

    if (a->priority != b->priority) {
        return a->priority > b->priority ? -1 : 1;
    }
    return uuid_compare_3way(&a->header_.uuid, &b->header_.uuid);
}

static void
cmd_list_layer_rules(struct ctl_context *ctx)
{
    const struct ovsrec_layer *layer = find_layer(ctx, ctx->argv[1], true);
    struct table *table = xmalloc(sizeof *table);

    table_init(table);
    table_add_column(table, "direction");
    table_add_column(table, "key");
    table_add_column(table, "group");
    table_add_column(table, "priority");
    table_add_column(table, "match");
    table_add_column(table, "actions");
    table_add_column(table, "error");
    for (size_t d = 0; d < N_LAYER_DIRECTIONS; d++) {
        struct groups groups = layer_get_groups(layer, d);

        for (size_t i = 0; i < groups.n; i++) {
            const struct ovsrec_layer_group *group = groups.groups[i];
            struct ovsrec_layer_rule **rules;

            /* In the order in which they are considered. */
            rules = xmalloc(group->n_rules * sizeof *rules);
            for (size_t j = 0; j < group->n_rules; j++) {
                rules[j] = group->rules[j];
            }
            qsort(rules, group->n_rules, sizeof *rules, compare_rules);
            for (size_t j = 0; j < group->n_rules; j++) {
                const struct ovsrec_layer_rule *rule = rules[j];

                table_add_row(table);
                table_add_cell(table)->text
                    = xstrdup(layer_direction_to_string(d));
                table_add_cell(table)->json
                    = json_integer_create(groups.keys[i]);
                table_add_cell(table)->text
                    = xstrdup(group->name ? group->name : "");
                table_add_cell(table)->json
                    = json_integer_create(rule->priority);
                table_add_cell(table)->text = xstrdup(rule->match);
                table_add_cell(table)->text = xstrdup(rule->actions);
                table_add_cell(table)->text
                    = xstrdup(rule->error ? rule->error : "");
            }
            free(rules);
        }
    }

    if (table_style->format != TF_LIST) {
        /* The caller prints it. */
        ctx->table = table;
    } else {
        struct table_style style = *table_style;

        style.format = TF_TABLE;
        table_format(table, &style, &ctx->output);
        table_format_reset();
        table_destroy(table);
        free(table);
    }
}

static void
cmd_dump_layer(struct ctl_context *ctx)
{
    const struct ovsrec_layer *layer = find_layer(ctx, ctx->argv[1], true);
    struct layer_file *file = layer_file_create();

    for (size_t d = 0; d < N_LAYER_DIRECTIONS; d++) {
        struct groups groups = layer_get_groups(layer, d);

        file->directions[d].default_verdict
            = nullable_xstrdup(layer_get_default(layer, d));
        for (size_t i = 0; i < groups.n; i++) {
            const struct ovsrec_layer_group *group = groups.groups[i];
            struct layer_file_group *fg
                = layer_file_add_group(file, d, groups.keys[i]);

            fg->name = nullable_xstrdup(group->name);
            fg->match = nullable_xstrdup(group->match);
            fg->default_verdict = nullable_xstrdup(group->default_);
            smap_clone(&fg->external_ids, &group->external_ids);
            for (size_t j = 0; j < group->n_rules; j++) {
                const struct ovsrec_layer_rule *rule = group->rules[j];
                struct layer_file_rule *fr
                    = layer_file_add_rule(fg, rule->priority, rule->match,
                                          rule->actions);

                fr->name = nullable_xstrdup(rule->name);
                smap_clone(&fr->external_ids, &rule->external_ids);
            }
        }
    }
    layer_file_format(file, &ctx->output);
    layer_file_destroy(file);
}

/* A rule of a group that is being loaded. */
struct old_rule {
    struct hmap_node hmap_node;     /* By contents. */
    struct ovsrec_layer_rule *rule;
};

static uint32_t
hash_rule(int priority, const char *match, const char *actions)
{
    return hash_string(actions, hash_string(match, hash_int(priority, 0)));
}

/* Returns the number of times that layers refer to 'group'. */
static size_t
count_references(struct ctl_context *ctx,
                 const struct ovsrec_layer_group *group)
{
    const struct ovsrec_layer *layer;
    size_t n = 0;

    OVSREC_LAYER_FOR_EACH (layer, ctx->idl) {
        for (size_t d = 0; d < N_LAYER_DIRECTIONS; d++) {
            struct groups groups = layer_get_groups(layer, d);

            for (size_t i = 0; i < groups.n; i++) {
                n += groups.groups[i] == group;
            }
        }
    }
    return n;
}

/* Makes 'group' what 'fg' says.  Rules that are there already stay, so that
 * connections and statistics do. */
static void
load_group(struct ctl_context *ctx, struct ovsrec_layer_group *group,
           const struct layer_file_group *fg)
{
    struct old_rule *olds = xmalloc(group->n_rules * sizeof *olds);
    struct hmap old_rules = HMAP_INITIALIZER(&old_rules);
    struct ovsrec_layer_rule **rules = xmalloc(fg->n_rules * sizeof *rules);

    ovsrec_layer_group_verify_rules(group);
    hmap_reserve(&old_rules, group->n_rules);
    for (size_t i = 0; i < group->n_rules; i++) {
        struct ovsrec_layer_rule *rule = group->rules[i];

        olds[i].rule = rule;
        hmap_insert_fast(&old_rules, &olds[i].hmap_node,
                         hash_rule(rule->priority, rule->match,
                                   rule->actions));
    }

    ovsrec_layer_group_set_name(group, fg->name);
    ovsrec_layer_group_set_match(group, fg->match);
    ovsrec_layer_group_set_default_(group, fg->default_verdict);
    ovsrec_layer_group_set_external_ids(group, &fg->external_ids);
    for (size_t i = 0; i < fg->n_rules; i++) {
        const struct layer_file_rule *fr = fg->rules[i];
        uint32_t hash = hash_rule(fr->priority, fr->match, fr->actions);
        struct ovsrec_layer_rule *rule = NULL;
        struct old_rule *old;

        HMAP_FOR_EACH_WITH_HASH (old, hmap_node, hash, &old_rules) {
            if (old->rule->priority == fr->priority
                && !strcmp(old->rule->match, fr->match)
                && !strcmp(old->rule->actions, fr->actions)
                && nullable_string_is_equal(old->rule->name, fr->name)
                && smap_equal(&old->rule->external_ids, &fr->external_ids)) {
                rule = old->rule;
                hmap_remove(&old_rules, &old->hmap_node);
                break;
            }
        }
        if (!rule) {
            rule = ovsrec_layer_rule_insert(ctx->txn);
            ovsrec_layer_rule_set_priority(rule, fr->priority);
            ovsrec_layer_rule_set_match(rule, fr->match);
            ovsrec_layer_rule_set_actions(rule, fr->actions);
            ovsrec_layer_rule_set_name(rule, fr->name);
            ovsrec_layer_rule_set_external_ids(rule, &fr->external_ids);
        }
        rules[i] = rule;
    }
    ovsrec_layer_group_set_rules(group, rules, fg->n_rules);

    free(rules);
    hmap_destroy(&old_rules);
    free(olds);
}

static void
load_direction(struct ctl_context *ctx, const struct ovsrec_layer *layer,
               enum layer_direction d, const struct layer_file *file)
{
    struct groups old = layer_get_groups(layer, d);
    size_t n = file->directions[d].n_groups;
    int64_t *keys = xmalloc(n * sizeof *keys);
    struct ovsrec_layer_group **groups = xmalloc(n * sizeof *groups);

    layer_verify_groups(layer, d);
    for (size_t i = 0; i < n; i++) {
        const struct layer_file_group *fg = file->directions[d].groups[i];
        struct ovsrec_layer_group *group = NULL;

        for (size_t j = 0; j < old.n; j++) {
            if (old.keys[j] == fg->key
                && count_references(ctx, old.groups[j]) == 1) {
                group = old.groups[j];
            }
        }
        if (!group) {
            group = ovsrec_layer_group_insert(ctx->txn);
        }
        load_group(ctx, group, fg);
        keys[i] = fg->key;
        groups[i] = group;
    }
    layer_set_groups(layer, d, keys, groups, n);
    layer_set_default(layer, d, file->directions[d].default_verdict);
    free(keys);
    free(groups);
}

static void
cmd_load_layer(struct ctl_context *ctx)
{
    const struct layer_file *file = shash_find_data(&files, ctx->argv[2]);
    const char *name = ctx->argv[1];
    const struct ovsrec_layer *layer = find_layer(ctx, name, false);

    if (!layer) {
        layer = ovsrec_layer_insert(ctx->txn);
        ovsrec_layer_set_name(layer, name);
    }
    for (size_t d = 0; d < N_LAYER_DIRECTIONS; d++) {
        load_direction(ctx, layer, d, file);
    }
}

static const struct ctl_command_syntax layer_commands[] = {
    {"add-layer", 1, 1, "NEW-LAYER", pre_layer, cmd_add_layer, NULL,
     "--may-exist", RW},
    {"del-layer", 1, 1, "LAYER", pre_layer, cmd_del_layer, NULL,
     "--if-exists", RW},
    {"list-layers", 0, 0, "", pre_layer, cmd_list_layers, NULL, "", RO},
    {"attach-layer", 3, 3, "IFACE ARG LAYER", pre_attach_layer,
     cmd_attach_layer, NULL, "--may-exist", RW},
    {"detach-layer", 2, 2, "IFACE LAYER", pre_attach_layer, cmd_detach_layer,
     NULL, "--if-exists", RW},
    {"add-layer-rule", 5, 6, "LAYER DIRECTION [GROUP] ARG ARG ARG",
     pre_add_layer_rule, cmd_add_layer_rule, NULL, "--may-exist", RW},
    {"del-layer-rule", 1, 5, "LAYER [DIRECTION] [GROUP] [ARG] [ARG]",
     pre_rules, cmd_del_layer_rule, NULL, "--if-exists", RW},
    {"list-layer-rules", 1, 1, "LAYER", pre_list_layer_rules,
     cmd_list_layer_rules, NULL, "", RO},
    {"load-layer", 2, 2, "LAYER|ARG FILE", pre_load_layer, cmd_load_layer,
     NULL, "", RW},
    {"dump-layer", 1, 1, "LAYER", pre_dump_layer, cmd_dump_layer, NULL, "",
     RO},
    {NULL, 0, 0, NULL, NULL, NULL, NULL, NULL, RO},
};

/* Returns the part of "ovs-vsctl --help" about these commands. */
const char *
vsctl_layer_usage(void)
{
    return
        "Layer commands:\n"
        "  add-layer LAYER             create a new policy layer named LAYER\n"
        "  del-layer LAYER             delete LAYER and detach it everywhere\n"
        "  list-layers                 print the names of all the layers\n"
        "  attach-layer IFACE POSITION LAYER\n"
        "                              attach LAYER to IFACE in POSITION\n"
        "  detach-layer IFACE LAYER    detach LAYER from IFACE\n"
        "  add-layer-rule LAYER outbound|inbound [group=GROUP]\n"
        "                 PRIORITY MATCH ACTIONS\n"
        "                              add a rule to LAYER\n"
        "  del-layer-rule LAYER [outbound|inbound [group=GROUP]\n"
        "                 [PRIORITY [MATCH]]]\n"
        "                              delete rules from LAYER\n"
        "  list-layer-rules LAYER      print the rules of LAYER\n"
        "  load-layer LAYER FILE|-     replace the rules of LAYER from FILE\n"
        "  dump-layer LAYER            print the rules of LAYER in that form\n"
        "\n";
}

/* Makes the commands known to ovs-vsctl, which prints tables in 'style'.  The
 * default one, a list, is not for rules. */
void
vsctl_layer_register(const struct table_style *style)
{
    table_style = style;
    ctl_register_commands(layer_commands);
}
