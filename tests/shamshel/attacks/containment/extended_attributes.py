# Tries: hold kernel memory in extended attributes of its files
# Status: ok
import os

open("x", "w").close()
try:
    os.setxattr("x", "user.x", b"x" * 60000)
    print("ESCAPED")
except OSError:
    pass
