# Tries: hold kernel memory in enlarged pipes
# Status: ok
import fcntl
import os

for _ in range(50):
    try:
        fcntl.fcntl(os.pipe()[1], 1031, 1 << 20)
        print("ESCAPED")
    except OSError:
        break
