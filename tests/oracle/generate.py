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

"""Random policies and packet sequences, and how to make them smaller.

A case is a dictionary that can be written as JSON:

  {"seed": N, "policy": POLICY, "steps": [STEP, ...]}

POLICY is what model.PortPolicy documents.  A STEP has an "id", to which later
ones refer, and an "op":

  send     "packet" arrives at "port"
  again    the packet of step "of" once more, with the changes in "set"
  reply    an answer to what step "to" made come out of a port
  error    an ICMP error of type and code "icmp" about the same, from address
           "router" or, without, from whom it was sent to
  wait     "ms" milliseconds pass
  policy   "policy" replaces the one before

Packets are sent "times" times, or, if there is a "burst" and an emulated NIC,
that many in one go.  A step whose "of" or "to" did not happen does not happen,
either: what a sequence is depends on what the policy lets pass.
"""

import copy
import random
import re
import time

from . import model
from .model import ACK, FIN, PSH, RST, SYN, Packet

PORTS = ('p1', 'p2', 'p3')
VM_PORTS = ('p1', 'p2')
MAC = {'p1': '50:54:00:00:00:01', 'p2': '50:54:00:00:00:02',
       'p3': '50:54:00:00:00:03'}
ODD_MAC = '50:54:00:00:00:99'
BROADCAST = 'ff:ff:ff:ff:ff:ff'
MACS = {mac: port for port, mac in MAC.items()}
FLOOD = {'p1': ['p3'], 'p2': ['p3'], 'p3': ['p1', 'p2']}

HOSTS = {
    4: {'p1': ['10.0.1.1', '10.0.1.2'], 'p2': ['10.0.2.1', '10.0.2.77'],
        'p3': ['10.0.3.1', '10.0.3.2', '192.0.2.7']},
    6: {'p1': ['fd00:1::1', 'fd00:1::2'], 'p2': ['fd00:2::1'],
        'p3': ['fd00:3::1', 'fd00:3::2', '2001:db8::7']},
}
VIP = {4: '10.9.9.9', 6: 'fd00:9::9'}
ROUTER = {4: '10.0.3.254', 6: 'fd00:3::fe'}
NAT = {4: '172.16.0.%d', 6: 'fd00:99::%d'}
CLIENT_PORTS = (1000, 5000, 5001, 5002, 40000)
SERVER_PORTS = (22, 53, 80, 443, 8000, 8001, 8080)
SETS = ('web', 'vms', 'net')

KEYWORD = {
    ('tcp', 4): 'tcp', ('tcp', 6): 'tcp6', ('udp', 4): 'udp',
    ('udp', 6): 'udp6', ('sctp', 4): 'sctp', ('sctp', 6): 'sctp6',
    ('icmp', 4): 'icmp', ('icmp', 6): 'icmp6',
}
PROTO = {'tcp': model.TCP, 'udp': model.UDP, 'sctp': model.SCTP, 'gre': 47}

BAD_MATCHES = ('nosuchfield=1', 'tp_dst=80', 'tcp,tp_dst=70000',
               'ip,nw_src=10.0.0.300', 'ip,nw_src=$nosuchset', 'in_port=1',
               'tcp,tp_dst=80,tp_dst=81', 'ip,ipv6_src=fd00::1',
               'reg0=1', 'tcp,tp_dst={80,81', 'ct_state=+est')
BAD_ACTIONS = ('allow,deny', 'stateful', 'deny,stateful', 'frobnicate',
               'snat(10.0.0.1),deny', 'snat(1.1.1.1),snat(1.1.1.2),allow',
               'set_dscp(64)', 'snat(10.0.0.300)', 'meter(m),allow',
               'dnat(10.0.0.1|fd00::1)', 'next,stateful')
NAT_ACTION = re.compile(r'([sd]nat)\(([^)]*)\)')


class Talk:
    """Who talks to whom, by which protocol."""

    def __init__(self, rng):
        self.a = rng.choice(PORTS)
        self.b = rng.choice([p for p in PORTS if p != self.a])
        self.family = rng.choice((4, 4, 4, 6))
        self.kind = rng.choices(
            ('tcp', 'udp', 'icmp', 'sctp', 'gre', 'arp', 'fragments', 'nd'),
            (50, 25, 12, 4, 3, 3, 5, 2))[0]
        if self.kind in ('arp', 'fragments'):
            self.family = 4
        elif self.kind == 'nd':
            self.family = 6
        hosts = HOSTS[self.family]
        self.src = rng.choice(hosts[self.a])
        self.dst = (VIP[self.family] if rng.random() < .2
                    else rng.choice(hosts[self.b]))
        self.sport = rng.choice(CLIENT_PORTS)
        self.dport = rng.choice(SERVER_PORTS)
        self.vlan = [rng.choice((10, 20)), rng.choice((0, 3))] \
            if rng.random() < .05 else None
        self.tos = rng.choice((0, 0, 0, 0x20, 0xb9))

    def packet(self, **changes):
        """A packet from a to b."""
        fields = {
            'eth_src': MAC[self.a], 'eth_dst': MAC[self.b],
            'vlan': self.vlan, 'src': self.src, 'dst': self.dst,
            'tos': self.tos, 'proto': PROTO.get(self.kind, model.UDP),
            'eth_type': (model.ETH_IP if self.family == 4
                         else model.ETH_IPV6)}
        if self.kind in ('tcp', 'udp', 'sctp', 'fragments'):
            fields.update(sport=self.sport, dport=self.dport)
        if self.kind in ('icmp', 'nd'):
            fields['proto'] = (model.ICMP if self.family == 4
                               else model.ICMPV6)
        fields.update(changes)
        return Packet(**fields)

    def reversed(self):
        """The same, the other way round."""
        other = copy.copy(self)
        other.a, other.b = self.b, self.a
        other.src, other.dst = self.dst, self.src
        other.sport, other.dport = self.dport, self.sport
        return other


class PolicyMaker:
    """Draws policies whose conditions are about some 'talks'."""

    def __init__(self, rng, talks):
        self.rng = rng
        self.talks = talks
        self.names = {}

    def name(self, prefix):
        """A name that was not used before."""
        self.names[prefix] = self.names.get(prefix, 0) + 1
        return '%s%d' % (prefix, self.names[prefix])

    # Conditions.

    def address_value(self, family, address):
        """What an address may be compared with, so that it often matches."""
        rng = self.rng
        hosts = [h for p in PORTS for h in HOSTS[family][p]]
        if rng.random() < .15:
            address = rng.choice(hosts)
        elements = [address]
        form = rng.randrange(8)
        if form == 0:
            return '%s/%d' % (_prefix(address, 24 if family == 4 else 64))
        if form == 1:
            low, high = _around(address)
            return '%s-%s' % (low, high)
        if form == 2:
            return '$' + rng.choice(SETS)
        if form == 3:
            return '$self'
        if form in (4, 5):
            elements += rng.sample(hosts, 2)
            if rng.random() < .4:
                elements[1] = '$' + rng.choice(SETS)
            if rng.random() < .3:
                elements[2] = '%s-%s' % _around(elements[2])
            rng.shuffle(elements)
            return '{%s}' % ','.join(elements)
        return address

    def port_value(self, port):
        """The same for ports."""
        rng = self.rng
        if rng.random() < .15:
            port = rng.choice(SERVER_PORTS + CLIENT_PORTS)
        form = rng.randrange(7)
        if form == 0:
            return '%d-%d' % (max(port - rng.randrange(30), 0),
                              min(port + rng.randrange(30), 65535))
        if form == 1:
            return '0x%x/0x%x' % (port & 0xff00, 0xff00)
        if form == 2:
            others = rng.sample(SERVER_PORTS, 2)
            return '{%s}' % ','.join(map(str, [port] + others))
        if form == 3:
            return '{%d,%d-%d}' % (port, 8000, 8100)
        return str(port)

    def match(self, port=None, direction=None, nat=False):
        """A condition."""
        rng = self.rng
        if rng.random() < .12 and not nat:
            return ''
        talk = self.pick_talk(port, direction)
        if talk.kind == 'arp':
            return ','.join(['arp'] + rng.sample(
                ['arp_op=1', 'arp_spa=' + talk.src, 'arp_tpa=' + talk.dst],
                rng.randrange(3)))
        ip = 'ip' if talk.family == 4 else 'ip6'
        kind = 'udp' if talk.kind == 'fragments' else talk.kind
        keyword = KEYWORD.get((kind, talk.family), ip)
        terms = []
        if rng.random() < .3 and kind in ('tcp', 'udp', 'sctp', 'icmp'):
            terms.append(ip)
            keyword = ip
        elif nat or rng.random() < .93:
            terms.append(keyword)
        else:
            return self.match_ethernet(talk)
        source, target = (('nw_src', 'nw_dst') if talk.family == 4
                          else ('ipv6_src', 'ipv6_dst'))
        if rng.random() < .3:
            terms.append('%s=%s' % (source, self.address_value(talk.family,
                                                               talk.src)))
        if rng.random() < .3:
            terms.append('%s=%s' % (target, self.address_value(talk.family,
                                                               talk.dst)))
        if keyword != ip and kind in ('tcp', 'udp', 'sctp'):
            prefix = rng.choice(('tp', 'tp', kind))
            if rng.random() < .2:
                terms.append('%s_src=%s' % (prefix,
                                            self.port_value(talk.sport)))
            if rng.random() < .5:
                terms.append('%s_dst=%s' % (prefix,
                                            self.port_value(talk.dport)))
        terms += self.match_rarely(talk, keyword, kind)
        return rng.choice((',', ',', ', ')).join(terms)

    def match_rarely(self, talk, keyword, kind):
        """Terms about fields that few conditions are about."""
        rng = self.rng
        choices = ['nw_tos=%d' % (talk.tos & 0xfc), 'nw_ttl=64',
                   'nw_ttl=60-70', 'ip_dscp=%d' % (talk.tos >> 2),
                   'nw_ecn=%d' % (talk.tos & 3), 'ip_frag=no',
                   'ip_frag=yes', 'ip_frag=first', 'ip_frag=later',
                   'ip_frag=not_later', 'dl_src=' + MAC[talk.a],
                   'dl_dst={%s,%s}' % (MAC[talk.b], ODD_MAC),
                   'dl_src=$self_mac', 'dl_vlan=10', 'vlan_tci=0/0x1000',
                   'dl_vlan=0xffff', 'dl_src=$vms']
        if keyword in ('tcp', 'tcp6') and kind == 'tcp':
            choices += ['tcp_flags=+syn-ack', 'tcp_flags=+ack',
                        'tcp_flags=0x002/0x012', 'tcp_flags=-rst'] * 3
        if keyword == 'icmp':
            choices += ['icmp_type=8', 'icmp_type=0', 'icmp_type=3',
                        'icmp_type=0-8,icmp_code=0'] * 5
        if keyword == 'icmp6':
            choices += ['icmpv6_type=128', 'icmpv6_type=129',
                        'icmpv6_type=1', 'icmpv6_type={128,135}'] * 5
        return rng.sample(choices, 1) if rng.random() < .2 else []

    def match_ethernet(self, talk):
        """A condition without a protocol."""
        return self.rng.choice((
            'dl_src=' + MAC[talk.a], 'dl_dst=' + MAC[talk.b],
            'dl_src=$self_mac', 'dl_dst=%s/01:00:00:00:00:00' % MAC[talk.b],
            'dl_type=0x0800', 'dl_vlan={10,20}', 'dl_src=$vms',
            'dl_type=0x86dd,nw_proto=6'))

    def pick_talk(self, port, direction):
        """A talk whose packets are likely to pass 'port' in 'direction'."""
        candidates = []
        for talk in self.talks:
            for way, weight in ((talk, 4), (talk.reversed(), 1)):
                end = way.a if direction == model.OUTBOUND else way.b
                if port is None or end == port:
                    candidates += [way] * weight
        return self.rng.choice(candidates or self.talks)

    # Actions.

    def nat_action(self, talk, kind):
        """snat(...) or dnat(...)."""
        rng = self.rng
        family = talk.family if rng.random() < .96 else 10 - talk.family
        if kind == 'snat':
            first = rng.randrange(1, 4)
            last = first + rng.choice((0, 0, 0, 1, 2))
            ports = rng.choice(('', '', '5000-5001', '2000-2003', '3000',
                                '1024-65535', '5000-5100', '900-1100'))
            address = NAT[family] % first
            if last > first:
                address += '-' + NAT[family] % last
            if ports and family == 6:
                return 'snat([%s]:%s)' % (address, ports)
            return 'snat(%s%s)' % (address, ports and ':' + ports)
        hosts = HOSTS[family][talk.b] + HOSTS[family]['p3']
        targets = []
        for host in rng.sample(hosts, rng.choice((1, 1, 2, 3))):
            port = rng.choice((None, None, 80, 8080))
            if port:
                host = ('%s:%d' if family == 4 else '[%s]:%d') % (host, port)
            if host not in targets:
                targets.append(host)
        option = rng.choice(('', '', ',hash=src', ',hash=5tuple'))
        return 'dnat(%s%s)' % ('|'.join(targets), option)

    def header_actions(self):
        """Actions that rewrite other headers, or count."""
        rng = self.rng
        return rng.choice((
            'set_dscp(%d)' % rng.randrange(64), 'dec_ttl', 'count(c1)',
            'set_mac(src,%s)' % rng.choice(list(MAC.values()) + [ODD_MAC]),
            'set_mac(dst,%s)' % rng.choice(list(MAC.values()))))

    def actions(self):
        """The actions of a rule without NAT."""
        rng = self.rng
        verdict = rng.choices(
            ('allow', 'allow,stateful', 'deny', 'reject', 'next',
             'allow_continue', 'allow_continue,stateful', 'deny_continue',
             ''),
            (14, 42, 10, 4, 8, 5, 7, 4, 4))[0]
        parts = []
        if rng.random() < .15 or not verdict:
            parts.append(self.header_actions())
            if rng.random() < .2:
                parts.append(self.header_actions())
        if verdict:
            parts.append(verdict)
        return ','.join(parts)

    def rule(self, port, direction, priority, nat):
        """A rule.  'nat' says whether it may translate."""
        rng = self.rng
        if rng.random() < .02:
            return {'priority': priority, 'match': rng.choice(BAD_MATCHES),
                    'actions': 'allow'}
        if rng.random() < .02:
            return {'priority': priority, 'match': '',
                    'actions': rng.choice(BAD_ACTIONS)}
        if nat and rng.random() < .5:
            talk = self.pick_talk(port, direction)
            if talk.kind not in ('arp', 'nd'):
                return self.nat_rule(talk, port, direction, priority)
        return {'priority': priority, 'match': self.match(port, direction),
                'actions': self.actions()}

    def nat_rule(self, talk, port, direction, priority):
        """A rule that translates packets of 'talk'."""
        rng = self.rng
        if talk.dst in VIP.values() or (direction == model.INBOUND
                                        and rng.random() < .7):
            kind = 'dnat'
        else:
            kind = 'snat'
        parts = [self.nat_action(talk, kind)]
        if rng.random() < .1:
            parts.append(self.nat_action(talk, 'dnat' if kind == 'snat'
                                         else 'snat'))
        if rng.random() < .1:
            parts.append(self.header_actions())
        parts += rng.choice(([], ['allow'], ['allow', 'stateful'],
                             ['allow_continue']))
        saved, self.talks = self.talks, [talk]
        match = self.match(None, None, nat=True)
        self.talks = saved
        return {'priority': priority, 'match': match,
                'actions': ','.join(parts)}

    # Policies.

    def sets(self):
        """Address sets."""
        rng = self.rng
        everyone = [h for family in (4, 6) for p in PORTS
                    for h in HOSTS[family][p]]
        sets = {}
        for name in SETS:
            members = rng.sample(everyone, rng.randrange(1, 6))
            members += rng.sample(['10.0.0.0/16', '172.16.0.1-172.16.0.2',
                                   'fd00:99::/64', '10.9.9.9'],
                                  rng.randrange(3))
            members += rng.sample(list(MAC.values()), rng.randrange(3))
            sets[name] = sorted(set(members))
        return sets

    def group(self, policy, port, direction, nat):
        """Adds a group to 'policy' and returns its name."""
        rng = self.rng
        rules = []
        n = rng.choice((1, 2, 2, 3, 4)) if rng.random() < .95 else 0
        for priority in (rng.sample(range(0, 65536, 100), n)
                         if rng.random() < .85 else
                         rng.choices((0, 100, 65535), k=n)):
            name = self.name('r')
            policy['rules'][name] = self.rule(port, direction, priority, nat)
            rules.append(name)
        name = self.name('g')
        match = self.match(port, direction) if rng.random() < .2 else ''
        if rng.random() < .02:
            match = rng.choice(BAD_MATCHES)
        policy['groups'][name] = {
            'match': match,
            'default': rng.choices(('next', 'allow', 'deny'),
                                   (80, 12, 8))[0],
            'rules': rules}
        return name

    def layer(self, policy, port, nat):
        """Adds a layer to 'policy' and returns its name."""
        rng = self.rng
        layer = {}
        for direction in (model.OUTBOUND, model.INBOUND):
            n = rng.choice((0, 1, 1, 1, 2, 3))
            keys = sorted(rng.sample(range(0, 100), n))
            layer[direction] = {
                str(key): self.group(policy, port, direction, nat)
                for key in keys}
            layer['default_' + direction] = rng.choice(
                ('allow', 'allow', 'deny'))
        layer['timeouts'] = {}
        if rng.random() < .25:
            for key in rng.sample(sorted(model.DEFAULT_TIMEOUTS), 3):
                layer['timeouts'][key] = rng.choice((7, 20, 60, 200))
        layer['options'] = ({'tcp-loose': rng.choice(('true', 'true',
                                                      'false'))}
                            if rng.random() < .15 else {})
        name = self.name('L')
        policy['layers'][name] = layer
        return name

    def policy(self):
        """A policy."""
        rng = self.rng
        policy = {'sets': self.sets(), 'rules': {}, 'groups': {},
                  'layers': {}, 'ports': {}}
        shared = None
        for port in VM_PORTS:
            n = rng.choice((1, 1, 2, 2, 3, 4))
            translating = rng.randrange(n) if rng.random() < .6 else None
            layers = {}
            for i, position in enumerate(
                    sorted(rng.sample(range(1, 50), n))):
                nat = i == translating or rng.random() < .05
                if shared and rng.random() < .1:
                    layers[str(position)] = shared
                    shared = None
                else:
                    layers[str(position)] = self.layer(policy, port, nat)
            if port == 'p1':
                shared = rng.choice(list(layers.values()))
            policy['ports'][port] = {
                'layers': layers, 'mac': MAC[port],
                'addresses': HOSTS[4][port][:1] + HOSTS[6][port][:1]}
        return policy

    def changed(self, policy):
        """A copy of 'policy' with a change."""
        rng = self.rng
        policy = copy.deepcopy(policy)
        for _ in range(rng.choice((1, 1, 2))):
            self.change(policy)
        prune(policy)
        return policy

    def other_nat(self, match):
        """Something in the place of a translation that 'match' found."""
        family = 6 if match.group(2).count(':') > 1 else 4
        talks = [talk for talk in self.talks if talk.family == family]
        if not talks:
            return match.group()
        return self.nat_action(self.rng.choice(talks), match.group(1))

    def change(self, policy):
        """Changes something in 'policy'."""
        rng = self.rng
        rule = rng.choice(sorted(policy['rules']) or [None])
        group = rng.choice(sorted(policy['groups']) or [None])
        layer = rng.choice(sorted(policy['layers']) or [None])
        port = rng.choice(VM_PORTS)
        what = rng.choice(('actions', 'actions', 'match', 'nat', 'nat',
                           'remove', 'add', 'add', 'default', 'set',
                           'detach', 'move', 'timeouts', 'addresses'))
        if what == 'set':
            name = rng.choice(SETS)
            policy['sets'][name] = self.sets()[name]
        elif what == 'detach' and policy['ports'][port]['layers']:
            layers = policy['ports'][port]['layers']
            del layers[rng.choice(sorted(layers))]
        elif what == 'move' and policy['ports'][port]['layers']:
            layers = policy['ports'][port]['layers']
            name = layers.pop(rng.choice(sorted(layers)))
            layers[str(rng.choice([i for i in range(1, 60)
                                   if str(i) not in layers]))] = name
        elif what == 'addresses':
            policy['ports'][port]['addresses'] = [
                rng.choice(HOSTS[4][port]), rng.choice(HOSTS[6][port])]
        elif what == 'default' and layer:
            policy['layers'][layer][rng.choice(
                ('default_outbound', 'default_inbound'))] = rng.choice(
                    ('allow', 'deny'))
        elif what == 'timeouts' and layer:
            policy['layers'][layer]['timeouts'] = {
                'udp_multiple': 90, 'tcp_established': 500}
        elif rule and what == 'actions':
            policy['rules'][rule]['actions'] = self.actions()
        elif rule and what == 'match':
            policy['rules'][rule]['match'] = self.match(nat=True)
        elif what == 'nat':
            translating = [r for r in sorted(policy['rules'])
                           if 'nat(' in policy['rules'][r]['actions']]
            for name in translating[:1]:
                rule = policy['rules'][name]
                rule['actions'] = NAT_ACTION.sub(self.other_nat,
                                                 rule['actions'])
        elif rule and what == 'remove':
            del policy['rules'][rule]
            for members in policy['groups'].values():
                members['rules'] = [r for r in members['rules'] if r != rule]
        elif group and what == 'add':
            used = {policy['rules'][r]['priority']
                    for r in policy['groups'][group]['rules']}
            priority = rng.choice([p for p in range(50, 65536, 100)
                                   if p not in used])
            name = self.name('r')
            policy['rules'][name] = self.rule(
                port, rng.choice((model.OUTBOUND, model.INBOUND)), priority,
                False)
            policy['groups'][group]['rules'].append(name)


def _prefix(address, length):
    network = model.ipaddress.ip_network('%s/%d' % (address, length),
                                         strict=False)
    return str(network[0]), length


def _around(address):
    address = model.ipaddress.ip_address(address)
    return str(address - int(address) % 2), str(address + 3)


class StepMaker:
    """Draws the steps that 'talks' take."""

    def __init__(self, rng, maker, policy):
        self.rng = rng
        self.maker = maker
        self.policy = policy
        self.next_id = 0

    def step(self, op, **fields):
        """A step with an ID of its own."""
        self.next_id += 1
        return dict(fields, id=self.next_id, op=op)

    def send(self, talk, packet):
        """A packet out of the blue."""
        return self.step('send', port=talk.a, packet=packet.to_json(),
                         times=self.times())

    def times(self):
        """How often to send something."""
        return self.rng.choice((1, 1, 1, 2, 3))

    def conversation(self, talk):
        """The steps of a talk."""
        make = getattr(self, 'talk_' + talk.kind, self.talk_udp)
        steps = make(talk)
        if (talk.kind in ('tcp', 'udp', 'sctp', 'icmp')
                and self.rng.random() < .2):
            at = self.rng.randrange(1, len(steps) + 1)
            steps.insert(at, self.error(talk, steps[at - 1]))
        return steps

    def error(self, talk, about):
        """An ICMP error."""
        icmp = (self.rng.choice(([3, 3], [3, 1], [11, 0], [3, 4]))
                if talk.family == 4 else
                self.rng.choice(([1, 4], [3, 0], [2, 0])))
        router = ROUTER[talk.family] if self.rng.random() < .6 else None
        return self.step('error', to=about['id'], icmp=icmp, router=router,
                         times=self.times())

    def talk_tcp(self, talk):
        """A handshake, data and the end, with things going wrong."""
        rng = self.rng
        moves = [('a', SYN), ('b', SYN | ACK), ('a', ACK)]
        moves += [(rng.choice('ab'), ACK | rng.choice((0, PSH)))
                  for _ in range(rng.randrange(1, 5))]
        end = rng.randrange(5)
        if end == 0:
            moves += [('a', FIN | ACK), ('b', FIN | ACK), ('a', ACK)]
        elif end == 1:
            moves += [('b', FIN | ACK), ('a', ACK), ('a', FIN | ACK),
                      ('b', ACK)]
        elif end == 2:
            moves += [(rng.choice('ab'), RST | rng.choice((0, ACK)))]
        if end < 3 and rng.random() < .4:
            moves += [('a', SYN), ('b', SYN | ACK), ('a', ACK)]
        if rng.random() < .3:
            moves = [move for move in moves if rng.random() > .15]
        if rng.random() < .15:
            moves.insert(rng.randrange(len(moves) + 1),
                         (rng.choice('ab'),
                          rng.choice((SYN, RST, FIN, ACK, SYN | ACK,
                                      SYN | FIN, FIN | ACK, 0))))
        if rng.random() < .1:
            # Simultaneous open.
            moves[:2] = [('a', SYN), ('b', SYN), ('a', SYN | ACK)]
        return self.alternate(talk, moves or [('a', SYN)])

    def alternate(self, talk, moves):
        """Steps out of moves of the one and the other."""
        first_a = last_a = first_b = None
        steps = []
        for who, flags in moves:
            length = self.rng.choice((0, 0, 5, 32))
            change = {'flags': flags, 'seq': self.rng.getrandbits(32),
                      'ack': self.rng.getrandbits(32) if flags & ACK else 0,
                      'payload': bytes(range(length)).hex()
                      if not flags & SYN else ''}
            if talk.kind != 'tcp':
                change = {'payload': bytes(range(length)).hex()}
            if who == 'a' and first_a is None:
                step = self.send(talk, Packet.from_json(
                    dict(talk.packet().to_json(), **change)))
                first_a = step
            elif who == 'a':
                step = self.step('again', of=first_a['id'], set=change,
                                 times=self.times())
            elif last_a is None:
                other = talk.reversed()
                step = self.send(other, Packet.from_json(
                    dict(other.packet().to_json(), **change)))
                first_b = step
            elif first_b is None or self.rng.random() < .5:
                step = self.step('reply', to=last_a['id'], set=change,
                                 times=self.times())
                first_b = first_b or step
            else:
                step = self.step('again', of=first_b['id'], set=change,
                                 times=self.times())
            if flags & (SYN | FIN | RST) and self.rng.random() < .8:
                step['times'] = 1
            if who == 'a':
                last_a = step
            steps.append(step)
        return steps

    def talk_udp(self, talk):
        """Some packets either way."""
        n = self.rng.randrange(1, 7)
        moves = [('a', 0)] + [(self.rng.choice('ab'), 0) for _ in range(n)]
        steps = self.alternate(talk, moves)
        if talk.kind == 'udp' and talk.family == 4 \
                and self.rng.random() < .15:
            for step in steps:
                if 'packet' in step:
                    step['packet']['no_csum'] = True
        return steps

    def talk_icmp(self, talk):
        """Echo."""
        request, reply = (8, 0) if talk.family == 4 else (128, 129)
        rest = self.rng.getrandbits(32)
        first = self.send(talk, talk.packet(icmp_type=request, rest=rest,
                                            payload=b'ping'))
        steps = [first]
        for _ in range(self.rng.randrange(1, 5)):
            if self.rng.random() < .6:
                steps.append(self.step('reply', to=first['id'],
                                       set={'icmp_type': reply},
                                       times=self.times()))
            else:
                steps.append(self.step('again', of=first['id'],
                                       set={'rest': rest + 1 & 0xffffffff},
                                       times=self.times()))
        return steps

    def talk_fragments(self, talk):
        """UDP in fragments."""
        rng = self.rng
        steps = []
        for _ in range(rng.randrange(1, 3)):
            ident = rng.randrange(1, 65536)
            whole = dict(ident=ident, payload=bytes(range(48)))
            parts = [(0, 24, True), (24, 16, True), (40, 16, False)]
            if rng.random() < .2:
                parts.pop(rng.randrange(3))
            if rng.random() < .15:
                rng.shuffle(parts)
            steps += [self.send(talk, talk.packet(frag=part, **whole))
                      for part in parts]
            if rng.random() < .6:
                way = steps[-len(parts)]
                steps.append(self.step('reply', to=way['id'], set={
                    'frag': None, 'payload': ''}, times=1))
        return steps

    def talk_arp(self, talk):
        """A request and the reply."""
        request = self.send(talk, talk.packet(
            eth_type=model.ETH_ARP, eth_dst=BROADCAST, arp_op=1, proto=0,
            tos=0, sport=0, dport=0, arp_sha=MAC[talk.a]))
        return [request, self.step('reply', to=request['id'],
                                   set={'arp_op': 2, 'eth_src': MAC[talk.b]},
                                   times=self.times())]

    def talk_nd(self, talk):
        """A neighbor solicitation, and the advertisement."""
        target = model.ipaddress.ip_address(talk.dst).packed
        solicitation = self.send(talk, talk.packet(
            icmp_type=135, ttl=255, payload=target))
        return [solicitation,
                self.step('reply', to=solicitation['id'],
                          set={'icmp_type': 136}, times=self.times())]

    def merge(self, conversations):
        """One sequence out of several."""
        rng = self.rng
        steps = []
        queues = [list(conversation) for conversation in conversations]
        changes = rng.choice((0, 0, 1, 1, 2))
        together = rng.random() < .5
        while any(queues):
            queue = (rng.choice([q for q in queues if q]) if together
                     else next(q for q in queues if q))
            steps.append(queue.pop(0))
            if rng.random() < .1:
                steps.append(self.step('wait', ms=rng.choice(
                    (100, 1500, 4000, 12000, 25000, 31000, 50000, 61000,
                     130000, 901000, 86401000))))
            if changes and rng.random() < .12:
                changes -= 1
                self.policy = self.maker.changed(self.policy)
                steps.append(self.step('policy', policy=self.policy))
        return steps


def make_case(seed):
    """A random case, the same for the same seed."""
    rng = random.Random(seed)
    talks = [Talk(rng) for _ in range(rng.choice((1, 1, 2, 2, 3)))]
    if rng.random() < .3:
        # The same server and client once more, for tuples that collide.
        twin = copy.copy(rng.choice(talks))
        if rng.random() < .5:
            twin.src = rng.choice(HOSTS[twin.family][twin.a])
        else:
            twin.dst = rng.choice(HOSTS[twin.family][twin.b])
        talks.append(twin)
    maker = PolicyMaker(rng, talks)
    policy = maker.policy()
    steps = StepMaker(rng, maker, policy)
    conversations = [steps.conversation(talk) for talk in talks]
    return {'seed': seed, 'policy': policy,
            'steps': steps.merge(conversations)}


EMPTY_POLICY = {'sets': {}, 'rules': {}, 'groups': {}, 'layers': {},
                'ports': {port: {'layers': {}} for port in VM_PORTS}}


def without_policy(case):
    """A copy of 'case' that has packets only."""
    return dict(case, policy=copy.deepcopy(EMPTY_POLICY),
                steps=[s for s in case['steps'] if s['op'] != 'policy'])


#
# From steps to packets.
#

class History:
    """What was sent, and what came of it, by the IDs of steps."""

    def __init__(self):
        self.sent = {}          # ID -> (port, packet)
        self.emitted = {}       # ID -> [(port, packet), ...]

    def note(self, step, port, packet, emitted):
        """Takes note of a step."""
        self.sent[step['id']] = (port, packet)
        if emitted or step['id'] not in self.emitted:
            self.emitted[step['id']] = list(emitted)

    def resolve(self, step):
        """The port and packet that 'step' sends, or None."""
        op = step['op']
        if op == 'send':
            return step['port'], Packet.from_json(step['packet'])
        if op == 'again':
            if step['of'] not in self.sent:
                return None
            port, packet = self.sent[step['of']]
            return port, _change(packet, step['set'])
        if not self.emitted.get(step['to']):
            return None
        port, packet = self.emitted[step['to']][0]
        if op == 'reply':
            return port, _change(answer_to(packet), step['set'])
        return error_about(port, packet, step)


def _change(packet, changes):
    json = packet.to_json()
    json.update(changes)
    return Packet.from_json(json)


def answer_to(packet):
    """'packet' with the sender and the receiver swapped."""
    answer = packet.copy(eth_src=packet.eth_dst, eth_dst=packet.eth_src,
                         src=packet.dst, dst=packet.src, sport=packet.dport,
                         dport=packet.sport, ttl=64)
    if packet.eth_type == model.ETH_ARP:
        answer.arp_sha, answer.arp_tha = packet.arp_tha, packet.arp_sha
    return answer


def error_about(port, packet, step):
    """The port and packet of a step "error"."""
    if not packet.is_ip() or packet.is_icmp_error() or packet.frag:
        return None
    v4 = packet.eth_type == model.ETH_IP
    return port, Packet(
        eth_src=packet.eth_dst, eth_dst=packet.eth_src,
        eth_type=packet.eth_type, vlan=packet.vlan,
        src=step['router'] or packet.dst, dst=packet.src,
        proto=model.ICMP if v4 else model.ICMPV6, icmp_type=step['icmp'][0],
        icmp_code=step['icmp'][1], quoted=packet.copy())


#
# Smaller cases.
#

def policies(case):
    """All the policies in 'case'."""
    return [case['policy']] + [step['policy'] for step in case['steps']
                               if step['op'] == 'policy']


def prune(policy):
    """Removes what nothing refers to."""
    used = {name for port in policy['ports'].values()
            for name in port['layers'].values()}
    policy['layers'] = {k: v for k, v in policy['layers'].items()
                        if k in used}
    used = {name for layer in policy['layers'].values()
            for direction in (model.OUTBOUND, model.INBOUND)
            for name in layer.get(direction, {}).values()}
    policy['groups'] = {k: v for k, v in policy['groups'].items()
                        if k in used}
    used = {name for group in policy['groups'].values()
            for name in group['rules']}
    policy['rules'] = {k: v for k, v in policy['rules'].items() if k in used}


def _removals(case):
    """Yields functions that each take something out of a copy of 'case'."""
    def drop_layer(name):
        def edit(policy):
            for port in policy['ports'].values():
                port['layers'] = {k: v for k, v in port['layers'].items()
                                  if v != name}
        return edit

    def drop_group(name):
        def edit(policy):
            for layer in policy['layers'].values():
                for direction in (model.OUTBOUND, model.INBOUND):
                    layer[direction] = {
                        k: v for k, v in layer.get(direction, {}).items()
                        if v != name}
        return edit

    def drop_rule(name):
        def edit(policy):
            for group in policy['groups'].values():
                group['rules'] = [r for r in group['rules'] if r != name]
        return edit

    def drop_set(name):
        return lambda policy: policy['sets'].pop(name, None)

    def set_value(table, name, key, value):
        def edit(policy):
            if key in policy[table].get(name, {}):
                policy[table][name][key] = value
        return edit

    def names(table):
        return sorted({name for policy in policies(case)
                       for name in policy[table]})

    yield from map(drop_layer, names('layers'))
    yield from map(drop_group, names('groups'))
    yield from map(drop_rule, names('rules'))
    for name in names('groups'):
        yield set_value('groups', name, 'match', '')
        yield set_value('groups', name, 'default', 'next')
    for name in names('layers'):
        yield set_value('layers', name, 'timeouts', {})
        yield set_value('layers', name, 'options', {})
        yield set_value('layers', name, 'default_outbound', 'allow')
        yield set_value('layers', name, 'default_inbound', 'allow')
    for name in names('rules'):
        for policy in policies(case):
            rule = policy['rules'].get(name)
            if rule:
                for key, brackets in (('match', '{}'), ('actions', '()')):
                    yield from _shorter(name, key, rule[key], brackets,
                                        set_value)
    yield from map(drop_set, names('sets'))


def _shorter(name, key, text, brackets, set_value):
    try:
        parts = model.split_outside(text, ',', brackets)
    except model.PolicyError:
        return
    if len(parts) > 1 or key == 'match' and text:
        for i in range(len(parts)):
            yield set_value('rules', name, key,
                            ','.join(parts[:i] + parts[i + 1:]))


def shrink(case, fails, seconds=60):
    """The smallest case found in 'seconds' for which fails() still holds."""
    deadline = time.monotonic() + seconds
    best = case

    def attempt(candidate):
        nonlocal best
        if time.monotonic() > deadline or candidate == best:
            return False
        try:
            if not fails(candidate):
                return False
        except (KeyError, model.PolicyError):
            return False
        best = candidate
        return True

    progress = True
    while progress and time.monotonic() < deadline:
        before = best
        _shrink_steps(lambda: best, attempt)
        for edit in list(_removals(best)):
            candidate = copy.deepcopy(best)
            for policy in policies(candidate):
                edit(policy)
                prune(policy)
            attempt(candidate)
        for i, step in enumerate(best['steps']):
            if 'burst' in step:
                candidate = copy.deepcopy(best)
                del candidate['steps'][i]['burst']
                attempt(candidate)
            if step.get('times', 1) > 1:
                candidate = copy.deepcopy(best)
                candidate['steps'][i]['times'] = 1
                attempt(candidate)
        progress = best is not before
    return best


def _shrink_steps(current, attempt):
    """Takes out ever smaller runs of steps."""
    size = max(len(current()['steps']) // 2, 1)
    while True:
        start = 0
        while start < len(current()['steps']):
            steps = current()['steps']
            candidate = dict(current(),
                             steps=steps[:start] + steps[start + size:])
            if not attempt(candidate):
                start += size
        if size == 1:
            return
        size //= 2
