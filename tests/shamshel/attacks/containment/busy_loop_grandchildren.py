# Tries: compute in many short-lived children, none of which reaches the limit
# Status: timeout
# Limits: cpu_s=0.5 wall_s=6
import os
import time

while True:
    if os.fork() == 0:
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
        os._exit(0)
    os.wait()
