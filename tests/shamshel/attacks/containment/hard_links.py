# Tries: link a library file into the work folder and change it
# Status: ok
import os

try:
    os.link(os.__file__, "stolen.py")
    print("ESCAPED")
except OSError:
    pass
