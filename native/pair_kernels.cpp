// Products in bfloat16 for one instruction set: the tiles and blocks of float, on words of two steps each.
#include "gemm_blocks.hpp"

namespace unrolled::UNROLLED_ISA {
namespace {

using Word = std::uint32_t;

// A float rounded to bfloat16, in the upper half.
UNROLLED_INLINE Word rounded(float x) {
  const Word bits = __builtin_bit_cast(Word, x);
  const Word nearest = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
  return (bits & 0x7fffffff) > 0x7f800000 ? bits | 0x400000u : nearest;  // NaN stays NaN
}
UNROLLED_INLINE float word(float first, float second) {
  return __builtin_bit_cast(float, rounded(first) >> 16 | (rounded(second) & 0xffff0000u));
}

void round(const float* a, Index a_row, Index rows, Index k, float* out) {
  const Index words = PairGemm::words(k);
  for (Index r = 0; r < rows; ++r, a += a_row, out += words) {
    Index j = 0;
#if defined(__AVX512BF16__)
    for (; j + 16 <= k / 2; j += 16)
      _mm512_storeu_ps(out + j, (__m512)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(a + 2 * j + 16),
                                                            _mm512_loadu_ps(a + 2 * j)));
#endif
    for (; j < k / 2; ++j) out[j] = word(a[2 * j], a[2 * j + 1]);
    if (k % 2) out[k / 2] = word(a[k - 1], 0);
  }
}

void pack_transposed(const Packing<float>& p) {
  constexpr Index width = panel_width<float>, strip = 16;
  const Index words = PairGemm::words(p.k);
  for (Index panel = p.panel_begin; panel < p.panel_end; ++panel) {
    const Index first = panel * width, count = least(p.columns - first, width);
    float* out = p.packed + first * words;
    for (Index begin = 0; begin < words; begin += strip) {
      const Index end = least(begin + strip, words);
      for (Index j = 0; j < count; ++j) {
        const float* row = p.source + (first + j) * p.source_row;
        for (Index k = begin; k < end; ++k)
          out[k * width + j] = word(row[2 * k], 2 * k + 1 < p.k ? row[2 * k + 1] : 0.f);
      }
      for (Index j = count; j < width; ++j)
        for (Index k = begin; k < end; ++k) out[k * width + j] = 0;
    }
  }
}

// [words][Width] of `columns` columns, zeros beyond; two rows of the source make one of words.
template <int Width>
void pack_rows(const float* source, Index row, Index m, Index columns, float* packed) {
  for (Index i = 0; i < m; i += 2, source += 2 * row, packed += Width) {
    const bool pair = i + 1 < m;
    if (pair && columns >= Width) {
      for (Index j = 0; j < Width; ++j) packed[j] = word(source[j], source[row + j]);
    } else {
      for (Index j = 0; j < Width; ++j)
        packed[j] = j < columns ? word(source[j], pair ? source[row + j] : 0.f) : 0.f;
    }
  }
}
void pack(const Packing<float>& p) {
  constexpr Index width = panel_width<float>;
  for (Index panel = p.panel_begin; panel < p.panel_end; ++panel) {
    const Index first = panel * width;
    pack_rows<width>(p.source + first, p.source_row, p.k, p.columns - first,
                     p.packed + first * PairGemm::words(p.k));
  }
}

using PackRows = void (*)(const float*, Index, Index, Index, float*);
template <int... Row>
PackRows pack_rows_from(std::integer_sequence<int, Row...>, int width) {
  static constexpr PackRows entry[] = {pack_rows<Row + 1>...};
  return entry[width - 1];
}

struct Pairs {
  static constexpr Index strip = 16;  // rows at a time: what one strip leaves of a line the next finds
  static constexpr Index length(Index m) { return PairGemm::words(m); }
  static void rows(const float* a, Index a_row, Index m, const Cut& cut, float* packed) {
    for (Index begin = 0; begin < m; begin += strip)
      for (Index i = 0; i < cut.parts; ++i) {
        const int width = cut.size(i);
        pack_rows_from(std::make_integer_sequence<int, most_rows>{}, width)(
            a + begin * a_row + cut.begin(i), a_row, least(strip, m - begin), width,
            packed + cut.begin(i) * length(m) + begin / 2 * width);
      }
  }
  static void columns(const float* b, Index b_row, Index m, Index columns, float* packed) {
    constexpr Index width = panel_width<float>;
    for (Index begin = 0; begin < m; begin += strip)
      for (Index j = 0; j < columns; j += width)
        pack_rows<width>(b + begin * b_row + j, b_row, least(strip, m - begin), columns - j,
                         packed + j * length(m) + begin / 2 * width);
  }
};

}  // namespace

void fill_pairs(PairGemm& table) {
  table = {round, pack, pack_transposed, multiply<float, MultiplyAddPairs>,
           gradient<float, MultiplyAddPairs, Pairs>};
}

}  // namespace unrolled::UNROLLED_ISA
