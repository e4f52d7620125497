// Matrix products with a packed right-hand side, and the products of weight gradients.
//
// Letters: M rows of the result, N its columns, K the summed dimension, all matrices row-major with a
// stride between rows. Every element of a result is one chain of multiply-adds over k = 0, 1, ...,
// whatever M, the split over threads and the blocking are: a row alone has the bits it has in a batch.
#pragma once

#include <cstddef>
#include <cstdint>

namespace unrolled {

using Index = std::ptrdiff_t;

// C = start + A B. B is packed in panels of `Gemm::panel` columns; the product computes the panels
// [panel_begin, panel_end), that is all of them for [0, panels(columns)).
template <class T>
struct Product {
  Index rows, k, columns;
  const T* a;
  Index a_row;
  const T* packed;
  // Null for zero; a bias is a start with start_row = 0; start = c adds to what is there.
  const T* start;
  Index start_row;
  T* c;
  Index c_row;
  Index panel_begin, panel_end;
};

// C (N, K) = A^T B, or C += A^T B, with A (M, N) and B (M, K): the rows [row_begin, row_end) and columns
// [column_begin, column_end) of C. Sums over M are cut into blocks of a fixed length, added in order.
template <class T>
struct GradientProduct {
  Index m;
  const T* a;
  Index a_row;
  const T* b;
  Index b_row;
  T* c;
  Index c_row;
  Index row_begin, row_end, column_begin, column_end;
  bool accumulate;
  T* scratch;  // `Gemm::gradient_scratch` numbers for this call alone
};

// What to pack: rows of B (K, N), or of its transpose (N, K) as torch's Linear keeps weights. The panels
// [panel_begin, panel_end) are written at their places in packed.
template <class T>
struct Packing {
  Index k, columns;
  const T* source;
  Index source_row;
  T* packed;
  Index panel_begin, panel_end;
};

template <class T>
struct Gemm {
  Index panel;  // columns in a panel

  Index panels(Index columns) const { return (columns + panel - 1) / panel; }
  Index packed_size(Index k, Index columns) const { return panels(columns) * panel * k; }

  void (*pack)(const Packing<T>&);
  void (*pack_transposed)(const Packing<T>&);

  void (*multiply)(const Product<T>&);

  void (*gradient)(const GradientProduct<T>&);
  Index gradient_scratch;
};

// Products of floats rounded to bfloat16 (nearest even), summed in float. Two steps of k stand in one
// word: the rows of A are rounded first, then `k` counts words in a Product. Packing and GradientProduct
// are given floats, and k and m count these.
struct PairGemm {
  static constexpr Index words(Index k) { return (k + 1) / 2; }

  void (*round)(const float* a, Index a_row, Index rows, Index k, float* out);  // (rows, words(k))
  void (*pack)(const Packing<float>&);
  void (*pack_transposed)(const Packing<float>&);
  void (*multiply)(const Product<float>&);
  void (*gradient)(const GradientProduct<float>&);
};

}  // namespace unrolled
