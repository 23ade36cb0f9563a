// clamp(gain * act(u)) with u = scale * x + noise + bias, in one pass; and grad * d/du of that, of first or second
// order.
//
// A tensor is images of `outer` rows of `inner` numbers each, the inner ones side by side. In planes (NCHW) a row is a
// channel and its numbers are pixels; in "last" (channels last) a row is a pixel and its numbers are channels. Blocks
// are laid over these axes, so that no thread divides to find its channel. A thread has several independent loads under
// way before it computes. Every kernel walks on by the size of the grid: any grid is right.
//
// The kernel that moves bytes as fast as they come does not choose the activation number by number: "plain" kernels are
// linear, lrelu and relu, told apart by a slope; "smooth" ones take a switch, which their arithmetic hides.

enum { LINEAR, LRELU, RELU, TANH, SIGMOID, SOFTPLUS, SWISH };

// Hides from the compiler that a condition holds for the whole loop: it would write the loop out for every case, which
// takes seconds to compile and gains nothing.
__device__ __forceinline__ bool opaque(int condition) {
    asm volatile("" : "+r"(condition));
    return condition != 0;
}

template <typename R>
struct Act {
    int activation;
    R gain, clamp, slope;
    int order;
    bool from_output, unlimited;
};

template <typename R>
__device__ __forceinline__ R sigmoid(R u) {
    return R(1) / (R(1) + exp(-u));
}

// The activation, or its derivative of the given order.
template <typename R>
__device__ __forceinline__ R smooth(R u, int activation, int order) {
    if (activation == TANH) {
        R t = tanh(u);
        R slope = R(1) - t * t;
        return order == 0 ? t : order == 1 ? slope : R(-2) * t * slope;
    }
    R s = sigmoid(u);
    R ds = s * (R(1) - s);
    if (activation == SIGMOID) return order == 0 ? s : order == 1 ? ds : ds * (R(1) - R(2) * s);
    if (activation == SOFTPLUS) return order == 0 ? fmax(u, R(0)) + log1p(exp(-fabs(u))) : order == 1 ? s : ds;
    R dds = ds * (R(1) - R(2) * s);
    return order == 0 ? u * s : order == 1 ? s + u * ds : R(2) * ds + u * dds;
}

// 0 * infinity would be NaN: a slope of 0 is told apart. At 0 the slope is that of the negative side, as in torch.
template <typename R>
__device__ __forceinline__ R bend(R value, bool negative, R slope) {
    return negative ? (slope == R(0) ? R(0) : slope * value) : value;
}

template <typename R, bool SMOOTH, bool GRAD>
__device__ __forceinline__ R finish(R u, R grad, const Act<R>& act, bool from_output) {
    const R value = act.gain * (SMOOTH ? smooth(u, act.activation, 0) : bend(u, u < R(0), act.slope));
    if (!GRAD) return value > act.clamp ? act.clamp : value < -act.clamp ? -act.clamp : value;
    const R slope =
        SMOOTH ? grad * act.gain * smooth(u, act.activation, act.order) : bend(grad * act.gain, !(u > R(0)), act.slope);
    // At the limit itself the gradient is zero, as in torch; so the output tells where it is.
    return act.unlimited || fabs(from_output ? u : value) < act.clamp ? slope : R(0);
}

// What the numbers of one tensor have in memory between images and between rows; in a row they are neighbours.
struct Steps {
    long long image, row;
};

template <typename T>
struct Operands {
    typedef typename Arithmetic<T>::type R;
    T* out;
    const T *grad, *x;
    const R* bias;
    const T* noise;
    const R* scale;
    long long images, outer, inner;
    Steps grad_steps, x_steps, noise_steps;
    bool noise_along;  // whether the noise changes along a row
};

// UNROLL times V numbers, at equal distances along a row or from row to row.
template <typename T, int V, bool SMOOTH, bool GRAD, int UNROLL, typename R>
__device__ __forceinline__ void tile(
    const Operands<T>& o, const Act<R>& act, const R (&shift)[V], const R (&factor)[V], long long image,
    long long first_row, long long row_step, long long first_column, long long column_step) {
    const bool noisy = opaque(o.noise != nullptr), along = opaque(o.noise_along);
    const bool from_output = GRAD && opaque(act.from_output);
    Raw<T, V> raw_x[UNROLL], raw_grad[UNROLL], raw_noise[UNROLL];
    Raw<T, 1> raw_common[UNROLL];
    bool there[UNROLL];
#pragma unroll
    for (int k = 0; k < UNROLL; k++) {
        long long row = first_row + k * row_step, column = first_column + k * column_step;
        there[k] = row < o.outer && column < o.inner;
        raw_x[k].clear();
        raw_grad[k].clear();
        raw_noise[k].clear();
        raw_common[k].clear();
        if (!there[k]) continue;
        raw_x[k].load(o.x + image * o.x_steps.image + row * o.x_steps.row + column);
        if (GRAD) raw_grad[k].load(o.grad + image * o.grad_steps.image + row * o.grad_steps.row + column);
    }
    if (noisy) {
#pragma unroll
        for (int k = 0; k < UNROLL; k++) {
            long long row = first_row + k * row_step, column = first_column + k * column_step;
            const T* source = o.noise + image * o.noise_steps.image + row * o.noise_steps.row;
            if (!there[k]) continue;
            if (along) {
                raw_noise[k].load(source + column);
            } else {
                raw_common[k].load(source);
            }
        }
    }
#pragma unroll
    for (int k = 0; k < UNROLL; k++) {
        if (!there[k]) continue;
        long long row = first_row + k * row_step, column = first_column + k * column_step;
        R value[V], cotangent[V], extra[V], common[1];
        raw_x[k].get(value);
        raw_grad[k].get(cotangent);
        raw_noise[k].get(extra);
        raw_common[k].get(common);
#pragma unroll
        for (int i = 0; i < V; i++) {
            R u = value[i];
            if (!from_output) u = factor[i] * u + (along ? extra[i] : common[0]) + shift[i];
            value[i] = finish<R, SMOOTH, GRAD>(u, cotangent[i], act, from_output);
        }
        raw_x[k].set(value);
        raw_x[k].store(o.out + (image * o.outer + row) * o.inner + column);
    }
}

// A row is a channel: a thread stays in it, with its bias and scale, and walks along.
template <typename T, int V, bool SMOOTH, bool GRAD, int UNROLL, typename R>
__device__ __forceinline__ void planes(const Operands<T>& o, const Act<R>& act) {
#pragma unroll 1
    for (long long image = blockIdx.z; image < o.images; image += gridDim.z) {
#pragma unroll 1
        for (long long row = (long long)blockIdx.y * blockDim.y + threadIdx.y; row < o.outer;
             row += (long long)gridDim.y * blockDim.y) {
            R shift[V], factor[V];
#pragma unroll
            for (int i = 0; i < V; i++) {
                shift[i] = o.bias != nullptr ? o.bias[row] : R(0);
                factor[i] = o.scale != nullptr ? o.scale[image * o.outer + row] : R(1);
            }
            const long long step = (long long)blockDim.x * V;
#pragma unroll 1
            for (long long column = blockIdx.x * step * UNROLL + threadIdx.x * V; column < o.inner;
                 column += gridDim.x * step * UNROLL) {
                tile<T, V, SMOOTH, GRAD, UNROLL>(o, act, shift, factor, image, row, 0, column, step);
            }
        }
    }
}

// A row is a pixel: a thread stays with its channels, with their biases and scales, and walks from pixel to pixel.
template <typename T, int V, bool SMOOTH, bool GRAD, int UNROLL, typename R>
__device__ __forceinline__ void last(const Operands<T>& o, const Act<R>& act) {
#pragma unroll 1
    for (long long image = blockIdx.z; image < o.images; image += gridDim.z) {
#pragma unroll 1
        for (long long column = ((long long)blockIdx.y * blockDim.x + threadIdx.x) * V; column < o.inner;
             column += (long long)gridDim.y * blockDim.x * V) {
            R shift[V], factor[V];
#pragma unroll
            for (int i = 0; i < V; i++) {
                shift[i] = o.bias != nullptr ? o.bias[column + i] : R(0);
                factor[i] = o.scale != nullptr ? o.scale[image * o.inner + column + i] : R(1);
            }
            const long long step = blockDim.y;
#pragma unroll 1
            for (long long row = blockIdx.x * step * UNROLL + threadIdx.y; row < o.outer;
                 row += gridDim.x * step * UNROLL) {
                tile<T, V, SMOOTH, GRAD, UNROLL>(o, act, shift, factor, image, row, step, column, 0);
            }
        }
    }
}

#define BIAS_ACT(TAIL, WALK, V, SMOOTH, GRAD, UNROLL)                                                                \
    extern "C" __global__ void __launch_bounds__(256) NAME(bias_act, TAIL)(                                          \
        ELEMENT* __restrict__ out, const ELEMENT* __restrict__ grad, const ELEMENT* __restrict__ x,                  \
        const REAL* __restrict__ bias, const ELEMENT* __restrict__ noise, const REAL* __restrict__ scale,            \
        long long images, long long outer, long long inner, long long grad_image, long long grad_row,                \
        long long x_image, long long x_row, long long noise_image, long long noise_row, int noise_along,             \
        int activation, REAL gain, REAL clamp, REAL slope, int order, int from_output) {                             \
        const Operands<ELEMENT> o = {out,   grad,  x,     bias,                   noise,          scale,             \
                                     images, outer, inner, {grad_image, grad_row}, {x_image, x_row},                 \
                                     {noise_image, noise_row}, noise_along != 0};                                    \
        ELEMENT limit;                                                                                               \
        narrow(clamp, limit); /* What a limited result is in memory, and so in the backward. */                      \
        const Act<REAL> act = {activation, gain,  widen(limit),     slope,                                           \
                               order,      from_output != 0, isinf(clamp) != 0};                                     \
        WALK<ELEMENT, V, SMOOTH, GRAD, UNROLL>(o, act);                                                              \
    }

#define PLAIN(WIDTH, V, FORWARD, BACKWARD)                                   \
    BIAS_ACT(planes_##WIDTH##_plain, planes, V, false, false, FORWARD)       \
    BIAS_ACT(planes_##WIDTH##_plain_grad, planes, V, false, true, BACKWARD)  \
    BIAS_ACT(last_##WIDTH##_plain, last, V, false, false, FORWARD)           \
    BIAS_ACT(last_##WIDTH##_plain_grad, last, V, false, true, BACKWARD)

PLAIN(one, 1, 4, 2)
#ifdef WIDE
PLAIN(wide, WIDE, 2, 1)
#endif
BIAS_ACT(planes_one_smooth, planes, 1, true, false, 1)
BIAS_ACT(planes_one_smooth_grad, planes, 1, true, true, 1)
BIAS_ACT(last_one_smooth, last, 1, true, false, 1)
BIAS_ACT(last_one_smooth_grad, last, 1, true, true, 1)
