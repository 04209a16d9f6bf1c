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

#ifndef LAYERED_CONN_STATE_H
#define LAYERED_CONN_STATE_H 1

#include <stdbool.h>
#include <stdint.h>

struct smap;

/* Connection state
 * ================
 *
 * The state of a connection as far as the headers of its packets show it: of
 * TCP, what the flags of both directions say, without sequence numbers, as
 * most packets of a connection are never seen; of other protocols, whether
 * there was an answer.  And how long a connection stays in a state without a
 * packet.
 *
 * Pure functions and plain data, for any thread. */

/* The flags that tell the state of a TCP connection. */
#define TCP_STATE_FLAGS (TCP_SYN | TCP_FIN | TCP_RST)

enum conn_state {
    CS_TCP_SYN_SENT,
    CS_TCP_SYN_RECV,
    CS_TCP_ESTABLISHED,
    CS_TCP_FIN_WAIT,            /* One side has sent FIN. */
    CS_TCP_TIME_WAIT,           /* Both have. */
    CS_TCP_CLOSED,              /* RST. */
    CS_UDP_FIRST,               /* UDP, SCTP and others. */
    CS_UDP_SINGLE,              /* Several packets, one direction. */
    CS_UDP_MULTIPLE,            /* Both directions. */
    CS_ICMP_FIRST,
    CS_ICMP_REPLY,
    N_CONN_STATES
};

/* What is known of a connection.  Small, so that it can be replaced
 * atomically. */
struct conn_progress {
    uint8_t state;              /* enum conn_state. */
    bool fin[2];                /* FIN seen of the [0] opener, [1] peer. */
    bool syn_peer;              /* The peer has sent a SYN. */
};

const char *conn_state_to_string(enum conn_state);

void conn_progress_init(struct conn_progress *, uint8_t nw_proto, bool loose);
bool conn_progress_packet(struct conn_progress *, uint8_t nw_proto,
                          uint16_t tcp_flags, bool reply);
bool conn_progress_can_cache(const struct conn_progress *, bool reply);
bool conn_progress_is_half_open(const struct conn_progress *);
bool conn_progress_may_reopen(const struct conn_progress *, uint8_t nw_proto,
                              uint16_t tcp_flags, bool reply);

/* Whether TCP flags are those of a packet that opens a connection. */
bool tcp_flags_open(uint16_t tcp_flags);

/* Timeouts, in seconds, by state. */
struct conn_timeouts {
    uint32_t seconds[N_CONN_STATES];
};

extern const struct conn_timeouts conn_timeouts_default;

char *conn_timeouts_parse(const struct smap *, struct conn_timeouts *)
    __attribute__((warn_unused_result));

#endif /* conn-state.h */
