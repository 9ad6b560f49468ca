# Tries: spread memory over children, each below the limit
# Status: memory|timeout
# Limits: memory_mb=96 wall_s=3
import os
import time

for _ in range(8):
    if os.fork() == 0:
        held = [bytearray(b"x") * (1 << 20) for _ in range(60)]
        time.sleep(60)
        os._exit(0)
time.sleep(60)
