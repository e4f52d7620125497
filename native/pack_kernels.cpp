// Packing of right-hand sides into panels, and conversions to and from bfloat16.
#include "gemm_tile.hpp"
#include "kernels_isa.hpp"

namespace unrolled::UNROLLED_ISA {
namespace {

// All loops are written so that the compiler vectorises them: 32 bits of a bfloat16 are its 16 shifted.
template <class T>
UNROLLED_INLINE T value(T x) {
  return x;
}
template <class T>
UNROLLED_INLINE T value(Bfloat16 x) {
  return T(__builtin_bit_cast(float, std::uint32_t(x) << 16));
}

// Panel: [k][panel_width], zeros in the columns beyond the last.
template <class T, class Source>
void pack(const Packing<T, Source>& p) {
  constexpr Index width = panel_width<T>;
  for (Index panel = p.panel_begin; panel < p.panel_end; ++panel) {
    Index first = panel * width, count = p.columns - first < width ? p.columns - first : width;
    const Source* row = p.source + first;
    T* out = p.packed + first * p.k;
    for (Index k = 0; k < p.k; ++k, row += p.source_row, out += width) {
      if (count == width) {
        for (Index j = 0; j < width; ++j) out[j] = value<T>(row[j]);
      } else {
        for (Index j = 0; j < width; ++j) out[j] = j < count ? value<T>(row[j]) : T(0);
      }
    }
  }
}

// The same from (N, K): each panel transposes `width` rows, 16 steps of k at a time, so that both the
// rows read and the part of the panel written stay in the first-level cache.
template <class T, class Source>
void pack_transposed(const Packing<T, Source>& p) {
  constexpr Index width = panel_width<T>, strip = 16;
  for (Index panel = p.panel_begin; panel < p.panel_end; ++panel) {
    Index first = panel * width, count = p.columns - first < width ? p.columns - first : width;
    T* out = p.packed + first * p.k;
    for (Index begin = 0; begin < p.k; begin += strip) {
      Index end = begin + strip < p.k ? begin + strip : p.k;
      for (Index j = 0; j < count; ++j) {
        const Source* row = p.source + (first + j) * p.source_row;
        for (Index k = begin; k < end; ++k) out[k * width + j] = value<T>(row[k]);
      }
      for (Index j = count; j < width; ++j)
        for (Index k = begin; k < end; ++k) out[k * width + j] = 0;
    }
  }
}

void to_bfloat16(Bfloat16* out, const float* in, Index n) {
  for (Index i = 0; i < n; ++i) {
    auto x = __builtin_bit_cast(std::uint32_t, in[i]);
    std::uint32_t rounded = (x + 0x7fff + (x >> 16 & 1)) >> 16;
    bool nan = (x & 0x7fffffff) > 0x7f800000;
    out[i] = Bfloat16(nan ? 0x7fc0 : rounded);
  }
}

void from_bfloat16(float* out, const Bfloat16* in, Index n) {
  for (Index i = 0; i < n; ++i) out[i] = value<float>(in[i]);
}

}  // namespace

template <class T>
void fill_packing(Gemm<T>& table) {
  table.pack = pack<T, T>;
  table.pack_transposed = pack_transposed<T, T>;
  table.pack_bfloat16 = pack<T, Bfloat16>;
  table.pack_transposed_bfloat16 = pack_transposed<T, Bfloat16>;
}

template void fill_packing(Gemm<float>&);
template void fill_packing(Gemm<double>&);

void fill_conversions(Conversions& table) { table = {to_bfloat16, from_bfloat16}; }

}  // namespace unrolled::UNROLLED_ISA
