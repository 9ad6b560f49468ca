# Tries: hide an always-equal object inside plain containers
class Str(str):
    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


class List(list):
    def __eq__(self, other):
        return True


def ENTRY(*arguments, **named):
    return List([Str("x")])
