// The CUDA driver's interface over main memory: what the recorder asks of it is done at once, on the host, by the recorder's own kernel.
// Compiled against NVIDIA's cuda.h where that is installed, so that the signatures are the real ones.
#include <cstdlib>
#include <cstring>

#if __has_include(<cuda.h>)
#include <cuda.h>
#else
typedef int CUresult;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st* CUcontext;
typedef struct CUmod_st* CUmodule;
typedef struct CUfunc_st* CUfunction;
typedef struct CUstream_st* CUstream;
typedef struct CUevent_st* CUevent;
typedef int CUstreamCaptureStatus;
typedef int CUstreamCaptureMode;
#define CUDAAPI
#define cuMemAlloc cuMemAlloc_v2
#define cuMemcpyDtoHAsync cuMemcpyDtoHAsync_v2
#define cuMemcpyDtoDAsync cuMemcpyDtoDAsync_v2
#endif

#define ON_HOST
#define __device__
#define __global__
#undef __forceinline__
#define __forceinline__ inline
#define __launch_bounds__(n)
#define __grid_constant__
#undef __align__
#define __align__(n) alignas(n)
struct Dim { unsigned x, y; };
static Dim blockIdx, threadIdx, gridDim;
static int delivered = 0;
static void atomicAdd(unsigned long long* p, unsigned long long n) { *p += n; }
static void deliver(unsigned long long lo, unsigned long long hi, unsigned long long* out) { out[0] += lo; out[1] += hi; delivered++; }
#include "kernel.inc"

static int context_is_set = 1, refuse = 0;
static CUresult answer(int code) { return (CUresult)code; }

extern "C" {
int launches = 0, pending = 0;
int threads_that_read() { return delivered; }
void forget_context() { context_is_set = 0; }
void break_device(int code) { refuse = code; }

CUresult CUDAAPI cuMemAlloc(CUdeviceptr* p, size_t n) { *p = (CUdeviceptr)malloc(n); memset((void*)*p, 0xAA, n); return answer(0); }
CUresult CUDAAPI cuMemHostAlloc(void** p, size_t n, unsigned) { *p = malloc(n); return answer(0); }
CUresult CUDAAPI cuMemsetD8Async(CUdeviceptr p, unsigned char c, size_t n, CUstream) { memset((void*)p, c, n); return answer(0); }
CUresult CUDAAPI cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t n, CUstream) { memcpy(to, (void*)from, n); return answer(0); }
CUresult CUDAAPI cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream) { memcpy((void*)to, (void*)from, n); return answer(0); }
CUresult CUDAAPI cuEventCreate(CUevent* e, unsigned) { *e = (CUevent)malloc(1); return answer(0); }
CUresult CUDAAPI cuEventRecord(CUevent, CUstream) { return answer(0); }
CUresult CUDAAPI cuEventQuery(CUevent) { return answer(refuse ? refuse : pending ? 600 : 0); }
CUresult CUDAAPI cuModuleLoadData(CUmodule* m, const void* image) { *m = (CUmodule)1; return answer(memcmp(image, "image", 5) ? 200 : 0); }
CUresult CUDAAPI cuModuleGetFunction(CUfunction* f, CUmodule, const char* name) {
    const char* names[] = {"fingerprint", "fingerprint_noted", "fingerprint_again", "fingerprints"};
    for (size_t n = 0; n < 4; n++)
        if (strcmp(name, names[n]) == 0) { *f = (CUfunction)(n + 1); return answer(0); }
    return answer(500);
}
CUresult CUDAAPI cuCtxGetCurrent(CUcontext* c) { *c = (CUcontext)7; return answer(0); }
CUresult CUDAAPI cuCtxSetCurrent(CUcontext c) { context_is_set = c == (CUcontext)7; return answer(0); }
CUresult CUDAAPI cuStreamIsCapturing(CUstream, CUstreamCaptureStatus* s) { *s = (CUstreamCaptureStatus)0; return answer(0); }
CUresult CUDAAPI cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* m) {
    static CUstreamCaptureMode now = (CUstreamCaptureMode)0;
    CUstreamCaptureMode before = now;
    now = *m;
    *m = before;
    return answer(0);
}
CUresult CUDAAPI cuGetErrorString(CUresult, const char** text) { *text = "made up"; return answer(0); }
CUresult CUDAAPI cuLaunchKernel(
    CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, CUstream, void** values, void** extra
) {
    if (refuse) return answer(refuse);
    if (!context_is_set) return answer(201);
    if (!gx || !gy || gz != 1 || bx != THREADS || by != 1 || bz != 1 || shared || extra || gy > 65535) return answer(1);
    launches++;
    gridDim = {gx, gy};
    for (blockIdx.y = 0; blockIdx.y < gy; blockIdx.y++)
        for (blockIdx.x = 0; blockIdx.x < gx; blockIdx.x++)
            for (threadIdx.x = 0; threadIdx.x < THREADS; threadIdx.x++)
                if (f == (CUfunction)4) fingerprints(*(const Table*)values[0]);
                else {
                    const unsigned char* p = *(const unsigned char**)values[0];
                    const u64 nbytes = *(u64*)values[1], seed = *(u64*)values[2];
                    u64* out = *(u64**)values[3];
                    if (f == (CUfunction)1) fingerprint(p, nbytes, seed, out);
                    if (f == (CUfunction)2) fingerprint_noted(p, nbytes, seed, out);
                    if (f == (CUfunction)3) fingerprint_again(p, nbytes, seed, out, *(u64**)values[4]);
                }
    return answer(0);
}
}
