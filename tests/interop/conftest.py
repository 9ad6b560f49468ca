"""The golden cases, models of every family, live beside the test that first needed them."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "model"))
