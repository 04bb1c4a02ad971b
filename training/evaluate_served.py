"""Exact match through the served API: what a user gets, on the sets of question_sets.py and on the handwritten documents.

    make && make python-client
    PYTHONPATH=clients/python .venv/bin/python training/evaluate_served.py --sets sets/8192.json.gz --per-context 40 --replies served.jsonl
    PYTHONPATH=clients/python .venv/bin/python training/evaluate_served.py --handwritten training/handwritten

Starts a server of its own on a fresh data directory (or uses --address), uploads each context as a corpus, asks every question by itself, greedily, and
compares the text. In a handwritten set an answer may have several right spans; articles, quotes and a full stop at either end do not count.
"""

import argparse
import collections
import gzip
import hashlib
import json
import pathlib
import re
import subprocess
import tempfile
import time

import grpc
from intervals import wilson
from lectern.v1 import answers_pb2, answers_pb2_grpc, corpora_pb2, corpora_pb2_grpc, operations_pb2, operations_pb2_grpc

PIECE_BYTES = 1 << 20
ROOT = pathlib.Path(__file__).parents[1]


class Server:
    """Calls of one server."""

    def __init__(self, address: str):
        channel = grpc.insecure_channel(address)
        self.corpora, self.documents = corpora_pb2_grpc.CorporaStub(channel), corpora_pb2_grpc.DocumentsStub(channel)
        self.operations, self.answers = operations_pb2_grpc.OperationsStub(channel), answers_pb2_grpc.AnswersStub(channel)

    def load(self, documents: list[tuple[str, str]]) -> str:
        """Makes a corpus of (title, text) and ingests it."""
        name = self.corpora.CreateCorpus(corpora_pb2.CreateCorpusRequest(parent="tenants/default")).name
        for number, (title, text) in enumerate(documents):
            data = text.encode()
            header = corpora_pb2.UploadDocumentRequest.Header(parent=name, document_id=f"d{number}", display_name=title, media_type="text/plain", sha256=hashlib.sha256(data).digest())
            pieces = [corpora_pb2.UploadDocumentRequest(header=header)]
            pieces += [corpora_pb2.UploadDocumentRequest(data=data[at : at + PIECE_BYTES]) for at in range(0, len(data), PIECE_BYTES)]
            self.documents.UploadDocument(iter(pieces))
        operation = self.corpora.IngestCorpus(corpora_pb2.IngestCorpusRequest(name=name))
        while not operation.done:
            operation = self.operations.WaitOperation(operations_pb2.WaitOperationRequest(name=operation.name))
        if operation.HasField("error"):
            raise RuntimeError(operation.error.message)
        return name

    def ask(self, corpus: str, question: str) -> tuple[str, answers_pb2.AskResponse.Completed, float]:
        """The answer's text, the last message and the seconds it took."""
        begun, text = time.time(), ""
        for event in self.answers.Ask(answers_pb2.AskRequest(corpus=corpus, question=question)):
            text += event.text
        return text, event.completed, time.time() - begun


def plain(text: str) -> str:
    """Without what does not count at either end."""
    text = " ".join(text.split()).strip(" \"'“”‘’.,;:")
    return re.sub(r"^(?:the|an?) ", "", text, flags=re.I).lower()


def start(binary: pathlib.Path, model: pathlib.Path, folder: str) -> tuple[subprocess.Popen, str]:
    log = pathlib.Path(folder) / "log"
    with log.open("w") as out:
        process = subprocess.Popen([binary, "serve", f"--data_dir={folder}/data", f"--model_dir={model}", "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0"], stdout=out, stderr=out)
    while process.poll() is None:
        if found := re.search(r"ready address=(\S+)", log.read_text()):
            return process, found[1]
        time.sleep(0.1)
    raise SystemExit(log.read_text())


def figures(members: list[dict]) -> tuple[float, float, float, int]:
    """Right answers in percent, the interval's ends, and how many answerable questions were refused."""
    right = sum(one["right"] for one in members)
    low, high = wilson(right, len(members))
    return 100 * right / len(members), 100 * low, 100 * high, sum(one["none"] and not one["right"] for one in members)


def table(found: list[dict], sizes: dict[str, list[int]]) -> list[dict]:
    """All questions of each set as one row, as evaluate.py writes them; size: mean tokens of the set's contexts, 0 for the handwritten documents."""
    rows = []
    for name in dict.fromkeys(one["set"] for one in found):
        members = [one for one in found if one["set"] == name]
        right, low, high, refused = figures(members)
        of_set = sizes.get(name, [0])
        rows.append({
            "metric": "handwritten sparse" if name == "handwritten" else "all sparse", "size": round(sum(of_set) / len(of_set)), "value": round(right, 2), "unit": "% exact",
            "questions": len(members), "interval": [round(low, 2), round(high, 2)], "false_none": round(100 * refused / len(members), 2),
        })  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", default="", help="files of question_sets.py --texts, by commas")
    parser.add_argument("--handwritten", type=pathlib.Path)
    parser.add_argument("--contexts", type=int, default=0, help="only the first so many of each set")
    parser.add_argument("--per-context", type=int, default=0, help="only the first so many questions of each context")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "build/release/bin/lectern")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/default")
    parser.add_argument("--address", help="of a running server")
    parser.add_argument("--replies", type=pathlib.Path, help="one JSON line per question")
    parser.add_argument("--out", type=pathlib.Path, help="a table for publish_figures.py")
    arguments = parser.parse_args()
    work: list[tuple[str, list[tuple[str, str]], list[dict]]] = []
    sizes: dict[str, list[int]] = collections.defaultdict(list)  # tokens of the contexts of a set
    for path in filter(None, arguments.sets.split(",")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for one in json.load(file)[: arguments.contexts or None]:
                sizes[path].append(len(one["tokens"]))
                questions = [{"group": family, "question": text, "answers": None if answer is None else [answer]} for family, text, answer in one["texts"]["questions"]]
                work.append((path, one["texts"]["documents"], questions[: arguments.per_context or None]))
    if arguments.handwritten:
        by_document = collections.defaultdict(list)
        for line in (arguments.handwritten / "questions.jsonl").read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            by_document[one["document"]].append({"group": "unanswerable" if one["answers"] is None else f"wording {one['wording']}", "question": one["question"], "answers": one["answers"]})
        work += [("handwritten", [(name, (arguments.handwritten / name).read_text(encoding="utf-8"))], questions) for name, questions in by_document.items()]
    with tempfile.TemporaryDirectory() as folder:
        process, address = (None, arguments.address) if arguments.address else start(arguments.binary, arguments.model, folder)
        server = Server(address)
        found = []
        for name, documents, questions in work:
            corpus = server.load(documents)
            for one in questions:
                text, last, seconds = server.ask(corpus, one["question"])
                none = last.not_in_documents
                right = none if one["answers"] is None else plain(text) in map(plain, one["answers"])
                found.append({"set": name, "group": one["group"], "right": right, "none": none, "text": text, "coverage": last.coverage.mean, "seconds": round(seconds, 3)})
            server.corpora.DeleteCorpus(corpora_pb2.DeleteCorpusRequest(name=corpus))
            print(f"{name}: {sum(one['right'] for one in found)} of {len(found)}", flush=True)
        if process:
            process.terminate()
            process.wait()
    groups = collections.defaultdict(list)
    for one in found:
        groups[f"{one['set']} {one['group']}"].append(one)
        groups[f"{one['set']} all"].append(one)
    for name, members in sorted(groups.items()):
        right, low, high, refused = figures(members)
        print(f"{name:50} {right:6.2f} of {len(members):5} [{low:.1f}, {high:.1f}] false none {refused} median {sorted(one['seconds'] for one in members)[len(members) // 2]} s")
    if arguments.out:
        arguments.out.write_text(json.dumps(table(found, sizes), indent=1) + "\n", encoding="utf-8")
    if arguments.replies:
        arguments.replies.write_text("".join(json.dumps(one) + "\n" for one in found), encoding="utf-8")


if __name__ == "__main__":
    main()
