# Tries: raise its own resource limits, and lower those of init
# Status: ok
import resource

for name in [n for n in dir(resource) if n.startswith("RLIMIT_")]:
    number = getattr(resource, name)
    soft, hard = resource.getrlimit(number)
    if hard == resource.RLIM_INFINITY:
        continue
    try:
        resource.setrlimit(number, (hard, hard + 1))
        print("ESCAPED", name)
    except (OSError, ValueError):
        pass
try:
    resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))
    print("ESCAPED: init")
except OSError:
    pass
