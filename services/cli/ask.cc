#include <absl/flags/flag.h>
#include <fmt/format.h>

#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/output.h"
#include "services/cli/target_flags.h"
#include "services/rpc/errors.h"

ABSL_FLAG(bool, new_session, false, "open a session first and ask in it; prints its id");
ABSL_FLAG(double, temperature, 0, "0: always the most probable token; up to 2");
ABSL_FLAG(double, top_p, 1, "sample from the most probable tokens that make up this much");
ABSL_FLAG(uint64_t, seed, 0, "of the sampling; the same seed gives the same answer");
ABSL_FLAG(int32_t, max_tokens, 0, "longest answer; 0: the server's default");
ABSL_FLAG(int32_t, evidence, 0, "spans of evidence to show; 0: the server's default");

ABSL_FLAG(int32_t, contexts, 0,
          "of a corpus of several contexts: how many answer, each by itself, best first; with more "
          "than one --json prints an array; 0: 1");

namespace lectern::services {
namespace {

// The context of `corpus` that knows most about the question; its number goes into `context`.
// Returns the exit code.
int FindContext(Client& client, const std::string& corpus, const std::string& question,
                int& context) {
  v1::RetrieveRequest request;
  SetTarget(corpus, request);
  request.set_query(question);
  request.set_limit(1);
  v1::RetrieveResponse response;
  Call call;
  const grpc::Status status = client.answers().Retrieve(&call.context(), request, &response);
  if (!status.ok()) return client.Explain(status, call);
  if (response.contexts_size() > 0) context = response.contexts(0).context().index();
  return kExitOk;
}

// Opens a session on `corpus`, in the context of --context, else in the one that knows most about
// the question; its name goes into `session`. Returns the exit code.
int OpenSession(Client& client, const std::string& corpus, const std::string& question,
                std::string& session) {
  v1::CreateSessionRequest request;
  request.set_parent(CorpusArgument(corpus));
  if (const std::string generation = absl::GetFlag(FLAGS_generation); !generation.empty()) {
    request.set_generation(ResourceArgument(generation, Collection::kGenerations, corpus));
  }
  int context = absl::GetFlag(FLAGS_context);
  if (context >= 0) request.set_context(context);
  v1::Session created;
  Call first;
  grpc::Status status = client.sessions().CreateSession(&first.context(), request, &created);
  if (status.ok() || ToRemoteError(status).reason != "CONTEXT_MISSING") {
    session = created.name();
    return status.ok() ? kExitOk : client.Explain(status, first);
  }
  if (const int code = FindContext(client, corpus, question, context); code != kExitOk) return code;
  request.set_context(context);
  Call second;
  status = client.sessions().CreateSession(&second.context(), request, &created);
  session = created.name();
  return status.ok() ? kExitOk : client.Explain(status, second);
}

void PrintAnswer(const v1::AskResponse::Completed& completed, const std::string& session) {
  if (completed.finish_reason() == v1::MAX_TOKENS) fmt::print("  [cut at the token limit]");
  fmt::print("\n\n");
  PrintContext(completed.context());
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
  Json answers = Json::array();
  bool printed = false;  // of the answer at hand
  bool printed_before = false;
  while (reader->Read(&message)) {
    if (message.has_started()) {
      started = message.started();
      if (printed_before) fmt::print("\n");
      printed = false;
    } else if (message.has_completed() && json) {
      Json answer = ToJson(message.completed());
      answer["generation"] = started.generation();
      answer["context_tokens"] = started.context_tokens();
      answer["session"] = request.session();
      answer["request_id"] = call.request_id();
      answers.push_back(std::move(answer));
    } else if (message.has_completed()) {
      if (!printed) fmt::print("{}", Printable(message.completed().answer()));
      PrintAnswer(message.completed(), request.session());
      printed = false;
      printed_before = true;
    } else if (!json) {
      fmt::print("{}", Printable(message.text()));
      std::fflush(stdout);
      printed = true;
    }
  }
  if (const grpc::Status status = reader->Finish(); !status.ok()) {
    if (printed) fmt::print("\n");
    return client.Explain(status, call);
  }
  if (json) PrintJson(request.contexts() > 1 || answers.empty() ? answers : answers[0]);
  return kExitOk;
}

int Run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 2) return UsageMistake(kAskCommand, "name a corpus and a question");
  Client client(kAskCommand.name);
  v1::AskRequest request;
  if (absl::GetFlag(FLAGS_new_session)) {
    std::string session;
    if (const int code = OpenSession(client, arguments[0], arguments[1], session);
        code != kExitOk) {
      return code;
    }
    request.set_session(session);
  } else {
    SetTarget(arguments[0], request);
  }
  request.set_question(arguments[1]);
  request.set_max_tokens(absl::GetFlag(FLAGS_max_tokens));
  request.set_evidence_limit(absl::GetFlag(FLAGS_evidence));
  request.set_contexts(absl::GetFlag(FLAGS_contexts));
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
    .flags = {"session", "new_session", "context", "contexts", "generation", "json", "temperature",
              "top_p", "seed", "max_tokens", "evidence", "adaptive", "batch", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
