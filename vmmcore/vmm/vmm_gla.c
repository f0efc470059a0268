/*
 * Stage 1 by software: from a guest virtual address to a guest physical one
 * with the registers in struct hypctx (DDI 0487, D8.2). For userland and for
 * the instruction emulator; any process can do it, no PE is needed. Hardware
 * management of the access flag is not repeated here.
 */
#include <errno.h>
#include <string.h>

#include "vmm/hyp.h"

#define SCTLR_M UINT64_C(1)

struct regime {
	unsigned page_bits; /* 12, 14, 16 */
	unsigned va_bits;
	uint64_t ttbr;
	bool tbi, epd, hpd;
};

static uint64_t
field(uint64_t v, unsigned lo, unsigned width)
{
	return ((v >> lo) & ((UINT64_C(1) << width) - 1));
}

/* TCR_EL1 for the half that the address belongs to. EINVAL: reserved. */
static int
decode_tcr(const struct hypctx *hypctx, bool high, struct regime *r)
{
	static const uint8_t tg0[4] = { 12, 16, 14, 0 }, tg1[4] = { 0, 14, 12, 16 };
	uint64_t tcr = hypctx->tcr_el1;
	unsigned tsz = (unsigned)field(tcr, high ? 16 : 0, 6);

	r->page_bits = high ? tg1[field(tcr, 30, 2)] : tg0[field(tcr, 14, 2)];
	r->tbi = field(tcr, high ? 38 : 37, 1) != 0;
	r->hpd = field(tcr, high ? 42 : 41, 1) != 0;
	r->epd = field(tcr, high ? 23 : 7, 1) != 0;
	r->ttbr = high ? hypctx->ttbr1_el1 : hypctx->ttbr0_el1;
	r->va_bits = 64 - tsz;
	return (r->page_bits == 0 || tsz < 16 || tsz > 39 ? EINVAL : 0);
}

static int
fault(unsigned *fsc, unsigned code)
{
	*fsc = code;
	return (EFAULT);
}

/* AP[2:1], UXN and PXN of the leaf with APTable, UXNTable and PXNTable above it. */
static bool
permitted(const struct hypctx *hypctx, uint64_t pte, uint64_t tables, int prot)
{
	bool el0 = (hypctx->tf.tf_spsr & 0xf) == 0;
	bool user = field(pte, 6, 1) != 0 && field(tables, 61, 1) == 0;
	bool ro = field(pte, 7, 1) != 0 || field(tables, 62, 1) != 0;
	bool uxn = field(pte, 54, 1) != 0 || field(tables, 60, 1) != 0;
	bool pxn = field(pte, 53, 1) != 0 || field(tables, 59, 1) != 0;

	if ((prot & VM_PROT_WRITE) != 0 && ro)
		return (false);
	if ((prot & (VM_PROT_READ | VM_PROT_WRITE)) != 0 && el0 && !user)
		return (false);
	if ((prot & VM_PROT_EXEC) != 0 && (el0 ? uxn : pxn || (user && !ro)))
		return (false);
	return (true);
}

int
vm_stage1_walk(struct vm *vm, const struct hypctx *hypctx, uint64_t gla, int prot, uint64_t *gpa,
    unsigned *fsc)
{
	uint64_t base, len, pte, table, tables = 0;
	unsigned bits, level, shift;
	struct regime r;
	bool high;
	void *hva;

	if ((hypctx->sctlr_el1 & SCTLR_M) == 0) {
		*gpa = gla;
		return (gla < IPA_END ? 0 : fault(fsc, ISS_FSC_ADDR_SIZE));
	}
	high = field(gla, 55, 1) != 0;
	if (decode_tcr(hypctx, high, &r) != 0)
		return (EINVAL);
	if (r.tbi)
		gla =
		    high ? gla | UINT64_C(0xff00000000000000) : gla & UINT64_C(0x00ffffffffffffff);
	base = high ? ~UINT64_C(0) << r.va_bits : 0;
	if (r.epd || gla - base >= UINT64_C(1) << r.va_bits)
		return (fault(fsc, ISS_FSC_TRANSLATION));
	bits = r.page_bits - 3;
	/* The first level whose index is not all of it above the address size. */
	level = 4 - (r.va_bits - r.page_bits + bits - 1) / bits;
	table = r.ttbr & UINT64_C(0x0000fffffffffffe);
	for (;; level++) {
		shift = r.page_bits + (3 - level) * bits;
		len = 8;
		base = table +
		       field(gla, shift, r.va_bits - shift < bits ? r.va_bits - shift : bits) * 8;
		if ((hva = vm_gpa2hva(vm, base, &len)) == NULL || len < 8)
			return (fault(fsc, ISS_FSC_EXTERNAL | 4 | level));
		pte = __atomic_load_n((uint64_t *)hva, __ATOMIC_ACQUIRE);
		if ((pte & 1) == 0)
			return (fault(fsc, ISS_FSC_TRANSLATION | level));
		if (level == 3 || (pte & 2) == 0)
			break;
		if (!r.hpd)
			tables |= pte & (UINT64_C(0x1f) << 59);
		table = pte & UINT64_C(0x0000ffffffffffff) & (~UINT64_C(0) << r.page_bits);
	}
	/* A page at level 3; blocks at 1 (4 KiB granule only) and 2. */
	if ((level == 3 && (pte & 2) == 0) || level == 0 || (level == 1 && r.page_bits != 12))
		return (fault(fsc, ISS_FSC_TRANSLATION | level));
	if (!permitted(hypctx, pte, tables, prot))
		return (fault(fsc, ISS_FSC_PERMISSION | level));
	*gpa = (pte & UINT64_C(0x0000ffffffffffff) & (~UINT64_C(0) << shift)) |
	       (gla & ~(~UINT64_C(0) << shift));
	return (*gpa < IPA_END ? 0 : fault(fsc, ISS_FSC_ADDR_SIZE | level));
}

int
vm_gla2gpa(struct vm *vm, int vcpu, uint64_t gla, int prot, uint64_t *gpa, int *is_fault)
{
	struct hypctx *hypctx = vm_ctx(vm, vcpu);
	unsigned fsc;
	int error;

	if ((error = vcpu_freeze(vm, hypctx)) != 0)
		return (error);
	error = vm_stage1_walk(vm, hypctx, gla, prot, gpa, &fsc);
	vcpu_thaw(vm, hypctx);
	*is_fault = error == EFAULT;
	return (error == EFAULT ? 0 : error);
}
