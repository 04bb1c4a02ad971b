#include <absl/flags/flag.h>
#include <fmt/format.h>

#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/output.h"
#include "services/cli/target_flags.h"

ABSL_FLAG(bool, new_session, false, "open a session first and ask in it; prints its id");
ABSL_FLAG(double, temperature, 0, "0: always the most probable token; up to 2");
ABSL_FLAG(double, top_p, 1, "sample from the most probable tokens that make up this much");
ABSL_FLAG(uint64_t, seed, 0, "of the sampling; the same seed gives the same answer");
ABSL_FLAG(int32_t, max_tokens, 0, "longest answer; 0: the server's default");
ABSL_FLAG(int32_t, evidence, 0, "spans of evidence to show; 0: the server's default");

namespace lectern::services {
namespace {

// Opens a session on `corpus`; its name goes into `session`. Returns the exit code.
int OpenSession(Client& client, const std::string& corpus, std::string& session) {
  v1::CreateSessionRequest request;
  request.set_parent(CorpusArgument(corpus));
  if (const std::string generation = absl::GetFlag(FLAGS_generation); !generation.empty()) {
    request.set_generation(ResourceArgument(generation, Collection::kGenerations, corpus));
  }
  v1::Session created;
  Call call;
  const grpc::Status status = client.sessions().CreateSession(&call.context(), request, &created);
  if (!status.ok()) return client.Explain(status, call);
  session = created.name();
  return kExitOk;
}

void PrintAnswer(const v1::AskResponse::Completed& completed, const std::string& session) {
  if (completed.finish_reason() == v1::MAX_TOKENS) fmt::print("  [cut at the token limit]");
  fmt::print("\n\n");
  if (completed.evidence_size() > 0) {
    fmt::print("evidence\n");
    PrintEvidence(completed.evidence());
  }
  PrintCoverage(completed.coverage());
  PrintUsage(completed.usage());
  if (!session.empty()) fmt::print("session {}, turn {}\n", IdOf(session), completed.turn());
}

int Ask(Client& client, const v1::AskRequest& request) {
  const bool json = absl::GetFlag(FLAGS_json);
  Call call;
  const auto reader = client.answers().Ask(&call.context(), request);
  v1::AskResponse message;
  v1::AskResponse::Started started;
  v1::AskResponse::Completed completed;
  bool printed = false;
  while (reader->Read(&message)) {
    if (message.has_started()) started = message.started();
    if (message.has_completed()) completed = message.completed();
    if (message.has_text() && !json) {
      fmt::print("{}", Printable(message.text()));
      std::fflush(stdout);
      printed = true;
    }
  }
  if (const grpc::Status status = reader->Finish(); !status.ok()) {
    if (printed) fmt::print("\n");
    return client.Explain(status, call);
  }
  if (json) {
    Json out = ToJson(completed);
    out["generation"] = started.generation();
    out["context_tokens"] = started.context_tokens();
    out["session"] = request.session();
    out["request_id"] = call.request_id();
    PrintJson(out);
    return kExitOk;
  }
  if (!printed) fmt::print("{}", Printable(completed.answer()));
  PrintAnswer(completed, request.session());
  return kExitOk;
}

int Run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 2) return UsageMistake(kAskCommand, "name a corpus and a question");
  Client client(kAskCommand.name);
  v1::AskRequest request;
  if (absl::GetFlag(FLAGS_new_session)) {
    std::string session;
    if (const int code = OpenSession(client, arguments[0], session); code != kExitOk) return code;
    request.set_session(session);
  } else {
    SetTarget(arguments[0], request);
  }
  request.set_question(arguments[1]);
  request.set_max_tokens(absl::GetFlag(FLAGS_max_tokens));
  request.set_evidence_limit(absl::GetFlag(FLAGS_evidence));
  SetAdaptiveCoverage(request);
  SetPriority(request);
  request.mutable_sampling()->set_temperature(absl::GetFlag(FLAGS_temperature));
  request.mutable_sampling()->set_top_p(absl::GetFlag(FLAGS_top_p));
  request.mutable_sampling()->set_seed(absl::GetFlag(FLAGS_seed));
  return Ask(client, request);
}

}  // namespace

const Command kAskCommand = {
    .name = "ask",
    .arguments = "CORPUS \"QUESTION\" [--session=ID | --new-session] [--json]",
    .summary = "Answers a question from a corpus, with evidence.",
    .details =
        "Each line of evidence is DOCUMENT:BEGIN-END (bytes of the uploaded file), its title, "
        "its share of\nthe model's attention to documents, and the quoted text.",
    .flags = {"session", "new_session", "generation", "json", "temperature", "top_p", "seed",
              "max_tokens", "evidence", "adaptive", "batch", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
