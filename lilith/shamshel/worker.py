"""A session's program inside the jail: runs cell after cell in one namespace, as a notebook does.

It imports as little as it can, to start fast.
"""

from __future__ import annotations

import sys
from typing import Any

from .frames import read_frame, write_frame

_ONLY_TREE = 0x400


def run_cell(source: str, name: str, namespace: dict[str, Any]) -> None:
    """Run one cell; show the value of its last line when that is an expression."""
    import _ast

    tree = compile(source, name, "exec", _ONLY_TREE)
    last = None
    if tree.body and isinstance(tree.body[-1], _ast.Expr):
        last = _ast.Expression(tree.body.pop().value)
    exec(compile(tree, name, "exec"), namespace)
    if last is not None:
        value = eval(compile(last, name, "eval"), namespace)
        if value is not None:
            namespace["_"] = value
            print(repr(value))


def show_error(error: BaseException, source: str, name: str) -> None:
    """Print the traceback from the cell's own frames on."""
    import linecache
    import traceback

    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != name:
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)


def flush() -> None:
    """Push out what was printed, whatever the cell has put in place of the streams."""
    streams: tuple[Any, ...] = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    for stream in streams:
        try:  # noqa: SIM105 - contextlib would be one more import
            stream.flush()
        except BaseException:
            pass


def main(_code: str) -> None:
    """Serve cells until the supervisor hangs up."""
    module = type(sys)("__main__")
    sys.modules["__main__"] = module
    count = 0
    while True:
        try:
            source = read_frame().decode("utf-8", "surrogatepass")
        except EOFError:
            return
        count += 1
        name = f"<cell {count}>"
        status = "ok"
        try:
            run_cell(source, name, module.__dict__)
        except SystemExit as error:
            status = "error" if error.code else "ok"
        except MemoryError as error:
            status = "memory"
            error.__traceback__ = None  # frees what the frames hold
            sys.stderr.write("MemoryError\n")
        except BaseException as error:
            status = "error"
            try:
                show_error(error, source, name)
            except BaseException:
                sys.stderr.write(type(error).__name__ + "\n")
        flush()
        write_frame(b"%d:%s" % (count, status.encode()))
