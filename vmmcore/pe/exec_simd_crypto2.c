/*
 * Cryptographic instructions of Armv8.2: SHA-512, SHA-3, SM3 and SM4
 * (DDI 0487, C4.1.96, "Cryptographic three-register SHA 512" to "four-register").
 *
 * Portable C; see exec_simd_crypto.c.
 */
#include "pe/simd.h"

static inline uint64_t
ror64(uint64_t v, unsigned n)
{
	return (v >> (n & 63) | v << (-n & 63));
}

static inline uint32_t
rol(uint32_t v, unsigned n)
{
	return (v << n | v >> (32 - n));
}

/* --- SHA-512 (FIPS 180-4, 4.1.3) ------------------------------------------ */

static inline uint64_t
sum0(uint64_t v)
{
	return (ror64(v, 28) ^ ror64(v, 34) ^ ror64(v, 39));
}

static inline uint64_t
sum1(uint64_t v)
{
	return (ror64(v, 14) ^ ror64(v, 18) ^ ror64(v, 41));
}

static inline uint64_t
choose(uint64_t x, uint64_t y, uint64_t z)
{
	return (z ^ (x & (y ^ z)));
}

static inline uint64_t
majority(uint64_t x, uint64_t y, uint64_t z)
{
	return ((x & y) | ((x | y) & z));
}

int
op_sha512h(struct pe *pe, const struct insn *in)
{
	union vec d, x, y;

	SIMD_ENTER(pe, in);
	d = simd_reg(pe, in->rd);
	x = simd_reg(pe, in->rn);
	y = simd_reg(pe, in->rm);
	d.ud[1] += choose(y.ud[1], x.ud[0], x.ud[1]) + sum1(y.ud[1]);
	y.ud[0] += d.ud[1];
	d.ud[0] += choose(y.ud[0], y.ud[1], x.ud[0]) + sum1(y.ud[0]);
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

int
op_sha512h2(struct pe *pe, const struct insn *in)
{
	union vec d, x, y;

	SIMD_ENTER(pe, in);
	d = simd_reg(pe, in->rd);
	x = simd_reg(pe, in->rn);
	y = simd_reg(pe, in->rm);
	d.ud[1] += majority(x.ud[0], y.ud[1], y.ud[0]) + sum0(y.ud[0]);
	d.ud[0] += majority(d.ud[1], y.ud[0], y.ud[1]) + sum0(d.ud[1]);
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

int
op_sha512su0(struct pe *pe, const struct insn *in)
{
	union vec d;
	uint64_t next[2];

	SIMD_ENTER(pe, in);
	d = simd_reg(pe, in->rd);
	next[0] = d.ud[1];
	next[1] = pe->v[in->rn][0];
	for (unsigned i = 0; i < 2; i++)
		d.ud[i] += ror64(next[i], 1) ^ ror64(next[i], 8) ^ next[i] >> 7;
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

int
op_sha512su1(struct pe *pe, const struct insn *in)
{
	union vec d, x, y;

	SIMD_ENTER(pe, in);
	d = simd_reg(pe, in->rd);
	x = simd_reg(pe, in->rn);
	y = simd_reg(pe, in->rm);
	for (unsigned i = 0; i < 2; i++)
		d.ud[i] += (ror64(x.ud[i], 19) ^ ror64(x.ud[i], 61) ^ x.ud[i] >> 6) + y.ud[i];
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

/* --- SHA-3 ---------------------------------------------------------------- */

/* a, b, c: 64-bit lanes of Rn, Rm, Ra. */
#define SHA3(name, EXPR)                                                                           \
	int op_##name(struct pe *pe, const struct insn *in)                                        \
	{                                                                                          \
		union vec v;                                                                       \
                                                                                                   \
		SIMD_ENTER(pe, in);                                                                \
		for (unsigned i = 0; i < 2; i++) {                                                 \
			uint64_t a = pe->v[in->rn][i], b = pe->v[in->rm][i], c = pe->v[in->ra][i]; \
                                                                                                   \
			(void)c;                                                                   \
			v.ud[i] = (EXPR);                                                          \
		}                                                                                  \
		simd_set(pe, in->rd, &v);                                                          \
		return (INSN_NEXT);                                                                \
	}

SHA3(eor3, a ^ b ^ c)
SHA3(bcax, a ^ (b & ~c))
SHA3(rax1, a ^ ror64(b, 63))
SHA3(xar, ror64(a ^ b, in->a))

/* --- SM3 (GB/T 32905-2016) ------------------------------------------------ */

int
op_sm3ss1(struct pe *pe, const struct insn *in)
{
	union vec d = { .ud = { 0, 0 } }, x, y, z;

	SIMD_ENTER(pe, in);
	x = simd_reg(pe, in->rn);
	y = simd_reg(pe, in->rm);
	z = simd_reg(pe, in->ra);
	d.us[3] = rol(rol(x.us[3], 12) + y.us[3] + z.us[3], 7);
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

/* Lane 3 is A or E, lane 0 D or H; what leaves enters as TT1 or P0(TT2). */
static inline int
sm3_tt(struct pe *pe, const struct insn *in, bool second, bool late)
{
	union vec d, x, w;
	uint32_t a, b, c, t;

	SIMD_ENTER(pe, in);
	d = simd_reg(pe, in->rd);
	x = simd_reg(pe, in->rn);
	w = simd_reg(pe, in->rm);
	a = d.us[3];
	b = d.us[2];
	c = d.us[1];
	if (!late)
		t = a ^ b ^ c;
	else if (second)
		t = (a & b) | (~a & c);
	else
		t = (a & b) | (a & c) | (b & c);
	t += d.us[0] + w.us[in->a];
	if (second) {
		t += x.us[3];
		t ^= rol(t, 9) ^ rol(t, 17);
	} else {
		t += x.us[3] ^ rol(a, 12);
	}
	d.us[0] = c;
	d.us[1] = rol(b, second ? 19 : 9);
	d.us[2] = a;
	d.us[3] = t;
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

int
op_sm3tt1a(struct pe *pe, const struct insn *in)
{
	return (sm3_tt(pe, in, false, false));
}

int
op_sm3tt1b(struct pe *pe, const struct insn *in)
{
	return (sm3_tt(pe, in, false, true));
}

int
op_sm3tt2a(struct pe *pe, const struct insn *in)
{
	return (sm3_tt(pe, in, true, false));
}

int
op_sm3tt2b(struct pe *pe, const struct insn *in)
{
	return (sm3_tt(pe, in, true, true));
}

static inline uint32_t
sm3_p1(uint32_t v)
{
	return (v ^ rol(v, 15) ^ rol(v, 23));
}

int
op_sm3partw1(struct pe *pe, const struct insn *in)
{
	union vec d, x, y;

	SIMD_ENTER(pe, in);
	d = simd_reg(pe, in->rd);
	x = simd_reg(pe, in->rn);
	y = simd_reg(pe, in->rm);
	for (unsigned i = 0; i < 4; i++) {
		uint32_t next = i < 3 ? y.us[i + 1] : d.us[0];

		d.us[i] = sm3_p1(d.us[i] ^ x.us[i] ^ rol(next, 15));
	}
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

int
op_sm3partw2(struct pe *pe, const struct insn *in)
{
	union vec d, x, y;

	SIMD_ENTER(pe, in);
	d = simd_reg(pe, in->rd);
	x = simd_reg(pe, in->rn);
	y = simd_reg(pe, in->rm);
	for (unsigned i = 0; i < 4; i++) {
		x.us[i] ^= rol(y.us[i], 7);
		d.us[i] ^= x.us[i];
	}
	d.us[3] ^= sm3_p1(rol(x.us[0], 15));
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

/* --- SM4 ------------------------------------------------------------------ */

/* GB/T 32907-2016, 6.2. */
/* clang-format off */
static const uint8_t sm4_sbox[256] = {
	0xd6, 0x90, 0xe9, 0xfe, 0xcc, 0xe1, 0x3d, 0xb7,
	0x16, 0xb6, 0x14, 0xc2, 0x28, 0xfb, 0x2c, 0x05,
	0x2b, 0x67, 0x9a, 0x76, 0x2a, 0xbe, 0x04, 0xc3,
	0xaa, 0x44, 0x13, 0x26, 0x49, 0x86, 0x06, 0x99,
	0x9c, 0x42, 0x50, 0xf4, 0x91, 0xef, 0x98, 0x7a,
	0x33, 0x54, 0x0b, 0x43, 0xed, 0xcf, 0xac, 0x62,
	0xe4, 0xb3, 0x1c, 0xa9, 0xc9, 0x08, 0xe8, 0x95,
	0x80, 0xdf, 0x94, 0xfa, 0x75, 0x8f, 0x3f, 0xa6,
	0x47, 0x07, 0xa7, 0xfc, 0xf3, 0x73, 0x17, 0xba,
	0x83, 0x59, 0x3c, 0x19, 0xe6, 0x85, 0x4f, 0xa8,
	0x68, 0x6b, 0x81, 0xb2, 0x71, 0x64, 0xda, 0x8b,
	0xf8, 0xeb, 0x0f, 0x4b, 0x70, 0x56, 0x9d, 0x35,
	0x1e, 0x24, 0x0e, 0x5e, 0x63, 0x58, 0xd1, 0xa2,
	0x25, 0x22, 0x7c, 0x3b, 0x01, 0x21, 0x78, 0x87,
	0xd4, 0x00, 0x46, 0x57, 0x9f, 0xd3, 0x27, 0x52,
	0x4c, 0x36, 0x02, 0xe7, 0xa0, 0xc4, 0xc8, 0x9e,
	0xea, 0xbf, 0x8a, 0xd2, 0x40, 0xc7, 0x38, 0xb5,
	0xa3, 0xf7, 0xf2, 0xce, 0xf9, 0x61, 0x15, 0xa1,
	0xe0, 0xae, 0x5d, 0xa4, 0x9b, 0x34, 0x1a, 0x55,
	0xad, 0x93, 0x32, 0x30, 0xf5, 0x8c, 0xb1, 0xe3,
	0x1d, 0xf6, 0xe2, 0x2e, 0x82, 0x66, 0xca, 0x60,
	0xc0, 0x29, 0x23, 0xab, 0x0d, 0x53, 0x4e, 0x6f,
	0xd5, 0xdb, 0x37, 0x45, 0xde, 0xfd, 0x8e, 0x2f,
	0x03, 0xff, 0x6a, 0x72, 0x6d, 0x6c, 0x5b, 0x51,
	0x8d, 0x1b, 0xaf, 0x92, 0xbb, 0xdd, 0xbc, 0x7f,
	0x11, 0xd9, 0x5c, 0x41, 0x1f, 0x10, 0x5a, 0xd8,
	0x0a, 0xc1, 0x31, 0x88, 0xa5, 0xcd, 0x7b, 0xbd,
	0x2d, 0x74, 0xd0, 0x12, 0xb8, 0xe5, 0xb4, 0xb0,
	0x89, 0x69, 0x97, 0x4a, 0x0c, 0x96, 0x77, 0x7e,
	0x65, 0xb9, 0xf1, 0x09, 0xc5, 0x6e, 0xc6, 0x84,
	0x18, 0xf0, 0x7d, 0xec, 0x3a, 0xdc, 0x4d, 0x20,
	0x79, 0xee, 0x5f, 0x3e, 0xd7, 0xcb, 0x39, 0x48,
};
/* clang-format on */

static inline uint32_t
sm4_sub(uint32_t v)
{
	return ((uint32_t)sm4_sbox[v >> 24] << 24 | (uint32_t)sm4_sbox[v >> 16 & 255] << 16 |
		(uint32_t)sm4_sbox[v >> 8 & 255] << 8 | sm4_sbox[v & 255]);
}

/* Four rounds on `d` with the words of `k`: L of the data or of the key path. */
static inline union vec
sm4_rounds(union vec d, union vec k, bool key)
{
	for (unsigned i = 0; i < 4; i++) {
		uint32_t t = sm4_sub(d.us[3] ^ d.us[2] ^ d.us[1] ^ k.us[i]);

		if (key)
			t ^= rol(t, 13) ^ rol(t, 23);
		else
			t ^= rol(t, 2) ^ rol(t, 10) ^ rol(t, 18) ^ rol(t, 24);
		t ^= d.us[0];
		d.us[0] = d.us[1];
		d.us[1] = d.us[2];
		d.us[2] = d.us[3];
		d.us[3] = t;
	}
	return (d);
}

int
op_sm4e(struct pe *pe, const struct insn *in)
{
	union vec d;

	SIMD_ENTER(pe, in);
	d = sm4_rounds(simd_reg(pe, in->rd), simd_reg(pe, in->rn), false);
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}

int
op_sm4ekey(struct pe *pe, const struct insn *in)
{
	union vec d;

	SIMD_ENTER(pe, in);
	d = sm4_rounds(simd_reg(pe, in->rn), simd_reg(pe, in->rm), true);
	simd_set(pe, in->rd, &d);
	return (INSN_NEXT);
}
