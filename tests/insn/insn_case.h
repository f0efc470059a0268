/*
 * The binary format of a batch: what generate.py writes, what insn_host (our
 * executor) and insn_guest (the same under qemu-aarch64) read and answer.
 * A batch file is an array of struct insn_case, the answer one of struct
 * insn_result. generate.py has the same layout as struct formats.
 *
 * Every case has its own fixed code address, within reach of a B from the guest program
 * (128 MiB), so PC-relative instructions agree:
 *
 *	CODE + 32 * n      ldp x0, x1, [x0]     (the guest's; the host skips it)
 *	            +  4   words[0] ... words[3]
 *	            + 20   b save               end of the case
 *	            + 24   b save_taken         the only target of a branch
 */
#ifndef INSN_CASE_H
#define INSN_CASE_H

#include <stdint.h>

#define CASE_CODE 0x04000000u
#define CASE_STRIDE 32u
#define CASE_MAX 16384u
/* Two pages of data, below 1 MiB from every case; SCRATCH_LEN bytes are seeded. */
#define CASE_PAGES 0x04080000u
#define CASE_PAGES_LEN 8192u
#define CASE_SCRATCH 0x04080c00u
#define CASE_SCRATCH_LEN 2048u

enum { ST_END = 0, ST_TAKEN = 1, ST_UNDEF = 2, ST_FAULT = 3, ST_TRAP = 4, ST_OTHER = 5 };

struct insn_case {
	uint32_t words[4]; /* unused ones are NOP */
	uint64_t x[31];
	uint64_t sp;
	uint64_t v[32][2];
	uint32_t nzcv, fpcr, fpsr, seed;
};

struct insn_result {
	uint64_t x[31];
	uint64_t sp;
	uint64_t v[32][2];
	uint32_t nzcv, fpcr, fpsr, status;
	uint64_t mem; /* hash of the scratch */
	uint64_t zero;
};

static inline void
scratch_fill(uint64_t *p, uint32_t seed)
{
	uint64_t s = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	unsigned i;

	for (i = 0; i < CASE_SCRATCH_LEN / 8; i++) {
		s ^= s << 13;
		s ^= s >> 7;
		s ^= s << 17;
		p[i] = s;
	}
}

static inline uint64_t
scratch_hash(const uint64_t *p)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	unsigned i;

	for (i = 0; i < CASE_SCRATCH_LEN / 8; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return (h);
}

#endif /* INSN_CASE_H */
