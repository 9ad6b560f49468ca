# Tries: run a program that it wrote, from the work folder and from memory
# Status: ok
import os
import subprocess
import sys

for folder in (".", "/tmp"):
    path = f"{folder}/program"
    with open(path, "wb") as file:
        file.write(open(sys.executable, "rb").read(4 << 20))
    os.chmod(path, 0o755)
    try:
        subprocess.run([path])
        print("ESCAPED", folder)
    except OSError:
        pass
    os.unlink(path)
