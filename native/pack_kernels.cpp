// Packing of right-hand sides into panels.
#include "gemm_tile.hpp"
#include "kernels_isa.hpp"

namespace unrolled::UNROLLED_ISA {
namespace {

// Panel: [k][panel_width], zeros in the columns beyond the last.
template <class T>
void pack(const Packing<T>& p) {
  constexpr Index width = panel_width<T>;
  for (Index panel = p.panel_begin; panel < p.panel_end; ++panel) {
    Index first = panel * width, count = p.columns - first < width ? p.columns - first : width;
    const T* row = p.source + first;
    T* out = p.packed + first * p.k;
    for (Index k = 0; k < p.k; ++k, row += p.source_row, out += width) {
      if (count == width) {
        for (Index j = 0; j < width; ++j) out[j] = row[j];
      } else {
        for (Index j = 0; j < width; ++j) out[j] = j < count ? row[j] : T(0);
      }
    }
  }
}

// Swaps the off-diagonal halves of each 2S x 2S block of two rows S apart.
template <int S, class V, int... Lane>
UNROLLED_INLINE void swap_halves(V& a, V& b, std::integer_sequence<int, Lane...>) {
  constexpr int n = sizeof...(Lane);
  const V x = a, y = b;
  a = __builtin_shufflevector(x, y, ((Lane & S) ? n + Lane - S : Lane)...);
  b = __builtin_shufflevector(x, y, ((Lane & S) ? n + Lane : Lane + S)...);
}

// Transposes a square of vectors: halves first, then quarters, down to single lanes.
template <int S, class V, int N>
UNROLLED_INLINE void transpose(V (&rows)[N]) {
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i)
    if (!(i & S)) swap_halves<S>(rows[i], rows[i + S], std::make_integer_sequence<int, N>{});
  if constexpr (S > 1) transpose<S / 2>(rows);
}

// The same from (N, K): each panel transposes `width` rows, a square of vectors at a time.
template <class T>
void pack_transposed(const Packing<T>& p) {
  constexpr Index width = panel_width<T>;
  constexpr int side = lanes<T>;
  for (Index panel = p.panel_begin; panel < p.panel_end; ++panel) {
    const Index first = panel * width, count = p.columns - first < width ? p.columns - first : width;
    T* out = p.packed + first * p.k;
    const T* source = p.source + first * p.source_row;
    auto one_by_one = [&](Index row, Index rows, Index begin, Index end) {
      for (Index j = row; j < rows; ++j)
        for (Index k = begin; k < end; ++k) out[k * width + j] = j < count ? source[j * p.source_row + k] : T(0);
    };
    for (Index begin = 0; begin < p.k; begin += side) {
      const Index end = begin + side < p.k ? begin + side : p.k;
      for (Index row = 0; row < width; row += side) {
        if (end - begin < side || row + side > count) {
          one_by_one(row, row + side, begin, end);
          continue;
        }
        Vec<T> square[side];
#pragma GCC unroll 16
        for (int i = 0; i < side; ++i) square[i] = load<Vec<T>>(source + (row + i) * p.source_row + begin);
        transpose<side / 2>(square);
#pragma GCC unroll 16
        for (int i = 0; i < side; ++i) store(out + (begin + i) * width + row, square[i]);
      }
    }
  }
}

}  // namespace

template <class T>
void fill_packing(Gemm<T>& table) {
  table.pack = pack<T>;
  table.pack_transposed = pack_transposed<T>;
}

template void fill_packing(Gemm<float>&);
template void fill_packing(Gemm<double>&);

}  // namespace unrolled::UNROLLED_ISA
