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

#include "layered/ofproto-layered/layer-action.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "packets.h"
#include "util.h"

#include "layered/ofproto-layered/address-set.h"
#include "layered/ofproto-layered/layer-text.h"

#include "openvswitch/dynamic-string.h"

/* Actions that are being parsed. */
struct actions_parser {
    struct layer_actions *actions;
    size_t allocated;
    bool has_verdict;           /* Is there one in the text? */
    const char *stateful;       /* The action that demands state, or NULL. */
};

/* Returns the name of 'verdict', as in the text of actions. */
const char *
layer_verdict_to_string(enum layer_verdict verdict)
{
    switch (verdict) {
    case LV_NONE:
        return "next";
    case LV_ALLOW:
        return "allow";
    case LV_DENY:
        return "deny";
    case LV_ALLOW_CONTINUE:
        return "allow_continue";
    case LV_DENY_CONTINUE:
        return "deny_continue";
    case LV_REJECT:
        return "reject";
    default:
        OVS_NOT_REACHED();
    }
}

static bool
verdict_from_string(const char *s, enum layer_verdict *verdict)
{
    for (int i = LV_NONE; i <= LV_REJECT; i++) {
        if (!strcmp(s, layer_verdict_to_string(i))) {
            *verdict = i;
            return true;
        }
    }
    return false;
}

/* Returns whether 's' is an action that is none yet. */
static bool
is_future_action(const char *s)
{
    static const char *const names[] = {
        "meter", "encap", "decap", "redirect", "mirror", "controller",
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (!strcmp(s, names[i])) {
            return true;
        }
    }
    return false;
}

/* Cuts 's' after the part that ends at the first 'delim', and returns what
 * follows, or NULL. */
static char *
cut(char *s, char delim)
{
    char *rest = strchr(s, delim);

    if (rest) {
        *rest++ = '\0';
    }
    return rest;
}

/* Network address translation. */

/* Parses 's' as an address of the given family that a host may have. */
static bool
parse_host(const char *s, bool ipv6, struct in6_addr *addr)
{
    if (ipv6) {
        return (ipv6_parse(s, addr) && ipv6_addr_is_set(addr)
                && !ipv6_addr_is_multicast(addr)
                && !IN6_IS_ADDR_V4MAPPED(addr));
    }

    ovs_be32 ip;

    if (!ip_parse(s, &ip) || !ip || ip_is_multicast(ip)
        || ip == OVS_BE32_MAX) {
        return false;
    }
    in6_addr_set_mapped_ipv4(addr, ip);
    return true;
}

static bool
parse_port(const char *s, uint16_t *port)
{
    unsigned int value;

    if (s[strspn(s, "0123456789")] || !str_to_uint(s, 10, &value)
        || value < 1 || value > UINT16_MAX) {
        return false;
    }
    *port = value;
    return true;
}

/* Parses 's' as ADDRESSES[:PORTS], in place.  IPv6 addresses with ports are in
 * brackets.  Returns NULL if successful, otherwise what is wrong, which the
 * caller must not free. */
static const char *
parse_target(char *s, struct nat_target *target, bool *ipv6)
{
    char *addresses = s;
    char *ports = NULL;

    if (*s == '[') {
        addresses = s + 1;
        ports = cut(s, ']');
        if (!ports) {
            return "missing ]";
        } else if (!*ports) {
            ports = NULL;
        } else if (*ports++ != ':') {
            return "invalid ports";
        }
        *ipv6 = true;
    } else {
        char *colon = strchr(s, ':');

        *ipv6 = colon && strchr(colon + 1, ':');
        if (!*ipv6) {
            ports = cut(s, ':');
        }
    }

    char *max = cut(addresses, '-');

    if (!parse_host(addresses, *ipv6, &target->min)
        || !parse_host(max ? max : addresses, *ipv6, &target->max)) {
        return "invalid address";
    } else if (memcmp(&target->min, &target->max, sizeof target->min) > 0) {
        return "range of addresses ends before it begins";
    }

    if (ports) {
        max = cut(ports, '-');
        if (!parse_port(ports, &target->min_port)
            || !parse_port(max ? max : ports, &target->max_port)) {
            return "invalid ports";
        } else if (target->min_port > target->max_port) {
            return "range of ports ends before it begins";
        }
    }
    return NULL;
}

/* Parses 's', the arguments of snat or dnat, into a new '*natp'. */
static char * OVS_WARN_UNUSED_RESULT
parse_nat(bool dnat, char *s, struct layer_nat_spec **natp)
{
    struct layer_nat_spec *nat;
    char *hash = dnat ? cut(s, ',') : NULL;
    char *error = NULL;
    size_t n = 1;

    for (const char *p = s; dnat && (p = strchr(p, '|')) != NULL; p++) {
        n++;
    }
    nat = xzalloc(sizeof *nat + n * sizeof *nat->targets);

    for (char *next; s && !error; s = next) {
        struct nat_target *target = &nat->targets[nat->n_targets];
        bool ipv6 = false;

        next = dnat ? cut(s, '|') : NULL;
        s = trim(s);

        char *copy = xstrdup(s);
        const char *problem = parse_target(copy, target, &ipv6);

        if (!problem && dnat
            && (!ipv6_addr_equals(&target->min, &target->max)
                || target->min_port != target->max_port)) {
            problem = "dnat takes no ranges";
        } else if (!problem && nat->n_targets && ipv6 != nat->ipv6) {
            problem = "mixes IPv4 and IPv6";
        }
        if (problem) {
            error = (n > 1 && *s ? xasprintf("%s: %s", s, problem)
                     : xstrdup(*s ? problem : "missing address"));
        }
        nat->ipv6 = ipv6;
        nat->n_targets++;
        free(copy);
    }

    if (hash && !error) {
        hash = trim(hash);
        nat->hash_src = !strcmp(hash, "hash=src");
        if (!nat->hash_src && strcmp(hash, "hash=5tuple")) {
            error = xasprintf("%s: neither hash=5tuple nor hash=src", hash);
        }
    }
    if (error) {
        free(nat);
        nat = NULL;
    }
    *natp = nat;
    return error;
}

static void
format_nat(const struct layer_nat_spec *nat, struct ds *s)
{
    for (size_t i = 0; i < nat->n_targets; i++) {
        const struct nat_target *target = &nat->targets[i];
        bool brackets = nat->ipv6 && target->min_port;

        if (i) {
            ds_put_char(s, '|');
        }
        if (brackets) {
            ds_put_char(s, '[');
        }
        ipv6_format_mapped(&target->min, s);
        if (!ipv6_addr_equals(&target->min, &target->max)) {
            ds_put_char(s, '-');
            ipv6_format_mapped(&target->max, s);
        }
        if (brackets) {
            ds_put_char(s, ']');
        }
        if (target->min_port) {
            ds_put_format(s, ":%"PRIu16, target->min_port);
        }
        if (target->min_port != target->max_port) {
            ds_put_format(s, "-%"PRIu16, target->max_port);
        }
    }
    if (nat->hash_src) {
        ds_put_cstr(s, ",hash=src");
    }
}

/* Formats 'actions' in their canonical form. */
static void
format_actions(const struct layer_actions *actions, struct ds *s)
{
    bool nat = false;

    for (size_t i = 0; i < actions->n; i++) {
        const struct layer_action *action = &actions->list[i];

        switch (action->type) {
        case LA_SNAT:
        case LA_DNAT:
            ds_put_cstr(s, action->type == LA_SNAT ? "snat(" : "dnat(");
            format_nat(action->nat, s);
            ds_put_cstr(s, "),");
            nat = true;
            break;
        case LA_COUNT:
            ds_put_format(s, "count(%s),", action->counter);
            break;
        case LA_SET_DSCP:
            ds_put_format(s, "set_dscp(%"PRIu8"),", action->dscp);
            break;
        case LA_SET_MAC_SRC:
        case LA_SET_MAC_DST:
            ds_put_format(s, "set_mac(%s,"ETH_ADDR_FMT"),",
                          action->type == LA_SET_MAC_SRC ? "src" : "dst",
                          ETH_ADDR_ARGS(action->mac));
            break;
        case LA_DEC_TTL:
            ds_put_cstr(s, "dec_ttl,");
            break;
        default:
            OVS_NOT_REACHED();
        }
    }
    ds_put_cstr(s, layer_verdict_to_string(actions->verdict));
    if (actions->stateful && !nat) {
        ds_put_cstr(s, ",stateful");
    }
}

/* Parsing. */

/* Parses 's', the arguments of set_mac. */
static char * OVS_WARN_UNUSED_RESULT
parse_set_mac(char *s, struct layer_action *action)
{
    struct address_prefix mac;
    char *rest = cut(s, ',');

    s = trim(s);
    if (!strcmp(s, "src")) {
        action->type = LA_SET_MAC_SRC;
    } else if (!strcmp(s, "dst")) {
        action->type = LA_SET_MAC_DST;
    } else {
        return xstrdup("neither src nor dst");
    }

    rest = rest ? trim(rest) : s + strlen(s);
    if (!address_parse(rest, &mac) || mac.family != ADDRESS_MAC) {
        return xstrdup("not an Ethernet address");
    }
    memcpy(&action->mac, mac.bytes, sizeof action->mac);
    return NULL;
}

/* Parses an action that is no verdict, 'name' with 'args', which is NULL if
 * there are no parentheses. */
static char * OVS_WARN_UNUSED_RESULT
parse_header_action(const struct actions_parser *parser, const char *name,
                    char *args, struct layer_action *action)
{
    static const char counter_chars[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
        "0123456789_.:-";
    unsigned int number;

    if (!strcmp(name, "snat") || !strcmp(name, "dnat")) {
        action->type = *name == 's' ? LA_SNAT : LA_DNAT;
        for (size_t i = 0; i < parser->actions->n; i++) {
            if (parser->actions->list[i].type == action->type) {
                return xasprintf("second %s", name);
            }
        }
        return parse_nat(action->type == LA_DNAT, args, &action->nat);
    } else if (!strcmp(name, "count")) {
        action->type = LA_COUNT;
        if (!*args || args[strspn(args, counter_chars)]) {
            return xstrdup("invalid name of a counter");
        }
        action->counter = xstrdup(args);
    } else if (!strcmp(name, "set_dscp")) {
        action->type = LA_SET_DSCP;
        if (args[strspn(args, "0123456789")]
            || !str_to_uint(args, 10, &number) || number > 63) {
            return xstrdup("not a number from 0 to 63");
        }
        action->dscp = number;
    } else if (!strcmp(name, "set_mac")) {
        return parse_set_mac(args, action);
    } else {
        action->type = LA_DEC_TTL;
    }
    return NULL;
}

/* Parses 'text', one action. */
static char * OVS_WARN_UNUSED_RESULT
parse_action(struct actions_parser *parser, const char *text)
{
    static const char *const with_args[] = {
        "snat", "dnat", "count", "set_dscp", "set_mac",
    };
    struct layer_actions *actions = parser->actions;
    struct layer_action action = { .type = LA_DEC_TTL };
    enum layer_verdict verdict;
    bool takes_args = false;
    char *error = NULL;
    char *problem = NULL;
    char *copy = xstrdup(text);
    char *args = cut(copy, '(');
    char *name = trim(copy);

    for (size_t i = 0; i < ARRAY_SIZE(with_args); i++) {
        takes_args = takes_args || !strcmp(name, with_args[i]);
    }

    if (args) {
        size_t len = strlen(args);

        if (!len || args[len - 1] != ')') {
            problem = xstrdup("missing )");
            goto exit;
        }
        args[len - 1] = '\0';
        args = trim(args);
    }
    if (strchr(name, ')') || (args && strpbrk(args, "()"))) {
        problem = xstrdup("stray parenthesis");
    } else if (is_future_action(name)) {
        error = xasprintf("%s: not supported yet", name);
    } else if (takes_args != (args != NULL)
               && (takes_args || verdict_from_string(name, &verdict)
                   || !strcmp(name, "stateful") || !strcmp(name, "dec_ttl"))) {
        problem = xasprintf("%s %s arguments", name,
                            takes_args ? "needs" : "takes no");
    } else if (verdict_from_string(name, &verdict)) {
        if (parser->has_verdict) {
            error = xasprintf("%s: second verdict, after %s", name,
                              layer_verdict_to_string(actions->verdict));
        }
        parser->has_verdict = true;
        actions->verdict = verdict;
    } else if (!strcmp(name, "stateful")) {
        actions->stateful = true;
        parser->stateful = parser->stateful ? parser->stateful : "stateful";
    } else if (takes_args || !strcmp(name, "dec_ttl")) {
        problem = parse_header_action(parser, name, args, &action);
        if (!problem) {
            if (actions->n >= parser->allocated) {
                actions->list = x2nrealloc(actions->list, &parser->allocated,
                                           sizeof *actions->list);
            }
            actions->list[actions->n++] = action;
        }
        if (!problem
            && (action.type == LA_SNAT || action.type == LA_DNAT)) {
            actions->stateful = true;
            parser->stateful = action.type == LA_SNAT ? "snat" : "dnat";
        }
    } else {
        error = xasprintf("%s: unknown action", *name ? name : text);
    }

exit:
    if (problem) {
        error = xasprintf("%s: %s", text, problem);
        free(problem);
    }
    free(copy);
    return error;
}

/* Splits 'text' at the commas outside of parentheses and parses each part. */
static char * OVS_WARN_UNUSED_RESULT
parse_list(struct actions_parser *parser, const char *text)
{
    char *copy = xstrdup(text);
    char *start = trim(copy);
    char *error = NULL;
    bool parentheses = false;

    for (char *p = start; !error; p++) {
        if (*p == '(' || *p == ')') {
            parentheses = *p == '(';
        } else if (!*p || (*p == ',' && !parentheses)) {
            bool last = !*p;

            *p = '\0';
            start = trim(start);
            error = (*start ? parse_action(parser, start)
                     : xasprintf("%s%sempty action", text, *text ? ": " : ""));
            if (last) {
                break;
            }
            start = p + 1;
        }
    }
    free(copy);
    return error;
}

/* Checks that the actions go together, and adds the verdict that they imply.
 * The one of a rule that translates addresses is "allow". */
static char * OVS_WARN_UNUSED_RESULT
check_verdict(struct actions_parser *parser)
{
    struct layer_actions *actions = parser->actions;

    if (!parser->stateful) {
        return NULL;
    } else if (!parser->has_verdict && strcmp(parser->stateful, "stateful")) {
        actions->verdict = LV_ALLOW;
    } else if (!parser->has_verdict) {
        return xstrdup("stateful: needs allow or allow_continue");
    } else if (actions->verdict != LV_ALLOW
               && actions->verdict != LV_ALLOW_CONTINUE) {
        return xasprintf("%s: not together with %s", parser->stateful,
                         layer_verdict_to_string(actions->verdict));
    }
    return NULL;
}

/* Parses 'text' into new actions and stores them in '*actionsp', owned by the
 * caller.
 *
 * Returns NULL if successful, otherwise an error message that begins with the
 * part of 'text' that it is about, which the caller must free(), and sets
 * '*actionsp' to NULL. */
char *
layer_actions_parse(const char *text, struct layer_actions **actionsp)
{
    struct layer_actions *actions = xzalloc(sizeof *actions);
    struct actions_parser parser = { .actions = actions };

    char *error = parse_list(&parser, text);

    if (!error) {
        error = check_verdict(&parser);
    }
    if (error) {
        layer_actions_destroy(actions);
        *actionsp = NULL;
        return error;
    }

    struct ds s = DS_EMPTY_INITIALIZER;

    format_actions(actions, &s);
    actions->text = ds_steal_cstr(&s);
    *actionsp = actions;
    return NULL;
}

/* Frees 'actions', which may be NULL, and what they own. */
void
layer_actions_destroy(struct layer_actions *actions)
{
    if (!actions) {
        return;
    }
    for (size_t i = 0; i < actions->n; i++) {
        struct layer_action *action = &actions->list[i];

        if (action->type == LA_SNAT || action->type == LA_DNAT) {
            free(action->nat);
        } else if (action->type == LA_COUNT) {
            free(action->counter);
        }
    }
    free(actions->list);
    free(actions->text);
    free(actions);
}

/* Appends the canonical text of 'actions' to 's': the verdict is spelt out and
 * comes last.  layer_actions_parse() makes of it the same actions with the
 * same text. */
void
layer_actions_format(const struct layer_actions *actions, struct ds *s)
{
    ds_put_cstr(s, actions->text);
}
