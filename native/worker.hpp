// What a thread does: the instructions of a section, on one block of rows after the other.
#pragma once

#include <algorithm>
#include <atomic>

#include "engine.hpp"
#include "threads.hpp"
#include "workspace.hpp"

namespace unrolled {

constexpr Index tile = 2048;   // elements of a kernel's temporary, so that several stay in the L1 cache
constexpr int most_sleeps = 4;  // of threads that share steps, before one goes on alone

// One section of a program and what all threads share while it runs.
template <class T>
struct Stage {
  const Call<T>& call;
  const ir::Section& section;
  std::vector<T*> packed;    // of each product
  std::vector<T*> previous;  // of each array: its earlier rows, where they had to be gathered
};

// Threads that share the rows of a step, each taking a part of every instruction's columns. On a busy
// machine one of them soon waits for another that has no processor: then one goes on alone.
struct Meeting {
  explicit Meeting(int threads) : barrier(threads) {}
  Barrier barrier;
  std::atomic<int> slept{0};
  bool over = false;  // written by the first thread before, and read by all after a barrier
};
struct Share {
  int lane = 0, lanes = 1;
  Meeting* meeting = nullptr;
};

// What one thread needs to run instructions on a block of rows.
template <class T>
class Worker {
 public:
  // With `first`, it shares the rows, and so what lies between two instructions, with that worker.
  Worker(const Stage<T>& stage, Index most_rows, Workspace& memory, Share share = {},
         const Worker* first = nullptr)
      : stage_(stage), share_(share) {
    const auto& arrays = stage.call.program->arrays;
    at_.resize(arrays.size());
    for (int i : stage.section.arrays)
      at_[i] = arrays[i].kind != ir::Kind::scratch ? stage.call.arrays[i]
               : first                             ? first->at_[i]
                                                   : memory.take<T>(most_rows * arrays[i].width);
    Index temps = 0, widest = 0;
    for (const auto& instruction : stage.section.instructions)
      if (auto* kernel = std::get_if<ir::Kernel>(&instruction))
        temps = std::max(temps, kernel->temps * padded(std::max(tile, kernel->width)));
      else if (auto* product = std::get_if<ir::Product>(&instruction))
        widest = std::max(widest, product->k);
    temps_ = memory.take<T>(temps);
    if (stage.call.pairs) words_ = memory.take<float>(most_rows * PairGemm::words(widest));
  }

  // Rows [first, first + count) of all rows; outside the loop.
  void block(Index first, Index count) {
    first_ = first;
    for (int i : stage_.section.arrays) {
      const ir::Array& array = stage_.call.program->arrays[i];
      if (array.kind == ir::Kind::rows) at_[i] = stage_.call.arrays[i] + first * array.width;
      if (array.kind == ir::Kind::previous) {
        T* base = stage_.previous[i] ? stage_.previous[i] : stage_.call.arrays[i];
        at_[i] = base + first * array.width;
      }
    }
    run(count);
  }

  // Rows [first, first + count) of the batch at step t.
  void step(Index t, Index first, Index count) {
    const Steps& steps = stage_.call.steps;
    for (int i : stage_.section.arrays) {
      const ir::Array& array = stage_.call.program->arrays[i];
      T* base = stage_.call.arrays[i];
      if (array.kind == ir::Kind::rows) at_[i] = base + (steps.offsets[t] + first) * array.width;
      if (array.kind == ir::Kind::batch) at_[i] = base + first * array.width;
      if (array.kind == ir::Kind::previous) {
        at_[i] = base + (steps.before(t, array.lag) + first) * array.width;
      }
    }
    run(count);
  }

 private:
  const KernelsOf<T>& table() const { return stage_.call.kernels->template of<T>(); }
  Index row(int array) const {
    const ir::Array& found = stage_.call.program->arrays[array];
    return found.kind == ir::Kind::once ? 0 : found.width;
  }

  void run(Index rows) {
    for (const auto& instruction : stage_.section.instructions) {
      if (auto* kernel = std::get_if<ir::Kernel>(&instruction)) run(*kernel, rows);
      else if (auto* product = std::get_if<ir::Product>(&instruction)) run(*product, rows);
      else if (auto* reduce = std::get_if<ir::Reduce>(&instruction)) run(*reduce, rows);
      if (!share_.meeting) continue;
      if (share_.lane == 0 && &instruction == &stage_.section.instructions.back())
        share_.meeting->over = share_.meeting->slept.load(std::memory_order_relaxed) > most_sleeps;
      if (share_.meeting->barrier.wait()) share_.meeting->slept.fetch_add(1, std::memory_order_relaxed);
    }
  }

  // The columns of `width` that are this thread's, whole vectors but for the last.
  Part mine(Index width) const {
    const Index vectors = (width + 15) / 16;
    const Part part = part_of(vectors, share_.lane, share_.lanes);
    return {part.begin * 16, std::min(part.end * 16, width)};
  }

  void run(const ir::Kernel& kernel, Index rows) {
    Index height = std::max<Index>(1, tile / std::max<Index>(1, kernel.width));
    const Part columns = mine(kernel.width);
    if (columns.begin >= columns.end) return;
    for (Index first = 0; first < rows; first += height)
      run(kernel, first, std::min(height, rows - first), columns);
  }

  void run(const ir::Kernel& kernel, Index first, Index rows, Part columns) {
    const Pointwise<T>& table_of = table().pointwise;
    const Index size = padded(std::max(tile, kernel.width));
    for (const ir::Op& op : kernel.ops) {
      Tile<T> t{};
      t.rows = rows;
      t.columns = columns.end - columns.begin;
      if (op.to_temp) {
        t.out = temps_ + op.out.array * size;
        t.out_row = kernel.width;
      } else {
        t.out_row = row(op.out.array);
        t.out = at_[op.out.array] + first * t.out_row + op.out.column + columns.begin;
      }
      int mask = 0;
      Operand<T>* operands[] = {&t.a, &t.b, &t.c};
      T numbers[3];
      for (int k = 0; k <= int(op.arity); ++k) {
        const ir::Source& source = op.inputs[k];
        Operand<T>& operand = *operands[k];
        switch (source.form) {
          case ir::Source::temp:
            operand = {temps_ + source.index * size, kernel.width};
            break;
          case ir::Source::number:
            numbers[k] = T(stage_.call.program->numbers[source.index]);
            operand = {&numbers[k], 0};
            mask |= 1 << k;
            break;
          default: {
            Index step = row(source.index);
            const bool spread = source.form == ir::Source::spread;
            const Index column = source.column + (spread ? 0 : columns.begin);
            operand = {at_[source.index] + first * step + column, step};
            if (spread) mask |= 1 << k;
          }
        }
      }
      switch (op.arity) {
        case ir::Arity::unary: table_of.unary[op.code][mask](t); break;
        case ir::Arity::binary: table_of.binary[op.code][mask](t); break;
        case ir::Arity::ternary: table_of.ternary[op.code][mask](t); break;
      }
    }
  }

  void run(const ir::Product& p, Index rows) {
    const Gemm<T>& gemm = table().gemm;
    Product<T> product{};
    product.rows = rows;
    product.k = p.k;
    product.columns = p.n;
    product.a = at_[p.a.array] + p.a.column;
    product.a_row = row(p.a.array);
    product.packed = stage_.packed[p.place];
    if (p.bias.array >= 0) {
      product.start = at_[p.bias.array] + p.bias.column;
      product.start_row = row(p.bias.array);
    }
    product.c = at_[p.out.array] + p.out.column;
    product.c_row = row(p.out.array);
    if (p.a.array == stage_.call.one_hot) return look_up(product, gemm.panel);
    const Part panels = part_of(gemm.panels(p.n), share_.lane, share_.lanes);
    product.panel_begin = panels.begin;
    product.panel_end = panels.end;
    if constexpr (std::is_same_v<T, float>)
      if (stage_.call.pairs) {
        const PairGemm& pairs = stage_.call.kernels->pairs;
        pairs.round(product.a, product.a_row, rows, p.k, words_);
        product.a = words_;
        product.k = product.a_row = PairGemm::words(p.k);
        return pairs.multiply(product);
      }
    gemm.multiply(product);
  }

  // A product with one-hot rows: of the matrix the row where the one stands.
  void look_up(const Product<T>& p, Index panel) {
    for (Index r = 0; r < p.rows; ++r) {
      const T* row = p.packed + stage_.call.symbols[first_ + r] * panel;
      const T* start = p.start ? p.start + r * p.start_row : nullptr;
      T* out = p.c + r * p.c_row;
      for (Index j = 0; j < p.columns; j += panel, row += panel * p.k) {
        const Index count = std::min(panel, p.columns - j);
        if (start)
          for (Index i = 0; i < count; ++i) out[j + i] = start[j + i] + row[i];
        else
          std::copy(row, row + count, out + j);
      }
    }
  }

  void run(const ir::Reduce& r, Index rows) {
    if (share_.lane > 0) return;
    Tile<T> t{};
    t.rows = rows;
    t.columns = r.width;
    t.out_row = row(r.out.array);
    t.out = at_[r.out.array] + r.out.column;
    t.a = {at_[r.a.array] + r.a.column, row(r.a.array)};
    table().pointwise.reduce[int(r.op)](t);
  }

  const Stage<T>& stage_;
  const Share share_;
  std::vector<T*> at_;
  Index first_ = 0;  // of the rows of a block
  T* temps_ = nullptr;
  float* words_ = nullptr;  // rows of a product, rounded
};

}  // namespace unrolled
