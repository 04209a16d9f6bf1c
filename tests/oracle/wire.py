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

"""Packets of the model as bytes, and back."""

import ipaddress
import struct

from . import model
from .model import Packet

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
