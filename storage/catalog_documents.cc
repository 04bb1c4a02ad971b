// Documents: streamed in, read by range, removed.
#include <algorithm>

#include "storage/catalog_store.h"
#include "storage/fail_point.h"
#include "storage/sha256.h"

namespace lectern::storage {
namespace {

std::string Hex(const Digest& digest) {
  std::string hex;
  for (const uint8_t byte : digest) hex += fmt::format("{:02x}", byte);
  return hex;
}

}  // namespace

class PieceDocumentWriter final : public DocumentWriter {
 public:
  PieceDocumentWriter(CatalogStore* catalog, uint64_t corpus_uid, uint64_t document_uid,
                      NewDocument request)
      : catalog_(catalog), request_(std::move(request)) {
    document_.uid = document_uid;
    document_.corpus_uid = corpus_uid;
  }

  ~PieceDocumentWriter() override {
    if (committed_) return;
    Transaction transaction(catalog_->state());
    const std::string prefix = DocumentPrefix(document_.corpus_uid, document_.uid);
    transaction.DeleteAndReclaim(ColumnFamily::kDocument, prefix, PrefixEnd(prefix));
    transaction.batch().Delete(ColumnFamily::kCatalog, ObjectKey(KeySpace::kUpload, document_.uid));
    // Should this fail, the upload's record stays and the next open purges it.
    transaction.Commit(Durability::kBuffered).IgnoreError();
  }

  absl::Status Append(std::string_view bytes) override {
    sha256_.Update(bytes);
    document_.byte_length += bytes.size();
    while (!bytes.empty()) {
      const size_t taken = std::min(bytes.size(), kPieceBytes - piece_.size());
      piece_.append(bytes.substr(0, taken));
      bytes.remove_prefix(taken);
      if (piece_.size() < kPieceBytes) break;
      absl::Status status = WritePiece();
      if (!status.ok()) return failed_ = status;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Document> Commit(int64_t now, const std::optional<Digest>& expected) override;

  uint64_t bytes_written() const override { return document_.byte_length; }

 private:
  absl::Status WritePiece() {
    LECTERN_FAIL_POINT(kUploadPiece);
    Batch batch;
    PutPiece(&batch);
    return catalog_->store().Write(batch, Durability::kBuffered);
  }

  void PutPiece(Batch* batch) {
    std::string key = DocumentChunkKey(document_.corpus_uid, document_.uid, next_piece_++);
    std::string value =
        SealRecord(RecordKind::kDocumentChunk, ColumnFamily::kDocument, key, piece_);
    batch->Put(ColumnFamily::kDocument, std::move(key), std::move(value));
    piece_.clear();
  }

  CatalogStore* const catalog_;
  const NewDocument request_;
  Document document_;
  Sha256 sha256_;
  std::string piece_;
  uint32_t next_piece_ = 0;
  absl::Status failed_;
  bool finished_ = false;
  bool committed_ = false;
};

absl::StatusOr<Document> PieceDocumentWriter::Commit(int64_t now,
                                                     const std::optional<Digest>& expected) {
  if (!failed_.ok()) return failed_;
  if (finished_) return absl::FailedPreconditionError("this upload was committed before");
  finished_ = true;
  document_.sha256 = sha256_.Finish();
  if (expected.has_value() && *expected != document_.sha256) {
    return absl::InvalidArgumentError(
        fmt::format("document \"{}\": its {} bytes have SHA-256 {}, not {} as announced",
                    request_.id, document_.byte_length, Hex(document_.sha256), Hex(*expected)));
  }
  document_.id = request_.id;
  document_.display_name = request_.display_name;
  document_.media_type = request_.media_type;
  document_.create_time = now;

  Transaction transaction(catalog_->state());
  absl::StatusOr<Corpus> corpus = catalog_->GetCorpusByUid(document_.corpus_uid);
  if (!corpus.ok()) return corpus.status();
  if (absl::Status status =
          catalog_->CheckFree(KeySpace::kDocumentIds, corpus->uid, document_.id, "document");
      !status.ok()) {
    return status;
  }
  document_.ordinal = corpus->next_ordinal++;
  corpus->document_count += 1;
  corpus->document_bytes += document_.byte_length;
  corpus->update_time = now;
  Batch& batch = transaction.batch();
  if (!piece_.empty()) PutPiece(&batch);
  const Link link = {document_.uid};
  PutRecord(&batch, ObjectKey(KeySpace::kDocument, link.uid), document_);
  PutRecord(&batch, NameKey(KeySpace::kDocumentIds, corpus->uid, document_.id), link);
  PutRecord(&batch, ChildKey(KeySpace::kCorpusDocuments, corpus->uid, document_.ordinal), link);
  PutRecord(&batch, ObjectKey(KeySpace::kCorpus, corpus->uid), *corpus);
  batch.Delete(ColumnFamily::kCatalog, ObjectKey(KeySpace::kUpload, link.uid));
  LECTERN_FAIL_POINT(kUploadCommit);
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  LECTERN_KILL_POINT(kUploadCommitted);
  committed_ = true;
  return document_;
}

absl::StatusOr<std::unique_ptr<DocumentWriter>> CatalogStore::WriteDocument(
    uint64_t corpus_uid, const NewDocument& document) {
  Transaction transaction(state_);
  if (absl::Status status = GetCorpusByUid(corpus_uid).status(); !status.ok()) return status;
  if (absl::Status status = CheckFree(KeySpace::kDocumentIds, corpus_uid, document.id, "document");
      !status.ok()) {
    return status;
  }
  const uint64_t uid = transaction.NewUid();
  PutRecord(&transaction.batch(), ObjectKey(KeySpace::kUpload, uid), Upload{corpus_uid});
  LECTERN_FAIL_POINT(kUploadBegin);
  if (absl::Status status = transaction.Commit(Durability::kBuffered); !status.ok()) return status;
  return std::make_unique<PieceDocumentWriter>(this, corpus_uid, uid, document);
}

absl::StatusOr<uint64_t> CatalogStore::PurgeUploads() {
  uint64_t purged = 0;
  const std::string prefix(1, static_cast<char>(KeySpace::kUpload));
  Transaction transaction(state_);
  auto cursor = store().NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
  for (; cursor->Valid(); cursor->Next(), ++purged) {
    absl::StatusOr<Upload> upload = ParseRecord<Upload>(cursor->key(), cursor->value());
    if (!upload.ok()) return upload.status();
    const std::string bytes = DocumentPrefix(upload->corpus_uid, KeyNumber64(cursor->key(), 1));
    transaction.DeleteAndReclaim(ColumnFamily::kDocument, bytes, PrefixEnd(bytes));
    transaction.batch().Delete(ColumnFamily::kCatalog, std::string(cursor->key()));
  }
  if (!cursor->status().ok()) return cursor->status();
  if (purged > 0) {
    if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  }
  return purged;
}

absl::StatusOr<Document> CatalogStore::GetDocument(uint64_t corpus_uid, std::string_view id) const {
  return LoadNamed<Document>(KeySpace::kDocumentIds, corpus_uid, id, KeySpace::kDocument,
                             "document");
}

absl::StatusOr<Document> CatalogStore::GetDocumentByUid(uint64_t document_uid) const {
  return Load<Document>(KeySpace::kDocument, document_uid, "document");
}

absl::StatusOr<Page<Document>> CatalogStore::ListDocuments(uint64_t corpus_uid,
                                                           const PageRequest& page) const {
  return ListChildren<Document>(KeySpace::kCorpusDocuments, corpus_uid, KeySpace::kDocument, page);
}

absl::StatusOr<std::string> CatalogStore::ReadDocument(const Document& document, uint64_t offset,
                                                       uint64_t size) const {
  if (offset > document.byte_length) {
    return absl::OutOfRangeError(fmt::format("document \"{}\" has {} bytes: there is no byte {}",
                                             document.id, document.byte_length, offset));
  }
  size = std::min(size, document.byte_length - offset);
  const uint64_t end = offset + size;
  std::string bytes;
  bytes.reserve(size);
  while (offset < end) {
    const auto piece = static_cast<uint32_t>(offset / kPieceBytes);
    const uint64_t piece_begin = uint64_t{piece} * kPieceBytes;
    const std::string key = DocumentChunkKey(document.corpus_uid, document.uid, piece);
    PinnedValue value;
    absl::Status status = store().Get(ColumnFamily::kDocument, key, &value);
    if (absl::IsNotFound(status)) {
      // Deleted meanwhile, or lost?
      if (absl::Status record = GetDocumentByUid(document.uid).status(); !record.ok())
        return record;
      return DamagedRecord(RecordKind::kDocumentChunk, ColumnFamily::kDocument, key, "missing");
    }
    if (!status.ok()) return status;
    absl::StatusOr<OpenedRecord> record =
        OpenRecord(RecordKind::kDocumentChunk, ColumnFamily::kDocument, key, value.view());
    if (!record.ok()) return record.status();
    if (record->payload.size() !=
        std::min<uint64_t>(kPieceBytes, document.byte_length - piece_begin)) {
      return DamagedRecord(RecordKind::kDocumentChunk, ColumnFamily::kDocument, key,
                           "has another size than its document says");
    }
    const std::string_view wanted = record->payload.substr(offset - piece_begin, end - offset);
    bytes.append(wanted);
    offset += wanted.size();
  }
  return bytes;
}

absl::Status CatalogStore::DeleteDocument(uint64_t corpus_uid, std::string_view id, int64_t now) {
  Transaction transaction(state_);
  absl::StatusOr<Corpus> corpus = GetCorpusByUid(corpus_uid);
  if (!corpus.ok()) return corpus.status();
  absl::StatusOr<Document> document = GetDocument(corpus_uid, id);
  if (!document.ok()) return document.status();
  corpus->document_count -= 1;
  corpus->document_bytes -= document->byte_length;
  corpus->update_time = now;
  Batch& batch = transaction.batch();
  PutRecord(&batch, ObjectKey(KeySpace::kCorpus, corpus_uid), *corpus);
  batch.Delete(ColumnFamily::kCatalog, NameKey(KeySpace::kDocumentIds, corpus_uid, id));
  batch.Delete(ColumnFamily::kCatalog,
               ChildKey(KeySpace::kCorpusDocuments, corpus_uid, document->ordinal));
  transaction.RemoveDocument(*document);
  LECTERN_FAIL_POINT(kDocumentDelete);
  return transaction.Commit();
}

absl::Status CatalogStore::RemoveCorpusDocuments(Transaction* transaction, const Corpus& corpus) {
  Batch& batch = transaction->batch();
  const std::string list = ObjectKey(KeySpace::kCorpusDocuments, corpus.uid);
  auto cursor = store().NewCursor(ColumnFamily::kCatalog, list, PrefixEnd(list));
  for (; cursor->Valid(); cursor->Next()) {
    absl::StatusOr<Link> link = ParseRecord<Link>(cursor->key(), cursor->value());
    if (!link.ok()) return link.status();
    absl::StatusOr<Document> document = GetDocumentByUid(link->uid);
    if (!document.ok()) return document.status();
    batch.Delete(ColumnFamily::kCatalog, std::string(cursor->key()));
    batch.Delete(ColumnFamily::kCatalog, NameKey(KeySpace::kDocumentIds, corpus.uid, document->id));
    batch.Delete(ColumnFamily::kCatalog, ObjectKey(KeySpace::kDocument, link->uid));
  }
  if (!cursor->status().ok()) return cursor->status();
  // All documents of a corpus lie together: one range, however many there are.
  const std::string bytes = CorpusDocumentsPrefix(corpus.uid);
  transaction->DeleteAndReclaim(ColumnFamily::kDocument, bytes, PrefixEnd(bytes));
  return absl::OkStatus();
}

}  // namespace lectern::storage
