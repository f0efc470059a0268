/*
 * What the floating-point executors share: scalar operands in the SIMD
 * registers. Not here: handlers, arithmetic.
 */
#ifndef PE_EXEC_FP_H
#define PE_EXEC_FP_H

#include "pe/a64_handlers.h"
#include "pe/fp_host.h"

#define FP_ENTER(pe, in)                                 \
	do {                                             \
		if (unlikely((pe)->fp_trapped))          \
			return (pe_fp_trap((pe), (in))); \
	} while (0)

/* The lowest element of a SIMD register. */
static inline uint64_t
fp_reg(const struct pe *pe, unsigned sz, unsigned r)
{
	uint64_t v = pe->v[r][0];

	return (sz == FP_D ? v : sz == FP_S ? (uint32_t)v : (uint16_t)v);
}

/* A scalar result clears the rest of the register. */
static inline void
fp_put(struct pe *pe, unsigned sz, unsigned r, uint64_t value)
{
	pe->v[r][0] = sz == FP_D ? value : sz == FP_S ? (uint32_t)value : (uint16_t)value;
	pe->v[r][1] = 0;
}

#endif /* PE_EXEC_FP_H */
