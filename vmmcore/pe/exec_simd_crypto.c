/*
 * Cryptographic instructions: AES, PMULL of 64 bits, SHA-1 and SHA-256
 * (DDI 0487, C4.1.96, "Cryptographic AES", "three-register SHA" and
 * "two-register SHA").
 *
 * Portable C, for guests that have the extension and self-test it; nothing
 * here is meant to be constant time.
 *
 * Not here: SHA-512, SHA-3, SM3, SM4 (exec_simd_crypto2.c).
 */
#include "pe/simd.h"

/* FIPS 197, figure 7, and its inverse, figure 14. */
/* clang-format off */
static const uint8_t aes_sbox[256] = {
	0x63, 0x7c, 0x77, 0x7b, 0xf2, 0x6b, 0x6f, 0xc5,
	0x30, 0x01, 0x67, 0x2b, 0xfe, 0xd7, 0xab, 0x76,
	0xca, 0x82, 0xc9, 0x7d, 0xfa, 0x59, 0x47, 0xf0,
	0xad, 0xd4, 0xa2, 0xaf, 0x9c, 0xa4, 0x72, 0xc0,
	0xb7, 0xfd, 0x93, 0x26, 0x36, 0x3f, 0xf7, 0xcc,
	0x34, 0xa5, 0xe5, 0xf1, 0x71, 0xd8, 0x31, 0x15,
	0x04, 0xc7, 0x23, 0xc3, 0x18, 0x96, 0x05, 0x9a,
	0x07, 0x12, 0x80, 0xe2, 0xeb, 0x27, 0xb2, 0x75,
	0x09, 0x83, 0x2c, 0x1a, 0x1b, 0x6e, 0x5a, 0xa0,
	0x52, 0x3b, 0xd6, 0xb3, 0x29, 0xe3, 0x2f, 0x84,
	0x53, 0xd1, 0x00, 0xed, 0x20, 0xfc, 0xb1, 0x5b,
	0x6a, 0xcb, 0xbe, 0x39, 0x4a, 0x4c, 0x58, 0xcf,
	0xd0, 0xef, 0xaa, 0xfb, 0x43, 0x4d, 0x33, 0x85,
	0x45, 0xf9, 0x02, 0x7f, 0x50, 0x3c, 0x9f, 0xa8,
	0x51, 0xa3, 0x40, 0x8f, 0x92, 0x9d, 0x38, 0xf5,
	0xbc, 0xb6, 0xda, 0x21, 0x10, 0xff, 0xf3, 0xd2,
	0xcd, 0x0c, 0x13, 0xec, 0x5f, 0x97, 0x44, 0x17,
	0xc4, 0xa7, 0x7e, 0x3d, 0x64, 0x5d, 0x19, 0x73,
	0x60, 0x81, 0x4f, 0xdc, 0x22, 0x2a, 0x90, 0x88,
	0x46, 0xee, 0xb8, 0x14, 0xde, 0x5e, 0x0b, 0xdb,
	0xe0, 0x32, 0x3a, 0x0a, 0x49, 0x06, 0x24, 0x5c,
	0xc2, 0xd3, 0xac, 0x62, 0x91, 0x95, 0xe4, 0x79,
	0xe7, 0xc8, 0x37, 0x6d, 0x8d, 0xd5, 0x4e, 0xa9,
	0x6c, 0x56, 0xf4, 0xea, 0x65, 0x7a, 0xae, 0x08,
	0xba, 0x78, 0x25, 0x2e, 0x1c, 0xa6, 0xb4, 0xc6,
	0xe8, 0xdd, 0x74, 0x1f, 0x4b, 0xbd, 0x8b, 0x8a,
	0x70, 0x3e, 0xb5, 0x66, 0x48, 0x03, 0xf6, 0x0e,
	0x61, 0x35, 0x57, 0xb9, 0x86, 0xc1, 0x1d, 0x9e,
	0xe1, 0xf8, 0x98, 0x11, 0x69, 0xd9, 0x8e, 0x94,
	0x9b, 0x1e, 0x87, 0xe9, 0xce, 0x55, 0x28, 0xdf,
	0x8c, 0xa1, 0x89, 0x0d, 0xbf, 0xe6, 0x42, 0x68,
	0x41, 0x99, 0x2d, 0x0f, 0xb0, 0x54, 0xbb, 0x16,
};
/* clang-format on */

/* clang-format off */
static const uint8_t aes_inv_sbox[256] = {
	0x52, 0x09, 0x6a, 0xd5, 0x30, 0x36, 0xa5, 0x38,
	0xbf, 0x40, 0xa3, 0x9e, 0x81, 0xf3, 0xd7, 0xfb,
	0x7c, 0xe3, 0x39, 0x82, 0x9b, 0x2f, 0xff, 0x87,
	0x34, 0x8e, 0x43, 0x44, 0xc4, 0xde, 0xe9, 0xcb,
	0x54, 0x7b, 0x94, 0x32, 0xa6, 0xc2, 0x23, 0x3d,
	0xee, 0x4c, 0x95, 0x0b, 0x42, 0xfa, 0xc3, 0x4e,
	0x08, 0x2e, 0xa1, 0x66, 0x28, 0xd9, 0x24, 0xb2,
	0x76, 0x5b, 0xa2, 0x49, 0x6d, 0x8b, 0xd1, 0x25,
	0x72, 0xf8, 0xf6, 0x64, 0x86, 0x68, 0x98, 0x16,
	0xd4, 0xa4, 0x5c, 0xcc, 0x5d, 0x65, 0xb6, 0x92,
	0x6c, 0x70, 0x48, 0x50, 0xfd, 0xed, 0xb9, 0xda,
	0x5e, 0x15, 0x46, 0x57, 0xa7, 0x8d, 0x9d, 0x84,
	0x90, 0xd8, 0xab, 0x00, 0x8c, 0xbc, 0xd3, 0x0a,
	0xf7, 0xe4, 0x58, 0x05, 0xb8, 0xb3, 0x45, 0x06,
	0xd0, 0x2c, 0x1e, 0x8f, 0xca, 0x3f, 0x0f, 0x02,
	0xc1, 0xaf, 0xbd, 0x03, 0x01, 0x13, 0x8a, 0x6b,
	0x3a, 0x91, 0x11, 0x41, 0x4f, 0x67, 0xdc, 0xea,
	0x97, 0xf2, 0xcf, 0xce, 0xf0, 0xb4, 0xe6, 0x73,
	0x96, 0xac, 0x74, 0x22, 0xe7, 0xad, 0x35, 0x85,
	0xe2, 0xf9, 0x37, 0xe8, 0x1c, 0x75, 0xdf, 0x6e,
	0x47, 0xf1, 0x1a, 0x71, 0x1d, 0x29, 0xc5, 0x89,
	0x6f, 0xb7, 0x62, 0x0e, 0xaa, 0x18, 0xbe, 0x1b,
	0xfc, 0x56, 0x3e, 0x4b, 0xc6, 0xd2, 0x79, 0x20,
	0x9a, 0xdb, 0xc0, 0xfe, 0x78, 0xcd, 0x5a, 0xf4,
	0x1f, 0xdd, 0xa8, 0x33, 0x88, 0x07, 0xc7, 0x31,
	0xb1, 0x12, 0x10, 0x59, 0x27, 0x80, 0xec, 0x5f,
	0x60, 0x51, 0x7f, 0xa9, 0x19, 0xb5, 0x4a, 0x0d,
	0x2d, 0xe5, 0x7a, 0x9f, 0x93, 0xc9, 0x9c, 0xef,
	0xa0, 0xe0, 0x3b, 0x4d, 0xae, 0x2a, 0xf5, 0xb0,
	0xc8, 0xeb, 0xbb, 0x3c, 0x83, 0x53, 0x99, 0x61,
	0x17, 0x2b, 0x04, 0x7e, 0xba, 0x77, 0xd6, 0x26,
	0xe1, 0x69, 0x14, 0x63, 0x55, 0x21, 0x0c, 0x7d,
};
/* clang-format on */

/* Byte `row` of column c comes from column c + row; the inverse is c - row. */
static inline union vec
aes_shift_sub(union vec s, const uint8_t *sbox, bool inverse)
{
	union vec d;

	for (unsigned col = 0; col < 4; col++)
		for (unsigned row = 0; row < 4; row++) {
			unsigned from = (inverse ? col - row : col + row) & 3;

			d.ub[4 * col + row] = sbox[s.ub[4 * from + row]];
		}
	return (d);
}

static inline uint8_t
aes_xtime(uint8_t v)
{
	return ((uint8_t)(v << 1 ^ ((v >> 7) * 0x1b)));
}

/* One column times 2, 3, 1, 1: all bytes' sum, and x times each neighbouring pair. */
static inline void
aes_mix(uint8_t *c)
{
	uint8_t all = c[0] ^ c[1] ^ c[2] ^ c[3], first = c[0];

	for (unsigned i = 0; i < 4; i++)
		c[i] ^= all ^ aes_xtime(c[i] ^ (i < 3 ? c[i + 1] : first));
}

/* The inverse matrix is that one times 5, 0, 4, 0. */
static inline void
aes_inv_mix(uint8_t *c)
{
	uint8_t u = aes_xtime(aes_xtime(c[0] ^ c[2])), v = aes_xtime(aes_xtime(c[1] ^ c[3]));

	c[0] ^= u;
	c[1] ^= v;
	c[2] ^= u;
	c[3] ^= v;
	aes_mix(c);
}

static inline int
aes_round(struct pe *pe, const struct insn *in, const uint8_t *sbox, bool inverse)
{
	union vec s, k;

	SIMD_ENTER(pe, in);
	s = simd_reg(pe, in->rd);
	k = simd_reg(pe, in->rn);
	s.ud[0] ^= k.ud[0];
	s.ud[1] ^= k.ud[1];
	s = aes_shift_sub(s, sbox, inverse);
	simd_set(pe, in->rd, &s);
	return (INSN_NEXT);
}

int
op_aese(struct pe *pe, const struct insn *in)
{
	return (aes_round(pe, in, aes_sbox, false));
}

int
op_aesd(struct pe *pe, const struct insn *in)
{
	return (aes_round(pe, in, aes_inv_sbox, true));
}

static inline int
aes_columns(struct pe *pe, const struct insn *in, void (*mix)(uint8_t *))
{
	union vec s;

	SIMD_ENTER(pe, in);
	s = simd_reg(pe, in->rn);
	for (unsigned col = 0; col < 4; col++)
		mix(s.ub + 4 * col);
	simd_set(pe, in->rd, &s);
	return (INSN_NEXT);
}

int
op_aesmc(struct pe *pe, const struct insn *in)
{
	return (aes_columns(pe, in, aes_mix));
}

int
op_aesimc(struct pe *pe, const struct insn *in)
{
	return (aes_columns(pe, in, aes_inv_mix));
}

/* --- PMULL, PMULL2 of 64-bit elements ------------------------------------- */

int
op_pmull_1q(struct pe *pe, const struct insn *in)
{
	uint64_t a, b;
	union vec d = { .ud = { 0, 0 } };

	SIMD_ENTER(pe, in);
	a = pe->v[in->rn][SIMD_Q(in)];
	b = pe->v[in->rm][SIMD_Q(in)];
	d.ud[0] = a & -(b & 1);
	for (unsigned i = 1; i < 64; i++) {
		uint64_t select = -(b >> i & 1);

		d.ud[0] ^= a << i & select;
		d.ud[1] ^= a >> (64 - i) & select;
	}
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

/* --- SHA-1 and SHA-256 (FIPS 180-4, 4.1 and 6) ---------------------------- */

static inline uint32_t
rol(uint32_t v, unsigned n)
{
	return (v << n | v >> (32 - n));
}

static inline uint32_t
ror(uint32_t v, unsigned n)
{
	return (rol(v, 32 - n));
}

static inline uint32_t
choose(uint32_t x, uint32_t y, uint32_t z)
{
	return (z ^ (x & (y ^ z)));
}

static inline uint32_t
parity(uint32_t x, uint32_t y, uint32_t z)
{
	return (x ^ y ^ z);
}

static inline uint32_t
majority(uint32_t x, uint32_t y, uint32_t z)
{
	return ((x & y) | ((x | y) & z));
}

/* Four rounds: a to d are Rd, e is Rn, the schedule with its constant is Rm. */
static inline int
sha1_rounds(struct pe *pe, const struct insn *in, uint32_t (*f)(uint32_t, uint32_t, uint32_t))
{
	union vec x, w;
	uint32_t e;

	SIMD_ENTER(pe, in);
	x = simd_reg(pe, in->rd);
	w = simd_reg(pe, in->rm);
	e = (uint32_t)pe->v[in->rn][0];
	for (unsigned i = 0; i < 4; i++) {
		uint32_t t = e + rol(x.us[0], 5) + f(x.us[1], x.us[2], x.us[3]) + w.us[i];

		e = x.us[3];
		x.us[3] = x.us[2];
		x.us[2] = rol(x.us[1], 30);
		x.us[1] = x.us[0];
		x.us[0] = t;
	}
	simd_set(pe, in->rd, &x);
	return (INSN_NEXT);
}

int
op_sha1c(struct pe *pe, const struct insn *in)
{
	return (sha1_rounds(pe, in, choose));
}

int
op_sha1p(struct pe *pe, const struct insn *in)
{
	return (sha1_rounds(pe, in, parity));
}

int
op_sha1m(struct pe *pe, const struct insn *in)
{
	return (sha1_rounds(pe, in, majority));
}

int
op_sha1h(struct pe *pe, const struct insn *in)
{
	SIMD_ENTER(pe, in);
	simd_put_half(pe, in->rd, rol((uint32_t)pe->v[in->rn][0], 30), 0);
	return (INSN_NEXT);
}

int
op_sha1su0(struct pe *pe, const struct insn *in)
{
	union vec d, x, y;

	SIMD_ENTER(pe, in);
	d = simd_reg(pe, in->rd);
	x = simd_reg(pe, in->rn);
	y = simd_reg(pe, in->rm);
	d.ud[0] ^= d.ud[1] ^ y.ud[0];
	d.ud[1] ^= x.ud[0] ^ y.ud[1];
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

int
op_sha1su1(struct pe *pe, const struct insn *in)
{
	union vec d, x;

	SIMD_ENTER(pe, in);
	d = simd_reg(pe, in->rd);
	x = simd_reg(pe, in->rn);
	for (unsigned i = 0; i < 4; i++)
		d.us[i] = rol(d.us[i] ^ (i < 3 ? x.us[i + 1] : 0), 1);
	d.us[3] ^= rol(d.us[0], 1);
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

/* Four rounds: x is a to d, y is e to h. */
static inline void
sha256_rounds(union vec *x, union vec *y, const union vec *w)
{
	for (unsigned i = 0; i < 4; i++) {
		uint32_t a = x->us[0], e = y->us[0];
		uint32_t t = y->us[3] + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) +
			     choose(e, y->us[1], y->us[2]) + w->us[i];
		uint32_t s =
		    t + (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + majority(a, x->us[1], x->us[2]);

		y->us[3] = y->us[2];
		y->us[2] = y->us[1];
		y->us[1] = e;
		y->us[0] = x->us[3] + t;
		x->us[3] = x->us[2];
		x->us[2] = x->us[1];
		x->us[1] = a;
		x->us[0] = s;
	}
}

int
op_sha256h(struct pe *pe, const struct insn *in)
{
	union vec x, y, w;

	SIMD_ENTER(pe, in);
	x = simd_reg(pe, in->rd);
	y = simd_reg(pe, in->rn);
	w = simd_reg(pe, in->rm);
	sha256_rounds(&x, &y, &w);
	simd_set(pe, in->rd, &x);
	return (INSN_NEXT);
}

int
op_sha256h2(struct pe *pe, const struct insn *in)
{
	union vec x, y, w;

	SIMD_ENTER(pe, in);
	x = simd_reg(pe, in->rn);
	y = simd_reg(pe, in->rd);
	w = simd_reg(pe, in->rm);
	sha256_rounds(&x, &y, &w);
	simd_set(pe, in->rd, &y);
	return (INSN_NEXT);
}

int
op_sha256su0(struct pe *pe, const struct insn *in)
{
	union vec d, x;

	SIMD_ENTER(pe, in);
	d = simd_reg(pe, in->rd);
	x = simd_reg(pe, in->rn);
	for (unsigned i = 0; i < 4; i++) {
		uint32_t v = i < 3 ? d.us[i + 1] : x.us[0];

		d.us[i] += ror(v, 7) ^ ror(v, 18) ^ v >> 3;
	}
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

int
op_sha256su1(struct pe *pe, const struct insn *in)
{
	union vec d, x, y;

	SIMD_ENTER(pe, in);
	d = simd_reg(pe, in->rd);
	x = simd_reg(pe, in->rn);
	y = simd_reg(pe, in->rm);
	for (unsigned i = 0; i < 4; i++) {
		uint32_t v = i < 2 ? y.us[i + 2] : d.us[i - 2];

		d.us[i] += (ror(v, 17) ^ ror(v, 19) ^ v >> 10) + (i < 3 ? x.us[i + 1] : y.us[0]);
	}
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}
