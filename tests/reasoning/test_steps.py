"""Ugly outputs of small models: the steps and the answer that a reader sees in them."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest

from lilith.reasoning.steps import extract_answer, is_loop, split_steps

CODE = "```python\ndef f(x):\n    # Step 1: not a step\n    return x\n\n\nprint(f(2))\n```"

# Output, its steps, the kind of its answer, the answer.
UGLY: list[tuple[str, list[str], str, str | None]] = [
    ("Step 1: a is 2.\nStep 2: b is 3.\nAnswer: 5", ["a is 2.", "b is 3."], "auto", "5"),
    ("Step 1. Add.\nStep 2. Halve.", ["Add.", "Halve."], "number", None),
    ("STEP 1 - Add\nSTEP 2 - Halve", ["Add", "Halve"], "auto", None),
    ("Step 1: a. Step 2: b. Step 3: c.", ["a.", "b.", "c."], "auto", None),
    ("**Step 1:** Add 2.\n**Step 2**: Get 4.\n**Answer: 4**", ["Add 2.", "Get 4."], "auto", "4"),
    ("**Step 1: Add**\nIt is 4.\n\n**Step 2: Halve**\nIt is 2.",
     ["Add**\nIt is 4.", "Halve**\nIt is 2."], "number", "2"),
    ("### Step 1: Add\n2 + 2 = 4\n### Step 2: Halve\n4 / 2 = 2",
     ["Add\n2 + 2 = 4", "Halve\n4 / 2 = 2"], "auto", "2"),
    ("Step 1:\nAdd them.\n\nStep 2:\nHalve it.", ["Add them.", "Halve it."], "auto", None),
    ("Step 1: one\n- part\n- part two\nStep 2: two",
     ["one\n- part\n- part two", "two"], "auto", None),
    ("step 1) add\nstep 2) halve", ["add", "halve"], "auto", None),
    ("Step 1: one\nStep 2:", ["one"], "auto", None),
    ("- Step 1: one\n- Step 2: two", ["one", "two"], "auto", None),
    ("1. Add 2 and 3.\n2. Get 5.\n#### 5", ["Add 2 and 3.", "Get 5."], "auto", "5"),
    ("1) Add\n2) Halve\nThe answer is 7.", ["Add", "Halve"], "auto", "7"),
    ("(1) Add\n(2) Halve", ["Add", "Halve"], "auto", None),
    ("**1.** Add\n**2.** Halve", ["Add", "Halve"], "auto", None),
    ("1. **Add** them\n2. **Halve** it", ["**Add** them", "**Halve** it"], "auto", None),
    ("1. Add 2. Halve 3. Done", ["Add", "Halve", "Done"], "auto", None),
    ("Here are the steps:\n1. Add\n2. Halve", ["Add", "Halve"], "auto", None),
    ("1. Add\n\n\n\n2. Halve\n\n", ["Add", "Halve"], "auto", None),
    ("First, add 2 and 3.\nThen, halve.\nFinally, 2.5.",
     ["First, add 2 and 3.", "Then, halve.", "Finally, 2.5."], "number", "2.5"),
    ("- add\n- halve\n- done", ["add", "halve", "done"], "auto", None),
    ("* add\n* halve", ["add", "halve"], "auto", None),
    ("• add\n• halve", ["add", "halve"], "auto", None),
    ("## Add\ntext\n## Halve\nmore", ["Add\ntext", "Halve\nmore"], "auto", None),
    ("We add.\n\nWe halve.\n\nSo the answer is 3.", ["We add.", "We halve."], "auto", "3"),
    ("We add.\nWe halve.", ["We add.", "We halve."], "auto", None),
    ("She has 5. She buys 3. So she has 8 eggs.",
     ["She has 5.", "She buys 3.", "So she has 8 eggs."], "auto", "8"),
    ("Mr. Lee has 3.5 kg. Dr. Wu has 2 kg.",
     ["Mr. Lee has 3.5 kg.", "Dr. Wu has 2 kg."], "number", "2"),
    ("Let's think step by step.\nStep 1: x = 2.", ["x = 2."], "auto", "2"),
    ("<think>\nI add 2.\n\nI get 4.\n</think>\n\nThe answer is 4.",
     ["I add 2.", "I get 4."], "auto", "4"),
    ("<think>It is 7, the answer is 7. No.</think>\n\\boxed{8}",
     ["It is 7, the answer is 7. No."], "auto", "8"),
    ("<think>\nStep 1: a\nStep 2: the answer is 9", ["a", "the answer is 9"], "auto", "9"),
    (f"Step 1: write\n{CODE}\nStep 2: run", [f"write\n{CODE}", "run"], "code", CODE[10:-4]),
    (CODE, [CODE], "code", CODE[10:-4]),
    ("```\na = 1\n```\nBetter:\n```py\na = 2\n```",
     ["```\na = 1\n```", "Better:", "```py\na = 2\n```"], "code", "a = 2"),
    ("```python\nx = 1\ny = ", ["```python\nx = 1\ny ="], "code", "x = 1\ny = "),
    ("def f():\n    return 1", ["def f():", "return 1"], "code", "def f():\n    return 1"),
    ("No code here.", ["No code here."], "code", None),
    ("Thus \\boxed{42}.", ["Thus \\boxed{42}."], "auto", "42"),
    ("So $\\boxed{\\frac{1}{2}}$", ["So $\\boxed{\\frac{1}{2}}$"], "auto", "1/2"),
    ("\\boxed{\\text{(C)}}", ["\\boxed{\\text{(C)}}"], "choice", "C"),
    ("\\boxed{42", ["\\boxed{42"], "number", "42"),
    ("We get\n\\[\n2 + 2\n\n= 4\n\\]\nThe answer is $4$.", ["We get", "\\[\n2 + 2\n\n= 4\n\\]"],
     "auto", "4"),
    ("The answer is \\(\\frac{3}{4}\\).", ["The answer is \\(\\frac{3}{4}\\)."], "number", "3/4"),
    ("The answer is $1,234.50.", ["The answer is $1,234.50."], "number", "1234.50"),
    ("The answer is $1,234.50.", ["The answer is $1,234.50."], "auto", "$1,234.50"),
    ("Answer: −5", ["Answer: −5"], "number", "-5"),
    ("Answer: -$5.", ["Answer: -$5."], "number", "-5"),
    ("Answer: 50%", ["Answer: 50%"], "number", "50%"),
    ("Answer: 50 percent of them", ["Answer: 50 percent of them"], "number", "50%"),
    ("Answer: 12 km/h.", ["Answer: 12 km/h."], "auto", "12 km/h"),
    ("Final answer: 18 eggs.", ["Final answer: 18 eggs."], "number", "18"),
    ("**Final Answer:** 18", ["**Final Answer:** 18"], "auto", "18"),
    ("### Final Answer\n18", ["### Final Answer", "18"], "number", "18"),
    ("Step 1: Add\n\n### Final Answer\n18", ["Add"], "number", "18"),
    ("The answer is 5. Wait, the answer is 6.",
     ["The answer is 5.", "Wait, the answer is 6."], "auto", "6"),
    ("The final answer is: 2 + 3 = 5.", ["The final answer is: 2 + 3 = 5."], "number", "5"),
    ("The answer is 10 because 2 * 5 is 10.", ["The answer is 10 because 2 * 5 is 10."],
     "auto", "10"),
    ("The answer is", ["The answer is"], "auto", None),
    ("The answer is not 5.", ["The answer is not 5."], "auto", None),
    ("Answer:", ["Answer:"], "number", None),
    ("", [], "auto", None),
    ("\n\n \n", [], "number", None),
    ("I do not know.", ["I do not know."], "number", None),
    ("42", ["42"], "auto", "42"),
    ("$18", ["$18"], "number", "18"),
    ("5 + 3 = 8", ["5 + 3 = 8"], "auto", "8"),
    ("10 / 4 = **2.5**", ["10 / 4 = **2.5**"], "auto", "2.5"),
    ("It costs 5 * 3 = $15.", ["It costs 5 * 3 = $15."], "auto", "15"),
    ("The answer is (B).", ["The answer is (B)."], "choice", "B"),
    ("The answer is (B).", ["The answer is (B)."], "auto", "B"),
    ("The correct option is B) Paris", ["The correct option is B) Paris"], "choice", "B"),
    ("I think option b is right.", ["I think option b is right."], "choice", "B"),
    ("B. Paris", ["B. Paris"], "choice", "B"),
    ("**C**", ["**C**"], "choice", "C"),
    ("Not (A), since it is cold; (D) fits.", ["Not (A), since it is cold; (D) fits."],
     "choice", "D"),
    ("Answer: a", ["Answer: a"], "choice", "A"),
    ("A dog is an animal.", ["A dog is an animal."], "auto", None),
    ("The answer is a dog.", ["The answer is a dog."], "auto", "a dog"),
    ("The capital is Paris.\nAnswer: Paris.", ["The capital is Paris."], "text", "Paris"),
    ("Answer: \"Paris\"", ["Answer: \"Paris\""], "text", "Paris"),
    ("Paris", ["Paris"], "text", "Paris"),
    ("Answer: 4\n\nQuestion: What is 5 + 5?\nAnswer: 10",
     ["Answer: 4"], "number", "4"),
    ("#### 1,000", ["#### 1,000"], "number", "1000"),
    ("Natalia sold 48/2 = <<48/2=24>>24 clips.\n#### 72",
     ["Natalia sold 48/2 = <<48/2=24>>24 clips."], "auto", "72"),
    ("Step 1: same\nStep 2: same\nStep 3: same", ["same", "same", "same"], "auto", None),
    ("Windows:\r\n1. Add\r\n2. Halve\r\nAnswer: 3\r\n", ["Windows:", "Add", "Halve"], "auto", "3"),
    ("The answer is 3/4 of a cup.", ["The answer is 3/4 of a cup."], "number", "3/4"),
    ("The answer is 2 1/2.", ["The answer is 2 1/2."], "number", "2 1/2"),
    ("The answer is approximately 3.33.", ["The answer is approximately 3.33."], "number", "3.33"),
    ("x = 5\nTherefore, x is 5.", ["x = 5", "Therefore, x is 5."], "number", "5"),
    ("The total is 1e3.", ["The total is 1e3."], "number", "1e3"),
    ("There are 3 cats and 4 dogs", ["There are 3 cats and 4 dogs"], "auto", None),
]  # fmt: skip


def test_the_table_is_as_long_as_it_should_be() -> None:
    assert len(UGLY) >= 80


@pytest.mark.parametrize(("text", "steps"), [row[:2] for row in UGLY])
def test_steps_are_those_a_reader_sees(text: str, steps: list[str]) -> None:
    assert split_steps(text) == steps


@pytest.mark.parametrize(("text", "kind", "answer"), [(r[0], r[2], r[3]) for r in UGLY])
def test_the_answer_is_the_one_that_is_stated(text: str, kind: str, answer: str | None) -> None:
    assert extract_answer(text, kind) == answer


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="kind is 'numbr'"):
        extract_answer("5", "numbr")


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("I add 2.\n" * 4, True),
        ("I add 2.\n" * 3, False),
        ("Step 1: I add.\nStep 2: I add.\nStep 3: I add.\nStep 4: I add.", True),
        ("a b c d. " * 20, True),
        ("First we add the two.\nThen we halve it.\n" * 5 + "First we", True),
        ("So 1/3 = 0." + "3" * 60, True),
        ("----" * 30, False),
        ("}\n}\n}\n}\n}", False),
        ("Step 1: 2 + 3 = 5\nStep 2: 5 + 1 = 6\nStep 3: 6 * 2 = 12\nStep 4: 12 - 2 = 10", False),
        ("", False),
        ("ok ok ok", False),
    ],
)
def test_loops_are_seen(text: str, loops: bool) -> None:
    assert is_loop(text) is loops


def test_code_is_never_split() -> None:
    steps = split_steps(f"1. First\n{CODE}\n2. Second\n```\n1. in\n2. code\n```")
    assert steps == [f"First\n{CODE}", "Second\n```\n1. in\n2. code\n```"]


PIECES = [
    *("Step 1:", "1. ", "- ", "**", "```", "\n", "\n\n", "$", "\\boxed{", "}", "The answer is "),
    *("#### ", "= 4", "(B)", "<think>", "</think>", "word ", "First, ", "1/2", "−3", "."),
]
LONG = [
    *("**", "\n", "1. ", "= ", "$", "(", "the answer is ", "{", "```\n", "a", "1", " ", "\\["),
    *("Step 1: ", "is : ", "#", "answer "),
]


@hypothesis.given(st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=25).map("".join))
@hypothesis.settings(max_examples=150, deadline=None)
def test_any_text_is_taken_apart(text: str) -> None:
    steps = split_steps(text)
    assert all(step and step == step.strip() for step in steps)
    for kind in ("auto", "number", "choice", "text", "code"):
        answer = extract_answer(text, kind)
        assert answer is None or answer.strip()
    assert is_loop(text) in (True, False)
    assert not steps or "".join(steps).strip()


@pytest.mark.parametrize("piece", LONG)
def test_long_texts_end(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    split_steps(text)
    for kind in ("auto", "number", "choice", "code"):
        extract_answer(text, kind)
    is_loop(text)
