# Tries: leave a child that keeps stdout open and prints on
# Status: ok|output
import os
import time

if os.fork() == 0:
    os.setsid()
    while True:
        print("still here", flush=True)
        time.sleep(0.001)
