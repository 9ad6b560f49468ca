# Tries: sleep
# Status: timeout
import time

time.sleep(3600)
