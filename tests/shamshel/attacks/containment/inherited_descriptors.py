# Tries: use descriptors that the parent left open
# Status: ok
import os

for descriptor in range(3, 256):
    try:
        os.fstat(descriptor)
        print("ESCAPED", descriptor)
    except OSError:
        pass
for descriptor in range(3):
    target = os.readlink(f"/proc/self/fd/{descriptor}")
    if not target.startswith(("pipe:", "/box/code/stdin")):
        print("ESCAPED", target)
