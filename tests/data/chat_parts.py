"""Small tokenizers and templates for the tests of conversations."""

from __future__ import annotations

import functools
import json

import tokenizers

from lilith.tokenizer import HuggingFaceTokenizer
from lilith.tokenizer.chat_template import ChatTemplate

# As SmolLM2's: a system prompt of its own, any role, and nothing about tools.
PLAIN = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a small model.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OPENING = "<|im_start|>system\nYou are a small model.<|im_end|>\n"
# As Llama's: calls within "function", answers in JSON, text trimmed, no description of tools.
FUNCTIONS = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.tool_calls %}{{ m.tool_calls[0].function | tojson }}"
    "{% elif m.role == 'tool' %}{{ m.content | tojson }}{% else %}{{ m.content | trim }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, bos="<|bos|>")


@functools.cache
def small_bpe(style: str = "byte_level") -> HuggingFaceTokenizer:
    """A byte-level BPE with a token for two newlines; or one that puts a space before any text."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    byte_level = style == "byte_level"
    built = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=not byte_level))
    names = list(special)
    initial: list[str] = []
    if byte_level:
        built.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        built.decoder = tokenizers.decoders.ByteLevel()
        initial = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    else:
        names += [f"<0x{value:02X}>" for value in range(256)]
        built.normalizer = tokenizers.normalizers.Sequence(
            [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
        )
        built.decoder = tokenizers.decoders.Sequence(
            [tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.ByteFallback(),
             tokenizers.decoders.Fuse(), tokenizers.decoders.Strip(" ", 1, 0)]
        )  # fmt: skip
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600, special_tokens=names, initial_alphabet=initial, show_progress=False
    )
    text = "system\n\nuser\n\nassistant\n\n\ntool the answer is four, hello there 2 + 2\n\n\n\n"
    built.train_from_iterator([text] * 20, trainer)
    content = json.loads(built.to_str())
    content["added_tokens"] = content["added_tokens"][: len(special)]
    return HuggingFaceTokenizer(json.dumps(content))


def chat(*turns: str, system: str = "") -> list[dict[str, str]]:
    """Users and assistants in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    return [{"role": "system", "content": system}, *messages] if system else messages
