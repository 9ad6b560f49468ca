"""Compiling a trusted test source into what the tests' jail runs."""

from __future__ import annotations

import ast
import builtins
import functools
import marshal


class _KeepBothSides(ast.NodeTransformer):
    """Turns `assert a == b` into a call that remembers both sides for the report."""

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        test = node.test
        if not (
            isinstance(test, ast.Compare)
            and len(test.ops) == 1
            and isinstance(test.ops[0], ast.Eq)
            and not any(isinstance(n, (ast.NamedExpr, ast.Await)) for n in ast.walk(node))
        ):
            return node
        arguments = [test.left, test.comparators[0]]
        if node.msg is not None:
            nothing = ast.arguments(
                posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[]
            )
            arguments.append(ast.Lambda(args=nothing, body=node.msg))
        function = ast.Name(id="__lilith_equal__", ctx=ast.Load())
        call = ast.Expr(ast.Call(func=function, args=arguments, keywords=[]))
        return ast.fix_missing_locations(ast.copy_location(call, node))


def _defined(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
    return names


@functools.lru_cache(maxsize=2048)
def compile_tests(tests: str, entry_point: str) -> bytes:
    """Return the entry point, the compiled statements, and the names left to the candidate.

    A definition of the entry point itself is left out, as a prompt's unfinished one. Raises
    `ValueError` when the tests are not Python.
    """
    try:
        tree = ast.parse(tests, "tests.py")
        tree.body = [
            node
            for node in tree.body
            if not (isinstance(node, ast.FunctionDef) and node.name == entry_point)
        ]
        used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        known = _defined(tree) | {entry_point, "candidate"} | set(dir(builtins))
        rewritten = _KeepBothSides().visit(tree)
        statements = []
        for node in rewritten.body:
            piece = ast.Module(body=[node], type_ignores=[])
            statements.append(compile(piece, "tests.py", "exec", dont_inherit=True))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ValueError(f"the tests are not Python: {error}") from None
    return marshal.dumps((entry_point, statements, sorted(used - known)))
