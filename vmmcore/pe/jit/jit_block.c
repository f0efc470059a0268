/*
 * One block: its instructions in a row, joined by forward branches, once more
 * as a loop when one of them goes back to its start, and the code out of line.
 * The instructions themselves are lowered by lower_*.c.
 */
#include "pe/jit/lower.h"

/* Does the state at this branch back to the start hold what the loop relies on? */
static bool
loop_fits(const struct tr *t, const struct cold *c)
{
	const struct loop *l = &t->loop;

	if (l->entry == NULL || (uint32_t)c->target != t->start * 4)
		return (false);
	if ((l->fp_ok && !c->fp_ok) || (l->fp_plain && !c->fp_plain))
		return (false);
	if (l->late.at != LATE_NONE && memcmp(&l->late, &c->late, sizeof(l->late)) != 0)
		return (false);
	/* What is zero after the whole body is so each time. */
	return (c->i == l->at || v_keeps_zero(&l->v, &c->v));
}

void
t_moves(struct tr *t, const struct vcache *v, const struct vcache *l)
{
	struct x86 *x = &t->x;

	for (int i = 0; i < V_COUNT; i++)
		if (v->reg[i] >= 0 && (v->dirty >> i & 1) != 0 &&
		    (v->reg[i] != l->reg[i] || (l->dirty >> i & 1) == 0))
			x_movups_store(x, v_mem((unsigned)v->reg[i]), V_FIRST + i);
	for (int i = 0; i < V_COUNT; i++)
		if (l->reg[i] >= 0 && v->reg[i] != l->reg[i])
			x_movups_load(x, V_FIRST + i, v_mem((unsigned)l->reg[i]));
}

/*
 * A forward branch inside of the block. The instructions that it skips are
 * counted like all others where the block is left: take them back.
 */
static void
emit_join(struct tr *t, const struct cold *c)
{
	strip_leave(t, c->strip);
	if (c->late_out)
		t_resolve_as(t, &c->late);
	t_moves(t, &c->v, &c->v_back);
	x_alu_imm(&t->x, false, X_ADD, R13, c->target / 4 - (int32_t)c->i - 1);
	x_patch(&t->x, x_jmp(&t->x), c->back);
}

/* Leave the loop at its start, where the slice is used up. */
static void
emit_poll(struct tr *t, bool strip)
{
	if (strip) {
		strip_leave(t, true);
		x_patch(&t->x, x_jcc(&t->x, CC_G), t->loop.strip);
	}
	t->v = t->loop.v;
	t_resolve_as(t, &t->loop.late);
	v_store_all(t, &t->loop.v);
	t_pc(t, RAX, (int32_t)t->start * 4);
	x_patch(&t->x, x_jmp(&t->x), t->j->leave_pc);
}

/* Back to the start, with the V registers where the loop wants them. */
static void
emit_loop(struct tr *t, const struct cold *c)
{
	const struct vcache *l = &t->loop.v, *v = &c->v;
	struct x86 *x = &t->x;

	if (t->loop.late.at == LATE_NONE)
		t_resolve_as(t, &c->late);
	t_moves(t, v, l);
	t_count(t);
	x_patch(
	    x, x_jcc(x, CC_G), t->loop.strip != NULL && !c->strip ? t->loop.strip : t->loop.entry);
	emit_poll(t, c->strip);
}

bool
t_loop(struct tr *t, int cc)
{
	struct cold c = { .late = t->late,
		.v = t->v,
		.fp_ok = t->fp_ok,
		.fp_plain = t->fp_plain,
		.i = t->i,
		.target = (int32_t)t->start * 4 };
	struct x86 *x = &t->x;
	uint8_t *no = NULL;

	if (t->loop.nstreams != 0 && !t->strip)
		return (false);
	if (!loop_fits(t, &c) || (t->loop.late.at == LATE_NONE && c.late.at != LATE_NONE))
		return (false);
	if (cc >= 0)
		no = x_jcc(x, (unsigned)cc ^ 1);
	t_moves(t, &c.v, &t->loop.v);
	t_count(t);
	x_patch(x, x_jcc(x, CC_G), t->loop.entry);
	t_cold(t, COLD_POLL, x_jmp(x), 0);
	if (no != NULL)
		x_here(x, no);
	return (true);
}

static void
emit_cold(struct tr *t, const struct cold *c)
{
	struct x86 *x = &t->x;
	enum cold_kind kind = c->kind;
	uint8_t *leave;

	x_here(x, c->from);
	t->i = c->i;
	t->v = c->v;
	/* Handlers of loads and stores may change what the streams rely on. */
	if (c->strip && kind == COLD_SLOW && (FIELD(t->page->insn[c->i].word, 25, 4) & 5) == 4)
		kind = COLD_SPLIT;
	switch (kind) {
	case COLD_CODE:
		c->code(t, c);
		/* FALLTHROUGH */
	case COLD_SLOW:
		t_resolve_as(t, &c->late);
		v_store_all(t, &c->v);
		t_insn(t, c->i);
		x_call(x, jit_uses_fpsr(t->page->insn[c->i].op) ? t->j->call_fp : t->j->call);
		leave = x_jcc(x, CC_NE);
		t_leave_if_changed(t);
		v_load_all(t, &c->v_back);
		x_patch(x, x_jmp(x), c->back);
		x_here(x, leave);
		/* FALLTHROUGH */
	case COLD_LEAVE:
		strip_leave(t, c->strip);
		x_const(x, RCX, c->i - t->start + 1);
		x_patch(x, x_jmp(x), t->j->leave_count);
		break;
	case COLD_STEP:
		strip_leave(t, c->strip);
		t_resolve_as(t, &c->late);
		v_store_all(t, &c->v);
		if (c->i != t->start)
			x_alu_imm(x, false, X_SUB, R13, (int32_t)(c->i - t->start));
		x_const(x, RAX, c->i * 4);
		x_patch(x, x_jmp(x), t->j->step);
		break;
	case COLD_SPLIT:
		strip_leave(t, c->strip);
		t_resolve_as(t, &c->late);
		v_store_all(t, &c->v);
		t_insn(t, c->i);
		x_call(x, jit_uses_fpsr(t->page->insn[c->i].op) ? t->j->call_fp : t->j->call);
		leave = x_jcc(x, CC_NE);
		t_goto(t, (int32_t)(c->i * 4 + 4));
		x_here(x, leave);
		x_const(x, RCX, c->i - t->start + 1);
		x_patch(x, x_jmp(x), t->j->leave_count);
		break;
	case COLD_POLL:
		emit_poll(t, c->strip);
		break;
	case COLD_JOIN:
		if (c->back != NULL) {
			emit_join(t, c);
			break;
		}
		/* FALLTHROUGH */
	case COLD_TAKEN:
		if (loop_fits(t, c)) {
			emit_loop(t, c);
			break;
		}
		strip_leave(t, c->strip);
		t_resolve_as(t, &c->late);
		v_store_all(t, &c->v);
		t_goto(t, c->target);
		break;
	}
}

/* Zero parts of V registers that are so in both states. */
static void
keep_common(struct vcache *v, const struct vcache *other)
{
	for (int i = 0; i < V_COUNT; i++) {
		uint16_t bit = (uint16_t)(1u << i);

		if (v->reg[i] != other->reg[i] || (other->zero_d & bit) == 0)
			v->zero_d &= (uint16_t)~bit;
		if (v->reg[i] != other->reg[i] || (other->zero_s & bit) == 0)
			v->zero_s &= (uint16_t)~bit;
	}
}

/*
 * Instruction i is reached by forward branches of the block, and from the
 * instruction before unless that one ended a way: all come in the same state.
 * False: by nobody.
 */
static bool
emit_label(struct tr *t, unsigned i)
{
	struct cold *first = NULL, *end = &t->cold[t->ncold];
	bool out = t_flags_wanted(t, i), same = true;
	struct late late = t->late;

	for (struct cold *c = &t->cold[t->pass]; c < end; c++) {
		if (c->kind != COLD_JOIN || c->target != (int32_t)(i * 4))
			continue;
		if (first == NULL) {
			first = c;
			if (t->ended) {
				late = c->late;
				t->v = c->v;
				t->fp_ok = c->fp_ok;
				t->fp_plain = c->fp_plain;
			}
		}
		same = same && memcmp(&c->late, &late, sizeof(late)) == 0;
		t->fp_ok = t->fp_ok && c->fp_ok;
		t->fp_plain = t->fp_plain && c->fp_plain;
		keep_common(&t->v, &c->v);
	}
	if (first == NULL)
		return (!t->ended);
	/* What the comparison reads was followed along the instructions only. */
	if (same && t->ended && late.at != LATE_NONE)
		same = middle_keeps_late(t, i, &late);
	if (out && !same && !t->ended)
		t_resolve(t);
	t->late = late;
	if (!same)
		t->late.at = LATE_NONE;
	for (struct cold *c = first; c < end; c++)
		if (c->kind == COLD_JOIN && c->target == (int32_t)(i * 4)) {
			c->back = t->x.p;
			c->v_back = t->v;
			c->late_out = out && !same;
		}
	t->hf = HF_NONE;
	t->known = REG_ZR;
	t->ended = false;
	return (true);
}

/* Where forward branches may stay in the block. */
static void
find_labels(struct tr *t)
{
	unsigned end = t->start + t->j->block_max;

	if (end > CODEPAGE_INSNS)
		end = CODEPAGE_INSNS;
	for (unsigned i = t->start; i < end; i++) {
		const struct insn *in = &t->page->insn[i];
		int32_t to = (int32_t)i + in->imm / 4;

		if (jit_is_branch(in) && to > (int32_t)i && to < (int32_t)end)
			t->label[(unsigned)to - t->start] = true;
	}
}

/* Does a forward branch of the block lead beyond instruction i, which nothing reaches? */
static bool
goes_on(const struct tr *t, unsigned i)
{
	for (unsigned c = t->pass; c < t->ncold; c++)
		if (t->cold[c].kind == COLD_JOIN && t->cold[c].target > (int32_t)(i * 4))
			return (true);
	return (false);
}

/* The instructions of the block, without its out-of-line code; where they end. */
static unsigned
emit_body(struct tr *t)
{
	unsigned i;

	memset(t->member, 0, sizeof(t->member));
	memset(t->slot_end, 0, sizeof(t->slot_end));
	t->pass = t->ncold;
	for (i = t->start; i < CODEPAGE_INSNS && i - t->start < t->j->block_max; i++) {
		const struct insn *in = &t->page->insn[i];

		if (t->label[i - t->start] ? !emit_label(t, i) : t->ended) {
			if (!goes_on(t, i))
				break;
			continue;
		}
		t->i = i;
		if (t->loop.wanted[i - t->start] && t->loop.entry != NULL)
			middle_label(t);
		t->hf_before = t->hf;
		t->hf = HF_NONE;
		if (jit_lowering[in->op].fn != NULL)
			jit_lowering[in->op].fn(t, in);
		else
			t_handler(t, in);
		t_slow_back(t);
		if (t->strip && i == t->loop.at)
			strip_end(t);
		if ((jit_lowering[in->op].attr & A_SETF) != 0 && t->late.at != i)
			t->late.at = LATE_NONE;
		if ((jit_lowering[in->op].attr & A_LAST) != 0) {
			i++;
			break;
		}
	}
	if (!t->ended) {
		t->i = i - 1;
		t_settle(t);
		t_goto(t, (int32_t)(i * 4));
	}
	return (i);
}

/* The same again as a loop, when it is one: it keeps V registers and late flags. */
static void
emit_loop_body(struct tr *t, unsigned end)
{
	const struct cold *back = NULL;

	/* Room for as much again; out-of-line code takes 360 bytes at most. */
	if (t->ncold > 2 * JIT_BLOCK_MAX ||
	    (size_t)(t->x.p - t->j->free) + t->ncold * 360u > JIT_ROOM / 2)
		return;
	for (unsigned c = 0; c < t->ncold && back == NULL; c++)
		if (t->cold[c].kind == COLD_TAKEN && (uint32_t)t->cold[c].target == t->start * 4)
			back = &t->cold[c];
	if (back == NULL)
		return;
	/* Nothing falls into it. */
	while (((uintptr_t)t->x.p & 31) != 0 && !t->x.overflow)
		x_byte(&t->x, 0xcc);
	t->loop.entry = t->x.p;
	t->loop.late = back->late;
	if (!back->late.again)
		t->loop.late.at = LATE_NONE;
	t->loop.v = t->v = back->v;
	t->late = t->loop.late;
	t->loop.fp_ok = t->fp_ok = back->fp_ok;
	t->loop.fp_plain = t->fp_plain = back->fp_plain;
	t->loop.at = back->i;
	t->hf = HF_NONE;
	t->known = REG_ZR;
	t->ended = t->joined = false;
	if (!t->pe->cfg.jit_strict) /* a store in the loop may have to go the slow way */
		strip_find(t);
	t->strip = t->loop.nstreams != 0;
	middle_find(t, end);
	emit_body(t);
	t->strip = false;
	if (t->loop.nstreams != 0)
		strip_emit(t);
}

uint8_t *
jit_translate_block(struct pe *pe, struct codepage *page, unsigned start)
{
	struct jit *j = pe->jit;
	struct tr t;

	memset(&t, 0, offsetof(struct tr, cold));
	t.x.p = j->free;
	t.x.end = j->limit;
	t.x.rx = j->rx - j->rw;
	t.pe = pe;
	t.j = j;
	t.page = page;
	t.start = start;
	t.entry = t.x.p;
	t.known = REG_ZR;
	t.late.at = LATE_NONE;
	v_forget(&t);
	find_labels(&t);
	emit_loop_body(&t, emit_body(&t));
	for (unsigned c = 0; c < t.ncold; c++)
		emit_cold(&t, &t.cold[c]);
	if (t.x.overflow)
		return (NULL);
	j->blocks++;
	pe->count.jit_blocks++;
	pe->count.jit_bytes += (uint64_t)(t.x.p - j->free);
	j->bytes += (uint64_t)(t.x.p - j->free);
	if (j->perf != NULL)
		jit_perf_block(j->perf, page->pa + start * 4, jit_rx(j, t.entry), t.entry,
		    (size_t)(t.x.p - t.entry));
	j->free = (uint8_t *)(((uintptr_t)t.x.p + 15) & ~(uintptr_t)15);
	return (t.entry);
}
