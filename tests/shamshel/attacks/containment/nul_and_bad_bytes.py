# Tries: print NUL and bytes that are no text
# Status: ok
import os

os.write(1, b"\x00\xff\xfe\xc3\x28" * 100)
os.write(2, bytes(range(256)))
