"""Chat templates in the manner of those that known models carry, and small tokenizers for them."""

from __future__ import annotations

import json

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

LLAMA_2 = """\
{% if messages[0]['role'] == 'system' %}\
{% set turns = messages[1:] %}{% set system = messages[0]['content'] %}\
{% else %}{% set turns = messages %}{% set system = false %}{% endif %}\
{% for message in turns %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Roles must alternate: user, assistant, user, ...') }}\
{% endif %}\
{% if loop.first and system %}\
{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] %}\
{% else %}{% set content = message['content'] %}{% endif %}\
{% if message['role'] == 'user' %}\
{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}\
{% else %}{{ ' ' + content | trim + ' ' + eos_token }}{% endif %}\
{% endfor %}"""

LLAMA_3 = """\
{%- set tools_shown = tools if tools is defined and tools is not none else [] -%}
{{- bos_token }}
{%- for message in messages %}
    {%- set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' %}
    {%- if message.tool_calls %}
        {%- set call = message.tool_calls[0].function %}
        {%- set content = content ~ '{"name": "' ~ call.name ~ '", "parameters": ' ~
            (call.arguments | tojson) ~ '}' %}
    {%- elif loop.first and tools_shown %}
        {%- set content = content + message['content'] | trim + '\\n\\n' %}
        {%- for tool in tools_shown %}
            {%- set content = content + (tool | tojson(indent=4)) + '\\n\\n' %}
        {%- endfor %}
    {%- else %}
        {%- set content = content + message['content'] | trim %}
    {%- endif %}
    {{- content + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set users = loop_messages | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and message == users[-1] %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {{- tool.function | tojson }}
                {%- if not loop.last %}{{- ", " }}{%- endif %}
            {%- endfor %}
            {{- "][/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] " ~ (message.tool_calls | map(attribute="function") | list | tojson) }}
        {{- eos_token }}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] | trim + eos_token }}
    {%- elif message["role"] == "tool" %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content | string + '}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user, assistant and tool roles are supported!") }}
    {%- endif %}
{%- endfor %}
"""

QWEN_2 = """\
{% for message in messages %}\
{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}\
{% endif %}\
{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

QWEN_3 = """\
{%- macro show(name) %}<function>{{ name }}</function>{% endmacro %}
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- "# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n\\nFor each call return <tool_call>\\n{...}\\n</tool_call><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user"
           and not (message.content.startswith('<tool_response>')
                    and message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning =
                content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or reasoning) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning.strip('\\n') }}
            {{- '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- for call in message.tool_calls or [] %}
            {%- if (loop.first and content) or not loop.first %}{{- '\\n' }}{%- endif %}
            {%- set call = call.function if call.function else call %}
            {{- '<tool_call>\\n{"name": "' }}
            {{- call.name }}
            {{- '", "arguments": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or messages[loop.index0 - 1].role != "tool" %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' + show('f') }}
        {%- if loop.last or messages[loop.index0 + 1].role != "tool" %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

# The role within the special token's name, a generation block, a break, and set blocks.
PHI = """\
{{ bos_token }}
{% for message in messages %}
    {% if message.role == 'assistant' %}
        {{- '<|assistant|>' }}
        {%- generation %}{{ message.content + '<|end|>' }}{% endgeneration %}
    {% else %}
        {% set turn %}{{ '<|' ~ message.role ~ '|>' }}{{ message.content }}<|end|>{% endset %}
        {{- turn | trim }}
    {% endif %}
    {% if loop.index > 30 %}{% break %}{% endif %}
{% endfor %}
{{- '<|assistant|>' if add_generation_prompt else eos_token }}"""

TOKENS = {
    "llama_2": (LLAMA_2, ("<s>", "</s>")),
    "llama_3": (
        LLAMA_3,
        ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
    ),
    "mistral": (
        MISTRAL,
        ("<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]",
         "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
    ),
    "qwen_2": (QWEN_2, ("<|endoftext|>", "<|im_end|>", "<|im_start|>")),
    "qwen_3": (
        QWEN_3,
        ("<|endoftext|>", "<|im_end|>", "<|im_start|>", "<tool_call>", "</tool_call>",
         "<tool_response>", "</tool_response>", "<think>", "</think>"),
    ),
    "phi": (
        PHI,
        ("<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|tool|>"),
    ),
}  # fmt: skip

CORPUS = [
    "The quick brown fox jumps over the lazy dog. What is 15% of 240? It is 36.",
    'def add(a: int, b: int) -> int:\n    return a + b\n\n{"name": "add", "arguments": {}}\n',
    "system user assistant tool Größe naïve 日本語 <b>bold</b> [1, 2] x < y > z",
] * 20


def tokenizer_json(special: tuple[str, ...], style: str) -> str:
    """A small tokenizer.json: byte-level, or SentencePiece's ways to put a space first."""
    built = tokenizers.Tokenizer(models.BPE(byte_fallback=style != "byte_level"))
    initial = pre_tokenizers.ByteLevel.alphabet()
    names = list(special)
    if style == "byte_level":
        built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        built.decoder = decoders.ByteLevel()
    else:
        initial, names = [], [*special, *(f"<0x{value:02X}>" for value in range(256))]
        if style == "prepend":  # the older files: a space before every piece of text
            built.normalizer = normalizers.Sequence(
                [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
            )
        else:  # "first": only where the text begins
            built.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        built.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
             decoders.Strip(" ", 1, 0)]
        )  # fmt: skip
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=names, initial_alphabet=initial, show_progress=False
    )
    built.train_from_iterator(CORPUS, trainer)
    content = json.loads(built.to_str())
    content["added_tokens"] = content["added_tokens"][: len(special)]  # bytes are no added tokens
    return json.dumps(content)
