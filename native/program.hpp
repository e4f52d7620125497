// What the compiler hands to the engine: arrays, and per section the instructions to run on a block of
// rows. The same structure as engine/program.py, read from a flat list of integers.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "pointwise.hpp"

namespace unrolled::ir {

// Where rows of an array lie. rows: one for each row and step; batch: one for each row of the batch;
// scratch: one for each row of the block at hand; once: the same for all rows; previous: the rows of
// another array `lag` steps earlier, before the first step the initial ones.
enum class Kind : int { rows, batch, scratch, once, previous };

struct Array {
  Kind kind;
  Index width;
  int of = -1;    // previous: of which array
  Index lag = 1;  // previous: by how many steps
};

struct Ref {
  int array = -1;
  Index column = 0;
};

struct Source {
  enum Form : int { temp, array, spread, number } form;
  int index;     // of the temporary, the array, or the number
  Index column;  // of an array
};

enum class Arity : int { unary, binary, ternary };

struct Op {
  Arity arity;
  int code;  // Unary, Binary or Ternary
  bool to_temp;
  Ref out;   // array = number of the temporary if to_temp
  Source inputs[3];
};

struct Kernel {
  Index width;
  int temps;
  std::vector<Op> ops;
};

struct Product {
  Ref out, a;
  int weight;
  Index offset, stride;
  bool transposed;
  Index k, n;
  Ref bias;   // array = -1: none
  int place;  // which of the packed weights
};

struct Reduce {
  Reduction op;
  Ref out, a;
  Index width;
};

struct Gather {
  Ref out;
  Index stride;
  Ref a;
  Index width;
  Ref b;  // array = -1: none
  Index b_width;
};

using Instruction = std::variant<Kernel, Product, Reduce, Gather>;

struct Section {
  std::vector<Instruction> instructions;
  std::vector<int> arrays;  // all that the instructions name
  int products = 0;
};

enum SectionName : int { before, loop, after, back_before, back_loop, back_after, sections };

struct Program {
  std::vector<Array> arrays;
  std::vector<double> numbers;
  Section sections[SectionName::sections];
};

// Reads a program; throws std::invalid_argument if the list is not one.
Program read_program(const std::vector<std::int64_t>& code, const std::vector<double>& numbers);

}  // namespace unrolled::ir
