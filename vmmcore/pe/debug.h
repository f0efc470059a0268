/*
 * Self-hosted debug: breakpoints, watchpoints and software step (DDI 0487, D2).
 *
 * Nothing is looked at on a fast path. A page that holds a breakpoint has no
 * entry in the fetch TLB and runs word by word (run.c); a page that holds a
 * watchpoint has no entry in the data TLBs, and its accesses come to mmu.c;
 * while MDSCR_EL1.SS is set everything runs word by word.
 */
#ifndef PE_DEBUG_H
#define PE_DEBUG_H

#include "pe/pe_internal.h"

/*
 * A register of debug was written: look at them again, at once or when the
 * PE leaves EL2, so that a world switch that changes nothing costs nothing.
 */
void debug_changed(struct pe *);
void debug_update(struct pe *);
static inline void
debug_refresh(struct pe *pe)
{
	if (unlikely(pe->debug.stale))
		debug_update(pe);
}

/* Does a page of code or of data hold a breakpoint or a watchpoint? */
static inline bool
debug_page_breaks(const struct pe *pe, uint64_t page)
{
	for (unsigned i = 0; i < pe->debug.nbreak; i++)
		if (pe->debug.break_page[i] == page)
			return (true);
	return (pe->debug.break_any);
}

static inline bool
debug_page_watched(const struct pe *pe, uint64_t page)
{
	for (unsigned i = 0; i < pe->debug.nwatch; i++)
		if (page <= pe->debug.watch[i].last && page + 4095 >= pe->debug.watch[i].first)
			return (true);
	return (false);
}

/* Is there a breakpoint on the instruction at `pc`? INSN_EXC: the exception was taken. */
int debug_break(struct pe *, uint64_t pc);
/* Is an access of `len` bytes watched? INSN_EXC: the exception was taken. */
int debug_watch(struct pe *, const struct insn *, uint64_t va, unsigned len, unsigned acc);

/* Software step: take the exception if it is pending. */
bool debug_step_pending(struct pe *);
/* After an instruction that ran with PSTATE.SS as `ss`. */
void debug_stepped(struct pe *, const struct insn *, bool ss);
/* SSAdvance(), for SVC and HVC, which are done when their exception is taken. */
void debug_ss_advance(struct pe *);
/* DebugExceptionReturnSS(): PSTATE.SS after a return to level `el` with this SPSR. */
uint64_t debug_eret_ss(const struct pe *, uint64_t spsr, unsigned el);

#endif /* PE_DEBUG_H */
