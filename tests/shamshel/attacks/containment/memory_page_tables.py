# Tries: touch one byte in each of many pages, to grow page tables
# Status: memory|error
# Limits: memory_mb=96
import mmap

held = []
while True:
    block = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, 64 << 20, 4096):
        block[at] = 1
    held.append(block)
