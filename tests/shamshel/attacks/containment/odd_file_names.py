# Tries: write files whose names hold newlines, escapes and bytes that are no text
# Status: ok
names = [b"a\nb", b"\x1b[2J", b"\xff\xfe", b"-rf", b"x" * 255, "\u202e".encode(), b" ", b"..."]
for name in names:
    with open(name, "w") as file:
        file.write("x")
