// The passes over activations between the matrix products of a Llama-like decoder, each read and written once.
//
// Compiled at first use by sawyer/fused/kernels.py and called through ctypes: plain C, no header of torch's. Every
// function exists for float32 and for bfloat16 (named _f32 and _bf16); the arithmetic in between is float32. Rows are
// shared out among OpenMP's threads, of which torch brings the library; what a row becomes does not depend on how.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

struct bf16 {
    uint16_t bits;
};

inline float wide(float x) { return x; }
inline float wide(bf16 x) {
    uint32_t bits = uint32_t(x.bits) << 16;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
}

inline void put(float& at, float x) { at = x; }
inline void put(bf16& at, float x) {  // to the nearest, ties to even; NaN stays NaN
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    at.bits = uint16_t((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded);
}

// e^x to 2 units in the last place, in a form that compilers turn into vectors (Cephes' expf, without branches).
inline float quick_exp(float x) {
    float held = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
    float whole = held * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to a whole number
    int32_t power;
    std::memcpy(&power, &whole, 4);
    whole -= 12582912.0f;
    float rest = held - whole * 0.693359375f + whole * 2.12194440e-4f;
    float sum = 1.9875691500e-4f;
    sum = sum * rest + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1.0f;
    int32_t bits;
    std::memcpy(&bits, &sum, 4);
    bits += (power - 0x4b400000) << 23;
    float out;
    std::memcpy(&out, &bits, 4);
    out = x < -87.0f ? 0.0f : out;
    return x == x ? out : x;
}

const int64_t FEW = 8;  // rows below which waking another thread costs more than it brings

// y = w x / sqrt(mean(x^2) + eps); root holds the reciprocal roots.
template <typename T>
void norm_forward(const T* x, const T* w, T* y, float* root, int64_t rows, int64_t width, float eps) {
#pragma omp parallel for schedule(static) if (rows > FEW)
    for (int64_t r = 0; r < rows; r++) {
        const T* in = x + r * width;
        T* out = y + r * width;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < width; i++) sum += wide(in[i]) * wide(in[i]);
        float scale = root[r] = 1.0f / std::sqrt(sum / width + eps);
#pragma omp simd
        for (int64_t i = 0; i < width; i++) put(out[i], wide(in[i]) * scale * wide(w[i]));
    }
}

// dx = r (g - n mean(g n)) with n = r x, g = w dy; residual (may be null) is added. y, made again, goes to again.
template <typename T>
void norm_backward(const T* grad, const T* x, const T* w, const float* root, const T* residual, T* out, T* again,
                   int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static) if (rows > FEW)
    for (int64_t r = 0; r < rows; r++) {
        const T *g = grad + r * width, *in = x + r * width;
        float scale = root[r], mean = 0;
        if (out) {
#pragma omp simd reduction(+ : mean)
            for (int64_t i = 0; i < width; i++) mean += wide(g[i]) * wide(w[i]) * wide(in[i]);
            float share = mean * scale * scale / width;
            T* to = out + r * width;
            if (residual) {
                const T* more = residual + r * width;
#pragma omp simd
                for (int64_t i = 0; i < width; i++)
                    put(to[i], wide(more[i]) + scale * (wide(g[i]) * wide(w[i]) - wide(in[i]) * share));
            } else {
#pragma omp simd
                for (int64_t i = 0; i < width; i++)
                    put(to[i], scale * (wide(g[i]) * wide(w[i]) - wide(in[i]) * share));
            }
        }
        if (again) {
            T* to = again + r * width;
#pragma omp simd
            for (int64_t i = 0; i < width; i++) put(to[i], wide(in[i]) * scale * wide(w[i]));
        }
    }
}

// y = silu(gate) up, of rows that hold gate and up one after the other.
template <typename T>
void gate_forward(const T* both, T* y, int64_t rows, int64_t middle) {
#pragma omp parallel for schedule(static) if (rows > FEW)
    for (int64_t r = 0; r < rows; r++) {
        const T *gate = both + 2 * r * middle, *up = gate + middle;
        T* out = y + r * middle;
#pragma omp simd
        for (int64_t i = 0; i < middle; i++) {
            float g = wide(gate[i]);
            put(out[i], g / (1.0f + quick_exp(-g)) * wide(up[i]));
        }
    }
}

template <typename T>
void gate_backward(const T* both, const T* grad, T* out, T* again, int64_t rows, int64_t middle) {
#pragma omp parallel for schedule(static) if (rows > FEW)
    for (int64_t r = 0; r < rows; r++) {
        const T *gate = both + 2 * r * middle, *up = gate + middle, *dy = grad + r * middle;
        T *to_gate = out + 2 * r * middle, *to_up = to_gate + middle, *y = again + r * middle;
#pragma omp simd
        for (int64_t i = 0; i < middle; i++) {
            float g = wide(gate[i]), u = wide(up[i]), d = wide(dy[i]);
            float s = 1.0f / (1.0f + quick_exp(-g));
            put(to_gate[i], d * u * s * (1.0f + g * (1.0f - s)));
            put(to_up[i], d * g * s);
            put(y[i], g * s * u);
        }
    }
}

// One head of one position, turned by its angle; back is the turn the other way.
template <typename T, typename To>
inline void turn(const T* x, const T* cos, const T* sin, To* y, int64_t half, bool back) {
    float sign = back ? -1.0f : 1.0f;
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        float a = wide(x[i]), b = wide(x[i + half]);
        // The turn's transpose swaps which half's sine is read; they are equal in every model known here, and yet.
        float sa = wide(back ? sin[i + half] : sin[i]), sb = wide(back ? sin[i] : sin[i + half]);
        put(y[i], a * wide(cos[i]) - sign * b * sa);
        put(y[i + half], b * wide(cos[i + half]) + sign * a * sb);
    }
}

// Rows [B T, (H + 2 K) D] of queries, keys and values <-> q [B, H, T, D], k and v [B, K, T, D], q and k turned.
template <typename T>
void heads(T* rows, const T* cos, const T* sin, T* q, T* k, T* v, int64_t batch, int64_t length, int64_t h, int64_t kv,
           int64_t d, bool back) {
    int64_t all = h + 2 * kv;
#pragma omp parallel for schedule(static) if (batch * length > FEW)
    for (int64_t n = 0; n < batch * length; n++) {
        int64_t b = n / length, t = n % length;
        for (int64_t head = 0; head < all; head++) {
            T* row = rows + (n * all + head) * d;
            T* own = head < h        ? q + ((b * h + head) * length + t) * d
                     : head < h + kv ? k + ((b * kv + head - h) * length + t) * d
                                     : v + ((b * kv + head - h - kv) * length + t) * d;
            if (head >= h + kv)
                back ? std::memcpy(row, own, d * sizeof(T)) : std::memcpy(own, row, d * sizeof(T));
            else if (back)
                turn(own, cos + n * d, sin + n * d, row, d / 2, true);
            else
                turn(row, cos + n * d, sin + n * d, own, d / 2, false);
        }
    }
}

// softmax(scale x + mask) in place, over rows [B, heads, T] of S keys; mask [B, T, S] may be null.
template <typename T>
void softmax_forward(T* x, const T* mask, int64_t batch, int64_t heads, int64_t length, int64_t keys, float scale) {
    int64_t rows = batch * heads * length;
#pragma omp parallel for schedule(static) if (rows > FEW)
    for (int64_t r = 0; r < rows; r++) {
        T* at = x + r * keys;
        const T* more = mask ? mask + ((r / (heads * length)) * length + r % length) * keys : nullptr;
        float most = -INFINITY, sum = 0;
        if (more) {
#pragma omp simd reduction(max : most)
            for (int64_t i = 0; i < keys; i++) {
                float s = wide(at[i]) * scale + wide(more[i]);
                most = s > most ? s : most;
            }
        } else {
#pragma omp simd reduction(max : most)
            for (int64_t i = 0; i < keys; i++) {
                float s = wide(at[i]) * scale;
                most = s > most ? s : most;
            }
        }
        float part[256];  // LONGEST in passes.py
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < keys; i++) {
            float s = wide(at[i]) * scale + (more ? wide(more[i]) : 0.0f);
            part[i] = quick_exp(s - most);
            sum += part[i];
        }
        float share = 1.0f / sum;
#pragma omp simd
        for (int64_t i = 0; i < keys; i++) put(at[i], part[i] * share);
    }
}

// scale p (g - sum(g p)) in place of g.
template <typename T>
void softmax_backward(const T* p, T* grad, int64_t rows, int64_t keys, float scale) {
#pragma omp parallel for schedule(static) if (rows > FEW)
    for (int64_t r = 0; r < rows; r++) {
        const T* at = p + r * keys;
        T* g = grad + r * keys;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < keys; i++) sum += wide(at[i]) * wide(g[i]);
#pragma omp simd
        for (int64_t i = 0; i < keys; i++) put(g[i], scale * wide(at[i]) * (wide(g[i]) - sum));
    }
}

template <typename T, int64_t D>
inline float dot(const float* q, const T* k, int64_t any) {
    const int64_t d = D ? D : any;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < d; j++) sum += q[j] * wide(k[j]);
    return sum;
}

// sum = sum over i of weights[i] v[i]; sums of a width known beforehand stay in registers.
template <typename T, int64_t D>
inline void mix(const float* weights, const T* v, float* sum, int64_t count, int64_t step, int64_t any) {
    const int64_t d = D ? D : any;
    float held[D ? D : 1];
    float* at = D ? held : sum;
    for (int64_t j = 0; j < d; j++) at[j] = 0;
    for (int64_t i = 0; i < count; i++) {
#pragma omp simd
        for (int64_t j = 0; j < d; j++) at[j] += weights[i] * wide(v[i * step + j]);
    }
    for (int64_t j = 0; j < d; j++) sum[j] = at[j];
}

// One new position of every row: its keys and values go into the cache, its queries look at all that lies there.
// rows [B, (H + 2 K) D]; keys, values [places, capacity, K D], row b at place b, starts[b] positions of it there before.
template <typename T, int64_t D>  // D is the width of a head, or 0 where that is known only at run time
void attend_one(const T* rows, const T* cos, const T* sin, T* keys, T* values, const int64_t* starts, T* out,
                float* scratch, int64_t batch, int64_t h, int64_t kv, int64_t any, int64_t capacity, float scale) {
    const int64_t d = D ? D : any, group = h / kv, step = kv * d;
#pragma omp parallel for schedule(static) if (batch > FEW)
    for (int64_t b = 0; b < batch; b++) {
        const T *row = rows + b * (h + 2 * kv) * d, *c = cos + b * d, *s = sin + b * d;
        T *k = keys + b * capacity * step, *v = values + b * capacity * step;
        int64_t start = starts[b];
        float *part = scratch + b * (capacity + 2 * d), *q = part + capacity, *sum = q + d;
        for (int64_t head = 0; head < kv; head++)
            turn(row + (h + head) * d, c, s, k + start * step + head * d, d / 2, false);
        std::memcpy(v + start * step, row + (h + kv) * d, step * sizeof(T));
        for (int64_t head = 0; head < h; head++) {
            const T *own_k = k + head / group * d, *own_v = v + head / group * d;
            turn(row + head * d, c, s, q, d / 2, false);
            float most = -INFINITY, all = 0;
            for (int64_t i = 0; i <= start; i++) {
                part[i] = scale * dot<T, D>(q, own_k + i * step, d);
                most = part[i] > most ? part[i] : most;
            }
#pragma omp simd reduction(+ : all)
            for (int64_t i = 0; i <= start; i++) {
                part[i] = quick_exp(part[i] - most);
                all += part[i];
            }
            mix<T, D>(part, own_v, sum, start + 1, step, d);
            for (int64_t j = 0; j < d; j++) put(out[(b * h + head) * d + j], sum[j] / all);
        }
    }
}

// out = log softmax(heat x)[token]; total = log sum e^(heat x); entropy in nats (may be null).
template <typename T>
void logprob_forward(const T* x, const int64_t* tokens, float* out, float* total, float* entropy, int64_t rows,
                     int64_t words, float heat) {
#pragma omp parallel for schedule(static) if (rows > 1)
    for (int64_t r = 0; r < rows; r++) {
        const T* at = x + r * words;
        float most = -INFINITY, sum = 0, mean = 0;
#pragma omp simd reduction(max : most)
        for (int64_t i = 0; i < words; i++) {
            float s = wide(at[i]);
            most = s > most ? s : most;
        }
#pragma omp simd reduction(+ : sum, mean)
        for (int64_t i = 0; i < words; i++) {
            float s = (wide(at[i]) - most) * heat, e = quick_exp(s);
            sum += e;
            mean += e * s;
        }
        float own = std::log(sum);
        total[r] = most * heat + own;
        out[r] = wide(at[tokens[r]]) * heat - total[r];
        if (entropy) entropy[r] = own - mean / sum;
    }
}

// (1{token} - softmax(heat x)) grad heat.
template <typename T>
void logprob_backward(const T* x, const int64_t* tokens, const float* total, const float* grad, T* out, int64_t rows,
                      int64_t words, float heat) {
#pragma omp parallel for schedule(static) if (rows > 1)
    for (int64_t r = 0; r < rows; r++) {
        const T* at = x + r * words;
        T* to = out + r * words;
        float g = grad[r] * heat, all = total[r];
#pragma omp simd
        for (int64_t i = 0; i < words; i++) put(to[i], -g * quick_exp(wide(at[i]) * heat - all));
        put(to[tokens[r]], g - g * quick_exp(wide(at[tokens[r]]) * heat - all));
    }
}

}  // namespace

#define EXPORT(T, kind)                                                                                                \
    void norm_forward_##kind(const T* x, const T* w, T* y, float* root, int64_t rows, int64_t width, float eps) {      \
        norm_forward<T>(x, w, y, root, rows, width, eps);                                                              \
    }                                                                                                                  \
    void norm_backward_##kind(const T* grad, const T* x, const T* w, const float* root, const T* residual, T* out,     \
                              T* again, int64_t rows, int64_t width) {                                                 \
        norm_backward<T>(grad, x, w, root, residual, out, again, rows, width);                                         \
    }                                                                                                                  \
    void gate_forward_##kind(const T* both, T* y, int64_t rows, int64_t middle) {                                      \
        gate_forward<T>(both, y, rows, middle);                                                                        \
    }                                                                                                                  \
    void gate_backward_##kind(const T* both, const T* grad, T* out, T* again, int64_t rows, int64_t middle) {          \
        gate_backward<T>(both, grad, out, again, rows, middle);                                                        \
    }                                                                                                                  \
    void heads_##kind(T* rows, const T* cos, const T* sin, T* q, T* k, T* v, int64_t batch, int64_t length, int64_t h, \
                      int64_t kv, int64_t d, int64_t back) {                                                           \
        heads<T>(rows, cos, sin, q, k, v, batch, length, h, kv, d, back != 0);                                         \
    }                                                                                                                  \
    void softmax_forward_##kind(T* x, const T* mask, int64_t batch, int64_t heads, int64_t length, int64_t keys,       \
                                float scale) {                                                                         \
        softmax_forward<T>(x, mask, batch, heads, length, keys, scale);                                                \
    }                                                                                                                  \
    void softmax_backward_##kind(const T* p, T* grad, int64_t rows, int64_t keys, float scale) {                       \
        softmax_backward<T>(p, grad, rows, keys, scale);                                                               \
    }                                                                                                                  \
    void attend_one_##kind(const T* rows, const T* cos, const T* sin, T* keys, T* values, const int64_t* starts,       \
                           T* out, float* scratch, int64_t batch, int64_t h, int64_t kv, int64_t d, int64_t capacity,  \
                           float scale) {                                                                              \
        auto run = d == 64 ? attend_one<T, 64> : d == 128 ? attend_one<T, 128> : attend_one<T, 0>;                     \
        run(rows, cos, sin, keys, values, starts, out, scratch, batch, h, kv, d, capacity, scale);                     \
    }                                                                                                                  \
    void logprob_forward_##kind(const T* x, const int64_t* tokens, float* out, float* total, float* entropy,           \
                                int64_t rows, int64_t words, float heat) {                                             \
        logprob_forward<T>(x, tokens, out, total, entropy, rows, words, heat);                                         \
    }                                                                                                                  \
    void logprob_backward_##kind(const T* x, const int64_t* tokens, const float* total, const float* grad, T* out,     \
                                 int64_t rows, int64_t words, float heat) {                                            \
        logprob_backward<T>(x, tokens, total, grad, out, rows, words, heat);                                           \
    }

extern "C" {
EXPORT(float, f32)
EXPORT(bf16, bf16)
}
