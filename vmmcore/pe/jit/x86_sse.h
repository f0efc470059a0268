/*
 * x86-64 encoder: vector instructions. Opcodes are values (enum x86_vop), so
 * that tables by element size can hold them; a few emitters take them. All are
 * VEX.128, or EVEX.128 where x86_vops.def says AVX-512, with three
 * operands; bits 255:128 of the destination become zero.
 *
 * Not here: general registers (x86.h), what is worth emitting (lower_*.c).
 */
#ifndef PE_JIT_X86_SSE_H
#define PE_JIT_X86_SSE_H

#include "pe/jit/x86.h"

/* Prefix: 0 none, 1 66, 2 f3, 3 f2. Map: 1 0f, 2 0f38, 3 0f3a. */
#define X_VOP(pp, map, w, op) ((unsigned)((pp) << 16 | (map) << 12 | (w) << 20 | (op)))
#define X_EVOP(pp, map, w, op) (X_VOP(pp, map, w, op) | 1u << 21)
/* No exceptions and flags (SAE), of arithmetic with rounding towards zero (RZ). */
#define X_SAE(pp, map, w, op) (X_EVOP(pp, map, w, op) | 1u << 22)
#define X_RZ(pp, map, w, op) (X_SAE(pp, map, w, op) | 1u << 23)

enum x86_vop {
#define V3(name, pp, map, w, op) V_##name = X_VOP(pp, map, w, op),
#define V2 V3
#define V3I V3
#define V2I V3
#define E3(name, pp, map, w, op) V_##name = X_EVOP(pp, map, w, op),
#define E2 E3
#define E3I E3
#define E3RZ(name, pp, map, w, op) V_##name = X_RZ(pp, map, w, op),
#include "pe/jit/x86_vops.def"
};

enum x86_vshift {
#define VSHIFT(name, op, ext) VS_##name = (op) << 4 | (ext),
#include "pe/jit/x86_vops.def"
};

/* Prefix and opcode: reg is ModRM.reg, v the second operand, rm and index extend. */
static inline void
x_vhead(struct x86 *x, unsigned vop, int reg, int v, int index, int rm)
{
	unsigned pp = vop >> 16 & 3, map = vop >> 12 & 15, w = vop >> 20 & 1;
	unsigned r = reg >= 8 ? 0 : 0x80u, nv = (unsigned)(~v & 15) << 3;

	if ((vop >> 21 & 1) != 0) {
		x_byte(x, 0x62);
		x_byte(x, r | (index >= 8 ? 0 : 0x40u) | (rm >= 8 ? 0 : 0x20u) | 0x10u | map);
		x_byte(x, w << 7 | nv | 4u | pp);
		x_byte(x, 0x08u | (vop >> 22 & 1) << 4 | (vop >> 23 & 1) * 0x60u);
	} else if (map == 1 && w == 0 && rm < 8 && index < 8) {
		x_byte(x, 0xc5);
		x_byte(x, r | nv | pp);
	} else {
		x_byte(x, 0xc4);
		x_byte(x, r | (index >= 8 ? 0 : 0x40u) | (rm >= 8 ? 0 : 0x20u) | map);
		x_byte(x, w << 7 | nv | pp);
	}
	x_byte(x, vop & 0xff);
}

/* -- registers ------------------------------------------------------------------- */

static inline void
x_v3(struct x86 *x, unsigned vop, int d, int a, int b)
{
	x_vhead(x, vop, d, a, 0, b);
	x_byte(x, 0xc0u | (unsigned)(d & 7) << 3 | (unsigned)(b & 7));
}

static inline void
x_v3i(struct x86 *x, unsigned vop, int d, int a, int b, unsigned imm)
{
	x_v3(x, vop, d, a, b);
	x_byte(x, imm);
}

static inline void
x_v2(struct x86 *x, unsigned vop, int d, int b)
{
	x_v3(x, vop, d, 0, b);
}

static inline void
x_v2i(struct x86 *x, unsigned vop, int d, int b, unsigned imm)
{
	x_v3i(x, vop, d, 0, b, imm);
}

/* d = b shifted by n. */
static inline void
x_vshift(struct x86 *x, unsigned vs, int d, int b, unsigned n)
{
	x_v3i(x, X_VOP(1, 1, 0, vs >> 4), (int)(vs & 15), d, b, n);
}

/* d = bytes of b where the top bit of m is set, else of a. */
static inline void
x_vblend(struct x86 *x, int d, int a, int b, int m)
{
	x_v3i(x, X_VOP(1, 3, 0, 0x4c), d, a, b, (unsigned)m << 4);
}

/* d = s unless they are the same */
static inline void
x_vmov(struct x86 *x, int d, int s)
{
	if (d != s)
		x_v2(x, V_MOVDQA, d, s);
}

static inline void
x_vzero(struct x86 *x, int d)
{
	x_v3(x, V_PXOR, d, d, d);
}

static inline void
x_vones(struct x86 *x, int d)
{
	x_v3(x, V_PCMPEQD, d, d, d);
}

/* -- memory (not EVEX: its displacement is scaled) -------------------------------- */

/* d = a OP [m]; loads of d alone use x_v2m. */
static inline void
x_v3m(struct x86 *x, unsigned vop, int d, int a, struct x86_mem m)
{
	x_vhead(x, vop, d, a, m.index < 0 ? 0 : m.index, m.base);
	x_modrm_mem(x, d, m);
}

static inline void
x_v2m(struct x86 *x, unsigned vop, int d, struct x86_mem m)
{
	x_v3m(x, vop, d, 0, m);
}

/*
 * d = a OP [c]: c lies in the same code memory (v_const()), addressed from RIP.
 * `imm_len`: bytes of immediate that the caller adds behind it.
 */
static inline void
x_v3c(struct x86 *x, unsigned vop, int d, int a, const uint8_t *c, unsigned imm_len)
{
	x_vhead(x, vop, d, a, 0, 0);
	x_byte(x, (unsigned)(d & 7) << 3 | 5);
	x_u32(x, (uint32_t)(c - (x->p + 4 + imm_len)));
}

static inline void
x_v2c(struct x86 *x, unsigned vop, int d, const uint8_t *c)
{
	x_v3c(x, vop, d, 0, c, 0);
}

/* Low 32 or 64 bits of xmm s to memory. */
static inline void
x_vstore(struct x86 *x, bool w, struct x86_mem m, int s)
{
	if (w)
		x_v2m(x, X_VOP(1, 1, 0, 0xd6), s, m);
	else
		x_v2m(x, X_VOP(1, 1, 0, 0x7e), s, m);
}

/* -- general registers --------------------------------------------------------------- */

/* xmm d = r, zero above; r = low bits of xmm s */
static inline void
x_v_from_g(struct x86 *x, bool w, int d, int r)
{
	x_v2(x, X_VOP(1, 1, w, 0x6e), d, r);
}

static inline void
x_g_from_v(struct x86 *x, bool w, int r, int s)
{
	x_v2(x, X_VOP(1, 1, w, 0x7e), s, r);
}

/* xmm d = a with element i (of 1 << size bytes) from general register r. */
static inline void
x_pinsr(struct x86 *x, unsigned size, int d, int a, int r, unsigned i)
{
	static const unsigned op[4] = { X_VOP(1, 3, 0, 0x20), X_VOP(1, 1, 0, 0xc4),
		X_VOP(1, 3, 0, 0x22), X_VOP(1, 3, 1, 0x22) };

	x_v3i(x, op[size], d, a, r, i);
}

/* r = element i of xmm s, zero-extended. */
static inline void
x_pextr(struct x86 *x, unsigned size, int r, int s, unsigned i)
{
	static const unsigned op[4] = { X_VOP(1, 3, 0, 0x14), 0, X_VOP(1, 3, 0, 0x16),
		X_VOP(1, 3, 1, 0x16) };

	if (size == 1)
		x_v2i(x, X_VOP(1, 1, 0, 0xc5), r, s, i);
	else
		x_v2i(x, op[size], s, r, i);
}

/* Element i of xmm s to memory. */
static inline void
x_pextr_mem(struct x86 *x, unsigned size, struct x86_mem m, int s, unsigned i)
{
	static const unsigned op[4] = { X_VOP(1, 3, 0, 0x14), X_VOP(1, 3, 0, 0x15),
		X_VOP(1, 3, 0, 0x16), X_VOP(1, 3, 1, 0x16) };

	x_v2m(x, op[size], s, m);
	x_byte(x, i);
}

static inline void
x_pinsr_mem(struct x86 *x, unsigned size, int d, int a, struct x86_mem m, unsigned i)
{
	static const unsigned op[4] = { X_VOP(1, 3, 0, 0x20), X_VOP(1, 1, 0, 0xc4),
		X_VOP(1, 3, 0, 0x22), X_VOP(1, 3, 1, 0x22) };

	x_v3m(x, op[size], d, a, m);
	x_byte(x, i);
}

/* r = the top bits of the bytes, floats or doubles of xmm s */
static inline void
x_pmovmskb(struct x86 *x, int r, int s)
{
	x_v2(x, X_VOP(1, 1, 0, 0xd7), r, s);
}

static inline void
x_movmskps(struct x86 *x, int r, int s)
{
	x_v2(x, X_VOP(0, 1, 0, 0x50), r, s);
}

static inline void
x_movmskpd(struct x86 *x, int r, int s)
{
	x_v2(x, X_VOP(1, 1, 0, 0x50), r, s);
}

/* r = xmm s as an integer, rounded by MXCSR or (truncate) towards zero */
static inline void
x_cvt_to_g(struct x86 *x, bool w, bool dbl, bool truncate, int r, int s)
{
	x_v2(x, X_VOP(dbl ? 3 : 2, 1, w, truncate ? 0x2c : 0x2d), r, s);
}

/* The same towards zero with AVX-512, raising nothing. */
static inline void
x_cvt_to_g_quiet(struct x86 *x, bool w, bool dbl, int r, int s)
{
	x_v2(x, X_SAE(dbl ? 3 : 2, 1, w, 0x2c), r, s);
}

/* xmm d = integer r; the rest of d from a */
static inline void
x_cvt_from_g(struct x86 *x, bool w, bool dbl, int d, int a, int r)
{
	x_v3(x, X_VOP(dbl ? 3 : 2, 1, w, 0x2a), d, a, r);
}

/* r = address of c in the code memory */
/* Relative to RIP, `at` being where the data is for the code that runs. */
static inline void
x_modrm_rip(struct x86 *x, int reg, const void *at)
{
	const uint8_t *next = x->p + 5 + x->rx;

	x_byte(x, (unsigned)(reg & 7) << 3 | 5u);
	x_u32(x, (uint32_t)((uintptr_t)at - (uintptr_t)next));
}

/* JMP [at] */
static inline void
x_jmp_at(struct x86 *x, const void *at)
{
	x_byte(x, 0xff);
	x_modrm_rip(x, 4, at);
}

/* LEA r, [at] */
static inline void
x_lea_at(struct x86 *x, int r, const void *at)
{
	x_rex(x, true, r, 0, 0, false);
	x_byte(x, 0x8d);
	x_modrm_rip(x, r, at);
}

static inline void
x_lea_rip(struct x86 *x, int r, const uint8_t *c)
{
	x_rex(x, true, r, 0, 0, false);
	x_byte(x, 0x8d);
	x_byte(x, (unsigned)(r & 7) << 3 | 5);
	x_u32(x, (uint32_t)(c - (x->p + 4)));
}

static inline void
x_ldmxcsr(struct x86 *x, struct x86_mem m)
{
	x_rm0f(x, 0, false, 0xae, 2, m);
}

static inline void
x_stmxcsr(struct x86 *x, struct x86_mem m)
{
	x_rm0f(x, 0, false, 0xae, 3, m);
}

/* -- without VEX: SHA (d is also the first operand), CRC32C ---------------------------- */

static inline void
x_sse38(struct x86 *x, unsigned op, int d, int s)
{
	x_rex(x, false, d, 0, s, false);
	x_byte(x, 0x0f);
	x_byte(x, 0x38);
	x_byte(x, op);
	x_byte(x, 0xc0u | (unsigned)(d & 7) << 3 | (unsigned)(s & 7));
}

enum {
	X_SHA1NEXTE = 0xc8,
	X_SHA1MSG1,
	X_SHA1MSG2,
	X_SHA256RNDS2, /* xmm0 is the third operand */
	X_SHA256MSG1,
	X_SHA256MSG2
};

static inline void
x_sha1rnds4(struct x86 *x, int d, int s, unsigned imm)
{
	x_rex(x, false, d, 0, s, false);
	x_byte(x, 0x0f);
	x_byte(x, 0x3a);
	x_byte(x, 0xcc);
	x_byte(x, 0xc0u | (unsigned)(d & 7) << 3 | (unsigned)(s & 7));
	x_byte(x, imm);
}

/* CRC32C of d and the low 1 << size bytes of s. */
static inline void
x_crc32c(struct x86 *x, unsigned size, int d, int s)
{
	if (size == 1)
		x_byte(x, 0x66);
	x_byte(x, 0xf2);
	x_rex(x, size == 3, d, 0, s, size == 0 && s >= 4);
	x_byte(x, 0x0f);
	x_byte(x, 0x38);
	x_byte(x, size == 0 ? 0xf0 : 0xf1);
	x_byte(x, 0xc0u | (unsigned)(d & 7) << 3 | (unsigned)(s & 7));
}

#endif /* PE_JIT_X86_SSE_H */
