// SHA-256 of bytes that come in pieces, as hexadecimal digits: what tests compare stored state by.
#pragma once

#include <cstddef>
#include <string>

struct evp_md_ctx_st;

namespace lectern::testing {

class ByteDigest {
 public:
  ByteDigest();
  ~ByteDigest();
  ByteDigest(const ByteDigest&) = delete;
  ByteDigest& operator=(const ByteDigest&) = delete;

  void Add(const void* bytes, size_t size);
  std::string Hex();  // once

 private:
  evp_md_ctx_st* const context_;
};

}  // namespace lectern::testing
