"""Two-step look-ups (the phone number of X's manager) and the tracking of values that are passed on."""

import random

from tasks import Document, Hold, Question, lexicon, typed, values
from tasks.frames import Asking, ask, upper_first

# noun; statements of the link from {a} to {b} (last held out)
_LINKS = (
    ("manager", "{a} reports to {b}.|The manager of {a} is {b}.|{b} is {a}'s manager.|{a}'s manager is called {b}."),
    ("landlord", "{a} rents a flat from {b}.|{b} is {a}'s landlord.|The landlord of {a} is {b}.|{a} has {b} as a landlord."),
    ("teacher", "{a} learns from {b}.|{b} teaches {a}.|{a}'s teacher is {b}.|{a} has {b} as a teacher."),
    ("doctor", "{a} is treated by {b}.|{a}'s doctor is {b}.|{b} is the doctor of {a}.|{a} goes to {b}, a doctor."),
    ("neighbour", "{a} lives next door to {b}.|{b} is {a}'s neighbour.|The neighbour of {a} is {b}.|{a} and the neighbour, {b}, share a wall."),
    ("spouse", "{a} is married to {b}.|{b} is the spouse of {a}.|{a} has {b} for a spouse.|{a} once said yes to {b} at the altar and stands by it."),
    ("lawyer", "{a} is represented by {b}.|{a}'s lawyer is {b}.|{b} is the lawyer of {a}.|In court {b} speaks for {a}."),
    ("deputy", "{a} has appointed {b} as deputy.|The deputy of {a} is {b}.|{b} is {a}'s deputy.|When {a} is away, {b} steps in as deputy."),
    ("coach", "{a} is trained by {b}.|{b} coaches {a}.|{a}'s coach is {b}.|{a} sweats under the eye of {b}, the coach."),
    ("editor", "{a}'s texts are edited by {b}.|{b} is {a}'s editor.|The editor of {a} is {b}.|The red pen on {a}'s pages is that of {b}, the editor."),
)  # fmt: skip
# type; statements; questions with {r} for "X's manager" (last of each held out)
_FACTS = (
    ("phone", "{b} can be reached at {v}.|The phone number of {b} is {v}.|Call {b} on {v}.|{b} picks up at {v}.", "What is the phone number of {r}?|On which number can {r} be reached?|How can I call {r}?|Where does {r} pick up?"),
    ("email", "{b} reads mail at {v}.|The e-mail address of {b} is {v}.|Write to {b} at {v}.|Messages for {b} go to {v}.", "What is the e-mail address of {r}?|At which address does {r} read mail?|Where do I write to {r}?|Where do messages for {r} go?"),
    ("place", "{b} lives in {v}.|{b} has a house in {v}.|{b}'s home is in {v}.|{b} has settled in {v}.", "Where does {r} live?|In which town does {r} live?|Where is the home of {r}?|Where has {r} settled?"),
    ("job", "{b} works as a respected {v}.|{b} is a trained {v}.|By profession {b} is a certified {v}.|{b} makes a living as a full-time {v}.", "What is the profession of {r}?|What does {r} work as?|What is the job of {r}?|How does {r} make a living?"),
    ("date", "{b} was born on {v}.|{b}'s birthday is {v}.|The date of birth of {b} is {v}.|{b} saw the light of day on {v}.", "When was {r} born?|What is the birthday of {r}?|On which day was {r} born?|When did {r} see the light of day?"),
    ("room", "{b} sits in {v}.|{b}'s office is {v}.|You find {b} in {v}.|{b} has a desk in {v}.", "In which room does {r} sit?|Where is the office of {r}?|Where do I find {r}?|Where does {r} have a desk?"),
    ("company", "{b} works for {v}.|{b} is employed by {v}.|The employer of {b} is {v}.|{b} is on the payroll of {v}.", "For whom does {r} work?|Who employs {r}?|What is the employer of {r}?|On whose payroll is {r}?"),
    ("hobby", "{b} is fond of {v}.|{b}'s hobby is {v}.|In the evenings {b} enjoys {v}.|{b} gives all free time to {v}.", "What is the hobby of {r}?|What is {r} fond of?|What does {r} enjoy in the evenings?|To what does {r} give all free time?"),
    ("athing", "{b} owns {v}.|{b} has bought {v}.|{b} keeps {v}.|In the hands of {b} is {v}.", "What does {r} own?|What has {r} bought?|What does {r} keep?|What is in the hands of {r}?"),
    ("food", "{b} is allergic to {v}.|{b} cannot eat {v}.|{b} must avoid {v}.|{b} gets a rash from {v}.", "What is {r} allergic to?|What can {r} not eat?|What must {r} avoid?|What gives {r} a rash?"),
)  # fmt: skip
_LINKS = tuple((noun, tuple(statements.split("|"))) for noun, statements in _LINKS)
_FACTS = tuple((kind, typed.TYPES[kind], tuple(statements.split("|")), tuple(map(Asking.parse, questions.split("|")))) for kind, statements, questions in _FACTS)


def _say(rng: random.Random, statements: tuple[str, ...], hold: int) -> str:
    return statements[-1] if hold == Hold.WORDING else rng.choice(statements[:-1])


def two_step_document(rng: random.Random, hold: int = Hold.TRAIN) -> Document:
    """People linked to others of whom something is known."""
    links = rng.sample(_LINKS, rng.choice((1, 1, 2)))
    facts = rng.sample(_FACTS, rng.choice((1, 2, 3)))
    lines, asked, said = [], [], set()
    for _ in range(rng.randint(2, 4)):
        a, b = typed.person(rng), typed.person(rng)
        noun, statements = rng.choice(links)
        lines.append(_say(rng, statements, hold).replace("{a}", a).replace("{b}", b))
        said |= {f"entity:{a}", f"entity:{b}"}
        for kind, value, wording, questions in facts:
            made = value(rng)
            lines.append(_say(rng, wording, hold).replace("{b}", b).replace("{v}", made))
            role = rng.choice((f"{a}'s {noun}", f"the {noun} of {a}"))
            asking = questions[-1] if hold == Hold.WORDING else rng.choice(questions[:-1])
            asked.append(Question("two_step", ask(rng, asking, hold).replace("{r}", role), made, (f"entity:{a}",)))
            if rng.random() < 0.15:
                other = rng.choice([link[0] for link in _LINKS if link[0] != noun])
                asked.append(Question("none_two_step", ask(rng, asking, hold).replace("{r}", f"{a}'s {other}"), None))
        if rng.random() < 0.4:
            lines.append(rng.choice(lexicon.FILLERS))
    if rng.random() < 0.7:
        rng.shuffle(lines)
    size = rng.randint(2, 6)
    return Document(rng.choice(("directory", "people.txt", "who knows whom", "notes", "address book", f"contacts_{rng.randint(1, 99)}")), "\n".join(" ".join(lines[at : at + size]) for at in range(0, len(lines), size)), asked, said)


def tracking_document(rng: random.Random, hold: int = Hold.TRAIN) -> Document:
    """A value or a thing passed on: assignments, or people who hand over things."""
    lines, asked, said = [], [], set()
    if rng.random() < 0.5:
        for _ in range(rng.randint(2, 4)):
            names = list(dict.fromkeys(values.identifier(rng) for _ in range(rng.randint(2, 4))))
            value = rng.choice((values.number, values.code, values.word))(rng)
            template = rng.choice(("{a} = {b}", "{a} := {b}", "set {a} to {b}", "let {a} = {b}", "{a}: {b}"))
            steps = [template.replace("{a}", name).replace("{b}", before) for name, before in zip(names, [value, *names])]
            lines += steps
            said |= {f"variable:{name}" for name in names}
            target = rng.choice(names)
            asked.append(Question("tracking", rng.choice((f"What is the final value of {target}?", f"Which value does {target} hold in the end?", f"What value does {target} have after all assignments?")), value, (f"variable:{target}",)))
        return Document(rng.choice(("script", "program.txt", "variables", "main.cfg", "assignments")), "\n".join(lines), asked, said)
    for _ in range(rng.randint(1, 3)):
        thing = typed.TYPES["thing"](rng)
        chain = [typed.first_name(rng) for _ in range(rng.randint(2, 4))]
        if len(set(chain)) < len(chain):
            continue
        spot = typed.TYPES["spot"](rng)
        lines.append(f"{chain[0]} had {thing}.")
        lines += [rng.choice((f"{a} gave {thing} to {b}.", f"Then {b} got {thing} from {a}.", f"{a} handed {thing} over to {b}.")) for a, b in zip(chain, chain[1:])]
        lines.append(rng.choice((f"{chain[-1]} put it {spot}.", f"In the end {chain[-1]} left it {spot}.")))
        said.add(f"entity:{thing}")
        asked.append(Question("tracking", rng.choice((f"Where is {thing} in the end?", f"Where did {thing} end up?", f"Where is {thing} now?")), spot, (f"entity:{thing}",)))
        asked.append(Question("tracking", rng.choice((f"Who had {thing} last?", f"Who was the last to hold {thing}?")), chain[-1], (f"entity:{thing}",)))
        asked.append(Question("tracking", rng.choice((f"Who had {thing} first?", f"With whom did {thing} start out?")), chain[0], (f"entity:{thing}",)))
        if rng.random() < 0.5:
            lines.append(rng.choice(lexicon.FILLERS))
    if not lines:
        return tracking_document(rng, hold)
    return Document(rng.choice(("story", "story.txt", "what happened", f"tale {rng.randint(1, 99)}")), " ".join(map(upper_first, lines)), asked, said)


def lookup_document(rng: random.Random, hold: int = Hold.TRAIN) -> Document:
    return (two_step_document if rng.random() < 0.65 else tracking_document)(rng, hold)
