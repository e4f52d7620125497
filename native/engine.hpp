// Runs a program over a batch of sequences.
#pragma once

#include "kernels.hpp"
#include "program.hpp"
#include "workspace.hpp"

namespace unrolled {

// Numbers rounded up to whole cache lines.
constexpr Index padded(Index count) { return (count + 15) / 16 * 16; }

// T steps of B rows sorted by length, the longest first: step t has its running[t] rows at
// [offsets[t], offsets[t + 1]) of every array with all rows.
struct Steps {
  Index steps, batch;
  const std::int64_t* offsets;
  const std::int64_t* running;

  Index rows() const { return Index(offsets[steps]); }
  bool equal() const { return rows() == steps * batch; }
  // First row of the step `lag` before step t, counted from the B rows that stand `lag` steps before the first.
  Index before(Index t, Index lag) const { return t < lag ? t * batch : lag * batch + Index(offsets[t - lag]); }
};

// The weights of the sections of a forward pass, packed ahead of the calls that use them.
struct PackedWeights {
  PackedWeights() = default;
  PackedWeights(const PackedWeights&) = delete;

  Workspace memory;
  std::vector<void*> at[3];  // of each section's products
  bool pairs = false;
};

// arrays[i] is the memory of the program's array i, null for scratch. Before an array with all rows that a
// `previous` array is of stand B more rows for each step of its lag, the initial ones, the oldest first;
// the previous array points to its first.
template <class T>
struct Call {
  const ir::Program* program;
  const Kernels* kernels;
  Steps steps;
  T* const* arrays;
  int threads;
  bool pairs = false;  // products of floats rounded to bfloat16
  const PackedWeights* packed = nullptr;
  // The rows of this array are one-hot and have no memory: where each row's one stands. Only products
  // with all its columns may read it.
  int one_hot = -1;
  const std::int64_t* symbols = nullptr;
};

// Packs what forward() would; of the arrays only weights need be there.
template <class T>
void pack_ahead(const Call<T>& call, PackedWeights& packed);

template <class T>
void forward(const Call<T>& call);

// What it adds gradients of parameters to must be zero.
template <class T>
void backward(const Call<T>& call);

}  // namespace unrolled
