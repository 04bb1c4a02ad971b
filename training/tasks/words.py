"""Other words for the words of a question, so that meaning is looked for and not spelling.

WordNet's part (data/words.json.gz, made by build_lexicon.py) covers what is nearly always meant in one sense; the frequent words, which have
many, are listed by hand, in every form that is used, where an exchange reads well in most places.
"""

import gzip
import json
import pathlib
import random
import re

FOLDER = pathlib.Path(__file__).parent / "data"
WIDER_SHARE = 0.2

_BY_HAND = """
buy: purchase, acquire|buys: purchases|bought: purchased, acquired|begin: start, commence|begins: starts, commences|began: started, commenced|begun: started|house: home, dwelling|houses: homes, dwellings|doctor: physician|doctors: physicians
child: kid, youngster|children: kids, youngsters|large: big, sizeable|big: large, huge|small: little|little: small|quick: fast, rapid|quickly: fast, rapidly|slowly: gradually|town: city, place|city: town|village: settlement|road: street, way|street: road
build: construct, erect|built: constructed, erected|repair: fix, mend|repaired: fixed, mended|repairs: fixes, mends|broke: smashed|broken: damaged, smashed|stolen: taken|stole: took|arrive: turn up|arrived: turned up, came
die: pass away|died: passed away|killed: slain, murdered|kill: murder, slay|fight: battle|fought: battled|enemy: foe, opponent|enemies: foes, opponents|friend: companion, pal|friends: companions, pals|money: cash, funds|price: cost|cost: price|costs: prices
happy: glad, pleased|sad: unhappy, sorrowful|angry: furious, cross|afraid: scared, frightened|tired: weary, exhausted|ill: sick, unwell|sick: ill, unwell|illness: disease, sickness|rich: wealthy|poor: needy|strange: odd, peculiar|old: aged, ancient|new: recent, fresh
job: position, post|work: labour|worker: labourer, employee|workers: employees, staff|boss: manager, superior|company: firm, business|firm: company, business|shop: store|shops: stores|meeting: gathering, session|letter: message, note|letters: messages|gift: present
choose: select, pick|chose: selected, picked|chosen: selected, picked|show: display, reveal|showed: revealed|shown: revealed, displayed|hide: conceal|hid: concealed|hidden: concealed|throw: hurl, toss|threw: hurled, tossed|thrown: hurled, tossed|send: dispatch|sent: dispatched
get: obtain, receive|got: obtained, received|gets: receives|keep: retain|kept: retained|help: assist, aid|helped: assisted, aided|helps: assists|need: require|needs: requires|needed: required
try: attempt|tried: attempted|tries: attempts|want: wish, desire|wanted: wished, desired|wants: wishes, desires|like: enjoy|likes: enjoys|love: adore|loved: adored|hate: detest, loathe|hated: detested, loathed|fear: dread|feared: dreaded|marry: wed|married: wed
end: finish, conclude|ended: finished, concluded|ends: finishes, concludes|stop: halt, cease|stopped: halted, ceased|stops: halts|allow: permit, let|allowed: permitted|allows: permits, lets|forbid: prohibit, ban
forbidden: prohibited, banned|ask: request|asked: requested|answer: reply, respond|answered: replied, responded|speak: talk|spoke: talked|speaks: talks|shout: yell, cry|shouted: yelled, cried|look: gaze|looked: gazed|watch: observe|watched: observed|see: notice, observe|saw: noticed, observed
find: discover, locate|found: discovered, located|lose: mislay|lost: mislaid|lead: guide|led: guided|teach: instruct|taught: instructed|learn: study|cure: heal|carry: bear, transport|carried: borne, transported|eat: consume|ate: consumed|drink: sip|sleep: slumber|wear: have on
owner: proprietor, holder|teacher: instructor, tutor|student: pupil, learner|students: pupils, learners|pupil: student|pupils: students|guest: visitor|guests: visitors|visitor: guest|visitors: guests|soldier: fighter, warrior|soldiers: troops, warriors|sailor: seaman|thief: robber, burglar
lawyer: attorney|judge: magistrate|priest: clergyman|king: monarch, ruler|ruler: sovereign|queen: monarch|servant: attendant|servants: attendants|husband: spouse|wife: spouse|mother: mum|father: dad|baby: infant|man: fellow|woman: lady|people: folk, persons|person: individual
forest: wood, woods|hill: mound|mountain: peak|ship: vessel|ships: vessels|boat: vessel|boats: vessels|car: automobile, vehicle|cars: automobiles, vehicles|road: route|path: trail, track|river: stream|sea: ocean|stone: rock|picture: image|food: nourishment|clothes: clothing, garments|dress: gown
reason: cause, motive|purpose: aim, goal|aim: goal, purpose|problem: difficulty, trouble|problems: difficulties, troubles|plan: scheme|plans: schemes|idea: notion, thought|result: outcome, consequence|results: outcomes|mistake: error|mistakes: errors|damage: harm|reward: prize|rule: regulation
rules: regulations|duty: obligation|duties: obligations, tasks|task: assignment, chore|way: manner, method|amount: sum, quantity|important: significant, crucial|famous: renowned, celebrated|main: chief, principal|dangerous: hazardous, risky|difficult: hard, tough|easy: simple|beautiful: lovely, pretty
empty: vacant, bare|expensive: costly, dear|cheap: inexpensive|correct: right|wrong: incorrect|whole: entire|different: other, distinct|usual: customary|usually: normally, generally|often: frequently|sometimes: occasionally|soon: shortly|late: tardy|immediately: at once, instantly|maybe: perhaps|mostly: mainly, chiefly
responsible: accountable|replace: exchange, swap|replaced: exchanged, swapped|close: shut|closed: shut|burn: scorch|burnt: scorched|destroy: ruin, wreck|destroyed: ruined, wrecked|attack: assault|attacked: assaulted|attacks: assaults|escape: flee, get away|escaped: fled, got away
defend: protect|defended: protected|defeat: beat, overcome|defeated: beaten, overcome|rescue: save|rescued: saved|save: rescue|saved: rescued|blame: accuse|blamed: accused|promise: pledge, vow|promised: pledged, vowed|refuse: decline|refused: declined|agree: consent|agreed: consented
believe: think|believed: thought|decide: resolve|decided: resolved|explain: clarify|explained: clarified|mention: name|mentioned: named|pay: settle|paid: settled|sell: vend|raise: lift|raised: lifted|increase: growth, rise|rise: increase|fell: dropped|fall: drop
"""
HAND = {key.strip(): [other.strip() for other in others.split(",")] for key, others in (pair.split(":") for pair in _BY_HAND.strip().replace("\n", "|").split("|"))}
with gzip.open(FOLDER / "words.json.gz", "rt", encoding="utf-8") as _file:
    _TABLES = json.load(_file)
SAME: dict[str, list[str]] = {**_TABLES["same"], **HAND}
WIDER: dict[str, list[str]] = _TABLES["wider"]
BASE: dict[str, str] = _TABLES["base"]  # a verb's form -> the verb
PERSON, PLACE, TIME, THING = (frozenset(_TABLES[name].split()) for name in ("person", "place", "time", "thing"))  # nouns that mostly mean one
for _word in "eating about noted order orders ordered open opened given evidence gave given right set case cases read mean means after before presently happens happen people record leave left light".split():
    SAME.pop(_word, None)


UNCHANGED = frozenset("put set cut hit hurt let shut cost cast burst split spread rid bet quit shed thrust upset".split())


def past(verb: str) -> str:
    return verb if verb in UNCHANGED else _TABLES["past"].get(verb) or verb + ("d" if verb.endswith("e") else "ed")


def participle(verb: str) -> str:
    return _TABLES["participle"].get(verb) or past(verb)


# Words of frames and set phrases, after which or before which nothing is exchanged.
_FRAME_BEFORE = frozenset("how please me would could it's by of-course such".split())
_FRAME = frozenset("please tell me know find answer question document documents text according give name state look say page written stands like way long much many old far".split())
_WORD = re.compile(r"\"[^\"]*\"|“[^”]*”|(?<![\w'’/.@_-])([a-z]{3,})(?![\w'’/@_-]|\.\w|\()")


def exchanged(rng: random.Random, text: str, share: float = 0.3) -> str:
    """The question with each word for which another is known exchanged with probability `share`. Names, numbers and quotes stay."""
    out, at = [], 0
    for match in _WORD.finditer(text):
        word = match[1]
        if word is None:
            continue
        others = SAME.get(word)
        wider = WIDER.get(word)
        if (others is None and wider is None) or rng.random() > share:
            continue
        if others is None or wider and rng.random() < WIDER_SHARE:
            if rng.random() > 0.5:
                continue
            others = wider
        before = text[: match.start()].rsplit(" ", 2)
        previous = before[-2].lower() if len(before) > 1 else ""
        if previous in _FRAME_BEFORE or word in _FRAME and match.start() < 16 or word in ("like", "way", "old", "long"):
            continue
        other = rng.choice(others)
        if previous in ("a", "an") and (other[0] in "aeiou") != (previous == "an"):
            continue
        out += [text[at : match.start()], other]
        at = match.end()
    return "".join(out) + text[at:]
