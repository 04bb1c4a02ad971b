#include "services/cli/expiry_flags.h"

#include <absl/flags/flag.h>

ABSL_FLAG(absl::Duration, ttl, absl::ZeroDuration(),
          "delete it after this time, like 12h or 720h; 0: keep it");

namespace lectern::services {

bool TtlFromFlag(google::protobuf::Duration& out) {
  const absl::Duration ttl = absl::GetFlag(FLAGS_ttl);
  if (ttl == absl::ZeroDuration()) return false;
  out.set_seconds(absl::ToInt64Seconds(ttl));
  out.set_nanos(static_cast<int>(absl::ToInt64Nanoseconds(ttl - absl::Seconds(out.seconds()))));
  return true;
}

}  // namespace lectern::services
