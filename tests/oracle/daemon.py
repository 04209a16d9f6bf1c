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

"""ovs-vswitchd with its database, as an engine for driver.py."""

import collections
import ipaddress
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import uuid

from . import generate, model
from .wire import Frame

#
# Formats of the inspection commands and of the database, all in one place.
#

# Whether the tuples in layered/flows are those of packets ahead of the layer
# that the flow belongs to, or else those of the whole connection, ahead of the
# first layer that the packet comes to.
FLOW_TUPLES_OF_LAYER = True

PROTO_NAMES = {'icmp': 1, 'tcp': 6, 'udp': 17, 'icmp6': 58, 'icmpv6': 58,
               'sctp': 132}
STATE_NAMES = {
    'syn_sent': 'tcp_syn_sent', 'syn_recv': 'tcp_syn_recv',
    'established': 'tcp_established', 'fin_wait': 'tcp_fin_wait',
    'time_wait': 'tcp_time_wait', 'closed': 'tcp_close',
    'close': 'tcp_close', 'tcp_closed': 'tcp_close', 'first': 'udp_first',
    'single': 'udp_single', 'multiple': 'udp_multiple',
}
ICMP_STATE_NAMES = {'first': 'icmp_first', 'reply': 'icmp_reply'}


def adapt_tuple(text):
    """Parses "proto,src,dst,sport,dport"; portless protocols may leave the
    ports away.  Names may be given: proto=tcp,src=..."""
    parts = [part.strip().rpartition('=')[2] for part in text.split(',')]
    parts += ['0'] * (5 - len(parts))
    proto = parts[0].lower()
    return (PROTO_NAMES[proto] if proto in PROTO_NAMES else int(proto),
            ipaddress.ip_address(parts[1]), ipaddress.ip_address(parts[2]),
            int(parts[3]), int(parts[4]))


def adapt_flows(reply):
    """layered/flows: a list of dictionaries with layer, state, outbound and
    inbound."""
    flows = []
    for item in reply:
        state = item['state'].lower().replace('-', '_')
        outbound = adapt_tuple(item['outbound'])
        names = (ICMP_STATE_NAMES if outbound[0] in (model.ICMP, model.ICMPV6)
                 else STATE_NAMES)
        flows.append({
            'layer': item['layer'],
            'state': names.get(state, state),
            'outbound': outbound,
            'inbound': adapt_tuple(item['inbound'])})
    return flows


def adapt_rules(reply):
    """layered/rules: a dictionary of packets by the rule's name."""
    return {rule['name']: rule['packets']
            for group in reply for rule in group['rules']}


def adapt_memory(reply):
    """memory/show: the number of tuples of source translations."""
    return int(dict(item.rsplit(':', 1) for item in reply.split()
                    if ':' in item).get('nat-tuples', 0))


def adapt_trace(reply):
    """layered/trace: a dictionary with verdict (allow or drop), reason (None
    if it is allowed), and layers, a list of triples of layer, rule (None if
    unknown) and verdict (allow, deny or reject)."""
    verdict = reply['verdict']
    return {
        'verdict': {'deny': 'drop', 'reject': 'drop'}.get(verdict, verdict),
        'reason': reply.get('reason') or None,
        'layers': [(item['layer'],
                    'layer flow' if item['by'] == 'layer flow'
                    else item.get('rule') or None,
                    item['verdict']) for item in reply.get('layers', [])]}


def trace_flow(packet):
    """The FLOW argument of layered/trace, or None if it cannot tell all."""
    if packet.quoted is not None or packet.is_later_fragment():
        return None
    terms = ['dl_src=' + packet.eth_src, 'dl_dst=' + packet.eth_dst]
    if packet.vlan:
        terms += ['dl_vlan=%d' % packet.vlan[0],
                  'dl_vlan_pcp=%d' % packet.vlan[1]]
    if packet.eth_type == model.ETH_ARP:
        return ','.join(['arp'] + terms + [
            'arp_op=%d' % packet.arp_op, 'arp_spa=%s' % packet.src,
            'arp_tpa=%s' % packet.dst, 'arp_sha=' + packet.arp_sha,
            'arp_tha=' + packet.arp_tha])
    v4 = packet.eth_type == model.ETH_IP
    terms += ['%s=%s' % (name, value) for name, value in (
        ('nw_src' if v4 else 'ipv6_src', packet.src),
        ('nw_dst' if v4 else 'ipv6_dst', packet.dst),
        ('nw_tos', packet.tos & 0xfc), ('nw_ecn', packet.tos & 3),
        ('nw_ttl', packet.ttl))]
    if packet.frag:
        terms.append('nw_frag=first')
    names = {model.TCP: 'tcp', model.UDP: 'udp', model.SCTP: 'sctp'}
    if packet.proto in names:
        keyword = names[packet.proto] + ('' if v4 else '6')
        name = names[packet.proto]
        terms += ['%s_src=%d' % (name, packet.sport),
                  '%s_dst=%d' % (name, packet.dport)]
        if packet.proto == model.TCP:
            terms.append('tcp_flags=0x%x' % packet.flags)
    elif packet.is_icmp():
        keyword = 'icmp' if v4 else 'icmp6'
        prefix = 'icmp' if v4 else 'icmpv6'
        terms += ['%s_type=%d' % (prefix, packet.icmp_type),
                  '%s_code=%d' % (prefix, packet.icmp_code)]
        if packet.icmp_type in (135, 136) and not v4:
            terms.append('nd_target=%s' % ipaddress.ip_address(
                packet.payload[:16]))
    else:
        keyword = 'ip' if v4 else 'ip6'
        terms.insert(0, 'nw_proto=%d' % packet.proto)
    return ','.join([keyword] + terms)


def ovs_map(items):
    """A map, as the database's protocol has it."""
    return ['map', [list(item) for item in items]]


def ovs_set(items):
    """A set, as the database's protocol has it."""
    return ['set', list(items)]


def layer_row(name, layer, ref):
    """The columns of a row of table Layer.  ref() makes a reference."""
    row = {'name': name,
           'timeouts': ovs_map(sorted(layer.get('timeouts', {}).items())),
           'options': ovs_map(sorted(layer.get('options', {}).items()))}
    for direction in (model.OUTBOUND, model.INBOUND):
        default = 'default_' + direction
        row[default] = layer.get(default, 'allow')
        row[direction] = ovs_map(
            (int(key), ref('groups', group))
            for key, group in layer.get(direction, {}).items())
    return row


def group_row(name, group, ref):
    """The columns of a row of table Layer_Group."""
    return {'name': name, 'match': group.get('match', ''),
            'default': group.get('default', 'next'),
            'rules': ovs_set(ref('rules', rule) for rule in group['rules'])}


def rule_uuid(name):
    """A new UUID for a rule of that name, which ranks as the model says."""
    return '%08x%s' % (model.rank(name), str(uuid.uuid4())[8:])


def rule_row(name, rule, _ref):
    """The columns of a row of table Layer_Rule."""
    return {'name': name, 'priority': rule['priority'],
            'match': rule.get('match', ''), 'actions': rule['actions']}


def set_row(name, addresses, _ref):
    """The columns of a row of table Layer_Address_Set."""
    return {'name': name, 'addresses': ovs_set(addresses)}


def interface_row(port, ref):
    """The columns of a row of table Interface that are policy."""
    config = {}
    if port.get('addresses'):
        config['addresses'] = ' '.join(port['addresses'])
    ids = {'attached-mac': port['mac']} if port.get('mac') else {}
    return {'layers': ovs_map((int(position), ref('layers', layer))
                              for position, layer
                              in port.get('layers', {}).items()),
            'layer_config': ovs_map(config.items()),
            'external_ids': ovs_map(ids.items())}


# The tables by their names in a case, in order of reference.
TABLES = {'sets': ('Layer_Address_Set', set_row),
          'rules': ('Layer_Rule', rule_row),
          'groups': ('Layer_Group', group_row),
          'layers': ('Layer', layer_row)}

#
# Talking to the daemons.
#

class Gone(Exception):
    """A daemon does not answer any more."""


class JsonRpc:
    """A JSON-RPC connection over a Unix domain socket."""

    def __init__(self, path, timeout=30):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.decoder = json.JSONDecoder()
        self.buffer = ''
        self.next_id = 0

    def close(self):
        """Closes the connection."""
        self.socket.close()

    def write(self, text):
        """Sends one message or several."""
        try:
            self.socket.sendall(text.encode())
        except OSError as error:
            raise Gone(str(error)) from None

    def receive(self):
        """Waits for a message."""
        while True:
            self.buffer = self.buffer.lstrip()
            if self.buffer:
                try:
                    message, end = self.decoder.raw_decode(self.buffer)
                    self.buffer = self.buffer[end:]
                    return message
                except ValueError:
                    pass
            try:
                data = self.socket.recv(1 << 20)
            except OSError as error:
                raise Gone(str(error)) from None
            if not data:
                raise Gone('connection closed')
            self.buffer += data.decode()

    def call(self, method, params):
        """Sends a request and returns the whole reply."""
        return self.read_reply(*self.write_requests([(method, params)]))

    def write_requests(self, requests):
        """Sends requests in one go, and returns their numbers."""
        first = self.next_id + 1
        self.next_id += len(requests)
        numbers = range(first, self.next_id + 1)
        self.write(''.join(
            json.dumps({'method': method, 'params': params, 'id': number})
            for number, (method, params) in zip(numbers, requests)))
        return numbers

    def read_reply(self, number):
        """Waits for the reply to a request."""
        while True:
            message = self.receive()
            if 'method' not in message and message.get('id') == number:
                return message
            self.other(message)

    def other(self, message):
        """Handles what is not the reply."""
        if message.get('method') == 'echo':
            self.write(json.dumps({'id': message['id'], 'error': None,
                                   'result': message['params']}))


class CommandError(Exception):
    """ovs-vswitchd refused a command."""


class Unixctl(JsonRpc):
    """What ovs-appctl is, without a process."""

    def __init__(self, path, output='text'):
        super().__init__(path)
        self.output = output
        if output != 'text':
            self.command('set-options', '--format', output)

    def command(self, name, *args):
        """The reply to a command: a text or, if asked for, JSON."""
        return self.commands([(name, list(args))])[0]

    def commands(self, requests):
        """The same for commands that are executed one right after the
        other."""
        replies = [self.read_reply(number)
                   for number in self.write_requests(requests)]
        results = []
        for (name, _), reply in zip(requests, replies):
            if reply.get('error') is not None:
                raise CommandError('%s: %s' % (name, reply['error']))
            result = reply['result']
            if isinstance(result, dict) and 'reply-format' in result:
                result = result['reply']
            results.append(result)
        return results


class DatabaseError(Exception):
    """ovsdb-server refused a transaction."""


class Ovsdb(JsonRpc):
    """A client of ovsdb-server that also follows cur_cfg."""

    def __init__(self, path):
        super().__init__(path)
        self.cur_cfg = 0
        reply = self.call('monitor', ['Open_vSwitch', 'cfg', {
            'Open_vSwitch': {'columns': ['cur_cfg']}}])
        self._update(reply['result'])

    def _update(self, tables):
        for row in tables.get('Open_vSwitch', {}).values():
            self.cur_cfg = row.get('new', {}).get('cur_cfg', self.cur_cfg)

    def other(self, message):
        if message.get('method') == 'update':
            self._update(message['params'][1])
        else:
            super().other(message)

    def transact(self, operations):
        """Commits a transaction and returns the results."""
        reply = self.call('transact', ['Open_vSwitch'] + operations)
        if reply.get('error') is not None:
            raise DatabaseError(str(reply['error']))
        for i, result in enumerate(reply['result']):
            if result and result.get('error'):
                raise DatabaseError('%s: %s' % (
                    result, operations[i] if i < len(operations) else ''))
        return reply['result']

    def commit(self, operations):
        """The same, and waits until ovs-vswitchd has taken it on."""
        results = self.transact(operations + [
            {'op': 'mutate', 'table': 'Open_vSwitch', 'where': [],
             'mutations': [['next_cfg', '+=', 1]]},
            {'op': 'select', 'table': 'Open_vSwitch', 'where': [],
             'columns': ['next_cfg']}])
        next_cfg = results[len(operations) + 1]['rows'][0]['next_cfg']
        while self.cur_cfg < next_cfg:
            self.other(self.receive())
        return results


class Capture:
    """Reads a growing pcap file."""

    LARGE = 1 << 22

    def __init__(self, path):
        self.path = path
        self.file = None
        self.at_start = True

    def read(self):
        """Yields the frames that are new."""
        if self.file is None:
            try:
                self.file = open(self.path, 'rb')
            except FileNotFoundError:
                return
        while True:
            start = self.file.tell()
            if self.at_start:
                if len(self.file.read(24)) < 24:
                    self.file.seek(start)
                    return
                self.at_start = False
                continue
            header = self.file.read(16)
            length = struct.unpack('=IIII', header)[2] \
                if len(header) == 16 else 0
            data = self.file.read(length)
            if len(header) < 16 or len(data) < length:
                self.file.seek(start)
                return
            yield data


    def trim(self):
        """Empties the file if it is large and all of it has been read."""
        if self.file and self.file.tell() > self.LARGE:
            os.truncate(self.path, 0)
            self.file.seek(0)


OVS_COMMANDS = ('layered/trace', 'layered/flows', 'layered/rules',
                'layered/flush')


class Daemon:
    """ovs-vswitchd with its database, as an engine for Runner."""

    # The types of devices that dummy devices take the place of.
    DUMMY_LEVEL = 'override'

    def __init__(self, options):
        self.options = options
        self.processes = []
        self.rundir = None
        self.counts = collections.Counter()     # For report().
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    # Life.

    def start(self):
        """Starts everything."""
        options = self.options
        self.rundir = tempfile.mkdtemp(prefix='oracle.')
        self.environment = dict(os.environ, OVS_RUNDIR=self.rundir,
                                OVS_LOGDIR=self.rundir,
                                OVS_DBDIR=self.rundir,
                                OVS_SYSCONFDIR=self.rundir)
        database = self.path('conf.db')
        self.run('ovsdb/ovsdb-tool', 'create', database, options.schema)
        self.spawn('ovsdb/ovsdb-server', '--remote=punix:' +
                   self.path('db.sock'), '--unixctl=' +
                   self.path('ovsdb.ctl'), database)
        self.wait_for('db.sock')
        self.vsctl('--no-wait', 'init')
        self.spawn('vswitchd/ovs-vswitchd', 'unix:' + self.path('db.sock'),
                   '--enable-dummy=' + self.DUMMY_LEVEL, '--disable-system',
                   '--unixctl=' + self.path('vswitchd.ctl'))
        self.wait_for('vswitchd.ctl')
        self.captures = {}
        arguments = ['set', 'Open_vSwitch', '.',
                     'other_config:max-revalidator=100',
                     *self.arguments(), '--', 'add-br', 'br0', '--', 'set',
                     'bridge', 'br0', 'fail-mode=secure',
                     'datapath_type=' + options.datapath_type]
        if options.promote_packets is not None:
            arguments += ['other_config:promote-packets=%d'
                          % options.promote_packets]
        for i, port in enumerate(generate.PORTS, 1):
            pcap = self.path(port + '.pcap')
            self.captures[port] = Capture(pcap)
            arguments += ['--', 'add-port', 'br0', port, '--', 'set',
                          'interface', port, 'ofport_request=%d' % i,
                          *self.interface_arguments(port, pcap)]
        self.vsctl(*arguments)
        self.run('utilities/ovs-ofctl', 'add-flows',
                 self.path('br0.mgmt'), '-', stdin=openflow_rules())
        # inject() relies on the order of these.
        self.ctl = Unixctl(self.path('vswitchd.ctl'))
        self.ctl.command('version')
        self.json_ctl = Unixctl(self.path('vswitchd.ctl'), 'json')
        self.wait_ctl = Unixctl(self.path('vswitchd.ctl'))
        self.ovsdb = Ovsdb(self.path('db.sock'))
        known = self.ctl.command('list-commands')
        self.has = {name: name in known for name in OVS_COMMANDS}
        schema = self.ovsdb.call('get_schema', ['Open_vSwitch'])['result']
        self.has_tables = 'Layer' in schema['tables']
        self.uuids = None
        self.policy = None
        self.ctl.command('time/stop')

    def arguments(self):
        """What ovs-vsctl is to set in the table Open_vSwitch, and to do, ahead
        of all else."""
        return []

    def interface_arguments(self, _port, pcap):
        """What ovs-vsctl is to set in the Interface of a port, so that it is a
        dummy device that writes what is sent to it to the file 'pcap'."""
        return ['type=dummy', 'options:tx_pcap=' + pcap]

    def device(self, port):
        """The dummy device at the far end of a port."""
        return port

    def stop(self):
        """Ends everything."""
        for process in self.processes[::-1]:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []
        for name in ('ctl', 'json_ctl', 'wait_ctl', 'ovsdb'):
            connection = getattr(self, name, None)
            if connection:
                connection.close()
        if self.rundir and not self.options.keep_rundir:
            shutil.rmtree(self.rundir, ignore_errors=True)

    def restart(self):
        """Starts anew, after a crash.  The files of the old one stay."""
        keep, self.options.keep_rundir = self.options.keep_rundir, True
        self.stop()
        self.options.keep_rundir = keep
        self.start()

    def obituary(self):
        """What is known of daemons that ended."""
        return ', '.join('%s ended with status %s' % (p.args[0], p.poll())
                         for p in self.processes if p.poll() is not None)

    def path(self, name):
        """The path of a file in the directory of this instance."""
        return os.path.join(self.rundir, name)

    def run(self, program, *args, stdin=None):
        """Runs a program of the build."""
        subprocess.run([os.path.join(self.options.build, program), *args],
                       check=True, env=self.environment, input=stdin,
                       text=True, stdout=subprocess.DEVNULL)

    def vsctl(self, *args):
        """Runs ovs-vsctl."""
        self.run('utilities/ovs-vsctl', '--db=unix:' + self.path('db.sock'),
                 '--timeout=30', *args)

    def spawn(self, program, *args):
        """Starts a daemon of the build."""
        name = os.path.basename(program)
        with open(self.path(name + '.stderr'), 'w') as stderr:
            self.processes.append(subprocess.Popen(
                [os.path.join(self.options.build, program), *args,
                 '-vconsole:off', '-vsyslog:off',
                 '--log-file=' + self.path(name + '.log')],
                env=self.environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=stderr,
                cwd=self.rundir))

    def wait_for(self, name):
        """Waits until a socket is there."""
        deadline = time.monotonic() + 30
        while not os.path.exists(self.path(name)):
            if self.obituary() or time.monotonic() > deadline:
                raise Gone('no %s, %s' % (self.path(name), self.obituary()))
            time.sleep(.01)

    # Policy.

    def begin(self, policy):
        """Forgets all that was, and starts with 'policy'."""
        for capture in self.captures.values():
            collections.deque(capture.read(), 0)
            capture.trim()
        if self.has['layered/flush'] and self.policy:
            for port in generate.VM_PORTS:
                if self.policy.get('ports', {}).get(port, {}).get('layers'):
                    self.ctl.command('layered/flush', port)
        self.ctl.command('revalidator/purge')
        # To be back when this is in force, translations are given back now.
        if self.has_tables:
            operations = [{'op': 'delete', 'table': TABLES[key][0],
                           'where': []} for key in ('layers', 'sets')]
            self.uuids = {key: {} for key in TABLES}
            self.policy = {key: {} for key in TABLES}
            self.write_policy(policy, operations)
        self.ctl.command('revalidator/purge')

    def set_policy(self, policy):
        """Changes the policy to 'policy'."""
        self.settle()
        if self.has_tables:
            self.write_policy(policy, [])
        self.settle()

    def write_policy(self, policy, operations):
        """Executes 'operations' and replaces the policy by 'policy', in one
        transaction, and waits until it is in force."""
        new = {key: [] for key in TABLES}

        def ref(key, name):
            known = self.uuids[key].get(name)
            return ['uuid', known] if known else ['named-uuid',
                                                  '%s_%s' % (key, name)]

        inserted = {}
        for key, (table, make_row) in TABLES.items():
            for name, value in policy[key].items():
                known = name in self.uuids[key]
                if known and self.policy[key].get(name) == value:
                    continue
                row = make_row(name, value, ref)
                if known:
                    operations.append({
                        'op': 'update', 'table': table, 'row': row,
                        'where': [['_uuid', '==', ref(key, name)]]})
                else:
                    inserted[len(operations)] = (key, name)
                    operations.append({
                        'op': 'insert', 'table': table, 'row': row,
                        'uuid-name': '%s_%s' % (key, name)})
                    if key == 'rules':
                        operations[-1]['uuid'] = rule_uuid(name)
                new[key].append(name)
        gone = {key: [name for name in self.uuids[key]
                      if name not in policy[key]] for key in TABLES}
        for key in ('layers', 'sets'):
            for name in gone[key]:
                operations.append({
                    'op': 'delete', 'table': TABLES[key][0],
                    'where': [['_uuid', '==', ref(key, name)]]})
        for port in generate.VM_PORTS:
            operations.append({
                'op': 'update', 'table': 'Interface',
                'where': [['name', '==', port]],
                'row': interface_row(policy['ports'].get(port, {}), ref)})
        results = self.ovsdb.commit(operations)
        for i, (key, name) in inserted.items():
            self.uuids[key][name] = results[i]['uuid'][1]
        for key, names in gone.items():
            for name in names:
                del self.uuids[key][name]
        self.policy = policy

    def rows_in_error(self):
        """The names of the rules and groups with an error, or None if
        unknown."""
        if not self.has_tables:
            return None
        results = self.ovsdb.transact([
            {'op': 'select', 'table': TABLES[key][0],
             'where': [['error', '!=', ['set', []]]],
             'columns': ['name', 'error']} for key in ('rules', 'groups')])
        return {row['name'] for result in results for row in result['rows']
                if row['error'] != ''}

    # Packets and time.

    def inject(self, port, data, expected, to_trace):
        """Has 'port' receive a frame, and returns what comes out, and what
        layered/trace says ahead of it of each port, direction and packet in
        'to_trace', None if it cannot be asked.  Waits a little longer if less
        comes out than 'expected'."""
        requests = {}
        for i, (name, direction, packet) in enumerate(to_trace):
            flow = trace_flow(packet)
            if flow is not None and self.has['layered/trace']:
                requests[i] = ('layered/trace', [name, direction, flow])
        # The main thread in turn forwards packets and serves the connections
        # for commands, in the order in which they were made.  So a command on
        # an earlier connection than that of the packet's is served in the
        # next turn, after the packet.
        replies = self.json_ctl.commands(
            [*requests.values(), ('netdev-dummy/receive',
                                  [self.device(port), data.hex()])])
        traces = [None] * len(to_trace)
        for i, reply in zip(requests, replies):
            traces[i] = adapt_trace(reply)
        return self.collect(port, expected), traces

    def collect(self, _port, expected, _n=1):
        """Returns what has come out since 'n' frames were given to a port."""
        frames = []
        for _ in range(4):
            self.ctl.command('version')
            frames += self.read_captures()
            if len(frames) >= expected:
                break
        return frames

    def read_captures(self):
        """Returns the frames that are new."""
        return [Frame(name, frame) for name, capture in self.captures.items()
                for frame in capture.read()]

    def disturb(self, _seed, _step, _wait):
        """Called ahead of each step of a case: may do what must not matter,
        and call wait(MS) to let time pass.  What it does may depend on nothing
        but the case's seed and the step's ID, so that it is the same when the
        case has been made smaller."""

    def calm(self):
        """Ends what disturb() has begun."""

    def report(self):
        """What there is to say at the end, as lines."""
        return []

    def wait(self, ms):
        """Lets time pass."""
        self.settle()
        self.ctl.command('time/warp', str(ms))
        self.settle()

    def settle(self):
        """Lets revalidation and statistics catch up."""
        # Waiting alone would take until the next round is due, in real time.
        # One starts at once after a pause, so ask to wait during one.
        for _ in range(2):
            pause, wait = self.wait_ctl.write_requests(
                [('revalidator/pause', []), ('revalidator/wait', [])])
            # The main thread goes right on with the second.
            self.wait_ctl.read_reply(pause)
            self.ctl.command('revalidator/resume')
            self.wait_ctl.read_reply(wait)

    # Inspection.

    def flows(self, port):
        """What layered/flows says, or None."""
        if not self.has['layered/flows']:
            return None
        return adapt_flows(self.json_ctl.command('layered/flows', port))

    def await_tuples(self, expected):
        """Waits a while until no more than 'expected' tuples of source
        translations are in use, and returns how many are.  What a connection
        has is given back an RCU grace period after its end."""
        deadline = time.monotonic() + 30
        while True:
            n = adapt_memory(self.ctl.command('memory/show'))
            if n <= expected or time.monotonic() > deadline:
                return n
            time.sleep(.002)

    def rule_packets(self, port):
        """What layered/rules says of packets, or None."""
        if not self.has['layered/rules']:
            return None
        return adapt_rules(self.json_ctl.command('layered/rules', port))


def openflow_rules():
    """The rules that forward as the model does."""
    number = {port: i for i, port in enumerate(generate.PORTS, 1)}
    rules = ['priority=2,dl_dst=%s,actions=output:%d' % (mac, number[port])
             for mac, port in generate.MACS.items()]
    rules += ['priority=1,in_port=%d,actions=%s' % (
        number[port], ','.join('output:%d' % number[p] for p in others))
        for port, others in generate.FLOOD.items()]
    return '\n'.join(rules) + '\n'
