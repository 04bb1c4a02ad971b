"""Questions over a window of a real page: options, definitions, purposes, continuations, and what is not there.

Every answer is a span of the window; the item list comes from extract_text.py. A continuation ends before the first
clause mark (or paragraph end) after at least three words, or has as many words as the question asks for.
"""

import random
import re

from tasks import Question

_WORD = re.compile(r"\S+")
_CLAUSE_END = re.compile(r"[.,;:!?](?=\s|$)|\n|$")

CONTINUE = (
    "What follows the words: {q}", "What follows the words {q}?", 'What follows the words "{q}"?', "What follows: {q}", 'What comes after "{q}"?', "What comes right after: {q}",
    "How does the text go on after: {q}", 'How does the text continue after "{q}"?', "Continue: {q}", "Continue the text: {q}", "Complete: {q}", 'Which words follow "{q}"?', "The text says: {q} ... What is next?", "Which words come directly after: {q}",
)  # fmt: skip
CONTINUE_COUNT = (
    "What are the next {n} words after: {q}", 'Which {n} words follow "{q}"?', "Give the {n} words that follow: {q}", "Quote the {n} words after: {q}",
)
CONTINUE_SENTENCE = ("Finish the sentence: {q}", "Complete the sentence: {q}", 'How does the sentence end that begins "{q}"?', "Quote the rest of the sentence: {q}")
BEFORE = ("What are the {n} words before: {q}", 'Which {n} words stand before "{q}"?')
MENTIONS = ("Which sentence mentions {a} and {b}?", "Quote the sentence about {a} and {b}.", "Where are {a} and {b} mentioned? Quote the sentence.")

OPTION = (
    "What does the option {k} of {p} do?", "What does {p} {k} do?", "What does {k} do in {p}?", "What is the option {k} of {p} for?", "What does the {k} option of {p} do?", "What is the meaning of {k} in {p}?", "Explain the option {k} of {p}.",
    "In {p}, what does {k} mean?", "What is {p} {k} for?", "Describe {k} of {p}.", "What happens when {p} is called with {k}?", "What is the effect of {k} in {p}?",
)  # fmt: skip
OPTION_PLAIN = ("What does the option {k} do?", "What does {k} do?", "What is {k} for?", "What does {k} mean?")
OPTION_REVERSE = (
    'Which option of {p} does this: {v}?', 'Which option of {p} is described as "{v}"?', "Which {p} option is for: {v}", "With which option does {p} do the following: {v}", "Name the option of {p}: {v}", "How do I make {p} do this: {v}?",
)  # fmt: skip
TERM = ("What is {k}?", "What does {k} mean?", "Define {k}.", "What is the meaning of {k}?", "Explain {k}.", "What is said about {k}?", "How is {k} defined?", "How is {k} described?", "What does {k} do?", "What does {p} say about {k}?", "In {p}, what is {k}?")
TERM_REVERSE = ('Which term is defined as "{v}"?', "What is described as: {v}", "Which term means: {v}", "What is the name for this: {v}", "Which entry says: {v}")
FILE = ("What is the file {k} for?", "What is {k}?", "What does {k} contain?", "What is the purpose of {k}?", "What is {k} in {p}?")
EXIT = ("What does exit status {k} of {p} mean?", "What does {p} return {k} for?", "When does {p} exit with {k}?", "What does exit code {k} mean for {p}?")
VARIABLE = ("What is the variable {k} for?", "What does the environment variable {k} do in {p}?", "What does {k} do?", "What is {k} used for in {p}?", "What is the environment variable {k}?")
ERROR = ("When does {p} fail with {k}?", "What does the error {k} of {p} mean?", "What does {k} mean in {p}?", "Why does {p} return {k}?")
NAME = (
    "What does the command {k} do?", "What does {k} do?", "What is {k}?", "What is {k} for?", "What is the purpose of {k}?", "Describe {k} in one line.", "What is {k} used for?", "What is the program {k} for?", "Summarise {k}.",
)  # fmt: skip
NAME_REVERSE = ('Which command does this: {v}?', 'Which page is described as "{v}"?', "What is the name of the command for: {v}", "Which program is for this: {v}?", "Which command can {v}?")
SYNOPSIS = ("What is the synopsis of {p}?", "How is {p} called?", "What is the usage of {p}?", "Show the synopsis of {p}.")
AUTHOR = ("Who wrote {p}?", "Who is the author of {p}?", "By whom was {p} written?")

FORWARD = {"option": OPTION, "term": TERM, "file": FILE, "exit": EXIT, "variable": VARIABLE, "error": ERROR, "name": NAME, "synopsis": SYNOPSIS, "author": AUTHOR}
REVERSE = {"option": OPTION_REVERSE, "term": TERM_REVERSE, "name": NAME_REVERSE}


def _fill(template: str, **fields: str) -> str:
    for key, value in fields.items():
        template = template.replace("{" + key + "}", value)
    return template


def _choose(rng: random.Random, templates: tuple[str, ...], held_out: bool) -> str:
    return templates[-1] if held_out else rng.choice(templates[:-1])


def short_key(rng: random.Random, kind: str, key: str) -> str:
    """How a person names the item: one of an option's spellings without its argument, a function without its signature."""
    if kind == "option":
        spellings = [part.strip() for part in re.split(r",\s+|\s+\|\s+| or ", key) if part.strip().startswith("-")] or [key]
        return re.split(r"[ =\[<]", rng.choice(spellings))[0] or key
    if kind in ("term", "variable", "file") and "(" in key and rng.random() < 0.6:
        return key.split("(")[0].strip() or key
    return key


def item_question(rng: random.Random, item: list, page_name: str, held_out: bool = False) -> Question | None:
    """A question on one item (kind, key, value), forwards or backwards."""
    kind, key, value = item[:3]
    backwards = kind in REVERSE and rng.random() < 0.3 and len(value) > 14
    if backwards:
        template = _choose(rng, REVERSE[kind], held_out)
        return Question(f"{kind}_reverse", _fill(template, p=page_name, v=value), key)
    templates = FORWARD.get(kind)
    if templates is None:
        return None
    template = _choose(rng, templates, held_out)
    return Question(kind, _fill(template, k=short_key(rng, kind, key), p=page_name), value)


def _quote_at(rng: random.Random, text: str, low: int = 4, high: int = 10):
    """A stretch of words inside one paragraph: (begin, end) in characters, or None."""
    begin = rng.randrange(max(1, len(text) - 60))
    begin = text.find(" ", begin) + 1
    if begin <= 0:
        return None
    words = [match.span() for match, _ in zip(_WORD.finditer(text, begin), range(rng.randint(low, high)))]
    if len(words) < low:
        return None
    quote = text[begin : words[-1][1]]
    if "\n" in quote or len(quote) < 12 or len(quote) > 120 or sum(c.isalpha() for c in quote) < 0.5 * len(quote):
        return None
    return begin, words[-1][1]


def continuation(rng: random.Random, text: str, unique_in: str, held_out: bool = False) -> Question | None:
    """An exact continuation of a quote that occurs once in `unique_in`."""
    span = _quote_at(rng, text)
    if span is None:
        return None
    quote = text[span[0] : span[1]]
    if unique_in.count(quote) != 1:
        return None
    rest = text[span[1] : span[1] + 400]
    style = rng.random()
    if style < 0.15:
        count = rng.randint(2, 8)
        words = [match.end() for match, _ in zip(_WORD.finditer(rest), range(count))]
        if len(words) < count or "\n" in rest[: words[-1]] or not rest.startswith(" "):
            return None
        number = rng.choice((str(count), ("two", "three", "four", "five", "six", "seven", "eight")[count - 2]))
        return Question("continue_count", _fill(_choose(rng, CONTINUE_COUNT, held_out), n=number, q=quote), rest[1 : words[-1]])
    if not rest.startswith(" "):
        return None
    if style < 0.3:
        end = re.search(r"[.!?](?= |\n|$)|\n|$", rest).start()
        family, templates = "continue_sentence", CONTINUE_SENTENCE
    else:
        words = [match.end() for match, _ in zip(_WORD.finditer(rest), range(3))]
        if len(words) < 3:
            return None
        end = _CLAUSE_END.search(rest, words[1] + 1).start()
        family, templates = "continue", CONTINUE
    answer = rest[1:end]
    if not 6 <= len(answer) <= 130 or "\n" in answer or len(rest) == end:
        return None
    return Question(family, _fill(_choose(rng, templates, held_out), q=quote), answer)


def preceding(rng: random.Random, text: str, unique_in: str) -> Question | None:
    span = _quote_at(rng, text, 4, 7)
    if span is None or span[0] < 60:
        return None
    quote = text[span[0] : span[1]]
    count = rng.randint(2, 5)
    words = text[max(0, span[0] - 120) : span[0]].split(" ")[-count - 1 : -1]
    answer = " ".join(words)
    if "\n" in answer or not answer.strip() or unique_in.count(quote) != 1 or len(words) < count:
        return None
    return Question("before", _fill(rng.choice(BEFORE), n=str(count), q=quote), answer)


def mentioning(rng: random.Random, text: str) -> Question | None:
    """The one sentence of the window that holds two rare words."""
    sentences = [s for s in re.split(r"(?<=[.!?])\s|\n", text) if 40 < len(s) < 160]
    if not sentences:
        return None
    sentence = rng.choice(sentences)
    words = [w for w in re.findall(r"[A-Za-z]{6,}", sentence) if text.count(w) <= 2]
    if len(words) < 2:
        return None
    first, second = rng.sample(words, 2)
    if sum(first in s and second in s for s in sentences) != 1:
        return None
    return Question("mentions", _fill(rng.choice(MENTIONS), a=first, b=second), sentence.rstrip(".!?"))


def absent_item(rng: random.Random, foreign_items: list, page_name: str, text: str) -> Question | None:
    """A question on an item of another page, asked of this page, when this window lacks its key."""
    items = [item for item in foreign_items if item[0] in ("option", "term", "variable", "file")]
    if not items:
        return None
    kind, key, _ = rng.choice(items)[:3]
    name = short_key(rng, kind, key)
    if len(name) < 2 or re.search(re.escape(name) + r"(?![\w-])", text) or key in text:
        return None
    return Question("none_item", _fill(rng.choice(FORWARD[kind]), k=name, p=page_name), None)


def absent_page(rng: random.Random, page: dict, unique_in: str) -> Question | None:
    """A question on a page that the context does not hold."""
    if page["name"] in unique_in:
        return None
    style = rng.random()
    if style < 0.45 and page["kind"] == "man":
        return Question("none_page", _fill(rng.choice(NAME[:7]), k=page["name"]), None)
    if style < 0.7 and page["items"]:
        item = rng.choice(page["items"])
        if item[0] in FORWARD and item[0] != "name" and (item[0] != "term" or item[1] not in unique_in):
            return Question("none_page", _fill(rng.choice(FORWARD[item[0]]), k=short_key(rng, item[0], item[1]) or item[1], p=page["name"]), None)
        return None
    span = _quote_at(rng, page["text"][:20000])
    if span is None:
        return None
    quote = page["text"][span[0] : span[1]]
    if quote in unique_in:
        return None
    return Question("none_continue", _fill(rng.choice(CONTINUE), q=quote), None)
