# Tries: fork a tree of sleepers, and count how many the limit allows
# Status: ok
import os
import time

made = 0
for _ in range(200):
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
    except OSError:
        break
if made > 15:
    print("ESCAPED", made)
