"""Seeded generators of invented names, amounts, dates and things.

Names are put together from syllables, so that none can be known beforehand: what is asked can only be read.
"""

import random

FIRST = (
    "Mara Jonas Edda Tomas Ines Kofi Lena Marek Aisha Pavel Nora Hugo Selma Ravi Petra Omar Greta Luis Hanna Yusuf Clara"
    " Dmitri Alma Henrik Zoe Viktor Amina Oskar Rosa Felix Ida Bruno Leila Emil Sofia Anton Freya Karl Naomi Ivan Judith"
    " Samuel Marta Daniel Ruth Peter Alice Robert Helen George Margaret James Linda Arthur Carol Walter Dorothy"
).split()
ONSETS = "b br c ch d dr f fl g gr h j k kl l m n p pr qu r s sh sk st t th tr v w z".split()
NUCLEI = "a e i o u ai ea ee ie oa ou ar er or an en in on un al el il ol".split()
CODAS = "b ck d f g k l ll m n nd ng nt p r rd rk rn rt s sk st t th x".split()
LAST_ENDS = "son sen man er berg ley ton wood field ski ova ic ez ini etti aux ard quist dahl stein worth well".split()
PLACE_ENDS = "ton ville burg ford ham by stad field haven port mouth dale wick holm minster bridge".split()
STREETS = "Street Road Lane Avenue Square Way Court Row".split()
MONTHS = "January February March April May June July August September October November December".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
COLOURS = "red blue green yellow black white grey orange purple brown silver golden crimson turquoise violet".split()
MATERIALS = "leather steel oak copper glass cotton marble aluminium brass granite linen bamboo rubber ceramic wool pine concrete paper".split()
JOBS = (
    "beekeeper|carpenter|surgeon|tax adviser|bus driver|librarian|welder|botanist|court clerk|pilot|baker|translator|geologist|"
    "night guard|cellist|plumber|harbour master|school inspector|software tester|weaver|judge|photographer|dentist|surveyor|cook"
).split("|")
THINGS = (
    "lantern|violin|compass|telescope|kettle|bicycle|umbrella|suitcase|ladder|typewriter|globe|wallet|teapot|camera|radio|clock|"
    "painting|notebook|scarf|hammer|microscope|anchor|candle|mirror|whistle|map|key ring|toolbox|sewing machine|barometer"
).split("|")
PLACES_FOR_THINGS = (
    "under the stairs|in the attic|behind the boiler|on the top shelf|in the garden shed|next to the piano|inside the blue cupboard|"
    "in the cellar|beneath the floorboards|in the glove box|on the window sill|in the second drawer|at the back of the garage|"
    "beside the lighthouse|in locker 14|in the old chapel|on platform 3|behind the curtain"
).split("|")
FOODS = "lentils|cherries|walnuts|potatoes|goat cheese|mushrooms|rice|plums|carrots|flour|butter|onions|beans|honey|apples|oats".split("|")
CAUSES = (
    "a worn bearing|a software update|a broken seal|heavy rain|a power failure|a loose cable|a missing signature|a blocked filter|"
    "a wrong password|a strike of the drivers|a cracked pipe|an expired certificate|a full disk|a storm|a faulty sensor"
).split("|")
TASKS = (
    "repair the roof|order new chairs|write the annual report|call the insurance company|paint the fence|test the backup|book the hall|"
    "update the website|check the fire alarm|hire a second nurse|move the archive|renew the licence|compare three offers|clean the gutters|"
    "draft the budget|inform the tenants|replace the server|train the volunteers"
).split("|")
ANIMALS = "heron|otter|mule|goat|parrot|hedgehog|tortoise|greyhound|raven|pony|goose|hamster|badger|cat|donkey".split("|")
SUBJECTS = "geology|music|law|pharmacy|history|mathematics|architecture|nursing|chemistry|theology|economics|agriculture".split("|")
LANGUAGES = "Finnish Basque Swahili Welsh Tamil Latvian Portuguese Korean Icelandic Greek Polish Zulu Hungarian".split()
UNITS = "kilograms|metres|litres|hours|days|pages|watts|degrees|miles|tonnes".split("|")


def word(rng: random.Random, syllables: int | None = None) -> str:
    count = syllables or rng.choice((1, 2, 2, 2, 3))
    out = ""
    for index in range(count):
        out += rng.choice(ONSETS) + rng.choice(NUCLEI)
        if index == count - 1 and rng.random() < 0.7:
            out += rng.choice(CODAS)
    return out


def last_name(rng: random.Random) -> str:
    return (word(rng, rng.choice((1, 1, 2))) + (rng.choice(LAST_ENDS) if rng.random() < 0.6 else "")).capitalize()


def person(rng: random.Random) -> str:
    first = rng.choice(FIRST) if rng.random() < 0.75 else word(rng, 2).capitalize()
    return f"{first} {last_name(rng)}"


def place(rng: random.Random) -> str:
    return (word(rng, rng.choice((1, 2))) + (rng.choice(PLACE_ENDS) if rng.random() < 0.6 else "")).capitalize()


def company(rng: random.Random) -> str:
    stem = word(rng, rng.choice((1, 2, 2))).capitalize()
    return stem + rng.choice((" Ltd", " GmbH", " and Sons", " Industries", " Systems", " Group", " Works", " Foods", ""))


def code(rng: random.Random) -> str:
    letters = "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=rng.randint(1, 3)))
    return rng.choice((f"{letters}-{rng.randint(10, 9999)}", f"{letters}{rng.randint(100, 99999)}", str(rng.randint(1000, 9999999))))


def number(rng: random.Random) -> str:
    return str(rng.choice((rng.randint(2, 99), rng.randint(100, 9999), rng.randint(10000, 999999))))


def amount(rng: random.Random) -> str:
    value = rng.choice((rng.randint(20, 999), rng.randint(1000, 99999)))
    shown = f"{value:,}" if rng.random() < 0.5 else str(value)
    return rng.choice((f"{shown} euros", f"{shown} dollars", f"${shown}", f"EUR {shown}", f"{shown} pounds", f"{shown}.50 euros"))


def date(rng: random.Random) -> str:
    day, month, year = rng.randint(1, 28), rng.randrange(12), rng.randint(1890, 2031)
    return rng.choice(
        (f"{day} {MONTHS[month]} {year}", f"{MONTHS[month]} {day}, {year}", f"{year}-{month + 1:02}-{day:02}", f"{day} {MONTHS[month]}")
    )


def clock(rng: random.Random) -> str:
    hour, minute = rng.randint(0, 23), rng.choice((0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, rng.randint(0, 59)))
    return rng.choice((f"{hour:02}:{minute:02}", f"{hour % 12 + 1}:{minute:02} {'am' if hour < 12 else 'pm'}"))


def duration(rng: random.Random) -> str:
    return f"{rng.randint(2, 36)} {rng.choice(('days', 'weeks', 'months', 'years', 'hours', 'minutes'))}"


def measure(rng: random.Random) -> str:
    return f"{rng.choice((rng.randint(2, 99), rng.randint(100, 5000), round(rng.uniform(0.5, 90), 1)))} {rng.choice(UNITS)}"


def address(rng: random.Random) -> str:
    return f"{rng.randint(1, 240)} {word(rng).capitalize()} {rng.choice(STREETS)}"


def phone(rng: random.Random) -> str:
    return f"{rng.randint(100, 999)} {rng.randint(100, 999)} {rng.randint(1000, 9999)}"


def email(rng: random.Random) -> str:
    return f"{word(rng)}@{word(rng)}.{rng.choice(('org', 'com', 'net', 'example'))}"


def identifier(rng: random.Random) -> str:
    return "_".join(word(rng, rng.choice((1, 2))) for _ in range(rng.choice((1, 2, 2))))


def vehicle(rng: random.Random) -> str:
    return rng.choice(("MS ", "the ship ", "train ", "flight ", "tram ", "bus ")) + rng.choice((code(rng), word(rng).capitalize()))


def one_of(choices):
    return lambda rng: rng.choice(choices)
