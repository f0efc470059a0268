/*
 * NZCV in translated code.
 *
 * After an instruction that sets flags they are in the host's flags, for users
 * that follow at once (t->hf). pe->nzcv gets them in one of three ways: never,
 * when they are set again before anything could look; at once; or late, which
 * is the common one. Late means that the way the block is most likely to go
 * sets them again, so that only out-of-line code and other exits would look:
 * there the comparison is made once more, from operands that are still in
 * their registers or were kept in pe->x[REG_KEPT].
 */
#include "pe/jit/lower_fp.h"

/* -- who writes what ------------------------------------------------------------ */

/* May this instruction, which has a lowering, write general register r? */
static bool
writes_general(const struct insn *in, unsigned r)
{
	lower_fn fn = jit_lowering[in->op].fn;
	uint32_t word = in->word;
	enum mode mode;
	bool pair;

	if ((FIELD(word, 25, 4) & 14) == 10) /* a branch */
		return (false);
	if ((FIELD(word, 25, 4) & 5) != 4) /* not a load or store */
		return (in->rd == r);
	if (fn == lower_load_lit || fn == lower_load_unpriv)
		return (in->rd == r);
	if (fn == lower_store_unpriv)
		return (false);
	if (fn == lower_casp)
		return (in->rm == r || in->rm + 1u == r);
	pair = fn == lower_load_pair || fn == lower_store_pair || fn == lower_vload_pair ||
	       fn == lower_vstore_pair;
	if (!pair && fn != lower_load && fn != lower_store && fn != lower_vload &&
	    fn != lower_vstore)
		return (in->rd == r || in->rn == r || in->rm == r || in->ra == r);
	mode = pair ? pair_mode_of(word) : mode_of(word);
	if ((mode == M_POST || mode == M_PRE) && in->rn == r)
		return (true);
	return ((fn == lower_load && in->rd == r) ||
		(fn == lower_load_pair && (in->rd == r || in->ra == r)));
}

static bool
writes_vector(const struct insn *in, unsigned r)
{
	lower_fn fn = jit_lowering[in->op].fn;
	unsigned class = (unsigned)FIELD(in->word, 25, 4);

	if ((class & 7) == 7)
		return (in->rd == r);
	if ((class & 5) != 4 || FIELD(in->word, 26, 1) == 0 || fn == lower_vstore ||
	    fn == lower_vstore_pair)
		return (false);
	if (fn == lower_vload)
		return (in->rd == r);
	return (fn != lower_vload_pair || in->rd == r || in->ra == r);
}

/* -- conditions ------------------------------------------------------------------ */

/*
 * Host conditions after UCOMIS (CF: less or unordered, ZF: equal or unordered,
 * PF: unordered) of the operands in order, and swapped. 255: not one of them.
 */
static const uint8_t after_fp[2][16] = {
	{ 255, 255, 255, 255, 255, 255, CC_P, CC_NP, 255, 255, CC_AE, CC_B, CC_A, CC_BE, 255, 255 },
	{ 255, 255, CC_BE, CC_A, CC_A, CC_BE, CC_P, CC_NP, CC_B, CC_AE, 255, 255, 255, 255, 255,
	    255 },
};

/* The host's flags after t_cond() when they were `hf` before; *ok: it can use them. */
static enum hf
hf_after(enum hf hf, unsigned cond, bool *ok)
{
	bool direct;

	*ok = true;
	if (cond >= 14)
		return (hf);
	switch (hf) {
	case HF_SUB:
		return (hf);
	case HF_ADD:
		return (cond == 8 || cond == 9 ? HF_SUB : hf);
	case HF_FP:
	case HF_FP_SWAPPED:
		direct = after_fp[hf == HF_FP_SWAPPED][cond] != 255;
		*ok = direct || cond < 2;
		if (*ok)
			return (direct ? hf : HF_NONE);
		break;
	default:
		*ok = false;
		break;
	}
	return (cond == 8 || cond == 9 ? HF_SUB : HF_ADD); /* load_flags() */
}

enum hf
t_cond_hf(const struct tr *t, unsigned cond)
{
	bool ok;

	return (hf_after(t->hf_before, cond, &ok));
}

/* The host's flags from pe->nzcv, C as carry: the inverse of LAHF and SETO. */
static void
load_flags(struct tr *t)
{
	struct x86 *x = &t->x;

	x_load(x, false, RAX, PE_MEM(nzcv));
	x_add_al(x, 0x7f);
	x_sahf(x);
}

unsigned
t_cond(struct tr *t, unsigned cond)
{
	static const uint8_t after_sub[16] = { CC_E, CC_NE, CC_AE, CC_B, CC_S, CC_NS, CC_O, CC_NO,
		CC_A, CC_BE, CC_GE, CC_L, CC_G, CC_LE, CC_O, CC_O };
	static const uint8_t after_add[16] = { CC_E, CC_NE, CC_B, CC_AE, CC_S, CC_NS, CC_O, CC_NO,
		CC_O, CC_O, CC_GE, CC_L, CC_G, CC_LE, CC_O, CC_O };
	struct x86 *x = &t->x;

	if (t->hf_before >= HF_FP) {
		unsigned cc = after_fp[t->hf_before == HF_FP_SWAPPED][cond];

		if (cc != 255)
			return (cc);
		if (cond < 2) { /* equal: ZF and not PF */
			x_setcc(x, CC_E, RAX);
			x_setcc(x, CC_NP, RCX);
			x_rr(x, false, 0x84, RAX, RCX); /* test al, cl */
			return (cond == 0 ? CC_NE : CC_E);
		}
	} else if (t->hf_before == HF_SUB)
		return (after_sub[cond]);
	else if (t->hf_before == HF_ADD && cond != 8 && cond != 9)
		return (after_add[cond]);
	if (t->hf_before == HF_ADD)
		x_cmc(x);
	else {
		t_resolve(t);
		load_flags(t);
		if (cond == 8 || cond == 9)
			x_cmc(x);
	}
	return (cond == 8 || cond == 9 ? after_sub[cond] : after_add[cond]);
}

/* -- setting --------------------------------------------------------------------- */

/*
 * Will anybody see NZCV as it is now? No, when it is written again before an
 * instruction that reads it, or that could fault or leave.
 */
bool
t_flags_wanted(const struct tr *t, unsigned i)
{
	unsigned end = t->start + JIT_BLOCK_MAX;

	if (end > CODEPAGE_INSNS)
		end = CODEPAGE_INSNS;
	for (; i < end; i++) {
		unsigned attr = jit_lowering[t->page->insn[i].op].attr;

		if ((attr & A_READF) != 0 || (attr & A_PURE) == 0)
			return (true);
		if ((attr & A_SETF) != 0)
			return (false);
	}
	return (true);
}

/* What the setter of flags reads, and what happens to it. */
#define NO_VECTOR 255u /* V31 has the number of XZR */
struct operands {
	bool vector;
	unsigned r[2];
	bool changed[2];
};

static void
see(const struct insn *in, struct operands *o)
{
	for (unsigned k = 0; k < 2; k++)
		if (o->r[k] != (o->vector ? NO_VECTOR : REG_ZR) &&
		    (o->vector ? writes_vector(in, o->r[k]) : writes_general(in, o->r[k])))
			o->changed[k] = true;
}

/*
 * Follow the block from instruction `from`, where the host's flags are `hf`,
 * up to `limit`: true when flags are set again before pe->nzcv would have to
 * be right. *again: a branch on the way goes back to the start.
 */
static bool
set_again(
    const struct tr *t, unsigned from, unsigned limit, enum hf hf, struct operands *o, bool *again)
{
	for (unsigned i = from; i < limit; i++) {
		const struct insn *in = &t->page->insn[i];
		lower_fn fn = jit_lowering[in->op].fn;
		unsigned attr = jit_lowering[in->op].attr;
		bool branch = fn == lower_b_cond || fn == lower_cbz || fn == lower_tbz;
		bool ok;

		if (fn == NULL || fn == lower_mrs || fn == lower_sys)
			return (false); /* a handler is called */
		if ((attr & A_READF) != 0) {
			if (fn == lower_adc)
				return (false);
			hf = hf_after(hf, in->a, &ok);
			if (!ok)
				return (false);
		} else
			hf = HF_NONE;
		if ((attr & A_SETF) != 0)
			return (true);
		if ((branch || fn == lower_b) &&
		    (int32_t)(i * 4) + in->imm == (int32_t)t->start * 4)
			*again = true;
		if (fn == lower_b || fn == lower_bl || fn == lower_br || fn == lower_blr ||
		    (attr & A_LAST) != 0)
			return (false);
		see(in, o);
	}
	return (limit == t->i); /* around the loop, to the same setter */
}

/* Can this comparison be made once more? *o: from what. */
static bool
repeatable(const struct insn *in, struct operands *o, struct late *l)
{
	lower_fn fn = jit_lowering[in->op].fn;
	bool imm = fn == lower_adds_imm || fn == lower_subs_imm || fn == lower_ands_imm;

	memset(o, 0, sizeof(*o));
	o->r[0] = in->rn;
	o->r[1] = imm ? REG_ZR : in->rm;
	l->undo = false;
	if (fn == lower_fcmp) {
		o->vector = true;
		if ((in->word & 8) != 0) /* with zero */
			o->r[1] = NO_VECTOR;
		return (true);
	}
	if (!imm && fn != lower_arith_flags && fn != lower_ands)
		return (false);
	if (in->rd == REG_SINK || (in->rd != o->r[0] && in->rd != o->r[1]))
		return (true);
	/* Sums and differences with a constant are undone. */
	l->undo = true;
	o->r[0] = in->rd;
	return (fn == lower_adds_imm || fn == lower_subs_imm);
}

static void
keep(struct tr *t, unsigned slot, unsigned r)
{
	int h = g_read(t, true, r, RAX);

	x_store(&t->x, true, g_mem(slot), h);
}

/* Leave pe->nzcv for later, when that is likely to be never. */
static bool
put_off(struct tr *t, enum hf hf)
{
	const struct insn *in = &t->page->insn[t->i];
	unsigned end = t->start + t->j->block_max;
	struct late l = { .at = (uint16_t)t->i };
	struct operands o;
	bool again = false, dummy, on, back = false;

	if (end > CODEPAGE_INSNS)
		end = CODEPAGE_INSNS;
	if (!repeatable(in, &o, &l))
		return (false);
	on = set_again(t, t->i + 1, end, hf, &o, &again);
	if (again)
		back = set_again(t, t->start, t->i, HF_NONE, &o, &dummy);
	if (!(again ? back : on))
		return (false);
	if (o.vector && (o.changed[0] || o.changed[1]))
		return (false);
	l.rn = (uint8_t)o.r[0];
	l.rm = (uint8_t)o.r[1];
	l.again = back;
	if (o.changed[0]) {
		keep(t, REG_KEPT, o.r[0]);
		l.rn = REG_KEPT;
	}
	if (o.changed[1]) {
		keep(t, REG_KEPT + 1, o.r[1]);
		l.rm = REG_KEPT + 1;
	}
	t->late = l;
	t->hf = hf;
	return (true);
}

/* Does it test C, alone or with Z? */
static bool
tests_carry(const struct insn *in)
{
	return (in != NULL && (jit_lowering[in->op].attr & A_READF) != 0 &&
		(in->a == 2 || in->a == 3 || in->a == 8 || in->a == 9));
}

void
t_flags(struct tr *t, enum hf hf)
{
	struct x86 *x = &t->x;

	t->hf = hf;
	if (!t->redo) {
		t->late.at = LATE_NONE;
		if (!t_flags_wanted(t, t->i + 1) || put_off(t, hf))
			return;
	}
	if (hf >= HF_FP) {
		/* Carry and zero, packed, index the NZCV of greater, less, equal, unordered. */
		const uint64_t less = jit_raw_nzcv(8), greater = jit_raw_nzcv(2);
		const uint8_t *nzcv =
		    v_const(t, hf == HF_FP ? less << 32 | greater : greater << 32 | less,
			(uint64_t)jit_raw_nzcv(3) << 32 | jit_raw_nzcv(6));

		x_lahf(x);
		x_const(x, RCX, 0x4100);
		x_pext(x, false, RAX, RAX, RCX);
		x_lea_rip(x, RCX, nzcv);
		x_load(x, false, RCX, x_memx(RCX, RAX, 2, 0));
		x_store(x, false, PE_MEM(nzcv), RCX);
		return;
	}
	/*
	 * LAHF gives SF ZF - - - - - CF in AH, SETO the overflow in AL. After a
	 * subtraction C is the inverse of the host's carry; it stays so unless
	 * the next instruction wants to test it.
	 */
	if (hf == HF_SUB)
		x_cmc(x);
	x_lahf(x);
	x_setcc(x, CC_O, RAX);
	x_store(x, false, PE_MEM(nzcv), RAX);
	if (hf == HF_SUB) {
		if (!t->redo && tests_carry(t_next(t)))
			x_cmc(x);
		else
			t->hf = HF_ADD;
	}
}

void
t_resolve_as(struct tr *t, const struct late *l)
{
	const unsigned i = t->i;
	const enum hf hf = t->hf;
	const bool fp_ok = t->fp_ok, fp_plain = t->fp_plain;
	struct insn in;

	if (l->at == LATE_NONE)
		return;
	in = t->page->insn[l->at];
	in.rd = REG_SINK;
	in.rn = l->rn;
	in.rm = l->rm;
	t->i = l->at;
	t->redo = true;
	t->redo_loads = 0;
	t->fp_ok = t->fp_plain = true; /* it got there */
	if (l->undo) {
		bool add = jit_lowering[in.op].fn == lower_adds_imm;

		g_load(t, true, RAX, l->rn);
		x_lea(&t->x, is_x(&in), RAX, x_mem(RAX, add ? -in.imm : in.imm));
		x_store(&t->x, true, g_mem(REG_KEPT + 1), RAX);
		in.rn = REG_KEPT + 1;
	}
	jit_lowering[in.op].fn(t, &in);
	t->redo = false;
	t->i = i;
	t->hf = hf;
	t->fp_ok = fp_ok;
	t->fp_plain = fp_plain;
}

bool
t_changes_late(const struct tr *t, const struct insn *in, const struct late *l)
{
	const struct insn *setter = &t->page->insn[l->at];
	struct operands o = { .vector = jit_lowering[setter->op].fn == lower_fcmp,
		.r = { l->rn, l->rm } };

	if (o.vector && (setter->word & 8) != 0) /* with zero */
		o.r[1] = NO_VECTOR;
	see(in, &o);
	return (o.changed[0] || o.changed[1]);
}

void
t_resolve(struct tr *t)
{
	t_resolve_as(t, &t->late);
	t->late.at = LATE_NONE;
}
