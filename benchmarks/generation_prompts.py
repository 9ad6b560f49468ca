"""Prompts of the generation benchmark, written for it."""

STARTS = (
    "Once upon a time, in a village between two rivers, there lived",
    "The history of the bridge begins in the spring of 1843, when",
    "To bake a loaf of bread at home you need",
    "A matrix is called symmetric if",
    "The captain looked at the sky and said",
    "In the first quarter the company",
    "Photosynthesis is the process by which",
    "The train to the coast leaves at",
    "When the market opened on Monday,",
    "My grandmother kept her recipes in",
    "A good project plan begins with",
    "The rules of the game are simple:",
    "Deep under the ice of the southern ocean",
    "There are three reasons why the tower",
    "The letter was written on thin blue paper, and it began",
    "Volatility is a measure of",
)

CONVERSATIONS = tuple(
    [{"role": "user", "content": text}]
    for text in (
        "What is the capital of France?",
        "Explain what a call option is in two sentences.",
        "Write a short poem about the sea.",
        "List three uses of a hammer.",
        "What is 12 times 7?",
        "Give me a title for a talk about project risk.",
        "Translate 'good morning' into Spanish.",
        "Why is the sky blue?",
        "Write a Python function that adds two numbers.",
        "Name the planets of the solar system.",
    )
)

# The answer repeats what the prompt holds, as a tool's arguments do.
_SHOTS = """\
Write the tool call for each request.

Request: Price a call: spot 100, strike 105, time 0.5, rate 0.05, volatility 0.2.
Call: {"name": "black_scholes", "arguments": {"spot": 100, "strike": 105, "time": 0.5, "rate": 0.05, "volatility": 0.2, "option_type": "call"}}

Request: Price a put: spot 48, strike 50, time 0.25, rate 0.03, volatility 0.35.
Call: {"name": "black_scholes", "arguments": {"spot": 48, "strike": 50, "time": 0.25, "rate": 0.03, "volatility": 0.35, "option_type": "put"}}

Request: Price a """  # noqa: E501

TOOL_CALLS = tuple(
    f"{_SHOTS}{kind}: spot {spot}, strike {strike}, time {time}, rate {rate}, "
    f"volatility {volatility}.\nCall:"
    for kind, spot, strike, time, rate, volatility in (
        ("call", 120, 125, 0.75, 0.04, 0.25),
        ("put", 61, 60, 0.5, 0.02, 0.4),
        ("call", 15, 14, 2, 0.01, 0.3),
        ("put", 250, 240, 0.1, 0.05, 0.15),
    )
)

_FUNCTIONS = (
    """\
def total_return(prices):
    if len(prices) < 2:
        raise ValueError("two prices are needed")
    first = prices[0]
    last = prices[-1]
    change = last - first
    return change / first
""",
    """\
def count_words(text, minimum):
    counts = {}
    for word in text.lower().split():
        if len(word) >= minimum:
            counts[word] = counts.get(word, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: item[1])
    return ordered
""",
)

_EXAMPLE = """\
Original:
```python
def area(width, height):
    result = width * height
    return result
```

With type hints:
```python
def area(width: float, height: float) -> float:
    result = width * height
    return result
```

"""

CODE_EDITS = tuple(
    f"{_EXAMPLE}Original:\n```python\n{code}```\n\nWith type hints:\n```python\n"
    for code in _FUNCTIONS
)
