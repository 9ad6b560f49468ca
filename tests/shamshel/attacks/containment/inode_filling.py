# Tries: make files until none can be made
# Status: ok
made = 0
try:
    while made < 100_000:
        open(f"f{made}", "w").close()
        made += 1
except OSError:
    pass
if made > 1000:
    print("ESCAPED", made)
