// Functions that go through double or, lane by lane, through the C library.
//
// float sin, cos and pow need more bits inside than float has: they run in double on the two halves
// of a vector. In double, the functions that recurrent cells rarely use are the C library's.
#pragma once

#include <cmath>

#include "math.hpp"

namespace unrolled::UNROLLED_ISA {

// One C function on every lane.
template <class V, class Function>
UNROLLED_INLINE V each_lane(Function function, V a) {
  V y{};
  for (int i = 0; i < lanes_of<V>; ++i) y[i] = function(a[i]);
  return y;
}
template <class V, class Function>
UNROLLED_INLINE V each_lane(Function function, V a, V b) {
  V y{};
  for (int i = 0; i < lanes_of<V>; ++i) y[i] = function(a[i], b[i]);
  return y;
}

UNROLLED_INLINE F64 erf(F64 x) { return each_lane(::erf, x); }
UNROLLED_INLINE F64 sin(F64 x) { return each_lane(::sin, x); }
UNROLLED_INLINE F64 cos(F64 x) { return each_lane(::cos, x); }
UNROLLED_INLINE F64 pow(F64 x, F64 y) { return each_lane(::pow, x, y); }
UNROLLED_INLINE F64 fmod(F64 x, F64 y) { return each_lane(::fmod, x, y); }
UNROLLED_INLINE F64 atan2(F64 y, F64 x) { return each_lane(::atan2, y, x); }
UNROLLED_INLINE F32 fmod(F32 x, F32 y) { return each_lane(::fmodf, x, y); }
UNROLLED_INLINE F32 atan2(F32 y, F32 x) { return each_lane(::atan2f, y, x); }

// ---------------------------------------------------------------- sine and cosine

// sin(x + turns * pi / 2) for |x| <= circle_most, in double with an error below 2^-33.
constexpr float circle_most = 0x1p20f;

UNROLLED_INLINE F64 sine(F64 x, int turns) {
  static constexpr double s[] = {-0x1.5555555458ae9p-3, 0x1.11110de43ebbep-7,
                                 -0x1.a0139a7e91932p-13, 0x1.6dba27a53b49cp-19};
  static constexpr double c[] = {-0x1.fffffffffe5b6p-2, 0x1.555555513716fp-5,
                                 -0x1.6c16bacba756cp-10, 0x1.a01286c5029f2p-16,
                                 -0x1.2471022df449p-22};
  const F64 magic = broadcast<F64>(0x1.8p52);
  F64 shifted = fma(x, broadcast<F64>(0x1.45f306dc9c883p-1), magic);  // 2 / pi
  F64 n = shifted - magic;
  // pi / 2 in two parts; the first has 33 bits, so that its product with n is exact.
  F64 r = fma(n, broadcast<F64>(-0x1.921fb5440p0), x);
  r = fma(n, broadcast<F64>(-0x1.0b4611a626331p-34), r);
  F64 z = r * r;
  F64 sin_r = fma(r * z, polynomial(z, s), r);
  F64 cos_r = fma(z, polynomial(z, c), broadcast<F64>(1));
  BitsOf<F64> quarter = bits(shifted) + std::uint64_t(turns);
  F64 y = select<F64>((IntsOf<F64>)(quarter << 63) != 0, cos_r, sin_r);
  return (F64)(bits(y) ^ ((quarter >> 1) << 63));
}

template <class Function>
UNROLLED_INLINE F32 circle(F32 x, int turns, Function function) {
  auto half = split(x);
  F32 y = narrow(sine(widen(half.low), turns), sine(widen(half.high), turns));
  auto outside = ~(abs(x) <= circle_most);  // also NaN and infinities
  if (any(outside)) [[unlikely]]
    for (int i = 0; i < lanes<float>; ++i)
      if (outside[i]) y[i] = function(x[i]);
  return y;
}

UNROLLED_INLINE F32 sin(F32 x) { return select<F32>(x == 0, x, circle(x, 0, ::sinf)); }
UNROLLED_INLINE F32 cos(F32 x) { return circle(x, 1, ::cosf); }

// ---------------------------------------------------------------- powers

// log2 of a positive double that came from a float, relative error 2^-41.
UNROLLED_INLINE F64 log2_of_float(F64 x) {
  // log2(1 + f) = s q(s^2) with s = f / (2 + f)
  static constexpr double q[] = {0x1.71547652b825p1,   0x1.ec709dc53ecbep-1, 0x1.2776c29033fe8p-1,
                                 0x1.a61a3165bd336p-2, 0x1.4794e3a672bap-2,  0x1.21b7b14b7c632p-2};
  BitsOf<F64> e = exponent_bits(x);
  F64 f = (F64)(bits(x) - e) - 1;
  F64 s = f / (2 + f);
  return fma(s, polynomial(s * s, q), exponent_value<F64>(e));
}

// 2^x, relative error 2^-34, for |x| <= 1000.
UNROLLED_INLINE F64 exp2_to_float(F64 x) {
  static constexpr double q[] = {0x1.ffffffffabbccp-1, 0x1.62e42ff116284p-1,  0x1.ebfbe0a4be89bp-3,
                                 0x1.c6b08aaf2fd1dp-5, 0x1.3b29dc40d1fb4p-7,  0x1.5d8a708773cc9p-10,
                                 0x1.446a1fddc880cp-13, 0x1.fe1784c35a78ap-17};
  const F64 magic = broadcast<F64>(0x1.8p52);
  F64 shifted = x + magic;
  F64 p = polynomial(x - (shifted - magic), q);
  return (F64)(bits(p) + (bits(shifted) << 52));
}

// |x|^y with |x| = 0 or inf and y = inf right; NaN for 0 * inf in the exponent.
UNROLLED_INLINE F64 power_of_magnitude(F64 x, F64 y) {
  const F64 infinity = broadcast<F64>(Format<double>::infinity);
  F64 log = log2_of_float(x);
  log = select<F64>(x == 0, -infinity, log);
  log = select<F64>(x == infinity, infinity, log);
  log = select<F64>(x == x, log, x);
  F64 exponent = y * log;
  exponent = min_or_second(broadcast<F64>(1000), max_or_second(broadcast<F64>(-1000), exponent));
  return select<F64>(exponent == exponent, exp2_to_float(exponent), exponent);
}

UNROLLED_INLINE F32 pow(F32 x, F32 y) {
  using F = Format<float>;
  auto a = split(abs(x)), b = split(y);
  F32 z = narrow(power_of_magnitude(widen(a.low), widen(b.low)),
                 power_of_magnitude(widen(a.high), widen(b.high)));
  z = select<F32>((abs(x) == 1) & (abs(y) == F::infinity), broadcast<F32>(1), z);
  // Is y an integer, and odd? Floats from 2^24 on are even integers; magic tells the smaller ones.
  const F32 magic = broadcast<F32>(0x1p23f);
  F32 size = abs(y), half = size * 0.5f;
  auto integer = (size >= magic) | (((size + magic) - magic) == size);
  auto even = (size >= 0x1p24f) | ((half < magic) & (((half + magic) - magic) == half));
  F32 negated = (F32)(bits(z) | sign_bit<F32>());
  auto negative = (IntsOf<F32>)bits(x) < 0;
  z = select<F32>(negative & integer & ~even, negated, z);
  z = select<F32>((x < 0) & (x > -F::infinity) & ~integer, broadcast<F32>(F::nan), z);
  return select<F32>((y == 0) | (x == 1), broadcast<F32>(1), z);
}

}  // namespace unrolled::UNROLLED_ISA
