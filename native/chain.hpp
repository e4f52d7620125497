// A whole training step of a model that reads symbols and foretells symbols: vectors of the symbols,
// passes one upon the other, softmax and cross-entropy, the way back, clipping, the update.
//
// Around small models the loop itself is the least: through torch, a read-out with its loss costs as much
// as 25 steps of a hundred units, and the optimiser as much again.
#pragma once

#include "pass.hpp"

namespace unrolled {

// One pass of the chain; it has one input and one result.
struct Link {
  const Pass* pass;
  std::vector<Index> constants;  // where each lies among the weights
};

struct Symbols {
  Index count;            // V
  Index width = 0;        // of the table's vectors; 0: one-hot
  Index table = -1;       // where it lies among the weights
};

// T steps of B rows, N in all.
struct ChainBatch {
  Index steps, batch;
  const std::int64_t *inputs, *targets;  // (N)
  const std::uintptr_t *initial, *last;  // link by link, state by state, (B, width); null: zeros
  double factor;                         // of the mean of all rows' cross-entropy
};

struct Clipping {
  double value, norm;  // 0: none
};

struct Gradients {
  double loss, norm;  // norm before it is bounded; 0 if it is not asked for
};

class Chain {
 public:
  // The last link's result are the logits. All links compute in the same type.
  Chain(Symbols symbols, std::vector<Link> links, Index weights);

  // Writes the gradients of all weights, clipped: first every entry, then all to the norm.
  Gradients gradients(const ChainBatch& batch, std::uintptr_t weights, std::uintptr_t gradients,
                      const Clipping& clipping, int threads) const;
  void update(const Rule& rule, std::uintptr_t weights, std::uintptr_t gradients, std::uintptr_t first,
              std::uintptr_t second, int threads) const;

 private:
  template <class T>
  Gradients run(const ChainBatch&, T* weights, T* gradients, const Clipping&, int threads) const;
  template <class T>
  double cross_entropy(const ChainBatch&, T* logits, T* losses, int threads) const;
  template <class T>
  double clip(T* gradients, const Clipping&) const;

  Symbols symbols_;
  std::vector<Link> links_;
  Index weights_;
  const Kernels* kernels_;
  bool one_hot_;       // the symbols themselves are the first link's input
  bool shared_table_;  // the table is the read-out's matrix too
};

}  // namespace unrolled
