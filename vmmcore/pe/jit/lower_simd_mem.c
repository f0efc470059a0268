/*
 * Lowering of loads and stores of structures (LD1 to LD4, ST1 to ST4, LD1R)
 * and of LDR (literal) of SIMD registers. As in lower_mem.c one look into the
 * TLB covers the whole access, and the handler does what it does not.
 *
 * The address stays in its register, what is added to it in RDX; RCX is free.
 */
#include "pe/jit/lower_simd.h"

static struct x86_mem
begin(struct tr *t, const struct insn *in, unsigned len, bool load)
{
	v_check(t);
	return (g_translate(t, g_address(t, in, 0), len, !load, COLD_SLOW));
}

/* Post-index: by the length, or by a register. */
static void
end(struct tr *t, const struct insn *in, unsigned len)
{
	struct x86 *x = &t->x;
	int r;

	if (FIELD(in->word, 23, 1) == 0)
		return;
	if (in->rm == 31) {
		if (jit_map[in->rn] >= 0)
			x_alu_imm(x, true, X_ADD, jit_map[in->rn], (int32_t)len);
		else
			x_alu_mem_imm(x, true, X_ADD, g_mem(in->rn), (int32_t)len);
		return;
	}
	r = g_read(t, true, in->rm, RCX);
	if (jit_map[in->rn] >= 0)
		x_alu(x, true, X_ADD, jit_map[in->rn], r);
	else
		x_rm(x, true, 0x01, r, g_mem(in->rn)); /* add */
}

static inline bool
is_load(const struct insn *in)
{
	return (FIELD(in->word, 22, 1) != 0);
}

static inline struct x86_mem
at(struct x86_mem m, unsigned disp)
{
	m.disp += (int32_t)disp;
	return (m);
}

/* 16 or 8 bytes. */
static void
load(struct tr *t, int d, struct x86_mem m, unsigned bytes)
{
	x_v2m(&t->x, bytes == 16 ? V_MOVDQU : V_MOVQ, d, m);
}

static void
store(struct tr *t, struct x86_mem m, int s, unsigned bytes)
{
	if (bytes == 16)
		x_v2m(&t->x, X_VOP(2, 1, 0, 0x7f), s, m);
	else
		x_vstore(&t->x, true, m, s);
}

/* LD1, ST1: registers one after the other. */
LOWER(v_ld1)
{
	static const uint8_t regs[16] = { [2] = 4, [6] = 3, [7] = 1, [10] = 2 };
	unsigned n = regs[FIELD(in->word, 12, 4)], bytes = 8u << V_Q(in);
	struct x86_mem m = begin(t, in, n * bytes, is_load(in));

	for (unsigned r = 0; r < n; r++) {
		unsigned reg = (in->rd + r) & 31;

		if (is_load(in))
			load(t, v_write(t, reg), at(m, r * bytes), bytes);
		else
			store(t, at(m, r * bytes), v_read(t, reg), bytes);
	}
	end(t, in, n * bytes);
}

/* LD2, ST2 */
LOWER(v_ld2)
{
	static vops low = { V_PUNPCKLBW, V_PUNPCKLWD, V_PUNPCKLDQ, V_PUNPCKLQDQ };
	static vops high = { V_PUNPCKHBW, V_PUNPCKHWD, V_PUNPCKHDQ, V_PUNPCKHQDQ };
	struct x86 *x = &t->x;
	unsigned size = (unsigned)FIELD(in->word, 10, 2), bytes = 8u << V_Q(in);
	unsigned second = (in->rd + 1) & 31;
	struct x86_mem m = begin(t, in, 2 * bytes, is_load(in));
	int a, b;

	if (is_load(in)) {
		load(t, T1, m, 16);
		if (bytes == 16)
			load(t, T2, at(m, 16), 16);
		for (unsigned part = 0; part < 2; part++) {
			s_uzp(t, T0, T1, bytes == 16 ? T2 : T1, size, part);
			s_trim(t, v_write(t, part == 0 ? in->rd : second), T0, bytes);
		}
	} else {
		a = v_read(t, in->rd);
		b = v_read(t, second);
		x_v3(x, low[size], T0, a, b);
		store(t, m, T0, 16);
		if (bytes == 16) {
			x_v3(x, high[size], T0, a, b);
			store(t, at(m, 16), T0, 16);
		}
	}
	end(t, in, 2 * bytes);
}

/* PSHUFB mask: where each byte of a 16-byte piece comes from, 0x80: not from here. */
static const uint8_t *
shuffle(struct tr *t, const uint8_t map[16])
{
	uint64_t v[2];

	memcpy(v, map, sizeof(v));
	return (v_const(t, v[0], v[1]));
}

/*
 * LD3, ST3: each register from, or each piece of memory to, all the others by
 * a shuffle. Byte b of register r is byte (b >> size) * 3 + r, in elements, of
 * the memory.
 */
LOWER(v_ld3)
{
	struct x86 *x = &t->x;
	unsigned size = (unsigned)FIELD(in->word, 10, 2), bytes = 8u << V_Q(in);
	unsigned pieces = bytes == 16 ? 3 : 2, len = 3 * bytes, low = (1u << size) - 1;
	struct x86_mem m = begin(t, in, len, is_load(in));
	uint8_t map[16];
	int v[3];

	if (is_load(in)) {
		static const int piece[3] = { T0, T1, T2 };

		load(t, T0, m, 16);
		load(t, T1, at(m, 16), bytes == 16 ? 16 : 8);
		if (pieces == 3)
			load(t, T2, at(m, 32), 16);
		for (unsigned r = 0; r < 3; r++) {
			int d = v_write(t, (in->rd + r) & 31);

			for (unsigned p = 0; p < pieces; p++) {
				memset(map, 0x80, sizeof(map));
				for (unsigned b = 0; b < bytes; b++) {
					unsigned from = ((b >> size) * 3 + r) << size | (b & low);

					if (from / 16 == p)
						map[b] = from % 16;
				}
				x_v3c(x, V_PSHUFB, p == 0 ? d : T3, piece[p], shuffle(t, map), 0);
				if (p != 0)
					x_v3(x, V_POR, d, d, T3);
			}
		}
	} else {
		for (unsigned r = 0; r < 3; r++)
			v[r] = v_read(t, (in->rd + r) & 31);
		for (unsigned p = 0; p < pieces; p++) {
			for (unsigned r = 0; r < 3; r++) {
				memset(map, 0x80, sizeof(map));
				for (unsigned b = 0; b < 16 && p * 16 + b < len; b++) {
					unsigned e = (p * 16 + b) >> size;

					if (e % 3 == r)
						map[b] = (uint8_t)((e / 3) << size | (b & low));
				}
				x_v3c(x, V_PSHUFB, r == 0 ? T0 : T3, v[r], shuffle(t, map), 0);
				if (r != 0)
					x_v3(x, V_POR, T0, T0, T3);
			}
			store(t, at(m, 16 * p), T0, bytes == 8 && p == 1 ? 8 : 16);
		}
	}
	end(t, in, len);
}

/*
 * LD4, ST4 of Q registers: a transposition of 4 by 4 elements of 32 bits.
 * Smaller ones are gathered in each piece of memory before, or spread after.
 */
LOWER(v_ld4)
{
	static const uint64_t gather[2][2] = { { 0x0d0905010c080400, 0x0f0b07030e0a0602 },
		{ 0x0b0a030209080100, 0x0f0e07060d0c0504 } };
	static const uint64_t spread[2][2] = { { 0x0d0905010c080400, 0x0f0b07030e0a0602 },
		{ 0x0d0c090805040100, 0x0f0e0b0a07060302 } };
	static const int tmp[4] = { T0, T1, T2, T3 };
	struct x86 *x = &t->x;
	unsigned size = (unsigned)FIELD(in->word, 10, 2);
	struct x86_mem m;
	int v[4];

	if (V_Q(in) == 0 || size == 3) {
		t_handler(t, in);
		return;
	}
	m = begin(t, in, 64, is_load(in));
	if (is_load(in)) {
		for (unsigned p = 0; p < 4; p++) {
			load(t, tmp[p], at(m, 16 * p), 16);
			if (size < 2)
				x_v3c(x, V_PSHUFB, tmp[p], tmp[p],
				    v_const(t, gather[size][0], gather[size][1]), 0);
		}
		for (unsigned r = 0; r < 4; r++)
			v[r] = v_write(t, (in->rd + r) & 31);
		x_v3(x, V_PUNPCKLDQ, v[0], T0, T1);
		x_v3(x, V_PUNPCKHDQ, v[1], T0, T1);
		x_v3(x, V_PUNPCKLDQ, v[2], T2, T3);
		x_v3(x, V_PUNPCKHDQ, v[3], T2, T3);
		x_v3(x, V_PUNPCKLQDQ, T0, v[0], v[2]);
		x_v3(x, V_PUNPCKHQDQ, T1, v[0], v[2]);
		x_v3(x, V_PUNPCKLQDQ, v[2], v[1], v[3]);
		x_v3(x, V_PUNPCKHQDQ, v[3], v[1], v[3]);
		x_vmov(x, v[0], T0);
		x_vmov(x, v[1], T1);
	} else {
		for (unsigned r = 0; r < 4; r++)
			v[r] = v_read(t, (in->rd + r) & 31);
		for (unsigned p = 0; p < 4; p++) {
			if (p % 2 == 0) {
				x_v3(x, p == 0 ? V_PUNPCKLDQ : V_PUNPCKHDQ, T0, v[0], v[1]);
				x_v3(x, p == 0 ? V_PUNPCKLDQ : V_PUNPCKHDQ, T1, v[2], v[3]);
			}
			x_v3(x, p % 2 == 0 ? V_PUNPCKLQDQ : V_PUNPCKHQDQ, T2, T0, T1);
			if (size < 2)
				x_v3c(x, V_PSHUFB, T2, T2,
				    v_const(t, spread[size][0], spread[size][1]), 0);
			store(t, at(m, 16 * p), T2, 16);
		}
	}
	end(t, in, 64);
}

/* -- one lane, or one element in all lanes ---------------------------------------------- */

static unsigned
lane_regs(const struct insn *in)
{
	return ((unsigned)(FIELD(in->word, 13, 1) << 1 | FIELD(in->word, 21, 1)) + 1);
}

static void
one_lane(struct tr *t, const struct insn *in, unsigned size)
{
	struct x86 *x = &t->x;
	unsigned n = lane_regs(in), len = n << size;
	unsigned index = (unsigned)(V_Q(in) << 3 | FIELD(in->word, 10, 3)) >> size;
	struct x86_mem m = begin(t, in, len, is_load(in));

	for (unsigned r = 0; r < n; r++) {
		unsigned reg = (in->rd + r) & 31;
		int v = is_load(in) ? v_modify(t, reg) : v_read(t, reg);

		if (is_load(in))
			x_pinsr_mem(x, size, v, v, at(m, r << size), index);
		else
			x_pextr_mem(x, size, at(m, r << size), v, index);
	}
	end(t, in, len);
}

LOWER(v_lane_b)
{
	one_lane(t, in, 0);
}

LOWER(v_lane_h)
{
	one_lane(t, in, 1);
}

LOWER(v_lane_s)
{
	one_lane(t, in, 2);
}

LOWER(v_lane_d)
{
	one_lane(t, in, 3);
}

/* LD1R to LD4R */
LOWER(v_ld1r)
{
	static const unsigned op[4] = { V_PBROADCASTB, V_PBROADCASTW, V_PBROADCASTD,
		V_PBROADCASTQ };
	unsigned size = (unsigned)FIELD(in->word, 10, 2), n = lane_regs(in);
	struct x86_mem m = begin(t, in, n << size, true);

	for (unsigned r = 0; r < n; r++) {
		int d = v_write(t, (in->rd + r) & 31);

		x_v2m(&t->x, op[size], d, at(m, r << size));
		if (V_Q(in) == 0)
			s_trim(t, d, d, 8);
	}
	end(t, in, n << size);
}

/* LDR (literal): opc is the size. */
LOWER(v_ldr_lit)
{
	unsigned log2 = 2 + (unsigned)FIELD(in->word, 30, 2);
	struct x86_mem m;
	int d;

	v_check(t);
	t_pc(t, RAX, (int64_t)t_off(t) + in->imm);
	m = g_translate(t, RAX, 1u << log2, false, COLD_SLOW);
	d = v_write(t, in->rd);
	if (log2 == 2)
		x_movd_load(&t->x, d, m);
	else
		load(t, d, m, 1u << log2);
}
