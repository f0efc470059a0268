/*
 * Registers of the GICv3 as a guest meets them: frame layout (IHI 0069,
 * chapter 12) and the fields of the ICH_* registers the hypervisor writes.
 */
#ifndef VMM_IO_VGIC_V3_REG_H
#define VMM_IO_VGIC_V3_REG_H

#include "pe/pe.h"

#define GICD_FRAME_SIZE 0x10000u
#define GICR_RD_SIZE 0x10000u
#define GICR_FRAME_SIZE 0x20000u /* RD and SGI frames */

/* Distributor */
#define GICD_CTLR 0x0000u
#define GICD_CTLR_G0 (1u << 0)
#define GICD_CTLR_G1 (1u << 1)
#define GICD_CTLR_ARE (1u << 4)
#define GICD_CTLR_DS (1u << 6)
#define GICD_TYPER 0x0004u
#define GICD_TYPER_ITLINES (VGIC_I_NUM / 32) /* 31: INTIDs to 1019 */
#define GICD_TYPER_CPUS(n) (((n)-1) << 5)    /* GICv2 */
#define GICD_TYPER_MBIS (1u << 16)
#define GICD_TYPER_LPIS (1u << 17)
#define GICD_TYPER_IDBITS(n) (((n)-1) << 19)
#define GICD_TYPER_A3V (1u << 24)
#define GICD_IIDR 0x0008u
#define GIC_IIDR 0x43bu /* JEP106: Arm; product 0 */
#define GICD_SETSPI_NSR 0x0040u
#define GICD_CLRSPI_NSR 0x0048u
#define GICD_IGROUPR 0x0080u
#define GICD_ISENABLER 0x0100u
#define GICD_ICENABLER 0x0180u
#define GICD_ISPENDR 0x0200u
#define GICD_ICPENDR 0x0280u
#define GICD_ISACTIVER 0x0300u
#define GICD_ICACTIVER 0x0380u
#define GICD_IPRIORITYR 0x0400u
#define GICD_ICFGR 0x0c00u
#define GICD_IROUTER 0x6000u
#define GICD_IROUTER_IRM (UINT64_C(1) << 31)
#define GIC_AFFINITY UINT64_C(0xff00ffffff)
#define GIC_PIDR2 0xffe8u
#define GIC_PIDR2_V3 0x3bu /* ArchRev 3, JEDEC, DES_1 of Arm */

/* GICv2 (IHI 0048) */
#define GICV2_FRAME_SIZE 0x1000u
#define GICD_ITARGETSR 0x0800u
#define GICD_SGIR 0x0f00u
#define GICD_CPENDSGIR 0x0f10u
#define GICD_SPENDSGIR 0x0f20u
#define GICV2_PIDR2 0x0fe8u
#define GICV2_PIDR2_V2 0x2bu
#define GICC_CTLR 0x0000u
#define GICC_CTLR_ACK (1u << 2)
#define GICC_CTLR_FIQEN (1u << 3)
#define GICC_CTLR_CBPR (1u << 4)
#define GICC_CTLR_EOIMODE (1u << 9)
#define GICC_CTLR_MASK 0x21fu
#define GICC_PMR 0x0004u
#define GICC_BPR 0x0008u
#define GICC_IAR 0x000cu
#define GICC_EOIR 0x0010u
#define GICC_RPR 0x0014u
#define GICC_HPPIR 0x0018u
#define GICC_ABPR 0x001cu
#define GICC_AIAR 0x0020u
#define GICC_AEOIR 0x0024u
#define GICC_AHPPIR 0x0028u
#define GICC_APR 0x00d0u
#define GICC_NSAPR 0x00e0u
#define GICC_IIDR 0x00fcu
#define GICC_IIDR_V2 0x0002043bu
#define GICC_DIR 0x1000u

/* Redistributor, RD frame; the SGI frame follows at GICR_RD_SIZE */
#define GICR_CTLR 0x0000u
#define GICR_CTLR_LPIS (1u << 0)
#define GICR_CTLR_CES (1u << 1) /* the former can be cleared */
#define GICR_CTLR_IR (1u << 2)  /* INVLPIR, INVALLR */
#define GICR_IIDR 0x0004u
#define GICR_TYPER 0x0008u
#define GICR_TYPER_PLPIS (UINT64_C(1) << 0)
#define GICR_TYPER_LAST (UINT64_C(1) << 4)
#define GICR_WAKER 0x0014u
#define GICR_WAKER_PS (1u << 1)
#define GICR_WAKER_CA (1u << 2)

#define GICR_PROPBASER 0x0070u
#define GICR_PENDBASER 0x0078u
#define GICR_INVLPIR 0x00a0u
#define GICR_INVALLR 0x00b0u
#define GICR_SYNCR 0x00c0u

/* GICx_IPRIORITYR: implemented bits */
#define GIC_PRI_MASK 0xf8u

#define FIELD64(v, lo, width) (((v) >> (lo)) & ((UINT64_C(1) << (width)) - 1))

/* EL2 registers */
#define ICH_AP0R0_EL2 PE_SYSREG(3, 4, 12, 8, 0)
#define ICH_AP1R0_EL2 PE_SYSREG(3, 4, 12, 9, 0)
#define ICH_HCR_EL2 PE_SYSREG(3, 4, 12, 11, 0)
#define ICH_VTR_EL2 PE_SYSREG(3, 4, 12, 11, 1)
#define ICH_VMCR_EL2 PE_SYSREG(3, 4, 12, 11, 7)
#define ICH_LR_EL2(n) PE_SYSREG(3, 4, 12, 12 + ((n) >> 3), (n)&7)

#define ICH_HCR_EN (UINT64_C(1) << 0)
#define ICH_HCR_LRENPIE (UINT64_C(1) << 2)
#define ICH_HCR_NPIE (UINT64_C(1) << 3)
#define ICH_HCR_VGRP0EIE (UINT64_C(1) << 4)
#define ICH_HCR_VGRP1EIE (UINT64_C(1) << 6)
#define ICH_HCR_TC (UINT64_C(1) << 10)
#define ICH_HCR_TALL0 (UINT64_C(1) << 11)
#define ICH_HCR_TALL1 (UINT64_C(1) << 12)
#define ICH_HCR_TDIR (UINT64_C(1) << 14)
#define ICH_HCR_EOICOUNT(v) ((unsigned)((v) >> 27) & 0x1f)

#define ICH_VMCR_VENG(grp) (UINT64_C(1) << (grp))
#define ICH_VMCR_VFIQEN (UINT64_C(1) << 3)
#define ICH_VMCR_VCBPR (UINT64_C(1) << 4)
#define ICH_VMCR_VEOIM (UINT64_C(1) << 9)
#define ICH_VMCR_VBPR1(v) ((unsigned)((v) >> 18) & 7)
#define ICH_VMCR_VBPR0(v) ((unsigned)((v) >> 21) & 7)
#define ICH_VMCR_VPMR(v) ((unsigned)((v) >> 24) & GIC_PRI_MASK)

#define ICH_LR_PINTID_SHIFT 32
#define ICH_LR_EOI (UINT64_C(1) << 41)
#define ICH_LR_PRIORITY_SHIFT 48
#define ICH_LR_GROUP1 (UINT64_C(1) << 60)
#define ICH_LR_HW (UINT64_C(1) << 61)
#define ICH_LR_PENDING (UINT64_C(1) << 62)
#define ICH_LR_ACTIVE (UINT64_C(1) << 63)

/* The CPU interface at EL1 and EL2 */
#define ICC_PMR_EL1 PE_SYSREG(3, 0, 4, 6, 0)
#define ICC_DIR_EL1 PE_SYSREG(3, 0, 12, 11, 1)
#define ICC_SGI1R_EL1 PE_SYSREG(3, 0, 12, 11, 5)
#define ICC_ASGI1R_EL1 PE_SYSREG(3, 0, 12, 11, 6)
#define ICC_SGI0R_EL1 PE_SYSREG(3, 0, 12, 11, 7)
#define ICC_IAR1_EL1 PE_SYSREG(3, 0, 12, 12, 0)
#define ICC_EOIR1_EL1 PE_SYSREG(3, 0, 12, 12, 1)
#define ICC_CTLR_EL1 PE_SYSREG(3, 0, 12, 12, 4)
#define ICC_CTLR_EOIMODE (UINT64_C(1) << 1)
#define ICC_IGRPEN1_EL1 PE_SYSREG(3, 0, 12, 12, 7)

#define ICC_SGIR_INTID(v) ((uint32_t)((v) >> 24) & 15)
#define ICC_SGIR_IRM (UINT64_C(1) << 40)
#define ICC_SGIR_RS(v) ((uint32_t)((v) >> 44) & 15)

#endif /* VMM_IO_VGIC_V3_REG_H */
