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

#ifndef LAYERED_TYPE_H
#define LAYERED_TYPE_H 1

#include <stdbool.h>

/* Types of layered bridges
 * ========================
 *
 * A "layered type" is what a user writes into the "datapath_type" column of a
 * Bridge to make it a layered bridge.  A "dpif type" is the type of the
 * datapath that backs a bridge.  Each layered type stands for one dpif type:
 *
 *      layered type     dpif type
 *      ---------------  ---------
 *      layered          netdev
 *      layered-system   system
 *      layered-dummy    dummy
 *
 * A layered bridge and a plain bridge of the dpif type that its layered type
 * stands for share one datapath.
 *
 * A dpif type can also be "claimed": then its plain bridges become layered
 * bridges too, under the name that they have.  This is for testing, to show
 * that a layered bridge without layers is an ordinary bridge.  What to claim
 * comes from the environment variable OVS_LAYERED_CLAIM, when the process
 * starts: a list of dpif types separated by commas, or "all".
 *
 *
 * Thread-safety
 * =============
 *
 * layered_type_init() must be called first, before there are threads.  The
 * other functions may be called from any thread. */

struct sset;

void layered_type_init(void);

void layered_type_enumerate(struct sset *types);
bool layered_type_is_claimed(const char *type);
const char *layered_type_to_dpif_type(const char *type);

#endif /* layered-type.h */
