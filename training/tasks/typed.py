"""Typed value generators: every answer type of the tables, each in many formats.

TYPES maps a name to `generator(rng) -> str`. `template("the {adj} {noun}")` compiles text with type names in braces, `choice("a;b")`
a list of such templates. Values never hold braces.
"""

import random
import re
from collections.abc import Callable

from tasks import lexicon, values

Generator = Callable[[random.Random], str]
TYPES: dict[str, Generator] = {}
NUMBER_WORDS = "two three four five six seven eight nine ten eleven twelve".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
_SLOT = re.compile(r"\{(\w+)\}")


def template(text: str) -> Generator:
    """Compiles text with type names in braces."""
    parts = _SLOT.split(text)
    if len(parts) == 1:
        return lambda rng: text
    literals, slots = parts[::2], [_resolve(name) for name in parts[1::2]]
    for index, literal in enumerate(literals[:-1]):
        if literal == "a " or literal.endswith(" a "):  # the article depends on what follows
            literals[index], slots[index] = literal[:-2], _article(slots[index])

    def generate(rng: random.Random) -> str:
        out = literals[0]
        for slot, literal in zip(slots, literals[1:]):
            out += slot(rng) + literal
        return out

    return generate


def _resolve(name: str) -> Generator:
    return lambda rng: TYPES[name](rng)


def choice(text: str, separator: str = ";") -> Generator:
    """One of several templates."""
    compiled = [template(part.strip()) for part in text.split(separator)]
    return lambda rng: rng.choice(compiled)(rng)


def _of(words) -> Generator:
    words = tuple(words)
    return lambda rng: rng.choice(words)


def last_name(rng):
    return rng.choice(lexicon.LAST_NAMES) if rng.random() < 0.5 else values.last_name(rng)


def first_name(rng):
    return rng.choice(lexicon.FIRST_NAMES) if rng.random() < 0.85 else values.word(rng, 2).capitalize()


def person(rng):
    name = f"{first_name(rng)} {last_name(rng)}"
    style = rng.random()
    if style < 0.05:
        return f"Dr {name}"
    if style < 0.09:
        return f"{first_name(rng)} {rng.choice('ABCDEFGHJKLMNPRSTVW')}. {last_name(rng)}"
    if style < 0.12:
        return f"{rng.choice(('Professor', 'Captain', 'Sister', 'Judge', 'Inspector'))} {last_name(rng)}"
    return name


def place(rng):
    return rng.choice(lexicon.TOWNS) if rng.random() < 0.3 else values.place(rng)


def word(rng):
    return values.word(rng)


def name_word(rng):
    return values.word(rng).capitalize()


def nth(number: int) -> str:
    return f"{number}{'th' if 10 < number % 100 < 14 else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def date(rng):
    day, month, year = rng.randint(1, 28), rng.randrange(12), rng.choice((rng.randint(1890, 2031), rng.randint(2005, 2028)))
    name = values.MONTHS[month]
    style = rng.randrange(13)
    if style < 3:
        return f"{day} {name} {year}"
    if style < 5:
        return f"{name} {day}, {year}"
    if style == 5:
        return f"{year}-{month + 1:02}-{day:02}"
    if style == 6:
        return f"{day} {name}"
    if style == 7:
        return f"{day:02}.{month + 1:02}.{year}"
    if style == 8:
        return f"{month + 1:02}/{day:02}/{year}"
    if style == 9:
        return f"{day} {name[:3]} {year}"
    if style == 10:
        return f"{nth(day)} {name} {year}" if rng.random() < 0.5 else f"{name} {nth(day)}"
    if style == 11:
        return f"{rng.choice(values.WEEKDAYS)}, {day} {name} {year}"
    return f"{rng.choice(values.WEEKDAYS)} {day} {name}"


def clock(rng):
    hour, minute = rng.randint(0, 23), rng.choice((0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, rng.randint(0, 59)))
    style = rng.randrange(7)
    if style < 3:
        return f"{hour:02}:{minute:02}"
    if style == 3:
        return f"{hour % 12 + 1}:{minute:02} {'am' if hour < 12 else 'pm'}"
    if style == 4:
        return f"{hour % 12 + 1} {'AM' if hour < 12 else 'PM'}"
    if style == 5:
        return f"{rng.choice(('half past', 'a quarter to', 'a quarter past'))} {rng.choice(NUMBER_WORDS)}"
    return f"{hour}.{minute:02} hours"


def number_words(rng):
    return rng.choice(NUMBER_WORDS) if rng.random() < 0.6 else f"{rng.choice(TENS)}-{rng.choice(NUMBER_WORDS[:8])}"


def few(rng):
    return rng.choice(NUMBER_WORDS) if rng.random() < 0.4 else str(rng.randint(2, 30))


def count(rng):
    style = rng.random()
    if style < 0.25:
        return number_words(rng)
    if style < 0.7:
        return str(rng.randint(2, 300))
    return rng.choice((f"{rng.randint(1, 99)},{rng.randint(0, 999):03}", str(rng.randint(300, 9999))))


def amount(rng):
    value = rng.choice((rng.randint(5, 999), rng.randint(1000, 99999), rng.randint(10, 990) * 10))
    shown = f"{value:,}" if rng.random() < 0.5 else str(value)
    style = rng.randrange(16)
    if style < 3:
        return f"{shown} euros"
    if style == 15:
        return f"{rng.randint(1, 90)} million {rng.choice(('euros', 'dollars', 'crowns', 'yen'))}"
    if style == 14:
        return f"{number_words(rng)} {rng.choice(('hundred', 'thousand'))} {rng.choice(('euros', 'dollars', 'pounds', 'rupees'))}"
    cents = f"{rng.randint(0, 99):02}"
    return (f"{shown} dollars", f"${shown}", f"EUR {shown}", f"{shown} pounds", f"{shown}.{cents} euros", f"£{shown}", f"€{shown}", f"${shown}.{cents}", f"CHF {shown}", f"{shown} kr", f"{shown}.{cents} EUR")[style - 3]


def duration(rng):
    number = str(rng.randint(2, 48)) if rng.random() < 0.6 else rng.choice(NUMBER_WORDS)
    style = rng.random()
    if style < 0.06:
        return rng.choice(("a fortnight", "half a year", "one week", "a month and a half", "one year", "half an hour", "a whole day"))
    if style < 0.12:
        return f"{number} {rng.choice(('working', 'calendar'))} days"
    return f"{number} {rng.choice(('days', 'weeks', 'months', 'years', 'hours', 'minutes'))}"


def hours(rng):
    return f"{rng.randint(1, 90)} {rng.choice(('minutes', 'hours', 'seconds'))}" if rng.random() < 0.7 else f"{rng.randint(1, 5)} hours {rng.randint(2, 59)} minutes"


def measure(rng):
    value = rng.choice((str(rng.randint(2, 99)), str(rng.randint(100, 5000)), f"{rng.uniform(0.5, 90):.1f}", f"{rng.randint(1, 90)},{rng.randint(0, 999):03}"))
    return f"{value} {rng.choice(lexicon.UNITS)}"


def _measured(units: str) -> Generator:
    names = units.split()
    return lambda rng: f"{rng.choice((rng.randint(2, 99), rng.randint(100, 5000), round(rng.uniform(0.5, 90), 1)))} {rng.choice(names)}"


def percent(rng):
    value = rng.choice((str(rng.randint(1, 99)), f"{rng.uniform(0.1, 40):.1f}"))
    return rng.choice((f"{value} percent", f"{value}%", f"{value} per cent"))


def code(rng):
    letters = "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=rng.randint(1, 3)))
    style = rng.randrange(9)
    if style < 2:
        return f"{letters}-{rng.randint(10, 9999)}"
    if style == 2:
        return f"{letters}{rng.randint(100, 99999)}"
    if style == 3:
        return str(rng.randint(1000, 9999999))
    if style == 4:
        return f"{rng.randint(10, 99)}-{rng.randint(100, 999)}-{letters}"
    if style == 5:
        return f"{rng.randint(2000, 2030)}/{rng.randint(10, 9999)}"
    if style == 6:
        return "".join(rng.choices("abcdef0123456789", k=rng.choice((6, 8))))
    if style == 7:
        return f"{letters} {rng.randint(10, 999)} {rng.randint(10, 999)}"
    return f"{values.word(rng)}-{rng.randint(1, 99)}"


def phone(rng):
    a, b, c = rng.randint(100, 999), rng.randint(100, 999), rng.randint(1000, 9999)
    return rng.choice((f"{a} {b} {c}", f"+{rng.randint(20, 99)} {a} {b}{c}", f"({a}) {b}-{c}", f"0{a}/{b}{c}", f"0{a} {c}{rng.randint(10, 99)}"))


def email(rng):
    host = f"{values.word(rng)}.{rng.choice(('org', 'com', 'net', 'example', 'eu', 'info'))}"
    style = rng.randrange(4)
    if style == 0:
        return f"{values.word(rng)}@{host}"
    if style == 1:
        return f"{rng.choice(lexicon.FIRST_NAMES).lower()}.{values.last_name(rng).lower()}@{host}"
    if style == 2:
        return f"{rng.choice(('info', 'office', 'help', 'jobs', 'press', 'service', 'contact'))}@{host}"
    return f"{values.word(rng)}{rng.randint(1, 99)}@{host}"


def url(rng):
    host = f"{values.word(rng)}.{rng.choice(('org', 'com', 'net', 'example', 'eu', 'info'))}"
    return rng.choice((f"https://{host}/{values.word(rng)}", f"www.{host}", f"http://{host}", f"{host}/{values.word(rng)}"))


def address(rng):
    street = rng.choice((values.word(rng).capitalize(), last_name(rng), rng.choice("Station Church Mill Park River High King's Market School Harbour Garden Castle".split())))
    number = rng.randint(1, 240)
    return rng.choice((f"{number} {street} {rng.choice(values.STREETS)}", f"{number}{rng.choice('abc')} {street} {rng.choice(values.STREETS)}", f"{street} {rng.choice(values.STREETS)} {number}"))


def company(rng):
    style = rng.random()
    if style < 0.5:
        return values.company(rng)
    if style < 0.7:
        return f"{last_name(rng)} {rng.choice(('Brothers', '& Daughters', '& Partners', 'Motors', 'Logistics', 'Bakery', 'Shipping', 'Textiles', 'Insurance', 'Energy', 'Press', 'Pharma', 'Consulting'))}"
    return f"{name_word(rng)} {rng.choice(('AG', 'Inc', 'SA', 'LLC', 'plc', 'Holdings', 'Labs', 'Software', 'Mills', 'Steel', 'Dairy', 'Optics', 'Tools', 'Media', 'Travel'))}"


def work_title(rng):
    a, b = rng.choice(lexicon.ARTICLE_TITLE_ADJECTIVES), rng.choice(lexicon.ARTICLE_TITLE_NOUNS)
    c = rng.choice(lexicon.ARTICLE_TITLE_NOUNS)
    return rng.choice((f"The {a} {b}", f"{b} and {c}", f"The {b} of {place(rng)}", f"A {b} in {values.MONTHS[rng.randrange(12)]}", f"{a} {b}", f"{name_word(rng)}'s {b}", f"The {b} and the {c}", f"Under the {a} {b}"))


def year(rng):
    return str(rng.choice((rng.randint(1200, 1899), rng.randint(1900, 2026))))


def task(rng):
    return f"{rng.choice(lexicon.VERBS)} the {rng.choice(lexicon.NOUNS)}"


def done(rng):
    """A task in the participle: `the roof`, `repaired`."""
    verb = rng.choice(lexicon.VERBS)
    return lexicon.PAST.get(verb, verb + "ed")


def a_or_an(text: str) -> str:
    """The indefinite article for what follows."""
    return "an" if text[:1].lower() in "aeiou" and not text.lower().startswith(("uni", "use", "eu", "one")) else "a"


def _article(source: Generator) -> Generator:
    def generate(rng):
        text = source(rng)
        return f"{a_or_an(text)} {text}"

    return generate


def medicine(rng):
    return values.word(rng, 2).capitalize() + rng.choice(lexicon.MEDICINES_ENDINGS)


def plate(rng):
    letters = "".join(rng.choices("ABCDEFGHKLMNPRSTVWXYZ", k=rng.randint(2, 4)))
    return f"{letters[:2]} {letters[2:]}{rng.randint(10, 9999)}".replace("  ", " ")


def score(rng):
    return f"{rng.randint(0, 6)}{rng.choice((':', '-', ' to '))}{rng.randint(0, 6)}"


def version(rng):
    return rng.choice((f"{rng.randint(0, 12)}.{rng.randint(0, 30)}", f"{rng.randint(0, 9)}.{rng.randint(0, 20)}.{rng.randint(0, 15)}", f"v{rng.randint(1, 9)}.{rng.randint(0, 20)}"))


def path(rng):
    return "/" + "/".join(values.word(rng) for _ in range(rng.choice((2, 2, 3)))) + rng.choice(("", ".log", ".conf", ".txt", ".db"))


def lower_first(text: str) -> str:
    return text[0].lower() + text[1:]


TYPES.update(
    person=person, Person=person, first=first_name, First=first_name, Last=last_name, place=place, Place=place, word=word, Word=name_word, date=date, time=clock, few=few, count=count,
    amount=amount, duration=duration, hours=hours, measure=measure, percent=percent, code=code, phone=phone, email=email, url=url, address=address, company=company, title=work_title, year=year, task=task,
    done=done, medicine=medicine, plate=plate, score=score, version=version, path=path, numberword=number_words,
    identifier=values.identifier, weekday=_of(values.WEEKDAYS), month=_of(values.MONTHS), country=_of(lexicon.COUNTRIES), job=_of(lexicon.PROFESSIONS), object=_of(lexicon.OBJECTS), noun=_of(lexicon.NOUNS),
    noun2=_of(lexicon.NOUNS), verb=_of(lexicon.VERBS), adj=_of(lexicon.ADJECTIVES), colour=_of(lexicon.COLOURS), material=_of(lexicon.MATERIALS), food=_of(lexicon.FOODS), animal=_of(lexicon.ANIMALS),
    plant=_of(lexicon.PLANTS), subject=_of(lexicon.SUBJECTS), language=_of(lexicon.LANGUAGES), hobby=_of(lexicon.HOBBIES), illness=_of(lexicon.ILLNESSES), genre=_of(lexicon.GENRES),
    instrument=_of(lexicon.INSTRUMENTS), sport=_of(lexicon.SPORTS), weather=_of(lexicon.WEATHERS), cause=_of(lexicon.CAUSES), spot=_of(lexicon.PLACES_IN), Ministry=_of(lexicon.MINISTRIES), ordinal=_of(ORDINALS),
    length=_measured("metres kilometres miles feet cm km"), weight=_measured("kilograms tonnes grams pounds kg"), area=lambda rng: f"{rng.randint(12, 9000)} {rng.choice(('square metres', 'hectares', 'acres', 'square kilometres'))}",
    degrees=lambda rng: f"{rng.randint(2, 260)}{rng.choice((' degrees', ' degrees Celsius', ' °C', '°C'))}", fromyear=lambda rng: str(rng.randint(1960, 1999)), airtemp=lambda rng: f"{rng.choice(('', '', '', 'minus '))}{rng.randint(1, 38)}{rng.choice((' degrees', ' degrees Celsius', ' °C', '°C'))}", digit=lambda rng: str(rng.randint(1, 99)), thousands=lambda rng: f"{rng.randint(1, 900)},{rng.randint(0, 999):03}",
    speed=lambda rng: f"{rng.randint(5, 300)} {rng.choice(('km/h', 'knots', 'miles per hour', 'kilometres per hour'))}", volume=_measured("litres millilitres gallons ml cubic metres".replace("cubic metres", "cl")),
    room=lambda rng: rng.choice(("room ", "Room ", "office ", "hall ", "building ", "bay ", "lab ")) + rng.choice((str(rng.randint(1, 480)), rng.choice("ABCDEF") + str(rng.randint(1, 99)))),
    age=lambda rng: str(rng.randint(2, 99)), power=lambda rng: f"{rng.randint(20, 9000)} {rng.choice(('watts', 'W', 'kilowatts', 'horsepower'))}", voltage=lambda rng: f"{rng.choice((5, 9, 12, 24, 48, 110, 230, 400))} volts",
)  # fmt: skip
TYPES["org"] = choice("|".join(lexicon.ORGANISATIONS), "|")
TYPES["reason"] = choice("|".join(lexicon.REASON_CLAUSES), "|")
TYPES["purpose"] = choice("|".join(lexicon.PURPOSES), "|")
TYPES["method"] = choice("|".join(lexicon.METHODS), "|")
TYPES["condition"] = choice("|".join(lexicon.CONDITIONS), "|")
TYPES["opinion"] = choice("|".join(lexicon.OPINIONS), "|")
TYPES["thing"] = template("the {adj} {object}")
TYPES["carbody"] = choice("van;hatchback;estate car;convertible;pickup;minibus;lorry;motorbike;taxi;camper")
TYPES["gathering"] = choice("festival;conference;fair;concert;workshop;regatta;exhibition;marathon;ball;flea market;parade;wine tasting;book fair")
TYPES["apparatus"] = choice("pump;printer;router;turbine;press;boiler;crane;lift;tractor;scanner;mill;mixer;dryer;lathe;oven;freezer;compressor;drill;mower;thermostat;dishwasher")
TYPES["athing"] = _article(choice("{adj} {object};{colour} {object};{object};{adj} {object}"))
TYPES["ajob"] = _article(TYPES["job"])
TYPES["matter"] = template("the {noun}")
TYPES["dish"] = choice("{food} soup;{food} pie;grilled {food};{food} stew;roast {food} with {food};{food} salad;{food} and {food} pancakes;{Word} bread;{Word} cake")
TYPES["organ"] = choice("{org};{company};{company}")


def value_type(spec: str) -> Generator:
    """A type name, or `=a;b;c`: one of the listed templates."""
    return choice(spec[1:]) if spec.startswith("=") else TYPES[spec]
