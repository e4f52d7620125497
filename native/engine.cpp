#include "engine.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "worker.hpp"

namespace unrolled {
namespace {

constexpr Index chunk = 128;         // rows of a block outside the loop
constexpr Index rows_a_thread = 4;   // fewer are not worth a thread
constexpr int calls_alone = 100;      // that follow at first; each time twice as many
constexpr int most_calls_alone = 10000;
constexpr Index numbers_worth_threads = 100000;  // to pack
constexpr Index work_a_thread = 12000;  // multiply-adds of a step; fewer are not worth two barriers

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

// Earlier rows, side by side with all rows, where that is not how they lie.
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
      std::memcpy(out + steps.offsets[t] * array.width,
                  stage.call.arrays[i] + steps.before(t, array.lag) * array.width,
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
