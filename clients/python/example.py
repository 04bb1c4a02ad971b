"""Uploads a file, ingests it, asks a question.

    make python-client
    PYTHONPATH=clients/python .venv/bin/python clients/python/example.py manual.txt "How long is the warranty?"

With a server that has TLS and keys: LECTERN_ADDRESS, LECTERN_CA (PEM file), LECTERN_API_KEY, LECTERN_TENANT.
"""

import hashlib
import os
import pathlib
import sys

import grpc
from grpc_status import rpc_status
from google.rpc import error_details_pb2
from lectern.v1 import answers_pb2, answers_pb2_grpc, corpora_pb2, corpora_pb2_grpc
from lectern.v1 import operations_pb2, operations_pb2_grpc

PIECE_BYTES = 1 << 20


def reason(error: grpc.RpcError) -> str:
    """The stable reason that every error of Lectern carries."""
    for detail in rpc_status.from_call(error).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return ""


def messages(corpus: str, document_id: str, data: bytes):
    """What an upload sends: a header, then the bytes in pieces."""
    header = corpora_pb2.UploadDocumentRequest.Header(
        parent=corpus, document_id=document_id, sha256=hashlib.sha256(data).digest())
    yield corpora_pb2.UploadDocumentRequest(header=header)
    for begin in range(0, len(data), PIECE_BYTES):
        yield corpora_pb2.UploadDocumentRequest(data=data[begin:begin + PIECE_BYTES])


def connect() -> grpc.Channel:
    """To the server that the environment names, with the caller's key on every call."""
    address = os.environ.get("LECTERN_ADDRESS", "127.0.0.1:7421")
    ca = os.environ.get("LECTERN_CA")
    if ca is None:
        return grpc.insecure_channel(address)
    credentials = grpc.ssl_channel_credentials(pathlib.Path(ca).read_bytes())
    if key := os.environ.get("LECTERN_API_KEY"):
        # Sends "authorization: Bearer <key>", and only over TLS.
        credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(key))
    return grpc.secure_channel(address, credentials)


def main(path: str, question: str) -> None:
    channel = connect()
    tenant = os.environ.get("LECTERN_TENANT", "default")
    corpora = corpora_pb2_grpc.CorporaStub(channel)
    documents = corpora_pb2_grpc.DocumentsStub(channel)
    operations = operations_pb2_grpc.OperationsStub(channel)
    answers = answers_pb2_grpc.AnswersStub(channel)

    corpus = corpora.CreateCorpus(corpora_pb2.CreateCorpusRequest(parent=f"tenants/{tenant}"))
    documents.UploadDocument(messages(corpus.name, "document", pathlib.Path(path).read_bytes()))
    operation = corpora.IngestCorpus(corpora_pb2.IngestCorpusRequest(name=corpus.name))
    while not operation.done:
        operation = operations.WaitOperation(operations_pb2.WaitOperationRequest(name=operation.name))
    if operation.HasField("error"):
        sys.exit(operation.error.message)

    for event in answers.Ask(answers_pb2.AskRequest(corpus=corpus.name, question=question)):
        if event.HasField("text"):
            print(event.text, end="", flush=True)
        if event.HasField("completed"):
            print()
            if event.completed.context.context_count > 1:
                print(f"From context {event.completed.context.index} of {event.completed.context.context_count}.")
            if event.completed.coverage.low:
                print("Something may have been missed; ask again with adaptive_coverage=1, or look at the document.")
            for span in event.completed.evidence:
                print(f"{span.document}:{span.byte_begin}-{span.byte_end} {span.quote.decode(errors='replace')!r}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except grpc.RpcError as rpc_error:
        sys.exit(f"{rpc_error.details()} [{reason(rpc_error)}]")
