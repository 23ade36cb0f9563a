// What a number is in memory and in registers: 16-bit floats are stored, float and double are computed with.
// A thread moves either one number or 16 bytes of them, as four words.

__device__ __forceinline__ float half_to_float(unsigned short bits);
__device__ __forceinline__ unsigned short float_to_half(float value);
__device__ __forceinline__ unsigned short float_to_bfloat(float value);

// To nearest, ties to even; a NaN stays one.
__device__ __forceinline__ unsigned short round_to_bfloat(float value) {
    unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

struct f16 {
    unsigned short bits;
};
struct bf16 {
    unsigned short bits;
};
typedef float f32;
typedef double f64;

template <typename T>
struct Arithmetic {
    typedef float type;
};
template <>
struct Arithmetic<double> {
    typedef double type;
};

__device__ __forceinline__ float widen(f16 value) { return half_to_float(value.bits); }
__device__ __forceinline__ float widen(bf16 value) { return __uint_as_float((unsigned)value.bits << 16); }
__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ double widen(double value) { return value; }

__device__ __forceinline__ void narrow(float value, f16& result) { result.bits = float_to_half(value); }
__device__ __forceinline__ void narrow(float value, bf16& result) { result.bits = float_to_bfloat(value); }
__device__ __forceinline__ void narrow(float value, float& result) { result = value; }
__device__ __forceinline__ void narrow(double value, double& result) { result = value; }

// The numbers in a word: one of 32 bits, or two of 16 bits, the lower half first.
__device__ __forceinline__ void widen_word(unsigned word, float (&value)[1], float) {
    value[0] = __uint_as_float(word);
}
__device__ __forceinline__ void widen_word(unsigned word, float (&value)[2], f16) {
    value[0] = half_to_float((unsigned short)(word & 0xffffu));
    value[1] = half_to_float((unsigned short)(word >> 16));
}
__device__ __forceinline__ void widen_word(unsigned word, float (&value)[2], bf16) {
    value[0] = __uint_as_float(word << 16);
    value[1] = __uint_as_float(word & 0xffff0000u);
}
__device__ __forceinline__ unsigned narrow_word(const float (&value)[1], float) { return __float_as_uint(value[0]); }
__device__ __forceinline__ unsigned narrow_word(const float (&value)[2], f16) {
    return (unsigned)float_to_half(value[0]) | ((unsigned)float_to_half(value[1]) << 16);
}
__device__ __forceinline__ unsigned narrow_word(const float (&value)[2], bf16) {
    return (unsigned)float_to_bfloat(value[0]) | ((unsigned)float_to_bfloat(value[1]) << 16);
}

// As one store each. Of a structure, the compiler may make several.
__device__ __forceinline__ void store_words(const unsigned (&word)[1], void* target);
__device__ __forceinline__ void store_words(const unsigned (&word)[2], void* target);
__device__ __forceinline__ void store_words(const unsigned (&word)[4], void* target);

// V numbers as they lie in memory: loaded first, widened when they are needed, so that many loads are under way.
template <typename T, int V>
struct Raw {
    enum { WORDS = V * (int)sizeof(T) / 4, PER_WORD = 4 / (int)sizeof(T) };
    struct alignas(4 * WORDS) Words {
        unsigned word[WORDS];
    };
    Words words;

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < WORDS; i++) words.word[i] = 0;
    }
    __device__ __forceinline__ void load(const T* __restrict__ source) {
        words = *reinterpret_cast<const Words*>(source);
    }
    __device__ __forceinline__ void get(float (&value)[V]) const {
#pragma unroll
        for (int i = 0; i < WORDS; i++) {
            float part[PER_WORD];
            widen_word(words.word[i], part, T());
#pragma unroll
            for (int j = 0; j < PER_WORD; j++) value[i * PER_WORD + j] = part[j];
        }
    }
    __device__ __forceinline__ void set(const float (&value)[V]) {
#pragma unroll
        for (int i = 0; i < WORDS; i++) {
            float part[PER_WORD];
#pragma unroll
            for (int j = 0; j < PER_WORD; j++) part[j] = value[i * PER_WORD + j];
            words.word[i] = narrow_word(part, T());
        }
    }
    __device__ __forceinline__ void store(T* target) const { store_words(words.word, target); }
};

template <typename T>
struct Raw<T, 1> {
    typedef typename Arithmetic<T>::type R;
    T one;

    __device__ __forceinline__ void clear() { one = T(); }
    __device__ __forceinline__ void load(const T* __restrict__ source) { one = *source; }
    __device__ __forceinline__ void get(R (&value)[1]) const { value[0] = widen(one); }
    __device__ __forceinline__ void set(const R (&value)[1]) { narrow(value[0], one); }
    __device__ __forceinline__ void store(T* target) const { *target = one; }
};
