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

#ifndef LAYERED_NIC_CONFIG_H
#define LAYERED_NIC_CONFIG_H 1

#include <stdbool.h>

struct layer_errors;
struct ovsdb_idl;

/* Configuration of emulated NICs
 * ==============================
 *
 * Puts the rows of the NIC table in the Open_vSwitch database into force, and
 * writes what the NICs report to the rows' "status" and "statistics" columns.
 * A row that cannot be used has an error, and its NIC stays as it was.  A
 * usable row's error is what the NIC itself reports, if anything.
 *
 *
 * Thread-safety
 * =============
 *
 * For one thread, that of the configuration. */

struct nic_config *nic_config_create(void);

void nic_config_monitor(struct ovsdb_idl *);
void nic_config_run(struct nic_config *, const struct ovsdb_idl *,
                    struct layer_errors *);
bool nic_config_run_reports(struct nic_config *, const struct ovsdb_idl *,
                            struct layer_errors *);
void nic_config_write_reports(struct nic_config *, const struct ovsdb_idl *);
void nic_config_wait(const struct nic_config *);

#endif /* nic-config.h */
