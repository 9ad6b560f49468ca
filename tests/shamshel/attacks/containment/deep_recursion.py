# Tries: recurse until the stack ends
# Status: error|killed|memory
import sys

sys.setrecursionlimit(10**9)


def dive():
    return dive()


dive()
