// The tile packer on the GPU. What it computes is defined by pack_cpu.py + sample.py; this is the fast copy, held to them by tests/gpu.
//
// Every kernel is free of barriers and shared memory: a thread writes what no other thread reads. So the same source, compiled
// as C++ with tests/gpu/cuda_shim.h, runs thread after thread on a CPU and gives the same numbers.
//
// pack_*: one launch per frame. A thread makes 8 neighbouring output px of one row of one tile, in all channels: planes are
// sampled once into three registers of 8 px (a, b, c) and each channel is a linear mix of them, clamped. Which planes, which
// mix: a small program ("rows") made on the host from the model's input description, the same for every thread. The bill is
// the output, so it goes out in 16-byte streaming stores, a warp covering 512 bytes of one channel.
#ifdef __CUDACC__
#include <cuda_fp16.h>
#include <stdint.h>
#else
#include "cuda_shim.h"
#endif

#define RUN 8
#define MOST_PLANES 64
#define MOST_ROWS 64
#ifndef AT_ONCE
#define AT_ONCE 4
#endif
constexpr int UNROLL_ANY = AT_ONCE;

// One plane of a picture. Sample (x, y) lies at data + y * pitch + x * step bytes (both may be negative: turned pictures).
// wide: 16-bit samples whose upper 8 bits are the grey level (P010); half: a chroma plane of a 4:2:0 picture.
struct Plane {
    const uint8_t* data;
    int pitch, step;
    int wide, half;
};

// Frame px x1 <= x < x2, scaled to the ow x oh px at the output's top left. Which planes are averaged rather than interpolated.
struct Tile {
    int x1, y1, x2, y2;
    int ow, oh;
    int area, half_area;
};

// One channel: load planes into a, b, c (-1: keep what is there; pair: b and c are interleaved u and v), then
// clamp(ka a + kb b + kc c + k0, low, high) goes to channel `slot`, or `pad` where the tile does not reach.
struct Row {
    int load[3];
    int slot;
    float k[3];
    float k0, low, high, pad;
    int pair;
};

struct Job {
    void* out;          // (tiles, channels, height, width), or (tiles, height, width, channels)
    const Tile* tiles;
    const int* picked;  // row of `tiles` for each output tile; null: in order
    const int* count;   // how many of the launched tiles there are; null: all
    int width, height, channels, rows, nhwc, reserved;
    Plane plane[MOST_PLANES];
    Row row[MOST_ROWS];
};

static_assert(sizeof(Plane) == 24 && sizeof(Tile) == 32 && sizeof(Row) == 48, "pack_cuda.py describes these layouts");
static_assert(sizeof(Job) == 56 + MOST_PLANES * 24 + MOST_ROWS * 48, "pack_cuda.py describes this layout");

// ------------------------------------------------------------------------------------------------------------- reading

__device__ __forceinline__ float level_at(const Plane& plane, int x, int y) {
    const uint8_t* at = plane.data + (int64_t)y * plane.pitch + (int64_t)x * plane.step;
    return plane.wide ? __ldg((const uint16_t*)at) * (1.0f / 256.0f) : (float)__ldg(at);
}

// N bytes as 32-bit words by the widest loads their address allows.
template <int N>
__device__ __forceinline__ void load_words(const uint8_t* at, uint32_t* words) {
    const uintptr_t address = (uintptr_t)at;
    if (N % 16 == 0 && address % 16 == 0) {
#pragma unroll
        for (int i = 0; i < N / 16; i++) {
            const uint4 four = __ldg((const uint4*)at + i);
            words[4 * i] = four.x, words[4 * i + 1] = four.y, words[4 * i + 2] = four.z, words[4 * i + 3] = four.w;
        }
    } else if (N % 8 == 0 && address % 8 == 0) {
#pragma unroll
        for (int i = 0; i < N / 8; i++) {
            const uint2 two = __ldg((const uint2*)at + i);
            words[2 * i] = two.x, words[2 * i + 1] = two.y;
        }
    } else if (address % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N / 4; i++) words[i] = __ldg((const uint32_t*)at + i);
    } else if (address % 2 == 0) {
#pragma unroll
        for (int i = 0; i < N / 4; i++)
            words[i] = __ldg((const uint16_t*)at + 2 * i) | (uint32_t)__ldg((const uint16_t*)at + 2 * i + 1) << 16;
    } else {
#pragma unroll
        for (int i = 0; i < N / 4; i++)
            words[i] = __ldg(at + 4 * i) | (uint32_t)__ldg(at + 4 * i + 1) << 8 | (uint32_t)__ldg(at + 4 * i + 2) << 16 |
                       (uint32_t)__ldg(at + 4 * i + 3) << 24;
    }
}

// A byte put under the exponent of 2^23 is that float plus the byte: two cheap instructions, a conversion is eight times dearer.
__device__ __forceinline__ float byte_of(const uint32_t* words, int i) {
    return __uint_as_float(__byte_perm(words[i / 4], 0x4b000000u, 0x7440u + i % 4)) - 8388608.0f;
}

__device__ __forceinline__ float wide_of(const uint32_t* words, int i) {  // 2^15 + sample / 256
    return __uint_as_float(__byte_perm(words[i / 2], 0x47000000u, i % 2 ? 0x7432u : 0x7410u)) - 32768.0f;
}

// N neighbouring samples of a row whose samples lie side by side.
template <int N>
__device__ __forceinline__ void load_side_by_side(const Plane& plane, int x, int y, float* out) {
    const uint8_t* at = plane.data + (int64_t)y * plane.pitch + (int64_t)x * plane.step;
    uint32_t words[N / 2];
    if (plane.wide) {
        load_words<2 * N>(at, words);
#pragma unroll
        for (int i = 0; i < N; i++) out[i] = wide_of(words, i);
    } else {
        load_words<N>(at, words);
#pragma unroll
        for (int i = 0; i < N; i++) out[i] = byte_of(words, i);
    }
}

// N neighbouring pairs of an interleaved chroma row.
template <int N>
__device__ __forceinline__ void load_pairs(const Plane& u, int x, int y, float* out_u, float* out_v) {
    const uint8_t* at = u.data + (int64_t)y * u.pitch + (int64_t)x * u.step;
    uint32_t words[N];
    if (u.wide) {
        load_words<4 * N>(at, words);
#pragma unroll
        for (int i = 0; i < N; i++) out_u[i] = wide_of(words, 2 * i), out_v[i] = wide_of(words, 2 * i + 1);
    } else {
        load_words<2 * N>(at, words);
#pragma unroll
        for (int i = 0; i < N; i++) out_u[i] = byte_of(words, 2 * i), out_v[i] = byte_of(words, 2 * i + 1);
    }
}

// ------------------------------------------------------------------------------------------------------------- sampling

// One axis of a tile on one plane, in whole numbers: sample.py's positions are fractions with the denominator `den`.
// Output px i has its centre (step * i + start) / den plane px from the crop's first sample; its footprint begins at (step * i + edge) / den.
struct Axis {
    int first, have;  // the crop: its first sample in the plane, how many
    int step, start, edge, den;
};

__device__ __forceinline__ Axis axis_of(int low, int high, int want, int half) {
    const int factor = half ? 2 : 1, odd = half ? low & 1 : 0, size = high - low;
    Axis axis;
    axis.first = half ? low >> 1 : low;
    axis.have = (half ? (high + 1) >> 1 : high) - axis.first;
    axis.step = 2 * size;
    axis.start = size + (odd - 1) * factor * want;
    axis.edge = odd * factor * want;
    axis.den = 2 * factor * want;
    return axis;
}

__device__ __forceinline__ int clamped(int value, int low, int high) { return min(max(value, low), high); }

struct Taps {
    int first, second;  // in the plane
    float part;         // of the second
};

__device__ __forceinline__ Taps taps_of(const Axis& axis, int i) {
    const int number = axis.step * i + axis.start + axis.den;  // + den: never negative
    const int whole = number / axis.den, rest = number - whole * axis.den;
    Taps taps;
    taps.first = axis.first + clamped(whole - 1, 0, axis.have - 1);
    taps.second = axis.first + clamped(whole, 0, axis.have - 1);
    taps.part = (float)rest / (float)axis.den;
    return taps;
}

struct Span {
    int first, last;    // in the plane, inclusive
    float skip, reach;  // of the first sample what lies before the footprint; of the last one what lies in it
};

__device__ __forceinline__ Span span_of(const Axis& axis, int i) {
    const int begin = axis.step * i + axis.edge, end = begin + axis.step;
    const int from = begin / axis.den, to = end / axis.den, rest = end - to * axis.den;
    Span span;
    span.skip = (float)(begin - from * axis.den) / (float)axis.den;
    span.reach = rest ? (float)rest / (float)axis.den : 1.0f;
    span.first = axis.first + from;
    span.last = axis.first + min(rest ? to : to - 1, axis.have - 1);
    return span;
}

__device__ __forceinline__ float weight_in(const Span& span, int i) {
    return (i == span.last ? span.reach : 1.0f) - (i == span.first ? span.skip : 0.0f);
}

__device__ __forceinline__ float mean_of(const Plane& plane, const Span& across, const Span& down) {
    float total = 0.0f, weight = 0.0f;
    for (int y = down.first; y <= down.last; y++) {
        float row = 0.0f, covered = 0.0f;
        for (int x = across.first; x <= across.last; x++) {
            const float share = weight_in(across, x);
            row += share * level_at(plane, x, y);
            covered += share;
        }
        total += weight_in(down, y) * row;
        weight += weight_in(down, y) * covered;
    }
    return total / weight;
}

__device__ __forceinline__ float mix(float first, float second, float part) { return first + (second - first) * part; }

__device__ __forceinline__ void put(float* out, int i, float value) {  // out stays in registers, whatever i is
#pragma unroll
    for (int j = 0; j < RUN; j++) out[j] = j == i ? value : out[j];
}

// The general way, for one plane.
__device__ __forceinline__ void sample_any(const Plane& plane, const Tile& tile, int x, int y, float* out) {
    const Axis across = axis_of(tile.x1, tile.x2, tile.ow, plane.half);
    const Axis down = axis_of(tile.y1, tile.y2, tile.oh, plane.half);
    if (plane.half ? tile.half_area : tile.area) {
        const Span rows = span_of(down, y);
#pragma unroll 1
        for (int i = 0; i < RUN; i++) put(out, i, mean_of(plane, span_of(across, min(x + i, tile.ow - 1)), rows));
        return;
    }
    const Taps rows = taps_of(down, y);
#pragma unroll UNROLL_ANY
    for (int i = 0; i < RUN; i++) {
        const Taps columns = taps_of(across, min(x + i, tile.ow - 1));
        const float above = mix(level_at(plane, columns.first, rows.first), level_at(plane, columns.second, rows.first), columns.part);
        const float below = mix(level_at(plane, columns.first, rows.second), level_at(plane, columns.second, rows.second), columns.part);
        put(out, i, mix(above, below, rows.part));
    }
}

// Chroma at twice its size: samples 0.75 and 0.25 of a 6-sample window whose second sample is that of the first px.
__device__ __forceinline__ void doubled(const float* window, float* out) {
#pragma unroll
    for (int i = 0; i < RUN; i++) {
        const int near = i / 2 + 1, far = i % 2 ? near + 1 : near - 1;
        out[i] = 0.75f * window[near] + 0.25f * window[far];
    }
}

// Whether u and v of this run can be made by doubling: an unscaled tile with an even left edge, samples side by side.
__device__ __forceinline__ bool is_doubled(const Plane& u, const Plane& v, int pair, const Tile& tile, bool same_size, int x) {
    const int have = ((tile.x2 + 1) >> 1) - (tile.x1 >> 1);
    return same_size && u.half && !(tile.x1 & 1) && u.step == (u.wide ? 2 : 1) * (pair ? 2 : 1) && v.step == u.step &&
           (x >> 1) + RUN / 2 <= have;
}

__device__ __forceinline__ void sample_doubled(const Plane& u, const Plane& v, int pair, const Tile& tile, int x, int y, float* out_u, float* out_v) {
    const int first = tile.x1 >> 1, have = ((tile.x2 + 1) >> 1) - first, column = x >> 1;
    const Taps rows = taps_of(axis_of(tile.y1, tile.y2, tile.oh, 1), y);
    const int left = first + max(column - 1, 0), right = first + min(column + RUN / 2, have - 1);
    float u_of[2][RUN / 2 + 2], v_of[2][RUN / 2 + 2];
#pragma unroll
    for (int row = 0; row < 2; row++) {
        const int line = row ? rows.second : rows.first;
        if (pair) {
            load_pairs<RUN / 2>(u, first + column, line, u_of[row] + 1, v_of[row] + 1);
        } else {
            load_side_by_side<RUN / 2>(u, first + column, line, u_of[row] + 1);
            load_side_by_side<RUN / 2>(v, first + column, line, v_of[row] + 1);
        }
        u_of[row][0] = level_at(u, left, line), u_of[row][RUN / 2 + 1] = level_at(u, right, line);
        v_of[row][0] = level_at(v, left, line), v_of[row][RUN / 2 + 1] = level_at(v, right, line);
    }
#pragma unroll
    for (int i = 0; i < RUN / 2 + 2; i++) {
        u_of[0][i] = mix(u_of[0][i], u_of[1][i], rows.part);
        v_of[0][i] = mix(v_of[0][i], v_of[1][i], rows.part);
    }
    doubled(u_of[0], out_u);
    doubled(v_of[0], out_v);
}

// ANY false: the host has seen that no tile is scaled, that whole runs fit and that samples lie side by side.
template <bool ANY>
__device__ __forceinline__ void sample(const Plane& plane, const Tile& tile, bool same_size, int x, int y, float* out) {
    if (!ANY || (same_size && !plane.half && plane.step == (plane.wide ? 2 : 1) && x + RUN <= tile.ow))
        load_side_by_side<RUN>(plane, tile.x1 + x, tile.y1 + y, out);
    else
        sample_any(plane, tile, x, y, out);
}

// -------------------------------------------------------------------------------------------------------------- writing

__device__ __forceinline__ void as_type(const float* values, float* out) {
#pragma unroll
    for (int i = 0; i < RUN; i++) out[i] = values[i];
}

__device__ __forceinline__ void as_type(const float* values, __half* out) {
#pragma unroll
    for (int i = 0; i < RUN; i += 2) *(__half2*)(out + i) = __floats2half2_rn(values[i], values[i + 1]);
}

__device__ __forceinline__ void as_type(const float* values, uint8_t* out) {
#pragma unroll
    for (int i = 0; i < RUN; i++) out[i] = (uint8_t)clamped(__float2int_rn(values[i]), 0, 255);
}

template <class T>
__device__ __forceinline__ void store_run(T* out, const T* values, int count, bool aligned) {
    if (aligned && count == RUN) {
        constexpr int bytes = RUN * sizeof(T);
        if (bytes % 16 == 0) {
#pragma unroll
            for (int i = 0; i < bytes / 16; i++) __stcs((uint4*)out + i, ((const uint4*)values)[i]);
        } else {
            __stcs((uint2*)out, *(const uint2*)values);
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < RUN; i++)
        if (i < count) out[i] = values[i];
}

template <class T, bool ANY>
__device__ __forceinline__ void pack(const Job* __restrict__ job) {
    const int width = job->width, height = job->height, runs = (width + RUN - 1) / RUN;
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = index / runs, x = (index - y * runs) * RUN;
    int row_of_tile = blockIdx.y;
    if (y >= height || (job->count && row_of_tile >= *job->count)) return;
    if (job->picked) row_of_tile = job->picked[row_of_tile];
    const Tile tile = job->tiles[row_of_tile];
    const bool same_size = tile.ow == tile.x2 - tile.x1 && tile.oh == tile.y2 - tile.y1;
    const int inside = y < tile.oh ? min(max(tile.ow - x, 0), RUN) : 0;  // px of this run that show the tile
    const int64_t plane_px = (int64_t)width * height;
    T* const out = (T*)job->out + (int64_t)blockIdx.y * job->channels * plane_px;

    float a[RUN], b[RUN], c[RUN];
#pragma unroll
    for (int i = 0; i < RUN; i++) a[i] = b[i] = c[i] = 0.0f;
#pragma unroll 1
    for (int r = 0; r < job->rows; r++) {
        const Row& row = job->row[r];
        if (inside) {
#pragma unroll 1
            for (int s = 0; s < 3; s++) {
                if (row.load[s] < 0) continue;
                const Plane& plane = job->plane[row.load[s]];
                if (s == 1 && plane.half) {
                    const Plane& other = job->plane[row.load[2]];
                    if (!ANY || is_doubled(plane, other, row.pair, tile, same_size, x)) {
                        sample_doubled(plane, other, row.pair, tile, x, y, b, c);
                        break;
                    }
                }
                float fresh[RUN];
                sample<ANY>(plane, tile, same_size, x, y, fresh);
#pragma unroll
                for (int i = 0; i < RUN; i++) {
                    if (s == 0) a[i] = fresh[i];
                    if (s == 1) b[i] = fresh[i];
                    if (s == 2) c[i] = fresh[i];
                }
            }
        }
        float values[RUN];
#pragma unroll
        for (int i = 0; i < RUN; i++) {
            values[i] = fmaf(row.k[0], a[i], fmaf(row.k[1], b[i], fmaf(row.k[2], c[i], row.k0)));
            values[i] = fminf(fmaxf(values[i], row.low), row.high);
        }
        if (inside < RUN) {
#pragma unroll
            for (int i = 0; i < RUN; i++)
                if (i >= inside) values[i] = row.pad;
        }
        __align__(16) T typed[RUN];
        as_type(values, typed);
        const int count = min(RUN, width - x);
        if (!job->nhwc) {
            store_run(out + row.slot * plane_px + (int64_t)y * width + x, typed, count, width % RUN == 0);
        } else {
#pragma unroll
            for (int i = 0; i < RUN; i++)
                if (i < count) out[((int64_t)y * width + x + i) * job->channels + row.slot] = typed[i];
        }
    }
}

// pack_x takes any tiles; pack_x_same those that need no scaling (see `sample`) and has the registers for twice the threads.
extern "C" __global__ void __launch_bounds__(256) pack_f16(const Job* job) { pack<__half, true>(job); }
extern "C" __global__ void __launch_bounds__(256) pack_f32(const Job* job) { pack<float, true>(job); }
extern "C" __global__ void __launch_bounds__(256) pack_u8(const Job* job) { pack<uint8_t, true>(job); }
extern "C" __global__ void __launch_bounds__(256, 3) pack_f16_same(const Job* job) { pack<__half, false>(job); }
extern "C" __global__ void __launch_bounds__(256, 3) pack_f32_same(const Job* job) { pack<float, false>(job); }
extern "C" __global__ void __launch_bounds__(256, 3) pack_u8_same(const Job* job) { pack<uint8_t, false>(job); }
