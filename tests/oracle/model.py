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

"""A plain interpreter of per-VM policy layers.

This says what OVS-Layered does with a packet, as simply as it can be said and
as slowly as need be, to compare ovs-vswitchd with.  It shares nothing with
the engine but the documentation.

A Switch has VM ports, each with a policy and with the connections that its
layers hold.  Switch.receive() says what becomes of a packet and changes
nothing; the commit() of its result does.  What the engine is free to choose,
such as the port of a source translation, it takes from a Chooser, so that the
caller can try all choices that are allowed and go on with the one that
explains what he saw: see explore().

Situations that the documentation leaves open raise Unspecified.
"""

import collections
import ipaddress
import itertools
import zlib

ETH_IP = 0x0800
ETH_ARP = 0x0806
ETH_RARP = 0x8035
ETH_IPV6 = 0x86dd

ICMP = 1
TCP = 6
UDP = 17
ICMPV6 = 58
SCTP = 132
WITH_PORTS = (TCP, UDP, SCTP)

FIN = 0x01
SYN = 0x02
RST = 0x04
PSH = 0x08
ACK = 0x10
FLAG_NAMES = ['fin', 'syn', 'rst', 'psh', 'ack', 'urg', 'ece', 'cwr', 'ns']

OUTBOUND = 'outbound'
INBOUND = 'inbound'
OTHER = {OUTBOUND: INBOUND, INBOUND: OUTBOUND}

# Seconds.  The name of a connection's state is the key of its timeout.
DEFAULT_TIMEOUTS = {
    'tcp_syn_sent': 30, 'tcp_syn_recv': 30, 'tcp_established': 86400,
    'tcp_fin_wait': 900, 'tcp_time_wait': 45, 'tcp_close': 30,
    'udp_first': 60, 'udp_single': 60, 'udp_multiple': 30,
    'icmp_first': 60, 'icmp_reply': 30,
}
FRAGMENT_TIMEOUT = 30

MS = 1000


class PolicyError(Exception):
    """A text of the policy is not valid, so that its row is not used."""


class Unspecified(Exception):
    """The documentation does not say what happens."""


class Drop(Exception):
    """Ends the judging of a packet within a layer."""

    def __init__(self, reason, also=()):
        super().__init__(reason)
        self.reason = reason
        self.also = set(also)


#
# Packets.
#

def reverse(key):
    """The tuple of the answers to packets of tuple 'key'."""
    proto, src, dst, sport, dport = key
    return (proto, dst, src, dport, sport)


class Packet:
    """A packet, as plain fields.

    vlan is None or (vid, pcp).  frag is None or (offset, length, more), in
    bytes of the IP payload, all of which the other fields describe.  src and
    dst are also ARP's.  rest is the rest of an ICMP header as an integer:
    identifier and sequence number.  quoted is what an ICMP error quotes.
    """

    FIELDS = {
        'eth_src': '00:00:00:00:00:00', 'eth_dst': '00:00:00:00:00:00',
        'eth_type': ETH_IP, 'vlan': None, 'src': None, 'dst': None,
        'proto': 0, 'tos': 0, 'ttl': 64, 'ident': 0, 'frag': None,
        'sport': 0, 'dport': 0, 'flags': 0, 'seq': 0, 'ack': 0,
        'icmp_type': 0, 'icmp_code': 0, 'rest': 0, 'quoted': None,
        'arp_op': 0, 'arp_sha': '00:00:00:00:00:00',
        'arp_tha': '00:00:00:00:00:00', 'payload': b'', 'no_csum': False,
    }
    __slots__ = tuple(FIELDS)

    def __init__(self, **fields):
        for name, default in self.FIELDS.items():
            setattr(self, name, fields.pop(name, default))
        if fields:
            raise TypeError('unknown fields: ' + ', '.join(fields))
        for name in ('src', 'dst'):
            if isinstance(getattr(self, name), str):
                setattr(self, name, ipaddress.ip_address(getattr(self, name)))
        for name in ('vlan', 'frag'):
            if isinstance(getattr(self, name), list):
                setattr(self, name, tuple(getattr(self, name)))

    def copy(self, **changes):
        """A copy of the packet, with 'changes'."""
        fields = {name: getattr(self, name) for name in self.FIELDS}
        if self.quoted is not None:
            fields['quoted'] = self.quoted.copy()
        fields.update(changes)
        return Packet(**fields)

    def to_json(self):
        """The fields that are not the defaults, as JSON has them."""
        json = {}
        for name, default in self.FIELDS.items():
            value = getattr(self, name)
            if value == default:
                continue
            if name in ('src', 'dst'):
                value = str(value)
            elif name == 'payload':
                value = value.hex()
            elif name == 'quoted':
                value = value.to_json()
            elif isinstance(value, tuple):
                value = list(value)
            json[name] = value
        return json

    @classmethod
    def from_json(cls, json):
        """The inverse of to_json()."""
        fields = dict(json)
        if 'payload' in fields:
            fields['payload'] = bytes.fromhex(fields['payload'])
        if 'quoted' in fields:
            fields['quoted'] = cls.from_json(fields['quoted'])
        return cls(**fields)

    def differences(self, other):
        """The names of the fields in which 'other' differs."""
        return [name for name in self.FIELDS
                if getattr(self, name) != getattr(other, name)]

    def __eq__(self, other):
        return isinstance(other, Packet) and not self.differences(other)

    __hash__ = None

    def __repr__(self):
        return 'Packet(%s)' % ', '.join(
            '%s=%s' % (k, v) for k, v in self.to_json().items())

    def is_ip(self):
        """Whether this is an IPv4 or IPv6 packet."""
        return self.eth_type in (ETH_IP, ETH_IPV6)

    def has_ports(self):
        """Whether the protocol has ports."""
        return self.is_ip() and self.proto in WITH_PORTS

    def is_later_fragment(self):
        """Whether this is a fragment without the beginning."""
        return self.frag is not None and self.frag[0] > 0

    def is_first_fragment(self):
        """Whether this is the first fragment of several."""
        return self.frag is not None and self.frag[0] == 0

    def is_icmp(self):
        """Whether this is ICMP or ICMPv6."""
        return (self.eth_type == ETH_IP and self.proto == ICMP
                or self.eth_type == ETH_IPV6 and self.proto == ICMPV6)

    def is_icmp_error(self):
        """Whether this is an ICMP message about another packet."""
        if not self.is_icmp() or self.is_later_fragment():
            return False
        if self.proto == ICMP:
            return self.icmp_type in (3, 4, 5, 11, 12)
        return self.icmp_type in (1, 2, 3, 4)

    def is_trackable(self):
        """Whether connections are kept for such packets."""
        if not self.is_ip() or self.is_icmp_error():
            return False
        if self.proto == ICMPV6 and self.eth_type == ETH_IPV6:
            return not (130 <= self.icmp_type <= 137
                        or self.icmp_type == 143)
        return True

    def opens_tcp(self):
        """Whether the flags are those of the first packet of TCP."""
        return self.flags & (SYN | ACK | FIN | RST) == SYN

    def key(self):
        """The tuple by which connections are found."""
        if self.proto in WITH_PORTS:
            return (self.proto, self.src, self.dst, self.sport, self.dport)
        return (self.proto, self.src, self.dst, 0, 0)

    def set_key(self, key):
        """Rewrites the headers to those of tuple 'key'."""
        _, self.src, self.dst, sport, dport = key
        if self.proto in WITH_PORTS:
            self.sport, self.dport = sport, dport


#
# Conditions.
#

def mac_to_int(text):
    """The integer that a MAC is."""
    octets = text.split(':')
    if len(octets) != 6 or not all(1 <= len(o) <= 2 for o in octets):
        raise PolicyError('%s: bad MAC' % text)
    try:
        return int(''.join(o.zfill(2) for o in octets), 16)
    except ValueError:
        raise PolicyError('%s: bad MAC' % text) from None


def _ip_to_int(text, version):
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise PolicyError('%s: bad address' % text) from None
    if address.version != version:
        raise PolicyError('%s: address of the wrong family' % text)
    return int(address)


def _integer(text):
    try:
        return int(text, 0)
    except ValueError:
        raise PolicyError('%s: bad number' % text) from None


class Kind:
    """How the values of a field are written."""

    def __init__(self, bits, ranges=True, masks=True, family=None):
        self.bits = bits
        self.ranges = ranges
        self.masks = masks
        self.family = family            # Of address sets: ip4, ip6, mac.

    def value(self, text):
        """Parses a value."""
        number = _integer(text)
        if not 0 <= number < 1 << self.bits:
            raise PolicyError('%s: out of range' % text)
        return number

    def mask(self, text):
        """Parses what is behind the slash."""
        return self.value(text)

    def alternative(self, text):
        """Parses a value, a value with a mask, or a range."""
        ones = (1 << self.bits) - 1
        if '/' in text and self.masks:
            value, mask = text.split('/', 1)
            mask = self.mask(mask)
            return ('mask', self.value(value) & mask, mask)
        if self.ranges and '-' in text[1:]:
            low, high = (self.value(part) for part in text.split('-', 1))
            if low > high:
                raise PolicyError('%s: empty range' % text)
            return ('range', low, high)
        return ('mask', self.value(text), ones)


class IpKind(Kind):
    """IPv4 or IPv6 addresses."""

    def __init__(self, version):
        super().__init__(32 if version == 4 else 128,
                         family='ip%d' % version)
        self.version = version

    def value(self, text):
        return _ip_to_int(text, self.version)

    def mask(self, text):
        if '.' in text or ':' in text:
            return _ip_to_int(text, self.version)
        length = _integer(text)
        if not 0 <= length <= self.bits:
            raise PolicyError('%s: bad prefix length' % text)
        return (1 << self.bits) - (1 << (self.bits - length))


class MacKind(Kind):
    """MACs."""

    def __init__(self):
        super().__init__(48, ranges=False, family='mac')

    def value(self, text):
        return mac_to_int(text)


class TosKind(Kind):
    """The whole TOS byte, of which ECN's bits do not count."""

    def __init__(self):
        super().__init__(8, ranges=False, masks=False)

    def value(self, text):
        number = super().value(text)
        if number & 3:
            raise PolicyError('%s: ECN bits in nw_tos' % text)
        return number


class FlagsKind(Kind):
    """TCP flags: value/mask, or +a-b."""

    def __init__(self):
        super().__init__(12, ranges=False)

    def alternative(self, text):
        if text[:1] not in ('+', '-'):
            return super().alternative(text)
        value = mask = 0
        for sign, name in zip(*[iter(_split_signs(text))] * 2):
            if name not in FLAG_NAMES:
                raise PolicyError('%s: unknown flag' % name)
            bit = 1 << FLAG_NAMES.index(name)
            if mask & bit:
                raise PolicyError('%s: flag given twice' % name)
            mask |= bit
            value |= bit if sign == '+' else 0
        return ('mask', value, mask)


def _split_signs(text):
    tokens = []
    for char in text:
        if char in '+-':
            tokens += [char, '']
        else:
            tokens[-1] += char
    return tokens


class FragKind(Kind):
    """no, yes, first, later, not_later."""

    # Bit 0: is a fragment.  Bit 1: is a later one.
    VALUES = {'no': (0, 3), 'yes': (1, 1), 'first': (1, 3), 'later': (3, 3),
              'not_later': (0, 2)}

    def __init__(self):
        super().__init__(2, ranges=False, masks=False)

    def alternative(self, text):
        if text not in self.VALUES:
            raise PolicyError('%s: bad ip_frag' % text)
        return ('mask',) + self.VALUES[text]


class VlanKind(Kind):
    """A VLAN's ID, or 0xffff for no VLAN."""

    def value(self, text):
        number = _integer(text)
        if number == 0xffff or 0 <= number < 4096:
            return number
        raise PolicyError('%s: out of range' % text)


class Field:
    """A field of a packet that conditions may be about.

    'get' returns its value as an integer, or None if the packet has none.
    'needs' are the prerequisites: a function of the Ethernet type and the
    protocol that the condition fixes."""

    def __init__(self, kind, get, needs=lambda eth, proto: True, l4=False):
        self.kind = kind
        self.get = get
        self.needs = needs
        self.l4 = l4


def _ip(packet, value):
    return value if packet.is_ip() else None


def _of(eth_type, proto=None):
    """Prerequisites: an Ethernet type, and perhaps a protocol."""
    return lambda eth, p: eth == eth_type and proto in (None, p)


def _any_ip(eth, _proto):
    return eth in (ETH_IP, ETH_IPV6)


def _port_field(name, protos):
    def get(packet):
        if packet.is_ip() and packet.proto in protos:
            return getattr(packet, name)
        return None

    return Field(Kind(16), get,
                 lambda eth, p: _any_ip(eth, p) and p in protos, l4=True)


def _icmp_field(name, eth_type, proto):
    def get(packet):
        if (packet.eth_type == eth_type and packet.proto == proto
                and not packet.is_later_fragment()):
            return getattr(packet, name)
        return None

    return Field(Kind(8), get, _of(eth_type, proto), l4=True)


def _address_field(name, eth_type, version):
    def get(packet):
        if packet.eth_type == eth_type:
            return int(getattr(packet, name))
        return None

    return Field(IpKind(version), get, _of(eth_type))


def _arp_field(kind, get):
    return Field(kind, lambda p: get(p) if p.eth_type == ETH_ARP else None,
                 _of(ETH_ARP))


def _tcp_flags(packet):
    if packet.is_ip() and packet.proto == TCP:
        return packet.flags
    return None


def _vlan_tci(packet):
    if packet.vlan is None:
        return 0
    return 0x1000 | packet.vlan[1] << 13 | packet.vlan[0]


def _frag(packet):
    return _ip(packet, (0 if packet.frag is None
                        else 3 if packet.frag[0] else 1))


FIELDS = {
    'dl_src': Field(MacKind(), lambda p: mac_to_int(p.eth_src)),
    'dl_dst': Field(MacKind(), lambda p: mac_to_int(p.eth_dst)),
    'dl_type': Field(Kind(16, ranges=False), lambda p: p.eth_type),
    'dl_vlan': Field(VlanKind(16, ranges=False, masks=False),
                     lambda p: p.vlan[0] if p.vlan else 0xffff),
    'dl_vlan_pcp': Field(Kind(3), lambda p: p.vlan[1] if p.vlan else None),
    'vlan_tci': Field(Kind(16, ranges=False), _vlan_tci),
    'nw_src': _address_field('src', ETH_IP, 4),
    'nw_dst': _address_field('dst', ETH_IP, 4),
    'ipv6_src': _address_field('src', ETH_IPV6, 6),
    'ipv6_dst': _address_field('dst', ETH_IPV6, 6),
    'nw_proto': Field(Kind(8), lambda p: _ip(p, p.proto), _any_ip),
    'nw_tos': Field(TosKind(), lambda p: _ip(p, p.tos & 0xfc), _any_ip),
    'ip_dscp': Field(Kind(6), lambda p: _ip(p, p.tos >> 2), _any_ip),
    'nw_ecn': Field(Kind(2), lambda p: _ip(p, p.tos & 3), _any_ip),
    'nw_ttl': Field(Kind(8), lambda p: _ip(p, p.ttl), _any_ip),
    'ip_frag': Field(FragKind(), _frag, _any_ip),
    'tp_src': _port_field('sport', WITH_PORTS),
    'tp_dst': _port_field('dport', WITH_PORTS),
    'tcp_src': _port_field('sport', (TCP,)),
    'tcp_dst': _port_field('dport', (TCP,)),
    'udp_src': _port_field('sport', (UDP,)),
    'udp_dst': _port_field('dport', (UDP,)),
    'sctp_src': _port_field('sport', (SCTP,)),
    'sctp_dst': _port_field('dport', (SCTP,)),
    'tcp_flags': Field(FlagsKind(), _tcp_flags,
                       lambda eth, p: _any_ip(eth, p) and p == TCP, l4=True),
    'icmp_type': _icmp_field('icmp_type', ETH_IP, ICMP),
    'icmp_code': _icmp_field('icmp_code', ETH_IP, ICMP),
    'icmpv6_type': _icmp_field('icmp_type', ETH_IPV6, ICMPV6),
    'icmpv6_code': _icmp_field('icmp_code', ETH_IPV6, ICMPV6),
    'arp_op': _arp_field(Kind(8), lambda p: p.arp_op),
    'arp_spa': _arp_field(IpKind(4), lambda p: int(p.src)),
    'arp_tpa': _arp_field(IpKind(4), lambda p: int(p.dst)),
    'arp_sha': _arp_field(MacKind(), lambda p: mac_to_int(p.arp_sha)),
    'arp_tha': _arp_field(MacKind(), lambda p: mac_to_int(p.arp_tha)),
}
ALIASES = {'eth_src': 'dl_src', 'eth_dst': 'dl_dst', 'eth_type': 'dl_type',
           'ip_src': 'nw_src', 'ip_dst': 'nw_dst', 'ip_proto': 'nw_proto',
           'ip_ttl': 'nw_ttl', 'ip_ecn': 'nw_ecn', 'nw_frag': 'ip_frag'}
KEYWORDS = {
    'ip': (ETH_IP, None), 'arp': (ETH_ARP, None), 'rarp': (ETH_RARP, None),
    'ip6': (ETH_IPV6, None), 'ipv6': (ETH_IPV6, None),
    'tcp': (ETH_IP, TCP), 'udp': (ETH_IP, UDP), 'sctp': (ETH_IP, SCTP),
    'icmp': (ETH_IP, ICMP), 'icmp6': (ETH_IPV6, ICMPV6),
    'tcp6': (ETH_IPV6, TCP), 'udp6': (ETH_IPV6, UDP),
    'sctp6': (ETH_IPV6, SCTP),
}


def split_outside(text, separator, brackets):
    """Splits 'text' at 'separator', but not within 'brackets'."""
    parts = ['']
    depth = 0
    for char in text:
        if char == brackets[0]:
            depth += 1
        elif char == brackets[1]:
            depth -= 1
            if depth < 0:
                raise PolicyError('%s: unbalanced' % text)
        if char == separator and not depth:
            parts.append('')
        else:
            parts[-1] += char
    if depth:
        raise PolicyError('%s: unbalanced' % text)
    return [part.strip() for part in parts]


class AddressSet:
    """Addresses of all families, as ranges of integers."""

    def __init__(self, texts):
        self.ranges = {'ip4': [], 'ip6': [], 'mac': []}
        for text in texts:
            family, low, high = self._parse(text)
            self.ranges[family].append((low, high))

    @staticmethod
    def _parse(text):
        if text.count(':') == 5 and '::' not in text:
            value = mac_to_int(text)
            return ('mac', value, value)
        try:
            if '/' in text:
                network = ipaddress.ip_network(text, strict=False)
                low, high = network[0], network[-1]
            elif '-' in text:
                low, high = (ipaddress.ip_address(part.strip())
                             for part in text.split('-'))
            else:
                low = high = ipaddress.ip_address(text)
        except ValueError:
            raise PolicyError('%s: bad address' % text) from None
        if low.version != high.version or low > high:
            raise PolicyError('%s: bad range' % text)
        return ('ip%d' % low.version, int(low), int(high))

    def contains(self, family, value):
        """Whether 'value', an integer, is in the set."""
        return any(low <= value <= high
                   for low, high in self.ranges[family])


class Environment:
    """What the texts of a policy mean at one port."""

    def __init__(self, sets, addresses, mac):
        self.sets = sets
        self.self_addresses = AddressSet(addresses)
        self.self_mac = mac_to_int(mac) if mac else None


class Condition:
    """The match of a rule or group."""

    def __init__(self, text, sets):
        """Parses 'text'.  'sets' are the names of the address sets."""
        self.terms = {}                 # Field name -> alternatives.
        eth = proto = None
        for term in split_outside(text, ',', '{}') if text.strip() else []:
            if term in KEYWORDS:
                if eth is not None:
                    raise PolicyError('%s: two protocols' % term)
                eth, proto = KEYWORDS[term]
                self._add('dl_type', [('mask', eth, 0xffff)])
                if proto is not None:
                    self._add('nw_proto', [('mask', proto, 0xff)])
                continue
            name, equals, value = term.partition('=')
            name = ALIASES.get(name.strip(), name.strip())
            if not equals or name not in FIELDS:
                raise PolicyError('%s: unknown field' % term)
            alternatives = self._alternatives(name, value.strip(), sets)
            self._add(name, alternatives)
            exact = (alternatives[0][1] if len(alternatives) == 1
                     and alternatives[0][0] == 'mask' else None)
            if name == 'dl_type':
                eth = exact
            elif name == 'nw_proto':
                proto = exact
        for name in self.terms:
            if not FIELDS[name].needs(eth, proto):
                raise PolicyError('%s: missing prerequisite' % name)

    def _add(self, name, alternatives):
        if name in self.terms:
            raise PolicyError('%s: given twice' % name)
        self.terms[name] = alternatives

    @staticmethod
    def _alternatives(name, text, sets):
        kind = FIELDS[name].kind
        if text.startswith('{'):
            if not text.endswith('}'):
                raise PolicyError('%s: unbalanced' % text)
            texts = [part.strip() for part in text[1:-1].split(',')]
        else:
            texts = [text]
        alternatives = []
        for part in texts:
            if part == '$self' and kind.family in ('ip4', 'ip6'):
                alternatives.append(('self',))
            elif part == '$self_mac' and kind.family == 'mac':
                alternatives.append(('self_mac',))
            elif part.startswith('$'):
                if part[1:] not in sets or not kind.family:
                    raise PolicyError('%s: unknown set' % part)
                alternatives.append(('set', part[1:]))
            else:
                alternatives.append(kind.alternative(part))
        return alternatives

    def meaning(self):
        """The same for all conditions that mean the same."""
        return {name: set(alternatives)
                for name, alternatives in self.terms.items()}

    def uses_l4(self):
        """Whether the condition is about something above IP."""
        return any(FIELDS[name].l4 for name in self.terms)

    def matches(self, packet, environment):
        """Whether 'packet' meets the condition."""
        return all(self._term_matches(name, alternatives, packet, environment)
                   for name, alternatives in self.terms.items())

    @staticmethod
    def _term_matches(name, alternatives, packet, environment):
        field = FIELDS[name]
        value = field.get(packet)
        if value is None:
            return False
        for alternative in alternatives:
            what = alternative[0]
            if what == 'mask':
                if value & alternative[2] == alternative[1]:
                    return True
            elif what == 'range':
                if alternative[1] <= value <= alternative[2]:
                    return True
            elif what == 'set':
                members = environment.sets[alternative[1]]
                if members.contains(field.kind.family, value):
                    return True
            elif what == 'self':
                if environment.self_addresses.contains(field.kind.family,
                                                       value):
                    return True
            elif value == environment.self_mac:
                return True
        return False


#
# Actions.
#

VERDICTS = ('allow', 'deny', 'allow_continue', 'deny_continue', 'next',
            'reject')


class Nat:
    """snat(...) or dnat(...).

    snat has 'addresses', a list, and 'ports', None or a pair.  dnat has
    'targets', a list of pairs of address and port or None, and hash_src.
    'meaning' is the same for all that mean the same."""

    def __init__(self, kind, argument):
        self.kind = kind
        self.hash_src = False
        if kind == 'snat':
            self._parse_snat(argument)
            what = (self.addresses, self.ports)
        else:
            self._parse_dnat(argument)
            what = (self.targets, self.hash_src)
        self.meaning = '%s %s' % (kind, what)

    def _parse_snat(self, argument):
        addresses, self.ports = self._parse_target(argument)
        first, _, last = addresses.partition('-')
        first = self._address(first)
        last = self._address(last) if last else first
        if first.version != last.version or first > last:
            raise PolicyError('%s: bad range' % argument)
        self.addresses = [first + i
                          for i in range(int(last) - int(first) + 1)]
        self.version = first.version

    def _parse_dnat(self, argument):
        parts = split_outside(argument, ',', '[]')
        for option in parts[1:]:
            if option not in ('hash=5tuple', 'hash=src'):
                raise PolicyError('%s: unknown option' % option)
            self.hash_src = option == 'hash=src'
        self.targets = []
        for text in parts[0].split('|'):
            address, ports = self._parse_target(text.strip())
            if ports is not None and ports[0] != ports[1]:
                raise PolicyError('%s: a range of ports' % text)
            self.targets.append((self._address(address),
                                 ports and ports[0]))
        versions = {address.version for address, _ in self.targets}
        if len(versions) != 1:
            raise PolicyError('%s: mixed families' % argument)
        self.version = versions.pop()

    @staticmethod
    def _address(text):
        try:
            return ipaddress.ip_address(text.strip())
        except ValueError:
            raise PolicyError('%s: bad address' % text) from None

    @staticmethod
    def _parse_target(text):
        """Takes apart "ADDRESSES[:PORTS]"; IPv6 is in brackets if there are
        ports."""
        if text.startswith('['):
            addresses, bracket, ports = text[1:].partition(']')
            if not bracket or (ports and ports[0] != ':'):
                raise PolicyError('%s: bad brackets' % text)
            ports = ports[1:]
        elif text.count(':') == 1:
            addresses, _, ports = text.partition(':')
        else:
            addresses, ports = text, ''
        if not ports:
            return addresses, None
        low, _, high = ports.partition('-')
        low = _integer(low)
        high = _integer(high) if high else low
        if not 1 <= low <= high <= 65535:
            raise PolicyError('%s: bad ports' % text)
        return addresses, (low, high)


class Actions:
    """The actions of a rule: 'steps' in order, 'verdict', 'stateful'."""

    def __init__(self, text):
        self.steps = []         # Nat, or a tuple of a word and arguments.
        self.verdict = None
        self.stateful = False
        for word in split_outside(text, ',', '()'):
            self._parse(word)
        nats = [step.kind for step in self.steps if isinstance(step, Nat)]
        if len(nats) > len(set(nats)):
            raise PolicyError('%s: given twice' % nats[0])
        explicit = self.verdict is not None
        if not explicit:
            self.verdict = 'allow' if nats else 'next'
        if (self.stateful or nats) and not self.verdict.startswith('allow'):
            raise PolicyError('stateful without allow')
        self.stateful = self.stateful or bool(nats)
        if not self.steps and not explicit:
            raise PolicyError('no actions')

    def meaning(self):
        """The same for all actions that mean the same."""
        return ([getattr(step, 'meaning', step) for step in self.steps],
                self.verdict, self.stateful)

    def _parse(self, word):
        name, parenthesis, argument = word.partition('(')
        if parenthesis:
            if not argument.endswith(')'):
                raise PolicyError('%s: unbalanced' % word)
            argument = argument[:-1].strip()
        if word in VERDICTS:
            if self.verdict is not None:
                raise PolicyError('%s: two verdicts' % word)
            self.verdict = word
        elif word == 'stateful':
            self.stateful = True
        elif word == 'dec_ttl':
            self.steps.append(('dec_ttl',))
        elif name in ('snat', 'dnat') and parenthesis:
            self.steps.append(Nat(name, argument))
        elif name == 'count' and parenthesis and argument:
            self.steps.append(('count', argument))
        elif name == 'set_dscp' and parenthesis:
            dscp = _integer(argument)
            if not 0 <= dscp < 64:
                raise PolicyError('%s: bad DSCP' % word)
            self.steps.append(('set_dscp', dscp))
        elif name == 'set_mac' and parenthesis:
            which, _, mac = argument.partition(',')
            if which.strip() not in ('src', 'dst'):
                raise PolicyError('%s: neither src nor dst' % word)
            mac_to_int(mac.strip())
            self.steps.append(('set_mac', which.strip(), mac.strip()))
        else:
            raise PolicyError('%s: unknown or not supported' % word)


#
# Policy.
#

def rank(name):
    """The place of a rule among those of the same priority: the beginning of
    its UUID."""
    return zlib.crc32(name.encode())


class Rule:
    """A valid rule."""

    def __init__(self, name, json, sets):
        self.name = name
        self.priority = json['priority']
        self.condition = Condition(json.get('match', ''), sets)
        self.actions = Actions(json['actions'])
        self.needs_ports = (self.condition.uses_l4()
                            or self.actions.stateful)

    def meaning(self):
        """The same for all rules that mean the same."""
        return (self.priority, self.condition.meaning(),
                self.actions.meaning())


class Group:
    """A valid group of rules."""

    def __init__(self, json, rules, sets):
        self.condition = Condition(json.get('match', ''), sets)
        self.default = json.get('default', 'next')
        self.rules = []
        for name in json['rules']:
            try:
                self.rules.append(Rule(name, rules[name], sets))
            except PolicyError:
                pass
        self.rules.sort(key=lambda rule: (-rule.priority, rank(rule.name)))
        self.needs_ports = (self.condition.uses_l4()
                            or any(rule.needs_ports for rule in self.rules))

    def meaning(self):
        """The same for all groups that mean the same."""
        return (self.condition.meaning(), self.default,
                [(rule.name, rule.meaning()) for rule in self.rules])

    def lookup(self, packet, environment):
        """The rule that acts on 'packet', or None."""
        for rule in self.rules:
            if rule.condition.matches(packet, environment):
                return rule
        return None


class Layer:
    """A layer as one port has it."""

    def __init__(self, name, json, policy):
        self.name = name
        self.groups = {}
        self.default = {}
        for direction in (OUTBOUND, INBOUND):
            groups = json.get(direction, {})
            self.groups[direction] = []
            for key in sorted(groups, key=int):
                try:
                    self.groups[direction].append(
                        Group(policy['groups'][groups[key]], policy['rules'],
                              policy['sets']))
                except PolicyError:
                    pass
            # With groups that are in error there are groups.
            self.default[direction] = (json.get('default_' + direction,
                                                'allow')
                                       if groups else 'allow')
        self.timeouts = dict(DEFAULT_TIMEOUTS, **json.get('timeouts', {}))
        self.loose = json.get('options', {}).get('tcp-loose') == 'true'

    def rules(self, direction):
        """All its rules in 'direction'."""
        return itertools.chain.from_iterable(
            group.rules for group in self.groups[direction])


class PortPolicy:
    """The policy of one port, out of that of the switch as JSON has it:

    {"sets": {NAME: [ADDRESS, ...]},
     "rules": {NAME: {"priority": N, "match": TEXT, "actions": TEXT}},
     "groups": {NAME: {"match": TEXT, "default": WORD, "rules": [NAME, ...]}},
     "layers": {NAME: {"outbound": {"KEY": GROUP}, "inbound": {"KEY": GROUP},
                       "default_outbound": WORD, "default_inbound": WORD,
                       "timeouts": {}, "options": {}}},
     "ports": {NAME: {"layers": {"POSITION": LAYER}, "addresses": [ADDRESS],
                      "mac": MAC}}}
    """

    def __init__(self, policy, port):
        json = policy['ports'].get(port, {})
        positions = sorted(json.get('layers', {}), key=int)
        names = [json['layers'][position] for position in positions]
        self.layers = [Layer(name, policy['layers'][name], policy)
                       for name in names]
        self.environment = Environment(
            {name: AddressSet(texts)
             for name, texts in policy['sets'].items()},
            json.get('addresses', []), json.get('mac'))
        self.rules = {rule.name: rule.meaning()
                      for layer in self.layers
                      for direction in (OUTBOUND, INBOUND)
                      for rule in layer.rules(direction)}
        self.signature = self._signature(policy, json, positions)
        self.texts = [
            [policy['layers'][name]]
            + [(policy['groups'][group],
                sorted((rule, sorted(policy['rules'][rule].items()))
                       for rule in policy['groups'][group]['rules']))
               for direction in (OUTBOUND, INBOUND) for group
               in policy['layers'][name].get(direction, {}).values()]
            for name in names]

    def _signature(self, policy, json, positions):
        """Everything that is in force at the port, to compare."""
        layers = []
        for position, layer in zip(positions, self.layers):
            groups = [(direction, [group.meaning()
                                   for group in layer.groups[direction]])
                      for direction in (OUTBOUND, INBOUND)]
            layers.append((position, layer.name, groups, layer.default,
                           layer.timeouts, layer.loose))
        used = {name: sorted(addresses)
                for name, addresses in policy['sets'].items()
                if "('set', %r)" % name in str(layers)}
        return (layers, used, json.get('addresses'), json.get('mac'))

    def order(self, direction):
        """The layers in the order in which packets pass them."""
        return self.layers if direction == OUTBOUND else self.layers[::-1]

    def uses_l4(self):
        """Whether any rule or group looks beyond IP, or any rule keeps
        state."""
        return any(group.needs_ports for layer in self.layers
                   for direction in (OUTBOUND, INBOUND)
                   for group in layer.groups[direction])


#
# What the engine is free to choose.
#

class Chooser:
    """Takes decisions: those that 'script' says, then the first option.

    'hints' are packets that were seen, which tell what may be worth trying
    where there are too many options.  'alternatives' are the layer flows that
    other decisions lead to and that look the same, as for Connection.

    'contended' tells whether a packet wanted a tuple that it took itself, or
    that another port took for it.  If 'is_trace' is set, it does not notice:
    layered/trace takes none."""

    def __init__(self, script=(), hints=(), alternatives=()):
        self.script = list(script)
        self.contended = False
        self.has_more = False           # Options that were left out.
        self.is_trace = False
        self.alternatives = list(alternatives)
        self.taken = []                 # (index, number of options)
        self.hints = list(hints)

    def pick(self, options):
        """One of 'options'."""
        options = list(options)
        if len(options) == 1:
            return options[0]
        n = len(self.taken)
        index = self.script[n] if n < len(self.script) else 0
        self.taken.append((index, len(options)))
        return options[index]

    def some_ports(self, is_allowed, low, high, special):
        """Some ports from 'low' to 'high' for which is_allowed() holds: all
        if there are few, otherwise those of the hints, those that are
        'special', and a few others."""
        ports = []
        hinted = {port for packet in self.hints
                  for port in (packet.sport, packet.dport)} | special
        hinted |= {port for packet in self.hints if packet.quoted
                   for port in (packet.quoted.sport, packet.quoted.dport)}
        for port in sorted(hinted):
            if low <= port <= high and is_allowed(port):
                ports.append(port)
        for port in range(low, high + 1):
            if len(ports) >= (16 if high - low < 16 else len(hinted) + 2):
                self.has_more = True
                break
            if port not in ports and is_allowed(port):
                ports.append(port)
        return ports


def explore(run, hints=(), limit=400):
    """Yields run(chooser) for every sequence of decisions, one by one."""
    script = []
    for _ in range(limit):
        chooser = Chooser(script, hints)
        yield run(chooser)
        taken = chooser.taken
        while taken and taken[-1][0] + 1 >= taken[-1][1]:
            taken.pop()
        if not taken:
            return
        script = [index for index, _ in taken]
        script[-1] += 1


#
# State.
#

class Translation:
    """What a Nat did to a connection.  'before' is the part of the packet's
    tuple that it is kept for, 'claim' is its tuple in the pool."""

    def __init__(self, nat, before, address, port, claim=None):
        self.kind = nat.kind
        self.before = before
        self.meaning = nat.meaning
        self.address = address
        self.port = port
        self.claim = claim


class LayerFlow:
    """The state that a layer has for a connection.

    'direction' is that of the packet that it was made for, 'before' and
    'after' are that packet's tuples ahead of and behind the layer, 'rewrites'
    are the steps other than translation."""

    def __init__(self, layer, direction, result, before, after, now):
        self.layer = layer
        self.direction = direction
        self.rule = result.rule
        self.uses = result.uses
        self.rewrites = result.rewrites
        self.translations = result.translations
        self.before = before
        self.after = after
        self.used = now

    def key_in(self, direction):
        """The tuple of packets of 'direction' ahead of the layer."""
        return (self.before if direction == self.direction
                else reverse(self.after))

    def key_out(self, direction):
        """The same behind the layer."""
        return (self.after if direction == self.direction
                else reverse(self.before))

    def apply(self, packet, direction):
        """Does to a packet what the layer does without rules."""
        if self.translations:
            packet.set_key(self.key_out(direction))
        if direction == self.direction:
            for step in self.rewrites:
                rewrite(packet, step)


class Connection:
    """A connection of a port.

    Of two translations in one layer, only what they come to is to be seen.
    'alternatives' has what may be in the place of 'flows', some of it if there
    are many."""

    def __init__(self, opener, direction, reply_key, loose, now):
        self.opener = opener
        self.direction = direction
        self.key = opener.key()
        self.reply_key = reply_key
        self.flows = {}                 # By the layer's name.
        self.alternatives = []
        self.fins = set()
        self.syn_of_peer = loose
        self.used = now
        if opener.proto == TCP:
            self.state = 'tcp_established' if loose else 'tcp_syn_sent'
        elif opener.is_icmp():
            self.state = 'icmp_first'
        else:
            self.state = 'udp_first'

    def keys(self):
        """What it is found by."""
        return [(self.direction, self.key),
                (OTHER[self.direction], self.reply_key)]

    def may_reopen(self, packet, direction):
        """Whether 'packet' opens the connection anew."""
        return (packet.proto == TCP and direction == self.direction
                and self.state in ('tcp_time_wait', 'tcp_close')
                and packet.opens_tcp())

    def advance(self, packet, direction):
        """Takes note of a packet that is not the opener."""
        reply = direction != self.direction
        if packet.proto == TCP:
            self._advance_tcp(packet.flags, reply)
        elif packet.is_icmp():
            if reply:
                self.state = 'icmp_reply'
        elif reply:
            self.state = 'udp_multiple'
        elif self.state == 'udp_first':
            self.state = 'udp_single'

    def _advance_tcp(self, flags, reply):
        if flags & RST:
            self.state = 'tcp_close'
        if self.state == 'tcp_close':
            return
        if flags & SYN and reply:
            self.syn_of_peer = True
            if self.state == 'tcp_syn_sent':
                self.state = 'tcp_syn_recv'
        if flags & ACK and not reply and self.state == 'tcp_syn_recv':
            self.state = 'tcp_established'
        if flags & FIN and self.syn_of_peer:
            self.fins.add(reply)
            self.state = ('tcp_time_wait' if len(self.fins) == 2
                          else 'tcp_fin_wait')

    def claims(self):
        """Its tuples in the pool."""
        return claims_of(self.flows)

    def unsure_claims(self):
        """Tuples that may be its, but for all that can be seen need not."""
        claims = [set(claims_of(flows))
                  for flows in [self.flows] + self.alternatives]
        return set.union(*claims) - set.intersection(*claims)

    def has_translation(self):
        """Whether any layer translates."""
        return any(flow.translations for flow in self.flows.values())


def claims_of(flows):
    """The tuples in the pool that layer flows have."""
    return [t.claim for flow in flows.values()
            for t in flow.translations if t.claim]


def rewrite(packet, step):
    """Does a step other than translation."""
    if step[0] == 'set_mac':
        setattr(packet, 'eth_' + step[1], step[2])
    elif not packet.is_ip():
        pass
    elif step[0] == 'set_dscp':
        packet.tos = packet.tos & 3 | step[1] << 2
    elif step[0] == 'dec_ttl':
        if packet.ttl <= 1:
            raise Drop('ttl')
        packet.ttl -= 1


class LayerResult:
    """What the rules of a layer made of a packet."""

    def __init__(self):
        self.verdict = None             # allow, deny, reject
        self.reason = None
        self.rule = None                # Name of the rule that decided.
        self.uses = []                  # Names of the rules that acted.
        self.stateful = False
        self.rewrites = []
        self.translations = []
        self.loose = False
        self.also = set()


class Context:
    """What the judging of one packet is about."""

    def __init__(self, chooser, claims=(), rejudge=None):
        self.chooser = chooser
        self.claims = set(claims)       # Tuples taken by this packet.
        self.owner = None               # Connection that is replaced.
        self.rejudge = rejudge          # Connection that is judged again.
        self.former = {}                # The layer flows of either.
        self.kept = []                  # Their translations in this layer.
        self.lessons = {}               # What hashes led to.
        if rejudge:
            self._choose_former(rejudge)

    def replace(self, connection):
        """Has 'connection' be replaced."""
        self.owner = connection
        self._choose_former(connection)

    def _choose_former(self, connection):
        self.former = self.chooser.pick([connection.flows]
                                        + connection.alternatives)


class Outcome:
    """What a port made of a packet, 'input'.

    'packet' is how it left the port, 'layers' has a triple of layer, rule
    ("layer flow" if none was consulted, None for a default) and verdict for
    each layer that it came to.  'also' are further reasons that would be as
    good.  'answer' is the refusal, None unless there is one.  'connection' is
    the new connection, if any.  'overtakes' says whether it concerns tuples
    that were forwarded differently before, which a datapath takes a moment to
    learn.  'hidden' says whether it replaces a connection of which not all is
    known.  'lessons' is what the outcome teaches of hashes."""

    def __init__(self):
        self.overtakes = False
        self.hidden = False
        self.port = None
        self.uses = []                  # Rules that acted, with repetitions.
        self.verdict = 'allow'
        self.reason = None
        self.layer = None
        self.packet = None
        self.layers = []
        self.also = set()
        self.answer = None
        self.input = None
        self.claims = set()
        self.connection = None
        self.lessons = {}
        self.effects = []

    def drop(self, reason, layer, also=()):
        """Makes this a drop, of which nothing remains."""
        self.verdict = 'drop'
        self.reason = reason
        self.layer = layer
        self.also |= set(also)
        self.packet = None
        self.claims = set()
        self.connection = None
        self.effects = []
        return self

    def commit(self):
        """Lets the packet have happened."""
        self.port.rule_packets.update(self.uses)
        for effect in self.effects:
            effect()


class Port:
    """A VM port: its policy, and the connections that it has."""

    def __init__(self, name, pool=None):
        self.name = name
        self.policy = None
        self.connections = {}           # (direction, key) -> Connection
        self.pool = {} if pool is None else pool
        self.fragments = {}
        self.affinity = {}
        self.misses = set()             # Tuples that may pass without state.
        self.former_keys = set()        # Before the last change of policy.
        self.rule_packets = collections.Counter()   # By the rule's name.

    # Connections.

    def all_connections(self):
        """Each connection once."""
        return [connection for (direction, key), connection
                in self.connections.items()
                if (direction, key) == (connection.direction, connection.key)]

    def _insert(self, connection):
        for key in connection.keys():
            self.connections[key] = connection
        for claim in connection.claims():
            self.pool[claim] = connection

    def _remove(self, connection):
        for key in connection.keys():
            if self.connections.get(key) is connection:
                del self.connections[key]
            # What the datapath forwarded by it may pass without it now.
            self.misses.add(key)
        for claim in connection.claims():
            if self.pool.get(claim) is connection:
                del self.pool[claim]

    def flush(self):
        """Forgets all state."""
        for connection in self.all_connections():
            self._remove(connection)
        self.fragments.clear()

    def _deadlines(self, connection):
        """When each layer flow of 'connection' expires, by layer."""
        timeouts = {layer.name: layer.timeouts
                    for layer in self.policy.layers}
        return {name: flow.used + timeouts[name][connection.state] * MS
                for name, flow in connection.flows.items()}

    def expire(self, now):
        """Forgets what has timed out."""
        for connection in self.all_connections():
            for name, deadline in self._deadlines(connection).items():
                if deadline > now or name not in connection.flows:
                    continue
                if connection.flows[name].translations:
                    self._remove(connection)
                    break
                del connection.flows[name]
            if not connection.flows:
                self._remove(connection)

    def deadlines(self):
        """All the times at which something expires."""
        times = [time + FRAGMENT_TIMEOUT * MS
                 for _, time in self.fragments.values()]
        for connection in self.all_connections():
            times += self._deadlines(connection).values()
        return times

    def list_flows(self):
        """The layer flows as dictionaries, to compare."""
        flows = []
        for connection in self.all_connections():
            keys = dict(connection.keys())
            for name, flow in connection.flows.items():
                flows.append({
                    'layer': name, 'state': connection.state,
                    'rule': flow.rule,
                    'opener': connection.direction,
                    'outbound': flow.key_in(OUTBOUND),
                    'inbound': flow.key_in(INBOUND),
                    'connection_outbound': keys[OUTBOUND],
                    'connection_inbound': keys[INBOUND]})
        return flows

    # Packets.

    def process(self, direction, packet, now, chooser=None):
        """Judges a packet and lets it have happened, for simple uses."""
        self.expire(now)
        outcome = self.judge(direction, packet, now, chooser or Chooser())
        outcome.commit()
        return outcome

    def judge(self, direction, packet, now, chooser, claims=(), arrived=None):
        """Says what becomes of a packet, which the switch received as
        'arrived' if it is not the same."""
        outcome = Outcome()
        outcome.input = packet
        outcome.port = self
        work = packet.copy()
        remember = None
        if packet.is_ip() and packet.frag and self.policy.uses_l4():
            # Whatever another port made of it, it is the same datagram.
            arrived = arrived or packet
            key = (direction, arrived.src, arrived.dst, arrived.ident,
                   arrived.proto)
            if packet.is_first_fragment():
                def remember():
                    self.fragments[key] = packet, now
            else:
                first = self._first_fragment(key, now)
                if first is None:
                    return outcome.drop('fragment', None)
                # In all that matters it is like the first.
                work = packet.copy(
                    frag=first.frag, sport=first.sport, dport=first.dport,
                    icmp_type=first.icmp_type, icmp_code=first.icmp_code,
                    flags=0, quoted=None)
        context = Context(chooser, claims)

        if work.is_icmp_error():
            related = self._find_related(direction, work)
            self._judge_stateless(outcome, direction, work, context, related)
        elif work.is_trackable() and (self.policy.uses_l4()
                                      or not work.is_later_fragment()):
            self._judge_tracked(outcome, direction, work, now, context)
        else:
            self._judge_stateless(outcome, direction, work, context, None)

        if outcome.reason == 'reject':
            outcome.answer = refusal(packet)
        if remember:
            # Whatever becomes of it.
            outcome.effects.append(remember)
        if packet.is_later_fragment() and outcome.packet is not None:
            outcome.packet = outcome.packet.copy(sport=0, dport=0, **{
                name: getattr(packet, name) for name in (
                    'frag', 'icmp_type', 'icmp_code', 'flags', 'quoted')})
        return outcome

    def _first_fragment(self, key, now):
        packet, time = self.fragments.get(key, (None, None))
        if packet is None or now - time >= FRAGMENT_TIMEOUT * MS:
            return None
        return packet

    def _find_related(self, direction, packet):
        """The connection that an ICMP error is about, and the tuple that a
        packet of it in the same direction has."""
        if packet.quoted is None or not packet.quoted.is_trackable():
            return None
        key = reverse(packet.quoted.key())
        connection = self.connections.get((direction, key))
        return connection and (connection, key)

    def _judge_stateless(self, outcome, direction, work, context, related):
        """A packet that is not tracked, perhaps related to a connection."""
        for layer in self.policy.order(direction):
            flow = related and related[0].flows.get(layer.name)
            if flow:
                if flow.translations:
                    self._translate_error(flow, direction, work, context)
                outcome.layers.append((layer.name, 'layer flow', 'allow'))
                continue
            result = self._judge_layer(outcome, layer, direction, work,
                                       context)
            if result is None:
                return
        outcome.packet = work

    @staticmethod
    def _translate_error(flow, direction, work, context):
        old, new = flow.key_in(direction), flow.key_out(direction)
        if work.dst == old[2]:
            work.dst = new[2]
        if work.src == old[1] and old[1] != new[1]:
            # Whether an error is from the host that it is about, or from a
            # router that happens to have the address, nobody can tell.
            work.src = context.chooser.pick([new[1], old[1]])
        work.quoted.set_key(reverse(new))

    def _judge_tracked(self, outcome, direction, work, now, context):
        opener = work.copy()
        connection = self.connections.get((direction, work.key()))
        if connection and connection.may_reopen(work, direction):
            context.replace(connection)
            outcome.hidden = bool(connection.alternatives)
            connection = None
        flows = []
        loose = False
        for layer in self.policy.order(direction):
            flow = connection and connection.flows.get(layer.name)
            if flow:
                outcome.layers.append((layer.name, 'layer flow', 'allow'))
                if flow.direction == direction:
                    outcome.uses += flow.uses
                try:
                    flow.apply(work, direction)
                except Drop as drop:
                    outcome.drop(drop.reason, layer.name)
                    return
                continue
            before = work.key()
            result = self._judge_layer(outcome, layer, direction, work,
                                       context)
            if result is None:
                return
            if result.stateful:
                if connection and result.translations:
                    raise Unspecified('translation in mid-connection')
                loose = loose or result.loose
                flows.append(LayerFlow(layer.name, direction, result, before,
                                       work.key(), now))
        outcome.packet = work
        if connection:
            outcome.overtakes = bool(flows)
            outcome.effects.append(lambda: self._continue(
                connection, flows, opener, direction, now))
            return
        if not flows:
            miss = (direction, opener.key())
            outcome.effects.append(lambda: self.misses.add(miss))
            return

        connection = Connection(opener, direction, reverse(work.key()), loose,
                                now)
        if loose:
            connection.advance(opener, direction)
        connection.flows = {flow.layer: flow for flow in flows}
        for key in connection.keys():
            if self.connections.get(key) not in (None, context.owner):
                outcome.drop('tuple-in-use', None)
                return
        outcome.claims = set(connection.claims())
        outcome.connection = connection
        outcome.overtakes = bool(
            context.owner or self.misses.intersection(connection.keys()))
        outcome.lessons = context.lessons
        outcome.effects.append(
            lambda: self.affinity.update(outcome.lessons))
        if context.owner:
            old = context.owner
            outcome.effects.append(lambda: self._remove(old))
        outcome.effects.append(lambda: self._insert(connection))

    @staticmethod
    def _continue(connection, flows, packet, direction, now):
        connection.advance(packet, direction)
        for flow in flows:
            connection.flows[flow.layer] = flow
        connection.used = now
        for flow in connection.flows.values():
            flow.used = now

    def _judge_layer(self, outcome, layer, direction, work, context):
        """Has the rules of 'layer' judge 'work', and notes it in 'outcome'.
        Returns None if it is dropped."""
        old = context.former.get(layer.name)
        context.kept = list(old.translations) if old else []
        result = LayerResult()
        try:
            self._run_rules(result, layer, direction, work, context)
            if result.verdict == 'allow':
                self._check_opener(layer, result, work, context)
            outcome.uses += result.uses
        except Drop as drop:
            outcome.uses += result.uses
            outcome.layers.append((layer.name, None, 'deny'))
            outcome.drop(drop.reason, layer.name, drop.also)
            return None
        outcome.layers.append((layer.name, result.rule, result.verdict))
        if result.verdict != 'allow':
            outcome.drop(result.reason, layer.name)
            return None
        return result

    def _run_rules(self, result, layer, direction, work, context):
        remembered = None
        for group in layer.groups[direction]:
            if not group.condition.matches(work, self.policy.environment):
                continue
            rule = group.lookup(work, self.policy.environment)
            if rule is None:
                if group.default != 'next':
                    result.verdict = group.default
                    result.reason = 'group-default'
                    return self._finish(result, None)
                continue
            result.uses.append(rule.name)
            for step in rule.actions.steps:
                self._execute(step, layer, rule, work, result, context)
            verdict = rule.actions.verdict
            if verdict in ('allow', 'deny', 'reject'):
                result.verdict = verdict
                result.reason = 'reject' if verdict == 'reject' else 'rule'
                return self._finish(result, rule)
            if verdict.endswith('_continue'):
                remembered = rule
        if remembered:
            result.verdict = remembered.actions.verdict.split('_')[0]
            result.reason = 'rule'
        else:
            result.verdict = layer.default[direction]
            result.reason = 'default'
        return self._finish(result, remembered)

    @staticmethod
    def _finish(result, rule):
        result.rule = rule and rule.name
        result.stateful = (result.verdict == 'allow'
                           and bool(rule and rule.actions.stateful
                                    or result.translations))
        return result

    @staticmethod
    def _check_opener(layer, result, work, context):
        """A stateful verdict on TCP wants the first packet of it."""
        if not result.stateful or not work.is_trackable():
            return
        if work.proto != TCP or work.opens_tcp():
            return
        if layer.loose:
            result.loose = True
        elif not context.rejudge:
            raise Drop('no-connection')

    def _execute(self, step, layer, rule, work, result, context):
        if not isinstance(step, Nat):
            if step[0] != 'count':
                rewrite(work, step)
                result.rewrites.append(step)
            return
        if not work.is_trackable():
            return
        # Both this and the lack of a connection may be found first.
        also = set()
        if (work.proto == TCP and not work.opens_tcp() and not layer.loose
                and not context.rejudge):
            also.add('no-connection')
        if work.src.version != step.version:
            raise Drop('nat-family', also)
        source, destination = self._endpoints(work)
        before = ((source, destination) if step.kind == 'snat'
                  else destination)
        kept = next((t for t in context.kept
                     if t.meaning == step.meaning and t.before == before),
                    None)
        if kept:
            context.kept.remove(kept)
        translate = self._snat if step.kind == 'snat' else self._dnat
        translation = translate(step, before, kept, layer, rule, work,
                                context)
        if translation is None:
            raise Drop('snat-exhausted', also)
        result.translations.append(translation)
        if translation.claim:
            context.claims.add(translation.claim)

    @staticmethod
    def _endpoints(work):
        _, src, dst, sport, dport = work.key()
        return (src, sport), (dst, dport)

    def _affine(self, nat, layer, rule, what, options, context):
        """One of 'options', the same each time that 'what' is the same."""
        key = (layer.name, rule.name, nat.meaning, what)
        known = self.affinity.get(key)
        if known in options:
            return known
        choice = context.chooser.pick(options)
        context.lessons[key] = choice
        return choice

    def _dnat(self, nat, before, kept, layer, rule, work, context):
        if kept:
            address, port = kept.address, kept.port
        else:
            what = (work.src if nat.hash_src
                    else work.key() if work.has_ports() else None)
            if what is None:
                address, port = context.chooser.pick(nat.targets)
            else:
                address, port = self._affine(nat, layer, rule, what,
                                             nat.targets, context)
        work.dst = address
        if port is not None and work.has_ports():
            work.dport = port
        return Translation(nat, before, address, port)

    def _snat(self, nat, before, kept, layer, rule, work, context):
        if not work.has_ports():
            address = (kept.address if kept
                       else self._affine(nat, layer, rule, work.src,
                                         nat.addresses, context))
            work.src = address
            return Translation(nat, before, address, None)

        if kept:
            address, port = kept.address, kept.port
            claim = self._claim(work, address, port)
        else:
            found = self._choose_source(nat, layer, rule, work, context)
            if found is None:
                return None
            address, port = found
            claim = self._claim(work, address, port)
        work.src, work.sport = address, port
        return Translation(nat, before, address, port, claim)

    @staticmethod
    def _claim(work, address, port):
        return (work.proto, address, port, work.dst, work.dport)

    def _holder(self, claim, context):
        """Who has a tuple: 'nobody', 'other', or 'own', which is a connection
        that is about to be replaced."""
        if claim in context.claims:
            context.chooser.contended = True
            if not context.chooser.is_trace:
                return 'other'
        if claim in claims_of(context.former):
            return 'own'
        if self.pool.get(claim) in (None, context.owner, context.rejudge):
            return 'nobody'
        return 'other'

    def _choose_source(self, nat, layer, rule, work, context):
        """Address and port for a new translation, or None."""
        for other in set(self.pool.values()):
            if other not in (context.owner, context.rejudge) and any(
                    claim == self._claim(work, claim[1], claim[2])
                    and claim[1] in nat.addresses
                    for claim in other.unsure_claims()):
                raise Unspecified('a tuple that cannot be seen')
        low, high = nat.ports or (1024, 65535)
        own_allowed = nat.ports is None or low <= work.sport <= high

        def holder(address, port):
            return self._holder(self._claim(work, address, port), context)

        def options(address):
            """The ports of 'address' that are as good as one another."""
            own = holder(address, work.sport) if own_allowed else 'other'
            if own == 'nobody':
                return [work.sport]
            # A later translation of the destination may have it collide.
            special = {claim[2] for claim in self.pool if claim[1] == address}
            ports = context.chooser.some_ports(
                lambda port: holder(address, port) == 'nobody', low, high,
                special)
            if own == 'own':
                # The old one may or may not have been given back before.
                ports.insert(0, work.sport)
            return ports

        usable = {address: options(address) for address in nat.addresses}
        usable = {address: ports for address, ports in usable.items()
                  if ports}
        if not usable:
            if context.owner or context.rejudge:
                raise Unspecified('pool holds what is about to be replaced')
            return None
        if len(usable) == len(nat.addresses):
            address = self._affine(nat, layer, rule, work.src, list(usable),
                                   context)
        else:
            address = self._next_usable(nat, layer, rule, work, usable,
                                        context)
        return address, context.chooser.pick(usable[address])

    def _next_usable(self, nat, layer, rule, work, usable, context):
        """The first address with a free port, from where the hash leads."""
        start = self.affinity.get((layer.name, rule.name, nat.meaning,
                                   work.src))
        if start is None:
            return context.chooser.pick(list(usable))
        addresses = nat.addresses
        first = addresses.index(start)
        return next(a for a in addresses[first:] + addresses[:first]
                    if a in usable)

    # Policy.

    def set_policy(self, policy, now, chooser_for=None):
        """Takes on a policy.  If it differs, judges every connection again.
        chooser_for(connection) returns the Chooser to use for each."""
        old, self.policy = self.policy, policy
        if old is None:
            return
        if old.signature == policy.signature:
            if old.texts != policy.texts:
                self._check_indifferent(now)
            return
        # Timeouts may have changed, but time has not passed under them.
        self.policy = old
        self.expire(now)
        self.policy = policy
        self.former_keys = set(self.connections)
        for name, rule in old.rules.items():
            if policy.rules.get(name) != rule:
                # It is another rule of the same name.
                del self.rule_packets[name]
        for connection in self.all_connections():
            chooser = chooser_for(connection) if chooser_for else None
            self._judge_again(connection, chooser or Chooser(), now)

    def _check_indifferent(self, now):
        """Whether a change that puts nothing else in force, such as of a rule
        that is in error, is one at all, is not specified."""
        for connection in self.all_connections():
            judged = self.judge_again(connection, Chooser(), now)
            if not judged or ({flow.layer for flow in judged[0]}
                              != set(connection.flows)):
                raise Unspecified('change to what is not in force')

    def judge_again(self, connection, chooser, now):
        """What _judge_again() would make of 'connection': its new layer flows
        and reply tuple, or None if it is refused."""
        outcome = Outcome()
        work = connection.opener.copy()
        direction = connection.direction
        context = Context(chooser, rejudge=connection)
        flows = []
        for layer in self.policy.order(direction):
            before = work.key()
            result = self._judge_layer(outcome, layer, direction, work,
                                       context)
            if result is None:
                return None
            if result.stateful:
                flows.append(LayerFlow(layer.name, direction, result, before,
                                       work.key(), connection.used))
        # A layer flow that comes into being counts from the last packet.
        timeouts = {layer.name: layer.timeouts[connection.state]
                    for layer in self.policy.layers}
        expired = [flow for flow in flows
                   if flow.used + timeouts[flow.layer] * MS <= now]
        if any(flow.translations for flow in expired):
            return None
        return ([flow for flow in flows if flow not in expired],
                reverse(work.key()))

    def _judge_again(self, connection, chooser, now):
        judged = self.judge_again(connection, chooser, now)
        self._remove(connection)
        if not judged or not judged[0]:
            return
        flows, connection.reply_key = judged
        connection.flows = {flow.layer: flow for flow in flows}
        connection.alternatives = chooser.alternatives
        if any(key in self.connections for key in connection.keys()):
            raise Unspecified('tuple in use after a change of policy')
        self._insert(connection)


def refusal(packet):
    """The answer to a packet that is rejected, or None.  TTL, identification
    and how much is quoted are not specified: see same_refusal()."""
    if not packet.is_ip():
        return None
    if packet.is_icmp() and not packet.is_trackable():
        # Errors, neighbour discovery, and multicast listener discovery.
        return None
    if (packet.is_later_fragment() or packet.dst.is_multicast
            or mac_to_int(packet.eth_dst) >> 40 & 1
            or packet.dst == ipaddress.ip_address('255.255.255.255')):
        return None
    answer = Packet(eth_src=packet.eth_dst, eth_dst=packet.eth_src,
                    eth_type=packet.eth_type, vlan=packet.vlan,
                    src=packet.dst, dst=packet.src)
    if packet.proto == TCP:
        if packet.flags & RST:
            return None
        answer.proto = TCP
        answer.sport, answer.dport = packet.dport, packet.sport
        if packet.flags & ACK:
            answer.flags, answer.seq = RST, packet.ack
        else:
            length = len(packet.payload) + sum(
                1 for flag in (SYN, FIN) if packet.flags & flag)
            answer.flags = RST | ACK
            answer.ack = (packet.seq + length) & 0xffffffff
        return answer
    udp = packet.proto == UDP
    if packet.eth_type == ETH_IP:
        answer.proto, answer.icmp_type = ICMP, 3
        answer.icmp_code = 3 if udp else 13
    else:
        answer.proto, answer.icmp_type = ICMPV6, 1
        answer.icmp_code = 4 if udp else 1
    answer.quoted = packet.copy()
    return answer


def same_refusal(expected, seen):
    """Whether 'seen' is the refusal 'expected', in what is specified."""
    names = ['eth_src', 'eth_dst', 'eth_type', 'vlan', 'src', 'dst', 'proto']
    if expected.proto == TCP:
        names += ['sport', 'dport', 'flags', 'seq', 'ack']
    else:
        names += ['icmp_type', 'icmp_code']
    if any(getattr(expected, name) != getattr(seen, name) for name in names):
        return False
    if expected.quoted is None:
        return True
    return (seen.quoted is not None
            and seen.quoted.key() == expected.quoted.key())


#
# The switch.
#

class Result:
    """What a switch made of a packet.

    'outcomes' has a triple of port, direction and Outcome for each VM port
    that judged it, 'emitted' a pair of port and packet for each copy that went
    out, 'answers' the same for refusals.  If 'open_end' is set, what happens
    to the switch's state is not specified, so that it is no use to go on."""

    def __init__(self):
        self.outcomes = []
        self.emitted = []
        self.answers = []
        self.open_end = None

    def commit(self):
        """Lets the packet have happened."""
        for _, _, outcome in self.outcomes:
            outcome.commit()


class Switch:
    """A switch: VM ports, other ports, and how it forwards.

    'macs' maps the MACs that are known to ports, 'flood' each port to those
    that other packets go to."""

    def __init__(self, vm_ports, macs, flood):
        self.pool = {}
        self.ports = {name: Port(name, self.pool) for name in vm_ports}
        self.macs = macs
        self.flood = flood

    def set_policy(self, policy, now, chooser_for=None):
        """Gives all ports their parts of 'policy'.  chooser_for(port,
        connection) returns a Chooser."""
        for name, port in self.ports.items():
            def choose(connection, port=port):
                return chooser_for(port, connection)

            port.set_policy(PortPolicy(policy, name), now,
                            choose if chooser_for else None)

    def expire(self, now):
        """Forgets what has timed out."""
        for port in self.ports.values():
            port.expire(now)

    def flush(self):
        """Forgets all state."""
        for port in self.ports.values():
            port.flush()
        self.pool.clear()

    def near_deadline(self, now, margin):
        """Whether something expires about 'now'."""
        return any(abs(time - now) < margin for port in self.ports.values()
                   for time in port.deadlines())

    def forward(self, in_port, packet):
        """The ports that 'packet' goes out of."""
        if packet.eth_dst in self.macs:
            ports = [self.macs[packet.eth_dst]]
        else:
            ports = self.flood[in_port]
        return [port for port in ports if port != in_port]

    def receive(self, in_port, packet, now, chooser=None):
        """Says what becomes of a packet that arrives at 'in_port'.  expire()
        must have been called for 'now'."""
        chooser = chooser or Chooser()
        result = Result()
        claims = set()
        arrived = packet
        sender = self.ports.get(in_port)
        macs = {'eth_src': packet.eth_dst, 'eth_dst': packet.eth_src}
        if sender:
            outcome = sender.judge(OUTBOUND, packet, now, chooser)
            result.outcomes.append((in_port, OUTBOUND, outcome))
            if outcome.verdict == 'drop':
                if outcome.answer:
                    result.answers.append((in_port, outcome.answer))
                return result
            packet = outcome.packet
            claims |= outcome.claims
        ports = self.forward(in_port, packet)
        for name in ports:
            receiver = self.ports.get(name)
            if not receiver:
                result.emitted.append((name, packet))
                continue
            outcome = receiver.judge(INBOUND, packet, now, chooser, claims,
                                     arrived)
            result.outcomes.append((name, INBOUND, outcome))
            claims |= outcome.claims
            if outcome.verdict == 'allow':
                result.emitted.append((name, outcome.packet))
                if (len(ports) > 1 and packet.quoted is not None
                        and outcome.packet.quoted != packet.quoted):
                    raise Unspecified('error to several ports translated')
            elif outcome.answer:
                # To who sent the packet, whatever MAC it got then.
                outcome.answer = outcome.answer.copy(**macs)
                for target in self.forward(name, outcome.answer):
                    other = self.ports.get(target)
                    if other and other.policy.layers:
                        result.open_end = 'refusal passes other layers'
                    result.answers.append((target, outcome.answer))
        return result
