// The table of one instruction set; compiled, like the kernels, once for each.
#include "kernels_isa.hpp"
#include "vector.hpp"

#define UNROLLED_TEXT_OF(name) #name
#define UNROLLED_TEXT(name) UNROLLED_TEXT_OF(name)

namespace unrolled::UNROLLED_ISA {

void fill(Kernels& table) {
  table.name = UNROLLED_TEXT(UNROLLED_ISA);
  table.vector_bytes = vector_bytes;
  fill_pointwise(table.f32.pointwise);
  fill_pointwise(table.f64.pointwise);
  fill_reductions(table.f32.pointwise);
  fill_reductions(table.f64.pointwise);
  fill_gemm(table.f32.gemm);
  fill_gemm(table.f64.gemm);
  fill_pairs(table.pairs);
  fill_updates(table.updates);
}

}  // namespace unrolled::UNROLLED_ISA
