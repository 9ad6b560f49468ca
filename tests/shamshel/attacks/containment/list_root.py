# Tries: list folders above its own, to learn of the host
# Status: ok
import os

for folder in ("/", "/..", "../../..", "/home", "/root", "/tmp/../.."):
    try:
        print("ESCAPED", os.listdir(folder))
    except OSError:
        pass
