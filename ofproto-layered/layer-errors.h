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

#ifndef LAYERED_LAYER_ERRORS_H
#define LAYERED_LAYER_ERRORS_H 1

#include <stdbool.h>
#include <stddef.h>

struct ovsdb_idl;
struct uuid;

/* Errors in the configuration
 * ===========================
 *
 * Remembers which rows of the database are in error, and brings their "error"
 * columns in line with that, no more often than need be.
 *
 * The column of an Interface is also where Open vSwitch itself says why it
 * cannot open a device, which goes first: an error of the policy is written
 * only if there is no other one.
 *
 *
 * Thread-safety
 * =============
 *
 * For one thread, that of the configuration. */

/* The tables whose rows can be in error. */
enum error_table {
    ET_LAYER,
    ET_GROUP,
    ET_RULE,
    ET_SET,
    ET_IFACE,
    ET_NIC,
};

struct layer_errors *layer_errors_create(void);

void layer_errors_set(struct layer_errors *, enum error_table,
                      const struct uuid *, const char *present, char *error);
void layer_errors_forget(struct layer_errors *, const struct uuid *);
void layer_errors_rewrite(struct layer_errors *, const struct uuid *);
size_t layer_errors_count(const struct layer_errors *);

bool layer_errors_are_pending(const struct layer_errors *);
void layer_errors_write(struct layer_errors *, struct ovsdb_idl *);
void layer_errors_write_failed(struct layer_errors *);

#endif /* layer-errors.h */
