"""What the pages tell a person to type is read by the scripts, and their prices are the table's."""

from __future__ import annotations

import re
import shlex

import pytest
from launch_machine import LAUNCH, ROOT, Machine

from experiments.run import load_config

PAGES = ("running_on_tpu.md", "colab.md")
SCRIPTS = {f"launch/{path.relative_to(LAUNCH)}" for path in LAUNCH.rglob("*.sh")}
# Where the arguments of a run begin in a line, up to its end or the quotation mark around it.
RUN = re.compile(r'(?:-m experiments\.run| --) (--config [^"]*)')
# Of the bucket, GKE's fee and traffic: the page says of each that it is to be checked.
OTHER_PRICES = {"0.02", "0.10", "0.12", "6.50"}


def text_of(page: str) -> str:
    return (ROOT / "docs" / page).read_text()


def lines_of(page: str) -> list[str]:
    """The lines of a page's code blocks, without comments, continued lines as one."""
    blocks = re.findall(r"^ *```\n(.*?)^ *```", text_of(page), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [" ".join(shlex.split(line, comments=True, posix=False)) for line in lines]


LINES = [line for page in PAGES for line in lines_of(page)]
SCRIPT_LINES = [line for line in LINES if line.split(" ")[0] in SCRIPTS]
RUN_LINES = [found[1] for line in LINES if (found := RUN.search(line))]


@pytest.mark.parametrize("line", SCRIPT_LINES)
def test_a_line_of_a_script_is_one_that_it_takes(machine: Machine, line: str) -> None:
    line = line.replace("MY-BUCKET", "my-bucket").replace("/shared", str(machine.folder))
    script, command, *words = shlex.split(line.replace(" --dry-run", ""))
    if "tpu_vm.sh" in script and command != "create":  # what create would have noted
        noted = "--project p --type v5p-8 --zone us-east5-a --workdir gs://my-bucket/x"
        words[1:1] = shlex.split(noted)
    at = words.index("--") if "--" in words else len(words)
    words[at:at] = ["--dry-run"]
    ended = machine.run(script.removeprefix("launch/"), command, *words)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout


@pytest.mark.parametrize("arguments", RUN_LINES)
def test_a_line_of_a_run_names_a_config_and_fields_that_there_are(arguments: str) -> None:
    words = shlex.split(arguments)
    settings: list[str] = []
    if "--set" in words:
        settings = words[words.index("--set") + 1 :]
        settings = settings[: next((i for i, x in enumerate(settings) if x[:2] == "--"), None)]
        assert settings
    load_config(words[1], settings)


def test_there_are_lines_to_try() -> None:
    assert {line.split(" ")[0].rpartition("/")[2] for line in SCRIPT_LINES} == {
        "tpu_vm.sh", "gke.sh", "submit.sh",
    }  # fmt: skip
    assert len(RUN_LINES) >= 7


def test_the_prices_are_the_table_s() -> None:
    table = (LAUNCH / "gcp" / "prices.tsv").read_text()
    known = {tuple(row[:2]): row[2:] for row in map(str.split, table.splitlines()) if len(row) == 4}
    text = text_of("running_on_tpu.md")
    rows = re.findall(r"^\| `(\w+)-\d+` \| (\d+), \d+ \| (.*) \|$", text, re.MULTILINE)
    assert len(rows) == 4
    shown = set()
    for kind, chips, prices in rows:
        each = [*known[kind, "us-east5"], known[kind, "us-central1"][1]]
        wanted = [f"{int(chips) * float(price):.2f}" for price in each]
        assert re.findall(r"\$([\d.]+)", prices) == wanted, kind
        shown.update(wanted)
    assert set(re.findall(r"\$(\d+\.\d\d)\b", text)) <= shown | OTHER_PRICES
    date = re.search(r"prices\.tsv\), dated ([\d-]+)", text)
    assert date is not None
    assert f"date: {date[1]}\n" in table


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text_of(page)):
        assert (ROOT / "docs" / target).exists(), target
    for name in re.findall(r"`(\w+\.ipynb)`", text_of(page)):
        assert (LAUNCH / "colab" / name).exists(), name
