"""How a GGUF file says that its BPE tokenizer cuts text into words: by a name.

``tokenizer.ggml.pre`` names a rule of some model's tokenizer.json. Each is given here as the steps
of the ``tokenizers`` library, those of the model's own file. (Qwen's also composes Unicode before
that; neither llama.cpp nor LILITH does, so that decoding gives the text back.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Step = dict[str, Any]

BYTE_LEVEL: Step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                    "use_regex": False}  # fmt: skip
_GPT2: Step = BYTE_LEVEL | {"use_regex": True}
_DIGITS: Step = {"type": "Digits", "individual_digits": True}


def _split(pattern: str) -> Step:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _words(letters: str, digits: str) -> str:
    """A word with the character before it, then digits, punctuation, line ends and spaces."""
    return rf"{letters}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


_ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_LLAMA3 = _split(_words(_ENGLISH, r"\p{N}{1,3}"))
_QWEN2 = _split(_words(_ENGLISH, r"\p{N}"))
_LEAD, _UPPER, _LOWER = (
    r"[^\r\n\p{L}\p{N}]?",
    r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}",
    r"\p{Ll}\p{Lm}\p{Lo}\p{M}",
)
_TEKKEN = _split(
    rf"{_LEAD}[{_UPPER}]*[{_LOWER}]+|{_LEAD}[{_UPPER}]+[{_LOWER}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_DEEPSEEK_CODER = (_split(r"[\r\n]"), _split(r"\s?\p{L}+"), _split(r"\s?\p{P}+"), _split(_CJK),
                   _split(r"\p{N}"))  # fmt: skip
# Letters with case, as of the Unicode that the rule was made with.
_CASED = (
    "A-Za-z\xb5\xc0-\xd6\xd8-\xf6\xf8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-"
    "\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5"
    "\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-"
    "\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d"
    "\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"
    "\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-"
    "\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f"
    "\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-"
    "\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-"
    "\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)  # fmt: skip
_DEEPSEEK_LLM = (_split(r"[\r\n]"), _split(rf"\s?[{_CASED}]+"),
                 _split("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"),
                 _split(r"\s+$"), _split(_CJK), _split(r"\p{N}+"))  # fmt: skip
_ASCII_MARKS = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"""
_DEEPSEEK_V3 = (
    _split(r"\p{N}{1,3}"),
    _split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
    _split(
        rf"{_ASCII_MARKS}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
)
# What llama.cpp does with files from before the key existed.
_UNNAMED = (
    _split(r"[\p{P}\$\+<=>\^~\|]+"),
    _split(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"),
    _split(r"\p{N}+"),
    _split(r"[0-9][0-9][0-9]"),
)
DEFAULT = "default"


@dataclass(frozen=True)
class PreTokenizer:
    """A rule: its steps, and what else the name says about the tokenizer."""

    steps: tuple[Step, ...]
    ignore_merges: bool = False  # a word that is a token stays whole, whatever the merges say
    add_bos: bool = False  # where the file does not say


PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r"), PreTokenizer((_DIGITS, _GPT2))),
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo"), PreTokenizer((_GPT2,))),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"),
        PreTokenizer((_LLAMA3, BYTE_LEVEL), ignore_merges=True, add_bos=True),
    ),
    **dict.fromkeys(("smaug-bpe", "dbrx"), PreTokenizer((_LLAMA3, BYTE_LEVEL))),
    **dict.fromkeys(
        ("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2"), PreTokenizer((_QWEN2, BYTE_LEVEL))
    ),
    "tekken": PreTokenizer((_TEKKEN, BYTE_LEVEL), ignore_merges=True, add_bos=True),
    "deepseek-llm": PreTokenizer((*_DEEPSEEK_LLM, BYTE_LEVEL)),
    "deepseek-coder": PreTokenizer((*_DEEPSEEK_CODER, BYTE_LEVEL)),
    "deepseek-v3": PreTokenizer((*_DEEPSEEK_V3, BYTE_LEVEL)),
    DEFAULT: PreTokenizer((*_UNNAMED, BYTE_LEVEL)),
}  # fmt: skip


def pre_tokenizer_node(rule: PreTokenizer) -> Step:
    """The rule as the ``pre_tokenizer`` of a tokenizer.json."""
    if len(rule.steps) == 1:
        return rule.steps[0]
    return {"type": "Sequence", "pretokenizers": list(rule.steps)}


def name_of(node: Any, ignore_merges: bool) -> str | None:
    """The name of the rule that a tokenizer.json spells out; None where there is none."""
    steps = node.get("pretokenizers", []) if node and node.get("type") == "Sequence" else [node]
    found = [_essential(step) for step in steps]
    for name, rule in PRE_TOKENIZERS.items():
        if rule.ignore_merges == ignore_merges and found == [
            _essential(step) for step in rule.steps
        ]:
            return name
    return None


def _essential(step: Any) -> Any:
    """A step without what does not change the words."""
    if not isinstance(step, dict):
        return step
    return {key: value for key, value in step.items() if key not in ("trim_offsets", "invert")}
