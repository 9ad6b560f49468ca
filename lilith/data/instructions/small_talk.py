"""Plain conversation: greetings, definitions, texts rewritten, notes summed up."""

from __future__ import annotations

from collections.abc import Callable

from lilith.data.instructions.conversations import assistant, bullets, conversation, user
from lilith.data.instructions.drawing import Conversation, Draw
from lilith.data.instructions.glossary import TERMS
from lilith.data.instructions.planning_material import PROJECTS

PEOPLE = ("Ana", "Ben", "Chidi", "Dora", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kaya")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")

HELLOS = (
    ("Hi!", "hello"), ("Good morning.", "hello"), ("Hello, who are you?", "who"),
    ("Hey, can you help me?", "can"), ("How are you?", "how"), ("Thanks, that helped.", "thanks"),
    ("Good evening!", "hello"), ("What can you do?", "can"), ("Thank you!", "thanks"),
    ("What is your name?", "who"), ("Bye!", "bye"), ("See you tomorrow.", "bye"),
    ("That is all for today.", "bye"), ("How is it going?", "how"), ("Are you a human?", "who"),
    ("Great work, thanks.", "thanks"), ("Good afternoon.", "hello"), ("What do you do?", "can"),
    ("Hello there.", "hello"), ("Everything fine with you?", "how"),
)  # fmt: skip
REPLIES = {
    "hello": ("Hello{name}! What are we working on?", "Hi{name}, how can I help?",
              "Good to see you{name}. What is the question?"),
    "who": ("I am LILITH, an assistant for quant work, planning and code{name}. I am a program.",
            "My name is LILITH{name}. I am software that prices, plans and writes code."),
    "can": ("I price options, build portfolios, test strategies, plan projects and write "
            "Python{name}.",
            "Ask me about pricing, risk, plans or code{name}; I compute figures with tools."),
    "how": ("All in order{name}, thank you. What shall we look at?",
            "I am a program, so always the same{name}. How can I help?"),
    "thanks": ("You are welcome{name}.", "Glad that it helped{name}.", "Any time{name}."),
    "bye": ("Goodbye{name}!", "See you{name}.", "Until next time{name}."),
}  # fmt: skip


def greeting(draw: Draw) -> Conversation:
    """A greeting, a thank-you or a goodbye, sometimes with a name."""
    said, topic = draw.phrase(HELLOS)
    name = draw.choice(PEOPLE) if draw.count(0, 2) else ""
    if name:
        said += draw.choice((" I am {}.", " {} here.", " My name is {}.")).format(name)
    answer = draw.choice(REPLIES[topic]).format(name=f", {name}" if name else "")
    check = {"topic": topic, "name": name}
    return conversation("greeting", "general", "easy", [user(said), assistant(answer)], check)


DEFINE_ASKS = (
    "What is {term}?",
    "Define {term}.",
    "Explain {term} in one or two sentences.",
    "What does {term} mean?",
    "In plain words: what is {term}?",
    "I keep hearing about {term}. What is it?",
    "Can you explain {term} to a beginner?",
    "Give me a short definition of {term}.",
    "My manager mentioned {term}. What is that?",
    "Tell me about {term}, briefly.",
    "How would you explain {term}?",
    "Remind me what {term} is.",
    "For my glossary: {term}.",
)
BOTH_ASKS = (
    "What is the difference between {a} and {b}?",
    "Explain {a} and {b}.",
    "I mix up {a} and {b}. Help?",
    "Define {a} and {b}, please.",
    "{a} or {b}: what is what?",
    "Compare {a} with {b}.",
    "Two terms for my notes: {a} and {b}.",
    "How does {a} relate to {b}?",
    "Say in a line each: {a}, {b}.",
    "What do {a} and {b} mean?",
)


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def definition(draw: Draw) -> Conversation:
    """One term, with an example at the medium level; two neighbouring terms at the hard one."""
    difficulty = draw.difficulty()
    place = draw.count(0, len(TERMS) - 2)
    term, meaning, example = TERMS[place]
    names = [term]
    if difficulty == "hard":
        other, second, _ = TERMS[place + 1]
        names.append(other)
        ask = draw.phrase(BOTH_ASKS).format(a=term, b=other)
        answer = bullets([f"{_upper(term)} is {meaning}.", f"{_upper(other)} is {second}."])
    else:
        ask = draw.phrase(DEFINE_ASKS).format(term=term)
        answer = f"{_upper(term)} is {meaning}."
        if difficulty == "medium":
            ask += draw.choice(
                (" With an example.", " An example would help.", " Example, please.")
            )
            answer += f" {example}"
    return conversation(
        "definition", "general", difficulty, [user(_upper(ask)), assistant(answer)],
        {"terms": names},
    )  # fmt: skip


# a blunt or long text, the same politely, the same in short
TEXTS = (
    ("{who}, the {thing} is still not there. I asked for it {count} times. Send it by {day}.",
     "Hi {who}, could you please send the {thing} by {day}? I have asked {count} times and need it "
     "to go on. Thank you!",
     "{who}: {thing} by {day}, please; asked {count} times."),
    ("{who}, your {thing} has {count} errors again. Fix that before {day}.",
     "Hi {who}, thank you for the {thing}. I found {count} errors in it; could you correct them "
     "before {day}?",
     "{who}: {count} errors in the {thing}; please fix before {day}."),
    ("I can not come on {day}, {who}. You will have to present the {thing} to {count} "
     "people alone.",
     "Hi {who}, unfortunately I can not attend on {day}. Could you present the {thing} to the "
     "{count} guests without me? I will gladly help you prepare.",
     "{who}: I am out on {day}; please present the {thing} ({count} guests)."),
    ("{who}, stop changing the {thing}. That was {count} changes since {day}. Nobody can work so.",
     "Hi {who}, the {thing} has changed {count} times since {day}. Could we agree on one "
     "version, so that everyone can work with it?",
     "{who}: {count} changes to the {thing} since {day}; let us freeze it."),
    ("The meeting about the {thing} on {day} was useless, {who}. {count} people, no decision.",
     "Hi {who}, the meeting on {day} about the {thing} ended without a decision, with "
     "{count} people in the room. Could we set an agenda for the next one?",
     "{who}: no decision on the {thing} on {day} with {count} people; agenda next time?"),
    ("{who}, I need {count} more days for the {thing}. {day} is impossible, I said so.",
     "Hi {who}, as mentioned, {day} is too early for the {thing}. I need {count} more days; would "
     "that work for you?",
     "{who}: the {thing} needs {count} days beyond {day}."),
)  # fmt: skip
THINGS = (
    "risk report", "price file", "test plan", "budget", "data extract", "validation note",
    "release checklist", "client deck", "model document", "P&L explain",
)  # fmt: skip
REWRITE_ASKS = (
    "Make this {goal}:\n\n{text}",
    "Rewrite in a {goal} way: {text}",
    "Please turn this into a {goal} message.\n{text}",
    "{text}\n\nA {goal} version, please.",
    "How can I say this in a {goal} way? \"{text}\"",
    "My draft: {text}\nI would like it {goal}.",
    "Help me with tone. It should be {goal}.\n\n{text}",
    "Edit this so that it is {goal}: {text}",
    "I am about to send this. Can you make it {goal}?\n{text}",
    "Can you rephrase that? Goal: {goal}.\n\n{text}",
    "Write it again, {goal}: {text}",
)  # fmt: skip


def rewriting(draw: Draw) -> Conversation:
    """A blunt message cut to one line, made polite, or both."""
    blunt, polite, short = draw.choice(TEXTS)
    slots = {
        "who": draw.choice(PEOPLE), "thing": draw.choice(THINGS), "day": draw.choice(DAYS),
        "count": str(int(draw.number("2", "21"))),
    }  # fmt: skip
    difficulty = draw.difficulty()
    goal, pattern = {
        "easy": ("short", short),
        "medium": ("polite", polite),
        "hard": ("polite, and again in short", f"Polite: {polite}\n\nShort: {short}"),
    }[difficulty]
    text = pattern.format(**slots)
    ask = draw.phrase(REWRITE_ASKS).format(goal=goal, text=blunt.format(**slots))
    check = {"keeps": list(slots.values()), "goal": goal}
    return conversation("rewriting", "general", difficulty, [user(ask), assistant(text)], check)


SUMMARY_ASKS = (
    "Summarise:\n\n{note}",
    "Give me the gist of this note.\n\n{note}",
    "TL;DR, please:\n{note}",
    "{note}\n\nSum that up.",
    "What matters in this update?\n\n{note}",
    "Shorten this for my manager:\n\n{note}",
    "Boil this down:\n{note}",
    "I have ten seconds. What does it say?\n\n{note}",
    "Key points, please.\n\n{note}",
    "Write a summary of this status:\n\n{note}",
    "One short paragraph instead of this:\n\n{note}",
)


def summary(draw: Draw) -> Conversation:
    """A status note and what matters in it: state, date, cause, next step."""
    difficulty = draw.difficulty()
    title = draw.choice(PROJECTS).title
    who, day = draw.choice(PEOPLE), draw.choice(DAYS)
    delay, done = int(draw.number("1", "20")), int(draw.number("20", "99"))
    cause, short = draw.choice((
        ("the data vendor sent files in a different format than agreed", "a changed vendor format"),
        ("two engineers were moved to another team", "two engineers lost"),
        ("the security review asked for a second round", "a second security review"),
        ("prices of long maturities did not reconcile", "unreconciled long maturities"),
        ("the test environment was down for most of last week", "a test environment outage"),
    ))  # fmt: skip
    step = draw.choice((
        "agree a new date with the sponsor", "add a daily check of the inputs",
        "move one tester over from another project", "cut the reports that nobody reads",
    ))  # fmt: skip
    days = f"{delay} working days" if delay != 1 else "1 working day"
    extra = (
        f"The team met on {day} as usual, and thanks went to everyone who had helped.",
        "The kitchen on the third floor will be closed for repairs.",
        "As in earlier weeks, the wiki page has been updated and the calendar is current.",
    )
    note = [
        f"Update on {title}.",
        f"So far {done}% of the work is finished.",
        f"We are {days} behind, because {cause}.",
        f"{who} will {step} by {day}.",
    ]
    for place, filler in enumerate(extra[: ("easy", "medium", "hard").index(difficulty) + 1]):
        note.insert(2 * place + 1, filler)
    answer = f"{done}% done, {days} late ({short}). Next: {who} will {step} by {day}."
    ask = draw.phrase(SUMMARY_ASKS).format(note=" ".join(note))
    check = {"keeps": [f"{done}%", days, who, day, step]}
    return conversation("summary", "general", difficulty, [user(ask), assistant(answer)], check)


GENERATORS: dict[str, Callable[[Draw], Conversation]] = {
    "greeting": greeting,
    "definition": definition,
    "rewriting": rewriting,
    "summary": summary,
}
