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

#ifndef LAYER_FILE_H
#define LAYER_FILE_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "compiler.h"
#include "openvswitch/hmap.h"
#include "smap.h"

struct ds;

/* Files of rules
 * ==============
 *
 * The text in which "ovs-vsctl load-layer" reads the groups and rules of a
 * layer, and "dump-layer" writes them.  See ovs-vsctl(8) for the syntax.
 *
 * This module knows the structure of the text, but neither the database nor
 * what conditions and actions mean: these are any strings here.
 *
 * layer_file_format() writes a canonical form.  Parsing that yields an equal
 * file, whatever the strings in it, provided that they are valid UTF-8. */

enum layer_direction {
    LAYER_OUTBOUND,
    LAYER_INBOUND,
    N_LAYER_DIRECTIONS
};

/* Strings that may be null are so where the text does not give them. */
struct layer_file_rule {
    int priority;               /* 0..65535. */
    char *match;
    char *actions;
    char *name;                 /* May be null. */
    struct smap external_ids;
};

struct layer_file_group {
    struct hmap_node hmap_node; /* By 'key', in the parser's 'keys'. */
    int64_t key;
    char *name;                 /* May be null. */
    char *match;                /* May be null. */
    char *default_verdict;      /* "next", "allow", "deny", or null. */
    struct smap external_ids;
    struct layer_file_rule **rules;
    size_t n_rules, allocated_rules;
};

struct layer_file {
    struct {
        char *default_verdict;  /* "allow", "deny", or null. */
        struct layer_file_group **groups;
        size_t n_groups, allocated_groups;
    } directions[N_LAYER_DIRECTIONS];
};

const char *layer_direction_to_string(enum layer_direction);
bool layer_direction_from_string(const char *, enum layer_direction *);

struct layer_file *layer_file_create(void);
struct layer_file_group *layer_file_add_group(struct layer_file *,
                                              enum layer_direction,
                                              int64_t key);
struct layer_file_rule *layer_file_add_rule(struct layer_file_group *,
                                            int priority, const char *match,
                                            const char *actions);
void layer_file_destroy(struct layer_file *);

char *layer_file_parse(FILE *, const char *file_name, struct layer_file **)
    OVS_WARN_UNUSED_RESULT;
void layer_file_format(struct layer_file *, struct ds *);

#endif /* layer-file.h */
