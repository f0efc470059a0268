/*
 * The instruction syndrome of a data abort (DDI 0487, D24.2.40, "ISS encoding
 * for an exception from a Data Abort"): bits [24:14] for the instructions
 * that have them, loads and stores of one general register without write-back.
 * Not here: the fault status, WnR and the rest of the ISS (except.c).
 */
#include "pe/pe_internal.h"

#define ISS_ISV (UINT32_C(1) << 24)
#define ISS_SAS(n) ((uint32_t)(n) << 22)
#define ISS_SSE (UINT32_C(1) << 21)
#define ISS_SRT(n) ((uint32_t)(n) << 16)
#define ISS_SF (UINT32_C(1) << 15)
#define ISS_AR (UINT32_C(1) << 14)

/*
 * Which encodings, by mask and value, and where opc is: LDR and STR put size
 * in [31:30] and opc in [23:22], as do LDAPUR and STLUR. LDAR and STLR have
 * no opc, `opc` gives L from bit 22.
 */
static const struct {
	uint32_t mask, value;
	bool opc;
	bool acqrel;
} forms[] = {
	{ 0x3f000000, 0x39000000, true, false },  /* unsigned offset */
	{ 0x3f200c00, 0x38000000, true, false },  /* unscaled */
	{ 0x3f200c00, 0x38000800, true, false },  /* unprivileged */
	{ 0x3f204c00, 0x38204800, true, false },  /* register offset */
	{ 0x3f200c00, 0x19000000, true, true },   /* LDAPUR, STLUR */
	{ 0x3fa08000, 0x08808000, false, true },  /* LDAR, STLR */
	{ 0x3fe0fc00, 0x38a0c000, false, true },  /* LDAPR */
	{ 0xff200c00, 0xf8200400, false, false }, /* LDRAA, LDRAB without write-back */
};

uint32_t
a64_ldst_iss(uint32_t word)
{
	unsigned size = word >> 30, opc, i;
	uint32_t iss;
	bool sign, wide;

	if ((word & 0x3f000000) == 0x18000000) { /* literal: W, X, SW; PRFM */
		static const uint32_t literal[4] = { ISS_SAS(2), ISS_SAS(3) | ISS_SF,
			ISS_SAS(2) | ISS_SSE | ISS_SF, 0 };

		return (size == 3 ? 0 : literal[size] | ISS_ISV | ISS_SRT(word & 31));
	}
	for (i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
		if ((word & forms[i].mask) == forms[i].value)
			break;
	if (i == sizeof(forms) / sizeof(forms[0]))
		return (0);
	opc = forms[i].opc ? (word >> 22) & 3 : 1;
	/* PRFM, and the two words that nothing decodes to */
	if ((size == 3 && opc >= 2) || (size == 2 && opc == 3))
		return (0);
	sign = opc >= 2;
	wide = sign ? opc == 2 : size == 3;
	iss = ISS_ISV | ISS_SAS(size) | ISS_SRT(word & 31);
	if (sign)
		iss |= ISS_SSE;
	if (wide)
		iss |= ISS_SF;
	if (forms[i].acqrel)
		iss |= ISS_AR;
	return (iss);
}
