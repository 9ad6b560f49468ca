"""The tear sheet: one file, nothing from outside, the figures of the tool, errors in words."""

from __future__ import annotations

import datetime
import html.parser
import pathlib
import re
from typing import Any

import numpy as np
import pytest

from lilith.quant.performance_tools import backtest_metrics
from lilith.quant.tear_sheet import drawdown_episodes, tear_sheet
from lilith.quant.tool_values import ToolError

COUNT = 60
GENERATOR = np.random.default_rng(11)
RETURNS = GENERATOR.normal(0.001, 0.012, COUNT)
BENCHMARK = GENERATOR.normal(0.0005, 0.01, COUNT)
DAYS = [
    str(day) for day in np.arange("2023-11-01", "2024-03-01", dtype="datetime64[D]")
    if np.is_busday(day)
][:COUNT]  # fmt: skip


class Page(html.parser.HTMLParser):
    """The tags with their attributes, and the text of a page."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.words: list[str] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("sheet") / "sheet.html"
    assert tear_sheet(RETURNS, path, BENCHMARK, DAYS, "Value <b>&</b> carry") == path
    assert list(path.parent.iterdir()) == [path]  # no half-written file is left
    return Page(path)


def test_nothing_comes_from_outside(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "base")
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href"):
                assert value.startswith("#"), (tag, value)
    outside = re.findall(r"https?://\S+", page.source)
    assert all("w3.org" in address for address in outside), outside
    assert not re.findall(r"@import|url\((?!#)", page.source)


def test_page_holds_the_figures_of_the_tool(page: Page) -> None:
    result = backtest_metrics(RETURNS, benchmark=BENCHMARK, dates=DAYS)["result"]
    for name in ("total_return", "cagr", "max_drawdown", "var95_historical", "alpha"):
        assert f"{result[name]:,.2%}".replace("-", "−") in page.text, name
    for name in ("sharpe", "sortino", "beta", "information_ratio", "skew_unbiased"):
        assert f"{result[name]:,.2f}".replace("-", "−") in page.text, name
    assert f"{DAYS[0]} to {DAYS[-1]}, 60 periods" in page.text
    assert result["drawdown"]["trough"]["date"] in page.text


def test_plots_and_month_table(page: Page) -> None:
    labels = [a["aria-label"] for tag, a in page.tags if tag == "svg"]
    assert len(labels) == 4
    assert [text.split()[0] for text in labels] == ["Wealth", "Drawdown", "Sharpe", "Histogram"]
    for heading in ("Wealth", "Drawdown", "Rolling Sharpe ratio", "Returns", "Monthly returns"):
        assert heading in page.text
    signs = [a["data-sign"] for tag, a in page.tags if tag == "td" and "data-sign" in a]
    months = backtest_metrics(RETURNS, dates=DAYS)["result"]["monthly_returns"]
    cells = [v for year in months.values() for k, v in year.items() if k != "year"]
    assert signs == ["gain" if value >= 0 else "loss" for value in cells]
    identifiers = re.findall(r'\bid="([^"]+)"', page.source)
    assert len(identifiers) == len(set(identifiers))


def test_page_is_readable_on_a_phone_and_its_title_is_text(page: Page) -> None:
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        page.tags
    )
    assert "@media (max-width: 720px)" in page.source
    assert not [tag for tag, _ in page.tags if tag == "b"]
    assert "Value &lt;b&gt;&amp;&lt;/b&gt; carry" in page.source


def test_without_dates_and_benchmark_and_with_missing_figures(tmp_path: pathlib.Path) -> None:
    page = Page(tear_sheet([0.01] * 12, tmp_path / "plain.html"))
    assert "Monthly returns" not in page.text
    assert "Benchmark" not in page.text
    assert "Sharpe ratio: none, because the returns are constant (0.01)" in page.text
    assert "over 3 periods" in page.text
    assert "never fell below a former peak" in page.text
    prices = 100 * np.cumprod([1.0, *(1 + RETURNS)])
    days = [(datetime.date(2024, 1, 1) + datetime.timedelta(i)).isoformat() for i in range(61)]
    page = Page(
        tear_sheet(prices, tmp_path / "prices.html", dates=days, kind="prices",
                   periods_per_year=365, risk_free_rate=0.01, rolling_window=20)
    )  # fmt: skip
    assert "2024-01-01 to 2024-03-01, 60 periods" in page.text
    assert "365 periods a year; risk-free rate 1.00% a year" in page.text
    assert "over 20 periods" in page.text


def test_drawdown_episodes_are_the_falls_of_a_path() -> None:
    assert drawdown_episodes(np.array([0.1, -0.5, 1.0, 0.2, -0.1, 0.0])) == [
        (pytest.approx(-0.5), 1, 2, 3),
        (pytest.approx(-0.1), 4, 5, None),
    ]
    assert drawdown_episodes(np.array([0.1, 0.1])) == []
    assert drawdown_episodes(np.array([-0.2, 0.1]))[0][1:] == (0, 1, None)


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("prices_as_returns", {"returns": [100.0, 101.0, 102.0]}),
        ("missing_value", {"returns": [0.1, None, 0.2]}),
        ("length_mismatch", {"benchmark": [0.1, 0.2]}),
        ("length_mismatch", {"dates": DAYS[:5]}),
        ("window_too_long", {"rolling_window": 61}),
        ("cannot_write", {"path": "/nowhere/at/all.html"}),
    ],
)
def test_errors_in_words(tmp_path: pathlib.Path, code: str, call: dict[str, Any]) -> None:
    with pytest.raises(ToolError) as caught:
        tear_sheet(**{"returns": RETURNS, "path": tmp_path / "sheet.html", **call})
    assert caught.value.code == code
    assert caught.value.hint
    assert not list(tmp_path.iterdir())
