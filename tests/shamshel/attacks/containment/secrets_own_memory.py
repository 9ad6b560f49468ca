# Tries: search its own memory for what a parent may have left there
# Status: ok
needle = b"LILITH-" + b"SECRET"
found = 0
with open("/proc/self/mem", "rb", buffering=0) as memory:
    for line in open("/proc/self/maps"):
        first, last = (int(part, 16) for part in line.split()[0].split("-"))
        if "r" not in line.split()[1] or last - first > 64 << 20 or "[v" in line:
            continue
        try:
            memory.seek(first)
            content = memory.read(last - first)
        except (OSError, ValueError, OverflowError):
            continue
        found += content.count(needle + b"-IN-PARENT")
if found:
    print("ESCAPED", found)
