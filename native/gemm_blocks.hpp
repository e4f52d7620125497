// Blocking around the tiles of gemm_tile.hpp: products, and the products of weight gradients.
#pragma once

#include "gemm_tile.hpp"
#include "kernels_isa.hpp"

namespace unrolled::UNROLLED_ISA {

constexpr Index least(Index a, Index b) { return a < b ? a : b; }

// The second-level cache (512 KB on the processor measured) keeps a block of A of row_tiles tiles x k_block,
// the first-level one most of a panel of k_block rows (32 KB) while the rows of A pass by.
template <class T>
constexpr Index k_block = 32768 / (panel_width<T> * sizeof(T));
constexpr Index row_tiles = 128 / most_rows;

// n things cut into parts of at most `most`, as equal as can be, so that no small part is left over.
struct Cut {
  Index parts, base, extra;
  Cut(Index n, Index most) : parts((n + most - 1) / most), base(n / parts), extra(n % parts) {}
  Index begin(Index i) const { return i * base + least(i, extra); }
  int size(Index i) const { return int(base + (i < extra)); }
};

template <class T>
TileCall<T> call_at(const Product<T>& p, Index row, Index panel, Index k_begin, Index k_end) {
  Index j = panel * panel_width<T>;
  const T* start = p.start ? p.start + row * p.start_row + j : nullptr;
  Index start_row = p.start_row;
  T* c = p.c + row * p.c_row + j;
  if (k_begin > 0) start = c, start_row = p.c_row;  // the chain goes on
  return {.k = k_end - k_begin,
          .a = p.a + row * p.a_row + k_begin,
          .a_row = p.a_row,
          .b = p.packed + panel * panel_width<T> * p.k + k_begin * panel_width<T>,
          .b_panel = panel_width<T> * p.k,
          .start = start,
          .start_row = start_row,
          .c = c,
          .c_row = p.c_row,
          .columns = p.columns - j,
          .add_after = false,
          .ahead = nullptr};
}

// One tile high: every panel is read once, so there is nothing to block.
template <class T, class Step>
void multiply_flat(const Product<T>& p) {
  int rows = int(p.rows);
  Cut cut(p.panel_end - p.panel_begin, panels_at_once(rows));
  for (Index i = 0; i < cut.parts; ++i)
    tile_function<T, Step>(rows, cut.size(i))(call_at(p, 0, p.panel_begin + cut.begin(i), 0, p.k));
}

// A is read where it lies: packing it as well was measured, and costs more than it brings.
template <class T, class Step>
void multiply_block(const Product<T>& p, const Cut& cut, Index tile_begin, Index tile_end,
                    Index k_begin, Index k_end) {
  for (Index panel = p.panel_begin; panel < p.panel_end; ++panel)
    for (Index i = tile_begin; i < tile_end; ++i) {
      TileCall<T> call = call_at(p, cut.begin(i), panel, k_begin, k_end);
      // The first tile of a panel fetches the next panel while it computes.
      if (i == tile_begin && panel + 1 < p.panel_end) call.ahead = call.b + call.b_panel;
      tile_function<T, Step>(cut.size(i), 1)(call);
    }
}

template <class T, class Step>
void multiply(const Product<T>& p) {
  if (p.rows <= 0 || p.panel_begin >= p.panel_end) return;
  if (p.rows <= most_rows) return multiply_flat<T, Step>(p);
  Cut cut(p.rows, most_rows);
  Index k_begin = 0;
  do {  // at least once: with k = 0 the result is the start
    Index k_end = least(k_begin + k_block<T>, p.k);
    for (Index i = 0; i < cut.parts; i += row_tiles)
      multiply_block<T, Step>(p, cut, i, least(i + row_tiles, cut.parts), k_begin, k_end);
    k_begin = k_end;
  } while (k_begin < p.k);
}

// ---------------------------------------------------------------- gradients

// Blocks of m_block rows of A and B; of A gradient_rows columns at a time, of B gradient_columns.
template <class T>
constexpr Index m_block = 16384 / (panel_width<T> * sizeof(T));
constexpr Index gradient_rows = 192;
template <class T>
constexpr Index gradient_columns = 16 * panel_width<T>;

// How A and B are packed: Pack::rows and Pack::columns; of m rows come Pack::length(m) steps of the sum.
template <class T, class Step, class Pack>
void gradient_block(const GradientProduct<T>& p, Index m_begin, Index m, Index column_begin,
                    Index column_end) {
  constexpr Index width = panel_width<T>;
  T* packed_b = p.scratch;
  T* packed_a = p.scratch + gradient_columns<T> * m_block<T>;
  Pack::columns(p.b + m_begin * p.b_row + column_begin, p.b_row, m, column_end - column_begin, packed_b);
  const Index length = Pack::length(m);
  for (Index row = p.row_begin; row < p.row_end; row += gradient_rows) {
    Cut cut(least(gradient_rows, p.row_end - row), most_rows);
    Pack::rows(p.a + m_begin * p.a_row + row, p.a_row, m, cut, packed_a);
    for (Index j = column_begin; j < column_end; j += width)
      for (Index i = 0; i < cut.parts; ++i)
        packed_tile_function<T, Step>(cut.size(i))(
            {.k = length,
             .a = packed_a + cut.begin(i) * length,
             .a_row = 0,
             .b = packed_b + (j - column_begin) * length,
             .b_panel = 0,
             .start = nullptr,
             .start_row = 0,
             .c = p.c + (row + cut.begin(i)) * p.c_row + j,
             .c_row = p.c_row,
             .columns = column_end - j,
             .add_after = m_begin > 0 || p.accumulate,
             .ahead = nullptr});
  }
}

template <class T, class Step, class Pack>
void gradient(const GradientProduct<T>& p) {
  if (p.row_begin >= p.row_end || p.column_begin >= p.column_end) return;
  Index m_begin = 0;
  do {  // at least once, to clear the result of an empty sum
    Index m = least(m_block<T>, p.m - m_begin);
    for (Index j = p.column_begin; j < p.column_end; j += gradient_columns<T>)
      gradient_block<T, Step, Pack>(p, m_begin, m, j, least(j + gradient_columns<T>, p.column_end));
    m_begin += m;
  } while (m_begin < p.m);
}

}  // namespace unrolled::UNROLLED_ISA
