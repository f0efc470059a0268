/*
 * Lowering of loads and stores: one look into the TLB, then the access. What
 * misses, faults, crosses a page or has a misaligned SP is left to the
 * handler, out of line, which does the whole instruction.
 */
#include "pe/except.h"
#include "pe/jit/lower.h"

int
g_base(struct tr *t, unsigned base, int32_t disp)
{
	struct x86 *x = &t->x;
	int n = g_read(t, true, base, RAX);

	if (disp == 0)
		return (n);
	x_lea(x, true, RAX, x_mem(n, disp));
	return (RAX);
}

int
g_address(struct tr *t, const struct insn *in, int32_t disp)
{
	if (in->rn == REG_SP) {
		x_test_imm8(&t->x, jit_map[REG_SP], 15);
		t_slow(t, CC_NE);
	}
	return (g_base(t, in->rn, disp));
}

void
g_index(struct tr *t, const struct insn *in, unsigned scale)
{
	struct x86 *x = &t->x;
	int n, m;

	/* option: 2 UXTW, 3 LSL, 6 SXTW, 7 SXTX */
	m = g_read(t, true, in->rm, RCX);
	if (FIELD(in->word, 13, 3) == 2) {
		x_mov(x, false, RCX, m);
		m = RCX;
	} else if (FIELD(in->word, 13, 3) == 6) {
		x_sext(x, true, RCX, m, 4);
		m = RCX;
	}
	if (FIELD(in->word, 12, 1) == 0)
		scale = 0;
	n = g_read(t, true, in->rn, RAX);
	if (scale <= 3)
		x_lea(x, true, RAX, x_memx(n, m, (int)scale, 0));
	else {
		if (m != RCX)
			x_mov(x, true, RCX, m);
		x_shift(x, true, X_SHL, RCX, scale);
		x_lea(x, true, RAX, x_memx(n, RCX, 0, 0));
	}
}

/* A register that holds the address. */
static int
address(struct tr *t, const struct insn *in, enum mode mode, unsigned scale)
{
	if (mode != M_REG)
		return (g_address(t, in, mode == M_POST ? 0 : in->imm));
	if (in->rn == REG_SP) {
		x_test_imm8(&t->x, jit_map[REG_SP], 15);
		t_slow(t, CC_NE);
	}
	g_index(t, in, scale);
	return (RAX);
}

/* The look into pe->tlb, or into pe->tlb_unpriv. */
static struct x86_mem
look_up(struct tr *t, int a, unsigned len, bool write, bool unpriv, enum cold_kind kind)
{
	struct x86 *x = &t->x;
	int32_t table =
	    write ? (int32_t)offsetof(struct tlb, wr) : (int32_t)offsetof(struct tlb, rd);
	struct x86_mem entry = x_memx(R14, RCX, 0, table);

	x_rorx(x, false, RCX, a, 8);
	x_alu_imm(x, false, X_AND, RCX, (TLB_SIZE - 1) << 4);
	if (unpriv) {
		x_alu_mem(x, true, X_ADD, RCX, PE_MEM(tlb_unpriv));
		entry = x_mem(RCX, table);
	}
	if (len > 1)
		x_lea(x, true, RDX, x_mem(a, (int32_t)len - 1));
	else
		x_mov(x, true, RDX, a);
	x_alu_imm(x, true, X_AND, RDX, -4096);
	x_alu_mem(x, true, X_CMP, RDX, entry);
	t_cold(t, kind, x_jcc(x, CC_NE), 0);
	entry.disp += 8;
	x_load(x, true, RDX, entry);
	return (x_memx(a, RDX, 0, 0));
}

struct x86_mem
g_translate(struct tr *t, int a, unsigned len, bool write, enum cold_kind kind)
{
	return (look_up(t, a, len, write, false, kind));
}

/* The memory operand of a load or store. */
static struct x86_mem
access(
    struct tr *t, const struct insn *in, enum mode mode, unsigned scale, unsigned len, bool write)
{
	struct x86_mem m;

	if (strip_operand(t, in, &m) || g_grouped(t, in, &m))
		return (m);
	return (g_translate(t, address(t, in, mode, scale), len, write, COLD_SLOW));
}

/* The base register after a post- or pre-indexed access. */
static void
write_back(struct tr *t, const struct insn *in, enum mode mode)
{
	struct x86 *x = &t->x;

	if (mode == M_PRE || mode == M_POST) {
		if (jit_map[in->rn] >= 0)
			x_alu_imm(x, true, X_ADD, jit_map[in->rn], in->imm);
		else
			x_alu_mem_imm(x, true, X_ADD, g_mem(in->rn), in->imm);
	}
}

static bool
overlaps(const struct insn *in, enum mode mode)
{
	return ((mode == M_POST || mode == M_PRE) && (in->rd == in->rn || in->ra == in->rn));
}

/* Load from m what size and opc of the word say. */
static void
load_from(struct tr *t, const struct insn *in, struct x86_mem m)
{
	unsigned size = (unsigned)FIELD(in->word, 30, 2), opc = (unsigned)FIELD(in->word, 22, 2);
	int d = g_dest(in->rd, RCX);

	if (opc == 1)
		x_zload(&t->x, d, m, 1u << size);
	else
		x_sload(&t->x, opc == 2, d, m, 1u << size);
	g_commit(t, in->rd, d);
}

static void
store_to(struct tr *t, const struct insn *in, struct x86_mem m)
{
	unsigned size = (unsigned)FIELD(in->word, 30, 2);
	int s = g_read(t, true, in->rd, RCX);

	if (size == 0)
		x_store8(&t->x, m, s);
	else if (size == 1)
		x_store16(&t->x, m, s);
	else
		x_store(&t->x, size == 3, m, s);
}

LOWER(load)
{
	enum mode mode = mode_of(in->word);
	unsigned size = (unsigned)FIELD(in->word, 30, 2);

	if ((mode == M_POST || mode == M_PRE) && in->rd == in->rn) {
		t_handler(t, in);
		return;
	}
	load_from(t, in, access(t, in, mode, size, 1u << size, false));
	write_back(t, in, mode);
}

LOWER(store)
{
	enum mode mode = mode_of(in->word);
	unsigned size = (unsigned)FIELD(in->word, 30, 2);

	if ((mode == M_POST || mode == M_PRE) && in->rd == in->rn) {
		t_handler(t, in);
		return;
	}
	store_to(t, in, access(t, in, mode, size, 1u << size, true));
	write_back(t, in, mode);
}

/* LDTR and STTR: the permissions of EL0. */
LOWER(load_unpriv)
{
	int a = g_address(t, in, in->imm);

	load_from(t, in, look_up(t, a, 1u << FIELD(in->word, 30, 2), false, true, COLD_SLOW));
}

LOWER(store_unpriv)
{
	int a = g_address(t, in, in->imm);

	store_to(t, in, look_up(t, a, 1u << FIELD(in->word, 30, 2), true, true, COLD_SLOW));
}

/* LDR and LDRSW (literal): opc is 0, 1 and 2. */
LOWER(load_lit)
{
	unsigned opc = (unsigned)FIELD(in->word, 30, 2), size = opc == 1 ? 8 : 4;
	int d = g_dest(in->rd, RCX);
	struct x86_mem m;

	t_pc(t, RAX, (int64_t)t_off(t) + in->imm);
	m = g_translate(t, RAX, size, false, COLD_SLOW);
	if (opc == 2)
		x_sload(&t->x, true, d, m, 4);
	else
		x_zload(&t->x, d, m, size);
	g_commit(t, in->rd, d);
}

/* DC ZVA at EL1 and above, when nobody traps it; all else is the handler's. */
LOWER(sys)
{
	struct x86 *x = &t->x;
	struct x86_mem m;

	if ((in->word & 0xffffffe0u) != 0xd50b7420u) {
		t_handler(t, in);
		return;
	}
	t_resolve(t); /* set_again() does not look further */
	x_cmp8_mem_imm(x, PE_MEM(el), 0);
	t_slow(t, CC_E);
	x_const(x, RAX, HCR_TDZ);
	x_rm(x, true, 0x85, RAX, PE_MEM(sr[SR_HCR_EL2])); /* test */
	t_slow(t, CC_NE);
	g_load(t, true, RAX, in->rd);
	x_alu_imm(x, true, X_AND, RAX, -64);
	m = g_translate(t, RAX, 1, true, COLD_SLOW);
	if ((jit_host & HOST_AVX2) == 0) {
		for (unsigned i = 0; i < 8; i++, m.disp += 8)
			x_store_imm(x, true, m, 0);
		return;
	}
	x_vzero(x, 0);
	for (unsigned i = 0; i < 4; i++, m.disp += 16)
		x_movups_store(x, m, 0);
}

/* LDP of W or X; LDPSW is left to its handler. */
LOWER(load_pair)
{
	struct x86 *x = &t->x;
	enum mode mode = pair_mode_of(in->word);
	bool w = is_x(in);
	struct x86_mem m, second;
	int a = g_dest(in->rd, RCX), b = g_dest(in->ra, RCX);

	if (overlaps(in, mode) || in->rd == in->ra) {
		t_handler(t, in);
		return;
	}
	m = access(t, in, mode, 0, w ? 16 : 8, false);
	second = m;
	second.disp += w ? 8 : 4;
	/* The base may be the operand: it is overwritten last. */
	if (in->rd == in->rn) {
		x_load(x, w, b, second);
		g_commit(t, in->ra, b);
	}
	x_load(x, w, a, m);
	g_commit(t, in->rd, a);
	if (in->rd != in->rn) {
		x_load(x, w, b, second);
		g_commit(t, in->ra, b);
	}
	write_back(t, in, mode);
}

LOWER(store_pair)
{
	struct x86 *x = &t->x;
	enum mode mode = pair_mode_of(in->word);
	bool w = is_x(in);
	struct x86_mem m;
	int s;

	if (overlaps(in, mode)) {
		t_handler(t, in);
		return;
	}
	m = access(t, in, mode, 0, w ? 16 : 8, true);
	s = g_read(t, true, in->rd, RCX);
	x_store(x, w, m, s);
	m.disp += w ? 8 : 4;
	s = g_read(t, true, in->ra, RCX);
	x_store(x, w, m, s);
	write_back(t, in, mode);
}

/* -- SIMD and FP registers ----------------------------------------------------------------- */

/* log2 of the bytes: opc<1> and size. */
static unsigned
v_size(uint32_t word)
{
	return ((unsigned)(FIELD(word, 23, 1) << 2 | FIELD(word, 30, 2)));
}

static void
vector_load(struct tr *t, unsigned log2, unsigned r, struct x86_mem m)
{
	struct x86 *x = &t->x;
	int d = v_write(t, r);

	if (log2 == 4)
		x_movups_load(x, d, m);
	else if (log2 == 3)
		x_movq_load(x, d, m);
	else if (log2 == 2)
		x_movd_load(x, d, m);
	else {
		x_zload(x, RCX, m, 1u << log2);
		x_v_from_g(x, false, d, RCX);
	}
	if (log2 < 4)
		v_set_zero_above(t, d, log2 == 3 ? 3 : 2);
}

static void
vector_store(struct tr *t, unsigned log2, unsigned r, struct x86_mem m)
{
	struct x86 *x = &t->x;
	int s = v_read(t, r);

	if (log2 == 4)
		x_movups_store(x, m, s);
	else if (log2 == 3)
		x_movq_store(x, m, s);
	else if (log2 == 2)
		x_movd_store(x, m, s);
	else
		x_pextr_mem(x, log2, m, s, 0);
}

/* B and H registers (with AVX), S, D and Q. */
LOWER(vload)
{
	enum mode mode = mode_of(in->word);
	unsigned log2 = v_size(in->word);
	struct x86_mem m;

	v_check(t);
	m = access(t, in, mode, log2, 1u << log2, false);
	vector_load(t, log2, in->rd, m);
	write_back(t, in, mode);
}

LOWER(vstore)
{
	enum mode mode = mode_of(in->word);
	unsigned log2 = v_size(in->word);
	struct x86_mem m;

	v_check(t);
	(void)v_read(t, in->rd);
	m = access(t, in, mode, log2, 1u << log2, true);
	vector_store(t, log2, in->rd, m);
	write_back(t, in, mode);
}

LOWER(vload_pair)
{
	enum mode mode = pair_mode_of(in->word);
	unsigned log2 = 2 + (unsigned)FIELD(in->word, 30, 2);
	struct x86_mem m;

	if (in->rd == in->ra) {
		t_handler(t, in);
		return;
	}
	v_check(t);
	m = access(t, in, mode, 0, 2u << log2, false);
	vector_load(t, log2, in->rd, m);
	m.disp += 1 << log2;
	vector_load(t, log2, in->ra, m);
	write_back(t, in, mode);
}

LOWER(vstore_pair)
{
	enum mode mode = pair_mode_of(in->word);
	unsigned log2 = 2 + (unsigned)FIELD(in->word, 30, 2);
	struct x86_mem m;

	v_check(t);
	(void)v_read(t, in->rd);
	(void)v_read(t, in->ra);
	m = access(t, in, mode, 0, 2u << log2, true);
	vector_store(t, log2, in->rd, m);
	m.disp += 1 << log2;
	vector_store(t, log2, in->ra, m);
	write_back(t, in, mode);
}
