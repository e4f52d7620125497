// Forward and backward passes of h_t = tanh(x_t W + h_{t-1} U + h_{t-3} V) against loops that anyone can
// read: rows of unequal length, any number of threads (the same bits), several callers at once. What
// ThreadSanitizer looks at.
#include <algorithm>
#include <cmath>
#include <thread>

#include "check.hpp"
#include "pass.hpp"
#include "random.hpp"

using namespace unrolled;
using ir::Gather, ir::Kernel, ir::Kind, ir::Op, ir::Program, ir::Ref, ir::Source, ir::Arity;

namespace {

enum Arrays { x, w, u, v, ahead, h, near_h, far_h, product, dy, carried, near_back, far_back, dh, da, dw, du, dv,
              dx, back_near, back_far, arrays };

Ref at(int array) { return {array, 0}; }
Source of(int array) { return {Source::array, array, 0}; }

ir::Product times(int out, int a, int weight, Index k, Index n, bool transposed, int place) {
  return {at(out), at(a), weight, 0, transposed ? k : n, transposed, k, n, {}, place};
}
Op op(Binary code, int out, Source a, Source b) { return {Arity::binary, int(code), false, at(out), {a, b, {}}}; }

Program program(Index inputs, Index units) {
  Program p;
  p.arrays.assign(arrays, {Kind::rows, units});
  p.arrays[x] = p.arrays[dx] = {Kind::rows, inputs};
  p.arrays[w] = p.arrays[dw] = {Kind::once, inputs * units};
  for (int i : {u, v, du, dv}) p.arrays[i] = {Kind::once, units * units};
  for (int i : {product, dh, back_near, back_far}) p.arrays[i] = {Kind::scratch, units};
  p.arrays[near_h] = {Kind::previous, units, h, 1};
  p.arrays[far_h] = {Kind::previous, units, h, 3};
  p.arrays[near_back] = {Kind::previous, units, carried, 1};
  p.arrays[far_back] = {Kind::previous, units, carried, 3};

  auto& sections = p.sections;
  sections[ir::before].instructions = {times(ahead, x, w, inputs, units, false, 0)};
  ir::Product second = times(h, far_h, v, units, units, false, 1);
  second.bias = {};
  Kernel sum{units, 0, {op(Binary::add, product, of(product), of(ahead)), op(Binary::add, h, of(h), of(product)),
                        {Arity::unary, int(Unary::tanh), false, at(h), {of(h), {}, {}}}}};
  sections[ir::loop].instructions = {times(product, near_h, u, units, units, false, 0), second, sum};
  Kernel slope{units, 0, {op(Binary::add, dh, of(dy), of(carried)), op(Binary::tanh_gradient, da, of(dh), of(h))}};
  Kernel hand{units, 0, {op(Binary::add, near_back, of(near_back), of(back_near)),
                         op(Binary::add, far_back, of(far_back), of(back_far))}};
  sections[ir::back_loop].instructions = {slope, times(back_near, da, u, units, units, true, 0),
                                      times(back_far, da, v, units, units, true, 1), hand};
  sections[ir::back_after].instructions = {times(dx, da, w, units, inputs, true, 0),
                                       Gather{at(dw), units, at(x), inputs, at(da), units},
                                       Gather{at(du), units, at(near_h), units, at(da), units},
                                       Gather{at(dv), units, at(far_h), units, at(da), units}};
  auto name = [&](ir::SectionName section, std::vector<int> named, int products) {
    std::sort(named.begin(), named.end());
    sections[section].arrays = named;
    sections[section].products = products;
  };
  name(ir::before, {x, w, ahead}, 1);
  name(ir::loop, {u, v, ahead, h, near_h, far_h, product}, 2);
  name(ir::back_loop, {u, v, h, dy, carried, near_back, far_back, dh, da, back_near, back_far}, 2);
  name(ir::back_after, {x, w, near_h, far_h, da, dw, du, dv, dx}, 1);
  return p;
}

struct Lengths {
  std::vector<std::int64_t> offsets{0}, running;
  explicit Lengths(const std::vector<int>& longest_first) {
    for (int t = 0; t < longest_first[0]; ++t) {
      running.push_back(std::count_if(longest_first.begin(), longest_first.end(), [=](int n) { return n > t; }));
      offsets.push_back(offsets.back() + running.back());
    }
  }
};

template <class T>
struct Numbers {
  std::vector<std::vector<T>> of;
  void add(Index count, Random& random, double scale) {
    of.emplace_back(count);
    for (T& number : of.back()) number = T(scale * random.symmetric());
  }
  std::uintptr_t operator[](int i) { return reinterpret_cast<std::uintptr_t>(of[i].data()); }
};

enum Given { given_x, given_w, given_u, given_v, given_start, given_dy, given_last };

template <class T>
std::vector<std::vector<T>> run(const Pass& pass, Numbers<T>& given, const Lengths& lengths, Index batch,
                                Index inputs, Index units, int threads) {
  const Steps steps{Index(lengths.running.size()), batch, lengths.offsets.data(), lengths.running.data()};
  const Index rows = steps.rows();
  std::vector<std::vector<T>> made;
  for (Index count : {(3 * batch + rows) * units, 3 * batch * units, rows * inputs, 3 * batch * units,
                      inputs * units, units * units, units * units})
    made.emplace_back(count);
  auto to = [&](int i) { return reinterpret_cast<std::uintptr_t>(made[i].data()); };
  const std::uintptr_t rows_in[] = {given[given_x]}, start[] = {given[given_start]};
  const std::uintptr_t weights[] = {given[given_w], given[given_u], given[given_v]};
  const std::uintptr_t results[] = {to(0)}, last[] = {to(1)};
  auto saved = pass.forward(steps, {rows_in, start, weights, results, last}, threads);
  const std::uintptr_t grads[] = {given[given_dy]}, of_last[] = {given[given_last]};
  const std::uintptr_t of_input[] = {to(2)}, of_start[] = {to(3)}, of_weights[] = {to(4), to(5), to(6)};
  pass.backward(steps, saved->data(),
                {rows_in, weights, results, grads, of_last, of_input, of_start, of_weights}, threads);
  return made;
}

// The same by loops over rows in double: the results of run() from the second on, and h after the start.
template <class T>
std::vector<std::vector<double>> plain(const Numbers<T>& given, const Lengths& lengths, Index batch,
                                       Index inputs, Index units) {
  const Index rows = Index(lengths.offsets.back()), all = 3 * batch + rows;
  std::vector<std::vector<double>> made;
  for (Index count : {all * units, 3 * batch * units, rows * inputs, 3 * batch * units, inputs * units,
                      units * units, units * units})
    made.emplace_back(count, 0.0);
  auto row_of = [&](Index t, Index b) { return t < 0 ? (3 + t) * batch + b : 3 * batch + lengths.offsets[t] + b; };
  auto& state = made[0];
  std::copy(given.of[given_start].begin(), given.of[given_start].end(), state.begin());
  std::vector<double> back(all * units, 0.0);
  for (Index b = 0; b < batch; ++b) {
    Index steps = 0;
    while (steps < Index(lengths.running.size()) && lengths.running[steps] > b) ++steps;
    for (Index t = 0; t < steps; ++t)
      for (Index j = 0; j < units; ++j) {
        double sum = 0;
        const Index in = lengths.offsets[t] + b;
        for (Index i = 0; i < inputs; ++i) sum += double(given.of[given_x][in * inputs + i]) * given.of[given_w][i * units + j];
        for (Index i = 0; i < units; ++i)
          sum += state[row_of(t - 1, b) * units + i] * given.of[given_u][i * units + j] +
                 state[row_of(t - 3, b) * units + i] * given.of[given_v][i * units + j];
        state[row_of(t, b) * units + j] = std::tanh(sum);
      }
    for (Index d = 0; d < 3; ++d)
      for (Index j = 0; j < units; ++j) {
        const Index from = row_of(steps - 3 + d, b) * units + j, to = (d * batch + b) * units + j;
        made[1][to] = state[from];
        back[from] += double(given.of[given_last][to]);
      }
    for (Index t = steps - 1; t >= 0; --t)
      for (Index j = 0; j < units; ++j) {
        const Index in = lengths.offsets[t] + b;
        const double y = state[row_of(t, b) * units + j];
        const double da = (back[row_of(t, b) * units + j] + double(given.of[given_dy][in * units + j])) * (1 - y * y);
        for (Index i = 0; i < inputs; ++i) {
          made[2][in * inputs + i] += da * double(given.of[given_w][i * units + j]);
          made[4][i * units + j] += da * double(given.of[given_x][in * inputs + i]);
        }
        for (Index i = 0; i < units; ++i) {
          const Index near = row_of(t - 1, b) * units + i, far = row_of(t - 3, b) * units + i;
          made[5][i * units + j] += da * state[near];
          made[6][i * units + j] += da * state[far];
          back[near] += da * double(given.of[given_u][i * units + j]);
          back[far] += da * double(given.of[given_v][i * units + j]);
        }
      }
  }
  std::copy(back.begin(), back.begin() + 3 * batch * units, made[3].begin());
  return made;
}

template <class T>
void test_pass(const Kernels& kernels, const std::vector<int>& longest_first, Index inputs, Index units) {
  const Index batch = Index(longest_first.size());
  const Lengths lengths(longest_first);
  const Index rows = Index(lengths.offsets.back());
  Random random;
  Numbers<T> given;
  given.add(rows * inputs, random, 1);
  for (Index count : {inputs * units, units * units, units * units})
    given.add(count, random, 1 / std::sqrt(double(units)));
  given.add(3 * batch * units, random, 1);
  given.add(rows * units, random, 1);
  given.add(3 * batch * units, random, 1);

  Roles roles;
  roles.inputs = {x};
  roles.states = {{h, carried, units, 3}};
  roles.constants = {w, u, v};
  roles.results = {h};
  roles.grads = {dy};
  roles.input_gradients = {dx};
  roles.constant_gradients = {dw, du, dv};
  const Pass pass(program(inputs, units), roles, sizeof(T) == 8, &kernels);

  const auto wanted = plain(given, lengths, batch, inputs, units);
  const auto first = run(pass, given, lengths, batch, inputs, units, 1);
  const double bound = sizeof(T) == 8 ? 1e-11 : 2e-3;
  for (std::size_t k = 0; k < wanted.size(); ++k)
    for (std::size_t i = 0; i < wanted[k].size(); ++i)
      CHECK(std::abs(first[k][i] - wanted[k][i]) <= bound * (1 + std::abs(wanted[k][i])), "%zu[%zu]: %g, not %g", k,
            i, double(first[k][i]), wanted[k][i]);
  for (int threads : {2, 3, 4}) CHECK(run(pass, given, lengths, batch, inputs, units, threads) == first, "%d threads", threads);
  std::vector<std::thread> callers;
  std::atomic<int> equal{0};
  for (int i = 0; i < 3; ++i)
    callers.emplace_back([&] {
      for (int again = 0; again < 3; ++again) equal += run(pass, given, lengths, batch, inputs, units, 2) == first;
    });
  for (auto& caller : callers) caller.join();
  CHECK(equal == 9, "%d of 9 calls from several threads agree", equal.load());
}

void test_masks() {
  std::vector<float> one(70000 * 3), more(one.size());
  keep({5, 0, 2, 1}, 700, 100, 3, 20000, one.data(), 1);
  keep({5, 0, 2, 1}, 700, 100, 3, 20000, more.data(), 3);
  CHECK(one == more, "masks of several threads");
}

void test(const Kernels& kernels) {
  test_masks();
  for (const auto& lengths : {std::vector<int>{5, 5, 5}, {7, 6, 6, 2, 1, 0}, {2}, {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 3}}) {
    test_pass<float>(kernels, lengths, 5, 18);
    test_pass<double>(kernels, lengths, 5, 18);
  }
  test_pass<float>(kernels, {6}, 8, 256);  // threads share the columns of a step
  test_pass<float>(kernels, {5, 3}, 8, 192);
}

}  // namespace

int main() { return run_tests("engine", test); }
