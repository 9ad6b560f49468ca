"""Figures of given series, by tool: performance metrics, small backtests, statistics."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from lilith.data.instructions.conversations import plain
from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.quant_portfolios import (
    RATES,
    as_fractions,
    draw_series,
    written,
)
from lilith.data.instructions.quant_talk import Talk, tool_call
from lilith.data.instructions.quant_words import HUNDRED, banded, fill, percent
from lilith.data.instructions.tool_text import exact

RETURNS = 6
FREQUENCIES = (("monthly", 12), ("monthly", 12), ("weekly", 52), ("daily", 252))
DAYS = 5
METRICS = (
    "What are the Sharpe ratio and the maximum drawdown of these {frequency} returns{rate}? "
    "{series}",
    "Evaluate my strategy. {Frequency} returns: {series}{rate}.",
    "{Frequency} returns: {series}. How good was that{rate}?",
    "Compute performance metrics{rate} for {frequency} returns {series}.",
    "My fund returned {series} ({frequency}). Sharpe, volatility and drawdown{rate}?",
    "Backtest results, {frequency}: {series}. Summarise the performance{rate}.",
    "Give me annual volatility, Sharpe and drawdown{rate}. The {frequency} returns are {series}.",
    "A track record of {frequency} returns: {series}. Please compute its figures{rate}.",
    "How risky is this series of {frequency} returns? {series}{rate}.",
    "Please assess the following {frequency} performance{rate}: {series}.",
    "Here is a {frequency} return stream: {series}. I want its Sharpe ratio{rate}.",
    "Performance report{rate}, please. {Frequency} returns: {series}.",
    "How volatile were these {frequency} returns, and what is their Sharpe ratio{rate}? {series}.",
    "Analyse the {frequency} returns {series}{rate}.",
    "{Frequency} performance was {series}. Work out drawdown and Sharpe{rate}.",
    "The fund made {series} ({frequency}). Give volatility, Sharpe and drawdown{rate}.",
    "Volatility and drawdown of {series}, please{rate}. They are {frequency} returns.",
    "We earned {series}, {frequency}. What were Sharpe and volatility{rate}?",
    "Measure this {frequency} track record{rate}: {series}.",
    "These are {frequency} returns of my book: {series}. Sharpe and maximum drawdown{rate}?",
    "My strategy returned {series} ({frequency}). Tell me its volatility and its Sharpe{rate}.",
    "For {frequency} returns of {series}, report drawdown, volatility and the Sharpe ratio{rate}.",
    "Desk results by {frequency} return: {series}. How volatile, how deep the drawdown{rate}?",
    "Summarise risk and return of {series} as {frequency} returns{rate}.",
    "What do {frequency} returns of {series} say about risk{rate}?",
)
BACKTEST = (
    "Backtest target weights {signals} on {asset} at prices {prices}{costs}, {frequency} data.",
    "{asset} traded at {prices} ({frequency}). What did the weights {signals} earn{costs}?",
    "Run a backtest{costs}: {frequency} prices of {asset} {prices}, signals {signals}.",
    "My signals for {asset} were {signals} and its {frequency} prices {prices}. Result{costs}?",
    "How would {signals} as positions in {asset} have done{costs}? {Frequency} prices: {prices}.",
    "Test this rule{costs}. {Frequency} prices of {asset}: {prices}. Weights: {signals}.",
    "Simulate holding {signals} of equity in {asset} over {frequency} prices {prices}{costs}.",
    "Prices of {asset}, {frequency}: {prices}. Positions: {signals}. What is the return{costs}?",
    "With {frequency} prices {prices} for {asset}, evaluate the strategy {signals}{costs}.",
    "Is the strategy {signals} on {asset} any good{costs}? The {frequency} prices were {prices}.",
    "Here are {frequency} prices of {asset}: {prices}. I was invested {signals}. Profit{costs}?",
    "Backtest this, please: positions {signals}, {frequency} prices {prices} of {asset}{costs}.",
    "Suppose I had held {asset} with weights {signals} while it traded at {prices} ({frequency}). "
    "What came of it{costs}?",
    "Evaluate a trading rule on {asset}{costs}: weights {signals}, {frequency} prices {prices}.",
    "What would trading {asset} at the {frequency} prices {prices} with exposures {signals} have "
    "brought{costs}?",
    "What would exposures {signals} to {asset} have made at {frequency} prices {prices}{costs}?",
    "{Frequency} prices of {asset} were {prices}, my exposures {signals}. Profit or loss{costs}?",
    "Trade {asset} with exposures {signals} at {frequency} prices {prices}{costs}: what comes out?",
    "Given {frequency} prices {prices} of {asset} and exposures {signals}, backtest it{costs}.",
    "How did exposures {signals} in {asset} do while its {frequency} prices were {prices}{costs}?",
)
STATISTICS = (
    "Summarise this sample: {series}.",
    "What are the mean, standard deviation and skewness of {series}?",
    "Compute descriptive statistics for {series}.",
    "Here are some observations: {series}. Are they roughly normal?",
    "Describe the distribution of {series}.",
    "Statistics of {series}, please.",
    "I measured {series}. What is the average, and how much does it vary?",
    "Give me mean, median, deviation and a normality test for the data {series}.",
    "How are these numbers distributed? {series}",
    "Run a statistical summary of the values {series}.",
    "For the data set {series}, find the mean and its spread.",
)
COSTS = (
    (", fees of {} bps", "fee_bps"), (" with {} basis points of fees", "fee_bps"),
    (", {} bps slippage", "slippage_bps"), (" with slippage of {} basis points", "slippage_bps"),
)  # fmt: skip
ASSET_NAMES = ("A", "XYZ", "ACME", "gold", "the index", "OIL", "EURUSD", "BOND")
SIGNALS = ("0", "0.5", "1", "1")


def quant_backtest_metrics(draw: Draw) -> Conversation:
    """Performance of a list of returns."""
    difficulty = draw.difficulty()
    frequency, periods = draw.choice(FREQUENCIES)
    series = draw_series(draw, RETURNS)
    rate = banded(draw, "rate", difficulty) if difficulty != "easy" else None
    said = "" if rate is None else draw.choice(RATES).format(percent(draw, rate))
    talk = Talk(draw, "quant_backtest_metrics")
    talk.system("backtest_metrics")
    slots = {
        "series": written(series, difficulty == "hard"),
        "rate": said,
        "frequency": frequency,
        "Frequency": frequency.capitalize(),
    }
    talk.user(fill(draw, METRICS, slots))
    free = None if rate is None else exact(rate / HUNDRED)
    talk.call(
        tool_call(
            "backtest_metrics",
            returns=as_fractions(series),
            periods_per_year=periods,
            risk_free_rate=free,
        )
    )
    total = talk.quote("total_return", form="percent")
    volatility = talk.quote("annual_volatility", form="percent", places=1)
    drawdown = talk.quote("max_drawdown", form="percent")
    worst = talk.quote("worst", form="percent")
    talk.say(
        f"Sharpe ratio {talk.quote('sharpe')} a year, at a volatility of {volatility}. The series "
        f"made {total} in total, its deepest drawdown was {drawdown} and its worst period {worst}. "
        f"{RETURNS} observations are too few to judge skill."
    )
    return talk.record(difficulty)


def quant_backtest(draw: Draw) -> Conversation:
    """A backtest of weights in one asset on six prices."""
    difficulty = draw.difficulty()
    frequency, periods = draw.choice(FREQUENCIES)
    name = draw.choice(ASSET_NAMES)
    column = name.removeprefix("the ")
    prices = [banded(draw, "share", "easy")]
    while len(prices) < DAYS:  # prices of a walk are not banded, its start and its steps are
        step = 1 + draw.number("-4.0", "5.9", "0.1") / HUNDRED
        prices.append((prices[-1] * step).quantize(Decimal("0.1")))
    while True:
        signals = [Decimal(draw.choice(SIGNALS)) for _ in prices]
        if sum(signal > 0 for signal in signals[:-1]) >= 2:
            break
    costs, said = None, ""
    if difficulty != "easy":
        pattern, key = draw.choice(COSTS)
        basis_points = draw.number("1", "30")
        costs, said = {key: exact(basis_points)}, pattern.format(plain(basis_points))
    talk = Talk(draw, "quant_backtest")
    talk.system("backtest")
    slots = {
        "signals": ", ".join(map(plain, signals)),
        "prices": ", ".join(map(plain, prices)),
        "asset": name,
        "costs": said,
        "frequency": frequency,
        "Frequency": frequency.capitalize(),
    }
    talk.user(fill(draw, BACKTEST, slots))
    arguments = {
        "signals": {column: [exact(value) for value in signals]},
        "prices": {column: [exact(value) for value in prices]},
        "periods_per_year": periods,
    }
    talk.call(tool_call("backtest", **arguments, costs=costs))
    total = talk.quote("total_return", form="percent")
    text = f"The strategy returned {total}"
    if costs is not None:
        text += f" after costs ({talk.quote('gross_total_return', form='percent')} before them)"
    drawdown = talk.quote("max_drawdown", form="percent")
    talk.say(
        f"{text}, with a deepest drawdown of {drawdown}. Each weight was traded at its own row's "
        f"price and earned until the next, so nothing looks ahead; {DAYS} prices prove little."
    )
    return talk.record(difficulty)


def quant_statistics(draw: Draw) -> Conversation:
    """A summary of a sample."""
    difficulty = draw.difficulty()
    if difficulty == "easy":
        values = [draw.number("1", "100") for _ in range(RETURNS)]
    else:
        values = [draw.number("0.1", "50.0", "0.1") for _ in range(RETURNS)]
    talk = Talk(draw, "quant_statistics")
    talk.system("stats_summary")
    talk.user(fill(draw, STATISTICS, {"series": ", ".join(map(plain, values))}))
    talk.call(tool_call("stats_summary", data=[exact(value) for value in values]))
    p_value = talk.quote("jarque_bera", "p_value")
    doubt = talk.figure("jarque_bera", "p_value") < 0.05
    normal = "speaks against" if doubt else "gives no reason to doubt"
    talk.say(
        f"Mean {talk.quote('mean')}, median {talk.quote('median')}, standard deviation "
        f"{talk.quote('std')}, skewness {talk.quote('skew_unbiased')}. The Jarque-Bera p-value of "
        f"{p_value} {normal} a normal distribution, though {RETURNS} observations say little."
    )
    return talk.record(difficulty)


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {
    "quant_backtest_metrics": quant_backtest_metrics,
    "quant_backtest": quant_backtest,
    "quant_statistics": quant_statistics,
}
