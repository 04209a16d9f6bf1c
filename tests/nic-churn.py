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

"""An hour of TCP connections, in simulated time, through an emulated NIC.

    nic-churn.py STEPS CONNECTIONS

Divides the hour into STEPS, in each of which vm1 opens CONNECTIONS to vm2.
These exchange data at once and after some seconds, so that they get to the
datapath and the NIC; then some close, some are reset, and some go on in the
next step, after a pause that is longer than some timeouts.  Every frame has to
arrive, once and as it was sent.  time/stop must be in effect."""

import collections
import glob
import json
import os
import socket
import struct
import sys
import time

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
HOUR = 3600
MAX_BURST = 90                  # A dummy netdev holds 100 frames.
LENGTH = 60


class Vswitchd:
    def __init__(self):
        path, = glob.glob(os.path.join(os.environ['OVS_RUNDIR'],
                                       'ovs-vswitchd.*.ctl'))
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.decoder = json.JSONDecoder()

    def call(self, method, *args):
        request = {'id': 0, 'method': method, 'params': args}
        self.socket.sendall(json.dumps(request).encode())
        data = b''
        while True:
            data += self.socket.recv(65536)
            try:
                reply = json.loads(data)
                break
            except ValueError:
                pass
        if reply['error']:
            sys.exit('%s: %s' % (method, reply['error']))
        return reply['result']


def fold(data):
    n = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while n >> 16:
        n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff


def tcp_frame(src, sport, dst, dport, flags, seq):
    addresses = bytes([10, 0, 0, src, 10, 0, 0, dst])
    tcp = struct.pack('!HHIIBBHHH', sport, dport, seq, 0, 0x50, flags, 1000,
                      0, 0) + b'data00'
    csum = fold(addresses + struct.pack('!HH', 6, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack('!H', csum) + tcp[18:]
    ip = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0)
    csum = fold(ip + addresses)
    ip = ip[:10] + struct.pack('!H', csum) + addresses
    mac = bytes([0x50, 0x54, 0, 0, 0])
    frame = mac + bytes([dst]) + mac + bytes([src]) + b'\x08\0' + ip + tcp
    assert len(frame) == LENGTH
    return frame


class Capture:
    """What has been sent to a VM, as it becomes available."""

    def __init__(self, name):
        self.file = open(name, 'rb')
        self.file.seek(24)
        self.data = b''

    def read(self, n):
        """Returns the next N frames."""
        size = n * (16 + LENGTH)
        deadline = time.time() + 30
        while len(self.data) < size:
            self.data += self.file.read()
            if len(self.data) < size:
                if time.time() > deadline:
                    break
                time.sleep(0.0005)
        frames = []
        while self.data and len(frames) < n:
            length, = struct.unpack_from('=I', self.data, 8)
            frames.append(self.data[16:16 + length])
            self.data = self.data[16 + length:]
        return frames


class Side:
    def __init__(self, port, peer, host, peer_host):
        self.link = port + '-link'
        self.capture = Capture(peer + '.pcap')
        self.host, self.peer_host = host, peer_host


class Churn:
    def __init__(self):
        self.vswitchd = Vswitchd()
        self.client = Side('vm1', 'vm2', 1, 2)
        self.server = Side('vm2', 'vm1', 2, 1)
        self.n_frames = 0
        self.now = 0
        self.seq = 0

    def exchange(self, side, connections, flags):
        """Has 'side' of each of the connections, which are ports, send a
        frame."""
        for i in range(0, len(connections), MAX_BURST):
            frames = []
            for port in connections[i:i + MAX_BURST]:
                self.seq += 1
                ports = (port, 80) if side is self.client else (80, port)
                frames.append(tcp_frame(side.host, ports[0], side.peer_host,
                                        ports[1], flags, self.seq))
            self.vswitchd.call('netdev-dummy/receive', side.link,
                               *(frame.hex() for frame in frames))
            got = side.capture.read(len(frames))
            if collections.Counter(got) != collections.Counter(frames):
                lost = set(frames) - set(got)
                sys.exit('after %d s and %d frames: %d of %d frames lost, '
                         'such as %s; got %s'
                         % (self.now / 1000, self.n_frames, len(lost),
                            len(frames),
                            min(lost).hex() if lost else 'none',
                            got[0].hex() if got else 'nothing'))
            self.n_frames += len(frames)

    def warp(self, ms):
        self.vswitchd.call('time/warp', str(ms))
        self.now += ms

    def run(self, n_steps, n_connections):
        step_ms = HOUR * 1000 // n_steps
        old = []
        next_port = 1024
        for step in range(n_steps):
            ports = range(next_port, next_port + n_connections)
            next_port += n_connections
            new = list(ports)
            self.exchange(self.client, new, SYN)
            self.exchange(self.server, new, SYN | ACK)
            self.exchange(self.client, new, ACK)
            busy = new + old
            self.exchange(self.server, busy, PSH | ACK)
            self.exchange(self.client, busy, PSH | ACK)
            self.warp(1200)
            self.exchange(self.server, busy, ACK)
            self.exchange(self.client, busy, PSH | ACK)
            self.warp(1200)
            self.exchange(self.client, busy, PSH | ACK)
            last = step == n_steps - 1
            n_stay = 0 if last else n_connections // 4
            stay, leave = new[:n_stay], new[n_stay:] + old
            closed, reset = leave[::2], leave[1::2]
            self.exchange(self.client, closed, FIN | ACK)
            self.exchange(self.server, closed, FIN | ACK)
            self.exchange(self.client, closed, ACK)
            self.exchange(self.server, reset, RST | ACK)
            old = stay
            self.warp(step_ms - 2400)
        print(self.n_frames)


def main():
    Churn().run(int(sys.argv[1]), int(sys.argv[2]))


if __name__ == '__main__':
    main()
