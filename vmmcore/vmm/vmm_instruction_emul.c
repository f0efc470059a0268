/*
 * Loads and stores to addresses that are not memory.
 *
 * With a valid syndrome (ESR_EL2.ISV) the instruction is known from it. Without
 * one, the word is read through the guest's stage 1 and decoded: pairs,
 * write-back and SIMD&FP registers become several accesses of at most 8 bytes
 * with the progress in struct vie_seq; exclusives, atomics and structure
 * accesses get an external abort, as from a device that cannot do them.
 *
 * Every access is offered to the interrupt controller, to RAM (a pair may end
 * there), to the doorbells, and then to userland.
 */
#include <errno.h>
#include <string.h>

#include "vmm/hyp.h"
#include "vmm/io/vgic.h"

#define BITS(w, lo, width) (((w) >> (lo)) & ((1u << (width)) - 1))
#define NO_REG 32u /* of wb_reg */
#define PAGE_FRAME UINT64_C(0x0000fffffffff000)

/* A load or store as decoded, before it is cut into accesses. */
struct ldst {
	bool load, simd, sign, sf, pair, regoff;
	unsigned rt, rt2, rn, size; /* size of one register */
	int64_t offset, writeback;
	bool post, wback;
};

static int64_t
sign_extend(uint64_t v, unsigned bits)
{
	uint64_t sign = UINT64_C(1) << (bits - 1);

	v &= (sign << 1) - 1;
	return ((int64_t)((v ^ sign) - sign));
}

/* LDP, STP, LDPSW, LDNP, STNP of both register files (DDI 0487, C4.1.94). */
static bool
decode_pair(uint32_t w, struct ldst *d)
{
	unsigned opc = BITS(w, 30, 2), mode = BITS(w, 23, 3);

	if (BITS(w, 27, 3) != 5 || BITS(w, 25, 1) != 0 || opc == 3)
		return (false);
	d->simd = BITS(w, 26, 1) != 0;
	d->load = BITS(w, 22, 1) != 0;
	d->pair = true;
	if (d->simd)
		d->size = 4u << opc;
	else {
		d->size = opc == 2 ? 8 : 4;
		d->sign = opc == 1;
		d->sf = opc != 0;
	}
	d->rt = BITS(w, 0, 5);
	d->rt2 = BITS(w, 10, 5);
	d->rn = BITS(w, 5, 5);
	d->offset = sign_extend(BITS(w, 15, 7), 7) * (int64_t)d->size;
	d->wback = mode == 1 || mode == 3;
	d->post = mode == 1;
	return (true);
}

/* Single registers: unsigned offset, unscaled, pre- and post-indexed, register. */
static bool
decode_single(uint32_t w, struct ldst *d)
{
	unsigned size = BITS(w, 30, 2), opc = BITS(w, 22, 2), mode = BITS(w, 10, 2);

	if (BITS(w, 27, 3) != 7 || BITS(w, 25, 1) != 0)
		return (false);
	d->simd = BITS(w, 26, 1) != 0;
	if (d->simd) {
		if ((opc & 2) != 0 && size != 0)
			return (false);
		d->size = (opc & 2) != 0 ? 16 : 1u << size;
		d->load = (opc & 1) != 0;
	} else {
		if (size == 3 && opc >= 2)
			return (false); /* prefetch */
		d->size = 1u << size;
		d->load = opc != 0;
		d->sign = opc >= 2;
		d->sf = opc == 2 || size == 3;
	}
	d->rt = BITS(w, 0, 5);
	d->rn = BITS(w, 5, 5);
	if (BITS(w, 24, 1) != 0) {
		d->offset = (int64_t)BITS(w, 10, 12) * d->size;
		return (true);
	}
	if (BITS(w, 21, 1) != 0) {
		d->regoff = true;
		return (mode == 2); /* the others are atomics and PAC loads */
	}
	d->offset = sign_extend(BITS(w, 12, 9), 9);
	d->wback = mode == 1 || mode == 3;
	d->post = mode == 1;
	return (true);
}

/* Current SP, for base register 31. */
static uint64_t *
sp_slot(struct hypctx *hypctx)
{
	/* EL0, or EL1 with SPSel 0 */
	return ((hypctx->tf.tf_spsr & 1) != 0 ? &hypctx->sp_el1 : &hypctx->sp_el0);
}

static uint64_t
register_offset(const struct hypctx *hypctx, uint32_t w, unsigned size)
{
	uint64_t m = hypctx_x(hypctx, BITS(w, 16, 5));
	unsigned option = BITS(w, 13, 3), shift = 0;

	if (option == 2)
		m = (uint32_t)m; /* UXTW */
	else if (option == 6)
		m = (uint64_t)sign_extend(m, 32); /* SXTW */
	if (BITS(w, 12, 1) != 0)
		shift = (unsigned)__builtin_ctz(size);
	return (m << shift);
}

/* Bytes of register r of a store, or where a load puts them. */
static void
reg_bytes(struct hypctx *hypctx, const struct vie_seq *s, unsigned r, uint8_t *buf)
{
	uint64_t x;

	if (s->simd != 0)
		memcpy(buf, hypctx->tf.tf_v[r], s->regsize);
	else {
		x = hypctx_x(hypctx, r);
		memcpy(buf, &x, s->regsize);
	}
}

static void
set_reg(struct hypctx *hypctx, const struct vie_seq *s, unsigned r, const uint8_t *buf)
{
	uint64_t x = 0;

	if (s->simd != 0) {
		memset(hypctx->tf.tf_v[r], 0, 16);
		memcpy(hypctx->tf.tf_v[r], buf, s->regsize);
		return;
	}
	memcpy(&x, buf, s->regsize);
	if (s->sign != 0)
		x = (uint64_t)sign_extend(x, s->regsize * 8);
	if (s->sf == 0)
		x = (uint32_t)x;
	hypctx_set_x(hypctx, r, x);
}

/* All accesses made: registers and PC change now. */
static void
complete(struct hypctx *hypctx)
{
	struct vie_seq *s = &hypctx->vie;
	uint8_t buf[VIE_MAXACC * 8];
	size_t at = 0;

	if (s->write == 0) {
		for (uint32_t i = 0; i < s->count; i++) {
			memcpy(buf + at, &s->acc[i].data, s->acc[i].size);
			at += s->acc[i].size;
		}
		set_reg(hypctx, s, s->rt, buf);
		if (s->nregs == 2)
			set_reg(hypctx, s, s->rt2, buf + s->regsize);
	}
	if (s->wb_reg < 31)
		hypctx->tf.tf_x[s->wb_reg] = s->wb_val;
	else if (s->wb_reg == 31)
		*sp_slot(hypctx) = s->wb_val;
	hypctx_skip(hypctx);
	s->active = 0;
}

static uint64_t
cut(uint64_t v, unsigned size)
{
	return (size < 8 ? v & ((UINT64_C(1) << (size * 8)) - 1) : v);
}

/* Registers of userland's devices that the core serves for them. */
static bool
in_core(struct vm *vm, struct hypctx *hypctx, uint64_t gpa, unsigned size, int dir, uint64_t *data)
{
	if (dir == VM_DIR_WRITE && vm_doorbell_ring(vm, gpa, size, *data)) {
		vmm_stat_incr(hypctx, VMEXIT_DOORBELL);
		return (true);
	}
	return (
	    vm_wire_access(vm, gpa, size, dir, data) || vm_latch_access(vm, gpa, size, dir, data));
}

/* Make accesses until userland is needed. */
static int
run(struct vm *vm, struct hypctx *hypctx, struct vm_exit *vme)
{
	struct vie_seq *s = &hypctx->vie;
	int dir = s->write != 0 ? VM_DIR_WRITE : VM_DIR_READ, error;

	for (; s->next < s->count; s->next++) {
		struct vie_access *a = &s->acc[s->next];

		error = vgic_its_mmio(vm, hypctx, a->gpa, a->size, dir, &a->data);
		if (error == EAGAIN) {
			/* More to do than fits into one exit: the guest makes it again. */
			hypctx->pending = PENDING_NONE;
			s->active = 0;
			return (VIE_DONE);
		}
		if (error == ENOENT)
			error = vgic_mmio(hypctx, a->gpa, a->size, dir, &a->data);
		if (error == 0) {
			vmm_stat_incr(hypctx, VMEXIT_GIC);
			continue;
		}
		if (error != ENOENT) {
			hypctx_inject_abort(
			    hypctx, false, ISS_FSC_EXTERNAL, hypctx->exit_info.far_el2);
			return (VIE_DONE);
		}
		if (s->count > 1 && vm_mem_allocated(vm, a->gpa)) {
			error = dir == VM_DIR_WRITE ? vm_copyout(vm, &a->data, a->gpa, a->size)
						    : vm_copyin(vm, a->gpa, &a->data, a->size);
			if (error == 0)
				continue;
		}
		if (in_core(vm, hypctx, a->gpa, a->size, dir, &a->data))
			continue;
		hypctx->pending = PENDING_INST_EMUL;
		vme->exitcode = VM_EXITCODE_INST_EMUL;
		vme->gpa = a->gpa;
		vme->access_size = (int)a->size;
		vme->dir = dir;
		vme->data = dir == VM_DIR_WRITE ? a->data : 0;
		return (VIE_EXIT);
	}
	hypctx->pending = PENDING_NONE;
	complete(hypctx);
	return (VIE_DONE);
}

int
vie_resume(struct vm *vm, struct hypctx *hypctx, struct vm_exit *vme)
{
	struct vie_seq *s = &hypctx->vie;

	hypctx->pending = PENDING_NONE;
	if (s->active == 0 || s->count > VIE_MAXACC || s->next >= s->count)
		return (VIE_DONE);
	if (s->write == 0)
		s->acc[s->next].data = cut(vme->data, s->acc[s->next].size);
	s->next++;
	return (run(vm, hypctx, vme));
}

/* The accesses of `d` at virtual address va. False: a fault was injected. */
static bool
plan(struct vm *vm, struct hypctx *hypctx, const struct ldst *d, uint64_t va, uint64_t gpa)
{
	struct vie_seq *s = &hypctx->vie;
	unsigned total = d->size * (d->pair ? 2 : 1), n, fsc;
	uint64_t far = hypctx->exit_info.far_el2, page;
	uint8_t buf[32];

	if (!d->load) {
		reg_bytes(hypctx, s, d->rt, buf);
		if (d->pair)
			reg_bytes(hypctx, s, d->rt2, buf + d->size);
	}
	for (unsigned at = 0; at < total; at += n) {
		struct vie_access *a = &s->acc[s->count++];

		n = d->size > 8 ? 8 : d->size;
		a->size = n;
		a->data = 0;
		if (!d->load)
			memcpy(&a->data, buf + at, n);
		/* The page that faulted is known; a pair may reach into the next. */
		if (((va + at) & 0xfff) + n > 0x1000) {
			hypctx_inject_abort(hypctx, false, ISS_FSC_ALIGNMENT, va + at);
			return (false);
		}
		page = gpa & ~UINT64_C(0xfff);
		if (((va + at) & PAGE_FRAME) != (far & PAGE_FRAME) &&
		    vm_stage1_walk(vm, hypctx, va + at, d->load ? VM_PROT_READ : VM_PROT_WRITE,
			&page, &fsc) != 0) {
			hypctx_inject_abort(hypctx, false, fsc, va + at);
			return (false);
		}
		a->gpa = (page & ~UINT64_C(0xfff)) | ((va + at) & 0xfff);
	}
	return (true);
}

static int
start_decoded(struct vm *vm, struct hypctx *hypctx, uint64_t gpa, struct vm_exit *vme)
{
	struct vie_seq *s = &hypctx->vie;
	struct ldst d = { 0 };
	uint64_t base, pc_gpa, va;
	unsigned fsc;
	uint32_t w;
	int error;

	error = vm_stage1_walk(vm, hypctx, hypctx->tf.tf_elr, 0, &pc_gpa, &fsc);
	if (error == 0)
		error = vm_copyin(vm, pc_gpa, &w, sizeof(w));
	if (error != 0)
		return (VIE_DONE); /* the mapping went away under us: fault again */
	if (a64_decode(w) == 0 || !(decode_pair(w, &d) || decode_single(w, &d)) ||
	    d.load == ((hypctx->tf.tf_esr & ISS_WNR) != 0)) {
		hypctx_inject_abort(hypctx, false, ISS_FSC_EXTERNAL, hypctx->exit_info.far_el2);
		return (VIE_DONE);
	}
	base = d.rn == 31 ? *sp_slot(hypctx) : hypctx_x(hypctx, d.rn);
	va = d.post ? base : base + (uint64_t)d.offset;
	if (d.regoff)
		va = base + register_offset(hypctx, w, d.size);
	memset(s, 0, sizeof(*s));
	s->active = 1;
	s->write = !d.load;
	s->simd = d.simd;
	s->rt = d.rt;
	s->rt2 = d.rt2;
	s->nregs = d.pair ? 2 : 1;
	s->regsize = d.size;
	s->sign = d.sign;
	s->sf = d.sf;
	s->wb_reg = d.wback ? d.rn : NO_REG;
	s->wb_val = base + (uint64_t)d.offset;
	if (!plan(vm, hypctx, &d, va, gpa))
		return (VIE_DONE);
	return (run(vm, hypctx, vme));
}

int
vie_start(struct vm *vm, struct hypctx *hypctx, uint64_t gpa, struct vm_exit *vme)
{
	uint64_t esr = hypctx->tf.tf_esr;
	struct vie_seq *s = &hypctx->vie;

	if ((esr & ISS_CM) != 0) {
		/* Cache maintenance of what is no memory: nothing to do. */
		hypctx_skip(hypctx);
		return (VIE_DONE);
	}
	if ((esr & ISS_ISV) == 0)
		return (start_decoded(vm, hypctx, gpa, vme));
	memset(s, 0, offsetof(struct vie_seq, acc));
	s->active = 1;
	s->count = 1;
	s->write = (esr & ISS_WNR) != 0;
	s->rt = (uint32_t)(esr >> 16) & 31;
	s->nregs = 1;
	s->regsize = 1u << ((esr >> 22) & 3);
	s->sign = (uint32_t)(esr >> 21) & 1;
	s->sf = (uint32_t)(esr >> 15) & 1;
	s->wb_reg = NO_REG;
	s->acc[0].gpa = gpa;
	s->acc[0].size = s->regsize;
	s->acc[0].data = cut(hypctx_x(hypctx, s->rt), s->regsize);
	return (run(vm, hypctx, vme));
}

/*
 * An access to a register in the core needs nothing of the host's world: done at
 * once, the guest goes on without a world switch. Only the plainest form, with a
 * valid syndrome and nobody watching; whatever this turns down takes the long way.
 */
bool
vie_at_el2(struct vm *vm, struct hypctx *hypctx, struct pe *pe)
{
	uint64_t esr = 0, far = 0, hpfar = 0, spsr = 0, elr = 0, data = 0, gpa;
	unsigned rt, size;
	bool write;

	(void)pe_mrs(pe, ESR_EL2, &esr);
	if (ESR_EC(esr) != EC_DATA_ABORT_LOWER || (esr & ISS_ISV) == 0 ||
	    (esr & (ISS_CM | ISS_S1PTW)) != 0 || (esr & 0x3c) != ISS_FSC_TRANSLATION)
		return (false);
	if (hypctx->debug_in != 0 ||
	    atomic_load_explicit(&hypctx_hyp(hypctx)->trace.on, memory_order_relaxed) != 0)
		return (false);
	(void)pe_mrs(pe, FAR_EL2, &far);
	(void)pe_mrs(pe, HPFAR_EL2, &hpfar);
	(void)pe_mrs(pe, SPSR_EL2, &spsr);
	if ((spsr & PSR_SS) != 0)
		return (false); /* the guest steps itself */
	gpa = (((hpfar >> 4) << 12) & PAGE_FRAME) | (far & (PAGE_SIZE - 1));
	rt = (unsigned)(esr >> 16) & 31;
	size = 1u << ((esr >> 22) & 3);
	write = (esr & ISS_WNR) != 0;
	if (write && rt != 31)
		data = cut(pe_gpr(pe)->x[rt], size);
	if (!in_core(vm, hypctx, gpa, size, write ? VM_DIR_WRITE : VM_DIR_READ, &data))
		return (false);
	if (!write && rt != 31) {
		data = cut(data, size);
		if ((esr & (UINT64_C(1) << 21)) != 0)
			data = (uint64_t)sign_extend(data, size * 8);
		pe_gpr(pe)->x[rt] = (esr & (UINT64_C(1) << 15)) != 0 ? data : (uint32_t)data;
	}
	(void)pe_mrs(pe, ELR_EL2, &elr);
	(void)pe_msr(pe, ELR_EL2, elr + 4);
	(void)pe_msr(pe, SPSR_EL2, spsr & ~PSR_BTYPE);
	vmm_stat_incr(hypctx, VMEXIT_COUNT);
	vmm_stat_incr(hypctx, VMEXIT_DATA_ABORT);
	return (true);
}
