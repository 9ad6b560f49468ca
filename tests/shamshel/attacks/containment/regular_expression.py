# Tries: match a pattern that takes exponential time inside C
# Status: timeout
import re

re.match(r"(a+)+$", "a" * 64 + "b")
