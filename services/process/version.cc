#include "services/process/version.h"

namespace lectern::services {

const char* Version() { return LECTERN_VERSION; }

}  // namespace lectern::services
