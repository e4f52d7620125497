// Threads of the OpenMP runtime that is already in the process (torch's), a barrier, and the guard that
// turns denormals off.
#pragma once

#include <atomic>
#include <cstdint>
#include <type_traits>

namespace unrolled {

// Denormals are zero, as arguments and as results, while this lives; then what was set before is set
// again. They cost the activations 15 to 37 times their ordinary time. For the calling thread only:
// parallel() has one on every thread.
class DenormalsAreZero {
 public:
  DenormalsAreZero();
  ~DenormalsAreZero();
  DenormalsAreZero(const DenormalsAreZero&) = delete;
  DenormalsAreZero& operator=(const DenormalsAreZero&) = delete;

 private:
  std::uint64_t before_;
};

namespace detail {
using Body = void (*)(void* context, int thread, int threads);
void run_parallel(int threads, Body body, void* context);
}  // namespace detail

// Calls body(thread, count) for thread = 0 .. count - 1, each on a thread of its own and the caller's
// own one among them, with denormals off, and returns when all have. count is `threads` or fewer: the
// runtime may have no more to give, one is all there is inside another region, and in a process made by
// fork (where OpenMP hangs). With one thread no region is entered. May be called from several threads
// at once. body must not throw.
template <class F>
void parallel(int threads, F&& body) {
  using Function = std::remove_reference_t<F>;
  detail::run_parallel(
      threads,
      [](void* context, int thread, int count) { (*static_cast<Function*>(context))(thread, count); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

// The part [begin, end) of n that is `thread`'s of `threads`: equal but for one.
struct Part {
  std::ptrdiff_t begin, end;
};
constexpr Part part_of(std::ptrdiff_t n, int thread, int threads) {
  return {n * thread / threads, n * (thread + 1) / threads};
}

// Lets `threads` threads wait for each other, again and again. Waiting spins for some ten microseconds
// (meeting takes about 0.1) and then sleeps, so that a busy machine is not made busier. wait() tells
// whether it slept so long that another thread must have been without a processor.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}
  bool wait();

 private:
  const int threads_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> round_{0};
};

// True in a process that was made by fork after this library was loaded.
bool is_forked_child();

}  // namespace unrolled
