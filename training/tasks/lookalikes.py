"""Values that are rare and nearly the same (Stoholm, Stokholm, Stobholm): only exact copying of the right one is right."""

import random

from tasks import Document, Hold, Question, lexicon, typed, values
from tasks.frames import Asking, ask, upper_first

_RHYMES = (
    "leather feather heather weather tether", "copper topper hopper chopper stopper", "silver sliver salver shiver", "marble garble warble", "Stockholm Stokholm Stoholm Storholm Steckholm", "linen liner lining linden", "walnut walrus wallet walnuts",
    "Marburg Warburg Harburg Marberg Harberg", "oak oar oat oath", "pine pint pipe pink", "cotton button mutton glutton", "granite graphite granted", "Anders Andrew Andres Andreas", "Larsen Larson Larssen Lassen", "Peterson Petersen Pettersen Peters", "brass grass glass gloss",
    "velvet violet vellum", "maple marble maple-wood", "Kristin Kirsten Kristine Kirstin", "Lerwick Berwick Warwick Lowick", "bronze brown browse", "slate plate skate state", "Hallstatt Hallstadt Halstead Halsted",
)  # fmt: skip
_RHYMES = tuple(tuple(group.split()) for group in _RHYMES)

# What is listed; statements (last held out); questions for the value (last held out); questions for the key (last held out).
_LISTS = (
    ("password", "The password of {k} is {v}.|{k} opens with {v}.|For {k} use the password {v}.|{k}: {v}|Type {v} to unlock {k}.|{k} takes {v} as its password.", "What is the password of {k}?|With what does {k} open?|Which password is for {k}?|What unlocks {k}?|What should be typed for {k}?", "What does {v} open?|Which door or account has the password {v}?|What is unlocked by {v}?|For what should {v} be typed?"),
    ("village", "{v} is the village on {k}.|On {k} lies {v}.|The village on {k} is called {v}.|{k}: {v}|You find {v} on {k}.|{k} flows or runs past {v}.", "Which village lies on {k}?|What is the village on {k} called?|What do you find on {k}?|What place is on {k}?|Past which place does {k} run?", "Where is {v}?|On what does {v} lie?|Where do you find {v}?|What runs past {v}?"),
    ("material", "{k} is made of {v}.|For {k} they used {v}.|{k} consists of {v}.|{k}: {v}|{v} is the stuff of {k}.|The surface of {k} is {v}.", "What is {k} made of?|What did they use for {k}?|Of what does {k} consist?|Which material is {k}?|What is the surface of {k}?", "What is made of {v}?|For what did they use {v}?|What consists of {v}?|The surface of what is {v}?"),
    ("owner", "{k} belongs to {v}.|{v} owns {k}.|The owner of {k} is {v}.|{k}: {v}|{k} was sold to {v}.|{k} is in the hands of {v}.", "Who owns {k}?|To whom does {k} belong?|To whom was {k} sold?|Whose is {k}?|In whose hands is {k}?", "What does {v} own?|What belongs to {v}?|What was sold to {v}?|What is in the hands of {v}?"),
    ("label", "{k} bears the label {v}.|The label of {k} reads {v}.|{k} is labelled {v}.|{k}: {v}|{v} stands on {k}.|Somebody wrote {v} on {k}.", "What label does {k} bear?|What does the label of {k} read?|How is {k} labelled?|What stands on {k}?|What did somebody write on {k}?", "What is labelled {v}?|What bears the label {v}?|On what does {v} stand?|On what did somebody write {v}?"),
    ("word", "In the old tongue, {k} is called {v}.|The word for {k} is {v}.|{v} means {k}.|{k}: {v}|They say {v} for {k}.|A native speaker would call {k} {v}.", "What is the word for {k}?|What is {k} called in the old tongue?|What do they say for {k}?|How does one say {k}?|What would a native speaker call {k}?", "What does {v} mean?|What is called {v}?|For what do they say {v}?|What would a native speaker call {v}?"),
)  # fmt: skip
_KEYS = tuple(
    typed.choice(spec)
    for spec in ("the {colour} door;the {noun};host {word};locker {digit}", "the {Word};the {Word} road;the north bank;the {Place} canal", "the {object};the {adj} {object};the {noun}", "the {object};house {digit};the {colour} {object};the {noun}", "box {digit};the {material} box;the {ordinal} jar;drawer {code}", "the {object};the {animal};the {plant};{food}")
)
_VOWELS, _CONSONANTS = "aeiou", "bdfghklmnprstvwz"


def _similar(rng: random.Random, base: str) -> str:
    """The word with one letter or ending changed."""
    at = rng.randrange(1, len(base))
    style = rng.random()
    letter = base[at].lower()
    if style < 0.6:  # a vowel for a vowel, a consonant for a consonant
        other = rng.choice(_VOWELS if letter in _VOWELS else _CONSONANTS)
        return base[:at] + other + base[at + 1 :]
    if style < 0.75 and len(base) > 5:
        return base[:at] + base[at + 1 :]
    if style < 0.9:
        return base + rng.choice(("en", "holm", "er", "a", "s", "ton", "ov", "ke"))
    return base[:at] + rng.choice(_VOWELS) + base[at:] if letter not in _VOWELS else base[:at] + rng.choice(_CONSONANTS) + base[at:]


def words(rng: random.Random, count: int, names: bool) -> list[str]:
    """`count` words that look alike; capitalised if they must be names."""
    if rng.random() < 0.25 and not names:
        group = list(rng.choice(_RHYMES))
        rng.shuffle(group)
        return group[:count]
    base = values.word(rng, rng.choice((2, 2, 3)))
    base = rng.choice((base.capitalize() if names else base, base.capitalize(), values.last_name(rng), values.place(rng)))
    out = [base]
    for _ in range(count * 4):
        made = _similar(rng, rng.choice(out))
        if made not in out and len(out) < count:
            out.append(made)
    return out


def _fill(text: str, key: str, value: str) -> str:
    return upper_first(text.replace("{k}", key).replace("{v}", value))


_LISTS = tuple(
    (name, tuple(statements.split("|")), tuple(map(Asking.parse, forward.split("|"))), tuple(map(Asking.parse, backward.split("|")))) for name, statements, forward, backward in _LISTS
)


def lookalike_document(rng: random.Random, hold: int = Hold.TRAIN) -> Document:
    """A list or text of keys with values that look alike."""
    index = rng.randrange(len(_LISTS))
    name, statements, forward, backward = _LISTS[index]
    found = words(rng, rng.randint(3, 8), name in ("village", "owner"))
    keys = list(dict.fromkeys(_KEYS[index](rng) for _ in found))
    pairs = list(zip(keys, found))
    rng.shuffle(pairs)
    fixed = rng.choice(statements[:-1]) if rng.random() < 0.4 else None
    lines, asked = [], []
    for key, value in pairs:
        template = statements[-1] if hold == Hold.WORDING else fixed or rng.choice(statements[:-1])
        line = _fill(template, key, value)
        shown = upper_first(value) if template.startswith("{v}") else value
        written = upper_first(key) if template.startswith("{k}") else key
        lines.append(line)
        way = forward if rng.random() < 0.75 else backward
        asking = way[-1] if hold == Hold.WORDING else rng.choice(way[:-1])
        label = (f"alike:{name}:{key if way is forward else value}",)
        asked.append(Question("lookalike", upper_first(ask(rng, asking, hold).replace("{k}", key).replace("{v}", value)), shown if way is forward else written, label))
        if rng.random() < 0.15:
            stranger = _similar(rng, value)
            if stranger not in found:
                asking = rng.choice(backward[:-1])
                asked.append(Question("none_lookalike", ask(rng, asking, hold).replace("{v}", stranger), None, (f"alike:{name}:{stranger}",)))
    if all(line.endswith(".") for line in lines) and rng.random() < 0.6:
        for _ in range(rng.choice((0, 1, 2))):
            lines.insert(rng.randint(0, len(lines)), rng.choice(lexicon.FILLERS))
        lines = [" ".join(lines)]
    said = {f"alike:{name}:{key}" for key, _ in pairs} | {f"alike:{name}:{value}" for _, value in pairs}
    return Document(rng.choice((f"{name}s.txt", f"{name} list", f"list of {name}s", "notes", f"{name}s_{rng.randint(1, 99)}")), "\n".join(lines), asked, said)
