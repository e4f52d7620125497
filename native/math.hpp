// exp, expm1, log, log1p, sigmoid, tanh, softplus, erf and rsqrt of whole vectors.
//
// In float every normal result is within 2 units in the last place (measured: tests/test_math.cpp), in
// double within 1e-15 relative. Infinities, NaN and signed zeros come out as in C; a denormal argument
// or result may be taken for zero. The polynomials are minimax fits made with Sollya's fpminimax; the
// largest error of each is given in units of half an ulp at 1 (2^-24 or 2^-53).
#pragma once

#include "vector.hpp"

namespace unrolled::UNROLLED_ISA {

// c0 + c1 x + c2 x^2 + ...: Horner's rule in x^2 over pairs of coefficients, half as deep as in x.
// Depth is what limits these loops: with it fewer vectors are in flight.
template <class V, int N>
UNROLLED_INLINE V polynomial(V x, V square, const ElementOf<V> (&c)[N]) {
  constexpr int top = N - 1;
  V sum = broadcast<V>(c[top]);
  int i = top - 1;
  if constexpr (N % 2 == 0) {
    sum = fma(sum, x, broadcast<V>(c[i]));
    --i;
  }
  for (; i > 0; i -= 2)
    sum = fma(sum, square, fma(broadcast<V>(c[i]), x, broadcast<V>(c[i - 1])));
  return sum;
}
template <class V, int N>
UNROLLED_INLINE V polynomial(V x, const ElementOf<V> (&c)[N]) {
  return polynomial(x, x * x, c);
}

template <class T>
struct Format;

template <>
struct Format<float> {
  static constexpr int mantissa = 23, bias = 127;
  static constexpr float infinity = __builtin_inff(), nan = __builtin_nanf("");
  static constexpr float least_normal = 0x1p-126f;
  // x + round_magic rounds x to an integer and leaves it in the low bits.
  static constexpr float round_magic = 0x1.8p23f;
  static constexpr float log2_e = 0x1.715476p0f;
  // ln 2 in two parts: n * ln2_high is exact for every n that occurs.
  static constexpr float ln2 = 0x1.62e430p-1f;
  static constexpr float ln2_high = 0x1.63p-1f, ln2_low = -0x1.bd0106p-13f;
  // expm1(r) = r + r^2 q(r) for |r| <= ln(2) / 2; 0.13.
  static constexpr float expm1_q[] = {0x1p-1f, 0x1.5554dcp-3f, 0x1.5554e8p-5f, 0x1.120c38p-7f,
                                      0x1.6d4e78p-10f};
  // exp is infinite above, and below zero or denormal.
  static constexpr float exp_most = 0x1.62e42ep6f, exp_least = -0x1.5d589ep6f;
  static constexpr float expm1_is_minus_1 = -20, sigmoid_is_1 = 30, sigmoid_is_0 = -88;
  static constexpr float tanh_is_1 = 9.5f, erf_is_1 = 4.1f;
  // tanh x = x + x^3 p(x^2) for |x| <= tanh_small; 0.08.
  static constexpr float tanh_small = 0.5625f;
  static constexpr float tanh_p[] = {-0x1.555554p-2f, 0x1.110fa2p-3f, -0x1.b98ceep-5f,
                                     0x1.5c462ap-6f, -0x1.ab144ep-8f};
  // log splits x as m 2^e with m between this and twice this.
  static constexpr std::uint32_t log_split = 0x3f2aaaab;  // 2/3
  static constexpr float log1p_is_x = 0x1p-25f;
};

template <>
struct Format<double> {
  static constexpr int mantissa = 52, bias = 1023;
  static constexpr double infinity = __builtin_inf(), nan = __builtin_nan("");
  static constexpr double least_normal = 0x1p-1022;
  static constexpr double round_magic = 0x1.8p52;
  static constexpr double log2_e = 0x1.71547652b82fep0;
  static constexpr double ln2 = 0x1.62e42fefa39efp-1;
  static constexpr double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
  // 0.11
  static constexpr double expm1_q[] = {
      0x1.0000000000001p-1,  0x1.5555555555558p-3,  0x1.5555555553cb8p-5,  0x1.111111110f8cbp-7,
      0x1.6c16c178bac58p-10, 0x1.a01a01afc2249p-13, 0x1.a019b877dd29fp-16, 0x1.71ddf762c3ce8p-19,
      0x1.289221116d37bp-22, 0x1.af620c5ddb50cp-26};
  static constexpr double exp_most = 0x1.62e42fefa39efp9, exp_least = -0x1.6232bdd7abcd2p9;
  static constexpr double expm1_is_minus_1 = -50, sigmoid_is_1 = 60, sigmoid_is_0 = -708.5;
  static constexpr double tanh_is_1 = 20;
  // 0.02
  static constexpr double tanh_small = 0.625;
  static constexpr double tanh_p[] = {
      -0x1.5555555555555p-2, 0x1.1111111111029p-3,  -0x1.ba1ba1ba063c3p-5,  0x1.664f487bc7afap-6,
      -0x1.226e3421f22cap-7, 0x1.d6d38cc7183a2p-9,  -0x1.7d9ea8087f7bdp-10, 0x1.351fbe5a6ae98p-11,
      -0x1.f1ed90b9ab0d1p-13, 0x1.8302f94b5c1cp-14, -0x1.030b7a688328dp-15, 0x1.a940e535049b5p-18};
  static constexpr std::uint64_t log_split = 0x3fe6a09e667f3bcd;  // sqrt(1/2)
  static constexpr double log1p_is_x = 0x1p-54;
};

// ---------------------------------------------------------------- exponentials

// exp(x) = scale * (1 + rest): scale a power of two, |rest| < 0.42. Kept apart since most uses need
// 1 + exp(x) or exp(x) - 1, which then round only once. `Offset` is subtracted from the exponent of
// scale, which is valid where that lies in [-bias, bias]; rest is always valid.
template <class V>
struct Power {
  V scale, rest;
};

template <class V>
UNROLLED_INLINE V exp_rest(V x, V n) {  // expm1(x - n ln 2)
  using F = Format<ElementOf<V>>;
  V r = fma(n, broadcast<V>(-F::ln2_high), x);
  r = fma(n, broadcast<V>(-F::ln2_low), r);
  V square = r * r;
  return fma(square, polynomial(r, square, F::expm1_q), r);
}

template <int Offset = 0, class V>
UNROLLED_INLINE Power<V> exp_parts(V x) {
  using F = Format<ElementOf<V>>;
  V magic = broadcast<V>(F::round_magic + (F::bias - Offset));
  V shifted = fma(x, broadcast<V>(F::log2_e), magic);
  return {(V)(bits(shifted) << F::mantissa), exp_rest(x, shifted - magic)};
}

template <class V>
UNROLLED_INLINE V exp(V x) {
  using F = Format<ElementOf<V>>;
  V magic = broadcast<V>(F::round_magic);
  V shifted = fma(x, broadcast<V>(F::log2_e), magic);
  V p = 1 + exp_rest(x, shifted - magic);
  // 2^n reaches beyond the exponents, 2^n p does not: add n to the exponent of p.
  V y = (V)(bits(p) + (bits(shifted) << F::mantissa));
  y = select<V>(x > F::exp_most, broadcast<V>(F::infinity), y);
  return select<V>(x >= F::exp_least, y, max_or_second(V{}, x));  // 0, or NaN where x is
}

template <class V>
UNROLLED_INLINE V expm1(V x) {
  using F = Format<ElementOf<V>>;
  // Half the scale, so that it is finite whenever the result is.
  auto [half, rest] = exp_parts<1>(max_or_second(broadcast<V>(F::expm1_is_minus_1), x));
  V y = fma(half, rest, half - ElementOf<V>(0.5));
  y = select<V>(x > F::exp_most, broadcast<V>(F::infinity), y + y);
  return select<V>(x == 0, x, y);  // keeps the sign of zero
}

template <class V>
UNROLLED_INLINE V sigmoid(V x) {
  using F = Format<ElementOf<V>>;
  auto [scale, rest] = exp_parts(-min_or_second(broadcast<V>(F::sigmoid_is_1), x));
  V y = 1 / fma(scale, rest, 1 + scale);
  return select<V>(x < F::sigmoid_is_0, V{}, y);
}

// 1 - 2 / (1 + exp(2 |x|)), which cancels for small x: a polynomial there. Comparing and choosing on
// the bits keeps the multipliers, which bound this function, free.
template <class V>
UNROLLED_INLINE V tanh(V x) {
  using F = Format<ElementOf<V>>;
  V a = abs(x);
  IntsOf<V> most = (IntsOf<V>)bits(broadcast<V>(F::tanh_is_1)), size = (IntsOf<V>)bits(a);
  V b = (V)(size < most ? size : most);
  b = b + b;
  V magic = broadcast<V>(F::round_magic + F::bias);
  V shifted = fma(b, broadcast<V>(F::log2_e), magic);
  V r = fma(shifted - magic, broadcast<V>(-F::ln2), b);  // n is small, and ln 2 in one part enough
  V square = r * r, scale = (V)(bits(shifted) << F::mantissa);
  V rest = fma(square, polynomial(r, square, F::expm1_q), r);
  V large = 1 - 2 / fma(scale, rest, 1 + scale);
  V z = x * x;
  V small = fma(a * z, polynomial(z, F::tanh_p), a);
  return copy_sign(select_bits<V>(a >= F::tanh_small, large, small), x);
}

// ---------------------------------------------------------------- logarithms

// log(1 + f) = f + log1p_rest(f) for 2/3 <= 1 + f <= 4/3; 0.15.
UNROLLED_INLINE F32 log1p_rest(F32 f) {
  static constexpr float p[] = {-0x1p-1f,          0x1.55552cp-2f,  -0x1.ffff0cp-3f,
                                0x1.99bff8p-3f,    -0x1.559c04p-3f, 0x1.1fd3cp-3f,
                                -0x1.f30412p-4f,   0x1.19c50ap-3f,  -0x1.08884cp-3f};
  F32 square = f * f;
  return square * polynomial(f, square, p);
}

// The same for sqrt(1/2) <= 1 + f <= sqrt(2): with s = f / (2 + f) it is 2 atanh(s), arranged as in
// FreeBSD's e_log.c so that f, which is exact, leads; 0.04.
UNROLLED_INLINE F64 log1p_rest(F64 f) {
  static constexpr double p[] = {0x1.5555555555558p-1, 0x1.99999999952c1p-2, 0x1.2492492dfbc0fp-2,
                                 0x1.c71c62d4cd3bfp-3, 0x1.7462b9e405f4ap-3, 0x1.39fdaa131bffdp-3,
                                 0x1.2b615995b8496p-3};
  F64 s = f / (2 + f), z = s * s, half_square = 0.5 * f * f;
  return fma(s, fma(z, polynomial(z, p), half_square), -half_square);
}

// e with x = m 2^e and m in [log_split, 2 log_split), as it stands in the exponent's bits.
template <class V>
UNROLLED_INLINE BitsOf<V> exponent_bits(V x) {
  using F = Format<ElementOf<V>>;
  return (bits(x) - F::log_split) >> F::mantissa << F::mantissa;
}
template <class V>
UNROLLED_INLINE V exponent_value(BitsOf<V> e) {
  return __builtin_convertvector((IntsOf<V>)e >> Format<ElementOf<V>>::mantissa, V);
}

// NaN below zero, -inf at zero, inf and NaN as they come.
template <class V>
UNROLLED_INLINE V log_limits(V x, V y) {
  using F = Format<ElementOf<V>>;
  V limit = select<V>(x == 0, broadcast<V>(-F::infinity), x);
  limit = select<V>(x < 0, broadcast<V>(F::nan), limit);
  return select<V>((x > 0) & (x < F::infinity), y, limit);
}

template <class V>
UNROLLED_INLINE V log(V x) {
  using F = Format<ElementOf<V>>;
  // Denormals are scaled up first: their logarithms are ordinary numbers.
  auto tiny = x < F::least_normal;
  V scaled = select<V>(tiny, x * (ElementOf<V>(1ull << F::mantissa)), x);
  BitsOf<V> e = exponent_bits(scaled);
  V f = (V)(bits(scaled) - e) - 1;
  V n = exponent_value<V>(e) - select<V>(tiny, broadcast<V>(F::mantissa), V{});
  V y = f + fma(n, broadcast<V>(F::ln2_low), log1p_rest(f));
  return log_limits(x, fma(n, broadcast<V>(F::ln2_high), y));
}

// log(1 + x + low) where |low| is below an ulp of x, x > -1. 1 + x = 2^e (1 + f), and f is formed from
// x, not from the rounded sum.
template <class V>
UNROLLED_INLINE V log1p_positive(V x, V low) {
  using T = ElementOf<V>;
  using F = Format<T>;
  BitsOf<V> e = exponent_bits(1 + x);
  // Four times 2^-e, which stays normal when x is near overflow.
  V scale = (V)(bits(broadcast<V>(4)) - e);
  V f = fma(x * T(0.25), scale, fma(scale, broadcast<V>(T(0.25)), broadcast<V>(-1)));
  V rest = fma(low * T(0.25), scale, log1p_rest(f));
  V n = exponent_value<V>(e);
  V y = f + fma(n, broadcast<V>(F::ln2_low), rest);
  y = fma(n, broadcast<V>(F::ln2_high), y);
  return select<V>(abs(x) < F::log1p_is_x, x, y);
}

template <class V>
UNROLLED_INLINE V log1p(V x) {
  using F = Format<ElementOf<V>>;
  V y = log1p_positive(x, V{});
  V limit = select<V>(x == -1, broadcast<V>(-F::infinity), x);
  limit = select<V>(x < -1, broadcast<V>(F::nan), limit);
  return select<V>((x > -1) & (x < F::infinity), y, limit);
}

// log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|)); x itself above torch's threshold of 20.
template <class V>
UNROLLED_INLINE V softplus(V x) {
  using F = Format<ElementOf<V>>;
  auto [scale, rest] = exp_parts(max_or_second(broadcast<V>(-F::bias * F::ln2_high), -abs(x)));
  V high = fma(scale, rest, scale);
  V low = fma(scale, rest, scale - high);  // what the line above rounded off
  V y = max_or_second(V{}, x) + log1p_positive(high, low);
  return select<V>(x > 20, x, y);
}

// ---------------------------------------------------------------- others

template <class V>
UNROLLED_INLINE V rsqrt(V x) {
  return 1 / sqrt(x);
}

// x + x p(x^2) below 0.92 (0.02), 1 - exp(t q(t) - t) with t = |x| above (0.15).
UNROLLED_INLINE F32 erf(F32 x) {
  using F = Format<float>;
  static constexpr float p[] = {0x1.06eba8p-3f,  -0x1.812742p-2f, 0x1.ce2deep-4f, -0x1.b80d1cp-6f,
                                0x1.54be28p-8f, -0x1.a9ff5ep-11f, 0x1.5c33ccp-14f};
  static constexpr float q[] = {-0x1.07328ap-3f, -0x1.457cep-1f,  -0x1.af270ap-4f,
                                0x1.770778p-6f,  -0x1.a56402p-9f, 0x1.c0c24ap-13f};
  F32 a = abs(x), z = x * x;
  F32 small = fma(a, polynomial(z, p), a);
  F32 t = min_or_second(broadcast<F32>(F::erf_is_1), a);
  auto [scale, rest] = exp_parts(fma(t, polynomial(t, q), -t));
  F32 large = 1 - fma(scale, rest, scale);
  return copy_sign(select<F32>(a < 0.925f, small, large), x);
}

}  // namespace unrolled::UNROLLED_ISA
