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

#ifndef NETDEV_SIMNIC_H
#define NETDEV_SIMNIC_H 1

#include <stdbool.h>

struct netdev;
struct simnic_function;

/* Representors of the functions of emulated NICs
 * ==============================================
 *
 * The netdev class "simnic".  What is received from such a netdev are the
 * frames that missed the NIC's flow table; what is sent to it goes out on the
 * function's link.  PMD threads poll it. */

void netdev_simnic_register(void);
bool netdev_is_simnic(const struct netdev *);
struct simnic_function *netdev_simnic_get_function(const struct netdev *);

#endif /* netdev-simnic.h */
