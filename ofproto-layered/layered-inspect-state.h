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

#ifndef LAYERED_INSPECT_STATE_H
#define LAYERED_INSPECT_STATE_H 1

/* Inspection of ports
 * ===================
 *
 * The commands that show what the layers of one port do: layered/rules,
 * layered/flows, layered/unified, layered/trace, layered/stats, and
 * layered/flush, which makes it forget.  Documented in layered-unixctl.man.
 *
 * All run in the main thread. */

void layered_inspect_state_init(void);

#endif /* layered-inspect-state.h */
