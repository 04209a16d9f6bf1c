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

#include <config.h>

#include "layered/ofproto-layered/layered.h"

#include "layered/lib/dpif-offload-simnic.h"
#include "layered/lib/loadgen.h"
#include "layered/lib/netdev-loadgen.h"
#include "layered/lib/netdev-simnic.h"
#include "layered/lib/simnic.h"
#include "layered/ofproto-layered/layer-config.h"
#include "layered/ofproto-layered/layered-inspect.h"
#include "layered/ofproto-layered/layered-type.h"
#include "layered/ofproto-layered/ofproto-layered.h"

/* Makes layered bridges and emulated NICs known to Open vSwitch, with their
 * configuration from the database at 'remote'.  Must be called once, by the
 * main thread, before there are other threads and before ofproto_init(). */
void
layered_init(const char *remote)
{
    layered_type_init();
    ofproto_layered_register();
    layered_inspect_init();
    netdev_simnic_register();
    dpif_offload_simnic_register();
    simnic_unixctl_init();
    netdev_loadgen_register();
    loadgen_unixctl_init();
    layer_config_init(remote);
}

/* Returns true if the layers' configuration of at least Open_vSwitch.next_cfg
 * 'next_cfg' is in force.  For the main thread. */
bool
layered_config_is_current(int64_t next_cfg)
{
    return ofproto_layered_is_current(next_cfg);
}

/* Arranges for poll_block() to wake up when layered_config_is_current() may
 * have another answer for 'next_cfg'.  For the main thread. */
void
layered_config_wait(int64_t next_cfg OVS_UNUSED)
{
    ofproto_layered_wait_current();
}
