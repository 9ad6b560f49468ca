# Tries: end by a segmentation fault
# Status: killed
import ctypes

ctypes.string_at(0)
