"""Units of measure as factors of their dimensions' bases."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from lilith.agent.calculator_quantities import FunctionError, Quantity
from lilith.reasoning.exact_values import divide, power
from lilith.reasoning.units import unit_of

# Dimensions that are made of others: a litre is a cubic decimetre, a speed a length by a time.
_MADE_OF: dict[str, tuple[dict[str, int], Fraction]] = {
    "volume": ({"length": 3}, Fraction(1, 1000)),
    "speed": ({"length": 1, "time": -1}, Fraction(1000, 3600)),
}
_BASES = {
    "length": "m", "mass": "g", "time": "s", "months": "month", "dollars": "dollar",
    "euros": "euro", "sterling": "gbp", "yen": "yen", "rupees": "rupee", "angle": "degree",
}  # fmt: skip


def unit_quantity(name: str) -> Quantity | None:
    """One of a unit, in its base; None where the name is no unit."""
    found = unit_of(name)
    if found is None:
        return None
    dimension, size = found
    dims, factor = _MADE_OF.get(dimension, ({dimension: 1}, Fraction(1)))
    return Quantity(size * factor, dims)


def in_units(value: Quantity, written: dict[str, str]) -> tuple[Fraction | Decimal, str]:
    """The number and the text of its unit, in the unit of each dimension that was written first."""
    number = value.value
    above: list[str] = []
    below: list[str] = []
    for dimension, exponent in value.dims.items():
        name = written.get(dimension, _BASES[dimension])
        size = unit_quantity(name)
        if size is None:
            raise FunctionError(f"{dimension} has no unit")
        number = divide(number, power(size.value, Fraction(exponent)))
        raised = "" if abs(exponent) == 1 else f"^{abs(exponent)}"
        (above if exponent > 0 else below).append(f"{name}{raised}")
    unit = "*".join(above)
    if below:
        unit = f"{unit or '1'}/{'/'.join(below)}"
    return number, unit
