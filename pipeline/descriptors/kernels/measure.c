/* What the descriptors are made of, of one stem of a clip or of its loudness: `mixstyle.pipeline.descriptors.measured`
   with fewer passes over memory.

   A stem goes through in tiles that stay in the cache: energies and peaks, decimation, and the short frames' transforms
   are all made of a tile while it is there. Transforms have a frame in each lane of the vectors, so that they need no
   shuffles: tiles are transposed, 2 LANES frames are transformed at once, the first LANES of them as real and the
   others as imaginary part. Frames of one signal are paired, never mid with side: what float32 rounds of a loud mid
   would stand in a quiet side. Everything is float32 but sums over a clip and the K-weighting, which are float64. */

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float v __attribute__((vector_size(4 * LANES)));
typedef float unaligned __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t iv __attribute__((vector_size(4 * LANES)));
typedef double dv __attribute__((vector_size(4 * LANES))); /* LANES / 2 of them */

enum {
    FINE = 1024, FINE_HOP = 512, COARSE = 256, COARSE_HOP = 128, /* coarse ones in decimated samples */
    DECIMATION = 16, TAPS = 128, PHASES = TAPS / DECIMATION,
    FRAMES = 2 * LANES,     /* that are transformed at once */
    COLUMNS = 3 * LANES,    /* of transposed blocks: 2 LANES, and one more */
    SIGNALS = 8,            /* stems times channels */
    MOST_BANDS = 32,
};

int64_t measure_version(void) { return 1; }

/* What turns a window's samples into bands. A table's rows are outputs times inputs. */
typedef struct {
    const float *window;      /* scaled so that a bin's power is its mean square */
    const float *inner;       /* [R2][4][2]: factors within the transform of R = 4 R2 points, cosines and sines */
    const float *outer;       /* [R][R][2]: factors between the two */
    const float *erbs;        /* [erb_count][bins] */
    const int64_t *erb_edges; /* [erb_count][2]: bins that a band reads: from, and up to */
    const float *bands;       /* [band_count][bins] */
    int64_t bins, erb_count, band_count;
} Analysis;

typedef struct {
    Analysis fine, coarse;
    const float *taps;
    int64_t margin, flat_first, flat_stop;
    double flat_floor; /* smallest part of a frame's mean power that a bin counts with */
    double flat_floor_db;
} Plan;

INLINE v load(const float *at) { return *(const unaligned *)at; }
INLINE void store(float *at, v x) { *(unaligned *)at = x; }
#if LANES == 16
INLINE v all(float x) { return (v)_mm512_set1_ps(x); }
INLINE v largest(v a, v b) { return (v)_mm512_max_ps((__m512)a, (__m512)b); }
#else
INLINE v all(float x) { return (v)_mm256_set1_ps(x); }
INLINE v largest(v a, v b) { return (v)_mm256_max_ps((__m256)a, (__m256)b); }
#endif
INLINE double total(v x) {
    double sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += x[lane];
    return sum;
}

/* Rows become columns, in place. */
INLINE void transpose(v x[LANES]) {
#if LANES == 16
    __m512 a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps((__m512)x[i], (__m512)x[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps((__m512)x[i], (__m512)x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm512_shuffle_ps(a[i + j], a[i + 2 + j], 0x44);
            b[i + 2 * j + 1] = _mm512_shuffle_ps(a[i + j], a[i + 2 + j], 0xee);
        }
    for (int i = 0; i < 16; i += 8)
        for (int j = 0; j < 4; j++) {
            a[i + j] = _mm512_shuffle_f32x4(b[i + j], b[i + 4 + j], 0x88);
            a[i + 4 + j] = _mm512_shuffle_f32x4(b[i + j], b[i + 4 + j], 0xdd);
        }
    for (int j = 0; j < 4; j++)
        for (int k = 0; k < 2; k++) {
            x[4 * k + j] = (v)_mm512_shuffle_f32x4(a[4 * k + j], a[8 + 4 * k + j], 0x88);
            x[8 + 4 * k + j] = (v)_mm512_shuffle_f32x4(a[4 * k + j], a[8 + 4 * k + j], 0xdd);
        }
#else
    __m256 a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps((__m256)x[i], (__m256)x[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps((__m256)x[i], (__m256)x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm256_shuffle_ps(a[i + j], a[i + 2 + j], 0x44);
            b[i + 2 * j + 1] = _mm256_shuffle_ps(a[i + j], a[i + 2 + j], 0xee);
        }
    for (int j = 0; j < 4; j++) {
        x[j] = (v)_mm256_permute2f128_ps(b[j], b[4 + j], 0x20);
        x[4 + j] = (v)_mm256_permute2f128_ps(b[j], b[4 + j], 0x31);
    }
#endif
}

/* Transforms of 4, 8, 16 and 32 points, a signal in each lane; e^-i. */

INLINE void fft4(v *r, v *i, int step) {
    const v ar = r[0] + r[2 * step], ai = i[0] + i[2 * step], br = r[0] - r[2 * step], bi = i[0] - i[2 * step];
    const v cr = r[step] + r[3 * step], ci = i[step] + i[3 * step];
    const v dr = r[step] - r[3 * step], di = i[step] - i[3 * step];
    r[0] = ar + cr, i[0] = ai + ci;
    r[step] = br + di, i[step] = bi - dr;
    r[2 * step] = ar - cr, i[2 * step] = ai - ci;
    r[3 * step] = br - di, i[3 * step] = bi + dr;
}

INLINE void fft8(v *r, v *i) {
    const v h = all(0.70710678f);
    fft4(r, i, 2);
    fft4(r + 1, i + 1, 2);
    const v er[4] = {r[0], r[2], r[4], r[6]}, ei[4] = {i[0], i[2], i[4], i[6]};
    const v or[4] = {r[1], (r[3] + i[3]) * h, i[5], (i[7] - r[7]) * h};
    const v oi[4] = {i[1], (i[3] - r[3]) * h, -r[5], -(r[7] + i[7]) * h};
    for (int k = 0; k < 4; k++) {
        r[k] = er[k] + or[k], i[k] = ei[k] + oi[k];
        r[k + 4] = er[k] - or[k], i[k + 4] = ei[k] - oi[k];
    }
}

INLINE void turn(v *r, v *i, const float *factor) {
    const v c = all(factor[0]), s = all(factor[1]), x = *r;
    *r = x * c - *i * s;
    *i = x * s + *i * c;
}

/* The second half of a transform of 4 R2 points whose first half lies in r and i [4][R2]: output k1 + 4 k2 */
INLINE void last_half(v *r, v *i, int R2) {
    for (int k = 0; k < 4; k++) {
        if (R2 == 8) fft8(r + k * R2, i + k * R2);
        else fft4(r + k * R2, i + k * R2, 1);
    }
}

INLINE void first_half(v *r, v *i, int R2, int n, const float *inner) {
    fft4(r + n, i + n, R2);
    for (int k = 1; k < 4; k++) turn(r + k * R2 + n, i + k * R2 + n, inner + (n * 4 + k) * 2);
}

/* Powers [bins][2][LANES] of R R points of FRAMES frames, which overlap by half: blocks [R R / 2][COLUMNS], those of a
   frame being its column and the next. Sets or adds to them; adds them over frames to sums [bins][LANES]. Frames from
   the count on read 0. between: [R][2 R + 2] of scratch. */
INLINE void transform(const float *blocks, const Analysis *plan, int R, int64_t count, int add, v *between, v *powers,
                      v *sums) {
    v keep[2];
    for (int lane = 0; lane < FRAMES; lane++) keep[lane / LANES][lane % LANES] = lane < count;
    const int R2 = R / 4, row = 2 * R + 2, N = R * R;
    for (int column = 0; column < R; column++) {
        v r[32], i[32];
        for (int n = 0; n < R2; n++) {
            for (int m = 0; m < 4; m++) {
                const int at = (m * R2 + n) * R + column, later = at >= N / 2;
                const float *const x = blocks + (later ? at - N / 2 : at) * COLUMNS + later;
                const v w = all(plan->window[at]);
                r[m * R2 + n] = load(x) * w;
                i[m * R2 + n] = load(x + LANES) * w;
            }
            first_half(r, i, R2, n, plan->inner);
        }
        last_half(r, i, R2);
        for (int k = 0; k < R; k++) {
            const int from = k % 4 * R2 + k / 4;
            turn(r + from, i + from, plan->outer + (k * R + column) * 2);
            between[k * row + 2 * column] = r[from];
            between[k * row + 2 * column + 1] = i[from];
        }
    }
    for (int first = 0; first <= R / 2; first++) {
        v r[2][32], i[2][32];
        const int mirror = (R - first) % R, rows = mirror == first ? 1 : 2;
        for (int which = 0; which < rows; which++) {
            const v *const x = between + (which ? mirror : first) * row;
            v *const a = r[which], *const b = i[which];
            for (int n = 0; n < R2; n++) {
                for (int m = 0; m < 4; m++) {
                    const int at = m * R2 + n;
                    a[at] = x[2 * at], b[at] = x[2 * at + 1];
                }
                first_half(a, b, R2, n, plan->inner);
            }
            last_half(a, b, R2);
        }
        for (int which = 0; which < rows; which++) {
            const int own = which ? mirror : first, other = rows - 1 - which;
            for (int k = 0; k <= R / 2; k++) {
                const int64_t bin = own + (int64_t)R * k;
                if (bin >= plan->bins) break;
                const int back = own ? R - 1 - k : (R - k) % R;
                const int here = k % 4 * R2 + k / 4, there = back % 4 * R2 + back / 4;
                const v zr = r[which][here], zi = i[which][here], yr = r[other][there], yi = i[other][there];
                const v ar = zr + yr, ai = zi - yi, br = zi + yi, bi = yr - zr;
                const v a = (ar * ar + ai * ai) * keep[0], b = (br * br + bi * bi) * keep[1];
                sums[bin] += a + b;
                v *const power = powers + 2 * bin;
                power[0] = add ? power[0] + a : a;
                power[1] = add ? power[1] + b : b;
            }
        }
    }
}

/* Tiles [frames, erb_count] of the next frames, from powers [bins][2][LANES]. */
INLINE void add_tiles(const Analysis *plan, const v *powers, int64_t frames, float *tiles) {
    float columns[MOST_BANDS][FRAMES] __attribute__((aligned(64)));
    for (int64_t band = 0; band < plan->erb_count; band++) {
        const float *const weights = plan->erbs + band * plan->bins;
        v a = all(0), b = all(0);
        for (int64_t bin = plan->erb_edges[2 * band]; bin < plan->erb_edges[2 * band + 1]; bin++) {
            a += powers[2 * bin] * all(weights[bin]);
            b += powers[2 * bin + 1] * all(weights[bin]);
        }
        store(columns[band], a);
        store(columns[band] + LANES, b);
    }
    for (int64_t frame = 0; frame < frames; frame++)
        for (int64_t band = 0; band < plan->erb_count; band++)
            tiles[frame * plan->erb_count + band] = columns[band][frame];
}

/* log2 of normal positive numbers: exponent, and 2 atanh(t) / ln 2 with t = (m - 1) / (m + 1), within 1e-7 */
INLINE v log2_of(v x) {
    const iv bits = (iv)x, exponent = (bits - 0x3f3504f3) >> 23; /* mantissas from sqrt(1 / 2) on */
    const v m = (v)(bits - (exponent << 23)), t = (m - all(1)) / (m + all(1)), square = t * t;
    v series = all(2.885390082f / 9);
    series = series * square + all(2.885390082f / 7);
    series = series * square + all(2.885390082f / 5);
    series = series * square + all(2.885390082f / 3);
    series = series * square + all(2.885390082f);
    return __builtin_convertvector(exponent, v) + series * t;
}

/* Adds a frame's mean power in the flat bins to flat[0], and that times its flatness in dB to flat[1]. */
INLINE void add_flatness(const Plan *plan, const v *powers, v flat[2]) {
    const int64_t first = plan->flat_first, stop = plan->flat_stop;
    for (int half = 0; half < 2; half++) {
        v sum = all(0), logs = all(0);
        for (int64_t bin = first; bin < stop; bin++) sum += powers[2 * bin + half];
        const v mean = sum * all(1.0f / (stop - first)), scale = all(1) / largest(mean, all(1.17549435e-38f));
        for (int64_t bin = first; bin < stop; bin += 4) { /* products of 4 are 1e-24 at least, and 1e9 at most */
            v product = all(1);
            for (int64_t i = bin; i < bin + 4 && i < stop; i++)
                product *= largest(powers[2 * i + half] * scale, all(plan->flat_floor));
            logs += log2_of(product);
        }
        flat[0] += mean;
        flat[1] += mean * logs * all(3.01029995663981f / (stop - first));
    }
}

/* Adds rows times sums over frames [bins][LANES] to bands [band_count]. */
static void add_bands(const Analysis *plan, const v *sums, int64_t frames, double *bands) {
    for (int64_t bin = 0; bin < plan->bins; bin++) {
        const double mean = total(sums[bin]) / frames;
        for (int64_t band = 0; band < plan->band_count; band++)
            bands[band] += plan->bands[band * plan->bins + bin] * mean;
    }
}

/* Samples from on of x [samples], reflected at its ends; zeros from stop on. */
static void reflected(float *out, const float *x, int64_t samples, int64_t from, int64_t count, int64_t stop) {
    for (int64_t i = 0; i < count; i++) {
        int64_t at = from + i;
        if (at >= stop) {
            out[i] = 0;
            continue;
        }
        at = at < 0 ? -at : at;
        out[i] = x[at < samples ? at : 2 * (samples - 1) - at];
    }
}

/* Blocks of a hop's samples [hop][COLUMNS]: of l + r and l - r, or of l alone. */
INLINE void lay(const float *l, const float *r, int64_t hop, float *m, float *s) {
    for (int half = 0; half < 2; half++)
        for (int64_t n = 0; n < hop; n += LANES) {
            v a[LANES], b[LANES];
            for (int i = 0; i < LANES; i++) {
                const int64_t at = (half * LANES + i) * hop + n;
                const v x = load(l + at);
                if (r) {
                    const v y = load(r + at);
                    a[i] = x + y, b[i] = x - y;
                } else a[i] = x;
            }
            transpose(a);
            for (int i = 0; i < LANES; i++) store(m + (n + i) * COLUMNS + half * LANES, a[i]);
            if (r) {
                transpose(b);
                for (int i = 0; i < LANES; i++) store(s + (n + i) * COLUMNS + half * LANES, b[i]);
            }
        }
    for (int64_t n = 0; n < hop; n++) {
        const int64_t at = FRAMES * hop + n;
        m[n * COLUMNS + FRAMES] = r ? l[at] + r[at] : l[at];
        if (r) s[n * COLUMNS + FRAMES] = l[at] - r[at];
    }
}

typedef struct {
    double left, right, mid, side;
    float peak;
} Energies;

static void add_energies(Energies *to, const float *l, const float *r, int64_t samples) {
    v left = all(0), right = all(0), mid = all(0), side = all(0), peak = all(0);
    int64_t i = 0;
    for (; i + LANES <= samples; i += LANES) {
        const v a = load(l + i), b = load(r + i), m = a + b, s = a - b;
        left += a * a, right += b * b, mid += m * m, side += s * s;
        peak = largest(peak, largest(largest(a, -a), largest(b, -b)));
    }
    to->left += total(left), to->right += total(right), to->mid += total(mid), to->side += total(side);
    for (int lane = 0; lane < LANES; lane++) to->peak = fmaxf(to->peak, peak[lane]);
    for (; i < samples; i++) {
        const float a = l[i], b = r[i], m = a + b, s = a - b;
        to->left += a * a, to->right += b * b, to->mid += m * m, to->side += s * s;
        to->peak = fmaxf(to->peak, fmaxf(fabsf(a), fabsf(b)));
    }
}

/* LANES samples of l + r and of l - r, decimated, from samples [(LANES + PHASES - 1) DECIMATION] on. */
INLINE void decimate(const float *l, const float *r, const float *taps, float *m, float *s) {
    enum { PARTS = DECIMATION / LANES, ROWS = LANES + PHASES - 1 };
    v rows[2][ROWS * PARTS];
    for (int i = 0; i < ROWS * PARTS; i++) {
        const v a = load(l + i * LANES), b = load(r + i * LANES);
        rows[0][i] = a + b, rows[1][i] = a - b;
    }
    for (int which = 0; which < 2; which++) {
        v out[LANES];
        for (int n = 0; n < LANES; n++) {
            v sum = all(0);
            for (int i = 0; i < PHASES * PARTS; i++) sum += rows[which][n * PARTS + i] * load(taps + i * LANES);
            out[n] = sum;
        }
        transpose(out);
        v sum = all(0);
        for (int i = 0; i < LANES; i++) sum += out[i];
        store(which ? s : m, sum);
    }
}

/* Scratch of a stem, in floats: blocks of m and of s, what lies between a transform's halves, powers, sums of m and s,
   a tile with reflections, and the decimated signals. */
enum {
    BLOCKS = FINE_HOP * COLUMNS, BETWEEN = 32 * 66 * LANES, POWERS = (FINE / 2 + 1) * 2 * LANES,
    SUMS = (FINE / 2 + 1) * LANES, EDGE = (FRAMES + 1) * FINE_HOP
};

static int64_t decimated(int64_t samples) {
    const int64_t frames = samples / (COARSE_HOP * DECIMATION) + 1;
    return ((frames + FRAMES - 1) / FRAMES * FRAMES + 1) * COARSE_HOP;
}

int64_t measure_scratch(int64_t samples) {
    return 2 * BLOCKS + BETWEEN + POWERS + 2 * SUMS + 2 * EDGE + 2 * decimated(samples);
}

/* One stem: left and right [samples]. values: mean squares of l, r, l + r and l - r, the peak, flatness in dB. bands:
   [2][band_count], of l + r and l - r. tiles: [frames, bands] of the long and of the short frames. scratch: aligned. */
void measure_stem(const float *left, const float *right, int64_t samples, const Plan *plan, float *scratch,
                  double *values, double *bands, float *coarse_tiles, float *fine_tiles) {
    const unsigned control = _mm_getcsr();
    _mm_setcsr(control | 0x8040); /* numbers below the normal ones are 0: they take hundreds of cycles */
    float *const blocks_m = scratch, *const blocks_s = blocks_m + BLOCKS;
    v *const between = (v *)(blocks_s + BLOCKS), *const powers = between + BETWEEN / LANES;
    v *const sums_m = powers + POWERS / LANES, *const sums_s = sums_m + SUMS / LANES;
    float *const edge_l = (float *)(sums_s + SUMS / LANES), *const edge_r = edge_l + EDGE;
    float *const low_m = edge_r + EDGE, *const low_s = low_m + decimated(samples);
    const int64_t frames = samples / FINE_HOP + 1, coarse_frames = samples / (COARSE_HOP * DECIMATION) + 1;
    const int64_t low_samples = (coarse_frames + 1) * COARSE_HOP, all_low = decimated(samples);
    const Analysis *const fine = &plan->fine, *const coarse = &plan->coarse;
    Energies energies = {0};
    v flat[2] = {all(0), all(0)};
    int64_t low = 0; /* decimated samples that are there */
    memset(sums_m, 0, 2 * SUMS * sizeof(float));
    memset(low_m, 0, 2 * all_low * sizeof(float));

    for (int64_t frame = 0; frame < frames; frame += FRAMES) {
        const int64_t from = (frame - 1) * FINE_HOP, count = (FRAMES + 1) * FINE_HOP;
        const int64_t begin = frame * FINE_HOP, after = begin + FRAMES * FINE_HOP;
        const int64_t end = after < samples ? after : samples;
        const float *l = left + from, *r = right + from;
        if (from < 0 || from + count > samples) {
            reflected(edge_l, left, samples, from, count, frames * FINE_HOP);
            reflected(edge_r, right, samples, from, count, frames * FINE_HOP);
            l = edge_l, r = edge_r;
        }
        lay(l, r, FINE_HOP, blocks_m, blocks_s);
        if (begin < end) add_energies(&energies, left + begin, right + begin, end - begin);
        for (; low < low_samples; low += LANES) {
            enum { NEEDED = (LANES + PHASES - 1) * DECIMATION };
            const int64_t at = low * DECIMATION - plan->margin;
            if (at + NEEDED > end && end < samples) break; /* of the next tile */
            float l_edge[NEEDED], r_edge[NEEDED], m[LANES], s[LANES];
            const float *low_l = left + at, *low_r = right + at;
            if (at < 0 || at + NEEDED > samples) {
                const int64_t stop = (low_samples + PHASES) * DECIMATION - plan->margin;
                reflected(l_edge, left, samples, at, NEEDED, stop);
                reflected(r_edge, right, samples, at, NEEDED, stop);
                low_l = l_edge, low_r = r_edge;
            }
            decimate(low_l, low_r, plan->taps, m, s);
            memcpy(low_m + low, m, sizeof(m)); /* all lengths are multiples of LANES */
            memcpy(low_s + low, s, sizeof(s));
        }
        const int64_t now = frames - frame < FRAMES ? frames - frame : FRAMES;
        transform(blocks_m, fine, 32, now, 0, between, powers, sums_m);
        transform(blocks_s, fine, 32, now, 1, between, powers, sums_s);
        add_tiles(fine, powers, now, fine_tiles + frame * fine->erb_count);
        add_flatness(plan, powers, flat);
    }
    memset(bands, 0, 2 * fine->band_count * sizeof(double));
    add_bands(fine, sums_m, frames, bands);
    add_bands(fine, sums_s, frames, bands + fine->band_count);

    memset(sums_m, 0, 2 * SUMS * sizeof(float));
    for (int64_t frame = 0; frame < coarse_frames; frame += FRAMES) {
        lay(low_m + frame * COARSE_HOP, 0, COARSE_HOP, blocks_m, 0);
        lay(low_s + frame * COARSE_HOP, 0, COARSE_HOP, blocks_s, 0);
        const int64_t now = coarse_frames - frame < FRAMES ? coarse_frames - frame : FRAMES;
        transform(blocks_m, coarse, 16, now, 0, between, powers, sums_m);
        transform(blocks_s, coarse, 16, now, 1, between, powers, sums_s);
        add_tiles(coarse, powers, now, coarse_tiles + frame * coarse->erb_count);
    }
    add_bands(coarse, sums_m, coarse_frames, bands);
    add_bands(coarse, sums_s, coarse_frames, bands + fine->band_count);

    const double weight = total(flat[0]);
    values[0] = energies.left / samples, values[1] = energies.right / samples;
    values[2] = energies.mid / samples, values[3] = energies.side / samples;
    values[4] = energies.peak;
    values[5] = (weight > 0 ? total(flat[1]) / weight : plan->flat_floor_db) + 0 * weight; /* NaN stays NaN */
    _mm_setcsr(control);
}

/* Eight K-weighted signals a step of time, in float64. */
enum { HALVES = 2 * SIGNALS / LANES };

typedef struct {
    dv b0, b1, b2, a1, a2;
} Section;

#if LANES == 16
INLINE dv all64(double x) { return (dv)_mm512_set1_pd(x); }
#else
INLINE dv all64(double x) { return (dv)_mm256_set1_pd(x); }
#endif

INLINE dv filtered(const Section *f, dv x, dv state[2]) {
    const dv y = f->b0 * x + state[0];
    state[0] = f->b1 * x + state[1] - f->a1 * y; /* in this order only one product waits for y */
    state[1] = f->b2 * x - f->a2 * y;
    return y;
}

/* The sum over stems of channels [stem][channel], in each pair of lanes. */
INLINE dv over_stems(const dv y[HALVES]) {
#if LANES == 16
    const __m512d one = _mm512_add_pd((__m512d)y[0], _mm512_shuffle_f64x2((__m512d)y[0], (__m512d)y[0], 0x4e));
    return (dv)_mm512_add_pd(one, _mm512_shuffle_f64x2(one, one, 0xb1));
#else
    const __m256d one = _mm256_add_pd((__m256d)y[0], (__m256d)y[1]);
    return (dv)_mm256_add_pd(one, _mm256_permute2f128_pd(one, one, 0x01));
#endif
}

/* Mean squares of K-weighted stems [8][samples], and of their sum's two channels, in steps of so many samples: [10]
   [steps]. A last step that is not whole is filled up with zeros. sections: [2][b0 b1 b2 a1 a2]. */
void measure_loudness(const float *stems, int64_t samples, const double *sections, int64_t step, int64_t steps,
                      double *out) {
    enum { AT_ONCE = 8, WIDE = LANES / 2 };
    const unsigned control = _mm_getcsr();
    _mm_setcsr(control | 0x8040);
    Section f[2];
    for (int i = 0; i < 2; i++) {
        const double *const c = sections + 5 * i;
        f[i] = (Section){all64(c[0]), all64(c[1]), all64(c[2]), all64(c[3]), all64(c[4])};
    }
    dv state[HALVES][2][2] = {0};
    for (int64_t now = 0; now < steps; now++) {
        const int64_t begin = now * step, end = begin + step < samples ? begin + step : samples;
        dv squares[HALVES] = {0}, together = all64(0);
        for (int64_t t = begin; t < end; t += AT_ONCE) {
            __m256 x[SIGNALS], a[SIGNALS], b[SIGNALS];
            const int count = end - t < AT_ONCE ? end - t : AT_ONCE;
            for (int i = 0; i < SIGNALS; i++) {
                float row[AT_ONCE] = {0};
                if (count == AT_ONCE) x[i] = _mm256_loadu_ps(stems + i * samples + t);
                else {
                    memcpy(row, stems + i * samples + t, count * sizeof(float));
                    x[i] = _mm256_loadu_ps(row);
                }
            }
            for (int i = 0; i < 8; i += 2) {
                a[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
                a[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
            }
            for (int i = 0; i < 8; i += 4)
                for (int j = 0; j < 2; j++) {
                    b[i + 2 * j] = _mm256_shuffle_ps(a[i + j], a[i + 2 + j], 0x44);
                    b[i + 2 * j + 1] = _mm256_shuffle_ps(a[i + j], a[i + 2 + j], 0xee);
                }
            for (int j = 0; j < 4; j++) {
                x[j] = _mm256_permute2f128_ps(b[j], b[4 + j], 0x20);
                x[4 + j] = _mm256_permute2f128_ps(b[j], b[4 + j], 0x31);
            }
            for (int n = 0; n < AT_ONCE; n++) {
                if (n >= count) break;
                dv y[HALVES];
#if LANES == 16
                y[0] = (dv)_mm512_cvtps_pd(x[n]);
#else
                y[0] = (dv)_mm256_cvtps_pd(_mm256_castps256_ps128(x[n]));
                y[1] = (dv)_mm256_cvtps_pd(_mm256_extractf128_ps(x[n], 1));
#endif
                for (int half = 0; half < HALVES; half++) {
                    y[half] = filtered(&f[1], filtered(&f[0], y[half], state[half][0]), state[half][1]);
                    squares[half] += y[half] * y[half];
                }
                const dv sum = over_stems(y);
                together += sum * sum;
            }
        }
        for (int i = 0; i < SIGNALS; i++) out[i * steps + now] = squares[i / WIDE][i % WIDE] / step;
        for (int i = 0; i < 2; i++) out[(SIGNALS + i) * steps + now] = together[i] / step;
    }
    _mm_setcsr(control);
}

/* How much stems cover each other in tiles [stem][frames, bands] of two grids: [stem][7], the mean of a stem's tiles,
   and then, over those of its tiles that lie above active times that and for each grid divided by its frames: their
   number, the sum of the others' levels in dB within +-limit_db, in how many the others exceed it, and in how many each
   other does. */
void measure_masking(const float *coarse, const float *fine, const int64_t *sizes, double active, double limit_db,
                     double *out) {
    enum { STEMS = 4, COUNTS = 6 };
    const unsigned control = _mm_getcsr();
    _mm_setcsr(control | 0x8040);
    const float *const grids[2] = {coarse, fine};
    const v tiny = all(1.17549435e-38f), one = all(1), limit = all(pow(10, limit_db / 10)), least = one / limit;
    memset(out, 0, STEMS * (COUNTS + 1) * sizeof(double));
    for (int stem = 0; stem < STEMS; stem++) {
        for (int grid = 0; grid < 2; grid++) {
            const int64_t frames = sizes[2 * grid], tiles = frames * sizes[2 * grid + 1];
            const float *const x = grids[grid] + stem * tiles;
            v sum = all(0);
            int64_t i = 0;
            for (; i + LANES <= tiles; i += LANES) sum += load(x + i);
            double last = total(sum);
            for (; i < tiles; i++) last += x[i];
            out[stem * (COUNTS + 1)] += last / frames / (sizes[1] + sizes[3]);
        }
    }
    for (int grid = 0; grid < 2; grid++) {
        const int64_t frames = sizes[2 * grid], tiles = frames * sizes[2 * grid + 1];
        for (int stem = 0; stem < STEMS; stem++) {
            const v threshold = all((float)(active * out[stem * (COUNTS + 1)]));
            v sums[COUNTS] = {all(0), all(0), all(0), all(0), all(0), all(0)};
            for (int64_t i = 0; i < tiles; i += LANES) {
                v x[STEMS];
                float lanes[LANES];
                for (int s = 0; s < STEMS; s++) {
                    const float *const at = grids[grid] + s * tiles + i;
                    if (i + LANES <= tiles) {
                        x[s] = load(at);
                        continue;
                    }
                    for (int lane = 0; lane < LANES; lane++) lanes[lane] = i + lane < tiles ? at[lane] : 0;
                    x[s] = load(lanes);
                }
                iv counted = x[stem] >= threshold;
                if (i + LANES > tiles)
                    for (int lane = 0; lane < LANES; lane++) counted[lane] &= -(i + lane < tiles);
                const v own = x[stem], others[3] = {x[stem < 1], x[1 + (stem < 2)], x[2 + (stem < 3)]};
                const v together = others[0] + others[1] + others[2];
                const v ratio = largest(largest(together, tiny) / largest(own, tiny), least);
                const v level = log2_of(-largest(-ratio, -limit)) * all(3.01029995663981f);
                sums[0] += (v)((iv)one & counted);
                sums[1] += (v)((iv)level & counted);
                sums[2] += (v)((iv)one & (together > own) & counted);
                for (int o = 0; o < 3; o++) sums[3 + o] += (v)((iv)one & (others[o] > own) & counted);
            }
            for (int n = 0; n < COUNTS; n++) out[stem * (COUNTS + 1) + 1 + n] += total(sums[n]) / frames;
        }
    }
    _mm_setcsr(control);
}
