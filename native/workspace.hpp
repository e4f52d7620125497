// Memory for one call of the engine, kept between calls.
//
// glibc gives large blocks back to the system when they are freed, and the next call pays for every page
// again: a fifth of torch's training step. A workspace keeps what it once needed.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace unrolled {

class Workspace {
 public:
  static constexpr std::size_t alignment = 64;

  // n uninitialised numbers, aligned to 64 bytes, valid until reset() or a rewind() before them. Throws
  // std::bad_alloc. n may be 0.
  template <class T>
  T* take(std::ptrdiff_t n) {
    if (n < 0 || static_cast<std::size_t>(n) > most_bytes / sizeof(T)) too_much();
    return static_cast<T*>(take_bytes(static_cast<std::size_t>(n) * sizeof(T)));
  }
  void* take_bytes(std::size_t bytes);

  // Gives back all that was taken since the mark.
  struct Mark {
    std::size_t chunk, used;
  };
  Mark mark() const { return {current_, used_}; }
  void rewind(Mark mark) { current_ = mark.chunk, used_ = mark.used; }

  // Gives everything back. Several chunks become one, so that the next call of the same size allocates
  // nothing.
  void reset();
  // Frees the memory itself.
  void release();
  // Bytes held.
  std::size_t capacity() const;

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  struct Chunk {
    std::unique_ptr<std::byte[], Free> data;
    std::size_t size;
  };
  static constexpr std::size_t most_bytes = std::size_t(-1) / 4;
  [[noreturn]] static void too_much();
  static Chunk allocate(std::size_t bytes);

  std::vector<Chunk> chunks_;
  std::size_t current_ = 0, used_ = 0;  // the chunk in use, and how much of it
};

// A workspace for the length of a call: one of those kept by the process, or a new one if all are in use
// by other threads.
class WorkspaceLease {
 public:
  WorkspaceLease();
  ~WorkspaceLease();
  WorkspaceLease(const WorkspaceLease&) = delete;
  WorkspaceLease& operator=(const WorkspaceLease&) = delete;
  Workspace& operator*() const { return *workspace_; }
  Workspace* operator->() const { return workspace_.get(); }

 private:
  std::unique_ptr<Workspace> workspace_;
};

// Memory that outlives a call, as what a backward pass needs of the forward one. Blocks given back are
// kept for the next of about their size, never more bytes in all than were once in use.
class Block {
 public:
  explicit Block(std::size_t bytes);  // throws std::bad_alloc
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  void* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  void* data_;
  std::size_t size_;
};

// Frees the workspaces and blocks that nobody is using.
void release_workspaces();

}  // namespace unrolled
