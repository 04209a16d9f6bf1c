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

#ifndef LAYERED_H
#define LAYERED_H 1

/* Layered bridges
 * ===============
 *
 * The one door to this folder for ovs-vswitchd.  Everything else here is
 * reached through what layered_init() registers: the ofproto class of layered
 * bridges and the commands that inspect them. */

#include <stdbool.h>
#include <stdint.h>

void layered_init(const char *remote);

bool layered_config_is_current(int64_t next_cfg);
void layered_config_wait(int64_t next_cfg);

#endif /* layered.h */
