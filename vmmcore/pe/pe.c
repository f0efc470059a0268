/*
 * Life of a processing element: creation, cold reset, destruction.
 */
#include <stdlib.h>

#include "pe/cluster.h"
#include "pe/codecache.h"
#include "pe/except.h"
#include "pe/gic_cpuif.h"
#include "pe/jit/jit.h"
#include "pe/mmu.h"
#include "pe/pmu.h"
#include "pe/sysreg.h"
#include "pe/timer.h"

struct pe *
pe_create(struct pe_cluster *cluster, const struct pe_pins *pins, const struct pe_config *cfg)
{
	/* Aligned for the vector registers. */
	struct pe *pe = aligned_alloc(64, (sizeof(*pe) + 63) & ~(size_t)63);

	if (pe == NULL)
		return (NULL);
	memset(pe, 0, sizeof(*pe));
	pe_set_pins(pe, pins);
	pe->cfg = *cfg;
	if (pe->cfg.list_regs == 0 || pe->cfg.list_regs > 16)
		pe->cfg.list_regs = 4;
	if (pe->cfg.vmid_bits != 8)
		pe->cfg.vmid_bits = 16;
	if (pe->cfg.midr == 0)
		pe->cfg.midr = 0x410fd000;
	pe->gic = gic_create(pe);
	pe->timer = pe_timer_create(pe);
	if (pe->gic == NULL || pe->timer == NULL || mmu_create(pe) != 0 ||
	    codecache_create(pe) != 0) {
		pe_destroy(pe);
		return (NULL);
	}
	/* Without a translator the handlers run everything. */
	if (cfg->jit)
		pe->jit = jit_create(pe);
	pe->cluster = cluster;
	pe->cfg.jit_strict = cfg->jit_strict && cluster != NULL;
	pe_reset(pe);
	if (cluster_join(pe) != 0) {
		pe_destroy(pe);
		return (NULL);
	}
	return (pe);
}

void
pe_destroy(struct pe *pe)
{
	if (pe == NULL)
		return;
	cluster_leave(pe);
	codecache_destroy(pe);
	jit_destroy(pe->jit);
	if (pe->mmu != NULL)
		mmu_destroy(pe);
	if (pe->timer != NULL)
		pe_timer_destroy(pe->timer);
	if (pe->gic != NULL)
		gic_destroy(pe->gic);
	free(pe);
}

void
pe_set_pins(struct pe *pe, const struct pe_pins *pins)
{
	static const _Atomic uint32_t never;

	pe->pins = *pins;
	pe->kick = pins->kick != NULL ? pins->kick : &never;
}

void
pe_reset(struct pe *pe)
{
	memset(pe->x, 0, sizeof(pe->x));
	memset(pe->v, 0, sizeof(pe->v));
	memset(&pe->gpr, 0, sizeof(pe->gpr));
	memset(pe->sp_el, 0, sizeof(pe->sp_el));
	memset(&pe->fp, 0, sizeof(pe->fp));
	memset(&pe->debug, 0, sizeof(pe->debug));
	pe->nzcv = 0;
	pe->pstate = (uint32_t)(PS_DAIF | PS_SP) | (2u << PS_EL_SHIFT);
	pe->el = 2;
	pe->pc = 0;
	pe->excl_size = 0;
	pe->event = false;
	pe->exit = false;
	for (unsigned i = 0; i < SR_COUNT; i++)
		pe->sr[i] = sysregs[i].reset;
	pe->sr[SR_VPIDR_EL2] = pe->cfg.midr;
	pe->sr[SR_VMPIDR_EL2] = pe->cfg.mpidr;
	pe_timer_reset(pe);
	gic_reset(pe);
	pmu_reset(pe);
	mmu_flush_all(pe);
	codecache_drop_all(pe);
	pe->mmu->stale = true;
	pe->irq_waits = 1;
	pe_context_changed(pe);
}

void
pe_set_alone(struct pe *pe, bool alone)
{
	if (pe->alone == alone)
		return;
	pe->alone = alone;
	codecache_drop_all(pe);
}

const struct pe_counters *
pe_counters(const struct pe *pe)
{
	return (&pe->count);
}
