# Tries: start interpreters that start interpreters
# Status: timeout
import subprocess
import sys

program = """
import subprocess, sys
while True:
    try:
        subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"])
    except OSError:
        pass
"""
subprocess.run([sys.executable, "-I", "-S", "-c", program])
