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

#ifndef LAYERED_ADMISSION_CONFIG_H
#define LAYERED_ADMISSION_CONFIG_H 1

struct ovsdb_idl;
struct ovsrec_nic;
struct smap;

/* Configuration of admission
 * ==========================
 *
 * Takes from the database which connections are admitted to the datapath (see
 * admission.h): "promote-..." in "other_config" of a Bridge, and for what
 * comes from functions of a NIC, over that, in "options" of the NIC.
 *
 * For one thread, that of the configuration. */

void admission_config_monitor(struct ovsdb_idl *);
void admission_config_run(struct ovsdb_idl *);

#endif /* admission-config.h */
