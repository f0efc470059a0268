/*
 * Exception generation, hints, barriers and the encodings of system registers
 * (DDI 0487, C4.1.93). What a system register does is sysreg.c's business, how
 * an exception is taken except.c's.
 */
#include "pe/debug.h"
#include "pe/exec_int.h"

OP(undefined)
{
	return (pe_undef(pe, in));
}

/* Hints without effect, and prefetches. */
OP(nop)
{
	(void)pe;
	(void)in;
	return (INSN_NEXT);
}

OP(svc)
{
	debug_ss_advance(pe);
	return (pe_exception(pe, 1, EC_SVC64, (uint32_t)in->imm, pe_pc(pe, in) + 4));
}

OP(hvc)
{
	return (pe_insn_hvc(pe, in, (unsigned)in->imm));
}

OP(smc)
{
	return (pe_insn_smc(pe, in, (unsigned)in->imm));
}

/* MDCR_EL2.TDE routes software breakpoints of EL1 and EL0 to EL2. */
#define MDCR_TDE BIT(8)

OP(brk)
{
	unsigned target = pe->el < 2 && (pe->sr[SR_MDCR_EL2] & MDCR_TDE) != 0 ? 2 : 1;

	return (pe_exception(pe, target, EC_BRK64, (uint32_t)in->imm, pe_pc(pe, in)));
}

/* Mostly a wait for another PE. */
OP(yield)
{
	(void)in;
	pe_relax(pe);
	return (INSN_NEXT);
}

OP(wfe)
{
	return (pe_insn_wfx(pe, in, true));
}

OP(wfi)
{
	return (pe_insn_wfx(pe, in, false));
}

OP(wfet)
{
	return (pe_insn_wfxt(pe, in, true));
}

OP(wfit)
{
	return (pe_insn_wfxt(pe, in, false));
}

OP(sev)
{
	(void)in;
	pe_sev(pe);
	return (INSN_NEXT);
}

OP(sevl)
{
	(void)in;
	pe->event = true;
	return (INSN_NEXT);
}

OP(clrex)
{
	(void)in;
	pe->excl_size = 0;
	return (INSN_NEXT);
}

OP(dsb)
{
	(void)in;
	atomic_thread_fence(memory_order_seq_cst);
	pe_dsb(pe);
	return (INSN_NEXT);
}

/*
 * a is CRm. The host is TSO: only store to load needs an instruction, so the
 * LD (x1) and ST (x2) forms order the compiler alone.
 */
OP(dmb)
{
	(void)pe;
	if ((in->a & 3) == 1 || (in->a & 3) == 2)
		atomic_signal_fence(memory_order_seq_cst);
	else
		atomic_thread_fence(memory_order_seq_cst);
	return (INSN_NEXT);
}

/* Context changes are seen by looking the next instruction up again. */
OP(isb)
{
	pe->pc = pe_pc(pe, in) + 4;
	return (INSN_EXC);
}

OP(sb)
{
	(void)pe;
	(void)in;
	atomic_thread_fence(memory_order_seq_cst);
	return (INSN_NEXT);
}

OP(mrs)
{
	return (pe_insn_mrs(pe, in));
}

OP(msr)
{
	return (pe_insn_msr(pe, in));
}

OP(msr_imm)
{
	return (pe_insn_msr_imm(pe, in));
}

OP(sys)
{
	return (pe_insn_sys(pe, in));
}

OP(sysl)
{
	return (pe_insn_sysl(pe, in));
}
