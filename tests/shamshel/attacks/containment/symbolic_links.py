# Tries: reach outside through symbolic links, and leave some for the collector
# Status: ok
import json
import os

secret = json.load(open("host.json"))["secret_file"]
for number, target in enumerate((secret, "/etc/passwd", "../../etc/passwd", "/proc/1/root")):
    os.symlink(target, f"link{number}")
    try:
        open(f"link{number}").read(1)
        print("ESCAPED", target)
    except OSError:
        pass
os.symlink("/", "root")
