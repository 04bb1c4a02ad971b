"""Documents on entities of a kind (relations.py) in many styles: prose with pronouns and subordinate clauses, records, tables,
numbered clauses, questions and answers, chats, letters, settings.

Several entities of one kind with the same relations share a document, so that an answer is found only by entity and relation.
"""

import random

from tasks import Document, Hold, lexicon, relation_tables_more, relation_tables_people, relation_tables_things, relations, typed, values
from tasks.frames import lower_first, upper_first
from tasks.relations import Entity, Fact, Kind, clean

KINDS = relations.parse(relation_tables_people.TABLE) + relations.parse(relation_tables_things.TABLE) + relations.parse(relation_tables_more.TABLE)
_BY_HOLD = {hold: tuple(kind for kind in KINDS if hold != Hold.RELATIONS or kind.unseen) for hold in Hold}

LINKS = ("Moreover, ", "In addition, ", "By the way, ", "Besides, ", "As is well known, ", "It is also known that ", "Let us not forget that ", "We should add that ", "Records show that ", "To be precise, ", "Incidentally, ", "People say that ")
OPENERS = ("First, ", "Then there is {e}. ", "Let us turn to {e}. ", "A word on {e}. ", "About {e}: ", "As for {e}, we know this. ", "Next comes {e}. ", "Now to {e}. ", "Another case is {e}. ", "")
CHAT_ASKS = ("anyone know {c}?", "does anybody know {c}", "quick one: {q}", "{q}", "sorry, {q}", "can someone tell me {c}?", "hi all, {q}")
CHAT_ACKS = ("thanks!", "ok", "got it", "cheers", "great, thx", "ah right", "good to know", "perfect", "noted", ":)", "thank you so much")
GREETINGS = ("Dear {first},", "Hi {first},", "Hello {first},", "Dear all,", "Dear Sir or Madam,", "Good morning {first},", "Dear colleagues,")
MAIL_LEADS = ("as promised, here are the details.", "thank you for your message.", "you asked me for some facts.", "I hope you are well.", "a quick note before the weekend.", "here is what I found out.", "sorry for the late reply.")
CLOSINGS = ("Best wishes", "Kind regards", "Yours sincerely", "All the best", "Regards", "See you soon", "Best", "With thanks", "Yours faithfully")


def _predicate(sentence: str, entity: Entity) -> str | None:
    """The part after the entity's name where the sentence begins with it."""
    name = upper_first(entity.name)
    if sentence.startswith(name + " ") and sentence.endswith("."):
        return sentence[len(name) + 1 : -1]
    return None


def _fuse(rng: random.Random, entity: Entity, first: str, second: str) -> str:
    """Two predicates of one entity as one sentence."""
    name, who = upper_first(entity.name), "who" if entity.kind.pronoun == "she" else "which"
    style = rng.randrange(6)
    if style == 0:
        return f"{name} {first} and {second}."
    if style == 1 and "," not in first:
        return f"{name}, {who} {first}, {second}."
    if style == 2:
        return f"{name} {first}, and {entity.pronoun} {second}."
    if style == 3:
        return f"{name} {first}; {entity.pronoun} {second}."
    if style == 4:
        return f"While {entity.name} {first}, it is also true that {entity.pronoun} {second}."
    return f"It should be said that {entity.name} {first} and that {entity.pronoun} {second}."


def _sentences(rng: random.Random, entity: Entity, hold: int) -> list[str]:
    """The facts of an entity as connected prose: the first sentence names it."""
    out: list[str] = []
    index, facts = 0, entity.facts
    while index < len(facts):
        fact = facts[index]
        index += 1
        named = not out or rng.random() < 0.35
        template = relations.statement_template(rng, fact.relation, hold, fact.value)
        if template.startswith("{e} ") and not named and rng.random() < 0.75:
            text = relations.refer(template, entity.pronoun)
        elif not named and rng.random() < 0.5:
            text = relations.refer(template, entity.short)
        else:
            text = relations.refer(template, entity.name)
        text = relations.put(fact, text)
        predicate = _predicate(text, entity)
        if predicate and index < len(facts) and rng.random() < 0.45 and fact.value[-1] != ".":
            following = relations.statement_template(rng, facts[index].relation, hold, facts[index].value)
            if following.startswith("{e} ") and following.endswith(".") and following.count("{e}") == 1 and "," not in following:
                text = clean(_fuse(rng, entity, predicate, following[4:-1].replace("{v}", facts[index].value)))
                index += 1
        elif predicate and rng.random() < 0.12:
            text = rng.choice(LINKS) + entity.name + " " + predicate + "."
        out.append(text)
    return out


def _with_fillers(rng: random.Random, sentences: list[str]) -> list[str]:
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        sentences.insert(rng.randint(1, len(sentences)), rng.choice(lexicon.FILLERS))
    return sentences


def prose(rng: random.Random, entities: list[Entity], hold: int) -> list[str]:
    paragraphs = []
    for number, entity in enumerate(entities):
        sentences = _with_fillers(rng, _sentences(rng, entity, hold))
        if number and rng.random() < 0.35:
            sentences[0] = rng.choice(OPENERS[1:]).replace("{e}", entity.name) + sentences[0]
        cut = rng.randint(1, len(sentences))
        paragraphs += [" ".join(part) for part in (sentences[:cut], sentences[cut:]) if part]
    return paragraphs


def mixed(rng: random.Random, entities: list[Entity], hold: int) -> list[str]:
    """Sentences on several entities by turns, each with its name."""
    lines = [relations.statement(rng, entity, fact, entity.name, hold) for entity in entities for fact in entity.facts]
    rng.shuffle(lines)
    lines = _with_fillers(rng, lines)
    size = rng.randint(2, 5)
    return [" ".join(lines[at : at + size]) for at in range(0, len(lines), size)]


def clauses(rng: random.Random, entities: list[Entity], hold: int) -> list[str]:
    """Numbered clauses, with a heading for each entity."""
    mark = rng.choice(("{i}. ", "{i}) ", "§ {i} ", "Section {i}. ", "({i}) ", "{n}.{i} ", "Clause {i}: ", "- ", "* ", "• "))
    out = []
    for number, entity in enumerate(entities, 1):
        if len(entities) > 1 or rng.random() < 0.4:
            out.append(upper_first(entity.name))
        for index, fact in enumerate(entity.facts, 1):
            name = entity.name if index == 1 or rng.random() < 0.4 else entity.short
            out.append(mark.replace("{i}", str(index)).replace("{n}", str(number)) + relations.statement(rng, entity, fact, name, hold))
    return out


def _key(rng: random.Random, fact: Fact) -> str:
    return rng.choice(fact.relation.phrases).noun


def _listable(entities: list[Entity]) -> bool:
    return all(fact.relation.phrases for entity in entities for fact in entity.facts)


def record(rng: random.Random, entities: list[Entity], hold: int) -> list[str]:
    """Key and value lines under the entity's name."""
    separator = rng.choice((": ", ": ", " - ", " = ", ":\t", " .... "))
    upper = rng.random() < 0.7
    keys = {}
    out = []
    for entity in entities:
        lines = [upper_first(entity.name)] if rng.random() < 0.6 else [f"{upper_first(entity.kind.noun)}{separator}{entity.name}"]
        for fact in entity.facts:
            key = keys.setdefault(fact.relation.name, _key(rng, fact))
            lines.append(f"{upper_first(key) if upper else key}{separator}{fact.value}")
        out.append(rng.choice(("\n", "\n", "; ")).join(lines))
    return out


def table(rng: random.Random, entities: list[Entity], hold: int) -> list[str]:
    """Rows of entities and columns of relations: Markdown, comma, semicolon or bar separated."""
    relation_list = [fact.relation for fact in entities[0].facts]
    heads = [entities[0].kind.noun, *(rng.choice(relation.phrases).noun for relation in relation_list)]
    rows = [[entity.name, *(fact.value for fact in entity.facts)] for entity in entities]
    style = rng.randrange(4)
    if style == 0:
        lines = ["| " + " | ".join(map(upper_first, heads)) + " |", "|" + "---|" * len(heads)] + ["| " + " | ".join(row) + " |" for row in rows]
    else:
        mark = (", ", ";", "  ")[style - 1] if style != 1 or not any("," in cell for row in rows for cell in row) else " | "
        lines = [mark.join(heads)] + [mark.join(row) for row in rows]
    return lines


def settings(rng: random.Random, entities: list[Entity], hold: int) -> list[str]:
    """Blocks of settings, as in YAML, INI or JSON lines."""
    style = rng.randrange(3)
    out = []
    for entity in entities:
        pairs = [(_key(rng, fact).replace(" ", "_"), fact.value) for fact in entity.facts]
        if style == 0:
            out.append("\n".join([f"- {entity.kind.noun}: {entity.name}"] + [f"  {key}: {value}" for key, value in pairs]))
        elif style == 1:
            out.append("\n".join([f"[{entity.name}]"] + [f"{key} = {value}" for key, value in pairs]))
        else:
            out.append("{" + f'"{entity.kind.noun}": "{entity.name}", ' + ", ".join(f'"{key}": "{value}"' for key, value in pairs) + "}")
    return out


def dialogue(rng: random.Random, entities: list[Entity], hold: int) -> list[str]:
    """An interview or list of questions and answers: the answer stands after its question or with the name."""
    asks, tells = rng.choice((("Q: ", "A: "), ("Interviewer: ", typed.last_name(rng) + ": "), ("Question: ", "Answer: "), (f"{typed.first_name(rng)}: ", f"{typed.first_name(rng)}: "), ("", "- "), ("Q. ", "A. ")))
    out = []
    for entity in entities:
        for fact in entity.facts:
            asked = relations.question(rng, entity.kind, fact.relation, entity.name, Hold.TRAIN) if hold != Hold.WORDING else "And then?"
            if rng.random() < 0.3:
                fact.value = upper_first(fact.value)
                reply = clean(fact.value + ".")
            else:
                reply = relations.statement(rng, entity, fact, rng.choice((entity.name, entity.short)), hold)
            out.append(f"{asks}{asked}\n{tells}{reply}")
    return out


def chat(rng: random.Random, entities: list[Entity], hold: int) -> list[str]:
    """A chat log with times and nicknames."""
    people = [rng.choice((typed.first_name(rng), typed.word(rng), typed.first_name(rng).lower())) for _ in range(rng.randint(2, 4))]
    minute = rng.randint(0, 1200)
    bracket = rng.choice(("[{t}] {p}: ", "{t} <{p}> ", "{p} ({t}): ", "{p}: "))
    out = []

    def say(who: str, text: str) -> None:
        nonlocal minute
        minute += rng.randint(0, 3)
        out.append(bracket.replace("{t}", f"{minute // 60 % 24:02}:{minute % 60:02}").replace("{p}", who) + text)

    for entity in entities:
        for fact in entity.facts:
            first, second = rng.sample(people, 2) if len(set(people)) > 1 else (people[0], "op")
            text = relations.statement(rng, entity, fact, entity.name, hold)
            if rng.random() < 0.5:
                asking = rng.choice(fact.relation.questions)
                ask = rng.choice(CHAT_ASKS)
                if "{c}" in ask and asking.clause is None:
                    ask = "{q}"
                say(first, ask.replace("{c}", asking.clause or "").replace("{q}", lower_first(asking.text)).replace("{e}", entity.name))
            say(second, text if rng.random() < 0.5 else text[:-1])
            if rng.random() < 0.3:
                say(first, rng.choice(CHAT_ACKS))
    return out


def letter(rng: random.Random, entities: list[Entity], hold: int) -> list[str]:
    """A letter or mail: greeting, facts, closing."""
    out = []
    if rng.random() < 0.4:
        out.append(rng.choice((f"From: {typed.email(rng)}", f"To: {typed.email(rng)}", f"Subject: {entities[0].name}", f"Re: {entities[0].name}")))
    out.append(rng.choice(GREETINGS).replace("{first}", typed.first_name(rng)))
    body = prose(rng, entities, hold)
    body[0] = rng.choice(MAIL_LEADS) + " " + body[0]
    return [*out, *body, f"{rng.choice(CLOSINGS)},\n{typed.first_name(rng)}"]


def _reported(rng: random.Random, entities: list[Entity], hold: int) -> list[str]:
    """Statements put into the mouths of speakers."""
    out = []
    for entity in entities:
        for fact in entity.facts:
            speaker = typed.person(rng)
            text = relations.statement(rng, entity, fact, entity.name, hold)
            if not text.endswith("."):
                text += "."
            out.append(
                rng.choice((f'"{text[:-1]}," said {speaker}.', f"{speaker}: {text}", f"{speaker} pointed out: \"{text}\"", f"{speaker} (quietly): {text}", f"{speaker} reminded the others: {text}", f"{text} So says {speaker}.", f"According to {speaker}, this is certain: {text}"))
            )
            if rng.random() < 0.3:
                out.append(f"{speaker}: {rng.choice(lexicon.FILLERS)}")
    return out


STYLES = ((prose, 10), (mixed, 4), (clauses, 4), (record, 4), (table, 3), (settings, 1), (dialogue, 2), (chat, 2), (letter, 3), (_reported, 2))
_STYLES, _WEIGHTS = tuple(style for style, _ in STYLES), tuple(weight for _, weight in STYLES)
_LISTS = (record, table, settings)


def title(rng: random.Random, kind: Kind, entities: list[Entity]) -> str:
    chosen = rng.choice(kind.titles).replace("{n}", str(rng.randint(1, 999)))
    return chosen.replace("{e}", entities[0].name)


def fact_document(rng: random.Random, hold: int = Hold.TRAIN, kind: Kind | None = None) -> Document:
    """A document on one to six entities of a kind."""
    kind = kind or rng.choice(_BY_HOLD[hold])
    style = rng.choices(_STYLES, _WEIGHTS)[0]
    number = rng.choice((3, 4, 5, 6)) if style is table else rng.choice((1, 1, 1, 2, 3, 4))
    pool = list(kind.seen) + (list(kind.unseen) if hold == Hold.RELATIONS else [])
    if style in _LISTS:
        pool = [relation for relation in pool if relation.phrases]
        if len(pool) < 2 or hold == Hold.RELATIONS and not any(relation.unseen for relation in pool):
            style, pool = prose, list(kind.seen) + (list(kind.unseen) if hold == Hold.RELATIONS else [])
    rng.shuffle(pool)
    if hold == Hold.RELATIONS:
        pool.sort(key=lambda relation: not relation.unseen)
    shared = None
    if style is table or number > 1 and (style in _LISTS or rng.random() < 0.6):  # the same relations for all: hard to tell apart
        shared = pool[: rng.randint(2, min(5, len(pool)))]
    entities: list[Entity] = []
    for _ in range(number):
        chosen = shared
        if chosen is None:
            count = rng.randint(2, min(len(pool), 9 if number == 1 else 4))
            chosen = pool[:count] if number == 1 or hold == Hold.RELATIONS else rng.sample(pool, count)
        entity = relations.make_entity(rng, kind, 0, hold, chosen)
        if all(entity.name != other.name and entity.short not in (other.short if kind.pronoun == "she" else "") for other in entities):
            if shared is None and style is not table:
                rng.shuffle(entity.facts)
            entities.append(entity)
    paragraphs = style(rng, entities, hold)
    name = title(rng, kind, entities)
    if rng.random() < 0.35:
        paragraphs.insert(0, upper_first(name))
    return Document(name, "\n".join(paragraphs), relations.questions(rng, entities, hold), relations.labels(entities))
