"""Happenings with several places, from the table in event_tables.py.

A happening is a line

    * name :: field=type field=type ... :: column heads

followed by a line "> statement|statement|..." with fields in braces, and lines "field? question|question|..." for what can be
asked. A question is asked only where the rendered statement holds every field that it uses, and the given ones fit one row.
The last statement and the last question of every field are held out.
"""

import dataclasses
import random
import re

from tasks import Document, Hold, Question, event_tables, frames, lexicon, synonyms, typed
from tasks.frames import Asking, upper_first
from tasks.relations import clean

_FIELD = re.compile(r"\{(\w+)\}")
_EXTRA = {
    "ware": "{adj} {object}s;{object}s;{material} {object}s;boxes of {food};tins of {food};bags of {food};{adj} lamps;{length} cables;{material} pipes;{colour} curtains",
    "price": "{amount};{amount};{digit}.50;{digit}.99 EUR;${digit}.95",
    "scoring": "with a header;from the penalty spot;from 20 metres;with the left foot;after a corner;from a free kick;with the heel;off the post;on the rebound;after a solo run;with a long shot;by a lucky deflection",
    "deed": "bought {athing};met {person};lost the {object};fixed the {object};climbed the {noun};visited the {noun};painted the {noun};had {dish} for lunch;rented {athing};missed the train to {place};swam in the lake;"
    "wrote to {person};slept until {time};sold the {adj} {object};found {athing};refused to {task};called off the trip to {place};closed the {noun};quarrelled with {person};learned to cook {dish};cut the {noun} in half;left {place} early",
    "sight": "{athing};a {colour} {animal};the {material} {noun} of {Person};two {colour} boats;a {adj} {noun};a man with {athing};an old {job};a {material} {object};a rainbow;a crowd of {job}s;the ruins of a {noun}",
    "module": "the {word} module;{word}.c;the {noun} plugin;lib{word};{word}-{word};the import of {object}s;the {word} parser;the settings page",
    "bugtext": "crashed on empty input;lost the last line;ignored {word};leaked {digit} bytes per call;hung after {hours};printed {word} twice;sorted dates wrongly;rejected names with {few} letters;forgot the password;showed {weekday} as {weekday};used port {digit} twice",
    "seller": "{company};a market in {place};{person};a shop in {place};an auction in {place}",
    "firstname": "{first};{first};{first};old {Last};Mrs {Last};Mr {Last};the {job};Aunt {first};Uncle {first}",
    "occasion": "for her birthday;on {weekday};at the wedding;for Christmas;as a farewell;on the day of the move;after the exam;at the station;for no reason at all;to say sorry;in return for {athing};on the eve of {date}",
    "activity": "breakfast;a talk by {Person};a tour of the {noun};the {Word} quartet;a workshop on {subject};lunch;the prize giving;a reading by {Person};registration;a panel on {noun}s;children's {sport};the {animal} show;a lecture on {subject};dancing;the closing speech",
    "venue": "{room};the {noun};the {Word} hall;the garden;tent {digit};the {colour} room;the foyer;the {Place} stage;the {material} pavilion",
    "person2": "{person}", "place2": "{place}", "amount2": "{amount}",
    "care": "{degrees} fever;{medicine}, {digit} mg;blood taken;dressing changed;pain in the left leg;blood pressure {digit} over {digit};{few} glasses of tea;a restless night;X-ray of the chest;{medicine} stopped;slept well;refused {food}",
    "message": "disk {digit} is {percent} full;connection to {word} lost;cannot open {path};user {word} logged in;restart after {duration};out of memory in {word};certificate of {word} expired;timeout after {digit} s;queue {word} holds {count} jobs;wrong checksum in {path};backup to {path} done;fan {digit} stopped",
    "prizename": "the {Last} Prize;the {Word} Medal;the {material} {object};a certificate;the cup of {place};the title of {job} of the year;the {Word} Award",
    "feat": "{few} years of service;a study of {animal}s;the rescue of {few} sailors;the best {dish};a book on {subject};the design of the {noun};the fastest lap;a film about {place};the restoration of the {noun};a new kind of {object}",
    "concern": "a sore knee;the rent;{illness};a lost {object};the contract;the {noun};a job as {job};the repair of the {noun};a divorce;new glasses;the exam in {subject};a loan of {amount}",
    "rank": "first;second;third;fourth;fifth;sixth;seventh;eighth;last;last but one", "racetime": "{digit}:{sixty};{digit}.{digit} seconds;{few} hours {sixty} minutes;{digit} minutes {sixty} seconds;1:{sixty}.{digit}",
    "measureq": "{digit} g;{digit}0 grams;{few} cups;half a litre;{few} spoons;a handful;{digit}0 ml;a pinch;{few} slices;{digit} kg", "useof": "the sauce;the dough;the filling;the icing;the salad;the stock;the topping;the marinade;the crust;the garnish;the batter;the side dish",
    "instruction": "tighten the {adj} screw;remove the {object};clean the {noun};check the {noun};press {word};turn the {adj} wheel;drain the tank;oil the {material} hinge;replace the {material} seal;pull the {colour} lever;mark the {noun};switch off the {noun};wait {duration};call {phone};close valve {digit};fill in form {code};enter {code}",
    "toolname": "a spanner;{athing};the {adj} key;a soft brush;pliers;a {material} hammer;a torch;a {colour} marker;a damp cloth;a size {digit} drill;tweezers;the {word} tool;a vacuum cleaner;sandpaper",
    "signal": "the {colour} lamp blinks;the {noun} smells of {food};the motor stops after {hours};the display shows E{digit};water drips from the {material} pipe;the {adj} door jams;there is no sound;the {object} gets hot;the wheel squeaks;the picture is {colour};error {code} appears;the {noun} shakes",
    "bookingtext": "the {noun};{food};the hire of the {noun};postage to {place};{person};a new {object};repairs to the {noun};insurance of the {object};tickets to {place};{company}",
    "rolename": "chair;treasurer;caretaker;press officer;head coach;youth leader;secretary;safety officer;bookings manager;webmaster;librarian;house manager;nurse on duty;head of {noun}s;tour leader;editor",
    "conduct": "smoking;running;shouting;eating {food};using a {object};feeding the {animal};taking photographs;cycling;playing {sport};sleeping;selling {food};fishing;lighting fires;skating;wearing {colour} shoes",
    "area": "in the {noun};on the {noun};near the {noun};in {room};on the {adj} stairs;behind the {noun};next to the {noun};on platform {digit}",
    "sanction": "a fine of {amount} is due;the {object} is taken away;you must leave the {noun};your card is blocked for {duration};a letter goes to {person};the deposit is lost;you have to {task};entry is refused for {duration};{amount} is charged",
    "risk": "theft of a {object};loss of luggage;damage to the {noun};broken glass;fire in the {noun};dental treatment;the death of a {animal};legal costs;storm damage;theft from the {noun};hospital stays in {country};a burst pipe;vandalism;a stolen bicycle",
    "founding": "the {noun} of {place} was built;the {Word} society was founded;the {noun} burnt down;the railway reached {place};the {adj} {noun} was opened;the first {job} settled here;{sport} came to {place};the town bought the {noun};the {noun} was sold to {company};{food} was first grown here;the school moved to {place}",
    "termname": "{word};{word};a {word};the {Word} rule;{Last}'s law;{word}ing;to {word}", "meaning": "a {adj} {object};a {material} {object} for {food};the price of {food};a walk to the {noun};a {job} without work;the fear of {animal}s;"
    "a day without {food};the habit of eating {food};the sound of a {instrument};a meeting in the {noun};a promise that is not kept;an old {object};the first {object} of the year",
    "gatename": "track {digit};platform {digit};platform {digit}A;gate {digit}", "phasename": "phase {digit};the {ordinal} phase;the {noun} phase;stage {word};work package {code};the pilot in {place};the {Word} sprint",
    "percent2": "{percent}", "condition_of": "in good order;badly worn;out of use;safe;damp;without a fault;in need of paint;beyond repair;dirty;ready for use;loose;slightly rusty;cracked on the left side;not up to the rules;better than expected",
    "extra": "including the {noun};without {material};with a guarantee of {duration};payable in {few} parts;but not before {month};plus travel to {place};with {few} workers;in {colour} only;free of tax;subject to the weather",
    "dosage": "one tablet;two tablets;half a tablet;{few} drops;{digit} ml;{digit} mg;a spoonful;one capsule;two puffs", "mealtime": "before breakfast;after meals;at bedtime;every {few} hours;at noon;with plenty of water;on an empty stomach;in the evening;on {weekday}s only;at {time}",
}  # fmt: skip
typed.TYPES.update(
    minute=lambda rng: rng.choice((typed.nth(rng.randint(1, 94)), typed.nth(rng.randint(1, 94)), typed.nth(rng.randint(1, 94)), "final", "opening", "last")),
    sixty=lambda rng: f"{rng.randint(0, 59):02}",
    stamp=lambda rng: rng.choice(("", "2024-03-11 ", "Mar 11 ", "11/03 ")) + f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}" + rng.choice(("", "", f".{rng.randint(0, 999):03}")),
    fromyear=lambda rng: str(rng.randint(1960, 1999)), toyear=lambda rng: rng.choice((str(rng.randint(2000, 2026)), "today")) if rng.random() < 0.1 else str(rng.randint(2000, 2026)),
)  # fmt: skip
for _name, _spec in _EXTRA.items():
    typed.TYPES[_name] = typed.choice(_spec)


@dataclasses.dataclass(frozen=True)
class Template:
    """A statement or question: literals around fields."""

    text: str
    fields: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Happening:
    name: str
    fields: tuple[tuple[str, typed.Generator], ...]
    heads: tuple[str, ...]
    statements: tuple[Template, ...]
    questions: dict[str, tuple[tuple[Asking, frozenset[str]], ...]]
    givens: tuple[tuple[str, ...], ...]


def _template(text: str) -> Template:
    return Template(text, frozenset(_FIELD.findall(text)))


def _asking(text: str) -> tuple[Asking, frozenset[str]]:
    return Asking.parse(text), frozenset(_FIELD.findall(text))


def _widened(texts: str) -> tuple[str, ...]:
    *seen, held = (text.strip() for text in texts.split("|"))
    return (*synonyms.widened(tuple(seen), held), held)


def _parse(table: str) -> dict[str, Happening]:
    out = {}
    for block in re.split(r"\n(?=\* )", table.strip()):
        lines = block.strip().splitlines()
        name, fields, heads = (part.strip() for part in lines[0][1:].split("::"))
        asked = {}
        for line in lines[2:]:
            field, questions = line.split("? ", 1)
            asked[field] = tuple(map(_asking, _widened(questions)))
        givens = tuple(sorted({tuple(sorted(given)) for questions in asked.values() for _, given in questions}))
        pairs = tuple((pair.split("=")[0], typed.TYPES[pair.split("=")[1]]) for pair in fields.split())
        out[name] = Happening(name, pairs, tuple(heads.split(";")), tuple(map(_template, _widened(lines[1][1:]))), asked, givens)
    return out


HAPPENINGS = _parse(event_tables.TABLE)


def _fill(text: str, row: dict[str, str]) -> str:
    for field, value in row.items():
        text = text.replace("{" + field + "}", value)
    return text


def make_rows(rng: random.Random, happening: Happening, count: int) -> list[dict[str, str]]:
    """Rows with no value twice."""
    used: set[str] = set()
    rows = []
    for _ in range(count):
        row = {}
        for field, value in happening.fields:
            for _ in range(6):
                made = value(rng)
                if made not in used:
                    break
            else:
                return rows
            used.add(made)
            row[field] = made
        rows.append(row)
    return rows


def _label(happening: Happening, given: tuple[str, ...], row: dict[str, str]) -> str:
    return f"{happening.name}:" + "|".join(row[field] for field in given)


def state(rng: random.Random, happening: Happening, row: dict[str, str], hold: int) -> tuple[str, frozenset[str], dict[str, str]]:
    """A sentence for the row, the fields that it holds and the row as it is written: what begins the sentence is capitalised."""
    template = happening.statements[-1] if hold == Hold.WORDING else rng.choice(happening.statements[:-1])
    if template.text.startswith("{"):
        first = template.text[1 : template.text.index("}")]
        if row[first][0].islower():
            row = {**row, first: upper_first(row[first])}
    return clean(_fill(template.text, row)), template.fields, row


def row_questions(rng: random.Random, happening: Happening, rows: list[dict], shown: list[dict], held: list[frozenset[str]], hold: int, share: float) -> list[Question]:
    """Questions on rows of which `held` fields are stated, in the spelling of `shown`; some that fit no row."""
    out = []
    for row, written, fields in zip(rows, shown, held):
        for field, questions in happening.questions.items():
            if field not in fields or rng.random() > share:
                continue
            asking, given = questions[-1] if hold == Hold.WORDING else rng.choice(questions[:-1])
            if not given <= fields:
                continue
            text = frames.careless(rng, upper_first(_fill(frames.ask(rng, asking, hold), row)))
            out.append(Question("event_" + happening.name, text, written[field], (_label(happening, tuple(sorted(given)), row),)))
    if out and hold != Hold.RELATIONS:
        said = labels(happening, rows)
        for _ in range(max(1, len(out) // 7) if rng.random() < 0.9 else 0):
            stranger = make_rows(rng, happening, 1)[0]
            field = rng.choice(list(happening.questions))
            asking, given = rng.choice(happening.questions[field][:-1])
            if given and _label(happening, tuple(sorted(given)), stranger) not in said:
                text = upper_first(_fill(frames.ask(rng, asking, hold), stranger))
                out.append(Question("none_event", text, None, (_label(happening, tuple(sorted(given)), stranger),)))
    return out


def labels(happening: Happening, rows: list[dict[str, str]]) -> set[str]:
    return {_label(happening, given, row) for row in rows for given in happening.givens}


def section(rng: random.Random, happening: Happening, count: int, hold: int, prose: bool | None = None) -> tuple[list[str], list[Question], set[str]]:
    """Paragraphs on `count` rows of a happening, their questions and labels."""
    rows = make_rows(rng, happening, count)
    style = rng.random() if prose is None else (0.2 if prose else 0.9)
    share = 0.9 if len(rows) < 4 else 0.5
    if style > 0.82 and hold != Hold.WORDING:
        lines, held = _table(rng, happening, rows)
        return lines, row_questions(rng, happening, rows, rows, held, hold, share), labels(happening, rows)
    sentences, held, shown = [], [], []
    fixed = rng.random() < 0.3 and hold != Hold.WORDING  # one form for all rows
    chosen = dataclasses.replace(happening, statements=(rng.choice(happening.statements[:-1]),) * 2) if fixed else happening
    for row in rows:
        sentence, fields, written = state(rng, chosen, row, hold)
        sentences.append(sentence)
        held.append(fields)
        shown.append(written)
    said = labels(happening, rows)
    asked = row_questions(rng, happening, rows, shown, held, hold, share)
    if style < 0.5:
        sentences = [sentence if sentence[-1] in '.!?"' else sentence + "." for sentence in sentences]
        for _ in range(rng.choice((0, 1, 2))):
            sentences.insert(rng.randint(0, len(sentences)), rng.choice(lexicon.FILLERS))
        size = rng.randint(2, 5)
        return [" ".join(sentences[at : at + size]) for at in range(0, len(sentences), size)], asked, said
    mark = rng.choice(("- ", "* ", "• ", "{i}. ", "{i}) ", "", "", "({i}) "))
    return [mark.replace("{i}", str(index)) + sentence for index, sentence in enumerate(sentences, 1)], asked, said


def _table(rng: random.Random, happening: Happening, rows: list[dict[str, str]]):
    fields = [field for field, _ in happening.fields]
    order = rng.sample(range(len(fields)), len(fields)) if rng.random() < 0.4 else list(range(len(fields)))
    heads = [happening.heads[index] for index in order]
    cells = [[row[fields[index]] for index in order] for row in rows]
    held = [frozenset(fields)] * len(rows)
    style = rng.randrange(5)
    if style == 0:
        lines = ["| " + " | ".join(map(upper_first, heads)) + " |", "|" + "---|" * len(heads), *("| " + " | ".join(row) + " |" for row in cells)]
    elif style == 1:
        lines = [";".join(heads), *(";".join(row) for row in cells)]
    elif style == 2 and not any("," in cell for row in cells for cell in row):
        lines = [",".join(heads), *(",".join(row) for row in cells)]
    elif style == 3:
        lines = ["\n".join(f"{upper_first(head)}: {cell}" for head, cell in zip(heads, row)) for row in cells]
    else:
        lines = ["  ".join(heads), *("  ".join(row) for row in cells)]
    return lines, held


def event_document(rng: random.Random, hold: int = Hold.TRAIN) -> Document:
    """A document of one happening."""
    happening = rng.choice(tuple(HAPPENINGS.values()))
    lines, asked, said = section(rng, happening, rng.randint(2, 8), hold)
    title = rng.choice((f"{happening.heads[0]} list", happening.name, "notes", f"{happening.heads[-1]}s.txt", "overview", "record", f"{happening.name} {rng.randint(1, 99)}", "memo", "log"))
    return Document(title, "\n".join(lines), asked, said)
