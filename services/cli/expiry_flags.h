// --ttl: how long a resource is kept.
#pragma once

#include <absl/flags/declare.h>
#include <absl/time/time.h>
#include <google/protobuf/duration.pb.h>

ABSL_DECLARE_FLAG(absl::Duration, ttl);

namespace lectern::services {

// Whether --ttl was given; its value goes into `out`.
bool TtlFromFlag(google::protobuf::Duration& out);

}  // namespace lectern::services
