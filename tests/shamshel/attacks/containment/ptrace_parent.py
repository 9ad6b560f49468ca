# Tries: trace init, its parent and itself
# Status: ok
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
for process in (1, os.getppid()):
    for request in (16, 0x4206):
        if libc.ptrace(request, process, None, None) == 0:
            print("ESCAPED", process)
if libc.ptrace(0, 0, None, None) == 0:
    print("ESCAPED: traceme")
