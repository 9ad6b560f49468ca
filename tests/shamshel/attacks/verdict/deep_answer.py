# Tries: answer with a list nested without end
def ENTRY(*arguments, **named):
    value = []
    value.append(value)
    return value
