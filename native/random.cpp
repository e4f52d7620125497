#include "random.hpp"

#include <algorithm>

#include "threads.hpp"

namespace unrolled {
namespace {

struct Words {
  std::uint64_t word[4];
};

struct Wide {
  std::uint64_t high, low;
};
inline Wide multiply(std::uint64_t a, std::uint64_t b) {
#if defined(__SIZEOF_INT128__)
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return {std::uint64_t(product >> 64), std::uint64_t(product)};
#else
  const std::uint64_t a0 = a & 0xffffffff, a1 = a >> 32, b0 = b & 0xffffffff, b1 = b >> 32;
  const std::uint64_t low = a0 * b0, middle = a1 * b0 + (low >> 32), other = a0 * b1 + (middle & 0xffffffff);
  return {a1 * b1 + (middle >> 32) + (other >> 32), a * b};
#endif
}

// Blocks [first, first + lanes) of a row. They do not wait for each other.
template <int lanes>
inline void philox(const Stream& stream, std::uint64_t row, std::uint64_t first, Words* out) {
  std::uint64_t key0 = stream.seed, key1 = 0;
  for (int lane = 0; lane < lanes; ++lane) out[lane] = {{first + lane, row, stream.layer, stream.step}};
  for (int round = 0; round < 10; ++round) {
    for (int lane = 0; lane < lanes; ++lane) {
      auto& c = out[lane].word;
      const Wide a = multiply(0xD2E7470EE14C6C93u, c[0]), b = multiply(0xCA5A826395121157u, c[2]);
      out[lane] = {{b.high ^ c[1] ^ key0, b.low, a.high ^ c[3] ^ key1, a.low}};
    }
    key0 += 0x9E3779B97F4A7C15u;
    key1 += 0xBB67AE8584CAA73Bu;
  }
}

constexpr int lanes = 4, blocks = 64, entries = 16;  // of a block

// The next 16-bit numbers of a row.
void fill(const Stream& stream, std::uint64_t row, std::uint64_t first, std::uint16_t* out) {
  for (int block = 0; block < blocks; block += lanes) {
    Words words[lanes];
    philox<lanes>(stream, row, first + block, words);
    for (int lane = 0; lane < lanes; ++lane)
      for (int k = 0; k < entries; ++k)
        *out++ = std::uint16_t(words[lane].word[k / 4] >> (16 * (k % 4)));
  }
}

}  // namespace

void keep(const Stream& stream, Index steps, Index rows, Index width, std::uint32_t threshold, float* out,
          int threads) {
  constexpr Index most = blocks * entries;
  parallel(steps * rows * width < 65536 ? 1 : threads, [&](int thread, int of) {
    const Part mine = part_of(rows, thread, of);
    std::uint16_t numbers[most];
    for (Index row = mine.begin; row < mine.end; ++row) {
      Index used = most;
      std::uint64_t block = 1;
      for (Index t = 0; t < steps; ++t) {
        float* to = out + (t * rows + row) * width;
        for (Index j = 0; j < width;) {
          if (used == most) {
            fill(stream, stream.row + std::uint64_t(row), block, numbers);
            block += blocks;
            used = 0;
          }
          const Index count = std::min(width - j, most - used);
          for (Index k = 0; k < count; ++k) to[j + k] = float(numbers[used + k] >= threshold);
          j += count;
          used += count;
        }
      }
    }
  });
}

}  // namespace unrolled
