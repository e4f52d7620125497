// Vectors of T as wide as the instruction set this file is compiled for.
//
// Every kernel source is compiled once per instruction set, with UNROLLED_ISA naming the namespace
// (portable, avx2, avx512, neon) and the compiler's flags choosing the width. Nothing may be shared
// between those copies: an inline function of the standard library that is not inlined would be kept
// once by the linker, perhaps the copy with AVX-512. Kernels therefore use language features only.
//
// Arithmetic is written with GCC's vector extensions (`a + b`, `a < b`, `mask ? a : b`). Contraction
// is off, so that fma() is the only fused operation and no result depends on the optimiser.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef UNROLLED_ISA
#error "compile kernels with -DUNROLLED_ISA=<namespace>"
#endif

#define UNROLLED_INLINE [[gnu::always_inline]] inline
#define UNROLLED_INLINE_LAMBDA __attribute__((always_inline))

namespace unrolled::UNROLLED_ISA {

using Index = std::ptrdiff_t;

#if defined(__AVX512F__)
constexpr int native_bytes = 64, vector_registers = 32;
#elif defined(__AVX2__)
constexpr int native_bytes = 32, vector_registers = 16;
#elif defined(__aarch64__)
constexpr int native_bytes = 16, vector_registers = 32;
#else
constexpr int native_bytes = 16, vector_registers = 16;
#endif

// A test may ask for vectors wider than the registers (the compiler then uses several): so the code
// for the width of AVX-512 runs on machines without it.
#ifdef UNROLLED_VECTOR_BYTES
constexpr int vector_bytes = UNROLLED_VECTOR_BYTES;
#else
constexpr int vector_bytes = native_bytes;
#endif

template <class T, int Bytes = vector_bytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(Bytes)));
};
template <class T>
using Vec = typename VectorOf<T>::type;
using F32 = Vec<float>;
using F64 = Vec<double>;

template <class T>
constexpr int lanes = vector_bytes / int(sizeof(T));

// The type of a lane, and the vectors of integers with lanes of the same size.
template <class V>
using ElementOf = std::remove_cvref_t<decltype(V{}[0])>;
template <class V>
constexpr int lanes_of = int(sizeof(V) / sizeof(ElementOf<V>));
template <class V>
using IntsOf = typename VectorOf<
    std::conditional_t<sizeof(ElementOf<V>) == 4, std::int32_t, std::int64_t>, sizeof(V)>::type;
template <class V>
using BitsOf = typename VectorOf<
    std::conditional_t<sizeof(ElementOf<V>) == 4, std::uint32_t, std::uint64_t>, sizeof(V)>::type;

template <class V>
constexpr bool is_float = std::is_same_v<ElementOf<V>, float>;

// ---------------------------------------------------------------- halves

template <class V>
using HalfOf = typename VectorOf<ElementOf<V>, sizeof(V) / 2>::type;
template <class V>
struct Halves {
  HalfOf<V> low, high;
};
template <class V, int... Lane>
UNROLLED_INLINE Halves<V> split_lanes(V v, std::integer_sequence<int, Lane...>) {
  return {__builtin_shufflevector(v, v, Lane...),
          __builtin_shufflevector(v, v, (Lane + int(sizeof...(Lane)))...)};
}
template <class V, int... Lane>
UNROLLED_INLINE V join_lanes(Halves<V> h, std::integer_sequence<int, Lane...>) {
  return __builtin_shufflevector(h.low, h.high, Lane...);
}
template <class V>
UNROLLED_INLINE Halves<V> split(V v) {
  return split_lanes(v, std::make_integer_sequence<int, lanes_of<V> / 2>{});
}
template <class V>
UNROLLED_INLINE V join(Halves<V> h) {
  return join_lanes<V>(h, std::make_integer_sequence<int, lanes_of<V>>{});
}

// The lanes of a float vector as two double vectors, and back (rounded to nearest).
template <class V>  // HalfOf<F32>
UNROLLED_INLINE F64 widen(V v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 32) return (F64)_mm512_cvtps_pd((__m256)v);
#elif defined(__AVX2__)
  if constexpr (sizeof(V) == 16) return (F64)_mm256_cvtps_pd((__m128)v);
#endif
  return __builtin_convertvector(v, F64);
}
UNROLLED_INLINE F32 narrow(F64 low, F64 high) {
  return join<F32>({__builtin_convertvector(low, HalfOf<F32>),
                    __builtin_convertvector(high, HalfOf<F32>)});
}

// ---------------------------------------------------------------- whole vectors

template <class V>
UNROLLED_INLINE V broadcast(ElementOf<V> x) {
  return x - V{};  // not x + V{}, which would turn -0 into +0
}

template <class V>
UNROLLED_INLINE V load(const ElementOf<V>* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class V>
UNROLLED_INLINE void store(ElementOf<V>* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// Bits, signs and choices. A mask has all bits of a lane set or none, as comparisons give.
template <class V>
UNROLLED_INLINE BitsOf<V> bits(V v) {
  return (BitsOf<V>)v;
}
template <class V>
UNROLLED_INLINE BitsOf<V> sign_bit() {
  return bits(broadcast<V>(ElementOf<V>(-0.0)));
}
template <class V>
UNROLLED_INLINE V abs(V v) {
  return (V)(bits(v) & ~sign_bit<V>());
}
template <class V>
UNROLLED_INLINE V copy_sign(V magnitude, V sign) {  // magnitude >= 0
  return (V)(bits(magnitude) | (bits(sign) & sign_bit<V>()));
}
template <class V>
UNROLLED_INLINE V select(IntsOf<V> mask, V a, V b) {
  return mask ? a : b;
}
template <class V>
UNROLLED_INLINE V select_bits(IntsOf<V> mask, V a, V b) {  // the same by and, or: any pipe will do
  return (V)((bits(a) & (BitsOf<V>)mask) | (bits(b) & ~(BitsOf<V>)mask));
}
template <class V>
UNROLLED_INLINE bool any(V mask) {
#if defined(__AVX2__)
  if constexpr (sizeof(V) == 32) return _mm256_movemask_epi8((__m256i)mask) != 0;
#endif
  if constexpr (sizeof(V) > 16) {
    auto h = split(mask);
    return any(h.low | h.high);
  } else {
    typedef std::int64_t Pair __attribute__((vector_size(16)));
    Pair pair = (Pair)mask;
    return (pair[0] | pair[1]) != 0;
  }
}

// ---------------------------------------------------------------- what needs the instruction set

// a * b + c, rounded once where the instruction set can, else twice; one way for a whole table.
template <class V>
UNROLLED_INLINE V fma(V a, V b, V c) {
  if constexpr (sizeof(V) > native_bytes) {
    auto x = split(a), y = split(b), z = split(c);
    return join<V>({fma(x.low, y.low, z.low), fma(x.high, y.high, z.high)});
  }
#if defined(__AVX512F__)
  else if constexpr (sizeof(V) == 64) {
    if constexpr (is_float<V>) return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
    else return (V)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
  }
#endif
#if defined(__FMA__)
  else if constexpr (sizeof(V) == 32) {
    if constexpr (is_float<V>) return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
    else return (V)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
  }
#elif defined(__aarch64__)
  else if constexpr (sizeof(V) == 16) {
    if constexpr (is_float<V>) return (V)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
    else return (V)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
  }
#endif
  else {
    return a * b + c;
  }
}

// Lanes of a and b hold two bfloat16s each; adds the products of the upper ones, then of the lower ones.
template <class V>
UNROLLED_INLINE V fma_pairs(V a, V b, V c) {
#if defined(__AVX512BF16__)
  if constexpr (sizeof(V) == 64)
    return (V)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
  else
#endif
  {
    using I = BitsOf<V>;
    const I x = (I)a, y = (I)b, upper = (I)broadcast<V>(__builtin_bit_cast(float, 0xffff0000u));
    return fma((V)(x << 16), (V)(y << 16), fma((V)(x & upper), (V)(y & upper), c));
  }
}

template <class V>
UNROLLED_INLINE V sqrt(V v) {
  if constexpr (sizeof(V) > native_bytes) {
    auto x = split(v);
    return join<V>({sqrt(x.low), sqrt(x.high)});
  }
#if defined(__AVX512F__)
  else if constexpr (sizeof(V) == 64) {
    if constexpr (is_float<V>) return (V)_mm512_sqrt_ps((__m512)v);
    else return (V)_mm512_sqrt_pd((__m512d)v);
  }
#endif
#if defined(__AVX2__)
  else if constexpr (sizeof(V) == 32) {
    if constexpr (is_float<V>) return (V)_mm256_sqrt_ps((__m256)v);
    else return (V)_mm256_sqrt_pd((__m256d)v);
  }
#elif defined(__x86_64__)
  else if constexpr (sizeof(V) == 16) {
    if constexpr (is_float<V>) return (V)_mm_sqrt_ps((__m128)v);
    else return (V)_mm_sqrt_pd((__m128d)v);
  }
#elif defined(__aarch64__)
  else if constexpr (sizeof(V) == 16) {
    if constexpr (is_float<V>) return (V)vsqrtq_f32((float32x4_t)v);
    else return (V)vsqrtq_f64((float64x2_t)v);
  }
#endif
  else {
    for (int i = 0; i < lanes_of<V>; ++i) {
      if constexpr (is_float<V>) v[i] = __builtin_sqrtf(v[i]);
      else v[i] = __builtin_sqrt(v[i]);
    }
    return v;
  }
}

// a > b ? a : b, so b where either is NaN or both are zero: the x86 instruction, spelled out so that
// every instruction set agrees.
template <class V>
UNROLLED_INLINE V max_or_second(V a, V b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) {
    if constexpr (is_float<V>) return (V)_mm512_max_ps((__m512)a, (__m512)b);
    else return (V)_mm512_max_pd((__m512d)a, (__m512d)b);
  } else
#elif defined(__AVX2__)
  if constexpr (sizeof(V) == 32) {
    if constexpr (is_float<V>) return (V)_mm256_max_ps((__m256)a, (__m256)b);
    else return (V)_mm256_max_pd((__m256d)a, (__m256d)b);
  } else
#endif
    return a > b ? a : b;
}

template <class V>
UNROLLED_INLINE V min_or_second(V a, V b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) {
    if constexpr (is_float<V>) return (V)_mm512_min_ps((__m512)a, (__m512)b);
    else return (V)_mm512_min_pd((__m512d)a, (__m512d)b);
  } else
#elif defined(__AVX2__)
  if constexpr (sizeof(V) == 32) {
    if constexpr (is_float<V>) return (V)_mm256_min_ps((__m256)a, (__m256)b);
    else return (V)_mm256_min_pd((__m256d)a, (__m256d)b);
  } else
#endif
    return a < b ? a : b;
}

// ---------------------------------------------------------------- the last few elements

// The first `count` < lanes elements, zeros beyond; memory past them is not touched. A kernel runs
// its whole-vector code on them too, so an element's result does not depend on where it stands.
template <class V>
UNROLLED_INLINE V load_first(const ElementOf<V>* p, Index count) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) {
    if constexpr (is_float<V>) return (V)_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), p);
    else return (V)_mm512_maskz_loadu_pd(__mmask8((1u << count) - 1), p);
  } else
#elif defined(__AVX2__)
  if constexpr (sizeof(V) == 32) {
    if constexpr (is_float<V>) {
      __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
      return (V)_mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), lane));
    } else {
      __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
      return (V)_mm256_maskload_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), lane));
    }
  } else
#endif
  {
    V v{};
    for (Index i = 0; i < count; ++i) v[i] = p[i];
    return v;
  }
}

template <class V>
UNROLLED_INLINE void store_first(ElementOf<V>* p, V v, Index count) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) {
    if constexpr (is_float<V>) _mm512_mask_storeu_ps(p, __mmask16((1u << count) - 1), (__m512)v);
    else _mm512_mask_storeu_pd(p, __mmask8((1u << count) - 1), (__m512d)v);
  } else
#elif defined(__AVX2__)
  if constexpr (sizeof(V) == 32) {
    if constexpr (is_float<V>) {
      __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
      _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), lane), (__m256)v);
    } else {
      __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
      _mm256_maskstore_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), lane), (__m256d)v);
    }
  } else
#endif
    for (Index i = 0; i < count; ++i) p[i] = v[i];
}

}  // namespace unrolled::UNROLLED_ISA
