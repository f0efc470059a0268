/*
 * System registers that trap to EL2 (HCR_EL2.TID3, MDCR_EL2.TDOSA and TDRA,
 * the timer's and the GIC's): identification, debug, and the way to io/. What
 * is in no table is UNDEFINED for the guest, as for an absent register.
 */
#include <errno.h>
#include <stdbool.h>

#include "sys/clock.h"
#include "vmm/hyp.h"
#include "vmm/io/vgic.h"

/*
 * Identification: the PE's value under a mask, plus fixed fields. Anything
 * else in op0 3, op1 0, CRn 0, CRm 1 to 7 reads zero: AArch32 and features that
 * the world switch does not know (SVE, SME, MTE, MPAM).
 */
struct id_mask {
	uint32_t enc;
	uint64_t keep, set;
};

#define F4(shift) (UINT64_C(0xf) << (shift))

static const struct id_mask id_masks[] = {
	/* ID_AA64PFR0: EL0, EL1 in AArch64; FP, AdvSIMD, GIC, DIT, CSV2, CSV3; no EL2, EL3 */
	{ PE_SYSREG(3, 0, 0, 4, 0),
	    F4(0) | F4(4) | F4(16) | F4(20) | F4(24) | F4(48) | F4(56) | F4(60), 0 },
	/* ID_AA64PFR1: BT, SSBS */
	{ PE_SYSREG(3, 0, 0, 4, 1), F4(0) | F4(4), 0 },
	/* ID_AA64DFR0: DebugVer, PMUVer, BRPs, WRPs, CTX_CMPs */
	{ PE_SYSREG(3, 0, 0, 5, 0), F4(0) | F4(8) | F4(12) | F4(20) | F4(28), 0 },
	/* ID_AA64ISAR0 to 2: instructions have no state of their own; PAuth has, switched */
	{ PE_SYSREG(3, 0, 0, 6, 0), ~UINT64_C(0), 0 },
	{ PE_SYSREG(3, 0, 0, 6, 1), ~UINT64_C(0), 0 },
	{ PE_SYSREG(3, 0, 0, 6, 2), ~UINT64_C(0), 0 },
	/* ID_AA64MMFR0: PARange 2, the 40 bits of our IPA space; no stage-2 granules, no FGT */
	{ PE_SYSREG(3, 0, 0, 7, 0), UINT64_C(0x00000000fffffff0), 2 },
	/* ID_AA64MMFR1: HAFDBS, HPDS, PAN, SpecSEI; no VMIDs, VHE, XNX, LORegions */
	{ PE_SYSREG(3, 0, 0, 7, 1), F4(0) | F4(12) | F4(20) | F4(24), 0 },
	/* ID_AA64MMFR2: all but NV, EVT and FWB, which are EL2's */
	{ PE_SYSREG(3, 0, 0, 7, 2), ~(F4(24) | F4(40) | F4(56)), 0 },
};

/* Debug registers that trap. */
#define OSLSR_EL1 PE_SYSREG(2, 0, 1, 1, 4)
#define OSDLR_EL1 PE_SYSREG(2, 0, 1, 3, 4)
#define DBGPRCR_EL1 PE_SYSREG(2, 0, 1, 4, 4)
#define DBGCLAIMSET_EL1 PE_SYSREG(2, 0, 7, 8, 6)
#define MDRAR_EL1 PE_SYSREG(2, 0, 1, 0, 0)
#define OSLSR_OSLM_1 UINT64_C(0x8)
#define OSLSR_OSLK UINT64_C(0x2)

#define ID_AA64PFR0_EL1 PE_SYSREG(3, 0, 0, 4, 0)

static int
id_register(const struct hyp *hyp, struct pe *pe, uint32_t enc, int dir, uint64_t *val)
{
	uint64_t v;

	/* op0 3, op1 0, CRn 0, CRm 1 to 7 */
	if ((enc & ~UINT32_C(0x7f)) != PE_SYSREG(3, 0, 0, 0, 0) || ((enc >> 3) & 0xf) == 0 ||
	    ((enc >> 3) & 0xf) > 7)
		return (ENOENT);
	if (dir == VM_DIR_WRITE)
		return (EFAULT);
	*val = 0;
	for (unsigned i = 0; i < sizeof(id_masks) / sizeof(id_masks[0]); i++) {
		if (id_masks[i].enc == enc && pe_mrs(pe, enc, &v) == 0)
			*val = (v & id_masks[i].keep) | id_masks[i].set;
		/* ECV: all but CNTPOFF, which is EL2's. */
		if (id_masks[i].enc == enc && enc == PE_SYSREG(3, 0, 0, 7, 0) && (v >> 60) != 0)
			*val |= UINT64_C(1) << 60;
	}
	if (enc == ID_AA64PFR0_EL1 && hyp->vgic.version == 2)
		*val &= ~F4(24); /* GIC: no system registers */
	return (0);
}

/*
 * Registers that only trap while a debugger has its own in the PE
 * (vmm_debug.c): the guest's are in hypctx, with the bits that the PE would
 * keep. The claim tags and the channel to an external debugger have no state.
 */
static int
debug_storage(struct hypctx *hypctx, struct pe *pe, uint32_t enc, int dir, uint64_t *val)
{
	uint64_t host, *reg;

	if ((enc >> 14) != 2 || pe_mrs(pe, enc, &host) != 0)
		return (ENOENT);
	for (unsigned i = 0; i < hyp_regs_count; i++) {
		if (hyp_regs[i].enc != enc || enc == DBGCLAIMSET_EL1)
			continue;
		reg = hyp_reg(hypctx, i);
		if (dir == VM_DIR_WRITE) {
			(void)pe_msr(pe, enc, *val);
			(void)pe_mrs(pe, enc, reg);
			(void)pe_msr(pe, enc, host);
		}
		*val = *reg;
		return (0);
	}
	*val = enc == DBGCLAIMSET_EL1 ? 0xff : 0;
	return (0);
}

static int
debug_register(struct hypctx *hypctx, struct pe *pe, uint32_t enc, int dir, uint64_t *val)
{
	switch (enc) {
	case OSLAR_EL1:
		if (dir == VM_DIR_READ)
			return (EFAULT);
		hypctx->dbg_oslock = (uint32_t)(*val & 1);
		return (0);
	case OSLSR_EL1:
		if (dir == VM_DIR_WRITE)
			return (EFAULT);
		*val = OSLSR_OSLM_1 | (hypctx->dbg_oslock != 0 ? OSLSR_OSLK : 0);
		return (0);
	case MDRAR_EL1:
	case OSDLR_EL1:
	case DBGPRCR_EL1:
		*val = 0; /* RAZ/WI */
		return (0);
	default:
		return (debug_storage(hypctx, pe, enc, dir, val));
	}
}

int
vm_user_sysregs(struct vm *vm)
{
	atomic_store(&vm->hyp->user_sysregs, 1);
	for (unsigned n = 0; n < vm->hyp->maxcpus; n++)
		vm_ctx(vm, (int)n)->hcr_el2 |= HCR_TIDCP;
	return (0);
}

/* Is it one that userland answers for (DDI 0487, D19.2.48, HCR_EL2.TIDCP)? */
static bool
users(struct hypctx *hypctx, uint32_t enc)
{
	unsigned crn = (enc >> 7) & 15;

	return (
	    hypctx_hyp(hypctx)->user_sysregs != 0 && (enc >> 14) == 3 && (crn == 11 || crn == 15));
}

void
sysreg_resume(struct hypctx *hypctx, uint64_t data)
{
	uint64_t iss = hypctx->tf.tf_esr & 0x1ffffff;

	hypctx->pending = PENDING_NONE;
	if ((iss & 1) != 0)
		hypctx_set_x(hypctx, (unsigned)(iss >> 5) & 31, data);
	hypctx_skip(hypctx);
}

int
sysreg_emulate(struct hypctx *hypctx, struct pe *pe, struct vm_exit *vme)
{
	uint64_t iss = hypctx->tf.tf_esr & 0x1ffffff, val = 0;
	uint32_t enc = PE_SYSREG((uint32_t)(iss >> 20) & 3, (uint32_t)(iss >> 14) & 7,
	    (uint32_t)(iss >> 10) & 15, (uint32_t)(iss >> 1) & 15, (uint32_t)(iss >> 17) & 7);
	unsigned rt = (unsigned)(iss >> 5) & 31;
	int dir = (iss & 1) != 0 ? VM_DIR_READ : VM_DIR_WRITE, error;

	if (dir == VM_DIR_WRITE)
		val = hypctx_x(hypctx, rt);
	if ((error = vtimer_sysreg(hypctx, enc, dir, &val, sys_counter())) == ENOENT &&
	    (error = vgic_sysreg(hypctx, enc, dir, &val)) == ENOENT &&
	    (error = id_register(hypctx_hyp(hypctx), pe, enc, dir, &val)) == ENOENT)
		error = debug_register(hypctx, pe, enc, dir, &val);
	if (error == ENOENT && users(hypctx, enc)) {
		vme->exitcode = VM_EXITCODE_REG_EMUL;
		vme->reg = enc;
		vme->dir = dir;
		vme->data = val;
		hypctx->pending = PENDING_REG_EMUL;
		return (VIE_EXIT);
	}
	if (error != 0) {
		hypctx_inject_undef(hypctx);
		return (VIE_DONE);
	}
	if (dir == VM_DIR_READ)
		hypctx_set_x(hypctx, rt, val);
	hypctx_skip(hypctx);
	return (VIE_DONE);
}
