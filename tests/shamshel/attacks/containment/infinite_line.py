# Tries: write one endless line to the raw descriptor
# Status: output
import os

while True:
    os.write(1, b"x" * 65536)
