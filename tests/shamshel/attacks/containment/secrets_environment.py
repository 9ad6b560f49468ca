# Tries: read secrets from the environment
# Status: ok
import os

print(dict(os.environ))
print(open("/proc/self/environ", "rb").read())
if os.environ:
    print("ESCAPED")
