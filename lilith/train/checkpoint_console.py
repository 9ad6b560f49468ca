"""Keeps the console to what a person needs while Orbax works, and hides no error."""

from __future__ import annotations

import logging
import os
import sys
import warnings


def quiet_orbax() -> None:
    """Leave out Orbax's reports and the echoes of errors that it raises; call before importing it.

    Three kinds of echo come with a failed write, such as on a full disk: log records that carry the
    traceback of the exception raised to us; coroutines of the writes that were not begun; and, from
    TensorStore's threads, results that arrive after the write was given up and its loop closed.
    """
    not_begun = r"coroutine '[\w.<>]*(write_fragment|_create_paths)' was never awaited"
    warnings.filterwarnings("ignore", not_begun, RuntimeWarning)
    logging.getLogger("absl").addFilter(_is_worth_showing)
    show = sys.unraisablehook

    def show_others(unraisable: sys.UnraisableHookArgs) -> None:
        value = unraisable.exc_value
        late = isinstance(value, RuntimeError) and str(value) == "Event loop is closed"
        if not (late and unraisable.object is None):
            show(unraisable)

    sys.unraisablehook = show_others


def _is_worth_showing(record: logging.LogRecord) -> bool:
    from_orbax = f"{os.sep}orbax{os.sep}" in record.pathname
    return not from_orbax or (record.levelno >= logging.ERROR and not record.exc_info)
