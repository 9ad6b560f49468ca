# Tries: gain rights through setuid programs and setuid calls
# Status: ok
import ctypes
import os
import subprocess

libc = ctypes.CDLL(None, use_errno=True)
for identity in (0, 1, 1000):
    for action in (os.setuid, os.setgid, os.seteuid, os.setegid):
        try:
            action(identity)
            if identity not in (os.getuid(),):
                print("ESCAPED", action.__name__, identity)
        except OSError:
            pass
for program in ("/bin/su", "/usr/bin/sudo", "/usr/bin/passwd", "/bin/mount", "/usr/bin/newuidmap"):
    try:
        subprocess.run([program])
        print("ESCAPED", program)
    except OSError:
        pass
try:
    os.chmod("x" if open("x", "w").close() else "x", 0o4777)
except OSError:
    pass
