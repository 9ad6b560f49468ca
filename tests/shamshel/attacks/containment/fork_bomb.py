# Tries: fork without end
# Status: timeout
import os

while True:
    try:
        os.fork()
    except OSError:
        pass
