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

#include "layered/ofproto-layered/admission.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "smap.h"
#include "util.h"

/* To make, dump and delete a datapath flow takes about 20 us, and the unified
 * flow table about 0.13 us more for a packet than such a flow: the flow pays
 * for itself after some 150 packets (Documentation/performance.md).  A
 * connection that has had a fifth of these in a second or two is likely to
 * have the rest. */
const struct admission admission_default = {
    .packets = 32,
    .bytes = 65536,
    .age = 5000,
};

/* For connections from a NIC, where a packet that needs software costs many
 * times what one costs that does not. */
const struct admission admission_default_nic = {
    .packets = 8,
    .bytes = 16384,
    .age = 5000,
};

/* Sets what 'key' stands for in 'a' to 'value'.  Returns false if it is no key
 * of admission.  Stores NULL in '*errorp', or, leaving 'a' as it is, an error
 * that the caller frees. */
bool
admission_set(struct admission *a, const char *key, const char *value,
              char **errorp)
{
    uint32_t *p = (!strcmp(key, "promote-packets") ? &a->packets
                   : !strcmp(key, "promote-bytes") ? &a->bytes
                   : !strcmp(key, "promote-age") ? &a->age
                   : NULL);
    unsigned int n;

    *errorp = NULL;
    if (p && str_to_uint(value, 10, &n)) {
        *p = n;
    } else if (p) {
        *errorp = xasprintf("%s: \"%s\" is not a number from 0 to %u", key,
                            value, UINT_MAX);
    }
    return p != NULL;
}

/* Initializes '*a' from the keys of 'config' that are about admission.  What
 * it does not have, or cannot be used, is as in 'defaults'.  Returns NULL if
 * successful, otherwise an error that the caller frees. */
char *
admission_parse(const struct smap *config, const struct admission *defaults,
                struct admission *a)
{
    const struct smap_node *node;
    char *first = NULL;

    *a = *defaults;
    SMAP_FOR_EACH (node, config) {
        char *error;

        if (admission_set(a, node->key, node->value, &error) && error) {
            if (first) {
                free(error);
            } else {
                first = error;
            }
        }
    }
    return first;
}
