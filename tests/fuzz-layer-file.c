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

/* Fuzzes the parser of files of rules: what it accepts must have a canonical
 * form, which is accepted, too, and is its own canonical form.  Needs a
 * compiler with -fsanitize=fuzzer, and utilities/layer-file.c. */

#include <config.h>
#undef NDEBUG

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layered/utilities/layer-file.h"
#include "openvswitch/dynamic-string.h"
#include "util.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static char *
parse(const void *data, size_t size, struct layer_file **file)
{
    FILE *stream = fmemopen(CONST_CAST(void *, data), size, "r");

    ovs_assert(stream);

    char *error = layer_file_parse(stream, "file", file);

    ovs_assert(!error == (*file != NULL));
    fclose(stream);
    return error;
}

/* Checks that 'error' names a line of 'data'. */
static void
check_error(const char *error, const uint8_t *data, size_t size)
{
    int n_lines = 1;
    int line;

    for (size_t i = 0; i < size; i++) {
        n_lines += data[i] == '\n';
    }
    ovs_assert(ovs_scan(error, "file:%d: ", &line));
    ovs_assert(line >= 1 && line <= n_lines);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct layer_file *file, *again;
    char *error;

    if (!size) {
        return 0;
    }
    error = parse(data, size, &file);
    if (error) {
        check_error(error, data, size);
        free(error);
        return 0;
    }

    struct ds a = DS_EMPTY_INITIALIZER;
    struct ds b = DS_EMPTY_INITIALIZER;

    layer_file_format(file, &a);
    if (a.length) {
        error = parse(ds_cstr(&a), a.length, &again);
        ovs_assert(!error);
        layer_file_format(again, &b);
        ovs_assert(!strcmp(ds_cstr(&a), ds_cstr(&b)));
        for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
            ovs_assert(file->directions[i].n_groups
                       == again->directions[i].n_groups);
            for (size_t j = 0; j < file->directions[i].n_groups; j++) {
                ovs_assert(file->directions[i].groups[j]->n_rules
                           == again->directions[i].groups[j]->n_rules);
            }
        }
        layer_file_destroy(again);
    }
    layer_file_destroy(file);
    ds_destroy(&a);
    ds_destroy(&b);
    return 0;
}
