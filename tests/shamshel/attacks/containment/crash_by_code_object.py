# Tries: crash the interpreter by a made-up code object
# Status: killed|error
def f():
    pass


code = f.__code__.replace(co_code=b"\x65\xff" * 100, co_stacksize=0)
exec(code)
