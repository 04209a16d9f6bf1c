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

#include "layered/ofproto-layered/layer-errors.h"

#include "openvswitch/hmap.h"
#include "openvswitch/list.h"
#include "util.h"
#include "uuid.h"
#include "vswitch-idl.h"

/* A row that has, or had, an error. */
struct row_error {
    struct hmap_node node;              /* In 'rows', by 'uuid'. */
    struct ovs_list dirty_node;         /* In 'dirty' if it is to be written,
                                         * otherwise empty. */
    struct uuid uuid;
    enum error_table table;
    char *error;                        /* NULL if it has been mended. */
};

struct layer_errors {
    struct hmap rows;                   /* Of row_error. */
    struct ovs_list dirty;              /* Of row_error. */
};

struct layer_errors *
layer_errors_create(void)
{
    struct layer_errors *errors = xmalloc(sizeof *errors);

    hmap_init(&errors->rows);
    ovs_list_init(&errors->dirty);
    return errors;
}

static void
set_dirty(struct layer_errors *errors, struct row_error *re)
{
    if (ovs_list_is_empty(&re->dirty_node)) {
        ovs_list_push_back(&errors->dirty, &re->dirty_node);
    }
}

static struct row_error *
find(const struct layer_errors *errors, const struct uuid *uuid)
{
    struct row_error *re;

    HMAP_FOR_EACH_WITH_HASH (re, node, uuid_hash(uuid), &errors->rows) {
        if (uuid_equals(&re->uuid, uuid)) {
            return re;
        }
    }
    return NULL;
}

static void
destroy(struct layer_errors *errors, struct row_error *re)
{
    hmap_remove(&errors->rows, &re->node);
    ovs_list_remove(&re->dirty_node);
    free(re->error);
    free(re);
}

/* Returns true if 'error', of an Interface, which may be NULL, is one of ours.
 */
static bool
is_iface_error(const char *error)
{
    return error && (!strncmp(error, "layers: ", 8)
                     || !strncmp(error, "layer_config: ", 14)
                     || !strncmp(error, "external_ids: ", 14));
}

/* Notes that row 'uuid' of 'table' has 'error', or none if that is NULL, where
 * its error column says 'present'.  Takes over 'error'. */
void
layer_errors_set(struct layer_errors *errors, enum error_table table,
                 const struct uuid *uuid, const char *present, char *error)
{
    struct row_error *re = find(errors, uuid);

    if (!re) {
        if (!error && (table == ET_IFACE ? !is_iface_error(present)
                       : !present)) {
            return;
        }
        re = xzalloc(sizeof *re);
        ovs_list_init(&re->dirty_node);
        re->uuid = *uuid;
        re->table = table;
        hmap_insert(&errors->rows, &re->node, uuid_hash(uuid));
    }
    free(re->error);
    re->error = error;
    set_dirty(errors, re);
}

/* Forgets the error of row 'uuid', which is no more, if it has any. */
void
layer_errors_forget(struct layer_errors *errors, const struct uuid *uuid)
{
    struct row_error *re = find(errors, uuid);

    if (re) {
        destroy(errors, re);
    }
}

/* Has the error of row 'uuid', if it has any, be written again, because
 * somebody has cleared it. */
void
layer_errors_rewrite(struct layer_errors *errors, const struct uuid *uuid)
{
    struct row_error *re = find(errors, uuid);

    if (re) {
        set_dirty(errors, re);
    }
}

/* Returns the number of rows in error. */
size_t
layer_errors_count(const struct layer_errors *errors)
{
    return hmap_count(&errors->rows);
}

/* Returns true if there are errors to be written to the database. */
bool
layer_errors_are_pending(const struct layer_errors *errors)
{
    return !ovs_list_is_empty(&errors->dirty);
}

/* Has all errors be written again, because the transaction has failed. */
void
layer_errors_write_failed(struct layer_errors *errors)
{
    struct row_error *re;

    HMAP_FOR_EACH (re, node, &errors->rows) {
        set_dirty(errors, re);
    }
}

/* Writes 'error' to 'row', unless that has another error. */
static void
write_iface_error(const struct ovsrec_interface *row, const char *error)
{
    if (row && !nullable_string_is_equal(row->error, error)
        && (is_iface_error(row->error) || (error && !row->error))) {
        ovsrec_interface_set_error(row, error);
    }
}

/* Writes to the error columns, as part of the transaction under way, what they
 * do not say yet. */
void
layer_errors_write(struct layer_errors *errors, struct ovsdb_idl *idl)
{
    struct row_error *re;

#define WRITE_ERROR(TABLE) {                                            \
        const struct ovsrec_##TABLE *row                                \
            = ovsrec_##TABLE##_get_for_uuid(idl, &re->uuid);            \
        if (row && !nullable_string_is_equal(row->error, re->error)) {  \
            ovsrec_##TABLE##_set_error(row, re->error);                 \
        }                                                               \
        break;                                                          \
    }
    LIST_FOR_EACH_POP (re, dirty_node, &errors->dirty) {
        ovs_list_init(&re->dirty_node);
        switch (re->table) {
        case ET_LAYER: WRITE_ERROR(layer)
        case ET_GROUP: WRITE_ERROR(layer_group)
        case ET_RULE: WRITE_ERROR(layer_rule)
        case ET_SET: WRITE_ERROR(layer_address_set)
        case ET_NIC: WRITE_ERROR(nic)
        case ET_IFACE:
            write_iface_error(ovsrec_interface_get_for_uuid(idl, &re->uuid),
                              re->error);
            break;
        }
        if (!re->error) {
            destroy(errors, re);
        }
    }
#undef WRITE_ERROR
}
