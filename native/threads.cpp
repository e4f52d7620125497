#include "threads.hpp"

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif

// On Linux the two entry points of libgomp.so.1 are called as GCC's `#pragma omp parallel` would: any
// compiler can, and no compiler brings a second runtime of its own along. LLVM's runtime has them too.
#if defined(__linux__)
extern "C" {
void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned flags);
int omp_get_thread_num();
int omp_get_num_threads();
}
#elif defined(_OPENMP)
#include <omp.h>
#endif

namespace unrolled {

// ---------------------------------------------------------------- denormals

namespace {

#if defined(__x86_64__)
constexpr std::uint64_t flush = 0x8040;  // results (bit 15) and arguments (bit 6)
std::uint64_t control() { return _mm_getcsr(); }
void set_control(std::uint64_t value) { _mm_setcsr(static_cast<unsigned>(value)); }
#elif defined(__aarch64__)
constexpr std::uint64_t flush = 1ull << 24;
std::uint64_t control() {
  std::uint64_t value;
  asm volatile("mrs %0, fpcr" : "=r"(value));
  return value;
}
void set_control(std::uint64_t value) { asm volatile("msr fpcr, %0" : : "r"(value)); }
#else
constexpr std::uint64_t flush = 0;
std::uint64_t control() { return 0; }
void set_control(std::uint64_t) {}
#endif

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb");  // about as long as x86's pause; yield is a no-op on most cores
#endif
}

}  // namespace

DenormalsAreZero::DenormalsAreZero() : before_(control()) { set_control(before_ | flush); }
DenormalsAreZero::~DenormalsAreZero() { set_control(before_); }

// ---------------------------------------------------------------- fork

namespace {

std::atomic<bool> forked{false};

// Registered when the library is loaded: a region that torch opened counts as much as one of ours.
[[maybe_unused]] const int registered = [] {
#if !defined(_WIN32)
  return pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); });
#else
  return 0;
#endif
}();

}  // namespace

bool is_forked_child() { return forked.load(std::memory_order_relaxed); }

// ---------------------------------------------------------------- regions

namespace {

struct Region {
  detail::Body body;
  void* context;
  // ThreadSanitizer does not see how libgomp, which is not instrumented, hands work over and waits for
  // it. Two counters say the same in its language; the real build leaves them alone.
  std::atomic<int> opened{0}, finished{0};
};

#if defined(__SANITIZE_THREAD__)
constexpr bool tell_sanitizer = true;
#else
constexpr bool tell_sanitizer = false;
#endif

[[maybe_unused]] void enter(void* data) {
  auto* region = static_cast<Region*>(data);
  if (tell_sanitizer) region->opened.load(std::memory_order_acquire);
  {
    DenormalsAreZero guard;
#if defined(__linux__) || defined(_OPENMP)
    region->body(region->context, omp_get_thread_num(), omp_get_num_threads());
#endif
  }
  if (tell_sanitizer) region->finished.fetch_add(1, std::memory_order_acq_rel);
}

}  // namespace

void detail::run_parallel(int threads, Body body, void* context) {
  if (threads > 1 && !is_forked_child()) {
    Region region{body, context};
    if (tell_sanitizer) region.opened.store(1, std::memory_order_release);
#if defined(__linux__)
    GOMP_parallel(enter, &region, static_cast<unsigned>(threads), 0);
    if (tell_sanitizer) region.finished.load(std::memory_order_acquire);
    return;
#elif defined(_OPENMP)
#pragma omp parallel num_threads(threads)
    enter(&region);
    return;
#endif
  }
  DenormalsAreZero guard;
  body(context, 0, 1);
}

// ---------------------------------------------------------------- barrier

bool Barrier::wait() {
  constexpr int most_spins = 500;
  // A thread that has lost its processor is away for milliseconds; one with the larger share of the work,
  // or a slower cache, for less.
  constexpr std::chrono::microseconds long_sleep{500};
  std::uint32_t round = round_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
    arrived_.store(0, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();  // costs a load where nobody sleeps
    return false;
  }
  for (int i = 0; i < most_spins; ++i) {
    if (round_.load(std::memory_order_acquire) != round) return false;
    pause();
  }
  const auto began = std::chrono::steady_clock::now();
  while (round_.load(std::memory_order_acquire) == round) round_.wait(round, std::memory_order_acquire);
  return std::chrono::steady_clock::now() - began > long_sleep;
}

}  // namespace unrolled
