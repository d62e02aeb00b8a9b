// A network's answers thinned out on the GPU: of thousands of cells a tile only those not below the threshold leave it, as boxes.
//
// The decoders in decode/ define the rows (yolox.py, yolo.py, centers.py); this finds the same ones, in any order, with a key by
// which the host puts them into the decoders' order. As in tiles/kernel.cu there is no barrier, and g++ runs the same source.
// A score that is not a number is kept, as the decoders keep it: the host counts and drops it.
#ifdef __CUDACC__
#include <cuda_fp16.h>
#include <stdint.h>
#else
#include "cuda_shim.h"
#endif

#define MOST_LEVELS 8
enum { NONE = 0, SIGMOID = 1 };
enum { XYXY = 0, YXYX = 1, CXCYWH = 2, XYWH = 3 };
enum { LOG_PX = 0, PX = 1, CELLS = 2 };

struct Found {
    float x1, y1, x2, y2;  // input px
    float score;
    int label, tile, key;
};

struct Compact {
    const void* first;   // output; heat
    const void* second;  // offset
    const void* third;   // size
    Found* found;
    int* count;          // zero before; counts also what `room` does not hold
    int half;            // f16 instead of f32
    int tiles, anchors, columns, classes, height, width;
    int activation, decoded, transposed, box_format, size_unit, room;
    float floor, scale_x, scale_y;  // scale: what box coordinates are multiplied by; centers: px per cell
    int levels, level_first[MOST_LEVELS], level_columns[MOST_LEVELS], level_stride[MOST_LEVELS];
};

static_assert(sizeof(Found) == 32 && sizeof(Compact) == 208, "compact_cuda.py describes these layouts");

__device__ __forceinline__ float value_at(const Compact& c, const void* from, int64_t index) {
    return c.half ? __half2float(__ldg((const __half*)from + index)) : __ldg((const float*)from + index);
}

__device__ __forceinline__ float activated(const Compact& c, float value) {
    return c.activation == SIGMOID ? 1.0f / (1.0f + expf(-value)) : value;
}

__device__ __forceinline__ void keep(const Compact& c, float x1, float y1, float x2, float y2, float score, int label, int tile, int key) {
    const int row = atomicAdd(c.count, 1);
    if (row < c.room) c.found[row] = {x1, y1, x2, y2, score, label, tile, key};
}

__device__ __forceinline__ void keep_box(const Compact& c, const float* box, float score, int label, int tile, int key) {
    float x1 = box[0], y1 = box[1], x2 = box[2], y2 = box[3];
    if (c.box_format == YXYX) {
        x1 = box[1], y1 = box[0], x2 = box[3], y2 = box[2];
    } else if (c.box_format == CXCYWH) {
        x1 = box[0] - box[2] / 2, y1 = box[1] - box[3] / 2, x2 = box[0] + box[2] / 2, y2 = box[1] + box[3] / 2;
    } else if (c.box_format == XYWH) {
        x2 = box[0] + box[2], y2 = box[1] + box[3];
    }
    keep(c, x1 * c.scale_x, y1 * c.scale_y, x2 * c.scale_x, y2 * c.scale_y, score, label, tile, key);
}

// The best class from `start` on, `stride` apart: the first of equals; a value that is not a number beats all.
__device__ __forceinline__ float best_of(const Compact& c, int64_t start, int64_t stride, int& label) {
    float best = -INFINITY;
    label = 0;
    for (int i = 0; i < c.classes; i++) {
        const float score = activated(c, value_at(c, c.first, start + i * stride));
        if (score > best || isnan(score)) best = score, label = i;
        if (isnan(score)) break;
    }
    return best;
}

// (tiles, anchors, 5 + classes ...): YOLOX and YOLOv5. A thread looks at one row's objectness, and on only if that suffices.
extern "C" __global__ void __launch_bounds__(256) compact_objectness(const Compact* __restrict__ job) {
    const Compact& c = *job;
    const int anchor = blockIdx.x * blockDim.x + threadIdx.x, tile = blockIdx.y;
    if (anchor >= c.anchors || tile >= c.tiles) return;
    const int64_t row = ((int64_t)tile * c.anchors + anchor) * c.columns;
    const float objectness = activated(c, value_at(c, c.first, row + 4));
    if (objectness < c.floor) return;
    int label = 0;
    const float score = c.classes ? objectness * best_of(c, row + 5, 1, label) : objectness;
    if (score < c.floor) return;
    float box[4];
    for (int i = 0; i < 4; i++) box[i] = value_at(c, c.first, row + i);
    if (!c.decoded) {
        int level = 0;
        while (level + 1 < c.levels && anchor >= c.level_first[level + 1]) level++;
        const int cell = anchor - c.level_first[level], columns = c.level_columns[level];
        const float stride = (float)c.level_stride[level];
        box[0] = (box[0] + cell % columns) * stride, box[1] = (box[1] + cell / columns) * stride;
        box[2] = expf(box[2]) * stride, box[3] = expf(box[3]) * stride;
    }
    keep_box(c, box, score, label, tile, anchor);
}

// (tiles, 4 + classes ..., anchors) or transposed: YOLOv8 and its kin. Neighbouring threads read neighbouring anchors.
extern "C" __global__ void __launch_bounds__(256) compact_classes(const Compact* __restrict__ job) {
    const Compact& c = *job;
    const int anchor = blockIdx.x * blockDim.x + threadIdx.x, tile = blockIdx.y;
    if (anchor >= c.anchors || tile >= c.tiles) return;
    const int64_t begin = (int64_t)tile * c.anchors * c.columns + (c.transposed ? (int64_t)anchor * c.columns : anchor);
    const int64_t stride = c.transposed ? 1 : c.anchors;
    int label = 0;
    const float score = best_of(c, begin + 4 * stride, stride, label);
    if (score < c.floor) return;
    float box[4];
    for (int i = 0; i < 4; i++) box[i] = value_at(c, c.first, begin + i * stride);
    keep_box(c, box, score, label, tile, anchor);
}

// Heat (tiles, classes, height, width), offset and size (tiles, 2, height, width): a cell no neighbour exceeds.
extern "C" __global__ void __launch_bounds__(256) compact_centers(const Compact* __restrict__ job) {
    const Compact& c = *job;
    const int plane = c.height * c.width, key = blockIdx.x * blockDim.x + threadIdx.x, tile = blockIdx.y;
    if (key >= c.classes * plane || tile >= c.tiles) return;
    const int label = key / plane, cell = key - label * plane, row = cell / c.width, column = cell - row * c.width;
    const int64_t at = ((int64_t)tile * c.classes + label) * plane + cell;
    const float score = activated(c, value_at(c, c.first, at));
    if (score < c.floor) return;
    for (int dy = -1; dy <= 1; dy++)
        for (int dx = -1; dx <= 1; dx++) {
            const int y = row + dy, x = column + dx;
            if ((!dy && !dx) || y < 0 || y >= c.height || x < 0 || x >= c.width) continue;
            const float other = activated(c, value_at(c, c.first, at + dy * c.width + dx));
            const bool earlier = dy < 0 || (dy == 0 && dx < 0);  // of equals the first in reading order stays
            if (earlier ? other >= score : other > score) return;
        }
    const int64_t pair = (int64_t)tile * 2 * plane + cell;
    const float x = (column + value_at(c, c.second, pair)) * c.scale_x, y = (row + value_at(c, c.second, pair + plane)) * c.scale_y;
    float width = value_at(c, c.third, pair), height = value_at(c, c.third, pair + plane);
    if (c.size_unit == LOG_PX) width = expf(width), height = expf(height);
    if (c.size_unit == CELLS) width *= c.scale_x, height *= c.scale_y;
    keep(c, x - width / 2, y - height / 2, x + width / 2, y + height / 2, score, label, tile, key);
}
