"""The fingerprint of a tensor on an accelerator: 128 bits made where the values lie, exact and in any order of work.

Owns the algorithm, in three forms that agree bit for bit: CUDA C for the driver, torch operations on int64 for every
other accelerator, and one word in Python. The tests hold a fourth, in NumPy, against all of them.

The bytes of a tensor in contiguous order are words of 64 bits, little-endian, the last one filled up with zeros. Word
``i`` counts from 1; word 0 is the number of bytes. With ``seed`` from dtype and shape, all modulo 2**64::

    y = mix(word[i] ^ (seed + i * STEP))     lo = sum of y over all i
    z = mix2(y)                              hi = sum of z over all i

``mix`` and ``mix2`` are bijections, so a change in one word always changes ``lo`` and ``hi``. Sums of integers do not depend on
the order of their terms: blocks and warps may finish as they like. Multiplying by an odd weight for each position alone
would not do: the flipped top bits of two words cancel, which is two signs.

The constants are those of SplitMix64 (G. Steele, D. Lea, C. Flood, Fast splittable pseudorandom number generators,
OOPSLA 2014), the last that of P. Evensen's rrxmrrxmsx_0.
"""

from __future__ import annotations

from typing import Any

ALGORITHM = "mix64-sum-128"
MASK = (1 << 64) - 1
STEP = 0x9E3779B97F4A7C15
M1 = 0xBF58476D1CE4E5B9
M2 = 0x94D049BB133111EB
M3 = 0x9FB21C651E98DF25

THREADS = 256
"""threads of a block"""
RESIDENT = 4
"""blocks that every processor holds at a time: enough registers for each of its threads to have four loads of 16 bytes on their way"""
BLOCK_BYTES = THREADS * 64
"""a block has at least this much to read"""
TABLE = 144
"""tensors of one launch: the table of a kernel's parameters holds 4 KiB"""

SOURCE = r"""
typedef unsigned long long u64;
typedef unsigned int u32;
#define STEP 0x9E3779B97F4A7C15ull
#define M1 0xBF58476D1CE4E5B9ull
#define M2 0x94D049BB133111EBull
#define M3 0x9FB21C651E98DF25ull
#define THREADS 256
#define TABLE 144
#define RESIDENT 4
#define PLACES 256 /* one for each thread of a block */

struct __align__(16) Pair { u64 x, y; };

struct Table {
    u64* out;
    u64 n;
    u64 address[TABLE], nbytes[TABLE], seed[TABLE];
    u32 first[TABLE + 1];
};

__device__ __forceinline__ void add(u64 word, u64 key, u64& lo, u64& hi) {
    u64 y = word ^ key;
    y ^= y >> 32; y *= M1;
    y ^= y >> 29; y *= M2;
    y ^= y >> 32;
    lo += y;
    y *= M3;
    hi += y ^ (y >> 32);
}

__device__ __forceinline__ u64 bytes(const unsigned char* p, u32 n) {
    u64 word = 0;
    for (u32 i = 0; i < n; i++) word |= (u64)p[i] << (8 * i);
    return word;
}

/* Word `i` from `p` on, wherever that lies: out of the aligned words it is spread over, each of which holds a byte of it. */
__device__ __forceinline__ u64 spread(const unsigned char* p, u64 i) {
    const u32 over = (u32)((u64)p & 7);
    const u64* q = (const u64*)(p - over) + i;
    return over ? q[0] >> (8 * over) | q[1] << (64 - 8 * over) : q[0];
}

/* The sums over what thread `thread` of `threads` reads of one tensor. */
__device__ __forceinline__ void sums(const unsigned char* p, u64 nbytes, u64 seed, u64 thread, u64 threads, u64& lo, u64& hi) {
    const u64 words = nbytes >> 3;
    if (((u64)p & 15) == 0) {
        const Pair* q = (const Pair*)p;
        const u64 pairs = words >> 1;
        u64 i = thread, key = seed + (2 * thread + 1) * STEP;
        const u64 jump = 2 * threads * STEP;
        for (; i + 3 * threads < pairs; i += 4 * threads) {
            const Pair a = q[i], b = q[i + threads], c = q[i + 2 * threads], d = q[i + 3 * threads];
            add(a.x, key, lo, hi); add(a.y, key + STEP, lo, hi); key += jump;
            add(b.x, key, lo, hi); add(b.y, key + STEP, lo, hi); key += jump;
            add(c.x, key, lo, hi); add(c.y, key + STEP, lo, hi); key += jump;
            add(d.x, key, lo, hi); add(d.y, key + STEP, lo, hi); key += jump;
        }
        for (; i < pairs; i += threads) {
            const Pair a = q[i];
            add(a.x, key, lo, hi); add(a.y, key + STEP, lo, hi); key += jump;
        }
        if (thread == 0 && (words & 1)) add(((const u64*)p)[words - 1], seed + words * STEP, lo, hi);
    } else {
        u64 i = thread;
        for (; i + 3 * threads < words; i += 4 * threads) {
            const u64 a = spread(p, i), b = spread(p, i + threads), c = spread(p, i + 2 * threads), d = spread(p, i + 3 * threads);
            const u64 key = seed + (i + 1) * STEP, jump = threads * STEP;
            add(a, key, lo, hi); add(b, key + jump, lo, hi); add(c, key + 2 * jump, lo, hi); add(d, key + 3 * jump, lo, hi);
        }
        for (; i < words; i += threads) add(spread(p, i), seed + (i + 1) * STEP, lo, hi);
    }
    if (thread == 0) {
        add(nbytes, seed, lo, hi);
        if (nbytes & 7) add(bytes(p + 8 * words, (u32)(nbytes & 7)), seed + (words + 1) * STEP, lo, hi);
    }
}

/* What the word at one of PLACES places spread over the tensor adds. */
__device__ __forceinline__ void place(const unsigned char* p, u64 nbytes, u64 seed, u32 n, u64& lo, u64& hi) {
    const u64 words = nbytes >> 3, part = words / PLACES;
    const u64 i = n == PLACES - 1 ? words - 1 : n * part + (n * 40503u) % part;
    add(spread(p, i), seed + (i + 1) * STEP, lo, hi);
}

#ifdef ON_HOST
static void sample(const unsigned char* p, u64 nbytes, u64 seed, u64& lo, u64& hi) {
    for (u32 n = 0; n < PLACES; n++) place(p, nbytes, seed, n, lo, hi);
}
#else
/* The sums over all places, in every thread of the block. */
__device__ __forceinline__ void sample(const unsigned char* p, u64 nbytes, u64 seed, u64& lo, u64& hi) {
    __shared__ u64 part[2][THREADS / 32];
    place(p, nbytes, seed, threadIdx.x, lo, hi);
    for (int n = 16; n; n >>= 1) {
        lo += __shfl_down_sync(0xffffffffu, lo, n);
        hi += __shfl_down_sync(0xffffffffu, hi, n);
    }
    if ((threadIdx.x & 31) == 0) { part[0][threadIdx.x >> 5] = lo; part[1][threadIdx.x >> 5] = hi; }
    __syncthreads();
    lo = hi = 0;
    for (int n = 0; n < THREADS / 32; n++) { lo += part[0][n]; hi += part[1][n]; }
}

/* Sum over the block, then one atomic addition of each sum. */
__device__ __forceinline__ void deliver(u64 lo, u64 hi, u64* out) {
    __shared__ u64 part[2][THREADS / 32];
    for (int n = 16; n; n >>= 1) {
        lo += __shfl_down_sync(0xffffffffu, lo, n);
        hi += __shfl_down_sync(0xffffffffu, hi, n);
    }
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    if (lane == 0) { part[0][warp] = lo; part[1][warp] = hi; }
    __syncthreads();
    if (threadIdx.x < 2) {
        u64 sum = 0;
        for (int n = 0; n < THREADS / 32; n++) sum += part[threadIdx.x][n];
        atomicAdd(out + threadIdx.x, sum);
    }
}
#endif

/* `gridDim.y` tensors of `nbytes` each, one behind the other (rows of a batch), or a single one. */
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) fingerprint(const unsigned char* p, u64 nbytes, u64 seed, u64* out) {
    u64 lo = 0, hi = 0;
    sums(p + blockIdx.y * nbytes, nbytes, seed, (u64)blockIdx.x * THREADS + threadIdx.x, (u64)gridDim.x * THREADS, lo, hi);
    deliver(lo, hi, out + 2 * (u64)blockIdx.y);
}

/* The same of one tensor, and in the next slot the sums over its places. */
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) fingerprint_noted(const unsigned char* p, u64 nbytes, u64 seed, u64* out) {
    u64 lo = 0, hi = 0;
    sums(p, nbytes, seed, (u64)blockIdx.x * THREADS + threadIdx.x, (u64)gridDim.x * THREADS, lo, hi);
    deliver(lo, hi, out);
    if (blockIdx.x == 0) {
        lo = hi = 0;
        sample(p, nbytes, seed, lo, hi);
        if (threadIdx.x == 0) { out[2] = lo; out[3] = hi; }
    }
}

/* The same tensor once more: read only where its places say that something was written since `noted`. */
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
fingerprint_again(const unsigned char* p, u64 nbytes, u64 seed, u64* out, const u64* noted) {
    u64 lo = 0, hi = 0;
    sample(p, nbytes, seed, lo, hi);
    if (lo == noted[2] && hi == noted[3]) {
        if (blockIdx.x == 0 && threadIdx.x < 2) atomicAdd(out + threadIdx.x, noted[threadIdx.x]);
        return;
    }
    lo = hi = 0;
    sums(p, nbytes, seed, (u64)blockIdx.x * THREADS + threadIdx.x, (u64)gridDim.x * THREADS, lo, hi);
    deliver(lo, hi, out);
}

/* Many tensors; `first` says with which block each begins. */
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) fingerprints(const __grid_constant__ Table table) {
    u32 low = 0, high = (u32)table.n;
    while (high - low > 1) {
        const u32 middle = (low + high) >> 1;
        if (table.first[middle] <= blockIdx.x) low = middle; else high = middle;
    }
    u64 lo = 0, hi = 0;
    const u32 begin = table.first[low];
    sums((const unsigned char*)table.address[low], table.nbytes[low], table.seed[low], (u64)(blockIdx.x - begin) * THREADS + threadIdx.x,
         (u64)(table.first[low + 1] - begin) * THREADS, lo, hi);
    deliver(lo, hi, table.out + 2 * (u64)low);
}
"""
"""CUDA C without a header, for NVRTC; what does not run on a host is left out where ``ON_HOST`` is defined"""


def add_word(word: int, key: int) -> tuple[int, int]:
    """What one word adds to ``lo`` and ``hi``; all numbers from 0 to 2**64 - 1."""
    y = word ^ key
    y = ((y ^ (y >> 32)) * M1) & MASK
    y = ((y ^ (y >> 29)) * M2) & MASK
    y ^= y >> 32
    z = (y * M3) & MASK
    return y, z ^ (z >> 32)


def empty(seed: int) -> bytes:
    """The fingerprint of a tensor without elements."""
    lo, hi = add_word(0, seed)
    return lo.to_bytes(8, "little") + hi.to_bytes(8, "little")


_CHUNK_WORDS = 1 << 22
"""words mixed at a time by torch operations: a few temporary tensors of 32 MiB"""


def torch_sums(torch: Any, t: Any, seed: int) -> Any:
    """``lo`` and ``hi`` of a dense contiguous tensor by torch operations: int64[2] on its device, nothing waited for."""
    raw = t.reshape(-1).view(torch.uint8)
    nbytes = raw.numel()
    sums = torch.empty(2, dtype=torch.int64, device=t.device)
    for n, part in enumerate(add_word(nbytes, seed)):
        sums[n].fill_(_signed(part))
    words = nbytes // 8
    if raw.data_ptr() % 8 or raw.storage_offset() % 8:
        raw = raw.clone()  # int64 needs its alignment
    body = raw[: 8 * words].view(torch.int64)
    for at in range(0, words, _CHUNK_WORDS):
        sums += _mixed(torch, body[at : at + _CHUNK_WORDS], seed + (at + 1) * STEP)
    if nbytes % 8:
        last = torch.zeros(8, dtype=torch.uint8, device=t.device)
        last[: nbytes % 8] = raw[8 * words :]
        sums += _mixed(torch, last.view(torch.int64), seed + (words + 1) * STEP)
    return sums


def _mixed(torch: Any, words: Any, key: int) -> Any:
    y = torch.arange(len(words), dtype=torch.int64, device=words.device).mul_(_signed(STEP)).add_(_signed(key & MASK)).bitwise_xor_(words)
    y = (y ^ _shifted(y, 32)).mul_(_signed(M1))
    y = (y ^ _shifted(y, 29)).mul_(_signed(M2))
    y = y ^ _shifted(y, 32)
    z = y * _signed(M3)
    return torch.stack([y.sum(), (z ^ _shifted(z, 32)).sum()])


def _shifted(y: Any, n: int) -> Any:
    """A logical shift: torch's keeps the sign of int64."""
    return (y >> n) & ((1 << (64 - n)) - 1)


def _signed(n: int) -> int:
    n &= MASK
    return n - (1 << 64) if n >> 63 else n
