# Tries: end with sys.exit(0)
# Status: ok
import sys

sys.exit(0)
