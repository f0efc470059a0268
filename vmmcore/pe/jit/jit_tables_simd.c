/*
 * Which Advanced SIMD integer op is lowered how: the rows of simd_rows.def.
 */
#include "pe/jit/lower_simd.h"

const struct lowering_row jit_rows_simd[] = {
#define S(op, fn, needs) { A64_##op, 0, HOST_AVX2 | (needs), lower_##fn },
#include "pe/jit/simd_rows.def"
#undef S
	{ 0, 0, 0, NULL },
};
