"""Times the kernels beside torch in one process.

    python bench_torch.py BUILD/tests/libunrolled_bench.so [THREADS [product|gradient|unary ...]]

Medians of alternating measurements: of one thread in its own CPU time, which a shared machine disturbs
less; of several by the clock.
"""

import ctypes
import statistics
import sys
import time

import torch

lib = ctypes.CDLL(sys.argv[1])
lib.bench_allocate.restype = ctypes.c_void_p
lib.bench_isa.restype = ctypes.c_char_p
for name in ("bench_packed_size", "bench_gradient_scratch"):
    getattr(lib, name).restype = ctypes.c_ssize_t
size = ctypes.c_ssize_t
threads = int(sys.argv[2]) if len(sys.argv) > 2 else 1
clock = time.thread_time if threads == 1 else time.perf_counter


def pointer(tensor):
    return ctypes.c_void_p(tensor.data_ptr())


def buffer(n):
    return torch.empty(n + 16)


def alternate(ours, theirs, rounds=15):
    """Median seconds of both, measured in turn."""
    times = ([], [])
    for function in (ours, theirs):
        function()
    for _ in range(rounds):
        for function, into in zip((ours, theirs), times, strict=True):
            start = clock()
            function()
            into.append(clock() - start)
    return tuple(statistics.median(into) for into in times)


def product(m, k, n):
    a, w, c, out = torch.randn(m, k), torch.randn(n, k), torch.empty(m, n), torch.empty(m, n)
    b = w.t().contiguous()
    packed = buffer(lib.bench_packed_size(size(k), size(n)))
    lib.bench_pack(size(k), size(n), pointer(w), pointer(packed), 1)
    times = max(1, int(2e8 / (2 * m * n * k)))

    def ours():
        lib.bench_multiply(
            size(m), size(k), size(n), pointer(a), pointer(packed), pointer(c), threads, size(times)
        )

    def theirs():
        for _ in range(times):
            torch.mm(a, b, out=out)

    mine, other = alternate(ours, theirs)
    torch.testing.assert_close(c, out, rtol=1e-4, atol=1e-3)
    work = 2e-9 * m * n * k * times
    print(
        f"product {m:5} x {k:4} x {n:5}   ours {work / mine:6.1f} GFLOP/s   torch.mm "
        f"{work / other:6.1f}   ratio {other / mine:5.2f}   {mine / times * 1e6:9.2f} us",
        flush=True,
    )


def gradient(m, n, k):
    a, b, c, out = torch.randn(m, n), torch.randn(m, k), torch.empty(n, k), torch.empty(n, k)
    scratch = buffer(threads * lib.bench_gradient_scratch())

    def ours():
        lib.bench_gradient(
            size(m), size(n), size(k), pointer(a), pointer(b), pointer(c), pointer(scratch), threads
        )

    def theirs():
        torch.mm(a.t(), b, out=out)

    mine, other = alternate(ours, theirs, 9)
    torch.testing.assert_close(c, out, rtol=1e-4, atol=1e-2)
    work = 2e-9 * m * n * k
    print(
        f"gradient {n} x {m} x {k}   ours {work / mine:6.1f} GFLOP/s   torch.mm "
        f"{work / other:6.1f}   ratio {other / mine:5.2f}",
        flush=True,
    )


def unary(index, name, n=4096):
    a = torch.rand(n) * 8 - (0 if "log" in name else 4)
    c, out, function, times = torch.empty(n), torch.empty(n), getattr(torch, name), 100

    def ours():
        lib.bench_unary(index, size(n), pointer(a), pointer(c), size(times))

    def theirs():
        for _ in range(times):
            function(a, out=out)

    mine, other = alternate(ours, theirs)
    print(
        f"{name:10} {n:5} numbers   ours {mine / times / n * 1e9:6.3f} ns each   torch "
        f"{other / times / n * 1e9:6.3f}   ratio {other / mine:5.2f}",
        flush=True,
    )


def main():
    torch.set_num_threads(threads)
    print(
        f"instruction set {lib.bench_isa().decode()}, {threads} threads, torch {torch.__version__}"
    )
    what = sys.argv[3:] or ["product", "gradient", "unary"]
    if "product" in what:
        for m, k, n in [
            (1, 100, 100),
            (1, 512, 2048),
            (1, 256, 1024),
            (2, 256, 1024),
            (4, 256, 1024),
            (8, 256, 1024),
            (16, 256, 1024),
            (32, 256, 1024),
            (64, 512, 2048),
            (3200, 256, 1024),
            (3200, 1024, 256),
            (512, 2048, 2048),
        ]:
            product(m, k, n)
    if "gradient" in what:
        gradient(3200, 1024, 256)
        gradient(6400, 2048, 512)
        gradient(25, 100, 100)
    if "unary" in what:
        for index, name in [
            (3, "exp"),
            (4, "expm1"),
            (5, "log"),
            (6, "log1p"),
            (10, "sigmoid"),
            (11, "tanh"),
            (13, "erf"),
            (15, "sin"),
            (16, "cos"),
        ]:
            unary(index, name)
        unary(10, "sigmoid", 256)
        unary(11, "tanh", 256)


main()
