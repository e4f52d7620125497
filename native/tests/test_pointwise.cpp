// Element-wise operations, reductions: values, broadcasting, edges and bounds.
#include <cmath>
#include <functional>
#include <limits>
#include <memory>

#include "check.hpp"

using namespace unrolled;

namespace {

const double inf = std::numeric_limits<double>::infinity();

// A buffer of its exact size, so that AddressSanitizer sees any access past the end, with a guard in
// front of it and behind it for the runs without.
template <class T>
struct Buffer {
  Index n;
  std::unique_ptr<T[]> all;
  static constexpr T guard = T(-12345.5);
  explicit Buffer(Index size) : n(size), all(new T[size + 16]) {
    for (Index i = 0; i < n + 16; ++i) all[i] = guard;
  }
  T* data() { return all.get() + 8; }
  bool intact() const {
    for (Index i = 0; i < 8; ++i)
      if (all[i] != guard || all[8 + n + i] != guard) return false;
    return true;
  }
};

template <class T>
T draw(Random& random) {
  switch (random.below(24)) {
    case 0: return T(0);
    case 1: return T(-0.0);
    case 2: return T(inf);
    case 3: return T(-inf);
    case 4: return std::numeric_limits<T>::quiet_NaN();
    case 5: return T(random.below(7) - 3);
    default: return T(4 * random.symmetric());
  }
}

// One call on `rows` rows with operands broadcast as `mask` and the zero row strides say, against the
// table's own results for single elements: an element must not depend on where it stands.
template <class T>
void test_layout(const char* name, int op, int arity, int mask, TileFunction<T> function,
                 TileFunction<T> plain, Random& random) {
  static const Index widths[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100};
  Index columns = widths[random.below(16)], rows = 1 + random.below(3), gap = random.below(3);
  Index out_row = columns + gap;
  Buffer<T> out(rows * out_row);
  std::vector<T> value[3];
  Operand<T> operand[3];
  bool number[3], repeated[3];
  for (int i = 0; i < arity; ++i) {
    number[i] = mask >> i & 1;
    repeated[i] = random.below(3) == 0;
    Index width = number[i] ? 1 : columns, row = repeated[i] ? 0 : width + gap;
    value[i].resize((rows - 1) * row + width + 1);
    for (T& v : value[i]) v = draw<T>(random);
    // Pointers with no alignment but the element's; the vector ends where the operand does.
    operand[i] = {value[i].data() + 1, row};
  }
  function({rows, columns, out.data(), out_row, operand[0], operand[1], operand[2]});
  CHECK(out.intact(), "%s mask %d wrote outside %td x %td", name, mask, rows, columns);
  for (Index r = 0; r < rows; ++r)
    for (Index j = 0; j < columns; ++j) {
      T single[3], alone;
      for (int i = 0; i < arity; ++i)
        single[i] = operand[i].data[r * operand[i].row + (number[i] ? 0 : j)];
      plain({1, 1, &alone, 1, {single, 1}, {single + 1, 1}, {single + 2, 1}});
      T got = out.data()[r * out_row + j];
      CHECK(same(got, alone), "%s (%d) mask %d at (%td, %td) of %td columns: %g, alone %g", name, op,
            mask, r, j, columns, double(got), double(alone));
    }
  if (arity == 0 || columns == 0) return;
  // In place: over each whole operand.
  for (int i = 0; i < arity; ++i) {
    if (number[i] || operand[i].row == 0) continue;
    std::vector<T> copy = value[i];
    Operand<T> in_place[3] = {operand[0], operand[1], operand[2]};
    in_place[i].data = copy.data() + 1;
    function({rows, columns, copy.data() + 1, operand[i].row, in_place[0], in_place[1], in_place[2]});
    for (Index r = 0; r < rows; ++r)
      for (Index j = 0; j < columns; ++j)
        CHECK(same(copy[1 + r * operand[i].row + j], out.data()[r * out_row + j]),
              "%s in place over operand %d", name, i);
  }
}

template <class T>
void test_layouts(const Pointwise<T>& table) {
  Random random;
  for (int round = 0; round < 40; ++round) {
    for (int op = 0; op < int(Unary::count); ++op)
      for (int mask = 0; mask < 2; ++mask)
        test_layout<T>("unary", op, 1, mask, table.unary[op][mask], table.unary[op][0], random);
    for (int op = 0; op < int(Binary::count); ++op)
      for (int mask = 0; mask < 4; ++mask)
        test_layout<T>("binary", op, 2, mask, table.binary[op][mask], table.binary[op][0], random);
    for (int op = 0; op < int(Ternary::count); ++op)
      for (int mask = 0; mask < 8; ++mask)
        test_layout<T>("ternary", op, 3, mask, table.ternary[op][mask], table.ternary[op][0], random);
  }
}

// ---------------------------------------------------------------- values

template <class T>
void test_values(const Pointwise<T>& table) {
  struct Case {
    Binary op;
    const char* name;
    double (*right)(double, double);
    double bound;
  };
  auto nan_or = [](double a, double b, double y) { return a != a ? a : b != b ? b : y; };
  static const auto keep = nan_or;
  const Case cases[] = {
      {Binary::add, "add", [](double a, double b) { return a + b; }, 0.5},
      {Binary::subtract, "subtract", [](double a, double b) { return a - b; }, 0.5},
      {Binary::multiply, "multiply", [](double a, double b) { return a * b; }, 0.5},
      {Binary::divide, "divide", [](double a, double b) { return a / b; }, 0.5},
      {Binary::minimum, "minimum", [](double a, double b) { return keep(a, b, a < b ? a : b); }, 0},
      {Binary::maximum, "maximum", [](double a, double b) { return keep(a, b, a > b ? a : b); }, 0},
      {Binary::fmod, "fmod", [](double a, double b) { return std::fmod(a, b); }, 0},
      {Binary::atan2, "atan2", [](double a, double b) { return std::atan2(a, b); }, 1},
      {Binary::equal, "equal", [](double a, double b) { return double(a == b); }, 0},
      {Binary::not_equal, "not_equal", [](double a, double b) { return double(a != b); }, 0},
      {Binary::less, "less", [](double a, double b) { return double(a < b); }, 0},
      {Binary::less_equal, "less_equal", [](double a, double b) { return double(a <= b); }, 0},
      {Binary::greater, "greater", [](double a, double b) { return double(a > b); }, 0},
      {Binary::greater_equal, "greater_equal", [](double a, double b) { return double(a >= b); }, 0},
      {Binary::sigmoid_gradient, "sigmoid_gradient",
       [](double a, double b) { return a * b * (1 - b); }, 6},
      {Binary::tanh_gradient, "tanh_gradient", [](double a, double b) { return a * (1 - b * b); }, 6},
  };
  Random random;
  for (const Case& c : cases)
    for (int i = 0; i < 3000; ++i) {
      T a = draw<T>(random), b = draw<T>(random), y;
      if (c.bound == 6) a = T(random.symmetric()), b = T(random.uniform());
      table.binary[int(c.op)][0]({1, 1, &y, 1, {&a, 1}, {&b, 1}, {}});
      double right = c.right(double(a), double(b));
      double ulp = std::fabs(right) * std::numeric_limits<T>::epsilon();
      // The gradients lose what 1 - b loses; the rest is exact to their bound in half units.
      double most = c.bound == 6 ? 2 * std::numeric_limits<T>::epsilon() : c.bound * ulp;
      bool good = right != right ? y != y
                                 : y == T(right) || std::fabs(double(y) - right) <= most;
      CHECK(good, "%s(%.9g, %.9g) = %.9g, not %.9g", c.name, double(a), double(b), double(y), right);
    }

  auto one = [&](Unary op, T a) {
    T y;
    table.unary[int(op)][0]({1, 1, &y, 1, {&a, 1}, {}, {}});
    return y;
  };
  const T nan = std::numeric_limits<T>::quiet_NaN();
  CHECK(one(Unary::sign, nan) == 0, "torch: sign of NaN is 0");
  CHECK(one(Unary::sign, T(-3)) == -1 && one(Unary::sign, T(0)) == 0 && one(Unary::sign, T(inf)) == 1, "sign");
  CHECK(one(Unary::relu, nan) != one(Unary::relu, nan), "relu hands NaN on");
  CHECK(one(Unary::relu, T(-2)) == 0 && one(Unary::relu, T(2)) == 2, "relu");
  CHECK(same(one(Unary::copy, T(-0.0)), T(-0.0)), "copy");
  CHECK(same(one(Unary::negative, T(0)), T(-0.0)), "negative");

  auto three = [&](Ternary op, T a, T b, T c) {
    T y;
    table.ternary[int(op)][0]({1, 1, &y, 1, {&a, 1}, {&b, 1}, {&c, 1}});
    return y;
  };
  CHECK(three(Ternary::where, T(1), T(2), nan) == 2, "where");
  CHECK(three(Ternary::where, T(-0.0), nan, T(3)) == 3, "where");
  CHECK(three(Ternary::where, nan, T(2), T(3)) == 2, "NaN is not zero");
  CHECK(three(Ternary::multiply_add, T(2), T(3), T(4)) == 10, "multiply_add");
  CHECK(three(Ternary::multiply_subtract, T(2), T(3), T(4)) == -2, "multiply_subtract");
  CHECK(three(Ternary::multiply_multiply, T(2), T(3), T(4)) == 24, "multiply_multiply");
  CHECK(three(Ternary::lerp, T(2), T(4), T(0.25)) == T(2.5), "lerp");
}

// ---------------------------------------------------------------- reductions

template <class T>
void test_reductions(const Pointwise<T>& table) {
  Random random;
  const double epsilon = std::numeric_limits<T>::epsilon();
  for (Index n = 0; n < 300; n = n < 40 ? n + 1 : n + 37) {
    Index rows = 3, row = n + 2;
    std::vector<T> a(rows * row + 1), b(rows * row + 1), mean(rows), out(rows);
    for (T& v : a) v = T(random.symmetric());
    for (T& v : b) v = T(random.symmetric());
    for (T& v : mean) v = T(random.symmetric());
    Tile<T> tile{rows, n, out.data(), 1, {a.data() + 1, row}, {b.data() + 1, row}, {}};
    auto near = [&](const char* name, auto right) {
      for (Index r = 0; r < rows; ++r) {
        double size = 1, y = right(r, size);
        CHECK(std::fabs(double(out[r]) - y) <= 8 * epsilon * size, "%s of %td: %.9g, not %.9g", name, n,
              double(out[r]), y);
      }
    };
    table.reduce[int(Reduction::sum)](tile);
    near("sum", [&](Index r, double& size) {
      double y = 0;
      for (Index j = 0; j < n; ++j) y += double(a[1 + r * row + j]), size += std::fabs(double(a[1 + r * row + j]));
      return y;
    });
    T first = out[0];
    T alone;
    table.reduce[int(Reduction::sum)]({1, n, &alone, 1, {a.data() + 1, 0}, {}, {}});
    CHECK(same(first, alone), "a row alone has the sum it has among others");
    table.dot(tile);
    near("dot", [&](Index r, double& size) {
      double y = 0;
      for (Index j = 0; j < n; ++j) y += double(a[1 + r * row + j]) * double(b[1 + r * row + j]), size += 0.3;
      return y;
    });
    tile.b = {mean.data(), 1};
    table.square_error(tile);
    near("square_error", [&](Index r, double& size) {
      double y = 0;
      for (Index j = 0; j < n; ++j) {
        double d = double(a[1 + r * row + j]) - double(mean[r]);
        y += d * d, size += d * d;
      }
      return y;
    });
    for (bool nan : {false, true}) {
      if (nan && n > 0) a[1 + random.below(int(n))] = std::numeric_limits<T>::quiet_NaN();
      table.reduce[int(Reduction::maximum)](tile);
      std::vector<T> most = out;
      table.reduce[int(Reduction::minimum)](tile);
      for (Index r = 0; r < rows; ++r) {
        double large = -inf, small = inf;
        bool found = false;
        for (Index j = 0; j < n; ++j) {
          double v = double(a[1 + r * row + j]);
          found |= v != v;
          large = v > large ? v : large, small = v < small ? v : small;
        }
        CHECK(found ? most[r] != most[r] : double(most[r]) == large, "maximum of %td: %g", n, double(most[r]));
        CHECK(found ? out[r] != out[r] : double(out[r]) == small, "minimum of %td: %g", n, double(out[r]));
      }
    }
  }
}

template <class T>
void test_columns(const Pointwise<T>& table) {
  Random random;
  const double epsilon = std::numeric_limits<T>::epsilon();
  for (Index rows : {0, 1, 2, 15, 16, 17, 100, 1000})
    for (Index n : {1, 3, 8, 17, 50}) {
      std::vector<T> a(rows * n), b(rows * n);
      for (T& v : a) v = T(random.symmetric());
      for (T& v : b) v = T(random.symmetric());
      for (bool dot : {false, true})
        for (bool accumulate : {false, true}) {
          auto function = dot ? table.column_dot : table.column_sum;
          Buffer<T> out(n);
          for (Index j = 0; j < n; ++j) out.data()[j] = T(0.5);
          function({rows, n, out.data(), 0, {a.data(), n}, {b.data(), n}, {}}, accumulate);
          CHECK(out.intact(), "column sum of %td x %td", rows, n);
          for (Index j = 0; j < n; ++j) {
            double y = accumulate ? 0.5 : 0, size = 1;
            for (Index r = 0; r < rows; ++r) {
              double v = double(a[r * n + j]) * (dot ? double(b[r * n + j]) : 1);
              y += v, size += std::fabs(v);
            }
            T got = out.data()[j];
            CHECK(std::fabs(double(got) - y) <= 8 * epsilon * size, "column sum of %td: %g not %g", rows,
                  double(got), y);
            // A column alone: the same bits, wherever it stands.
            T alone = T(0.5);
            function({rows, 1, &alone, 0, {a.data() + j, n}, {b.data() + j, n}, {}}, accumulate);
            CHECK(same(alone, got), "column %td alone", j);
          }
        }
    }
}

}  // namespace

int main() {
  return run_tests("pointwise", [](const Kernels& k) {
    test_layouts(k.f32.pointwise);
    test_layouts(k.f64.pointwise);
    test_values(k.f32.pointwise);
    test_values(k.f64.pointwise);
    test_reductions(k.f32.pointwise);
    test_reductions(k.f64.pointwise);
    test_columns(k.f32.pointwise);
    test_columns(k.f64.pointwise);
  });
}
