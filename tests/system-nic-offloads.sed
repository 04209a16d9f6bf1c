# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at:
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

# What differs between Open vSwitch's own tests of offload by tc and by DPDK
# and the same tests with emulated NICs, for system-nic-offloads.at.

# Any provider's flows will do.
s/type=tc,offloaded/type=offloaded/g
s/type=dpdk,offloaded/type=offloaded/g
s/type=tc\b/type=offloaded/g
# What an emulated NIC does not take whole it leaves to software.
s/type=partially-offloaded/type=non-offloaded/g

# The kernel's datapath lists empty fields, ours the packet type.
/^m4_define(\[DUMP_CLEAN_SORTED\]/s/| sort/| strip_ptype | sort/
s/| strip_recirc | strip_used/| strip_ptype &/
s/,eth(),eth_type/,eth_type/

# tc counts the bytes of IP packets, we those of frames.
s/packets:9, bytes:756,/packets:9, bytes:882,/
# Our flows keep their statistics when they change.
s/packets:10, bytes:980,\(.*actions:trunc\)/packets:19, bytes:1862,\1/
s/packets:10, bytes:840,/packets:29, bytes:2842,/
s/packets:10, bytes:330,/packets:10, bytes:470,/
s/byte_in_count:377/byte_in_count:517/
s/packet_count:9 byte_count:0/packet_count:9 byte_count:423/
# How many packets a meter drops depends on how busy the machine is.
/meter-stats br0/s/duration:\[\[0-9\]\]\./duration:[[0-9]]*./
/meter-stats br0/s/0\.001s\/'/0.001s\/;s\/packet_count:[[0-9]]* byte_count:[[0-9]]*$\/packet_count:9 byte_count:423\/'/
# A hardware NIC's frames have 60 bytes at least.
s/packets:50, bytes:3000,/packets:50, bytes:2100,/

# What tc can do is not the question.
/^AT_SKIP_IF(.*"probe tc: /d
/^AT_CHECK(\[tc -d filter show dev .*csum (iph)/d
/^CHECK_TC_INGRESS_PPS()/d

# The kernel may have no such tunnels.
/^dnl Set up ipip tunnel in NS/a\
AT_SKIP_IF([! ip netns exec at_ns0 ip tunnel add ipip1 remote 10.1.1.3])

# Pings take their time.
s/other_config:max-idle=20000/other_config:max-idle=120000/

# The kernel device has a name of its own.
s/ip link del dev ovs-p0/ip link del dev n-p0/
s/peer name ovs-p0 /peer name n-p0 /
s/ip link set dev ovs-p0 up/ip link set dev n-p0 up/
