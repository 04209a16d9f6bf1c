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

"""Tests of the driver, without ovs-vswitchd."""

import os
import random
import sys
import unittest

if __package__ in (None, ''):
    sys.path.insert(0, os.path.dirname(os.path.dirname(
        os.path.abspath(__file__))))
    __package__ = 'oracle'

from oracle import daemon, driver, generate, model, nic, wire  # noqa: E402
from oracle.model import FIN, SYN, Packet  # noqa: E402
from oracle.selftest import (PEER, PEER6, VM, VM6, icmp,  # noqa: E402
                             tcp, udp)


class WireTest(unittest.TestCase):
    """Packets as bytes."""

    def test_round_trip(self):
        rng = random.Random(1)
        kinds = set()
        for _ in range(300):
            talk = generate.Talk(rng)
            if talk.kind == 'fragments':
                continue
            kinds.add(talk.kind)
            packet = talk.packet(payload=bytes(range(rng.randrange(40))))
            if talk.kind == 'arp':
                packet = talk.packet(eth_type=model.ETH_ARP, arp_op=1,
                                     proto=0, tos=0)
            self.check(packet)
            if packet.is_ip():
                step = {'router': None, 'icmp': [3, 1]}
                self.check(generate.error_about('p1', packet, step)[1])
        self.assertEqual(7, len(kinds))

    def check(self, packet):
        """Encodes and decodes a packet."""
        frame = wire.Frame('p1', wire.encode(packet))
        self.assertIsNone(frame.error)
        self.assertTrue(frame.is_packet('p1', packet),
                        (packet, frame.packet))
        self.assertEqual(packet.to_json(),
                         Packet.from_json(packet.to_json()).to_json())

    def test_checksums_are_checked(self):
        for packet in (tcp(SYN), udp(VM6, PEER6), icmp(8),
                       Packet(proto=132, src=VM, dst=PEER)):
            data = bytearray(wire.encode(packet))
            data[-1] ^= 1
            self.assertIsNotNone(wire.Frame('p1', bytes(data)).error)

    def test_known_bytes(self):
        # RFC 3720, B.4: CRC32C of 32 bytes of zeros.
        self.assertEqual('aa36918a', wire.crc32c(bytes(32)).hex())
        # RFC 1071, 3.
        self.assertEqual(0x220d, wire.checksum(bytes.fromhex(
            '0001f203f4f5f6f7')))

    def test_fragments(self):
        whole = udp(ident=5, payload=bytes(range(48)))
        data = wire.encode(whole)[34:]
        parts = [wire.encode(whole.copy(frag=part))[34:]
                 for part in ((0, 24, True), (24, 32, False))]
        self.assertEqual(data, b''.join(parts))


class RandomChooser(model.Chooser):
    """Decides by chance."""

    def __init__(self, rng):
        super().__init__()
        self.rng = rng

    def pick(self, options):
        return self.rng.choice(list(options))


class ModelEngine:
    """The model in the place of the engine, to test the driver with.

    'bug' is a function that spoils an outgoing packet, or returns None to
    lose it."""

    def __init__(self, bug=None, see_flows=True, shift=0):
        self.rng = random.Random(5)
        self.bug = bug
        self.see_flows = see_flows
        self.shift = shift
        self.rundir = '/nonexistent'

    def chooser(self, *_args):
        """A Chooser for each decision."""
        return RandomChooser(self.rng)

    def begin(self, policy):
        self.switch = model.Switch(generate.VM_PORTS, generate.MACS,
                                   generate.FLOOD)
        self.now = 0
        self.switch.set_policy(policy, 0)
        self.policy = policy

    def set_policy(self, policy):
        self.switch.set_policy(policy, self.now, self.chooser)
        self.policy = policy

    def rows_in_error(self):
        return driver.invalid_rows(self.policy)

    def inject(self, port, data, _expected, to_trace):
        packet = self.sent
        assert wire.encode(packet) == data
        self.switch.expire(self.now)
        traces = [self.trace(*what) for what in to_trace]
        result = self.switch.receive(port, packet, self.now, self.chooser())
        result.commit()
        frames = []
        for name, out in result.emitted + result.answers:
            if self.bug:
                out = self.bug(out.copy())
            if out is not None:
                frames.append(wire.Frame(name, wire.encode(out)))
        return frames, traces

    def wait(self, ms):
        self.now += ms - self.shift
        self.switch.expire(self.now)

    def settle(self):
        pass

    def disturb(self, _seed, _step, _wait):
        pass

    def calm(self):
        pass

    def await_tuples(self, _expected):
        return len(self.switch.pool)

    def trace(self, port, direction, packet):
        self.switch.expire(self.now)
        outcome = self.switch.ports[port].judge(direction, packet, self.now,
                                                self.chooser())
        return {'verdict': outcome.verdict, 'reason': outcome.reason,
                'layers': outcome.layers}

    def flows(self, port):
        if not self.see_flows:
            return None
        flows = []
        for flow in self.switch.ports[port].list_flows():
            if not daemon.FLOW_TUPLES_OF_LAYER:
                flow['outbound'] = flow['connection_outbound']
                flow['inbound'] = flow['connection_inbound']
            flows.append(flow)
        return flows


    def rule_packets(self, port):
        port = self.switch.ports[port]
        return {rule: port.rule_packets[rule] for rule in port.policy.rules}


class SpyRunner(driver.Runner):
    """A Runner that hands packets, not bytes, to ModelEngine."""

    def _send(self, step, port, packet, first):
        self.engine.sent = packet
        super()._send(step, port, packet, first)


class DriverTest(unittest.TestCase):
    """The driver, with the model on both sides."""

    def disagreements(self, engine, seeds):
        """The disagreements of random cases."""
        runner = SpyRunner(engine)
        found = []
        for seed in seeds:
            try:
                runner.run(generate.make_case(seed))
            except driver.Disagreement as disagreement:
                found.append((seed, disagreement))
        self.assertGreater(runner.n_emitted, 0)
        return found

    def test_agrees_with_itself(self):
        self.assertEqual([], self.disagreements(ModelEngine(), range(60)))

    def test_agrees_without_inspection(self):
        engine = ModelEngine(see_flows=False)
        self.assertEqual([], [d for _, d in self.disagreements(
            engine, range(2000, 2020)) if d.what != 'flows'])

    def test_finds_bugs(self):
        def next_ttl(packet):
            packet.ttl -= 1
            return packet

        def lose_finish(packet):
            return None if packet.flags & FIN else packet

        def forget_port(packet):
            if str(packet.src).startswith('172.16.'):
                packet.sport ^= 1
            return packet

        for bug in (next_ttl, lose_finish, forget_port):
            self.assertTrue(self.disagreements(ModelEngine(bug), range(40)),
                            bug.__name__)
        self.assertTrue(self.disagreements(ModelEngine(shift=20000),
                                           range(100)))

    def test_shrinks(self):
        def lose_udp(packet):
            return None if packet.proto == model.UDP else packet

        runner = SpyRunner(ModelEngine(lose_udp))

        def fails(case):
            found = driver.failure(runner, case)
            return found is not None and found.what == 'packet'

        seed = next(s for s in range(100) if fails(generate.make_case(s)))
        case = generate.make_case(seed)
        smaller = generate.shrink(case, fails, 5)
        self.assertTrue(fails(smaller))
        self.assertEqual(1, len(smaller['steps']))
        self.assertEqual({}, smaller['policy']['layers'])
        self.assertEqual(case, generate.make_case(seed))


class AdapterTest(unittest.TestCase):
    """The formats that the driver assumes."""

    def test_tuple(self):
        expected = udp().key()
        for text in ('udp,10.0.1.1,10.0.3.1,5000,53',
                     '17,10.0.1.1,10.0.3.1,5000,53',
                     'proto=udp,src=10.0.1.1,dst=10.0.3.1,sport=5000,'
                     'dport=53'):
            self.assertEqual(expected, daemon.adapt_tuple(text))
        self.assertEqual(icmp(8).key(),
                         daemon.adapt_tuple('icmp,10.0.1.1,10.0.3.1'))

    def test_memory(self):
        self.assertEqual(0, daemon.adapt_memory('handlers:1 ports:4'))
        self.assertEqual(12, daemon.adapt_memory(
            'idl-cells-Open_vSwitch:5 nat-tuples:12 udpif keys:3'))

    def test_trace_flow(self):
        self.assertEqual(
            'tcp,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,'
            'nw_src=10.0.1.1,nw_dst=10.0.3.1,nw_tos=0,nw_ecn=0,nw_ttl=64,'
            'tcp_src=5000,tcp_dst=80,tcp_flags=0x2',
            daemon.trace_flow(tcp(SYN)))
        self.assertIsNone(daemon.trace_flow(icmp(3, quoted=udp())))


class NicTest(unittest.TestCase):
    """What nic.py makes of the NIC's counters, and of cases."""

    COUNTERS = {'from_link': 7, 'hits': 1, 'misses_host': 1, 'misses_vm': 1,
                'synthetic': 1, 'rx_dropped_reset': 1, 'rx_dropped_tx': 2,
                'tx_dropped_action': 9, 'in_host': 0}

    def test_is_through(self):
        self.assertTrue(nic.is_through(self.COUNTERS))
        for changes in ({'from_link': 8}, {'in_host': 1}, {'hits': 0}):
            self.assertFalse(nic.is_through(dict(self.COUNTERS, **changes)))

    def test_show(self):
        self.assertEqual((1, {'vf0': self.COUNTERS}), nic.adapt_show([
            {'threads_busy': 1,
             'functions': {'vf0': {'statistics': self.COUNTERS}}}]))

    def test_cases(self):
        rules = {'r1': {'actions': 'allow,set_dscp(1)'},
                 'r2': {'actions': 'next'}}
        case = {'seed': 1, 'policy': {'rules': rules}, 'steps': [
            {'times': 1, 'packet': {'flags': SYN}},
            {'times': 1, 'packet': {'frag': [0, 8, True]}},
            {'op': 'wait', 'ms': 1}] + 20 * [{'times': 1, 'set': {}}]}
        for i, step in enumerate(case['steps']):
            step['id'] = i
        changed = nic.for_nic(case)
        self.assertEqual(changed, nic.for_nic(case))
        self.assertEqual(case['steps'][:3], changed['steps'][:3])
        self.assertLess(1, max(step.get('times', 0)
                               for step in changed['steps'][3:]))
        policies = [step['policy'] for step in changed['steps']
                    if 'policy' in step]
        self.assertTrue(policies)
        for policy in policies:
            self.assertRegex(policy['rules']['r1']['actions'],
                             r'^((set_dscp.[0-9]+.|dec_ttl),allow'
                             r'|allow,set_dscp.1.)$')


if __name__ == '__main__':
    unittest.main()
