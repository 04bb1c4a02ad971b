#include <absl/flags/flag.h>
#include <fmt/format.h>

#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/expiry_flags.h"
#include "services/cli/listing.h"
#include "services/cli/output.h"
#include "services/cli/target_flags.h"

ABSL_FLAG(std::string, id, "", "of the new session; default: the server makes one");
ABSL_FLAG(int32_t, turn, -1, "fork: turns to share; default: all");

namespace lectern::services {
namespace {

int List(Client& client, const std::string& corpus) {
  v1::ListSessionsRequest request;
  request.set_parent(corpus);
  std::vector<v1::Session> sessions;
  const int code = ListAll<v1::ListSessionsResponse>(
      client, request, [&](auto... args) { return client.sessions().ListSessions(args...); },
      [](auto& response) { return response.mutable_sessions(); }, sessions);
  if (code != kExitOk) return code;
  if (absl::GetFlag(FLAGS_json)) {
    PrintJsonArray(sessions);
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows;
  for (const v1::Session& session : sessions) {
    rows.push_back({IdOf(session.name()), std::to_string(session.turn_count()),
                    Thousands(session.token_count()), IdOf(session.generation()),
                    Time(session.update_time())});
  }
  PrintTable({"SESSION", "TURNS", "TOKENS", "GENERATION", "LAST ASKED"}, rows);
  return kExitOk;
}

int Turns(Client& client, const std::string& session) {
  v1::ListTurnsRequest request;
  request.set_parent(session);
  std::vector<v1::Turn> turns;
  const int code = ListAll<v1::ListTurnsResponse>(
      client, request, [&](auto... args) { return client.sessions().ListTurns(args...); },
      [](auto& response) { return response.mutable_turns(); }, turns);
  if (code != kExitOk) return code;
  if (absl::GetFlag(FLAGS_json)) {
    PrintJsonArray(turns);
    return kExitOk;
  }
  for (const v1::Turn& turn : turns) {
    fmt::print("{}. {}\n   {}\n", turn.number(), Printable(turn.question()),
               Printable(turn.answer()));
  }
  return kExitOk;
}

int Get(Client& client, const std::string& name) {
  v1::GetSessionRequest request;
  request.set_name(name);
  v1::Session session;
  Call call;
  const grpc::Status status = client.sessions().GetSession(&call.context(), request, &session);
  if (!status.ok()) return client.Explain(status, call);
  PrintMessage(session);
  return kExitOk;
}

int Create(Client& client, const std::string& corpus) {
  v1::CreateSessionRequest request;
  request.set_parent(CorpusArgument(corpus));
  request.set_session_id(absl::GetFlag(FLAGS_id));
  if (const std::string generation = absl::GetFlag(FLAGS_generation); !generation.empty()) {
    request.set_generation(ResourceArgument(generation, Collection::kGenerations, corpus));
  }
  if (const int context = absl::GetFlag(FLAGS_context); context >= 0) request.set_context(context);
  google::protobuf::Duration ttl;
  if (TtlFromFlag(ttl)) *request.mutable_session()->mutable_ttl() = ttl;
  v1::Session session;
  Call call;
  const grpc::Status status = client.sessions().CreateSession(&call.context(), request, &session);
  if (!status.ok()) return client.Explain(status, call);
  PrintMessage(session);
  return kExitOk;
}

int Fork(Client& client, const std::string& name) {
  v1::ForkSessionRequest request;
  request.set_name(name);
  request.set_session_id(absl::GetFlag(FLAGS_id));
  if (const int turn = absl::GetFlag(FLAGS_turn); turn >= 0) request.set_turn(turn);
  v1::Session session;
  Call call;
  const grpc::Status status = client.sessions().ForkSession(&call.context(), request, &session);
  if (!status.ok()) return client.Explain(status, call);
  PrintMessage(session);
  return kExitOk;
}

int Delete(Client& client, const std::string& name) {
  v1::DeleteSessionRequest request;
  request.set_name(name);
  google::protobuf::Empty empty;
  Call call;
  const grpc::Status status = client.sessions().DeleteSession(&call.context(), request, &empty);
  return status.ok() ? kExitOk : client.Explain(status, call);
}

int Run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 2) {
    return UsageMistake(kSessionsCommand, "say what to do, and with which corpus or session");
  }
  const std::string& verb = arguments[0];
  Client client(kSessionsCommand.name);
  if (verb == "list") return List(client, CorpusArgument(arguments[1]));
  if (verb == "create") return Create(client, arguments[1]);
  const std::string name = ResourceArgument(arguments[1], Collection::kSessions);
  if (verb == "get") return Get(client, name);
  if (verb == "turns") return Turns(client, name);
  if (verb == "fork") return Fork(client, name);
  if (verb == "delete") return Delete(client, name);
  return UsageMistake(kSessionsCommand, fmt::format("there is no \"{}\" here", verb));
}

}  // namespace

const Command kSessionsCommand = {
    .name = "sessions",
    .arguments = "list CORPUS | create CORPUS | get|turns|fork|delete CORPUS/SESSION",
    .summary = "Lists, opens, shows, forks and deletes conversations.",
    .details = "",
    .flags = {"id", "generation", "context", "ttl", "turn", "json", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
