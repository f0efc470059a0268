/*
 * The translator: code memory, the fixed pieces of code, running it.
 *
 * Code memory is one memfd mapped twice, writable and executable; nothing is
 * ever both. Translation begins after an instruction was reached a few times
 * by a branch; until then, and for whatever has no lowering, the handlers of
 * the interpreter run. A block goes on over conditional branches and ends at
 * an unconditional one that none of them passes over, at the end of the page or
 * after JIT_BLOCK_MAX instructions.
 */
#include "pe/jit/jit_int.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pe/codecache.h"
#include "sys/membarrier.h"

#define CODE_SIZE (64u << 20)
#define FRAME (STASH_AT + 8) /* with six registers: aligned */
#define FIXED 4096u          /* for the fixed code */
#define THRESHOLD 6u         /* executions before translation */

/* x0 x1 x2 x3 x4 x8 x19 x20 SP */
const signed char jit_map[36] = { RBX, RBP, RSI, RDI, R8, -1, -1, -1, R9, -1, -1, -1, -1, -1, -1,
	-1, -1, -1, -1, R10, R11, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, R12, -1, -1, -1 };

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

/* Counters of handlers called, jit_calls_int up, by bits 28:25 of the word (C4.1). */
static const uint8_t call_class[16] = { 0, 0, 0, 0, 2, 0, 2, 3, 0, 0, 1, 1, 2, 0, 2, 3 };

static void
count_call(struct x86 *x)
{
	x_alu_mem_imm(x, true, X_ADD, PE_MEM(count.jit_calls), 1);
	x_load(x, false, RCX, x_mem(RAX, offsetof(struct insn, word)));
	x_shift(x, false, X_SHR, RCX, 25);
	x_alu_imm(x, false, X_AND, RCX, 15);
	x_const(x, RDX, (uint64_t)(uintptr_t)call_class);
	x_zload(x, RCX, x_memx(RDX, RCX, 0, 0), 1);
	x_alu_mem_imm(x, true, X_ADD, x_memx(R15, RCX, 3, PE_OFF(count.jit_calls_int)), 1);
}

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
	count_call(&x);
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

	jit_emit_levels(j, &x);
	assert(!x.overflow);

	j->pool = j->rw + FIXED;
	j->start = j->rw + FIXED + POOL;
	jit_ring_reset(j);
}

/* -- life --------------------------------------------------------------------------- */

size_t
jit_code_size(const struct pe_config *cfg)
{
	if (!cfg->jit)
		return (0);
	if (cfg->jit_memory >= JIT_MEMORY_MIN)
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
	uint8_t **e = jit_entries(page), *cold = jit_rx(pe->jit, pe->jit->cold);

	for (unsigned i = 0; i < CODEPAGE_INSNS; i++)
		e[i] = cold;
	memset((char *)page + JIT_COUNTS, 0, CODEPAGE_INSNS);
}

void
jit_drop_line(struct pe *pe, struct codepage *page, unsigned off)
{
	uint8_t **e = jit_entries(page), *cold = jit_rx(pe->jit, pe->jit->cold);
	unsigned last = off / 4 + 16, first = off / 4;

	first = first < JIT_BLOCK_MAX ? 0 : first - JIT_BLOCK_MAX;
	for (unsigned i = first; i < last; i++)
		e[i] = cold;
}

void
jit_reset(struct pe *pe)
{
	jit_ring_reset(pe->jit);
	pe->jit->resets++;
	pe->count.jit_resets++;
}

/* -- running --------------------------------------------------------------------------- */

/* NULL: everything was dropped, or others were served. */
static uint8_t *
translate(struct pe *pe, struct codepage *page, unsigned start)
{
	struct jit *j = pe->jit;
	unsigned block_max = j->block_max;
	uint8_t *code = NULL;

	uint32_t waits = pe->strict_waits;

	for (unsigned i = start; i < CODEPAGE_INSNS && i - start < JIT_BLOCK_MAX; i++)
		codecache_decode(pe, page, i);
	if (unlikely(waits != pe->strict_waits))
		return (NULL);
	jit_ring_room(pe);
	code = jit_translate_block(pe, page, start);
	if (code ==
	    NULL) { /* longer than the room, or more out-of-line code than a block may have */
		j->block_max = block_max < 8 ? block_max : 8;
		code = jit_translate_block(pe, page, start);
		j->block_max = block_max;
	}
	if (code != NULL)
		jit_ring_take(j, code, page, start);
	else
		codecache_drop_all(pe);
	return (code);
}

int
jit_run(struct pe *pe, struct codepage *page)
{
	struct jit *j = pe->jit;
	unsigned i = (unsigned)(pe->pc & 0xffc) >> 2;
	uint8_t *code = jit_entries(page)[i], *count = (uint8_t *)page + JIT_COUNTS + i;
	int (*enter)(struct pe *, uint8_t *);
	uint8_t *entry = jit_rx(j, j->enter);

	if (code == jit_rx(j, j->cold)) {
		if (++*count < j->threshold)
			return (JIT_COLD);
		*count = 0;
		code = translate(pe, page, i);
		if (code == NULL)
			return (INSN_EXC); /* look again */
		code = jit_rx(j, code);
		jit_entries(page)[i] = code;
	}
	pe->code_changed = false;
	memcpy(&enter, &entry, sizeof(enter));
	return (enter(pe, code));
}
