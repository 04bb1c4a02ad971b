#include "services/cluster/ownership.h"

#include <algorithm>
#include <array>

namespace lectern::services {
namespace {

constexpr std::array<std::string_view, 14> kOfTheWhole = {
    "Worker/CancelBackup", "Worker/CountTokens", "Worker/CreateBackup", "Worker/CreateTenant",
    "Worker/DeleteTenant", "Worker/GetBackup",   "Worker/GetModel",     "Worker/GetStats",
    "Worker/GetTenant",    "Worker/ListBackups", "Worker/ListCorpora",  "Worker/ListTenants",
    "Worker/SyncReplica",  "Worker/UpdateTenant"};

constexpr std::array<std::string_view, 9> kChanges = {
    "Worker/CreateCorpus",   "Worker/CreateSession", "Worker/DeleteCorpus",
    "Worker/DeleteDocument", "Worker/DeleteSession", "Worker/ForkSession",
    "Worker/IngestCorpus",   "Worker/RebuildCorpus", "Worker/UpdateCorpus"};

constexpr std::array<std::string_view, 5> kOnReplica = {
    "Worker/CreateCorpus", "Worker/DeleteDocument", "Worker/DeleteSession", "Worker/UpdateCorpus",
    "Worker/UploadDocument"};

}  // namespace

bool ChangesCorpus(std::string_view method) {
  return std::find(kChanges.begin(), kChanges.end(), method) != kChanges.end();
}

bool IsOnReplica(std::string_view method) {
  return std::find(kOnReplica.begin(), kOnReplica.end(), method) != kOnReplica.end();
}

bool IsOfCorpus(std::string_view method) {
  return std::find(kOfTheWhole.begin(), kOfTheWhole.end(), method) == kOfTheWhole.end();
}

}  // namespace lectern::services
