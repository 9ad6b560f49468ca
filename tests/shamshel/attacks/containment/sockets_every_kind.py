# Tries: open a socket of every family and kind
# Status: ok
import socket

for family in range(0, 46):
    for kind in range(1, 11):
        for protocol in (0, 1, 6, 17, 255, 768):
            try:
                socket.socket(family, kind, protocol)
                print("ESCAPED", family, kind, protocol)
            except OSError:
                pass
