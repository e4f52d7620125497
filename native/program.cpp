#include "program.hpp"

#include <algorithm>
#include <stdexcept>

namespace unrolled::ir {
namespace {

class Reader {
 public:
  Reader(const std::vector<std::int64_t>& code, Program& program) : code_(code), program_(program) {}

  Index next() {
    if (place_ >= code_.size()) throw std::invalid_argument("the program ends too early");
    return static_cast<Index>(code_[place_++]);
  }
  int below(Index limit) {
    Index value = next();
    if (value < 0 || value >= limit) throw std::invalid_argument("the program names what is not there");
    return static_cast<int>(value);
  }
  bool done() const { return place_ == code_.size(); }

  int array() {
    int index = below(static_cast<Index>(program_.arrays.size()));
    seen_.push_back(index);
    return index;
  }
  Ref ref(Index width) {
    Ref found{array(), next()};
    const Array& array = program_.arrays[found.array];
    if (found.column < 0 || found.column + width > array.width)
      throw std::invalid_argument("the program leaves an array");
    return found;
  }
  Ref maybe_ref(Index width) {
    if (code_.at(place_) < 0) {
      place_ += 2;
      return {};
    }
    return ref(width);
  }

  Kernel kernel() {
    Kernel kernel{next(), below(1 << 16), {}};
    Index count = next();
    for (Index i = 0; i < count; ++i) {
      Op op{};
      op.arity = static_cast<Arity>(below(3));
      const int codes[] = {int(Unary::count), int(Binary::count), int(Ternary::count)};
      op.code = below(codes[int(op.arity)]);
      op.to_temp = below(2);
      op.out = op.to_temp ? Ref{below(kernel.temps), next()} : ref(kernel.width);
      for (int k = 0; k <= int(op.arity); ++k) op.inputs[k] = source(kernel);
      kernel.ops.push_back(op);
    }
    return kernel;
  }

  Source source(const Kernel& kernel) {
    auto form = static_cast<Source::Form>(below(4));
    if (form == Source::temp) return {form, below(kernel.temps), next()};
    if (form == Source::number) return {form, below(Index(program_.numbers.size())), next()};
    Ref found = ref(form == Source::spread ? 1 : kernel.width);
    return {form, found.array, found.column};
  }

  Section section() {
    Section section;
    seen_.clear();
    Index count = next();
    for (Index i = 0; i < count; ++i) section.instructions.push_back(instruction(section));
    std::sort(seen_.begin(), seen_.end());
    seen_.erase(std::unique(seen_.begin(), seen_.end()), seen_.end());
    section.arrays = seen_;
    return section;
  }

  Instruction instruction(Section& section) {
    switch (below(4)) {
      case 0:
        return kernel();
      case 1: {
        Product p{};
        p.k = next();
        p.n = next();
        p.out = ref(p.n);
        p.a = ref(p.k);
        p.weight = array();
        p.offset = next();
        p.stride = next();
        p.transposed = below(2);
        p.bias = maybe_ref(p.n);
        p.place = section.products++;
        return p;
      }
      case 2: {
        Reduce r{};
        r.op = static_cast<Reduction>(below(int(Reduction::count)));
        r.width = next();
        r.out = ref(1);
        r.a = ref(r.width);
        return r;
      }
      default: {
        Gather g{};
        g.width = next();
        g.b_width = next();
        g.out = ref(0);
        g.stride = next();
        g.a = ref(g.width);
        g.b = maybe_ref(g.b_width);
        return g;
      }
    }
  }

 private:
  const std::vector<std::int64_t>& code_;
  Program& program_;
  std::size_t place_ = 0;
  std::vector<int> seen_;
};

}  // namespace

Program read_program(const std::vector<std::int64_t>& code, const std::vector<double>& numbers) {
  Program program;
  program.numbers = numbers;
  Reader reader(code, program);
  Index arrays = reader.next();
  for (Index i = 0; i < arrays; ++i) {
    Array array{static_cast<Kind>(reader.below(5)), reader.next(), int(reader.next()), reader.next()};
    if (array.kind == Kind::previous && (array.of < 0 || array.of >= arrays || array.lag < 1))
      throw std::invalid_argument("an array is earlier rows of nothing");
    program.arrays.push_back(array);
  }
  for (Section& section : program.sections) section = reader.section();
  if (!reader.done()) throw std::invalid_argument("the program goes on after its end");
  return program;
}

}  // namespace unrolled::ir
