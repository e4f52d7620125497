// Reductions for one instruction set: along rows, and down columns.
#include "kernels_isa.hpp"
#include "vector.hpp"

namespace unrolled::UNROLLED_ISA {
namespace {

template <class V>
UNROLLED_INLINE V add(V a, V b) {
  return a + b;
}
template <class V>
UNROLLED_INLINE V maximum(V a, V b) {
  return select<V>(a == a, max_or_second(a, b), a);
}
template <class V>
UNROLLED_INLINE V minimum(V a, V b) {
  return select<V>(a == a, min_or_second(a, b), a);
}

// Combines the lanes as a tree: each step meets the lane half as far away as the one before.
template <int Step, class V, class Combine, int... Lane>
UNROLLED_INLINE V fold_step(V v, Combine combine, std::integer_sequence<int, Lane...>) {
  return combine(v, __builtin_shufflevector(v, v, ((Lane + Step) % int(sizeof...(Lane)))...));
}
template <int Step, class V, class Combine>
UNROLLED_INLINE V fold(V v, Combine combine) {
  if constexpr (Step > 0)
    return fold<Step / 2>(
        fold_step<Step>(v, combine, std::make_integer_sequence<int, lanes_of<V>>{}), combine);
  else
    return v;
}

// Lane i holds the elements i, i + 4 lanes, ... of four running vectors, so the order depends on the
// number of columns alone. `read(j, count)` gives the vector at column j, `count` < 0 meaning whole,
// and must fill the lanes beyond count so that they change nothing.
template <class T, class Combine, class Read>
UNROLLED_INLINE T reduce_row(Index columns, T empty, Combine combine, Read read) {
  using V = Vec<T>;
  constexpr Index step = 4 * lanes<T>;
  V part[4] = {broadcast<V>(empty), broadcast<V>(empty), broadcast<V>(empty), broadcast<V>(empty)};
  Index j = 0;
  for (; j + step <= columns; j += step)
    for (int i = 0; i < 4; ++i) part[i] = combine(part[i], read(j + i * lanes<T>, Index(-1)));
  for (int i = 0; j + lanes<T> <= columns; j += lanes<T>, ++i)
    part[0] = combine(part[0], read(j, Index(-1)));
  if (j < columns) part[1] = combine(part[1], read(j, columns - j));
  V v = combine(combine(part[0], part[1]), combine(part[2], part[3]));
  return fold<lanes<T> / 2>(v, combine)[0];
}

template <class V>
UNROLLED_INLINE V read_or_zero(const ElementOf<V>* p, Index count) {
  return count < 0 ? load<V>(p) : load_first<V>(p, count);
}
// The lanes beyond count hold the first element once more.
template <class V>
UNROLLED_INLINE V read_or_first(const ElementOf<V>* p, Index count) {
  if (count < 0) return load<V>(p);
  V v = broadcast<V>(p[0]);
  for (Index i = 1; i < count; ++i) v[i] = p[i];
  return v;
}

template <class T>
void sum_rows(const Tile<T>& t) {
  for (Index r = 0; r < t.rows; ++r) {
    const T* a = t.a.data + r * t.a.row;
    t.out[r * t.out_row] = reduce_row(t.columns, T(0), add<Vec<T>>, [a](Index j, Index count) {
      return read_or_zero<Vec<T>>(a + j, count);
    });
  }
}

template <class T, auto Combine>
void extreme_rows(const Tile<T>& t, T empty) {
  for (Index r = 0; r < t.rows; ++r) {
    const T* a = t.a.data + r * t.a.row;
    t.out[r * t.out_row] = reduce_row(t.columns, empty, Combine, [a](Index j, Index count) {
      return read_or_first<Vec<T>>(a + j, count);
    });
  }
}
template <class T>
void maximum_rows(const Tile<T>& t) {
  extreme_rows<T, maximum<Vec<T>>>(t, -T(__builtin_inf()));
}
template <class T>
void minimum_rows(const Tile<T>& t) {
  extreme_rows<T, minimum<Vec<T>>>(t, T(__builtin_inf()));
}

template <class T>
void dot_rows(const Tile<T>& t) {
  using V = Vec<T>;
  for (Index r = 0; r < t.rows; ++r) {
    const T *a = t.a.data + r * t.a.row, *b = t.b.data + r * t.b.row;
    t.out[r * t.out_row] = reduce_row(t.columns, T(0), add<V>, [a, b](Index j, Index count) {
      return read_or_zero<V>(a + j, count) * read_or_zero<V>(b + j, count);
    });
  }
}

template <class T>
void square_error_rows(const Tile<T>& t) {
  using V = Vec<T>;
  for (Index r = 0; r < t.rows; ++r) {
    const T* a = t.a.data + r * t.a.row;
    V b = broadcast<V>(t.b.data[r * t.b.row]);
    t.out[r * t.out_row] = reduce_row(t.columns, T(0), add<V>, [a, b](Index j, Index count) {
      V d = read_or_zero<V>(a + j, count) - b;
      // The lanes beyond count hold 0 - b: take them out.
      if (count >= 0)
        for (Index i = count; i < lanes<T>; ++i) d[i] = 0;
      return d * d;
    });
  }
}

// ---------------------------------------------------------------- columns

// Rows are added up in blocks of 16, and the blocks to the total: short chains keep long sums exact,
// and 16 rows are few enough streams for the prefetchers.
constexpr Index block_rows = 16;

template <class T, bool Dot>
void column_total(const Tile<T>& t, bool accumulate) {
  using V = Vec<T>;
  if (!accumulate)
    for (Index j = 0; j < t.columns; ++j) t.out[j] = 0;
  for (Index begin = 0; begin < t.rows; begin += block_rows) {
    Index end = begin + block_rows < t.rows ? begin + block_rows : t.rows;
    for (Index j = 0; j < t.columns; j += lanes<T>) {
      bool whole = j + lanes<T> <= t.columns;
      Index count = whole ? -1 : t.columns - j;
      V sum{};
      for (Index r = begin; r < end; ++r) {
        V v = read_or_zero<V>(t.a.data + r * t.a.row + j, count);
        if constexpr (Dot) sum = fma(v, read_or_zero<V>(t.b.data + r * t.b.row + j, count), sum);
        else sum = sum + v;
      }
      sum = sum + read_or_zero<V>(t.out + j, count);
      if (whole) store(t.out + j, sum);
      else store_first(t.out + j, sum, count);
    }
  }
}

}  // namespace

template <class T>
void fill_reductions(Pointwise<T>& table) {
  table.reduce = {sum_rows<T>, maximum_rows<T>, minimum_rows<T>};
  table.dot = dot_rows<T>;
  table.square_error = square_error_rows<T>;
  table.column_sum = column_total<T, false>;
  table.column_dot = column_total<T, true>;
}

template void fill_reductions(Pointwise<float>&);
template void fill_reductions(Pointwise<double>&);

}  // namespace unrolled::UNROLLED_ISA
