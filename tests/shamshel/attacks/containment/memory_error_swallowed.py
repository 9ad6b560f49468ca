# Tries: catch MemoryError and go on allocating
# Status: memory|timeout
# Limits: memory_mb=96
held = []
while True:
    try:
        held.append(bytearray(b"x") * (1 << 20))
    except MemoryError:
        pass
