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

#include "layered/utilities/layer-file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "openvswitch/dynamic-string.h"
#include "openvswitch/json.h"
#include "unicode.h"
#include "util.h"

static const char *const direction_names[N_LAYER_DIRECTIONS] = {
    [LAYER_OUTBOUND] = "outbound",
    [LAYER_INBOUND] = "inbound",
};

static const char external_ids_prefix[] = "external_ids:";
static const char white_space[] = " \t\r\f\v";

const char *
layer_direction_to_string(enum layer_direction direction)
{
    return direction_names[direction];
}

bool
layer_direction_from_string(const char *s, enum layer_direction *directionp)
{
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        if (!strcmp(s, direction_names[i])) {
            *directionp = i;
            return true;
        }
    }
    return false;
}

struct layer_file *
layer_file_create(void)
{
    return xzalloc(sizeof(struct layer_file));
}

/* Adds a group, without anything but its 'key', behind the others of
 * 'direction'. */
struct layer_file_group *
layer_file_add_group(struct layer_file *file, enum layer_direction direction,
                     int64_t key)
{
    struct layer_file_group *group = xzalloc(sizeof *group);

    group->key = key;
    smap_init(&group->external_ids);
    if (file->directions[direction].n_groups
        >= file->directions[direction].allocated_groups) {
        file->directions[direction].groups = x2nrealloc(
            file->directions[direction].groups,
            &file->directions[direction].allocated_groups,
            sizeof *file->directions[direction].groups);
    }
    file->directions[direction].groups[
        file->directions[direction].n_groups++] = group;
    return group;
}

/* Adds a rule, without name and external IDs, to 'group'. */
struct layer_file_rule *
layer_file_add_rule(struct layer_file_group *group, int priority,
                    const char *match, const char *actions)
{
    struct layer_file_rule *rule = xzalloc(sizeof *rule);

    rule->priority = priority;
    rule->match = xstrdup(match);
    rule->actions = xstrdup(actions);
    smap_init(&rule->external_ids);
    if (group->n_rules >= group->allocated_rules) {
        group->rules = x2nrealloc(group->rules, &group->allocated_rules,
                                  sizeof *group->rules);
    }
    group->rules[group->n_rules++] = rule;
    return rule;
}

static void
layer_file_rule_destroy(struct layer_file_rule *rule)
{
    free(rule->match);
    free(rule->actions);
    free(rule->name);
    smap_destroy(&rule->external_ids);
    free(rule);
}

static void
layer_file_group_destroy(struct layer_file_group *group)
{
    for (size_t i = 0; i < group->n_rules; i++) {
        layer_file_rule_destroy(group->rules[i]);
    }
    free(group->rules);
    free(group->name);
    free(group->match);
    free(group->default_verdict);
    smap_destroy(&group->external_ids);
    free(group);
}

void
layer_file_destroy(struct layer_file *file)
{
    if (file) {
        for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
            for (size_t j = 0; j < file->directions[i].n_groups; j++) {
                layer_file_group_destroy(file->directions[i].groups[j]);
            }
            free(file->directions[i].groups);
            free(file->directions[i].default_verdict);
        }
        free(file);
    }
}

/* Parsing. */

/* A word of a line. */
struct word {
    char *s;                    /* Without quotes. */
    size_t equals;              /* Offset of the first '=' that is not quoted,
                                 * or SIZE_MAX if there is none. */
};

struct words {
    struct word *words;
    size_t n, allocated;
};

struct parser {
    struct layer_file *file;
    struct hmap keys[N_LAYER_DIRECTIONS];   /* Groups by key. */
    struct layer_file_group *group;         /* Current one, null if none. */
    struct words words;                     /* Of the current line. */
};

static void
words_clear(struct words *words)
{
    for (size_t i = 0; i < words->n; i++) {
        free(words->words[i].s);
    }
    words->n = 0;
}

/* Appends to 'out' what the quotes at '*pp' enclose, and advances '*pp' beyond
 * them. */
static char * OVS_WARN_UNUSED_RESULT
parse_quoted(const char **pp, struct ds *out)
{
    const char *start = *pp + 1;
    const char *end = start;
    char quote = **pp;

    while (*end != quote) {
        if (quote == '"' && *end == '\\') {
            end++;
        }
        if (!*end) {
            return xasprintf("missing closing quote (%c)", quote);
        }
        end++;
    }
    *pp = end + 1;

    if (quote == '"') {
        char *s;

        if (!json_string_unescape(start, end - start, &s)) {
            return s;
        }
        ds_put_cstr(out, s);
        free(s);
    } else {
        ds_put_buffer(out, start, end - start);
    }
    return NULL;
}

/* Splits 'line' into 'words', which must be empty. */
static char * OVS_WARN_UNUSED_RESULT
words_split(struct words *words, const char *line)
{
    const char *p = line;

    for (;;) {
        p += strspn(p, white_space);
        if (!*p || *p == '#') {
            return NULL;
        }

        struct ds s = DS_EMPTY_INITIALIZER;
        size_t equals = SIZE_MAX;

        while (*p && !strchr(white_space, *p)) {
            if (*p == '"' || *p == '\'') {
                char *error = parse_quoted(&p, &s);

                if (error) {
                    ds_destroy(&s);
                    return error;
                }
            } else {
                if (*p == '=' && equals == SIZE_MAX) {
                    equals = s.length;
                }
                ds_put_char(&s, *p++);
            }
        }

        if (words->n >= words->allocated) {
            words->words = x2nrealloc(words->words, &words->allocated,
                                      sizeof *words->words);
        }
        words->words[words->n].s = ds_steal_cstr(&s);
        words->words[words->n].equals = equals;
        words->n++;
    }
}

static char * OVS_WARN_UNUSED_RESULT
parse_direction(const struct words *words, enum layer_direction *directionp)
{
    if (words->n < 2) {
        return xasprintf("missing direction (\"outbound\" or \"inbound\")");
    } else if (!layer_direction_from_string(words->words[1].s, directionp)) {
        return xasprintf("\"%s\" is not a direction (\"outbound\" or "
                         "\"inbound\")", words->words[1].s);
    }
    return NULL;
}

/* Stores a copy of 'value' in '*dst', where an option goes that may appear
 * once. */
static char * OVS_WARN_UNUSED_RESULT
set_once(char **dst, const char *option, const char *value)
{
    if (*dst) {
        return xasprintf("duplicate \"%s\"", option);
    }
    *dst = xstrdup(value);
    return NULL;
}

/* Parses the words from the 'i'th on, all of which must be options of the form
 * OPTION=VALUE.  The options "name", "match", and "default" are stored in the
 * respective argument, and are refused if that is null. */
static char * OVS_WARN_UNUSED_RESULT
parse_options(const struct words *words, size_t i, char **name, char **match,
              char **default_verdict, struct smap *external_ids)
{
    for (; i < words->n; i++) {
        const struct word *w = &words->words[i];
        char *error = NULL;

        if (w->equals == SIZE_MAX) {
            return xasprintf("unexpected \"%s\"", w->s);
        }

        char *option = xmemdup0(w->s, w->equals);
        const char *value = w->s + w->equals + 1;

        if (name && !strcmp(option, "name")) {
            error = set_once(name, option, value);
        } else if (match && !strcmp(option, "match")) {
            error = set_once(match, option, value);
        } else if (default_verdict && !strcmp(option, "default")) {
            if (strcmp(value, "next") && strcmp(value, "allow")
                && strcmp(value, "deny")) {
                error = xasprintf("\"%s\" is not a default (\"next\", "
                                  "\"allow\", or \"deny\")", value);
            } else {
                error = set_once(default_verdict, option, value);
            }
        } else if (!strncmp(option, external_ids_prefix,
                            strlen(external_ids_prefix))) {
            const char *key = option + strlen(external_ids_prefix);

            if (!smap_add_once(external_ids, key, value)) {
                error = xasprintf("duplicate \"%s\"", option);
            }
        } else {
            error = xasprintf("unknown option \"%s\"", option);
        }
        free(option);
        if (error) {
            return error;
        }
    }
    return NULL;
}

/* default DIRECTION allow|deny */
static char * OVS_WARN_UNUSED_RESULT
parse_default(struct parser *p)
{
    enum layer_direction direction;
    char *error = parse_direction(&p->words, &direction);

    if (error) {
        return error;
    } else if (p->words.n < 3) {
        return xasprintf("missing verdict (\"allow\" or \"deny\")");
    } else if (p->words.n > 3) {
        return xasprintf("unexpected \"%s\"", p->words.words[3].s);
    }

    const char *verdict = p->words.words[2].s;
    if (strcmp(verdict, "allow") && strcmp(verdict, "deny")) {
        return xasprintf("\"%s\" is not a verdict (\"allow\" or \"deny\")",
                         verdict);
    } else if (p->file->directions[direction].default_verdict) {
        return xasprintf("duplicate default for direction \"%s\"",
                         layer_direction_to_string(direction));
    }
    p->file->directions[direction].default_verdict = xstrdup(verdict);
    return NULL;
}

/* group DIRECTION KEY [NAME] [OPTION=VALUE]... */
static char * OVS_WARN_UNUSED_RESULT
parse_group(struct parser *p)
{
    enum layer_direction direction;
    char *error = parse_direction(&p->words, &direction);
    long long int key;

    if (error) {
        return error;
    } else if (p->words.n < 3) {
        return xasprintf("missing key of group");
    } else if (!str_to_llong(p->words.words[2].s, 10, &key)) {
        return xasprintf("\"%s\" is not an integer, as the key of a group "
                         "must be", p->words.words[2].s);
    }

    struct layer_file_group *group;
    HMAP_FOR_EACH_WITH_HASH (group, hmap_node, hash_uint64(key),
                             &p->keys[direction]) {
        if (group->key == key) {
            return xasprintf("duplicate group %lld in direction \"%s\"", key,
                             layer_direction_to_string(direction));
        }
    }

    p->group = group = layer_file_add_group(p->file, direction, key);
    hmap_insert(&p->keys[direction], &group->hmap_node, hash_uint64(key));

    size_t i = 3;
    if (p->words.n > i && p->words.words[i].equals == SIZE_MAX) {
        group->name = xstrdup(p->words.words[i++].s);
    }
    return parse_options(&p->words, i, &group->name, &group->match,
                         &group->default_verdict, &group->external_ids);
}

/* rule PRIORITY MATCH ACTIONS [OPTION=VALUE]... */
static char * OVS_WARN_UNUSED_RESULT
parse_rule(struct parser *p)
{
    const struct word *w = p->words.words;
    struct layer_file_rule *rule;
    int priority;

    if (!p->group) {
        return xasprintf("rule ahead of the first group");
    } else if (p->words.n < 4) {
        return xasprintf("missing %s of rule",
                         p->words.n < 2 ? "priority"
                         : p->words.n < 3 ? "match" : "actions");
    } else if (!str_to_int(w[1].s, 10, &priority)
               || priority < 0 || priority > UINT16_MAX) {
        return xasprintf("\"%s\" is not a priority (0 to 65535)", w[1].s);
    }

    rule = layer_file_add_rule(p->group, priority, w[2].s, w[3].s);
    return parse_options(&p->words, 4, &rule->name, NULL, NULL,
                         &rule->external_ids);
}

static char * OVS_WARN_UNUSED_RESULT
parse_line(struct parser *p, const struct ds *line)
{
    char *error;

    if (strlen(ds_cstr_ro(line)) != line->length) {
        return xasprintf("null byte");
    }
    error = utf8_validate(ds_cstr_ro(line), NULL);
    if (error) {
        return error;
    }

    error = words_split(&p->words, ds_cstr_ro(line));
    if (error) {
        return error;
    } else if (!p->words.n) {
        return NULL;
    }

    const char *keyword = p->words.words[0].s;
    if (!strcmp(keyword, "rule")) {
        return parse_rule(p);
    } else if (!strcmp(keyword, "group")) {
        return parse_group(p);
    } else if (!strcmp(keyword, "default")) {
        return parse_default(p);
    }
    return xasprintf("unknown keyword \"%s\" (must be \"default\", \"group\", "
                     "or \"rule\")", keyword);
}

/* Reads a file from 'stream', and calls it 'file_name' in errors.  Returns
 * NULL and stores the file in '*filep', for the caller to destroy, or returns
 * an error, for the caller to free, and stores NULL. */
char *
layer_file_parse(FILE *stream, const char *file_name,
                 struct layer_file **filep)
{
    struct parser p = { .file = layer_file_create() };
    struct ds line = DS_EMPTY_INITIALIZER;
    int line_number = 0;
    char *error = NULL;

    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        hmap_init(&p.keys[i]);
    }

    while (!error && !ds_get_line(&line, stream)) {
        line_number++;
        error = parse_line(&p, &line);
        words_clear(&p.words);
    }
    if (error) {
        char *reason = error;

        error = xasprintf("%s:%d: %s", file_name, line_number, reason);
        free(reason);
    } else if (ferror(stream)) {
        error = xasprintf("%s: read failed (%s)", file_name,
                          ovs_strerror(errno));
    }

    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        hmap_destroy(&p.keys[i]);
    }
    free(p.words.words);
    ds_destroy(&line);
    if (error) {
        layer_file_destroy(p.file);
        p.file = NULL;
    }
    *filep = p.file;
    return error;
}

/* Formatting. */

static void
put_quoted(struct ds *out, const char *s)
{
    json_string_escape(s, out);
}

/* Appends 's', in quotes if a word cannot be this, or would mean something
 * else, without. */
static void
put_word(struct ds *out, const char *s)
{
    if (*s && !s[strspn(s, "abcdefghijklmnopqrstuvwxyz"
                        "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/")]) {
        ds_put_cstr(out, s);
    } else {
        put_quoted(out, s);
    }
}

static void
put_external_ids(struct ds *out, const struct smap *external_ids)
{
    const struct smap_node **nodes = smap_sort(external_ids);

    for (size_t i = 0; i < smap_count(external_ids); i++) {
        ds_put_format(out, " %s", external_ids_prefix);
        put_word(out, nodes[i]->key);
        ds_put_char(out, '=');
        put_quoted(out, nodes[i]->value);
    }
    free(nodes);
}

static int
compare_groups(const void *a_, const void *b_)
{
    const struct layer_file_group *a = *(struct layer_file_group *const *) a_;
    const struct layer_file_group *b = *(struct layer_file_group *const *) b_;

    return a->key < b->key ? -1 : a->key > b->key;
}

static int
compare_rules(const void *a_, const void *b_)
{
    const struct layer_file_rule *a = *(struct layer_file_rule *const *) a_;
    const struct layer_file_rule *b = *(struct layer_file_rule *const *) b_;
    int cmp;

    if (a->priority != b->priority) {
        return a->priority > b->priority ? -1 : 1;
    }
    cmp = strcmp(a->match, b->match);
    if (!cmp) {
        cmp = strcmp(a->actions, b->actions);
    }
    if (!cmp) {
        cmp = strcmp(a->name ? a->name : "", b->name ? b->name : "");
    }
    return cmp;
}

static void
format_group(struct layer_file_group *group,
             enum layer_direction direction, struct ds *out)
{
    if (out->length) {
        ds_put_char(out, '\n');
    }
    ds_put_format(out, "group %s %"PRId64,
                  layer_direction_to_string(direction), group->key);
    if (group->name) {
        ds_put_char(out, ' ');
        put_word(out, group->name);
    }
    if (group->match) {
        ds_put_cstr(out, " match=");
        put_quoted(out, group->match);
    }
    if (group->default_verdict) {
        ds_put_format(out, " default=%s", group->default_verdict);
    }
    put_external_ids(out, &group->external_ids);
    ds_put_char(out, '\n');

    if (group->n_rules) {
        qsort(group->rules, group->n_rules, sizeof *group->rules,
              compare_rules);
    }
    for (size_t i = 0; i < group->n_rules; i++) {
        const struct layer_file_rule *rule = group->rules[i];

        ds_put_format(out, "    rule %d ", rule->priority);
        put_quoted(out, rule->match);
        ds_put_char(out, ' ');
        put_quoted(out, rule->actions);
        if (rule->name) {
            ds_put_cstr(out, " name=");
            put_word(out, rule->name);
        }
        put_external_ids(out, &rule->external_ids);
        ds_put_char(out, '\n');
    }
}

/* Appends the canonical form of 'file', for which it sorts the groups by key
 * and the rules by descending priority, to 'out', which must be empty. */
void
layer_file_format(struct layer_file *file, struct ds *out)
{
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        if (file->directions[i].default_verdict) {
            ds_put_format(out, "default %s %s\n",
                          layer_direction_to_string(i),
                          file->directions[i].default_verdict);
        }
    }
    for (size_t i = 0; i < N_LAYER_DIRECTIONS; i++) {
        if (file->directions[i].n_groups) {
            qsort(file->directions[i].groups, file->directions[i].n_groups,
                  sizeof *file->directions[i].groups, compare_groups);
        }
        for (size_t j = 0; j < file->directions[i].n_groups; j++) {
            format_group(file->directions[i].groups[j], i, out);
        }
    }
}
