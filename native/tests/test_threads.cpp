// Regions, the barrier, denormals, fork, and workspaces.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <limits>
#include <thread>

#include "check.hpp"
#include "threads.hpp"
#include "workspace.hpp"

using namespace unrolled;

namespace {

float denormal_product() {
  volatile float tiny = std::numeric_limits<float>::min(), half = 0.5f;
  return tiny * half;
}

void test_regions() {
  for (int threads = 1; threads <= 4; ++threads) {
    std::vector<int> seen(threads, 0);
    std::atomic<int> flushed{0}, counts{0};
    parallel(threads, [&](int thread, int count) {
      seen[thread] += 1;
      counts = count;
      if (denormal_product() == 0) ++flushed;
    });
    CHECK(counts >= 1 && counts <= threads, "%d threads", counts.load());
    for (int i = 0; i < counts; ++i) CHECK(seen[i] == 1, "thread %d ran %d times", i, seen[i]);
    CHECK(flushed == counts, "denormals off on %d of %d threads", flushed.load(), counts.load());
    CHECK(denormal_product() != 0, "denormals stayed off");
  }
  std::atomic<int> nested{0};
  parallel(2, [&](int, int) {
    parallel(2, [&](int thread, int count) { nested += thread >= count; });
  });
  CHECK(nested == 0, "threads of a nested region");
  for (std::ptrdiff_t n : {0, 1, 5, 64})
    for (int threads = 1; threads < 8; ++threads) {
      CHECK(part_of(n, 0, threads).begin == 0 && part_of(n, threads - 1, threads).end == n, "part");
      for (int i = 1; i < threads; ++i)
        CHECK(part_of(n, i, threads).begin == part_of(n, i - 1, threads).end, "parts join");
    }
}

// Every thread adds its number each round; all see the whole sum after the barrier.
void test_barrier(int threads, int rounds) {
  std::vector<int> value(threads * 16, 0);
  std::atomic<long> wrong{0};
  // As many threads as came, so the barrier is made by the first.
  std::atomic<Barrier*> shared{nullptr};
  parallel(threads, [&](int thread, int count) {
    if (thread == 0) shared = new Barrier(count);
    while (!shared.load()) std::this_thread::yield();
    Barrier& barrier = *shared.load();
    for (int round = 1; round <= rounds; ++round) {
      value[thread * 16] = round;
      barrier.wait();
      for (int i = 0; i < count; ++i) wrong += value[i * 16] != round;
      barrier.wait();
    }
  });
  delete shared.load();
  CHECK(wrong == 0, "%ld values read before they were written", wrong.load());
}

// Several threads of the program open regions and lease workspaces at once.
void test_callers() {
  std::vector<std::thread> callers;
  std::atomic<long> wrong{0};
  for (int i = 0; i < 4; ++i)
    callers.emplace_back([&wrong, i] {
      for (int round = 0; round < 50; ++round) {
        WorkspaceLease workspace;
        int* numbers = workspace->take<int>(1000);
        parallel(2, [&](int thread, int count) {
          auto part = part_of(1000, thread, count);
          for (auto j = part.begin; j < part.end; ++j) numbers[j] = i;
        });
        for (int j = 0; j < 1000; ++j) wrong += numbers[j] != i;
      }
    });
  for (auto& caller : callers) caller.join();
  CHECK(wrong == 0, "%ld numbers of another thread", wrong.load());
  release_workspaces();
}

// A child made by fork after a region has run: its regions have one thread, and do not hang.
[[maybe_unused]] void test_fork() {
  CHECK(!is_forked_child(), "not forked");
  pid_t child = fork();
  if (child == 0) {
    alarm(20);
    int ran = 0;
    parallel(4, [&](int, int count) { ran += count; });
    WorkspaceLease workspace;
    _exit(is_forked_child() && ran == 1 && workspace->take<char>(5) ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child's status %d", status);
}

void test_workspace() {
  Workspace workspace;
  char* first = workspace.take<char>(1);
  double* second = workspace.take<double>(100);
  CHECK(reinterpret_cast<std::uintptr_t>(first) % 64 == 0, "aligned");
  CHECK(reinterpret_cast<std::uintptr_t>(second) % 64 == 0, "aligned");
  auto mark = workspace.mark();
  float* large = workspace.take<float>(1 << 20);
  large[0] = large[(1 << 20) - 1] = 1;
  second[0] = second[99] = 2;
  workspace.rewind(mark);
  CHECK(workspace.take<float>(1 << 20) == large, "rewound");
  std::size_t held = workspace.capacity();
  workspace.reset();
  CHECK(workspace.capacity() == held, "reset keeps %zu of %zu bytes", workspace.capacity(), held);
  for (int i = 0; i < 3; ++i) {
    workspace.take<char>(1);
    workspace.take<double>(100);
    workspace.take<float>(1 << 20)[(1 << 20) - 1] = 3;
    workspace.reset();
    CHECK(workspace.capacity() == held, "the same calls take no more memory");
  }
  bool thrown = false;
  try {
    workspace.take<double>(std::numeric_limits<std::ptrdiff_t>::max() / 4);
  } catch (const std::bad_alloc&) {
    thrown = true;
  }
  CHECK(thrown, "an absurd size is refused");
  workspace.release();
  CHECK(workspace.capacity() == 0, "released");
}

}  // namespace

int main() {
  test_regions();
  test_barrier(2, 20000);
  test_barrier(4, 2000);  // more threads than cores on a small machine: waiting must sleep
  test_callers();
  test_workspace();
#if !defined(__SANITIZE_THREAD__)  // which stops a child that had threads
  test_fork();
#endif
  std::printf("%ld checks, %ld failures\n", checks, failures);
  return failures != 0;
}
