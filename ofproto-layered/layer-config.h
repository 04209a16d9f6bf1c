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

#ifndef LAYERED_LAYER_CONFIG_H
#define LAYERED_LAYER_CONFIG_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seq;

/* Configuration
 * =============
 *
 * Turns the tables of policy layers in the Open_vSwitch database into policy:
 * follows the rows that change, compiles what these concern, publishes the
 * outcome of each transaction as a whole (see layer-port.h), has the live
 * connections of the ports concerned judged again, and reports mistakes in the
 * rows' "error" columns.
 *
 *
 * Thread-safety
 * =============
 *
 * All that happens in a thread of its own, with a connection to the database
 * of its own, so that a large change delays neither forwarding nor the rest of
 * the configuration.  layer_config_start() starts it; the functions other than
 * that one and layer_config_init() may be called from any thread. */

/* How far the configuration has come. */
struct layer_config_progress {
    bool loaded;                /* Has the database been read once? */
    int64_t next_cfg;           /* Open_vSwitch.next_cfg that is published. */
    uint64_t version;           /* Of the policy that is published. */
};

/* The size of the configuration. */
struct layer_config_sizes {
    size_t layers, groups, rules, sets, addresses;
    size_t errors;              /* Rows that cannot be used. */
    size_t memory;              /* Bytes in rules and classifiers. */
};

void layer_config_init(const char *remote);
void layer_config_start(void);
struct layer_config_progress layer_config_get_progress(void);
struct layer_config_sizes layer_config_get_sizes(void);
struct seq *layer_config_seq(void);

#endif /* layer-config.h */
