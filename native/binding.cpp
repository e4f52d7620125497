// The engine as Python sees it: programs, and passes over memory that Python holds, by address.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include "chain.hpp"
#include "random.hpp"

namespace nb = nanobind;
using namespace unrolled;

namespace {

using Integers = std::vector<std::int64_t>;
using Addresses = std::vector<std::uintptr_t>;

const Kernels* kernels() {
  const char* error = nullptr;
  const Kernels* found = default_kernels(&error);
  if (!found) throw std::invalid_argument(error);
  return found;
}

class Engine {
 public:
  const Pass& pass() const { return pass_; }

  Engine(const Integers& code, const std::vector<double>& numbers, const std::vector<std::vector<int>>& roles,
         bool wide)
      : pass_(ir::read_program(code, numbers), read_roles(roles), wide, kernels()) {}

  std::unique_ptr<Block> forward(Index steps, Index batch, std::uintptr_t offsets, std::uintptr_t running,
                                 const Addresses& at, int threads, bool pairs) const {
    return forward_with(nullptr, 0, steps, batch, offsets, running, at, threads, pairs);
  }

  // With weights packed ahead; what is saved goes to an address, unless that is 0.
  std::unique_ptr<Block> forward_with(const PackedWeights* packed, std::uintptr_t into, Index steps, Index batch,
                                      std::uintptr_t offsets, std::uintptr_t running, const Addresses& at,
                                      int threads, bool pairs) const {
    const Roles& roles = pass_.roles();
    Reader reader{at};
    ForwardMemory memory{reader.next(roles.inputs.size()), reader.next(roles.states.size()),
                         reader.next(roles.constants.size()), reader.next(roles.results.size()),
                         reader.next(roles.states.size())};
    reader.end();
    nb::gil_scoped_release released;
    return pass_.forward(all(steps, batch, offsets, running), memory, threads, pairs, packed,
                         reinterpret_cast<void*>(into));
  }

  std::unique_ptr<PackedWeights> pack(const Addresses& constants, bool pairs) const {
    if (constants.size() != pass_.roles().constants.size()) throw std::invalid_argument("constants are missing");
    nb::gil_scoped_release released;
    return pass_.pack(constants.data(), pairs);
  }

  // How much a forward pass saves: see Pass::saved().
  std::tuple<Index, Index, Index> saved() const {
    const Pass::Saved found = pass_.saved();
    return {found.rows, found.batch, found.arrays};
  }

  void backward(std::uintptr_t saved, Index steps, Index batch, std::uintptr_t offsets, std::uintptr_t running,
                const Addresses& at, int threads, bool pairs) const {
    const Roles& roles = pass_.roles();
    Reader reader{at};
    BackwardMemory memory{reader.next(roles.inputs.size()),  reader.next(roles.constants.size()),
                          reader.next(roles.results.size()), reader.next(roles.results.size()),
                          reader.next(roles.states.size()),  reader.next(roles.inputs.size()),
                          reader.next(roles.states.size()),  reader.next(roles.constants.size())};
    reader.end();
    nb::gil_scoped_release released;
    pass_.backward(all(steps, batch, offsets, running), reinterpret_cast<const void*>(saved), memory,
                   threads, pairs);
  }

 private:
  struct Reader {
    const Addresses& at;
    std::size_t place = 0;
    const std::uintptr_t* next(std::size_t count) {
      if (place + count > at.size()) throw std::invalid_argument("too few addresses");
      return at.data() + std::exchange(place, place + count);
    }
    void end() const {
      if (place != at.size()) throw std::invalid_argument("too many addresses");
    }
  };

  static Roles read_roles(const std::vector<std::vector<int>>& lists) {
    if (lists.size() != 7 || lists[1].size() % 4) throw std::invalid_argument("these are no roles");
    Roles roles{lists[0], {}, lists[2], lists[3], lists[4], lists[5], lists[6]};
    for (std::size_t k = 0; k < lists[1].size(); k += 4)
      roles.states.push_back({lists[1][k], lists[1][k + 1], lists[1][k + 2], lists[1][k + 3]});
    return roles;
  }

  static Steps all(Index steps, Index batch, std::uintptr_t offsets, std::uintptr_t running) {
    return {steps, batch, reinterpret_cast<const std::int64_t*>(offsets),
            reinterpret_cast<const std::int64_t*>(running)};
  }

  Pass pass_;
};

Chain make_chain(const std::tuple<Index, Index, Index>& symbols, const std::vector<const Engine*>& engines,
                 const std::vector<std::vector<Index>>& constants, Index weights) {
  if (engines.size() != constants.size()) throw std::invalid_argument("constants of every link are needed");
  std::vector<Link> links;
  for (std::size_t k = 0; k < engines.size(); ++k) links.push_back({&engines[k]->pass(), constants[k]});
  auto [count, width, table] = symbols;
  return Chain({count, width, table}, std::move(links), weights);
}

std::tuple<double, double> chain_gradients(const Chain& chain, Index steps, Index batch, std::uintptr_t inputs,
                                           std::uintptr_t targets, const Addresses& initial,
                                           const Addresses& last, double factor, std::uintptr_t weights,
                                           std::uintptr_t gradients, double clip_value, double clip_norm,
                                           int threads) {
  nb::gil_scoped_release released;
  const ChainBatch all{steps,
                       batch,
                       reinterpret_cast<const std::int64_t*>(inputs),
                       reinterpret_cast<const std::int64_t*>(targets),
                       initial.data(),
                       last.data(),
                       factor};
  const Gradients found = chain.gradients(all, weights, gradients, {clip_value, clip_norm}, threads);
  return {found.loss, found.norm};
}

void chain_update(const Chain& chain, int kind, const std::vector<double>& numbers, std::uintptr_t weights,
                  std::uintptr_t gradients, std::uintptr_t first, std::uintptr_t second, int threads) {
  if (kind < 0 || kind >= int(Optimizer::count) || numbers.size() != 7)
    throw std::invalid_argument("this is no rule");
  const double* n = numbers.data();
  const Rule rule{Optimizer(kind), n[0], n[1], n[2], n[3], n[4], n[5], n[6]};
  nb::gil_scoped_release released;
  chain.update(rule, weights, gradients, first, second, threads);
}

void draw_kept(const std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t>& stream, Index steps,
               Index rows, Index width, std::uint32_t threshold, std::uintptr_t out, int threads) {
  const auto [seed, row, layer, step] = stream;
  nb::gil_scoped_release released;
  keep({seed, row, layer, step}, steps, rows, width, threshold, reinterpret_cast<float*>(out), threads);
}

// A block is a buffer of bytes to Python.
int block_buffer(PyObject* self, Py_buffer* view, int flags) {
  const Block* block = nb::inst_ptr<Block>(self);
  return PyBuffer_FillInfo(view, self, block->data(), Py_ssize_t(block->size()), 0, flags);
}

PyType_Slot block_slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(block_buffer)}, {0, nullptr}};

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "The native engine.";
  // Engines live in a cache until Python ends; that is no leak.
  nb::set_leak_warnings(false);
  nb::class_<Block>(m, "Block", nb::type_slots(block_slots));
  nb::class_<PackedWeights>(m, "PackedWeights");
  nb::class_<Engine>(m, "Engine")
      .def(nb::init<const Integers&, const std::vector<double>&, const std::vector<std::vector<int>>&, bool>())
      .def("forward", &Engine::forward)
      .def("forward_with", &Engine::forward_with, nb::arg("packed").none(), nb::arg("into"), nb::arg("steps"),
           nb::arg("batch"), nb::arg("offsets"), nb::arg("running"), nb::arg("at"), nb::arg("threads"),
           nb::arg("pairs"))
      .def("pack", &Engine::pack)
      .def("saved", &Engine::saved)
      .def("backward", &Engine::backward);
  nb::class_<Chain>(m, "Chain").def("gradients", &chain_gradients).def("update", &chain_update);
  // The engines must live as long as the chain.
  m.def("chain", &make_chain, nb::keep_alive<0, 2>());
  m.def("keep", &draw_kept);
  m.def("instruction_set", [] { return std::string(kernels()->name); });
}
