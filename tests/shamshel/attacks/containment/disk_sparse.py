# Tries: make a file of a terabyte without writing it
# Status: error|killed
import os

with open("sparse", "wb") as file:
    os.ftruncate(file.fileno(), 1 << 40)
