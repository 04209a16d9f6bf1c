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

#ifndef LAYERED_LAYER_COMPILE_H
#define LAYERED_LAYER_COMPILE_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct layer_assignment;
struct layer_config_sizes;
struct layer_errors;
struct ovsdb_idl;

/* Compiler
 * ========
 *
 * Makes policy (see layer-policy.h) of the rows of the database, and keeps it
 * up to date at a cost in proportion to what changed in the rows: a rule that
 * changed costs an edit of its group's classifier, and new versions of the
 * group, the layer and the stacks that have it.
 *
 * Rows are known by UUID.  A row that is in error is as if it were not there.
 *
 *
 * Thread-safety
 * =============
 *
 * For one thread, that of the configuration. */

struct layer_compiler;

struct layer_compiler *layer_compiler_create(void);

bool layer_compiler_run(struct layer_compiler *, struct ovsdb_idl *,
                        uint64_t version);
struct layer_assignment *layer_compiler_get_assignments(
    struct layer_compiler *, uint64_t version, size_t *n);
void layer_compiler_published(struct layer_compiler *,
                              struct layer_assignment *, size_t n);

struct layer_errors *layer_compiler_get_errors(struct layer_compiler *);

void layer_compiler_get_sizes(const struct layer_compiler *,
                              struct layer_config_sizes *);

#endif /* layer-compile.h */
