# Tries: start threads without end
# Status: ok
import threading
import time

made = 0
try:
    for _ in range(500):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        made += 1
except RuntimeError:
    pass
if made > 15:
    print("ESCAPED", made)
