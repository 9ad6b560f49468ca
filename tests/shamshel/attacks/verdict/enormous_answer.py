# Tries: answer with more data than the trusted side should take
def ENTRY(*arguments, **named):
    return "x" * (64 << 20)
