# Tries: print sequences that move the cursor, set the title and ring
# Status: ok
import sys

sys.stdout.write("\x1b[2J\x1b]0;owned\x07\x9b31m\u202eevil\rpassed\x00end\n")
