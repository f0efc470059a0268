/*
 * The performance monitors, FEAT_PMUv3 (DDI 0487, D13).
 *
 * Nothing counts on a fast path: the PE knows how many instructions it has
 * executed (pe->count), and while a counter is enabled the run loop hands the
 * difference to the counters each time it comes by, which it does at every
 * change of level. A cycle is an instruction. Events that ask what an instruction
 * is (loads, stores, branches) make the run loop go word by word.
 */
#ifndef PE_PMU_H
#define PE_PMU_H

#include "pe/pe_internal.h"

#define PMU_COUNTERS 6
#define PMU_CYCLES 31 /* bit of the cycle counter */

void pmu_reset(struct pe *);
/* Hand out what was counted since the last time. Call while pe->pmu.on. */
void pmu_sync(struct pe *);
/* Before instructions run: at which level, and not far past an overflow. */
void pmu_before_run(struct pe *);
/* MDCR_EL2 was written, or another register that says who counts. */
void pmu_changed(struct pe *);
/* An instruction has been executed, and pe->pmu.each is set. */
void pmu_saw(struct pe *, uint32_t word);
/*
 * Is pe->count right at the instruction `in`? Where it lags it is by what was
 * executed since the last branch: then run it again, from the run loop (INSN_EXC).
 */
bool pmu_exact(struct pe *, const struct insn *);

#endif /* PE_PMU_H */
