// The kernels of one instruction set, chosen at run time.
#pragma once

#include "gemm.hpp"
#include "pointwise.hpp"
#include "update.hpp"

namespace unrolled {

template <class T>
struct KernelsOf {
  Pointwise<T> pointwise;
  Gemm<T> gemm;
};

struct Updates {
  UpdateFunction<float> f32;
  UpdateFunction<double> f64;
};

struct Kernels {
  const char* name;   // portable, avx2, avx512, neon
  int vector_bytes;
  KernelsOf<float> f32;
  KernelsOf<double> f64;
  PairGemm pairs;  // packed as f32.gemm packs words(k) rows
  Updates updates;

  template <class T>
  const KernelsOf<T>& of() const {
    if constexpr (sizeof(T) == sizeof(float)) return f32;
    else return f64;
  }
};

// The table called `name`, or the best this machine runs if name is null, empty or "auto". Null with a
// sentence in *error (a string that stays valid) if the name is unknown or the machine cannot run it.
const Kernels* find_kernels(const char* name, const char** error);

// find_kernels of the environment variable UNROLLED_ISA.
const Kernels* default_kernels(const char** error);

// The names find_kernels accepts here, best first, ended by a null.
const char* const* available_kernels();

}  // namespace unrolled
