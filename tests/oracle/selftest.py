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

"""Tests of the model, without ovs-vswitchd.

The examples say, point by point, what layers do.  They are what the model is
trusted by."""

import copy
import os
import sys
import unittest

if __package__ in (None, ''):
    sys.path.insert(0, os.path.dirname(os.path.dirname(
        os.path.abspath(__file__))))
    __package__ = 'oracle'

from oracle import generate, model  # noqa: E402
from oracle.model import (ACK, FIN, INBOUND, MS, OUTBOUND, RST,  # noqa: E402
                          SYN, Packet)

VM = '10.0.1.1'
PEER = '10.0.3.1'
OTHER_PEER = '10.0.3.2'
VM6 = 'fd00:1::1'
PEER6 = 'fd00:3::1'


def policy_of(*layers, sets=None, port=None):
    """A policy for p1: 'layers' in ascending position, each a dictionary whose
    'out' and 'in' are lists of groups, each a list of rules or a dictionary;
    a rule is "PRIORITY MATCH|ACTIONS"."""
    policy = {'sets': sets or {}, 'rules': {}, 'groups': {}, 'layers': {},
              'ports': {'p1': dict({
                  'layers': {}, 'addresses': [VM, VM6],
                  'mac': generate.MAC['p1']}, **(port or {}))}}
    for position, layer in enumerate(layers):
        row = {k: v for k, v in layer.items() if k not in ('out', 'in')}
        for short, direction in (('out', OUTBOUND), ('in', INBOUND)):
            row[direction] = {}
            for key, group in enumerate(layer.get(short, [])):
                if isinstance(group, list):
                    group = {'rules': group}
                name = 'g%d' % len(policy['groups'])
                rules = []
                for text in group['rules']:
                    left, actions = text.split('|', 1)
                    priority, _, match = left.partition(' ')
                    rule = 'r%d' % len(policy['rules'])
                    rules.append(rule)
                    policy['rules'][rule] = {
                        'priority': int(priority), 'match': match,
                        'actions': actions}
                policy['groups'][name] = dict(group, rules=rules)
                row[direction][str(key)] = name
        name = 'L%d' % (position + 1)
        policy['layers'][name] = row
        policy['ports']['p1']['layers'][str(position * 10)] = name
    return policy


def port_of(*layers, **others):
    """A port with a policy."""
    port = model.Port('p1')
    port.set_policy(model.PortPolicy(policy_of(*layers, **others), 'p1'), 0)
    return port


def tcp(flags, src=VM, dst=PEER, sport=5000, dport=80, **others):
    """A TCP packet."""
    family = model.ETH_IP if '.' in src else model.ETH_IPV6
    return Packet(eth_type=family, proto=model.TCP, src=src, dst=dst,
                  sport=sport, dport=dport, flags=flags, **others)


def udp(src=VM, dst=PEER, sport=5000, dport=53, **others):
    """A UDP packet."""
    family = model.ETH_IP if '.' in src else model.ETH_IPV6
    return Packet(eth_type=family, proto=model.UDP, src=src, dst=dst,
                  sport=sport, dport=dport, **others)


def icmp(icmp_type, src=VM, dst=PEER, **others):
    """An ICMP packet."""
    v4 = '.' in src
    return Packet(eth_type=model.ETH_IP if v4 else model.ETH_IPV6,
                  proto=model.ICMP if v4 else model.ICMPV6, src=src, dst=dst,
                  icmp_type=icmp_type, **others)


def answer(packet, **changes):
    """'packet' with the endpoints swapped."""
    return generate.answer_to(packet).copy(**changes)


def text_of(packet):
    """The tuple of a packet."""
    return '%s:%d>%s:%d' % (packet.src, packet.sport, packet.dst,
                            packet.dport)


STATEFUL = {'out': [['1 |allow,stateful']], 'default_inbound': 'deny',
            'in': [[]]}


class PortTest(unittest.TestCase):
    """A test with a port."""

    def send(self, packet, now=0, direction=OUTBOUND, chooser=None):
        """Has the port judge a packet."""
        return self.port.process(direction, packet, now * MS, chooser)

    def passes(self, packet, now=0, direction=OUTBOUND, chooser=None):
        """Sends a packet that must pass, and returns it behind the port."""
        outcome = self.send(packet, now, direction, chooser)
        self.assertEqual(('allow', None), (outcome.verdict, outcome.reason))
        return outcome.packet

    def drops(self, packet, reason, now=0, direction=OUTBOUND):
        """Sends a packet that must be dropped for that reason."""
        outcome = self.send(packet, now, direction)
        self.assertEqual(('drop', reason), (outcome.verdict, outcome.reason))
        return outcome

    def change(self, *layers, now=0, **others):
        """Changes the port's policy."""
        self.port.set_policy(
            model.PortPolicy(policy_of(*layers, **others), 'p1'), now * MS)

    def states(self):
        """The state of each layer flow, by layer."""
        return {flow['layer']: flow['state']
                for flow in self.port.list_flows()}


class ConditionTest(unittest.TestCase):
    """The texts of conditions."""

    ENVIRONMENT = model.Environment(
        {'web': model.AddressSet(['10.0.3.0/24', '10.0.9.1-10.0.9.5',
                                  'fd00:3::/64', '50:54:00:00:00:01'])},
        [VM, VM6], '50:54:00:00:00:01')

    def matches(self, text, packet):
        """Whether a packet meets a condition."""
        return model.Condition(text, {'web': []}).matches(
            packet, self.ENVIRONMENT)

    def test_matches(self):
        syn = tcp(SYN, eth_src='50:54:00:00:00:01', tos=0x21, vlan=(10, 3))
        for text in ('', 'ip', 'tcp', 'tcp,tp_dst=80', 'tcp, tp_dst = 80',
                     'tcp,tp_dst=80-90', 'tcp,tp_dst=0x50/0xfff0',
                     'tcp,tcp_dst={1,80}', 'tcp,tp_dst={1,70-81}',
                     'ip,nw_src=10.0.0.0/8', 'ip,nw_src=10.0.0.0/255.0.0.0',
                     'ip,nw_dst=$web', 'ip,nw_src=$self',
                     'ip,ip_dst={1.2.3.4,$web}', 'dl_src=$self_mac',
                     'dl_src=$web', 'ip,nw_src=10.0.1.0-10.0.1.9',
                     'dl_src=50:54:00:00:00:00/ff:ff:ff:ff:ff:00',
                     'ip,nw_proto=6,tp_dst=80', 'dl_type=0x800,nw_proto=6',
                     'ip,nw_tos=32', 'ip,ip_dscp=8', 'ip,nw_ecn=1',
                     'ip,nw_ttl=64', 'dl_vlan=10', 'dl_vlan_pcp=3',
                     'vlan_tci=0x1000/0x1000', 'tcp,tcp_flags=+syn-ack',
                     'tcp,tcp_flags=2', 'tcp,tcp_flags=0x2/0x12',
                     'ip,ip_frag=no', 'ip,ip_frag=not_later'):
            self.assertTrue(self.matches(text, syn), text)
        for text in ('udp', 'ip6', 'arp', 'tcp,tp_dst=81', 'tcp6',
                     'ip,nw_src=$web', 'ip,nw_dst=$self', 'dl_vlan=0xffff',
                     'ip,nw_ttl=65-70', 'dl_dst=$self_mac',
                     'tcp,tcp_flags=+syn+ack', 'ip,ip_frag=yes',
                     'vlan_tci=0'):
            self.assertFalse(self.matches(text, syn), text)

    def test_other_protocols(self):
        self.assertTrue(self.matches('icmp,icmp_type=8', icmp(8)))
        self.assertTrue(self.matches('icmp6,icmpv6_type=128',
                                     icmp(128, VM6, PEER6)))
        self.assertTrue(self.matches('udp6,ipv6_dst=$web', udp(VM6, PEER6)))
        self.assertFalse(self.matches('icmp', icmp(128, VM6, PEER6)))
        request = Packet(eth_type=model.ETH_ARP, src=VM, dst=PEER, arp_op=1)
        self.assertTrue(self.matches('arp,arp_op=1,arp_tpa=' + PEER, request))
        self.assertFalse(self.matches('ip,nw_src=' + VM, request))

    def test_fragments(self):
        first = udp(frag=(0, 24, True))
        later = udp(frag=(24, 8, False))
        for text, expected in (('yes', (True, True)), ('no', (False, False)),
                               ('first', (True, False)),
                               ('later', (False, True)),
                               ('not_later', (True, False))):
            self.assertEqual(expected, tuple(
                self.matches('ip,ip_frag=' + text, p)
                for p in (first, later)))

    def test_errors(self):
        for text in generate.BAD_MATCHES + ('tcp,tp_dst=9-5', 'tcp,udp',
                                            'tcp,nw_proto=6', 'tcp,,',
                                            'ip,nw_tos=1', 'ip,nw_src=$self_',
                                            'tcp,tp_dst=$web'):
            with self.assertRaises(model.PolicyError, msg=text):
                model.Condition(text, {'web': []})


class ActionsTest(unittest.TestCase):
    """The texts of actions; SEMANTICS 3c."""

    def test_verdicts(self):
        for text, verdict, stateful in (
                ('allow', 'allow', False), ('deny', 'deny', False),
                ('allow,stateful', 'allow', True),
                ('stateful,allow_continue', 'allow_continue', True),
                ('count(c)', 'next', False), ('dec_ttl', 'next', False),
                ('snat(1.2.3.4)', 'allow', True),
                ('set_dscp(3),dnat(1.2.3.4:80)', 'allow', True),
                ('snat(1.2.3.4),dnat(1.2.3.5),allow_continue',
                 'allow_continue', True)):
            actions = model.Actions(text)
            self.assertEqual((verdict, stateful),
                             (actions.verdict, actions.stateful), text)

    def test_nat(self):
        nat = model.Nat('snat', '10.0.0.1-10.0.0.3:5-9')
        self.assertEqual((3, (5, 9)), (len(nat.addresses), nat.ports))
        nat = model.Nat('snat', '[fd00::1-fd00::2]:5')
        self.assertEqual((2, (5, 5)), (len(nat.addresses), nat.ports))
        nat = model.Nat('snat', 'fd00::1-fd00::2')
        self.assertEqual((2, None), (len(nat.addresses), nat.ports))
        nat = model.Nat('dnat', '1.2.3.4|1.2.3.5:80,hash=src')
        self.assertEqual(([None, 80], True),
                         ([port for _, port in nat.targets], nat.hash_src))
        nat = model.Nat('dnat', '[fd00::1]:80|fd00::2')
        self.assertEqual([80, None], [port for _, port in nat.targets])

    def test_errors(self):
        for text in generate.BAD_ACTIONS + (
                'reject,snat(1.2.3.4)', 'dnat(1.2.3.4),dnat(1.2.3.4)',
                'snat(1.2.3.4:0)', 'dnat(1.2.3.4:5-6)', 'snat(1.2.3.4',
                'set_mac(src)', 'deny_continue,stateful', ''):
            with self.assertRaises(model.PolicyError, msg=text):
                model.Actions(text)

    def test_row_in_error_is_skipped(self):
        port = port_of({'out': [['2 nosuch=1|deny', '1 |allow']]})
        self.assertEqual('allow', port.process(OUTBOUND, udp(), 0).verdict)


class RulesTest(PortTest):
    """SEMANTICS 1, 3 and 4: layers, groups, rules and their verdicts."""

    def test_no_layers(self):
        self.port = port_of()
        self.passes(tcp(ACK))

    def test_order_of_layers(self):
        first = {'out': [['1 |deny']], 'in': [['1 |deny']]}
        second = {'out': [['1 |reject']], 'in': [['1 |reject']]}
        self.port = port_of(first, second)
        self.assertEqual('L1', self.drops(udp(), 'rule').layer)
        self.assertEqual('L2', self.drops(udp(PEER, VM), 'reject',
                                          direction=INBOUND).layer)

    def test_highest_priority(self):
        self.port = port_of({'out': [['1 |deny', '7 udp|allow',
                                      '9 tcp|deny']]})
        self.passes(udp())

    def test_layer_without_groups(self):
        self.port = port_of({'in': [['1 |deny']],
                             'default_outbound': 'deny'})
        self.passes(udp())

    def test_defaults(self):
        self.port = port_of({'out': [['1 udp|next']],
                             'default_outbound': 'deny'})
        self.drops(udp(), 'default')
        self.port = port_of({'out': [
            {'rules': [], 'default': 'deny'}, ['1 |allow']]})
        self.drops(udp(), 'group-default')
        self.port = port_of({'default_outbound': 'deny', 'out': [
            {'rules': [], 'default': 'allow'}, ['1 |deny']]})
        self.passes(udp())

    def test_match_of_group(self):
        self.port = port_of({'out': [
            {'match': 'udp', 'rules': ['1 |deny']}, ['1 |allow']]})
        self.drops(udp(), 'rule')
        self.passes(tcp(SYN))

    def test_match_of_group_sees_rewritten_headers(self):
        self.port = port_of({'out': [
            ['1 |set_dscp(5)'],
            {'match': 'ip,ip_dscp=5', 'rules': ['1 |deny']}]})
        self.drops(udp(), 'rule')

    def test_remembered(self):
        self.port = port_of({'out': [['1 |deny_continue'],
                                     ['1 udp|allow_continue'],
                                     ['1 udp,tp_dst=53|next']]})
        self.passes(udp())
        self.drops(tcp(SYN), 'rule')
        self.port = port_of({'out': [['1 |deny_continue'], ['1 udp|allow']]})
        self.passes(udp())
        self.port = port_of({'out': [
            ['1 |deny_continue'], {'rules': [], 'default': 'allow'}]})
        self.passes(udp())

    def test_rewrites(self):
        self.port = port_of({'out': [
            ['1 |set_dscp(9),set_mac(dst,50:54:00:00:00:03),dec_ttl,allow']]})
        packet = self.passes(udp(tos=0x81))
        self.assertEqual((0x25, 63, '50:54:00:00:00:03'),
                         (packet.tos, packet.ttl, packet.eth_dst))

    def test_last_hop(self):
        self.port = port_of({'out': [['1 |dec_ttl,allow,stateful']]})
        self.drops(udp(ttl=1), 'ttl')
        self.passes(udp(ttl=2))
        self.drops(udp(ttl=1), 'ttl')

    def test_all_layers_seen(self):
        self.port = port_of({}, {'out': [['1 |allow,stateful']]})
        self.assertEqual([('L1', None, 'allow'), ('L2', 'r0', 'allow')],
                         self.send(udp()).layers)
        self.assertEqual([('L1', None, 'allow'),
                          ('L2', 'layer flow', 'allow')],
                         self.send(udp()).layers)

    def test_deny_leaves_nothing(self):
        self.port = port_of(STATEFUL, {'out': [['1 udp,tp_dst=53|deny']]})
        self.drops(udp(), 'rule')
        self.assertEqual({}, self.states())
        # Nor does it change the state of a connection.
        self.port = port_of(STATEFUL,
                            {'out': [['1 tcp,tcp_flags=+fin|deny']]})
        self.passes(tcp(SYN))
        self.passes(tcp(SYN | ACK, PEER, VM, 80, 5000), direction=INBOUND)
        self.passes(tcp(ACK), now=20)
        self.drops(tcp(FIN | ACK), 'rule', now=40)
        self.assertEqual({'L1': 'tcp_established'}, self.states())


class StatefulTest(PortTest):
    """SEMANTICS 2 and 3: connections."""

    def test_reply_passes_without_rule(self):
        self.port = port_of(STATEFUL)
        self.drops(udp(PEER, VM, 53, 5000), 'default', direction=INBOUND)
        self.passes(udp())
        self.passes(udp(PEER, VM, 53, 5000), direction=INBOUND)
        self.drops(udp(PEER, VM, 53, 5001), 'default', direction=INBOUND)

    def test_inbound_connection(self):
        self.port = port_of({'in': [['1 udp|allow,stateful']],
                             'out': [['1 |deny']]})
        self.passes(udp(PEER, VM), direction=INBOUND)
        self.passes(udp(VM, PEER, 53, 5000))

    def test_other_layers_judge_on(self):
        self.port = port_of(STATEFUL, {'in': [['1 udp,nw_tos=4|deny']]})
        self.passes(udp())
        self.passes(udp(PEER, VM, 53, 5000), direction=INBOUND)
        self.drops(udp(PEER, VM, 53, 5000, tos=4), 'rule', direction=INBOUND)

    def test_opener_direction_has_all_rewrites(self):
        self.port = port_of({'out': [['1 |set_dscp(3)'],
                                     ['1 |dec_ttl,allow,stateful']]})
        self.passes(udp())
        packet = self.passes(udp(tos=4))
        self.assertEqual((12, 63), (packet.tos, packet.ttl))
        packet = self.passes(udp(PEER, VM, 53, 5000), direction=INBOUND)
        self.assertEqual((0, 64), (packet.tos, packet.ttl))

    def test_tcp_wants_syn(self):
        self.port = port_of(STATEFUL)
        for flags in (0, ACK, SYN | ACK, FIN, RST, SYN | FIN, SYN | RST):
            self.drops(tcp(flags), 'no-connection')
        self.passes(tcp(SYN | model.PSH))
        self.port = port_of({'out': [['1 |allow']]})
        self.passes(tcp(ACK))

    def test_loose(self):
        self.port = port_of(dict(STATEFUL, options={'tcp-loose': 'true'}))
        self.passes(tcp(ACK))
        self.assertEqual({'L1': 'tcp_established'}, self.states())
        for flags, state in ((FIN | ACK, 'tcp_fin_wait'), (RST, 'tcp_close')):
            self.port.flush()
            self.passes(tcp(flags))
            self.assertEqual({'L1': state}, self.states())
        self.passes(tcp(SYN, sport=5001))
        self.assertIn('tcp_syn_sent', [f['state']
                                       for f in self.port.list_flows()])

    def test_icmp_is_one_connection_per_pair(self):
        self.port = port_of(STATEFUL)
        self.passes(icmp(8, rest=1))
        self.passes(icmp(0, PEER, VM, rest=2), direction=INBOUND)
        self.assertEqual({'L1': 'icmp_reply'}, self.states())
        self.drops(icmp(0, OTHER_PEER, VM), 'default', direction=INBOUND)

    def test_other_protocols(self):
        self.port = port_of(STATEFUL)
        packet = Packet(proto=47, src=VM, dst=PEER)
        self.passes(packet)
        self.passes(answer(packet), direction=INBOUND)
        self.assertEqual({'L1': 'udp_multiple'}, self.states())

    def test_untracked(self):
        self.port = port_of(STATEFUL)
        request = Packet(eth_type=model.ETH_ARP, src=VM, dst=PEER, arp_op=1)
        self.passes(request)
        self.passes(icmp(135, VM6, PEER6))
        self.passes(icmp(143, VM6, PEER6))
        self.passes(icmp(3, quoted=udp(PEER, VM)))
        self.assertEqual({}, self.states())
        self.drops(answer(request), 'default', direction=INBOUND)
        self.assertTrue(icmp(128, VM6, PEER6).is_trackable())

    def test_stateful_rule_for_replies_only(self):
        """Both layers have state then, each from its first packet on."""
        self.port = port_of({'out': [['1 |allow,stateful']]},
                            {'in': [['1 |allow,stateful']]})
        self.passes(udp())
        self.passes(udp(PEER, VM, 53, 5000), direction=INBOUND)
        self.assertEqual(['L1', 'L2'], sorted(self.states()))
        self.passes(tcp(SYN))
        self.drops(tcp(SYN | ACK, PEER, VM, 80, 5000), 'no-connection',
                   direction=INBOUND)


class TcpTest(PortTest):
    """SEMANTICS 10: states and timeouts."""

    def setUp(self):
        self.port = port_of(STATEFUL)

    def play(self, *moves, now=0):
        """Has 'a' or 'b' send packets and returns the states after each."""
        states = []
        for who, flags in moves:
            if who == 'a':
                self.passes(tcp(flags), now)
            else:
                self.passes(tcp(flags, PEER, VM, 80, 5000), now,
                            direction=INBOUND)
            states.append(self.states()['L1'][4:])
        return states

    HANDSHAKE = (('a', SYN), ('b', SYN | ACK), ('a', ACK))

    def test_life(self):
        self.assertEqual(
            ['syn_sent', 'syn_recv', 'established', 'established',
             'fin_wait', 'fin_wait', 'time_wait', 'time_wait'],
            self.play(*self.HANDSHAKE, ('b', ACK), ('a', FIN | ACK),
                      ('a', FIN | ACK), ('b', FIN | ACK), ('a', ACK)))

    def test_no_short_cut(self):
        self.assertEqual(['syn_sent', 'syn_sent', 'syn_sent', 'syn_sent'],
                         self.play(('a', SYN), ('a', ACK), ('b', ACK),
                                   ('a', SYN)))

    def test_early_finish(self):
        self.assertEqual(['syn_sent', 'syn_sent', 'syn_sent', 'syn_recv'],
                         self.play(('a', SYN), ('a', FIN), ('b', FIN),
                                   ('b', SYN | ACK)))

    def test_simultaneous_open(self):
        self.assertEqual(['syn_sent', 'syn_recv', 'established'],
                         self.play(('a', SYN), ('b', SYN),
                                   ('a', SYN | ACK)))

    def test_reset(self):
        self.assertEqual(['syn_sent', 'close', 'close', 'close', 'close'],
                         self.play(('a', SYN), ('b', RST | ACK), ('a', ACK),
                                   ('b', FIN), ('b', SYN)))

    def test_reopen(self):
        for end in ((('a', RST),), (('a', FIN), ('b', FIN))):
            self.setUp()
            self.play(*self.HANDSHAKE, *end)
            self.assertEqual(['syn_sent'], self.play(('a', SYN)))
        # Rules are consulted.
        self.setUp()
        self.play(('a', SYN), ('b', RST))
        outcome = self.send(tcp(SYN))
        self.assertEqual([('L1', 'r0', 'allow')], outcome.layers)

    def test_timeouts(self):
        for moves, seconds in (
                (self.HANDSHAKE[:1], 30), (self.HANDSHAKE[:2], 30),
                (self.HANDSHAKE, 86400), (self.HANDSHAKE + (('a', FIN),),
                                          900),
                (self.HANDSHAKE + (('a', FIN), ('b', FIN)), 45),
                (self.HANDSHAKE + (('a', RST),), 30)):
            self.setUp()
            self.play(*moves)
            self.port.expire(seconds * MS - 1)
            self.assertEqual(1, len(self.states()))
            self.port.expire(seconds * MS)
            self.assertEqual({}, self.states())

    def test_packets_prolong(self):
        self.play(*self.HANDSHAKE)
        self.play(('b', ACK), now=80000)
        self.play(('b', ACK), now=160000)

    def test_timeouts_of_layers(self):
        self.port = port_of(
            dict(STATEFUL, timeouts={'tcp_syn_sent': 7}), STATEFUL)
        self.passes(tcp(SYN))
        self.port.expire(8 * MS)
        self.assertEqual({'L2': 'tcp_syn_sent'}, self.states())
        # The layer without state judges by its rules, as ever.
        self.drops(tcp(ACK), 'no-connection', now=8)
        self.passes(tcp(SYN), now=8)
        self.assertEqual(['L1', 'L2'], sorted(self.states()))

    def test_udp(self):
        states = []
        for direction in (OUTBOUND, OUTBOUND, INBOUND, OUTBOUND):
            self.passes(udp() if direction == OUTBOUND
                        else udp(PEER, VM, 53, 5000), direction=direction)
            states.append(self.states()['L1'])
        self.assertEqual(['udp_first', 'udp_single', 'udp_multiple',
                          'udp_multiple'], states)
        self.port.expire(60 * MS)
        self.assertEqual({}, self.states())

    def test_icmp(self):
        self.passes(icmp(8))
        self.assertEqual({'L1': 'icmp_first'}, self.states())
        self.passes(icmp(0, PEER, VM), direction=INBOUND)
        self.port.expire(30 * MS)
        self.assertEqual({}, self.states())


def snat(spec, **others):
    """A layer that translates all that is sent."""
    return dict({'out': [['1 ip|snat(%s)' % spec,
                          '0 ip6|snat(%s)' % spec]]}, **others)


class SnatTest(PortTest):
    """SEMANTICS 5, 6 and 11: source translation."""

    def test_keeps_port(self):
        self.port = port_of(snat('172.16.0.1'))
        packet = self.passes(tcp(SYN))
        self.assertEqual('172.16.0.1:5000>10.0.3.1:80', text_of(packet))
        packet = self.passes(answer(packet, flags=SYN | ACK),
                             direction=INBOUND)
        self.assertEqual('10.0.3.1:80>10.0.1.1:5000', text_of(packet))
        self.assertEqual('172.16.0.1:5000>10.0.3.1:80',
                         text_of(self.passes(tcp(ACK))))

    def test_keeps_port_below_1024(self):
        self.port = port_of(snat('172.16.0.1'))
        self.assertEqual(1000, self.passes(udp(sport=1000)).sport)
        taken = self.passes(udp(src='10.0.1.2', sport=1000))
        self.assertGreaterEqual(taken.sport, 1024)

    def test_other_port_if_not_allowed(self):
        self.port = port_of(snat('172.16.0.1:2000-2001'))
        self.assertEqual({2000, 2001}, {
            result.packet.sport for result in model.explore(
                lambda chooser: self.port.judge(OUTBOUND, udp(), 0,
                                                chooser))})

    def test_unique_for_each_remote(self):
        self.port = port_of(snat('172.16.0.1:2000-2001'))
        ports = {self.passes(udp(sport=5000 + i)).sport for i in range(2)}
        self.assertEqual({2000, 2001}, ports)
        self.drops(udp(sport=5002), 'snat-exhausted')
        self.passes(udp(sport=5002, dport=54))
        self.passes(tcp(SYN, dport=53))

    def test_unique_in_switch(self):
        pool = {}
        ports = [model.Port(name, pool) for name in ('p1', 'p2')]
        policy = policy_of(snat('172.16.0.1:2000'))
        policy['ports']['p2'] = policy['ports']['p1']
        for port in ports:
            port.set_policy(model.PortPolicy(policy, port.name), 0)
        self.port = ports[0]
        self.passes(udp())
        self.port = ports[1]
        self.drops(udp(), 'snat-exhausted')
        ports[0].expire(60 * MS)
        self.passes(udp(), now=60)

    def test_addresses_in_turn(self):
        self.port = port_of(snat('172.16.0.1-172.16.0.3:2000'))
        self.assertEqual(3, len({self.passes(udp(sport=5000 + i)).src
                                 for i in range(3)}))
        self.drops(udp(sport=5003), 'snat-exhausted')

    def test_same_address_for_same_source(self):
        self.port = port_of(snat('172.16.0.1-172.16.0.3'))
        first = self.passes(udp(), chooser=model.Chooser([2]))
        self.assertEqual('172.16.0.3', str(first.src))
        again = list(model.explore(lambda chooser: self.port.judge(
            OUTBOUND, udp(sport=5001), 0, chooser)))
        self.assertEqual([first.src], [o.packet.src for o in again])

    def test_portless(self):
        self.port = port_of(snat('172.16.0.1:2000'))
        for source in (VM, '10.0.1.2'):
            packet = self.passes(icmp(8, source, OTHER_PEER if source == VM
                                      else PEER))
            self.assertEqual('172.16.0.1', str(packet.src))

    def test_family(self):
        self.port = port_of(snat('172.16.0.1'))
        self.drops(udp(VM6, PEER6), 'nat-family')
        self.port = port_of(snat('[fd00:99::1]:2000'))
        packet = self.passes(udp(VM6, PEER6))
        self.assertEqual(('fd00:99::1', 2000),
                         (str(packet.src), packet.sport))

    def test_expires_as_a_whole(self):
        self.port = port_of(snat('172.16.0.1', timeouts={'udp_first': 5}),
                            STATEFUL)
        self.passes(udp())
        self.assertEqual(['L1', 'L2'], sorted(self.states()))
        self.port.expire(5 * MS)
        self.assertEqual({}, self.states())
        self.assertEqual({}, self.port.pool)

    def test_later_layers_see_it(self):
        self.port = port_of(snat('172.16.0.1'), {'out': [
            ['1 ip,nw_src=10.0.1.1|deny']]})
        self.passes(udp())

    def test_stateful_although_not_said(self):
        """3d: any rule that translated makes the layer's outcome stateful."""
        self.port = port_of({'out': [
            ['1 |snat(172.16.0.1),allow_continue'], ['1 |allow']]})
        self.passes(udp())
        self.assertEqual({'L1': 'udp_first'}, self.states())

    def test_continue_then_deny(self):
        self.port = port_of({'out': [
            ['1 |snat(172.16.0.1),allow_continue'], ['1 |deny']]})
        self.drops(udp(), 'rule')
        self.assertEqual({}, self.port.pool)

    def test_untracked(self):
        self.port = port_of({'out': [['1 |snat(172.16.0.1)']]})
        request = Packet(eth_type=model.ETH_ARP, src=VM, dst=PEER)
        self.assertEqual(request, self.passes(request))
        self.assertEqual({}, self.states())


class DnatTest(PortTest):
    """SEMANTICS 7: destination translation."""

    BALANCER = {'out': [['1 ip,nw_dst=10.9.9.9|'
                         'dnat(10.0.3.1:8080|10.0.3.2:8080)']]}

    def test_targets(self):
        self.port = port_of(self.BALANCER)
        found = {text_of(o.packet) for o in model.explore(
            lambda chooser: self.port.judge(
                OUTBOUND, tcp(SYN, dst='10.9.9.9'), 0, chooser))}
        self.assertEqual({'10.0.1.1:5000>10.0.3.1:8080',
                          '10.0.1.1:5000>10.0.3.2:8080'}, found)

    def test_keeps_target(self):
        self.port = port_of(self.BALANCER)
        packet = self.passes(tcp(SYN, dst='10.9.9.9'),
                             chooser=model.Chooser([1]))
        self.assertEqual('10.0.3.2', str(packet.dst))
        reply = self.passes(answer(packet, flags=SYN | ACK),
                            direction=INBOUND)
        self.assertEqual('10.9.9.9:80>10.0.1.1:5000', text_of(reply))
        packet = self.passes(tcp(ACK, dst='10.9.9.9'))
        self.assertEqual('10.0.3.2', str(packet.dst))

    def test_hash_of_source(self):
        layer = copy.deepcopy(self.BALANCER)
        layer['out'][0][0] = layer['out'][0][0][:-1] + ',hash=src)'
        self.port = port_of(layer)
        self.passes(tcp(SYN, dst='10.9.9.9'), chooser=model.Chooser([1]))
        packet = self.passes(tcp(SYN, dst='10.9.9.9', sport=5001))
        self.assertEqual('10.0.3.2', str(packet.dst))

    def test_tuple_in_use(self):
        self.port = port_of({'out': [['2 ip,nw_dst=10.9.9.9|dnat(10.0.3.1)',
                                      '1 |allow,stateful']]})
        self.passes(udp())
        self.drops(udp(dst='10.9.9.9'), 'tuple-in-use')
        self.passes(udp(dst='10.9.9.9', sport=5001))

    def test_inbound(self):
        self.port = port_of({'in': [['1 tcp,tp_dst=80|dnat(10.0.1.1:8080)']]})
        packet = self.passes(tcp(SYN, PEER, '10.9.9.9', 5000, 80),
                             direction=INBOUND)
        self.assertEqual('10.0.3.1:5000>10.0.1.1:8080', text_of(packet))
        packet = self.passes(answer(packet, flags=SYN | ACK))
        self.assertEqual('10.9.9.9:80>10.0.3.1:5000', text_of(packet))

    def test_both_in_one_rule(self):
        self.port = port_of({'out': [
            ['1 |snat(172.16.0.1),dnat(10.0.3.2:8080)']]})
        packet = self.passes(tcp(SYN, dst='10.9.9.9'))
        self.assertEqual('172.16.0.1:5000>10.0.3.2:8080', text_of(packet))
        reply = self.passes(answer(packet, flags=SYN | ACK),
                            direction=INBOUND)
        self.assertEqual('10.9.9.9:80>10.0.1.1:5000', text_of(reply))

    def test_two_layers(self):
        self.port = port_of(self.BALANCER, snat('172.16.0.1'))
        packet = self.passes(tcp(SYN, dst='10.9.9.9'))
        self.assertEqual('172.16.0.1:5000>10.0.3.1:8080', text_of(packet))
        reply = self.passes(answer(packet, flags=SYN | ACK),
                            direction=INBOUND)
        self.assertEqual('10.9.9.9:80>10.0.1.1:5000', text_of(reply))


class IcmpErrorTest(PortTest):
    """SEMANTICS 8: errors about connections."""

    def test_passes_where_there_is_state(self):
        self.port = port_of(STATEFUL)
        about = self.passes(udp())
        self.passes(icmp(3, PEER, VM, quoted=about), direction=INBOUND)
        self.passes(icmp(11, '10.0.3.254', VM, quoted=about),
                    direction=INBOUND)
        self.drops(icmp(3, PEER, VM, quoted=udp(sport=9)), 'default',
                   direction=INBOUND)
        self.assertEqual({'L1': 'udp_first'}, self.states())

    def test_other_layers_judge(self):
        self.port = port_of(STATEFUL, {'in': [['1 icmp|deny']]})
        about = self.passes(udp())
        self.drops(icmp(3, PEER, VM, quoted=about), 'rule',
                   direction=INBOUND)

    def test_translated(self):
        self.port = port_of(snat('172.16.0.1:2000'))
        about = self.passes(udp())
        error = self.passes(icmp(11, '10.0.3.254', '172.16.0.1',
                                 quoted=about), direction=INBOUND)
        self.assertEqual(('10.0.3.254', VM), (str(error.src),
                                              str(error.dst)))
        self.assertEqual('10.0.1.1:5000>10.0.3.1:53', text_of(error.quoted))

    def test_from_the_vm(self):
        """An error of the VM about what was sent to it."""
        self.port = port_of({'in': [['1 udp|dnat(10.0.1.1:8080)']]})
        about = self.passes(udp(PEER, '10.9.9.9'), direction=INBOUND)
        errors = list(model.explore(lambda chooser: self.port.judge(
            OUTBOUND, icmp(3, VM, PEER, quoted=about), 0, chooser)))
        for error in errors:
            self.assertEqual('10.0.3.1:5000>10.9.9.9:53',
                             text_of(error.packet.quoted))
        self.assertEqual({VM, '10.9.9.9'},
                         {str(error.packet.src) for error in errors})

    def test_ipv6(self):
        self.port = port_of(STATEFUL)
        about = self.passes(udp(VM6, PEER6))
        for icmp_type in (1, 2, 3, 4):
            self.passes(icmp(icmp_type, PEER6, VM6, quoted=about),
                        direction=INBOUND)


class FragmentTest(PortTest):
    """SEMANTICS 9: later fragments."""

    FIRST = udp(ident=7, frag=(0, 24, True), payload=bytes(40))
    LATER = udp(ident=7, frag=(24, 24, False), payload=bytes(40))

    def test_follow_the_first(self):
        self.port = port_of({'out': [['2 udp,tp_dst=53|allow', '1 |deny']]})
        self.drops(self.LATER, 'fragment')
        self.passes(self.FIRST)
        self.passes(self.LATER)
        self.drops(self.LATER.copy(ident=8), 'fragment')
        self.drops(self.LATER, 'fragment', now=30)

    def test_translated(self):
        self.port = port_of(snat('172.16.0.1:2000'))
        self.passes(self.FIRST)
        packet = self.passes(self.LATER)
        self.assertEqual('172.16.0.1:0>10.0.3.1:0', text_of(packet))

    def test_any_rule_looks_at_ports(self):
        """That none had to look at those of this packet does not matter."""
        self.port = port_of({'out': [['2 ip,nw_src=10.0.1.1|allow',
                                      '1 udp,tp_dst=53|deny']]})
        self.drops(self.LATER, 'fragment')

    def test_only_where_ports_matter(self):
        self.port = port_of({'out': [['1 ip,nw_src=10.0.1.1|allow']]})
        self.passes(self.LATER)


class PolicyChangeTest(PortTest):
    """SEMANTICS 12: connections are judged again."""

    def test_denied(self):
        self.port = port_of(STATEFUL)
        self.passes(tcp(SYN))
        self.change(dict(STATEFUL, out=[['1 tcp,tp_dst=80|deny']]))
        self.assertEqual({}, self.states())
        self.drops(tcp(SYN), 'rule')

    def test_goes_on(self):
        self.port = port_of(STATEFUL)
        self.passes(tcp(SYN))
        self.passes(tcp(SYN | ACK, PEER, VM, 80, 5000), direction=INBOUND)
        self.passes(tcp(ACK), now=20)
        self.change(dict(STATEFUL, out=[['1 tcp|allow,stateful']]), now=50)
        self.assertEqual({'L1': 'tcp_established'}, self.states())
        self.passes(tcp(ACK), now=60)

    def test_timers_go_on(self):
        self.port = port_of(STATEFUL)
        self.passes(udp())
        self.change(dict(STATEFUL, out=[['1 udp|allow,stateful']]), now=50)
        self.port.expire(60 * MS)
        self.assertEqual({}, self.states())

    def test_layers_with_state(self):
        self.port = port_of(STATEFUL)
        self.passes(udp())
        self.change({'out': [['1 |allow']]}, STATEFUL)
        self.assertEqual({'L2': 'udp_first'}, self.states())
        self.change({'out': [['1 |allow']]})
        self.assertEqual({}, self.states())

    def test_same_policy(self):
        self.port = port_of(STATEFUL)
        self.passes(udp())
        before = self.port.all_connections()
        flows = list(before[0].flows.values())
        self.change(STATEFUL, sets={'unused': [VM]})
        self.assertEqual(flows, list(before[0].flows.values()))

    def test_keeps_translation(self):
        self.port = port_of(snat('172.16.0.1:2000-2009'))
        packet = self.passes(udp(), chooser=model.Chooser([3]))
        self.change({'out': [['9 udp|snat(172.16.0.1:2000-2009)',
                              '1 |deny']]})
        self.assertEqual(packet.sport, self.passes(udp()).sport)
        self.assertEqual(1, len(self.port.pool))

    def test_new_translation(self):
        self.port = port_of(snat('172.16.0.1:2000'))
        self.passes(udp())
        self.change(snat('172.16.0.2:3000'))
        self.assertEqual('172.16.0.2:3000>10.0.3.1:53',
                         text_of(self.passes(udp())))
        self.assertEqual(1, len(self.port.pool))
        self.passes(udp(PEER, '172.16.0.2', 53, 3000), direction=INBOUND)
        self.change(STATEFUL)
        self.assertEqual(VM, str(self.passes(udp()).src))
        self.assertEqual({}, self.port.pool)

    def test_set_and_self(self):
        layer = {'out': [['1 ip,nw_src=$self,nw_dst=$net|allow,stateful',
                          '0 |deny']]}
        self.port = port_of(layer, sets={'net': [PEER]})
        self.passes(udp())
        self.change(layer, sets={'net': [OTHER_PEER]})
        self.assertEqual({}, self.states())
        self.change(layer, sets={'net': [PEER]})
        self.passes(udp())
        self.change(layer, sets={'net': [PEER]},
                    port={'addresses': ['10.0.1.2']})
        self.drops(udp(), 'rule')

    def test_packet_without_syn_does_not_matter(self):
        loose = dict(STATEFUL, options={'tcp-loose': 'true'})
        self.port = port_of(loose)
        self.passes(tcp(ACK))
        self.change(STATEFUL)
        self.assertEqual({'L1': 'tcp_established'}, self.states())


class RejectTest(PortTest):
    """SEMANTICS 13: refusals."""

    def setUp(self):
        self.port = port_of({'out': [['1 |reject']]})

    def answer(self, packet):
        """The refusal of a packet."""
        return self.drops(packet, 'reject').answer

    def test_tcp(self):
        rst = self.answer(tcp(SYN, seq=100))
        self.assertEqual((RST | ACK, 0, 101), (rst.flags, rst.seq, rst.ack))
        self.assertEqual('10.0.3.1:80>10.0.1.1:5000', text_of(rst))
        rst = self.answer(tcp(ACK, seq=100, ack=7, payload=b'abc'))
        self.assertEqual((RST, 7), (rst.flags, rst.seq))
        self.assertIsNone(self.answer(tcp(RST)))

    def test_others(self):
        for packet, expected in (
                (udp(), (3, 3)), (icmp(8), (3, 13)),
                (udp(VM6, PEER6), (1, 4)),
                (Packet(proto=47, src=VM, dst=PEER), (3, 13)),
                (Packet(eth_type=model.ETH_IPV6, proto=132, src=VM6,
                        dst=PEER6), (1, 1))):
            error = self.answer(packet)
            self.assertEqual(expected, (error.icmp_type, error.icmp_code))
            self.assertEqual(packet, error.quoted)

    def test_never(self):
        for packet in (icmp(3, quoted=udp()), udp(dst='224.0.0.1'),
                       udp(eth_dst=generate.BROADCAST),
                       Packet(eth_type=model.ETH_ARP, src=VM, dst=PEER)):
            self.assertIsNone(self.answer(packet))
        self.send(udp(ident=1, frag=(0, 16, True), payload=bytes(32)))
        self.assertIsNone(self.send(
            udp(ident=1, frag=(16, 24, False), payload=bytes(32))).answer)

    def test_about_what_the_vm_sent(self):
        self.port = port_of({'out': [['1 |dnat(10.0.3.2),allow']]},
                            {'out': [['1 |reject']]})
        self.assertEqual(PEER, str(self.answer(tcp(SYN)).src))


class SwitchTest(unittest.TestCase):
    """Two VM ports and the network."""

    def switch(self, p1, p2=None):
        """A switch whose ports have one layer each."""
        policy = policy_of(p1, p2 or {})
        policy['ports'] = {'p1': {'layers': {'1': 'L1'}},
                           'p2': {'layers': {'1': 'L2'}}}
        switch = model.Switch(generate.VM_PORTS, generate.MACS,
                              generate.FLOOD)
        switch.set_policy(policy, 0)
        return switch

    def packet(self, port, **changes):
        """A packet to 'port'."""
        return udp(eth_src=generate.MAC['p1'], eth_dst=generate.MAC[port],
                   **changes)

    def test_vm_to_vm(self):
        switch = self.switch(snat('172.16.0.1'),
                             {'in': [['1 ip,nw_src=172.16.0.1|deny']]})
        result = switch.receive('p1', self.packet('p2'), 0)
        self.assertEqual(['allow', 'drop'],
                         [outcome.verdict for _, _, outcome
                          in result.outcomes])
        self.assertEqual([], result.emitted)
        result.commit()
        # The sender's port has seen nothing but a packet that it let pass.
        self.assertEqual(1, len(switch.ports['p1'].list_flows()))

    def test_forwarding(self):
        switch = self.switch({})
        for packet, ports in ((self.packet('p3'), ['p3']),
                              (self.packet('p1'), []),
                              (udp(eth_dst=generate.ODD_MAC), ['p3'])):
            self.assertEqual(ports, [port for port, _ in switch.receive(
                'p1', packet, 0).emitted])
        flood = switch.receive('p3', udp(eth_dst=generate.BROADCAST), 0)
        self.assertEqual(['p1', 'p2'], [port for port, _ in flood.emitted])

    def test_inbound_refusal(self):
        switch = self.switch({'in': [['1 |reject']]})
        packet = udp(PEER, VM, eth_src=generate.MAC['p3'],
                     eth_dst=generate.MAC['p1'])
        result = switch.receive('p3', packet, 0)
        self.assertEqual(['p3'], [port for port, _ in result.answers])
        self.assertIsNone(result.open_end)


if __name__ == '__main__':
    unittest.main()
