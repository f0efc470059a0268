"""A little of everything that Python does: for programs.sh."""

import collections
import json
import re


def queens(n, row=0, columns=0, left=0, right=0):
    if row == n:
        return 1
    found, free = 0, ~(columns | left | right) & (1 << n) - 1
    while free:
        bit = free & -free
        free ^= bit
        found += queens(n, row + 1, columns | bit, (left | bit) << 1, (right | bit) >> 1)
    return found


def mandelbrot(size, limit):
    inside = 0
    for y in range(size):
        for x in range(size):
            c = complex(3 * x / size - 2, 2 * y / size - 1)
            z = 0j
            for _ in range(limit):
                z = z * z + c
                if abs(z) > 2:
                    break
            else:
                inside += 1
    return inside


class Node:
    def __init__(self, value):
        self.value, self.left, self.right = value, None, None

    def insert(self, value):
        node = self
        while True:
            side = "left" if value < node.value else "right"
            child = getattr(node, side)
            if child is None:
                setattr(node, side, Node(value))
                return
            node = child


words = [f"w{i * 7919 % 1000:03}" for i in range(20000)]
root = Node(500)
for i in range(3000):
    root.insert(i * 7919 % 3001)
print(queens(7), mandelbrot(40, 50))
print(collections.Counter(words).most_common(5), len(json.dumps(words)))
print(len(re.findall(r"w(\d)\1", " ".join(words))), pow(3, 5000, 10**60 + 7), sum(map(len, words)))
