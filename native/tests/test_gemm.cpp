// Matrix products: values, edges, the packed panels, and that no blocking changes a bit.
#include <cstring>
#include <cmath>
#include <limits>

#include "check.hpp"

using namespace unrolled;

namespace {

template <class T>
std::vector<T> random_matrix(Index n, Random& random) {
  std::vector<T> a(n);
  for (T& v : a) v = T(random.symmetric());
  return a;
}

// Everything about one product C (m, n) = start + A (m, k) B (k, n).
template <class T>
struct Problem {
  Index m, k, n, a_row, c_row;
  std::vector<T> a, b, start, packed;
  const Gemm<T>& gemm;

  Problem(const Gemm<T>& table, Index rows, Index inner, Index columns, Random& random)
      : m(rows), k(inner), n(columns), a_row(inner + random.below(3)), c_row(columns + random.below(3)),
        a(random_matrix<T>(rows * a_row, random)), b(random_matrix<T>(inner * columns, random)),
        start(random_matrix<T>(rows * columns, random)), packed(table.packed_size(inner, columns)),
        gemm(table) {
    gemm.pack({k, n, b.data(), n, packed.data(), 0, gemm.panels(n)});
  }

  // Rows [begin, end), panels in `parts` parts; the rest of C keeps the guard.
  std::vector<T> run(Index begin, Index end, int parts, const T* from, Index from_row) const {
    std::vector<T> c(m * c_row, guard);
    for (int i = 0; i < parts; ++i) {
      Index panels = gemm.panels(n);
      gemm.multiply({end - begin, k, n, a.data() + begin * a_row, a_row, packed.data(),
                     from ? from + begin * from_row : nullptr, from_row, c.data() + begin * c_row, c_row,
                     panels * i / parts, panels * (i + 1) / parts});
    }
    return c;
  }
  static constexpr T guard = T(777);
};

template <class T>
bool untouched(const std::vector<T>& c, Index m, Index n, Index row) {
  for (Index r = 0; r < m; ++r)
    for (Index j = n; j < row; ++j)
      if (c[r * row + j] != T(777)) return false;
  return true;
}

template <class T>
void test_product(const Gemm<T>& gemm, Index m, Index k, Index n, Random& random) {
  Problem<T> p(gemm, m, k, n, random);
  const double epsilon = std::numeric_limits<T>::epsilon();
  struct Start {
    const T* data;
    Index row;
  };
  for (Start start : {Start{nullptr, 0}, Start{p.start.data(), 0}, Start{p.start.data(), n}}) {
    auto c = p.run(0, m, 1, start.data, start.row);
    CHECK(untouched(c, m, n, p.c_row), "%td x %td x %td wrote outside", m, k, n);
    for (Index r = 0; r < m; ++r)
      for (Index j = 0; j < n; ++j) {
        double y = start.data ? double(start.data[r * start.row + j]) : 0, size = 1;
        for (Index i = 0; i < k; ++i) {
          double v = double(p.a[r * p.a_row + i]) * double(p.b[i * n + j]);
          y += v, size += std::fabs(v);
        }
        CHECK(std::fabs(double(c[r * p.c_row + j]) - y) <= 4 * epsilon * size,
              "%td x %td x %td at (%td, %td): %.9g, not %.9g", m, k, n, r, j, double(c[r * p.c_row + j]), y);
      }
    // Parts of the panels, and rows alone: the same bits.
    for (int parts : {2, 3}) CHECK(p.run(0, m, parts, start.data, start.row) == c, "parts");
    for (int count : {1, 2, 5}) {
      if (count > m) continue;
      Index begin = random.below(int(m - count) + 1);
      auto some = p.run(begin, begin + count, 1, start.data, start.row);
      bool equal = true;
      for (Index r = begin; r < begin + count; ++r)
        for (Index j = 0; j < n; ++j) equal &= same(some[r * p.c_row + j], c[r * p.c_row + j]);
      CHECK(equal, "%d rows of %td x %td x %td alone", count, m, k, n);
    }
    // start = c adds to what is there.
    if (start.data && start.row) {
      std::vector<T> sum(p.start);
      gemm.multiply({m, k, n, p.a.data(), p.a_row, p.packed.data(), sum.data(), n, sum.data(), n, 0,
                     gemm.panels(n)});
      bool equal = true;
      for (Index r = 0; r < m; ++r)
        for (Index j = 0; j < n; ++j) equal &= same(sum[r * n + j], c[r * p.c_row + j]);
      CHECK(equal, "adding in place");
    }
  }
}

template <class T>
void test_packing(const Gemm<T>& gemm, Index k, Index n, Random& random) {
  auto b = random_matrix<T>(k * n, random);
  std::vector<T> transposed(k * n), one(gemm.packed_size(k, n), 5), two(one);
  for (Index i = 0; i < k; ++i)
    for (Index j = 0; j < n; ++j) transposed[j * k + i] = b[i * n + j];
  Index panels = gemm.panels(n);
  gemm.pack({k, n, b.data(), n, one.data(), 0, panels});
  // In two parts, as two threads would.
  gemm.pack_transposed({k, n, transposed.data(), k, two.data(), 0, panels / 2});
  gemm.pack_transposed({k, n, transposed.data(), k, two.data(), panels / 2, panels});
  CHECK(one == two, "packed %td x %td, straight and transposed", k, n);
  for (Index i = 0; i < k; ++i)
    for (Index j = 0; j < panels * gemm.panel; ++j) {
      T right = j < n ? b[i * n + j] : T(0);
      CHECK(one[j / gemm.panel * gemm.panel * k + i * gemm.panel + j % gemm.panel] == right, "panel");
    }
}

template <class T>
void test_gradient(const Gemm<T>& gemm, Index m, Index n, Index k, Random& random) {
  Index a_row = n + random.below(3), b_row = k + random.below(3), c_row = k + random.below(3);
  auto a = random_matrix<T>(m * a_row, random), b = random_matrix<T>(m * b_row, random);
  std::vector<T> scratch(gemm.gradient_scratch), before = random_matrix<T>(n * c_row, random);
  const double epsilon = std::numeric_limits<T>::epsilon();
  for (bool accumulate : {false, true}) {
    std::vector<T> c = before, parts = before;
    gemm.gradient({m, a.data(), a_row, b.data(), b_row, c.data(), c_row, 0, n, 0, k, accumulate, scratch.data()});
    for (Index r = 0; r < n; ++r)
      for (Index j = 0; j < c_row; ++j) {
        if (j >= k) {
          CHECK(c[r * c_row + j] == before[r * c_row + j], "gradient wrote outside");
          continue;
        }
        double y = accumulate ? double(before[r * c_row + j]) : 0, size = 1;
        for (Index i = 0; i < m; ++i) {
          double v = double(a[i * a_row + r]) * double(b[i * b_row + j]);
          y += v, size += std::fabs(v);
        }
        CHECK(std::fabs(double(c[r * c_row + j]) - y) <= 4 * epsilon * size,
              "gradient %td x %td x %td at (%td, %td): %.9g, not %.9g", m, n, k, r, j,
              double(c[r * c_row + j]), y);
      }
    // Any split of the result: the same bits.
    Index row = random.below(int(n) + 1), column = random.below(int(k) + 1);
    for (Index rows : {0, 1})
      for (Index columns : {0, 1})
        gemm.gradient({m, a.data(), a_row, b.data(), b_row, parts.data(), c_row, rows ? row : 0,
                       rows ? n : row, columns ? column : 0, columns ? k : column, accumulate,
                       scratch.data()});
    CHECK(parts == c, "gradient %td x %td x %td split at (%td, %td)", m, n, k, row, column);
  }
}

// The nearest bfloat16, the even one of two.
double nearest(float x) {
  std::uint32_t bits = bits_of(x);
  return float_of((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u);
}

void test_pairs(const Gemm<float>& gemm, const PairGemm& pairs, Index m, Index k, Index n, Random& random) {
  const Index words = PairGemm::words(k), a_row = k + random.below(3);
  auto a = random_matrix<float>(m * a_row, random), b = random_matrix<float>(k * n, random);
  std::vector<float> turned(k * n), rows(m * words), one(gemm.packed_size(words, n), 5), two(one);
  for (Index i = 0; i < k; ++i)
    for (Index j = 0; j < n; ++j) turned[j * k + i] = b[i * n + j];
  pairs.round(a.data(), a_row, m, k, rows.data());
  pairs.pack({k, n, b.data(), n, one.data(), 0, gemm.panels(n)});
  pairs.pack_transposed({k, n, turned.data(), k, two.data(), 0, gemm.panels(n)});
  CHECK(!std::memcmp(one.data(), two.data(), one.size() * sizeof(float)), "pairs, straight and transposed");
  std::vector<float> c(m * n), alone(n);
  auto multiply = [&](Index row, Index count, float* out) {
    pairs.multiply({count, words, n, rows.data() + row * words, words, one.data(), nullptr, 0, out, n, 0,
                    gemm.panels(n)});
  };
  multiply(0, m, c.data());
  for (Index r = 0; r < m; ++r) {
    multiply(r, 1, alone.data());
    for (Index j = 0; j < n; ++j) {
      double y = 0, size = 1e-30;
      for (Index i = 0; i < k; ++i) {
        const double v = nearest(a[r * a_row + i]) * nearest(b[i * n + j]);
        y += v, size += std::fabs(v);
      }
      CHECK(std::fabs(c[r * n + j] - y) <= 4e-7 * size, "pairs %td x %td x %td: %.9g, not %.9g", m, k, n,
            double(c[r * n + j]), y);
      CHECK(alone[j] == c[r * n + j], "a row of pairs alone");
    }
  }
  // a^T c, over the m rows.
  std::vector<float> scratch(gemm.gradient_scratch), g(k * n), parts(k * n);
  pairs.gradient({m, a.data(), a_row, c.data(), n, g.data(), n, 0, k, 0, n, false, scratch.data()});
  const Index border = random.below(int(k) + 1);
  for (Index part : {0, 1})
    pairs.gradient({m, a.data(), a_row, c.data(), n, parts.data(), n, part ? border : 0, part ? k : border, 0, n,
                    false, scratch.data()});
  CHECK(parts == g, "a gradient of pairs in parts");
  for (Index i = 0; i < k; ++i)
    for (Index j = 0; j < n; ++j) {
      double y = 0, size = 1e-30;
      for (Index r = 0; r < m; ++r) {
        const double v = nearest(a[r * a_row + i]) * nearest(c[r * n + j]);
        y += v, size += std::fabs(v);
      }
      CHECK(std::fabs(g[i * n + j] - y) <= 4e-7 * size, "gradient of pairs: %.9g, not %.9g",
            double(g[i * n + j]), y);
    }
}

template <class T>
void test_all(const Gemm<T>& gemm) {
  Random random;
  for (Index m = 1; m <= 26; ++m)
    for (Index n : {1, 15, 16, 17, 100}) test_product(gemm, m, 1 + random.below(40), n, random);
  test_product(gemm, 3, 0, 20, random);
  test_product(gemm, 30, 0, 20, random);
  test_product(gemm, 1, 1100, 130, random);
  test_product(gemm, 5, 700, 70, random);
  test_product(gemm, 33, 600, 70, random);
  test_product(gemm, 130, 530, 300, random);
  test_product(gemm, 420, 300, 190, random);
  for (Index k : {1, 2, 15, 16, 17, 40})
    for (Index n : {1, 7, 8, 16, 31, 64, 65, 130}) test_packing(gemm, k, n, random);
  for (Index m : {0, 1, 5, 40})
    for (Index n : {1, 5, 6, 7, 13, 30})
      for (Index k : {1, 8, 17, 33}) test_gradient(gemm, m, n, k, random);
  test_gradient(gemm, 600, 70, 290, random);
  test_gradient(gemm, 1100, 230, 40, random);
}

}  // namespace

int main() {
  return run_tests("matrix products", [](const Kernels& k) {
    test_all(k.f32.gemm);
    test_all(k.f64.gemm);
    Random random;
    for (Index m : {1, 2, 5, 13, 40})
      for (Index rows : {1, 2, 7, 16, 33})
        for (Index n : {1, 15, 16, 17, 70}) test_pairs(k.f32.gemm, k.pairs, m, rows, n, random);
    test_pairs(k.f32.gemm, k.pairs, 600, 70, 290, random);
    test_pairs(k.f32.gemm, k.pairs, 33, 2100, 40, random);
  });
}
