# Tries: make system calls by the x32 table
# Status: ok|killed
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
for number in (41, 39, 56, 57, 101, 165, 272, 520, 521, 545):
    if libc.syscall(ctypes.c_long(0x40000000 | number), 0, 0, 0, 0, 0) >= 0:
        print("ESCAPED", number)
