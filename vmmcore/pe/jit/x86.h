/*
 * x86-64 encoder: the instructions the translator uses, one inline function
 * each (Intel SDM, volume 2). Registers are numbers 0 to 15; `w` is 1 for
 * 64-bit operands. A write past the end sets `overflow` and stores nothing.
 *
 * Not here: what is worth emitting (lower_*.c).
 */
#ifndef PE_JIT_X86_H
#define PE_JIT_X86_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

/* Condition codes as in Jcc, SETcc, CMOVcc. */
enum {
	CC_O,
	CC_NO,
	CC_B,
	CC_AE,
	CC_E,
	CC_NE,
	CC_BE,
	CC_A,
	CC_S,
	CC_NS,
	CC_P,
	CC_NP,
	CC_L,
	CC_GE,
	CC_LE,
	CC_G
};

/* Two-operand arithmetic by its number in opcodes 0x81 and 00-3b. */
enum { X_ADD, X_OR, X_ADC, X_SBB, X_AND, X_SUB, X_XOR, X_CMP };
/* Shifts by their number in opcodes 0xc1 and 0xd3. */
enum { X_ROL, X_ROR, X_RCL, X_RCR, X_SHL, X_SHR, X_SAL, X_SAR };

struct x86 {
	uint8_t *p, *end;
	bool overflow;
	ptrdiff_t rx; /* from where code is written to where it runs */
};

/* A memory operand: base + index * 2^scale + disp; index -1: none. */
struct x86_mem {
	int base, index, scale;
	int32_t disp;
};

static inline struct x86_mem
x_mem(int base, int32_t disp)
{
	return ((struct x86_mem){ base, -1, 0, disp });
}

static inline struct x86_mem
x_memx(int base, int index, int scale, int32_t disp)
{
	/* RBP and R13 as a base need a displacement, and LEA with three parts is slow. */
	if (scale == 0 && disp == 0 && index >= 0 && (base & 7) == RBP && (index & 7) != RBP)
		return ((struct x86_mem){ index, base, 0, 0 });
	return ((struct x86_mem){ base, index, scale, disp });
}

static inline void
x_byte(struct x86 *x, unsigned b)
{
	if (x->p < x->end)
		*x->p++ = (uint8_t)b;
	else
		x->overflow = true;
}

static inline void
x_u32(struct x86 *x, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		x_byte(x, v >> (8 * i) & 0xff);
}

static inline void
x_u64(struct x86 *x, uint64_t v)
{
	x_u32(x, (uint32_t)v);
	x_u32(x, (uint32_t)(v >> 32));
}

static inline void
x_rex(struct x86 *x, bool w, int reg, int index, int base, bool force)
{
	unsigned rex = 0x40u | (w ? 8u : 0) | (reg >= 8 ? 4u : 0) | (index >= 8 ? 2u : 0) |
		       (base >= 8 ? 1u : 0);

	if (rex != 0x40 || force)
		x_byte(x, rex);
}

static inline void
x_modrm_mem(struct x86 *x, int reg, struct x86_mem m)
{
	bool sib = m.index >= 0 || (m.base & 7) == RSP;
	unsigned mod = m.disp == 0 && (m.base & 7) != RBP ? 0
		       : m.disp >= -128 && m.disp < 128   ? 1
							  : 2;

	x_byte(x, mod << 6 | (unsigned)(reg & 7) << 3 | (sib ? 4u : (unsigned)(m.base & 7)));
	if (sib)
		x_byte(x, (unsigned)m.scale << 6 |
			      (m.index >= 0 ? (unsigned)(m.index & 7) : 4u) << 3 |
			      (unsigned)(m.base & 7));
	if (mod == 1)
		x_byte(x, (uint8_t)m.disp);
	else if (mod == 2)
		x_u32(x, (uint32_t)m.disp);
}

/* [prefix] REX [0f [38]] opcode, register and register. */
static inline void
x_rr(struct x86 *x, bool w, unsigned op, int reg, int rm)
{
	x_rex(x, w, reg, 0, rm, false);
	x_byte(x, op);
	x_byte(x, 0xc0u | (unsigned)(reg & 7) << 3 | (unsigned)(rm & 7));
}

static inline void
x_rm(struct x86 *x, bool w, unsigned op, int reg, struct x86_mem m)
{
	x_rex(x, w, reg, m.index < 0 ? 0 : m.index, m.base, false);
	x_byte(x, op);
	x_modrm_mem(x, reg, m);
}

static inline void
x_rr0f(struct x86 *x, bool w, unsigned op, int reg, int rm, bool byte_reg)
{
	x_rex(x, w, reg, 0, rm, byte_reg);
	x_byte(x, 0x0f);
	x_byte(x, op);
	x_byte(x, 0xc0u | (unsigned)(reg & 7) << 3 | (unsigned)(rm & 7));
}

static inline void
x_rm0f(struct x86 *x, unsigned prefix, bool w, unsigned op, int reg, struct x86_mem m)
{
	if (prefix != 0)
		x_byte(x, prefix);
	x_rex(x, w, reg, m.index < 0 ? 0 : m.index, m.base, false);
	x_byte(x, 0x0f);
	x_byte(x, op);
	x_modrm_mem(x, reg, m);
}

/* -- moves ------------------------------------------------------------------- */

static inline void
x_mov(struct x86 *x, bool w, int d, int s)
{
	x_rr(x, w, 0x8b, d, s);
}

static inline void
x_load(struct x86 *x, bool w, int d, struct x86_mem m)
{
	x_rm(x, w, 0x8b, d, m);
}

static inline void
x_store(struct x86 *x, bool w, struct x86_mem m, int s)
{
	x_rm(x, w, 0x89, s, m);
}

static inline void
x_store16(struct x86 *x, struct x86_mem m, int s)
{
	x_byte(x, 0x66);
	x_rm(x, false, 0x89, s, m);
}

static inline void
x_store8(struct x86 *x, struct x86_mem m, int s)
{
	/* REX even when empty: 4 to 7 are SPL to DIL. */
	x_rex(x, false, s, m.index < 0 ? 0 : m.index, m.base, s >= 4);
	x_byte(x, 0x88);
	x_modrm_mem(x, s, m);
}

/* mov r/m, imm32 sign-extended. */
static inline void
x_store_imm(struct x86 *x, bool w, struct x86_mem m, int32_t v)
{
	x_rm(x, w, 0xc7, 0, m);
	x_u32(x, (uint32_t)v);
}

/* The shortest move of a constant; flags stay. */
static inline void
x_const(struct x86 *x, int d, uint64_t v)
{
	if (v <= UINT32_MAX) {
		x_rex(x, false, 0, 0, d, false);
		x_byte(x, 0xb8u | (unsigned)(d & 7));
		x_u32(x, (uint32_t)v);
	} else if ((uint64_t)(int64_t)(int32_t)v == v) {
		x_rr(x, true, 0xc7, 0, d);
		x_u32(x, (uint32_t)v);
	} else {
		x_rex(x, true, 0, 0, d, false);
		x_byte(x, 0xb8u | (unsigned)(d & 7));
		x_u64(x, v);
	}
}

static inline void
x_lea(struct x86 *x, bool w, int d, struct x86_mem m)
{
	x_rm(x, w, 0x8d, d, m);
}

/* Zero and sign extension: from is 1, 2 or 4 bytes. */
static inline void
x_zext(struct x86 *x, int d, int s, unsigned from)
{
	if (from == 4)
		x_mov(x, false, d, s);
	else
		x_rr0f(x, false, from == 1 ? 0xb6 : 0xb7, d, s, from == 1 && s >= 4);
}

static inline void
x_sext(struct x86 *x, bool w, int d, int s, unsigned from)
{
	if (from == 4)
		x_rr(x, true, 0x63, d, s);
	else
		x_rr0f(x, w, from == 1 ? 0xbe : 0xbf, d, s, from == 1 && s >= 4);
}

static inline void
x_zload(struct x86 *x, int d, struct x86_mem m, unsigned from)
{
	if (from >= 4)
		x_load(x, from == 8, d, m);
	else
		x_rm0f(x, 0, false, from == 1 ? 0xb6 : 0xb7, d, m);
}

static inline void
x_sload(struct x86 *x, bool w, int d, struct x86_mem m, unsigned from)
{
	if (from == 4)
		x_rm(x, true, 0x63, d, m);
	else
		x_rm0f(x, 0, w, from == 1 ? 0xbe : 0xbf, d, m);
}

/* -- arithmetic ---------------------------------------------------------------- */

static inline void
x_alu(struct x86 *x, bool w, unsigned op, int d, int s)
{
	x_rr(x, w, op << 3 | 3, d, s);
}

static inline void
x_alu_mem(struct x86 *x, bool w, unsigned op, int d, struct x86_mem m)
{
	x_rm(x, w, op << 3 | 3, d, m);
}

static inline void
x_alu_imm(struct x86 *x, bool w, unsigned op, int d, int32_t v)
{
	if (v >= -128 && v < 128) {
		x_rr(x, w, 0x83, (int)op, d);
		x_byte(x, (uint8_t)v);
	} else {
		x_rr(x, w, 0x81, (int)op, d);
		x_u32(x, (uint32_t)v);
	}
}

static inline void
x_alu_mem_imm(struct x86 *x, bool w, unsigned op, struct x86_mem m, int32_t v)
{
	if (v >= -128 && v < 128) {
		x_rm(x, w, 0x83, (int)op, m);
		x_byte(x, (uint8_t)v);
	} else {
		x_rm(x, w, 0x81, (int)op, m);
		x_u32(x, (uint32_t)v);
	}
}

static inline void
x_test(struct x86 *x, bool w, int a, int b)
{
	x_rr(x, w, 0x85, b, a);
}

static inline void
x_test_imm8(struct x86 *x, int r, unsigned v)
{
	x_rex(x, false, 0, 0, r, r >= 4);
	x_byte(x, 0xf6);
	x_byte(x, 0xc0u | (unsigned)(r & 7));
	x_byte(x, v);
}

static inline void
x_test_imm(struct x86 *x, int r, uint32_t v)
{
	x_rr(x, false, 0xf7, 0, r);
	x_u32(x, v);
}

static inline void
x_cmp8_mem_imm(struct x86 *x, struct x86_mem m, unsigned v)
{
	x_rm(x, false, 0x80, 7, m);
	x_byte(x, v);
}

static inline void
x_test8_mem_imm(struct x86 *x, struct x86_mem m, unsigned v)
{
	x_rm(x, false, 0xf6, 0, m);
	x_byte(x, v);
}

/* mov r/m8, imm8 */
static inline void
x_store8_imm(struct x86 *x, struct x86_mem m, unsigned v)
{
	x_rm(x, false, 0xc6, 0, m);
	x_byte(x, v);
}

static inline void
x_shift(struct x86 *x, bool w, unsigned op, int d, unsigned n)
{
	if (n == 0)
		return;
	x_rr(x, w, 0xc1, (int)op, d);
	x_byte(x, n);
}

static inline void
x_shift_cl(struct x86 *x, bool w, unsigned op, int d)
{
	x_rr(x, w, 0xd3, (int)op, d);
}

static inline void
x_shrd(struct x86 *x, bool w, int d, int s, unsigned n)
{
	x_rr0f(x, w, 0xac, s, d, false);
	x_byte(x, n);
}

static inline void
x_not(struct x86 *x, bool w, int d)
{
	x_rr(x, w, 0xf7, 2, d);
}

static inline void
x_neg(struct x86 *x, bool w, int d)
{
	x_rr(x, w, 0xf7, 3, d);
}

static inline void
x_imul(struct x86 *x, bool w, int d, int s)
{
	x_rr0f(x, w, 0xaf, d, s, false);
}

/* d = s * v */
static inline void
x_imul_imm(struct x86 *x, bool w, int d, int s, int32_t v)
{
	x_rr(x, w, 0x69, d, s);
	x_u32(x, (uint32_t)v);
}

/* rdx:rax = rax * s; op 4 unsigned, 5 signed; 6, 7: divide rdx:rax by s */
static inline void
x_muldiv(struct x86 *x, bool w, unsigned op, int s)
{
	x_rr(x, w, 0xf7, (int)op, s);
}

static inline void
x_cqo(struct x86 *x, bool w)
{
	x_rex(x, w, 0, 0, 0, false);
	x_byte(x, 0x99);
}

static inline void
x_bswap(struct x86 *x, bool w, int d)
{
	x_rex(x, w, 0, 0, d, false);
	x_byte(x, 0x0f);
	x_byte(x, 0xc8u | (unsigned)(d & 7));
}

static inline void
x_lzcnt(struct x86 *x, bool w, int d, int s)
{
	x_byte(x, 0xf3);
	x_rr0f(x, w, 0xbd, d, s, false);
}

static inline void
x_tzcnt(struct x86 *x, bool w, int d, int s)
{
	x_byte(x, 0xf3);
	x_rr0f(x, w, 0xbc, d, s, false);
}

static inline void
x_popcnt(struct x86 *x, bool w, int d, int s)
{
	x_byte(x, 0xf3);
	x_rr0f(x, w, 0xb8, d, s, false);
}

static inline void
x_bt_imm(struct x86 *x, bool w, int r, unsigned n)
{
	x_rr0f(x, w, 0xba, 4, r, false);
	x_byte(x, n);
}

static inline void
x_bt_mem(struct x86 *x, struct x86_mem m, unsigned n)
{
	x_rm0f(x, 0, false, 0xba, 4, m);
	x_byte(x, n);
}

static inline void
x_bt(struct x86 *x, int r, int n)
{
	x_rr0f(x, false, 0xa3, n, r, false);
}

static inline void
x_cmov(struct x86 *x, bool w, unsigned cc, int d, int s)
{
	x_rr0f(x, w, 0x40 | cc, d, s, false);
}

static inline void
x_setcc(struct x86 *x, unsigned cc, int d)
{
	x_rr0f(x, false, 0x90 | cc, 0, d, d >= 4);
}

/* -- VEX-coded integer instructions (BMI2) ---------------------------------------- */

/* map 2 (0f38) or 3 (0f3a); pp 0 none, 1 66, 2 f3, 3 f2 */
static inline void
x_vex(struct x86 *x, unsigned map, unsigned pp, bool w, unsigned op, int reg, int v, int rm)
{
	x_byte(x, 0xc4);
	x_byte(x, (reg >= 8 ? 0 : 0x80u) | 0x40u | (rm >= 8 ? 0 : 0x20u) | map);
	x_byte(x, (w ? 0x80u : 0) | (unsigned)(~v & 15) << 3 | pp);
	x_byte(x, op);
	x_byte(x, 0xc0u | (unsigned)(reg & 7) << 3 | (unsigned)(rm & 7));
}

/* d = s shifted by n, flags untouched: op X_SHL, X_SHR or X_SAR */
static inline void
x_shiftx(struct x86 *x, bool w, unsigned op, int d, int s, int n)
{
	x_vex(x, 2, op == X_SHL ? 1 : op == X_SHR ? 3 : 2, w, 0xf7, d, n, s);
}

static inline void
x_rorx(struct x86 *x, bool w, int d, int s, unsigned n)
{
	x_vex(x, 3, 3, w, 0xf0, d, 0, s);
	x_byte(x, n);
}

/* d = bits of s under mask m packed together */
static inline void
x_pext(struct x86 *x, bool w, int d, int s, int m)
{
	x_vex(x, 2, 2, w, 0xf5, d, s, m);
}

/* d = the low bits of s put where mask m has ones */
static inline void
x_pdep(struct x86 *x, bool w, int d, int s, int m)
{
	x_vex(x, 2, 3, w, 0xf5, d, s, m);
}

/* d = ~s1 & s2 */
static inline void
x_andn(struct x86 *x, bool w, int d, int s1, int s2)
{
	x_vex(x, 2, 0, w, 0xf2, d, s1, s2);
}

/* -- control ------------------------------------------------------------------------ */

/* rel32 jumps: the place of the displacement is returned, for x_here(). */
static inline uint8_t *
x_jmp(struct x86 *x)
{
	x_byte(x, 0xe9);
	x_u32(x, 0);
	return (x->p - 4);
}

static inline uint8_t *
x_jcc(struct x86 *x, unsigned cc)
{
	x_byte(x, 0x0f);
	x_byte(x, 0x80 | cc);
	x_u32(x, 0);
	return (x->p - 4);
}

static inline void
x_patch(struct x86 *x, uint8_t *at, const uint8_t *target)
{
	int32_t rel = (int32_t)(target - (at + 4));

	if (!x->overflow)
		memcpy(at, &rel, 4);
}

static inline void
x_here(struct x86 *x, uint8_t *at)
{
	x_patch(x, at, x->p);
}

static inline void
x_call(struct x86 *x, const uint8_t *target)
{
	uint8_t *at;

	x_byte(x, 0xe8);
	x_u32(x, 0);
	at = x->p - 4;
	x_patch(x, at, target);
}

static inline void
x_jmp_mem(struct x86 *x, struct x86_mem m)
{
	x_rm(x, false, 0xff, 4, m);
}

static inline void
x_push(struct x86 *x, int r)
{
	x_rex(x, false, 0, 0, r, false);
	x_byte(x, 0x50u | (unsigned)(r & 7));
}

static inline void
x_pop(struct x86 *x, int r)
{
	x_rex(x, false, 0, 0, r, false);
	x_byte(x, 0x58u | (unsigned)(r & 7));
}

static inline void
x_ret(struct x86 *x)
{
	x_byte(x, 0xc3);
}

static inline void
x_lahf(struct x86 *x)
{
	x_byte(x, 0x9f);
}

static inline void
x_sahf(struct x86 *x)
{
	x_byte(x, 0x9e);
}

/* add al, v */
static inline void
x_add_al(struct x86 *x, unsigned v)
{
	x_byte(x, 0x04);
	x_byte(x, v);
}

static inline void
x_cmc(struct x86 *x)
{
	x_byte(x, 0xf5);
}

/* lock or dword [rsp], 0: a full barrier. */
static inline void
x_fence(struct x86 *x)
{
	x_byte(x, 0xf0);
	x_rm(x, false, 0x83, X_OR, x_mem(RSP, 0));
	x_byte(x, 0);
}

/* lock cmpxchg, xchg, lock xadd of 1 << size bytes. */
static inline void
x_locked(struct x86 *x, bool lock, bool two, unsigned op, unsigned size, struct x86_mem m, int s)
{
	if (lock)
		x_byte(x, 0xf0);
	if (size == 1)
		x_byte(x, 0x66);
	x_rex(x, size == 3, s, m.index < 0 ? 0 : m.index, m.base, size == 0 && s >= 4);
	if (two)
		x_byte(x, 0x0f);
	x_byte(x, size == 0 ? op : op + 1);
	x_modrm_mem(x, s, m);
}

static inline void
x_cmpxchg(struct x86 *x, bool lock, unsigned size, struct x86_mem m, int s)
{
	x_locked(x, lock, true, 0xb0, size, m, s);
}

/* [m] with RDX:RAX, RCX:RBX is the new value */
static inline void
x_cmpxchg16(struct x86 *x, bool lock, struct x86_mem m)
{
	if (lock)
		x_byte(x, 0xf0);
	x_rm0f(x, 0, true, 0xc7, 1, m);
}

static inline void
x_xchg(struct x86 *x, unsigned size, struct x86_mem m, int s)
{
	x_locked(x, false, false, 0x86, size, m, s);
}

static inline void
x_xadd(struct x86 *x, bool lock, unsigned size, struct x86_mem m, int s)
{
	x_locked(x, lock, true, 0xc0, size, m, s);
}

/* -- SSE ------------------------------------------------------------------------------ */

static inline void
x_movups_load(struct x86 *x, int d, struct x86_mem m)
{
	x_rm0f(x, 0, false, 0x10, d, m);
}

static inline void
x_movups_store(struct x86 *x, struct x86_mem m, int s)
{
	x_rm0f(x, 0, false, 0x11, s, m);
}

/* 64 or 32 bits to the low lane, the rest zero. */
static inline void
x_movq_load(struct x86 *x, int d, struct x86_mem m)
{
	x_rm0f(x, 0xf3, false, 0x7e, d, m);
}

static inline void
x_movd_load(struct x86 *x, int d, struct x86_mem m)
{
	x_rm0f(x, 0x66, false, 0x6e, d, m);
}

static inline void
x_movq_store(struct x86 *x, struct x86_mem m, int s)
{
	x_rm0f(x, 0x66, false, 0xd6, s, m);
}

static inline void
x_movd_store(struct x86 *x, struct x86_mem m, int s)
{
	x_rm0f(x, 0x66, false, 0x7e, s, m);
}

#endif /* PE_JIT_X86_H */
