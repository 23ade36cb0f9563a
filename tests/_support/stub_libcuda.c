/* A CUDA driver without a device: writes every call that matters to the file named by STUB_LOG.

   STUB_SIZES="8 8 4": the bytes of the arguments of every kernel, which a real driver reads from the image.
   STUB_FAIL="cuModuleLoadData 209": that call fails so.  STUB_CAPABILITY="12 0": that of the device.
   As with a real driver, a launch fails with 201 on a thread on which no context is current. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static __thread void *current[8];
static __thread int depth = 0;
static __thread int mode = 0;

static int note(const char *name, const char *format, ...) {
    FILE *log = fopen(getenv("STUB_LOG"), "a");
    va_list arguments;
    va_start(arguments, format);
    fprintf(log, "%s ", name);
    vfprintf(log, format, arguments);
    fprintf(log, "\n");
    fclose(log);
    va_end(arguments);
    const char *fail = getenv("STUB_FAIL");
    char wanted[64];
    int status;
    if (fail && fail[0] && sscanf(fail, "%63s %d", wanted, &status) == 2 && !strcmp(wanted, name)) return status;
    return 0;
}

int cuInit(unsigned flags) { return note("cuInit", "%u", flags); }
/* NVRTC asks for this, and does not look whether it is there. */
int cuGetExportTable(const void **table, const void *name) { *table = NULL; return 1; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuGetErrorName(int status, const char **name) {
    *name = status == 209 ? "CUDA_ERROR_NO_BINARY_FOR_GPU" : status == 719 ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR";
    return 0;
}
int cuDeviceGet(int *device, int index) { *device = index; return note("cuDeviceGet", "%d", index); }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int major = 9, minor = 0;
    if (getenv("STUB_CAPABILITY")) sscanf(getenv("STUB_CAPABILITY"), "%d %d", &major, &minor);
    *value = attribute == 75 ? major : attribute == 76 ? minor : -1;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = (void *)(long)(0x1000 + device);
    return note("cuDevicePrimaryCtxRetain", "%d", device);
}
int cuCtxPushCurrent_v2(void *context) { current[++depth] = context; return 0; }
int cuCtxPopCurrent_v2(void **context) { *context = current[depth--]; return 0; }
int cuCtxSetCurrent(void *context) { current[depth] = context; return note("cuCtxSetCurrent", "%p", context); }
int cuThreadExchangeStreamCaptureMode(int *other) { int was = mode; mode = *other; *other = was; return 0; }
int cuModuleLoadData(void **module, const char *image) {
    *module = (void *)0x2000;
    const char *end = strstr(image, " for sm_");
    return note("cuModuleLoadData", "context %p mode %d %d", current[depth], mode, end ? (int)(end - image) : -1);
}
int cuModuleGetFunctionCount(unsigned *count, void *module) { *count = 2; return 0; }
int cuModuleEnumerateFunctions(void **functions, unsigned count, void *module) {
    for (unsigned i = 0; i < count; i++) functions[i] = (void *)(0x3000L + i);
    return 0;
}
int cuFuncLoad(void *function) { return note("cuFuncLoad", "%p", function); }
int cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = (void *)0x3001;
    return note("cuModuleGetFunction", "%s", name);
}
int cuFuncSetAttribute(void *function, int attribute, int value) {
    return note("cuFuncSetAttribute", "%p %d %d", function, attribute, value);
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    char text[1024] = "", sizes[256] = "";
    if (!current[depth]) return note("cuLaunchKernel", "without a context"), 201;
    if (getenv("STUB_SIZES")) strncpy(sizes, getenv("STUB_SIZES"), 255);
    int i = 0;
    for (char *size = strtok(sizes, " "); size; size = strtok(NULL, " "), i++) {
        long long value = 0;
        memcpy(&value, parameters[i], atoi(size));
        sprintf(text + strlen(text), " %llx", value);
    }
    return note("cuLaunchKernel", "%p grid %u %u %u block %u %u %u shared %u stream %p arguments%s", function,
                gx, gy, gz, bx, by, bz, shared, stream, text);
}

/* How cuda.bindings finds what a driver offers. */
int cuGetProcAddress_v2(const char *name, void **found, int version, unsigned long flags, int *status) {
    char newer[128];
    snprintf(newer, sizeof newer, "%s_v2", name);
    *found = dlsym(RTLD_DEFAULT, newer);
    if (!*found) *found = dlsym(RTLD_DEFAULT, name);
    if (status) *status = *found ? 0 : 1;
    return *found ? 0 : 500;
}
int cuGetProcAddress(const char *name, void **found, int version, unsigned long flags) {
    return cuGetProcAddress_v2(name, found, version, flags, NULL);
}
