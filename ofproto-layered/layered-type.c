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

#include "layered/ofproto-layered/layered-type.h"

#include <stdlib.h>
#include <string.h>

#include "dpif.h"
#include "sset.h"
#include "util.h"

#include "openvswitch/vlog.h"

VLOG_DEFINE_THIS_MODULE(layered_type);

static const struct {
    const char *layered;
    const char *dpif;
} layered_types[] = {
    { "layered", "netdev" },
    { "layered-system", "system" },
    { "layered-dummy", "dummy" },
};

/* The dpif types that are claimed.  Constant after layered_type_init(). */
static struct sset claimed_types = SSET_INITIALIZER(&claimed_types);

/* Finds out from the environment which dpif types are claimed. */
void
layered_type_init(void)
{
    const char *claim = getenv("OVS_LAYERED_CLAIM");

    if (!claim || !*claim) {
        return;
    }

    struct sset requested;

    sset_from_delimited_string(&requested, claim, ",");
    for (size_t i = 0; i < ARRAY_SIZE(layered_types); i++) {
        const char *type = layered_types[i].dpif;
        bool named = sset_find_and_delete(&requested, type);

        if (named || sset_contains(&requested, "all")) {
            sset_add(&claimed_types, type);
            VLOG_DBG("bridges of datapath type \"%s\" are layered bridges",
                     type);
        }
    }
    sset_find_and_delete(&requested, "all");

    const char *unknown;
    SSET_FOR_EACH (unknown, &requested) {
        VLOG_WARN("OVS_LAYERED_CLAIM: unknown datapath type \"%s\"", unknown);
    }
    sset_destroy(&requested);
}

/* Returns true if 'type' is a dpif type that is claimed. */
bool
layered_type_is_claimed(const char *type)
{
    return sset_contains(&claimed_types, type);
}

/* Adds to 'types' each datapath type whose bridges are layered, as far as this
 * process has the dpif that it needs. */
void
layered_type_enumerate(struct sset *types)
{
    struct sset dpif_types = SSET_INITIALIZER(&dpif_types);

    dp_enumerate_types(&dpif_types);
    for (size_t i = 0; i < ARRAY_SIZE(layered_types); i++) {
        const char *dpif_type = layered_types[i].dpif;

        if (sset_contains(&dpif_types, dpif_type)) {
            sset_add(types, layered_types[i].layered);
            if (layered_type_is_claimed(dpif_type)) {
                sset_add(types, dpif_type);
            }
        }
    }
    sset_destroy(&dpif_types);
}

/* Returns the dpif type of the datapath that backs bridges of 'type', which is
 * a layered type or a claimed dpif type, that is, one that
 * layered_type_enumerate() reports. */
const char *
layered_type_to_dpif_type(const char *type)
{
    for (size_t i = 0; i < ARRAY_SIZE(layered_types); i++) {
        if (!strcmp(type, layered_types[i].layered)) {
            return layered_types[i].dpif;
        }
    }
    return type;
}
