#include "workspace.hpp"

#include <algorithm>
#include <atomic>
#include <new>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace unrolled {

void Workspace::Free::operator()(std::byte* p) const {
  ::operator delete[](p, std::align_val_t(alignment));
}

void Workspace::too_much() { throw std::bad_alloc(); }

Workspace::Chunk Workspace::allocate(std::size_t bytes) {
  auto* data = static_cast<std::byte*>(::operator new[](bytes, std::align_val_t(alignment)));
  return {std::unique_ptr<std::byte[], Free>(data), bytes};
}

void* Workspace::take_bytes(std::size_t bytes) {
  if (bytes > most_bytes) too_much();
  bytes = std::max((bytes + alignment - 1) / alignment * alignment, alignment);
  while (current_ < chunks_.size() && chunks_[current_].size - used_ < bytes) ++current_, used_ = 0;
  if (current_ == chunks_.size()) {
    // At least as much again as there is, so that there are never many chunks.
    chunks_.push_back(allocate(std::max(bytes, std::max(capacity(), std::size_t(1) << 16))));
    used_ = 0;
  }
  std::byte* p = chunks_[current_].data.get() + used_;
  used_ += bytes;
  return p;
}

void Workspace::reset() {
  if (chunks_.size() > 1) {
    std::size_t all = capacity();
    chunks_.clear();
    chunks_.push_back(allocate(all));
  }
  current_ = used_ = 0;
}

void Workspace::release() {
  chunks_.clear();
  current_ = used_ = 0;
}

std::size_t Workspace::capacity() const {
  std::size_t all = 0;
  for (const Chunk& chunk : chunks_) all += chunk.size;
  return all;
}

// ---------------------------------------------------------------- leases

namespace {

// Held for a few instructions only, and by nobody else while the process forks.
std::atomic_flag busy;

void lock() {
  while (busy.test_and_set(std::memory_order_acquire)) {
  }
}
void unlock() { busy.clear(std::memory_order_release); }

struct Lock {
  Lock() { lock(); }
  ~Lock() { unlock(); }
};

#if !defined(_WIN32)
[[maybe_unused]] const int registered = pthread_atfork(lock, unlock, unlock);
#endif

// Never destroyed: a thread may still compute while the process exits.
std::vector<std::unique_ptr<Workspace>>& idle() {
  static auto* all = new std::vector<std::unique_ptr<Workspace>>;
  return *all;
}

}  // namespace

WorkspaceLease::WorkspaceLease() {
  {
    Lock lock;
    if (!idle().empty()) {
      workspace_ = std::move(idle().back());
      idle().pop_back();
    }
  }
  if (!workspace_) workspace_ = std::make_unique<Workspace>();
}

WorkspaceLease::~WorkspaceLease() {
  // reset() may throw when memory is short; then less is kept.
  try {
    workspace_->reset();
    Lock lock;
    idle().push_back(std::move(workspace_));
  } catch (const std::bad_alloc&) {
  }
}

void release_workspaces() {
  std::vector<std::unique_ptr<Workspace>> gone;
  Lock lock;
  gone.swap(idle());
}

}  // namespace unrolled
