"""Question frames: one wh-question or noun phrase becomes many questions.

A wh-question template ("How long is {e}?") yields its direct form, its embedded form ("how long {e} is", made here by moving the
auxiliary) and a form without the entity's name. A noun phrase ("length" of an entity) yields "What is the length of ...", keywords
and imperatives. The last frame of each list is held out.
"""

import dataclasses
import random
import re

DIRECT = (
    "{Q}", "{Q}", "{Q}", "{Q}", "{q}", "Please tell me: {q}", "Quick question: {q}", "In the text: {q}", "According to the document, {q}", "Answer from the text: {Q}", "{Q} Answer briefly.", "Question: {Q}", "I was wondering, {q}",
    "From what is written, {q}", "{Q} Please.", "One more thing: {q}", "Going by the documents, {q}",
)  # fmt: skip
EMBEDDED = (
    "Can you tell me {c}?", "Tell me {c}.", "I need to know {c}.", "I would like to know {c}.", "Do you know {c}?", "Could you check {c}?", "Find out {c}.", "Does the text say {c}?", "I wonder {c}.", "Please look up {c}.",
    "Say {c}.", "It would help me to know {c}.", "can you find {c}", "Does anybody know {c}?", "I have forgotten {c}.", "Remind me {c}.", "Would you mind telling me {c}?",
)  # fmt: skip
PHRASE = (
    "{W} {be} {n}?", "{W} {be} {n}?", "{W} {be} {n}?", "{w} {be} {n}", "Name {n}.", "Give {n}.", "State {n}.", "Tell me {n}.", "Find {n}.", "Look up {n}.", "I am looking for {n}.", "What does the text give as {n}?",
    "Can you tell me {n}?", "I need {n}.", "Please give me {n}.", "What is stated about {n}?", "{N}, please.", "Could I have {n}?", "What do we know about {n}?", "{N}?", "Do you have {n}?",
)  # fmt: skip
HAVE = ("Which {k} does {e} have?", "What {k} does {e} have?", "What's the {k} of {e}?", "whats the {k} of {e}", "{e} has which {k}?", "Is there a {k} given for {e}, and which?")
KEYWORD = ("{k} {e}", "{k} {e}?", "{e} {k}", "{e}: {k}?", "{e} - {k}?", "{k} ({e})?", "{k}: {e}?", "{k}, {e}?")
KEYWORD_LOOSE = ("what's the {k}?", "whats the {k}", "which {k}?", "{k} please", "{K}: what?", "{k}?", "{K}?", "{k}", "the {k}?", "{k}:")

_AUX = "is|was|are|were|will|can|must|should|has|had|may|could|would|have"
_NAMED = r"\{\w+\}(?:'s \w+)?|(?:the|a) [\w ]+? (?:of|for|in|at|on|to|from) \{\w+\}|the (?:writer|applicant|travellers|customer|insured|client|company|court|judge|defendant|tenant)"
_MOVE = re.compile(rf"^(.+?) ({_AUX}) (\{{\w+\}}|it)(?: (.*))?$")
_PHRASE_MOVE = re.compile(
    r"^(Who|What|How much|How high|How long|How big|Which \w+) (is|was|are|were) ((?:the|\{\w+\}'s|its|an?) [\w' -]+?(?: (?:of|for|in|at|on|to|under|from) (?:\{\w+\}(?:'s \w+)?|the [\w ]+))?)$"
)
_DO = re.compile(rf"^(.+?) (does|did|do) ({_NAMED}) (\w+)(.*)$")
_PAST = dict(
    pair.split("=")
    for pair in (
        "have=had deal=dealt let=let occur=occurred send=sent sink=sank withdraw=withdrew lay=laid hang=hung draw=drew strike=struck leave=left go=went come=came take=took give=gave make=made say=said see=saw find=found get=got become=became begin=began win=won lose=lost buy=bought sell=sold build=built write=wrote grow=grew teach=taught "
        "study=studied die=died live=lived move=moved arrive=arrived retire=retired receive=received cost=cost pay=paid lead=led spend=spent hold=held meet=met marry=married stop=stopped fall=fell break=broke set=set run=ran "
        "rise=rose eat=ate drink=drank wear=wore choose=chose stand=stood lie=lay feel=felt keep=kept bring=brought hear=heard read=read put=put hide=hid learn=learned think=thought fetch=fetched use=used serve=served "
        "decide=decided close=closed replace=replaced cause=caused complete=completed practise=practised rule=ruled award=awarded score=scored travel=travelled admit=admitted do=did raise=raised decline=declined fail=failed "
        "play=played stay=stayed sign=signed sit=sat swim=swam drive=drove ride=rode speak=spoke escape=escaped measure=measured invent=invented settle=settled catch=caught throw=threw plan=planned blame=blamed graduate=graduated"
    ).split()
)


def _third(verb: str) -> str:
    if verb == "have":
        return "has"
    if verb in ("do", "go") or verb.endswith(("s", "sh", "ch", "x", "z")):
        return verb + "es"
    return verb[:-1] + "ies" if verb.endswith("y") and verb[-2] not in "aeiou" else verb + "s"


def past(verb: str) -> str:
    return _PAST.get(verb, verb + ("d" if verb.endswith("e") else "ed"))


def lower_first(text: str) -> str:
    return text[0].lower() + text[1:] if not text.startswith("I ") else text


def upper_first(text: str) -> str:
    return text[0].upper() + text[1:]


def embed(question: str) -> str | None:
    """The clause of an indirect question: "How long is {e}?" -> "how long {e} is"; None where word order is not plain."""
    if not question.endswith("?"):
        return None
    body = question[:-1]
    if match := _DO.match(body):
        wh, aux, subject, verb, rest = match.groups()
        if verb in ("not", "mainly", "first", "always", "ever", "really", "also"):
            return lower_first(f"{wh} {subject} {aux} not{rest}") if verb == "not" else None
        return lower_first(f"{wh} {subject} {_third(verb) if aux == 'does' else verb if aux == 'do' else past(verb)}{rest}")
    if match := _MOVE.match(body):
        wh, aux, subject, rest = match.groups()
        return lower_first(f"{wh} {subject} {aux}{' ' + rest if rest else ''}")
    if match := _PHRASE_MOVE.match(body):
        wh, aux, phrase = match.groups()
        if re.search(r" (?:in|of|at|with|for|to)$| (?:to|that|who|which|been|\w+ed|given|kept|held|paid|found|built|made|sent|hidden|sold) ?", phrase + " "):
            return None
        return lower_first(f"{wh} {phrase} {aux}")
    if re.match(r"^(?:Who|What|Which|How many|Whose)\b", body) and not re.search(rf"\b(?:do|does|did)\b|^(?:Who|What) (?:{_AUX}) (?:the|a|an|it)\b|^\w+(?: \w+)? (?:{_AUX}) \{{|(?:is|are|was|were) there", body):
        words = body.split()
        if words[1] not in _AUX.split("|") or len(words) > 2 and not words[2].startswith(("{", "the", "a")):
            return lower_first(body)
    return None


@dataclasses.dataclass(frozen=True)
class Asking:
    """A wh-question, ready to be framed."""

    text: str
    clause: str | None

    @staticmethod
    def parse(text: str) -> "Asking":
        clause = embed(text)
        return Asking(text, clause and clause.replace(" can not ", " cannot "))


def frame(rng: random.Random, frames: tuple[str, ...], hold: int) -> str:
    return frames[-1] if hold == 1 and rng.random() < 0.5 else rng.choice(frames[:-1])


def ask(rng: random.Random, asking: Asking, hold: int = 0) -> str:
    """A direct or embedded question; the template's own slots are left in place."""
    if asking.clause is not None and rng.random() < 0.3:
        return frame(rng, EMBEDDED, hold).replace("{c}", asking.clause)
    text = asking.text
    if rng.random() < 0.65:
        return text
    out = frame(rng, DIRECT, hold).replace("{Q}", text)
    if "{q}" in out:
        bare = lower_first(text)
        out = out.replace("{q}", bare.rstrip("?") if out == "{q}" and rng.random() < 0.5 else bare)
    return out


def careless(rng: random.Random, text: str) -> str:
    """Now and then a question as it is typed in haste: without capitals and mark."""
    return text.lower().rstrip("?.: ") if rng.random() < 0.04 else text


def ask_phrase(rng: random.Random, phrase: str, wh: str, plural: bool, hold: int = 0) -> str:
    """A question for a noun phrase that begins with its article."""
    text = frame(rng, PHRASE, hold)
    return text.replace("{n}", phrase).replace("{N}", upper_first(phrase)).replace("{W}", wh).replace("{w}", wh.lower()).replace("{be}", "are" if plural else "is")
