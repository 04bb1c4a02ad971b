"""Sentences scattered over a whole context, and questions that need the right one, several, or many of them.

Families (share in training is small; evaluation asks each by itself):
  needle_keys    one of several sentences alike in all but the key          needle_values  all values of one key, in order
  needle_queries values of two keys, in the order asked                     needle_stale   the valid value among outdated ones
  chain          a value behind one or two renamings                        count          how many sentences name a key (a word)
  vote           what most of 4 to 64 sentences say (weak evidence)
"""

import dataclasses
import random

from tasks import Question, values

WHAT = ("access code", "locker number", "serial number", "ticket number", "secret word", "pass phrase", "badge number", "order number", "room key", "call sign", "lot number", "file mark")
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
STATE = ("The {w} of {k} is {v}.", "The {w} for {k} is {v}.", "{k} has the {w} {v}.", "For {k} the {w} is {v}.")
ASK = ("What is the {w} of {k}?", "What is the {w} for {k}?", "Which {w} does {k} have?", "Tell me the {w} of {k}.")
VOTE = ("{p} says that {k} is {v}.", "According to {p}, {k} is {v}.", "{p} is sure that {k} is {v}.", "In the view of {p}, {k} is {v}.")


@dataclasses.dataclass(frozen=True)
class Scattered:
    """Sentences in the order in which they must stand in the context, and what to ask."""

    sentences: list[str]
    questions: list[Question]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _key(rng: random.Random) -> str:
    return rng.choice((values.person, values.place, values.company, values.word))(rng)


def _value(rng: random.Random) -> str:
    return rng.choice((values.code, values.number, values.word))(rng)


def _distinct(rng: random.Random, make, count: int) -> list[str]:
    out: dict[str, None] = {}
    while len(out) < count:
        out[make(rng)] = None
    return list(out)


def _say(template: str, **fields: str) -> str:
    for name, value in fields.items():
        template = template.replace("{" + name + "}", value)
    return _capital(template)


def needle_keys(rng: random.Random, size: int) -> Scattered:
    what, state = rng.choice(WHAT), rng.choice(STATE)
    keys, held = _distinct(rng, _key, size + 1), _distinct(rng, _value, size)
    sentences = [_say(state, w=what, k=key, v=value) for key, value in zip(keys, held)]
    questions = [Question("needle_keys", _say(rng.choice(ASK), w=what, k=key), value) for key, value in zip(keys, held)]
    return Scattered(sentences, [*questions[:4], Question("none_needle", _say(rng.choice(ASK), w=what, k=keys[-1]), None)])


def needle_values(rng: random.Random, size: int) -> Scattered:
    what, key, state = rng.choice(WHAT), _key(rng), rng.choice(("One {w} of {k} is {v}.", "{k} also has the {w} {v}.", "Another {w} of {k}: {v}."))
    held = _distinct(rng, _value, min(size, 4))
    asked = rng.choice((f"What are all the {what}s of {key}?", f"List every {what} of {key}.", f"Which {what}s does {key} have?"))
    return Scattered([_say(state, w=what, k=key, v=value) for value in held], [Question("needle_values", asked, ", ".join(held))])


def needle_queries(rng: random.Random, size: int) -> Scattered:
    made = needle_keys(rng, max(2, size))
    first, second = rng.sample([question for question in made.questions if question.answer], 2)
    asked = f"{first.text} And {second.text[0].lower()}{second.text[1:]}"
    return Scattered(made.sentences, [Question("needle_queries", asked, f"{first.answer}, {second.answer}"), first])


def needle_stale(rng: random.Random, size: int) -> Scattered:
    what, key = rng.choice(WHAT), _key(rng)
    held = _distinct(rng, _value, size)
    stale = rng.choice(("An earlier {w} of {k} was {v}.", "The {w} of {k} used to be {v}.", "Once the {w} of {k} was {v}, but that is no longer valid."))
    valid = rng.choice(("The {w} of {k} is now {v}.", "The valid {w} of {k} is {v}.", "Today the {w} of {k} is {v}."))
    sentences = [_say(stale, w=what, k=key, v=value) for value in held[1:]]
    sentences.insert(rng.randint(0, len(sentences)), _say(valid, w=what, k=key, v=held[0]))
    asked = rng.choice((f"What is the {what} of {key} now?", f"What is the valid {what} of {key}?", f"Which {what} of {key} is valid today?"))
    return Scattered(sentences, [Question("needle_stale", asked, held[0])])


def chain(rng: random.Random, size: int) -> Scattered:
    names = _distinct(rng, lambda r: values.identifier(r), 2 * min(size, 3) + 2)
    sentences, questions = [], []
    while len(names) >= 2:
        depth = min(len(names), rng.choice((2, 2, 3)))
        linked, names = names[:depth], names[depth:]
        value = _value(rng)
        sentences.append(rng.choice((f"Let {linked[0]} be {value}.", f"The variable {linked[0]} is set to {value}.")))
        for before, after in zip(linked, linked[1:]):
            sentences.append(rng.choice((f"Let {after} be the same as {before}.", f"The variable {after} is a copy of {before}.")))
        questions.append(Question("chain", rng.choice((f"What is the value of {linked[-1]} in the end?", f"To which value does {linked[-1]} lead?")), value))
    return Scattered(sentences, questions)


def count(rng: random.Random, size: int) -> Scattered:
    number, animal, place = min(size, 8), rng.choice(values.ANIMALS), values.place(rng)
    sentences = [_say(rng.choice(("{p} saw a {a} in {k}.", "A {a} was seen in {k} by {p}.")), p=values.person(rng), a=animal, k=place) for _ in range(number)]
    return Scattered(sentences, [Question("count", f"How many times was a {animal} seen in {place}?", NUMBERS[number])])


def vote(rng: random.Random, size: int) -> Scattered:
    key = _key(rng)
    options = rng.sample(values.COLOURS, 3)
    most = size // 2 + 1
    said = [options[0]] * most + [rng.choice(options[1:]) for _ in range(size - most)]
    rng.shuffle(said)
    sentences = [_say(rng.choice(VOTE), p=values.person(rng), k=key, v=value) for value in said]
    return Scattered(sentences, [Question("vote", rng.choice((f"What do most people say that {key} is?", f"Which colour is {key} according to most people?")), options[0])])


MAKERS = {"needle_keys": needle_keys, "needle_values": needle_values, "needle_queries": needle_queries, "needle_stale": needle_stale, "chain": chain, "count": count, "vote": vote}
TRAINING = (("needle_keys", 8), ("needle_values", 2), ("needle_queries", 2), ("needle_stale", 3), ("chain", 3), ("count", 1), ("vote", 1))


def sample(rng: random.Random, largest: int = 8) -> Scattered:
    """One group for training, of 2 to `largest` sentences."""
    name = rng.choices([name for name, _ in TRAINING], [share for _, share in TRAINING])[0]
    return MAKERS[name](rng, rng.randint(2, largest))
