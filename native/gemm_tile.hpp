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
constexpr int most_panels = 6;
constexpr int panels_at_once(int rows) {
  int n = (vector_registers == 32 ? 12 : 6) / rows;
  return n < 1 ? 1 : n > most_panels ? most_panels : n;
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
  Index columns;   // of c; those past Panels * panel_width are left alone
  bool add_after;  // c = c + (the sum from zero), once at the end
  // What the next panel's product will read, fetched meanwhile, as much of it as this tile reads of b.
  const T* ahead;  // or null
};

template <class T>
using TileFunctionOf = void (*)(const TileCall<T>&);

// The running sums of a tile, `Rows` times `Vectors` registers.
template <class T, int Rows, int Vectors>
struct Sums {
  using V = Vec<T>;
  V at[Rows][Vectors];

  template <class Function>
  UNROLLED_INLINE void each(Function function) {
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 16
      for (int v = 0; v < Vectors; ++v) function(r, v, at[r][v]);
  }

  UNROLLED_INLINE void begin(const T* start, Index row) {
    each([&](int r, int v, V& sum) UNROLLED_INLINE_LAMBDA {
      sum = load<V>(start + r * row + v * lanes<T>);
    });
  }
  UNROLLED_INLINE void end(T* c, Index row, bool add) {
    if (add)
      each([&](int r, int v, V& sum) UNROLLED_INLINE_LAMBDA {
        sum = load<V>(c + r * row + v * lanes<T>) + sum;
      });
    each([&](int r, int v, V& sum) UNROLLED_INLINE_LAMBDA { store(c + r * row + v * lanes<T>, sum); });
  }
};

// Where a tile reaches past the last column it works on a copy of its piece of C, zeros beyond.
template <class T, int Rows, int Vectors>
struct Edge {
  Vec<T> copy[Rows][Vectors];

  UNROLLED_INLINE T* data() { return reinterpret_cast<T*>(copy); }
  void read(const T* from, Index row, Index columns) {
#pragma GCC unroll 1
    for (int r = 0; r < Rows; ++r, from += row)
#pragma GCC unroll 1
      for (int v = 0; v < Vectors; ++v) {
        Index rest = columns - v * lanes<T>;
        copy[r][v] = rest >= lanes<T> ? load<Vec<T>>(from + v * lanes<T>)
                     : rest > 0       ? load_first<Vec<T>>(from + v * lanes<T>, rest)
                                      : Vec<T>{};
      }
  }
  void write(T* to, Index row, Index columns) const {
#pragma GCC unroll 1
    for (int r = 0; r < Rows; ++r, to += row)
#pragma GCC unroll 1
      for (int v = 0; v < Vectors; ++v) {
        Index rest = columns - v * lanes<T>;
        if (rest >= lanes<T>) store(to + v * lanes<T>, copy[r][v]);
        else if (rest > 0) store_first(to + v * lanes<T>, copy[r][v], rest);
      }
  }
};

// What a tile does with an element of A and a vector of B.
struct MultiplyAdd {
  template <class V>
  UNROLLED_INLINE V operator()(V a, V b, V sum) const {
    return fma(a, b, sum);
  }
};
// The same where both hold pairs of bfloat16s, one a step of k.
struct MultiplyAddPairs {
  template <class V>
  UNROLLED_INLINE V operator()(V a, V b, V sum) const {
    return fma_pairs(a, b, sum);
  }
};

template <class T, int Rows, int Panels, bool Packed, class Step>
void tile(const TileCall<T>& t) {
  using V = Vec<T>;
  constexpr int vectors = 2 * Panels;
  constexpr int columns = vectors * lanes<T>;
  bool whole = t.columns >= columns;
  Edge<T, Rows, vectors> edge;
  Sums<T, Rows, vectors> sum{};
  if (t.start && whole) {
    sum.begin(t.start, t.start_row);
  } else if (t.start) {
    edge.read(t.start, t.start_row, t.columns);
    sum.begin(edge.data(), columns);
  }

  const T *a = t.a, *b = t.b;
  auto steps = [&](Index begin, Index end, auto fetch) UNROLLED_INLINE_LAMBDA {
    for (Index k = begin; k < end; ++k) {
      V right[vectors];
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v)
        right[v] = load<V>(b + (v / 2) * t.b_panel + (v % 2) * lanes<T>);
      fetch(k);
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) {
        V left = broadcast<V>(Packed ? a[r] : a[r * t.a_row]);
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) sum.at[r][v] = Step{}(left, right[v], sum.at[r][v]);
      }
      a += Packed ? Rows : 1;
      b += panel_width<T>;
    }
  };
  if (t.ahead) {
    const char* ahead = reinterpret_cast<const char*>(t.ahead);
    steps(0, t.k, [&](Index k) UNROLLED_INLINE_LAMBDA {
      for (Index byte = 0; byte < Index(panel_width<T> * sizeof(T)); byte += 64)
        __builtin_prefetch(ahead + k * panel_width<T> * sizeof(T) + byte);
    });
  } else {
    steps(0, t.k, [](Index) UNROLLED_INLINE_LAMBDA {});
  }

  if (whole) {
    sum.end(t.c, t.c_row, t.add_after);
  } else {
    if (t.add_after) edge.read(t.c, t.c_row, t.columns);
    sum.end(edge.data(), columns, t.add_after);
    edge.write(t.c, t.c_row, t.columns);
  }
}

// The tile for a number of rows, 1 to most_rows, and of panels, 1 to panels_at_once(rows).
template <class T, class Step, int Rows, int... Panel>
TileFunctionOf<T> tile_of_panels(int panels, std::integer_sequence<int, Panel...>) {
  static constexpr TileFunctionOf<T> entry[] = {tile<T, Rows, Panel + 1, false, Step>...};
  return entry[panels - 1];
}
template <class T, class Step, int... Row>
TileFunctionOf<T> tile_of_rows(int rows, int panels, std::integer_sequence<int, Row...>) {
  using Choose = TileFunctionOf<T> (*)(int);
  static constexpr Choose entry[] = {[](int n) {
    return tile_of_panels<T, Step, Row + 1>(n,
                                            std::make_integer_sequence<int, panels_at_once(Row + 1)>{});
  }...};
  return entry[rows - 1](panels);
}
template <class T, class Step>
TileFunctionOf<T> tile_function(int rows, int panels) {
  return tile_of_rows<T, Step>(rows, panels, std::make_integer_sequence<int, most_rows>{});
}

// The same for packed A, one panel.
template <class T, class Step, int... Row>
TileFunctionOf<T> packed_tile_of(int rows, std::integer_sequence<int, Row...>) {
  static constexpr TileFunctionOf<T> entry[] = {tile<T, Row + 1, 1, true, Step>...};
  return entry[rows - 1];
}
template <class T, class Step>
TileFunctionOf<T> packed_tile_function(int rows) {
  return packed_tile_of<T, Step>(rows, std::make_integer_sequence<int, most_rows>{});
}

}  // namespace unrolled::UNROLLED_ISA
