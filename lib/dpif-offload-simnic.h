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

#ifndef DPIF_OFFLOAD_SIMNIC_H
#define DPIF_OFFLOAD_SIMNIC_H 1

#include <stddef.h>

struct match;
struct nlattr;
struct simnic;

/* Offload provider for emulated NICs
 * ==================================
 *
 * The dpif-offload class "simnic": the host's driver of emulated NICs.  It
 * keeps account of all flows of the userspace datapath that a NIC can carry,
 * and decides which of them are in the NIC at any time: see
 * simnic-placement.h.  Nothing depends on a flow being there.
 *
 * dpif_offload_simnic_register() must be called before any datapath is opened.
 * dpif_offload_simnic_why() is for any thread. */

void dpif_offload_simnic_register(void);

/* Returns why the flow of datapath 'dpif_name' that matches 'match' and has
 * the 'actions_len' bytes of 'actions' is not in a NIC, as a string that the
 * caller frees, or NULL if it is in one, or if its input port is not a
 * function of a NIC. */
char *dpif_offload_simnic_why(const char *dpif_name, const struct match *match,
                              const struct nlattr *actions,
                              size_t actions_len);

#endif /* dpif-offload-simnic.h */
