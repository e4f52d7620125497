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

// The same from (N, K): each panel transposes `width` rows, 16 steps of k at a time, so that both the
// rows read and the part of the panel written stay in the first-level cache.
template <class T>
void pack_transposed(const Packing<T>& p) {
  constexpr Index width = panel_width<T>, strip = 16;
  for (Index panel = p.panel_begin; panel < p.panel_end; ++panel) {
    Index first = panel * width, count = p.columns - first < width ? p.columns - first : width;
    T* out = p.packed + first * p.k;
    for (Index begin = 0; begin < p.k; begin += strip) {
      Index end = begin + strip < p.k ? begin + strip : p.k;
      for (Index j = 0; j < count; ++j) {
        const T* row = p.source + (first + j) * p.source_row;
        for (Index k = begin; k < end; ++k) out[k * width + j] = row[k];
      }
      for (Index j = count; j < width; ++j)
        for (Index k = begin; k < end; ++k) out[k * width + j] = 0;
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
