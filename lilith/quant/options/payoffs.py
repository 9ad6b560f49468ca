"""Payoffs for Monte Carlo: what each keeps of a path, what it pays, and its control variate.

Paths are log returns since the start. A payoff sees them one step at a time, so that no path is
ever stored. Each has a control: another payoff of the same path, whose mean is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp

from lilith.quant.options import asian, black_scholes
from lilith.quant.special import safe_sqrt

AVERAGES = ("arithmetic", "geometric")


class Option(NamedTuple):
    """One option's scalars, as in ``black_scholes.price``; level is a barrier's, else unused."""

    spot: Any
    strike: Any
    time: Any
    rate: Any
    volatility: Any
    dividend: Any
    level: Any
    is_call: Any


class Step(NamedTuple):
    """One step of many paths: log returns before and after, its variance, uniform draws or None."""

    before: Any
    after: Any
    variance: Any
    uniform: Any


@dataclass(frozen=True)
class European:
    """max(S_T - K, 0), controlled by the spot at expiry."""

    needs_uniforms = False

    def start(self, option: Option, zeros: Any) -> Any:
        return ()

    def update(self, kept: Any, option: Option, step: Step) -> Any:
        return kept

    def pays(self, kept: Any, option: Option, end: Any) -> tuple[Any, Any]:
        """The payoff and the control's, undiscounted."""
        final = option.spot * jnp.exp(end)
        return _vanilla(final, option), final

    def control_mean(self, option: Option, steps: int) -> Any:
        """The discounted mean of the control."""
        return option.spot * jnp.exp(-option.dividend * option.time)


@dataclass(frozen=True)
class Asian:
    """An option on the mean of the spots after each step.

    The arithmetic mean is controlled by the option on the geometric one, in closed form; the
    geometric one by the arithmetic mean itself.
    """

    average: str
    needs_uniforms = False

    def start(self, option: Option, zeros: Any) -> Any:
        return zeros, zeros, zeros[:1, :1]

    def update(self, kept: Any, option: Option, step: Step) -> Any:
        total, log_total, count = kept
        return total + jnp.exp(step.after), log_total + step.after, count + 1

    def pays(self, kept: Any, option: Option, end: Any) -> tuple[Any, Any]:
        total, log_total, count = kept
        arithmetic = option.spot * total / count
        geometric = _vanilla(option.spot * jnp.exp(log_total / count), option)
        if self.average == "geometric":
            return geometric, arithmetic
        return _vanilla(arithmetic, option), geometric

    def control_mean(self, option: Option, steps: int) -> Any:
        if self.average == "geometric":
            moments = option.time * jnp.arange(1, steps + 1, dtype=option.time.dtype) / steps
            carried = jnp.exp((option.rate - option.dividend) * moments)
            return option.spot * jnp.exp(-option.rate * option.time) * jnp.mean(carried)
        return asian.geometric_discrete(
            option.spot, option.strike, option.time, option.rate, option.volatility,
            dividend=option.dividend, is_call=option.is_call, fixings=steps,
        )  # fmt: skip


@dataclass(frozen=True)
class Barrier:
    """A vanilla payoff while (out) or once (in) the barrier is (not) touched, without rebate.

    Continuous monitoring multiplies by the chance that the Brownian bridge of each step stays
    clear, 1 - exp(-2 d_before d_after / variance), which leaves no bias. Controlled by the
    vanilla option.
    """

    kind: str
    continuous: bool
    needs_uniforms = False

    def _distance(self, option: Option, log_return: Any) -> Any:
        gap = log_return - jnp.log(option.level / option.spot)
        return jnp.maximum(gap if self.kind.startswith("down") else -gap, 0.0)

    def start(self, option: Option, zeros: Any) -> Any:
        return jnp.where(self._distance(option, zeros) > 0, 1.0, zeros)

    def update(self, kept: Any, option: Option, step: Step) -> Any:
        after = self._distance(option, step.after)
        if not self.continuous:
            return kept * (after > 0)
        risky = step.variance > 0
        between = self._distance(option, step.before) * after
        exponent = 2 * between / jnp.where(risky, step.variance, 1.0)
        clear = jnp.where(risky, -jnp.expm1(-exponent), after > 0)
        return kept * clear

    def pays(self, kept: Any, option: Option, end: Any) -> tuple[Any, Any]:
        vanilla = _vanilla(option.spot * jnp.exp(end), option)
        return (kept if self.kind.endswith("out") else 1 - kept) * vanilla, vanilla

    def control_mean(self, option: Option, steps: int) -> Any:
        return black_scholes.price(
            option.spot, option.strike, option.time, option.rate, option.volatility,
            dividend=option.dividend, is_call=option.is_call,
        )  # fmt: skip


@dataclass(frozen=True)
class Lookback:
    """Floating: S_T - min S (call), max S - S_T (put). Fixed: max S - K, K - min S, at least 0.

    Continuous monitoring draws the extreme of each step's Brownian bridge exactly, from one
    uniform number. Controlled by the spot at expiry.
    """

    kind: str
    continuous: bool

    @property
    def needs_uniforms(self) -> bool:
        return self.continuous

    def _sign(self, option: Option) -> Any:
        """1 where the maximum counts, -1 where the minimum does."""
        highest = option.is_call if self.kind == "fixed" else ~option.is_call
        return jnp.where(highest, 1.0, -1.0).astype(option.spot.dtype)

    def start(self, option: Option, zeros: Any) -> Any:
        return zeros

    def update(self, kept: Any, option: Option, step: Step) -> Any:
        """The highest sign * log return so far."""
        sign = self._sign(option)
        if not self.continuous:
            return jnp.maximum(kept, sign * step.after)
        reach = (step.after - step.before) ** 2 - 2 * step.variance * jnp.log(step.uniform)
        root = safe_sqrt(reach)
        return jnp.maximum(kept, (sign * (step.before + step.after) + root) / 2)

    def pays(self, kept: Any, option: Option, end: Any) -> tuple[Any, Any]:
        sign = self._sign(option)
        final = option.spot * jnp.exp(end)
        extreme = option.spot * jnp.exp(sign * kept)
        against = option.strike if self.kind == "fixed" else final
        return jnp.maximum(sign * (extreme - against), 0.0), final

    def control_mean(self, option: Option, steps: int) -> Any:
        return option.spot * jnp.exp(-option.dividend * option.time)


Payoff = European | Asian | Barrier | Lookback


def _vanilla(final: Any, option: Option) -> Any:
    return jnp.maximum(jnp.where(option.is_call, 1.0, -1.0) * (final - option.strike), 0.0)
