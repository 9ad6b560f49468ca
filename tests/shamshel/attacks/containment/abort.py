# Tries: end by abort
# Status: killed
import os

os.abort()
