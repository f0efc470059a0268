/*
 * The generic timer of one PE (DDI 0487, D12): counters, the EL1 physical and
 * virtual timers, the EL2 physical timer and, with FEAT_VHE, the EL2 virtual
 * timer.
 *
 * There is no thread behind it: the run loop asks. A line is a pure function
 * of the registers and the counter. Not here: how a line becomes an interrupt
 * (gic_cpuif.c) and who emulates a timer for a guest (vmm/io/vtimer.c).
 */
#ifndef PE_TIMER_H
#define PE_TIMER_H

#include "pe/sysreg.h"

/* The EL2 virtual timer's PPI (BSA); pe.h has the others. */
#define PE_PPI_HVTIMER 28

/* CNT*_CTL */
#define CNT_CTL_ENABLE BIT(0)
#define CNT_CTL_IMASK BIT(1)
#define CNT_CTL_ISTATUS BIT(2)

/* NULL when memory is short. */
struct pe_timer *pe_timer_create(struct pe *);
void pe_timer_destroy(struct pe_timer *);
/* The registers themselves are reset with the table of sysreg.def. */
void pe_timer_reset(struct pe *);

/* The level of one PPI now; false for a PPI that is no timer. */
bool timer_line(struct pe *, unsigned ppi);
/* All levels now, bit n for PPI n. Cheap: one counter read between changes. */
uint32_t timer_lines(struct pe *);
/* The earliest CNTPCT value at which another line rises; UINT64_MAX: none. */
uint64_t timer_next(struct pe *);
/* The next event of the event streams after the physical count; UINT64_MAX: none. */
uint64_t timer_event_next(struct pe *, uint64_t count);
/* For others that write timer registers or HCR_EL2.E2H behind the table's back. */
void timer_changed(struct pe *);

/* For sysreg_timer.def. */
uint64_t timer_rd_cntpct(struct pe *, const struct sysreg *);
uint64_t timer_rd_cntvct(struct pe *, const struct sysreg *);
uint64_t timer_rd_ctl(struct pe *, const struct sysreg *);
uint64_t timer_rd_cval(struct pe *, const struct sysreg *);
uint64_t timer_rd_tval(struct pe *, const struct sysreg *);
void timer_wr_ctl(struct pe *, const struct sysreg *, uint64_t);
void timer_wr_cval(struct pe *, const struct sysreg *, uint64_t);
void timer_wr_tval(struct pe *, const struct sysreg *, uint64_t);
uint64_t timer_rd_cntkctl(struct pe *, const struct sysreg *);
void timer_wr_cntkctl(struct pe *, const struct sysreg *, uint64_t);
void timer_wr_plain(struct pe *, const struct sysreg *, uint64_t);
int timer_trap_frq(struct pe *, const struct sysreg *, bool write);
int timer_trap_pct(struct pe *, const struct sysreg *, bool write);
int timer_trap_vct(struct pe *, const struct sysreg *, bool write);
int timer_trap_pctss(struct pe *, const struct sysreg *, bool write);
int timer_trap_vctss(struct pe *, const struct sysreg *, bool write);
int timer_trap_ptimer(struct pe *, const struct sysreg *, bool write);
int timer_trap_vtimer(struct pe *, const struct sysreg *, bool write);

#endif /* PE_TIMER_H */
