#!/usr/bin/env python3
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

"""What the tests of the emulated NIC say about captured frames.

    nic-frames.py same PORT=N...
        Succeeds if N frames are in PORT.pcap, what left a function of the NIC,
        and the same frames in sPORT.pcap, what left its twin that is no part
        of a NIC; frames of each flow in the same order.

    nic-frames.py repeated PORT=N...
        Succeeds if N frames are in PORT.pcap, and all are the same.

    nic-frames.py valid PORT=N...
        Succeeds if N frames are in PORT.pcap.

These check the checksums of the frames, inside of tunnels too.

    nic-frames.py reply PORT
        Prints the last frame of PORT.pcap with the outermost addresses of
        Ethernet and IP the other way round."""

import struct
import sys


class Wrong(Exception):
    pass


def read_pcap(name):
    with open(name, 'rb') as f:
        data = f.read()
    frames = []
    ofs = 24
    while ofs + 16 <= len(data):
        length, = struct.unpack_from('=I', data, ofs + 8)
        frames.append(data[ofs + 16:ofs + 16 + length])
        ofs += 16 + length
    return frames


def add_up(data):
    if len(data) % 2:
        data += b'\0'
    return sum(struct.unpack('!%dH' % (len(data) // 2), data))


def check_sum(what, data, pseudo=b''):
    if add_up(pseudo + data) % 65535:
        raise Wrong('checksum of %s' % what)


TCP, UDP, GRE, ICMP, ICMP6, SCTP = 6, 17, 47, 1, 58, 132
VXLAN_PORT, GENEVE_PORT = 4789, 6081


def check_l4(proto, l4, addresses):
    pseudo = addresses + struct.pack('!IHBB', len(l4), 0, 0, proto)
    if proto == TCP:
        check_sum('TCP', l4, pseudo)
    elif proto == UDP:
        if l4[6:8] != b'\0\0':
            check_sum('UDP', l4, pseudo)
        port, = struct.unpack_from('!H', l4, 2)
        if port == VXLAN_PORT:
            check_frame(l4[16:])
        elif port == GENEVE_PORT:
            check_frame(l4[16 + 4 * (l4[8] & 0x3f):])
    elif proto == GRE:
        flags, proto = struct.unpack_from('!HH', l4)
        if flags & 0x8000:
            check_sum('GRE', l4)
        if proto == 0x6558:
            check_frame(l4[4 + sum(4 for bit in (0x8000, 0x2000, 0x1000)
                                   if flags & bit):])
    elif proto == ICMP:
        check_sum('ICMP', l4)
    elif proto == ICMP6:
        check_sum('ICMPv6', l4, pseudo)


def split_frame(frame):
    """Returns the Ethernet header of a frame, its innermost type, and what
    follows."""
    ofs = 12
    eth_type, = struct.unpack_from('!H', frame, ofs)
    while eth_type in (0x8100, 0x88a8):
        ofs += 4
        eth_type, = struct.unpack_from('!H', frame, ofs)
    return frame[:ofs + 2], eth_type, frame[ofs + 2:]


def check_frame(frame):
    _, eth_type, ip = split_frame(frame)
    if eth_type == 0x0800:
        ihl = 4 * (ip[0] & 15)
        length, frag = struct.unpack_from('!HxxH', ip, 2)
        if length > len(ip):
            raise Wrong('length of IPv4')
        check_sum('IPv4', ip[:ihl])
        if not frag & 0x3fff:
            check_l4(ip[9], ip[ihl:length], ip[12:20])
    elif eth_type == 0x86dd:
        length, proto = struct.unpack_from('!HB', ip, 4)
        if length + 40 > len(ip):
            raise Wrong('length of IPv6')
        check_l4(proto, ip[40:40 + length], ip[8:40])


def read_frames(port, n):
    frames = read_pcap(port + '.pcap')
    if len(frames) != n:
        raise Wrong('%s: %d frames, not %d' % (port, len(frames), n))
    for i, frame in enumerate(frames, 1):
        try:
            check_frame(frame)
        except Wrong as e:
            raise Wrong('%s: frame %d: %s: %s' % (port, i, e, frame.hex()))
    return frames


def get_flow(frame):
    """Returns what tells the flow of a frame from others."""
    eth, eth_type, ip = split_frame(frame)
    if eth_type == 0x0800:
        return eth, ip[9], ip[12:24]
    elif eth_type == 0x86dd:
        return eth, ip[6], ip[8:44]
    return eth, 0, b''


def by_flow(frames):
    return sorted(frames, key=get_flow)


def same(port, n):
    ours = by_flow(read_frames(port, n))
    twins = by_flow(read_frames('s' + port, n))
    for i, (a, b) in enumerate(zip(ours, twins), 1):
        if a != b:
            raise Wrong('%s: frame %d differs:\n  %s\n  %s'
                        % (port, i, a.hex(), b.hex()))


def repeated(port, n):
    frames = read_frames(port, n)
    for i, frame in enumerate(frames, 1):
        if frame != frames[0]:
            raise Wrong('%s: frame %d differs:\n  %s\n  %s'
                        % (port, i, frame.hex(), frames[0].hex()))


def reply(port):
    frame = read_pcap(port + '.pcap')[-1]
    size, ofs = {0x0800: (4, 26), 0x86dd: (16, 22)}[
        struct.unpack_from('!H', frame, 12)[0]]
    src, dst = frame[ofs:ofs + size], frame[ofs + size:ofs + 2 * size]
    print((frame[6:12] + frame[:6] + frame[12:ofs] + dst + src
           + frame[ofs + 2 * size:]).hex())


def main():
    if sys.argv[1] == 'reply':
        reply(sys.argv[2])
        return
    command = {'same': same, 'repeated': repeated,
               'valid': read_frames}[sys.argv[1]]
    try:
        for arg in sys.argv[2:]:
            port, n = arg.split('=')
            command(port, int(n))
    except Wrong as e:
        sys.exit(str(e))


if __name__ == '__main__':
    main()
