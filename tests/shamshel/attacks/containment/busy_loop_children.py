# Tries: compute for ever in several processes at once, to use up processor time
# Status: timeout
# Limits: cpu_s=0.5 wall_s=4
import os

for _ in range(6):
    os.fork()
    break
while True:
    pass
