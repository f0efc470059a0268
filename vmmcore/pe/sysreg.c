/*
 * System registers: the table, look-up by encoding, and the MRS, MSR, SYS and
 * SYSL instructions with their traps.
 */
#include "pe/sysreg.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "pe/cluster.h"
#include "pe/codecache.h"
#include "pe/except.h"
#include "pe/gic_cpuif.h"
#include "pe/mmu.h"
#include "pe/pmu.h"
#include "pe/sysreg_fn.h"
#include "pe/timer.h"

/* HCR_EL2 bits with an effect; those of extensions are masked by wr_hcr(). */
#define HCR_IMPLEMENTED                                                                           \
	(HCR_VM | HCR_SWIO | HCR_PTW | HCR_FMO | HCR_IMO | HCR_AMO | HCR_VF | HCR_VI | HCR_VSE |  \
	    HCR_FB | UINT64_C(0xc00) | HCR_DC | HCR_TWI | HCR_TWE | HCR_TID1 | HCR_TID2 |         \
	    HCR_TID3 | HCR_TSC | HCR_TIDCP | HCR_TACR | HCR_TSW | HCR_TPCP | HCR_TPU | HCR_TTLB | \
	    HCR_TVM | HCR_TGE | HCR_TDZ | HCR_HCD | HCR_TRVM | HCR_E2H | HCR_TEA | HCR_APK |      \
	    HCR_API)

#define ROW(ft, nm, op0, op1, crn, crm, op2, ac, rs, wm, rdf, wrf, tr) \
	{ .name = #nm,                                                 \
		.enc = PE_SYSREG(op0, op1, crn, crm, op2),             \
		.sr = SR_##nm,                                         \
		.acc = (ac),                                           \
		.feature = (ft),                                       \
		.reset = (rs),                                         \
		.wmask = (wm),                                         \
		.rd = (rdf),                                           \
		.wr = (wrf),                                           \
		.trap = (tr) },

const struct sysreg sysregs[SR_COUNT] = {
#define SYSREG(...) ROW(0, __VA_ARGS__)
#define SYSREG_FEAT(feat, ...) ROW(PE_FEAT_##feat + 1, __VA_ARGS__)
#include "pe/sysreg.def"
#undef SYSREG
};

static uint16_t sysreg_index[65536]; /* row + 1 */
static pthread_once_t index_once = PTHREAD_ONCE_INIT;
static _Atomic bool index_made;

static void
make_index(void)
{
	for (unsigned i = 0; i < SR_COUNT; i++)
		sysreg_index[sysregs[i].enc] = (uint16_t)(i + 1);
	/* Reserved identification registers read as zero (D19.1). */
	for (unsigned crm = 1; crm < 8; crm++)
		for (unsigned op2 = 0; op2 < 8; op2++) {
			uint32_t enc = PE_SYSREG(3u, 0u, 0u, crm, op2);

			if (sysreg_index[enc] == 0)
				sysreg_index[enc] = SR_ID_RESERVED + 1;
		}
	atomic_store_explicit(&index_made, true, memory_order_release);
}

const struct sysreg *
sysreg_find(uint32_t enc)
{
	unsigned i;

	if (unlikely(!atomic_load_explicit(&index_made, memory_order_acquire)))
		pthread_once(&index_once, make_index);
	i = sysreg_index[enc & 0xffff];
	return (i == 0 ? NULL : &sysregs[i - 1]);
}

const char *
pe_sysreg_name(uint32_t enc)
{
	const struct sysreg *r = sysreg_find(enc);

	return (r == NULL ? NULL : r->name);
}

/* Is the register there, with the features of this PE? NAME_EL12 only with E2H. */
static inline bool
implemented(const struct pe *pe, const struct sysreg *r)
{
	if (r == NULL || r->feature == 0)
		return (r != NULL);
	if ((r->enc & PE_SYSREG(0, 7, 0, 0, 0)) == PE_SYSREG(0, 5, 0, 0, 0) && !pe_in_host(pe, 2))
		return (false);
	return (pe_has(pe, (enum pe_feature)(r->feature - 1)));
}

/* The usual host is at EL1: names mean what they say. */
static inline const struct sysreg *
at_el2(const struct pe *pe, const struct sysreg *r)
{
	return (likely((pe->sr[SR_HCR_EL2] & HCR_E2H) == 0) ? r : sysreg_at_el2(pe, r));
}

int
pe_mrs(struct pe *pe, uint32_t enc, uint64_t *val)
{
	const struct sysreg *r = sysreg_find(enc);

	if (!implemented(pe, r) || (r->acc & SR_R2) == 0)
		return (ENOENT);
	*val = sysreg_read(pe, at_el2(pe, r));
	return (0);
}

int
pe_msr(struct pe *pe, uint32_t enc, uint64_t val)
{
	const struct sysreg *r = sysreg_find(enc);

	if (!implemented(pe, r) || (r->acc & SR_W2) == 0)
		return (ENOENT);
	pe->unsynced = true;
	sysreg_write(pe, at_el2(pe, r), val);
	pe->unsynced = false;
	return (0);
}

const struct sysreg *
sysreg_at_el2_named(const struct pe *pe, uint32_t enc)
{
	const struct sysreg *r = sysreg_find(enc);

	if (!implemented(pe, r))
		return (NULL);
	return (r->rd == rd_el12 ? sysreg_el1_of(r) : sysreg_at_el2(pe, r));
}

/* -- instructions ------------------------------------------------------------------ */

#define WORD_ENC(word) (((word) >> 5) & 0xffffu)

/* ISS of a trapped MRS, MSR or SYS (ESR_ELx, EC 0x18). */
static uint32_t
sysreg_iss(uint32_t word, bool read)
{
	return ((uint32_t)(FIELD(word, 19, 2) << 20 | FIELD(word, 5, 3) << 17 |
			   FIELD(word, 16, 3) << 14 | FIELD(word, 12, 4) << 10 |
			   FIELD(word, 0, 5) << 5 | FIELD(word, 8, 4) << 1 | (read ? 1u : 0u)));
}

static int
sysreg_trap(struct pe *pe, const struct insn *in, int target, bool read)
{
	if (target < 0)
		return (pe_undef(pe, in));
	return (pe_exception(
	    pe, (unsigned)target, EC_SYSREG, sysreg_iss(in->word, read), pe_pc(pe, in)));
}

/*
 * UNDEFINED; but HCR_EL2.TIDCP takes EL1's accesses to the IMPLEMENTATION DEFINED
 * space, CRn 11 and 15, to EL2 (D19.2.48).
 */
static int
no_such_reg(struct pe *pe, const struct insn *in, bool read)
{
	unsigned crn = (unsigned)FIELD(in->word, 12, 4);

	if (pe->el == 1 && (crn == 11 || crn == 15) && FIELD(in->word, 19, 2) != 2 &&
	    (pe_hcr(pe) & HCR_TIDCP) != 0)
		return (sysreg_trap(pe, in, 2, read));
	return (pe_undef(pe, in));
}

/* 0: go on; INSN_EXC: the access was trapped or UNDEFINED. */
static int
check_access(struct pe *pe, const struct insn *in, const struct sysreg *r, bool write)
{
	unsigned bit = (write ? SR_W0 : SR_R0) << (2 * pe->el);
	int t;

	if (unlikely(!implemented(pe, r)))
		return (no_such_reg(pe, in, !write));
	if (unlikely((r->acc & bit) == 0)) {
		/*
		 * EL0 reading an identification register: UNDEFINED, or a
		 * trap to EL1 for the kernel to emulate (FEAT_IDST absent:
		 * UNDEFINED).
		 */
		return (pe_undef(pe, in));
	}
	if (r->trap != NULL && pe->el < 2) {
		t = r->trap(pe, r, write);
		if (unlikely(t != 0))
			return (sysreg_trap(pe, in, t, !write));
	}
	if (unlikely((r->sr == SR_FPCR || r->sr == SR_FPSR) && pe->fp_trapped))
		return (pe_fp_trap(pe, in));
	return (0);
}

int
pe_insn_mrs(struct pe *pe, const struct insn *in)
{
	const struct sysreg *r = sysreg_find(WORD_ENC(in->word));

	if (check_access(pe, in, r, false) != 0)
		return (INSN_EXC);
	if (unlikely((r->acc & SR_EXACT) != 0) && !pmu_exact(pe, in))
		return (INSN_EXC);
	if (pe->el == 2)
		r = sysreg_at_el2(pe, r);
	pe->x[in->rd] = sysreg_read(pe, r);
	return (INSN_NEXT);
}

/* Does a write change what comes next: the context, or what debug looks at? */
static inline bool
resynchronizes(const struct sysreg *r)
{
	return (r->wr == wr_mmu || r->wr == wr_sctlr || r->wr == wr_hcr || r->wr == wr_context ||
		r->wr == wr_cptr || r->wr == wr_el12 || r->wr == wr_debug);
}

int
pe_insn_msr(struct pe *pe, const struct insn *in)
{
	const struct sysreg *r = sysreg_find(WORD_ENC(in->word));
	uint64_t pc = pe_pc(pe, in);

	if (check_access(pe, in, r, true) != 0)
		return (INSN_EXC);
	if (unlikely((r->acc & SR_EXACT) != 0)) {
		if (!pmu_exact(pe, in))
			return (INSN_EXC);
		/* This one is for who counts from here on. */
		sysreg_write(pe, r, pe->x[in->rd]);
		pe->pc = pc + 4;
		return (INSN_EXC);
	}
	if (pe->el == 2)
		r = sysreg_at_el2(pe, r);
	sysreg_write(pe, r, pe->x[in->rd]);
	/* Look again at the context, and at interrupts when they may be open. */
	if (r->wr != NULL && (resynchronizes(r) || pe->slice <= 0)) {
		pe->pc = pc + 4;
		return (INSN_EXC);
	}
	return (INSN_NEXT);
}

int
pe_insn_msr_imm(struct pe *pe, const struct insn *in)
{
	unsigned op = (unsigned)(FIELD(in->word, 16, 3) << 3 | FIELD(in->word, 5, 3));
	uint32_t imm = (uint32_t)FIELD(in->word, 8, 4);
	uint64_t pc = pe_pc(pe, in);
	bool el0 = pe->el == 0;

	switch (op) {
	case 003: /* UAO */
		if (el0 || !pe_has(pe, PE_FEAT_UAO))
			return (pe_undef(pe, in));
		wr_uao(pe, NULL, (imm & 1) != 0 ? PS_UAO : 0);
		break;
	case 004: /* PAN */
		if (el0 || !pe_has(pe, PE_FEAT_PAN))
			return (pe_undef(pe, in));
		wr_pan(pe, NULL, (imm & 1) != 0 ? PS_PAN : 0);
		break;
	case 005: /* SPSel */
		if (el0)
			return (pe_undef(pe, in));
		wr_spsel(pe, NULL, imm & 1);
		break;
	case 031: /* SSBS */
		if (!pe_has(pe, PE_FEAT_SSBS))
			return (pe_undef(pe, in));
		wr_ssbs(pe, NULL, (imm & 1) != 0 ? PS_SSBS : 0);
		break;
	case 032: /* DIT */
		if (!pe_has(pe, PE_FEAT_DIT))
			return (pe_undef(pe, in));
		wr_dit(pe, NULL, (imm & 1) != 0 ? PS_DIT : 0);
		break;
	case 036: /* DAIFSet */
	case 037: /* DAIFClr */
		if (el0 && (pe_sctlr(pe) & SCTLR_UMA) == 0)
			return (sysreg_trap(pe, in, 1, false));
		if (op == 036) {
			pe->pstate |= imm << 6;
			break;
		}
		pe->pstate &= ~(imm << 6);
		pe->slice = 0;
		pe->pc = pc + 4;
		return (INSN_EXC);
	default:
		return (pe_undef(pe, in));
	}
	return (INSN_NEXT);
}

/* -- SYS: IC, DC, AT, TLBI ------------------------------------------------------------ */

#define SYS(op1, crn, crm, op2) PE_SYSREG(1u, op1, crn, crm, op2)

/* DC operations by VA that have nothing to do here but to translate. */
static int
dc_va(struct pe *pe, const struct insn *in, uint64_t va, uint64_t hcr_trap, bool write)
{
	if (pe->el == 0 && (pe_sctlr(pe) & SCTLR_UCI) == 0)
		return (sysreg_trap(pe, in, 1, false));
	if (pe->el < 2 && (pe_hcr(pe) & hcr_trap) != 0)
		return (sysreg_trap(pe, in, 2, false));
	if (pe_tlb_hit(write ? pe->tlb->wr : pe->tlb->rd, va, 1) != NULL)
		return (0);
	return (mmu_cache_va(pe, in, va, write ? ACC_WRITE : ACC_READ, NULL));
}

static int
dc_zva(struct pe *pe, const struct insn *in, uint64_t va)
{
	if (pe->el == 0 && (pe_sctlr(pe) & SCTLR_DZE) == 0)
		return (sysreg_trap(pe, in, 1, false));
	if (pe->el < 2 && (pe_hcr(pe) & HCR_TDZ) != 0)
		return (sysreg_trap(pe, in, 2, false));
	return (mmu_zero_block(pe, in, va));
}

static int
ic_ivau(struct pe *pe, const struct insn *in, uint64_t va)
{
	struct cluster_mail mail = { .op = CLUSTER_IC_LINES };
	uint64_t pa;

	if (pe->el == 0 && (pe_sctlr(pe) & SCTLR_UCI) == 0)
		return (sysreg_trap(pe, in, 1, false));
	if (pe->el < 2 && (pe_hcr(pe) & HCR_TPU) != 0)
		return (sysreg_trap(pe, in, 2, false));
	if (mmu_cache_va(pe, in, va, ACC_READ, &pa) != 0)
		return (INSN_EXC);
	mail.addr = pa & ~UINT64_C(0xfff);
	mail.lines = UINT64_C(1) << FIELD(pa, 6, 6);
	codecache_drop_lines(pe, mail.addr, mail.lines);
	cluster_post(pe, &mail);
	return (0);
}

static int
ic_all(struct pe *pe, const struct insn *in, bool shareable)
{
	uint64_t next = in == NULL ? 0 : pe_pc(pe, in) + 4;

	codecache_drop_all(pe);
	if (shareable || (pe_hcr(pe) & HCR_FB) != 0)
		cluster_request(pe, PE_REQ_IC_ALL);
	if (in != NULL)
		pe->pc = next;
	return (INSN_EXC);
}

int
pe_insn_sys(struct pe *pe, const struct insn *in)
{
	uint32_t enc = WORD_ENC(in->word);
	uint64_t xt = pe->x[in->rd], hcr = pe_hcr(pe);
	unsigned crn = (unsigned)FIELD(enc, 7, 4), op1 = (unsigned)FIELD(enc, 11, 3);
	int error;

	switch (enc) {
	case SYS(0u, 7u, 1u, 0u): /* IC IALLUIS */
	case SYS(0u, 7u, 5u, 0u): /* IC IALLU */
		if (pe->el == 0)
			return (pe_undef(pe, in));
		if (pe->el == 1 && (hcr & HCR_TPU) != 0)
			return (sysreg_trap(pe, in, 2, false));
		return (ic_all(pe, in, enc == SYS(0u, 7u, 1u, 0u)));
	case SYS(3u, 7u, 5u, 1u): /* IC IVAU */
		return (ic_ivau(pe, in, xt));
	case SYS(3u, 7u, 4u, 1u): /* DC ZVA */
		return (dc_zva(pe, in, xt));
	case SYS(3u, 7u, 10u, 1u): /* DC CVAC */
	case SYS(3u, 7u, 14u, 1u): /* DC CIVAC */
		return (dc_va(pe, in, xt, HCR_TPCP, false));
	case SYS(3u, 7u, 12u, 1u): /* DC CVAP */
		if (!pe_has(pe, PE_FEAT_DPB))
			return (pe_undef(pe, in));
		return (dc_va(pe, in, xt, HCR_TPCP, false));
	case SYS(3u, 7u, 11u, 1u): /* DC CVAU */
		return (dc_va(pe, in, xt, HCR_TPU, false));
	case SYS(3u, 7u, 3u, 4u): /* CFP RCTX */
	case SYS(3u, 7u, 3u, 5u): /* DVP RCTX */
	case SYS(3u, 7u, 3u, 7u): /* CPP RCTX: nothing here predicts */
		if (!pe_has(pe, PE_FEAT_SPECRES))
			return (pe_undef(pe, in));
		if (pe->el == 0 && (pe_sctlr(pe) & SCTLR_ENRCTX) == 0)
			return (sysreg_trap(pe, in, 1, false));
		return (INSN_NEXT);
	case SYS(0u, 7u, 6u, 1u): /* DC IVAC */
		if (pe->el == 0)
			return (pe_undef(pe, in));
		return (dc_va(pe, in, xt, HCR_TPCP, true));
	case SYS(0u, 7u, 6u, 2u):  /* DC ISW */
	case SYS(0u, 7u, 10u, 2u): /* DC CSW */
	case SYS(0u, 7u, 14u, 2u): /* DC CISW */
		if (pe->el == 0)
			return (pe_undef(pe, in));
		if (pe->el == 1 && (hcr & HCR_TSW) != 0)
			return (sysreg_trap(pe, in, 2, false));
		return (INSN_NEXT);
	default:
		break;
	}
	if (crn == 7) /* AT; EL0 has none */
		return (at_op(pe, in, enc, xt));
	if (crn != 8 || pe->el == 0 || (op1 == 4 && pe->el != 2))
		return (no_such_reg(pe, in, false));
	if (pe->el == 1 && (hcr & HCR_TTLB) != 0)
		return (sysreg_trap(pe, in, 2, false));
	error = tlbi_op(pe, enc, xt);
	if (error != 0)
		return (pe_undef(pe, in));
	/* The page this runs from may have gone: look it up again. */
	pe->pc = pe_pc(pe, in) + 4;
	return (INSN_EXC);
}

int
pe_insn_sysl(struct pe *pe, const struct insn *in)
{
	return (no_such_reg(pe, in, true));
}

int
pe_sys(struct pe *pe, uint32_t enc, uint64_t xt)
{
	int error;

	if (pe->mmu->stale)
		mmu_select(pe);
	if (enc == SYS(0u, 7u, 1u, 0u) || enc == SYS(0u, 7u, 5u, 0u)) {
		(void)ic_all(pe, NULL, true);
		return (0);
	}
	if (FIELD(enc, 7, 4) == 7)
		return (at_op(pe, NULL, enc, xt) == INSN_NEXT ? 0 : ENOENT);
	error = tlbi_op(pe, enc, xt);
	if (error == 0)
		pe_dsb(pe);
	return (error);
}

/* -- waiting ----------------------------------------------------------------------------- */

#define ISS_WFX (UINT32_C(1) << 24 | UINT32_C(0xe) << 20)
/* The forms with a timeout: TI[1], RV, and the register in [9:5]. */
#define ISS_WFXT(word) (2u | 1u << 2 | ((word)&31) << 5)

static int
wait(struct pe *pe, const struct insn *in, bool is_wfe, uint32_t iss, uint64_t until)
{
	uint64_t hcr = pe_hcr(pe), pc = pe_pc(pe, in);

	if (is_wfe) {
		/* A locked exchange: what the event was for is read after it. */
		if (pe->event && __atomic_exchange_n(&pe->event, false, __ATOMIC_SEQ_CST))
			return (INSN_NEXT);
		iss |= 1;
	}
	if (pe->el == 0 && (pe_sctlr(pe) & (is_wfe ? SCTLR_NTWE : SCTLR_NTWI)) == 0)
		return (pe_exception(pe, 1, EC_WFX, iss, pc));
	if (pe->el < 2 && (hcr & (is_wfe ? HCR_TWE : HCR_TWI)) != 0)
		return (pe_exception(pe, 2, EC_WFX, iss, pc));
	/* Not trapped: let another thread of the host run, then look. */
	if (is_wfe)
		pe_wfe(pe, until);
	else
		sched_yield();
	pe->slice = 0;
	pe->pc = pc + 4;
	return (INSN_EXC);
}

int
pe_insn_wfx(struct pe *pe, const struct insn *in, bool is_wfe)
{
	return (wait(pe, in, is_wfe, ISS_WFX, UINT64_MAX));
}

/* WFIT, WFET: over at once when the virtual count has reached Xt. */
int
pe_insn_wfxt(struct pe *pe, const struct insn *in, bool is_wfe)
{
	uint64_t now = pe->pins.counter(pe->pins.ctx), left, count = timer_rd_cntvct(pe, NULL);

	if (count >= pe->x[in->rd])
		return (INSN_NEXT);
	left = pe->x[in->rd] - count;
	return (wait(pe, in, is_wfe, ISS_WFX | ISS_WFXT(in->word),
	    left < UINT64_MAX - now ? now + left : UINT64_MAX));
}
