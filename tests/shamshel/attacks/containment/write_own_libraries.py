# Tries: change the interpreter and its library for later runs
# Status: ok
import os
import sys

for path in (os.__file__, sys.executable, "/etc/ld.so.cache"):
    for action in (
        lambda: open(path, "ab"),
        lambda: os.unlink(path),
        lambda: os.chmod(path, 0o777),
        lambda: os.rename(path, path + "x"),
        lambda: os.utime(path),
    ):
        try:
            action()
            print("ESCAPED", path)
        except OSError:
            pass
