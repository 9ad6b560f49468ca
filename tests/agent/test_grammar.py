"""Well-formed calls: whatever a model likes best, its calls parse and validate."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from lilith.agent.function_tool import tool
from lilith.agent.grammar import CallGrammar
from lilith.agent.grammar_keys import KeyTracker
from lilith.agent.grammar_numbers import number_regex
from lilith.agent.registry import ToolRegistry, create_quant_tools
from lilith.agent.tool_calls import read_calls
from lilith.agent.tool_results import References
from lilith.config import TokenizerConfig, UserError
from lilith.inference import sampler
from lilith.inference.language_model import LanguageModel
from lilith.model.params import init_params
from lilith.model.presets import PRESETS
from lilith.quant.tool import Answer, Parameter, Tool
from lilith.tokenizer import ByteTokenizer, HuggingFaceTokenizer, train_sentencepiece
from lilith.tokenizer.hugging_face import byte_level_alphabet

BYTES = ByteTokenizer()
OPEN = "<tool_call>"
CONFIG = dataclasses.replace(PRESETS["tiny"], compute_dtype="float32", context=1000)


def byte_level_json(*merged: str) -> str:
    """A byte-level BPE without special tokens for calls, with some merges."""
    letters = list(byte_level_alphabet())
    vocabulary = {letter: i for i, letter in enumerate(letters)}
    merges = []
    for word in merged:
        for size in range(2, len(word) + 1):
            if word[:size] not in vocabulary:
                vocabulary[word[:size]] = len(vocabulary)
                merges.append(f"{word[: size - 1]} {word[size - 1]}")
    ids = {"id": len(vocabulary), "content": "<|im_end|>", "special": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": False}  # fmt: skip
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "added_tokens": [{**ids, **flags}], "pre_tokenizer": level, "decoder": level,
        "post_processor": None,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    })  # fmt: skip


@pytest.fixture(scope="module")
def quant_tools():
    with create_quant_tools(others=True) as made:
        yield made


@pytest.fixture(scope="module", params=["bytes", "huggingface", "sentencepiece"])
def tokenizer(request):
    if request.param == "bytes":
        return BYTES
    if request.param == "huggingface":
        return HuggingFaceTokenizer(
            byte_level_json("<tool_call", '{"name', "><", "arguments", ">x")
        )
    texts = ['{"name": "black_scholes", "arguments": {"spot": 100, "rate": 0.05}}\n <b> ok'] * 50
    return train_sentencepiece(texts, TokenizerConfig(vocab=400))


def chosen(grammar, tokenizer, rng, budget, prompt=f"go {OPEN}"):
    """A row of random likings, as an unfortunate model would write it."""
    state = grammar.start(tokenizer.encode(prompt, allow_special=True))
    likes = 3 * rng.normal(size=tokenizer.vocab_size)
    out = []
    while state.is_open and len(out) < budget:
        allowed = state.allowed(budget - len(out))
        bits = np.unpackbits(allowed.view(np.uint8), bitorder="little")[: tokenizer.vocab_size] > 0
        scores = np.where(bits, likes + 2 * rng.normal(size=len(likes)), -np.inf)
        assert np.isfinite(scores).any()
        out.append(int(scores.argmax()))
        state.accept(out[-1])
    return tokenizer.decode(tokenizer.encode(prompt, allow_special=True) + out)


def test_two_hundred_calls_from_random_likings_parse_and_validate(quant_tools, tokenizer):
    grammar = CallGrammar(tokenizer, quant_tools)
    rng = np.random.default_rng(0)
    names = set()
    for number in range(200):
        budget = (grammar.reserve, 120, 250)[number % 3]
        (call,) = read_calls(chosen(grammar, tokenizer, rng, budget)).calls
        assert call.error is None, call
        quant_tools[call.name].validate(**call.arguments)
        names.add(call.name)
    assert len(names) > 8


@pytest.fixture(scope="module")
def model():
    # Sharper than at the start, so that greedy choices are not near ties.
    params = jax.tree.map(lambda x: 1.5 * x, init_params(0, CONFIG))
    return LanguageModel(params, CONFIG, BYTES)


@pytest.fixture(autouse=True)
def nothing_kept(request):
    if "model" in request.fixturenames:
        request.getfixturevalue("model").engine.forget()


def prompt_ids(text=f"call {OPEN}"):
    return BYTES.encode(text, allow_special=True)


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.5, "top_p": 0.9, "top_k": 40}])
def test_a_tiny_models_calls_parse_and_validate(model, quant_tools, settings):
    grammar = CallGrammar(BYTES, quant_tools)
    prompts = [prompt_ids(f"{word} {OPEN}") for word in ("price", "plan", "x", "stats")]
    answers = model.generate_batch(prompts, max_tokens=150, grammar=grammar, **settings)
    for answer in answers:
        call = read_calls(OPEN + answer.text).calls[0]
        assert call.error is None, answer.text
        quant_tools[call.name].validate(**call.arguments)


def test_nothing_compiles_for_another_set_of_tools(model, quant_tools):
    def generate(registry):
        grammar = CallGrammar(BYTES, registry)
        return model.generate_batch([prompt_ids()], max_tokens=100, grammar=grammar)[0].text

    first = generate(quant_tools)
    compiled = sampler.decode._cache_size(), sampler.start._cache_size()
    second = generate(quant_tools.only(["heston_option"]))
    assert (sampler.decode._cache_size(), sampler.start._cache_size()) == compiled
    assert "heston_option" in second
    assert first != second


def test_log_probs_are_the_models_own(model, quant_tools):
    grammar = CallGrammar(BYTES, quant_tools.only(["calculator"]))
    (answer,) = model.generate_batch([prompt_ids()], max_tokens=70, grammar=grammar)
    (true,) = model.engine.log_probs(prompt_ids(), [answer.tokens])
    np.testing.assert_allclose(answer.log_probs, true, atol=1e-3)
    assert min(answer.log_probs) < -2  # the grammar had to change its mind


def test_outside_of_calls_nothing_changes(model, quant_tools):
    grammar = CallGrammar(BYTES, quant_tools)
    for settings in ({}, {"temperature": 1.0, "seed": 3}):
        plain = model.generate_batch(["hello", "a < b"], max_tokens=100, **settings)
        model.engine.forget()
        held = model.generate_batch(["hello", "a < b"], max_tokens=100, grammar=grammar, **settings)
        for one, other in zip(plain, held):
            calls = BYTES.special_tokens[OPEN]
            end = one.tokens.index(calls) if calls in one.tokens else len(one.tokens)
            assert one.tokens[:end] == other.tokens[:end]


class Scripted:
    """Logits that follow a script as far as a grammar lets them."""

    def __init__(self, grammar, tokenizer, script):
        self.state = grammar.start(tokenizer.encode("p"))
        self.tokenizer, self.script = tokenizer, tokenizer.encode(script, allow_special=True)

    def refused(self, budget=500):
        """The text before the first token that is not allowed; None where all are."""
        for number, token in enumerate(self.script):
            allowed = self.state.allowed(budget - number)
            if allowed is not None and not allowed[token // 32] >> (token % 32) & 1:
                return self.tokenizer.decode(self.script[:number])
            self.state.accept(token)
        return None


CALL = (
    '{"name": "black_scholes", "arguments": {"spot": 100, "strike": 105.5, "time": 0.25, "rate": '
)


@pytest.mark.parametrize(
    ("script", "stops"),
    [
        (f"text a < b <tool {OPEN}\n{CALL}0.05, \"volatility\": 0.2}}}}\n</tool_call> and more", None),  # noqa: E501
        (f"{OPEN}\n{CALL}-0.05, \"volatility\": 0.2, \"option_type\": \"put\"}}}}\n</tool_call>", None),  # noqa: E501
        (f"{OPEN}{CALL}0.05, \"volatility\": 0.2}}}}</tool_call>", None),
        (f"{OPEN}\nprice it", f"{OPEN}\n"),
        (f"{OPEN}\n{{\"name\": \"sabr", f"{OPEN}\n{{\"name\": \""),
        (f"{OPEN}\n{CALL}0.05}}}}", f"{OPEN}\n{CALL}0.05"),
        (f"{OPEN}\n{CALL}0.05, \"volatility\": -1", f"{OPEN}\n{CALL}0.05, \"volatility\": "),
        (f"{OPEN}\n{CALL}\"5%\"", f"{OPEN}\n{CALL}"),
        (f"{OPEN}\n{CALL}0.05, \"volatility\": 0.2}}}}\n</tool_call>"
         f"{OPEN}\n{{\"name\": \"calculator\", \"arguments\": {{\"expression\": \"1 < 2\"}}}}\n</tool_call>",  # noqa: E501
         None),
    ],
)  # fmt: skip
def test_only_the_json_of_a_granted_tool_follows(quant_tools, tokenizer, script, stops):
    grammar = CallGrammar(tokenizer, quant_tools.only(["black_scholes", "calculator"]))
    refused = Scripted(grammar, tokenizer, script).refused()
    if stops is None:
        assert refused is None
    else:
        assert refused is not None
        assert refused.startswith(stops[:-1]) or stops.startswith(refused)
        assert len(refused) < len(script)


def test_a_special_token_can_not_stand_in_an_argument(quant_tools):
    grammar = CallGrammar(BYTES, quant_tools.only(["calculator"]))
    script = f'{OPEN}{{"name": "calculator", "arguments": {{"expression": "<|im_end|>'
    assert Scripted(grammar, BYTES, script).refused() == script.removesuffix("<|im_end|>")


def test_no_call_opens_where_it_could_not_end(quant_tools, tokenizer):
    grammar = CallGrammar(tokenizer, quant_tools)
    script = f"ok {OPEN}"
    assert Scripted(grammar, tokenizer, script).refused(budget=20) is not None
    assert Scripted(grammar, tokenizer, script).refused(budget=500) is None


def test_names_stand_once_and_rows_are_equally_long():
    def optimise(returns, notes):
        return Answer({})

    made = Tool("optimise", "x", (
        Parameter("returns", "table", "x", least=2), Parameter("notes", "object", "x"),
    ), optimise)  # fmt: skip
    grammar = CallGrammar(BYTES, ToolRegistry([made]))
    head = f'{OPEN}{{"name": "optimise", "arguments": {{"returns": '

    def refused(text):
        found = Scripted(grammar, BYTES, head + text).refused()
        return None if found is None else found.removeprefix(head)

    assert refused('{"A": [1, 2], "B": [3, 4]}, "notes": {"a": {"b": 1}, "b": [1]}}}') is None
    assert refused("[[1, 2, 3], [4, 5, 6]]") is None
    assert refused('{"A": [1, 2], "A": [3, 4]}') == '{"A": [1, 2], "A'
    assert refused('{"A": [1, 2], "AB": [3, 4]}, "no') is None
    assert refused('{"A": [1, 2], "B": [3]') == '{"A": [1, 2], "B": [3'
    assert refused('{"A": [1, 2], "B": [3, 4, 5]') == '{"A": [1, 2], "B": [3, 4'
    assert refused('{"A": [1]') == '{"A": [1'
    assert refused("[[1, 2], [3]]") == "[[1, 2], [3"
    # Every list after the second is as long as those before, too.
    three = '{"A": [1, 2, 3], "B": [4, 5, 6], "C": [7'
    assert refused(f'{three}, 8, 9], "D": [1, 2, 3], "E": [4, 5, 6]}}, "no') is None
    assert refused(f"{three}]") == three
    assert refused(f'{three}, 8, 9], "D": [1, 2]') == f'{three}, 8, 9], "D": [1, 2'
    assert refused(f'{three}, 8, 9], "D": [1, 2, 3, 4') == f'{three}, 8, 9], "D": [1, 2, 3'
    assert refused("[[1, 2], [3, 4], [5, 6], [7, 8]]") is None
    assert refused("[[1, 2]]") == "[[1, 2]"
    assert refused('{"date": [1, 2]') == '{"date'
    assert (
        refused('{"A": [1, 2]}, "notes": {"a": 1, "a": 2}') == '{"A": [1, 2]}, "notes": {"a": 1, "a'
    )


def test_kept_values_are_offered_where_they_fit():
    @tool
    def total(numbers: list[float], label: str) -> float:
        """The sum."""
        return sum(numbers)

    references = References()
    references.keep([1.0, 2.0])
    grammar = CallGrammar(BYTES, ToolRegistry([total]), references=references)
    head = f'{OPEN}{{"name": "total", "arguments": {{"numbers": '
    assert Scripted(grammar, BYTES, head + '{"ref": "r1"}, "label": "x"').refused() is None
    wrong = head + '{"ref": "r1"}, "label": {"ref"'
    assert (
        Scripted(grammar, BYTES, wrong).refused() == wrong[: wrong.index('{"ref"', len(head) + 9)]
    )
    assert Scripted(grammar, BYTES, head + '{"ref": "r2"}').refused() is not None


BOUNDS = [
    {"minimum": 0}, {"exclusiveMinimum": 0}, {"minimum": 0, "maximum": 1},
    {"exclusiveMinimum": 0, "exclusiveMaximum": 1}, {"minimum": -1, "maximum": 1},
    {"exclusiveMinimum": -1, "exclusiveMaximum": 1}, {"exclusiveMinimum": -1},
    {"minimum": 0.05, "maximum": 12.5}, {"exclusiveMinimum": 0.05, "exclusiveMaximum": 12.5},
    {"minimum": 2, "maximum": 4096}, {"maximum": -3}, {"exclusiveMaximum": 0},
    {"minimum": -20.5, "maximum": -0.5}, {"minimum": 100, "exclusiveMaximum": 1000}, {},
]  # fmt: skip
WRITTEN = [
    "0", "1", "-1", "0.0", "1.0", "-1.0", "0.05", "0.049", "0.0500", "0.051", "12.5", "12.50",
    "12.51", "12.4", "12", "13", "2", "1.9", "4096", "4097", "4096.0", "9999", "-3", "-2.9",
    "-3.1", "-0.5", "-0.49", "-20.5", "-20.6", "-21", "-100", "100", "99.9", "999.9", "1000", "0.5",
    "0.999", "0.000001", "-0.999999", "123456789012", "10", "-10", "20",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["number", "integer"])
@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_numbers_keep_their_bounds_exactly(kind, bounds):
    import llguidance

    from lilith.agent.grammar import TokenBytes

    rules = f"start: TEXT\nTEXT: {number_regex({'type': kind, **bounds})}\n"
    grammar = llguidance.LLMatcher.grammar_from_lark(rules)
    matcher = llguidance.LLMatcher(TokenBytes(BYTES).engine, grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    for text in WRITTEN:
        value = float(text)
        right = (
            bounds.get("minimum", -math.inf) <= value <= bounds.get("maximum", math.inf)
            and bounds.get("exclusiveMinimum", -math.inf) < value
            and value < bounds.get("exclusiveMaximum", math.inf)
        )
        if kind == "integer" and "." in text:
            right = False
        own = matcher.deep_copy()
        taken = own.try_consume_tokens(list(text.encode())) == len(text) and own.is_accepting()
        assert taken == right, (text, bounds)


def test_names_are_followed_through_nested_json():
    keys = KeyTracker()
    keys.feed(b'{"a": [{"b": "x\\"y", "c": 1}], "b": {"a": 2}, "')
    assert keys.may_repeat
    assert keys.repeats(b'a"')
    assert keys.repeats(b'b": 1')
    assert not keys.repeats(b'c"')
    assert not keys.repeats(b"a")
    other = keys.copy()
    other.feed(b'c": "')
    assert not other.repeats(b'a"')
    assert keys.repeats(b'a"')


def test_what_makes_no_grammar_is_said():
    with pytest.raises(UserError, match="no tool, so no call"):
        CallGrammar(BYTES, ToolRegistry())
    state = CallGrammar(BYTES, create_quant_tools().only(["calculator"])).start(prompt_ids())
    with pytest.raises(UserError, match="not allowed within a tool call"):
        state.accept(ord("x"))
