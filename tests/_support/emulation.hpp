// What CUDA C++ has and C++ has not, as far as styletryon's kernels use it: with this in front, they are plain C++.
// Their threads never wait for each other, so they may run one after another.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

using std::exp;
using std::fabs;
using std::fmax;
using std::isinf;
using std::log1p;
using std::tanh;

#define __device__
#define __global__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(threads)

struct Dim {
    unsigned x, y, z;
};
static Dim threadIdx, blockIdx, blockDim, gridDim;

inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline float half_to_float(unsigned short bits) {
    const unsigned sign = (unsigned)(bits & 0x8000u) << 16, exponent = (bits >> 10) & 0x1fu, fraction = bits & 0x3ffu;
    if (exponent == 0) {
        const float value = std::ldexp((float)fraction, -24);
        return sign ? -value : value;
    }
    return __uint_as_float(sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13);
}

inline unsigned short float_to_half(float value) {
    const unsigned short sign = (unsigned short)(__float_as_uint(value) >> 16 & 0x8000u);
    const float size = std::fabs(value);
    if (std::isnan(size)) return 0x7fff;
    if (size >= 65520.0f) return sign | 0x7c00;
    if (size < 6.103515625e-05f) return sign | (unsigned short)std::nearbyint(std::ldexp(size, 24));
    const unsigned bits = __float_as_uint(size);
    return sign | (unsigned short)((bits + 0xfffu + (bits >> 13 & 1u) - (112u << 23)) >> 13);
}

inline unsigned short round_to_bfloat(float value);
inline unsigned short float_to_bfloat(float value) { return round_to_bfloat(value); }

// Aligned as the hardware demands of a store of several words; the sanitizer checks it.
template <int N>
struct alignas(4 * N) Together {
    unsigned word[N];
};

template <int N>
void store_together(const unsigned* word, void* target) {
    Together<N> together;
    std::memcpy(&together, word, sizeof(together));
    *static_cast<Together<N>*>(target) = together;
}

inline void store_words(const unsigned (&word)[1], void* target) { store_together<1>(word, target); }
inline void store_words(const unsigned (&word)[2], void* target) { store_together<2>(word, target); }
inline void store_words(const unsigned (&word)[4], void* target) { store_together<4>(word, target); }

// One letter for each type of argument, as in Python's struct.
template <typename T>
struct Letter;
template <typename T>
struct Letter<T*> {
    enum { value = 'P' };
};
template <>
struct Letter<long long> {
    enum { value = 'q' };
};
template <>
struct Letter<int> {
    enum { value = 'i' };
};
template <>
struct Letter<float> {
    enum { value = 'f' };
};
template <>
struct Letter<double> {
    enum { value = 'd' };
};

template <typename... A>
const char* describe(void (*)(A...)) {
    static const char letters[] = {(char)Letter<A>::value..., 0};
    return letters;
}

template <typename... A, std::size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}

// Runs the blocks from `first` up to `end` of a grid, counted along x first.
template <typename... A>
void run(void (*kernel)(A...), const unsigned* shape, long long first, long long end, void** arguments) {
    gridDim = {shape[0], shape[1], shape[2]};
    blockDim = {shape[3], shape[4], shape[5]};
    for (long long block = first; block < end; block++) {
        const long long layer = block / gridDim.x;
        blockIdx = {(unsigned)(block % gridDim.x), (unsigned)(layer % gridDim.y), (unsigned)(layer / gridDim.y)};
        for (unsigned z = 0; z < blockDim.z; z++) {
            for (unsigned y = 0; y < blockDim.y; y++) {
                for (unsigned x = 0; x < blockDim.x; x++) {
                    threadIdx = {x, y, z};
                    call(kernel, arguments, std::index_sequence_for<A...>());
                }
            }
        }
    }
}

#define EXPORT(kernel)                                                                                              \
    extern "C" const char* describe_##kernel() { return describe(kernel); }                                         \
    extern "C" void run_##kernel(const unsigned* shape, long long first, long long end, void** arguments) {         \
        run(kernel, shape, first, end, arguments);                                                                  \
    }
