# Tries: open sockets through raw system calls, and through the old 32-bit gate
# Status: ok|killed
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
for family in (1, 2, 10, 16, 17, 38, 40):
    for kind in (1, 2, 3):
        if libc.syscall(41, family, kind, 0) >= 0:
            print("ESCAPED", family, kind)
