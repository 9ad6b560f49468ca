"""The report: self-contained, escaped, and rendered from whatever a run has written so far."""

import html.parser
import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from experiments.plots import PAGE_COLOURS, Series, bar_chart, line_chart, smooth
from experiments.report import ReportError, render_report, write_report, write_samples
from lilith.train.metrics import MetricsWriter

CONFIG = {
    "name": "nano <i>",
    "stage": "pretrain",
    "model": {"layers": 6, "d_model": 256, "heads": 8, "kv_heads": 4, "vocab": 4096},
    "data": {"length": 512, "sources": [{"name": "stdlib"}, {"name": "package_docs"}]},
    "train": {"steps": 1200},
}
METRICS = [
    {"step": step, "loss": 8 / step, "learning_rate": 1e-3, "gradient_norm": 1.0,
     "tokens_per_second": 2e4 + step}
    for step in range(1, 101)
] + [{"step": 100, "validation_loss": 2.25, "validation_bits_per_byte": 1.5}]  # fmt: skip
HOSTILE = "</mark></pre><script>alert(1)</script>&amp;\x00\x1b[31m \ud800"
SAMPLES = [
    {"step": 50, "prompt": "def ", "text": "early"},
    {"step": 100, "prompt": "def ", "text": "def f(x):\n    return x"},
    {"step": 100, "prompt": HOSTILE, "text": HOSTILE + "tail"},
]
SUMMARY = {
    "parameters": 5_406_976,
    "tokens": 9_830_400,
    "wall_seconds": 487.3,
    "packing_waste": 0.0123,
    "baselines": {"model": 1.5, "xz -9": 1.25, "byte 5-gram": 2.0},
    "corpus": [
        {"source": "stdlib<b>", "documents": 1725, "bytes": 31303050, "tokens": 9, "share": 0.9},
        {"source": "docs", "documents": 4, "bytes": None, "share": 0.1},
    ],
    "tokenizer": {"bytes_per_token": 3.1},
    "versions": {"jax": "0.10.2"},
    "device_count": 2,
}


VOID = {"meta", "br", "hr", "link", "img", "input"}  # elements without an end


class Page(html.parser.HTMLParser):
    """Checks that elements nest, and keeps their names, ids, references and text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.ids, self.attributes, self.texts = [], [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="module")
def full():
    return render_report(CONFIG, METRICS, SAMPLES, SUMMARY)


def test_the_whole_report_says_what_the_run_was(full):
    text = Page(full).text
    for words in (
        "nano <i>", "6 layers, width 256, 8 query and 4 key/value heads", "stdlib and package_docs",
        "in rows of 512 tokens", "wastes 1.2% of the tokens", "5.41 million", "9.83 million",
        "100/1,200", "8m07s", "2.250", "20,051",
        "bits per byte of held-out text: 20.0% more than xz -9 and 25.0% fewer than byte 5-gram.",
        "this model 1.500 18.8%", "Learning rate", "Throughput", "Gradient norm",
        "stdlib<b> 1,725 31,303,050 9 90.0%", "docs 4 – – 10.0%",
        "bytes_per_token 3.1", "jax 0.10.2", "device count 2", '"d_model": 256',
    ):  # fmt: skip
        assert words in text, words
    assert "Not in this report" not in text


def test_it_is_one_file_that_asks_for_nothing(full):
    page = Page(full)
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    addresses = [value for _, value in page.attributes if value and "://" in value]
    assert set(addresses) == {"http://www.w3.org/1999/xlink"}  # a name, not a place to load from
    assert "@import" not in full
    assert "@font-face" not in full
    assert all(match.startswith("#") for match in re.findall(r"url\(([^)]*)\)", full))


def test_ids_are_unique_and_references_hold(full):
    page = Page(full)
    assert len(page.ids) == len(set(page.ids))
    used = {v[1:] for name, v in page.attributes if name.endswith("href")}
    used |= {name[1:] for name in re.findall(r"url\(([^)]*)\)", full)}
    assert used
    assert used <= set(page.ids)


def test_untrusted_text_is_escaped_and_its_controls_are_visible(full):
    assert "<script" not in full
    assert "<i>" not in full
    assert "stdlib<b>" not in full
    assert "&lt;/mark&gt;&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;" in full
    assert "\\x00\\x1b[31m \\ud800" in full
    assert not re.search(r"[\x00-\x08\x0b-\x1f\ud800-\udfff]", full)


def test_samples_are_latest_first_with_the_prompt_marked_once(full):
    assert "<pre><mark>def </mark>f(x):\n    return x</pre>" in full
    assert "<pre><mark>def </mark>early</pre>" in full
    assert full.index("Step 100") < full.index("Step 50")
    assert "tail</pre>" in full


def test_charts_take_their_colours_from_the_page(full):
    charts = re.findall(r"<svg.*?</svg>", full, flags=re.DOTALL)
    assert len(charts) == 5
    for chart in charts:
        ElementTree.fromstring(chart)
        assert not any(placeholder in chart for placeholder in PAGE_COLOURS)
        colours = set(re.findall(r"(?:fill|stroke): ?([^;\"]+)", chart))
        assert colours <= {"none", "currentColor", "inherit"} | {
            f"var(--{name})" for name in ("grid", "accent", "second", "faint")
        }
    for variable in set(re.findall(r"var\((--\w+)\)", full)):
        assert full.count(f"{variable}:") == 2, f"{variable} for light and for dark"


def test_a_run_that_has_barely_begun(tmp_path):
    path = write_report(tmp_path)
    text = Page(path.read_text(encoding="utf-8")).text
    for name in ("config.json", "samples.json", "summary.json"):
        assert f"{name}: the run has not written it yet" in text
    assert "metrics.jsonl: no step has been logged yet" in text
    assert "A run without a name" in text
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_files_that_can_not_be_read_are_named(tmp_path):
    (tmp_path / "config.json").write_text('{"name": ')
    (tmp_path / "samples.json").write_text("{}")
    (tmp_path / "summary.json").write_bytes(b"\xff")
    (tmp_path / "metrics.jsonl").write_text("nonsense\n")
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "config.json can not be read: " in text
    assert "samples.json holds a dict; expected a list" in text
    assert "summary.json can not be read: " in text
    assert "is not a metrics record: b'nonsense'" in text


def test_the_report_is_made_from_the_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    write_samples(tmp_path, SAMPLES[:2])
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        for record in METRICS:
            writer.write(**record)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page == render_report(CONFIG, METRICS, SAMPLES[:2], SUMMARY)


def test_the_last_validation_stands_in_for_a_missing_result():
    records = [{"step": s, "validation_bits_per_byte": 3 - s} for s in (1, 2)]
    text = Page(render_report(None, records, None, {"baselines": {"xz -9": 2.0}})).text
    assert "1.000 bits per byte of held-out text: 50.0% fewer than xz -9." in text
    assert "bits per byte of held-out text" not in Page(render_report(None, [], None, None)).text


def test_values_that_are_not_numbers_leave_the_rest_standing():
    records = [
        {"step": 1, "loss": math.nan, "gradient_norm": math.inf},
        {"step": 2, "loss": 5.0},
    ]
    summary = {
        "parameters": "many",
        "baselines": {"model": math.nan, "x": None},
        "corpus": {"a": 1},
    }
    page = Page(render_report({"model": 3}, records, [{"step": 1}], summary))
    assert "Loss" in page.text
    assert "5.000" in page.text
    assert "Gradient norm" not in page.text


def test_a_long_run_stays_a_small_file():
    records = [{"step": s, "loss": 3 + s % 7 / 10} for s in range(1, 50_001)]
    assert len(render_report(CONFIG, records, [], {})) < 100_000


def test_a_folder_that_is_not_there_is_said_in_words(tmp_path):
    with pytest.raises(ReportError, match=r"cannot write .*report.html: No such file"):
        write_report(tmp_path / "absent")


def test_samples_to_read_keep_their_fences(tmp_path):
    nasty = [{"step": 3, "prompt": "```", "text": "```\n````\n# not a heading"}]
    path = write_samples(tmp_path, nasty)
    assert path.name == "samples.md"
    text = path.read_text(encoding="utf-8")
    assert "## Step 3\n\n`````text\n```\n````\n# not a heading\n`````\n" in text
    assert json.loads((tmp_path / "samples.json").read_text()) == nasty
    write_samples(tmp_path, SAMPLES)
    assert "def early" in path.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "samples.json").read_text()) == SAMPLES


def test_smoothing_keeps_length_and_ignores_one_bad_batch():
    values = np.linspace(9, 2, 400)
    np.testing.assert_allclose(smooth(values), values, atol=0.2)
    spiked = values.copy()
    spiked[200] = 1000
    np.testing.assert_allclose(smooth(spiked), values, atol=0.2)
    assert list(smooth([5.0])) == [5.0]


def test_charts_show_one_point_and_equal_input_gives_equal_output():
    def draw():
        return line_chart("one", "a <chart>", [Series("x", [1], [2.0])])

    assert draw() == draw()
    assert 'aria-label="a &lt;chart&gt;"' in draw()
    bars = bar_chart("bars", "bars", {"a": 1.0, "b <c>": 2.0}, highlight="a")
    assert "b &lt;c&gt;" in bars
    assert bars.count("var(--accent)") == 1


def test_importing_the_report_loads_no_plotting():
    code = (
        "import sys, experiments.report\n"
        "print([m for m in ('matplotlib', 'jinja2', 'jax', 'rich', 'scipy') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout == "[]\n"
