/*
 * Access and trap functions named in sysreg.def, other than those of the GIC
 * CPU interface and the timer.
 */
#ifndef PE_SYSREG_FN_H
#define PE_SYSREG_FN_H

#include "pe/sysreg.h"

#define SR_RD(f) uint64_t f(struct pe *, const struct sysreg *)
#define SR_WR(f) void f(struct pe *, const struct sysreg *, uint64_t)
#define SR_TRAP(f) int f(struct pe *, const struct sysreg *, bool)

/* idreg.c */
SR_RD(rd_midr);
SR_RD(rd_mpidr);
SR_RD(rd_id);
SR_RD(rd_zero);
SR_RD(rd_ccsidr);
SR_RD(rd_dczid);
/* IminLine and DminLine 64 bytes, PIPT, IDC 1, DIC 0, ERG and CWG 64 bytes. */
#define CTR_VALUE UINT64_C(0x9444c004)

/* sysreg_fn.c */
SR_WR(wr_sctlr);
SR_WR(wr_mmu);
SR_WR(wr_context);
SR_WR(wr_hcr);
SR_RD(rd_cptr);
SR_WR(wr_cptr);
SR_RD(rd_sp_el0);
SR_WR(wr_sp_el0);
SR_RD(rd_sp_el1);
SR_WR(wr_sp_el1);
SR_RD(rd_sp_el2);
SR_WR(wr_sp_el2);
SR_RD(rd_isr);
SR_RD(rd_spsel);
SR_WR(wr_spsel);
SR_RD(rd_currentel);
SR_RD(rd_pan);
SR_WR(wr_pan);
SR_RD(rd_uao);
SR_WR(wr_uao);
SR_RD(rd_nzcv);
SR_WR(wr_nzcv);
SR_RD(rd_daif);
SR_WR(wr_daif);
SR_RD(rd_dit);
SR_WR(wr_dit);
SR_RD(rd_ssbs);
SR_WR(wr_ssbs);
SR_RD(rd_fpcr);
SR_WR(wr_fpcr);
SR_RD(rd_fpsr);
SR_WR(wr_fpsr);
SR_RD(rd_rndr);
SR_WR(wr_debug);
SR_WR(wr_oslar);
SR_RD(rd_claimset);
SR_WR(wr_claimset);
SR_RD(rd_claimclr);
SR_WR(wr_claimclr);

/* sysreg_vhe.c */
SR_RD(rd_el12);
SR_WR(wr_el12);

/* pmu.c */
SR_RD(pmu_rd_cr);
SR_RD(pmu_rd_bits);
SR_RD(pmu_rd_ceid);
SR_RD(pmu_rd_counter);
SR_RD(pmu_rd_xtype);
SR_RD(pmu_rd_xcounter);
SR_RD(pmu_rd_type);
SR_WR(pmu_wr_cr);
SR_WR(pmu_wr_set);
SR_WR(pmu_wr_clr);
SR_WR(pmu_wr_swinc);
SR_WR(pmu_wr_selr);
SR_WR(pmu_wr_userenr);
SR_WR(pmu_wr_counter);
SR_WR(pmu_wr_xtype);
SR_WR(pmu_wr_xcounter);
SR_WR(pmu_wr_type);
SR_WR(wr_mdcr);
SR_TRAP(trap_pmu);

/* sysreg_trap.c */
SR_TRAP(trap_tid1);
SR_TRAP(trap_tid2);
SR_TRAP(trap_tid3);
SR_TRAP(trap_ctr);
SR_TRAP(trap_vm);
SR_TRAP(trap_tacr);
SR_TRAP(trap_cpacr);
SR_TRAP(trap_sp_el0);
SR_TRAP(trap_daif);
SR_TRAP(trap_apk);
SR_TRAP(trap_tda);
SR_TRAP(trap_dcc);
SR_TRAP(trap_tdra);
SR_TRAP(trap_tdosa);

#endif /* PE_SYSREG_FN_H */
