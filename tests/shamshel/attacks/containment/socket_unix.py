# Tries: reach named and abstract sockets of the host through a socket pair
# Status: ok
import json
import socket

host = json.load(open("host.json"))
left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
for name in (host["socket"], "\0" + host["abstract"]):
    try:
        left.sendto(b"x", name)
        print("ESCAPED: sendto", name)
    except OSError:
        pass
    try:
        left.connect(name)
        print("ESCAPED: connect", name)
    except OSError:
        pass
