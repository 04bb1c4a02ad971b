"""Other words for the same: a template becomes several by the exchange of one word or phrase, the grammar staying as it is."""

import re

# What is exchanged and for what; only pairs that read well wherever the tables use them.
_EXCHANGES = """
a month: per month, each month|afraid: scared, frightened|agreement: contract|allowed: permitted|amounts to: comes to|arrives: gets in|at least: no less than|at what time: when|be reached: be contacted|because: since, as
because of: on account of, owing to|began: started|begin: start, commence|begins: starts, commences|bought: purchased|buy: purchase|built: constructed, erected|cancelled: called off, scrapped|caused: brought about, triggered
children: kids|closed: shut|delayed: held up|departs: leaves|due to: owing to|each month: every month|employees: staff members|ends: finishes, concludes|enjoys: likes|famous: renowned, well known|fond of: keen on|forbid: ban, prohibit
forbids: bans, prohibits|founded: established, set up|guests: visitors|happen: occur|happened: occurred|hidden: concealed|hired: engaged|how long does: for how long does|how long must: for how long must|illness: disease
in which year: when|in which town: where|injured: hurt|invented: devised|job: post|large: big|lives in: resides in|live in: reside in|look after: take care of, care for|looks after: takes care of, cares for|looked after: taken care of, cared for
love: adore|loves: adores|main: chief, principal|managed by: run by|manages: runs|may: can|mostly: mainly, chiefly|need: require|needs: requires|needed: required|next to: beside|on which day: on what date|owns: possesses
price: cost|provided that: on condition that, as long as|pupils: students|purpose: aim|responsible for: in charge of, accountable for|show: display|sponsored: backed|stolen: taken|suffer from: struggle with|suffers from: struggles with, is afflicted by
takes place: is held|took place: was held|treated by: seen by|visitors: guests|who is: who exactly is|why: for what reason|wrote: composed, penned|doctor: physician|employer: boss|firm: company, business|town: place|large: sizeable|got lost: went missing
located: situated|reward: prize|quarrel: argument|given to: handed to|is found: occurs|take part: participate|took part: participated|gets up: rises|puts an end to: stops|sleep: spend the night
"""
_BY_WORD = {
    key.strip(): tuple(other.strip() for other in others.split(","))
    for key, others in (pair.split(":") for pair in _EXCHANGES.strip().replace("\n", "|").split("|"))
}
_ANY = re.compile(r"(?<![\w{'-])(?<!for )(?<!For )(" + "|".join(sorted(map(re.escape, _BY_WORD), key=len, reverse=True)) + r")(?![\w}'-]| not\b| as\b| for\b| down\b| round\b)", re.IGNORECASE)


def variants(text: str, most: int = 6) -> list[str]:
    """The template with one word exchanged, at most `most` of them."""
    out = []
    for match in _ANY.finditer(text):
        word, before = match.group(1), text[: match.start()]
        for other in _BY_WORD[word.lower()]:
            if before.lower().endswith((" a ", " an ")) and (other[0] in "aeiou") != (word[0].lower() in "aeiou"):
                continue
            out.append(before + (other[0].upper() + other[1:] if word[0].isupper() else other) + text[match.end() :])
    return out[:most]


def widened(texts: tuple[str, ...], held_out: str) -> tuple[str, ...]:
    """The templates and their variants, without the one that is held out."""
    out = dict.fromkeys(texts)
    for text in texts:
        out.update(dict.fromkeys(variants(text)))
    out.pop(held_out, None)
    return tuple(out)
