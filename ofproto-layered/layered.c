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

#include "layered/ofproto-layered/layered-inspect.h"
#include "layered/ofproto-layered/layered-type.h"
#include "layered/ofproto-layered/ofproto-layered.h"

/* Makes layered bridges known to Open vSwitch.  Must be called once, by the
 * main thread, before there are other threads and before ofproto_init(). */
void
layered_init(void)
{
    layered_type_init();
    ofproto_layered_register();
    layered_inspect_init();
}
