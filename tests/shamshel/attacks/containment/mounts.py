# Tries: mount, unmount, bind and move file systems, by old and new calls
# Status: ok
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"none", b"/box/work", b"tmpfs", 0, None) == 0:
    print("ESCAPED: mount")
if libc.mount(b"none", b"/", b"", 32 | 4096, None) == 0:
    print("ESCAPED: remount")
for target in (b"/proc", b"/box", b"/dev/null"):
    if libc.umount2(target, 2) == 0:
        print("ESCAPED: unmount", target)
for number in (428, 429, 430, 431, 432, 433, 442, 155, 161):
    if libc.syscall(number, 0, 0, 0, 0, 0) >= 0 or ctypes.get_errno() != 1:
        print("ESCAPED", number, ctypes.get_errno())
