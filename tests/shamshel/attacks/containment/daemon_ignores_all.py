# Tries: leave children that ignore every signal they can
# Status: ok
import os
import signal
import time

for _ in range(4):
    if os.fork() == 0:
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        os.setsid()
        while True:
            time.sleep(1)
