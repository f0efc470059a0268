/*
 * Ways back into the middle of a loop. Compilers put what is seldom needed
 * behind a loop, from where an unconditional branch goes on in it:
 *
 *	loop:	...
 *		b.cond	aside
 *	back:	...
 *		cbnz	loop
 *		...
 *	aside:	...
 *		b	back
 *
 * In the code of the loop (jit_block.c) `back` is a label with the state of the
 * V registers that came to it first, and `b back` jumps there when its state
 * can be made the same. Who goes aside comes back further down only, so that
 * every round passes the poll at the loop's end.
 *
 * In a loop with streams r13 is a part of the slice, good for so many rounds. A
 * way aside is charged to that part, so that the loop is entered anew somewhat
 * earlier than it had to; when it is shorter than what it skips, the difference
 * goes to the rest of the slice. The streams must be what they were, so `aside`
 * may only compute, in registers that are not of a stream.
 */
#include "pe/jit/lower.h"

/* Is what follows instruction i reached by branches only? */
static bool
leads(const struct tr *t, unsigned i)
{
	lower_fn fn = jit_lowering[t->page->insn[i].op].fn;

	return (fn == lower_b || fn == lower_bl || fn == lower_br || fn == lower_blr);
}

static unsigned
branch_target(const struct tr *t, unsigned i)
{
	return ((unsigned)((int32_t)i + t->page->insn[i].imm / 4));
}

/* The first instruction of what lies aside and ends with the branch at i. */
static unsigned
aside_of(const struct tr *t, unsigned i)
{
	while (i > t->loop.at + 1 && !leads(t, i - 1))
		i--;
	return (i);
}

/* What lies aside from `first` to `last` is reached from the loop before `to`, and no other way. */
static bool
goes_down(const struct tr *t, unsigned first, unsigned last, unsigned to, unsigned end)
{
	for (unsigned i = t->start; i < end; i++) {
		unsigned there = branch_target(t, i);

		if (!jit_is_branch(&t->page->insn[i]) || there < first || there > last)
			continue;
		if (i >= first ? i > last : i >= to)
			return (false);
	}
	return (true);
}

/* How many instructions of the loop this way passes over, at most. */
static unsigned
leaps(const struct tr *t, unsigned first, unsigned last, unsigned to)
{
	for (unsigned i = t->start; i < to; i++) {
		unsigned there = branch_target(t, i);

		if (jit_is_branch(&t->page->insn[i]) && there >= first && there <= last)
			return (to - i - 1);
	}
	return (0);
}

/* What lies aside computes only; nor does it, or what it skips, move an address. */
static bool
keeps_streams(const struct tr *t, unsigned first, unsigned last, unsigned to)
{
	for (unsigned i = first; i < last; i++) {
		const struct insn *in = &t->page->insn[i];

		if (jit_lowering[in->op].fn == NULL || (jit_lowering[in->op].attr & A_PURE) == 0 ||
		    (FIELD(in->word, 25, 4) & 5) == 4 || !strip_keeps(t, in))
			return (false);
	}
	for (unsigned i = to - leaps(t, first, last, to); i < to; i++)
		if (!strip_keeps(t, &t->page->insn[i]))
			return (false);
	return (true);
}

void
middle_find(struct tr *t, unsigned end)
{
	struct loop *l = &t->loop;

	for (unsigned i = l->at + 2; i < end; i++) {
		unsigned first, to = branch_target(t, i);

		if (jit_lowering[t->page->insn[i].op].fn != lower_b || to <= t->start || to > l->at)
			continue;
		first = aside_of(t, i);
		if (first == l->at + 1 || !goes_down(t, first, i, to, end) ||
		    (l->nstreams != 0 && !keeps_streams(t, first, i, to)))
			continue;
		l->way[i - t->start] = true;
		l->wanted[to - t->start] = t->label[to - t->start] = true;
	}
}

/*
 * Instruction t->i is where ways may come back: nothing of it may have been
 * done by the instruction before, nor wait in the host's flags.
 */
void
middle_label(struct tr *t)
{
	struct middle *m = &t->loop.middle[t->loop.nmiddles];
	const struct insn *in = &t->page->insn[t->i];

	if (t->loop.nmiddles == MIDDLES || t->joined ||
	    (t->hf != HF_NONE && (jit_lowering[in->op].attr & A_READF) != 0))
		return;
	*m = (struct middle){ .entry = t->x.p,
		.i = t->i,
		.flags = t_flags_wanted(t, t->i),
		.strip = t->strip,
		.late = t->late,
		.v = t->v,
		.fp_ok = t->fp_ok,
		.fp_plain = t->fp_plain };
	t->loop.nmiddles++;
	t->hf = HF_NONE;
	t->known = REG_ZR;
}

bool
middle_branch(struct tr *t, int32_t target)
{
	const struct loop *l = &t->loop;
	const struct middle *m = l->middle, *end = m + l->nmiddles;
	struct x86 *x = &t->x;

	if (l->entry == NULL || !l->way[t->i - t->start])
		return (false);
	while (m < end && (int32_t)(m->i * 4) != target)
		m++;
	if (m == end || (m->fp_ok && !t->fp_ok) || (m->fp_plain && !t->fp_plain) ||
	    !v_keeps_zero(&m->v, &t->v))
		return (false);
	if (m->flags && m->late.at != LATE_NONE && memcmp(&m->late, &t->late, sizeof(m->late)) != 0)
		return (false);
	if (m->flags && m->late.at == LATE_NONE)
		t_resolve(t);
	t_moves(t, &t->v, &m->v);
	x_alu_imm(x, false, X_SUB, R13, (int32_t)(t->i - m->i + 1));
	if (m->strip) {
		int32_t credit =
		    (int32_t)leaps(t, aside_of(t, t->i), t->i, m->i) - 1; /* aside is 1 or more */

		x_alu_mem(x, false, X_SUB, R13, x_mem(RSP, STASH_AT));
		if (credit > 0) {
			x_alu_imm(x, false, X_SUB, R13, credit);
			x_alu_mem_imm(x, false, X_ADD, x_mem(RSP, STASH_AT), credit);
		}
	}
	x_patch(x, x_jmp(x), m->entry);
	return (true);
}

bool
middle_keeps_late(const struct tr *t, unsigned first, const struct late *late)
{
	for (unsigned i = first; i < CODEPAGE_INSNS && i - t->start < t->j->block_max; i++) {
		const struct insn *in = &t->page->insn[i];

		if (i != first && t->label[i - t->start])
			return (false);
		if (jit_lowering[in->op].fn == lower_b)
			return (true);
		if (jit_lowering[in->op].fn == NULL || leads(t, i) || jit_is_branch(in) ||
		    (jit_lowering[in->op].attr & (A_SETF | A_LAST)) != 0 ||
		    t_changes_late(t, in, late))
			return (false);
	}
	return (false);
}
