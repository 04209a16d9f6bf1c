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

#ifndef NETDEV_LOADGEN_H
#define NETDEV_LOADGEN_H 1

/* Network devices of type "loadgen", which are sources and sinks of packets
 * for benchmarks.  See loadgen.h.  Interface:options are:
 *
 *   role     "vm" or "wire", required.
 *   vm       Number of the machine, 0 to 31.  Required for role "vm".  Its MAC
 *            address is 02:4c:47:00:00:NN.
 *   wire     Number of the wire that the machine sends to, or that the port
 *            is, 0 to 31, 0 unless given.  Its MAC address is
 *            02:4c:47:00:ff:NN.
 *   n_rxq    Number of queues that the wire receives from, 1 to 32, 1 unless
 *            given.  Each machine's packets are in one of them.
 *   verify-checksums
 *            If "true", the device has all checksums completed and verifies
 *            them.  Otherwise it says, as hardware would, that it completes
 *            them itself, and that those of what it receives are good. */

void netdev_loadgen_register(void);

#endif /* netdev-loadgen.h */
