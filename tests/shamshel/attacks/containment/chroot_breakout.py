# Tries: leave the root folder by chroot, fchdir and pivot_root
# Status: ok
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
try:
    os.chroot(".")
    print("ESCAPED: chroot")
except OSError:
    pass
if libc.syscall(155, b".", b".") == 0:
    print("ESCAPED: pivot_root")
for _ in range(100):
    os.chdir("..")
try:
    os.stat("etc/passwd")
    print("ESCAPED: above the root")
except OSError:
    pass
