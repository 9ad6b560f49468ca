"""The grammar of a well-formed call: Lark rules, as llguidance reads them, made of declarations.

Arguments come in the order in which the tool declares them, numbers have a bounded number of
digits and keep the declared bounds, rows of a table are equally long. What the rules let through,
the tool's validation takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lilith.agent.grammar_numbers import DECIMALS, PLACES, WHOLE, number_regex
from lilith.quant.tool import Parameter, Tool
from lilith.quant.tool_values import DATE_COLUMNS

_LEVELS = 4  # of lists and objects within each other, where anything may be given
_MOST_ROWS = 60_000  # of a table: its rules count in sixteen bits
_CHARACTER = r'([^"\\\x00-\x1f\x7f]|\\["\\\/bfnrt]|\\u00[0-9a-f][0-9a-f])'
_NAME_CHARACTER = r'[^"\\\x00-\x1f\x7f]'
# Days that every month of every year has.
_DATE = r'/"20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"/'

References = Callable[[Parameter], Sequence[str]]


def call_rules(tools: Iterable[Tool], close_id: int | None, fitting: References) -> str:
    """Rules for what follows ``<tool_call>``, up to the end of ``</tool_call>``.

    Args:
      close_id: the special token ``</tool_call>``; None where it is ordinary text.
      fitting: the names of the kept values that a parameter takes.
    """
    rules = _Rules(fitting)
    calls = " | ".join(rules.call(tool) for tool in tools)
    close = '"</tool_call>"' if close_id is None else f"<[{close_id}]>"
    return "\n".join(
        [f'start: "\\n"? "{{\\"name\\": " ({calls}) "}}" "\\n"? {close}', *rules.lines, ""]
    )


class _Rules:
    """Rules as they are needed, each text once."""

    def __init__(self, fitting: References) -> None:
        self.lines: list[str] = []
        self._names: dict[str, str] = {}
        self._fitting = fitting

    def rule(self, body: str) -> str:
        return self._add(body, f"rule_{len(self._names)}")

    def terminal(self, body: str) -> str:
        return self._add(body, f"TEXT_{len(self._names)}")

    def _add(self, body: str, name: str) -> str:
        if body not in self._names:
            self._names[body] = name
            self.lines.append(f"{name}: {body}")
        return self._names[body]

    def call(self, tool: Tool) -> str:
        """One tool's name and arguments, which may leave out what has a default."""
        own = [p for p in tool.parameters if p.kind != "dates" or p.required]
        fields = [(p.name, self.value(p), p.required) for p in own]
        head = json.dumps(json.dumps(tool.name) + ', "arguments": ')
        return f"{head} {self.fields(fields)}"

    def fields(self, fields: Sequence[tuple[str, str, bool]]) -> str:
        """An object of named fields in this order: names, rules, and whether they must be there."""
        first, later = '"}"', '"}"'  # what may follow, before and after a first field
        for name, value, required in reversed(fields):
            key, after_comma = (json.dumps(comma + json.dumps(name) + ": ") for comma in ("", ", "))
            skipped = ("", "") if required else (f" | {first}", f" | {later}")
            first = self.rule(f"{key} {value} {later}{skipped[0]}")
            later = self.rule(f"{after_comma} {value} {later}{skipped[1]}")
        return f'"{{" {first}'

    def value(self, own: Parameter) -> str:
        """What a parameter takes, a fitting reference too."""
        schema = own.schema()
        if own.kind in ("matrix", "table", "covariance"):
            found = self.rows(own)
            if own.kind == "table":
                found = self.rule(f"{self.columns(own)} | {found}")
            names = [part for part in schema.get("anyOf", ()) if "enum" in part]
            found = self.rule(" | ".join([found, *map(self.by_schema, names)]))
        elif own.kind == "bounds":
            found = self.bounds()
        else:
            least = 1 if own.least is None else own.least
            found = self.by_schema({"minItems": least} | schema, 0)
        kept = [json.dumps(json.dumps({"ref": name})) for name in self._fitting(own)]
        return self.rule(" | ".join([found, *kept])) if kept else found

    def by_schema(self, schema: Mapping[str, Any], level: int = 0) -> str:
        """What a JSON schema allows; its ``type``, ``enum`` or ``anyOf`` decides."""
        kind = schema.get("type")
        if "anyOf" in schema:
            inner = [{**schema, **part} for part in schema["anyOf"]]
            for part in inner:
                del part["anyOf"]
            return self.rule(" | ".join(self.by_schema(part, level) for part in inner))
        if "enum" in schema:
            return self.rule(" | ".join(json.dumps(json.dumps(x)) for x in schema["enum"]))
        if kind in ("number", "integer"):
            return self.terminal(number_regex(schema))
        if kind == "string":
            dates = schema.get("format") == "date"
            return self.terminal(_DATE if dates else rf'/"{_CHARACTER}*"/')
        if kind == "boolean":
            return self.rule('"true" | "false"')
        if kind == "array" and "items" in schema:
            return self.list_of(self.by_schema(schema["items"], level + 1), schema)
        if kind == "array":
            return self.list_of(self.anything(max(_LEVELS - 1 - level, 0)), schema)
        if kind != "object":
            return self.anything(max(_LEVELS - level, 0))
        if schema.get("properties"):
            must = schema.get("required", ())
            return self.rule(
                self.fields(
                    [
                        (name, self.by_schema(part, level + 1), name in must)
                        for name, part in schema["properties"].items()
                    ]
                )
            )
        of_each = schema.get("additionalProperties")
        if isinstance(of_each, Mapping):
            return self.object_of(self.by_schema(of_each, level + 1))
        return self.object_of(self.anything(max(_LEVELS - 1 - level, 0)))

    def list_of(self, item: str, schema: Mapping[str, Any]) -> str:
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        more = "*" if most is None else f"{{0,{most - 1}}}"
        if least > 1:
            more = f"{{{least - 1},{'' if most is None else most - 1}}}"
        items = f'{item} (", " {item}){more}' if most != 1 else item
        return self.rule(f'"[" ({items}){"?" if least == 0 else ""} "]"')

    def object_of(self, value: str) -> str:
        """Named values, under any names."""
        name = self.terminal(rf'/"{_NAME_CHARACTER}*"/')
        return self.rule(f'"{{" ({name} ": " {value} (", " {name} ": " {value})*)? "}}"')

    def anything(self, levels: int) -> str:
        """Any JSON of at most so many levels."""
        text = self.terminal(rf'/"{_CHARACTER}*"/')
        number = self.terminal(number_regex({"type": "number"}))
        made = [text, number, '"true"', '"false"', '"null"']
        if levels:
            inner = self.anything(levels - 1)
            made += [self.object_of(inner), self.list_of(inner, {})]
        return self.rule(" | ".join(made))

    def bounds(self) -> str:
        """Pairs of a lower and an upper bound of a weight: one, one an asset, or by name.

        The lower one is at most 0, or its tenth lies below the upper one's, so that no pair is
        crossed.
        """
        pairs = [rf"/\[(0|-{WHOLE}{DECIMALS}), {WHOLE}{DECIMALS}\]/"]
        for tenth in range(10):
            upper = rf"[1-9][0-9]{{0,3}}(\.[0-9]{{1,{PLACES}}})?"
            if tenth < 9:
                upper += rf"|0\.[{tenth + 1}-9][0-9]{{0,{PLACES - 1}}}"
            pairs.append(rf"/\[0\.{tenth}[0-9]{{0,{PLACES - 1}}}, ({upper})\]/")
        pair = self.terminal(" | ".join(pairs))
        name = self.terminal(f"""/"{_NAME_CHARACTER}+"/""")
        by_name = self.rule(f'"{{" {name} ": " {pair} (", " {name} ": " {pair})* "}}"')
        each = self.rule(f'"[" {pair} (", " {pair})* "]"')
        return self.rule(f"{pair} | {each} | {by_name}")

    def rows(self, own: Parameter) -> str:
        """Lists of equal length; as many as the parameter's least and most."""
        number = self.cell(own)
        least, most = own.least or 1, min(own.most or _MOST_ROWS, _MOST_ROWS)
        return self._equal(
            number, '"["', '", ["', '"]"', '"["', rows=(least, most), columns=(1, _MOST_ROWS)
        )

    def cell(self, own: Parameter) -> str:
        """A number of a table, within the bounds of its parameter."""
        bounds = {
            "minimum": own.minimum, "maximum": own.maximum,
            "exclusiveMinimum": own.above, "exclusiveMaximum": own.below,
        }  # fmt: skip
        return self.terminal(number_regex(bounds))

    def columns(self, own: Parameter) -> str:
        """``{name: numbers}`` with equally many numbers each; no column is one of dates."""
        number = self.cell(own)
        dates = "|".join(
            "".join(f"[{letter}{letter.upper()}]" for letter in name) for name in DATE_COLUMNS
        )
        name = self.terminal(rf'/"{_NAME_CHARACTER}+"/ & ~/"({dates})"/')
        least, most = own.least or 1, min(own.most or _MOST_ROWS, _MOST_ROWS)
        return self._equal(
            number, f'{name} ": ["', f'", " {name} ": ["', '"}"', '"{"',
            rows=(1, _MOST_ROWS), columns=(least, most),
        )  # fmt: skip

    def _equal(
        self, number: str, first: str, next_: str, end: str, begin: str, *,
        rows: tuple[int, int], columns: tuple[int, int],
    ) -> str:  # fmt: skip
        """Lists of one length, counted in a number that the rules hand on.

        The first list counts its entries up in the bits [0:16]. The next one counts those down and
        [16:32] up, the one after it the other way round. [32:48] counts the lists.
        """
        key = f"{number} {first} {next_} {end} {begin} {rows} {columns}"
        if key in self._names:
            return self._names[key]
        name = self._names[key] = f"equal_{len(self._names)}"
        enough = f"%if and(ge([32:48], {rows[0]}), le([32:48], {rows[1]}))"
        self.lines += [
            f"{name}: {begin} {first} {number} {name}_grow::0x100000001",
            f'{name}_grow::_: ", " {number} {name}_grow::incr([0:16]) %if lt([0:16], {columns[1]})'
            f' | "]" {name}_next0::_ %if ge([0:16], {columns[0]})',
        ]
        for this, down, up in ((0, "[0:16]", "[16:32]"), (1, "[16:32]", "[0:16]")):
            self.lines += [
                f"{name}_next{this}::_: {end} {enough}"
                f" | {next_} {name}_count{this}::incr([32:48]) %if lt([32:48], {rows[1]})",
                f"{name}_count{this}::_: {number} {name}_down{this}::decr({down})",
                # Counted up by the mark behind it: in a rule of a single name llguidance loses it.
                f'{name}_down{this}::_: ", " {name}_count{this}::incr({up}) %if gt({down}, 0)'
                f' | "]" {name}_next{1 - this}::incr({up}) %if is_zeros({down})',
            ]
        return name
