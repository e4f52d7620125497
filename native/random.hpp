// Random numbers that depend on their place alone: Philox 4 x 64, ten rounds (Salmon, Moraes, Dror & Shaw
// 2011, "Parallel random numbers: as easy as 1, 2, 3"), word for word those of numpy.random.Philox.
#pragma once

#include <cstdint>

#include "pointwise.hpp"

namespace unrolled {

// Where in the random stream a row stands: the counter's three upper words, of which `row` counts rows.
struct Stream {
  std::uint64_t seed, row, layer, step;
};

// out (steps, rows, width): 1, or 0 where sixteen random bits are below `threshold`. Row r reads the stream
// of row stream.row + r from its beginning, 16 bits an entry.
void keep(const Stream& stream, Index steps, Index rows, Index width, std::uint32_t threshold, float* out,
          int threads);

}  // namespace unrolled
