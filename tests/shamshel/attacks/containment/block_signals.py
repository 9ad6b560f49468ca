# Tries: block every signal, then go on
# Status: timeout
import signal
import time

signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
while True:
    time.sleep(1)
