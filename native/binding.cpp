// The engine as Python sees it: programs, and passes over memory that Python holds, by address.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include "pass.hpp"

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
  Engine(const Integers& code, const std::vector<double>& numbers, const std::vector<std::vector<int>>& roles,
         bool wide)
      : pass_(ir::read_program(code, numbers), read_roles(roles), wide, kernels()) {}

  std::unique_ptr<Block> forward(Index steps, Index batch, std::uintptr_t offsets, std::uintptr_t running,
                                 std::uintptr_t last, const Addresses& at, int threads) const {
    const Roles& roles = pass_.roles();
    Reader reader{at};
    ForwardMemory memory{reader.next(roles.inputs.size()), reader.next(roles.states.size()),
                         reader.next(roles.constants.size()), reader.next(roles.results.size()),
                         reader.next(roles.states.size())};
    reader.end();
    nb::gil_scoped_release released;
    return pass_.forward(all(steps, batch, offsets, running), reinterpret_cast<const std::int64_t*>(last),
                         memory, threads);
  }

  void backward(const Block& saved, Index steps, Index batch, std::uintptr_t offsets, std::uintptr_t running,
                const Addresses& at, int threads) const {
    const Roles& roles = pass_.roles();
    Reader reader{at};
    BackwardMemory memory{reader.next(roles.inputs.size()),  reader.next(roles.constants.size()),
                          reader.next(roles.results.size()), reader.next(roles.results.size()),
                          reader.next(roles.states.size()),  reader.next(roles.inputs.size()),
                          reader.next(roles.states.size()),  reader.next(roles.constants.size())};
    reader.end();
    nb::gil_scoped_release released;
    pass_.backward(all(steps, batch, offsets, running), saved, memory, threads);
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

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "The native engine.";
  // Engines live in a cache until Python ends; that is no leak.
  nb::set_leak_warnings(false);
  nb::class_<Block>(m, "Block");
  nb::class_<Engine>(m, "Engine")
      .def(nb::init<const Integers&, const std::vector<double>&, const std::vector<std::vector<int>>&, bool>())
      .def("forward", &Engine::forward)
      .def("backward", &Engine::backward);
  m.def("instruction_set", [] { return std::string(kernels()->name); });
}
