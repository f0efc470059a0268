/*
 * x86-64 encoder: vector instructions. Opcodes are values (enum x86_vop), so
 * that tables by element size can hold them; a few emitters take them. All are
 * VEX.128 (or EVEX.128 where the name of the list says AVX-512), with three
 * operands; bits 255:128 of the destination become zero.
 *
 * The lists are X-macros: tests/core/test_jit_encoder.py disassembles each
 * entry and compares the mnemonic, which is "v" and the name.
 *
 * Not here: general registers (x86.h), what is worth emitting (lower_*.c).
 */
#ifndef PE_JIT_X86_SSE_H
#define PE_JIT_X86_SSE_H

#include "pe/jit/x86.h"

/* Prefix: 0 none, 1 66, 2 f3, 3 f2. Map: 1 0f, 2 0f38, 3 0f3a. */
#define X_VOP(pp, map, w, op) ((unsigned)((pp) << 16 | (map) << 12 | (w) << 20 | (op)))
#define X_EVOP(pp, map, w, op) (X_VOP(pp, map, w, op) | 1u << 21)

/* d = a OP b: name, prefix, map, W, opcode */
#define X86_V3(X)                                                                                  \
	X(PADDB, 1, 1, 0, 0xfc)                                                                    \
	X(PADDW, 1, 1, 0, 0xfd) X(PADDD, 1, 1, 0, 0xfe) X(PADDQ, 1, 1, 0, 0xd4) X(                 \
	    PSUBB, 1, 1, 0, 0xf8) X(PSUBW, 1, 1, 0, 0xf9) X(PSUBD, 1, 1, 0, 0xfa) X(PSUBQ, 1, 1,   \
	    0, 0xfb) X(PADDSB, 1, 1, 0, 0xec) X(PADDSW, 1, 1, 0, 0xed) X(PADDUSB, 1, 1, 0, 0xdc)   \
	    X(PADDUSW, 1, 1, 0, 0xdd) X(PSUBSB, 1, 1, 0, 0xe8) X(PSUBSW, 1, 1, 0, 0xe9) X(         \
		PSUBUSB, 1, 1, 0, 0xd8) X(PSUBUSW, 1, 1, 0, 0xd9) X(PMULLW, 1, 1, 0, 0xd5)         \
		X(PMULHW, 1, 1, 0, 0xe5) X(PMULHUW, 1, 1, 0, 0xe4) X(PMADDWD, 1, 1, 0, 0xf5) X(    \
		    PMULUDQ, 1, 1, 0, 0xf4) X(PAVGB, 1, 1, 0, 0xe0) X(PAVGW, 1, 1, 0, 0xe3)        \
		    X(PSADBW, 1, 1, 0, 0xf6) X(PAND, 1, 1, 0, 0xdb) X(PANDN, 1, 1, 0, 0xdf)        \
			X(POR, 1, 1, 0, 0xeb) X(PXOR, 1, 1, 0, 0xef) X(PCMPEQB, 1, 1, 0, 0x74)     \
			    X(PCMPEQW, 1, 1, 0, 0x75) X(PCMPEQD, 1, 1, 0, 0x76) X(PCMPGTB, 1, 1,   \
				0, 0x64) X(PCMPGTW, 1, 1, 0, 0x65) X(PCMPGTD, 1, 1, 0, 0x66)       \
				X(PMINUB, 1, 1, 0, 0xda) X(PMAXUB, 1, 1, 0, 0xde)                  \
				    X(PMINSW, 1, 1, 0, 0xea) X(PMAXSW, 1, 1, 0, 0xee) X(PUNPCKLBW, \
					1, 1, 0, 0x60) X(PUNPCKLWD, 1, 1, 0, 0x61) X(PUNPCKLDQ, 1, \
					1, 0, 0x62) X(PUNPCKLQDQ, 1, 1, 0, 0x6c) X(PUNPCKHBW, 1,   \
					1, 0, 0x68) X(PUNPCKHWD, 1, 1, 0,                          \
					0x69) X(PUNPCKHDQ, 1, 1, 0, 0x6a)                          \
					X(PUNPCKHQDQ, 1, 1, 0, 0x6d) X(PACKSSWB, 1, 1, 0, 0x63)    \
					    X(PACKSSDW, 1, 1, 0, 0x6b) X(PACKUSWB, 1, 1, 0, 0x67)  \
						X(PACKUSDW, 1, 2, 0, 0x2b) X(PSLLW, 1, 1, 0,       \
						    0xf1) X(PSLLD, 1, 1, 0, 0xf2) X(PSLLQ, 1, 1,   \
						    0, 0xf3) X(PSRLW, 1, 1, 0, 0xd1) X(PSRLD, 1,   \
						    1, 0, 0xd2) X(PSRLQ, 1, 1, 0, 0xd3) X(PSRAW,   \
						    1, 1, 0, 0xe1) X(PSRAD, 1, 1, 0, 0xe2)         \
						    X(PSHUFB, 1, 2, 0, 0x00) X(PHADDW, 1, 2, 0,    \
							0x01) X(PHADDD, 1, 2, 0, 0x02)             \
							X(PMADDUBSW, 1, 2, 0, 0x04) X(PMULHRSW, 1, \
							    2, 0, 0x0b) X(PMULDQ, 1, 2, 0, 0x28)   \
							    X(PCMPEQQ, 1, 2, 0, 0x29) X(           \
								PCMPGTQ, 1, 2, 0, 0x37) X(PMINSB,  \
								1, 2, 0, 0x38) X(PMINSD, 1, 2, 0,  \
								0x39) X(PMINUW, 1, 2, 0, 0x3a)     \
								X(PMINUD, 1, 2, 0, 0x3b) X(PMAXSB, \
								    1, 2, 0, 0x3c) X(PMAXSD, 1, 2, \
								    0, 0x3d) X(PMAXUW, 1, 2, 0,    \
								    0x3e) X(PMAXUD, 1, 2, 0,       \
								    0x3f) X(PMULLD, 1, 2, 0,       \
								    0x40) X(PSRLVD, 1, 2, 0,       \
								    0x45) X(PSRLVQ, 1, 2, 1,       \
								    0x45) X(PSRAVD, 1, 2, 0,       \
								    0x46) X(PSLLVD, 1, 2, 0,       \
								    0x47) X(PSLLVQ, 1, 2, 1,       \
								    0x47) X(AESENC, 1, 2, 0,       \
								    0xdc) X(AESENCLAST, 1, 2, 0,   \
								    0xdd) X(AESDEC, 1, 2, 0,       \
								    0xde) X(AESDECLAST, 1, 2, 0,   \
								    0xdf) X(MOVLHPS, 0, 1, 0,      \
								    0x16) X(MOVHLPS, 0, 1, 0,      \
								    0x12) X(MOVSS, 2, 1, 0, 0x10)  \
								    X(MOVSD, 3, 1, 0, 0x10)

/* d = OP b */
#define X86_V2(X)                                                                                \
	X(PABSB, 1, 2, 0, 0x1c)                                                                  \
	X(PABSW, 1, 2, 0, 0x1d) X(PABSD, 1, 2, 0, 0x1e) X(PMOVSXBW, 1, 2, 0, 0x20)               \
	    X(PMOVSXBD, 1, 2, 0, 0x21) X(PMOVSXWD, 1, 2, 0, 0x23) X(PMOVSXDQ, 1, 2, 0, 0x25)     \
		X(PMOVZXBW, 1, 2, 0, 0x30) X(PMOVZXBD, 1, 2, 0, 0x31) X(PMOVZXWD, 1, 2, 0, 0x33) \
		    X(PMOVZXDQ, 1, 2, 0, 0x35) X(PBROADCASTB, 1, 2, 0, 0x78)                     \
			X(PBROADCASTW, 1, 2, 0, 0x79) X(PBROADCASTD, 1, 2, 0, 0x58)              \
			    X(PBROADCASTQ, 1, 2, 0, 0x59) X(MOVDQA, 1, 1, 0, 0x6f)               \
				X(MOVDQU, 2, 1, 0, 0x6f) X(MOVQ, 2, 1, 0, 0x7e)                  \
				    X(PTEST, 1, 2, 0, 0x17) X(AESIMC, 1, 2, 0, 0xdb)             \
					X(MOVDDUP, 3, 1, 0, 0x12)

/* d = a OP b, immediate */
#define X86_V3I(X)                                                                          \
	X(PALIGNR, 1, 3, 0, 0x0f)                                                           \
	X(PBLENDW, 1, 3, 0, 0x0e) X(PBLENDD, 1, 3, 0, 0x02) X(SHUFPS, 0, 1, 0, 0xc6)        \
	    X(SHUFPD, 1, 1, 0, 0xc6) X(PCLMULQDQ, 1, 3, 0, 0x44) X(INSERTPS, 1, 3, 0, 0x21) \
		X(GF2P8AFFINEQB, 1, 3, 1, 0xce)

/* d = OP b, immediate */
#define X86_V2I(X) X(PSHUFD, 1, 1, 0, 0x70) X(PSHUFHW, 2, 1, 0, 0x70) X(PSHUFLW, 3, 1, 0, 0x70)

/* d = b shifted by an immediate: name, opcode, its extension */
#define X86_VSHIFT(X)                                                                             \
	X(PSLLW, 0x71, 6)                                                                         \
	X(PSLLD, 0x72, 6) X(PSLLQ, 0x73, 6) X(PSRLW, 0x71, 2) X(PSRLD, 0x72, 2) X(PSRLQ, 0x73, 2) \
	    X(PSRAW, 0x71, 4) X(PSRAD, 0x72, 4) X(PSLLDQ, 0x73, 7) X(PSRLDQ, 0x73, 3)

/* AVX-512VL (and BW, DQ, BITALG): d = a OP b, and d = OP b */
#define X86_E3(X)                                                                          \
	X(PSLLVW, 1, 2, 1, 0x12)                                                           \
	X(PSRLVW, 1, 2, 1, 0x10) X(PSRAVW, 1, 2, 1, 0x11) X(PSRAVQ, 1, 2, 1, 0x46)         \
	    X(PSRAQ, 1, 1, 1, 0xe2) X(PMULLQ, 1, 2, 1, 0x40) X(PMAXSQ, 1, 2, 1, 0x3d)      \
		X(PMINSQ, 1, 2, 1, 0x39) X(PMAXUQ, 1, 2, 1, 0x3f) X(PMINUQ, 1, 2, 1, 0x3b) \
		    X(PDPBUSD, 1, 2, 0, 0x50) X(PERMI2B, 1, 2, 0, 0x75) X(PERMT2B, 1, 2, 0, 0x7d)
#define X86_E2(X)                                                                        \
	X(PABSQ, 1, 2, 1, 0x1f)                                                          \
	X(PLZCNTD, 1, 2, 0, 0x44) X(PLZCNTQ, 1, 2, 1, 0x44) X(PCONFLICTD, 1, 2, 0, 0xc4) \
	    X(PCONFLICTQ, 1, 2, 1, 0xc4) X(PMOVM2B, 2, 2, 0, 0x28)
#define X86_E3I(X) X(PTERNLOGD, 1, 3, 0, 0x25) X(PTERNLOGQ, 1, 3, 1, 0x25)

/* Floating point: one and two of each kind for SS, SD, PS and PD. */
#define X86_FALL(X, name, op)    \
	X(name##SS, 2, 1, 0, op) \
	X(name##SD, 3, 1, 0, op) X(name##PS, 0, 1, 0, op) X(name##PD, 1, 1, 0, op)
#define X86_FMA(X, name, op)           \
	X(name##SS, 1, 2, 0, (op) + 1) \
	X(name##SD, 1, 2, 1, (op) + 1) X(name##PS, 1, 2, 0, op) X(name##PD, 1, 2, 1, op)

/* d = a OP b; the FMA ones also read d */
#define X86_F3(X)                                                                                  \
	X86_FALL(X, ADD, 0x58)                                                                     \
	X86_FALL(X, MUL, 0x59) X86_FALL(X, SUB, 0x5c) X86_FALL(X, MIN, 0x5d)                       \
	    X86_FALL(X, DIV, 0x5e) X86_FALL(X, MAX, 0x5f) X86_FMA(X, FMADD231, 0xb8)               \
		X86_FMA(X, FMSUB231, 0xba) X86_FMA(X, FNMADD231, 0xbc) X86_FMA(X, FNMSUB231, 0xbe) \
		    X(SQRTSS, 2, 1, 0, 0x51) X(SQRTSD, 3, 1, 0, 0x51) X(CVTSS2SD, 2, 1, 0, 0x5a)   \
			X(CVTSD2SS, 3, 1, 0, 0x5a) X(HADDPS, 3, 1, 0, 0x7c)                        \
			    X(HADDPD, 1, 1, 0, 0x7c) X(UNPCKLPD, 1, 1, 0, 0x14)                    \
				X(UNPCKHPD, 1, 1, 0, 0x15)

/* d = OP b; the compares set the flags from d and b */
#define X86_F2(X)                                                                            \
	X(SQRTPS, 0, 1, 0, 0x51)                                                             \
	X(SQRTPD, 1, 1, 0, 0x51) X(CVTPS2PD, 0, 1, 0, 0x5a) X(CVTPD2PS, 1, 1, 0, 0x5a)       \
	    X(CVTDQ2PS, 0, 1, 0, 0x5b) X(CVTTPS2DQ, 2, 1, 0, 0x5b) X(UCOMISS, 0, 1, 0, 0x2e) \
		X(UCOMISD, 1, 1, 0, 0x2e) X(COMISS, 0, 1, 0, 0x2f) X(COMISD, 1, 1, 0, 0x2f)  \
		    X(MOVSHDUP, 2, 1, 0, 0x16) X(CVTPH2PS, 1, 2, 0, 0x13)

/* d = a OP b, immediate; d = OP b, immediate */
#define X86_F3I(X) X86_FALL(X, CMP, 0xc2) X(ROUNDSS, 1, 3, 0, 0x0a) X(ROUNDSD, 1, 3, 0, 0x0b)
#define X86_F2I(X) X(ROUNDPS, 1, 3, 0, 0x08) X(ROUNDPD, 1, 3, 0, 0x09)

enum x86_vop {
#define X(name, pp, map, w, op) V_##name = X_VOP(pp, map, w, op),
	X86_V3(X) X86_V2(X) X86_V3I(X) X86_V2I(X) X86_F3(X) X86_F2(X) X86_F3I(X) X86_F2I(X)
#undef X
#define X(name, pp, map, w, op) V_##name = X_EVOP(pp, map, w, op),
	    X86_E3(X) X86_E2(X) X86_E3I(X)
#undef X
};

enum x86_vshift {
#define X(name, op, ext) VS_##name = (op) << 4 | (ext),
	X86_VSHIFT(X)
#undef X
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
		x_byte(x, 0x08);
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

/* xmm d = integer r; the rest of d from a */
static inline void
x_cvt_from_g(struct x86 *x, bool w, bool dbl, int d, int a, int r)
{
	x_v3(x, X_VOP(dbl ? 3 : 2, 1, w, 0x2a), d, a, r);
}

/* r = address of c in the code memory */
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
