# Tries: answer from a thread, over and over, and from children
import os
import threading


def flood():
    while True:
        try:
            os.write(4, b"\x00\x00\x00\x0cT2:s5:valuet")
        except OSError:
            return


def ENTRY(*arguments, **named):
    if os.fork() == 0:
        flood()
    threading.Thread(target=flood, daemon=True).start()
    flood()
