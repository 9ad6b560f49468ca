# Tries: print errors without end
# Status: output
import sys

while True:
    sys.stderr.write("x" * 1000)
