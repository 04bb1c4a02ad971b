// e2e_write_model DIRECTORY: the small random model of the tests.
#include <cstdio>

#include "tests/support/random_model.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: e2e_write_model DIRECTORY\n");
    return 2;
  }
  lectern::testing::WriteRandomModel({}, argv[1]);
  return 0;
}
