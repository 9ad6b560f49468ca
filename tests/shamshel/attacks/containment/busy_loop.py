# Tries: compute for ever
# Status: timeout
while True:
    pass
