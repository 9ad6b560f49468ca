# Tries: write what the machinery writes to every descriptor
# Status: ok
import os

for descriptor in range(0, 64):
    for message in (b"E0", b"R", b"Fx\ny", b"D", b"\x00\x00\x00\x041:ok"):
        try:
            os.write(descriptor, message)
        except OSError:
            pass
