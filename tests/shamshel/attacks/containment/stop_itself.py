# Tries: stop its own process, and init, to wait out the limit
# Status: timeout
import os
import signal

try:
    os.kill(1, signal.SIGSTOP)
except OSError:
    pass
os.kill(os.getpid(), signal.SIGSTOP)
