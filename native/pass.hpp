// A forward or backward pass over sequences: gives every array of a program its memory, and runs it.
#pragma once

#include <memory>

#include "engine.hpp"
#include "workspace.hpp"

namespace unrolled {

// Which arrays hold what the caller hands over; -1 where the program has none.
struct Roles {
  struct State {
    int values, carried;
    Index width;
    Index depth;  // how many steps back it is read: so many initial values it has, and so many last ones
  };
  std::vector<int> inputs;              // x and the further inputs
  std::vector<State> states;            // several may share their values
  std::vector<int> constants;           // what is the same for all rows
  std::vector<int> results;             // values at all steps that are wanted
  std::vector<int> grads;               // gradient of each result
  std::vector<int> input_gradients;     // of each input
  std::vector<int> constant_gradients;  // of each constant
};

// What the caller holds, in the order of the roles. N rows in all steps, B rows of the batch, D the depth of
// a state; of its D initial and last values the oldest comes first.
struct ForwardMemory {
  const std::uintptr_t* inputs;     // (N, width), or where the ones stand (N) if they are one-hot
  const std::uintptr_t* initial;    // (D, B, width); null: zeros
  const std::uintptr_t* constants;
  const std::uintptr_t* results;    // (N, width); the values of a state (D B + N, width), the initial first
  const std::uintptr_t* last;       // (D, B, width), last states
  bool one_hot = false;             // the inputs are
};
struct BackwardMemory {
  const std::uintptr_t* inputs;
  const std::uintptr_t* constants;
  const std::uintptr_t* results;
  const std::uintptr_t* grads;               // (N, width), of results; null: zeros
  const std::uintptr_t* last;                // (D, B, width), of last states; null: zeros
  const std::uintptr_t* input_gradients;     // (N, width), are written
  const std::uintptr_t* initial_gradients;   // (D, B, width), are written; null: not wanted
  const std::uintptr_t* constant_gradients;  // are written
  bool one_hot = false;
};

class Pass {
 public:
  Pass(ir::Program program, Roles roles, bool wide, const Kernels* kernels);

  // `pairs`: products in bfloat16. Returns what backward() needs, or puts it into the caller's memory, of
  // saved_bytes().
  std::unique_ptr<Block> forward(const Steps& steps, const ForwardMemory& memory, int threads,
                                 bool pairs = false, const PackedWeights* packed = nullptr,
                                 void* into = nullptr) const;
  void backward(const Steps& steps, const void* saved, const BackwardMemory& memory, int threads,
                bool pairs = false) const;

  // The weights of the forward pass, packed.
  std::unique_ptr<PackedWeights> pack(const std::uintptr_t* constants, bool pairs) const;
  std::size_t saved_bytes(const Steps& steps) const;
  // saved_bytes() is at most `rows` numbers for each of the N rows, `batch` for each of the B, and 64 bytes
  // for each of the arrays.
  struct Saved {
    Index rows = 0, batch = 0, arrays = 0;
  };
  Saved saved() const;

  const Roles& roles() const { return roles_; }
  const Kernels& kernels() const { return *kernels_; }
  bool wide() const { return element_ == 8; }
  // Whether a result is the values of a state, before which its initial ones must stand.
  bool is_state(std::size_t result) const;
  // Whether an input is read by products with all its columns alone, so that it may be one-hot.
  bool only_multiplied(std::size_t input) const;
  Index width(std::size_t result) const { return program_.arrays[roles_.results[result]].width; }

 private:
  template <class T>
  void run_forward(const Steps&, const ForwardMemory&, int, bool, const PackedWeights*, std::byte* saved) const;
  template <class T>
  void run_backward(const Steps&, std::byte* saved, const BackwardMemory&, int, bool) const;
  template <class T>
  void run_pack(const std::uintptr_t* constants, bool pairs, PackedWeights& packed) const;
  // Places arrays one after the other in memory, from `at` on; gives the bytes taken.
  std::size_t place(const std::vector<int>& arrays, const Steps& steps, std::byte* at,
                    std::vector<std::byte*>* found) const;
  template <class T>
  void place_states(const Steps& steps, const std::uintptr_t* results, std::byte* saved,
                    std::vector<std::byte*>& at) const;
  template <class T>
  void place_previous(const Steps& steps, std::vector<std::byte*>& at) const;
  // How many values stand before the first step's.
  Index depth(int array) const;

  ir::Program program_;
  Roles roles_;
  std::size_t element_;
  const Kernels* kernels_;
  std::vector<int> hidden_;   // values of states that are no results; saved
  std::vector<int> kept_;     // what the backward pass reads of the forward one; saved
  std::vector<int> passing_;  // other arrays of the forward pass
  std::vector<int> own_;      // other arrays of the backward pass
};

}  // namespace unrolled
