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

#ifndef LAYERED_TEST_LAYER_CLASSIFIER_H
#define LAYERED_TEST_LAYER_CLASSIFIER_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layered/ofproto-layered/layer-classifier.h"
#include "random.h"

struct address_set;
struct address_table;
struct ovs_cmdl_context;

/* What the parts of test-layer-classifier share.  Not thread-safe. */

/* A rule and what it was made from. */
struct test_rule {
    struct classifier_rule up;
    struct condition *condition;
};

extern struct address_set **test_sets;
extern size_t n_test_sets;

void test_create_sets(size_t n);
void test_destroy_sets(void);
struct test_rule *test_create_rule(const char *text, uint64_t precedence);
void test_destroy_rule(struct test_rule *);
struct address_table *test_parse_table(char **addresses, size_t n);

void test_classifier_curve(struct ovs_cmdl_context *);

/* Returns a random number less than 'n'. */
static inline unsigned int
rnd(unsigned int n)
{
    return random_range(n);
}

/* Returns true with a probability of 1 to 'n'. */
static inline bool
one_in(unsigned int n)
{
    return !rnd(n);
}

#endif /* test-layer-classifier.h */
