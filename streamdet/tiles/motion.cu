// The motion pass on the GPU: what streamdet/motion asks of whole planes. activity.py, background.py and light.py define the
// numbers; this is the fast copy, bit for bit, tested against them (tests/gpu). What the host gets is small: two figures a block
// of 16 x 16 px, a coarse sample of the picture, and the pixels of those blocks in which something differs.
//
// No barriers, no shared memory: a thread writes what no other thread reads within one kernel. So g++ runs the same source.
#ifdef __CUDACC__
#include <stdint.h>
#else
#include "cuda_shim.h"
#endif

#define BLOCK_PX 16
#define AT_ONCE_ROWS 4

// One frame. 8-bit planes, samples side by side.
struct Motion {
    const uint8_t* now;
    const uint8_t* before;
    uint8_t* background;
    const uint8_t* levels;  // by stripe of 64 rows: grey levels the background may move, 0 for none
    const uint8_t* frozen;  // by block: not 0 where something stands before the background
    const uint8_t* limit;   // by block: a block is active if its `away` is above
    const int* heal;        // px (y * width + x) whose background becomes the frame before
    uint8_t* change;        // by block: largest |now - before|
    uint8_t* away;          // by block: largest |now - background|
    uint8_t* sample;        // a grid of `now`, then the same of the background
    int* count;             // blocks in `listed`; zero before; counts also what `room` does not hold
    int* listed;            // active blocks and those beside them, in any order
    uint8_t* pixels;        // by listed block: 16 rows of 16 px of now, before, background; 0 outside the picture
    int pitch_now, pitch_before, pitch_background;
    int width, height;
    int heals, grid_first, grid_step, grid_columns, grid_rows, room, reserved;
};

static_assert(sizeof(Motion) == 152, "motion_layout.py describes this layout");

// A plane made from another: levels of 8 bits, or the upper 8 of 16 rounded, through a table.
struct Levels {
    const uint8_t* from;
    uint8_t* to;
    const uint8_t* table;  // of 256
    int pitch_from, pitch_to, width, height, wide, reserved;
};

static_assert(sizeof(Levels) == 48, "motion_layout.py describes this layout");

__device__ __forceinline__ void one_px(uint8_t now, uint8_t before, uint8_t& background, int levels, int* found) {
    const int old = background;
    if (levels) background = (uint8_t)max(max(old - levels, 0), min(min(old + levels, 255), (int)before));
    found[0] = max(found[0], abs((int)now - (int)before));
    found[1] = max(found[1], abs((int)now - (int)background));
}

// The background takes over at once what it has wrong. A thread a px, as many rounds as it takes.
extern "C" __global__ void __launch_bounds__(128) heal_background(const Motion* __restrict__ motion) {
    const Motion& m = *motion;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < m.heals; i += gridDim.x * blockDim.x) {
        const int y = m.heal[i] / m.width, x = m.heal[i] - y * m.width;
        m.background[(int64_t)y * m.pitch_background + x] = m.before[(int64_t)y * m.pitch_before + x];
    }
}

// The background learns from the frame before, then each block says how far this frame lies from both. A thread takes a block:
// 16 rows of 16 bytes, a warp reads 512 neighbouring bytes of each row, and four rows are on their way at a time.
extern "C" __global__ void __launch_bounds__(128) motion_blocks(const Motion* __restrict__ motion) {
    const Motion m = *motion;
    const int columns = (m.width + BLOCK_PX - 1) / BLOCK_PX, rows = (m.height + BLOCK_PX - 1) / BLOCK_PX;
    const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
    if (column >= columns || row >= rows) return;
    const int block = row * columns + column, x = column * BLOCK_PX, top = row * BLOCK_PX;
    const int bottom = min(top + BLOCK_PX, m.height), wide = min(BLOCK_PX, m.width - x);
    const int levels = m.frozen[block] ? 0 : m.levels[top / (4 * BLOCK_PX)];
    const bool whole = wide == BLOCK_PX && bottom - top == BLOCK_PX &&
                       (((uintptr_t)m.now | (uintptr_t)m.before | (uintptr_t)m.background | m.pitch_now | m.pitch_before | m.pitch_background) & 15) == 0;
    const uint8_t* now = m.now + (int64_t)top * m.pitch_now + x;
    const uint8_t* before = m.before + (int64_t)top * m.pitch_before + x;
    uint8_t* background = m.background + (int64_t)top * m.pitch_background + x;
    int found[2] = {0, 0};
    if (whole) {
#pragma unroll 1
        for (int y = 0; y < BLOCK_PX; y += AT_ONCE_ROWS) {
            __align__(16) uint8_t n[AT_ONCE_ROWS][BLOCK_PX], p[AT_ONCE_ROWS][BLOCK_PX], g[AT_ONCE_ROWS][BLOCK_PX];
#pragma unroll
            for (int k = 0; k < AT_ONCE_ROWS; k++) {
                *(uint4*)n[k] = __ldg((const uint4*)(now + (int64_t)(y + k) * m.pitch_now));
                *(uint4*)p[k] = __ldg((const uint4*)(before + (int64_t)(y + k) * m.pitch_before));
                *(uint4*)g[k] = *(const uint4*)(background + (int64_t)(y + k) * m.pitch_background);
            }
#pragma unroll
            for (int k = 0; k < AT_ONCE_ROWS; k++) {
#pragma unroll
                for (int i = 0; i < BLOCK_PX; i++) one_px(n[k][i], p[k][i], g[k][i], levels, found);
                if (levels) *(uint4*)(background + (int64_t)(y + k) * m.pitch_background) = *(const uint4*)g[k];
            }
        }
    } else {
        for (int y = 0; y < bottom - top; y++)
            for (int i = 0; i < wide; i++)
                one_px(now[(int64_t)y * m.pitch_now + i], before[(int64_t)y * m.pitch_before + i], background[(int64_t)y * m.pitch_background + i], levels, found);
    }
    m.change[block] = (uint8_t)found[0];
    m.away[block] = (uint8_t)found[1];
}

// Every so many px of every so many rows.
extern "C" __global__ void __launch_bounds__(128) sample_grid(const Motion* __restrict__ motion) {
    const Motion& m = *motion;
    const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
    if (column >= m.grid_columns || row >= m.grid_rows) return;
    const int64_t x = m.grid_first + (int64_t)column * m.grid_step, y = m.grid_first + (int64_t)row * m.grid_step;
    const int at = row * m.grid_columns + column;
    m.sample[at] = m.now[y * m.pitch_now + x];
    m.sample[m.grid_rows * m.grid_columns + at] = m.background[y * m.pitch_background + x];
}

// Which blocks the host looks at: the active ones and their neighbours. A thread a block.
extern "C" __global__ void __launch_bounds__(128) list_blocks(const Motion* __restrict__ motion) {
    const Motion& m = *motion;
    const int columns = (m.width + BLOCK_PX - 1) / BLOCK_PX, rows = (m.height + BLOCK_PX - 1) / BLOCK_PX;
    const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
    if (column >= columns || row >= rows) return;
    bool active = false;
    for (int y = max(row - 1, 0); y <= min(row + 1, rows - 1); y++)
        for (int x = max(column - 1, 0); x <= min(column + 1, columns - 1); x++)
            active = active || m.away[y * columns + x] > m.limit[y * columns + x];
    if (!active) return;
    const int slot = atomicAdd(m.count, 1);
    if (slot < m.room) m.listed[slot] = row * columns + column;
}

// Their pixels. A thread copies one row of one plane of one block; 64 threads a block, a thread block each.
extern "C" __global__ void __launch_bounds__(64) gather_blocks(const Motion* __restrict__ motion) {
    const Motion& m = *motion;
    const int slot = blockIdx.x, part = threadIdx.x;
    if (part >= 3 * BLOCK_PX || slot >= min(*m.count, m.room)) return;
    const int columns = (m.width + BLOCK_PX - 1) / BLOCK_PX, block = m.listed[slot];
    const int y = block / columns * BLOCK_PX + part % BLOCK_PX, x = block % columns * BLOCK_PX;
    const int which = part / BLOCK_PX;
    const uint8_t* plane = which == 0 ? m.now : which == 1 ? m.before : m.background;
    const int pitch = which == 0 ? m.pitch_now : which == 1 ? m.pitch_before : m.pitch_background;
    const uint8_t* from = plane + (int64_t)y * pitch + x;
    uint8_t* const to = m.pixels + ((int64_t)slot * 3 * BLOCK_PX + part) * BLOCK_PX;
    const int have = y < m.height ? min(m.width - x, BLOCK_PX) : 0;
    if (have == BLOCK_PX && (uintptr_t)from % 16 == 0) {
        *(uint4*)to = __ldg((const uint4*)from);
        return;
    }
    for (int i = 0; i < BLOCK_PX; i++) to[i] = i < have ? from[i] : 0;
}

// Luma and chroma at places of a 4:2:0 picture that is not on the host.
struct Points {
    const int* x;
    const int* y;
    const uint8_t* luma;
    const uint8_t* chroma;  // u and v interleaved
    uint8_t* out;           // all luma, all u, all v
    int pitch_luma, pitch_chroma, count, wide;
};

static_assert(sizeof(Points) == 56, "motion_layout.py describes this layout");

__device__ __forceinline__ uint8_t level_of(const uint8_t* row, int sample, int wide) {
    return wide ? (uint8_t)min((((const uint16_t*)row)[sample] + 128) >> 8, 255) : row[sample];
}

extern "C" __global__ void __launch_bounds__(128) sample_points(const Points* __restrict__ points) {
    const Points& p = *points;
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= p.count) return;
    const int x = p.x[i], y = p.y[i];
    const uint8_t* chroma = p.chroma + (int64_t)(y / 2) * p.pitch_chroma;
    p.out[i] = level_of(p.luma + (int64_t)y * p.pitch_luma, x, p.wide);
    p.out[p.count + i] = level_of(chroma, x / 2 * 2, p.wide);
    p.out[2 * p.count + i] = level_of(chroma, x / 2 * 2 + 1, p.wide);
}

// A thread makes 4 px of a row.
extern "C" __global__ void __launch_bounds__(128) map_levels(const Levels* __restrict__ levels) {
    const Levels& job = *levels;
    const int first = (blockIdx.x * blockDim.x + threadIdx.x) * 4, y = blockIdx.y;
    if (y >= job.height) return;
    const uint8_t* from = job.from + (int64_t)y * job.pitch_from;
    uint8_t* to = job.to + (int64_t)y * job.pitch_to;
    for (int x = first; x < min(first + 4, job.width); x++)
        to[x] = job.table[job.wide ? min((((const uint16_t*)from)[x] + 128) >> 8, 255) : (int)from[x]];
}
