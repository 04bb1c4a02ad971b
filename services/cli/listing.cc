#include "services/cli/listing.h"

#include <absl/flags/flag.h>

namespace lectern::services {

void PrintMessage(const google::protobuf::Message& message) {
  if (absl::GetFlag(FLAGS_json)) {
    PrintJson(ToJson(message));
  } else {
    PrintFields(message);
  }
}

}  // namespace lectern::services
