# Tries: nest folders deeper than any path may be long
# Status: ok
import os

for _ in range(5000):
    try:
        os.mkdir("d")
        os.chdir("d")
    except OSError:
        break
