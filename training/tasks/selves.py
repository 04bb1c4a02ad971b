"""People who speak of themselves: one narrator, or several voices in a chat or transcript, each saying "I"."""

import random

from tasks import Document, Hold, Question, lexicon, relation_tables_self, relations, typed

KIND = relations.parse(relation_tables_self.TABLE)[0]
_ACKS = ("Really?", "me too", "Oh!", "How nice.", "I see.", "Go on.", "Tell us more.", "Same here.", "Hm.", "No way!", "That is good to know.", "Thank you for sharing.", "lol", "Next, please.")
_INTROS = ("", "", "", "Hello everyone! ", "Let me introduce myself. ", "So, about me: ", "A few words on myself. ", "Where shall I begin? ", "")


def narrator_document(rng: random.Random, hold: int = Hold.TRAIN) -> Document:
    """A text in the first person; questions speak of the narrator, or of the name that stands below it."""
    pool = list(KIND.seen) + (list(KIND.unseen) if hold == Hold.RELATIONS else [])
    rng.shuffle(pool)
    entity = relations.make_entity(rng, KIND, 0, hold, pool[: rng.randint(3, 9)])
    entity.lacking = [relation for relation in pool if all(relation is not fact.relation for fact in entity.facts)]
    said = relations.labels([entity])
    sentences = [relations.statement(rng, entity, fact, entity.name, hold) for fact in entity.facts]
    for _ in range(rng.choice((0, 1, 2, 3))):
        sentences.insert(rng.randint(0, len(sentences)), rng.choice(lexicon.FILLERS))
    sentences[0] = rng.choice(_INTROS[:-1]) + sentences[0]
    size = rng.randint(2, 6)
    lines = [" ".join(sentences[at : at + size]) for at in range(0, len(sentences), size)]
    asked = relations.questions(rng, [entity], hold)
    if rng.random() < 0.6:
        name = typed.person(rng)
        lines.insert(*rng.choice(((len(lines), f"Yours, {name}"), (len(lines), name), (0, f"By {name}"), (0, f"My name is {name}."), (0, f"Author: {name}"))))
        said.add(f"entity:{name}")
        for fact in entity.facts:
            if rng.random() < 0.5 and (hold != Hold.RELATIONS or fact.relation.unseen):
                asked.append(relations.asked_of(rng, entity, fact, name, f"entity:{name}", hold))
    return Document(rng.choice(KIND.titles).replace("{n}", str(rng.randint(1, 99))), "\n".join(lines), asked, said)


def voices_document(rng: random.Random, hold: int = Hold.TRAIN) -> Document:
    """Two to five speakers, each in the first person: what is said belongs to the one who speaks."""
    names = list({name.split(" ")[0]: name for name in (rng.choice((typed.first_name, typed.person, typed.last_name))(rng) for _ in range(rng.randint(2, 5)))}.values())
    if rng.random() < 0.3:
        names = list(dict.fromkeys(typed.first_name(rng).lower() + rng.choice(("", "", str(rng.randint(1, 99)))) for _ in names))
    pool = list(KIND.seen)
    rng.shuffle(pool)
    shared = pool[: rng.randint(2, 4)]
    lines, asked = [], []
    mark = rng.choice(("{n}: ", "{n}: ", "<{n}> ", "[{t}] {n}: ", "{n} ({t}): ", "{n} - "))
    minute = rng.randint(0, 1000)
    turns = []
    for name in names:
        entity = relations.make_entity(rng, KIND, 0, hold, shared if rng.random() < 0.7 else rng.sample(pool, len(shared)))
        turns += [(name, entity, fact) for fact in entity.facts]
    if rng.random() < 0.6:
        rng.shuffle(turns)
    for name, entity, fact in turns:
        minute += rng.randint(0, 4)
        head = mark.replace("{t}", f"{minute // 60:02}:{minute % 60:02}")
        text = relations.statement(rng, entity, fact, name, hold)
        intro = rng.choice(_INTROS[:-1]) if rng.random() < 0.25 else ""
        lines.append(head.replace("{n}", name) + intro + text)
        if rng.random() < 0.25:
            lines.append(head.replace("{n}", rng.choice(names)) + rng.choice(_ACKS))
        asked.append(relations.asked_of(rng, entity, fact, name, f"entity:{name}", hold))
        if rng.random() < 0.18:
            other = rng.choice(pool)
            if all(other is not turn[2].relation for turn in turns if turn[0] == name):
                asked.append(Question("none_attribute", relations.question(rng, KIND, other, name, hold), None))
    return Document(rng.choice(("chat.txt", "transcript", "group chat", "round table", f"log_{rng.randint(1, 99)}.txt", "introductions", "podcast")), "\n".join(lines), asked, {f"entity:{name}" for name in names})


def self_document(rng: random.Random, hold: int = Hold.TRAIN) -> Document:
    return (narrator_document if hold == Hold.RELATIONS or rng.random() < 0.55 else voices_document)(rng, hold)
