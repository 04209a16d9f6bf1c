#!/usr/bin/env python3
#
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

"""Compares ovs-vswitchd with the model, on random policies and packets.

Starts ovsdb-server and ovs-vswitchd of a build, with a layered bridge on the
dummy datapath, simulated time, the VM ports p1 and p2, and the port p3 that
stands for the network.  Each case has its policy written in one transaction,
its packets sent through the datapath, and what came out compared with what
the model lets come out; so are layered/trace ahead of each packet,
layered/flows at the end, and the rows that are in error.

The last line of the output is "N sequences, N packets, N disagreements".  The
exit status is 0 if there is no disagreement, 1 if there is, 2 if the driver
was called wrongly.  A case with a disagreement is written to a file that
--replay takes, made smaller first with --shrink.

Any number of drivers may run at once.  Run each in a network namespace of its
own, if other instances of ovs-vswitchd should not be disturbed:
tests/private-netns tests/oracle/driver.py ...
"""

import argparse
import collections
import ipaddress
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid

if __package__ in (None, ''):
    sys.path.insert(0, os.path.dirname(os.path.dirname(
        os.path.abspath(__file__))))
    __package__ = 'oracle'

from oracle import generate, model  # noqa: E402
from oracle.model import Packet  # noqa: E402

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
# Packets as bytes.
#

ARP_FORMAT = '!HHBBH6s4s6s4s'
TCP_WINDOW = 0x2000


def checksum(data):
    """The Internet checksum."""
    if len(data) % 2:
        data += b'\0'
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def _crc32c_table():
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
        table.append(crc)
    return table


CRC32C = _crc32c_table()


def crc32c(data):
    """The CRC of SCTP, in the order in which it is sent."""
    crc = 0xffffffff
    for byte in data:
        crc = CRC32C[(crc ^ byte) & 0xff] ^ crc >> 8
    return struct.pack('<I', ~crc & 0xffffffff)


def _mac_bytes(mac):
    return bytes.fromhex(mac.replace(':', ''))


def _mac_text(data):
    return ':'.join('%02x' % byte for byte in data)


def _pseudo(packet, length):
    if packet.src.version == 4:
        return packet.src.packed + packet.dst.packed + struct.pack(
            '!BBH', 0, packet.proto, length)
    return packet.src.packed + packet.dst.packed + struct.pack(
        '!IHBB', length, 0, 0, packet.proto)


def _encode_l4(packet):
    """What follows the IP header."""
    if packet.proto == model.TCP:
        data = struct.pack('!HHIIHHHH', packet.sport, packet.dport,
                           packet.seq, packet.ack, 5 << 12 | packet.flags,
                           TCP_WINDOW, 0, 0) + packet.payload
        at = 16
    elif packet.proto == model.UDP:
        data = struct.pack('!HHHH', packet.sport, packet.dport,
                           8 + len(packet.payload), 0) + packet.payload
        if packet.no_csum:
            return data
        at = 6
    elif packet.proto == model.SCTP:
        data = struct.pack('!HHII', packet.sport, packet.dport, 1,
                           0) + packet.payload
        return data[:8] + crc32c(data) + data[12:]
    elif packet.is_icmp():
        body = packet.payload
        if packet.quoted is not None:
            body = _encode_quoted(packet.quoted)
        data = struct.pack('!BBHI', packet.icmp_type, packet.icmp_code, 0,
                           packet.rest) + body
        at = 2
    else:
        return packet.payload
    pseudo = b'' if packet.proto == model.ICMP else _pseudo(packet, len(data))
    value = checksum(pseudo + data)
    if packet.proto == model.UDP and not value:
        value = 0xffff
    return data[:at] + struct.pack('!H', value) + data[at + 2:]


def _encode_quoted(packet):
    """The IP header and the header above it."""
    whole = _encode_ip(packet)
    header = 20 if packet.src.version == 4 else 40
    return whole[:header + (20 if packet.proto == model.TCP else 8)]


def _encode_ip(packet):
    data = _encode_l4(packet)
    if packet.src.version == 6:
        return struct.pack('!IHBB', 6 << 28 | packet.tos << 20, len(data),
                           packet.proto, packet.ttl) + (
            packet.src.packed + packet.dst.packed + data)
    fragment = 0
    if packet.frag:
        offset, length, more = packet.frag
        data = data[offset:offset + length]
        fragment = offset // 8 | (0x2000 if more else 0)
    header = struct.pack('!BBHHHBBH', 0x45, packet.tos, 20 + len(data),
                         packet.ident, fragment, packet.ttl, packet.proto, 0)
    header += packet.src.packed + packet.dst.packed
    return (header[:10] + struct.pack('!H', checksum(header)) + header[12:]
            + data)


def encode(packet):
    """The bytes of a packet."""
    frame = _mac_bytes(packet.eth_dst) + _mac_bytes(packet.eth_src)
    if packet.vlan:
        frame += struct.pack('!HH', 0x8100,
                             packet.vlan[1] << 13 | packet.vlan[0])
    frame += struct.pack('!H', packet.eth_type)
    if packet.eth_type == model.ETH_ARP:
        return frame + struct.pack(
            ARP_FORMAT, 1, model.ETH_IP, 6, 4, packet.arp_op,
            _mac_bytes(packet.arp_sha), packet.src.packed,
            _mac_bytes(packet.arp_tha), packet.dst.packed)
    return frame + _encode_ip(packet)


class BadPacket(Exception):
    """A frame that is not well-formed, or has a wrong checksum."""


def decode(frame):
    """The packet that a frame is.  Not for fragments."""
    try:
        packet = Packet(eth_dst=_mac_text(frame[:6]),
                        eth_src=_mac_text(frame[6:12]))
        packet.eth_type, = struct.unpack_from('!H', frame, 12)
        data = frame[14:]
        if packet.eth_type == 0x8100:
            tci, packet.eth_type = struct.unpack_from('!HH', data)
            packet.vlan = (tci & 0xfff, tci >> 13)
            data = data[4:]
        if packet.eth_type == model.ETH_ARP:
            (_, _, _, _, packet.arp_op, sha, spa, tha,
             tpa) = struct.unpack_from(ARP_FORMAT, data)
            packet.arp_sha, packet.arp_tha = _mac_text(sha), _mac_text(tha)
            packet.src = ipaddress.ip_address(spa)
            packet.dst = ipaddress.ip_address(tpa)
        elif packet.is_ip():
            _decode_ip(packet, data)
        else:
            packet.payload = bytes(data)
        return packet
    except (struct.error, ValueError, IndexError) as error:
        raise BadPacket('malformed: %s' % error) from None


def _decode_ip(packet, data, quoted=False):
    if data[0] >> 4 == 4:
        (_, packet.tos, length, packet.ident, fragment, packet.ttl,
         packet.proto, _) = struct.unpack_from('!BBHHHBBH', data)
        if checksum(data[:20]):
            raise BadPacket('IP checksum of %s'
                            % ('quoted packet' if quoted else 'packet'))
        packet.src = ipaddress.ip_address(data[12:16])
        packet.dst = ipaddress.ip_address(data[16:20])
        body = data[20:length]
        if fragment & 0x3fff:
            packet.frag = ((fragment & 0x1fff) * 8, len(body),
                           bool(fragment & 0x2000))
            packet.payload = bytes(body)
            if not packet.frag[0] and packet.has_ports():
                # For the hints.
                packet.sport, packet.dport = struct.unpack_from('!HH', body)
            if quoted and not packet.frag[0]:
                _decode_l4(packet, bytes(body), quoted)
            return
    else:
        word, length, packet.proto, packet.ttl = struct.unpack_from('!IHBB',
                                                                    data)
        packet.tos = word >> 20 & 0xff
        packet.src = ipaddress.ip_address(data[8:24])
        packet.dst = ipaddress.ip_address(data[24:40])
        body = data[40:40 + length]
    _decode_l4(packet, bytes(body), quoted)


def _decode_l4(packet, body, quoted):
    if packet.proto == model.TCP:
        (packet.sport, packet.dport, packet.seq, packet.ack,
         offset_flags) = struct.unpack_from('!HHIIH', body)
        packet.flags = offset_flags & 0xfff
        payload = body[(offset_flags >> 12) * 4:]
    elif packet.proto == model.UDP:
        packet.sport, packet.dport, _, given = struct.unpack_from('!HHHH',
                                                                  body)
        packet.no_csum = not given and packet.src.version == 4
        payload = body[8:]
    elif packet.proto == model.SCTP:
        packet.sport, packet.dport = struct.unpack_from('!HH', body)
        payload = body[12:]
        if not quoted and crc32c(body[:8] + bytes(4)
                                 + body[12:]) != body[8:12]:
            raise BadPacket('SCTP checksum')
    elif packet.is_icmp():
        (packet.icmp_type, packet.icmp_code, _,
         packet.rest) = struct.unpack_from('!BBHI', body)
        payload = body[8:]
        if not quoted and packet.is_icmp_error():
            packet.quoted = Packet(eth_type=packet.eth_type)
            _decode_ip(packet.quoted, payload, quoted=True)
            packet.quoted.payload = payload = b''
    else:
        payload = body
    packet.payload = payload
    if quoted or packet.proto == model.SCTP or packet.no_csum:
        return
    if packet.proto in (model.TCP, model.UDP) or packet.is_icmp():
        pseudo = (b'' if packet.proto == model.ICMP
                  else _pseudo(packet, len(body)))
        if checksum(pseudo + body):
            raise BadPacket('checksum of protocol %d' % packet.proto)


def comparable(packet):
    """A copy without what is not in the bytes of the packet."""
    if packet.quoted is None:
        return packet
    quoted = packet.quoted.copy(
        payload=b'', no_csum=False, vlan=None, quoted=None,
        eth_src=Packet.FIELDS['eth_src'], eth_dst=Packet.FIELDS['eth_dst'])
    return packet.copy(quoted=quoted, payload=b'')


class Frame:
    """Something that came out of a port."""

    def __init__(self, port, data):
        self.port = port
        self.data = data
        self.error = None
        try:
            self.packet = comparable(decode(data))
        except BadPacket as error:
            self.packet = None
            self.error = str(error)

    def is_packet(self, port, packet):
        """Whether this is 'packet' out of 'port'."""
        if port != self.port:
            return False
        if packet.frag:
            return encode(packet) == self.data
        return self.packet is not None and self.packet == comparable(packet)

    def is_answer(self, port, answer):
        """Whether this is the refusal 'answer'."""
        return (port == self.port and self.packet is not None
                and model.same_refusal(answer, self.packet))

    def __str__(self):
        return '%s: %s' % (self.port, self.packet or '%s %s' % (
            self.error, self.data.hex()))


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

    def __init__(self, options):
        self.options = options
        self.processes = []
        self.rundir = None
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
                   '--enable-dummy=override', '--disable-system',
                   '--unixctl=' + self.path('vswitchd.ctl'))
        self.wait_for('vswitchd.ctl')
        self.captures = {}
        arguments = ['set', 'Open_vSwitch', '.',
                     'other_config:max-revalidator=100', '--',
                     'add-br', 'br0', '--', 'set', 'bridge', 'br0',
                     'fail-mode=secure',
                     'datapath_type=' + options.datapath_type]
        for i, port in enumerate(generate.PORTS, 1):
            pcap = self.path(port + '.pcap')
            self.captures[port] = Capture(pcap)
            arguments += ['--', 'add-port', 'br0', port, '--', 'set',
                          'interface', port, 'type=dummy',
                          'ofport_request=%d' % i,
                          'options:tx_pcap=' + pcap]
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
            self._write(policy, operations)
        self.ctl.command('revalidator/purge')

    def set_policy(self, policy):
        """Changes the policy to 'policy'."""
        self.settle()
        if self.has_tables:
            self._write(policy, [])
        self.settle()

    def _write(self, policy, operations):
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
            [*requests.values(), ('netdev-dummy/receive', [port, data.hex()])])
        traces = [None] * len(to_trace)
        for i, reply in zip(requests, replies):
            traces[i] = adapt_trace(reply)
        frames = []
        for _ in range(4):
            self.ctl.command('version')
            for name, capture in self.captures.items():
                frames += [Frame(name, frame) for frame in capture.read()]
            if len(frames) >= expected:
                break
        return frames, traces

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
        deadline = time.monotonic() + 5
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


#
# Comparing.
#

class Disagreement(Exception):
    """The engine and the model differ."""

    def __init__(self, what, step, text):
        super().__init__('%s at step %s: %s' % (what, step, text))
        self.what = what
        self.step = step
        self.text = text


def invalid_rows(policy):
    """The names of the rules and groups that are in error, as far as they are
    in use."""
    names = set()
    for name, rule in policy['rules'].items():
        try:
            model.Rule(name, rule, policy['sets'])
        except model.PolicyError:
            names.add(name)
    for name, group in policy['groups'].items():
        try:
            model.Condition(group.get('match', ''), policy['sets'])
        except model.PolicyError:
            names.add(name)
    return names


class Runner:
    """Runs cases on an engine and on the model.

    An engine has the methods of Daemon from begin() on.  Counts packets, and
    in 'open_ends' the cases that could not be run to the end because what
    comes next is not specified."""

    MARGIN_MS = 1000

    def __init__(self, engine, check_errors=True):
        self.engine = engine
        self.check_errors = check_errors
        self.switch = None
        self.n_packets = 0
        self.n_emitted = 0
        self.n_cached = 0
        self.open_ends = collections.Counter()

    def run(self, case):
        """Runs a case.  Raises Disagreement."""
        self.has_fragments = self.switch and any(
            port.fragments for port in self.switch.ports.values())
        self.switch = model.Switch(generate.VM_PORTS, generate.MACS,
                                   generate.FLOOD)
        self.history = generate.History()
        self.now = 0
        self.knows_rules = True
        self.step = 'begin'
        try:
            self._run_steps(case)
            self.step = 'end'
            self._compare_flows()
            self._compare_tuples()
            if self.knows_rules:
                self._compare_rules()
        except model.Unspecified as reason:
            self.open_ends[str(reason)] += 1
        except (CommandError, DatabaseError) as error:
            raise Disagreement('error', self.step, str(error)) from None
        except Gone as error:
            text = '%s; %s; files in %s' % (error, self.engine.obituary(),
                                            self.engine.rundir)
            self.engine.restart()
            raise Disagreement('crash', self.step, text) from None

    def _run_steps(self, case):
        if self.has_fragments:
            # Those of the case before.
            self.engine.wait((model.FRAGMENT_TIMEOUT + 1) * model.MS)
        self.engine.begin(case['policy'])
        # Here too.
        self._compare_tuples()
        self.switch.set_policy(case['policy'], self.now)
        self._compare_errors(case['policy'])
        for step in case['steps']:
            self.step = step['id']
            if step['op'] == 'wait':
                self._wait(step['ms'])
            elif step['op'] == 'policy':
                self.engine.set_policy(step['policy'])
                tuples = set(self.switch.pool)
                self._change_policy(step['policy'])
                if tuples - set(self.switch.pool):
                    # What times out now because timeouts have become shorter
                    # is noticed within a second.
                    self._wait(self.MARGIN_MS + 1)
                self._await_tuples(tuples)
                self._compare_errors(step['policy'])
            else:
                resolved = self.history.resolve(step)
                if resolved:
                    for i in range(step.get('times', 1)):
                        self._send(step, *resolved, i == 0)

    def _wait(self, ms):
        # Which of two things that happen at the same time is first is not
        # worth knowing.
        while self.switch.near_deadline(self.now + ms, self.MARGIN_MS):
            ms += 700
        self.engine.wait(ms)
        self.now += ms
        tuples = set(self.switch.pool)
        self.switch.expire(self.now)
        self._await_tuples(tuples)

    def _await_tuples(self, before):
        """Waits until the tuples that were in use 'before' and are so no more
        may be used by others."""
        if before - set(self.switch.pool):
            self._compare_tuples()

    def _compare_tuples(self):
        expected = len(self.switch.pool)
        seen = self.engine.await_tuples(expected)
        if seen not in (None, expected):
            raise Disagreement('tuples', self.step, (
                '%d translated tuples in use, expected %d' % (seen,
                                                              expected)))

    def _compare_errors(self, policy):
        if not self.check_errors:
            return
        expected = invalid_rows(policy)
        deadline = time.monotonic() + 2
        while True:
            seen = self.engine.rows_in_error()
            if seen is None or seen == expected:
                return
            if time.monotonic() > deadline:
                raise Disagreement('errors', self.step, (
                    'in error: %s, expected %s'
                    % (sorted(seen), sorted(expected))))
            time.sleep(.01)

    # Packets.

    def _send(self, step, port, packet, first):
        self.switch.expire(self.now)
        chooser = model.Chooser()
        guess = self.switch.receive(port, packet, self.now, chooser)
        traced = (self._what_to_trace(port, packet, guess,
                                      bool(chooser.taken)
                                      or chooser.contended) if first else [])
        frames, traces = self.engine.inject(
            port, encode(packet), len(guess.emitted) + len(guess.answers),
            [what for what, _ in traced])
        self.n_packets += 1
        self.n_cached += not first
        result = self._explain(port, packet, frames)
        self._compare_traces(traced, traces, result)
        tuples = set(self.switch.pool)
        result.commit()
        if any(outcome.overtakes for _, _, outcome in result.outcomes):
            self.engine.settle()
        self._await_tuples(tuples)
        self.n_emitted += bool(result.emitted)
        self.history.note(step, port, packet, result.emitted)
        if result.open_end:
            raise model.Unspecified(result.open_end)

    def _explain(self, port, packet, frames):
        """The result that the model allows and that 'frames' came of."""
        hints = [frame.packet for frame in frames if frame.packet]
        matching = self._matching(port, packet, frames, hints)
        if len(matching) > 1:
            # What was not seen in a packet is to be seen in the flows.
            hints += [hint for name in self.switch.ports
                      for hint in self._listed_ports(self.engine.flows(name))]
            matching = self._tell_apart(
                self._matching(port, packet, frames, hints))
        if len({str([outcome.uses for _, _, outcome in result.outcomes])
                for result in matching}) > 1:
            self.knows_rules = False
        return matching[0]

    @staticmethod
    def _listed_ports(flows):
        """The ports in 'flows' as hints for a Chooser."""
        return [Packet(sport=item[d][3], dport=item[d][4])
                for item in flows or [] for d in model.OTHER]

    def _matching(self, port, packet, frames, hints):
        """The results that 'frames' may have come of, at least one."""
        unspecified = []
        problems = []

        def run(chooser):
            try:
                result = self.switch.receive(port, packet, self.now, chooser)
            except model.Unspecified as reason:
                unspecified.append(reason)
                return None
            if chooser.has_more and not result.emitted:
                # A port that is not seen may meet the conditions of others.
                self.knows_rules = False
            return result

        matching = []
        for result in model.explore(run, hints):
            if result is None:
                continue
            problem = self._mismatch(result, frames)
            if problem is None:
                matching.append(result)
            else:
                problems.append(problem)
                if any(outcome.hidden for _, _, outcome in result.outcomes):
                    unspecified.append(model.Unspecified(
                        'a choice that cannot be seen'))
        if not matching:
            if unspecified:
                raise unspecified[0]
            raise Disagreement('packet', self.step, 'sent %s to %s, %s' % (
                packet, port, problems[0]))
        return matching

    @staticmethod
    def _mismatch(result, frames):
        """Why 'frames' did not come of 'result', or None."""
        rest = list(frames)
        wanted = ([(p, x, Frame.is_packet) for p, x in result.emitted]
                  + [(p, x, Frame.is_answer) for p, x in result.answers])
        missing = []
        for port, packet, matches in wanted:
            frame = next((f for f in rest if matches(f, port, packet)), None)
            if frame:
                rest.remove(frame)
            elif matches is Frame.is_packet or not result.open_end:
                missing.append('%s: %s' % (port, packet))
        if result.open_end:
            # A refusal may also have come to something else.
            rest = [frame for frame in rest if frame.packet is None]
        if not missing and not rest:
            return None
        verdicts = ['%s %s: %s %s %s %s' % (
            port, direction, outcome.verdict, outcome.reason or '',
            outcome.layer or '', outcome.layers)
            for port, direction, outcome in result.outcomes]
        return 'expected [%s] (%s), seen [%s]' % (
            '; '.join(missing), '; '.join(verdicts),
            '; '.join(map(str, rest)))

    def _tell_apart(self, results):
        """Leaves out of 'results' those that the connections that the engine
        has now rule out.  What differs in nothing else does not matter."""
        listed = {}
        left = []
        for result in results:
            possible = True
            for name, _, outcome in result.outcomes:
                if outcome.connection is None:
                    continue
                if name not in listed:
                    listed[name] = self.engine.flows(name)
                if listed[name] is not None:
                    possible &= self._is_listed(outcome.connection,
                                                listed[name])
            if possible:
                left.append(result)
        if not left:
            raise Disagreement('flows', self.step, (
                'no allowed translation is among %s' % listed))
        outcomes = [[outcome for _, _, outcome in result.outcomes]
                    for result in left]
        self._check_same([
            (outcome.port.name, outcome.verdict, outcome.connection
             and self._visible(outcome.connection.flows))
            for outcome in same] for same in outcomes)
        for same in zip(*outcomes):
            if same[0].connection:
                same[0].connection.alternatives = self._alternatives(
                    [outcome.connection.flows for outcome in same])
                same[0].lessons = dict(set.intersection(
                    *(set(outcome.lessons.items()) for outcome in same)))
        return left

    @staticmethod
    def _visible(flows):
        """What can be seen of layer flows."""
        return [(flow.layer, flow.before, flow.after)
                for flow in flows.values()]

    @staticmethod
    def _alternatives(choices):
        """The layer flows in 'choices' that are others than the first."""
        different = {str([(t.kind, t.before, t.address, t.port)
                          for flow in flows.values()
                          for t in flow.translations]): flows
                     for flows in reversed(choices)}
        return [flows for flows in different.values()
                if flows is not choices[0]]

    @staticmethod
    def _check_same(descriptions):
        if len({str(description) for description in descriptions}) > 1:
            raise model.Unspecified('a choice that cannot be seen')

    @staticmethod
    def _is_listed(connection, listed, reply_key=None, flows=None):
        """Whether layer flows of 'connection' are among those 'listed'."""
        flows = connection.flows.values() if flows is None else flows
        reply_key = reply_key or connection.reply_key
        keys = {connection.direction: connection.key,
                model.OTHER[connection.direction]: reply_key}
        for flow in flows:
            pair = (keys if not FLOW_TUPLES_OF_LAYER else
                    {d: flow.key_in(d) for d in keys})
            if not any(item['layer'] == flow.layer
                       and all(item[d] == pair[d] for d in pair)
                       for item in listed):
                return False
        return True

    # Policy.

    def _change_policy(self, policy):
        listed = {}
        # Who is towards whom: protocols and remote endpoints by connection.
        remotes = [(holder, claim[0], claim[3:])
                   for claim, holder in self.switch.pool.items()]

        def chooser_for(port, connection):
            if port.name not in listed:
                listed[port.name] = self.engine.flows(port.name)
            if listed[port.name] is None:
                return None
            taken = []

            def run(chooser):
                try:
                    judged = port.judge_again(connection, chooser,
                                              self.now)
                except model.Unspecified:
                    judged = None
                taken.append(chooser)
                return judged

            hints = self._listed_ports(listed[port.name])
            others = ((port.former_keys | set(port.connections))
                      - set(connection.keys()))
            in_use = False
            matching = []
            refused = None
            by_former = collections.defaultdict(set)
            for judged in model.explore(run, hints):
                script = [index for index, _ in taken[-1].taken]
                if not judged:
                    refused = refused or script
                    continue
                flows = {flow.layer: flow for flow in judged[0]}
                if connection.alternatives:
                    # That is the first choice.
                    by_former[script[0]].add(str(self._visible(flows)))
                if self._is_listed(connection, listed[port.name], judged[1],
                                   judged[0]):
                    matching.append((script, flows))
                    continue
                in_use |= (model.OTHER[connection.direction],
                           judged[1]) in others
                claims = [t.claim for flow in judged[0]
                          for t in flow.translations if t.claim]
                in_use |= any(
                    holder is not connection
                    and (claim[0], claim[3:]) == (proto, remote)
                    for claim in claims for holder, proto, remote in remotes)
            if matching:
                choices = [flows for _, flows in matching]
                self._check_same(self._visible(flows) for flows in choices)
                return model.Chooser(matching[0][0], hints,
                                     self._alternatives(choices))
            # Has what could not be seen come to light?
            self._check_same(by_former.values())
            if in_use:
                # Who gets it depends on who is judged first.
                raise model.Unspecified('tuple in use after a change of '
                                        'policy')
            # Some choices may have it refused.
            return model.Chooser(refused, hints) if refused else None

        self.switch.set_policy(policy, self.now, chooser_for)

    # Inspection.

    def _what_to_trace(self, in_port, packet, guess, chosen):
        """A list of what to trace, a port, direction and packet, and the
        outcomes that the model allows besides the one that will have been.
        If the engine is free to decide something ('chosen'), a trace may
        decide otherwise than the packet, and the ports that the packet comes
        to later are up to that."""
        outcomes = guess.outcomes
        allowed = collections.defaultdict(list)
        if chosen:
            sender_first = outcomes and outcomes[0][1] == model.OUTBOUND
            outcomes = outcomes[:1] if sender_first else [
                o for o in outcomes if o[1] == model.INBOUND]

            def run(chooser):
                try:
                    return self.switch.receive(in_port, packet, self.now,
                                               chooser).outcomes
                except model.Unspecified:
                    return []

            def run_trace(chooser):
                chooser.is_trace = True
                return run(chooser)

            for others in (*model.explore(run), *model.explore(run_trace)):
                for port, direction, outcome in others:
                    allowed[port, direction].append(outcome)
        return [((port, direction, outcome.input), allowed[port, direction])
                for port, direction, outcome in outcomes
                if self.switch.ports[port].policy.layers]

    def _compare_traces(self, traced, traces, result):
        outcomes = {(port, direction): outcome
                    for port, direction, outcome in result.outcomes}
        for ((port, direction, _), allowed), trace in zip(traced, traces):
            outcome = outcomes.get((port, direction))
            if outcome is None or trace is None:
                continue
            problem = self._trace_problem(trace, outcome)
            if problem and all(self._trace_problem(trace, other)
                               for other in allowed):
                raise Disagreement('trace', self.step, (
                    '%s of %s %s %s, model: %s %s %s, trace: %s' % (
                        problem, port, direction, outcome.input,
                        outcome.verdict, outcome.reason, outcome.layers,
                        trace)))

    @staticmethod
    def _trace_problem(trace, outcome):
        if trace['verdict'] != outcome.verdict:
            return 'verdict'
        reasons = {outcome.reason} | outcome.also
        if outcome.verdict == 'drop' and trace['reason'] not in reasons:
            return 'reason'
        if outcome.also:
            return None
        if len(trace['layers']) != len(outcome.layers):
            return 'number of layers'
        for seen, expected in zip(trace['layers'], outcome.layers):
            if seen[0] != expected[0] or seen[2] != expected[2]:
                return 'layer'
            if None not in (seen[1], expected[1]) and seen[1] != expected[1]:
                return 'rule'
        return None

    def _compare_flows(self):
        self.engine.settle()
        prefix = '' if FLOW_TUPLES_OF_LAYER else 'connection_'

        def line(item, prefix):
            return '%s %s %s %s' % (
                item['layer'], item['state'],
                _tuple_text(item[prefix + 'outbound']),
                _tuple_text(item[prefix + 'inbound']))

        for name, port in self.switch.ports.items():
            if not port.policy.layers:
                continue
            seen = self.engine.flows(name)
            if seen is None:
                continue
            seen = collections.Counter(line(item, '') for item in seen)
            expected = collections.Counter(line(item, prefix)
                                           for item in port.list_flows())
            if seen != expected:
                raise Disagreement('flows', self.step, (
                    '%s: missing %s, unexpected %s' % (
                        name, sorted((expected - seen).elements()),
                        sorted((seen - expected).elements()))))


    def _compare_rules(self):
        for name, port in self.switch.ports.items():
            if not port.policy.layers:
                continue
            seen = self.engine.rule_packets(name)
            if seen is None:
                continue
            wrong = ['%s: %s, expected %s' % (rule, seen[rule],
                                              port.rule_packets[rule])
                     for rule in port.policy.rules
                     if seen[rule] != port.rule_packets[rule]]
            if wrong:
                raise Disagreement('rules', self.step, '%s: packets of %s' % (
                    name, '; '.join(wrong)))


def _tuple_text(key):
    return ','.join(map(str, key))


#
# The command.
#

def source_of(build):
    """The source directory of a build."""
    with open(os.path.join(build, 'Makefile')) as makefile:
        for line in makefile:
            if line.startswith('abs_top_srcdir = '):
                return line.split(' = ', 1)[1].strip()
    raise SystemExit('%s: no abs_top_srcdir in Makefile' % build)


def parse_options():
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description='Compares ovs-vswitchd with the model.')
    parser.add_argument('--build', required=True,
                        help="OVS's build directory")
    parser.add_argument('--schema', help='schema of the database, instead of '
                        "that of the build's source")
    parser.add_argument('--datapath-type', default='layered-dummy')
    parser.add_argument('--seed', type=int, default=0,
                        help='seed of the first case')
    parser.add_argument('--count', type=int, default=1000)
    parser.add_argument('--seconds', type=float, default=float('inf'),
                        help='end after that time')
    parser.add_argument('--shrink', action='store_true',
                        help='make a case smaller before writing it')
    parser.add_argument('--shrink-seconds', type=float, default=60)
    parser.add_argument('--keep', metavar='DIR', default='.',
                        help='where cases are written to')
    parser.add_argument('--keep-rundir', action='store_true',
                        help="leave the daemons' files")
    parser.add_argument('--replay', metavar='FILE',
                        help='run this case only')
    parser.add_argument('--plain', action='store_true',
                        help='run the packets only, without any policy')
    parser.add_argument('--no-errors', action='store_true',
                        help='do not compare what is in error')
    parser.add_argument('--stop-after', type=int, default=10, metavar='N',
                        help='end after N disagreements')
    parser.add_argument('-v', '--verbose', action='store_true')
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    if not options.schema:
        options.schema = os.path.join(source_of(options.build), 'vswitchd',
                                      'vswitch.ovsschema')
    return options


def cases(options):
    """Yields the cases to run."""
    if options.replay:
        with open(options.replay) as file:
            case = json.load(file)
        yield case.get('case', case)
        return
    for seed in range(options.seed, options.seed + options.count):
        case = generate.make_case(seed)
        yield generate.without_policy(case) if options.plain else case


def failure(runner, case):
    """The disagreement that a case leads to, or None."""
    try:
        runner.run(case)
    except Disagreement as disagreement:
        return disagreement
    return None


def record(options, runner, case, disagreement):
    """Writes a case to a file, as small as may be, and says so."""
    if options.shrink:
        def fails(candidate):
            found = failure(runner, candidate)
            return found is not None and found.what == disagreement.what

        smaller = generate.shrink(case, fails, options.shrink_seconds)
        again = failure(runner, smaller)
        if again:
            case, disagreement = smaller, again
        else:
            print('seed %s: the disagreement did not come back'
                  % case.get('seed'))
    path = os.path.join(options.keep,
                        'disagreement-%s.json' % case.get('seed'))
    with open(path, 'w') as file:
        json.dump({'disagreement': str(disagreement), 'case': case}, file,
                  indent=1)
        file.write('\n')
    print('seed %s: %s\n  written to %s'
          % (case.get('seed'), disagreement, path), flush=True)


def main():
    """The command."""
    options = parse_options()
    os.makedirs(options.keep, exist_ok=True)
    # So that the daemons do not stay behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    engine = Daemon(options)
    runner = Runner(engine, check_errors=not options.no_errors)
    n = n_disagreements = 0
    deadline = time.monotonic() + options.seconds
    try:
        for case in cases(options):
            if time.monotonic() > deadline:
                break
            n += 1
            disagreement = failure(runner, case)
            if disagreement:
                n_disagreements += 1
                if options.replay:
                    print(disagreement)
                else:
                    n_packets = runner.n_packets
                    record(options, runner, case, disagreement)
                    runner.n_packets = n_packets
                if n_disagreements >= options.stop_after:
                    break
    finally:
        engine.stop()
    if options.verbose:
        print('%d packets came out, %d were sent again'
              % (runner.n_emitted, runner.n_cached))
        for reason, number in runner.open_ends.most_common():
            print('%d not run to the end: %s' % (number, reason))
    print('%d sequences, %d packets, %d disagreements'
          % (n, runner.n_packets, n_disagreements))
    return 1 if n_disagreements else 0


if __name__ == '__main__':
    sys.exit(main())
