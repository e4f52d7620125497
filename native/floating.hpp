// Numbers too small to be normal are taken for zero inside the engine: they cost 15 to 37 times as much.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace unrolled {

// Sets flush-to-zero for the thread that holds it, and puts back what was there.
class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" ::"r"(saved_ | (1ull << 24)));
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }

 private:
  unsigned long long saved_;
#else
  FlushDenormals() {}
#endif
};

}  // namespace unrolled
