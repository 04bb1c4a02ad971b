#include "services/cli/target_flags.h"

ABSL_FLAG(std::string, session, "", "ask in this session");
ABSL_FLAG(std::string, generation, "", "ask this generation instead of the newest");
