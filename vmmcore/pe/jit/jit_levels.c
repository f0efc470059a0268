/*
 * Fixed code for what Linux does at each system call: SVC from EL0 and ERET, from
 * block to block without the run loop, and a look at the system counter.
 *
 * Both do what except.c does, with what it has put in pe->levels; anything out of
 * the ordinary (struct pe_levels is not ready, an interrupt may be due, an SPSR
 * with more than EL0t or EL1h) goes to the handler instead.
 */
#include "pe/except.h"
#include "pe/jit/jit_int.h"
#include "pe/mmu.h"

#define SR_MEM(name) x_mem(R15, PE_OFF(sr) + 8 * (int32_t)SR_##name)
#define SP_MEM(bank) x_mem(R15, PE_OFF(sp_el) + 8 * (bank))
#define TLB_MEM(kind) x_mem(R15, PE_OFF(levels.tlb) + 8 * (kind))

/* RAX is the address to go on at, in the context as it is now. */
static void
dispatch(struct jit *j, struct x86 *x)
{
	int32_t fetch = (int32_t)offsetof(struct tlb, fetch);

	x_rorx(x, false, RCX, RAX, 8);
	x_alu_imm(x, false, X_AND, RCX, (FETCH_SIZE - 1) << 4);
	x_mov(x, true, RDX, RAX);
	x_alu_imm(x, true, X_AND, RDX, ~0xffc);
	x_alu_mem(x, true, X_CMP, RDX, x_memx(R14, RCX, 0, fetch));
	x_patch(x, x_jcc(x, CC_NE), j->leave_pc);
	x_store(x, true, PE_MEM(pc_page), RDX);
	x_load(x, true, RCX, x_memx(R14, RCX, 0, fetch + 8));
	x_alu_imm(x, false, X_AND, RAX, 0xffc);
	x_jmp_mem(x, x_memx(RCX, RAX, 1, JIT_ENTRIES));
}

/* All TLBs of the context may be filled from here on. Uses RCX. */
static void
mark_dirty(struct x86 *x)
{
	_Static_assert(sizeof(((struct tlb_ctx *)0)->dirty) == 4, "it is stored as one word");
	x_load(x, true, RCX, PE_MEM(levels.dirty));
	x_store_imm(x, false, x_mem(RCX, 0), 0x01010101);
}

/* EDX is PSTATE at EL1, UAO is 0: the TLBs for it. Uses RCX and flags. */
static void
select_el1(struct x86 *x)
{
	x_load(x, true, R14, TLB_MEM(TLB_EL1));
	x_load(x, true, RCX, TLB_MEM(TLB_EL1_PAN));
	x_bt_imm(x, false, RDX, 22); /* PAN */
	x_cmov(x, true, CC_B, R14, RCX);
	x_store(x, true, PE_MEM(tlb), R14);
	x_load(x, true, RCX, TLB_MEM(TLB_EL0));
	x_store(x, true, PE_MEM(tlb_unpriv), RCX);
}

static void
set_fp_trapped(struct x86 *x, unsigned el)
{
	x_zload(x, RCX, x_mem(R15, PE_OFF(levels.fp_trapped) + (int32_t)el), 1);
	x_store8(x, PE_MEM(fp_trapped), RCX);
}

static void
emit_svc(struct jit *j, struct x86 *x, const uint8_t *slow)
{
	j->svc = x->p;
	x_cmp8_mem_imm(x, PE_MEM(levels.ready), 1);
	x_patch(x, x_jcc(x, CC_NE), slow);
	x_cmp8_mem_imm(x, PE_MEM(el), 0);
	x_patch(x, x_jcc(x, CC_NE), slow);

	x_load(x, false, RCX, x_mem(RAX, offsetof(struct insn, imm)));
	x_alu_imm(x, false, X_OR, RCX, (int32_t)((uint32_t)EC_SVC64 << 26 | (uint32_t)ESR_IL));
	x_store(x, true, SR_MEM(ESR_EL1), RCX);
	/* The address of the instruction is in that of the struct insn: pe_pc(). */
	x_alu_imm(x, false, X_AND, RAX, CODEPAGE_ALIGN - 1);
	x_shift(x, false, X_SHR, RAX, 2);
	x_alu_mem(x, true, X_ADD, RAX, PE_MEM(pc_page));
	x_alu_imm(x, true, X_ADD, RAX, 4);
	x_store(x, true, SR_MEM(ELR_EL1), RAX);

	x_load(x, false, RCX, PE_MEM(nzcv));
	x_const(x, RDX, RAW_NZCV);
	x_pext(x, false, RCX, RCX, RDX);
	x_shift(x, false, X_SHL, RCX, 28);
	x_load(x, false, RDX, PE_MEM(pstate));
	x_alu(x, false, X_OR, RCX, RDX);
	x_store(x, true, SR_MEM(SPSR_EL1), RCX);
	x_alu_imm(x, false, X_AND, RDX, (int32_t)(PS_DIT | PS_PAN));
	x_alu_mem(x, false, X_OR, RDX, PE_MEM(levels.enter));
	x_store(x, false, PE_MEM(pstate), RDX);

	x_store(x, true, SP_MEM(0), jit_map[REG_SP]);
	x_load(x, true, jit_map[REG_SP], SP_MEM(1));
	x_store8_imm(x, PE_MEM(el), 1);
	set_fp_trapped(x, 1);
	select_el1(x);
	mark_dirty(x);
	x_alu_mem_imm(x, true, X_ADD, PE_MEM(count.exc_el1), 1);
	x_load(x, true, RAX, SR_MEM(VBAR_EL1));
	x_alu_imm(x, true, X_ADD, RAX, PE_VEC_LOWER_A64 + PE_VEC_SYNC);
	dispatch(j, x);
}

static void
emit_eret(struct jit *j, struct x86 *x, const uint8_t *slow)
{
	uint8_t *el0;

	j->eret = x->p;
	x_cmp8_mem_imm(x, PE_MEM(levels.ready), 1);
	x_patch(x, x_jcc(x, CC_NE), slow);
	x_load(x, false, RCX, PE_MEM(pstate));
	x_alu_imm(x, false, X_AND, RCX, 15);
	x_alu_imm(x, false, X_CMP, RCX, 5); /* EL1h */
	x_patch(x, x_jcc(x, CC_NE), slow);
	/* Interrupts may be unmasked now. */
	x_load(x, true, RCX, PE_MEM(kick));
	x_load(x, false, RCX, x_mem(RCX, 0));
	x_alu_mem(x, false, X_OR, RCX, PE_MEM(request));
	x_alu_mem(x, false, X_OR, RCX, PE_MEM(irq_waits));
	x_patch(x, x_jcc(x, CC_NE), slow);
	x_test(x, false, R13, R13);
	x_patch(x, x_jcc(x, CC_LE), slow);
	x_load(x, false, RDX, SR_MEM(SPSR_EL1));
	x_load(x, false, RCX, PE_MEM(levels.deny));
	x_test(x, false, RDX, RCX);
	x_patch(x, x_jcc(x, CC_NE), slow);
	/* 0, 1, 4 and 5 are left of M[3:0]. */
	x_mov(x, false, RCX, RDX);
	x_alu_imm(x, false, X_AND, RCX, 15);
	el0 = x_jcc(x, CC_E);
	x_alu_imm(x, false, X_CMP, RCX, 5);
	x_patch(x, x_jcc(x, CC_NE), slow);

	/* To EL1: the stack pointer and fp_trapped stay. */
	for (unsigned el = 1; el < 2; el--) {
		if (el == 0)
			x_here(x, el0);
		x_store_imm(x, false, PE_MEM(excl_size), 0);
		x_store8_imm(x, PE_MEM(event), 1);
		x_mov(x, false, RCX, RDX);
		x_shift(x, false, X_SHR, RCX, 28);
		x_const(x, RAX, RAW_NZCV);
		x_pdep(x, false, RCX, RCX, RAX);
		x_store(x, false, PE_MEM(nzcv), RCX);
		x_alu_imm(x, false, X_AND, RDX, 0x0fffffff);
		x_store(x, false, PE_MEM(pstate), RDX);
		if (el == 1)
			select_el1(x);
		else {
			x_store(x, true, SP_MEM(1), jit_map[REG_SP]);
			x_load(x, true, jit_map[REG_SP], SP_MEM(0));
			x_store8_imm(x, PE_MEM(el), 0);
			set_fp_trapped(x, 0);
			x_load(x, true, R14, TLB_MEM(TLB_EL0));
			x_store(x, true, PE_MEM(tlb), R14);
			x_store(x, true, PE_MEM(tlb_unpriv), R14);
		}
		mark_dirty(x);
		x_load(x, true, RAX, SR_MEM(ELR_EL1));
		dispatch(j, x);
	}
}

/* The registers that C code may change, other than RAX, RCX and RDX. */
static const uint8_t volatiles[] = { RSI, RDI, R8, R9, R10, R11 };

static void
emit_counter(struct jit *j, struct x86 *x)
{
	j->counter = x->p;
	for (unsigned i = 0; i < sizeof(volatiles); i++)
		x_push(x, volatiles[i]);
	x_alu_imm(x, true, X_SUB, RSP, 8);
	x_load(x, true, RDI, PE_MEM(pins.ctx));
	x_rm(x, false, 0xff, 2, PE_MEM(pins.counter)); /* call */
	x_alu_imm(x, true, X_ADD, RSP, 8);
	for (unsigned i = sizeof(volatiles); i-- > 0;)
		x_pop(x, volatiles[i]);
	x_ret(x);
}

void
jit_emit_levels(struct jit *j, struct x86 *x)
{
	const uint8_t *slow = x->p;

	x_call(x, j->call);
	x_patch(x, x_jmp(x), j->leave);
	emit_svc(j, x, slow);
	emit_eret(j, x, slow);
	emit_counter(j, x);
}
