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

#include "layered/ofproto-layered/conn-state.h"

#include <inttypes.h>

#include "packets.h"
#include "smap.h"
#include "util.h"

/* The longest timeout that can be configured, in seconds. */
#define MAX_TIMEOUT (INT64_C(1) << 31)

/* Timeouts of Open vSwitch's userspace connection tracking, which are those of
 * 'ct_dpif_netdev_tp_def' in lib/conntrack-tp.c. */
const struct conn_timeouts conn_timeouts_default = {
    .seconds = {
        [CS_TCP_SYN_SENT] = 30,
        [CS_TCP_SYN_RECV] = 30,
        [CS_TCP_ESTABLISHED] = 24 * 60 * 60,
        [CS_TCP_FIN_WAIT] = 15 * 60,
        [CS_TCP_TIME_WAIT] = 45,
        [CS_TCP_CLOSED] = 30,
        [CS_UDP_FIRST] = 60,
        [CS_UDP_SINGLE] = 60,
        [CS_UDP_MULTIPLE] = 30,
        [CS_ICMP_FIRST] = 60,
        [CS_ICMP_REPLY] = 30,
    },
};

/* The keys of "timeouts" in table CT_Timeout_Policy of vswitch.ovsschema.
 *
 * Only the kernel's connection tracking knows the keys with 'fallback' and
 * those without a state.  A state that we do not tell apart from another one
 * takes over a fallback if its own key is absent; the others have nothing that
 * corresponds to them, and are ignored. */
static const struct timeout_key {
    const char *name;
    int state;                  /* enum conn_state, or -1. */
    bool fallback;
} timeout_keys[] = {
    { "tcp_syn_sent", CS_TCP_SYN_SENT, false },
    { "tcp_syn_recv", CS_TCP_SYN_RECV, false },
    { "tcp_established", CS_TCP_ESTABLISHED, false },
    { "tcp_fin_wait", CS_TCP_FIN_WAIT, false },
    { "tcp_time_wait", CS_TCP_TIME_WAIT, false },
    { "tcp_close", CS_TCP_CLOSED, false },
    { "udp_first", CS_UDP_FIRST, false },
    { "udp_single", CS_UDP_SINGLE, false },
    { "udp_multiple", CS_UDP_MULTIPLE, false },
    { "icmp_first", CS_ICMP_FIRST, false },
    { "icmp_reply", CS_ICMP_REPLY, false },

    { "tcp_syn_sent2", CS_TCP_SYN_RECV, true }, /* Simultaneous open. */
    { "tcp_close_wait", CS_TCP_FIN_WAIT, true },
    { "tcp_last_ack", CS_TCP_TIME_WAIT, true },
    { "tcp_retransmit", -1, true },
    { "tcp_unack", -1, true },
};

/* Returns the name of 'state', which is unique among the states of its
 * protocol. */
const char *
conn_state_to_string(enum conn_state state)
{
    switch (state) {
    case CS_TCP_SYN_SENT: return "syn-sent";
    case CS_TCP_SYN_RECV: return "syn-recv";
    case CS_TCP_ESTABLISHED: return "established";
    case CS_TCP_FIN_WAIT: return "fin-wait";
    case CS_TCP_TIME_WAIT: return "time-wait";
    case CS_TCP_CLOSED: return "closed";
    case CS_UDP_FIRST: return "first";
    case CS_UDP_SINGLE: return "single";
    case CS_UDP_MULTIPLE: return "multiple";
    case CS_ICMP_FIRST: return "first";
    case CS_ICMP_REPLY: return "reply";
    case N_CONN_STATES:
    default: OVS_NOT_REACHED();
    }
}

static bool
is_icmp_proto(uint8_t nw_proto)
{
    return nw_proto == IPPROTO_ICMP || nw_proto == IPPROTO_ICMPV6;
}

/* Initializes '*progress' for a connection that has just been opened by a
 * packet of 'nw_proto'.
 *
 * The opening packet is accounted for: it must not be passed to
 * conn_progress_packet(), except that of a TCP connection with 'loose', which
 * should, as it may have FIN or RST.  With 'loose', which has no meaning for
 * other protocols, a TCP connection starts as established. */
void
conn_progress_init(struct conn_progress *progress, uint8_t nw_proto,
                   bool loose)
{
    memset(progress, 0, sizeof *progress);
    if (nw_proto == IPPROTO_TCP) {
        progress->state = loose ? CS_TCP_ESTABLISHED : CS_TCP_SYN_SENT;
        progress->syn_peer = loose;
    } else {
        progress->state = (is_icmp_proto(nw_proto)
                           ? CS_ICMP_FIRST : CS_UDP_FIRST);
    }
}

static void
tcp_progress(struct conn_progress *progress, uint16_t tcp_flags, bool reply)
{
    if (progress->state == CS_TCP_CLOSED) {
        return;
    } else if (tcp_flags & TCP_RST) {
        progress->state = CS_TCP_CLOSED;
        return;
    }

    if (tcp_flags & TCP_SYN && reply) {
        progress->syn_peer = true;
    }
    /* A FIN before the peer has agreed to the connection does not count.  It
     * would keep a half-open connection for long. */
    if (tcp_flags & TCP_FIN && progress->syn_peer) {
        progress->fin[reply] = true;
    }

    if (progress->fin[0] && progress->fin[1]) {
        progress->state = CS_TCP_TIME_WAIT;
    } else if (progress->fin[0] || progress->fin[1]) {
        progress->state = CS_TCP_FIN_WAIT;
    } else if (progress->state == CS_TCP_SYN_SENT && progress->syn_peer) {
        progress->state = CS_TCP_SYN_RECV;
    } else if (progress->state == CS_TCP_SYN_RECV
               && tcp_flags & TCP_ACK && !reply) {
        progress->state = CS_TCP_ESTABLISHED;
    }
}

/* Takes into account a packet of the connection, other than the one that
 * opened it, sent by the opener or, if 'reply' is true, by its peer.
 * 'tcp_flags' are ignored unless 'nw_proto', which must be that of the
 * connection, is TCP.
 *
 * Returns true if '*progress' changed. */
bool
conn_progress_packet(struct conn_progress *progress, uint8_t nw_proto,
                     uint16_t tcp_flags, bool reply)
{
    struct conn_progress old = *progress;

    if (nw_proto == IPPROTO_TCP) {
        tcp_progress(progress, tcp_flags, reply);
    } else if (is_icmp_proto(nw_proto)) {
        if (reply) {
            progress->state = CS_ICMP_REPLY;
        }
    } else if (reply) {
        progress->state = CS_UDP_MULTIPLE;
    } else if (progress->state == CS_UDP_FIRST) {
        progress->state = CS_UDP_SINGLE;
    }
    return (progress->state != old.state
            || progress->fin[0] != old.fin[0]
            || progress->fin[1] != old.fin[1]
            || progress->syn_peer != old.syn_peer);
}

/* Returns true if a flow that hides further packets of the connection may be
 * installed, for the opener's packets or, if 'reply' is true, for the peer's.
 * That is, if no such packet, without SYN, FIN and RST in the case of TCP, can
 * change '*progress'.
 *
 * A connection that has not been answered yet may thus have a flow for the
 * opener's direction, but for the other one only after the first answer. */
bool
conn_progress_can_cache(const struct conn_progress *progress, bool reply)
{
    switch ((enum conn_state) progress->state) {
    case CS_TCP_SYN_SENT:
    case CS_TCP_SYN_RECV:
    case CS_UDP_FIRST:
        return false;

    case CS_UDP_SINGLE:
    case CS_ICMP_FIRST:
        return !reply;

    case CS_TCP_ESTABLISHED:
    case CS_TCP_FIN_WAIT:
    case CS_TCP_TIME_WAIT:
    case CS_TCP_CLOSED:
    case CS_UDP_MULTIPLE:
    case CS_ICMP_REPLY:
        return true;

    case N_CONN_STATES:
    default:
        OVS_NOT_REACHED();
    }
}

/* Returns true for a TCP connection whose handshake is not complete, and for
 * another one of which there has been a single packet, or of ICMP, no answer.
 * Whoever sends such packets to nobody in particular makes a lot of these. */
bool
conn_progress_is_half_open(const struct conn_progress *progress)
{
    return (progress->state == CS_TCP_SYN_SENT
            || progress->state == CS_TCP_SYN_RECV
            || progress->state == CS_UDP_FIRST
            || progress->state == CS_ICMP_FIRST);
}

/* Returns true if a packet of the connection does not belong to it any more,
 * but opens a new one with the same tuple (RFC 9293, section 3.6.1, lets a SYN
 * do so in TIME-WAIT).  The parameters are those of conn_progress_packet(). */
bool
conn_progress_may_reopen(const struct conn_progress *progress,
                         uint8_t nw_proto, uint16_t tcp_flags, bool reply)
{
    return (nw_proto == IPPROTO_TCP && !reply && tcp_flags_open(tcp_flags)
            && (progress->state == CS_TCP_TIME_WAIT
                || progress->state == CS_TCP_CLOSED));
}

/* Returns true if 'tcp_flags' are those of a packet that opens a connection:
 * SYN without ACK, FIN and RST.  ECN sets other flags too (RFC 3168). */
bool
tcp_flags_open(uint16_t tcp_flags)
{
    return (tcp_flags & (TCP_SYN | TCP_ACK | TCP_FIN | TCP_RST)) == TCP_SYN;
}

static const struct timeout_key *
find_timeout_key(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(timeout_keys); i++) {
        if (!strcmp(name, timeout_keys[i].name)) {
            return &timeout_keys[i];
        }
    }
    return NULL;
}

/* Parses 'config', whose keys are those of "timeouts" in table
 * CT_Timeout_Policy and whose values are seconds, from 1 to 2**31.  States
 * without a key have the default.
 *
 * The keys "tcp_syn_sent2", "tcp_close_wait" and "tcp_last_ack", which Open
 * vSwitch knows only for the kernel's connection tracking, stand in for
 * "tcp_syn_recv", "tcp_fin_wait" and "tcp_time_wait" where these are absent.
 * "tcp_retransmit" and "tcp_unack" are accepted and have no effect.
 *
 * Returns NULL if successful, otherwise an error that names the key, which the
 * caller must free.  '*timeouts' is then the default. */
char *
conn_timeouts_parse(const struct smap *config, struct conn_timeouts *timeouts)
{
    bool set[N_CONN_STATES] = { false };
    const struct smap_node **nodes = smap_sort(config);
    char *error = NULL;

    *timeouts = conn_timeouts_default;
    for (size_t i = 0; i < smap_count(config); i++) {
        const struct timeout_key *key = find_timeout_key(nodes[i]->key);
        long long int value;

        if (!key) {
            error = xasprintf("%s: unknown timeout", nodes[i]->key);
            break;
        } else if (!str_to_llong(nodes[i]->value, 10, &value)
                   || value < 1 || value > MAX_TIMEOUT) {
            error = xasprintf("%s: \"%s\" is not a number of seconds from 1 "
                              "to %"PRId64, nodes[i]->key, nodes[i]->value,
                              MAX_TIMEOUT);
            break;
        } else if (key->state >= 0 && !(key->fallback && set[key->state])) {
            timeouts->seconds[key->state] = value;
            set[key->state] |= !key->fallback;
        }
    }
    free(nodes);
    if (error) {
        *timeouts = conn_timeouts_default;
    }
    return error;
}
