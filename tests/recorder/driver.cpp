// The CUDA driver's interface over main memory: what the recorder asks of it is done on the host, by the recorder's own kernel; at once,
// or, while `deferred` is set, stream by stream when a test says so, as a GPU does.
// Compiled against NVIDIA's cuda.h where that is installed, so that the signatures are the real ones.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <set>

#if __has_include(<cuda.h>)
#include <cuda.h>
#else
typedef int CUresult;
typedef unsigned long long CUdeviceptr;
typedef int CUdevice;
typedef struct CUctx_st* CUcontext;
typedef struct CUmod_st* CUmodule;
typedef struct CUfunc_st* CUfunction;
typedef struct CUstream_st* CUstream;
typedef struct CUevent_st* CUevent;
typedef int CUstreamCaptureStatus;
typedef int CUstreamCaptureMode;
#define CUDAAPI
struct CUlaunchConfig {
    unsigned gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
    CUstream hStream;
    void* attrs;
    unsigned numAttrs;
};
#define cuMemFree cuMemFree_v2
#define cuMemAlloc cuMemAlloc_v2
#define cuMemcpyDtoHAsync cuMemcpyDtoHAsync_v2
#define cuMemcpyDtoDAsync cuMemcpyDtoDAsync_v2
#endif

#define ON_HOST
#define __device__
#define __global__
#undef __forceinline__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#undef __align__
#define __align__(n) alignas(n)
struct Dim { unsigned x, y; };
static Dim blockIdx, threadIdx, gridDim;
static int delivered = 0;
static void atomicAdd(unsigned long long* p, unsigned long long n) { *p += n; }
static void deliver(unsigned long long lo, unsigned long long hi, unsigned long long* out) { out[0] += lo; out[1] += hi; delivered++; }
#include "kernel.inc"

static int refuse = 0;
static thread_local CUcontext current = nullptr;
static thread_local int mode = 0;
static std::map<CUstream, std::deque<std::function<void()>>> queues;
static std::set<CUstream> captured;
static CUresult answer(int code) { return (CUresult)code; }
static CUcontext context_of(int device) { return (CUcontext)(intptr_t)(device + 1001); }

extern "C" {
int launches = 0, pending = 0, deferred = 0, into_graphs = 0, spoilt = 0, implicit = 0, no_host_memory = 0;
long long device_bytes = 0;
int threads_that_read() { return delivered; }
void set_device(int device) { current = context_of(device); }  // as cudaSetDevice does
void forget_context() { current = nullptr; }
void break_device(int code) { refuse = code; }
void capture(CUstream s, int on) { if (on) captured.insert(s); else captured.erase(s); }
int go_on(CUstream s, int most) {
    int done = 0;
    for (auto& queue = queues[s]; done < most && !queue.empty(); done++) { queue.front()(); queue.pop_front(); }
    return done;
}
}

static CUresult queue(CUstream s, std::function<void()> work, CUcontext of = nullptr) {
    if (refuse) return answer(refuse);
    if (!current) return answer(201);
    if (of && of != current) return answer(400);
    if (s && (intptr_t)s / 1000 != (intptr_t)current - 1000) return answer(400);  // stream 1005 is the fifth of device 0
    if (captured.count(s)) { into_graphs++; return answer(0); }
    if (deferred) queues[s].push_back(work);
    else work();
    return answer(0);
}
// what may not be asked while anything is captured, unless the thread has said that it knows
static bool unsafe() {
    if (captured.empty() || mode == 2) return false;
    spoilt++;
    return true;
}
struct Event { CUcontext of; bool done; };
struct Function { CUcontext of; int number; };

extern "C" {
CUresult CUDAAPI cuMemAlloc(CUdeviceptr* p, size_t n) {
    if (unsafe()) return answer(900);
    if (!current) return answer(201);
    *p = (CUdeviceptr)malloc(n);
    memset((void*)*p, 0xAA, n);
    device_bytes += n;
    return answer(0);
}
CUresult CUDAAPI cuMemFree(CUdeviceptr p) { free((void*)p); device_bytes = 0; return answer(0); }
CUresult CUDAAPI cuMemHostAlloc(void** p, size_t n, unsigned) {
    if (unsafe()) return answer(900);
    if (no_host_memory) return answer(2);
    *p = malloc(n);
    return answer(0);
}
CUresult CUDAAPI cuMemsetD8Async(CUdeviceptr p, unsigned char c, size_t n, CUstream s) { return queue(s, [=] { memset((void*)p, c, n); }); }
CUresult CUDAAPI cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t n, CUstream s) { return queue(s, [=] { memcpy(to, (void*)from, n); }); }
CUresult CUDAAPI cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) {
    return queue(s, [=] { memcpy((void*)to, (void*)from, n); });
}
CUresult CUDAAPI cuEventCreate(CUevent* e, unsigned) { *e = (CUevent) new Event{current, true}; return answer(current ? 0 : 201); }
CUresult CUDAAPI cuEventRecord(CUevent e, CUstream s) {
    ((Event*)e)->done = false;
    return queue(s, [=] { ((Event*)e)->done = true; }, ((Event*)e)->of);
}
CUresult CUDAAPI cuEventQuery(CUevent e) {
    if (unsafe()) return answer(900);
    if (!current) return answer(201);
    return answer(refuse ? refuse : pending || !((Event*)e)->done ? 600 : 0);
}
CUresult CUDAAPI cuModuleLoadData(CUmodule* m, const void* image) {
    if (unsafe()) return answer(900);
    *m = (CUmodule)current;
    return answer(!current ? 201 : memcmp(image, "image", 5) ? 200 : 0);
}
CUresult CUDAAPI cuModuleGetFunction(CUfunction* f, CUmodule m, const char* name) {
    const char* names[] = {"fingerprint", "fingerprint_noted", "fingerprint_again", "fingerprints"};
    for (int n = 0; n < 4; n++)
        if (strcmp(name, names[n]) == 0) { *f = (CUfunction) new Function{(CUcontext)m, n + 1}; return answer(0); }
    return answer(500);
}
CUresult CUDAAPI cuDeviceGet(CUdevice* d, int ordinal) { *d = ordinal; return answer(0); }
CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext* c, CUdevice d) { *c = context_of(d); return answer(0); }
CUresult CUDAAPI cuCtxGetCurrent(CUcontext* c) { *c = current; return answer(0); }
CUresult CUDAAPI cuCtxSetCurrent(CUcontext c) { current = c; return answer(0); }
CUresult CUDAAPI cuStreamIsCapturing(CUstream s, CUstreamCaptureStatus* status) {
    if (implicit && !s) return answer(906);
    *status = (CUstreamCaptureStatus)(captured.count(s) ? 1 : 0);
    return answer(0);
}
CUresult CUDAAPI cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* m) {
    int before = mode;
    mode = (int)*m;
    *m = (CUstreamCaptureMode)before;
    return answer(0);
}
CUresult CUDAAPI cuGetErrorString(CUresult, const char** text) { *text = "made up"; return answer(0); }
CUresult CUDAAPI cuLaunchKernelEx(const CUlaunchConfig* c, CUfunction f, void** values, void** extra) {
    const unsigned gx = c->gridDimX, gy = c->gridDimY;
    const CUstream s = c->hStream;
    if (!gx || !gy || c->gridDimZ != 1 || c->blockDimX != THREADS || c->blockDimY != 1 || c->blockDimZ != 1) return answer(1);
    if (c->sharedMemBytes || c->attrs || c->numAttrs || extra || gy > 65535) return answer(1);
    const int number = ((Function*)f)->number;
    u64 given[5] = {};  // a launch takes the arguments along: what the caller does to them afterwards is not seen
    Table table;
    if (number == 4) table = *(const Table*)values[0];
    else for (int n = 0; n < (number == 3 ? 5 : 4); n++) given[n] = *(u64*)values[n];
    auto work = [=] {
        gridDim = {gx, gy};
        for (blockIdx.y = 0; blockIdx.y < gy; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < gx; blockIdx.x++)
                for (threadIdx.x = 0; threadIdx.x < THREADS; threadIdx.x++) {
                    const unsigned char* p = (const unsigned char*)given[0];
                    u64* out = (u64*)given[3];
                    if (number == 1) fingerprint(p, given[1], given[2], out);
                    if (number == 2) fingerprint_noted(p, given[1], given[2], out);
                    if (number == 3) fingerprint_again(p, given[1], given[2], out, (const u64*)given[4]);
                    if (number == 4) fingerprints(table);
                }
    };
    CUresult code = queue(s, work, ((Function*)f)->of);
    if (code == 0) launches++;
    return code;
}
}
