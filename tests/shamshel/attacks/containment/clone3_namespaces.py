# Tries: make namespaces through clone3, whose flags a filter can not see
# Status: ok
import ctypes
import errno
import os

libc = ctypes.CDLL(None, use_errno=True)
arguments = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, 17)
result = libc.syscall(435, arguments, ctypes.sizeof(arguments))
if result == 0:
    os._exit(0)
if result > 0 or ctypes.get_errno() != errno.ENOSYS:
    print("ESCAPED", result, ctypes.get_errno())
