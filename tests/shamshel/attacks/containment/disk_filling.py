# Tries: write one file until the disk is full
# Status: error|killed
with open("big", "wb", buffering=0) as file:
    while True:
        if file.write(b"x" * (1 << 20)) < 1 << 20:
            raise OSError("full")
