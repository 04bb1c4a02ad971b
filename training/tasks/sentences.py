"""Questions made from real sentences by their grammar: what a thing is or does, why, how, what happens if, and gaps.

The invented documents teach wordings; these teach real prose, of which no two sentences are alike. A sentence is matched with a list of patterns; what the
pattern names becomes question and answer. The last frame of each list is held out.
"""

import random
import re
from collections.abc import Callable

from tasks import Question

_SENTENCE = re.compile(r"(?<=[.!?\n] )[A-Z][^.!?\n]{24,230}\.(?=\s|$)|(?<=\n)[A-Z][^.!?\n]{24,230}\.(?=\s|$)")
_NP = r"(?:[A-Za-z][\w'/()-]*)(?: (?!and\b|or\b|which\b|that\b|if\b|when\b|is\b|are\b)[\w'/()-]+){0,5}?"
_ENDS = re.compile(r"[,;:(]| which | that is | where ")

VERBS = {
    "contains": "contain", "returns": "return", "specifies": "specify", "controls": "control", "defines": "define", "sets": "set", "prints": "print", "shows": "show", "displays": "display",
    "provides": "provide", "supports": "support", "describes": "describe", "determines": "determine", "indicates": "indicate", "requires": "require", "uses": "use", "creates": "create",
    "removes": "remove", "reads": "read", "writes": "write", "enables": "enable", "disables": "disable", "holds": "hold", "means": "mean", "consists of": "consist of", "refers to": "refer to",
    "depends on": "depend on", "allows": "allow", "lists": "list", "takes": "take", "accepts": "accept", "generates": "generate", "represents": "represent", "includes": "include", "gives": "give",
    "causes": "cause", "checks": "check", "converts": "convert", "deletes": "delete", "runs": "run", "starts": "start", "stops": "stop", "loads": "load", "opens": "open", "stores": "store",
    "sends": "send", "receives": "receive", "changes": "change", "adds": "add", "calls": "call", "implements": "implement", "performs": "perform", "makes": "make", "needs": "need", "offers": "offer",
    "tells": "tell", "handles": "handle", "expects": "expect", "ignores": "ignore", "applies to": "apply to", "belongs to": "belong to", "begins with": "begin with", "ends with": "end with",
}  # fmt: skip
_DOES = re.compile(rf"^(?P<np>(?:The|This|An?|Each|Its|Every) {_NP}) (?:also |always |only |usually |then |normally )?(?P<verb>{'|'.join(VERBS)}) (?P<v>.+)\.$")
_IS = re.compile(rf"^(?P<np>(?:The|An?|Each|Every) {_NP}) (?P<be>is|are|was|were) (?P<v>(?:an?|the|not|one|used|called|always|usually|set|stored|written|made|based|given|available|located|identical|equal|similar|only|in|on|at|by|for|to|from)\b.+)\.$")
_DEFAULT = re.compile(r"^(?P<np>(?:The|Its) default(?: [\w-]+){0,4}) is (?:to )?(?P<v>.+)\.$")
_IF = re.compile(r"^(?P<word>If|When|Unless|After|Before|Once|While) (?P<k>[^,]{8,100}), (?:then )?(?P<v>.{10,140})\.$")
_TO = re.compile(r"^(?P<word>To|In order to) (?P<k>[a-z][^,]{5,80}), (?P<v>.{8,140})\.$")
_BECAUSE = re.compile(r"^(?P<k>.{12,120}?),? (?:because|since|as) (?P<v>(?:the|it|they|this|there|you|we|no|an?|most|some|all|only)\b.{8,120})\.$")
_SO_THAT = re.compile(r"^(?P<k>.{12,120}?),? (?P<word>so that|in order to) (?P<v>.{8,120})\.$")
_THERE = re.compile(r"^There (?:is|are|was|were) (?P<k>.{6,80}?) (?P<v>(?:in|on|at|under|between|within|near) .{4,70})\.$")
_CALLED = re.compile(rf"^(?P<np>.{{4,70}}?) (?:is|are) (?:also |often |sometimes |usually )?(?:called|known as|named) (?:the |an? )?(?P<v>.{{3,60}})\.$")
_BY = re.compile(rf"^(?P<np>{_NP}) (?P<be>was|were|is|are) (?:originally |first |initially )?(?P<verb>written|created|developed|designed|invented|founded|started|maintained|published|discovered|built|made) by (?P<v>.{{4,70}})\.$")
_IN = re.compile(rf"^(?P<np>{_NP}) (?P<be>was|were) (?:originally |first |initially )?(?P<verb>\w+ed|written|begun|made|built) in (?P<v>(?:[A-Z]\w+ )?\d{{4}}|version [\d.]+|[A-Z]\w+ [\d.]+)\b")
_SUCH_AS = re.compile(r"\b(?P<k>(?:[a-z-]+ ){1,3}[a-z-]+s),? (?:such as|for example|including) (?P<v>[^.;()]{6,80}?)(?:[,;)]? (?:are|is|can|may|will|have)\b|\.$)")
_MUST = re.compile(rf"^(?P<np>(?:The |An? |Each |Every |This )?{_NP}) (?P<word>must|should|may|can|cannot|must not|should not|may not|will) (?P<v>(?:be |not be )?[a-z].{{6,120}})\.$")

FRAMES = {
    "what": ("What {do} {np} {base}?", "{np} {verb} what?", "Tell me what {np} {verb}.", "What is it that {np} {verb}?", "I want to know what {np} {verb}."),
    "who": ("What {verb} {v}?", "Which thing {verb} {v}?", "Name what {verb} {v}."),
    "is": ("What {be} {np}?", "What is said about {np}?", "What do we learn about {np}?", "How {be} {np} described?", "Describe {np}.", "What does the text tell about {np}?"),
    "default": ("What is {np}?", "Which value is {np}?", "Tell me {np}.", "{np}?"),
    "if": ("What happens {word} {k}?", "What is the case {word} {k}?", "What follows {word} {k}?", "{word} {k}, what then?", "What does the text say for the case {word} {k}?"),
    "condition": ("In which case is it true that {v}?", "Under which condition does this hold: {v}?", "When does this happen: {v}", "What must be the case so that {v}?"),
    "how": ("How do I {k}?", "How can one {k}?", "What should I do to {k}?", "How to {k}?", "What is the way to {k}?", "I want to {k}. What do I do?"),
    "why": ("Why is it that {k}?", "For what reason {k}?", "What is the reason that {k}?", "{k}: why?", "Why can one say that {k}?"),
    "purpose": ("For what purpose is this: {k}?", "To what end {k}?", "What is the aim: {k}?", "What is meant to be reached in that {k}?"),
    "where": ("Where is there {k}?", "Where does one find {k}?", "In what place is {k}?", "Where can {k} be found?"),
    "called": ("What is {np} called?", "What is the name for {np}?", "Which name is used for {np}?", "How is {np} named?"),
    "by": ("Who is {np} {verb} by?", "By whom {be} {np} {verb}?", "Who has {verb} {np}?", "Name who has {verb} {np}."),
    "in": ("When {be} {np} {verb}?", "In which year or version {be} {np} {verb}?", "Since when {be} {np} {verb}?"),
    "examples": ("Name examples of {k}.", "Which {k} are named?", "Give examples of {k}.", "What are {k}, for example?"),
    "must": ("What {word} {np} do or be?", "What is said of what {np} {word} do?", "{np} {word} ... what?", "Complete what the text rules: {np} {word} what?"),
    "gap": ("Fill the gap: {left} ____ {right}", "Which words are missing: {left} ... {right}?", "What stands between \"{left}\" and \"{right}\"?", "What comes between {left} and {right}?", "Supply the missing words: {left} ___ {right}"),
}  # fmt: skip
GAP_SHARE = 0.07
PRONOUNS = {"It", "You", "He", "She", "They", "This", "We", "I", "That", "These", "There", "One"}
WHERE = ("In {p}: {q}", "According to {p}, {q}", "{q} (in {p})", "{q} See {p}.", "For {p}: {q}")


def _lower(text: str) -> str:
    """A sentence's beginning put inside another: the first letter small unless it looks like a name."""
    return text[0].lower() + text[1:] if re.match(r"(?:The|This|An?|Each|Every|Its|If|When|You|It|They|There|Some|Most|All|In|To|No|These|Those|Any|We|Your|Many|Both) ", text) else text


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _short(value: str) -> str:
    """The value up to its first clause mark, if that leaves something to say."""
    match = _ENDS.search(value, 12)
    return value[: match.start()].rstrip() if match else value


def _frame(rng: random.Random, name: str, held_out: bool, **fields: str) -> str:
    frames = FRAMES[name]
    text = frames[-1] if held_out else rng.choice(frames[:-1])
    for key, value in fields.items():
        text = text.replace("{" + key + "}", value)
    return _capital(text)


def _does(rng, match, held):
    np, verb, value = _lower(match["np"]), match["verb"], match["v"]
    if rng.random() < 0.25 and len(value) < 90:
        return "who", _frame(rng, "who", held, verb=verb, v=value), match["np"]
    return "what", _frame(rng, "what", held, do="does", np=np, base=VERBS[verb], verb=verb), _short(value)


def _is(rng, match, held):
    return "is", _frame(rng, "is", held, be=match["be"], np=_lower(match["np"])), _short(match["v"])


def _if(rng, match, held):
    if rng.random() < 0.3:
        return "condition", _frame(rng, "condition", held, v=_lower(match["v"])), match["k"]
    return "if", _frame(rng, "if", held, word=match["word"].lower(), k=match["k"]), _short(match["v"])


def _simple(name: str, key: str = "k") -> Callable:
    def made(rng, match, held):
        fields = {group: value for group, value in match.groupdict().items() if group != "v"}
        fields[key] = _lower(fields[key])
        return name, _frame(rng, name, held, **fields), _short(match["v"]) if name in ("how", "why", "purpose", "must") else match["v"]

    return made


_PATTERNS: tuple[tuple[re.Pattern, Callable], ...] = (
    (_DEFAULT, _simple("default", "np")), (_IF, _if), (_TO, _simple("how")), (_SO_THAT, _simple("purpose")), (_BECAUSE, _simple("why")), (_THERE, _simple("where")), (_CALLED, _simple("called", "np")),
    (_BY, _simple("by", "np")), (_IN, _simple("in", "np")), (_DOES, _does), (_IS, _is), (_MUST, _simple("must", "np")),
)  # fmt: skip


def _gap(rng: random.Random, sentence: str, held: bool):
    words = sentence[:-1].split(" ")
    missing = rng.randint(1, 5)
    if len(words) < missing + 8:
        return None
    begin = rng.randint(4, len(words) - missing - 4)
    left, right = words[begin - rng.randint(3, 4) : begin], words[begin + missing : begin + missing + rng.randint(3, 4)]
    return "gap", _frame(rng, "gap", held, left=" ".join(left), right=" ".join(right)), " ".join(words[begin : begin + missing])


def question(rng: random.Random, text: str, page_name: str, unique_in: str, held_out: bool = False) -> Question | None:
    """A question on a sentence of `text`; None when the sentence at hand gives none."""
    match = _SENTENCE.search(text, rng.randrange(max(1, len(text) - 100)))
    for _ in range(6):
        if match is None:
            return None
        sentence = match[0]
        made = None
        if rng.random() < GAP_SHARE:
            made = _gap(rng, sentence, held_out)
        else:
            for pattern, build in _PATTERNS:
                found = pattern.match(sentence)
                if found:
                    made = None if found.groupdict().get("np") in PRONOUNS else build(rng, found, held_out)
                    break
            else:
                found = _SUCH_AS.search(sentence)
                if found:
                    made = "examples", _frame(rng, "examples", held_out, k=found["k"]), found["v"]
        if made and 2 < len(made[2]) < 150 and unique_in.count(sentence) == 1:
            name, asked, answer = made
            if name in ("what", "is", "default", "examples", "must", "called", "in", "by") and found:
                key = found.groupdict().get("np") or found.groupdict().get("k")
                if unique_in.count(key) + (unique_in.count(_lower(key)) if _lower(key) != key else 0) > 1:
                    if text.count(key) > 2:
                        return None
                    asked = rng.choice(WHERE).replace("{p}", page_name).replace("{q}", asked)
            elif rng.random() < 0.1:
                asked = rng.choice(WHERE).replace("{p}", page_name).replace("{q}", asked)
            return Question(f"sentence_{name}", asked, answer)
        match = _SENTENCE.search(text, match.end())
    return None
