#include "services/cluster/etcd_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

using namespace etcdserverpb;  // NOLINT: its messages are what this file is about

// Records of a few hundred bytes: below gRPC's limit of 4 MiB for a message.
constexpr int64_t kRecordsPerRead = 4000;
constexpr int kKeepaliveMs = 10'000;
constexpr int kKeepaliveTimeoutMs = 5'000;
constexpr int kFirstReconnectMs = 100;
constexpr int kLastReconnectMs = 1'000;
constexpr char kTokenHeader[] = "token";

std::shared_ptr<grpc::Channel> Connect(const std::string& address,
                                       const std::shared_ptr<grpc::ChannelCredentials>& how) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kFirstReconnectMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kFirstReconnectMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kLastReconnectMs);
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomChannel(address, how, arguments);
}

// Another endpoint may answer.
bool OfEndpoint(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE ||
         status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED ||
         status.error_code() == grpc::StatusCode::CANCELLED;
}

bool OfToken(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAUTHENTICATED &&
         status.error_message().find("invalid auth token") != std::string::npos;
}

absl::Status FromEtcd(const grpc::Status& status, const std::string& address) {
  if (status.ok()) return absl::OkStatus();
  const std::string said = fmt::format("etcd at {}: {}", address, status.error_message());
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
    case grpc::StatusCode::CANCELLED:
      return engine::Error(absl::StatusCode::kUnavailable, reason::kClusterStoreUnreachable, said);
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::INVALID_ARGUMENT:  // "user name is empty", "authentication failed"
      return engine::Error(absl::StatusCode::kUnauthenticated, reason::kClusterStoreRefused, said);
    default:
      return engine::Error(absl::StatusCode::kInternal, reason::kClusterStoreError, said);
  }
}

}  // namespace

std::string EndOfPrefix(std::string prefix) {
  while (!prefix.empty() && prefix.back() == '\xff') prefix.pop_back();
  LECTERN_CHECK(!prefix.empty());
  prefix.back() = static_cast<char>(static_cast<unsigned char>(prefix.back()) + 1);
  return prefix;
}

EtcdClient::EtcdClient(Options options) : options_(std::move(options)) {
  LECTERN_CHECK(!options_.endpoints.empty());
  for (const std::string& address : options_.endpoints) {
    auto channel = Connect(address, options_.credentials);
    endpoints_.push_back({address, channel, KV::NewStub(channel),
                          etcdserverpb::Lease::NewStub(channel),
                          etcdserverpb::Watch::NewStub(channel), Auth::NewStub(channel)});
  }
}

grpc::Status EtcdClient::SignIn(Endpoint& endpoint, Deadline deadline,
                                grpc::ClientContext& context) {
  if (options_.user.empty()) return grpc::Status::OK;
  const std::lock_guard lock(mutex_);
  if (token_.empty()) {
    AuthenticateRequest request;
    request.set_name(options_.user);
    request.set_password(options_.password);
    AuthenticateResponse response;
    grpc::ClientContext own;
    own.set_deadline(deadline);
    const grpc::Status status = endpoint.auth->Authenticate(&own, request, &response);
    if (!status.ok()) return status;
    token_ = response.token();
  }
  context.AddMetadata(kTokenHeader, token_);
  return grpc::Status::OK;
}

void EtcdClient::ForgetToken() {
  const std::lock_guard lock(mutex_);
  token_.clear();
}

absl::Status EtcdClient::Call(
    const std::function<grpc::Status(Endpoint&, grpc::ClientContext&)>& call) {
  const Deadline end = std::chrono::system_clock::now() + options_.timeout;
  const auto share = options_.timeout / static_cast<int>(endpoints_.size());
  grpc::Status status;
  size_t index = preferred_;
  bool renewed = false;
  for (size_t tries = 0; tries < endpoints_.size();) {
    Endpoint& endpoint = endpoints_[index];
    grpc::ClientContext context;
    const Deadline deadline = std::min(end, std::chrono::system_clock::now() + share);
    context.set_deadline(deadline);
    // gRPC makes connections only while somebody waits for one.
    context.set_wait_for_ready(true);
    status = SignIn(endpoint, deadline, context);
    if (status.ok()) status = call(endpoint, context);
    if (OfToken(status) && !renewed) {
      renewed = true;
      ForgetToken();
      continue;
    }
    if (!OfEndpoint(status)) {
      preferred_ = index;
      return FromEtcd(status, endpoint.address);
    }
    index = (index + 1) % endpoints_.size();
    ++tries;
  }
  return FromEtcd(status, endpoints_[preferred_].address);
}

absl::StatusOr<TxnResponse> EtcdClient::Txn(const TxnRequest& request) {
  TxnResponse response;
  LECTERN_RETURN_IF_ERROR(Call([&](Endpoint& endpoint, grpc::ClientContext& context) {
    return endpoint.kv->Txn(&context, request, &response);
  }));
  return response;
}

absl::StatusOr<EtcdClient::Snapshot> EtcdClient::ReadRange(const std::string& key,
                                                           const std::string& end) {
  Snapshot snapshot;
  RangeRequest request;
  request.set_key(key);
  request.set_range_end(end);
  request.set_limit(kRecordsPerRead);
  RangeResponse response;
  do {
    LECTERN_RETURN_IF_ERROR(Call([&](Endpoint& endpoint, grpc::ClientContext& context) {
      response.Clear();
      return endpoint.kv->Range(&context, request, &response);
    }));
    // The first answer fixes the revision of the rest.
    if (snapshot.revision == 0) {
      snapshot.revision = response.header().revision();
      request.set_revision(snapshot.revision);
    }
    for (KeyValue& record : *response.mutable_kvs()) snapshot.records.push_back(std::move(record));
    if (response.more()) request.set_key(snapshot.records.back().key() + '\0');
  } while (response.more());
  return snapshot;
}

absl::StatusOr<EtcdClient::Snapshot> EtcdClient::ReadPrefix(const std::string& prefix) {
  return ReadRange(prefix, EndOfPrefix(prefix));
}

absl::StatusOr<EtcdClient::Snapshot> EtcdClient::Read(const std::string& key) {
  return ReadRange(key, "");
}

absl::StatusOr<EtcdClient::Lease> EtcdClient::GrantLease(int64_t ttl_seconds) {
  LeaseGrantRequest request;
  request.set_ttl(ttl_seconds);
  LeaseGrantResponse response;
  LECTERN_RETURN_IF_ERROR(Call([&](Endpoint& endpoint, grpc::ClientContext& context) {
    return endpoint.lease->LeaseGrant(&context, request, &response);
  }));
  return Lease{response.id(), response.ttl()};
}

absl::StatusOr<int64_t> EtcdClient::KeepLeaseAlive(int64_t id) {
  LeaseKeepAliveRequest request;
  request.set_id(id);
  LeaseKeepAliveResponse response;
  LECTERN_RETURN_IF_ERROR(Call([&](Endpoint& endpoint, grpc::ClientContext& context) {
    const auto stream = endpoint.lease->LeaseKeepAlive(&context);
    const bool answered = stream->Write(request) && stream->Read(&response);
    stream->WritesDone();
    if (!answered) return stream->Finish();
    // The answer is what counts; etcd ends such a stream with errors of its own.
    context.TryCancel();
    stream->Finish();
    return grpc::Status::OK;
  }));
  return response.ttl();
}

absl::Status EtcdClient::RevokeLease(int64_t id) {
  LeaseRevokeRequest request;
  request.set_id(id);
  LeaseRevokeResponse response;
  return Call([&](Endpoint& endpoint, grpc::ClientContext& context) {
    return endpoint.lease->LeaseRevoke(&context, request, &response);
  });
}

absl::Status EtcdClient::Watch(const std::string& prefix, int64_t revision,
                               const std::function<bool(const WatchResponse&)>& take) {
  Endpoint& endpoint = endpoints_[preferred_];
  grpc::ClientContext context;
  if (!endpoint.channel->WaitForConnected(std::chrono::system_clock::now() +
                                          options_.timeout / static_cast<int>(endpoints_.size()))) {
    preferred_ = (preferred_ + 1) % endpoints_.size();
    return FromEtcd({grpc::StatusCode::UNAVAILABLE, "no connection"}, endpoint.address);
  }
  {
    const grpc::Status signed_in =
        SignIn(endpoint, std::chrono::system_clock::now() + options_.timeout, context);
    if (!signed_in.ok()) return FromEtcd(signed_in, endpoint.address);
    const std::lock_guard lock(mutex_);
    if (stopped_) return absl::CancelledError("stopped");
    watching_ = &context;
  }
  const auto stream = endpoint.watch->Watch(&context);
  WatchRequest request;
  request.mutable_create_request()->set_key(prefix);
  request.mutable_create_request()->set_range_end(EndOfPrefix(prefix));
  request.mutable_create_request()->set_start_revision(revision);
  request.mutable_create_request()->set_progress_notify(true);
  absl::Status end;
  WatchResponse response;
  bool going = stream->Write(request);
  while (going && stream->Read(&response)) {
    if (response.compact_revision() != 0) {
      end = engine::Error(absl::StatusCode::kFailedPrecondition, reason::kClusterStoreCompacted,
                          "etcd has compacted the revision that the watch was at");
      break;
    }
    if (response.canceled()) {
      end = engine::Error(absl::StatusCode::kInternal, reason::kClusterStoreError,
                          fmt::format("etcd ended the watch: {}", response.cancel_reason()));
      ForgetToken();
      break;
    }
    going = take(response);
  }
  context.TryCancel();
  const grpc::Status status = stream->Finish();
  {
    const std::lock_guard lock(mutex_);
    watching_ = nullptr;
  }
  if (OfToken(status)) ForgetToken();
  // The next attempt goes elsewhere.
  preferred_ = (preferred_ + 1) % endpoints_.size();
  return end.ok() ? FromEtcd(status, endpoint.address) : end;
}

void EtcdClient::StopWatching() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  if (watching_ != nullptr) watching_->TryCancel();
}

}  // namespace lectern::services
