/*
 * V registers in host registers: a cache that lives as long as the block runs
 * straight on. A V register is loaded when it is first read and stored when
 * the block is left, a handler is called, or its place is needed; out-of-line
 * code does the same from the state at its branch point.
 */
#include "pe/jit/jit_int.h"

struct x86_mem
v_mem(unsigned r)
{
	return (x_mem(R15, PE_OFF(v) + (int32_t)(16 * r)));
}

void
v_check(struct tr *t)
{
	if (t->fp_ok)
		return;
	x_cmp8_mem_imm(&t->x, PE_MEM(fp_trapped), 0);
	t_slow(t, CC_NE);
	t->fp_ok = true;
	t->hf_before = HF_NONE;
}

void
v_check_fp(struct tr *t)
{
	struct x86 *x = &t->x;

	if (t->fp_plain)
		return;
	x_load(x, false, RAX, PE_MEM(fp.fpcr));
	if (!t->fp_ok) {
		x_zload(x, RCX, PE_MEM(fp_trapped), 1);
		x_alu(x, false, X_OR, RAX, RCX);
	} else
		x_test(x, false, RAX, RAX);
	t_cold(t, COLD_STEP, x_jcc(x, CC_NE), 0);
	t->fp_ok = t->fp_plain = true;
	t->hf_before = HF_NONE;
}

void
v_set_zero_above(struct tr *t, int x, unsigned size)
{
	uint16_t bit = (uint16_t)(1u << (x - V_FIRST));

	t->v.zero_d |= bit;
	if (size == 2)
		t->v.zero_s |= bit;
}

bool
v_zero_above(const struct tr *t, int x, unsigned size)
{
	if (x < V_FIRST || x >= V_FIRST + V_COUNT)
		return (false);
	return (((size == 2 ? t->v.zero_s : t->v.zero_d) >> (x - V_FIRST) & 1) != 0);
}

bool
v_keeps_zero(const struct vcache *l, const struct vcache *v)
{
	for (unsigned i = 0; i < V_COUNT; i++) {
		unsigned zero = (l->zero_d >> i & 1u) | (l->zero_s >> i & 1u) << 1, is = 0;

		if (l->reg[i] < 0 || zero == 0)
			continue;
		if (v->reg[i] == l->reg[i])
			is = (v->zero_d >> i & 1u) | (v->zero_s >> i & 1u) << 1;
		if ((zero & ~is) != 0)
			return (false);
	}
	return (true);
}

void
v_forget(struct tr *t)
{
	memset(t->v.reg, -1, sizeof(t->v.reg));
	t->v.dirty = t->v.zero_s = t->v.zero_d = 0;
	t->fp_ok = t->fp_plain = false;
}

void
v_store_all(struct tr *t, const struct vcache *v)
{
	for (int i = 0; i < V_COUNT; i++)
		if (v->reg[i] >= 0 && (v->dirty >> i & 1) != 0)
			x_movups_store(&t->x, v_mem((unsigned)v->reg[i]), V_FIRST + i);
}

void
v_load_all(struct tr *t, const struct vcache *v)
{
	for (int i = 0; i < V_COUNT; i++)
		if (v->reg[i] >= 0)
			x_movups_load(&t->x, V_FIRST + i, v_mem((unsigned)v->reg[i]));
}

void
v_flush(struct tr *t)
{
	v_store_all(t, &t->v);
	t->v.dirty = 0;
}

static int
find(const struct tr *t, unsigned r)
{
	for (int i = 0; i < V_COUNT; i++)
		if (t->v.reg[i] == (int)r)
			return (i);
	return (-1);
}

static void
touch(struct tr *t, int i)
{
	t->v.stamp[i] = ++t->v.clock;
}

/* The place used longest ago; its register is stored when it must be. */
static int
place(struct tr *t, unsigned r)
{
	int best = 0;

	for (int i = 0; i < V_COUNT; i++) {
		if (t->v.reg[i] < 0) {
			best = i;
			break;
		}
		if (t->v.stamp[i] < t->v.stamp[best])
			best = i;
	}
	if (t->v.reg[best] >= 0 && (t->v.dirty >> best & 1) != 0)
		x_movups_store(&t->x, v_mem((unsigned)t->v.reg[best]), V_FIRST + best);
	t->v.reg[best] = (signed char)r;
	t->v.dirty &= (uint16_t) ~(1u << best);
	t->v.zero_s &= (uint16_t) ~(1u << best);
	t->v.zero_d &= (uint16_t) ~(1u << best);
	return (best);
}

int
v_read(struct tr *t, unsigned r)
{
	int i = find(t, r);

	if (i < 0 && t->redo) {
		i = (int)t->redo_loads++;
		x_movups_load(&t->x, i, v_mem(r));
		return (i);
	}
	if (i < 0) {
		i = place(t, r);
		x_movups_load(&t->x, V_FIRST + i, v_mem(r));
	}
	touch(t, i);
	return (V_FIRST + i);
}

int
v_write(struct tr *t, unsigned r)
{
	int i = find(t, r);

	if (i < 0)
		i = place(t, r);
	touch(t, i);
	t->v.dirty |= (uint16_t)(1u << i);
	t->v.zero_s &= (uint16_t) ~(1u << i);
	t->v.zero_d &= (uint16_t) ~(1u << i);
	return (V_FIRST + i);
}

int
v_modify(struct tr *t, unsigned r)
{
	(void)v_read(t, r);
	return (v_write(t, r));
}

const uint8_t *
v_const(struct tr *t, uint64_t lo, uint64_t hi)
{
	uint64_t v[2] = { lo, hi };
	struct jit *j = t->j;
	uint8_t *at;
	uint8_t *over;

	for (unsigned i = 0; i < j->npool; i++)
		if (memcmp(j->pool + 16 * i, v, 16) == 0)
			return (j->pool + 16 * i);
	if (j->npool < POOL / 16) {
		at = j->pool + 16 * j->npool++;
		memcpy(at, v, 16);
		return (at);
	}
	/* No room: in the code. */
	over = x_jmp(&t->x);
	at = t->x.p;
	x_u64(&t->x, lo);
	x_u64(&t->x, hi);
	x_here(&t->x, over);
	return (at);
}
