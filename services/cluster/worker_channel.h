// How processes of a cluster reach its workers.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

namespace lectern::services {

// A channel to a worker across the network: it is ready when the worker's health service says so,
// and notices a dead connection within half a minute.
std::shared_ptr<grpc::Channel> ConnectToWorker(
    const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials);

}  // namespace lectern::services
