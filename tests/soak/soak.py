#!/usr/bin/env python3
"""An hour of what a busy day brings: a gateway and a worker as real processes, three tenants with keys, quotas and a
disk cap that holds about half of what they keep, and the generated client.

    make soak                                        # an hour; SOAK_MINUTES=5 make soak
    tests/soak/soak.py --bin=build/release/bin --model=DIR --work=DIR [--minutes=60] [--results=FILE]

Every call says which refusals it reckons with (an evicted cache, a quota, a full queue); everything else is an
unexpected error: other refusals, an answer that prefilled documents again, a quote that is not in the document, an
operation that fails, a process that ends or does not end with 0, damage that `lectern verify` finds afterwards. Answers to
the same question on the same generation must be the same, before and after eviction and rebuild.

Memory and descriptors of both processes are sampled; growth is the median of the last quarter after the warm-up over
that of the first. <work>/summary.json always holds the state of things; SIGTERM ends the run early, with results for what
was run. The exit code is 1 if anything was unexpected or grew.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import traceback
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TENANTS = ("ann", "bob", "cy")
DISK_CAP = "128MiB"
TOKENS_PER_MINUTE = 60_000  # of the one tenant that has a quota
CORPORA_PER_TENANT = 5
WARM_UP_SHARE = 1 / 6
SAMPLE_SECONDS = 10
PIECE_BYTES = 64 << 10
CALL_SECONDS = 300
GROWTH_LIMIT_PERCENT = 5
DESCRIPTOR_LIMIT = 4
SYLLABLES = "ba cor den el fi gra hon is jo ka lu mi nor ov pe qui ra st tu ver".split()
QUESTIONS = ("What happened?", "Who was it, and when?", "Why did it end?", "Where is the corden?", "How many are left?")


class Refused(Exception):
    """A refusal that the call reckoned with."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class Record:
    """What all threads add to."""

    def __init__(self, folder: pathlib.Path):
        self.lock = threading.Lock()
        self.calls = collections.Counter()
        self.refusals = collections.Counter()
        self.unexpected = []
        self.same_answers = 0
        self.log = open(folder / "unexpected.log", "a", encoding="utf-8")

    def call(self, name: str) -> None:
        with self.lock:
            self.calls[name] += 1

    def refusal(self, reason: str) -> None:
        with self.lock:
            self.refusals[reason] += 1

    def wrong(self, what: str) -> None:
        with self.lock:
            self.unexpected.append(what)
            self.log.write(f"{time.strftime('%H:%M:%S')} {what}\n")
            self.log.flush()


class Servers:
    """A worker and a gateway, started and ended as in a deployment."""

    def __init__(self, options: argparse.Namespace, folder: pathlib.Path):
        self.folder = folder
        self.bin = pathlib.Path(options.bin)
        self.keys = folder / "keys.json"
        self.operator = self.key("operator", None)
        self.tenant_keys = {tenant: self.key("admin", tenant) for tenant in TENANTS}
        listen = ["--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0"]
        self.worker, line = self.start(
            "worker", ["lectern-worker", *listen, f"--data_dir={folder / 'data'}", f"--model_dir={options.model}",
                       "--pool_bytes=32MiB", "--index_bytes=64MiB", "--request_bytes=256MiB", f"--threads={options.threads}",
                       f"--disk_cap={DISK_CAP}"])
        worker = self.field(line, "address")
        self.metrics = {"worker": self.field(line, "metrics")}
        self.gateway, line = self.start(
            "gateway", ["lectern-gateway", *listen, f"--worker={worker}", f"--keys_file={self.keys}",
                        f"--audit_log={folder / 'audit.jsonl'}"])
        self.address = self.field(line, "address")
        self.metrics["gateway"] = self.field(line, "metrics")

    def key(self, role: str, tenant: str | None) -> str:
        command = [self.bin / "lectern", "keys", "create", f"--keys_file={self.keys}", f"--role={role}"]
        if tenant is not None:
            command.append(f"--tenant={tenant}")
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def start(self, name: str, command: list[str]):
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen([self.bin / command[0], *command[1:]], stdout=subprocess.PIPE, stderr=log, text=True)
        line = process.stdout.readline()
        if " ready " not in line:
            sys.exit(f"{name} did not start: {line!r}; see {self.folder / name}.log")
        return process, line

    @staticmethod
    def field(line: str, key: str) -> str:
        return re.search(rf" {key}=(\S+)", line).group(1)

    def processes(self) -> dict[str, subprocess.Popen]:
        return {"worker": self.worker, "gateway": self.gateway}

    def cpu_seconds(self) -> float:
        total = 0
        for process in self.processes().values():
            fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def stop(self, record: Record) -> None:
        for name, process in reversed(self.processes().items()):
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=120)
            if code != 0:
                record.wrong(f"the {name} ended with {code}")

    def verify(self, record: Record) -> None:
        done = subprocess.run([self.bin / "lectern", "verify", f"--data_dir={self.folder / 'data'}"], capture_output=True, text=True)
        if done.returncode != 0:
            record.wrong(f"lectern verify: {done.stdout}{done.stderr}")


class Pace:
    """Keeps the servers at about `share` of a core: who is ahead sleeps."""

    def __init__(self, servers: Servers, share: float):
        self.servers = servers
        self.share = share
        self.begin = time.monotonic()
        self.used = servers.cpu_seconds()

    def wait(self, stop: threading.Event) -> None:
        while not stop.is_set():
            ahead = (self.servers.cpu_seconds() - self.used) / self.share - (time.monotonic() - self.begin)
            if ahead <= 0:
                return
            stop.wait(min(ahead, 1))


class Client:
    """The generated client with a key, and the reasons of refusals."""

    def __init__(self, address: str, key: str, record: Record):
        from lectern.v1 import (answers_pb2_grpc, corpora_pb2_grpc, models_pb2_grpc, operations_pb2_grpc, sessions_pb2_grpc,
                                tenants_pb2_grpc)
        channel = grpc.insecure_channel(address)
        self.metadata = (("authorization", f"Bearer {key}"),)
        self.record = record
        self.stubs = {
            "Answers": answers_pb2_grpc.AnswersStub(channel), "Corpora": corpora_pb2_grpc.CorporaStub(channel),
            "Documents": corpora_pb2_grpc.DocumentsStub(channel), "Models": models_pb2_grpc.ModelsStub(channel),
            "Operations": operations_pb2_grpc.OperationsStub(channel), "Sessions": sessions_pb2_grpc.SessionsStub(channel),
            "Tenants": tenants_pb2_grpc.TenantsStub(channel)}

    def method(self, name: str):
        service, method = name.split("/")
        return getattr(self.stubs[service], method)

    def call(self, name: str, request, *expected: str):
        self.record.call(name)
        try:
            return self.method(name)(request, metadata=self.metadata, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            raise self.refused(name, error, expected) from error

    def refused(self, name: str, error: grpc.RpcError, expected: tuple[str, ...]) -> Exception:
        status = rpc_status.from_call(error)
        reason = reason_of(status) if status is not None else f"{error.code()} {error.details()}"
        if reason not in expected:
            return AssertionError(f"{name}: {reason}: {error.details()}")
        self.record.refusal(reason)
        return Refused(reason)


def reason_of(status) -> str:
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return f"code {status.code} without a reason"


def text(source: random.Random, words: int) -> bytes:
    made = []
    for _ in range(words):
        dice = source.randrange(40)
        made.append("".join(source.choices(SYLLABLES, k=source.randint(1, 3))))
        made.append(".\n\n" if dice == 0 else ". " if dice < 4 else " ")
    return "".join(made).encode()


class Corpus:
    def __init__(self, name: str):
        self.name = name
        self.documents = {}       # id -> bytes, as they are
        self.snapshot = {}        # those of the current generation, by name
        self.generation = ""
        self.answers = {}         # question -> answer of the current generation
        self.pinned = False


class TenantLoad(threading.Thread):
    """One tenant, doing one thing after the other."""

    BUSY = ("QUEUE_FULL", "TOKEN_QUOTA_EXCEEDED", "REQUEST_QUOTA_EXCEEDED")

    def __init__(self, tenant: str, servers: Servers, record: Record, pace: Pace, stop: threading.Event, seed: int):
        super().__init__(name=tenant)
        self.parent = f"tenants/{tenant}"
        self.client = Client(servers.address, servers.tenant_keys[tenant], record)
        self.record = record
        self.pace = pace
        self.stop = stop
        self.random = random.Random(f"{seed} {tenant}")
        self.corpora = {}
        self.made = 0
        self.actions = {self.ask: 40, self.session: 10, self.retrieve: 10, self.look: 12, self.grow: 10, self.rebuild: 6,
                        self.pin: 3, self.cancel_answer: 4, self.cancel_ingest: 3, self.forget_document: 3, self.forget_corpus: 3,
                        self.mistake: 6}

    def run(self) -> None:
        while not self.stop.is_set():
            action = self.random.choices(list(self.actions), list(self.actions.values()))[0]
            if not self.corpora or len(self.corpora) < 2:
                action = self.grow
            try:
                action()
            except Refused as refusal:
                if refusal.reason in self.BUSY:
                    self.stop.wait(2)
            except Exception:  # pylint: disable=broad-except
                if not self.stop.is_set():
                    self.record.wrong(f"{self.name} {action.__name__}: {traceback.format_exc(limit=4)}")
            self.pace.wait(self.stop)

    # ---- what tenants do ----

    def any(self, ingested: bool = True) -> Corpus:
        known = [corpus for corpus in self.corpora.values() if corpus.generation or not ingested]
        if not known:
            raise Refused("nothing ingested yet")
        return self.random.choice(known)

    def ask(self) -> None:
        corpus = self.any()
        question = self.random.choice(QUESTIONS)
        answer = self.answer(answers_pb2.AskRequest(corpus=corpus.name, question=question, max_tokens=12), corpus)
        known = corpus.answers.setdefault(question, answer)
        if known != answer:
            raise AssertionError(f"{corpus.generation}: {question!r} was answered {known!r}, now {answer!r}")
        with self.record.lock:
            self.record.same_answers += 1

    def answer(self, request, corpus: Corpus) -> str:
        self.record.call("Answers/Ask")
        try:
            events = list(self.client.method("Answers/Ask")(request, metadata=self.client.metadata, timeout=CALL_SECONDS))
        except grpc.RpcError as error:
            refused = self.client.refused("Answers/Ask", error, (*self.BUSY, "CACHE_EVICTED", "DISK_CAP_EXCEEDED"))
            if isinstance(refused, Refused) and refused.reason == "CACHE_EVICTED":
                self.bring_back(corpus)
            raise refused from error
        completed = events[-1].completed
        if not events[0].HasField("started") or not events[-1].HasField("completed"):
            raise AssertionError(f"events {events}")
        if completed.usage.corpus_prefill_tokens != 0:
            raise AssertionError(f"{completed.usage.corpus_prefill_tokens} corpus tokens prefilled")
        if completed.answer != "".join(event.text for event in events[1:-1]):
            raise AssertionError("the stream is not the answer")
        self.check(completed.evidence, corpus)
        return completed.answer

    def check(self, spans, corpus: Corpus) -> None:
        for span in spans:
            if corpus.snapshot[span.document][span.byte_begin:span.byte_end] != span.quote:
                raise AssertionError(f"{span.document} {span.byte_begin}-{span.byte_end} is not {span.quote!r}")

    def retrieve(self) -> None:
        corpus = self.any()
        answer = self.client.call("Answers/Retrieve",
                                  answers_pb2.RetrieveRequest(corpus=corpus.name, query=self.random.choice(QUESTIONS), limit=4),
                                  *self.BUSY, "CACHE_EVICTED")
        self.check(answer.spans, corpus)

    def session(self) -> None:
        corpus = self.any()
        session = self.client.call("Sessions/CreateSession", sessions_pb2.CreateSessionRequest(parent=corpus.name))
        try:
            turns = 0
            for _ in range(self.random.randint(1, 3)):
                self.answer(answers_pb2.AskRequest(session=session.name, question=self.random.choice(QUESTIONS), max_tokens=8), corpus)
                turns += 1
            fork = self.client.call("Sessions/ForkSession", sessions_pb2.ForkSessionRequest(name=session.name, turn=1))
            self.answer(answers_pb2.AskRequest(session=fork.name, question="And then?", max_tokens=8), corpus)
            listed = self.client.call("Sessions/ListTurns", sessions_pb2.ListTurnsRequest(parent=fork.name))
            if len(listed.turns) != 2:
                raise AssertionError(f"{len(listed.turns)} turns in a fork of one and one of its own")
            self.client.call("Sessions/DeleteSession", sessions_pb2.DeleteSessionRequest(name=fork.name))
        finally:
            self.client.call("Sessions/DeleteSession", sessions_pb2.DeleteSessionRequest(name=session.name))

    def look(self) -> None:
        corpus = self.any(ingested=False)
        listed = self.client.call("Corpora/ListCorpora", corpora_pb2.ListCorporaRequest(parent=self.parent, page_size=2))
        if len(listed.corpora) != min(2, len(self.corpora)):
            raise AssertionError(f"{len(listed.corpora)} corpora of {len(self.corpora)} on a page of two")
        documents = self.client.call("Documents/ListDocuments", corpora_pb2.ListDocumentsRequest(parent=corpus.name, page_size=1000))
        if {item.name.rsplit("/", 1)[1] for item in documents.documents} != set(corpus.documents):
            raise AssertionError(f"{corpus.name} lists other documents than it has")
        self.client.call("Operations/ListOperations", operations_pb2.ListOperationsRequest(parent=corpus.name))
        self.client.call("Corpora/ListGenerations", corpora_pb2.ListGenerationsRequest(parent=corpus.name))
        self.client.call("Answers/CountTokens", answers_pb2.CountTokensRequest(parent=self.parent, question="How many?"))
        self.client.call("Models/GetModel", models_pb2.GetModelRequest())
        tenant = self.client.call("Tenants/GetTenant", tenants_pb2.GetTenantRequest(name=self.parent))
        if tenant.usage.corpora != len(self.corpora):
            raise AssertionError(f"usage of {tenant.usage.corpora} corpora, not {len(self.corpora)}")

    def grow(self) -> None:
        if len(self.corpora) < CORPORA_PER_TENANT:
            self.made += 1
            name = f"c{self.made}"
            self.client.call("Corpora/CreateCorpus", corpora_pb2.CreateCorpusRequest(
                parent=self.parent, corpus_id=name, corpus=corpora_pb2.Corpus(display_name=f"The {name} of {self.name}")))
            self.corpora[name] = corpus = Corpus(f"{self.parent}/corpora/{name}")
        else:
            corpus = self.any(ingested=False)
            if len(corpus.documents) > 3:
                return self.forget_document()
        self.upload(corpus, f"d{self.random.randrange(1 << 40):x}", text(self.random, self.random.randint(150, 2000)))
        return self.ingest(corpus)

    def upload(self, corpus: Corpus, document: str, data: bytes) -> None:
        def messages():
            yield corpora_pb2.UploadDocumentRequest(header=corpora_pb2.UploadDocumentRequest.Header(
                parent=corpus.name, document_id=document, sha256=hashlib.sha256(data).digest()))
            for begin in range(0, len(data), PIECE_BYTES):
                yield corpora_pb2.UploadDocumentRequest(data=data[begin:begin + PIECE_BYTES])

        self.client.call("Documents/UploadDocument", messages(), *self.BUSY, "DISK_CAP_EXCEEDED")
        corpus.documents[document] = data

    def ingest(self, corpus: Corpus) -> None:
        operation = self.client.call("Corpora/IngestCorpus", corpora_pb2.IngestCorpusRequest(name=corpus.name), *self.BUSY,
                                     "CORPUS_EMPTY")
        operation = self.wait(operation, "DISK_CAP_EXCEEDED")
        if operation.generation != corpus.generation:
            corpus.generation, corpus.answers = operation.generation, {}
        corpus.snapshot = {f"{corpus.name}/documents/{name}": data for name, data in corpus.documents.items()}

    def wait(self, operation, *expected: str):
        while not operation.done:
            operation = self.client.call("Operations/WaitOperation", operations_pb2.WaitOperationRequest(name=operation.name))
        if operation.HasField("error"):
            reason = reason_of(operation.error)
            if reason not in expected:
                raise AssertionError(f"{operation.name}: {reason}: {operation.error.message}")
            self.record.refusal(reason)
            raise Refused(reason)
        return operation

    def bring_back(self, corpus: Corpus) -> None:
        operation = self.client.call("Corpora/RebuildCorpus", corpora_pb2.RebuildCorpusRequest(name=corpus.name), *self.BUSY)
        operation = self.wait(operation, "DISK_CAP_EXCEEDED")
        if operation.generation != corpus.generation:
            raise AssertionError(f"rebuilt as {operation.generation}, was {corpus.generation}")

    def rebuild(self) -> None:
        self.bring_back(self.any())

    def pin(self) -> None:
        corpus = self.any(ingested=False)
        # One of a tenant at most: what is pinned is never evicted, and the cap must hold.
        wanted = not corpus.pinned and not any(other.pinned for other in self.corpora.values())
        request = corpora_pb2.UpdateCorpusRequest(corpus=corpora_pb2.Corpus(name=corpus.name, pinned=wanted))
        request.update_mask.paths.append("pinned")
        self.client.call("Corpora/UpdateCorpus", request)
        corpus.pinned = wanted

    def cancel_answer(self) -> None:
        corpus = self.any()
        self.record.call("Answers/Ask")
        stream = self.client.method("Answers/Ask")(
            answers_pb2.AskRequest(corpus=corpus.name, question="Tell it all.", max_tokens=400), metadata=self.client.metadata,
            timeout=CALL_SECONDS)
        try:
            for number, _ in enumerate(stream):
                if number == 2:
                    stream.cancel()
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                raise self.client.refused("Answers/Ask", error, (*self.BUSY, "CACHE_EVICTED")) from error

    def cancel_ingest(self) -> None:
        corpus = self.any(ingested=False)
        self.upload(corpus, f"d{self.random.randrange(1 << 40):x}", text(self.random, 2000))
        operation = self.client.call("Corpora/IngestCorpus", corpora_pb2.IngestCorpusRequest(name=corpus.name), *self.BUSY)
        self.stop.wait(self.random.random())
        operation = self.client.call("Operations/CancelOperation", operations_pb2.CancelOperationRequest(name=operation.name))
        try:
            operation = self.wait(operation, "CANCELLED", "DISK_CAP_EXCEEDED")
        except Refused:
            return
        corpus.generation, corpus.answers = operation.generation, {}
        corpus.snapshot = {f"{corpus.name}/documents/{name}": data for name, data in corpus.documents.items()}

    def forget_document(self) -> None:
        corpus = self.any(ingested=False)
        if len(corpus.documents) < 2:
            return
        name = self.random.choice(sorted(corpus.documents))
        self.client.call("Documents/DeleteDocument", corpora_pb2.DeleteDocumentRequest(name=f"{corpus.name}/documents/{name}"))
        del corpus.documents[name]
        self.ingest(corpus)

    def forget_corpus(self) -> None:
        if len(self.corpora) < 3:
            return
        name = self.random.choice(sorted(self.corpora))
        self.client.call("Corpora/DeleteCorpus", corpora_pb2.DeleteCorpusRequest(name=self.corpora[name].name))
        del self.corpora[name]

    def mistake(self) -> None:
        """What must be refused, and with which word."""
        corpus = self.any(ingested=False)
        other = "tenants/" + self.random.choice([tenant for tenant in TENANTS if tenant != self.name])
        for name, request, reason in (
                ("Corpora/GetCorpus", corpora_pb2.GetCorpusRequest(name=f"{self.parent}/corpora/none"), "CORPUS_NOT_FOUND"),
                ("Corpora/GetCorpus", corpora_pb2.GetCorpusRequest(name=f"{other}/corpora/c1"), "TENANT_NOT_FOUND"),
                ("Corpora/GetCorpus", corpora_pb2.GetCorpusRequest(name="nonsense"), "NAME_INVALID"),
                ("Tenants/ListTenants", tenants_pb2.ListTenantsRequest(), "ROLE_INSUFFICIENT"),
                ("Answers/Retrieve", answers_pb2.RetrieveRequest(corpus=corpus.name, query=""), "QUESTION_EMPTY"),
                ("Documents/UploadDocument", iter([corpora_pb2.UploadDocumentRequest(data=b"no header")]), "UPLOAD_HEADER_MISSING")):
            try:
                self.client.call(name, request, reason, *self.BUSY)
            except Refused:
                continue
            raise AssertionError(f"{name} was not refused with {reason}")


class OperatorLoad(threading.Thread):
    """Tenants come and go, and somebody looks at the counters."""

    def __init__(self, servers: Servers, record: Record, stop: threading.Event):
        super().__init__(name="operator")
        self.client = Client(servers.address, servers.operator, record)
        self.record = record
        self.stop = stop
        self.evictions = {}

    def run(self) -> None:
        for number in range(1 << 30):
            try:
                self.round(number)
            except Exception:  # pylint: disable=broad-except
                if not self.stop.is_set():
                    self.record.wrong(f"operator: {traceback.format_exc(limit=4)}")
            if self.stop.wait(15):
                return

    def round(self, number: int) -> None:
        tenant = self.client.call("Tenants/CreateTenant", tenants_pb2.CreateTenantRequest(tenant_id=f"passing-{number}"))
        self.client.call("Tenants/ListTenants", tenants_pb2.ListTenantsRequest())
        stats = self.client.call("Models/GetStats", models_pb2.GetStatsRequest())
        self.evictions = dict(stats.evictions)
        if stats.damages or stats.quarantined_generations:
            raise AssertionError(f"damage: {stats}")
        self.client.call("Tenants/DeleteTenant", tenants_pb2.DeleteTenantRequest(name=tenant.name))


def sample(process: subprocess.Popen, metrics: str) -> dict:
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    page = urllib.request.urlopen(f"http://{metrics}/metrics", timeout=60).read().decode()
    heap = {state: int(float(value)) for state, value in re.findall(r'^lectern_heap_bytes\{state="(\w+)"\} (\S+)$', page, re.M)}
    return {"rss": int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) * 1024,
            "descriptors": len(os.listdir(f"/proc/{process.pid}/fd")), "heap_used": heap["used"], "heap_free": heap["free"]}


def growth(samples: list[dict], begin: float, end: float) -> dict:
    """Per process: growth of the medians from the first to the last quarter of [begin, end)."""
    result = {}
    quarter = (end - begin) / 4
    first = [row for row in samples if begin <= row["time"] < begin + quarter]
    last = [row for row in samples if end - quarter <= row["time"] <= end]
    if not first or not last:
        return result
    for name in ("worker", "gateway"):
        rss = [statistics.median(row[name]["rss"] for row in rows) for rows in (first, last)]
        open_files = [statistics.median(row[name]["descriptors"] for row in rows) for rows in (first, last)]
        result[name] = {"rss_first": rss[0], "rss_last": rss[1], "rss_growth_percent": 100 * (rss[1] / rss[0] - 1),
                        "descriptors_first": open_files[0], "descriptors_last": open_files[1],
                        "descriptors_growth": open_files[1] - open_files[0]}
    return result


def summary(record: Record, samples: list[dict], seconds: float, warm_up: float, operator: OperatorLoad) -> dict:
    with record.lock:
        return {"minutes": seconds / 60, "calls": dict(record.calls), "calls_total": sum(record.calls.values()),
                "refusals": dict(record.refusals), "unexpected_errors": len(record.unexpected),
                "same_answers": record.same_answers, "evictions": operator.evictions,
                "growth": growth(samples, warm_up, seconds), "last_sample": samples[-1] if samples else None}


def write_rows(path: pathlib.Path, result: dict) -> None:
    growths = result["growth"].values()
    minutes = result["minutes"]
    rss = max((row["rss_growth_percent"] for row in growths), default=0)
    descriptors = max((row["descriptors_growth"] for row in growths), default=0)
    errors = result["unexpected_errors"]
    rows = [("soak_minutes", round(minutes, 1), "minutes of mixed load by three tenants", "60", minutes / 60),
            ("soak_unexpected_errors", errors, "errors", "0", 0 if errors == 0 else errors),
            ("soak_rss_growth_percent", round(rss, 2), "% of resident memory, the process that grew most, after the warm-up",
             f"at most {GROWTH_LIMIT_PERCENT}", max(0, rss) / GROWTH_LIMIT_PERCENT),
            ("soak_descriptors_growth", descriptors, "descriptors, the process that grew most, after the warm-up",
             f"at most {DESCRIPTOR_LIMIT}: table files come and go", max(0, descriptors) / DESCRIPTOR_LIMIT)]
    document = json.loads(path.read_text())
    names = {row[0] for row in rows}
    document["rows"] = [row for row in document["rows"] if row["metric"] not in names] + [
        {"metric": metric, "size": result["calls_total"], "value": value, "unit": unit, "against": against,
         "ratio": round(ratio, 4)} for metric, value, unit, against, ratio in rows]
    path.write_text(json.dumps(document, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, help="folder of lectern, lectern-worker and lectern-gateway")
    parser.add_argument("--model", required=True, help="model directory")
    parser.add_argument("--work", required=True, help="folder for data and logs; what a run before left there goes")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--cores", type=float, default=0.5, help="of processor time that the servers may take")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", help="file of figures to merge the rows into")
    options = parser.parse_args()

    folder = pathlib.Path(options.work)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    record = Record(folder)
    servers = Servers(options, folder)
    operator = OperatorLoad(servers, record, stop)
    for tenant in TENANTS:
        quota = tenants_pb2.TenantQuota(tokens_per_minute=TOKENS_PER_MINUTE if tenant == TENANTS[0] else 0)
        while True:  # the gateway is ready before it has found its worker
            try:
                operator.client.call("Tenants/CreateTenant", tenants_pb2.CreateTenantRequest(
                    tenant_id=tenant, tenant=tenants_pb2.Tenant(quota=quota)), "WORKER_UNREACHABLE")
                break
            except Refused:
                time.sleep(0.2)
    record.refusals.clear()
    pace = Pace(servers, options.cores)
    loads = [TenantLoad(tenant, servers, record, pace, stop, options.seed) for tenant in TENANTS]
    begin = time.monotonic()
    for load in [*loads, operator]:
        load.start()
    seconds, samples = options.minutes * 60, []
    warm_up = seconds * WARM_UP_SHARE
    while not stop.wait(min(SAMPLE_SECONDS, seconds / 40)) and time.monotonic() - begin < seconds:
        ended = [name for name, process in servers.processes().items() if process.poll() is not None]
        if ended:
            record.wrong(f"ended by itself: {ended}")
            break
        samples.append({"time": time.monotonic() - begin,
                        **{name: sample(process, servers.metrics[name]) for name, process in servers.processes().items()}})
        with open(folder / "samples.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(samples[-1]) + "\n")
        (folder / "summary.json").write_text(json.dumps(summary(record, samples, samples[-1]["time"], warm_up, operator), indent=1))
    ran = time.monotonic() - begin
    stop.set()
    for load in [*loads, operator]:
        load.join()
    servers.stop(record)
    servers.verify(record)
    result = summary(record, samples, ran, warm_up, operator)
    (folder / "summary.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))
    if options.results:
        write_rows(pathlib.Path(options.results), result)
    grew = any(row["rss_growth_percent"] > GROWTH_LIMIT_PERCENT or row["descriptors_growth"] > DESCRIPTOR_LIMIT
               for row in result["growth"].values())
    return 1 if record.unexpected or grew else 0


if __name__ == "__main__":
    sys.path.insert(0, os.environ.get("LECTERN_CLIENT", str(ROOT / "clients" / "python")))
    import grpc
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status
    from lectern.v1 import (answers_pb2, corpora_pb2, models_pb2, operations_pb2, sessions_pb2, tenants_pb2)
    sys.exit(main())
