# Tries: reach the host through /proc: roots, working folders and map files
# Status: ok
import os

for process in ("1", "self", str(os.getppid())):
    for entry in ("root/etc/passwd", "cwd/../../etc/passwd", "mem", "environ", "fd/3", "maps"):
        path = f"/proc/{process}/{entry}"
        if process == "self" and entry in ("mem", "environ", "maps"):
            continue
        try:
            open(path, "rb").read(10)
            print("ESCAPED", path)
        except OSError:
            pass
