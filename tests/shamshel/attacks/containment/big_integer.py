# Tries: compute a power that keeps the interpreter inside one operation
# Status: timeout|memory
x = 7 ** (10**9)
