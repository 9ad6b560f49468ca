# Tries: print without end
# Status: output
while True:
    print("x" * 1000)
