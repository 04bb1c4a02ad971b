#include "services/cli/target_flags.h"

ABSL_FLAG(std::string, session, "", "ask in this session");
ABSL_FLAG(std::string, generation, "", "ask this generation instead of the newest");
ABSL_FLAG(int32_t, context, -1,
          "of a new session: the number of the context that it talks to, from 0; default: the only "
          "one, or for `ask --new_session` the one that knows most about the question");
ABSL_FLAG(bool, batch, false,
          "nobody waits for it: questions that somebody waits for go first on a busy server");
ABSL_FLAG(double, adaptive, -1,
          "coverage (0 to 1) below which more blocks are read; below 0: the server's default");
