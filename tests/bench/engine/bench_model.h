// Models to measure with: of a size that people serve, of random weights, the same on every
// machine.
#pragma once

#include <string>

namespace lectern::engine {

// Eight layers of hidden size 4096, FFN 12288, 64 query and 4 KV heads of 128, index dimension 128,
// vocabulary 32,768, all of them MSA: 1.9 billion weights. What else a model directory has is the
// bundled model's. Writes 3.8 GB into `directory`, which is made; exits on errors.
void WriteBenchModel(const std::string& directory);

}  // namespace lectern::engine
