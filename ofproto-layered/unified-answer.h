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

#ifndef LAYERED_UNIFIED_ANSWER_H
#define LAYERED_UNIFIED_ANSWER_H 1

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dpif_backer;

/* Answers to misses
 * =================
 *
 * Forwards the packets of connections that no flow of the datapath matches:
 * by their unified flow, or, if there is none, by taking the packet through
 * the layers and adding the forwarding that is known, without a translation.
 * What is left to translation is what does not depend on a connection and so
 * becomes a wide flow of the datapath; the packets of connections that are
 * admitted to the datapath (see admission.h); and the unusual: fragments, ICMP
 * errors, refusals that want an answer, bridges that do more than to forward.
 *
 *
 * Thread-safety
 * =============
 *
 * Datapaths are added and removed by the main thread.  Answers are given in
 * any thread that polls a port of the userspace datapath, or handles upcalls
 * of another one, which translates what is left to translation right after. */

void unified_answer_enable(struct dpif_backer *);
void unified_answer_disable(struct dpif_backer *);

/* For the thread of the configuration, once a second.  Quiesces. */
void unified_answer_age(long long int now);

/* Has all statistics up to date and lets go of what is outdated.  In any
 * thread. */
void unified_answer_run(void);

struct unified_sizes {
    size_t flows, routes, forwardings;
};

struct unified_sizes unified_answer_get_sizes(void);

#endif /* unified-answer.h */
