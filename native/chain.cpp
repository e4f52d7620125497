#include "chain.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "threads.hpp"

namespace unrolled {
namespace {

constexpr Index rows_at_once = 16;   // of the softmax
constexpr Index long_row = 4096;     // of the weights, where they are taken as rows
constexpr Index worth_threads = 1 << 16;

std::uintptr_t address(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }

}  // namespace

Chain::Chain(Symbols symbols, std::vector<Link> links, Index weights)
    : symbols_(symbols), links_(std::move(links)), weights_(weights) {
  if (links_.empty()) throw std::invalid_argument("a chain needs a link");
  kernels_ = &links_[0].pass->kernels();
  for (const Link& link : links_) {
    const Roles& roles = link.pass->roles();
    if (roles.inputs.size() != 1 || roles.results.size() != 1 ||
        roles.constants.size() != link.constants.size() || link.pass->wide() != links_[0].pass->wide())
      throw std::invalid_argument("these passes are no chain");
  }
  if (links_.back().pass->width(0) != symbols_.count)
    throw std::invalid_argument("the last link has a logit for each symbol");
  one_hot_ = !symbols_.width && links_[0].pass->only_multiplied(0);
  shared_table_ = std::any_of(links_.begin(), links_.end(), [&](const Link& link) {
    return std::find(link.constants.begin(), link.constants.end(), symbols_.table) != link.constants.end();
  });
}

Gradients Chain::gradients(const ChainBatch& batch, std::uintptr_t weights, std::uintptr_t gradients,
                           const Clipping& clipping, int threads) const {
  DenormalsAreZero guard;
  if (links_[0].pass->wide())
    return run(batch, reinterpret_cast<double*>(weights), reinterpret_cast<double*>(gradients), clipping,
               threads);
  return run(batch, reinterpret_cast<float*>(weights), reinterpret_cast<float*>(gradients), clipping, threads);
}

template <class T>
Gradients Chain::run(const ChainBatch& batch, T* weights, T* gradients, const Clipping& clipping,
                     int threads) const {
  const Index n = batch.steps * batch.batch, width = symbols_.width ? symbols_.width : symbols_.count;
  std::vector<std::int64_t> offsets(batch.steps + 1), running(batch.steps, batch.batch);
  for (Index t = 0; t <= batch.steps; ++t) offsets[t] = t * batch.batch;
  const Steps steps{batch.steps, batch.batch, offsets.data(), running.data()};

  // x of every link and the logits, each after the initial rows it may need; then their gradients.
  std::vector<Index> at{0};
  Index total = one_hot_ ? 0 : padded(n * width), widest = symbols_.width ? width : 0;
  for (const Link& link : links_) {
    const Index w = link.pass->width(0), ahead = link.pass->is_state(0) ? batch.batch * w : 0;
    at.push_back(total);
    total += padded(ahead + n * w);
    widest = std::max(widest, w);
  }
  const Index places = total;
  total += 2 * padded(n * widest) + padded(n);
  Block block(std::size_t(total) * sizeof(T));
  T* base = static_cast<T*>(block.data());
  auto values = [&](std::size_t k) {  // of link k - 1; of the symbols for 0
    const bool state = k > 0 && links_[k - 1].pass->is_state(0);
    return base + at[k] + (state ? batch.batch * links_[k - 1].pass->width(0) : 0);
  };

  T* x = base;
  const T* table = weights + symbols_.table;
  if (symbols_.width) {
    for (Index r = 0; r < n; ++r)
      std::memcpy(x + r * width, table + batch.inputs[r] * width, std::size_t(width) * sizeof(T));
  } else if (!one_hot_) {
    std::fill(x, x + n * width, T(0));
    for (Index r = 0; r < n; ++r) x[r * width + batch.inputs[r]] = 1;
  }

  std::vector<std::unique_ptr<Block>> saved;
  std::vector<std::vector<std::uintptr_t>> constants;
  Index state = 0;
  for (std::size_t k = 0; k < links_.size(); ++k) {
    const Link& link = links_[k];
    std::vector<std::uintptr_t> own;
    for (Index offset : link.constants) own.push_back(address(weights + offset));
    const bool looks_up = k == 0 && one_hot_;
    const std::uintptr_t input = looks_up ? address(batch.inputs) : address(values(k));
    const std::uintptr_t result = address(base + at[k + 1]);
    ForwardMemory memory{&input, batch.initial + state, own.data(), &result, batch.last + state, looks_up};
    saved.push_back(link.pass->forward(steps, memory, threads));
    constants.push_back(std::move(own));
    state += Index(link.pass->roles().states.size());
  }

  T* logits = values(links_.size());
  const double loss = cross_entropy(batch, logits, base + places + 2 * padded(n * widest), threads);

  T* received = logits;
  T* buffers[] = {base + places, base + places + padded(n * widest)};
  for (std::size_t k = links_.size(); k-- > 0;) {
    const Link& link = links_[k];
    const Roles& roles = link.pass->roles();
    std::vector<std::uintptr_t> of_constants, none(roles.states.size(), 0);
    for (Index offset : link.constants) of_constants.push_back(address(gradients + offset));
    T* handed = roles.input_gradients[0] >= 0 ? buffers[k % 2] : nullptr;
    const bool looks_up = k == 0 && one_hot_;
    const std::uintptr_t input = looks_up ? address(batch.inputs) : address(values(k));
    const std::uintptr_t result = address(base + at[k + 1]);
    const std::uintptr_t grad = address(received), input_gradient = address(handed);
    BackwardMemory memory{&input, constants[k].data(), &result,     &grad,
                          none.data(), &input_gradient, none.data(), of_constants.data(), looks_up};
    link.pass->backward(steps, saved[k]->data(), memory, threads);
    received = handed;
  }
  if (symbols_.width) {
    // A table that is the read-out's matrix too has its share of that already.
    T* out = gradients + symbols_.table;
    if (!shared_table_) std::fill(out, out + symbols_.count * width, T(0));
    for (Index r = 0; r < n; ++r) {
      T* row = out + batch.inputs[r] * width;
      for (Index j = 0; j < width; ++j) row[j] += received[r * width + j];
    }
  }
  return {loss, clip(gradients, clipping)};
}

// Turns logits into the loss's gradient with respect to them.
template <class T>
double Chain::cross_entropy(const ChainBatch& batch, T* logits, T* losses, int threads) const {
  const Index n = batch.steps * batch.batch, count = symbols_.count;
  const T share = T(batch.factor / double(n));
  const Pointwise<T>& table = kernels_->of<T>().pointwise;
  const Index blocks = (n + rows_at_once - 1) / rows_at_once;
  parallel(n * count < worth_threads ? 1 : threads, [&](int thread, int of) {
    const Part mine = part_of(blocks, thread, of);
    for (Index b = mine.begin; b < mine.end; ++b) {
      const Index first = b * rows_at_once, rows = std::min(rows_at_once, n - first);
      T* x = logits + first * count;
      T number[rows_at_once];
      const Tile<T> reduce{rows, count, number, 1, {x, count}, {}, {}};
      const Tile<T> whole{rows, count, x, count, {x, count}, {number, 1}, {}};
      table.reduce[int(Reduction::maximum)](reduce);
      table.binary[int(Binary::subtract)][2](whole);
      for (Index r = 0; r < rows; ++r) losses[first + r] = -x[r * count + batch.targets[first + r]];
      table.unary[int(Unary::exp)][0](whole);
      table.reduce[int(Reduction::sum)](reduce);
      for (Index r = 0; r < rows; ++r) {
        losses[first + r] += std::log(number[r]);
        number[r] = share / number[r];
      }
      table.binary[int(Binary::multiply)][2](whole);
      for (Index r = 0; r < rows; ++r) x[r * count + batch.targets[first + r]] -= share;
    }
  });
  double sum = 0;
  for (Index r = 0; r < n; ++r) sum += double(losses[r]);
  return sum / double(n) * batch.factor;
}

template <class T>
double Chain::clip(T* gradients, const Clipping& clipping) const {
  const Pointwise<T>& table = kernels_->of<T>().pointwise;
  auto bound = [&](Binary operation, T number) {
    table.binary[int(operation)][2](
        {1, weights_, gradients, weights_, {gradients, weights_}, {&number, 0}, {}});
  };
  if (clipping.value > 0) {
    bound(Binary::maximum, T(-clipping.value));
    bound(Binary::minimum, T(clipping.value));
  }
  if (clipping.norm <= 0) return 0;
  double squares = 0;
  for (Index first = 0; first < weights_; first += long_row) {
    const T* g = gradients + first;
    T sum;
    table.dot({1, std::min(long_row, weights_ - first), &sum, 1, {g, long_row}, {g, long_row}, {}});
    squares += double(sum);
  }
  const double norm = std::sqrt(squares);
  if (norm > clipping.norm) bound(Binary::multiply, T(clipping.norm / norm));
  return norm;
}

void Chain::update(const Rule& rule, std::uintptr_t weights, std::uintptr_t gradients, std::uintptr_t first,
                   std::uintptr_t second, int threads) const {
  auto go = [&](auto function, auto* w) {
    using T = std::remove_pointer_t<decltype(w)>;
    auto* g = reinterpret_cast<T*>(gradients);
    auto *m = reinterpret_cast<T*>(first), *v = reinterpret_cast<T*>(second);
    parallel(weights_ < worth_threads ? 1 : threads, [&](int thread, int of) {
      const Part mine = part_of(weights_, thread, of);
      function(rule, {mine.end - mine.begin, w + mine.begin, g + mine.begin, m ? m + mine.begin : m,
                      v ? v + mine.begin : v});
    });
  };
  if (links_[0].pass->wide()) go(kernels_->updates.f64, reinterpret_cast<double*>(weights));
  else go(kernels_->updates.f32, reinterpret_cast<float*>(weights));
}

}  // namespace unrolled
