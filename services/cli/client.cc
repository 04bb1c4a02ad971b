#include "services/cli/client.h"

#include <absl/flags/flag.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "services/rpc/call.h"
#include "services/rpc/errors.h"
#include "services/rpc/reason.h"

ABSL_FLAG(double, timeout, 0, "seconds a call may take; 0: as long as it needs");
ABSL_FLAG(bool, json, false, "print JSON instead of text");

namespace lectern::services {
namespace {

constexpr int kMaxAnswerBytes = 64 << 20;

// What a person can do about a reason.
std::string_view AdviceFor(std::string_view reason) {
  using Advice = std::pair<std::string_view, std::string_view>;
  static constexpr std::array<Advice, 23> kAdvice = {{
      {"BACKUP_DIR_MISSING", "start it with --backup_dir=DIR, best on another disk"},
      {"BACKUP_RUNNING", "`lectern backups list` shows it, `lectern backups cancel ID` ends it"},
      {"CORPUS_NOT_FOUND", "`lectern corpora list` shows what there is"},
      {"CONTEXT_MISSING", "name one with --context; `lectern retrieve` shows which one knows more"},
      {"CONTEXT_TOO_LONG", "give the document a shorter name"},
      {"CORPUS_TOO_LONG", "delete documents, or split the corpus in two"},
      {"CORPUS_EXISTS", "choose another id, or delete it with `lectern delete CORPUS`"},
      {"CORPUS_EMPTY", "upload something first: `lectern upload CORPUS FILE...`"},
      {"CORPUS_NOT_INGESTED", "`lectern ingest CORPUS` makes it ready for questions"},
      {"DISK_QUOTA_EXCEEDED", "`lectern tenants get TENANT` shows what is used, and the quota"},
      {"DOCUMENT_EXISTS", "upload with --replace to put the new bytes in its place"},
      {"DOCUMENT_NOT_UTF8", "convert the file first, for example with iconv -t UTF-8"},
      {"GENERATION_NOT_FOUND", "`lectern generations list CORPUS` shows what there is"},
      {"INGEST_RUNNING", "`lectern operations list CORPUS` shows it"},
      {"KEY_INVALID", "ask whoever runs the server for a key: `lectern keys create` makes one"},
      {"KEY_MISSING", "give it with --api_key_file or in $LECTERN_API_KEY"},
      {"MODEL_MISMATCH", "start the server with the model of that generation, or ingest again"},
      {"QUESTION_TOO_LONG", "ask in fewer words; `lectern model` shows the limit"},
      {"QUEUE_FULL", "try again in a moment"},
      {"ROLE_INSUFFICIENT", "use a key of the role that it needs"},
      {"SESSION_FULL", "go on in a new session"},
      {"SESSION_NOT_FOUND", "`lectern sessions list CORPUS` shows what there is"},
      {"TENANT_NOT_FOUND", "name the tenant of your key with --tenant or in $LECTERN_TENANT"},
  }};
  const auto* found = std::find_if(kAdvice.begin(), kAdvice.end(),
                                   [&](const Advice& advice) { return advice.first == reason; });
  return found == kAdvice.end() ? "" : found->second;
}

int ExplainError(const std::string& command, const std::string& address, const RemoteError& error,
                 const std::string& request_id) {
  if (error.code == absl::StatusCode::kUnavailable && error.reason.empty()) {
    fmt::print(stderr,
               "lectern {}: no server answers at {} ({})\n  start one with `lectern serve`, or "
               "name another with --address\n",
               command, address, error.message);
    return kExitUnreachable;
  }
  fmt::print(stderr, "lectern {}: {}\n", command, error.message);
  if (const std::string_view advice = AdviceFor(error.reason); !advice.empty()) {
    fmt::print(stderr, "  {}\n", advice);
  }
  fmt::print(stderr, "  {}{}{}, request id {}\n", CodeName(error.code),
             error.reason.empty() ? "" : " ", error.reason, request_id);
  return error.code == absl::StatusCode::kUnavailable ? kExitUnreachable : kExitRefused;
}

}  // namespace

Call::Call() : request_id_(MakeRequestId()) {
  context_.AddMetadata(kRequestIdHeader, request_id_);
  if (const std::string& key = TheConnection().key; !key.empty()) {
    context_.AddMetadata(kAuthorizationHeader, "Bearer " + key);
  }
  if (const double timeout = absl::GetFlag(FLAGS_timeout); timeout > 0) {
    context_.set_deadline(std::chrono::system_clock::now() +
                          std::chrono::milliseconds(static_cast<int64_t>(timeout * 1000)));
  }
}

Client::Client(std::string_view command) : command_(command), address_(TheConnection().address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxAnswerBytes);
  const auto channel = grpc::CreateCustomChannel(address_, TheConnection().credentials, arguments);
  corpora_ = v1::Corpora::NewStub(channel);
  documents_ = v1::Documents::NewStub(channel);
  operations_ = v1::Operations::NewStub(channel);
  sessions_ = v1::Sessions::NewStub(channel);
  answers_ = v1::Answers::NewStub(channel);
  models_ = v1::Models::NewStub(channel);
  tenants_ = v1::Tenants::NewStub(channel);
  backups_ = v1::Backups::NewStub(channel);
  cluster_ = v1::Cluster::NewStub(channel);
}

int Client::Explain(const grpc::Status& status, const Call& call) const {
  return ExplainError(command_, address_, ToRemoteError(status), call.request_id());
}

int Client::Explain(const google::rpc::Status& status) const {
  const RemoteError error = ToRemoteError(status);
  return ExplainError(command_, address_, error, error.request_id);
}

int UsageMistake(const Command& command, std::string_view message) {
  fmt::print(stderr, "lectern {}: {}\nusage: lectern {} {}\n", command.name, message, command.name,
             command.arguments);
  return kExitUsage;
}

std::string CorpusArgument(const std::string& argument) {
  if (argument.starts_with("tenants/")) return argument;
  return CorpusResourceName({Tenant(), argument});
}

std::string ResourceArgument(const std::string& argument, Collection collection,
                             const std::string& corpus) {
  if (argument.starts_with("tenants/")) return argument;
  const size_t slash = argument.find('/');
  const std::string parent = slash == std::string::npos ? corpus : argument.substr(0, slash);
  const std::string id = slash == std::string::npos ? argument : argument.substr(slash + 1);
  return fmt::format("{}/{}/{}", CorpusArgument(parent), CollectionId(collection), id);
}

std::string IdOf(const std::string& name) { return name.substr(name.rfind('/') + 1); }

}  // namespace lectern::services
