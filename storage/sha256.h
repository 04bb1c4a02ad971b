// SHA-256 of bytes that come in pieces. Internal to storage.
#pragma once

#include <memory>
#include <string_view>

#include "storage/encoding.h"

struct evp_md_ctx_st;

namespace lectern::storage {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void Update(std::string_view bytes);
  Digest Finish();  // once

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace lectern::storage
