# Tries: push characters into the terminal of the caller
# Status: ok
import fcntl
import os

for descriptor in range(3):
    for command in (0x5412, 0x541C, 0x540E):
        try:
            fcntl.ioctl(descriptor, command, b"x")
            print("ESCAPED", descriptor, hex(command))
        except OSError:
            pass
try:
    os.open("/dev/tty", os.O_RDWR)
    print("ESCAPED: tty")
except OSError:
    pass
