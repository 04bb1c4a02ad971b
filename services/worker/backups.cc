#include "engine/error/status_macros.h"
#include "services/rpc/names.h"
#include "services/worker/administration.h"
#include "services/worker/convert.h"
#include "services/worker/worker_service.h"

namespace lectern::services {

using Unary = grpc::ServerUnaryReactor;

Unary* WorkerService::CreateBackup(Context* context, const v1::CreateBackupRequest* request,
                                   v1::Backup* response) {
  return Run(context, "Worker/CreateBackup", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_RETURN_IF_ERROR(CheckAdministers(caller));
    LECTERN_RETURN_IF_ERROR(CheckNewId(request->backup_id(), "backup_id"));
    LECTERN_ASSIGN_OR_RETURN(const engine::Backup backup,
                             engine_.CreateBackup(request->backup_id()));
    *response = ToProto(backup, caller.request_id);
    return absl::OkStatus();
  });
}

Unary* WorkerService::GetBackup(Context* context, const v1::GetBackupRequest* request,
                                v1::Backup* response) {
  return Run(context, "Worker/GetBackup", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_RETURN_IF_ERROR(CheckAdministers(caller));
    LECTERN_ASSIGN_OR_RETURN(const std::string id, ParseBackupName(request->name(), "name"));
    LECTERN_ASSIGN_OR_RETURN(const engine::Backup backup, engine_.GetBackup(id));
    *response = ToProto(backup, caller.request_id);
    return absl::OkStatus();
  });
}

Unary* WorkerService::ListBackups(Context* context, const v1::ListBackupsRequest* request,
                                  v1::ListBackupsResponse* response) {
  return Run(context, "Worker/ListBackups", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_RETURN_IF_ERROR(CheckAdministers(caller));
    LECTERN_ASSIGN_OR_RETURN(const engine::PageRequest page,
                             ToPageRequest(request->page_size(), request->page_token()));
    LECTERN_ASSIGN_OR_RETURN(const auto backups, engine_.ListBackups(page));
    for (const engine::Backup& backup : backups.items) {
      *response->add_backups() = ToProto(backup, caller.request_id);
    }
    response->set_next_page_token(backups.next_page_token);
    return absl::OkStatus();
  });
}

Unary* WorkerService::CancelBackup(Context* context, const v1::CancelBackupRequest* request,
                                   v1::Backup* response) {
  return Run(context, "Worker/CancelBackup", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_RETURN_IF_ERROR(CheckAdministers(caller));
    LECTERN_ASSIGN_OR_RETURN(const std::string id, ParseBackupName(request->name(), "name"));
    LECTERN_ASSIGN_OR_RETURN(const engine::Backup backup, engine_.CancelBackup(id));
    *response = ToProto(backup, caller.request_id);
    return absl::OkStatus();
  });
}

}  // namespace lectern::services
