#include <absl/flags/flag.h>
#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/file.h"
#include "services/cli/ingest_progress.h"
#include "services/cli/output.h"
#include "services/rpc/errors.h"

ABSL_FLAG(bool, create, true, "make the corpus if there is none");
ABSL_FLAG(bool, ingest, true, "make the corpus ready for questions afterwards, and wait for it");
ABSL_FLAG(bool, replace, false, "put changed files in the place of documents with the same id");
ABSL_FLAG(std::string, media_type, "", "of the files; default: the server guesses");

namespace lectern::services {
namespace {

constexpr size_t kPieceBytes = 1 << 20;

int Complain(std::string_view message) {
  fmt::print(stderr, "lectern upload: {}\n", message);
  return kExitLocal;
}

// Makes the corpus unless there is one. Returns the exit code.
int EnsureCorpus(Client& client, const std::string& corpus) {
  v1::CreateCorpusRequest request;
  request.set_parent(corpus.substr(0, corpus.find("/corpora/")));
  request.set_corpus_id(IdOf(corpus));
  v1::Corpus created;
  Call call;
  const grpc::Status status = client.corpora().CreateCorpus(&call.context(), request, &created);
  if (status.ok() || status.error_code() == grpc::StatusCode::ALREADY_EXISTS) return kExitOk;
  return client.Explain(status, call);
}

class Uploader {
 public:
  Uploader(Client& client, const std::string& corpus, const std::vector<LocalFile>& files)
      : client_(client), corpus_(corpus), files_(files) {
    for (const LocalFile& file : files_) {
      std::error_code error;
      const uintmax_t size = std::filesystem::file_size(file.path, error);
      total_bytes_ += error ? 0 : static_cast<int64_t>(size);
    }
  }

  // Returns the exit code; the first failure ends it.
  int Run() {
    for (const LocalFile& file : files_) {
      const absl::StatusOr<std::string> sha256 = HashFile(file.path);
      if (!sha256.ok()) return Complain(std::string(sha256.status().message()));
      if (const int code = UploadOrReplace(file, *sha256); code != kExitOk) return code;
      ++sent_files_;
    }
    progress_.Finish(fmt::format("uploaded: {} documents, {}", sent_files_, Bytes(sent_bytes_)));
    return kExitOk;
  }

 private:
  int UploadOrReplace(const LocalFile& file, const std::string& sha256) {
    bool exists = false;
    int code = Upload(file, sha256, absl::GetFlag(FLAGS_replace) ? &exists : nullptr);
    if (!exists) return code;
    v1::DeleteDocumentRequest request;
    request.set_name(fmt::format("{}/documents/{}", corpus_, file.document_id));
    google::protobuf::Empty empty;
    Call call;
    const grpc::Status status =
        client_.documents().DeleteDocument(&call.context(), request, &empty);
    if (!status.ok()) return client_.Explain(status, call);
    return Upload(file, sha256, nullptr);
  }

  // `exists`, if not null, is set instead of complaining when the id holds other bytes.
  int Upload(const LocalFile& file, const std::string& sha256, bool* exists) {
    std::ifstream stream(file.path, std::ios::binary);
    if (!stream) return Complain(fmt::format("{}: {}", file.path, std::strerror(errno)));
    Call call;
    v1::Document document;
    const auto writer = client_.documents().UploadDocument(&call.context(), &document);
    v1::UploadDocumentRequest message;
    auto& header = *message.mutable_header();
    header.set_parent(corpus_);
    header.set_document_id(file.document_id);
    header.set_display_name(file.display_name);
    header.set_media_type(absl::GetFlag(FLAGS_media_type));
    header.set_sha256(sha256);
    bool open = writer->Write(message);
    const int64_t sent_before = sent_bytes_;
    while (open && stream) {
      std::string& data = *message.mutable_data();
      data.resize(kPieceBytes);
      stream.read(data.data(), static_cast<std::streamsize>(data.size()));
      data.resize(static_cast<size_t>(stream.gcount()));
      if (data.empty()) break;
      open = writer->Write(message);
      sent_bytes_ += static_cast<int64_t>(data.size());
      ShowProgress(file);
    }
    if (stream.bad()) {
      call.context().TryCancel();
      writer->Finish();
      return Complain(fmt::format("{}: {}", file.path, std::strerror(errno)));
    }
    writer->WritesDone();
    const grpc::Status status = writer->Finish();
    if (status.ok()) return kExitOk;
    sent_bytes_ = sent_before;
    if (exists != nullptr && ToRemoteError(status).reason == "DOCUMENT_EXISTS") {
      *exists = true;
      return kExitOk;
    }
    progress_.Finish(fmt::format("{} was not stored", file.path));
    return client_.Explain(status, call);
  }

  void ShowProgress(const LocalFile& file) {
    progress_.Show(fmt::format("{} {} of {}, file {} of {}: {}", Bar(sent_bytes_, total_bytes_),
                               Bytes(sent_bytes_), Bytes(total_bytes_), sent_files_ + 1,
                               files_.size(), Printable(file.display_name)));
  }

  Client& client_;
  const std::string& corpus_;
  const std::vector<LocalFile>& files_;
  Progress progress_;
  int64_t total_bytes_ = 0;
  int64_t sent_bytes_ = 0;
  size_t sent_files_ = 0;
};

int Run(const std::vector<std::string>& arguments) {
  if (arguments.size() < 2) return UsageMistake(kUploadCommand, "name a corpus and some files");
  const std::string corpus = CorpusArgument(arguments[0]);
  const absl::StatusOr<std::vector<LocalFile>> files =
      FindFiles({arguments.begin() + 1, arguments.end()});
  if (!files.ok()) return Complain(std::string(files.status().message()));
  Client client(kUploadCommand.name);
  if (absl::GetFlag(FLAGS_create)) {
    if (const int code = EnsureCorpus(client, corpus); code != kExitOk) return code;
  }
  if (const int code = Uploader(client, corpus, *files).Run(); code != kExitOk) return code;
  return absl::GetFlag(FLAGS_ingest) ? IngestAndWait(client, corpus) : kExitOk;
}

}  // namespace

const Command kUploadCommand = {
    .name = "upload",
    .arguments = "CORPUS FILE|FOLDER... [--no-ingest]",
    .summary = "Uploads files, and makes them ready for questions.",
    .details =
        "A document's id is the file's name (below the folder that was named); characters that "
        "ids\n"
        "may not have are replaced and a short hash is added. Uploading an unchanged file again\n"
        "costs nothing.",
    .flags = {"create", "ingest", "replace", "media_type", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
