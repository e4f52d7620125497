// The engine as Python sees it: programs, and calls with addresses of memory that Python holds.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "engine.hpp"
#include "workspace.hpp"

namespace nb = nanobind;
using namespace unrolled;

namespace {

template <class T, class Run>
void call(const ir::Program& program, const Kernels& kernels, const Steps& steps,
          const std::vector<std::uintptr_t>& arrays, int threads, Run run) {
  if (arrays.size() != program.arrays.size()) throw std::invalid_argument("one address an array is needed");
  std::vector<T*> pointers(arrays.size());
  for (std::size_t i = 0; i < arrays.size(); ++i) pointers[i] = reinterpret_cast<T*>(arrays[i]);
  nb::gil_scoped_release released;
  run(Call<T>{&program, &kernels, steps, pointers.data(), threads});
}

class Engine {
 public:
  Engine(const std::vector<std::int64_t>& code, const std::vector<double>& numbers, bool wide)
      : program_(ir::read_program(code, numbers)), wide_(wide) {
    const char* error = nullptr;
    kernels_ = default_kernels(&error);
    if (!kernels_) throw std::invalid_argument(error);
  }

  void run(bool backwards, Index steps, Index batch, std::uintptr_t offsets, std::uintptr_t running,
           const std::vector<std::uintptr_t>& arrays, int threads) const {
    Steps all{steps, batch, reinterpret_cast<const std::int64_t*>(offsets),
              reinterpret_cast<const std::int64_t*>(running)};
    auto go = [&](const auto& call) { backwards ? backward(call) : forward(call); };
    if (wide_) call<double>(program_, *kernels_, all, arrays, threads, go);
    else call<float>(program_, *kernels_, all, arrays, threads, go);
  }

 private:
  ir::Program program_;
  const Kernels* kernels_;
  bool wide_;
};

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "The native engine.";
  // Engines live in a cache until Python ends; that is no leak.
  nb::set_leak_warnings(false);
  nb::class_<Block>(m, "Block")
      .def(nb::init<std::size_t>(), nb::arg("bytes"))
      .def_prop_ro("address", [](const Block& block) { return reinterpret_cast<std::uintptr_t>(block.data()); });
  nb::class_<Engine>(m, "Engine")
      .def(nb::init<const std::vector<std::int64_t>&, const std::vector<double>&, bool>(), nb::arg("code"),
           nb::arg("numbers"), nb::arg("wide"))
      .def("run", &Engine::run, nb::arg("backwards"), nb::arg("steps"), nb::arg("batch"), nb::arg("offsets"),
           nb::arg("running"), nb::arg("arrays"), nb::arg("threads"));
  m.def("instruction_set", [] {
    const char* error = nullptr;
    const Kernels* kernels = default_kernels(&error);
    if (!kernels) throw std::invalid_argument(error);
    return std::string(kernels->name);
  });
}
