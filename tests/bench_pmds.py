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

"""What a packet takes with several PMD threads, for utilities/benchmark, on
machines of any number of cores: instructions and locks, which valgrind's
callgrind counts for each thread, and not time.

Each PMD thread has a machine and a wire of its own, with the same load, and
nothing else: what is more with several threads, they take for each other.

Memory that several threads access and one of them writes costs time but no
instructions.  tests/shared-writes.c finds it, in a build for
ThreadSanitizer."""

import copy
import glob
import os
import re
import shutil
import signal
import subprocess
import time

import bench_switch
import private_ovs

# What is counted is what this function calls, but for the reception of
# packets.
POLL = 'dp_netdev_process_rxq_port'
RECEIVE = 'netdev_rxq_recv'

# The device's part of sending.  It has a mutex of its own, which is left out,
# too.
SEND = 'netdev_loadgen_send'
DEVICE = re.compile('(netdev_)?loadgen_|vm_emit|wire_transmit')

# What takes a lock, whose callers are of interest.
LOCKS = re.compile('(ovs_(mutex|rwlock|spin)_(try)?(rd|wr)?lock_at'
                   '|fat_rwlock_(try)?(rd|wr)lock'
                   '|pthread_(mutex|rwlock|spin)_(try)?(rd|wr)?lock)$')

# Those of them of which each thread has its own.
OWN = re.compile('fat_rwlock_(try)?rdlock$')


def available():
    """Returns true if there is what counts."""
    return bool(shutil.which('valgrind') and shutil.which('vgdb'))


class Counts:
    """What files of callgrind say, of all threads together."""

    def __init__(self, paths):
        # (caller, callee): [calls, instructions].
        self.calls = {}
        for path in paths:
            self._read(path)
        self.instructions = 0
        self.locks = {}                 # By function that takes them.
        self.own_locks = {}             # Likewise.
        for (caller, callee), (n, cost) in self.calls.items():
            if caller.startswith(POLL) and callee != RECEIVE:
                self.instructions += cost
            elif callee == SEND:
                self.instructions -= cost
            if (cost and LOCKS.match(callee) and not LOCKS.match(caller)
                    and not DEVICE.match(caller)):
                locks = self.own_locks if OWN.match(callee) else self.locks
                locks[caller] = locks.get(caller, 0) + n

    def _read(self, path):
        # The format is in Valgrind's manual, "Callgrind Format
        # Specification".  A function has its name where it is mentioned for
        # the first time, and a number after that.  What follows "calls=" is
        # the cost of the calls.
        names = {}
        caller = callee = calls = None

        def name(text):
            number, _, rest = text.partition(' ')
            if rest:
                # Without the version of a symbol.
                names[number] = re.sub(r'@@.*|\.(part|constprop|isra)\..*',
                                       '', rest)
            return names[number]

        with open(path) as f:
            for line in f:
                key, _, value = line.rstrip('\n').partition('=')
                if key == 'fn':
                    caller = name(value)
                elif key == 'cfn':
                    callee = name(value)
                elif key == 'calls':
                    calls = int(value.split()[0])
                elif calls is not None and line[0] in '0123456789+-*':
                    entry = self.calls.setdefault((caller, callee), [0, 0])
                    entry[0] += calls
                    entry[1] += int(line.split()[1])
                    calls = None


class Counted(bench_switch.Layered):
    """A layered bridge in an ovs-vswitchd that callgrind runs, with 'n' PMD
    threads with a machine and a wire each."""

    def __init__(self, args, n):
        super().__init__(args, n_vms=n)
        self.n_dumps = 0
        # Cores that need not be there.
        self.ovs.options.append('--dummy-numa=' + ','.join(['0'] * n))
        self.set_wrapper()

    def set_wrapper(self):
        self.ovs.wrapper += [
            'valgrind', '-q', '--tool=callgrind', '--separate-threads=yes',
            '--instr-atstart=no', '--toggle-collect=%s*' % POLL,
            '--fair-sched=try', '--vgdb-prefix=' + self.ovs.path('vgdb'),
            '--callgrind-out-file=' + self.ovs.path('callgrind')]

    def prepare(self):
        # No EMC, because the insertion into it is random.
        args = ['set', 'Open_vSwitch', '.',
                'other_config:pmd-cpu-mask=%x' % ((1 << self.n_vms) - 1),
                'other_config:emc-insert-inv-prob=0',
                '--', 'add-br', 'br0', '--', 'set', 'bridge', 'br0',
                'fail-mode=secure', 'datapath_type=' + self.datapath_type]
        for i in range(self.n_vms):
            for role, options in (('vm', ['options:vm=%d' % i]),
                                  ('wire', [])):
                args += ['--', 'add-port', 'br0', '%s%d' % (role, i),
                         '--', 'set', 'interface', '%s%d' % (role, i),
                         'type=loadgen', 'options:role=' + role,
                         'options:wire=%d' % i,
                         'other_config:pmd-rxq-affinity=0:%d' % i] + options
        self.ovs.vsctl(*args)
        self.set_policy()
        # Otherwise all wires would answer what is flooded.
        for i in range(self.n_vms):
            self.ovs.appctl('fdb/add', 'br0', 'vm%d' % i, '0',
                            bench_switch.mac(i))
            self.ovs.appctl('fdb/add', 'br0', 'wire%d' % i, '0',
                            bench_switch.WIRE_MAC[:-2] + '%02x' % i)

    def promote_after(self, packets):
        """Has connections have datapath flows after so many packets, None for
        the default."""
        key = 'promote-packets'
        self.ovs.vsctl('remove', 'bridge', 'br0', 'other_config', key,
                       *(['--', 'set', 'bridge', 'br0',
                          'other_config:%s=%d' % (key, packets)]
                         if packets else []))

    def datapath_flows(self):
        for line in self.ovs.appctl('dpctl/show').splitlines():
            if line.strip().startswith('flows:'):
                return int(line.split()[1])
        return 0

    def monitor(self, *command):
        """Has callgrind execute a command."""
        try:
            subprocess.run(
                ['vgdb', '--vgdb-prefix=' + self.ovs.path('vgdb'),
                 '--pid=%d' % self.ovs.pid] + list(command), check=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, timeout=120)
        except (subprocess.CalledProcessError,
                subprocess.TimeoutExpired) as e:
            raise private_ovs.Error('vgdb %s: %s' % (' '.join(command), e))

    def run_until(self, what, done, quiet=.1, seconds=120):
        """Has all machines do 'what' until done() is true of the Difference
        and each of them, and what is under way has arrived, so that there is
        nothing for 'quiet' seconds.  Returns the Difference."""
        before = self.sample()
        self.activate_all(what)
        deadline = time.monotonic() + seconds
        while True:
            difference = bench_switch.Difference(before, self.sample())
            if all(done(difference, name) for name in self.vms):
                break
            if time.monotonic() > deadline:
                raise private_ovs.Error('%s: too slow' % what)
            time.sleep(.1)
        return bench_switch.Difference(before, self.drain(quiet))

    def count(self, what, counter, n):
        """Has each machine do 'what' until 'counter' is at least 'n' more.
        Returns the Counts and the Difference."""
        self.monitor('zero')
        difference = self.run_until(
            what, lambda d, name: d.sum(counter, [name]) >= n, quiet=1)
        self.monitor('dump')
        self.n_dumps += 1
        counts = Counts(glob.glob(glob.escape(self.ovs.path('callgrind'))
                                  + '.%d-*' % self.n_dumps))
        if counts.instructions <= 0:
            raise private_ovs.Error(
                'callgrind has not seen %s() being called' % POLL)
        return counts, difference


# Where memory is accessed on behalf of callers.
GENERIC = re.compile(r'(ovs-thread|ovs-atomic.*|cc?map|hmap|hindex|util|list|'
                     r'fat-rwlock|refcount|hash|ovs-rcu)\.[ch]$')


class SharedWrites(Counted):
    """The same in a build with -fsanitize=thread, which tells what threads
    write for each other to see."""

    def __init__(self, args, n):
        args = copy.copy(args)
        args.build = args.tsan_build
        self.program = os.path.join(args.build, 'vswitchd/ovs-vswitchd')
        super().__init__(args, n)

    def set_wrapper(self):
        for line in self.output('nm', '-S', self.program).splitlines():
            words = line.split()
            if len(words) == 4 and words[3] == POLL:
                start, size = int(words[0], 16), int(words[1], 16)
                break
        else:
            raise private_ovs.Error('%s: no function %s()' % (self.program,
                                                              POLL))
        if 'libtsan.so.2' not in self.output('readelf', '-d', self.program):
            raise private_ovs.Error('%s: not built by GCC with '
                                    '-fsanitize=thread' % self.program)
        self.output('cc', '-O2', '-fno-builtin', '-shared', '-fPIC',
                    '-fno-tree-loop-distribute-patterns',
                    '-Wl,-soname,libtsan.so.2',
                    '-o', self.ovs.path('libtsan.so.2'),
                    os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                 'shared-writes.c'), '-ldl')
        self.ovs.env.update({
            'LD_LIBRARY_PATH': self.ovs.dir,
            'SHARED_WRITES_IN': '%x-%x' % (start, start + size),
            'SHARED_WRITES_OUT': self.ovs.path('shared-writes')})

    @staticmethod
    def output(*command, **kwargs):
        try:
            return subprocess.run(command, check=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE,
                                  universal_newlines=True, **kwargs).stdout
        except OSError as e:
            raise private_ovs.Error(str(e))
        except subprocess.CalledProcessError as e:
            raise private_ovs.Error('%s: %s' % (' '.join(command),
                                                e.stderr.strip()))

    def find(self, what, counter, n):
        """Has each machine do 'what' until 'counter' is at least 'n' more.
        Returns how often each function wrote to lines that other threads
        access, too, and the Difference."""
        path = self.ovs.path('shared-writes')
        if os.path.exists(path):
            os.unlink(path)
        os.kill(self.ovs.pid, signal.SIGUSR1)
        difference = self.run_until(
            what, lambda d, name: d.sum(counter, [name]) >= n)
        os.kill(self.ovs.pid, signal.SIGUSR2)
        deadline = time.monotonic() + 30
        while True:
            if os.path.exists(path):
                with open(path) as f:
                    lines = f.read().splitlines()
                if lines and lines[-1] == 'end':
                    return self.explain(lines), difference
            if time.monotonic() > deadline:
                raise private_ovs.Error('no answer of shared-writes.c')
            time.sleep(.1)

    def explain(self, lines):
        """Returns how often each function wrote to shared lines, by name."""
        base, accesses, writes = 0, [], []

        def finish_line():
            # Do others access the same bytes, and not only the same line?
            for kind, thread, times, mask, stack in accesses:
                if kind == 'w':
                    writes.append((times, stack, any(
                        other[1] != thread and other[3] & mask
                        for other in accesses)))
            accesses.clear()

        for line in lines:
            words = line.split()
            if words[0] == 'base':
                base = int(words[1], 16)
            elif words[0] == 'full':
                raise private_ovs.Error('too much memory is accessed')
            elif words[0] in ('line', 'end'):
                finish_line()
            else:
                # The instruction before is the one that accesses.
                accesses.append((words[0], words[1], int(words[2]),
                                 int(words[3], 16),
                                 [hex(int(pc, 16) - base - 1)
                                  for pc in words[4:] if int(pc, 16) > base]))
        functions = {}                  # By address: (function, file).
        pcs = sorted(set(pc for _, stack, _ in writes for pc in stack))
        frames = None
        for line in self.output('addr2line', '-f', '-i', '-a', '-e',
                                self.program,
                                input='\n'.join(pcs)).splitlines():
            if line.startswith('0x'):
                frames = functions.setdefault(hex(int(line, 16)), [])
                name = None
            elif name is None:
                name = line
            else:
                frames.append((name, os.path.basename(line.split(':')[0])))
                name = None
        result = {}
        for times, stack, shared in writes:
            names = [frame for pc in stack for frame in functions[pc]]
            name = next((function for function, file in names
                         if not GENERIC.match(file)), names[0][0])
            if not DEVICE.match(name):
                name += '()' if shared else '() next to what others access'
                result[name] = result.get(name, 0) + times
        return result
