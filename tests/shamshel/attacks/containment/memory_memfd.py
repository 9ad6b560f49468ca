# Tries: fill anonymous files that no process maps
# Status: error|memory
# Limits: memory_mb=96
import os

descriptors = []
while True:
    descriptor = os.memfd_create("x")
    for _ in range(16):
        os.write(descriptor, b"x" * (1 << 20))
    descriptors.append(descriptor)
