/*
 * Identification registers: computed from the features of this PE, so that
 * they cannot say anything that is not implemented (DDI 0487, D19.2).
 */
#include "pe/except.h"
#include "pe/sysreg_fn.h"

/* A field that reads `value` when the feature is there; the largest row wins. */
struct id_field {
	uint16_t sr;
	uint8_t shift;
	uint8_t value;
	int16_t feature; /* -1: always */
};

#define ALWAYS (-1)
#define F(x) PE_FEAT_##x

static const struct id_field id_fields[] = {
	{ SR_ID_AA64PFR0_EL1, 0, 1, ALWAYS },   /* EL0: AArch64 */
	{ SR_ID_AA64PFR0_EL1, 4, 1, ALWAYS },   /* EL1: AArch64 */
	{ SR_ID_AA64PFR0_EL1, 8, 1, ALWAYS },   /* EL2: AArch64 */
	{ SR_ID_AA64PFR0_EL1, 16, 1, F(FP16) }, /* FP: 0 without half precision */
	{ SR_ID_AA64PFR0_EL1, 20, 1, F(FP16) }, /* AdvSIMD */
	{ SR_ID_AA64PFR0_EL1, 24, 1, ALWAYS },  /* GIC: system registers */
	{ SR_ID_AA64PFR0_EL1, 48, 1, F(DIT) },
	{ SR_ID_AA64PFR0_EL1, 56, 1, F(CSV2) },
	{ SR_ID_AA64PFR0_EL1, 60, 1, F(CSV3) },
	{ SR_ID_AA64PFR1_EL1, 0, 1, F(BTI) },
	{ SR_ID_AA64PFR1_EL1, 4, 2, F(SSBS) },
	{ SR_ID_AA64DFR0_EL1, 0, 6, ALWAYS },   /* Armv8 debug */
	{ SR_ID_AA64DFR0_EL1, 8, 4, F(PMUv3) }, /* PMUv3p1 */
	{ SR_ID_AA64DFR0_EL1, 12, 5, ALWAYS },  /* 6 breakpoints */
	{ SR_ID_AA64DFR0_EL1, 20, 3, ALWAYS },  /* 4 watchpoints */
	{ SR_ID_AA64DFR0_EL1, 28, 1, ALWAYS },  /* 2 of them context-aware */
	{ SR_ID_AA64ISAR0_EL1, 4, 1, F(AES) },
	{ SR_ID_AA64ISAR0_EL1, 4, 2, F(PMULL) },
	{ SR_ID_AA64ISAR0_EL1, 8, 1, F(SHA1) },
	{ SR_ID_AA64ISAR0_EL1, 12, 1, F(SHA256) },
	{ SR_ID_AA64ISAR0_EL1, 12, 2, F(SHA512) },
	{ SR_ID_AA64ISAR0_EL1, 16, 1, F(CRC32) },
	{ SR_ID_AA64ISAR0_EL1, 20, 2, F(LSE) },
	{ SR_ID_AA64ISAR0_EL1, 28, 1, F(RDM) },
	{ SR_ID_AA64ISAR0_EL1, 32, 1, F(SHA3) },
	{ SR_ID_AA64ISAR0_EL1, 36, 1, F(SM3) },
	{ SR_ID_AA64ISAR0_EL1, 40, 1, F(SM4) },
	{ SR_ID_AA64ISAR0_EL1, 44, 1, F(DotProd) },
	{ SR_ID_AA64ISAR0_EL1, 48, 1, F(FHM) },
	{ SR_ID_AA64ISAR0_EL1, 52, 1, F(FlagM) },
	{ SR_ID_AA64ISAR0_EL1, 52, 2, F(FlagM2) },
	{ SR_ID_AA64ISAR0_EL1, 56, 1, F(TLBIOS) },
	{ SR_ID_AA64ISAR0_EL1, 56, 2, F(TLBIRANGE) },
	{ SR_ID_AA64ISAR0_EL1, 60, 1, F(RNG) },
	{ SR_ID_AA64ISAR1_EL1, 0, 1, F(DPB) },
	{ SR_ID_AA64ISAR1_EL1, 12, 1, F(JSCVT) },
	{ SR_ID_AA64ISAR1_EL1, 16, 1, F(FCMA) },
	{ SR_ID_AA64ISAR1_EL1, 20, 1, F(LRCPC) },
	{ SR_ID_AA64ISAR1_EL1, 20, 2, F(LRCPC2) },
	{ SR_ID_AA64ISAR1_EL1, 32, 1, F(FRINTTS) },
	{ SR_ID_AA64ISAR1_EL1, 36, 1, F(SB) },
	{ SR_ID_AA64ISAR1_EL1, 40, 1, F(SPECRES) },
	{ SR_ID_AA64ISAR1_EL1, 44, 1, F(BF16) },
	{ SR_ID_AA64ISAR1_EL1, 52, 1, F(I8MM) },
	{ SR_ID_AA64ISAR2_EL1, 0, 2, F(WFxT) },
	{ SR_ID_AA64MMFR0_EL1, 0, 5, ALWAYS },  /* 48-bit PA */
	{ SR_ID_AA64MMFR0_EL1, 4, 2, ALWAYS },  /* 16-bit ASID */
	{ SR_ID_AA64MMFR0_EL1, 20, 1, ALWAYS }, /* 16K granule; 0 is yes for 4K, 64K */
	{ SR_ID_AA64MMFR0_EL1, 60, 2, F(ECV) },
	{ SR_ID_AA64MMFR1_EL1, 0, 2, F(HAFDBS) },
	{ SR_ID_AA64MMFR1_EL1, 8, 1, F(VHE) },
	{ SR_ID_AA64MMFR1_EL1, 12, 1, ALWAYS }, /* hierarchical permission disables */
	{ SR_ID_AA64MMFR1_EL1, 20, 1, F(PAN) },
	{ SR_ID_AA64MMFR1_EL1, 20, 2, F(PAN2) },
	{ SR_ID_AA64MMFR1_EL1, 20, 3, F(EPAN) },
	{ SR_ID_AA64MMFR1_EL1, 28, 1, F(XNX) },
	{ SR_ID_AA64MMFR2_EL1, 4, 1, F(UAO) },
	{ SR_ID_AA64MMFR2_EL1, 12, 1, F(IESB) },
	{ SR_ID_AA64MMFR2_EL1, 32, 1, F(LSE2) },
	{ SR_ID_AA64MMFR2_EL1, 48, 1, F(TTL) },
	{ SR_ID_AA64MMFR2_EL1, 60, 1, F(E0PD) },
};

uint64_t
rd_id(struct pe *pe, const struct sysreg *r)
{
	uint64_t v = 0;

	for (size_t i = 0; i < sizeof(id_fields) / sizeof(id_fields[0]); i++) {
		const struct id_field *f = &id_fields[i];

		if (f->sr != r->sr)
			continue;
		if (f->feature >= 0 && !pe_has(pe, (enum pe_feature)f->feature))
			continue;
		if (FIELD(v, f->shift, 4) < f->value)
			v = (v & ~(UINT64_C(15) << f->shift)) | ((uint64_t)f->value << f->shift);
	}
	/* API and GPI, or APA and GPA with QARMA5: never both (D19.2.61). */
	if (r->sr == SR_ID_AA64ISAR1_EL1 && pe_has(pe, PE_FEAT_PAuth))
		v |= pe_has(pe, PE_FEAT_PAuth_QARMA5) ? BIT(4) | BIT(24) : BIT(8) | BIT(28);
	/* 8-bit VMIDs read 0, 16-bit ones 2. */
	if (r->sr == SR_ID_AA64MMFR1_EL1 && pe->cfg.vmid_bits == 16)
		v |= UINT64_C(2) << 4;
	return (v);
}

uint64_t
rd_zero(struct pe *pe, const struct sysreg *r)
{
	(void)pe;
	(void)r;
	return (0);
}

uint64_t
rd_midr(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	return (pe->el < 2 ? pe->sr[SR_VPIDR_EL2] : pe->cfg.midr);
}

uint64_t
rd_mpidr(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	return (pe->el < 2 ? pe->sr[SR_VMPIDR_EL2] : pe->cfg.mpidr);
}

/* Two levels of 64-byte lines: 32 KiB 4-way L1, 512 KiB 8-way unified L2. */
uint64_t
rd_ccsidr(struct pe *pe, const struct sysreg *r)
{
	(void)r;
	switch (pe->sr[SR_CSSELR_EL1] & 0xf) {
	case 0:
	case 1:
		return (UINT64_C(127) << 13 | 3 << 3 | 2);
	case 2:
		return (UINT64_C(1023) << 13 | 7 << 3 | 2);
	default:
		return (0);
	}
}

/* DC ZVA works on 64 bytes; DZP when SCTLR or HCR forbid it here. */
uint64_t
rd_dczid(struct pe *pe, const struct sysreg *r)
{
	bool no = (pe->el == 0 && (pe_sctlr(pe) & SCTLR_DZE) == 0) ||
		  (pe->el < 2 && (pe_hcr(pe) & HCR_TDZ) != 0);

	(void)r;
	return (4u | (no ? 16u : 0u));
}
