# Tries: allocate and touch memory in one process
# Status: memory
# Limits: memory_mb=96
held = []
while True:
    held.append(bytearray(b"x") * (4 << 20))
