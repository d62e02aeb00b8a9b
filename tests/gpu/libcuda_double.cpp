// A libcuda.so.1 on host memory, for tests: the driver calls that pycuda and we use, with a GPU's order of things.
//
// A stream is a queue: what is put there runs only when somebody waits for it (stream, event, context, synchronous copy), so a
// buffer refilled too early or read too soon shows. Kernels are the real sources, compiled by g++ with cuda_shim.h into this very
// library. Allocations are poisoned and guarded; what is not freed is counted (double_live). Calls fail on demand
// (DOUBLE_FAIL=function:n:code). Calls that a GPU forbids while a stream is captured are forbidden here too.
#include <dlfcn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda_shim.h"

#define API extern "C" __attribute__((visibility("default"))) int
typedef uint64_t Ptr;

namespace {
std::recursive_mutex lock_;
const size_t GUARD = 64;

struct Event {
    bool recorded = false, done = true;
    double at_ms = 0;
    struct Stream* on = nullptr;
};
typedef std::function<void()> Op;
struct Stream {
    std::deque<Op> queue;
    bool capturing = false, invalid = false;
    std::vector<Op> captured;
};
struct Graph {
    std::vector<Op> ops;
};
struct Module {
    int unused;
};

std::map<Ptr, size_t> memory;   // device: address -> bytes
std::map<Ptr, size_t> pinned;
std::map<Stream*, int> streams;
std::map<Event*, int> events;
std::map<Graph*, int> graphs, execs;
std::map<Module*, int> modules;
int retained = 0, launches = 0;
thread_local int current = 0;   // depth of the context stack
Stream legacy;
std::map<std::string, int> calls;
int sticky = 0;

int env(const char* name, int otherwise) {
    const char* text = getenv(name);
    return text && *text ? atoi(text) : otherwise;
}
double now_ms() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}
// DOUBLE_FAIL=cuMemAlloc_v2:3:2 -> the third call of it, and no other, answers 2.
int failing(const char* name) {
    const int count = ++calls[name];
    const char* text = getenv("DOUBLE_FAIL");
    if (!text) return sticky;
    char which[80];
    int nth, code;
    if (sscanf(text, "%79[^:]:%d:%d", which, &nth, &code) == 3 && !strcmp(which, name) && nth == count) {
        if (code >= 700) sticky = code;
        return code;
    }
    return sticky;
}
Stream* stream_of(void* handle) { return handle && handle != (void*)1 && handle != (void*)2 ? (Stream*)handle : &legacy; }
bool any_capture() {
    for (auto& pair : streams)
        if (pair.first->capturing) return true;
    return false;
}
// A call that may not be made by a thread that captures.
int unsafe_now() {
    bool found = false;
    for (auto& pair : streams)
        if (pair.first->capturing) pair.first->invalid = found = true;
    return found ? 900 : 0;
}
void run(Stream* stream) {
    while (!stream->queue.empty()) {
        Op op = std::move(stream->queue.front());
        stream->queue.pop_front();
        op();
    }
}
void put(Stream* stream, Op op) {
    if (stream->capturing)
        stream->captured.push_back(std::move(op));
    else
        stream->queue.push_back(std::move(op));
}
bool inside(Ptr at, size_t size) {
    auto next = memory.upper_bound(at);
    if (next == memory.begin()) return false;
    --next;
    return at >= next->first && at + size <= next->first + next->second;
}
void check_guards(Ptr at, size_t size) {
    for (size_t i = 0; i < GUARD; i++)
        if (((uint8_t*)at)[-1 - (long)i] != 0xA5 || ((uint8_t*)at)[size + i] != 0xA5) {
            fprintf(stderr, "libcuda double: written beside an allocation of %zu bytes\n", size);
            abort();
        }
}
void check_all_guards() {
    for (auto& pair : memory) check_guards(pair.first, pair.second);
}
}  // namespace

#define BEGIN                                            \
    std::lock_guard<std::recursive_mutex> held(lock_);   \
    if (int code = failing(__func__)) return code;
#define NEED_CONTEXT \
    if (!current) return 201;

API double_live(int what) {
    std::lock_guard<std::recursive_mutex> held(lock_);
    const size_t all[] = {memory.size(), pinned.size(), streams.size(), events.size(), graphs.size() + execs.size(), modules.size(), (size_t)retained, (size_t)current, (size_t)launches};
    return (int)all[what];
}
API double_calls(const char* name) { return calls[name]; }
API double_reset() {
    calls.clear();
    sticky = 0;
    launches = 0;
    return 0;
}

API cuInit(unsigned) {
    BEGIN;
    return env("DOUBLE_INIT", 0);
}
API cuDriverGetVersion(int* version) { return *version = env("DOUBLE_CUDA", 13000), 0; }
API cuGetErrorName(int code, const char** text) {
    static std::map<int, const char*> names = {{1, "CUDA_ERROR_INVALID_VALUE"}, {2, "CUDA_ERROR_OUT_OF_MEMORY"}, {100, "CUDA_ERROR_NO_DEVICE"}, {201, "CUDA_ERROR_INVALID_CONTEXT"}, {400, "CUDA_ERROR_INVALID_HANDLE"}, {500, "CUDA_ERROR_NOT_FOUND"}, {700, "CUDA_ERROR_ILLEGAL_ADDRESS"}, {719, "CUDA_ERROR_LAUNCH_FAILED"}, {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"}, {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"}};
    auto found = names.find(code);
    *text = found == names.end() ? nullptr : found->second;
    return *text ? 0 : 1;
}
API cuGetErrorString(int code, const char** text) {
    if (cuGetErrorName(code, text)) *text = "an error of the double";
    return 0;
}
API cuDeviceGetCount(int* count) {
    BEGIN;
    return *count = env("DOUBLE_DEVICES", 1), 0;
}
API cuDeviceGet(int* device, int index) { return *device = index, 0; }
API cuDeviceGetName(char* name, int size, int) { return snprintf(name, size, "NVIDIA Double"), 0; }
API cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = (size_t)env("DOUBLE_MB", 1024) << 20, 0; }
API cuDeviceGetAttribute(int* value, int what, int) {
    const int capability = env("DOUBLE_CAPABILITY", 90);
    return *value = what == 75 ? capability / 10 : what == 76 ? capability % 10 : what == 16 ? 132 : 1, 0;
}
API cuDeviceComputeCapability(int* major, int* minor, int) {
    const int capability = env("DOUBLE_CAPABILITY", 90);
    return *major = capability / 10, *minor = capability % 10, 0;
}
API cuDevicePrimaryCtxRetain(void** context, int device) {
    BEGIN;
    retained++;
    return *context = (void*)(uintptr_t)(0x1000 + device), 0;
}
API cuDevicePrimaryCtxSetFlags_v2(int, unsigned) { return 0; }
API cuDevicePrimaryCtxRelease_v2(int) {
    retained--;
    return 0;
}
API cuCtxPushCurrent_v2(void*) {
    BEGIN;
    current++;
    return 0;
}
API cuCtxPopCurrent_v2(void** context) {
    if (!current) return 201;
    current--;
    if (context) *context = (void*)0x1000;
    return 0;
}
API cuCtxGetDevice(int* device) {
    NEED_CONTEXT;
    return *device = 0, 0;
}
API cuCtxGetCurrent(void** context) { return *context = current ? (void*)0x1000 : nullptr, 0; }
API cuCtxGetApiVersion(void*, unsigned* version) { return *version = 13000, 0; }
API cuCtxSynchronize() {
    BEGIN;
    NEED_CONTEXT;
    if (int code = unsafe_now()) return code;
    run(&legacy);
    for (auto& pair : streams) run(pair.first);
    check_all_guards();
    return 0;
}
API cuStreamCreate(Stream** stream, unsigned) {
    BEGIN;
    NEED_CONTEXT;
    streams[*stream = new Stream] = 1;
    return 0;
}
API cuStreamDestroy_v2(Stream* stream) {
    std::lock_guard<std::recursive_mutex> held(lock_);
    if (!streams.erase(stream)) return 400;
    run(stream);
    delete stream;
    return 0;
}
API cuStreamSynchronize(void* handle) {
    BEGIN;
    Stream* stream = stream_of(handle);
    if (stream->capturing) return stream->invalid = true, 900;
    run(stream);
    check_all_guards();
    return sticky;
}
API cuStreamQuery(void* handle) { return stream_of(handle)->queue.empty() ? 0 : 600; }
API cuStreamWaitEvent(void* handle, Event* event, unsigned) {
    BEGIN;
    if (!events.count(event)) return 400;
    Stream* other = event->on;
    if (event->recorded && !event->done && other) put(stream_of(handle), [other] { run(other); });
    return 0;
}
API cuStreamBeginCapture_v2(Stream* stream, int mode) {
    BEGIN;
    if (!streams.count(stream) || stream->capturing || mode != 1) return 1;
    stream->capturing = true, stream->invalid = false;
    stream->captured.clear();
    return 0;
}
API cuStreamEndCapture(Stream* stream, Graph** graph) {
    std::lock_guard<std::recursive_mutex> held(lock_);
    *graph = nullptr;
    if (!stream->capturing) return 1;
    stream->capturing = false;
    if (int code = failing(__func__)) return code;
    if (stream->invalid) return 901;
    *graph = new Graph;
    (*graph)->ops = std::move(stream->captured);
    stream->captured.clear();
    graphs[*graph] = 1;
    return 0;
}
API cuGraphInstantiateWithFlags(Graph** exec, Graph* graph, unsigned long long) {
    BEGIN;
    if (!graphs.count(graph)) return 400;
    execs[*exec = new Graph(*graph)] = 1;
    return 0;
}
API cuGraphLaunch(Graph* exec, void* handle) {
    BEGIN;
    if (!execs.count(exec)) return 400;
    for (auto& op : exec->ops) put(stream_of(handle), op);
    return 0;
}
API cuGraphExecDestroy(Graph* exec) {
    std::lock_guard<std::recursive_mutex> held(lock_);
    if (!execs.erase(exec)) return 400;
    delete exec;
    return 0;
}
API cuGraphDestroy(Graph* graph) {
    std::lock_guard<std::recursive_mutex> held(lock_);
    if (!graphs.erase(graph)) return 400;
    delete graph;
    return 0;
}
API cuEventCreate(Event** event, unsigned) {
    BEGIN;
    NEED_CONTEXT;
    events[*event = new Event] = 1;
    return 0;
}
API cuEventDestroy_v2(Event* event) {
    std::lock_guard<std::recursive_mutex> held(lock_);
    if (!events.erase(event)) return 400;
    if (event->on) run(event->on);
    delete event;
    return 0;
}
API cuEventRecord(Event* event, void* handle) {
    BEGIN;
    if (!events.count(event)) return 400;
    event->recorded = true, event->done = false, event->on = stream_of(handle);
    put(event->on, [event] { event->done = true, event->at_ms = now_ms(); });
    return 0;
}
API cuEventQuery(Event* event) {
    BEGIN;
    return !events.count(event) ? 400 : event->done ? 0 : 600;
}
API cuEventSynchronize(Event* event) {
    BEGIN;
    if (!events.count(event)) return 400;
    while (!event->done && event->on && !event->on->queue.empty()) {
        Op op = std::move(event->on->queue.front());
        event->on->queue.pop_front();
        op();
    }
    return sticky;
}
API cuEventElapsedTime_v2(float* ms, Event* start, Event* end) { return *ms = (float)(end->at_ms - start->at_ms), 0; }
API cuEventElapsedTime(float* ms, Event* start, Event* end) { return cuEventElapsedTime_v2(ms, start, end); }

API cuMemAlloc_v2(Ptr* at, size_t size) {
    BEGIN;
    NEED_CONTEXT;
    if (int code = unsafe_now()) return code;
    size_t used = size;
    for (auto& pair : memory) used += pair.second;
    if (used > (size_t)env("DOUBLE_MB", 1024) << 20) return 2;
    uint8_t* raw = nullptr;
    if (posix_memalign((void**)&raw, 256, size + 512)) return 2;
    memset(raw, 0xA5, size + 512);
    *at = (Ptr)(raw + 256);
    memset((void*)*at, 0xCD, size);
    memory[*at] = size;
    return 0;
}
API cuMemFree_v2(Ptr at) {
    std::lock_guard<std::recursive_mutex> held(lock_);
    if (!current) return 201;
    auto found = memory.find(at);
    if (found == memory.end()) return 1;
    if (int code = unsafe_now()) return code;
    run(&legacy);
    for (auto& pair : streams) run(pair.first);
    check_guards(at, found->second);
    memory.erase(found);
    free((uint8_t*)at - 256);
    return 0;
}
API cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
    size_t used = 0;
    for (auto& pair : memory) used += pair.second;
    *total = (size_t)env("DOUBLE_MB", 1024) << 20;
    *free_bytes = *total - used;
    return 0;
}
API cuMemHostAlloc(void** at, size_t size, unsigned) {
    BEGIN;
    NEED_CONTEXT;
    if (int code = unsafe_now()) return code;
    if (posix_memalign(at, 4096, size)) return 2;
    pinned[(Ptr)*at] = size;
    return 0;
}
API cuMemFreeHost(void* at) {
    std::lock_guard<std::recursive_mutex> held(lock_);
    if (!pinned.erase((Ptr)at)) return 1;
    free(at);
    return 0;
}
API cuMemcpyHtoDAsync_v2(Ptr to, const void* from, size_t size, void* handle) {
    BEGIN;
    if (!inside(to, size)) return 700;
    put(stream_of(handle), [=] { memcpy((void*)to, from, size); });
    return 0;
}
API cuMemcpyDtoHAsync_v2(void* to, Ptr from, size_t size, void* handle) {
    BEGIN;
    if (!inside(from, size)) return 700;
    put(stream_of(handle), [=] { memcpy(to, (void*)from, size); });
    return 0;
}
API cuMemcpyDtoDAsync_v2(Ptr to, Ptr from, size_t size, void* handle) {
    BEGIN;
    if (!inside(from, size) || !inside(to, size)) return 700;
    put(stream_of(handle), [=] { memmove((void*)to, (void*)from, size); });
    return 0;
}
API cuMemcpyHtoD_v2(Ptr to, const void* from, size_t size) {
    BEGIN;
    if (!inside(to, size)) return 700;
    run(&legacy);
    memcpy((void*)to, from, size);
    return 0;
}
API cuMemcpyDtoH_v2(void* to, Ptr from, size_t size) {
    BEGIN;
    if (!inside(from, size)) return 700;
    run(&legacy);
    memcpy(to, (void*)from, size);
    return 0;
}
API cuMemsetD8Async(Ptr to, unsigned char value, size_t size, void* handle) {
    BEGIN;
    if (!inside(to, size)) return 700;
    put(stream_of(handle), [=] { memset((void*)to, value, size); });
    return 0;
}
API cuModuleLoadDataEx(Module** module, const void* image, unsigned, int*, void**) {
    BEGIN;
    NEED_CONTEXT;
    if (*(const uint32_t*)image != 0xba55ed50u) return 200;
    modules[*module = new Module] = 1;
    return 0;
}
API cuModuleLoadData(Module** module, const void* image) { return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr); }
API cuModuleUnload(Module* module) {
    std::lock_guard<std::recursive_mutex> held(lock_);
    if (!modules.erase(module)) return 400;
    delete module;
    return 0;
}
API cuModuleGetFunction(void** function, Module* module, const char* name) {
    BEGIN;
    if (!modules.count(module)) return 400;
    Dl_info self;
    dladdr((void*)&cuModuleGetFunction, &self);
    void* library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    *function = dlsym(library, name);
    dlclose(library);
    return *function ? 0 : 500;
}
API cuFuncGetAttribute(int* value, int, void*) { return *value = 0, 0; }
API cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned, void* handle, void**, void** extra) {
    BEGIN;
    NEED_CONTEXT;
    if (!gx || !gy || !gz || bx * by * bz > 1024 || gy > 65535 || gz > 65535) return 1;
    const uint64_t* from = nullptr;
    size_t bytes = 0;
    for (int i = 0; extra && extra[i]; i += 2) {
        if (extra[i] == (void*)1) from = (const uint64_t*)extra[i + 1];
        if (extra[i] == (void*)2) bytes = *(size_t*)extra[i + 1];
    }
    std::vector<uint64_t> arguments(from, from + bytes / 8);
    put(stream_of(handle), [=] {
        launches++;
        shim_launch((ShimKernel)function, dim3{gx, gy, gz}, dim3{bx, by, bz}, arguments.data(), (int)arguments.size());
    });
    return 0;
}

// What pycuda also names and we never call.
#define NONE(name) API name() { return 801; }
NONE(cuArray3DCreate_v2) NONE(cuArray3DGetDescriptor_v2) NONE(cuArrayCreate_v2) NONE(cuArrayDestroy) NONE(cuArrayGetDescriptor_v2)
NONE(cuCtxAttach) NONE(cuCtxCreate_v4) NONE(cuCtxCreate_v2) NONE(cuCtxDetach) NONE(cuCtxDisablePeerAccess) NONE(cuCtxEnablePeerAccess)
NONE(cuCtxGetCacheConfig) NONE(cuCtxGetLimit) NONE(cuCtxGetSharedMemConfig) NONE(cuCtxSetCacheConfig) NONE(cuCtxSetLimit) NONE(cuCtxSetSharedMemConfig)
NONE(cuDeviceCanAccessPeer) NONE(cuDeviceGetByPCIBusId) NONE(cuDeviceGetPCIBusId) NONE(cuFuncSetAttribute) NONE(cuFuncSetBlockShape)
NONE(cuFuncSetCacheConfig) NONE(cuFuncSetSharedSize) NONE(cuFuncSetSharedMemConfig) NONE(cuIpcCloseMemHandle) NONE(cuIpcGetEventHandle) NONE(cuIpcGetMemHandle)
NONE(cuIpcOpenEventHandle) NONE(cuIpcOpenMemHandle_v2) NONE(cuLaunch) NONE(cuLaunchGrid) NONE(cuLaunchGridAsync) NONE(cuLinkAddData_v2)
NONE(cuLinkAddFile_v2) NONE(cuLinkComplete) NONE(cuLinkCreate_v2) NONE(cuLinkDestroy) NONE(cuMemAllocManaged) NONE(cuMemAllocPitch_v2)
NONE(cuMemGetAddressRange_v2) NONE(cuMemHostGetDevicePointer_v2) NONE(cuMemHostGetFlags) NONE(cuMemHostRegister_v2) NONE(cuMemHostUnregister)
NONE(cuMemcpy2DAsync_v2) NONE(cuMemcpy2DUnaligned_v2) NONE(cuMemcpy2D_v2) NONE(cuMemcpy3DAsync_v2) NONE(cuMemcpy3DPeer) NONE(cuMemcpy3DPeerAsync)
NONE(cuMemcpy3D_v2) NONE(cuMemcpyAtoA_v2) NONE(cuMemcpyAtoD_v2) NONE(cuMemcpyAtoH_v2) NONE(cuMemcpyDtoA_v2) NONE(cuMemcpyDtoD_v2) NONE(cuMemcpyHtoA_v2)
NONE(cuMemcpyPeer) NONE(cuMemcpyPeerAsync) NONE(cuMemsetD16Async) NONE(cuMemsetD16_v2) NONE(cuMemsetD2D16Async) NONE(cuMemsetD2D16_v2)
NONE(cuMemsetD2D32Async) NONE(cuMemsetD2D32_v2) NONE(cuMemsetD2D8Async) NONE(cuMemsetD2D8_v2) NONE(cuMemsetD32Async) NONE(cuMemsetD32_v2)
NONE(cuMemsetD8_v2) NONE(cuModuleGetGlobal_v2) NONE(cuModuleGetSurfRef) NONE(cuModuleGetTexRef) NONE(cuModuleLoad) NONE(cuParamSetSize) NONE(cuParamSetTexRef)
NONE(cuParamSetf) NONE(cuParamSeti) NONE(cuParamSetv) NONE(cuProfilerInitialize) NONE(cuProfilerStart) NONE(cuProfilerStop) NONE(cuStreamAttachMemAsync)
NONE(cuSurfRefGetArray) NONE(cuSurfRefSetArray) NONE(cuTexRefCreate) NONE(cuTexRefDestroy) NONE(cuTexRefGetAddressMode) NONE(cuTexRefGetAddress_v2)
NONE(cuTexRefGetArray) NONE(cuTexRefGetFilterMode) NONE(cuTexRefGetFlags) NONE(cuTexRefGetFormat) NONE(cuTexRefSetAddress2D_v3) NONE(cuTexRefSetAddressMode)
NONE(cuTexRefSetAddress_v2) NONE(cuTexRefSetArray) NONE(cuTexRefSetFilterMode) NONE(cuTexRefSetFlags) NONE(cuTexRefSetFormat)
