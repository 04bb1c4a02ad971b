"""Questions on every part of parsed sentences of real prose (parse_sentences.py): who, what, whom, when, where, why, how, how many.

The answer is the part as it stands. A subject that is a pronoun is put by the name it stands for only where the sentence before has one
subject and no other name; else such a sentence is asked about in the passive, without its subject. A question that fits two sentences of its
page is not made.
"""

import collections
import dataclasses
import random
import re

from tasks import Question, words

DETERMINERS = frozenset("the a an his her their its my our your this that these those each every some all both another one no any such".split())
PRONOUNS = frozenset("he she they it i we you this that these those there who what which one some all many most others both none anyone everyone nobody such here each another".split())
BE = frozenset("is are was were am be been being".split())
AUXILIARIES = BE | frozenset("has have had will would can could may might must shall should do does did".split())
NUMBERS = frozenset("two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty hundred thousand several dozens".split())
MONTHS = frozenset("january february march april may june july august september october november december monday tuesday wednesday thursday friday saturday sunday spring summer autumn winter morning evening night day week month year century moment hour midnight noon time end beginning days years".split())
TITLES = frozenset("mr mrs miss ms dr sir lady captain lord colonel king queen prince princess major general admiral".split())
PREPOSITIONS = frozenset(
    "in on at by during since until till after before from to into near under behind beside between among through across against for with without over above below upon towards toward within around along inside outside of about like as because".split()
)
NEGATIVE = re.compile(r"\b(?:never|not|hardly|scarcely|neither|nor|no longer|nothing|nobody|none|n't)\b|n['’]t\b")
# What may stand between a subject and its verb or between the words of a verb without changing what is asked.
ADVERBS = re.compile(r"\W*(?:(?:also|then|now|always|often|soon|finally|still|ever|even|just|once|again|thus|therefore|however|instead|rather|already|indeed|too|perhaps|sometimes|only|all|both|[a-z]+ly)\W*)*$")
CLAUSE_END = re.compile(r"[,;:—(]| -- | - | and (?:he|she|they|it|we|you|I|the|his|her|their)\b|\b(?:but|so that)\b")
MOTION = frozenset("go come return travel walk move ride sail journey flee march run send bring take carry arrive depart set drive fly retreat advance pass cross leave".split())
MONEY_OR_NUMBER = re.compile(r"^(?:about |nearly |only |some |over |at least )?(\d[\d,.]*|[a-z]+(?:-[a-z]+)?)(?= [a-z])", re.I)
STOP = frozenset("that this with from have were been which what when they them their there then than will would could should about into your more some such very much only also upon said".split())
CUES = ("In {t}: {q}", 'In "{t}": {q}', "According to {t}, {l}", "{q} ({t})", "{t}: {q}", "{q} See {t}.", "In {t}, {l}")
CUE_SHARE = 0.12


@dataclasses.dataclass(frozen=True, slots=True)
class Ask:
    """Questions on one part of a sentence: where the sentence stands, what names it, phrasings, answer."""

    begin: int
    end: int
    family: str
    anchor: str
    phrasings: tuple[str, ...]
    answer: str


def head(phrase: str) -> str:
    """The last word of a noun phrase before its first preposition."""
    out = ""
    for word in phrase.split():
        if out and (word in PREPOSITIONS or word in ("who", "which", "that", "and", "or") or out.endswith(",")):
            break
        out = word
    return re.sub(r"['’]s?$|[,.;:]$", "", out)


def is_person(phrase: str) -> bool:
    first, last = phrase.split()[0].lower().rstrip("."), head(phrase)
    low = last.lower()
    if first in TITLES or low in ("him", "her", "them", "me", "us"):
        return True
    singular = low.removesuffix("s") if low not in words.PERSON else low
    if last[:1].isupper():
        return low not in words.PLACE and low not in words.TIME and low not in MONTHS and first not in DETERMINERS
    return singular in words.PERSON and low not in words.THING


def is_time(phrase: str) -> bool:
    low = head(phrase).lower()
    return low in MONTHS or low in words.TIME or bool(re.search(r"\b1[0-9]\d\d\b|\b20\d\ds?\b|o'clock", phrase))


def is_place(phrase: str) -> bool:
    last = head(phrase)
    low = last.lower()
    return low in words.PLACE or low.removesuffix("s") in words.PLACE or low.removesuffix("s") in words.THING or last[:1].isupper() and low not in MONTHS and not is_person(phrase)


def is_plural(phrase: str) -> bool:
    first = phrase.split()[0].lower()
    return " and " in phrase or first in ("these", "those", "many", "several", "both", "few") or first in NUMBERS or (head(phrase).endswith("s") and not head(phrase).endswith(("ss", "us", "is")) and not head(phrase)[0].isupper())


def lower(phrase: str) -> str:
    """A part that began the sentence, put inside another."""
    first = phrase.split()[0]
    return first.lower() + phrase[len(first) :] if first.lower() in DETERMINERS | PREPOSITIONS | {"when", "if", "as", "while", "because", "where", "although", "though"} else phrase


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


def stems(text: str) -> set[str]:
    return {word[:5] for word in re.findall(r"[a-z]{3,}|\d+", text.lower()) if len(word) > 3 and word not in STOP or word.isdigit()}


@dataclasses.dataclass(slots=True)
class _Sentence:
    text: str
    subject: str
    shown: str  # the subject as a question names it: "" where it cannot be named
    finite: str
    rest: str  # of the verb's chain, without the finite word
    base: str  # of the last verb
    objects: list[str]
    parts: list[tuple]
    passive: bool
    tail: str  # all behind the verb

    def inverted(self) -> str | None:
        """What stands behind When, Where ...: "did Anne give", "had the king been"."""
        if self.rest or self.finite in BE:
            return f"{self.finite} {self.shown} {self.rest}".strip()
        if self.finite in ("has", "have", "had"):
            return f"{ {'has': 'does', 'have': 'do', 'had': 'did'}[self.finite]} {self.shown} have"
        base = words.BASE.get(self.finite)
        if base is None:
            return f"do {self.shown} {self.finite}" if is_plural(self.shown) else f"did {self.shown} {self.finite}"
        return f"{'does' if self.finite.endswith('s') and words.past(base) != self.finite else 'did'} {self.shown} {base}"

    def without_subject(self) -> str | None:
        """The same in the passive: "was the letter given"; needs one object."""
        if len(self.objects) != 1 or self.base in ("become", "seem", "remain", "have", "cost", "resemble", "marry", "appear") or self.rest or self.finite in AUXILIARIES or is_pronoun(self.objects[0]):
            return None
        base = words.BASE.get(self.finite)
        if base is None or words.past(base) != self.finite:
            return None
        return f"{'were' if is_plural(self.objects[0]) else 'was'} {lower(self.objects[0])} {words.participle(base)}"


def is_pronoun(phrase: str) -> bool:
    return phrase.lower() in PRONOUNS or phrase.lower() in ("him", "her", "them", "me", "us", "himself", "herself", "themselves", "itself", "myself")


def _read(text: str, parsed: list, before: tuple[str, str] | None) -> _Sentence | None:
    """The sentence if questions can be made of it. `before`: subject and text of the sentence before."""
    begin, end, subject_place, chain, objects, parts, marks = parsed
    sentence = text[begin:end]
    if "not" in marks or chain[-1][1] > len(sentence):
        return None
    spoken = [sentence[one[0] : one[1]] for one in chain]
    subject = sentence[subject_place[0] : subject_place[1]]
    gaps = [sentence[subject_place[1] : chain[0][0]], *(sentence[one[1] : other[0]] for one, other in zip(chain, chain[1:]))]
    if NEGATIVE.search(sentence) or not all(map(ADVERBS.match, gaps)) or subject.split()[0] in ("Blessed", "Cursed", "Hence", "Thus"):
        return None
    if any(not word.isalpha() for word in spoken) or subject_place[1] > chain[0][0] or not 1 < len(subject) < 70 or subject.split()[-1].lower() in AUXILIARIES or re.search(r"[,;:(]", subject):
        return None
    shown = lower(subject)
    if is_pronoun(subject):
        shown = ""
        if subject in ("He", "She", "he", "she") and before and not is_pronoun(before[0]) and re.fullmatch(r"(?:[A-Z][\w.]+ ?){1,3}", before[0]) and is_person(before[0]):
            others = {name for name in re.findall(r"(?<!^)(?<!\. )\b[A-Z][a-z]{2,}", before[1])} - set(before[0].split())
            if not others:
                shown = before[0]
    elif subject.split()[0].lower() in PRONOUNS - DETERMINERS or not (subject[0].isupper() or subject.split()[0] in DETERMINERS or subject[0].isdigit() or subject.split()[0].isalpha()):
        return None
    last = spoken[-1]
    tail = sentence[chain[-1][1] : -1].strip()
    if cut := CLAUSE_END.search(tail):
        tail = tail[: cut.start()].strip()
    return _Sentence(
        sentence, subject, shown, spoken[0], " ".join(spoken[1:]), words.BASE.get(last, last), [sentence[one[0] : one[1]] for one in objects],
        [(one[0], *(sentence[one[at] : one[at + 1]] for at in range(1, len(one), 2)), one[-1]) for one in parts], "by" in marks, tail,
    )  # fmt: skip


def _whole(sentence: _Sentence, end: int) -> bool:
    """Whether the part that ends at `end` is not the first of several that are joined."""
    return bool(re.match(r"\.$|;|, (?:but|which|who|where|when|because|so|for|though|although|while)\b| (?:in|on|at|by|to|from|for|with|because|when|before|after|until|during|as|if|while)\b", sentence.text[end:]))


def _made(sentence: _Sentence) -> list[tuple[str, tuple[str, ...], str]]:
    """(family, phrasings, answer) of every part."""
    out: list[tuple[str, tuple[str, ...], str]] = []
    objects, shown, finite = sentence.objects, sentence.shown, sentence.finite
    inverted = sentence.inverted() if shown else None
    passive = sentence.without_subject()
    first = lower(objects[0]) if objects else ""
    verb = f"{finite} {sentence.rest}".strip()
    copula = finite in BE and not sentence.rest
    linking = copula or sentence.base in ("become", "be", "seem", "remain", "appear")
    tail = sentence.tail
    who = shown and is_person(shown)
    asker = "Who" if who else "What"
    parts = sentence.parts
    # The subject.
    if shown and tail and len(tail) < 110 and not (copula and objects and not objects[0][0].isupper()):
        asks = [f"{asker} {verb} {tail}?", f"{asker if is_plural(shown) else 'Which person' if who else 'Which thing'} {verb} {tail}?", f"Name {'who' if who else 'what'} {verb} {tail}."]
        if objects and not copula:
            asks.append(f"{asker} {verb} {first}?")
        if passive and tail.startswith(objects[0]):
            asks += [f"By {'whom' if who else 'what'} {passive}{tail[len(objects[0]):]}?", f"Who{'' if who else ' or what'} {passive.split()[0]} it that {finite} {first}?"]
        out.append(("subject", tuple(asks), shown))
    # Objects.
    if inverted and objects and not copula:
        obj = objects[-1]
        behind = tail.partition(obj)[2] if obj in tail else ""
        at = sentence.text.find(obj)
        if _whole(sentence, at + len(obj)) and len(behind) < 80 and not is_pronoun(obj) and obj not in ("place", "part", "care", "advantage"):
            asker = "Whom" if is_person(obj) else "What"
            between = f" {first}" if len(objects) == 2 else ""
            asks = [f"{asker} {inverted}{between}{behind}?", f"{asker} {inverted}{between}?", f"{capital(shown)} {verb}{between} {asker.lower()}{behind}?", f"Tell me {asker.lower()} {shown} {verb}{between}{behind}."]
            if passive:
                asks += [f"{'Who' if asker == 'Whom' else 'What'} {'was'} {words.participle(sentence.base)} by {shown}{behind}?"]
            out.append(("object", tuple(asks), obj))
            number = MONEY_OR_NUMBER.match(obj)
            if number and (number[1][0].isdigit() or number[1].lower().split("-")[0] in NUMBERS) and number[1].lower() != "several":
                counted = obj[number.end() :].strip()
                out.append(("number", (f"How many {counted} {inverted}?", f"What number of {counted} {inverted}?", f"number of {counted}?"), number[1]))
        if len(objects) == 2 and not is_pronoun(objects[0]) and is_person(objects[0]):
            out.append(("receiver", (f"To whom {inverted} {lower(objects[1])}?", f"Who received {lower(objects[1])} from {shown}?", f"Whom {inverted} {lower(objects[1])}?"), objects[0]))
    if copula and shown and objects and len(objects[0]) < 120 and _whole(sentence, sentence.text.find(objects[0]) + len(objects[0])):
        described = objects[0]
        out.append(("is", (f"{asker if not who else 'Who'} {finite} {shown}?", f"How {finite} {shown} described?", f"What do we learn about {shown}?", f"Tell me {'who' if who else 'what'} {shown} {finite}.", f"What does the text say {shown} {finite}?"), described))
    body = None
    if inverted:
        body = f"{inverted} {' '.join(map(lower, objects))}".strip() if not copula else None
        if copula and not objects:
            body = inverted
    forms = [form for form in (body, passive) if form]
    for part in parts:
        link, text, end = part[0], part[-2], part[-1]
        if link == "MX" and len(part) == 4:
            noun = lower(part[1])
            if noun.split()[0] in PREPOSITIONS and " " in noun:
                noun = noun.partition(" ")[2]
            if is_pronoun(noun) or len(noun) > 60:
                continue
            relative = re.match(r"(?:who|which) ([a-z][^,;]{8,90})$", text)
            if relative:
                out.append(("relative", (f"{'Who' if text.startswith('who') else 'What'} {relative[1]}?", f"Which {'person' if text.startswith('who') else 'thing'} {relative[1]}?", f"Name the one {text}."), noun if noun in part[1] else part[1]))
            elif text.split()[0] in ("a", "an", "the", "his", "her", "their", "my") and not is_time(text) and len(text) > 6:
                out.append(("apposition", (f"{'Who' if is_person(noun) else 'What'} is {noun}?", f"{'Who' if is_person(noun) else 'What'} was {noun}?", f"How is {noun} described?", f"What do we learn about {noun}?"), text))
            continue
        if not forms or link != "CO" and not _whole(sentence, end) or len(text) < 3:
            continue
        bare = lower(text)
        opening, _, phrase = bare.partition(" ")
        if link in ("MVp", "CO") and opening in PREPOSITIONS and phrase and not is_pronoun(phrase):
            asks = _preposition(opening, phrase, forms, sentence)
            if asks and not (linking and asks[0] in ("with", "person")):
                out.append((asks[0], asks[1], text if asks[2] else phrase))
        elif link in ("MVs", "CO") and opening in ("because", "when", "while", "after", "before", "until", "if", "as", "where", "since", "unless", "though", "although") and len(text) < 120:
            if opening == "because":
                out.append(("why", tuple(f"{wh} {form}?" for form in forms for wh in ("Why", "For what reason", "How come that is: why", "What is the reason: why")), phrase))
            elif opening in ("when", "while", "after", "before", "until"):
                out.append(("when", tuple(f"{wh} {form}?" for form in forms for wh in (("Until when",) if opening == "until" else ("When", "At what time", "On what occasion", "At which moment"))), text))
            elif opening in ("if", "unless"):
                out.append(("condition", tuple(f"{wh} {form}?" for form in forms for wh in ("Under what condition", "In which case", "On what condition")), text))
        elif link == "MVi" and not linking and bare.startswith("to ") and len(text) < 110:
            out.append(("purpose", tuple(f"{wh} {form}?" for form in forms for wh in ("Why", "For what purpose", "To what end", "With what aim")), text))
        elif link == "MVa" and text.endswith("ly") and " " not in text:
            out.append(("manner", tuple(f"{wh} {form}?" for form in forms for wh in ("How", "In what way", "In what manner")), text))
        elif link in ("TH", "Ce") and inverted and 12 < len(text) < 130:
            out.append(("clause", (f"What {inverted}?", f"Tell me what {shown} {verb}.", f"{capital(shown)} {verb} what?"), text.removeprefix("that ")))
        elif link == "Pa" and copula and shown:
            out.append(("quality", (f"How {finite} {shown}?", f"How {finite} {shown} described?", f"What does the text say about how {shown} {finite}?"), text))
    if sentence.passive and shown:
        agents = [part[1] for part in parts if part[0] == "MVp" and part[1].startswith("by ") and _whole(sentence, part[2])]
        if agents and finite in ("was", "were") and sentence.rest.count(" ") == 0 and sentence.base in words.BASE.values():
            out.append(("agent", (f"Who {words.past(sentence.base)} {shown}?", f"By whom {finite} {shown} {sentence.rest}?", f"Who {finite} {shown} {sentence.rest} by?", f"Name who {words.past(sentence.base)} {shown}."), agents[0][3:]))
    return out


def _preposition(word: str, phrase: str, forms: list[str], sentence: _Sentence) -> tuple[str, tuple[str, ...], bool] | None:
    """(family, phrasings, whether the preposition belongs to the answer)."""
    def ask(*whs: str) -> tuple[str, ...]:
        return tuple(f"{wh} {form}?" for form in forms for wh in whs)

    def stranded(*whs: str) -> tuple[str, ...]:
        return tuple(f"{wh} {form} {word}?" for form in forms for wh in whs)

    if is_time(phrase) and word in ("in", "on", "at", "by", "during", "since", "until", "till", "after", "before", "within", "from"):
        if word in ("since", "until", "till"):
            return "when", ask(f"{capital(word)} when"), False
        if word == "within":
            return "when", ask("Within what time", "How fast"), False
        return "when", ask("When", "At what time", "On what occasion", "When exactly"), word not in ("in", "on", "at")
    if re.match(r"(?:\d+|two|three|four|five|six|seven|eight|nine|ten|twenty|forty|many|a few|several) (?:years|days|hours|weeks|months|minutes|nights|winters)", phrase) and word in ("for", "in", "after"):
        return "duration", ask("How long" if word == "for" else "When", "For how long" if word == "for" else "At what time"), word == "after"
    name = phrase[0].isupper() and phrase.split()[0].lower().rstrip(".") not in TITLES
    if name and word in ("in", "at", "near", "into") or name and word in ("to", "from", "through", "towards") and sentence.base in MOTION:
        return "where", ask("Where", "In what place", "In which place") if word in ("in", "at", "near") else ask("Where", "To what place") if word in ("to", "into", "towards") else ask(f"{capital(word)} where"), word == "near"
    if is_person(phrase):
        if word in ("to", "with", "for", "from", "against", "behind", "beside", "without", "among", "before"):
            return "person", ask(f"{capital(word)} whom") + stranded("Who", "Whom"), False
        return None
    if word in ("in", "at", "on", "near", "under", "behind", "beside", "between", "among", "across", "inside", "outside", "above", "below", "within") and is_place(phrase):
        return "where", ask("Where", "In what place", "At which place", "In which location"), word not in ("in", "at", "on", "inside", "within")
    if word == "from" and is_place(phrase):
        return "where", ask("From where", "From which place") + stranded("Where"), False
    if word in ("to", "into", "towards", "toward", "through") and is_place(phrase):
        return "where", ask("Where", "To what place") if word in ("to", "into") else ask(f"{capital(word)} what"), False
    if word in ("with", "against", "for", "from", "without", "about", "like", "over", "through"):
        return "with", ask(f"{capital(word)} what") + stranded("What"), False
    if word == "because" and phrase.startswith("of "):
        return "why", ask("Why", "For what reason", "Because of what"), False
    return None


def asks(page: dict) -> list[Ask]:
    """Every question that can be asked on the page's parsed sentences, in the order of the text."""
    text = page["text"]
    counted: collections.Counter[str] = collections.Counter()
    by_stem: dict[str, set[int]] = collections.defaultdict(set)
    for number, one in enumerate(re.split(r"[.!?\n]+[\"”’]? ", text)):
        for stem in stems(one):
            counted[stem] += 1
            by_stem[stem].add(number)
    out: list[Ask] = []
    before: tuple[int, str, str] | None = None
    for parsed in page.get("parsed") or ():
        begin, end = parsed[0], parsed[1]
        near = before and 0 <= begin - before[0] <= 2
        sentence = _read(text, parsed, before[1:] if near else None)
        subject = text[begin + parsed[2][0] : begin + parsed[2][1]]
        before = (end, subject, text[begin:end])
        if sentence is None or text.count(sentence.text) != 1:
            continue
        for family, phrasings, answer in _made(sentence):
            if len(answer) < 2 or is_pronoun(answer) or answer not in sentence.text and answer not in text:
                continue
            kept = []
            for phrasing in phrasings:
                asked = stems(phrasing) - stems("which person thing name tell described learn about text say exactly reason purpose condition manner place location occasion moment time number")
                if not asked or answer in phrasing or len(phrasing) > 200:
                    continue
                shared = set.intersection(*(by_stem.get(stem, set()) for stem in asked)) if all(stem in by_stem for stem in asked) else None
                if shared is None:  # a form that the text does not have: leave its word out
                    known = [by_stem[stem] for stem in asked if stem in by_stem]
                    shared = set.intersection(*known) if known else {0, 1}
                if len(shared) <= 1:
                    kept.append(re.sub(r"\s+", " ", phrasing))
            if kept:
                out.append(Ask(begin, end, f"parsed_{family}", sentence.shown or (sentence.objects[0] if sentence.objects else ""), tuple(kept), answer))
    return out


def phrase(rng: random.Random, ask: Ask, name: str, cue: bool) -> str:
    asked = rng.choice(ask.phrasings)
    if cue:
        asked = rng.choice(CUES).replace("{t}", name).replace("{q}", asked).replace("{l}", asked[0].lower() + asked[1:])
    return asked


def question(rng: random.Random, found: list[Ask], start: int, stop: int, text: str, name: str, everything: str) -> Question | None:
    """A question on a sentence between `start` and `stop` of the page; now and then one on another sentence of the page, which the context
    then does not answer."""
    if not found:
        return None
    ask = rng.choice(found)
    if ask.family in ("parsed_subject", "parsed_is", "parsed_quality"):  # half of all: the others teach more
        ask = rng.choice(found)
    sentence_inside = start <= ask.begin and ask.end <= stop
    if not sentence_inside:
        if rng.random() < 0.35 and ask.anchor in text and ask.answer not in everything and ask.family not in ("parsed_is", "parsed_quality"):
            return Question("none_parsed", phrase(rng, ask, name, False), None)
        return None
    elsewhere = bool(ask.anchor) and everything.count(ask.anchor) > text.count(ask.anchor)
    if ask.answer not in text:
        return None
    return Question(ask.family, phrase(rng, ask, name, elsewhere or rng.random() < CUE_SHARE), ask.answer)
