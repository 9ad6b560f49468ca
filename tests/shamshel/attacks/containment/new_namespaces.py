# Tries: make namespaces, to gain rights inside of them
# Status: ok
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x80):
    if libc.unshare(flag) == 0:
        print("ESCAPED: unshare", hex(flag))
    child = libc.syscall(56, flag | 17, 0, 0, 0, 0) if flag != 0x80 else -1
    if child == 0:
        os._exit(0)
    if child > 0:
        print("ESCAPED: clone", hex(flag))
