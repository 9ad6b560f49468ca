# Tries: wait for input that never comes
# Status: ok
import sys

assert sys.stdin.read() == ""
