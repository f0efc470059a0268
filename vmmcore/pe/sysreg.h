/*
 * The table of system registers: one row of sysreg.def each.
 *
 *	SYSREG(name, op0, op1, crn, crm, op2, acc, reset, wmask, rd, wr, trap)
 *
 *	acc    SR_R0 ... SR_W2: which levels may read and write; the rest UNDEFINED
 *	reset  value at pe_reset()
 *	wmask  bits a write keeps; the others keep their reset value
 *	rd,wr  functions, or NULL for plain storage in pe->sr[SR_name]
 *	trap   function that says who takes an access, or NULL
 *
 * Groups with their own files include here: sysreg_gic.def, sysreg_timer.def,
 * sysreg_pmu.def.
 */
#ifndef PE_SYSREG_H
#define PE_SYSREG_H

#include "pe/pe_internal.h"

#define SR_R0 1u
#define SR_W0 2u
#define SR_R1 4u
#define SR_W1 8u
#define SR_R2 16u
#define SR_W2 32u
#define SR_RW2 (SR_R2 | SR_W2)
#define SR_RW1 (SR_R1 | SR_W1 | SR_RW2)
#define SR_RO1 (SR_R1 | SR_R2)
#define SR_WO1 (SR_W1 | SR_W2)
#define SR_RW0 (SR_R0 | SR_W0 | SR_RW1)
#define SR_WO0 (SR_W0 | SR_WO1)
/* What it says depends on how many instructions were executed (pmu.h). */
#define SR_EXACT 64u
#define SR_RO0 (SR_R0 | SR_RO1)

struct sysreg {
	const char *name;
	uint16_t enc;    /* PE_SYSREG() */
	uint16_t sr;     /* SR_name */
	uint8_t acc;     /* and SR_EXACT */
	uint8_t feature; /* PE_FEAT_x + 1: only there with it; 0: always */
	uint64_t reset, wmask;
	uint64_t (*rd)(struct pe *, const struct sysreg *);
	void (*wr)(struct pe *, const struct sysreg *, uint64_t);
	/*
	 * Called for accesses from EL0 and EL1 (never for pe_mrs/pe_msr): 0
	 * goes on, 1 traps to EL1, 2 to EL2 (EC 0x18), -1 is UNDEFINED.
	 */
	int (*trap)(struct pe *, const struct sysreg *, bool write);
};

extern const struct sysreg sysregs[SR_COUNT];
/* Plain reads and writes of a row, as its functions or its storage say. */
static inline uint64_t
sysreg_read(struct pe *pe, const struct sysreg *r)
{
	return (r->rd != NULL ? r->rd(pe, r) : pe->sr[r->sr]);
}

static inline void
sysreg_write(struct pe *pe, const struct sysreg *r, uint64_t v)
{
	if (r->wr != NULL)
		r->wr(pe, r, v);
	else
		pe->sr[r->sr] = (v & r->wmask) | (r->reset & ~r->wmask);
}

/* FEAT_VHE (sysreg_vhe.c): what an EL1 name means at EL2 with HCR_EL2.E2H. */
const struct sysreg *sysreg_el1_of(const struct sysreg *);
const struct sysreg *sysreg_at_el2(const struct pe *, const struct sysreg *);
/* Is it a register that has another meaning there? */
bool sysreg_redirected(const struct sysreg *);
/* The row that a name means to code at EL2 of this PE now; NULL: it has none. */
const struct sysreg *sysreg_at_el2_named(const struct pe *, uint32_t enc);
/* NULL: no such register. */
const struct sysreg *sysreg_find(uint32_t enc);

#endif /* PE_SYSREG_H */
