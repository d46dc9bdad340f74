/* Residual LSTMs, x + linear(LSTM(norm(x))), in bfloat16 on the tile registers of x86 processors (AMX), or with vector
   instructions (AVX512_BF16) if it is compiled without AMX. Also gated linear units, group norms and SCNet's masks,
   which torch computes slowly where channels are few.

The states of an item of the batch follow from its own input alone. So 32 items are taken through all steps together:
their states stay in the first cache, the weights in the second. Input and state are multiplied in one go. With tiles,
[x, h] of 16 items is a row of tiles, and the weights lie in the order in which these are multiplied. Four tiles of sums,
two gates of 16 units for 2 x 16 items, are held at once; gates are computed from a buffer of 8 kB. Weights that are too
large for the second cache are read for more items at once.

Sums, gates and cell states are float32. The order of all sums is fixed, and the compiler is told to fuse no
multiply-adds of its own (-ffp-contract=off): for one set of instructions equal input gives equal bits, whichever
compiler built this. Tiles and vectors add in different orders, so their last bits differ.

The instructions of tiles are those of Intel's Architecture Instruction Set Extensions Programming Reference, chapter 3;
VDPBF16PS is in its Software Developer's Manual, volume 2.
*/

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TILE_BYTES = 1024, ITEMS = 32, UNITS = 16, VERSION = 3 };
enum { GROUP = 8 };            /* items whose sums are held in vectors */
enum { IN = 16, HIDDEN = 64 }; /* channels of the masks */

/* Tells a library that was built of this file from another one. */
int64_t lstm_version(void) { return VERSION; }

/* Asks Linux for the tile registers (arch_prctl ARCH_REQ_XCOMP_PERM, XTILEDATA), for all threads; 0 if they are granted,
   or not needed. */
int64_t lstm_prepare(void) {
#ifdef __AMX_BF16__
    return syscall(SYS_arch_prctl, 0x1023, 18);
#else
    return 0;
#endif
}

/* 2^min(t, 40), relative error 3e-6; NaN stays NaN. Bounded so that products of three of them stay finite. */
static inline __m512 exp2_bounded(__m512 t) {
    t = _mm512_min_ps(_mm512_set1_ps(40.0f), t);
    const __m512 r = _mm512_reduce_ps(t, 0x09); /* t - floor(t) */
    __m512 p = _mm512_set1_ps(1.35341654e-2f);  /* minimax of the relative error on [0, 1) */
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.20114657e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.41442749e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.93003837e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.00000259f));
    return _mm512_scalef_ps(p, t); /* p 2^floor(t) */
}

/* 1 / d: 14 bits and one step of Newton's. */
static inline __m512 inverse(__m512 d) {
    const __m512 y = _mm512_rcp14_ps(d);
    return _mm512_fmadd_ps(_mm512_fnmadd_ps(d, y, _mm512_set1_ps(1.0f)), y, y);
}

/* c = sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c), with one division each:
   sigmoid(x) = 1 / (1 + e^-x), tanh(x) = (1 - e^-2x) / (1 + e^-2x). */
static inline __m512 cell(__m512 i, __m512 f, __m512 g, __m512 o, float *c_at) {
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 minus_log2e = _mm512_set1_ps(-1.44269504f), minus_2_log2e = _mm512_set1_ps(-2.88539008f);
    const __m512 i_1 = _mm512_add_ps(one, exp2_bounded(_mm512_mul_ps(i, minus_log2e)));
    const __m512 f_1 = _mm512_add_ps(one, exp2_bounded(_mm512_mul_ps(f, minus_log2e)));
    const __m512 o_1 = _mm512_add_ps(one, exp2_bounded(_mm512_mul_ps(o, minus_log2e)));
    const __m512 e = exp2_bounded(_mm512_mul_ps(g, minus_2_log2e));
    const __m512 i_g = _mm512_mul_ps(i_1, _mm512_add_ps(one, e));
    const __m512 added = _mm512_mul_ps(_mm512_sub_ps(one, e), f_1);
    const __m512 top = _mm512_fmadd_ps(_mm512_loadu_ps(c_at), i_g, added);
    const __m512 c = _mm512_mul_ps(top, inverse(_mm512_mul_ps(i_g, f_1)));
    _mm512_storeu_ps(c_at, c);
    const __m512 d = exp2_bounded(_mm512_mul_ps(c, minus_2_log2e));
    return _mm512_mul_ps(_mm512_sub_ps(one, d), inverse(_mm512_mul_ps(o_1, _mm512_add_ps(one, d))));
}

#ifdef __AMX_BF16__

/* Tiles: 0 to 3 sums (items 0 and 16 on, 2 x 16 columns each), 4 and 5 inputs of these items, 6 and 7 weights. */
static void configure(int64_t items) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config __attribute__((aligned(64))) = {.palette = 1};
    const int upper = items < 16 ? items : 16, lower = items > 16 ? items - 16 : 1;
    for (int tile = 0; tile < 8; tile++) config.row_bytes[tile] = 64;
    config.rows[0] = config.rows[1] = config.rows[4] = upper;
    config.rows[2] = config.rows[3] = config.rows[5] = lower;
    config.rows[6] = config.rows[7] = 16;
    __asm__ volatile("" : : "r"(&config) : "memory"); /* the intrinsic names only a part of it as read */
    _tile_loadconfig(&config);
}

/* Adds rows [items, 32 blocks], row_bytes apart, times the next weights to the sums; the weights after these. */
static inline __attribute__((always_inline)) const uint8_t *
multiply(const uint16_t *rows, int64_t row_bytes, int64_t blocks, const uint8_t *w, int both) {
    for (int64_t block = 0; block < blocks; block++, w += 2 * TILE_BYTES) {
        _tile_loadd(6, w, 64);
        _tile_loadd(7, w + TILE_BYTES, 64);
        _tile_loadd(4, rows + 32 * block, row_bytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (both) {
            _tile_loadd(5, (const uint8_t *)(rows + 32 * block) + 16 * row_bytes, row_bytes);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    return w;
}

/* Sums begin as the bias, of 32 columns; both: of items from 16 on, too. */
static inline __attribute__((always_inline)) void start(const float *bias, int both) {
    _tile_loadd(0, bias, 0); /* the same row for all items */
    _tile_loadd(1, bias + UNITS, 0);
    if (both) {
        _tile_loadd(2, bias, 0);
        _tile_loadd(3, bias + UNITS, 0);
    }
}

static inline __attribute__((always_inline)) void finish(float out[ITEMS][2 * UNITS], int both) {
    _tile_stored(0, out[0], 128);
    _tile_stored(1, out[0] + UNITS, 128);
    if (both) {
        _tile_stored(2, out[16], 128);
        _tile_stored(3, out[16] + UNITS, 128);
    }
}

/* 32 sums for each of the items, at most 32 (both: more than 16): x [items, I] and the state h times weights, and the
   bias. */
static inline __attribute__((always_inline)) void
sum(float out[ITEMS][2 * UNITS], const uint16_t *x, int64_t I, const uint16_t *h, int64_t H,
    const uint8_t *w, const float *bias, int64_t items, int both) {
    (void)items; /* as configured */
    start(bias, both);
    w = multiply(x, 2 * I, I / 32, w, both);
    multiply(h, 2 * H, H / 32, w, both);
    finish(out, both);
}

/* 32 sums for each of the 32 frames from t on. The inputs are three frames of each of the three rows around `now`.
   Returns the weights after those that were used. ring: three rows of frames of 16 channels, row_values apart, row `f`
   at (f + 3) % 3. */
static inline __attribute__((always_inline)) const uint8_t *
sum_wide(float out[ITEMS][2 * UNITS], const uint16_t *ring, int64_t row_values, int64_t now, int64_t t,
         const uint8_t *w, const float *bias) {
    start(bias, 1);
    for (int64_t tap = now - 1; tap <= now + 1; tap++)
        w = multiply(ring + (tap + 3) % 3 * row_values + t * IN, 2 * IN, 2, w, 1);
    finish(out, 1);
    return w;
}

/* 16 sums, and 16 of no meaning, for each of 32 frames of 64 channels. */
static inline __attribute__((always_inline)) void
sum_narrow(float out[ITEMS][2 * UNITS], const uint16_t *x, const uint8_t *w, const float *bias) {
    sum(out, x, HIDDEN, x, 0, w, bias, ITEMS, 1);
}

static inline void release(void) { _tile_release(); }

#else

/* Without tiles: a vector holds one row of a tile, pairs of weights for 16 columns. Up to 16 of the 32 registers hold
   the sums of 8 items (or of 16, of half as many columns) until all products are added. */
static inline void configure(int64_t items) { (void)items; }
static inline void release(void) {}

/* Does what _mm512_dpbf16_ps does. With that intrinsic, GCC 12 reads the weights from memory each time. */
static inline __attribute__((always_inline)) void add_products(__m512 *sum, __m512i inputs, __m512i weights) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(*sum) : "v"(inputs), "v"(weights));
}

static inline __attribute__((always_inline)) void begin(__m512 *sums, const float *bias, int count, int halves) {
    for (int i = 0; i < count * halves; i++) sums[i] = _mm512_loadu_ps(bias + UNITS * (i % halves));
}

/* Adds pairs of values of `count` rows, row_bytes apart, times the next weights to the sums of 16 or (halves: 2) 32
   columns; the weights after these. The compiler knows count and halves. */
static inline __attribute__((always_inline)) const uint8_t *
multiply(__m512 *sums, const uint16_t *rows, int64_t row_bytes, int64_t pairs, const uint8_t *w, int count,
         int halves) {
    for (int64_t pair = 0; pair < pairs; pair++) {
        const uint8_t *const w_at = w + pair / 16 * 2 * TILE_BYTES + pair % 16 * 64;
        const __m512i low = _mm512_loadu_si512(w_at);
        const __m512i high = halves > 1 ? _mm512_loadu_si512(w_at + TILE_BYTES) : low;
        for (int item = 0; item < count; item++) {
            int32_t two;
            memcpy(&two, (const uint8_t *)rows + item * row_bytes + 4 * pair, sizeof two);
            const __m512i inputs = _mm512_set1_epi32(two);
            add_products(&sums[item * halves], inputs, low);
            if (halves > 1) add_products(&sums[item * halves + 1], inputs, high);
        }
    }
    return w + (pairs + 15) / 16 * 2 * TILE_BYTES;
}

static inline __attribute__((always_inline)) void finish(float out[][2 * UNITS], const __m512 *sums, int count,
                                                         int halves) {
    for (int i = 0; i < count * halves; i++) _mm512_storeu_ps(out[i / halves] + UNITS * (i % halves), sums[i]);
}

static inline __attribute__((always_inline)) void
sum_rows(float out[][2 * UNITS], const uint16_t *x, int64_t I, const uint16_t *h, int64_t H, const uint8_t *w,
         const float *bias, int count) {
    __m512 sums[2 * GROUP];
    begin(sums, bias, count, 2);
    w = multiply(sums, x, 2 * I, I / 2, w, count, 2);
    multiply(sums, h, 2 * H, H / 2, w, count, 2);
    finish(out, sums, count, 2);
}

/* As with tiles. */
static inline __attribute__((always_inline)) void
sum(float out[ITEMS][2 * UNITS], const uint16_t *x, int64_t I, const uint16_t *h, int64_t H,
    const uint8_t *w, const float *bias, int64_t items, int both) {
    (void)both;
    int64_t item = 0;
    for (; item + GROUP <= items; item += GROUP) sum_rows(out + item, x + item * I, I, h + item * H, H, w, bias, GROUP);
    if (items & 4) sum_rows(out + item, x + item * I, I, h + item * H, H, w, bias, 4), item += 4;
    if (items & 2) sum_rows(out + item, x + item * I, I, h + item * H, H, w, bias, 2), item += 2;
    if (items & 1) sum_rows(out + item, x + item * I, I, h + item * H, H, w, bias, 1);
}

/* As with tiles; the half of the last tile of each row that is 0 is left out. */
static inline __attribute__((always_inline)) const uint8_t *
sum_wide(float out[ITEMS][2 * UNITS], const uint16_t *ring, int64_t row_values, int64_t now, int64_t t,
         const uint8_t *weights, const float *bias) {
    const uint8_t *w = weights;
    for (int item = 0; item < ITEMS; item += GROUP) {
        __m512 sums[2 * GROUP];
        begin(sums, bias, GROUP, 2);
        w = weights;
        for (int64_t tap = now - 1; tap <= now + 1; tap++)
            w = multiply(sums, ring + (tap + 3) % 3 * row_values + (t + item) * IN, 2 * IN, 3 * IN / 2, w, GROUP, 2);
        finish(out + item, sums, GROUP, 2);
    }
    return w;
}

/* 16 sums for each of 32 frames of 64 channels; the other 16 columns stay as they are. */
static inline __attribute__((always_inline)) void
sum_narrow(float out[ITEMS][2 * UNITS], const uint16_t *x, const uint8_t *w, const float *bias) {
    for (int item = 0; item < ITEMS; item += 2 * GROUP) {
        __m512 sums[2 * GROUP];
        begin(sums, bias, 2 * GROUP, 1);
        multiply(sums, x + item * HIDDEN, 2 * HIDDEN, HIDDEN / 2, w, 2 * GROUP, 1);
        finish(out + item, sums, 2 * GROUP, 1);
    }
}

#endif

/* x [items, I], x_item apart, less the mean and times the gain, in bfloat16. */
static void standardise(uint16_t *out, const float *x, int64_t x_item, int64_t items, int64_t I, float mean,
                        float gain) {
    const __m512 m = _mm512_set1_ps(mean), g = _mm512_set1_ps(gain);
    for (int64_t item = 0; item < items; item++)
        for (int64_t i = 0; i < I; i += 32) {
            const float *const at = x + item * x_item + i;
            const __m512 low = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(at), m), g);
            const __m512 high = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(at + 16), m), g);
            _mm512_storeu_si512(out + item * I + i, (__m512i)_mm512_cvtne2ps_pbh(high, low));
        }
}

/* The sum and the sum of squares of n values, n a multiple of 16. */
void moments(const float *x, int64_t n, double *out) {
    __m512d sum[2] = {_mm512_setzero_pd(), _mm512_setzero_pd()}, square[2] = {_mm512_setzero_pd(), _mm512_setzero_pd()};
    for (int64_t i = 0; i < n; i += 16)
        for (int half = 0; half < 2; half++) {
            const __m512d value = _mm512_cvtps_pd(_mm256_loadu_ps(x + i + 8 * half));
            sum[half] = _mm512_add_pd(sum[half], value);
            square[half] = _mm512_fmadd_pd(value, value, square[half]);
        }
    out[0] = _mm512_reduce_add_pd(_mm512_add_pd(sum[0], sum[1]));
    out[1] = _mm512_reduce_add_pd(_mm512_add_pd(square[0], square[1]));
}

/* A number of items through one direction of an LSTM over (x - mean) gain.

   x: steps and items x_step and x_item values apart, inputs side by side; y [.., H] bfloat16 in the same way.
   weights: tiles [H / 16][gates i f, gates g o][(I + H) / 32][2][16][16][2], the last three of them inputs in pairs,
   units, and the two of a pair. bias: [H / 16][4][16]. I and H are multiples of 32. cells [items, H], inputs [items, I]
   and states [2, items, H] are overwritten: in y a step's states may lie so that few of them fit into the cache. */
void lstm_bf16(const float *x, uint16_t *y, const uint8_t *weights, const float *bias, float *cells, uint16_t *inputs,
               uint16_t *states, int64_t T, int64_t items, int64_t I, int64_t H, int64_t x_step, int64_t x_item,
               int64_t y_step, int64_t y_item, int64_t backward, float mean, float gain) {
    float sums[2][ITEMS][2 * UNITS] __attribute__((aligned(64)));
    const int64_t panel = (I + H) / 32 * 2 * TILE_BYTES, ragged = items > ITEMS && items % ITEMS;
    memset(cells, 0, items * H * sizeof(float));
    configure(items < ITEMS ? items : ITEMS);
    for (int64_t step = 0; step < T; step++) {
        const int64_t t = backward ? T - 1 - step : step;
        uint16_t *const y_t = y + t * y_step, *const now = states + step % 2 * items * H;
        const uint16_t *const h = states + (step + 1) % 2 * items * H;
        standardise(inputs, x + t * x_step, x_item, items, I, mean, gain);
        for (int64_t unit = 0; unit < H; unit += UNITS) {
            for (int64_t first = 0; first < items; first += ITEMS) {
                const int64_t n = items - first < ITEMS ? items - first : ITEMS;
                if (ragged && (first == 0 || n < ITEMS)) configure(n);
                __asm__ volatile("" ::: "memory"); /* the intrinsics of tiles do not say that they read memory */
                for (int pair = 0; pair < 2; pair++) {
                    const uint8_t *const w = weights + (unit / UNITS * 2 + pair) * panel;
                    const float *const b = bias + 4 * unit + 2 * UNITS * pair;
                    const int64_t known = step ? H : 0; /* the first step has no state */
                    if (n > 16) sum(sums[pair], inputs + first * I, I, h + first * H, known, w, b, n, 1);
                    else sum(sums[pair], inputs + first * I, I, h + first * H, known, w, b, n, 0);
                }
                for (int64_t item = 0; item < n; item++) {
                    const float *const i_f = sums[0][item], *const g_o = sums[1][item];
                    const __m512 out =
                        cell(_mm512_load_ps(i_f), _mm512_load_ps(i_f + UNITS), _mm512_load_ps(g_o),
                             _mm512_load_ps(g_o + UNITS), cells + (first + item) * H + unit);
                    uint16_t *const at = now + (first + item) * H + unit;
                    _mm256_storeu_si256((__m256i *)at, (__m256i)_mm512_cvtneps_pbh(out));
                }
            }
        }
        for (int64_t item = 0; item < items; item++) memcpy(y_t + item * y_item, now + item * H, H * sizeof(uint16_t));
    }
    release();
}

static inline __m512 load_bf16(__mmask16 lanes, const uint16_t *at) {
    const __m256i words = _mm256_maskz_loadu_epi16(lanes, at);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16));
}

static inline void store_bf16(__mmask16 lanes, uint16_t *at, __m512 values) {
    _mm256_mask_storeu_epi16(at, lanes, (__m256i)_mm512_cvtneps_pbh(values));
}

static inline __mmask16 lanes_of(int64_t left) { return left < 16 ? (1u << left) - 1 : 0xffff; }

/* x / (1 + e^-gate) */
static inline __m512 gated(__m512 x, __m512 gate) {
    const __m512 e = exp2_bounded(_mm512_mul_ps(gate, _mm512_set1_ps(-1.44269504f)));
    return _mm512_mul_ps(x, inverse(_mm512_add_ps(_mm512_set1_ps(1.0f), e)));
}

/* out [rows, C]: the first half of each row of x [rows, 2 C], gated by the second. */
void glu_bf16(const uint16_t *x, uint16_t *out, int64_t rows, int64_t C) {
    for (int64_t row = 0; row < rows; row++, x += 2 * C, out += C)
        for (int64_t c = 0; c < C; c += 16) {
            const __mmask16 lanes = lanes_of(C - c);
            store_bf16(lanes, out + c, gated(load_bf16(lanes, x + c), load_bf16(lanes, x + C + c)));
        }
}

/* Each of the items of x [items, size], standardised, times the gain and plus the shift [period], which is a multiple
   of 16; then its SiLU, if asked for. */
void norm_bf16(const uint16_t *x, uint16_t *out, int64_t items, int64_t size, const float *gain, const float *shift,
               int64_t period, float eps, int64_t silu) {
    for (int64_t item = 0; item < items; item++, x += size, out += size) {
        __m512d sum = _mm512_setzero_pd(), square = _mm512_setzero_pd();
        for (int64_t i = 0; i < size; i += 16) {
            const __m512 values = load_bf16(lanes_of(size - i), x + i);
            const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(values));
            const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(values, 1));
            sum = _mm512_add_pd(sum, _mm512_add_pd(low, high));
            square = _mm512_fmadd_pd(low, low, _mm512_fmadd_pd(high, high, square));
        }
        const double mean = _mm512_reduce_add_pd(sum) / size;
        const double variance = _mm512_reduce_add_pd(square) / size - mean * mean;
        const __m512 m = _mm512_set1_ps(mean), d = _mm512_set1_ps(1 / sqrt((variance > 0 ? variance : 0) + eps));
        for (int64_t i = 0, j = 0; i < size; i += 16, j = j + 16 < period ? j + 16 : 0) {
            const __mmask16 lanes = lanes_of(size - i);
            const __m512 standard = _mm512_mul_ps(_mm512_sub_ps(load_bf16(lanes, x + i), m), d);
            const __m512 y = _mm512_fmadd_ps(standard, _mm512_loadu_ps(gain + j), _mm512_loadu_ps(shift + j));
            store_bf16(lanes, out + i, silu ? gated(y, y) : y);
        }
    }
}

/* x [rows, C] += y [rows, K] times weights, and the bias. weights: tiles [C / 32][K / 32][2][16][16][2]. */
void add_linear_bf16(float *x, const uint16_t *y, const uint8_t *weights, const float *bias, int64_t rows, int64_t C,
                     int64_t K) {
    float sums[ITEMS][2 * UNITS] __attribute__((aligned(64)));
    const int64_t panel = K / 32 * 2 * TILE_BYTES;
    for (int64_t first = 0; first < rows; first += ITEMS) {
        const int64_t n = rows - first < ITEMS ? rows - first : ITEMS;
        if (first == 0 || n < ITEMS) configure(n);
        for (int64_t c = 0; c < C; c += 32) {
            const uint8_t *const w = weights + c / 32 * panel;
            __asm__ volatile("" ::: "memory");
            if (n > 16) sum(sums, y + first * K, K, y, 0, w, bias + c, n, 1);
            else sum(sums, y + first * K, K, y, 0, w, bias + c, n, 0);
            for (int64_t item = 0; item < n; item++)
                for (int half = 0; half < 2; half++) {
                    float *const at = x + (first + item) * C + c + 16 * half;
                    _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), _mm512_load_ps(sums[item] + 16 * half)));
                }
        }
    }
    release();
}

/* GELU: x less |x| times the normal distribution's upper tail at |x|, which is half of erfc(z = |x| / sqrt(2)); with
   Abramowitz and Stegun's 7.1.26 for it, off by 1.5e-7 at most. */
static inline __m512 gelu(__m512 x) {
    const __m512 size = _mm512_abs_ps(x);
    const __m512 t = _mm512_rcp14_ps(_mm512_fmadd_ps(size, _mm512_set1_ps(0.231641888f), _mm512_set1_ps(1.0f)));
    __m512 tail = _mm512_set1_ps(0.5307027145f); /* half of each coefficient */
    tail = _mm512_fmadd_ps(tail, t, _mm512_set1_ps(-0.7265760135f));
    tail = _mm512_fmadd_ps(tail, t, _mm512_set1_ps(0.7107068705f));
    tail = _mm512_fmadd_ps(tail, t, _mm512_set1_ps(-0.142248368f));
    tail = _mm512_fmadd_ps(tail, t, _mm512_set1_ps(0.127414796f));
    const __m512 e = exp2_bounded(_mm512_mul_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(-0.721347520f)));
    return _mm512_fnmadd_ps(size, _mm512_mul_ps(_mm512_mul_ps(tail, t), e), _mm512_max_ps(_mm512_setzero_ps(), x));
}

/* Rows first to first + count - 1 of masks [F, T, 16] from x [F, T, 16]: a convolution of 3 x 3 to 64 channels, GELU,
   and a linear layer back, whose tanh it is.

   wide: tiles [2][3 over F][2][2][16][16][2]: of 32 channels each, the inputs of the three frames of a kernel's row side
   by side, and 16 times 0. narrow: tiles [1][2][2][16][16][2], the last 16 outputs 0; bias_wide [64], bias_narrow [32].
   ring: [3, 4 + T rounded up to 32, 16], of zeros, where rows of frames lie padded. */
void mask_bf16(const uint16_t *x, float *out, const uint8_t *wide, const float *bias_wide, const uint8_t *narrow,
               const float *bias_narrow, uint16_t *ring, int64_t F, int64_t T, int64_t first, int64_t count) {
    float sums[ITEMS][2 * UNITS] __attribute__((aligned(64)));
    uint16_t hidden[ITEMS][HIDDEN] __attribute__((aligned(64)));
    const int64_t padded = ((T + ITEMS - 1) / ITEMS * ITEMS + 4) * IN;
    configure(ITEMS);
    for (int64_t f = first - 1; f < first + count + 1; f++) {
        uint16_t *const row = ring + (f + 3) % 3 * padded + IN; /* after the frame before the first, which is 0 */
        if (f < 0 || f >= F) memset(row, 0, T * IN * sizeof(uint16_t));
        else memcpy(row, x + f * T * IN, T * IN * sizeof(uint16_t));
        const int64_t now = f - 1; /* the row whose neighbours are there */
        for (int64_t t = 0; now >= first && t < T; t += ITEMS) {
            const uint8_t *w = wide;
            for (int part = 0; part < HIDDEN; part += 2 * UNITS) {
                __asm__ volatile("" ::: "memory");
                w = sum_wide(sums, ring, padded, now, t, w, bias_wide + part);
                for (int item = 0; item < ITEMS; item++) {
                    const __m512 low = gelu(_mm512_load_ps(sums[item])), high = gelu(_mm512_load_ps(sums[item] + UNITS));
                    _mm512_store_si512(hidden[item] + part, (__m512i)_mm512_cvtne2ps_pbh(high, low));
                }
            }
            __asm__ volatile("" ::: "memory");
            sum_narrow(sums, hidden[0], narrow, bias_narrow);
            const __m512 one = _mm512_set1_ps(1.0f);
            for (int64_t item = 0; item < ITEMS && t + item < T; item++) {
                const __m512 e = exp2_bounded(_mm512_mul_ps(_mm512_load_ps(sums[item]), _mm512_set1_ps(-2.88539008f)));
                const __m512 tanh = _mm512_mul_ps(_mm512_sub_ps(one, e), inverse(_mm512_add_ps(one, e)));
                _mm512_storeu_ps(out + (now * T + t + item) * IN, tanh);
            }
        }
    }
    release();
}
