"""Builds training and test sequences: several documents, then many questions, in prompt layout v1.

A sequence is one context as the server sees it: <bos> (<doc> title <text> text)* (<q> question <a> answer <end>)*. Real pages
are cut to token windows; invented documents and needles are put between and into them.
"""

import collections
import concurrent.futures
import dataclasses
import json
import lzma
import os
import pathlib
import random

import numpy as np
from reflow import reflow
from tasks import Hold, Question, invented, mix, pages, parsed, scattered, sentences, words
from tasks.frames import lower_first

PAD, BOS, DOC, TEXT, Q, A, END, NONE = range(8)
# Options and purposes of commands are what people ask of manual pages; synopses of functions hardly.
ITEM_WEIGHTS = {"option": 4.0, "name": 8.0, "variable": 3.0, "file": 3.0, "author": 5.0, "exit": 3.0}
SCATTERED_SHARE, SCATTERED_EVERY = 0.55, 6144  # of the contexts that hold groups of scattered sentences; tokens for each group more
NAMING = ('In "{t}": {Q}', "In {t}, {q}", "According to {t}, {q}", "{Q} (see {t})", "{t}: {q}", "{Q} I mean in {t}.", 'What does "{t}" say: {q}', "From {t}: {Q}")
PAGE_WEIGHTS = {"man": 3.0, "prose": 2.0}  # how much likelier than other pages of its length a page is taken
PARSED_WEIGHT = 6.0  # the same, of pages whose sentences were parsed
UNANSWERABLE_KEPT = 0.5  # of the invented documents' questions that they do not answer: one natural question in ten is to have no answer
ASK_MARGIN = 400  # characters beside a window whose sentences give questions that it does not answer
PARSED_SHARE = 0.62  # of the questions on a page of parsed prose
# Families whose questions people would put in words of their own; quotes, options and keys stay as they are.
NATURAL = ("sentence_", "story", "relation", "event", "parsed_", "fact", "none_story", "none_relation", "none_event", "none_parsed", "none_fact")
EXCHANGED_SHARE, EXCHANGED_WORDS = 0.7, 0.35  # of these questions; of their words that have others
INVENTED_SHARE = 0.42  # of the documents of a context; pages are longer
# Of the contexts of so many tokens, a share is someone's folder of manual pages: nothing else, most of them whole, look-alike options in all.
SHELF_FROM, SHELF_SHARE, SHELF_OPTIONS = 12288, 0.25, 4
WHOLE_SHARE, WHOLE = 0.8, 12000  # of such pages; tokens that still count as a whole page
_tokenizer = None


def _tokenize_page(page: dict) -> dict:
    """Adds ids (uint16), first (uint32: character each token begins at) and places (item, begin, end) to a page."""
    encoded = _tokenizer.encode(page["text"], add_special_tokens=False)
    page["ids"] = np.array(encoded.ids, np.uint16)
    page["first"] = np.array([begin for begin, _ in encoded.offsets], np.uint32)
    places = []
    cursor = 0
    for item in page["items"]:
        kind, key, value = item
        if key and sum(character.isalnum() for character in key) < 1 + (kind == "term"):
            continue
        begin = page["text"].find(f"{key} {value}" if key else value, cursor)
        if begin < 0:
            begin = page["text"].find(key, cursor)
        found = page["text"].find(value, max(begin, 0))
        if begin < 0 or found < 0 or found - begin > 600:
            continue
        cursor = begin
        places.append((item, begin, found + len(value)))
    page["places"] = places
    page["asks"] = parsed.asks(page) if page.get("parsed") else []
    page.pop("parsed", None)
    return page


def _init(tokenizer_path: str) -> None:
    global _tokenizer
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer

    _tokenizer = Tokenizer.from_file(tokenizer_path)
    _tokenizer.encode_special_tokens = True


def load_pages(paths: pathlib.Path | str, tokenizer_path: pathlib.Path, splits: set[str], workers: int, limit: int = 0) -> list[dict]:
    """Reads and tokenizes the pages of the given splits with `workers` processes. `paths`: one file, or several parted by commas."""
    chosen = []
    for path in str(paths).split(","):
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            chosen += [page for page in map(json.loads, lines) if page["split"] in splits]
    if limit:
        chosen = chosen[:: max(1, len(chosen) // limit)]
    if workers <= 1:
        _init(str(tokenizer_path))
        return [_tokenize_page(page) for page in chosen]
    with concurrent.futures.ProcessPoolExecutor(workers, initializer=_init, initargs=(str(tokenizer_path),)) as pool:
        return list(pool.map(_tokenize_page, chosen, chunksize=32))


@dataclasses.dataclass
class Sequence:
    """One context. tokens uint16 [length] (padded with <pad>); answer bool [length]: the token is an answer token or its <end>;
    text bool [length]: a token of a title or text; answers: (family, begin, end) in tokens, end past <end>."""

    tokens: np.ndarray
    answer: np.ndarray
    text: np.ndarray
    answers: list[tuple[str, int, int]]


@dataclasses.dataclass
class _Placed:
    """A document of a context under construction."""

    title: str
    name: str
    text: str
    ids: list[int]
    questions: list[Question]
    page: dict | None = None
    items: list | None = None
    labels: set[str] = dataclasses.field(default_factory=set)
    asks: list[parsed.Ask] = dataclasses.field(default_factory=list)  # on sentences of the window, or just beside it
    window: tuple[int, int] = (0, 0)  # the characters of the page that the document shows


class ContextMaker:
    """Makes sequences from tokenized pages. Deterministic for a given seed and page list.

    held_out (tasks.Hold; True is Hold.WORDING) asks what training never shows: held-out wordings, or only held-out relations.
    """

    def __init__(self, page_list: list[dict], tokenizer, seed: int, held_out: int = Hold.TRAIN):
        self.pages = page_list
        self.weights = np.cumsum([min(len(page["ids"]), 12000) ** 0.7 * PAGE_WEIGHTS.get(page["kind"], 1.0) * (PARSED_WEIGHT if page.get("asks") else 1.0) for page in page_list])
        packages: dict[str, list[dict]] = {}
        for page in page_list:
            packages.setdefault(page["package"], []).append(page)
        self.packages = {name: members for name, members in packages.items() if len(members) >= 4}
        self.manuals = list({page["name"]: page for page in page_list if page["kind"] == "man" and sum(place[0][0] == "option" for place in page["places"]) >= SHELF_OPTIONS}.values())
        self.tokenizer = tokenizer
        self.tokenizer.encode_special_tokens = True
        self.rng = random.Random(seed)
        self.held_out = held_out

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _any_page(self, relatives: list[dict] | None = None) -> dict:
        if relatives and self.rng.random() < 0.8:
            return self.rng.choice(relatives)
        return self.pages[int(np.searchsorted(self.weights, self.rng.random() * self.weights[-1], side="right"))]

    def _title(self, page: dict) -> str:
        name = page["name"]
        if page["kind"] == "man":
            return self.rng.choice((name, name, f"{name}.txt", page["title"], f"{page['title']}.txt", f"man/{name}.txt", f"{name} manual page", name.upper()))
        return self.rng.choice((name, page["title"], f"{page['title']}.txt", f"{name}.html"))

    def _window(self, page: dict, size: int) -> _Placed:
        """Up to `size` tokens of the page, from its start or from a paragraph or sentence inside it."""
        rng, text, first = self.rng, page["text"], page["first"]
        begin = 0
        if len(first) > size and rng.random() < 0.7:
            begin = rng.randrange(len(first) - size // 2)
            for mark in ("\n", ". "):
                at = text.find(mark, int(first[begin]))
                if 0 <= at < int(first[begin]) + 400:
                    begin = int(np.searchsorted(first, at + len(mark.rstrip(" "))))
                    begin += begin < len(first) and text[int(first[begin])] == "\n"
                    break
            begin = min(begin, len(first) - 1)
        end = min(len(first), begin + size)
        start = int(first[begin])
        stop = int(first[end]) if end < len(first) else len(text)
        items = [place[0] for place in page["places"] if place[1] >= start and place[2] <= stop]
        asks = [ask for ask in page["asks"] if ask.begin > start - ASK_MARGIN and ask.end < stop + ASK_MARGIN] if page.get("asks") else []
        return _Placed(self._title(page), page["name"], text[start:stop], page["ids"][begin:end].tolist(), [], page, items, asks=asks, window=(start, stop))

    def _insert(self, placed: _Placed, sentence: str) -> None:
        """Puts a sentence behind a random sentence or paragraph end of the document."""
        places = [at for at in (placed.text.find(". ", self.rng.randrange(max(1, len(placed.text) - 10))),) if at > 0]
        at = places[0] + 1 if places else len(placed.text)
        placed.text = f"{placed.text[:at]} {sentence}{placed.text[at:]}"
        placed.ids = self._encode(placed.text)

    def _scatter(self, documents: list[_Placed], group: scattered.Scattered) -> None:
        """Puts the sentences of a group behind sentence ends all over the documents, in their order."""
        rng = self.rng
        places = sorted((index, rng.random()) for index in rng.choices(range(len(documents)), [len(placed.ids) for placed in documents], k=len(group.sentences)))
        for index in {index for index, _ in places}:
            placed = documents[index]
            for (_, share), sentence in reversed([entry for entry in zip(places, group.sentences) if entry[0][0] == index]):
                at = placed.text.find(". ", int(share * len(placed.text)))
                at = at + 1 if at >= 0 else len(placed.text)
                placed.text = f"{placed.text[:at]} {sentence}{placed.text[at:]}"
            placed.ids = self._encode(placed.text)

    def _documents(self, budget: int) -> list[_Placed]:
        rng = self.rng
        documents: list[_Placed] = []
        names: set[str] = set()
        used = 1
        small = rng.random() < 0.5
        shelf = rng.sample(self.manuals, len(self.manuals)) if budget >= SHELF_FROM and self.held_out != Hold.RELATIONS and rng.random() < SHELF_SHARE else []
        # Pages of one package look alike and share options and terms: which page says it must be read, not guessed.
        first = self._any_page()
        relatives = self.packages.get(first["package"]) if rng.random() < 0.4 else None
        while used < budget - 40:
            left = budget - used - 16
            if not shelf and rng.random() < INVENTED_SHARE:
                made = mix.document(rng, self.held_out)
                if made.title in names:
                    continue
                text = reflow(made.text.replace("\n", rng.choice(("\n\n", "\n\n", "\n"))))
                placed = _Placed(made.title, made.title, text, self._encode(text), list(made.questions), labels=made.labels)
                if len(placed.ids) > left:
                    if left < 200:
                        break
                    continue
            else:
                from_shelf = bool(shelf)
                page = shelf.pop() if from_shelf else self._any_page(relatives)
                if page["name"] in names or len(page["ids"]) < 30:
                    continue
                if from_shelf and rng.random() < WHOLE_SHARE:
                    size = min(left, WHOLE)
                else:
                    size = left if left < 300 else rng.randint(120, min(left, 900 if small else 6000))
                placed = self._window(page, size)
                if rng.random() < (0.5 if left > 200 and self.held_out != Hold.RELATIONS else 0):
                    for _ in range(rng.choice((1, 1, 2, 4))):
                        sentence, questions = invented.needle(rng, self.held_out)
                        before = placed.text, placed.ids
                        self._insert(placed, sentence)
                        if len(placed.ids) > left:
                            placed.text, placed.ids = before
                            break
                        placed.questions += questions
            names.add(placed.name)
            documents.append(placed)
            used += len(placed.ids) + len(self._encode(placed.title)) + 2
        if self.held_out == Hold.TRAIN:
            for placed in documents:
                placed.questions = [question for question in placed.questions if question.answer is not None or rng.random() < UNANSWERABLE_KEPT]
        said = collections.Counter(label for placed in documents for label in placed.labels)
        for placed in documents:  # a question must point at one document, or at none
            placed.questions = [asked for question in placed.questions if (asked := self._pointed(question, placed, said))]
        rng.shuffle(documents)
        return documents

    def _pointed(self, question: Question, placed: _Placed, said: collections.Counter) -> Question | None:
        """The question if it points at one document (or at none); else it names its document, or is dropped."""
        answered = question.answer is not None
        if all(said[label] == answered for label in question.needs) and self.rng.random() > 0.04:
            return question
        if question.needs and all((label in placed.labels) == answered for label in question.needs) and self.rng.random() < 0.6:
            text = self.rng.choice(NAMING).replace("{t}", placed.title).replace("{q}", lower_first(question.text)).replace("{Q}", question.text)
            return dataclasses.replace(question, text=text)
        return None

    def _question(self, documents: list[_Placed], everything: str) -> Question | None:
        rng = self.rng
        placed = rng.choice(documents)
        ready = placed.questions
        if self.held_out == Hold.RELATIONS:
            return ready.pop(rng.randrange(len(ready))) if ready and placed.page is None else None
        style = rng.random()
        if ready and (placed.page is None or style < 0.25):
            return ready.pop(rng.randrange(len(ready)))
        if placed.asks and rng.random() < PARSED_SHARE:
            return parsed.question(rng, placed.asks, *placed.window, placed.text, placed.name, everything)
        if style < 0.5:
            if placed.items:
                item = rng.choices(placed.items, [ITEM_WEIGHTS.get(entry[0], 1.0) for entry in placed.items])[0]
                if sum(entry[:2] == item[:2] for entry in placed.items) > 1:  # a word with several senses: no answer is the one
                    return None
                question = pages.item_question(rng, item, placed.name, self.held_out)
                if question and question.answer and question.answer in placed.text:
                    return question
                return None
            style = rng.uniform(0.5, 0.84)
        if style < 0.72:
            return sentences.question(rng, placed.text, placed.name, everything, bool(self.held_out))
        if style < 0.84:
            return pages.continuation(rng, placed.text, everything, self.held_out)
        if style < 0.845:
            return pages.preceding(rng, placed.text, everything)
        if style < 0.855:
            return pages.mentioning(rng, placed.text)
        if style < 0.89:
            return pages.absent_page(rng, self._any_page(), everything)
        if placed.page is not None and style < 0.93:
            return pages.absent_item(rng, self._any_page()["items"], placed.name, placed.text)
        if style < 0.97:
            return sentences.question(rng, placed.text, placed.name, everything, bool(self.held_out))
        return pages.continuation(rng, placed.text, everything, self.held_out)

    def make(self, length: int, share: float) -> Sequence:
        """A sequence of `length` tokens with about `share` of them questions and answers."""
        rng = self.rng
        tokens, answer, text = [BOS], [False], [False]
        answers: list[tuple[str, int, int]] = []
        budget = int(length * (1 - share))
        if length <= 2048 and rng.random() < 0.15:  # small corpora exist too
            budget = rng.randint(80, 700)
        groups = [scattered.sample(rng) for _ in range(1 + length // SCATTERED_EVERY)] if self.held_out != Hold.RELATIONS and rng.random() < SCATTERED_SHARE else []
        reserve = sum(24 * len(group.sentences) for group in groups)
        if reserve > budget // 3:
            groups, reserve = [], 0
        documents = self._documents(budget - reserve)
        while not documents:
            documents = self._documents(budget - reserve)
        for group in groups:
            self._scatter(documents, group)
        ready = [question for group in groups for question in group.questions]
        rng.shuffle(ready)
        for placed in documents:
            piece = [DOC, *self._encode(placed.title), TEXT, *placed.ids]
            tokens += piece
            text += [False] + [True] * (len(piece) - 1)
            text[len(text) - len(placed.ids) - 1] = False
            answer += [False] * len(piece)
        everything = "\n".join(f"{placed.title}\n{placed.text}" for placed in documents)
        asked: set[str] = set()
        failures = 0  # in a row
        while len(tokens) < length - 12 and failures < 60:
            question = ready.pop() if ready and rng.random() < 0.3 else self._question(documents, everything)
            if question is None or question.text in asked:
                failures += 1
                continue
            if self.held_out == Hold.TRAIN and question.family.startswith(NATURAL) and question.family != "sentence_gap" and rng.random() < EXCHANGED_SHARE:
                question = dataclasses.replace(question, text=words.exchanged(rng, question.text, EXCHANGED_WORDS))
            asked.add(question.text)
            target = [NONE] if question.answer is None else self._encode(" " + question.answer)
            asked_tokens = [Q, *self._encode(question.text), A]
            if len(asked_tokens) + len(target) + 1 > length - len(tokens) or len(target) > 60:
                failures += 1
                continue
            failures = 0
            tokens += asked_tokens
            answer += [False] * len(asked_tokens)
            answers.append((question.family, len(tokens), len(tokens) + len(target) + 1))
            tokens += [*target, END]
            answer += [True] * (len(target) + 1)
            text += [False] * (len(asked_tokens) + len(target) + 1)
        tokens, answer, text = tokens[:length], answer[:length], text[:length]
        answers = [entry for entry in answers if entry[2] <= length]
        padding = length - len(tokens)
        return Sequence(
            np.array(tokens + [PAD] * padding, np.uint16),
            np.array(answer + [False] * padding, bool),
            np.array(text + [False] * padding, bool),
            answers,
        )


def positions(rng: np.random.Generator, length: int, limit: int = 1 << 20, spread: bool = True) -> np.ndarray:
    """Positions int32 [length]: a random offset and random gaps, all multiples of 128 so that blocks stay whole.

    Half of the sequences start at 0 without gaps, as most served contexts do.
    """
    out = np.arange(length, dtype=np.int32)
    if not spread or rng.random() < 0.5:
        return out
    blocks = length // 128
    room = limit // 128 - blocks - 1
    gaps = np.zeros(blocks, np.int64)
    count = int(rng.integers(0, 9))
    total = int(room * rng.random() ** 2)
    if count:
        where = rng.integers(0, blocks, count)
        sizes = rng.dirichlet(np.ones(count + 1))[:count] * total
        np.add.at(gaps, where, sizes.astype(np.int64))
    offset = int(rng.integers(0, max(1, room - int(gaps.sum())) + 1)) if rng.random() < 0.7 else 0
    return out + (np.repeat(np.cumsum(gaps), 128)[:length] * 128 + offset * 128).astype(np.int32)
