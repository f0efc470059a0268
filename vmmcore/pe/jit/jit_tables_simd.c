/*
 * Which Advanced SIMD integer op is lowered how: the rows of simd_rows.def.
 */
#include "pe/jit/lower_simd.h"

/* CRC32C is beside, in a64.decode. */
const struct lowering_row jit_rows_simd[] = {
#define S(op, fn, needs) { A64_##op, 0, HOST_AVX2 | (needs), lower_##fn },
#include "pe/jit/simd_rows.def"
#undef S
	{ A64_CRC32CB, A_PURE, HOST_CRC32, lower_crc32c },
	{ A64_CRC32CH, A_PURE, HOST_CRC32, lower_crc32c },
	{ A64_CRC32CW, A_PURE, HOST_CRC32, lower_crc32c },
	{ A64_CRC32CX, A_PURE, HOST_CRC32, lower_crc32c },
	{ 0, 0, 0, NULL },
};
