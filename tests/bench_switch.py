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

"""Switches to compare: one with no policy, one with a policy in OpenFlow
tables and conntrack, and one with the same policy in layers, each with network
devices of type "loadgen" as virtual machines and as the wire.

The policy, for each machine:

  - an ACL of many rules with address sets, of which one allows what is sent:
    TCP connections of the machine to the services.  None may be opened to it;

  - a balancer: each service is one of several backends;

  - SNAT: the machine's connections come from one address beyond the wire;

  - a counter of the packets that the machine sends.
"""

import json
import os
import socket
import time

import private_ovs

Error = private_ovs.Error

N_SERVICES = 16
N_BACKENDS = 8
SERVICE_PORT = 80
BACKEND_PORT = 8080
WIRE_OFPORT = 100
WIRE_MAC = '02:4c:47:00:ff:00'


def machine(vm):
    """The addresses of machine number 'vm': a /24, of which it uses the first
    from .2 on, and the one that it has beyond the wire."""
    return '10.0.%d.0/24' % vm, '203.0.113.%d' % (vm + 1)


def mac(vm):
    return '02:4c:47:00:00:%02x' % vm


def service(i):
    return '198.18.0.%d' % (i + 1)


def backends(i):
    return ['198.19.%d.%d' % (i, j + 1) for j in range(N_BACKENDS)]


class Acl:
    """An ACL of 'n' rules, of which only the last matches what the machines
    send.  The others have sets of sources, of destinations and of ports."""

    PRIORITIES = 8

    def __init__(self, n):
        self.sets = {
            'machines': ['10.0.0.0/16'],
            # In tables with conntrack, packets of a connection that stands
            # come to the ACL with the backend's address in them, the first one
            # with the service's.
            'services': [service(i) for i in range(N_SERVICES)]
                        + ['198.19.%d.0/24' % i for i in range(N_SERVICES)],
        }
        # At least the first source of each set is one of the machines', and
        # half of the rules have their port, so that a rule cannot be passed
        # over for one field alone.
        for i in range(10):
            self.sets['src%d' % i] = (
                ['10.0.%d.0/24' % j for j in range(i, 32, 10)]
                + ['10.%d.%d.%d' % (i + 1, j, i + j) for j in range(7)])
        for i in range(40):
            self.sets['dst%d' % i] = [
                '172.%d.%d.%d' % (16 + i % 16, i, 10 * j + 1)
                for j in range(10)]
        # (priority, name of the set of sources, of destinations, ports,
        # whether it allows).
        self.rules = [
            (1000 + i % self.PRIORITIES, 'src%d' % (i % 10),
             'dst%d' % (i // 10 % 40),
             (80, 10000 + i % 5000) if i % 2
             else (443, 10000 + i // 400 % 5000),
             i % 3 > 0)
            for i in range(n - 1)]
        self.rules.append((900, 'machines', 'services',
                           (SERVICE_PORT, BACKEND_PORT), True))


class Unixctl:
    """A connection to a daemon's control socket, for JSON."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(120)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                # The daemon makes it a moment after its pidfile.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.id = 0
        self.buffer = ''
        self.call('set-options', '--format', 'json')

    def call(self, method, *args):
        self.id += 1
        self.socket.sendall(json.dumps(
            {'id': self.id, 'method': method, 'params': args}).encode())
        decoder = json.JSONDecoder()
        while True:
            try:
                reply, end = decoder.raw_decode(self.buffer)
                self.buffer = self.buffer[end:].lstrip()
                break
            except ValueError:
                pass
            data = self.socket.recv(1 << 20)
            if not data:
                raise Error('ovs-vswitchd died')
            self.buffer += data.decode()
        if reply.get('error'):
            raise Error('%s: %s' % (method, str(reply['error']).strip()))
        return reply['result']

    def close(self):
        self.socket.close()


class Sample:
    """The counters of all ports at one time."""

    def __init__(self, ports):
        self.ports = {port['name']: port for port in ports}

    def __getitem__(self, name):
        return self.ports[name]


class Difference:
    """What happened between two samples."""

    busy = share = None

    def __init__(self, old, new):
        self.counters = {}
        self.seconds = (next(iter(new.ports.values()))['time']
                        - next(iter(old.ports.values()))['time']) / 1e6
        for name, port in new.ports.items():
            before = old[name]['counters']
            self.counters[name] = {key: value - before[key] for key, value
                                   in port['counters'].items()}

    def sum(self, key, ports=None):
        return sum(counters[key] for name, counters in self.counters.items()
                   if ports is None or name in ports)

    def rate(self, key, ports=None):
        """A sum, for each second."""
        return self.sum(key, ports) / self.seconds

    def busy_rate(self, key, ports=None):
        """A sum, for each second that a PMD thread had a processor.  That is
        the same unless other processes, or threads, take its core."""
        return self.sum(key, ports) / self.busy


class Meter:
    """Measures what PMD threads do until stop().  Other processes, and other
    threads, may take their cores, which is left out."""

    def __init__(self, switch):
        self.switch = switch
        # What they do while they have a processor, of all time.
        self.share = None
        self.packets = None
        switch.ovs.appctl('dpif-netdev/pmd-stats-clear')
        self.start = time.monotonic(), switch.pmd_seconds()

    def stop(self):
        """Returns the cycles that they were busy."""
        seconds = time.monotonic() - self.start[0]
        cpu = self.switch.pmd_seconds() - self.start[1]
        self.share = cpu / seconds / len(self.switch.args.pmd_cores)
        self.packets = 0
        total = used = 0
        for line in self.switch.ovs.appctl(
                'dpif-netdev/pmd-stats-show').split('main thread')[0] \
                .splitlines():
            words = line.replace('(', '').split()
            if 'Used TSC cycles:' in line:
                used = int(words[4])
            elif '- busy iterations:' in line:
                total += used * float(words[4]) / 100
            elif 'Rx packets:' in line:
                self.packets += int(words[2])
        return total * self.share


class Switch:
    """An ovs-vswitchd with a bridge and machines on it.  Use as a context."""

    name = None
    title = None
    datapath_type = 'netdev'
    translates = True

    # What the load itself takes for a connection.
    LOADGEN_BYTES = 32

    def __init__(self, args, n_vms=1, interfaces=None):
        """With 'interfaces', arguments of ovs-vsctl that set the interfaces
        up, which are to be no load generators."""
        self.args = args
        self.interfaces = interfaces
        self.n_vms = n_vms
        self.vms = ['vm%d' % i for i in range(n_vms)]
        self.ovs = private_ovs.Ovs(
            args.build, args.schema,
            wrapper=['taskset', '-c', ','.join(map(str, args.other_cores))])
        self.unixctl = None
        self.sample_before_drain = None

    def __enter__(self):
        self.ovs.__enter__()
        try:
            self.unixctl = Unixctl(self.ovs.path('ovs-vswitchd.%d.ctl'
                                                 % self.ovs.pid))
            self.prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_args):
        if self.unixctl:
            self.unixctl.close()
        self.ovs.__exit__()

    def prepare(self):
        mask = sum(1 << core for core in self.args.pmd_cores)
        args = ['set', 'Open_vSwitch', '.',
                'other_config:pmd-cpu-mask=%x' % mask,
                '--', 'add-br', 'br0', '--', 'set', 'bridge', 'br0',
                'fail-mode=secure', 'datapath_type=' + self.datapath_type,
                '--', 'add-port', 'br0', 'wire', '--', 'set', 'interface',
                'wire', 'ofport_request=%d' % WIRE_OFPORT]
        for i, name in enumerate(self.vms):
            args += ['--', 'add-port', 'br0', name, '--', 'set', 'interface',
                     name, 'ofport_request=%d' % (i + 1)]
        self.ovs.vsctl(*(args + (self.interfaces or self.loadgen())))
        self.set_policy()

    def loadgen(self):
        """Arguments of ovs-vsctl that set load generators up."""
        args = ['--', 'set', 'interface', 'wire', 'type=loadgen',
                'options:role=wire', 'options:n_rxq=%d' % self.n_vms]
        for i, name in enumerate(self.vms):
            args += ['--', 'set', 'interface', name, 'type=loadgen',
                     'options:role=vm', 'options:vm=%d' % i]
        if self.args.verify:
            for name in self.vms + ['wire']:
                args += ['--', 'set', 'interface', name,
                         'options:verify-checksums=true']
        return args

    def set_policy(self):
        raise NotImplementedError

    def ofctl(self, command, text):
        path = self.ovs.path(command)
        with open(path, 'w') as f:
            f.write(text)
        self.ovs.run('ovs-ofctl', '-OOpenFlow15', '--bundle', command, 'br0',
                     path)

    # Control of the load.

    def start(self, vm, **program):
        """Has machine 'vm' start, with 'program'."""
        inside, outside = machine(vm)
        arguments = {
            'client': inside.replace('.0/24', '.2'),
            'clients': 200,
            'service': service(0),
            'services': N_SERVICES,
            'service-port': SERVICE_PORT,
            'wire-src': outside if self.translates else inside,
            'wire-dst': '198.19.0.0/16' if self.translates
                        else '198.18.0.0/16',
        }
        arguments.update((key.replace('_', '-'), value)
                         for key, value in program.items())
        self.unixctl.call('loadgen/start', 'vm%d' % vm,
                          *('%s=%s' % item for item in arguments.items()))

    def change(self, vm, **program):
        self.unixctl.call('loadgen/change', 'vm%d' % vm,
                          *('%s=%s' % (key.replace('_', '-'), value)
                            for key, value in program.items()))

    def activate(self, vm, *what):
        self.unixctl.call('loadgen/run', 'vm%d' % vm, *what)

    def sample(self):
        return Sample(self.unixctl.call('loadgen/show'))

    def wait_open(self, timeout=600):
        """Waits until all standing connections are open."""
        deadline = time.monotonic() + timeout
        while True:
            sample = self.sample()
            waiting = [port for port in sample.ports.values()
                       if port.get('state') == 'opening']
            if not waiting:
                return sample
            if time.monotonic() > deadline:
                raise Error('%s: %d of %d connections open after %d s' % (
                    self.name, sum(p['open'] for p in sample.ports.values()
                                   if 'open' in p),
                    sum(p['connections'] for p in sample.ports.values()
                        if 'open' in p), timeout))
            time.sleep(.02)

    def start_all(self, connections=0, **program):
        """Has all machines start, with 'connections' evenly on them."""
        for vm in range(self.n_vms):
            self.start(vm, connections=connections // self.n_vms, **program)

    def open(self, n, **program):
        """Opens 'n' standing connections, evenly on all machines."""
        self.start_all(n, **program)
        return self.wait_open()

    def activate_all(self, *what):
        self.sample_before_drain = self.sample()
        for vm in range(self.n_vms):
            self.activate(vm, *what)

    def stop_all(self):
        for name in self.vms:
            self.unixctl.call('loadgen/stop', name)

    def measure(self, seconds, counter):
        """Returns the Difference over some time, with the processor time that
        a PMD thread had as its "busy", and the cycles that all of them were
        busy.  It takes longer if 'counter' does not count at all, because the
        machine has no time for the PMD thread."""
        meter = Meter(self)
        before = self.sample()
        deadline = time.monotonic() + 20
        while True:
            time.sleep(seconds)
            difference = Difference(before, self.sample())
            cycles = meter.stop()
            if (difference.sum(counter) and meter.share
                    or time.monotonic() > deadline):
                break
        difference.share = max(meter.share, 1e-3)
        difference.busy = difference.seconds * difference.share
        return difference, cycles

    def pmd_seconds(self):
        """Returns the processor time of all PMD threads, which does not count
        what others take of their cores."""
        total = 0
        base = '/proc/%d/task' % self.ovs.pid
        for task in os.listdir(base):
            try:
                with open(os.path.join(base, task, 'comm')) as f:
                    name = f.read()
                with open(os.path.join(base, task, 'schedstat')) as f:
                    seconds = int(f.read().split()[0]) / 1e9
            except OSError:
                continue                # The thread has ended.
            if name.startswith('pmd-'):
                total += seconds
        return total

    def drain(self, quiet=.1):
        """Stops the load and waits for what is under way, until nothing has
        arrived for 'quiet' seconds.  Returns a sample."""
        for vm in range(self.n_vms):
            self.activate(vm)
        last = None
        while True:
            sample = self.sample()
            received = [port['counters']['received']
                        for port in sample.ports.values()]
            if received == last:
                return sample
            last = received
            time.sleep(quiet)

    def tiers(self):
        """How often each tier handled packets, for the log; {} if there are no
        tiers."""
        return {}


class Plain(Switch):
    """No policy."""
    name = 'plain'
    title = '(a) plain bridge, no policy'
    translates = False

    def set_policy(self):
        self.ofctl('add-flows', 'priority=0,actions=NORMAL\n')


class Conntrack(Switch):
    """OpenFlow tables and conntrack, in the way of OVN."""
    name = 'conntrack'
    title = '(b) plain bridge, the policy in OpenFlow with ct()'

    # Tables.
    INGRESS, PRE_STATEFUL, HINT, ACL, ACL_ACTION, LB, STATEFUL, LOOKUP = range(
        10, 18)
    SNAT, TO_WIRE = 20, 21
    UNSNAT, ROUTE, OUT_PRE_STATEFUL, OUT_ACL, TO_VM = range(40, 45)

    SNAT_ZONE = 1000

    # Registers, as OVN uses them: reg0[1] the connection is to be committed,
    # reg0[7] an ACL may allow a new one, reg0[8] one that stands, reg0[9] and
    # reg0[10] may refuse it; reg8[16] and reg8[17] the verdict; reg13 the
    # machine's zone, reg12 the router's, reg15 the port to output to.

    def __init__(self, args, n_vms=1, interfaces=None, n_rules=1000):
        super().__init__(args, n_vms, interfaces)
        self.acl = Acl(n_rules)

    def acl_flows(self):
        """The ACL as conjunctive matches.  Where several rules of a priority
        share a part, they share a flow."""
        parts = {}
        flows = []
        number = 0
        for priority, src, dst, ports, allow in self.acl.rules:
            for new in True, False:
                number += 1
                hint = ('reg0=0x80/0x80' if new else 'reg0=0x100/0x100') \
                    if allow else \
                    ('reg0=0x200/0x200' if new else 'reg0=0x400/0x400')
                dimensions = (
                    ['nw_src=' + a for a in self.acl.sets[src]],
                    ['nw_dst=' + a for a in self.acl.sets[dst]],
                    ['tp_dst=%d' % p for p in ports])
                several = [d for d in dimensions if len(d) > 1]
                fixed = ''.join(',' + d[0] for d in dimensions if len(d) == 1)
                if allow:
                    actions = 'load:1->NXM_NX_REG8[16],%sresubmit(,%d)' % (
                        'load:1->NXM_NX_REG0[1],' if new else '',
                        self.ACL_ACTION)
                elif new:
                    actions = 'load:1->NXM_NX_REG8[17],resubmit(,%d)' \
                        % self.ACL_ACTION
                else:
                    actions = ('load:1->NXM_NX_REG8[17],ct(commit,zone='
                               'NXM_NX_REG13[0..15],exec(load:1->'
                               'NXM_NX_CT_MARK[0])),resubmit(,%d)'
                               % self.ACL_ACTION)
                where = 'table=%d,priority=%d,tcp,%s' % (self.ACL, priority,
                                                         hint)
                if len(several) < 2:
                    for term in several[0] if several else ['']:
                        flows.append('%s%s,%s,actions=%s' % (
                            where, fixed, term, actions))
                    continue
                for k, dimension in enumerate(several):
                    for term in dimension:
                        parts.setdefault(where + fixed + ',' + term, []) \
                            .append('conjunction(%d,%d/%d)' % (
                                number, k + 1, len(several)))
                flows.append('%s,conj_id=%d,actions=%s' % (where, number,
                                                           actions))
        flows += ['%s,actions=%s' % (match, ','.join(actions))
                  for match, actions in parts.items()]
        return flows

    def set_policy(self):
        zone = 'zone=NXM_NX_REG13[0..15]'
        snat_zone = 'zone=NXM_NX_REG12[0..15]'
        flows, groups = self.acl_flows(), []

        def add(table, priority, match, actions):
            flows.append('table=%d,priority=%d,%s%sactions=%s' % (
                table, priority, match, ',' if match else '', actions))

        # Which switch, port and zones.
        for vm in range(self.n_vms):
            inside, outside = machine(vm)
            add(0, 100, 'in_port=%d' % (vm + 1),
                'load:%d->NXM_NX_REG13[],load:%d->NXM_NX_REG12[],'
                'load:1->OXM_OF_METADATA[],load:%d->NXM_NX_REG14[],'
                'resubmit(,%d)' % (vm + 1, self.SNAT_ZONE, vm + 1,
                                   self.INGRESS))
            # Port security.
            add(self.INGRESS, 90, 'reg14=%d,dl_src=%s,ip,nw_src=%s'
                % (vm + 1, mac(vm), inside),
                'load:1->NXM_NX_REG0[0],load:1->NXM_NX_REG0[2],'
                'resubmit(,%d)' % self.PRE_STATEFUL)
            add(self.SNAT, 25, 'ip,nw_src=' + inside,
                'ct(commit,table=%d,%s,nat(src=%s))'
                % (self.TO_WIRE, snat_zone, outside))
            add(self.UNSNAT, 90, 'ip,nw_dst=' + outside,
                'ct(table=%d,%s,nat)' % (self.ROUTE, snat_zone))
            add(self.ROUTE, 49, 'ip,nw_dst=%s,dl_dst=%s' % (inside, mac(vm)),
                'load:%d->NXM_NX_REG15[],load:%d->NXM_NX_REG13[],'
                'load:1->NXM_NX_REG0[2],resubmit(,%d)'
                % (vm + 1, vm + 1, self.OUT_PRE_STATEFUL))
            add(self.TO_VM, 100, 'reg15=%d' % (vm + 1), 'output:%d' % (vm + 1))
        add(0, 100, 'in_port=%d' % WIRE_OFPORT,
            'load:%d->NXM_NX_REG12[],load:2->OXM_OF_METADATA[],'
            'resubmit(,%d)' % (self.SNAT_ZONE, self.UNSNAT))

        # To conntrack, which also undoes or repeats the balancer's choice.
        add(self.PRE_STATEFUL, 110, 'ip,reg0=0x4/0x4',
            'ct(table=%d,%s,nat)' % (self.HINT, zone))

        # What ACLs may do.
        for priority, state, bits in (
                (7, 'ct_state=+new-est+trk', (7, 9)),
                (6, 'ct_state=-new+est-rpl+trk,ct_mark=0x1/0x1', (7, 9)),
                (4, 'ct_state=-new+est-rpl+trk,ct_mark=0/0x1', (8, 10)),
                (3, 'ct_state=-est+trk', (9,)),
                (2, 'ct_state=+est+trk,ct_mark=0x1/0x1', (9,)),
                (1, 'ct_state=+est+trk,ct_mark=0/0x1', (10,))):
            add(self.HINT, priority, state,
                ''.join('load:1->NXM_NX_REG0[%d],' % bit for bit in bits)
                + 'resubmit(,%d)' % self.ACL)
        add(self.HINT, 0, '', 'resubmit(,%d)' % self.ACL)
        for state, verdict in (
                ('ct_state=+inv+trk', 17),
                ('ct_state=+est+rpl+trk,ct_mark=0x1/0x1', 17),
                ('ct_state=-new+est-rel+rpl-inv+trk,ct_mark=0/0x1', 16),
                ('ct_state=-new-est+rel-inv+trk,ct_mark=0/0x1', 16)):
            for table, following in ((self.ACL, self.ACL_ACTION),
                                     (self.OUT_ACL, self.TO_VM)):
                add(table, 65532, state + ',ip',
                    'load:1->NXM_NX_REG8[%d],resubmit(,%d)'
                    % (verdict, following)
                    if table == self.ACL or verdict == 16 else 'drop')
        add(self.ACL, 0, '', 'resubmit(,%d)' % self.ACL_ACTION)
        add(self.ACL_ACTION, 1000, 'reg8=0x10000/0x10000',
            'load:0->NXM_NX_REG8[16],resubmit(,%d)' % self.LB)

        # The balancer.
        for i in range(N_SERVICES):
            add(self.LB, 120, 'ct_state=+new+trk,tcp,nw_dst=%s,tp_dst=%d'
                % (service(i), SERVICE_PORT),
                'load:0->NXM_NX_REG0[1],group:%d' % (i + 1))
            groups.append(
                'group_id=%d,type=select,selection_method=dp_hash,%s' % (
                    i + 1, ','.join(
                        'bucket=bucket_id=%d,weight:100,actions=ct(nat(dst='
                        '%s:%d),commit,table=%d,%s,'
                        'exec(load:1->NXM_NX_CT_MARK[1]))'
                        % (j, address, BACKEND_PORT, self.LOOKUP, zone)
                        for j, address in enumerate(backends(i)))))
        add(self.LB, 0, '', 'resubmit(,%d)' % self.STATEFUL)
        add(self.STATEFUL, 100, 'ip,reg0=0x2/0x2',
            'ct(commit,%s,exec(load:0->NXM_NX_CT_MARK[0])),resubmit(,%d)'
            % (zone, self.LOOKUP))
        add(self.STATEFUL, 0, '', 'resubmit(,%d)' % self.LOOKUP)

        # To the router, and to the wire.
        add(self.LOOKUP, 50, 'dl_dst=' + WIRE_MAC, 'resubmit(,%d)' % self.SNAT)
        add(self.TO_WIRE, 0, '', 'output:%d' % WIRE_OFPORT)

        # To the machine.
        add(self.OUT_PRE_STATEFUL, 110, 'ip,reg0=0x4/0x4',
            'ct(table=%d,%s,nat)' % (self.OUT_ACL, zone))

        self.ofctl('add-groups', '\n'.join(groups) + '\n')
        self.ofctl('add-flows', '\n'.join(flows) + '\n')
        self.ovs.appctl('dpctl/ct-set-maxconns', str(self.args.ct_max))

    def deny(self, vm):
        """Has the ACL refuse what machine 'vm' sends.  Returns the time before
        it did so."""
        start = time.monotonic()
        self.ofctl('add-flows', 'table=%d,priority=2000,ip,reg14=%d,actions='
                   'load:1->NXM_NX_REG8[17],resubmit(,%d)\n'
                   % (self.ACL, vm + 1, self.ACL_ACTION))
        return start


def ovs_set(values):
    return ['set', list(values)]


def ovs_map(pairs):
    return ['map', [list(pair) for pair in pairs]]


class Layered(Switch):
    """Layers."""
    name = 'layered'
    title = '(c) layered bridge'
    datapath_type = 'layered'

    def __init__(self, args, n_vms=1, interfaces=None, n_rules=1000,
                 n_acls=None, flow_limit=None):
        """With 'n_acls', that many layers with an ACL of 'n_rules' each, and
        nothing else."""
        super().__init__(args, n_vms, interfaces)
        self.flow_limit = flow_limit or args.flow_limit
        self.acl = Acl(n_rules)
        self.n_acls = n_acls
        self.translates = n_acls is None
        self.operations = []
        self.counter = 0

    def insert(self, table, **row):
        """Adds an operation that inserts a row, and returns a reference to
        it."""
        self.counter += 1
        name = 'row%d' % self.counter
        self.operations.append({'op': 'insert', 'table': table, 'row': row,
                                'uuid-name': name})
        return ['named-uuid', name]

    def group(self, name, rules, **columns):
        return self.insert('Layer_Group', name=name, rules=ovs_set(
            self.insert('Layer_Rule', priority=priority, match=match,
                        actions=actions)
            for priority, match, actions in rules), **columns)

    def layer(self, name, outbound, inbound=None):
        columns = {}
        if inbound:
            columns['inbound'] = ovs_map([(10, inbound)])
        return self.insert('Layer', name=name,
                           outbound=ovs_map([(10, outbound)]), **columns)

    def acl_layer(self, name):
        # The last rule's action is the same as that of others; whatever no
        # rule allows is refused.
        rules = [(priority, 'tcp,nw_src=$%s,nw_dst=$%s,tp_dst={%s}'
                  % (src, dst, ','.join(map(str, ports))),
                  'allow,stateful' if allow else 'deny')
                 for priority, src, dst, ports, allow in self.acl.rules]
        return self.layer(name, self.group(name + '-out', rules,
                                           default='deny'),
                          self.group(name + '-in', [], default='deny'))

    def set_policy(self):
        self.ofctl('add-flows', 'priority=0,actions=NORMAL\n')
        self.operations = []
        for name, addresses in self.acl.sets.items():
            self.insert('Layer_Address_Set', name=name,
                        addresses=ovs_set(addresses))
        if self.n_acls is None:
            layers = [
                self.acl_layer('acl'),
                self.layer('balancer', self.group('services', [
                    (100, 'tcp,nw_dst=%s,tp_dst=%d' % (service(i),
                                                       SERVICE_PORT),
                     'dnat(%s)' % '|'.join('%s:%d' % (a, BACKEND_PORT)
                                           for a in backends(i)))
                    for i in range(N_SERVICES)])),
                self.layer('snat', self.group('translate', [
                    (100, 'ip,nw_src=' + machine(vm)[0],
                     'snat(%s)' % machine(vm)[1])
                    for vm in range(self.n_vms)])),
                self.layer('counter', self.group('count', [
                    (100, 'ip', 'count(sent),allow,stateful')])),
            ]
        else:
            layers = [self.acl_layer('acl%d' % i) for i in range(self.n_acls)]
        for name in self.vms:
            self.operations.append({
                'op': 'update', 'table': 'Interface',
                'where': [['name', '==', name]],
                'row': {'layers': ovs_map(enumerate(layers, 1)),
                        'layer_config': ovs_map([('flow-limit', str(
                            self.flow_limit))])}})
        self.commit()
        errors = self.ovs.vsctl(
            '--format=csv', '--no-headings', '--columns=error', 'find',
            'Layer_Rule', 'error!=[]').split('\n')[:-1]
        if errors:
            raise Error('rules have errors: %s' % errors[:3])

    def commit(self):
        """Commits the operations and waits until they are in force.  Returns
        the time before that."""
        db = self.ovs.database()
        db.monitor_cur_cfg()
        request = db.prepare_transaction(*self.operations, *db.next_cfg())
        start = time.monotonic()
        result = db.send_transaction(request)
        db.wait_for_cur_cfg(result[-1]['rows'][0]['next_cfg'])
        db.close()
        self.operations = []
        return start

    def deny(self, vm):
        """Has the ACL refuse what machine 'vm' sends.  Returns the time before
        it did so."""
        rule = self.insert('Layer_Rule', priority=2000, actions='deny',
                           match='ip,nw_src=' + machine(vm)[0])
        self.operations.append({
            'op': 'mutate', 'table': 'Layer_Group',
            'where': [['name', '==', 'acl-out']],
            'mutations': [['rules', 'insert', rule]]})
        return self.commit()

    def tiers(self):
        stats = self.unixctl.call('layered/stats')
        tiers = {}
        for port in stats.values():
            for key, value in port.items():
                if isinstance(value, int):
                    tiers[key] = tiers.get(key, 0) + value
                elif key == 'hits':
                    for tier, n in value.items():
                        tiers[tier] = tiers.get(tier, 0) + n
        return tiers


CONTESTANTS = {'a': Plain, 'b': Conntrack, 'c': Layered}


def cpu_model():
    """The processor's model, for the report."""
    with open('/proc/cpuinfo') as f:
        for line in f:
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return os.uname().machine
