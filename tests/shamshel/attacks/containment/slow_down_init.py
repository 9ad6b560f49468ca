# Tries: change the priority and the processors of init
# Status: ok
import os

for action in (
    lambda: os.setpriority(os.PRIO_PROCESS, 1, 19),
    lambda: os.nice(-5),
    lambda: os.sched_setaffinity(1, {0}),
    lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
):
    try:
        action()
        print("ESCAPED")
    except OSError:
        pass
