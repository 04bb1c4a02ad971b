"""Relations of two places: parsed tables of subject kinds, and the sentences and questions made of them.

A table (relation_tables_*.py) is text. A kind is a line

    @ kind :: entities :: noun :: pronoun :: titles

(entities and titles separated by ";", with type names in braces), followed by its relations, one a line:

    name :: type :: noun phrases :: statements :: questions

with ";" between noun phrases and "|" between statements and questions. "{e}" is the entity, "{v}" the value; a part of a question in
[brackets] is left out when the entity need not be named. A noun phrase may end with a preposition ("deposit for"), and begins with "+"
when plural; "-" stands for none. Noun phrases give further statements and questions. "!" before the name holds the relation out.
"""

import dataclasses
import random

from tasks import Hold, Question, frames, synonyms, typed
from tasks.frames import Asking, upper_first

_PREPOSITIONS = ("of", "for", "in", "at", "on", "to", "under", "from", "with", "by", "after", "during", "against")
_WRAPPABLE = ("{e}", "{v}", "The ", "In ", "A ", "I ", "My ", "Under ", "On ", "At ", "From ")
_PERSON_TYPES = ("person", "first")
PHRASE_STATEMENTS = (
    "The {np} {prep} {e} is {v}.", "The {np} {prep} {e} is {v}.", "{v} is the {np} {prep} {e}.", "The {np} {prep} {e}, by the way, is {v}.", "As far as we know, the {np} {prep} {e} is {v}.", "{e} has {v} as its {np}.",
    "According to the files, the {np} {prep} {e} is {v}.", "The {np} {prep} {e}: {v}.", "What we know about {e}: the {np} is {v}.", "In the case of {e}, the {np} is {v}.",
)  # fmt: skip
WRAPPED = (
    "It is said that {s}", "I was told that {s}", "Everyone knows that {s}", "Please note that {s}", "We have learned that {s}", "Remember that {s}", "The file says that {s}", "It turned out that {s}", "We can confirm that {s}", "There is no doubt that {s}",
    "In short, {s}", "For the record: {s}", "As of today, {s}", "At the time of writing, {s}", "To begin with, {s}", "Sure enough, {s}", "Strangely enough, {s}", "NB: {s}", "What we know for certain is that {s}", "As expected, {s}", "To our surprise, {s}",
    "After some searching it became clear that {s}", "Neighbours say that {s}", "The clerk wrote down that {s}", "If I am not mistaken, {s}", "Let it be known that {s}", "No one denies that {s}", "It may interest you that {s}",
)  # fmt: skip
# What was, or what is wrong, stands beside what is true.
CORRECTED = (
    "The {np} {prep} {e} used to be {o}; now it is {v}.", "The {np} {prep} {e} is not {o}, as we wrote, but {v}.", "The {np} {prep} {e} was {o} at first and is {v} today.", "Correction: the {np} {prep} {e} is {v}, not {o}.",
    "Contrary to rumours of {o}, the {np} {prep} {e} is {v}.", "The {np} {prep} {e} has changed from {o} to {v}.", "Once the {np} {prep} {e} was {o}. It is {v} now.", "Many believe the {np} {prep} {e} to be {o}, but it is {v}.",
)


@dataclasses.dataclass(frozen=True)
class Phrase:
    noun: str
    preposition: str
    plural: bool


@dataclasses.dataclass(frozen=True)
class Relation:
    kind: str
    name: str
    person: bool
    value: typed.Generator
    phrases: tuple[Phrase, ...]
    statements: tuple[str, ...]
    held_statement: str
    questions: tuple[Asking, ...]
    loose: tuple[Asking, ...]
    held_question: Asking
    held_loose: Asking
    unseen: bool


@dataclasses.dataclass(frozen=True)
class Kind:
    name: str
    entity: typed.Generator
    noun: str
    pronoun: str
    titles: tuple[str, ...]
    seen: tuple[Relation, ...]
    unseen: tuple[Relation, ...]
    named: bool  # every entity has a name of its own, so that a question can be about another one


def _phrase(text: str) -> Phrase:
    plural = text.startswith("+")
    words = text.removeprefix("+").split()
    if words[-1] in _PREPOSITIONS:
        return Phrase(" ".join(words[:-1]), words[-1], plural)
    return Phrase(" ".join(words), "of", plural)


def _loose(question: str, noun: str) -> str:
    if "[" in question:
        return question[: question.index("[")] + question[question.index("]") + 1 :]
    return question.replace("{e}", f"the {noun}")


def _relation(kind: str, noun: str, line: str) -> Relation:
    name, spec, phrases, statements, questions = (part.strip() for part in line.split("::"))
    statements = tuple(part.strip() for part in statements.split("|"))
    statements = (*synonyms.widened(statements[:-1], statements[-1]), statements[-1])
    questions = tuple(part.strip() for part in questions.split("|"))
    questions = (*synonyms.widened(questions[:-1], questions[-1]), questions[-1])
    named = tuple(Asking.parse(q.replace("[", "").replace("]", "")) for q in questions)
    bare = []
    for question, asking in zip(questions, named):
        text = _loose(question, noun)
        clause = None
        if asking.clause is not None and "[" not in question:
            clause = asking.clause.replace("{e}", f"the {noun}")
        bare.append(Asking(text, clause if "[" not in question else frames.embed(text)))
    return Relation(
        kind, name.removeprefix("!"), spec in _PERSON_TYPES, typed.value_type(spec), tuple(_phrase(part.strip()) for part in phrases.split(";") if part.strip() != "-"),
        statements[:-1], statements[-1], named[:-1], tuple(bare[:-1]), named[-1], bare[-1], name.startswith("!"),
    )  # fmt: skip


def parse(table: str) -> tuple[Kind, ...]:
    """The kinds of a table."""
    kinds = []
    header: list[str] | None = None
    relations: list[Relation] = []

    def close() -> None:
        if header:
            name, entity, noun, pronoun, titles = header
            kinds.append(
                Kind(name, typed.choice(entity), noun, pronoun, tuple(t.strip() for t in titles.split(";")), tuple(r for r in relations if not r.unseen), tuple(r for r in relations if r.unseen), all("{" in part for part in entity.split(";")))
            )

    for line in table.strip().splitlines():
        if line.startswith("@"):
            close()
            header, relations = [part.strip() for part in line[1:].split("::")], []
        elif line.strip():
            relations.append(_relation(header[0], header[2], line))
    close()
    return tuple(kinds)


@dataclasses.dataclass
class Fact:
    """One stated fact: a relation of an entity and its value."""

    relation: Relation
    value: str


@dataclasses.dataclass
class Entity:
    """An invented entity of a kind with its facts; `lacking` are relations that the document does not state."""

    kind: Kind
    name: str
    pronoun: str
    short: str
    facts: list[Fact]
    lacking: list[Relation]


def make_entity(rng: random.Random, kind: Kind, count: int, hold: int, only: list[Relation] | None = None) -> Entity:
    """An entity with up to `count` facts: of `only` if given, else drawn."""
    name = kind.entity(rng)
    pool = list(kind.seen) + (list(kind.unseen) if hold == Hold.RELATIONS else [])
    if only is None:
        rng.shuffle(pool)
        if hold == Hold.RELATIONS:
            pool.sort(key=lambda relation: not relation.unseen)
        only = pool[:count]
    facts, used = [], set()
    for relation in only:
        value = relation.value(rng)
        while value in used:
            value = relation.value(rng)
        used.add(value)
        facts.append(Fact(relation, value))
    pronoun, short = kind.pronoun, f"the {kind.noun}"
    if pronoun == "she":
        pronoun = rng.choice(("she", "he", "she", "he", "they"))
        short = name.split(" ")[-1]
        pronoun = short if pronoun == "they" else pronoun
    return Entity(kind, name, pronoun, short, facts, [relation for relation in pool if relation not in only])


def possessive(name: str) -> str:
    return {"it": "its", "she": "her", "he": "his"}.get(name, name + "'s")


def clean(text: str) -> str:
    return text.replace("..", ".").replace(".?", "?").replace("  ", " ")


def refer(template: str, name: str) -> str:
    """The template with {e} as `name`, which may be a pronoun (then {e} must stand first)."""
    if "{e}'s" in template:
        template = template.replace("{e}'s", possessive(name))
    return template.replace("{e}", name)


def statement_template(rng: random.Random, relation: Relation, hold: int, value: str = "") -> str:
    """A statement with {e} and {v} left open; `value` is what shall be told apart from what was."""
    if hold == Hold.WORDING:
        return relation.held_statement
    statements = relation.statements
    style = rng.random()
    if style < 0.05 and relation.phrases and not relation.phrases[0].plural and relation.kind != "narrator":
        phrase, former = relation.phrases[0], relation.value(rng)
        if former != value:
            return rng.choice(CORRECTED).replace("{np}", phrase.noun).replace("{prep}", phrase.preposition).replace("{o}", former)
    if style < 0.15:
        text = rng.choice(statements)
        if text.startswith(_WRAPPABLE) and text.endswith(".") and ":" not in text and ";" not in text:
            return rng.choice(WRAPPED).replace("{s}", text if text.startswith(("{", "I ")) else frames.lower_first(text))
        return text
    if relation.phrases and rng.random() < 0.3:
        phrase = rng.choice(relation.phrases)
        text = rng.choice(PHRASE_STATEMENTS)
        if (phrase.plural or phrase.preposition != "of" or relation.kind == "person") and " as its " in text:
            text = PHRASE_STATEMENTS[0]
        if phrase.plural:
            text = text.replace(" is ", " are ")
            if text.startswith("{v}"):
                text = PHRASE_STATEMENTS[0].replace(" is ", " are ")
        return text.replace("{np}", phrase.noun).replace("{prep}", phrase.preposition)
    return rng.choice(statements)


def statement(rng: random.Random, entity: Entity, fact: Fact, name: str, hold: int) -> str:
    return put(fact, refer(statement_template(rng, fact.relation, hold, fact.value), name))


def put(fact: Fact, text: str) -> str:
    """The sentence with the value in place. A value that begins the sentence is capitalised, and so is then the answer."""
    if text.startswith("{v}"):
        fact.value = upper_first(fact.value)
    return clean(upper_first(text.replace("{v}", fact.value)))


def question(rng: random.Random, kind: Kind, relation: Relation, name: str | None, hold: int) -> str:
    """A question for the relation of the entity `name`, or of the only entity of the kind if None."""
    return frames.careless(rng, _question(rng, kind, relation, name, hold))


def _question(rng: random.Random, kind: Kind, relation: Relation, name: str | None, hold: int) -> str:
    if hold == Hold.WORDING:
        text = (relation.held_question if name else relation.held_loose).text
        return upper_first(text.replace("{e}", name or ""))
    if relation.phrases and rng.random() < 0.4:
        phrase = rng.choice(relation.phrases)
        style = rng.random()
        if name is None:
            if style < 0.3:
                return frames.frame(rng, frames.KEYWORD_LOOSE, hold).replace("{k}", phrase.noun).replace("{K}", upper_first(phrase.noun))
            noun = f"the {phrase.noun}"
            if style < 0.5:
                noun = f"the {phrase.noun} {phrase.preposition} the {kind.noun}"
        else:
            if style < 0.25:
                return frames.frame(rng, frames.KEYWORD, hold).replace("{k}", phrase.noun).replace("{e}", name.removeprefix("the ") if rng.random() < 0.5 else name)
            if style < 0.35 and not phrase.plural and phrase.preposition == "of":
                return upper_first(frames.frame(rng, frames.HAVE, hold).replace("{k}", phrase.noun).replace("{e}", name))
            noun = f"the {phrase.noun} {phrase.preposition} {name}"
            if style < 0.45 and (kind.pronoun == "she" or " " not in name):
                noun = f"{name}'s {phrase.noun}"
        return upper_first(frames.ask_phrase(rng, noun, "Who" if relation.person else "What", phrase.plural, hold)) if rng.random() < 0.9 else frames.ask_phrase(rng, noun, "Who" if relation.person else "What", phrase.plural, hold)
    text = frames.ask(rng, rng.choice(relation.questions if name else relation.loose), hold)
    return text.replace("{e}", name) if name else text


def _names(text: str, name: str) -> bool:
    return name.removeprefix("the ").lower() in text.lower()


def absent(rng: random.Random, entity: Entity, hold: int, single: bool) -> Question | None:
    """A question on what is near but not there: the relation of a stranger, or a relation that is not stated."""
    kind = entity.kind
    if kind.named and (rng.random() < 0.5 or not entity.lacking):
        stranger = kind.entity(rng)
        text = question(rng, kind, rng.choice(entity.facts).relation, stranger, hold)
        if stranger == entity.name or not _names(text, stranger):
            return None
        return Question("none_entity", text, None, (f"entity:{stranger}",))
    if not entity.lacking:
        return None
    relation = rng.choice(entity.lacking)
    if single and rng.random() < 0.5:
        return Question("none_attribute", question(rng, kind, relation, None, hold), None, loose_labels(relation))
    text = question(rng, kind, relation, entity.name, hold)
    return Question("none_attribute", text, None, (f"{kind.name}.{relation.name}:{entity.name}",) if _names(text, entity.name) else loose_labels(relation))


def asked_of(rng: random.Random, entity: Entity, fact: Fact, name: str, label: str, hold: int) -> Question:
    """A question that names the entity; where its wording has no room for the name, it leans on the relation."""
    text = question(rng, entity.kind, fact.relation, name, hold)
    return Question("relation_" + entity.kind.name, text, fact.value, (label,) if _names(text, name) else loose_labels(fact.relation))


def loose_labels(relation: Relation) -> tuple[str, ...]:
    """Labels that must be unique in a context when the entity is not named."""
    return (f"{relation.kind}.{relation.name}", *(f"phrase:{phrase.noun}" for phrase in relation.phrases))


def labels(entities: list[Entity]) -> set[str]:
    out = set()
    for entity in entities:
        out |= {f"entity:{entity.name}", f"short:{entity.short}"}
        for fact in entity.facts:
            out.update(loose_labels(fact.relation))
    return out


def questions(rng: random.Random, entities: list[Entity], hold: int) -> list[Question]:
    """A question for every fact, and about one in six that has no answer."""
    single = len(entities) == 1
    out = []
    for entity in entities:
        for fact in entity.facts:
            relation = fact.relation
            if hold == Hold.RELATIONS and not relation.unseen:
                continue
            family = "relation_" + entity.kind.name
            for _ in range(1 if rng.random() < 0.6 else 2):
                style = rng.random()
                if single and style < 0.5:
                    out.append(Question(family, question(rng, entity.kind, relation, None, hold), fact.value, loose_labels(relation)))
                elif entity.kind.pronoun == "she" and style < 0.75:
                    out.append(asked_of(rng, entity, fact, entity.short, f"short:{entity.short}", hold))
                else:
                    out.append(asked_of(rng, entity, fact, entity.name, f"entity:{entity.name}", hold))
            if rng.random() < 0.22 and hold != Hold.RELATIONS:
                near = absent(rng, entity, hold, single)
                if near:
                    out.append(near)
    return out
