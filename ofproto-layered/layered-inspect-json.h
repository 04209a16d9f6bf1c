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

#ifndef LAYERED_INSPECT_JSON_H
#define LAYERED_INSPECT_JSON_H 1

#include <stddef.h>

#include "openvswitch/json.h"

struct conn_key;
struct ds;
struct layer_port;
struct layer_step;
struct unixctl_conn;

/* What commands that inspect ports have in common
 * ===============================================
 *
 * Each command makes JSON, and text of that JSON by a function of its own, so
 * that both say the same.  For the main thread. */

typedef void format_func(const struct json *, struct ds *);

void inspect_reply(struct unixctl_conn *, struct json *, format_func *);
struct layer_port *inspect_get_port(struct unixctl_conn *, const char *name);

const char *inspect_get_string(const struct json *object, const char *name);
long long int inspect_get_integer(const struct json *object,
                                  const char *name);
void inspect_format_members(const struct json *object,
                            const char *const names[], size_t n, struct ds *);

char *inspect_key_to_string(const struct conn_key *);
struct json *inspect_step_to_json(const struct layer_step *);

#endif /* layered-inspect-json.h */
