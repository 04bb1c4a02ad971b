"""The client that is generated from the .proto files, against a real server: upload, ingest, ask, errors,
and the standard services that tools rely on (health, reflection)."""

import hashlib
import os
import pathlib
import random
import re
import signal
import subprocess
import sys

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from lectern.v1 import answers_pb2, answers_pb2_grpc, corpora_pb2, corpora_pb2_grpc
from lectern.v1 import operations_pb2, operations_pb2_grpc

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lectern")
    subprocess.run([os.environ["LECTERN_MODEL_WRITER"], folder / "model"], check=True)
    process = subprocess.Popen(
        [os.environ["LECTERN"], "serve", f"--data_dir={folder / 'data'}", f"--model_dir={folder / 'model'}",
         "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0", "--pool_bytes=64MiB", "--index_bytes=64MiB"],
        stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert line.startswith("lectern ready"), line
    yield re.search(r" address=(\S+)", line).group(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


def text(words: int) -> str:
    source = random.Random(1)
    return " ".join("".join(source.choices(("ba", "cor", "den", "el", "fi"), k=source.randint(1, 3))) for _ in range(words))


def upload(channel, corpus: str, document_id: str, data: bytes):
    def messages():
        yield corpora_pb2.UploadDocumentRequest(header=corpora_pb2.UploadDocumentRequest.Header(
            parent=corpus, document_id=document_id, sha256=hashlib.sha256(data).digest()))
        yield corpora_pb2.UploadDocumentRequest(data=data)

    return corpora_pb2_grpc.DocumentsStub(channel).UploadDocument(messages())


def error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo:
    for detail in rpc_status.from_call(error).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info
    raise AssertionError("the error carries no ErrorInfo")


def test_upload_ingest_ask(address):
    with grpc.insecure_channel(address) as channel:
        corpora = corpora_pb2_grpc.CorporaStub(channel)
        corpus = corpora.CreateCorpus(corpora_pb2.CreateCorpusRequest(parent="tenants/default"))
        data = text(800).encode()
        document = upload(channel, corpus.name, "d", data)
        assert document.sha256 == hashlib.sha256(data).digest()
        operation = corpora.IngestCorpus(corpora_pb2.IngestCorpusRequest(name=corpus.name))
        operations = operations_pb2_grpc.OperationsStub(channel)
        while not operation.done:
            operation = operations.WaitOperation(operations_pb2.WaitOperationRequest(name=operation.name))
        assert not operation.HasField("error"), operation.error.message
        answers = answers_pb2_grpc.AnswersStub(channel)
        events = list(answers.Ask(answers_pb2.AskRequest(corpus=corpus.name, question="What is it?", max_tokens=16)))
        assert events[0].HasField("started")
        assert events[-1].HasField("completed")
        assert all(event.HasField("text") for event in events[1:-1])
        completed = events[-1].completed
        assert completed.answer == "".join(event.text for event in events[1:-1])
        assert completed.usage.corpus_prefill_tokens == 0
        assert completed.evidence
        for span in completed.evidence:
            assert span.quote == data[span.byte_begin:span.byte_end]


def test_errors_carry_reason_and_request_id(address):
    with grpc.insecure_channel(address) as channel:
        corpora = corpora_pb2_grpc.CorporaStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            corpora.GetCorpus(corpora_pb2.GetCorpusRequest(name="tenants/default/corpora/none"),
                              metadata=(("x-request-id", "from-python"),))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        info = error_info(caught.value)
        assert (info.reason, info.domain) == ("CORPUS_NOT_FOUND", "lectern.dev")
        assert info.metadata["request_id"] == "from-python"
        with pytest.raises(grpc.RpcError) as caught:
            upload(channel, "tenants/default/corpora/none", "d", b"text")
        assert error_info(caught.value).reason == "CORPUS_NOT_FOUND"


def test_health_and_reflection(address):
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        status = health.Check(health_pb2.HealthCheckRequest(service="lectern.v1.Answers")).status
        assert status == health_pb2.HealthCheckResponse.SERVING
        reflection = ProtoReflectionDescriptorDatabase(channel)
        services = set(reflection.get_services())
        assert {f"lectern.v1.{name}" for name in
                ("Answers", "Corpora", "Documents", "Models", "Operations", "Sessions")} <= services
        assert not any("worker" in service for service in services), "the worker API is not public"
        described = reflection.FindFileContainingSymbol("lectern.v1.Answers")
        assert "Ask" in [method.name for service in described.service for method in service.method]


def test_the_example_runs(address, tmp_path):
    page = tmp_path / "page.txt"
    page.write_text(text(200))
    code = "import sys; sys.path.insert(0, sys.argv[1]); import example; example.main(*sys.argv[2:])"
    done = subprocess.run([sys.executable, "-c", code, ROOT / "clients" / "python", page, "What?"],
                          capture_output=True, text=True, check=False, env=os.environ | {"LECTERN_ADDRESS": address})
    assert done.returncode == 0, done.stderr
    assert "tenants/default/corpora/" in done.stdout
