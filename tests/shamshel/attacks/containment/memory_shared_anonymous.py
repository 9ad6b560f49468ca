# Tries: hold shared pages that no process shows as resident
# Status: memory|error|killed
# Limits: memory_mb=96 wall_s=3
import mmap

held = []
for _ in range(64):
    block = mmap.mmap(-1, 16 << 20)
    for at in range(0, 16 << 20, 4096):
        block[at] = 1
    block.madvise(mmap.MADV_DONTNEED)
    held.append(block)
print("ESCAPED: a gigabyte of shared pages")
