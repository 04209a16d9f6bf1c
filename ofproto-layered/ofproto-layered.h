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

#ifndef OFPROTO_LAYERED_H
#define OFPROTO_LAYERED_H 1

#include "openvswitch/list.h"

#include "ofproto/ofproto-dpif.h"
#include "ofproto/ofproto-provider.h"

/* Layered ofproto provider
 * ========================
 *
 * A "layered bridge" is a bridge whose ports can have layers of policy.  Its
 * ofproto class, 'ofproto_layered_class', derives from 'ofproto_dpif_class':
 * an ofproto of it is an ofproto-dpif, with OpenFlow tables, mirrors, bonds,
 * tunnels and all else, and shares its datapath with the plain bridges of the
 * same kind.  Only what differs is here.  Which datapath types are layered,
 * and on what datapaths, is in layered-type.h.
 *
 *
 * Life cycle
 * ==========
 *
 * ofproto_layered_register() makes the class known to ofproto.  From then on
 * ofproto creates, runs and destroys layered bridges on behalf of the bridge
 * module, as it does for any class.
 *
 *
 * Thread-safety
 * =============
 *
 * The set of layered bridges and their ports belong to the main thread. */

struct ofproto_layered {
    struct ofproto_dpif up;
    struct ovs_list list_node;  /* In the list of all layered bridges. */
    bool hooked;                /* Do its packets pass layers? */
};

void ofproto_layered_register(void);

struct ofproto_layered *ofproto_layered_cast(const struct ofproto *);

const struct ovs_list *ofproto_layered_get_all(void);

void ofproto_layered_revalidate(void);

bool ofproto_layered_is_current(int64_t next_cfg);
void ofproto_layered_wait_current(void);

#endif /* ofproto-layered.h */
