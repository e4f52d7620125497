// GFLOP/s of the matrix products beside the peak of this processor, measured in turn.
//
//   bench_gemm [threads]     UNROLLED_ISA chooses the kernels
#include <time.h>

#include <algorithm>
#include <functional>
#include <string>

#include "check.hpp"
#include "threads.hpp"
#include "workspace.hpp"

using namespace unrolled;

namespace {

// One thread is timed in its own CPU time, which a busy machine disturbs less; several by the clock.
double seconds(bool wall) {
  timespec t;
  clock_gettime(wall ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

// Sixteen independent chains of multiply-adds, which no processor here can run faster.
double peak_work(Index times) {
#if defined(__x86_64__)
  for (Index i = 0; i < times; ++i)
    asm volatile(
        "vfmadd213ps %%ymm14, %%ymm15, %%ymm0\n vfmadd213ps %%ymm14, %%ymm15, %%ymm1\n"
        "vfmadd213ps %%ymm14, %%ymm15, %%ymm2\n vfmadd213ps %%ymm14, %%ymm15, %%ymm3\n"
        "vfmadd213ps %%ymm14, %%ymm15, %%ymm4\n vfmadd213ps %%ymm14, %%ymm15, %%ymm5\n"
        "vfmadd213ps %%ymm14, %%ymm15, %%ymm6\n vfmadd213ps %%ymm14, %%ymm15, %%ymm7\n"
        "vfmadd213ps %%ymm14, %%ymm15, %%ymm8\n vfmadd213ps %%ymm14, %%ymm15, %%ymm9\n" ::
            : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm14",
              "xmm15");
  return 160.0 * double(times);
#else
  (void)times;
  return 0;
#endif
}



struct Row {
  std::string name;
  double work;
  std::function<void()> run;
  std::vector<double> times{};
};

}  // namespace

int main(int argc, char** argv) {
  int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  const char* error;
  const Kernels* kernels = default_kernels(&error);
  if (!kernels) return std::printf("%s\n", error), 1;
  const auto& gemm = kernels->f32.gemm;
  Random random;
  Workspace workspace;
  auto matrix = [&](Index n) {
    float* p = workspace.take<float>(n);
    for (Index i = 0; i < n; ++i) p[i] = float(random.symmetric());
    return p;
  };

  std::vector<Row> rows;
  rows.push_back({"peak", peak_work(100000) * threads, [&] {
                    parallel(threads, [](int, int) { peak_work(100000); });
                  }});
  struct Size {
    Index m, k, n;
  };
  for (auto [m, k, n] :
       {Size{1, 100, 100}, {1, 256, 1024}, {1, 512, 2048}, {2, 256, 1024}, {3, 256, 1024}, {4, 256, 1024},
        {6, 256, 1024}, {12, 256, 1024}, {16, 256, 1024}, {32, 256, 1024}, {32, 256, 256}, {64, 512, 2048},
        {3200, 256, 1024}, {3200, 1024, 256}, {6, 256, 16}, {96, 256, 16}, {512, 2048, 2048}}) {
    float *a = matrix(m * k), *b = matrix(k * n), *c = matrix(m * n);
    float* packed = matrix(gemm.packed_size(k, n));
    Index panels = gemm.panels(n);
    gemm.pack({k, n, b, n, packed, 0, panels});
    Index times = std::max<Index>(1, Index(2e7 / (2.0 * m * n * k)));
    rows.push_back({std::to_string(m) + " x " + std::to_string(k) + " x " + std::to_string(n),
                    2.0 * m * n * k * times, [=, &gemm] {
                      for (Index i = 0; i < times; ++i)
                        parallel(threads, [&](int thread, int count) {
                          auto part = part_of(panels, thread, count);
                          gemm.multiply({m, k, n, a, k, packed, nullptr, 0, c, n, part.begin, part.end});
                        });
                    }});
  }
  for (auto [m, n, k] : {Size{3200, 1024, 256}, {6400, 2048, 512}, {25, 100, 100}}) {
    float *a = matrix(m * n), *b = matrix(m * k), *c = matrix(n * k);
    float* scratch = matrix(gemm.gradient_scratch * threads);
    Index times = std::max<Index>(1, Index(2e7 / (2.0 * m * n * k)));
    rows.push_back({"gradient " + std::to_string(n) + " x " + std::to_string(m) + " x " + std::to_string(k),
                    2.0 * m * n * k * times, [=, &gemm] {
                      for (Index i = 0; i < times; ++i)
                        parallel(threads, [&](int thread, int count) {
                          auto part = part_of(n, thread, count);
                          gemm.gradient({m, a, n, b, k, c, k, part.begin, part.end, 0, k, false,
                                         scratch + thread * gemm.gradient_scratch});
                        });
                    }});
  }
  for (Row& row : rows) row.run();
  for (int round = 0; round < 25; ++round)
    for (Row& row : rows) {
      double start = seconds(threads > 1);
      row.run();
      row.times.push_back(seconds(threads > 1) - start);
    }
  double peak = 0;
  std::printf("%s, %d threads\n", kernels->name, threads);
  for (Row& row : rows) {
    std::sort(row.times.begin(), row.times.end());
    double median = row.work / row.times[row.times.size() / 2] * 1e-9, best = row.work / row.times[0] * 1e-9;
    if (peak == 0) peak = best;
    std::printf("%-26s median %6.1f  best %6.1f GFLOP/s  %5.1f %% of peak\n", row.name.c_str(), median, best,
                100 * best / peak);
  }
}
