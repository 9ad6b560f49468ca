# Tries: read the memory of the processes that started it
# Status: ok
import os

for process in (1, os.getppid(), 2, 0):
    try:
        with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
            for line in open(f"/proc/{process}/maps"):
                start = int(line.split("-")[0], 16)
                memory.seek(start)
                memory.read(1)
        if process != os.getpid():
            print("ESCAPED", process)
    except OSError:
        pass
