// What the tests share: counting failures, random numbers, and which tables to run.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels.hpp"

inline long failures = 0, checks = 0;

#define CHECK(condition, ...)                                  \
  do {                                                         \
    ++checks;                                                  \
    if (!(condition) && ++failures <= 20) {                    \
      std::printf("%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                \
      std::printf("\n");                                       \
    }                                                          \
  } while (0)

// xorshift; the same numbers everywhere.
struct Random {
  std::uint64_t state = 0x9e3779b97f4a7c15;
  std::uint64_t next() {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
  }
  double uniform() { return double(next() >> 11) * 0x1p-53; }            // [0, 1)
  double symmetric() { return 2 * uniform() - 1; }                       // [-1, 1)
  int below(int n) { return int(next() % std::uint64_t(n)); }
};

inline float float_of(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
template <class T>
std::uint64_t bits_of(T x) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &x, sizeof x);
  return bits;
}
// The same number: NaN with any NaN, and zeros with their sign.
template <class T>
bool same(T a, T b) {
  return a != a ? b != b : bits_of(a) == bits_of(b);
}

// Runs `test(kernels)` for every table this machine can run, or the one UNROLLED_ISA names.
template <class Test>
int run_tests(const char* title, Test test) {
  const char* const* names = unrolled::available_kernels();
  const char* wanted = std::getenv("UNROLLED_ISA");
  for (; *names; ++names) {
    if (wanted && *wanted && std::strcmp(wanted, *names)) continue;
    const char* error;
    const unrolled::Kernels* kernels = unrolled::find_kernels(*names, &error);
    if (!kernels) {
      std::printf("%s\n", error);
      return 1;
    }
    long before = failures;
    test(*kernels);
    std::printf("%s, %s: %s\n", title, *names, failures == before ? "passed" : "FAILED");
  }
  if (checks == 0) {
    std::printf("this machine cannot run %s: skipped\n", wanted);
    return 77;  // what ctest takes for "skipped"
  }
  std::printf("%ld checks, %ld failures\n", checks, failures);
  return failures != 0;
}
