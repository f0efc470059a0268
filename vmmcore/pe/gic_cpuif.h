/*
 * The GICv3 CPU interface of one PE (IHI 0069, chapters 4, 6 and 12): the
 * physical interface (ICC_*) with the redistributor state of the few private
 * interrupts the core has, and the virtual interface (ICV_*, ICH_*).
 *
 * An ICC_* access from EL1 is served by the virtual interface when HCR_EL2.IMO
 * (group 1) or FMO (group 0) is set. Not here: distributors and
 * redistributors of a guest (vmm/io/vgic_v3.c).
 */
#ifndef PE_GIC_CPUIF_H
#define PE_GIC_CPUIF_H

#include "pe/sysreg.h"

/* 5 priority bits, 5 preemption bits, 16-bit INTIDs. */
#define GIC_PRIBITS 5
#define GIC_PRIMASK 0xf8u
#define GIC_SPURIOUS 1023u

/* NULL when memory is short. */
struct gic_cpuif *gic_create(struct pe *);
void gic_destroy(struct gic_cpuif *);
/* After the registers were reset with the table. */
void gic_reset(struct pe *);

/*
 * The four interrupt inputs of the core, now. The physical ones look at the
 * kick pin and the timer lines; masking by PSTATE and HCR_EL2 is the caller's.
 * The virtual ones are list registers only: the caller adds HCR_EL2.VI and VF.
 */
bool gic_phys_irq(struct pe *);
bool gic_phys_fiq(struct pe *);
bool gic_virt_irq(struct pe *);
bool gic_virt_fiq(struct pe *);

/* pe_gicr_active() and pe_gicr_set_active() are in pe.h. */

/* For sysreg_gic.def. */
uint64_t icc_rd_iar0(struct pe *, const struct sysreg *);
uint64_t icc_rd_iar1(struct pe *, const struct sysreg *);
uint64_t icc_rd_hppir0(struct pe *, const struct sysreg *);
uint64_t icc_rd_hppir1(struct pe *, const struct sysreg *);
uint64_t icc_rd_rpr(struct pe *, const struct sysreg *);
void icc_wr_eoir0(struct pe *, const struct sysreg *, uint64_t);
void icc_wr_eoir1(struct pe *, const struct sysreg *, uint64_t);
void icc_wr_dir(struct pe *, const struct sysreg *, uint64_t);
uint64_t icc_rd_pmr(struct pe *, const struct sysreg *);
void icc_wr_pmr(struct pe *, const struct sysreg *, uint64_t);
uint64_t icc_rd_bpr(struct pe *, const struct sysreg *);
void icc_wr_bpr(struct pe *, const struct sysreg *, uint64_t);
uint64_t icc_rd_apr(struct pe *, const struct sysreg *);
void icc_wr_apr(struct pe *, const struct sysreg *, uint64_t);
uint64_t icc_rd_ctlr(struct pe *, const struct sysreg *);
void icc_wr_ctlr(struct pe *, const struct sysreg *, uint64_t);
uint64_t icc_rd_igrpen(struct pe *, const struct sysreg *);
void icc_wr_igrpen(struct pe *, const struct sysreg *, uint64_t);
void icc_wr_sgi(struct pe *, const struct sysreg *, uint64_t);
void icc_wr_ignore(struct pe *, const struct sysreg *, uint64_t);
uint64_t ich_rd_lr(struct pe *, const struct sysreg *);
void ich_wr_lr(struct pe *, const struct sysreg *, uint64_t);
uint64_t ich_rd_vtr(struct pe *, const struct sysreg *);
uint64_t ich_rd_misr(struct pe *, const struct sysreg *);
uint64_t ich_rd_eisr(struct pe *, const struct sysreg *);
uint64_t ich_rd_elrsr(struct pe *, const struct sysreg *);
void ich_wr_hcr(struct pe *, const struct sysreg *, uint64_t);
void ich_wr_vmcr(struct pe *, const struct sysreg *, uint64_t);
void ich_wr_apr(struct pe *, const struct sysreg *, uint64_t);
int icc_trap_g0(struct pe *, const struct sysreg *, bool write);
int icc_trap_g1(struct pe *, const struct sysreg *, bool write);
int icc_trap_common(struct pe *, const struct sysreg *, bool write);
int icc_trap_dir(struct pe *, const struct sysreg *, bool write);
int icc_trap_sgi(struct pe *, const struct sysreg *, bool write);
int icc_trap_sre(struct pe *, const struct sysreg *, bool write);

#endif /* PE_GIC_CPUIF_H */
