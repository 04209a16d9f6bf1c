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

"""An ovsdb-server and an ovs-vswitchd of a build, in a directory of their own,
for benchmarks and stress tests."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Error(Exception):
    pass


def add_build_arguments(parser):
    parser.add_argument(
        '--build', default=os.path.join(TOP, 'ovs/build'), metavar='DIR',
        help='build directory of Open vSwitch (default: %(default)s)')
    parser.add_argument(
        '--schema', metavar='FILE',
        default=os.path.join(TOP, 'ovs/patched/vswitchd/vswitch.ovsschema'),
        help='schema of the database (default: %(default)s)')


class Database:
    """A connection to ovsdb-server, for one thread at a time."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.buffer = b''
        self.id = 0
        self.updates = []

    def close(self):
        self.socket.close()

    def _receive(self, deadline):
        """Returns the next message, None if there is none in time."""
        # Nothing but messages can begin with "{" at the top level, and every
        # message ends with "}".  Try to decode when there is no more to read,
        # rather than for each piece of a large message.
        decoder = json.JSONDecoder()
        while True:
            if self.buffer.endswith(b'}') or b'}{' in self.buffer:
                try:
                    text = self.buffer.decode()
                    message, end = decoder.raw_decode(text)
                    self.buffer = text[end:].encode()
                    return message
                except ValueError:
                    pass
            self.socket.settimeout(max(deadline - time.monotonic(), 1e-3))
            try:
                data = self.socket.recv(1 << 20)
            except socket.timeout:
                return None
            if not data:
                raise Error('ovsdb-server closed the connection')
            self.buffer += data

    def _send(self, message):
        self.socket.settimeout(None)
        self.socket.sendall(message)

    def wait(self, timeout, until):
        """Handles messages until until(message) is true for one, which it
        returns."""
        deadline = time.monotonic() + timeout
        while True:
            message = self._receive(deadline)
            if message is None:
                raise Error('no answer of ovsdb-server in time')
            if message.get('method') == 'echo':
                self._send(json.dumps({'id': message['id'], 'error': None,
                                       'result': message['params']}).encode())
            elif until(message):
                return message

    def prepare(self, method, params):
        """Returns a request, for send()."""
        self.id += 1
        return self.id, json.dumps({'id': self.id, 'method': method,
                                    'params': params}).encode()

    def send(self, request, timeout=120):
        """Sends 'request' and returns the result."""
        number, message = request
        self._send(message)
        reply = self.wait(timeout, lambda m: m.get('id') == number
                          and 'result' in m)
        if reply.get('error'):
            raise Error(reply['error'])
        return reply['result']

    def prepare_transaction(self, *operations):
        return self.prepare('transact', ['Open_vSwitch'] + list(operations))

    def send_transaction(self, request):
        result = self.send(request)
        for part in result:
            if part and part.get('error'):
                raise Error('transaction failed: %s' % part)
        return result

    def transact(self, *operations):
        return self.send_transaction(self.prepare_transaction(*operations))

    def monitor_cur_cfg(self):
        """From now on, wait_for_cur_cfg() can be used."""
        self.send(self.prepare('monitor', ['Open_vSwitch', 'cfg', {
            'Open_vSwitch': {'columns': ['cur_cfg']}}]))

    def next_cfg(self):
        """Returns operations that ask for an answer in cur_cfg, of which the
        last one returns the row."""
        return ({'op': 'mutate', 'table': 'Open_vSwitch', 'where': [],
                 'mutations': [['next_cfg', '+=', 1]]},
                {'op': 'select', 'table': 'Open_vSwitch', 'where': [],
                 'columns': ['next_cfg']})

    def wait_for_cur_cfg(self, value, timeout=120):
        def is_there(message):
            if message.get('method') != 'update':
                return False
            rows = message['params'][1].get('Open_vSwitch', {})
            return any(row.get('new', {}).get('cur_cfg', -1) >= value
                       for row in rows.values())
        self.wait(timeout, is_there)


class Ovs:
    """A pair of daemons.  Use as a context."""

    def __init__(self, build, schema, vswitchd_options=(), wrapper=()):
        self.build = os.path.abspath(build)
        self.schema = os.path.abspath(schema)
        self.options = list(vswitchd_options)
        self.wrapper = list(wrapper)
        self.dir = tempfile.mkdtemp(prefix='ovs.')
        self.env = dict(os.environ, LC_ALL='C', PATH=os.pathsep.join(
            [os.path.join(self.build, name)
             for name in ('utilities', 'ovsdb', 'vswitchd')]
            + [os.environ['PATH']]))
        for name in ('RUNDIR', 'LOGDIR', 'DBDIR', 'SYSCONFDIR', 'PKGDATADIR'):
            self.env['OVS_' + name] = self.dir
        self.daemons = []

    def path(self, name):
        return os.path.join(self.dir, name)

    def run(self, *args, **kwargs):
        """Runs a command and returns what it prints."""
        return subprocess.run(args, env=self.env, check=True, cwd=self.dir,
                              universal_newlines=True,
                              stdout=subprocess.PIPE, **kwargs).stdout

    def vsctl(self, *args, **kwargs):
        return self.run('ovs-vsctl', '--timeout=120', *args, **kwargs)

    def appctl(self, *args):
        return self.run('ovs-appctl', '--timeout=120', '-t', 'ovs-vswitchd',
                        *args)

    def _start(self, args, env=None):
        with open(self.path(os.path.basename(args[0]) + '.out'), 'w') as out:
            daemon = subprocess.Popen(args, env=env or self.env, cwd=self.dir,
                                      stdout=out, stderr=out,
                                      stdin=subprocess.DEVNULL)
        self.daemons.append(daemon)
        return daemon

    def _wait_for(self, condition, what, timeout=60):
        deadline = time.monotonic() + timeout
        while not condition():
            if any(daemon.poll() is not None for daemon in self.daemons):
                raise Error('%s: a daemon died, see %s' % (what, self.dir))
            if time.monotonic() > deadline:
                raise Error('%s: not in time' % what)
            time.sleep(.01)

    def start(self, env=None):
        self.run('ovsdb-tool', 'create', self.path('conf.db'), self.schema)
        self._start(['ovsdb-server', '--no-chdir', '--log-file',
                     '-vconsole:off', '--pidfile',
                     '--remote=punix:' + self.path('db.sock'),
                     self.path('conf.db')])
        self._wait_for(lambda: os.path.exists(self.path('db.sock')),
                       'ovsdb-server')
        self.vsctl('--no-wait', 'init')
        self.vswitchd = self._start(
            self.wrapper
            + ['ovs-vswitchd', '--enable-dummy', '--disable-system',
               '--disable-system-route', '--no-chdir', '--log-file',
               '--pidfile', '-vconsole:off'] + self.options
            + ['unix:' + self.path('db.sock')],
            env=dict(self.env, **env) if env else None)
        self._wait_for(lambda: os.path.exists(self.path('ovs-vswitchd.pid')),
                       'ovs-vswitchd')
        with open(self.path('ovs-vswitchd.pid')) as f:
            self.pid = int(f.read())

    def stop(self):
        """Stops the daemons, and returns ovs-vswitchd's exit status."""
        for daemon in reversed(self.daemons):
            if daemon.poll() is None:
                daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(120)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.daemons = []
        return self.vswitchd.returncode

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop_all()
            raise
        return self

    def stop_all(self):
        for daemon in self.daemons:
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()

    def __exit__(self, *args):
        try:
            self.stop()
        finally:
            self.remove()

    def database(self):
        return Database(self.path('db.sock'))

    def log(self):
        with open(self.path('ovs-vswitchd.log')) as f:
            return f.read()

    def rss(self):
        """ovs-vswitchd's resident set size, in bytes."""
        with open('/proc/%d/status' % self.pid) as f:
            for line in f:
                if line.startswith('VmRSS:'):
                    return int(line.split()[1]) * 1024
        raise Error('no VmRSS')

    def cpu(self):
        """The CPU time of ovs-vswitchd's threads, by name, in seconds."""
        times = {}
        base = '/proc/%d/task' % self.pid
        for task in os.listdir(base):
            try:
                with open(os.path.join(base, task, 'stat')) as f:
                    stat = f.read()
            except OSError:
                continue
            name = stat[stat.index('(') + 1:stat.rindex(')')]
            fields = stat[stat.rindex(')') + 2:].split()
            ticks = int(fields[11]) + int(fields[12])
            times[name] = (times.get(name, 0)
                           + ticks / os.sysconf('SC_CLK_TCK'))
        return times
