#include <absl/flags/declare.h>
#include <absl/flags/flag.h>
#include <fmt/format.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/listing.h"
#include "services/cli/output.h"

ABSL_DECLARE_FLAG(bool, wait);

namespace lectern::services {
namespace {

constexpr std::chrono::milliseconds kPoll(300);

std::string GroupArgument(const std::string& argument) {
  return argument.empty() || argument.starts_with("groups/") ? argument : "groups/" + argument;
}

template <typename Message>
int Show(const Message& message) {
  PrintMessage(message);
  return kExitOk;
}

int ListGroups(Client& client) {
  v1::ListGroupsResponse response;
  Call call;
  const grpc::Status status = client.cluster().ListGroups(&call.context(), {}, &response);
  if (!status.ok()) return client.Explain(status, call);
  const std::vector<v1::Group> groups(response.groups().begin(), response.groups().end());
  if (absl::GetFlag(FLAGS_json)) {
    PrintJsonArray(groups);
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows;
  for (const v1::Group& group : groups) {
    rows.push_back({IdOf(group.name()), group.alive() ? "alive" : "away",
                    group.draining() ? "draining" : "", Thousands(group.corpora()),
                    Thousands(group.replicated_corpora()), Thousands(group.replicas()),
                    Bytes(group.free_bytes()), Printable(group.address())});
  }
  PrintTable({"GROUP", "STATE", "", "CORPORA", "ON TWO", "REPLICAS", "FREE", "ADDRESS"}, rows);
  return kExitOk;
}

// Until nothing is on the group any more.
int FollowDrain(Client& client, v1::Group group) {
  const std::string name = group.name();
  const int64_t at_first = group.corpora();
  Progress progress;
  while (group.corpora() > 0) {
    progress.Show(fmt::format("{} {} of {} corpora are left",
                              Bar(at_first - group.corpora(), at_first), group.corpora(),
                              at_first));
    std::this_thread::sleep_for(kPoll);
    v1::ListGroupsResponse response;
    Call call;
    const grpc::Status status = client.cluster().ListGroups(&call.context(), {}, &response);
    if (!status.ok()) return client.Explain(status, call);
    // A group that is empty and away is not listed.
    group.set_corpora(0);
    for (const v1::Group& found : response.groups()) {
      if (found.name() == name) group = found;
    }
  }
  progress.Finish(fmt::format("nothing is on {} any more; it can be taken out", name));
  if (absl::GetFlag(FLAGS_json)) PrintJson(ToJson(group));
  return kExitOk;
}

int Drain(Client& client, const std::string& argument) {
  v1::DrainGroupRequest request;
  request.set_name(GroupArgument(argument));
  v1::Group group;
  Call call;
  const grpc::Status status = client.cluster().DrainGroup(&call.context(), request, &group);
  if (!status.ok()) return client.Explain(status, call);
  return absl::GetFlag(FLAGS_wait) ? FollowDrain(client, group) : Show(group);
}

int Resume(Client& client, const std::string& argument) {
  v1::ResumeGroupRequest request;
  request.set_name(GroupArgument(argument));
  v1::Group group;
  Call call;
  const grpc::Status status = client.cluster().ResumeGroup(&call.context(), request, &group);
  return status.ok() ? Show(group) : client.Explain(status, call);
}

grpc::Status Get(Client& client, const std::string& corpus, Call& call, v1::Move* move) {
  v1::GetMoveRequest request;
  request.set_corpus(corpus);
  return client.cluster().GetMove(&call.context(), request, move);
}

// Until it has ended.
int FollowMove(Client& client, v1::Move move) {
  Progress progress;
  while (move.state() == v1::Move::RUNNING) {
    progress.Show(fmt::format(
        "{} {} of {}{}", Bar(move.bytes_done(), move.bytes_total()), Bytes(move.bytes_done()),
        Bytes(move.bytes_total()),
        move.has_error() ? fmt::format("; tried again: {}", OneLine(move.error().message(), 100))
                         : ""));
    std::this_thread::sleep_for(kPoll);
    Call call;
    const grpc::Status status = Get(client, move.corpus(), call, &move);
    if (!status.ok()) return client.Explain(status, call);
  }
  if (move.has_error()) return client.Explain(move.error());
  progress.Finish(fmt::format("{} is on {}: {} in {} records", move.corpus(), move.to(),
                              Bytes(move.bytes_done()), Thousands(move.records_done())));
  if (absl::GetFlag(FLAGS_json)) PrintJson(ToJson(move));
  return kExitOk;
}

int Move(Client& client, const std::string& corpus, const std::string& group) {
  v1::MoveCorpusRequest request;
  request.set_corpus(CorpusArgument(corpus));
  request.set_to(GroupArgument(group));
  v1::Move move;
  Call call;
  const grpc::Status status = client.cluster().MoveCorpus(&call.context(), request, &move);
  if (!status.ok()) return client.Explain(status, call);
  return absl::GetFlag(FLAGS_wait) ? FollowMove(client, move) : Show(move);
}

int Cancel(Client& client, const std::string& corpus) {
  v1::CancelMoveRequest request;
  request.set_corpus(CorpusArgument(corpus));
  v1::Move move;
  Call call;
  const grpc::Status status = client.cluster().CancelMove(&call.context(), request, &move);
  return status.ok() ? Show(move) : client.Explain(status, call);
}

int ListMoves(Client& client) {
  std::vector<v1::Move> moves;
  const int code = ListAll<v1::ListMovesResponse>(
      client, v1::ListMovesRequest(),
      [&](auto... args) { return client.cluster().ListMoves(args...); },
      [](auto& response) { return response.mutable_moves(); }, moves);
  if (code != kExitOk) return code;
  if (absl::GetFlag(FLAGS_json)) {
    PrintJsonArray(moves);
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows;
  for (const v1::Move& move : moves) {
    rows.push_back({move.corpus(), IdOf(move.from()), IdOf(move.to()),
                    v1::Move::State_Name(move.state()), Bytes(move.bytes_done()),
                    Bytes(move.bytes_total()), Time(move.create_time()),
                    OneLine(move.error().message(), 60)});
  }
  PrintTable({"CORPUS", "FROM", "TO", "STATE", "DONE", "OF", "BEGUN", "ERROR"}, rows);
  return kExitOk;
}

int Run(const std::vector<std::string>& arguments) {
  const std::string verb = arguments.empty() ? "groups" : arguments[0];
  Client client(kClusterCommand.name);
  if (verb == "groups" && arguments.size() <= 1) return ListGroups(client);
  if (verb == "moves" && arguments.size() == 1) return ListMoves(client);
  if (verb == "move" && (arguments.size() == 2 || arguments.size() == 3)) {
    return Move(client, arguments[1], arguments.size() == 3 ? arguments[2] : "");
  }
  if (arguments.size() != 2) {
    return UsageMistake(kClusterCommand, "name one group, or one corpus");
  }
  if (verb == "drain") return Drain(client, arguments[1]);
  if (verb == "resume") return Resume(client, arguments[1]);
  if (verb == "cancel") return Cancel(client, arguments[1]);
  if (verb != "get" && verb != "wait") {
    return UsageMistake(kClusterCommand, fmt::format("there is no \"{}\" here", verb));
  }
  v1::Move move;
  Call call;
  const grpc::Status status = Get(client, CorpusArgument(arguments[1]), call, &move);
  if (!status.ok()) return client.Explain(status, call);
  return verb == "get" ? Show(move) : FollowMove(client, move);
}

}  // namespace

const Command kClusterCommand = {
    .name = "cluster",
    .arguments =
        "groups | move CORPUS [GROUP] | moves | get|wait|cancel CORPUS | "
        "drain GROUP | resume GROUP",
    .summary = "Shows a cluster's groups and moves corpora between them; needs an operator's key.",
    .details =
        "A move copies a corpus whole, with its cache and its sessions, while the group that has\n"
        "it goes on answering; at the end it is the other group's, under the same names, and\n"
        "nothing is prefilled again. Without GROUP the cluster chooses. `get`, `wait` and\n"
        "`cancel` are about the move of a corpus.\n"
        "`groups` shows how many corpora a group has, how many of them are on a second group\n"
        "that could take over (workers with --replicas=2), and of how many it has the second "
        "copy.\n"
        "`drain` moves everything away from a group, so that it can be taken out, and keeps new\n"
        "corpora from it until `resume`. `move` and `drain` wait; --no-wait leaves them to\n"
        "themselves.",
    .flags = {"wait", "json", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
