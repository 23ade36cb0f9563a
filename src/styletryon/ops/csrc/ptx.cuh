// The only lines that need a GPU: the conversions of 16-bit floats, in inline PTX so that no CUDA header is needed, and
// the stores of several words. Everything else compiles as plain C++ too, and the tests run it so, with these functions
// written out.

__device__ __forceinline__ float half_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ unsigned short float_to_half(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

__device__ __forceinline__ unsigned short float_to_bfloat(float value) {
#if __CUDA_ARCH__ >= 800
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#else
    return round_to_bfloat(value);
#endif
}

__device__ __forceinline__ void store_words(const unsigned (&word)[1], void* target) {
    *static_cast<unsigned*>(target) = word[0];
}

__device__ __forceinline__ void store_words(const unsigned (&word)[2], void* target) {
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(target), "r"(word[0]), "r"(word[1]) : "memory");
}

__device__ __forceinline__ void store_words(const unsigned (&word)[4], void* target) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(target), "r"(word[0]), "r"(word[1]), "r"(word[2]),
                 "r"(word[3])
                 : "memory");
}
