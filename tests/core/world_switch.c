/*
 * One PE enters the contexts of two VMs in turns, with random register files:
 * every register of both guests and of the host comes back as it was.
 *
 *	world_switch DIR SEED ROUNDS VHE
 *
 * A guest either calls at once (HVC), or first stores what it sees of its
 * registers into its memory.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pe/sysreg.h"
#include "vmm/io/vgic.h"
#include "vmm/mmu.h"
#include "vmm/vmm_handlers.h"

#define RAM UINT64_C(0x80000000)
#define CODE_HVC RAM
#define CODE_VIEW (RAM + 0x1000)
#define VIEW (RAM + 0x8000)
#define VECTORS (RAM + 0x10000) /* 16 tables full of HVC #1: an exception is a failure */
#define NREGS 256
#define DAIF UINT64_C(0x3c0)

static uint64_t rng;

static uint64_t
rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (rng * UINT64_C(0x2545f4914f6cdd1d));
}

static void
fail(const char *what, const char *name, uint64_t want, uint64_t got)
{
	printf("%s: %s: %#llx, not %#llx\n", what, name, (unsigned long long)got,
	    (unsigned long long)want);
	exit(1);
}

static void
same(const char *what, const char *name, uint64_t want, uint64_t got)
{
	if (want != got)
		fail(what, name, want, got);
}

static void
must(const char *what, int error)
{
	if (error != 0)
		fail(what, strerror(error), 0, (uint64_t)error);
}

/* Registers the guest stores for us, in this order, after x0 to x30 and v0 to v31. */
static const uint32_t viewed[] = {
	PE_SYSREG(3, 0, 4, 1, 0),  /* sp_el0 */
	PE_SYSREG(3, 3, 13, 0, 2), /* tpidr_el0 */
	PE_SYSREG(3, 0, 13, 0, 4), /* tpidr_el1 */
	PE_SYSREG(3, 0, 12, 0, 0), /* vbar_el1 */
	PE_SYSREG(3, 0, 2, 0, 0),  /* ttbr0_el1 */
	PE_SYSREG(3, 0, 2, 0, 1),  /* ttbr1_el1 */
	PE_SYSREG(3, 0, 6, 0, 0),  /* far_el1 */
	PE_SYSREG(3, 0, 4, 0, 1),  /* elr_el1 */
	PE_SYSREG(3, 0, 7, 4, 0),  /* par_el1 */
	PE_SYSREG(3, 3, 4, 4, 0),  /* fpcr */
	PE_SYSREG(2, 0, 0, 1, 4),  /* dbgbvr1_el1 */
	PE_SYSREG(3, 0, 0, 0, 5),  /* mpidr_el1: VMPIDR */
};
#define NVIEWED (sizeof(viewed) / sizeof(viewed[0]))

static unsigned
make_viewer(uint32_t *w)
{
	unsigned n = 0;

	/* x30 is the buffer: STP x(2i), x(2i+1); STR x30; STP q */
	for (uint32_t i = 0; i < 30; i += 2)
		w[n++] = 0xa9000000u | (i << 15) | ((i + 1) << 10) | (30u << 5) | i;
	w[n++] = 0xf9000000u | (30u << 10) | (30u << 5) | 30u;
	for (uint32_t i = 0; i < 32; i++)
		w[n++] = 0x3d800000u | ((16 + i) << 10) | (30u << 5) | i;
	for (uint32_t i = 0; i < NVIEWED; i++) {
		w[n++] = 0xd5200000u | (viewed[i] << 5); /* mrs x0 */
		w[n++] = 0xf9000000u | ((96 + i) << 10) | (30u << 5);
	}
	w[n++] = 0xd4000002u; /* hvc #0 */
	return (n);
}

struct guest {
	struct vm *vm;
	struct hypctx *ctx;
	struct hypctx want;
	unsigned lrs;
};

static void
make_guest(struct guest *g, const char *dir, const char *name, int vhe)
{
	struct vm_options opt = { .maxcpus = 2, .vhe = vhe };
	uint32_t code[512];
	unsigned n;

	(void)vm_destroy(dir, name);
	must("create", vm_create(dir, name, &opt));
	must("open", vm_open(dir, name, &g->vm));
	must("memory", vm_alloc_memseg(g->vm, 0, 1 << 20, true));
	must("map", vm_mmap_memseg(g->vm, RAM, 0, 0, 1 << 20, 7));
	code[0] = 0xd4000002u; /* hvc #0 */
	must("code", vm_copyout(g->vm, code, CODE_HVC, 4));
	n = make_viewer(code);
	must("code", vm_copyout(g->vm, code, CODE_VIEW, n * 4));
	for (unsigned i = 0; i < 512; i++)
		code[i] = 0xd4000022u; /* hvc #1 */
	for (uint64_t gpa = VECTORS; gpa < VECTORS + 16 * 0x800; gpa += sizeof(code))
		must("vectors", vm_copyout(g->vm, code, gpa, sizeof(code)));
	for (uint64_t gpa = RAM; gpa < RAM + (1 << 20); gpa += PAGE_SIZE)
		must("page in", vm_pagein(g->vm, gpa, VM_PROT_WRITE));
	g->ctx = hyp_ctx(g->vm->hyp, 0);
}

static bool
fixed(const struct hyp_reg *r)
{
	return ((r->flags & HYP_EL2) != 0 && r->offset != offsetof(struct hypctx, vmpidr_el2) &&
		r->offset != offsetof(struct hypctx, vpidr_el2));
}

/* What a register keeps of a value: a row without functions says so itself. */
static bool
known_mask(uint32_t enc, uint64_t *mask, uint64_t *reset)
{
	const struct sysreg *r = sysreg_find(enc);

	*mask = r->wmask;
	*reset = r->reset & ~r->wmask;
	return (r->rd == NULL && r->wr == NULL);
}

static void
randomize(struct guest *g, struct pcpu *p)
{
	struct hypctx *c = g->ctx;
	uint64_t v;

	for (unsigned i = 0; i < 31; i++)
		c->tf.tf_x[i] = rnd();
	for (unsigned i = 0; i < 64; i++)
		c->tf.tf_v[i / 2][i % 2] = rnd();
	for (unsigned i = 0; i < p->nregs; i++) {
		const struct hyp_reg *r = &hyp_regs[p->reg[i]];

		if (fixed(r))
			continue;
		v = rnd();
		if (r->offset == offsetof(struct hypctx, sctlr_el1))
			v = (v & ~UINT64_C(0x03000003)) | 0x30d00800; /* M, A, EE, E0E off */
		if (r->offset == offsetof(struct hypctx, mdscr_el1))
			v &= ~UINT64_C(0xa001); /* SS, KDE, MDE off */
		if (r->offset == offsetof(struct hypctx, cpacr_el1))
			v |= UINT64_C(3) << 20;
		if (r->offset == offsetof(struct hypctx, vbar_el1))
			v = VECTORS + (v & 0x7fff);
		*hyp_reg(c, p->reg[i]) = v;
	}
	c->tf.tf_spsr = (rnd() & UINT64_C(0xf0000000)) | DAIF | 4 | (rnd() & 1);
	c->vtimer_cpu.virt_timer.cntx_cval_el0 = rnd();
	c->vtimer_cpu.virt_timer.cntx_ctl_el0 = 2 | (rnd() & 1);
	c->vtimer_cpu.cntkctl_el1 = rnd();
	c->vgic_v3_regs.ich_vmcr_el2 = rnd();
	c->vgic_v3_regs.ich_ap0r_el2 = (uint32_t)rnd();
	c->vgic_v3_regs.ich_ap1r_el2 = (uint32_t)rnd();
	c->vgic_v3_regs.ich_hcr_el2 = 1 | (rnd() & UINT64_C(0xf8000000));
	c->vgic_cpu.lr_used = g->lrs = (unsigned)rnd() % 5;
	for (unsigned i = 0; i < g->lrs; i++)
		c->vgic_v3_regs.ich_lr_el2[i] = (rnd() & UINT64_C(0xd0f8000000000000)) |
						(UINT64_C(1) << 60) | (32 + 200 * i + rnd() % 200);
}

static void
compare(const struct guest *g, const struct pcpu *p)
{
	struct hypctx *c = g->ctx;
	char name[16];

	for (unsigned i = 0; i < 31; i++) {
		(void)snprintf(name, sizeof(name), "x%u", i);
		same("guest", name, g->want.tf.tf_x[i], c->tf.tf_x[i]);
	}
	for (unsigned i = 0; i < 64; i++)
		same("guest", "v", g->want.tf.tf_v[i / 2][i % 2], c->tf.tf_v[i / 2][i % 2]);
	for (unsigned i = 0; i < p->nregs; i++)
		same("guest", pe_sysreg_name(hyp_regs[p->reg[i]].enc),
		    *hyp_reg((struct hypctx *)(uintptr_t)&g->want, p->reg[i]),
		    *hyp_reg(c, p->reg[i]));
	same("guest", "SPSR_EL2", g->want.tf.tf_spsr, c->tf.tf_spsr);
#define SAME(f) same("guest", #f, g->want.f, c->f)
	SAME(vtimer_cpu.virt_timer.cntx_cval_el0);
	SAME(vtimer_cpu.cntkctl_el1);
	SAME(vgic_v3_regs.ich_vmcr_el2);
	SAME(vgic_v3_regs.ich_ap0r_el2);
	SAME(vgic_v3_regs.ich_ap1r_el2);
	SAME(vgic_v3_regs.ich_hcr_el2);
	same("guest", "CNTV_CTL", g->want.vtimer_cpu.virt_timer.cntx_ctl_el0 & 3,
	    c->vtimer_cpu.virt_timer.cntx_ctl_el0 & 3);
	for (unsigned i = 0; i < g->lrs; i++)
		SAME(vgic_v3_regs.ich_lr_el2[i]);
}

/* Registers of the host: all that hyp_regs.def names, and what selects the world. */
struct host {
	uint64_t reg[NREGS];
	struct pe_gpr gpr;
	uint64_t vttbr, cnthctl, cntvoff, cntkctl;
};

static uint64_t
mrs(struct pe *pe, uint32_t enc)
{
	uint64_t v = 0;

	must("mrs", pe_mrs(pe, enc, &v));
	return (v);
}

static void
host_read(struct pcpu *p, struct host *h)
{
	for (unsigned i = 0; i < p->nregs; i++)
		h->reg[i] = mrs(p->pe, hyp_regs[p->reg[i]].enc);
	h->gpr = *pe_gpr(p->pe);
	h->vttbr = mrs(p->pe, VTTBR_EL2);
	h->cnthctl = mrs(p->pe, PE_SYSREG(3, 4, 14, 1, 0));
	h->cntvoff = mrs(p->pe, PE_SYSREG(3, 4, 14, 0, 3));
	h->cntkctl = mrs(p->pe, PE_SYSREG(3, 0, 14, 1, 0));
}

static void
host_fill(struct pcpu *p)
{
	for (unsigned i = 0; i < p->nregs; i++) {
		if ((hyp_regs[p->reg[i]].flags & HYP_EL2) == 0)
			(void)pe_msr(p->pe, hyp_regs[p->reg[i]].enc, rnd());
	}
	for (unsigned i = 0; i < 31; i++)
		pe_gpr(p->pe)->x[i] = rnd();
	for (unsigned i = 0; i < 64; i++)
		pe_gpr(p->pe)->v[i / 2][i % 2] = rnd();
}

/* ELR, SPSR, ESR and FAR of a host at EL2 are what the last exception left in them. */
static bool
of_exception(const struct pcpu *p, uint32_t enc)
{
	return (
	    p->vhe != 0 && (enc == PE_SYSREG(3, 0, 4, 0, 1) || enc == PE_SYSREG(3, 0, 4, 0, 0) ||
			       enc == PE_SYSREG(3, 0, 5, 2, 0) || enc == PE_SYSREG(3, 0, 6, 0, 0)));
}

static void
host_compare(struct pcpu *p, const struct host *want)
{
	struct host now;

	host_read(p, &now);
	for (unsigned i = 0; i < p->nregs; i++) {
		if (!of_exception(p, hyp_regs[p->reg[i]].enc))
			same("host", pe_sysreg_name(hyp_regs[p->reg[i]].enc), want->reg[i],
			    now.reg[i]);
	}
	same("host", "x and v", 0, (uint64_t)(memcmp(&want->gpr, &now.gpr, sizeof(now.gpr)) != 0));
	same("host", "VTTBR_EL2", want->vttbr, now.vttbr);
	same("host", "CNTHCTL_EL2", want->cnthctl, now.cnthctl);
	same("host", "CNTVOFF_EL2", want->cntvoff, now.cntvoff);
	same("host", "CNTKCTL_EL1", want->cntkctl, now.cntkctl);
}

static void
enter(struct guest *g, struct pcpu *p, uint64_t pc)
{
	int type;

	g->ctx->tf.tf_elr = pc;
	type = vmm_enter_guest(p, g->vm->hyp, g->ctx);
	if ((g->ctx->tf.tf_esr & 1) != 0)
		printf("ELR_EL1 %#llx SPSR_EL1 %#llx FAR_EL1 %#llx SCTLR_EL1 %#llx\n",
		    (unsigned long long)g->ctx->elr_el1, (unsigned long long)g->ctx->spsr_el1,
		    (unsigned long long)g->ctx->far_el1, (unsigned long long)g->ctx->sctlr_el1);
	if ((g->ctx->tf.tf_esr & 1) != 0)
		fail("exception in the guest", "ESR_EL1", 0, g->ctx->esr_el1);
	same("exit", "type", EXCP_TYPE_EL1_SYNC, (uint64_t)type);
	same("exit", "ESR_EL2", UINT64_C(0x5a000000), g->ctx->tf.tf_esr);
}

static void
check_view(struct guest *g)
{
	uint64_t view[128];
	must("view", vm_copyin(g->vm, VIEW, view, sizeof(view)));
	for (unsigned i = 0; i < 31; i++)
		same("seen", "x", g->want.tf.tf_x[i], view[i]);
	for (unsigned i = 0; i < 64; i++)
		same("seen", "v", g->want.tf.tf_v[i / 2][i % 2], view[32 + i]);
	for (unsigned i = 0; i < NVIEWED; i++) {
		uint64_t want = g->want.vmpidr_el2;

		for (unsigned j = 0; j < hyp_regs_count; j++) {
			if (hyp_regs[j].enc == viewed[i])
				want = *hyp_reg(&g->want, j);
		}
		same("seen", pe_sysreg_name(viewed[i]), want, view[96 + i]);
	}
}

static void
refuse(struct pcpu *p, struct guest *g)
{
	uint64_t pa = vm_hypctx_pa(g->vm, g->ctx), r;

	/* A kernel virtual address, a crooked one, one past the last vCPU, another segment. */
	same("refused", "VA", EINVAL,
	    (uint64_t)vmm_nvhe_hvc(p, HYP_ENTER_GUEST, (uint64_t)(uintptr_t)g->ctx, &r));
	same("refused", "PA + 8", EINVAL, (uint64_t)vmm_nvhe_hvc(p, HYP_ENTER_GUEST, pa + 8, &r));
	same("refused", "PA of no vCPU", EINVAL,
	    (uint64_t)vmm_nvhe_hvc(p, HYP_ENTER_GUEST, pa + 2 * sizeof(struct hypctx), &r));
	same("refused", "PA of RAM", EINVAL,
	    (uint64_t)vmm_nvhe_hvc(p, HYP_ENTER_GUEST, SEG_PA(0, 0), &r));
	same("refused", "operation", EINVAL, (uint64_t)vmm_nvhe_hvc(p, 99, pa, &r));
}

int
main(int argc, char **argv)
{
	struct guest guests[2] = { 0 };
	struct pcpu *first = NULL, *p;
	struct host host;
	uint64_t mask, reset;
	unsigned rounds;
	int vhe;

	if (argc != 5)
		return (2);
	rng = strtoull(argv[2], NULL, 0) | 1;
	rounds = (unsigned)strtoul(argv[3], NULL, 0);
	vhe = atoi(argv[4]);
	make_guest(&guests[0], argv[1], "a", vhe);
	make_guest(&guests[1], argv[1], "b", vhe);
	for (unsigned round = 0; round < rounds; round++) {
		struct guest *g = &guests[round & 1];
		bool view = rnd() % 4 == 0;

		must("pcpu", pcpu_get(g->vm, 0, &p));
		if (first == NULL) {
			first = p;
			host_fill(p);
			host_read(p, &host);
			if (vhe == 0)
				refuse(p, g);
		}
		same("pcpu", "one PE", (uintptr_t)first, (uintptr_t)p);
		if (round < 2 || rnd() % 8 == 0) {
			/* A new register file: what is kept of it, keeps. */
			randomize(g, p);
			g->want = *g->ctx;
			enter(g, p, CODE_HVC);
			for (unsigned i = 0; i < p->nregs; i++) {
				const struct hyp_reg *r = &hyp_regs[p->reg[i]];

				if (!fixed(r) && known_mask(r->enc, &mask, &reset))
					same("kept", pe_sysreg_name(r->enc),
					    (*hyp_reg(&g->want, p->reg[i]) & mask) | reset,
					    *hyp_reg(g->ctx, p->reg[i]));
			}
			same("kept", "x", 0,
			    (uint64_t)memcmp(
				g->want.tf.tf_x, g->ctx->tf.tf_x, sizeof(g->want.tf.tf_x)) != 0);
			g->want = *g->ctx;
			host_compare(p, &host);
		} else if (view) {
			g->want.tf.tf_x[30] = g->ctx->tf.tf_x[30] = VIEW;
			/* with SPSel 0 SP_EL0 is the current SP, and UNDEFINED by name */
			g->want.tf.tf_spsr |= 1;
			g->ctx->tf.tf_spsr |= 1;
			enter(g, p, CODE_VIEW);
			check_view(g);
			/* the viewer used x0 */
			same("seen", "x0", g->want.vmpidr_el2, g->ctx->tf.tf_x[0]);
			g->ctx->tf.tf_x[0] = g->want.tf.tf_x[0];
			compare(g, p);
			host_compare(p, &host);
		} else {
			enter(g, p, CODE_HVC);
			same("guest", "ELR_EL2", CODE_HVC + 4, g->ctx->tf.tf_elr);
			compare(g, p);
			host_compare(p, &host);
		}
		pcpu_put(p);
	}
	printf("%u rounds, %u registers\n", rounds, first->nregs);
	vm_close(guests[0].vm);
	vm_close(guests[1].vm);
	return (0);
}
