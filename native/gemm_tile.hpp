// The innermost product: a few rows of A times one or more packed panels of B, sums in registers.
#pragma once

#include "vector.hpp"

namespace unrolled::UNROLLED_ISA {

// A panel is two vectors wide. With 16 registers 6 rows make 12 running sums, and 4 registers remain
// for B and A; with 32 registers 12 rows.
template <class T>
constexpr Index panel_width = 2 * lanes<T>;
constexpr int most_rows = vector_registers == 32 ? 12 : 6;

// Panels taken together when there are few rows, so that enough sums are under way to hide the latency
// of an FMA (two a cycle, four cycles each).
constexpr int panels_at_once(int rows) {
  int sums = vector_registers == 32 ? 24 : 12;
  int n = sums / (2 * rows);
  return n >= 4 ? 4 : n >= 2 ? 2 : 1;
}

template <class T>
struct TileCall {
  Index k;
  const T* a;
  Index a_row;  // unused where A is packed: element (r, k) then stands at a[k * Rows + r]
  const T* b;
  Index b_panel;  // from a panel to the next
  const T* start;  // null for zero
  Index start_row;
  T* c;
  Index c_row;
  Index columns;   // of c, at most Panels * panel_width
  bool add_after;  // c = c + (the sum from zero), once at the end
};

template <class T>
using TileFunctionOf = void (*)(const TileCall<T>&);

// The columns j.. of a row as a vector, zeros beyond `columns`.
template <class T>
UNROLLED_INLINE Vec<T> load_edge(const T* row, Index j, Index columns) {
  if (j + lanes<T> <= columns) return load<Vec<T>>(row + j);
  return j < columns ? load_first<Vec<T>>(row + j, columns - j) : Vec<T>{};
}
template <class T>
UNROLLED_INLINE void store_edge(T* row, Index j, Index columns, Vec<T> v) {
  if (j + lanes<T> <= columns) store(row + j, v);
  else if (j < columns) store_first(row + j, v, columns - j);
}

template <class T, int Rows, int Panels, bool Packed>
void tile(const TileCall<T>& t) {
  using V = Vec<T>;
  constexpr int vectors = 2 * Panels;
  V sum[Rows][vectors];
  if (t.start) {
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v)
        sum[r][v] = load_edge(t.start + r * t.start_row, v * lanes<T>, t.columns);
  } else {
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) sum[r][v] = V{};
  }

  const T *a = t.a, *b = t.b;
  for (Index k = 0; k < t.k; ++k) {
    V right[vectors];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v)
      right[v] = load<V>(b + (v / 2) * t.b_panel + (v % 2) * lanes<T>);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      V left = broadcast<V>(Packed ? a[r] : a[r * t.a_row]);
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) sum[r][v] = fma(left, right[v], sum[r][v]);
    }
    a += Packed ? Rows : 1;
    b += panel_width<T>;
  }

#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    T* row = t.c + r * t.c_row;
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) {
      Index j = v * lanes<T>;
      if (t.add_after) sum[r][v] = load_edge(row, j, t.columns) + sum[r][v];
      store_edge(row, j, t.columns, sum[r][v]);
    }
  }
}

// tile_function<T, Packed>(rows, panels) for 1 <= rows <= most_rows and panels 1, 2 or 4, where
// panels <= panels_at_once(rows).
template <class T, bool Packed, int Rows, int Panels>
constexpr TileFunctionOf<T> tile_or_null() {
  if constexpr (Panels <= panels_at_once(Rows) && (Panels == 1 || !Packed))
    return tile<T, Rows, Panels, Packed>;
  else return nullptr;
}

template <class T, bool Packed, int... Row>
struct TileTable {
  static constexpr TileFunctionOf<T> entry[][3] = {
      {tile_or_null<T, Packed, Row + 1, 1>(), tile_or_null<T, Packed, Row + 1, 2>(),
       tile_or_null<T, Packed, Row + 1, 4>()}...};
};
template <class T, bool Packed, int... Row>
TileFunctionOf<T> tile_from(std::integer_sequence<int, Row...>, int rows, int panels) {
  return TileTable<T, Packed, Row...>::entry[rows - 1][panels / 2];
}
template <class T, bool Packed>
TileFunctionOf<T> tile_function(int rows, int panels) {
  return tile_from<T, Packed>(std::make_integer_sequence<int, most_rows>{}, rows, panels);
}

}  // namespace unrolled::UNROLLED_ISA
