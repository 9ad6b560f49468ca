# Tries: do file work through io_uring, past the filter
# Status: ok
import ctypes
import errno

libc = ctypes.CDLL(None, use_errno=True)
for number in (425, 426, 427):
    if libc.syscall(number, 8, ctypes.create_string_buffer(120), 0, 0) >= 0:
        print("ESCAPED", number)
    if ctypes.get_errno() != errno.EPERM:
        print("ESCAPED", number, ctypes.get_errno())
