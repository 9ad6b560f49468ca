# Tries: crash the compiler by deeply nested source
# Status: error|killed|memory|output
import sys

sys.setrecursionlimit(10**9)
eval("(" * 100_000 + ")" * 100_000)
