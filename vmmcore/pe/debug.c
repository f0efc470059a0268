/*
 * Breakpoints, watchpoints and software step: who is enabled, what matches,
 * which exception is taken (DDI 0487, D2.4 to D2.12 and the shared pseudocode
 * of AArch64.BreakpointMatch, AArch64.WatchpointMatch and SoftwareStep).
 *
 * Not here: external debug and halting (there is none), vector catch (AArch32),
 * contexts of the EL2 host (CONTEXTIDR_EL2).
 */
#include "pe/debug.h"
#include "pe/except.h"
#include "pe/mmu.h"

#define NBREAK 6u
#define NCONTEXT 2u /* the last two of them know contexts */
#define NWATCH 4u

#define MDSCR_SS BIT(0)
#define MDSCR_KDE BIT(13)
#define MDSCR_MDE BIT(15)
#define MDCR_TDE BIT(8)
#define OSLSR_OSLK BIT(1)
#define OSDLR_DLK BIT(0)
#define PRCR_CORENPDRQ BIT(0)

/* DBGBCR and DBGWCR. */
#define CR_E BIT(0)
#define CR_PXC(cr) ((unsigned)FIELD(cr, 1, 2))
#define CR_HMC(cr) ((unsigned)FIELD(cr, 13, 1))
#define CR_SSC(cr) ((unsigned)FIELD(cr, 14, 2))
#define CR_LBN(cr) ((unsigned)FIELD(cr, 16, 4))
#define BCR_BT(cr) ((unsigned)FIELD(cr, 20, 4))
#define BT_LINKED 1u
#define BT_CONTEXT 0xau /* bits 3 and 1: a context, not an address */
#define WCR_LSC(cr) ((unsigned)FIELD(cr, 3, 2))
#define WCR_BAS(cr) ((unsigned)FIELD(cr, 5, 8))
#define WCR_WT BIT(20)
#define WCR_MASK(cr) ((unsigned)FIELD(cr, 24, 5))

#define FSC_DEBUG 0x22u
#define ISS_WNR BIT(6)
#define ISS_ISV BIT(24)
#define ISS_EX BIT(6)

static const uint16_t bvr[NBREAK] = { SR_DBGBVR0_EL1, SR_DBGBVR1_EL1, SR_DBGBVR2_EL1,
	SR_DBGBVR3_EL1, SR_DBGBVR4_EL1, SR_DBGBVR5_EL1 };
static const uint16_t bcr[NBREAK] = { SR_DBGBCR0_EL1, SR_DBGBCR1_EL1, SR_DBGBCR2_EL1,
	SR_DBGBCR3_EL1, SR_DBGBCR4_EL1, SR_DBGBCR5_EL1 };
static const uint16_t wvr[NWATCH] = { SR_DBGWVR0_EL1, SR_DBGWVR1_EL1, SR_DBGWVR2_EL1,
	SR_DBGWVR3_EL1 };
static const uint16_t wcr[NWATCH] = { SR_DBGWCR0_EL1, SR_DBGWCR1_EL1, SR_DBGWCR2_EL1,
	SR_DBGWCR3_EL1 };

/* VA[48:2] of a value register, RESS as the copies of bit 48 that it has to be. */
static uint64_t
dbg_va(uint64_t v)
{
	return ((uint64_t)((int64_t)(v << 15) >> 15) & ~UINT64_C(3));
}

/* -- who takes debug exceptions, and from where --------------------------------- */

static unsigned
debug_target(const struct pe *pe)
{
	if ((pe->sr[SR_HCR_EL2] & HCR_TGE) != 0 || (pe->sr[SR_MDCR_EL2] & MDCR_TDE) != 0)
		return (2);
	return (1);
}

/* AArch64.GenerateDebugExceptionsFrom() */
static bool
enabled_from(const struct pe *pe, unsigned el, bool masked)
{
	unsigned target = debug_target(pe);

	if ((pe->sr[SR_OSLSR_EL1] & OSLSR_OSLK) != 0)
		return (false);
	if ((pe->sr[SR_OSDLR_EL1] & OSDLR_DLK) != 0 &&
	    (pe->sr[SR_DBGPRCR_EL1] & PRCR_CORENPDRQ) == 0)
		return (false);
	if (el == target)
		return ((pe->sr[SR_MDSCR_EL1] & MDSCR_KDE) != 0 && !masked);
	return (el < target);
}

static bool
enabled(const struct pe *pe)
{
	return (enabled_from(pe, pe->el, (pe->pstate & PS_D) != 0));
}

/* -- what is armed ------------------------------------------------------------------ */

/* The bytes that a watchpoint can cover: [*first, *last]. */
static void
watch_range(uint64_t vr, uint64_t cr, uint64_t *first, uint64_t *last)
{
	uint64_t mask = WCR_MASK(cr) < 3 ? 7 : BIT(WCR_MASK(cr)) - 1;

	*first = dbg_va(vr) & ~mask;
	*last = *first | mask;
}

void
debug_changed(struct pe *pe)
{
	pe->debug.stale = true;
	pe->levels.ready = false;
	if (pe->el < 2 || pe->cfg.el2_emulated)
		debug_update(pe);
}

/* What may be in a TLB from before: a big range takes all along. */
static void
drop_armed(struct pe *pe)
{
	const struct pe_debug *d = &pe->debug;

	if (d->break_any)
		mmu_flush_fetch(pe);
	for (unsigned i = 0; i < d->nbreak; i++)
		mmu_drop_page(pe, d->break_page[i]);
	for (unsigned i = 0; i < d->nwatch; i++) {
		if (d->watch[i].last - d->watch[i].first >= 0x10000) {
			mmu_flush_all(pe);
			return;
		}
		for (uint64_t va = d->watch[i].first & ~UINT64_C(0xfff); va <= d->watch[i].last;
		     va += 4096)
			mmu_drop_page(pe, va);
	}
}

void
debug_update(struct pe *pe)
{
	uint64_t mdscr = pe->sr[SR_MDSCR_EL1];
	struct pe_debug d;

	memset(&d, 0, sizeof(d));
	d.step = (mdscr & MDSCR_SS) != 0;
	d.stepped = pe->debug.stepped;
	d.stepped_ex = pe->debug.stepped_ex;
	for (unsigned i = 0; i < NBREAK && (mdscr & MDSCR_MDE) != 0; i++) {
		unsigned bt = BCR_BT(pe->sr[bcr[i]]);

		if ((pe->sr[bcr[i]] & CR_E) == 0)
			continue;
		if ((bt & BT_CONTEXT) == 0)
			d.break_page[d.nbreak++] = dbg_va(pe->sr[bvr[i]]) & ~UINT64_C(0xfff);
		else if ((bt & BT_LINKED) == 0)
			d.break_any = true;
	}
	for (unsigned i = 0; i < NWATCH && (mdscr & MDSCR_MDE) != 0; i++) {
		if ((pe->sr[wcr[i]] & CR_E) == 0)
			continue;
		watch_range(pe->sr[wvr[i]], pe->sr[wcr[i]], &d.watch[d.nwatch].first,
		    &d.watch[d.nwatch].last);
		d.nwatch++;
	}
	if (memcmp(&d.watch, &pe->debug.watch, sizeof(d.watch)) != 0 ||
	    memcmp(&d.break_page, &pe->debug.break_page, sizeof(d.break_page)) != 0 ||
	    d.break_any != pe->debug.break_any || d.nbreak != pe->debug.nbreak ||
	    d.nwatch != pe->debug.nwatch) {
		pe->debug = d;
		drop_armed(pe);
	} else
		pe->debug = d;
}

/* -- matching ------------------------------------------------------------------------ */

/*
 * Combinations of HMC, SSC and PxC that are reserved where there is EL2 and
 * neither EL3 nor Secure state (CheckValidStateMatch): they match nothing.
 */
static bool
reserved_state(uint64_t cr, bool brk)
{
	unsigned v = CR_HMC(cr) << 4 | CR_SSC(cr) << 2 | CR_PXC(cr);

	if (!brk && CR_HMC(cr) == 0 && CR_PXC(cr) == 0 && CR_SSC(cr) != 3)
		return (true);
	if ((CR_SSC(cr) == 1 || CR_SSC(cr) == 2) && v != 0x14)
		return (true);
	/* 01100, 10100, x11x1 without Secure EL2; 01110, 100x0, 10110, 11x10 never */
	return (v == 0x0c || v == 0x14 || (v & 0x0d) == 0x0d || v == 0x0e || (v & 0x1d) == 0x10 ||
		v == 0x16 || (v & 0x1b) == 0x1a);
}

static bool context_match(const struct pe *pe, unsigned n, bool linked_to);

/* AArch64.StateMatch() */
static bool
state_match(const struct pe *pe, uint64_t cr, bool brk, bool linked, bool unpriv)
{
	unsigned el = unpriv ? 0 : pe->el;
	bool match;

	if (reserved_state(cr, brk))
		return (false);
	if (el == 2)
		match = CR_HMC(cr) == 1 || CR_SSC(cr) == 3;
	else
		match = ((CR_PXC(cr) >> (el == 1 ? 0 : 1)) & 1) != 0;
	/* Always Non-secure: SSC 2 is Secure only. */
	if (!match || CR_SSC(cr) == 2)
		return (false);
	if (linked)
		return (context_match(pe, CR_LBN(cr), true));
	return (true);
}

static bool
cid_match(const struct pe *pe, uint64_t vr)
{
	return (pe->el < 2 && (uint32_t)pe->sr[SR_CONTEXTIDR_EL1] == (uint32_t)vr);
}

static bool
vmid_match(const struct pe *pe, uint64_t vr)
{
	uint32_t mask = pe->cfg.vmid_bits == 16 ? 0xffff : 0xff;
	bool host = (pe->sr[SR_HCR_EL2] & (HCR_E2H | HCR_TGE)) == (HCR_E2H | HCR_TGE);

	return (pe->el < 2 && !host && (uint32_t)FIELD(vr, 32, 16) == (mmu_vmid(pe) & mask));
}

/* BreakpointValueMatch() for the types that are not addresses. */
static bool
context_match(const struct pe *pe, unsigned n, bool linked_to)
{
	uint64_t cr, vr;

	if (n < NBREAK - NCONTEXT || n >= NBREAK)
		return (false);
	cr = pe->sr[bcr[n]];
	vr = pe->sr[bvr[n]];
	if ((cr & CR_E) == 0 || ((BCR_BT(cr) & BT_LINKED) != 0) != linked_to)
		return (false);
	switch (BCR_BT(cr) & ~BT_LINKED) {
	case 0x2: /* CONTEXTIDR_EL1 */
		return (cid_match(pe, vr));
	case 0x6: /* the same by another name (FEAT_VHE) */
		return (pe_has(pe, PE_FEAT_VHE) && cid_match(pe, vr));
	case 0x8: /* VMID */
		return (vmid_match(pe, vr));
	case 0xa: /* both */
		return (vmid_match(pe, vr) && cid_match(pe, vr));
	default:
		return (false);
	}
}

static bool
break_match(const struct pe *pe, unsigned n, uint64_t pc)
{
	uint64_t cr = pe->sr[bcr[n]];
	unsigned bt = BCR_BT(cr);

	if ((cr & CR_E) == 0)
		return (false);
	if ((bt & BT_CONTEXT) != 0)
		return (context_match(pe, n, false) && state_match(pe, cr, true, false, false));
	/* 4 and 5 are address mismatches of AArch32. */
	if (bt > 1 || dbg_va(pe->sr[bvr[n]]) != pc)
		return (false);
	return (state_match(pe, cr, true, (bt & BT_LINKED) != 0, false));
}

int
debug_break(struct pe *pe, uint64_t pc)
{
	if (!enabled(pe))
		return (0);
	for (unsigned i = 0; i < NBREAK; i++)
		if (break_match(pe, i, pc))
			return (pe_exception(pe, debug_target(pe), EC_BKPT_LOWER, FSC_DEBUG, pc));
	return (0);
}

/* WatchpointByteMatch(): the first watched byte of the access, or false. */
static bool
byte_match(uint64_t vr, uint64_t cr, uint64_t va, unsigned len, uint64_t *hit)
{
	uint64_t first, last;
	unsigned bas = WCR_BAS(cr);

	watch_range(vr, cr, &first, &last);
	/* With WVR[2] set there are four bytes, and BAS[7:4] is not used. */
	if (WCR_MASK(cr) < 3 && (dbg_va(vr) & 4) != 0)
		bas = (bas & 0xf) << 4;
	if (va > last || va + (len - 1) < first)
		return (false);
	if (WCR_MASK(cr) >= 3) {
		*hit = va > first ? va : first;
		return (true);
	}
	for (unsigned i = 0; i < 8; i++) {
		if (((bas >> i) & 1) != 0 && first + i >= va && first + i - va < len) {
			*hit = first + i;
			return (true);
		}
	}
	return (false);
}

/*
 * FAR is the first watched byte, which is inside of what it may be (D2.10.5).
 * An atomic operation counts as a load when a load would have been watched.
 */
int
debug_watch(struct pe *pe, const struct insn *in, uint64_t va, unsigned len, unsigned acc)
{
	bool write = (acc & (ACC_WRITE | ACC_ATOMIC)) != 0;
	bool read = (acc & ACC_ATOMIC) != 0 || !write;
	uint64_t canon = mmu_untag(pe, va, false), hit;

	if (!enabled(pe))
		return (0);
	for (unsigned i = 0; i < NWATCH; i++) {
		uint64_t cr = pe->sr[wcr[i]];
		unsigned lsc = WCR_LSC(cr);
		bool by_read = read && (lsc & 1) != 0, by_write = write && (lsc & 2) != 0;

		if ((cr & CR_E) == 0 || !(by_read || by_write) ||
		    !byte_match(pe->sr[wvr[i]], cr, canon, len, &hit) ||
		    !state_match(pe, cr, false, (cr & WCR_WT) != 0,
			(acc & ACC_UNPRIV) != 0 && pe->el == 1 && (pe->pstate & PS_UAO) == 0))
			continue;
		return (pe_exception_far(pe, debug_target(pe), EC_WATCH_LOWER,
		    FSC_DEBUG | (by_read ? 0 : (uint32_t)ISS_WNR), pe_pc(pe, in),
		    va + (hit - canon)));
	}
	return (0);
}

/* -- software step --------------------------------------------------------------------- */

bool
debug_step_pending(struct pe *pe)
{
	uint32_t iss = FSC_DEBUG;

	if ((pe->pstate & PS_SS) != 0 || !enabled(pe))
		return (false);
	if (pe->debug.stepped)
		iss |= (uint32_t)(ISS_ISV | (pe->debug.stepped_ex ? ISS_EX : 0));
	pe->debug.stepped = false;
	(void)pe_exception(pe, debug_target(pe), EC_STEP_LOWER, iss, mmu_untag(pe, pe->pc, true));
	return (true);
}

void
debug_ss_advance(struct pe *pe)
{
	if ((pe->sr[SR_MDSCR_EL1] & MDSCR_SS) != 0)
		pe->pstate &= ~(uint32_t)PS_SS;
}

/* LDXR, LDAXR and, with bit 21, LDXP, LDAXP; below 32 bits that is CASP (C4.1.94). */
static bool
load_exclusive(uint32_t word)
{
	return (
	    (word & 0x3fc00000) == 0x08400000 && ((word & BIT(21)) == 0 || (word & BIT(31)) != 0));
}

void
debug_stepped(struct pe *pe, const struct insn *in, bool ss)
{
	/* Otherwise SS is what an ERET has put there. */
	if (!ss)
		return;
	debug_ss_advance(pe);
	pe->debug.stepped = true;
	pe->debug.stepped_ex = load_exclusive(in->word);
}

uint64_t
debug_eret_ss(const struct pe *pe, uint64_t spsr, unsigned el)
{
	if ((pe->sr[SR_MDSCR_EL1] & MDSCR_SS) == 0 || enabled(pe) ||
	    !enabled_from(pe, el, (spsr & PS_D) != 0))
		return (0);
	return (spsr & PS_SS);
}
