#pragma once

#include <cstdint>

namespace lectern::kernels {

// One context's part of a ragged prefill batch: the last `rows` tokens of a context of
// `first + rows` tokens. The arrays of these and their page tables are in device memory.
struct PrefillSequence {
  int32_t row;         // its first row in the batch's tensors
  int32_t rows;        // may be 0
  int32_t first;       // absolute position of that row
  int32_t page_begin;  // its page table starts at pages[page_begin]: block b is page
                       // pages[page_begin + b], one entry for every block of the context
};

}  // namespace lectern::kernels
