# Tries: fill the work folder and /tmp to hold memory in files
# Status: ok
# Limits: memory_mb=96
import os

written = 0
for folder in (".", "/tmp", "/dev/shm"):
    try:
        for number in range(100):
            with open(f"{folder}/{number}", "wb", buffering=0) as file:
                while True:
                    written += file.write(b"x" * (1 << 20))
    except OSError:
        pass
if written > 10 << 20:
    print("ESCAPED", written)
for name in os.listdir("."):
    os.unlink(name)
