# Tries: read and write the memory of others by process_vm_readv and pidfd_getfd
# Status: ok
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(64)
vector = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 64)
for number in (310, 311):
    if libc.syscall(number, os.getpid(), vector, 1, vector, 1, 0) >= 0:
        print("ESCAPED", number)
if libc.syscall(438, 0, 0, 0) >= 0 or ctypes.get_errno() != 1:
    print("ESCAPED: pidfd_getfd")
