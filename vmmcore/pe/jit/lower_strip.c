/*
 * Loops whose addresses go up by constants. The accesses of such a loop form
 * streams: what has the same base and index and lies close together. Before
 * the loop each stream is looked up in the TLB once, and the rounds are counted
 * until the first of them leaves its page; in the loop a stream costs one load
 * of what is to be added to the address. The rounds are a part of the slice:
 * r13 is that part while the loop runs, and the rest waits on the stack.
 *
 *	strip:	r13 = as many rounds as all streams stay on their pages
 *	loop:	...
 *		sub r13, n; jg loop
 *		r13 += the rest; jg strip; poll
 *
 * Where a stream misses, or lies on two pages now, a round is made by the code
 * of the block that looks each access up. What was found holds until the loop
 * is left: out-of-line handlers of loads and stores do not come back into it.
 *
 * A base or index may also be made in each round from registers that stay or go up
 * by constants: the loop is followed once, with registers as sums of those.
 *
 * Only loops without branches inside (leaving it is fine). Accesses that are
 * not of a stream are looked up as always.
 */
#include "pe/jit/lower.h"

#define FAR 512  /* bytes a round: more, and too few rounds fit a page */
#define WIDE 768 /* bytes of a stream in a round */
#define NEAR 128 /* bytes a round where the address is a sum */
#define FEW 8    /* rounds: looking the streams up takes as long as these save */

/* What the loop does to a general register. */
struct motion {
	int32_t step;        /* in a round */
	bool moves, erratic; /* written; by something else than constants */
};

/* What a register holds: the sum of some shifted ones as they were before the round, and off. */
struct sum {
	bool known;
	uint8_t n;
	struct {
		uint8_t reg, shift;
	} term[SUM];
	int64_t off;
};

/* *by: what `in` adds to the register that it moves; its number, or REG_ZR. */
static unsigned
moved_by(const struct insn *in, int32_t *by)
{
	lower_fn fn = jit_lowering[in->op].fn;
	struct access a;

	*by = in->imm;
	if (g_access(in, &a))
		return (a.mode == M_POST || a.mode == M_PRE ? in->rn : REG_ZR);
	if (!is_x(in) || in->rd != in->rn)
		return (REG_ZR);
	if (fn == lower_add_imm || fn == lower_adds_imm)
		return (in->rd);
	*by = -in->imm;
	return (fn == lower_sub_imm || fn == lower_subs_imm ? in->rd : REG_ZR);
}

/* Does it write general register r, and be it by going on with the address? */
static bool
moves(const struct insn *in, unsigned r)
{
	unsigned class = (unsigned)FIELD(in->word, 25, 4);
	int32_t by;

	if (r == REG_ZR || (class & 14) == 10)
		return (false);
	if ((class & 5) == 4 && (in->rd == r || in->ra == r))
		return (true);
	return (moved_by(in, &by) == r || ((class & 5) != 4 && g_writes(in, r)));
}

bool
strip_keeps(const struct tr *t, const struct insn *in)
{
	for (unsigned k = 0; k < t->loop.nstreams; k++) {
		const struct stream *s = &t->loop.stream[k];

		/* What a sum is made of, or on the way, is not kept: nothing may change. */
		for (unsigned r = 0; s->nterms != 0 && r <= REG_SP; r++)
			if (moves(in, r))
				return (false);
		if (moves(in, s->in->rn) || (s->indexed && moves(in, s->in->rm)))
			return (false);
	}
	return (true);
}

/* Note what instruction `in` writes; false: a loop with it has no streams. */
static bool
note(const struct insn *in, struct motion *m)
{
	unsigned class = (unsigned)FIELD(in->word, 25, 4), r;
	lower_fn fn = jit_lowering[in->op].fn;
	struct access a;
	int32_t by;

	if (fn == NULL || (jit_lowering[in->op].attr & A_LAST) != 0)
		return (false);
	r = moved_by(in, &by);
	if (r < REG_SP + 1 && r != REG_ZR) {
		m[r].moves = true;
		m[r].step += by;
		if (m[r].step > 4096 || m[r].step < -4096)
			m[r].erratic = true;
	}
	if ((class & 5) == 4) {
		if (!g_access(in, &a))
			return (false);
		if (!a.vector && !a.write)
			m[in->rd].moves = m[in->rd].erratic = true;
		if (!a.vector && !a.write && a.pair)
			m[in->ra].moves = m[in->ra].erratic = true;
		return (true);
	}
	if ((class & 14) == 10)
		return (fn == lower_b || fn == lower_b_cond || fn == lower_cbz || fn == lower_tbz ||
			fn == lower_nop);
	if (r == REG_ZR && g_writes(in, in->rd))
		m[in->rd].moves = m[in->rd].erratic = true;
	return (true);
}

/* d += s << shift */
static void
sum_add(struct sum *d, const struct sum *s, unsigned shift)
{
	d->known = d->known && s->known && d->n + s->n <= SUM;
	if (!d->known)
		return;
	for (unsigned k = 0; k < s->n; k++) {
		d->term[d->n].reg = s->term[k].reg;
		d->term[d->n].shift = (uint8_t)(s->term[k].shift + shift);
		d->known = d->known && d->term[d->n++].shift <= 12;
	}
	d->off += s->off * (1 << shift);
	d->known = d->known && d->off <= INT32_MAX && d->off >= INT32_MIN;
}

/* What a 64-bit ADD, SUB, MOV or LSL gives; of others nothing is known. */
static struct sum
value(const struct insn *in, const struct sum *now)
{
	unsigned immr = (unsigned)FIELD(in->word, 16, 6), imms = (unsigned)FIELD(in->word, 10, 6);
	struct sum v = { .known = true }, imm = { .known = true, .off = in->imm };

	if ((in->word & 0xffe00000) == 0x8b000000 && imms <= 4) { /* ADD Xd, Xn, Xm, LSL #imms */
		sum_add(&v, &now[in->rn], 0);
		sum_add(&v, &now[in->rm], imms);
	} else if ((in->word & 0xffe0ffe0) == 0xaa0003e0) { /* MOV Xd, Xm */
		v = now[in->rm];
	} else if ((in->word & 0xffc00000) == 0xd3400000 && imms + 1 == immr && imms >= 51) {
		sum_add(&v, &now[in->rn], 63 - imms);       /* LSL Xd, Xn, #63 - imms */
	} else if ((in->word & 0xbf800000) == 0x91000000) { /* ADD, SUB Xd, Xn, #imm */
		if ((in->word & (1u << 30)) != 0)
			imm.off = -imm.off;
		sum_add(&v, &now[in->rn], 0);
		sum_add(&v, &imm, 0);
	} else
		v.known = false;
	return (v);
}

/* now[] behind instruction `in`. */
static void
follow(const struct insn *in, struct sum *now)
{
	struct access a;
	int32_t by;
	unsigned r = moved_by(in, &by);

	if (r != REG_ZR)
		now[r].off += by;
	if (g_access(in, &a)) {
		if (!a.vector && !a.write && in->rd != REG_ZR)
			now[in->rd].known = false;
		if (!a.vector && !a.write && a.pair && in->ra != REG_ZR)
			now[in->ra].known = false;
	} else if (r == REG_ZR && !jit_is_branch(in) && in->rd != REG_ZR && g_writes(in, in->rd))
		now[in->rd] = value(in, now);
}

/* The stream *s of an access whose base or index is made anew in each round. */
static bool
place_sum(struct stream *s, const struct insn *in, const struct access *a, const struct motion *m,
    const struct sum *now)
{
	struct sum sum = { .known = true, .off = a->mode == M_POST || s->indexed ? 0 : in->imm };
	int64_t step = 0;

	if (in->rn == REG_SP || (s->indexed && FIELD(in->word, 13, 3) != 3))
		return (false);
	sum_add(&sum, &now[in->rn], 0);
	if (s->indexed)
		sum_add(&sum, &now[in->rm], s->scale);
	if (!sum.known || sum.n == 0)
		return (false);
	for (unsigned k = 0; k < sum.n; k++)
		step += (int64_t)m[sum.term[k].reg].step * (1 << sum.term[k].shift);
	if (step > NEAR || step < -NEAR || sum.off > 8192 || sum.off < -8192)
		return (false);
	s->nterms = sum.n;
	memcpy(s->term, sum.term, sizeof(s->term));
	s->step = (int32_t)step;
	s->lo = (int32_t)sum.off;
	return (true);
}

/* The same with a base and index that only move by constants. */
static bool
place_moving(struct stream *s, const struct insn *in, const struct access *a,
    const struct motion *m, const struct sum *now)
{
	int64_t off = now[in->rn].off + (int64_t)(a->mode == M_POST || s->indexed ? 0 : in->imm);
	int64_t step = m[in->rn].step;

	if (s->indexed) {
		if (m[in->rm].moves && (in->rm == in->rn || FIELD(in->word, 13, 3) != 3))
			return (false);
		off += now[in->rm].off * (1 << s->scale);
		step += (int64_t)m[in->rm].step * (1 << s->scale);
	}
	if (step > FAR || step < -FAR || off > 8192 || off < -8192 ||
	    (in->rn == REG_SP && m[in->rn].moves))
		return (false);
	s->step = (int32_t)step;
	s->lo = (int32_t)off;
	s->fold_base = !m[in->rn].moves;
	s->fold_index = s->indexed && !m[in->rm].moves;
	/* An index times 16 is no operand. */
	if (s->scale > 3 && !(s->fold_index || m[in->rn].moves))
		s->fold_base = false;
	return (true);
}

/* Do the addresses of both differ by a constant, and are they found alike in the loop? */
static bool
same_stream(const struct stream *o, const struct stream *s)
{
	if (o->nterms != s->nterms)
		return (false);
	if (s->nterms != 0)
		return (memcmp(o->term, s->term, sizeof(s->term)) == 0);
	if (o->in->rn != s->in->rn || o->indexed != s->indexed)
		return (false);
	return (!s->indexed || (o->in->rm == s->in->rm && o->scale == s->scale &&
				   FIELD(o->in->word, 13, 3) == FIELD(s->in->word, 13, 3)));
}

/* The stream that the access of instruction `i` belongs to. */
static void
place(struct tr *t, unsigned i, const struct motion *m, const struct sum *now)
{
	const struct insn *in = &t->page->insn[i];
	struct loop *l = &t->loop;
	struct stream s = { .in = in };
	struct access a;

	if (!g_access(in, &a))
		return;
	s.write = a.write;
	s.indexed = a.mode == M_REG;
	if (s.indexed && FIELD(in->word, 12, 1) != 0)
		s.scale = (uint8_t)__builtin_ctz((unsigned)a.len);
	if (m[in->rn].erratic || (s.indexed && m[in->rm].erratic)) {
		if (!place_sum(&s, in, &a, m, now))
			return;
	} else if (!place_moving(&s, in, &a, m, now))
		return;
	s.hi = s.lo + a.len;
	for (unsigned k = 0; k < l->nstreams; k++) {
		struct stream *o = &l->stream[k];
		int32_t lo = o->lo < s.lo ? o->lo : s.lo, hi = o->hi > s.hi ? o->hi : s.hi;

		if (hi - lo > WIDE || !same_stream(o, &s))
			continue;
		o->lo = lo;
		o->hi = hi;
		o->write |= s.write;
		l->use[i - t->start] = (uint8_t)(k + 1);
		return;
	}
	if (l->nstreams == STREAMS)
		return;
	l->stream[l->nstreams] = s;
	l->use[i - t->start] = (uint8_t)++l->nstreams;
}

/* Does the loop end in CMP Rn, #imm and B.cond, with Rn there after few steps from 0? */
static bool
is_short(const struct tr *t, const struct motion *m)
{
	const struct insn *in;

	if (t->loop.at == t->start)
		return (false);
	in = &t->page->insn[t->loop.at - 1];
	return ((in->word & 0x7f80001f) == 0x7100001f &&
		jit_lowering[in[1].op].fn == lower_b_cond && !m[in->rn].erratic &&
		m[in->rn].step > 0 && in->imm <= FEW * m[in->rn].step);
}

void
strip_find(struct tr *t)
{
	struct motion m[36];
	struct sum now[36];
	struct loop *l = &t->loop;

	memset(m, 0, sizeof(m));
	memset(now, 0, sizeof(now));
	memset(l->use, 0, sizeof(l->use));
	l->nstreams = 0;
	for (unsigned i = t->start; i <= l->at; i++) {
		const struct insn *in = &t->page->insn[i];

		if ((i != t->start && t->label[i - t->start]) || !note(in, m))
			return;
		if (jit_is_branch(in) && i != l->at &&
		    (jit_lowering[in->op].fn == lower_b ||
			(int32_t)(i * 4) + in->imm == (int32_t)(t->start * 4)))
			return;
	}
	if (is_short(t, m))
		return;
	for (unsigned r = 0; r < 36; r++) {
		now[r].known = !m[r].erratic;
		now[r].term[0].reg = (uint8_t)r;
		now[r].n = 1;
	}
	now[REG_ZR] = (struct sum){ .known = true };
	for (unsigned i = t->start; i <= l->at; i++) {
		place(t, i, m, now);
		follow(&t->page->insn[i], now);
	}
}

bool
strip_operand(struct tr *t, const struct insn *in, struct x86_mem *m)
{
	unsigned use = t->strip ? t->loop.use[t->i - t->start] : 0;
	struct x86 *x = &t->x;
	const struct stream *s;
	struct access a;
	int32_t disp;
	int r;

	if (use == 0 || !g_access(in, &a))
		return (false);
	s = &t->loop.stream[use - 1];
	disp = a.mode == M_REG || a.mode == M_POST ? 0 : in->imm;
	if (s->nterms != 0 && a.mode == M_REG) {
		g_index(t, in, (unsigned)__builtin_ctz((unsigned)a.len));
		*m = x_memx(RAX, RDX, 0, 0);
	} else if (s->nterms != 0) {
		r = g_read(t, true, in->rn, RAX);
		*m = x_memx(r, RDX, 0, disp);
	} else if (s->indexed && !s->fold_base && !s->fold_index) {
		g_index(t, in, s->scale);
		*m = x_memx(RAX, RDX, 0, 0);
	} else if (s->fold_base && (s->fold_index || !s->indexed))
		*m = x_mem(RDX, disp);
	else if (s->fold_base) {
		r = g_read(t, true, in->rm, RAX);
		*m = x_memx(RDX, r, s->scale, 0);
	} else {
		r = g_read(t, true, in->rn, RAX);
		*m = x_memx(r, RDX, 0, disp);
	}
	x_load(x, true, RDX, x_mem(RSP, STREAM_AT(use - 1)));
	return (true);
}

void
strip_leave(struct tr *t, bool strip)
{
	if (strip)
		x_alu_mem(&t->x, false, X_ADD, R13, x_mem(RSP, STASH_AT));
}

void
strip_end(struct tr *t)
{
	t->strip = false;
	if (t->ended)
		return;
	x_load(&t->x, false, RCX, x_mem(RSP, STASH_AT));
	x_lea(&t->x, false, R13, x_memx(R13, RCX, 0, 0));
}

/* EAX = rounds, from the address in RAX on: a multiplication stands for a division. */
static void
rounds(struct tr *t, const struct stream *s)
{
	struct x86 *x = &t->x;
	uint32_t step = (uint32_t)(s->step < 0 ? -s->step : s->step);

	if (s->step > 0)
		x_not(x, false, RAX);
	x_alu_imm(x, false, X_AND, RAX, 4095);
	if (s->step > 0 && s->hi - s->lo > 1)
		x_alu_imm(x, false, X_SUB, RAX, s->hi - s->lo - 1);
	if ((step & (step - 1)) == 0)
		x_shift(x, false, X_SHR, RAX, (unsigned)__builtin_ctz(step));
	else {
		x_imul_imm(x, false, RAX, RAX, (int32_t)(65536 / step));
		x_shift(x, false, X_SHR, RAX, 16);
	}
	x_alu_imm(x, false, X_ADD, RAX, 1);
}

/* RAX = the sum that is the address of stream s, without s->lo. Uses RCX. */
static void
load_sum(struct tr *t, const struct stream *s)
{
	struct x86 *x = &t->x;

	for (unsigned k = 0; k < s->nterms; k++) {
		unsigned shift = s->term[k].shift;
		int d = k == 0 ? RAX : RCX;

		g_load(t, true, d, s->term[k].reg);
		if (shift != 0)
			x_shift(x, true, X_SHL, d, shift);
		if (k != 0)
			x_alu(x, true, X_ADD, RAX, RCX);
	}
}

/* Look up stream k and let r13 not be more than the rounds on its page. Where it missed. */
static uint8_t *
enter(struct tr *t, unsigned k)
{
	const struct stream *s = &t->loop.stream[k];
	int32_t table =
	    s->write ? (int32_t)offsetof(struct tlb, wr) : (int32_t)offsetof(struct tlb, rd);
	struct x86_mem entry = x_memx(R14, RCX, 0, table);
	struct x86 *x = &t->x;
	uint8_t *miss, *enough;

	if (s->nterms != 0)
		load_sum(t, s);
	else if (s->indexed)
		g_index(t, s->in, s->scale);
	else
		g_load(t, true, RAX, s->in->rn);
	if (s->lo != 0)
		x_alu_imm(x, true, X_ADD, RAX, s->lo);
	x_rorx(x, false, RCX, RAX, 8);
	x_alu_imm(x, false, X_AND, RCX, (TLB_SIZE - 1) << 4);
	x_lea(x, true, RDX, x_mem(RAX, s->hi - s->lo - 1));
	x_alu_imm(x, true, X_AND, RDX, -4096);
	x_alu_mem(x, true, X_CMP, RDX, entry);
	miss = x_jcc(x, CC_NE);
	entry.disp += 8;
	x_load(x, true, RDX, entry);
	if (s->fold_base && (s->fold_index || !s->indexed))
		x_lea(x, true, RDX, x_memx(RDX, RAX, 0, -s->lo));
	else if (s->fold_base)
		x_alu(x, true, X_ADD, RDX, g_read(t, true, s->in->rn, RCX));
	else if (s->fold_index) {
		x_lea(x, true, RDX, x_memx(RDX, RAX, 0, -s->lo));
		x_alu(x, true, X_SUB, RDX, g_read(t, true, s->in->rn, RCX));
	}
	x_store(x, true, x_mem(RSP, STREAM_AT(k)), RDX);
	if (s->step == 0)
		return (miss);
	rounds(t, s);
	x_imul_imm(x, false, RAX, RAX, (int32_t)(t->loop.at - t->start + 1));
	x_mov(x, false, RCX, R13);
	x_alu(x, false, X_SUB, RCX, RAX);
	enough = x_jcc(x, CC_LE);
	x_rm(x, false, 0x01, RCX, x_mem(RSP, STASH_AT)); /* add */
	x_mov(x, false, R13, RAX);
	x_here(x, enough);
	return (miss);
}

void
strip_emit(struct tr *t)
{
	struct x86 *x = &t->x;
	uint8_t *miss[STREAMS + 1];
	unsigned n = 0;
	bool aligned = false; /* SP was looked at */

	t->loop.strip = x->p;
	x_store_imm(x, false, x_mem(RSP, STASH_AT), 0);
	for (unsigned k = 0; k < t->loop.nstreams; k++) {
		if (t->loop.stream[k].in->rn == REG_SP && !aligned) {
			aligned = true;
			x_test_imm8(x, jit_map[REG_SP], 15);
			miss[n++] = x_jcc(x, CC_NE);
		}
		miss[n++] = enter(t, k);
	}
	x_patch(x, x_jmp(x), t->loop.entry);
	while (n > 0)
		x_here(x, miss[--n]);
	/* A round by the code that looks everything up. */
	strip_leave(t, true);
	t->v = t->loop.v;
	t_resolve_as(t, &t->loop.late);
	v_store_all(t, &t->loop.v);
	x_patch(x, x_jmp(x), t->entry);
}
