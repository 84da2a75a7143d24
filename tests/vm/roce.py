# SPDX-License-Identifier: GPL-2.0-or-later
"""RoCEv2 by scapy: the ICRC, and packets of the migration protocol.

Written from IBTA and docs/spec/migration.md, not from the device: a second opinion.
"""
from binascii import crc32

from scapy.all import IP, UDP, Ether, IPv6, Raw, raw
from scapy.contrib.roce import BTH

RESUME, RESUME_ACK, ACKNOWLEDGE = 0x19, 0x18, 0x11
NAK_STOPPED = 0x65


def icrc(packet, ip):
    """IBTA A17.3.3: what routers may change counts as all ones."""
    masked = packet[ip].copy()
    if ip is IP:
        masked.chksum, masked.ttl, masked.tos = 0xffff, 0xff, 0xff
    else:
        masked.tc, masked.fl, masked.hlim = 0xff, 0xfffff, 0xff
    masked[UDP].chksum = 0xffff
    bth = masked[BTH]
    bth.fecn, bth.becn, bth.resv6 = 1, 1, 0x3f
    covered = bth.self_build() + raw(bth.payload)  # the ICRC is a trailer of its own
    masked[UDP].payload = Raw(covered + bytes(4))
    return crc32(b'\xff' * 8 + raw(masked)[:-4]).to_bytes(4, 'little')


def siphash(key, message):
    """SipHash-2-4 (Aumasson, Bernstein 2012)."""
    mask = (1 << 64) - 1

    def rotate(x, by):
        return (x << by | x >> 64 - by) & mask

    def rounds(n):
        nonlocal v
        for _ in range(n):
            a, b, c, d = v
            a = a + b & mask
            b = rotate(b, 13) ^ a
            a = rotate(a, 32)
            c = c + d & mask
            d = rotate(d, 16) ^ c
            a = a + d & mask
            d = rotate(d, 21) ^ a
            c = c + b & mask
            b = rotate(b, 17) ^ c
            v = [a, b, rotate(c, 32), d]

    k0, k1 = (int.from_bytes(key[i:i + 8], 'little') for i in (0, 8))
    v = [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
         k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573]
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) & 0xff])
    for i in range(0, len(padded), 8):
        word = int.from_bytes(padded[i:i + 8], 'little')
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xff
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def gid(address):
    """16 bytes of an address, IPv4 as mapped."""
    import ipaddress
    address = ipaddress.ip_address(address)
    return (bytes(10) + b'\xff\xff' if address.version == 4 else b'') + address.packed


def token(kind, flags, mover, peer, psn, epoch, address):
    """Section 4. kind: 1 RESUME, 2 RESUME_ACK; address: the mover's new one."""
    def big(x):
        return x.to_bytes(4, 'big')
    key = big(mover) + big(peer) + big(psn) + bytes(4)
    return siphash(key, bytes([kind, flags, 0, 0]) + big(mover) + big(peer) + big(epoch) + gid(address))


def mig_eth(epoch, token, version=1, flags=0, reserved=0):
    return (bytes([version, flags]) + reserved.to_bytes(2, 'big') + epoch.to_bytes(4, 'big') +
            token.to_bytes(8, 'big'))


def frame(src_mac, dst_mac, src, dst, opcode, qpn, psn, body, ackreq=0, pkey=0xffff,
          extended=True, wrong_icrc=False):
    """A whole Ethernet frame. body: all between BTH and ICRC."""
    ip = IPv6 if ':' in dst else IP
    network = (IPv6(src=src, dst=dst, hlim=64) if ip is IPv6 else
               IP(src=src, dst=dst, ttl=64, id=0, flags='DF'))
    packet = (Ether(src=src_mac, dst=dst_mac) / network / UDP(sport=0xc000, dport=4791, chksum=0) /
              BTH(opcode=opcode, migreq=1, pkey=pkey, dqpn=qpn, ackreq=ackreq,
                  resv7=0x40 if extended else 0, psn=psn, icrc=0) / Raw(body))
    value = int.from_bytes(icrc(packet, ip), 'big')
    packet[BTH].icrc = value ^ 1 if wrong_icrc else value
    return raw(packet)


def aeth(syndrome, msn=0):
    return bytes([syndrome]) + msn.to_bytes(3, 'big')


VECTORS = (  # docs/spec/migration.md, section 4
    ((1, 0, 0x123456, 0xabcdef, 0x000102, 1, '10.77.1.1'), 0xb0aecc8129de6c74),
    ((2, 0, 0x123456, 0xabcdef, 0x000102, 1, '10.77.1.1'), 0xaaf3f13ebbcd44ec),
    ((1, 4, 0x123456, 0xabcdef, 0xfffffe, 1, '10.77.1.1'), 0x6e2722643627c193),
    ((1, 0, 0xabcdef, 0x123456, 0x000102, 1, '10.77.1.1'), 0xeede877308bcb5e0),
    ((1, 0, 0x123456, 0xabcdef, 0x000102, 0xffffffff, 'fd67::1:1'), 0xa96c08344e179fb2))
FRAME = '''
52 54 00 67 01 02 52 54 00 67 01 01 08 00 45 00
00 40 00 00 40 00 40 11 24 11 0a 4d 01 01 0a 4d
01 02 c0 00 12 b7 00 2c 00 00 19 40 ff ff 00 ab
cd ef c0 00 01 10 1f 00 00 07 01 00 00 00 00 00
00 01 b0 ae cc 81 29 de 6c 74 14 4c 41 d5'''


def check_vectors():
    """What the specification gives as examples; raises if this file says otherwise."""
    for arguments, value in VECTORS:
        if token(*arguments) != value:
            raise ValueError(f'token of {arguments}: {token(*arguments):#x}, not {value:#x}')
    made = frame('52:54:00:67:01:01', '52:54:00:67:01:02', '10.77.1.1', '10.77.1.2', RESUME,
                 0xabcdef, 0x000110, aeth(0x1f, 7) + mig_eth(1, VECTORS[0][1]), ackreq=1)
    want = bytes.fromhex(FRAME)
    if made != want:
        raise ValueError(f'the example is {want.hex()}, not {made.hex()}')
