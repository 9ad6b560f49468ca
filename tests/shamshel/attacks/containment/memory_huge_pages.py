# Tries: map huge pages, which are not counted as ordinary memory
# Status: ok
import mmap

try:
    mmap.mmap(-1, 2 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)
    print("ESCAPED")
except OSError:
    pass
