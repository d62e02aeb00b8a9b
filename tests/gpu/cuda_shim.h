// CUDA's words as plain C++, enough to run our kernels one thread after another on a CPU. For tests: an oracle, not a backend.
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>

using std::max;
using std::min;

#define __global__ __attribute__((visibility("default"), used))
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct dim3 {
    unsigned x, y, z;
};
inline dim3 gridDim, blockDim, blockIdx, threadIdx;

// Vector loads of CUDA fault on a wrong address; so do these.
struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};

template <class T>
inline T __ldg(const T* at) {
    if ((uintptr_t)at % alignof(T)) abort();
    return *at;
}
template <class T>
inline void __stcs(T* at, T value) {
    if ((uintptr_t)at % alignof(T)) abort();
    *at = value;
}

typedef _Float16 __half;
inline __half __float2half_rn(float value) { return (__half)value; }
inline float __half2float(__half value) { return (float)value; }
struct __half2 {
    __half x, y;
};
inline __half2 __floats2half2_rn(float x, float y) { return {(__half)x, (__half)y}; }
inline float __uint_as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
inline uint32_t __byte_perm(uint32_t low, uint32_t high, uint32_t selector) {
    const uint64_t both = (uint64_t)high << 32 | low;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++) out |= (uint32_t)(both >> ((selector >> 4 * i & 7) * 8) & 255) << 8 * i;
    return out;
}
inline int __float2int_rn(float value) { return (int)lrintf(value); }

inline int atomicAdd(int* at, int value) { return (*at += value) - value; }
inline unsigned atomicAdd(unsigned* at, unsigned value) { return (*at += value) - value; }
inline int atomicMax(int* at, int value) {
    const int old = *at;
    *at = std::max(old, value);
    return old;
}
inline float __expf(float value) { return expf(value); }

typedef void (*ShimKernel)(uint64_t, uint64_t, uint64_t, uint64_t);

// Run a kernel over a whole grid; all arguments of our kernels are addresses.
extern "C" __attribute__((visibility("default"), used)) inline void shim_launch(ShimKernel kernel, dim3 grid, dim3 block, const uint64_t* a, int count) {
    uint64_t all[4] = {0, 0, 0, 0};
    for (int i = 0; i < count && i < 4; i++) all[i] = a[i];
    gridDim = grid, blockDim = block;
    for (unsigned bz = 0; bz < grid.z; bz++)
        for (unsigned by = 0; by < grid.y; by++)
            for (unsigned bx = 0; bx < grid.x; bx++)
                for (unsigned ty = 0; ty < block.y; ty++)
                    for (unsigned tx = 0; tx < block.x; tx++) {
                        blockIdx = {bx, by, bz}, threadIdx = {tx, ty, 0};
                        kernel(all[0], all[1], all[2], all[3]);
                    }
}
