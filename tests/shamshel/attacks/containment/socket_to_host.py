# Tries: connect to a server on the host
# Status: ok
import json
import socket

host = json.load(open("host.json"))
for address in ("127.0.0.1", "localhost", "0.0.0.0", "::1"):
    try:
        socket.create_connection((address, host["port"]), 0.2)
        print("ESCAPED", address)
    except OSError:
        pass
