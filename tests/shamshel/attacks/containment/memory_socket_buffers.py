# Tries: hold kernel memory in the buffers of socket pairs and pipes
# Status: ok|error|memory
# Limits: memory_mb=96
import socket

total, held = 0, []
try:
    for _ in range(400):
        left, right = socket.socketpair()
        left.setblocking(False)
        held.append((left, right))
        try:
            while True:
                total += left.send(b"x" * 65536)
        except BlockingIOError:
            pass
except OSError:
    pass
if total > 96 << 20:
    print("ESCAPED", total)
