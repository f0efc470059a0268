/*
 * One look into the TLB for several accesses: loads and stores of a block that
 * have the same base register and lie close together, or the same base and
 * index. The first of them checks the page of all and keeps what is to be added
 * to an address on the stack; the others take it from there and cannot miss.
 *
 * A load may stand for a store that follows it for certain: it looks where
 * stores do, in entries that may be read too. A page that lacks such an entry
 * gets one by the store, which is made by itself then.
 *
 * What the first one finds holds until the block ends: translations change in
 * handlers that leave, or at polls. Where the check fails the handler does the
 * first access, and the block is left behind it.
 *
 * Not here: the accesses themselves (lower_mem.c).
 */
#include "pe/jit/lower.h"

bool
g_access(const struct insn *in, struct access *a)
{
	lower_fn fn = jit_lowering[in->op].fn;
	uint32_t word = in->word;

	a->vector = FIELD(word, 26, 1) != 0;
	if (fn == lower_load || fn == lower_store || fn == lower_vload || fn == lower_vstore) {
		a->pair = false;
		a->write = fn == lower_store || fn == lower_vstore;
		a->mode = mode_of(word);
		a->len = 1 << (FIELD(word, 30, 2) | (a->vector ? FIELD(word, 23, 1) << 2 : 0));
	} else if (fn == lower_load_pair || fn == lower_store_pair || fn == lower_vload_pair ||
		   fn == lower_vstore_pair) {
		a->pair = true;
		a->write = fn == lower_store_pair || fn == lower_vstore_pair;
		a->mode = pair_mode_of(word);
		a->len = a->vector ? 8 << FIELD(word, 30, 2) : is_x(in) ? 16 : 8;
	} else
		return (false);
	/* Those that lower_mem.c leaves to their handlers. */
	if (a->pair && !a->write && in->rd == in->ra)
		return (false);
	return (a->vector || (a->mode != M_POST && a->mode != M_PRE) ||
		(in->rd != in->rn && !(a->pair && in->ra == in->rn)));
}

bool
g_writes(const struct insn *in, unsigned r)
{
	uint32_t word = in->word;

	if (in->rd != r)
		return (false);
	if (FIELD(word, 25, 3) != 7)
		return (true);
	/* Scalar floating point: conversions of C4.1.97, bits 15:10 being 0 or bit 21. */
	if (FIELD(word, 24, 5) == 0x1e)
		return (FIELD(word, 10, 6) == 0 || FIELD(word, 21, 1) == 0);
	/* Copies may move to one. */
	return (FIELD(word, 21, 8) == 0x70);
}

/* Bytes that n accesses may lie apart: far ones are on two pages more often. */
static int32_t
reach(unsigned n)
{
	return (n < 8 ? (int32_t)(128 * n) : 1024);
}

/* Do the addresses of both differ by constants only? */
static bool
same_form(
    const struct insn *n, const struct access *a, const struct insn *in, const struct access *first)
{
	if ((a->mode == M_REG) != (first->mode == M_REG))
		return (false);
	if (a->mode != M_REG)
		return (true);
	/* option and S, with the size that S shifts by */
	return (n->rm == in->rm && FIELD(n->word, 12, 4) == FIELD(in->word, 12, 4) &&
		(FIELD(in->word, 12, 1) == 0 || a->len == first->len));
}

/*
 * Find what can share the look of `in`, whose bytes are [*lo, *hi) from its
 * base register now; mark it as a user of slot `slot`. The last one, or NULL.
 */
static const struct insn *
scan(struct tr *t, const struct insn *in, struct access *first, unsigned slot, int32_t *lo,
    int32_t *hi)
{
	const struct insn *start = &t->page->insn[t->start], *end = start + t->j->block_max;
	const struct insn *last = NULL;
	const unsigned base = in->rn;
	struct access a = *first;
	unsigned members = 1;
	bool certain = true; /* what follows is executed too */
	int32_t moved = 0;   /* the base register since then */

	if (end > &t->page->insn[CODEPAGE_INSNS])
		end = &t->page->insn[CODEPAGE_INSNS];
	for (const struct insn *n = in; n < end; n++) {
		unsigned class = (unsigned)FIELD(n->word, 25, 4);
		lower_fn fn = jit_lowering[n->op].fn;

		if (fn == NULL || (jit_lowering[n->op].attr & A_LAST) != 0)
			break;
		/* Who comes from elsewhere has not looked. */
		if (n != in && t->label[n - start])
			break;
		if ((class & 5) == 4) {
			if (n != in && !g_access(n, &a))
				break;
			if (n != in && n->rn == base && same_form(n, &a, in, first) &&
			    (first->write || !a.write || certain)) {
				int32_t from =
				    moved + (a.mode == M_POST || a.mode == M_REG ? 0 : n->imm);
				int32_t new_lo = from < *lo ? from : *lo;
				int32_t new_hi = from + a.len > *hi ? from + a.len : *hi;

				if (new_hi - new_lo <= reach(members + 1)) {
					*lo = new_lo;
					*hi = new_hi;
					members++;
					first->write |= a.write;
					t->member[n - start] = (uint8_t)(slot + 1);
					last = n;
				}
			}
			if (n->rn == base && (a.mode == M_POST || a.mode == M_PRE))
				moved += n->imm;
			if (!a.vector && !a.write && (n->rd == base || (a.pair && n->ra == base)))
				break;
			if (first->mode == M_REG &&
			    (moved != 0 ||
				(!a.vector && !a.write &&
				    (n->rd == in->rm || (a.pair && n->ra == in->rm))) ||
				((a.mode == M_POST || a.mode == M_PRE) && n->rn == in->rm)))
				break;
		} else if ((class & 14) == 10) {
			if (fn != lower_b_cond && fn != lower_cbz && fn != lower_tbz &&
			    fn != lower_nop)
				break;
			certain = certain && fn == lower_nop;
		} else if (first->mode == M_REG && (g_writes(n, base) || g_writes(n, in->rm))) {
			break;
		} else if (g_writes(n, base)) {
			if (n->rn != base || (fn != lower_add_imm && fn != lower_sub_imm) ||
			    !is_x(n))
				break;
			moved += fn == lower_add_imm ? n->imm : -n->imm;
		}
		/* A base that goes far, or an SP that is not aligned any more. */
		if (moved < -4096 || moved > 4096 || (base == REG_SP && moved % 16 != 0))
			break;
	}
	return (last);
}

/* Slots are on the stack (jit.c); one is free when its last user lies behind. */
static unsigned
free_slot(const struct tr *t)
{
	unsigned i = t->i - t->start;

	for (unsigned s = 0; s < GROUP_SLOTS; s++)
		if (t->slot_end[s] <= i)
			return (s);
	return (GROUP_SLOTS);
}

bool
g_grouped(struct tr *t, const struct insn *in, struct x86_mem *m)
{
	struct x86 *x = &t->x;
	unsigned at = t->i - t->start, slot;
	const struct insn *last;
	struct access a;
	int32_t disp, lo, hi, len;
	int base = RAX;

	if (!g_access(in, &a))
		return (false);
	disp = a.mode == M_POST || a.mode == M_REG ? 0 : in->imm;
	if (t->member[at] != 0) {
		slot = t->member[at] - 1u;
		if (a.mode == M_REG) {
			g_index(t, in, (unsigned)__builtin_ctz((unsigned)a.len));
			*m = x_memx(RAX, RDX, 0, 0);
		} else
			*m = x_memx(g_base(t, in->rn, 0), RDX, 0, disp);
		x_load(x, true, RDX, x_mem(RSP, (int32_t)(8 * slot)));
		return (true);
	}
	slot = free_slot(t);
	if (slot == GROUP_SLOTS)
		return (false);
	lo = disp;
	hi = disp + a.len;
	len = a.len;
	last = scan(t, in, &a, slot, &lo, &hi);
	if (last == NULL)
		return (false);
	t->slot_end[slot] = (uint8_t)(last - &t->page->insn[t->start] + 1);
	if (in->rn == REG_SP) {
		x_test_imm8(x, jit_map[REG_SP], 15);
		t_cold(t, COLD_SPLIT, x_jcc(x, CC_NE), 0);
	}
	if (a.mode == M_REG)
		g_index(t, in, (unsigned)__builtin_ctz((unsigned)len));
	else
		base = g_base(t, in->rn, lo);
	*m = g_translate(t, base, (unsigned)(hi - lo), a.write, COLD_SPLIT);
	m->disp = disp - lo;
	x_store(x, true, x_mem(RSP, (int32_t)(8 * slot)), RDX);
	return (true);
}
