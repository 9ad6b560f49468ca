"""The golden cases and the small files live beside the plain tests that read them."""

import pathlib
import sys

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "model"), str(TESTS / "interop")]
