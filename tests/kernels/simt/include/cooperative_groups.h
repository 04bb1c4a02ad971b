#pragma once

#include "tests/kernels/simt/simt.h"

namespace cooperative_groups {

struct cluster_group {
  unsigned block_rank() const { return lectern::kernels::simt::ClusterRank(); }
  void sync() const { lectern::kernels::simt::ClusterBarrier(); }
  template <typename T>
  T* map_shared_rank(T* mine, int rank) const {
    using lectern::kernels::simt::DynamicShared;
    auto* at = reinterpret_cast<unsigned char*>(mine);
    return reinterpret_cast<T*>(DynamicShared(static_cast<unsigned>(rank)) +
                                (at - DynamicShared(block_rank())));
  }
};
inline cluster_group this_cluster() { return {}; }

}  // namespace cooperative_groups
