// What the kernel sources of one instruction set hand to its table.
#pragma once

#include "kernels.hpp"

namespace unrolled::UNROLLED_ISA {

template <class T>
void fill_pointwise(Pointwise<T>& table);
template <class T>
void fill_reductions(Pointwise<T>& table);
template <class T>
void fill_gemm(Gemm<T>& table);
template <class T>
void fill_packing(Gemm<T>& table);
void fill_pairs(PairGemm& table);
void fill_updates(Updates& table);

}  // namespace unrolled::UNROLLED_ISA
