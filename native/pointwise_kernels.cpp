// The table of element-wise operations for one instruction set.
#include "kernels_isa.hpp"
#include "math_wide.hpp"

namespace unrolled::UNROLLED_ISA {
namespace {

// Each operation is the value of one vector of elements from the operands' vectors.
#define UNROLLED_OPERATION(name, parameters, value)           \
  struct name {                                               \
    template <class V>                                        \
    UNROLLED_INLINE static V apply parameters {               \
      using T [[maybe_unused]] = ElementOf<V>;                \
      return value;                                           \
    }                                                         \
  };
#define UNROLLED_UNARY(name, value) UNROLLED_OPERATION(name, (V a, V, V), value)
#define UNROLLED_BINARY(name, value) UNROLLED_OPERATION(name, (V a, V b, V), value)
#define UNROLLED_TERNARY(name, value) UNROLLED_OPERATION(name, (V a, V b, V c), value)

template <class V>
UNROLLED_INLINE V one_where(IntsOf<V> mask) {
  return (V)((BitsOf<V>)mask & bits(broadcast<V>(1)));
}

// Rounding by adding and taking away 2^mantissa, for numbers that have a fraction; the sign is kept.
template <class V>
UNROLLED_INLINE V round_even(V a) {
  V big = broadcast<V>(ElementOf<V>(1ull << Format<ElementOf<V>>::mantissa));
  V size = abs(a);
  return select<V>(size < big, copy_sign((size + big) - big, a), a);
}
template <class V>
UNROLLED_INLINE V floor_of(V a) {
  V r = round_even(a);
  return select<V>(r > a, r - 1, r);
}
template <class V>
UNROLLED_INLINE V trunc_of(V a) {
  V size = abs(a), r = round_even(size);
  return select<V>(a == a, copy_sign(select<V>(r > size, r - 1, r), a), a);
}

UNROLLED_UNARY(Copy, a)
UNROLLED_UNARY(Negative, -a)
UNROLLED_UNARY(Absolute, abs(a))
UNROLLED_UNARY(Exp, exp(a))
UNROLLED_UNARY(Expm1, expm1(a))
UNROLLED_UNARY(Log, log(a))
UNROLLED_UNARY(Log1p, log1p(a))
UNROLLED_UNARY(Sqrt, sqrt(a))
UNROLLED_UNARY(Rsqrt, rsqrt(a))
UNROLLED_UNARY(Reciprocal, 1 / a)
UNROLLED_UNARY(Sigmoid, sigmoid(a))
UNROLLED_UNARY(Tanh, tanh(a))
UNROLLED_UNARY(Relu, max_or_second(V{}, a))
UNROLLED_UNARY(Erf, erf(a))
UNROLLED_UNARY(Softplus, softplus(a))
UNROLLED_UNARY(Sin, sin(a))
UNROLLED_UNARY(Cos, cos(a))
UNROLLED_UNARY(Sign, one_where<V>(a > 0) - one_where<V>(a < 0))
UNROLLED_UNARY(Floor, floor_of(a))
UNROLLED_UNARY(Ceil, -floor_of(-a))
UNROLLED_UNARY(Round, round_even(a))
UNROLLED_UNARY(Trunc, trunc_of(a))
UNROLLED_UNARY(Square, a * a)

UNROLLED_BINARY(Add, a + b)
UNROLLED_BINARY(Subtract, a - b)
UNROLLED_BINARY(Multiply, a * b)
UNROLLED_BINARY(Divide, a / b)
UNROLLED_BINARY(Minimum, select<V>(a == a, min_or_second(a, b), a))
UNROLLED_BINARY(Maximum, select<V>(a == a, max_or_second(a, b), a))
UNROLLED_BINARY(RaisedTo, pow(a, b))
UNROLLED_BINARY(Fmod, fmod(a, b))
UNROLLED_BINARY(Atan2, atan2(a, b))
UNROLLED_BINARY(Equal, one_where<V>(a == b))
UNROLLED_BINARY(NotEqual, one_where<V>(a != b))
UNROLLED_BINARY(Less, one_where<V>(a < b))
UNROLLED_BINARY(LessEqual, one_where<V>(a <= b))
UNROLLED_BINARY(Greater, one_where<V>(a > b))
UNROLLED_BINARY(GreaterEqual, one_where<V>(a >= b))
UNROLLED_BINARY(SigmoidGradient, a * b * (1 - b))
UNROLLED_BINARY(TanhGradient, a * fma(-b, b, broadcast<V>(1)))

UNROLLED_TERNARY(Where, select<V>(a != 0, b, c))
UNROLLED_TERNARY(MultiplyAdd, fma(a, b, c))
UNROLLED_TERNARY(MultiplySubtract, fma(-a, b, c))
UNROLLED_TERNARY(MultiplyMultiply, a * b * c)
UNROLLED_TERNARY(Lerp, fma(c, b - a, a))

// ---------------------------------------------------------------- the loop over a tile

template <class V, bool Number>
UNROLLED_INLINE V operand(const ElementOf<V>* p, V number, Index j) {
  if constexpr (Number) return number;
  else return load<V>(p + j);
}
template <class V, bool Number>
UNROLLED_INLINE V operand_first(const ElementOf<V>* p, V number, Index j, Index count) {
  if constexpr (Number) return number;
  else return load_first<V>(p + j, count);
}

template <class T, class Operation, int Arity, int Mask>
void run(const Tile<T>& tile) {
  using V = Vec<T>;
  constexpr bool number_a = Mask & 1, number_b = Mask & 2 || Arity < 2, number_c = Mask & 4 || Arity < 3;
  for (Index r = 0; r < tile.rows; ++r) {
    T* out = tile.out + r * tile.out_row;
    const T* a = tile.a.data + r * tile.a.row;
    const T* b = tile.b.data + r * tile.b.row;
    const T* c = tile.c.data + r * tile.c.row;
    V x{}, y{}, z{};
    if constexpr (Mask & 1) x = broadcast<V>(*a);
    if constexpr (Mask & 2) y = broadcast<V>(*b);
    if constexpr (Mask & 4) z = broadcast<V>(*c);
    Index j = 0;
    for (; j + lanes<T> <= tile.columns; j += lanes<T>)
      store(out + j, Operation::apply(operand<V, number_a>(a, x, j), operand<V, number_b>(b, y, j),
                                      operand<V, number_c>(c, z, j)));
    if (Index count = tile.columns - j; count > 0)
      store_first(out + j,
                  Operation::apply(operand_first<V, number_a>(a, x, j, count),
                                   operand_first<V, number_b>(b, y, j, count),
                                   operand_first<V, number_c>(c, z, j, count)),
                  count);
  }
}

template <class T, class... Operations>
void fill_unary(Pointwise<T>& table) {
  table.unary = {{{run<T, Operations, 1, 0>, run<T, Operations, 1, 1>}...}};
}
template <class T, class... Operations>
void fill_binary(Pointwise<T>& table) {
  table.binary = {{{run<T, Operations, 2, 0>, run<T, Operations, 2, 1>, run<T, Operations, 2, 2>,
                    run<T, Operations, 2, 3>}...}};
}
template <class T, class... Operations>
void fill_ternary(Pointwise<T>& table) {
  table.ternary = {{{run<T, Operations, 3, 0>, run<T, Operations, 3, 1>, run<T, Operations, 3, 2>,
                     run<T, Operations, 3, 3>, run<T, Operations, 3, 4>, run<T, Operations, 3, 5>,
                     run<T, Operations, 3, 6>, run<T, Operations, 3, 7>}...}};
}

}  // namespace

// In the order of the enumerations.
template <class T>
void fill_pointwise(Pointwise<T>& table) {
  fill_unary<T, Copy, Negative, Absolute, Exp, Expm1, Log, Log1p, Sqrt, Rsqrt, Reciprocal, Sigmoid,
             Tanh, Relu, Erf, Softplus, Sin, Cos, Sign, Floor, Ceil, Round, Trunc, Square>(table);
  fill_binary<T, Add, Subtract, Multiply, Divide, Minimum, Maximum, RaisedTo, Fmod, Atan2, Equal, NotEqual,
              Less, LessEqual, Greater, GreaterEqual, SigmoidGradient, TanhGradient>(table);
  fill_ternary<T, Where, MultiplyAdd, MultiplySubtract, MultiplyMultiply, Lerp>(table);
}

template void fill_pointwise(Pointwise<float>&);
template void fill_pointwise(Pointwise<double>&);

}  // namespace unrolled::UNROLLED_ISA
