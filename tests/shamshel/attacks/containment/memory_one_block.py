# Tries: ask for one block far larger than the limit
# Status: memory
# Limits: memory_mb=96
block = b"x" * (2 << 30)
