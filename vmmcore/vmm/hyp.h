/*
 * The EL2 code: operations that the rest of vmm asks of it, and the table of
 * registers that it switches (hyp_regs.def, vmm_hyp.inc).
 */
#ifndef VMM_HYP_H
#define VMM_HYP_H

#include "vmm/vmm_vm.h"

#define HYP_EL12 1u /* NAME_EL12 is the guest's copy under VHE */
#define HYP_EL2 2u  /* an EL2 register, set up per vCPU */

struct hyp_reg {
	uint32_t enc, flags, offset;
};
extern const struct hyp_reg hyp_regs[];
extern const unsigned hyp_regs_count;

static inline uint64_t *
hyp_reg(struct hypctx *hypctx, unsigned i)
{
	return ((uint64_t *)(void *)((char *)hypctx + hyp_regs[i].offset));
}

/* EL2's own registers. */
#define HCR_EL2 PE_SYSREG(3, 4, 1, 1, 0)
#define ELR_EL2 PE_SYSREG(3, 4, 4, 0, 1)
#define SPSR_EL2 PE_SYSREG(3, 4, 4, 0, 0)
#define ESR_EL2 PE_SYSREG(3, 4, 5, 2, 0)
#define FAR_EL2 PE_SYSREG(3, 4, 6, 0, 0)
#define HPFAR_EL2 PE_SYSREG(3, 4, 6, 0, 4)
#define VTTBR_EL2 PE_SYSREG(3, 4, 2, 1, 0)
#define VTCR_EL2 PE_SYSREG(3, 4, 2, 1, 2)
#define TPIDR_EL2 PE_SYSREG(3, 4, 13, 0, 2)
#define OSLAR_EL1 PE_SYSREG(2, 0, 1, 0, 4)
#define PAR_EL1 PE_SYSREG(3, 0, 7, 4, 0)

/* Maintenance instructions. */
#define TLBI_ALLE1IS PE_SYSREG(1, 4, 8, 3, 4)
#define TLBI_VMALLS12E1IS PE_SYSREG(1, 4, 8, 3, 6)
#define IC_IALLU PE_SYSREG(1, 0, 7, 5, 0)
#define AT_S1E1R PE_SYSREG(1, 0, 7, 8, 0)

/* HCR_EL2 */
#define HCR_VM (UINT64_C(1) << 0)
#define HCR_SWIO (UINT64_C(1) << 1)
#define HCR_FMO (UINT64_C(1) << 3)
#define HCR_IMO (UINT64_C(1) << 4)
#define HCR_AMO (UINT64_C(1) << 5)
#define HCR_FB (UINT64_C(1) << 9)
#define HCR_BSU_IS (UINT64_C(1) << 10)
#define HCR_TWI (UINT64_C(1) << 13)
#define HCR_TID3 (UINT64_C(1) << 18)
#define HCR_TSC (UINT64_C(1) << 19)
#define HCR_TGE (UINT64_C(1) << 27)
#define HCR_RW (UINT64_C(1) << 31)
#define HCR_E2H (UINT64_C(1) << 34)
#define HCR_APK (UINT64_C(1) << 40)
#define HCR_TIDCP (UINT64_C(1) << 20)
#define HCR_API (UINT64_C(1) << 41)

#define PSR_SS (UINT64_C(1) << 21)
#define PSR_BTYPE (UINT64_C(3) << 10)

/* ESR_EL2: exception classes and ISS bits that the exits of a guest use. */
#define EC_UNKNOWN_REASON 0x00
#define EC_WFX_TRAP 0x01
#define EC_FP_TRAP 0x07
#define EC_HVC 0x16
#define EC_SMC 0x17
#define EC_MSR_TRAP 0x18
#define EC_SVE_TRAP 0x19
#define EC_INSN_ABORT_LOWER 0x20
#define EC_DATA_ABORT_LOWER 0x24
#define EC_BKPT_LOWER 0x30
#define EC_SOFTSTP_LOWER 0x32
#define EC_WATCHPT_LOWER 0x34
#define EC_BRK 0x3c
#define ESR_EC(esr) ((unsigned)((esr) >> 26) & 0x3f)
#define ESR_IL_BIT (UINT64_C(1) << 25)
#define ISS_FSC 0x3f
#define ISS_FSC_ADDR_SIZE 0x00
#define ISS_FSC_TRANSLATION 0x04
#define ISS_FSC_ACCESS 0x08
#define ISS_FSC_PERMISSION 0x0c
#define ISS_FSC_EXTERNAL 0x10
#define ISS_FSC_ALIGNMENT 0x21
#define ISS_WNR (UINT64_C(1) << 6)
#define ISS_S1PTW (UINT64_C(1) << 7)
#define ISS_CM (UINT64_C(1) << 8)
#define ISS_ISV (UINT64_C(1) << 24)

/* What an exit is: the vector, and 9 when the guest is to be entered again. */
enum {
	EXCP_TYPE_EL1_SYNC = 0,
	EXCP_TYPE_EL1_IRQ = 1,
	EXCP_TYPE_EL1_FIQ = 2,
	EXCP_TYPE_EL1_ERROR = 3,
	EXCP_TYPE_EL2 = 4,
	EXCP_TYPE_REENTER = 9,
};

/*
 * Operation numbers of the nVHE form. Addresses are physical: EL2 has its own
 * translation regime and does not see the kernel's virtual addresses.
 */
enum {
	HYP_CLEANUP = 1,
	HYP_ENTER_GUEST = 2,
	HYP_READ_REGISTER = 3,
	HYP_CLEAN_S2_TLBI = 4,
	HYP_S2_TLBI_ALL = 0x11,
};
/* HVC of the host, nVHE: 0, EINVAL (bad operation or address). */
int vmm_nvhe_hvc(struct pcpu *pcpu, unsigned op, uint64_t arg, uint64_t *result);
/* The VHE form is called directly. */
int vmm_vhe_enter_guest(struct pcpu *pcpu, struct hypctx *hypctx);
void vmm_vhe_clean_s2_tlbi(struct pcpu *pcpu);
void vmm_vhe_s2_tlbi_all(struct pcpu *pcpu, uint64_t vttbr);

#endif /* VMM_HYP_H */
