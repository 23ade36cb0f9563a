// Zero insertion, padding, a FIR filter and decimation, of images whose pixels are `channels` numbers side by side. A
// plane of an NCHW tensor is an image of one channel, so both layouts run through the same code.
//
// With the filter f turned so that it correlates, a row of the result is y[p] = sum over m of x[m] f[m up + top - p
// down]; columns alike. Blocks are laid over columns times channels (x), rows (y) and images (z). Neighbouring threads
// read neighbouring numbers, and each other's columns from the first-level cache: a tile in shared memory would hold
// the same bytes for the price of barriers. No thread waits for another, so the kernels run on a CPU as they are.

typedef Arithmetic<ELEMENT>::type Real;

__device__ __forceinline__ long long floor_divide(long long a, long long b) {
    return a >= 0 ? a / b : -((b - 1 - a) / b);
}

// Any factors, any filter: one result a thread, the taps that meet no inserted zero, straight from the definition.
template <int V>
__device__ __forceinline__ void any_resample(
    ELEMENT* __restrict__ y, const ELEMENT* __restrict__ x, const Real* __restrict__ taps, long long images,
    long long height, long long width, long long rows, long long columns, long long channels, int taps_y, int taps_x,
    int up, int down, long long top, long long left, int flip, Real gain) {
    const long long packs = channels / V;
#pragma unroll 1
    for (long long image = (long long)blockIdx.z * blockDim.z + threadIdx.z; image < images;
         image += (long long)gridDim.z * blockDim.z) {
#pragma unroll 1
        for (long long row = (long long)blockIdx.y * blockDim.y + threadIdx.y; row < rows;
             row += (long long)gridDim.y * blockDim.y) {
            // The first row of x that a tap reaches, and that tap.
            const long long first_y = row * down - top, source_y = -floor_divide(-first_y, up);
#pragma unroll 1
            for (long long q = (long long)blockIdx.x * blockDim.x + threadIdx.x; q < columns * packs;
                 q += (long long)gridDim.x * blockDim.x) {
                const long long column = q / packs, channel = (q - column * packs) * V;
                const long long first_x = column * down - left, source_x = -floor_divide(-first_x, up);
                Real sum[V];
#pragma unroll
                for (int i = 0; i < V; i++) sum[i] = Real(0);
                long long m = source_y;
#pragma unroll 1
                for (long long k = source_y * up - first_y; k < taps_y; k += up, m++) {
                    if (m < 0 || m >= height) continue;
                    const Real* line = taps + (flip ? k : taps_y - 1 - k) * taps_x;
                    long long n = source_x;
#pragma unroll 1
                    for (long long l = source_x * up - first_x; l < taps_x; l += up, n++) {
                        if (n < 0 || n >= width) continue;
                        const Real tap = line[flip ? l : taps_x - 1 - l];
                        Raw<ELEMENT, V> raw;
                        raw.load(x + ((image * height + m) * width + n) * channels + channel);
                        Real value[V];
                        raw.get(value);
#pragma unroll
                        for (int i = 0; i < V; i++) sum[i] += tap * value[i];
                    }
                }
#pragma unroll
                for (int i = 0; i < V; i++) sum[i] *= gain;
                Raw<ELEMENT, V> raw;
                raw.set(sum);
                raw.store(y + ((image * rows + row) * columns + column) * channels + channel);
            }
        }
    }
}

// The common factors, U or D of 2 or neither, with K x K taps. A thread slides down a strip of the image: it loads each
// row of x that its columns need once, several rows ahead, and adds it to every unfinished row of the result, which
// live in registers. Rows and columns of the result come in groups of U, aligned so that the taps which meet inserted
// zeros are known to the compiler: group g holds the rows g U + u + skew, u < U, and needs the rows g D + start + j of
// x, j < J, with the taps j U - u. Rows of several groups are unfinished at a time: J / D, rounded up.
//
// All of one thread's columns are side by side in planes, so that two go out in one store where the rows allow. Along y
// and z any grid is right; along x it has to reach all columns.
template <int V, bool PLANES, int U, int D, int K, int COLUMNS, int AHEAD>
__device__ __forceinline__ void slide(
    ELEMENT* __restrict__ y, const ELEMENT* __restrict__ x, const Real* __restrict__ taps, long long images, int height,
    int width, int rows, int columns, int channels, int groups_y, int groups_x, int start_y, int start_x, int skew_y,
    int skew_x, int strip, int paired, int flip, Real gain) {
    enum {
        J = (K - 1 + U - 1) / U + 1,
        OPEN = (J + D - 1) / D,
        SPAN = (COLUMNS - 1) * D + J,
        OUT = COLUMNS * U,
    };
    const int packs = PLANES ? 1 : channels / V;
    const int pixel = PLANES ? 1 : channels;
    const unsigned q = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned place = PLANES ? q : q / (unsigned)packs;
    const int channel = PLANES ? 0 : (int)(q - place * (unsigned)packs) * V;
    const int group_x = (int)place * COLUMNS;
    if (group_x >= groups_x) return;
    const int source_x = group_x * D + start_x, target_x = group_x * U + skew_x;

    Real tap[K][K];
#pragma unroll
    for (int k = 0; k < K; k++) {
#pragma unroll
        for (int l = 0; l < K; l++) tap[k][l] = gain * taps[flip ? k * K + l : K * K - 1 - (k * K + l)];
    }

#pragma unroll 1
    for (long long image = (long long)blockIdx.z * blockDim.z + threadIdx.z; image < images;
         image += (long long)gridDim.z * blockDim.z) {
#pragma unroll 1
        for (long long group = ((long long)blockIdx.y * blockDim.y + threadIdx.y) * strip; group < groups_y;
             group += (long long)gridDim.y * blockDim.y * strip) {
            const int first = (int)group, end = first + strip < groups_y ? first + strip : groups_y;
            Real sum[OPEN][U][OUT][V];
#pragma unroll
            for (int g = 0; g < OPEN; g++) {
#pragma unroll
                for (int u = 0; u < U; u++) {
#pragma unroll
                    for (int o = 0; o < OUT; o++) {
#pragma unroll
                        for (int i = 0; i < V; i++) sum[g][u][o][i] = Real(0);
                    }
                }
            }
            // The youngest unfinished group is `young`; the oldest, young - (OPEN - 1), is finished by this step.
#pragma unroll 1
            for (int step = first; step < end + OPEN - 1; step += AHEAD) {
                Raw<ELEMENT, V> raw[AHEAD][D][SPAN];
#pragma unroll
                for (int a = 0; a < AHEAD; a++) {
#pragma unroll
                    for (int d = 0; d < D; d++) {
                        const int m = (step + a) * D + start_y + d;
                        const bool inside = m >= 0 && m < height && step + a < end + OPEN - 1;
                        const ELEMENT* line = x + ((image * height + m) * width + source_x) * pixel + channel;
#pragma unroll
                        for (int s = 0; s < SPAN; s++) {
                            raw[a][d][s].clear();
                            const bool there = inside && source_x + s >= 0 && source_x + s < width;
                            if (there) raw[a][d][s].load(line + s * pixel);
                        }
                    }
                }
#pragma unroll
                for (int a = 0; a < AHEAD; a++) {
                    const int young = step + a, old = young - (OPEN - 1);
#pragma unroll
                    for (int d = 0; d < D; d++) {
                        Real value[SPAN][V];
#pragma unroll
                        for (int s = 0; s < SPAN; s++) raw[a][d][s].get(value[s]);
#pragma unroll
                        for (int g = 0; g < OPEN; g++) {
#pragma unroll
                            for (int u = 0; u < U; u++) {
                                const int k = (g * D + d) * U - u;
                                if (k < 0 || k >= K) continue;
#pragma unroll
                                for (int o = 0; o < OUT; o++) {
#pragma unroll
                                    for (int j = 0; j < J; j++) {
                                        const int l = j * U - o % U;
                                        if (l < 0 || l >= K) continue;
#pragma unroll
                                        for (int i = 0; i < V; i++) {
                                            sum[g][u][o][i] += tap[k][l] * value[o / U * D + j][i];
                                        }
                                    }
                                }
                            }
                        }
                    }
                    if (old >= first && old < end) {
#pragma unroll
                        for (int u = 0; u < U; u++) {
                            const int row = old * U + u + skew_y;
                            if (row < 0 || row >= rows) continue;
                            ELEMENT* line = y + ((image * rows + row) * columns + target_x) * pixel + channel;
                            if (PLANES && OUT == 2 && paired) {
                                // Pairs are even, and so are the columns: the second is there if the first is.
                                const float both[2] = {
                                    (float)sum[OPEN - 1][u][0][0], (float)sum[OPEN - 1][u][OUT - 1][0]};
                                Raw<ELEMENT, 2> out;
                                out.set(both);
                                out.store(line);
                                continue;
                            }
#pragma unroll
                            for (int o = 0; o < OUT; o++) {
                                if (target_x + o < 0 || target_x + o >= columns) continue;
                                Raw<ELEMENT, V> out;
                                out.set(sum[OPEN - 1][u][o]);
                                out.store(line + (long long)o * pixel);
                            }
                        }
                    }
#pragma unroll
                    for (int g = OPEN - 1; g >= 0; g--) {
#pragma unroll
                        for (int u = 0; u < U; u++) {
#pragma unroll
                            for (int o = 0; o < OUT; o++) {
#pragma unroll
                                for (int i = 0; i < V; i++) {
                                    sum[g][u][o][i] = g ? sum[g ? g - 1 : 0][u][o][i] : Real(0);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#define ANY(TAIL, V)                                                                                                   \
    extern "C" __global__ void __launch_bounds__(256) NAME(upfirdn2d, TAIL)(                                           \
        ELEMENT* __restrict__ y, const ELEMENT* __restrict__ x, const REAL* __restrict__ taps, long long images,       \
        long long height, long long width, long long rows, long long columns, long long channels, int taps_y,          \
        int taps_x, int up, int down, long long top, long long left, int flip, REAL gain) {                            \
        any_resample<V>(y, x, taps, images, height, width, rows, columns, channels, taps_y, taps_x, up, down, top,     \
                        left, flip, gain);                                                                             \
    }

#define SLIDE(TAIL, V, PLANES, U, D, COLUMNS, AHEAD)                                                                   \
    extern "C" __global__ void __launch_bounds__(128) NAME(upfirdn2d, TAIL)(                                           \
        ELEMENT* __restrict__ y, const ELEMENT* __restrict__ x, const REAL* __restrict__ taps, long long images,       \
        int height, int width, int rows, int columns, int channels, int groups_y, int groups_x, int start_y,           \
        int start_x, int skew_y, int skew_x, int strip, int paired, int flip, REAL gain) {                             \
        slide<V, PLANES, U, D, 4, COLUMNS, AHEAD>(y, x, taps, images, height, width, rows, columns, channels,          \
                                                  groups_y, groups_x, start_y, start_x, skew_y, skew_x, strip, paired, \
                                                  flip, gain);                                                         \
    }

ANY(one_any, 1)
#ifdef WIDE
ANY(wide_any, WIDE)
SLIDE(planes_same, 1, true, 1, 1, 2, 4)
SLIDE(planes_up, 1, true, 2, 1, 1, 3)
SLIDE(planes_down, 1, true, 1, 2, 1, 2)
SLIDE(one_same, 1, false, 1, 1, 2, 4)
SLIDE(one_up, 1, false, 2, 1, 1, 3)
SLIDE(one_down, 1, false, 1, 2, 1, 2)
SLIDE(wide_same, WIDE, false, 1, 1, 2, 1)
SLIDE(wide_up, WIDE, false, 2, 1, 1, 1)
SLIDE(wide_down, WIDE, false, 1, 2, 1, 1)
#endif
