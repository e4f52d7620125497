#include "workspace.hpp"

#include <algorithm>
#include <atomic>
#include <new>

#if !defined(_WIN32)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
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

// ---------------------------------------------------------------- blocks

namespace {

constexpr std::size_t page = std::size_t(2) << 20;  // a large one

struct Idle {
  void* data;
  std::size_t size;
};

struct Pool {
  std::vector<Idle> idle;
  std::size_t idle_bytes = 0, used_bytes = 0, most_used = 0;
};

Pool& pool() {
  static auto* all = new Pool;
  return *all;
}

std::size_t rounded(std::size_t bytes) {
  if (bytes >= page) return (bytes + page - 1) / page * page;
  std::size_t size = 4096;
  while (size < bytes) size *= 2;
  return size;
}

std::align_val_t alignment_of(std::size_t size) {
  return std::align_val_t(size >= page ? page : Workspace::alignment);
}

void* allocate_block(std::size_t size) {
  void* data = ::operator new(size, alignment_of(size));
#if defined(__linux__)
  if (size >= page) madvise(data, size, MADV_HUGEPAGE);  // a hundredth of the page faults
#endif
  return data;
}

// Frees idle blocks, the oldest first, until what is idle and in use is no more than was ever in use.
void trim(Pool& p, std::vector<Idle>& gone) {
  std::size_t count = 0;
  while (count < p.idle.size() && p.idle_bytes + p.used_bytes > p.most_used) {
    p.idle_bytes -= p.idle[count].size;
    gone.push_back(p.idle[count++]);
  }
  p.idle.erase(p.idle.begin(), p.idle.begin() + std::ptrdiff_t(count));
}

void give_back(const std::vector<Idle>& gone) {
  for (const Idle& block : gone) ::operator delete(block.data, alignment_of(block.size));
}

}  // namespace

Block::Block(std::size_t bytes) : data_(nullptr), size_(rounded(bytes)) {
  std::vector<Idle> gone;
  {
    Lock lock;
    Pool& p = pool();
    auto best = p.idle.end();
    for (auto i = p.idle.begin(); i != p.idle.end(); ++i)
      if (i->size >= size_ && i->size <= 4 * size_ && (best == p.idle.end() || i->size < best->size)) best = i;
    if (best != p.idle.end()) {
      data_ = best->data, size_ = best->size;
      p.idle_bytes -= size_;
      p.idle.erase(best);
    }
    p.used_bytes += size_;
    p.most_used = std::max(p.most_used, p.used_bytes);
    if (!data_) trim(p, gone);
  }
  give_back(gone);
  if (data_) return;
  try {
    data_ = allocate_block(size_);
  } catch (...) {
    Lock lock;
    pool().used_bytes -= size_;
    throw;
  }
}

Block::~Block() {
  std::vector<Idle> gone;
  {
    Lock lock;
    Pool& p = pool();
    p.used_bytes -= size_;
    p.idle.push_back({data_, size_});
    p.idle_bytes += size_;
    trim(p, gone);
  }
  give_back(gone);
}

void release_workspaces() {
  std::vector<std::unique_ptr<Workspace>> gone;
  std::vector<Idle> blocks;
  {
    Lock lock;
    gone.swap(idle());
    blocks.swap(pool().idle);
    pool().idle_bytes = 0;
    pool().most_used = pool().used_bytes;
  }
  give_back(blocks);
}

}  // namespace unrolled
