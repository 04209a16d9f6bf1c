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

#include "layered/ofproto-layered/admission-config.h"

#include <stdlib.h>
#include <string.h>

#include "layered/ofproto-layered/admission.h"
#include "layered/ofproto-layered/layer-port.h"
#include "openvswitch/shash.h"
#include "openvswitch/vlog.h"
#include "smap.h"
#include "util.h"
#include "vswitch-idl.h"

VLOG_DEFINE_THIS_MODULE(admission_config);

/* Has 'idl' follow what is needed of bridges, and of NICs and interfaces what
 * others do not follow already. */
void
admission_config_monitor(struct ovsdb_idl *idl)
{
    static const struct ovsdb_idl_column *const columns[] = {
        &ovsrec_open_vswitch_col_bridges,
        &ovsrec_bridge_col_name,
        &ovsrec_bridge_col_other_config,
        &ovsrec_bridge_col_ports,
        &ovsrec_port_col_interfaces,
        &ovsrec_interface_col_type,
        &ovsrec_interface_col_options,
    };

    for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
        ovsdb_idl_track_add_column(idl, columns[i]);
    }
}

static bool
has_changed(const struct ovsdb_idl *idl)
{
    return (ovsrec_bridge_track_get_first(idl)
            || ovsrec_port_track_get_first(idl)
            || ovsrec_interface_track_get_first(idl)
            || ovsrec_nic_track_get_first(idl));
}

/* Returns the NIC that 'iface' is a function of, NULL if it is none. */
static const struct ovsrec_nic *
find_nic(const struct ovsdb_idl *idl, const struct ovsrec_interface *iface)
{
    const char *name = smap_get(&iface->options, "nic");
    const struct ovsrec_nic *nic;

    if (name && !strcmp(iface->type, "simnic")) {
        OVSREC_NIC_FOR_EACH (nic, idl) {
            if (!strcmp(nic->name, name)) {
                return nic;
            }
        }
    }
    return NULL;
}

/* Stores in 'policies' that of the interfaces of 'bridge'. */
static void
run_bridge(const struct ovsdb_idl *idl, const struct ovsrec_bridge *bridge,
           struct shash *policies)
{
    struct admission software, nic;
    char *error = admission_parse(&bridge->other_config, &admission_default,
                                  &software);

    if (error) {
        VLOG_WARN("bridge %s: other_config:%s", bridge->name, error);
        free(error);
    }
    free(admission_parse(&bridge->other_config, &admission_default_nic, &nic));

    for (size_t i = 0; i < bridge->n_ports; i++) {
        const struct ovsrec_port *port = bridge->ports[i];

        for (size_t j = 0; j < port->n_interfaces; j++) {
            const struct ovsrec_interface *iface = port->interfaces[j];
            const struct ovsrec_nic *row = find_nic(idl, iface);
            struct admission *policy = xmalloc(sizeof *policy);

            if (row) {
                /* An error is in the NIC's row. */
                free(admission_parse(&row->options, &nic, policy));
            } else {
                *policy = software;
            }
            free(shash_replace(policies, iface->name, policy));
        }
    }
}

/* Puts the configuration in 'idl' in force, if it has changed. */
void
admission_config_run(struct ovsdb_idl *idl)
{
    struct shash policies = SHASH_INITIALIZER(&policies);
    const struct ovsrec_bridge *bridge;

    if (has_changed(idl)) {
        OVSREC_BRIDGE_FOR_EACH (bridge, idl) {
            run_bridge(idl, bridge, &policies);
        }
        layer_ports_set_admission(&policies);
    }
    shash_destroy(&policies);
}
