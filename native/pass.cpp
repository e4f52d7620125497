#include "pass.hpp"

#include <algorithm>
#include <cstring>
#include <set>
#include <stdexcept>

namespace unrolled {
namespace {

constexpr std::size_t line = 64;

bool among(const std::vector<int>& list, int array) {
  return std::find(list.begin(), list.end(), array) != list.end();
}

// Puts the caller's memory where the program's arrays are looked up.
template <class T>
void give(const std::vector<int>& arrays, const std::uintptr_t* given, std::vector<T*>& at) {
  for (std::size_t k = 0; k < arrays.size(); ++k)
    if (arrays[k] >= 0) at[arrays[k]] = reinterpret_cast<T*>(given[k]);
}

// Where the last `depth` values of each row stand: calls copy(to, from, rows), `to` among (depth, B) rows, `from`
// among the depth * B initial and N other rows.
template <class F>
void each_last(const Steps& steps, Index depth, F copy) {
  auto copy_rows = [&](Index row, Index length, Index rows) {
    for (Index d = 0; d < depth; ++d) {
      const Index t = length - depth + d;
      const Index from = t < 0 ? (depth + t) * steps.batch : depth * steps.batch + Index(steps.offsets[t]);
      copy(d * steps.batch + row, from + row, rows);
    }
  };
  Index first = 0;
  for (Index length = steps.steps; length >= 0; --length) {
    const Index stop = length ? Index(steps.running[length - 1]) : steps.batch;
    if (stop > first) copy_rows(first, length, stop - first);
    first = stop;
  }
}

}  // namespace

Pass::Pass(ir::Program program, Roles roles, bool wide, const Kernels* kernels)
    : program_(std::move(program)), roles_(std::move(roles)), element_(wide ? 8 : 4), kernels_(kernels) {
  std::set<int> states, ahead, back;
  for (const auto& state : roles_.states) {
    if (!among(roles_.results, state.values) && states.insert(state.values).second)
      hidden_.push_back(state.values);
    states.insert(state.values);
  }
  for (int section = 0; section < ir::sections; ++section)
    for (int i : program_.sections[section].arrays)
      if (program_.arrays[i].kind == ir::Kind::rows) (section < ir::back_before ? ahead : back).insert(i);
  for (int i : ahead) {
    if (states.count(i) || among(roles_.inputs, i) || among(roles_.results, i)) continue;
    (back.count(i) ? kept_ : passing_).push_back(i);
  }
  for (int i : back)
    if (!ahead.count(i) && !states.count(i) && !among(roles_.inputs, i) && !among(roles_.grads, i) &&
        !among(roles_.results, i) && !among(roles_.input_gradients, i) && depth(i) == 0)
      own_.push_back(i);
}

Index Pass::depth(int array) const {
  Index found = 0;
  for (const auto& state : roles_.states)
    if (state.values == array || (state.carried == array && state.depth > 1)) found = std::max(found, state.depth);
  return found;
}

bool Pass::is_state(std::size_t result) const {
  for (const auto& state : roles_.states)
    if (state.values == roles_.results[result]) return true;
  return false;
}

bool Pass::only_multiplied(std::size_t input) const {
  const int array = roles_.inputs[input];
  const Index width = array < 0 ? 0 : program_.arrays[array].width;
  auto whole = [&](const ir::Ref& ref, Index columns) { return ref.column == 0 && columns == width; };
  for (const auto& section : program_.sections)
    for (const auto& instruction : section.instructions) {
      if (auto* kernel = std::get_if<ir::Kernel>(&instruction)) {
        for (const auto& op : kernel->ops)
          for (int k = 0; k <= int(op.arity); ++k)
            if ((op.inputs[k].form == ir::Source::array || op.inputs[k].form == ir::Source::spread) &&
                op.inputs[k].index == array)
              return false;
      } else if (auto* product = std::get_if<ir::Product>(&instruction)) {
        if (product->a.array == array && !whole(product->a, product->k)) return false;
      } else if (auto* gather = std::get_if<ir::Gather>(&instruction)) {
        if (gather->a.array == array || (gather->b.array == array && !whole(gather->b, gather->b_width)))
          return false;
      } else if (std::get<ir::Reduce>(instruction).a.array == array) {
        return false;
      }
    }
  return true;
}

std::size_t Pass::place(const std::vector<int>& arrays, const Steps& steps, std::byte* at,
                        std::vector<std::byte*>* found) const {
  std::size_t bytes = 0;
  for (int i : arrays) {
    Index rows = steps.rows() + steps.batch * depth(i);
    if (found) (*found)[i] = at + bytes;
    bytes += (std::size_t(rows * program_.arrays[i].width) * element_ + line - 1) / line * line;
  }
  return bytes;
}

// The values of states stand after the initial ones.
template <class T>
void Pass::place_states(const Steps& steps, const std::uintptr_t* results, std::byte* saved,
                        std::vector<std::byte*>& at) const {
  place(hidden_, steps, saved, &at);
  for (std::size_t k = 0; k < roles_.results.size(); ++k)
    at[roles_.results[k]] = reinterpret_cast<std::byte*>(results[k]);
  std::set<int> moved;
  for (const auto& state : roles_.states)
    if (moved.insert(state.values).second)
      at[state.values] += std::size_t(steps.batch * state.depth * state.width) * sizeof(T);
  place_previous<T>(steps, at);
}

template <class T>
void Pass::place_previous(const Steps& steps, std::vector<std::byte*>& at) const {
  for (std::size_t i = 0; i < at.size(); ++i) {
    const ir::Array& array = program_.arrays[i];
    if (array.kind == ir::Kind::previous && at[array.of])
      at[i] = at[array.of] - std::size_t(array.lag * steps.batch * array.width) * sizeof(T);
  }
}

std::size_t Pass::saved_bytes(const Steps& steps) const {
  return place(hidden_, steps, nullptr, nullptr) + place(kept_, steps, nullptr, nullptr);
}

Pass::Saved Pass::saved() const {
  Saved found;
  for (const auto* arrays : {&hidden_, &kept_})
    for (int i : *arrays) {
      found.rows += program_.arrays[i].width;
      found.batch += depth(i) * program_.arrays[i].width;
      ++found.arrays;
    }
  return found;
}

template <class T>
void Pass::run_pack(const std::uintptr_t* constants, bool pairs, PackedWeights& packed) const {
  std::vector<T*> at(program_.arrays.size(), nullptr);
  give(roles_.constants, constants, at);
  pack_ahead(Call<T>{&program_, kernels_, {}, at.data(), 1, pairs}, packed);
}

template <class T>
void Pass::run_forward(const Steps& steps, const ForwardMemory& memory, int threads, bool pairs,
                       const PackedWeights* packed, std::byte* base) const {
  std::vector<std::byte*> at(program_.arrays.size(), nullptr);
  Block passing(place(passing_, steps, nullptr, nullptr));
  place_states<T>(steps, memory.results, base, at);
  place(kept_, steps, base + place(hidden_, steps, nullptr, nullptr), &at);
  place(passing_, steps, static_cast<std::byte*>(passing.data()), &at);
  give(roles_.inputs, memory.inputs, at);
  give(roles_.constants, memory.constants, at);
  for (std::size_t k = 0; k < roles_.states.size(); ++k) {
    const auto& state = roles_.states[k];
    const std::size_t bytes = std::size_t(steps.batch * state.depth * state.width) * sizeof(T);
    std::byte* before = at[state.values] - bytes;
    if (memory.initial[k]) std::memcpy(before, reinterpret_cast<void*>(memory.initial[k]), bytes);
    else std::memset(before, 0, bytes);
  }
  unrolled::forward(Call<T>{&program_, kernels_, steps, reinterpret_cast<T* const*>(at.data()), threads,
                            pairs, packed, memory.one_hot ? roles_.inputs[0] : -1,
                            reinterpret_cast<const std::int64_t*>(memory.inputs[0])});
  for (std::size_t k = 0; k < roles_.states.size(); ++k) {
    const auto& state = roles_.states[k];
    const std::size_t row = std::size_t(state.width) * sizeof(T);
    const std::byte* first = at[state.values] - std::size_t(steps.batch * state.depth) * row;
    auto* out = reinterpret_cast<std::byte*>(memory.last[k]);
    each_last(steps, state.depth, [&](Index to, Index from, Index rows) {
      std::memcpy(out + std::size_t(to) * row, first + std::size_t(from) * row, std::size_t(rows) * row);
    });
  }
}

template <class T>
void Pass::run_backward(const Steps& steps, std::byte* base, const BackwardMemory& memory, int threads,
                        bool pairs) const {
  std::vector<std::byte*> at(program_.arrays.size(), nullptr);
  place_states<T>(steps, memory.results, base, at);
  place(kept_, steps, base + place(hidden_, steps, nullptr, nullptr), &at);
  // What the caller does not give or want has a place all the same.
  std::vector<int> absent = own_;
  for (std::size_t k = 0; k < roles_.grads.size(); ++k)
    if (roles_.grads[k] >= 0 && !memory.grads[k]) absent.push_back(roles_.grads[k]);
  for (const auto& state : roles_.states)
    if (state.depth > 1) absent.push_back(state.carried);
  std::size_t bytes = place(absent, steps, nullptr, nullptr), carried = bytes;
  for (std::size_t k = 0; k < roles_.states.size(); ++k)
    if (!memory.initial_gradients[k] && roles_.states[k].depth == 1)
      bytes += std::size_t(padded(steps.batch * roles_.states[k].width)) * sizeof(T);
  Block own(bytes);
  place(absent, steps, static_cast<std::byte*>(own.data()), &at);
  for (std::size_t k = 0; k < roles_.grads.size(); ++k) {
    int i = roles_.grads[k];
    if (i < 0) continue;
    if (memory.grads[k]) at[i] = reinterpret_cast<std::byte*>(memory.grads[k]);
    else std::memset(at[i], 0, std::size_t(steps.rows() * program_.arrays[i].width) * sizeof(T));
  }
  for (std::size_t k = 0; k < roles_.states.size(); ++k) {
    const auto& state = roles_.states[k];
    const std::size_t row = std::size_t(state.width) * sizeof(T), size = std::size_t(steps.batch) * row;
    const auto* given = reinterpret_cast<const std::byte*>(memory.last[k]);
    if (state.depth > 1) {
      // Every value's gradient is there at all times: those of later steps are added as they come.
      std::byte* first = at[state.carried];
      std::memset(first, 0, std::size_t(steps.rows()) * row + std::size_t(state.depth) * size);
      if (given)
        each_last(steps, state.depth, [&](Index from, Index to, Index rows) {
          std::memcpy(first + std::size_t(to) * row, given + std::size_t(from) * row, std::size_t(rows) * row);
        });
      at[state.carried] += std::size_t(state.depth) * size;
      continue;
    }
    auto* out = reinterpret_cast<std::byte*>(memory.initial_gradients[k]);
    if (!out) {
      out = static_cast<std::byte*>(own.data()) + carried;
      carried += std::size_t(padded(steps.batch * state.width)) * sizeof(T);
    }
    // Handed from step to step in place: it begins as the gradient of the last state.
    if (given) std::memcpy(out, given, size);
    else std::memset(out, 0, size);
    at[state.carried] = out;
  }
  place_previous<T>(steps, at);
  give(roles_.inputs, memory.inputs, at);
  give(roles_.constants, memory.constants, at);
  give(roles_.input_gradients, memory.input_gradients, at);
  give(roles_.constant_gradients, memory.constant_gradients, at);
  for (int i : roles_.constant_gradients)
    if (i >= 0) std::memset(at[i], 0, std::size_t(program_.arrays[i].width) * sizeof(T));
  unrolled::backward(Call<T>{&program_, kernels_, steps, reinterpret_cast<T* const*>(at.data()), threads,
                            pairs, nullptr, memory.one_hot ? roles_.inputs[0] : -1,
                            reinterpret_cast<const std::int64_t*>(memory.inputs[0])});
  for (std::size_t k = 0; k < roles_.states.size(); ++k) {
    const auto& state = roles_.states[k];
    const std::size_t size = std::size_t(state.depth * steps.batch * state.width) * sizeof(T);
    if (state.depth > 1 && memory.initial_gradients[k])
      std::memcpy(reinterpret_cast<void*>(memory.initial_gradients[k]), at[state.carried] - size, size);
  }
}

std::unique_ptr<Block> Pass::forward(const Steps& steps, const ForwardMemory& memory, int threads, bool pairs,
                                     const PackedWeights* packed, void* into) const {
  if (packed && packed->pairs != pairs) throw std::invalid_argument("the weights are packed for other products");
  std::unique_ptr<Block> saved;
  if (!into) into = (saved = std::make_unique<Block>(saved_bytes(steps)))->data();
  auto* base = static_cast<std::byte*>(into);
  if (wide()) run_forward<double>(steps, memory, threads, pairs, packed, base);
  else run_forward<float>(steps, memory, threads, pairs, packed, base);
  return saved;
}

void Pass::backward(const Steps& steps, const void* saved, const BackwardMemory& memory, int threads,
                    bool pairs) const {
  auto* base = static_cast<std::byte*>(const_cast<void*>(saved));
  if (wide()) run_backward<double>(steps, base, memory, threads, pairs);
  else run_backward<float>(steps, base, memory, threads, pairs);
}

std::unique_ptr<PackedWeights> Pass::pack(const std::uintptr_t* constants, bool pairs) const {
  auto packed = std::make_unique<PackedWeights>();
  if (wide()) run_pack<double>(constants, pairs, *packed);
  else run_pack<float>(constants, pairs, *packed);
  return packed;
}

}  // namespace unrolled
