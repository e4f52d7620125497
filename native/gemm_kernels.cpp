// Matrix products for one instruction set.
#include "gemm_blocks.hpp"

namespace unrolled::UNROLLED_ISA {
namespace {

// [m][Width] of the first Width columns of a matrix.
template <class T, int Width>
void pack_strip(const T* source, Index row, Index m, T* packed) {
  for (Index i = 0; i < m; ++i)
    __builtin_memcpy(packed + i * Width, source + i * row, Width * sizeof(T));
}
template <class T>
using PackStrip = void (*)(const T*, Index, Index, T*);
template <class T, int... Row>
PackStrip<T> pack_strip_from(std::integer_sequence<int, Row...>, int width) {
  static constexpr PackStrip<T> entry[] = {pack_strip<T, Row + 1>...};
  return entry[width - 1];
}
template <class T>
PackStrip<T> pack_strip_of(int width) {
  return pack_strip_from<T>(std::make_integer_sequence<int, most_rows>{}, width);
}

// Both are packed a few rows at a time, all strips of those rows: what one strip leaves of a cache line
// the next one finds.
constexpr Index strip_rows = 16;

template <class T>
void pack_gradient_rows(const T* a, Index a_row, Index m, const Cut& cut, T* packed) {
  for (Index begin = 0; begin < m; begin += strip_rows)
    for (Index i = 0; i < cut.parts; ++i)
      pack_strip_of<T>(cut.size(i))(a + begin * a_row + cut.begin(i), a_row, least(strip_rows, m - begin),
                                    packed + cut.begin(i) * m + begin * cut.size(i));
}

template <class T>
void pack_gradient_columns(const T* b, Index b_row, Index m, Index columns, T* packed) {
  constexpr Index width = panel_width<T>;
  for (Index begin = 0; begin < m; begin += strip_rows)
    for (Index j = 0; j < columns; j += width) {
      const T* from = b + begin * b_row + j;
      T* to = packed + j * m + begin * width;
      Index rows = least(strip_rows, m - begin), rest = columns - j;
      if (rest >= width) {
        pack_strip<T, width>(from, b_row, rows, to);
        continue;
      }
      for (Index i = 0; i < rows; ++i)
        for (Index c = 0; c < width; ++c) to[i * width + c] = c < rest ? from[i * b_row + c] : T(0);
    }
}

template <class T>
struct Plain {
  static constexpr Index length(Index m) { return m; }
  static void rows(const T* a, Index a_row, Index m, const Cut& cut, T* packed) {
    pack_gradient_rows(a, a_row, m, cut, packed);
  }
  static void columns(const T* b, Index b_row, Index m, Index columns, T* packed) {
    pack_gradient_columns(b, b_row, m, columns, packed);
  }
};

}  // namespace

template <class T>
void fill_gemm(Gemm<T>& table) {
  table.panel = panel_width<T>;
  table.multiply = multiply<T, MultiplyAdd>;
  table.gradient = gradient<T, MultiplyAdd, Plain<T>>;
  table.gradient_scratch = (gradient_columns<T> + gradient_rows) * m_block<T>;
  fill_packing(table);
}

template void fill_gemm(Gemm<float>&);
template void fill_gemm(Gemm<double>&);

}  // namespace unrolled::UNROLLED_ISA
