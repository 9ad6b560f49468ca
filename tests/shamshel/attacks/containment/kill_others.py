# Tries: signal processes of the host, and all that it can reach
# Status: ok
import json
import os
import signal

victim = json.load(open("host.json"))["pid"]
for process in (victim, -victim, 1):
    try:
        os.kill(process, signal.SIGKILL)
        if process != 1:
            print("ESCAPED", process)
    except OSError:
        pass
try:
    os.kill(-1, signal.SIGKILL)
except ProcessLookupError:
    pass
