# Tries: write to every folder that it should not
# Status: ok
for folder in (
    "/",
    "/etc",
    "/usr",
    "/lib",
    "/root",
    "/home",
    "/var/tmp",
    "/box",
    "/box/code",
    "/proc/sys/kernel",
    "/dev",
    "/sys",
    "/run",
    "/mnt",
):
    try:
        with open(folder + "/escaped", "w") as file:
            file.write("x")
        print("ESCAPED", folder)
    except OSError:
        pass
