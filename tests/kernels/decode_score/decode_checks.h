#pragma once

// What the decode kernels must keep, for any inputs, on a GPU or on the one of the tests
// (tests/kernels/simt).

#include "tests/kernels/decode_score/decode_case.h"

namespace lectern::kernels::testing {

// A whole step by the best ways and by those of any GPU, against fp64.
void CheckAll(const Case& c);

// The same for more rows than the narrow kernels take at once: products of warpgroups, whose sums
// are rounded in an order of their own.
void CheckWide(const Case& c);

// All ways to score and to attend that give the same bits do.
void CheckWays(const Case& c);

// Selections that no scores would give, up to c.topk blocks, which may be more than 16.
void CheckGiven(const Case& c);

// The choice among `blocks` scores of a kind: random, all equal, few different, rising, NaN.
void CheckChoice(int blocks, int topk);

// One row's bits alone and in a batch; a NaN in one row's queries.
void CheckRowsAlone(const Case& c);
void CheckBrokenRows();

// Attention over everything, against fp64 and against the sparse kernel where that sees everything.
void CheckDense(const Case& c, int splits);

// The 8-bit copy proposes, and the choice is bit for bit the one without it; every interval holds.
void CheckCandidates(const Case& c);

}  // namespace lectern::kernels::testing
