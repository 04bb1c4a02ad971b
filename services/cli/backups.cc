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

std::string NameOf(const std::string& argument) {
  return argument.starts_with("backups/") ? argument : BackupName(argument);
}

int Show(const v1::Backup& backup) {
  PrintMessage(backup);
  return kExitOk;
}

grpc::Status Get(Client& client, const std::string& name, Call& call, v1::Backup* backup) {
  v1::GetBackupRequest request;
  request.set_name(name);
  return client.backups().GetBackup(&call.context(), request, backup);
}

// Until it has ended.
int Follow(Client& client, v1::Backup backup) {
  Progress progress;
  while (backup.state() == v1::Backup::RUNNING) {
    progress.Show(fmt::format("{} {} of {}", Bar(backup.bytes_done(), backup.bytes_total()),
                              Bytes(backup.bytes_done()), Bytes(backup.bytes_total())));
    std::this_thread::sleep_for(kPoll);
    Call call;
    const grpc::Status status = Get(client, backup.name(), call, &backup);
    if (!status.ok()) return client.Explain(status, call);
  }
  if (backup.has_error()) return client.Explain(backup.error());
  progress.Finish(fmt::format("backed up: {} in {} on the server's machine",
                              Bytes(backup.bytes_total()), Printable(backup.directory())));
  if (absl::GetFlag(FLAGS_json)) PrintJson(ToJson(backup));
  return kExitOk;
}

int Create(Client& client, const std::string& id) {
  v1::CreateBackupRequest request;
  request.set_backup_id(id);
  v1::Backup backup;
  Call call;
  const grpc::Status status = client.backups().CreateBackup(&call.context(), request, &backup);
  if (!status.ok()) return client.Explain(status, call);
  return absl::GetFlag(FLAGS_wait) ? Follow(client, backup) : Show(backup);
}

int Cancel(Client& client, const std::string& id) {
  v1::CancelBackupRequest request;
  request.set_name(NameOf(id));
  v1::Backup backup;
  Call call;
  const grpc::Status status = client.backups().CancelBackup(&call.context(), request, &backup);
  return status.ok() ? Show(backup) : client.Explain(status, call);
}

int List(Client& client) {
  std::vector<v1::Backup> backups;
  const int code = ListAll<v1::ListBackupsResponse>(
      client, v1::ListBackupsRequest(),
      [&](auto... args) { return client.backups().ListBackups(args...); },
      [](auto& response) { return response.mutable_backups(); }, backups);
  if (code != kExitOk) return code;
  if (absl::GetFlag(FLAGS_json)) {
    PrintJsonArray(backups);
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows;
  for (const v1::Backup& backup : backups) {
    rows.push_back({IdOf(backup.name()), v1::Backup::State_Name(backup.state()),
                    Bytes(backup.bytes_done()), Time(backup.create_time()),
                    Printable(backup.directory())});
  }
  PrintTable({"BACKUP", "STATE", "BYTES", "CREATED", "DIRECTORY"}, rows);
  return kExitOk;
}

int Run(const std::vector<std::string>& arguments) {
  const std::string verb = arguments.empty() ? "list" : arguments[0];
  Client client(kBackupsCommand.name);
  if (verb == "list" && arguments.size() <= 1) return List(client);
  if (verb == "create" && arguments.size() <= 2) {
    return Create(client, arguments.size() == 2 ? arguments[1] : "");
  }
  if (arguments.size() != 2) return UsageMistake(kBackupsCommand, "name one backup");
  if (verb == "cancel") return Cancel(client, arguments[1]);
  if (verb != "get" && verb != "wait") {
    return UsageMistake(kBackupsCommand, fmt::format("there is no \"{}\" here", verb));
  }
  v1::Backup backup;
  Call call;
  const grpc::Status status = Get(client, NameOf(arguments[1]), call, &backup);
  if (!status.ok()) return client.Explain(status, call);
  return verb == "get" ? Show(backup) : Follow(client, backup);
}

}  // namespace

const Command kBackupsCommand = {
    .name = "backups",
    .arguments = "list | create [BACKUP] [--no-wait] | get|wait|cancel BACKUP",
    .summary = "Makes and lists backups of a server that runs; needs an operator's key.",
    .details =
        "They go to the server's --backup_dir, all tenants in one, every byte copied at\n"
        "--backup_rate; the server answers meanwhile. `lectern restore --from=DIRECTORY` makes a\n"
        "data directory of one; deleting its folder deletes it.",
    .flags = {"wait", "json", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
