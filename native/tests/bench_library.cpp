// Kernels behind a plain C interface, so that bench_torch.py can time them beside torch in one process.
#include <cstdlib>

#include "kernels.hpp"
#include "threads.hpp"

using namespace unrolled;

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {
const Kernels& kernels() {
  const char* error;
  const Kernels* found = default_kernels(&error);
  if (!found) std::abort();
  return *found;
}
}  // namespace

EXPORT const char* bench_isa() { return kernels().name; }

EXPORT float* bench_allocate(Index n) {
  return static_cast<float*>(std::aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64));
}

EXPORT Index bench_packed_size(Index k, Index n) { return kernels().f32.gemm.packed_size(k, n); }
EXPORT Index bench_gradient_scratch() { return kernels().f32.gemm.gradient_scratch; }

EXPORT void bench_pack(Index k, Index n, const float* b, float* packed, int transposed) {
  const auto& gemm = kernels().f32.gemm;
  (transposed ? gemm.pack_transposed : gemm.pack)({k, n, b, transposed ? k : n, packed, 0, gemm.panels(n)});
}

EXPORT void bench_multiply(Index m, Index k, Index n, const float* a, const float* packed, float* c,
                           int threads, Index times) {
  const auto& gemm = kernels().f32.gemm;
  for (Index i = 0; i < times; ++i)
    parallel(threads, [&](int thread, int count) {
      auto part = part_of(gemm.panels(n), thread, count);
      gemm.multiply({m, k, n, a, k, packed, nullptr, 0, c, n, part.begin, part.end});
    });
}

EXPORT void bench_gradient(Index m, Index n, Index k, const float* a, const float* b, float* c,
                           float* scratch, int threads) {
  const auto& gemm = kernels().f32.gemm;
  parallel(threads, [&](int thread, int count) {
    auto part = part_of(n, thread, count);
    gemm.gradient({m, a, n, b, k, c, k, part.begin, part.end, 0, k, false,
                   scratch + thread * gemm.gradient_scratch});
  });
}

EXPORT void bench_unary(int op, Index n, const float* a, float* out, Index times) {
  Tile<float> tile{1, n, out, n, {a, n}, {}, {}};
  auto function = kernels().f32.pointwise.unary[op][0];
  for (Index i = 0; i < times; ++i) function(tile);
}
