// Steps of transactions in etcd, as EtcdDirectory makes them.
#pragma once

#include <absl/status/status.h>
#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/error/error.h"
#include "etcd/rpc.pb.h"
#include "services/rpc/reason.h"

namespace lectern::services {

// Another process may change the same record between our look and our transaction.
inline constexpr int kTransactionTries = 8;

// "as it was when we looked": 0 for a key that does not exist.
inline void ExpectRevision(etcdserverpb::TxnRequest& request, const std::string& key,
                           int64_t mod_revision) {
  etcdserverpb::Compare& compare = *request.add_compare();
  compare.set_key(key);
  compare.set_result(etcdserverpb::Compare::EQUAL);
  compare.set_target(etcdserverpb::Compare::MOD);
  compare.set_mod_revision(mod_revision);
}

inline void ExpectCreated(etcdserverpb::TxnRequest& request, const std::string& key,
                          int64_t create_revision) {
  etcdserverpb::Compare& compare = *request.add_compare();
  compare.set_key(key);
  compare.set_result(etcdserverpb::Compare::EQUAL);
  compare.set_target(etcdserverpb::Compare::CREATE);
  compare.set_create_revision(create_revision);
}

inline void Put(etcdserverpb::TxnRequest& request, const std::string& key, const std::string& value,
                int64_t lease = 0) {
  etcdserverpb::PutRequest& put = *request.add_success()->mutable_request_put();
  put.set_key(key);
  put.set_value(value);
  put.set_lease(lease);
}

inline void Delete(etcdserverpb::TxnRequest& request, const std::string& key) {
  request.add_success()->mutable_request_delete_range()->set_key(key);
}

inline absl::Status Contended(std::string_view what) {
  return engine::Error(absl::StatusCode::kUnavailable, reason::kClusterContended,
                       fmt::format("others keep changing {}; try again", what));
}

}  // namespace lectern::services
