# Tries: recurse inside C by nested containers
# Status: killed|ok|error|timeout
import sys

sys.setrecursionlimit(10**9)
value = []
for _ in range(10**6):
    value = [value]
repr(value)
