# Tries: end with exit code 0 while it is loaded
import os

os._exit(0)
