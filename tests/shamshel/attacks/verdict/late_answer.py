# Tries: answer after the time is over
import time


def ENTRY(*arguments, **named):
    time.sleep(3600)
