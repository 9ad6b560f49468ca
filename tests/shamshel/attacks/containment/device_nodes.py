# Tries: make device nodes for the disk and for memory
# Status: ok
import os
import stat

for kind, device in ((stat.S_IFBLK, os.makedev(254, 0)), (stat.S_IFCHR, os.makedev(1, 1))):
    try:
        os.mknod("device", kind | 0o666, device)
        print("ESCAPED")
    except OSError:
        pass
