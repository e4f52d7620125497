// Mathematical functions against the C library in double (float) and long double (double).
//
// Every exponent with random mantissas and the special numbers; `test_math exhaustive` tries all 2^32
// floats, which takes minutes.
#include <algorithm>
#include <cmath>
#include <limits>

#include "check.hpp"

using namespace unrolled;

namespace {

using Wide = long double;


struct Function {
  const char* name;
  Unary op;
  double (*in_double)(double);
  Wide (*in_wide)(Wide);
};

#define F(name, expression)                                              \
  {#name, Unary::name, [](double x) -> double { return expression; }, \
   [](Wide x) -> Wide { return expression; }}
const Function functions[] = {
    F(exp, std::exp(x)),
    F(expm1, std::expm1(x)),
    F(log, std::log(x)),
    F(log1p, std::log1p(x)),
    F(sqrt, std::sqrt(x)),
    F(rsqrt, 1 / std::sqrt(x)),
    F(reciprocal, 1 / x),
    F(sigmoid, x < -700 ? std::exp(x) : 1 / (1 + std::exp(-x))),
    F(tanh, std::tanh(x)),
    F(erf, std::erf(x)),
    F(softplus, x > 20 ? x : std::log1p(std::exp(x))),
    F(sin, std::sin(x)),
    F(cos, std::cos(x)),
    F(floor, std::floor(x)),
    F(ceil, std::ceil(x)),
    F(round, std::nearbyint(x)),
    F(trunc, std::trunc(x)),
    F(absolute, std::fabs(x)),
    F(negative, -x),
    F(square, x * x),
};
#undef F

// Error of y in units of the last place of the right value; huge where a special value is wrong.
// Results that should be denormal may be zero.
template <class T, class Reference>
double error_in_ulps(T y, Reference right) {
  using limits = std::numeric_limits<T>;
  if (right != right) return y != y ? 0 : 1e30;
  if (y != y) return 1e30;
  Reference size = std::fabs(right);
  if (size < Reference(limits::min())) {
    if (y == 0) return size == 0 && std::signbit(y) != std::signbit(right) ? 1e30 : 0;
    return std::fabs(y) <= T(1.001) * limits::min() ? 0 : 1e30;
  }
  T rounded = T(right);
  if (std::isinf(rounded) || std::isinf(y)) {
    // Infinite where the right value rounds to infinity, and either way within an ulp of overflow.
    if (std::isinf(rounded) && std::isinf(y)) return std::signbit(y) == std::signbit(right) ? 0 : 1e30;
    return size > Reference(limits::max()) * (1 - 2 * Reference(limits::epsilon())) &&
                   std::fabs(y) > limits::max() * (1 - 2 * limits::epsilon())
               ? 1
               : 1e30;
  }
  int exponent = std::max(std::ilogb(size), limits::min_exponent - 1);
  return double(std::fabs(Reference(y) - right) / std::ldexp(Reference(1), exponent + 1 - limits::digits));
}

struct Worst {
  double ulps = 0, at = 0, got = 0;
};

template <class T, class Reference>
void compare(const Kernels& kernels, const Function& f, const std::vector<T>& x, Worst& worst,
             Reference (*reference)(Reference)) {
  std::vector<T> y(x.size());
  Index n = Index(x.size());
  kernels.of<T>().pointwise.unary[int(f.op)][0]({1, n, y.data(), n, {x.data(), n}, {}, {}});
  for (Index i = 0; i < n; ++i) {
    double error = error_in_ulps(y[i], reference(Reference(x[i])));
    if (error > worst.ulps) worst = {error, double(x[i]), double(y[i])};
  }
}

template <class T>
std::vector<T> special_numbers() {
  using limits = std::numeric_limits<T>;
  std::vector<T> x = {0, 1, T(0.5), 2, 20, T(20.00001), T(0.5625), T(0.625), T(0.925), 88, T(88.72283), T(88.73), T(87.33654),
                      T(87.4), 89, 104, 128, 150, 700, T(708.4), T(709.7), T(709.9), 745, 746, 1000, limits::max(), limits::min(),
                      limits::epsilon(), limits::infinity(), T(1.5), T(2.5), T(3.5), T(1 << 23), T(1 << 20),
                      T(1048577), T(8388607.5), T(4503599627370496.5), T(3.14159265358979), T(1.5707963267949)};
  std::size_t n = x.size();
  for (std::size_t i = 0; i < n; ++i) x.push_back(-x[i]);
  x.push_back(limits::quiet_NaN());
  return x;
}

template <class T>
std::vector<T> every_exponent(int mantissas) {
  using limits = std::numeric_limits<T>;
  Random random;
  std::vector<T> x = special_numbers<T>();
  for (int e = limits::min_exponent - 1; e < limits::max_exponent; ++e)
    for (int i = 0; i < mantissas; ++i) {
      T mantissa = i == 0 ? 1 : i == 1 ? 2 - limits::epsilon() : T(1 + random.uniform());
      if (mantissa >= 2) mantissa = 2 - limits::epsilon();
      T v = std::ldexp(mantissa, e);
      x.push_back(v), x.push_back(-v);
      if (e < 0) x.push_back(1 + v), x.push_back(1 - v), x.push_back(-1 + v);
    }
  for (int i = 0; i < 40 * mantissas; ++i) x.push_back(T(100 * random.symmetric()));
  return x;
}

void test_table(const Kernels& kernels) {
  auto floats = every_exponent<float>(400);
  auto doubles = every_exponent<double>(30);
  for (const Function& f : functions) {
    Worst one, two;
    compare<float, double>(kernels, f, floats, one, f.in_double);
    CHECK(one.ulps <= 2, "%s float: %.3f ulp at %.9g: %.9g", f.name, one.ulps, one.at, one.got);
    compare<double, Wide>(kernels, f, doubles, two, f.in_wide);
    // 1e-15 relative is 4.5 to 9 ulp
    CHECK(two.ulps <= 4.5, "%s double: %.3f ulp at %.17g: %.17g", f.name, two.ulps, two.at, two.got);
    std::printf("  %-10s float %6.3f ulp (at %.9g)   double %6.3f ulp (at %.17g)\n", f.name, one.ulps,
                one.at, two.ulps, two.at);
  }
}

// pow over bases and exponents of all sizes, and its special cases.
template <class T, class Reference>
void test_pow(const Kernels& kernels, double most) {
  std::vector<T> x, y;
  auto special = special_numbers<T>();
  for (T a : special)
    for (T b : special) x.push_back(a), y.push_back(b);
  Random random;
  for (int i = 0; i < 300000; ++i) {
    T base = T(std::exp((i % 3 ? 80 : 1e-3) * random.symmetric()));
    T exponent = T((i % 5 == 0 ? 3000 : i % 5 == 1 ? 1 : 10) * random.symmetric());
    if (i % 7 == 0) exponent = std::round(exponent), base = -base;
    x.push_back(base), y.push_back(exponent);
  }
  std::vector<T> z(x.size());
  Index n = Index(x.size());
  kernels.of<T>().pointwise.binary[int(Binary::power)][0](
      {1, n, z.data(), n, {x.data(), n}, {y.data(), n}, {}});
  double worst = 0, at = 0, to = 0, got = 0;
  for (Index i = 0; i < n; ++i) {
    double error = error_in_ulps(z[i], std::pow(Reference(x[i]), Reference(y[i])));
    if (error > worst) worst = error, at = double(x[i]), to = double(y[i]), got = double(z[i]);
  }
  CHECK(worst <= most, "pow: %.3f ulp at %.9g ^ %.9g: %.9g", worst, at, to, got);
  std::printf("  %-10s %s %6.3f ulp\n", "power", sizeof(T) == 4 ? "float" : "double", worst);
}

void exhaustive(const Kernels& kernels, const char* only) {
  const std::size_t block = 1 << 20;
  std::vector<float> x(block);
  for (const Function& f : functions) {
    if (only && std::strcmp(only, f.name)) continue;
    Worst worst;
    for (std::uint64_t begin = 0; begin < 1ull << 32; begin += block) {
      for (std::size_t i = 0; i < block; ++i) x[i] = float_of(std::uint32_t(begin + i));
      // Denormal arguments may be taken for zero; their own results are denormal, or tested elsewhere.
      for (float& v : x)
        if (std::fabs(v) < std::numeric_limits<float>::min()) v = 0;
      compare<float, double>(kernels, f, x, worst, f.in_double);
    }
    CHECK(worst.ulps <= 2, "%s: %.3f ulp at %.9g: %.9g", f.name, worst.ulps, worst.at, worst.got);
    std::printf("  %-10s every float: %.4f ulp (at %.9g)\n", f.name, worst.ulps, worst.at);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && !std::strcmp(argv[1], "exhaustive"))
    return run_tests("every float", [&](const Kernels& k) { exhaustive(k, argc > 2 ? argv[2] : nullptr); });
  return run_tests("mathematics", [](const Kernels& k) {
    test_table(k);
    test_pow<float, double>(k, 2);
    test_pow<double, Wide>(k, 4.5);
  });
}
