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

"""Real traffic for utilities/benchmark: a machine and a server beyond the wire
as network namespaces, on a veth pair each, whose other end Open vSwitch drives
with AF_XDP.  The kernel's TCP at both ends takes most of the time, so what
matters is what the PMD thread takes for it.

Run as a program, it is the client or the server in such a namespace."""

import json
import os
import select
import socket
import subprocess
import sys
import time

import bench_switch
import private_ovs

PORTS = (bench_switch.SERVICE_PORT, bench_switch.BACKEND_PORT)


def run(*command):
    try:
        subprocess.run(command, check=True, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, universal_newlines=True)
    except (OSError, subprocess.CalledProcessError) as e:
        raise private_ovs.Error('%s: %s' % (
            ' '.join(command), (getattr(e, 'stdout', '') or e).strip()))


class Network:
    """The namespaces, which are gone with the namespace that all is in.  Use
    as a context."""

    def __enter__(self):
        inside, outside = bench_switch.machine(0)
        self.add('vm', 'vm0', bench_switch.mac(0),
                 inside.replace('.0/24', '.2/24'), '10.0.0.1',
                 bench_switch.WIRE_MAC)
        self.add('wire', 'wire', bench_switch.WIRE_MAC, '192.0.2.1/24',
                 '192.0.2.2', bench_switch.mac(0))
        for network in '198.18.0.0/16', '198.19.0.0/16':
            run('ip', '-n', 'bench-wire', 'route', 'add', 'local', network,
                'dev', 'lo')
        return self

    def add(self, name, port, mac, address, gateway, gateway_mac):
        ns = 'bench-' + name
        ip = ('ip', '-n', ns)
        run('ip', 'netns', 'add', ns)
        run('ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0',
            'netns', ns)
        # AF_XDP does not carry checksums to be completed, nor large segments.
        for command in (('ip', 'netns', 'exec', ns), 'eth0'), ((), port):
            for feature in 'tx', 'tso', 'gso':
                run(*command[0], 'ethtool', '-K', command[1], feature, 'off')
        run(*ip, 'link', 'set', 'lo', 'up')
        run(*ip, 'link', 'set', 'eth0', 'address', mac, 'up')
        run(*ip, 'addr', 'add', address, 'dev', 'eth0')
        run(*ip, 'neigh', 'add', gateway, 'lladdr', gateway_mac, 'dev', 'eth0')
        run(*ip, 'route', 'add', 'default', 'via', gateway)
        run('ip', 'link', 'set', port, 'up')

    def start(self, name, *args):
        return subprocess.Popen(
            ['ip', 'netns', 'exec', 'bench-' + name, sys.executable,
             os.path.abspath(__file__)] + list(map(str, args)),
            stdout=subprocess.PIPE, universal_newlines=True)

    def __exit__(self, *_args):
        for name in 'vm', 'wire':
            subprocess.run(['ip', 'netns', 'del', 'bench-' + name])


def ports():
    """Arguments of ovs-vsctl that set the interfaces up."""
    return [arg for name in ('vm0', 'wire') for arg in (
        '--', 'set', 'interface', name, 'type=afxdp',
        'options:xdp-mode=native')]


def measure(network, switch, what, seconds):
    """Has the machine open connections or send bytes.  Returns how many for
    each second, the cycles that the PMD thread was busy, the packets that it
    received, and how many connections or bytes in all."""
    server = network.start('wire', 'server')
    try:
        server.stdout.readline()
        meter = bench_switch.Meter(switch)
        client = network.start('vm', what, seconds)
        output, _ = client.communicate(timeout=seconds + 60)
        if client.returncode:
            raise private_ovs.Error('the client of "%s" failed' % what)
        done, elapsed = json.loads(output)
        cycles = meter.stop()
        return done / elapsed, cycles, meter.packets, done
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def serve():
    """Takes connections, reads what comes, and closes them when the client
    does."""
    poll = select.epoll()
    connections = {}
    for port in PORTS:
        listener = socket.create_server(('', port), backlog=1000)
        poll.register(listener, select.EPOLLIN)
        connections[listener.fileno()] = (listener, True)
    print('ready', flush=True)
    while True:
        for fd, _ in poll.poll():
            s, listens = connections[fd]
            if listens:
                s, _ = s.accept()
                connections[s.fileno()] = (s, False)
                poll.register(s, select.EPOLLIN)
                continue
            try:
                data = s.recv(1 << 18)
            except OSError:
                data = b''
            if not data:
                poll.unregister(fd)
                del connections[fd]
                s.close()


def connect(number):
    return socket.create_connection(
        (bench_switch.service(number % bench_switch.N_SERVICES),
         bench_switch.SERVICE_PORT), timeout=20)


def send_connections(seconds):
    """Opens connections and closes them, one after the other."""
    n = 0
    start = now = time.monotonic()
    while now - start < seconds:
        s = connect(n)
        s.shutdown(socket.SHUT_WR)
        s.recv(1)
        s.close()
        n += 1
        now = time.monotonic()
    return n, now - start


def send_bytes(seconds):
    """Sends bytes in one connection."""
    data = bytes(1 << 17)
    n = 0
    start = now = time.monotonic()
    with connect(0) as s:
        while now - start < seconds:
            n += s.send(data)
            now = time.monotonic()
        s.shutdown(socket.SHUT_WR)
        s.recv(1)
    return n, time.monotonic() - start


if __name__ == '__main__':
    if sys.argv[1] == 'server':
        serve()
    else:
        print(json.dumps({'connections': send_connections, 'bytes': send_bytes}
                         [sys.argv[1]](float(sys.argv[2]))))
