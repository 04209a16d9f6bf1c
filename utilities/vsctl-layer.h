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

#ifndef VSCTL_LAYER_H
#define VSCTL_LAYER_H 1

/* The commands of ovs-vsctl for policy layers. */

struct table_style;

const char *vsctl_layer_usage(void);
void vsctl_layer_register(const struct table_style *);

#endif /* vsctl-layer.h */
