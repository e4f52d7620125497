// Matrix products for one instruction set: blocking around the tiles of gemm_tile.hpp.
#include "gemm_tile.hpp"
#include "kernels_isa.hpp"

namespace unrolled::UNROLLED_ISA {
namespace {

constexpr Index least(Index a, Index b) { return a < b ? a : b; }

// A panel of k_block rows (16 KB) stays in the first-level cache while the rows of A pass by; a block
// of A, row_tiles tiles high, stays in the second.
template <class T>
constexpr Index k_block = 16384 / (panel_width<T> * sizeof(T));
constexpr Index row_tiles = 192 / most_rows;

// `rows` cut into tiles as equal as can be, so that no tile is left with one row.
struct RowCut {
  Index tiles, base, extra;
  explicit RowCut(Index rows)
      : tiles((rows + most_rows - 1) / most_rows), base(rows / tiles), extra(rows % tiles) {}
  Index begin(Index i) const { return i * base + least(i, extra); }
  int rows(Index i) const { return int(base + (i < extra)); }
};

// The rows [0, rows) of A for k steps as [k][rows].
template <class T>
void pack_rows(const T* a, Index a_row, int rows, Index k, T* packed) {
  for (Index i = 0; i < k; ++i)
    for (int r = 0; r < rows; ++r) packed[i * rows + r] = a[r * a_row + i];
}

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
          .add_after = false};
}

// One tile high: every panel is read once, so there is nothing to block.
template <class T>
void multiply_flat(const Product<T>& p) {
  int rows = int(p.rows);
  Index panel = p.panel_begin;
  for (int together = panels_at_once(rows); together > 0; together /= 2) {
    auto tile = tile_function<T, false>(rows, together);
    for (; panel + together <= p.panel_end; panel += together) {
      TileCall<T> call = call_at(p, 0, panel, 0, p.k);
      call.columns = least(call.columns, together * panel_width<T>);
      tile(call);
    }
  }
}

template <class T, bool Packed>
void multiply_block(const Product<T>& p, const RowCut& cut, Index tile_begin, Index tile_end,
                    Index k_begin, Index k_end) {
  Index k = k_end - k_begin, first_row = cut.begin(tile_begin);
  if constexpr (Packed)
    for (Index i = tile_begin; i < tile_end; ++i)
      pack_rows(p.a + cut.begin(i) * p.a_row + k_begin, p.a_row, cut.rows(i), k,
                p.scratch + (cut.begin(i) - first_row) * k);
  for (Index panel = p.panel_begin; panel < p.panel_end; ++panel)
    for (Index i = tile_begin; i < tile_end; ++i) {
      TileCall<T> call = call_at(p, cut.begin(i), panel, k_begin, k_end);
      call.columns = least(call.columns, panel_width<T>);
      if constexpr (Packed) call.a = p.scratch + (cut.begin(i) - first_row) * k;
      tile_function<T, Packed>(cut.rows(i), 1)(call);
    }
}

template <class T>
void multiply(const Product<T>& p) {
  if (p.rows <= 0 || p.panel_begin >= p.panel_end) return;
  if (p.rows <= most_rows) return multiply_flat(p);
  RowCut cut(p.rows);
  // Copying A pays only where each of its numbers is used often.
  bool packed = p.scratch && cut.tiles > 8 && p.panel_end - p.panel_begin > 8;
  Index k_begin = 0;
  do {  // at least once: with k = 0 the result is the start
    Index k_end = least(k_begin + k_block<T>, p.k);
    for (Index i = 0; i < cut.tiles; i += row_tiles) {
      Index end = least(i + row_tiles, cut.tiles);
      if (packed) multiply_block<T, true>(p, cut, i, end, k_begin, k_end);
      else multiply_block<T, false>(p, cut, i, end, k_begin, k_end);
    }
    k_begin = k_end;
  } while (k_begin < p.k);
}

// ---------------------------------------------------------------- gradients

// Blocks of m_block rows of A and B; of A gradient_rows columns at a time, of B gradient_columns.
template <class T>
constexpr Index m_block = k_block<T>;
constexpr Index gradient_rows = row_tiles * most_rows;
template <class T>
constexpr Index gradient_columns = 16 * panel_width<T>;

// [m][width] of the columns [0, columns) of a matrix, zeros beyond.
template <class T>
void pack_columns(const T* source, Index row, Index m, Index columns, Index width, T* packed) {
  for (Index i = 0; i < m; ++i, source += row, packed += width) {
    Index j = 0;
    for (; j < columns; ++j) packed[j] = source[j];
    for (; j < width; ++j) packed[j] = 0;
  }
}

template <class T>
void gradient_block(const GradientProduct<T>& p, Index m_begin, Index m, Index row_begin,
                    Index row_end, Index column_begin, Index column_end) {
  constexpr Index width = panel_width<T>;
  T* packed_b = p.scratch;
  T* packed_a = p.scratch + gradient_columns<T> * m_block<T>;
  for (Index j = column_begin; j < column_end; j += width)
    pack_columns(p.b + m_begin * p.b_row + j, p.b_row, m, least(width, column_end - j), width,
                 packed_b + (j - column_begin) * m);
  for (Index row = row_begin; row < row_end; row += gradient_rows) {
    RowCut cut(least(gradient_rows, row_end - row));
    for (Index i = 0; i < cut.tiles; ++i)
      pack_columns(p.a + m_begin * p.a_row + row + cut.begin(i), p.a_row, m, cut.rows(i),
                   cut.rows(i), packed_a + cut.begin(i) * m);
    for (Index j = column_begin; j < column_end; j += width)
      for (Index i = 0; i < cut.tiles; ++i)
        tile_function<T, true>(cut.rows(i), 1)(
            {.k = m,
             .a = packed_a + cut.begin(i) * m,
             .a_row = 0,
             .b = packed_b + (j - column_begin) * m,
             .b_panel = 0,
             .start = nullptr,
             .start_row = 0,
             .c = p.c + (row + cut.begin(i)) * p.c_row + j,
             .c_row = p.c_row,
             .columns = least(width, column_end - j),
             .add_after = m_begin > 0 || p.accumulate});
  }
}

template <class T>
void gradient(const GradientProduct<T>& p) {
  if (p.row_begin >= p.row_end || p.column_begin >= p.column_end) return;
  Index m_begin = 0;
  do {  // at least once, to clear the result of an empty sum
    Index m = least(m_block<T>, p.m - m_begin);
    for (Index j = p.column_begin; j < p.column_end; j += gradient_columns<T>)
      gradient_block(p, m_begin, m, p.row_begin, p.row_end, j,
                     least(j + gradient_columns<T>, p.column_end));
    m_begin += m;
  } while (m_begin < p.m);
}

}  // namespace

template <class T>
void fill_gemm(Gemm<T>& table) {
  table.panel = panel_width<T>;
  table.multiply = multiply<T>;
  table.scratch = row_tiles * most_rows * k_block<T>;
  table.gradient = gradient<T>;
  table.gradient_scratch = (gradient_columns<T> + gradient_rows) * m_block<T>;
  fill_packing(table);
}

template void fill_gemm(Gemm<float>&);
template void fill_gemm(Gemm<double>&);

}  // namespace unrolled::UNROLLED_ISA
