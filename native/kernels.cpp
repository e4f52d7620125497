#include "kernels.hpp"

#include <cstdlib>
#include <cstring>

namespace unrolled {

// One entry a set this library was built with, best first; CMakeLists.txt names them in UNROLLED_TABLES
// as F(avx512) F(avx2) F(portable), say.
#define UNROLLED_DECLARE(isa) \
  namespace isa {             \
  void fill(Kernels&);        \
  }
#define F UNROLLED_DECLARE
UNROLLED_TABLES
#undef F

#if defined(__x86_64__)
namespace avx512bf16 {
void fill_pairs(PairGemm&);
}
#endif

namespace {

bool can_run(const char* name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!std::strcmp(name, "avx512"))
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!std::strcmp(name, "avx2") || !std::strcmp(name, "wide")) return avx2;
#endif
  (void)name;  // portable everywhere, neon on every aarch64
  return true;
}

struct Entry {
  const char* name;
  void (*fill)(Kernels&);
};
#define F(isa) Entry{#isa, isa::fill},
constexpr Entry entries[] = {UNROLLED_TABLES};
#undef F
constexpr int entry_count = sizeof entries / sizeof entries[0];

struct Tables {
  Kernels kernels[entry_count];
  const char* names[entry_count + 1];
  int count = 0;

  Tables() : kernels{}, names{} {
    for (const Entry& entry : entries)
      if (can_run(entry.name)) {
        entry.fill(kernels[count]);
#if defined(__x86_64__)
        if (!std::strcmp(entry.name, "avx512") && __builtin_cpu_supports("avx512bf16"))
          avx512bf16::fill_pairs(kernels[count].pairs);
#endif
        names[count++] = entry.name;
      }
  }
};

const Tables& tables() {
  static const Tables all;  // filled once, thread-safe
  return all;
}

#define F(isa) " " #isa
constexpr const char* unknown =
    "unknown instruction set (UNROLLED_ISA): this build has auto" UNROLLED_TABLES;
constexpr const char* unsupported =
    "this machine cannot run the instruction set asked for (UNROLLED_ISA); leave it unset, or choose a "
    "lesser one of" UNROLLED_TABLES;
#undef F

}  // namespace

const Kernels* find_kernels(const char* name, const char** error) {
  const Tables& all = tables();
  *error = nullptr;
  // "wide" exists for tests only, and is never chosen unasked.
  bool any = !name || !*name || !std::strcmp(name, "auto");
  for (int i = 0; i < all.count; ++i)
    if (any ? std::strcmp(all.names[i], "wide") != 0 : !std::strcmp(all.names[i], name))
      return &all.kernels[i];
  *error = unknown;
  for (const Entry& entry : entries)
    if (name && !std::strcmp(entry.name, name)) *error = unsupported;
  return nullptr;
}

const Kernels* default_kernels(const char** error) {
  return find_kernels(std::getenv("UNROLLED_ISA"), error);
}

const char* const* available_kernels() { return tables().names; }

}  // namespace unrolled
