# Tries: read files of the host by their names
# Status: ok
import json

host = json.load(open("host.json"))
for path in (
    "/etc/passwd",
    "/etc/shadow",
    "/etc/hostname",
    "/proc/1/root/etc/passwd",
    "/proc/cpuinfo",
    "/proc/sys/kernel/hostname",
    "/sys/kernel",
    host["secret_file"],
    "/root/.bashrc",
    "/var/log/dpkg.log",
    "/dev/mem",
    "/dev/vda",
    "/dev/sda",
):
    try:
        open(path, "rb").read(10)
        print("ESCAPED", path)
    except OSError:
        pass
