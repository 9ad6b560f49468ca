# Tries: raise SystemExit(0) when it is called
import sys


def ENTRY(*arguments, **named):
    sys.exit(0)
