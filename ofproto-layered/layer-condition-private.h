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

#ifndef LAYERED_LAYER_CONDITION_PRIVATE_H
#define LAYERED_LAYER_CONDITION_PRIVATE_H 1

/* What layer-condition.c shares with the parser, layer-condition-parse.c. */

#include <stdbool.h>
#include <stdint.h>

#include "layered/ofproto-layered/address-set.h"
#include "layered/ofproto-layered/layer-condition.h"

bool condition_field_has_ranges(const struct mf_field *);
bool condition_field_family(const struct mf_field *, enum address_family *);
const char *condition_field_name(const struct mf_field *);

int condition_value_mask_len(const struct mf_field *,
                             const struct condition_value *);

void condition_term_destroy(struct condition_term *);
const struct condition_term *condition_find_term(const struct condition *,
                                                 enum mf_field_id);
bool condition_demands(const struct condition *, enum mf_field_id, uint16_t a,
                       uint16_t b);
void condition_format_terms(const struct condition *, struct ds *);

#endif /* layer-condition-private.h */
