#include "engine.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "threads.hpp"
#include "workspace.hpp"

namespace unrolled {
namespace {

constexpr Index chunk = 128;         // rows of a block outside the loop
constexpr Index tile = 2048;         // elements of a kernel's temporary, so that several stay in the L1 cache
constexpr Index rows_a_thread = 4;   // fewer are not worth a thread
constexpr int most_sleeps = 4;        // of threads that share steps, before one goes on alone
constexpr int calls_alone = 100;      // that follow at first; each time twice as many
constexpr int most_calls_alone = 10000;
constexpr Index numbers_worth_threads = 100000;  // to pack
constexpr Index work_a_thread = 12000;  // multiply-adds of a step; fewer are not worth two barriers

// One section of a program and what all threads share while it runs.
template <class T>
struct Stage {
  const Call<T>& call;
  const ir::Section& section;
  std::vector<T*> packed;    // of each product
  std::vector<T*> previous;  // of each array: its rows one step earlier, where they had to be gathered
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
        Index before = t == 0 ? 0 : steps.batch + Index(steps.offsets[t - 1]);
        at_[i] = base + (before + first) * array.width;
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

// Packs the matrices of a section's products, threads sharing the panels of each.
template <class T>
void pack(Stage<T>& stage, Workspace& memory) {
  const std::ptrdiff_t section = &stage.section - stage.call.program->sections;
  if (stage.call.packed && section < ir::back_before) {
    for (void* ready : stage.call.packed->at[section]) stage.packed.push_back(static_cast<T*>(ready));
    return;
  }
  const Gemm<T>& gemm = stage.call.kernels->template of<T>().gemm;
  std::vector<const ir::Product*> products;
  Index numbers = 0;
  for (const auto& instruction : stage.section.instructions)
    if (auto* p = std::get_if<ir::Product>(&instruction)) {
      products.push_back(p);
      numbers += p->k * p->n;
      stage.packed.push_back(memory.take<T>(gemm.packed_size(p->k, p->n)));
    }
  parallel(numbers < numbers_worth_threads ? 1 : stage.call.threads, [&](int thread, int of) {
    for (std::size_t i = 0; i < products.size(); ++i) {
      const ir::Product* p = products[i];
      const Part panels = part_of(gemm.panels(p->n), thread, of);
      const T* source = stage.call.arrays[p->weight] + p->offset;
      const Packing<T> packing{p->k,   p->n, source, p->stride, stage.packed[i], panels.begin, panels.end};
      if constexpr (std::is_same_v<T, float>)
        if (stage.call.pairs) {
          const PairGemm& pairs = stage.call.kernels->pairs;
          (p->transposed ? pairs.pack_transposed : pairs.pack)(packing);
          continue;
        }
      (p->transposed ? gemm.pack_transposed : gemm.pack)(packing);
    }
  });
}

// How many of the first rows of the batch hold a share of all steps' rows.
Index rows_with(const Steps& steps, double share) {
  const double wanted = share * double(steps.rows());
  Index low = 0, high = steps.batch;
  while (low < high) {
    Index middle = (low + high) / 2;
    double found = 0;
    for (Index t = 0; t < steps.steps; ++t) found += double(std::min<Index>(middle, steps.running[t]));
    if (found < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Calls that share no steps yet, after one that could not, and how many there were of these.
std::atomic<int> rest{0}, penalty{0};

// Whether threads had better share the columns of each step than the rows of the batch.
bool by_columns(const ir::Section& section, Index batch, int threads) {
  if (threads < 2 || batch >= rows_a_thread * threads) return false;
  Index work = 0;
  for (const auto& instruction : section.instructions)
    if (auto* p = std::get_if<ir::Product>(&instruction)) work += batch * p->k * p->n;
  if (work < work_a_thread * threads) return false;
  const int left = rest.load(std::memory_order_relaxed);
  if (left > 0) rest.store(left - 1, std::memory_order_relaxed);
  return left <= 0;
}

template <class T>
void run_shared(const Stage<T>& stage, bool backwards, Workspace& memory) {
  const Steps& steps = stage.call.steps;
  const int count = stage.call.threads;
  Meeting meeting(count);
  std::vector<Worker<T>> workers;
  workers.reserve(count);
  for (int i = 0; i < count; ++i)
    workers.emplace_back(stage, steps.batch, memory, Share{i, count, &meeting}, i ? &workers[0] : nullptr);
  // Where fewer threads come than were asked for, one runs all: the bits are the same.
  Worker<T> alone(stage, steps.batch, memory);
  parallel(count, [&](int thread, int of) {
    if (of != count && thread > 0) return;
    Worker<T>* worker = of == count ? &workers[thread] : &alone;
    for (Index s = 0; s < steps.steps; ++s) {
      const Index t = backwards ? steps.steps - 1 - s : s;
      worker->step(t, 0, steps.running[t]);
      if (!meeting.over || worker == &alone) continue;
      if (thread > 0) return;
      worker = &alone;
    }
  });
  const int before = penalty.load(std::memory_order_relaxed);
  const int calls = meeting.over ? std::clamp(2 * before, calls_alone, most_calls_alone) : 0;
  penalty.store(calls, std::memory_order_relaxed);
  if (calls) rest.store(calls, std::memory_order_relaxed);
}

template <class T>
void run_loop(const Call<T>& call, ir::SectionName name, bool backwards) {
  const ir::Section& section = call.program->sections[name];
  if (section.instructions.empty()) return;
  Stage<T> stage{call, section, {}, {}};
  WorkspaceLease memory;
  memory->reset();
  pack(stage, *memory);
  const Steps& steps = call.steps;
  if (by_columns(section, steps.batch, call.threads)) return run_shared(stage, backwards, *memory);
  const int threads = int(std::clamp<Index>(steps.batch / rows_a_thread, 1, call.threads));
  std::vector<Index> borders(threads + 1);
  for (int i = 1; i < threads; ++i) borders[i] = rows_with(steps, double(i) / threads);
  borders[threads] = steps.batch;
  std::vector<Worker<T>> workers;
  for (int i = 0; i < threads; ++i) workers.emplace_back(stage, borders[i + 1] - borders[i], *memory);
  auto work = [&](int i) {
    for (Index s = 0; s < steps.steps; ++s) {
      Index t = backwards ? steps.steps - 1 - s : s;
      Index count = std::min<Index>(borders[i + 1], steps.running[t]) - borders[i];
      if (count > 0) workers[i].step(t, borders[i], count);
    }
  };
  parallel(threads, [&](int thread, int of) {
    for (int i = thread; i < threads; i += of) work(i);
  });
}

// The rows one step earlier, side by side with all rows, where that is not how they lie.
template <class T>
void gather_previous(Stage<T>& stage, Workspace& memory) {
  const Steps& steps = stage.call.steps;
  stage.previous.assign(stage.call.program->arrays.size(), nullptr);
  if (steps.equal()) return;
  for (int i : stage.section.arrays) {
    const ir::Array& array = stage.call.program->arrays[i];
    if (array.kind != ir::Kind::previous) continue;
    T* out = stage.previous[i] = memory.take<T>(steps.rows() * array.width);
    for (Index t = 0; t < steps.steps; ++t) {
      Index before = t == 0 ? 0 : steps.batch + Index(steps.offsets[t - 1]);
      std::memcpy(out + steps.offsets[t] * array.width, stage.call.arrays[i] + before * array.width,
                  std::size_t(steps.running[t] * array.width) * sizeof(T));
    }
  }
}

// The rows [begin, end) of A^T B with one-hot B: row by row, then turned into place.
template <class T>
void scatter(const Call<T>& call, const T* a, Index a_row, Index begin, Index end, Index symbols, T* out,
             Index stride, T* scratch) {
  constexpr Index side = 16;
  const Index width = end - begin;
  std::fill(scratch, scratch + symbols * width, T(0));
  for (Index r = 0; r < call.steps.rows(); ++r) {
    T* sum = scratch + call.symbols[r] * width;
    const T* row = a + r * a_row + begin;
    for (Index j = 0; j < width; ++j) sum[j] += row[j];
  }
  for (Index j = 0; j < width; j += side)
    for (Index s = 0; s < symbols; s += side)
      for (Index i = j; i < std::min(j + side, width); ++i)
        for (Index k = s; k < std::min(s + side, symbols); ++k)
          out[(begin + i) * stride + k] += scratch[k * width + i];
}

template <class T>
void gather(const Stage<T>& stage, const ir::Gather& g, int thread, int of, T* scratch) {
  const Call<T>& call = stage.call;
  const auto& table = call.kernels->template of<T>();
  auto source = [&](const ir::Ref& ref) {
    T* base = stage.previous[ref.array] ? stage.previous[ref.array] : call.arrays[ref.array];
    return base + ref.column;
  };
  // In steps of a vector, so that a column's sum does not depend on where the threads divide.
  Index blocks = (g.width + 15) / 16;
  Index begin = std::min(g.width, blocks * thread / of * 16);
  Index end = std::min(g.width, blocks * (thread + 1) / of * 16);
  if (begin == end) return;
  Index a_row = call.program->arrays[g.a.array].width;
  T* out = call.arrays[g.out.array] + g.out.column;
  if (g.b.array < 0) {
    Tile<T> t{};
    t.rows = call.steps.rows();
    t.columns = end - begin;
    t.out = out + begin;
    t.a = {source(g.a) + begin, a_row};
    table.pointwise.column_sum(t, true);
    return;
  }
  if (g.b.array == call.one_hot)
    return scatter(call, source(g.a), a_row, begin, end, g.b_width, out, g.stride, scratch);
  GradientProduct<T> p{};
  p.m = call.steps.rows();
  p.a = source(g.a);
  p.a_row = a_row;
  p.b = source(g.b);
  p.b_row = call.program->arrays[g.b.array].width;
  p.c = out;
  p.c_row = g.stride;
  p.row_begin = begin;
  p.row_end = end;
  p.column_end = g.b_width;
  p.accumulate = true;
  p.scratch = scratch;
  if constexpr (std::is_same_v<T, float>)
    if (call.pairs) return call.kernels->pairs.gradient(p);
  table.gemm.gradient(p);
}

template <class T>
void run_rows(const Call<T>& call, ir::SectionName name) {
  const ir::Section& section = call.program->sections[name];
  if (section.instructions.empty()) return;
  Stage<T> stage{call, section, {}, {}};
  WorkspaceLease memory;
  memory->reset();
  pack(stage, *memory);
  gather_previous(stage, *memory);
  const Index rows = call.steps.rows(), blocks = (rows + chunk - 1) / chunk;
  const Index gathers = std::count_if(section.instructions.begin(), section.instructions.end(), [](auto& i) {
    return std::holds_alternative<ir::Gather>(i);
  });
  const int threads = rows < 64 ? 1 : call.threads;
  if (Index(section.instructions.size()) > gathers) {
    std::vector<Worker<T>> workers;
    for (int i = 0; i < threads; ++i) workers.emplace_back(stage, std::min(chunk, rows), *memory);
    parallel(threads, [&](int thread, int of) {
      Part mine = part_of(blocks, thread, of);
      for (Index b = mine.begin; b < mine.end; ++b)
        workers[thread].block(b * chunk, std::min(chunk, rows - b * chunk));
    });
  }
  if (!gathers) return;
  Index needed = padded(call.kernels->template of<T>().gemm.gradient_scratch);
  for (const auto& instruction : section.instructions)
    if (auto* g = std::get_if<ir::Gather>(&instruction); g && g->b.array == call.one_hot)
      needed = std::max(needed, padded(g->width * g->b_width));
  T* scratch = memory->take<T>(threads * needed);
  parallel(threads, [&](int thread, int of) {
    for (const auto& instruction : section.instructions)
      if (auto* g = std::get_if<ir::Gather>(&instruction))
        gather(stage, *g, thread, of, scratch + thread * needed);
  });
}

}  // namespace

template <class T>
void pack_ahead(const Call<T>& call, PackedWeights& packed) {
  packed.pairs = call.pairs;
  for (int name = ir::before; name < ir::back_before; ++name) {
    Stage<T> stage{call, call.program->sections[name], {}, {}};
    pack(stage, packed.memory);
    packed.at[name].assign(stage.packed.begin(), stage.packed.end());
  }
}

template <class T>
void forward(const Call<T>& call) {
  run_rows(call, ir::before);
  run_loop(call, ir::loop, false);
  run_rows(call, ir::after);
}

template <class T>
void backward(const Call<T>& call) {
  run_rows(call, ir::back_before);
  run_loop(call, ir::back_loop, true);
  run_rows(call, ir::back_after);
}

template void pack_ahead(const Call<float>&, PackedWeights&);
template void pack_ahead(const Call<double>&, PackedWeights&);
template void forward(const Call<float>&);
template void forward(const Call<double>&);
template void backward(const Call<float>&);
template void backward(const Call<double>&);

}  // namespace unrolled
