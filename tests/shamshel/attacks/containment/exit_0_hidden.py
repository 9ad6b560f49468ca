# Tries: end at once with exit code 0
# Status: ok
import os

os._exit(0)
