// The beginning of a document's life: bytes arrive, are checked as they come, and are stored once
// they are whole.
#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"
#include "engine/local_engine.h"
#include "engine/names.h"
#include "engine/room/disk_bytes.h"
#include "engine/text/extractor.h"
#include "engine/text/utf8.h"

namespace lectern::engine {
namespace {

constexpr std::array<std::string_view, 4> kMediaTypes = {"text/plain", "text/markdown", "text/html",
                                                         "application/pdf"};

// Checks text as it streams by: no NUL, valid UTF-8 over the borders of pieces.
class TextCheck {
 public:
  absl::Status Append(std::string_view bytes) {
    std::string joined;  // only when a character was cut by the last border
    if (!pending_.empty()) {
      joined = pending_ + std::string(bytes);
      bytes = joined;
    }
    const uint64_t base = offset_;
    if (const size_t nul = bytes.find('\0'); nul != std::string_view::npos) {
      return InvalidArgument(
          reason::kDocumentBinary,
          fmt::format("byte {} is NUL: this is not text. Upload text, HTML or PDF", base + nul),
          {{"offset", fmt::to_string(base + nul)}});
    }
    const size_t bad = FirstInvalidUtf8(bytes);
    if (bad == std::string_view::npos) {
      pending_.clear();
      offset_ += bytes.size();
      return absl::OkStatus();
    }
    // The beginning of a character at the very end may be completed by the next piece.
    if (bytes.size() - bad < 4 && IsPrefix(bytes.substr(bad))) {
      pending_ = std::string(bytes.substr(bad));
      offset_ += bad;
      return absl::OkStatus();
    }
    return NotUtf8(base + bad);
  }

  absl::Status Finish() const { return pending_.empty() ? absl::OkStatus() : NotUtf8(offset_); }

 private:
  static bool IsPrefix(std::string_view tail) {
    const auto lead = static_cast<unsigned char>(tail[0]);
    const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 1;
    if (lead > 0xF4 || tail.size() >= length) return false;
    return std::all_of(tail.begin() + 1, tail.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; });
  }

  static absl::Status NotUtf8(uint64_t offset) {
    return InvalidArgument(
        reason::kDocumentNotUtf8,
        fmt::format("byte {} cannot stand there in UTF-8: convert the document to UTF-8 first",
                    offset),
        {{"offset", fmt::to_string(offset)}});
  }

  std::string pending_;
  uint64_t offset_ = 0;  // of pending_
};

class CheckedUpload final : public DocumentUpload {
 public:
  CheckedUpload(storage::Catalog* catalog, const storage::Corpus& corpus, UploadHeader header,
                int64_t limit_bytes, DiskRoom* room, std::atomic<int64_t>* documents)
      : catalog_(catalog),
        room_(room),
        corpus_(corpus),
        header_(std::move(header)),
        limit_bytes_(limit_bytes),
        documents_(documents),
        digest_(EVP_MD_CTX_new()) {
    LECTERN_CHECK(digest_ != nullptr && EVP_DigestInit_ex(digest_, EVP_sha256(), nullptr) == 1);
  }
  ~CheckedUpload() override { EVP_MD_CTX_free(digest_); }

  absl::Status Append(std::string_view bytes) override {
    if (bytes.empty()) return absl::OkStatus();
    size_ += static_cast<int64_t>(bytes.size());
    if (size_ > limit_bytes_) {
      return InvalidArgument(
          reason::kDocumentTooLarge,
          fmt::format("the document has more than {} bytes, which is the limit: split it",
                      limit_bytes_),
          {{"limit", fmt::to_string(limit_bytes_)}});
    }
    LECTERN_RETURN_IF_ERROR(BeginWriting(bytes));
    if (text_) LECTERN_RETURN_IF_ERROR(check_.Append(bytes));
    LECTERN_CHECK(EVP_DigestUpdate(digest_, bytes.data(), bytes.size()) == 1);
    if (writer_ == nullptr) return absl::OkStatus();
    // Until the bytes are written, and counted where they lie.
    LECTERN_ASSIGN_OR_RETURN(
        const DiskPromise promise,
        room_->Reserve(UploadDiskBytes(static_cast<int64_t>(bytes.size())), "the document"));
    return WithReason(writer_->Append(bytes));
  }

  absl::StatusOr<Document> Finish() override {
    const CorpusName corpus = header_.corpus;
    if (size_ == 0)
      return InvalidArgument(reason::kDocumentEmpty,
                             "the document is empty: upload at least one byte");
    if (text_) LECTERN_RETURN_IF_ERROR(check_.Finish());
    storage::Digest sha256;
    LECTERN_CHECK(EVP_DigestFinal_ex(digest_, sha256.data(), nullptr) == 1);
    if (header_.sha256.has_value() && *header_.sha256 != sha256) {
      return InvalidArgument(
          "CHECKSUM_MISMATCH",
          fmt::format("the bytes received have SHA-256 {}, the upload announced {}: upload again",
                      ToHex(sha256), ToHex(*header_.sha256)),
          {{"received", ToHex(sha256)}, {"announced", ToHex(*header_.sha256)}});
    }
    if (writer_ == nullptr) return Compare(sha256);
    absl::StatusOr<storage::Document> stored = writer_->Commit(NowUs(), sha256);
    if (absl::IsAlreadyExists(stored.status())) return Compare(sha256);
    if (!stored.ok()) return WithReason(stored.status(), "CORPUS_NOT_FOUND");
    documents_->fetch_add(1, std::memory_order_relaxed);
    return PresentDocument(*stored, corpus);
  }

 private:
  // At the first bytes: they help to guess the type.
  absl::Status BeginWriting(std::string_view first_bytes) {
    if (begun_) return absl::OkStatus();
    begun_ = true;
    const std::string name =
        header_.display_name.empty() ? header_.document_id : header_.display_name;
    std::string media_type =
        header_.media_type.empty() ? GuessMediaType(name, first_bytes) : header_.media_type;
    const std::string bare = media_type.substr(0, media_type.find(';'));
    if (std::find(kMediaTypes.begin(), kMediaTypes.end(), bare) == kMediaTypes.end()) {
      return InvalidArgument(
          reason::kMediaTypeUnknown,
          fmt::format(
              "media type {} is not read here: convert the document to text/plain, text/markdown, "
              "text/html or application/pdf",
              media_type),
          {{"media_type", media_type}});
    }
    text_ = bare != "application/pdf";
    absl::StatusOr<storage::Document> existing =
        catalog_->GetDocument(corpus_.uid, header_.document_id);
    if (existing.ok()) return absl::OkStatus();  // the same bytes again, or an error at the end
    if (!absl::IsNotFound(existing.status())) return WithReason(existing.status());
    absl::StatusOr<std::unique_ptr<storage::DocumentWriter>> writer = catalog_->WriteDocument(
        corpus_.uid, {.id = header_.document_id, .display_name = name, .media_type = media_type});
    if (!writer.ok()) return WithReason(writer.status(), "CORPUS_NOT_FOUND", "DOCUMENT_EXISTS");
    writer_ = *std::move(writer);
    return absl::OkStatus();
  }

  // The id is taken: the same bytes make the upload a repetition, others an error.
  absl::StatusOr<Document> Compare(const storage::Digest& sha256) {
    absl::StatusOr<storage::Document> existing =
        catalog_->GetDocument(corpus_.uid, header_.document_id);
    if (!existing.ok()) return WithReason(existing.status(), "DOCUMENT_NOT_FOUND");
    if (existing->sha256 == sha256) return PresentDocument(*existing, header_.corpus);
    return Error(
        absl::StatusCode::kAlreadyExists, "DOCUMENT_EXISTS",
        fmt::format(
            "document {} exists with other bytes: delete it first, or upload under another id",
            header_.document_id),
        {{"document", header_.document_id}});
  }

  storage::Catalog* const catalog_;
  DiskRoom* const room_;
  const storage::Corpus corpus_;
  const UploadHeader header_;
  const int64_t limit_bytes_;
  std::atomic<int64_t>* const documents_;
  EVP_MD_CTX* const digest_;
  std::unique_ptr<storage::DocumentWriter> writer_;
  TextCheck check_;
  bool begun_ = false;
  bool text_ = false;
  int64_t size_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DocumentUpload>> BeginDocumentUpload(
    storage::Catalog* catalog, const storage::Corpus& corpus, const UploadHeader& header,
    int64_t limit_bytes, DiskRoom* room, std::atomic<int64_t>* documents) {
  UploadHeader checked = header;
  if (checked.document_id.empty()) checked.document_id = NewId();
  LECTERN_RETURN_IF_ERROR(CheckId("document", checked.document_id));
  LECTERN_RETURN_IF_ERROR(CheckDisplayName(checked.display_name));
  return std::make_unique<CheckedUpload>(catalog, corpus, std::move(checked), limit_bytes, room,
                                         documents);
}

Document PresentDocument(const storage::Document& document, const CorpusName& corpus) {
  return {.name = {.corpus = corpus, .id = document.id},
          .display_name = document.display_name,
          .media_type = document.media_type,
          .size_bytes = static_cast<int64_t>(document.byte_length),
          .sha256 = document.sha256,
          .create_time_us = document.create_time};
}

}  // namespace lectern::engine
