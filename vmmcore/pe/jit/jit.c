/*
 * The translator: code memory, the fixed pieces of code, blocks.
 *
 * Code memory is one memfd mapped twice, writable and executable; nothing is
 * ever both. Translation begins after an instruction was reached a few times
 * by a branch; until then, and for whatever has no lowering, the handlers of
 * the interpreter run. A block goes on over conditional branches and ends at
 * an unconditional one, at the end of the page or after JIT_BLOCK_MAX
 * instructions.
 */
#include "pe/jit/jit_int.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pe/codecache.h"
#include "sys/membarrier.h"

#define CODE_SIZE (64u << 20)
#define FRAME ((int32_t)(8 * GROUP_SLOTS + 8)) /* with six registers: aligned */
#define FIXED 4096u                            /* for the fixed code */
#define ROOM 65536u                            /* more than one block can need */
#define THRESHOLD 6u                           /* executions before translation */

/* x0 x1 x2 x3 x4 x8 x19 x20 SP */
const signed char jit_map[36] = { RBX, RBP, RSI, RDI, R8, -1, -1, -1, R9, -1, -1, -1, -1, -1, -1,
	-1, -1, -1, -1, R10, R11, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, R12, -1, -1, -1 };

static inline uint8_t *
to_rx(const struct jit *j, uint8_t *rw)
{
	return (rw - j->rw + j->rx);
}

static inline uint8_t **
entries(struct codepage *page)
{
	return ((uint8_t **)(void *)((char *)page + JIT_ENTRIES));
}

/* -- fixed code -------------------------------------------------------------------- */

static void
spill(struct x86 *x)
{
	for (unsigned r = 0; r < 34; r++)
		if (jit_map[r] >= 0)
			x_store(x, true, g_mem(r), jit_map[r]);
}

static void
reload(struct x86 *x)
{
	for (unsigned r = 0; r < 34; r++)
		if (jit_map[r] >= 0)
			x_load(x, true, jit_map[r], g_mem(r));
}

/* MXCSR at its default: masked, to nearest, no flags. */
#define MXCSR 0x1f80u

/* ECX = the flags of MXCSR in RCX as those of FPSR; denormal operands are none. */
static void
fpsr_flags(struct x86 *x)
{
	x_mov(x, false, RDX, RCX);
	x_alu_imm(x, false, X_AND, RCX, 1);
	x_shift(x, false, X_SHR, RDX, 1);
	x_alu_imm(x, false, X_AND, RDX, 0x1e);
	x_alu(x, false, X_OR, RCX, RDX);
}

/* Before C code: FPSR is complete. Uses RCX and RDX. */
static void
fpsr_out(struct x86 *x)
{
	x_stmxcsr(x, x_mem(RSP, -8));
	x_load(x, false, RCX, x_mem(RSP, -8));
	fpsr_flags(x);
	x_rm(x, false, 0x09, RCX, PE_MEM(fp.fpsr)); /* or */
}

/*
 * After C code, which may have computed with doubles: no flag in MXCSR that is
 * not in FPSR, and its modes are the default. Uses RCX and RDX.
 */
static void
fpsr_in(struct x86 *x)
{
	uint8_t *ok, *ok2, *load;

	x_stmxcsr(x, x_mem(RSP, -8));
	x_load(x, false, RCX, x_mem(RSP, -8));
	x_alu_imm(x, false, X_XOR, RCX, MXCSR);
	ok = x_jcc(x, CC_E);
	x_mov(x, false, RDX, RCX);
	x_alu_imm(x, false, X_AND, RDX, ~0x3f);
	load = x_jcc(x, CC_NE);
	fpsr_flags(x);
	x_load(x, false, RDX, PE_MEM(fp.fpsr));
	x_not(x, false, RDX);
	x_test(x, false, RCX, RDX);
	ok2 = x_jcc(x, CC_E);
	x_here(x, load);
	x_store_imm(x, false, x_mem(RSP, -8), MXCSR);
	x_ldmxcsr(x, x_mem(RSP, -8));
	x_here(x, ok2);
	x_here(x, ok);
}

/* pe->nzcv from the form of translated code to that of C, and back. Uses RCX and RDX. */
static void
nzcv_out(struct x86 *x)
{
	x_load(x, false, RCX, PE_MEM(nzcv));
	x_const(x, RDX, RAW_NZCV);
	x_pext(x, false, RCX, RCX, RDX);
	x_shift(x, false, X_SHL, RCX, 28);
	x_store(x, false, PE_MEM(nzcv), RCX);
}

static void
nzcv_in(struct x86 *x)
{
	x_load(x, false, RCX, PE_MEM(nzcv));
	x_shift(x, false, X_SHR, RCX, 28);
	x_const(x, RDX, RAW_NZCV);
	x_pdep(x, false, RCX, RCX, RDX);
	x_store(x, false, PE_MEM(nzcv), RCX);
}

/* pe->slice and count.insns are right for C code; and back. Uses RCX. */
static void
slice_out(struct x86 *x)
{
	x_load(x, false, RCX, PE_MEM(slice_at));
	x_alu(x, false, X_SUB, RCX, R13);
	x_sext(x, true, RCX, RCX, 4); /* within a block it may be ahead: emit_join() */
	x_rm(x, true, 0x01, RCX, PE_MEM(count.insns)); /* add */
	x_store(x, false, PE_MEM(slice), R13);
}

static void
slice_in(struct x86 *x)
{
	x_load(x, false, R13, PE_MEM(slice));
	x_store(x, false, PE_MEM(slice_at), R13);
}

static const uint8_t saved[] = { RBX, RBP, R12, R13, R14, R15 };

static void
emit_fixed(struct jit *j)
{
	struct x86 x = { j->rw, j->rw + FIXED, false, j->rx - j->rw };

	/* int enter(struct pe *, void *code) */
	j->enter = x.p;
	for (unsigned i = 0; i < sizeof(saved); i++)
		x_push(&x, saved[i]);
	x_alu_imm(&x, true, X_SUB, RSP, FRAME);
	x_lea(&x, true, R15, x_mem(RDI, PE_BIAS));
	x_mov(&x, true, RAX, RSI);
	x_load(&x, true, R14, PE_MEM(tlb));
	slice_in(&x);
	fpsr_in(&x);
	nzcv_in(&x);
	reload(&x);
	x_rr(&x, false, 0xff, 4, RAX); /* jmp rax */

	/* ECX instructions were executed; EAX is the result. */
	j->leave_count = x.p;
	x_alu(&x, false, X_SUB, R13, RCX);
	j->leave = x.p;
	slice_out(&x);
	fpsr_out(&x);
	nzcv_out(&x);
	spill(&x);
	x_alu_imm(&x, true, X_ADD, RSP, FRAME);
	for (unsigned i = sizeof(saved); i-- > 0;)
		x_pop(&x, saved[i]);
	x_ret(&x);

	/* RAX is the address to go on at. */
	j->leave_pc = x.p;
	x_store(&x, true, PE_MEM(pc), RAX);
	x_const(&x, RAX, INSN_BRANCH);
	x_patch(&x, x_jmp(&x), j->leave);

	/* An entry that is not translated: EAX is the page offset. */
	j->cold = x.p;
	x_alu_mem(&x, true, X_ADD, RAX, PE_MEM(pc_page));
	x_store(&x, true, PE_MEM(pc), RAX);
	x_const(&x, RAX, INSN_BRANCH);
	x_patch(&x, x_jmp(&x), j->leave);

	/* Call the handler of the struct insn at RAX; flags of the result. */
	j->call = x.p;
	x_alu_mem_imm(&x, true, X_ADD, PE_MEM(count.jit_calls), 1);
	slice_out(&x);
	nzcv_out(&x);
	spill(&x);
	x_alu_imm(&x, true, X_SUB, RSP, 8);
	x_mov(&x, true, RSI, RAX);
	x_lea(&x, true, RDI, x_mem(R15, -PE_BIAS));
	x_zload(&x, RAX, x_mem(RSI, 0), 2);
	x_const(&x, RCX, (uint64_t)(uintptr_t)a64_handler);
	x_rm(&x, false, 0xff, 2, x_memx(RCX, RAX, 3, 0)); /* call */
	x_alu_imm(&x, true, X_ADD, RSP, 8);
	reload(&x);
	nzcv_in(&x);
	slice_in(&x);
	x_load(&x, true, R14, PE_MEM(tlb));
	x_test(&x, false, RAX, RAX);
	x_ret(&x);

	/* The same for handlers that look at FPSR or compute. */
	j->call_fp = x.p;
	x_alu_imm(&x, true, X_SUB, RSP, 8);
	fpsr_out(&x);
	x_call(&x, j->call);
	fpsr_in(&x);
	x_alu_imm(&x, true, X_ADD, RSP, 8);
	x_test(&x, false, RAX, RAX);
	x_ret(&x);

	/* The interpreter goes on at page offset EAX. */
	j->step = x.p;
	x_alu_mem(&x, true, X_ADD, RAX, PE_MEM(pc_page));
	x_store(&x, true, PE_MEM(pc), RAX);
	x_const(&x, RAX, JIT_STEP);
	x_patch(&x, x_jmp(&x), j->leave);

	j->pool = j->rw + FIXED;
	j->start = j->rw + FIXED + POOL;
	j->free = j->start;
}

/* -- life --------------------------------------------------------------------------- */

size_t
jit_code_size(const struct pe_config *cfg)
{
	if (!cfg->jit)
		return (0);
	if (cfg->jit_memory >= 4 * ROOM)
		return ((cfg->jit_memory + 4095) & ~(size_t)4095);
	return (CODE_SIZE);
}

struct jit *
jit_create(struct pe *pe)
{
	struct jit *j;
	int fd;

	if (!__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("bmi") ||
	    !__builtin_cpu_supports("popcnt"))
		return (NULL);
	j = calloc(1, sizeof(*j));
	if (j == NULL)
		return (NULL);
	j->size = jit_code_size(&pe->cfg);
	j->threshold = pe->cfg.jit_threshold != 0 ? pe->cfg.jit_threshold : THRESHOLD;
	j->block_max = JIT_BLOCK_MAX;
	j->devices_order = sys_membarrier_private();
	if (pe->cfg.jit_block != 0 && pe->cfg.jit_block < JIT_BLOCK_MAX)
		j->block_max = pe->cfg.jit_block;
	fd = memfd_create("bhyvepy-code", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, (off_t)j->size) != 0) {
		free(j);
		if (fd >= 0)
			close(fd);
		return (NULL);
	}
	j->rw = mmap(NULL, j->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	j->rx =
	    mmap(codecache_code(pe), j->size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0);
	close(fd);
	if (j->rw == MAP_FAILED || j->rx == MAP_FAILED) {
		jit_destroy(j);
		return (NULL);
	}
	emit_fixed(j);
	if (pe->cfg.jit_perf)
		j->perf = jit_perf_open();
	return (j);
}

void
jit_destroy(struct jit *j)
{
	if (j == NULL)
		return;
	if (j->rw != MAP_FAILED)
		munmap(j->rw, j->size);
	free(j);
}

void
jit_page_init(struct pe *pe, struct codepage *page)
{
	uint8_t **e = entries(page), *cold = to_rx(pe->jit, pe->jit->cold);

	for (unsigned i = 0; i < CODEPAGE_INSNS; i++)
		e[i] = cold;
	memset((char *)page + JIT_COUNTS, 0, CODEPAGE_INSNS);
}

void
jit_drop_line(struct pe *pe, struct codepage *page, unsigned off)
{
	uint8_t **e = entries(page), *cold = to_rx(pe->jit, pe->jit->cold);
	unsigned last = off / 4 + 16, first = off / 4;

	first = first < JIT_BLOCK_MAX ? 0 : first - JIT_BLOCK_MAX;
	for (unsigned i = first; i < last; i++)
		e[i] = cold;
}

void
jit_reset(struct pe *pe)
{
	pe->jit->free = pe->jit->start;
	pe->jit->resets++;
	pe->count.jit_resets++;
}

/* -- blocks ----------------------------------------------------------------------------- */

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
	if (c->i == l->at)
		return (true);
	for (unsigned i = 0; i < V_COUNT; i++) {
		unsigned zero = (l->v.zero_d >> i & 1u) | (l->v.zero_s >> i & 1u) << 1, is = 0;

		if (l->v.reg[i] < 0 || zero == 0)
			continue;
		if (c->v.reg[i] == l->v.reg[i])
			is = (c->v.zero_d >> i & 1u) | (c->v.zero_s >> i & 1u) << 1;
		if ((zero & ~is) != 0)
			return (false);
	}
	return (true);
}

/* From the state v of the V registers to the state l. */
static void
emit_moves(struct x86 *x, const struct vcache *v, const struct vcache *l)
{
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
	if (c->late_out)
		t_resolve_as(t, &c->late);
	emit_moves(&t->x, &c->v, &c->v_back);
	x_alu_imm(&t->x, false, X_ADD, R13, c->target / 4 - (int32_t)c->i - 1);
	x_patch(&t->x, x_jmp(&t->x), c->back);
}

/* Leave the loop at its start, where the slice is used up. */
static void
emit_poll(struct tr *t)
{
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
	emit_moves(x, v, l);
	t_count(t);
	x_patch(x, x_jcc(x, CC_G), t->loop.entry);
	emit_poll(t);
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

	if (!loop_fits(t, &c) || (t->loop.late.at == LATE_NONE && c.late.at != LATE_NONE))
		return (false);
	if (cc >= 0)
		no = x_jcc(x, (unsigned)cc ^ 1);
	emit_moves(x, &c.v, &t->loop.v);
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
	uint8_t *leave;

	x_here(x, c->from);
	t->i = c->i;
	t->v = c->v;
	switch (c->kind) {
	case COLD_CODE:
		c->code(t, c);
		/* FALLTHROUGH */
	case COLD_SLOW:
		t_resolve_as(t, &c->late);
		v_store_all(t, &c->v);
		t_insn(t, c->i);
		x_call(x, jit_uses_fpsr(t->page->insn[c->i].op) ? t->j->call_fp : t->j->call);
		leave = x_jcc(x, CC_NE);
		v_load_all(t, &c->v_back);
		x_patch(x, x_jmp(x), c->back);
		x_here(x, leave);
		/* FALLTHROUGH */
	case COLD_LEAVE:
		x_const(x, RCX, c->i - t->start + 1);
		x_patch(x, x_jmp(x), t->j->leave_count);
		break;
	case COLD_STEP:
		t_resolve_as(t, &c->late);
		v_store_all(t, &c->v);
		if (c->i != t->start)
			x_alu_imm(x, false, X_SUB, R13, (int32_t)(c->i - t->start));
		x_const(x, RAX, c->i * 4);
		x_patch(x, x_jmp(x), t->j->step);
		break;
	case COLD_SPLIT:
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
		emit_poll(t);
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
	bool out = t_flags_wanted(t, i), same = !t->ended;

	for (struct cold *c = &t->cold[t->pass]; c < end; c++) {
		if (c->kind != COLD_JOIN || c->target != (int32_t)(i * 4))
			continue;
		if (first == NULL) {
			first = c;
			if (t->ended) {
				t->v = c->v;
				t->fp_ok = c->fp_ok;
				t->fp_plain = c->fp_plain;
			}
		}
		same = same && memcmp(&c->late, &t->late, sizeof(c->late)) == 0;
		t->fp_ok = t->fp_ok && c->fp_ok;
		t->fp_plain = t->fp_plain && c->fp_plain;
		keep_common(&t->v, &c->v);
	}
	if (first == NULL)
		return (!t->ended);
	if (out && !same) {
		if (!t->ended)
			t_resolve(t);
	}
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

/* The instructions of the block, without its out-of-line code. */
static void
emit_body(struct tr *t)
{
	unsigned i;

	memset(t->member, 0, sizeof(t->member));
	memset(t->slot_end, 0, sizeof(t->slot_end));
	t->pass = t->ncold;
	for (i = t->start; i < CODEPAGE_INSNS && i - t->start < t->j->block_max; i++) {
		const struct insn *in = &t->page->insn[i];

		if (t->label[i - t->start] ? !emit_label(t, i) : t->ended)
			break;

		t->i = i;
		t->hf_before = t->hf;
		t->hf = HF_NONE;
		if (jit_lowering[in->op].fn != NULL)
			jit_lowering[in->op].fn(t, in);
		else
			t_handler(t, in);
		t_slow_back(t);
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
}

/* The same again as a loop, when it is one: it keeps V registers and late flags. */
static void
emit_loop_body(struct tr *t)
{
	const struct cold *back = NULL;

	/* Room for as much again; out-of-line code takes 360 bytes at most. */
	if (t->ncold > 2 * JIT_BLOCK_MAX ||
	    (size_t)(t->x.p - t->j->free) + t->ncold * 360u > ROOM / 2)
		return;
	for (unsigned c = 0; c < t->ncold && back == NULL; c++)
		if (t->cold[c].kind == COLD_TAKEN && (uint32_t)t->cold[c].target == t->start * 4)
			back = &t->cold[c];
	if (back == NULL)
		return;
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
	emit_body(t);
}

/* Translate at most block_max instructions: the code, or NULL when something was too much. */
static uint8_t *
translate_block(struct pe *pe, struct codepage *page, unsigned start)
{
	struct jit *j = pe->jit;
	struct tr t;

	memset(&t, 0, offsetof(struct tr, cold));
	t.x.p = j->free;
	t.x.end = j->rw + j->size;
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
	emit_body(&t);
	emit_loop_body(&t);
	for (unsigned c = 0; c < t.ncold; c++)
		emit_cold(&t, &t.cold[c]);
	if (t.x.overflow)
		return (NULL);
	j->blocks++;
	pe->count.jit_blocks++;
	pe->count.jit_bytes += (uint64_t)(t.x.p - j->free);
	j->bytes += (uint64_t)(t.x.p - j->free);
	if (j->perf != NULL)
		jit_perf_block(j->perf, page->pa + start * 4, to_rx(j, t.entry), t.entry,
		    (size_t)(t.x.p - t.entry));
	j->free = (uint8_t *)(((uintptr_t)t.x.p + 15) & ~(uintptr_t)15);
	return (t.entry);
}

/* NULL: everything was dropped. */
static uint8_t *
translate(struct pe *pe, struct codepage *page, unsigned start)
{
	struct jit *j = pe->jit;
	unsigned block_max = j->block_max;
	uint8_t *code = NULL;

	if (j->free + ROOM <= j->rw + j->size) {
		for (unsigned i = start; i < CODEPAGE_INSNS && i - start < JIT_BLOCK_MAX; i++)
			codecache_decode(pe, page, i);
		code = translate_block(pe, page, start);
		if (code == NULL) { /* more out-of-line code than there is room for */
			j->block_max = block_max < 8 ? block_max : 8;
			code = translate_block(pe, page, start);
			j->block_max = block_max;
		}
	}
	if (code == NULL)
		codecache_drop_all(pe);
	return (code);
}

int
jit_run(struct pe *pe, struct codepage *page)
{
	struct jit *j = pe->jit;
	unsigned i = (unsigned)(pe->pc & 0xffc) >> 2;
	uint8_t *code = entries(page)[i], *count = (uint8_t *)page + JIT_COUNTS + i;
	int (*enter)(struct pe *, uint8_t *);
	uint8_t *entry = to_rx(j, j->enter);

	if (code == to_rx(j, j->cold)) {
		if (++*count < j->threshold)
			return (JIT_COLD);
		*count = 0;
		code = translate(pe, page, i);
		if (code == NULL)
			return (INSN_EXC); /* everything was dropped: look again */
		code = to_rx(j, code);
		entries(page)[i] = code;
	}
	memcpy(&enter, &entry, sizeof(enter));
	return (enter(pe, code));
}
