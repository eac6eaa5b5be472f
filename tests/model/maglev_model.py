#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Maglev as it is described, slowly: NSDI'16 section 3.4, weights by turns, SipHash-1-3 from its paper.

Shares no code with the product. Run as: maglev_model.py PROGRAM, where PROGRAM is the build's
maglev_dump; compares the two on fixed and random cases, and checks shares, order and disruption.
"""
import random
import subprocess
import sys
import unittest

MASK = (1 << 64) - 1
KEY = (0x6D61676C65763031, 0x736C756963653031)
PROGRAM = None


def rotate(x, bits):
    return ((x << bits) | (x >> (64 - bits))) & MASK


def siphash(key, message, compress, finish):
    """SipHash-c-d (Aumasson and Bernstein 2012) of bytes."""
    v0 = key[0] ^ 0x736F6D6570736575
    v1 = key[1] ^ 0x646F72616E646F6D
    v2 = key[0] ^ 0x6C7967656E657261
    v3 = key[1] ^ 0x7465646279746573

    def round_(v0, v1, v2, v3):
        v0 = (v0 + v1) & MASK
        v1 = rotate(v1, 13) ^ v0
        v0 = rotate(v0, 32)
        v2 = (v2 + v3) & MASK
        v3 = rotate(v3, 16) ^ v2
        v0 = (v0 + v3) & MASK
        v3 = rotate(v3, 21) ^ v0
        v2 = (v2 + v1) & MASK
        v1 = rotate(v1, 17) ^ v2
        v2 = rotate(v2, 32)
        return v0, v1, v2, v3

    padded = message + b"\0" * (7 - len(message) % 8) + bytes([len(message) & 0xFF])
    for i in range(0, len(padded), 8):
        word = int.from_bytes(padded[i:i + 8], "little")
        v3 ^= word
        for _ in range(compress):
            v0, v1, v2, v3 = round_(v0, v1, v2, v3)
        v0 ^= word
    v2 ^= 0xFF
    for _ in range(finish):
        v0, v1, v2, v3 = round_(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


def permutation(address, size):
    """The member's order of preference among the buckets, one by one."""
    offset = siphash(KEY, address + b"\0", 1, 3) % size
    skip = siphash(KEY, address + b"\1", 1, 3) % (size - 1) + 1
    for j in range(size):
        yield (offset + j * skip) % size


def populate(backends, size):
    """backends: list of (address bytes, weight). Returns the owner's position in that list, for each bucket."""
    order = sorted((address, i) for i, (address, weight) in enumerate(backends) if weight > 0)
    heaviest = max(backends[i][1] for _, i in order)
    permutations, account = [], []
    for address, _ in order:
        permutations.append(permutation(address, size))
        account.append(0)
    table, filled = [None] * size, 0
    while True:
        for n, (_, i) in enumerate(order):
            account[n] += backends[i][1]
            if account[n] < heaviest:
                continue
            account[n] -= heaviest
            bucket = next(b for b in permutations[n] if table[b] is None)
            table[bucket] = i
            filled += 1
            if filled == size:
                return table


def product(cases):
    """The same from the product: cases are (backends, size)."""
    text = []
    for backends, size in cases:
        text.append(f"{size} {len(backends)}")
        text += [f"{address.hex()} {weight}" for address, weight in backends]
    out = subprocess.run([PROGRAM], input="\n".join(text), capture_output=True, text=True, check=True, timeout=120)
    return [[int(x) for x in line.split()] for line in out.stdout.splitlines()]


def ipv4(n):
    return b"\0" * 10 + b"\xff\xff" + (0x0A000000 + n).to_bytes(4, "big")


def ipv6(n):
    return bytes.fromhex("20010db8") + n.to_bytes(12, "big")


def moved(before, after, gone):
    """The part of the buckets that changed hands without having belonged to `gone`."""
    kept = [(b, a) for b, a in zip(before, after) if b != gone]
    return sum(b != a for b, a in kept) / len(kept)


class Maglev(unittest.TestCase):
    def test_siphash_of_its_paper(self):
        """The paper's example: SipHash-2-4 of 00..0e under 00..0f."""
        key = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
        self.assertEqual(siphash(key, bytes(range(15)), 2, 4), 0xA129CA6149BE45E5)

    def test_same_bits(self):
        rng = random.Random(20160316)
        cases = [([(ipv4(1), 1)], 251), ([(ipv4(i), 1) for i in range(1000)], 65537)]
        for _ in range(60):
            make, n = rng.choice((ipv4, ipv6)), rng.randrange(1, 40)
            top = rng.choice((1, 2, 5, 100, 65535))
            backends = [(make(i), rng.randrange(0, top + 1)) for i in rng.sample(range(10**6), n)]
            backends[0] = (backends[0][0], top)
            cases.append((backends, rng.choice((251, 1021, 4093))))
        # One heavy among many light ones takes the product's other way through (a heap of turns).
        for light in (30, 200):
            cases.append(([(ipv6(i), 65535 if i == 7 else 1 + i % 3) for i in range(light)], 1021))
        for (backends, size), table in zip(cases, product(cases)):
            self.assertTrue(populate(backends, size) == table, (size, backends))

    def test_order_makes_no_difference(self):
        rng = random.Random(7)
        backends = [(ipv4(i * 13), 1 + i % 4) for i in range(50)]
        shuffled = backends[:]
        rng.shuffle(shuffled)
        one, other = product([(backends, 16381), (shuffled, 16381)])
        self.assertEqual([backends[i][0] for i in one], [shuffled[i][0] for i in other])

    def test_shares(self):
        """Within 1% or 2 buckets of the share by weight, whichever is more, at M >= 100 N."""
        cases = []
        for size in (1021, 16381, 65537):
            for n in (1, 3, 10, size // 100):
                for weights in ((1,), (1, 2, 3), (100, 50, 25, 0), (65535, 1)):
                    cases.append(([(ipv4(i * 7 + 1), weights[i % len(weights)]) for i in range(n)], size))
        for (backends, size), table in zip(cases, product(cases)):
            total = sum(weight for _, weight in backends)
            for i, (_, weight) in enumerate(backends):
                share, got = size * weight / total, table.count(i)
                self.assertLessEqual(abs(got - share), max(0.01 * share, 2), (size, len(backends), i, weight))
                if weight == 0:
                    self.assertEqual(got, 0)

    def test_removal_moves_little(self):
        """One of 100 backends goes: at most 2% of the other buckets move."""
        for size in (16381, 65537):
            backends = [(ipv4(i * 3 + 1), 1) for i in range(100)]
            cases = [(backends, size)]
            for gone in range(100):
                cases.append(([(a, 0 if i == gone else w) for i, (a, w) in enumerate(backends)], size))
            before, *after = product(cases)
            worst = max(moved(before, table, gone) for gone, table in enumerate(after))
            print(f"M {size}: removal of one of 100 moves at most {worst:.2%} of the other buckets", file=sys.stderr)
            self.assertLessEqual(worst, 0.02)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
