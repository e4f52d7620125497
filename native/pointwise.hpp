// Element-wise operations on tiles of rows, reductions along rows and along columns.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace unrolled {

using Index = std::ptrdiff_t;

enum class Unary : int {
  copy, negative, absolute, exp, expm1, log, log1p, sqrt, rsqrt, reciprocal, sigmoid, tanh, relu, erf,
  softplus, sin, cos, sign, floor, ceil, round, trunc, square, count
};

// Comparisons give 0 or 1; minimum and maximum hand NaN on, as in torch.
enum class Binary : int {
  add, subtract, multiply, divide, minimum, maximum, power, fmod, atan2, equal, not_equal, less,
  less_equal, greater, greater_equal,
  sigmoid_gradient,  // a * b * (1 - b): a the gradient, b the sigmoid's result
  tanh_gradient,     // a * (1 - b * b)
  count
};

enum class Ternary : int {
  where,              // a != 0 ? b : c
  multiply_add,       // a * b + c
  multiply_subtract,  // c - a * b
  multiply_multiply,  // a * b * c
  lerp,               // a + c * (b - a)
  count
};

enum class Reduction : int { sum, maximum, minimum, count };

// One operand: element (r, j) stands at data[r * row + j]. row = 0 repeats one row for all, and an
// operand whose bit is set in the mask of the call is one number a row, data[r * row].
template <class T>
struct Operand {
  const T* data = nullptr;
  Index row = 0;
};

// A tile of rows x columns; out may be an operand (the same address and row), not overlap one.
template <class T>
struct Tile {
  Index rows, columns;
  T* out;
  Index out_row;
  Operand<T> a, b, c;
};

template <class T>
using TileFunction = void (*)(const Tile<T>&);

template <class T>
struct Pointwise {
  // [operation][mask]; bit 0 of the mask: a is one number a row, bit 1: b is, bit 2: c is.
  std::array<std::array<TileFunction<T>, 2>, int(Unary::count)> unary;
  std::array<std::array<TileFunction<T>, 4>, int(Binary::count)> binary;
  std::array<std::array<TileFunction<T>, 8>, int(Ternary::count)> ternary;

  // Of each row, into out[r * out_row]: one order of summation for a given number of columns.
  std::array<TileFunction<T>, int(Reduction::count)> reduce;
  TileFunction<T> dot;           // sum of a * b
  TileFunction<T> square_error;  // sum of (a - b)^2, b one number a row

  // out[j] = sum over rows of a, or of a * b; added to out[j] where accumulate. One order of summation
  // for a given number of rows, whatever the columns are.
  void (*column_sum)(const Tile<T>&, bool accumulate);
  void (*column_dot)(const Tile<T>&, bool accumulate);
};

}  // namespace unrolled
