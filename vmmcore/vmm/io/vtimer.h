/*
 * A guest's generic timer. The virtual timer runs in the PE (PPI 27 of the PE
 * is handed to the guest through a list register with HW = 1, so that the
 * guest's end of interrupt re-arms it without an exit). The EL1 physical timer
 * and counter are trapped and emulated (PPI 30), with the EL2 physical timer
 * as its alarm while the guest runs.
 *
 * `now` is CNTPCT, sys_counter(), everywhere.
 */
#ifndef VMM_IO_VTIMER_H
#define VMM_IO_VTIMER_H

#include <stdbool.h>
#include <stdint.h>

struct hyp;
struct hypctx;
struct pe;

struct vtimer {
	uint64_t cntvoff_el2;
};

struct vtimer_timer {
	uint64_t cntx_cval_el0;
	uint32_t cntx_ctl_el0;
};

/* What the host has in the timer registers while a guest runs. */
struct vtimer_host {
	uint64_t cnthctl_el2;
	uint64_t cntvoff_el2;
	uint64_t cntkctl_el1; /* nVHE only */
};

struct vtimer_cpu {
	struct vtimer_timer phys_timer; /* emulated */
	struct vtimer_timer virt_timer; /* of the PE, while out of the guest */
	uint64_t cntkctl_el1;
	struct vtimer_host host;
};

/* The guest's counter starts at 0 at `now`. */
void vtimer_vminit(struct hyp *hyp, uint64_t now);
/* At creation and at reset of a vCPU. */
void vtimer_cpuinit(struct hypctx *hypctx);

/* Before vgic_flush_hwstate, and after vgic_sync_hwstate: drive PPI 27 and 30. */
void vtimer_flush_hwstate(struct hypctx *hypctx, uint64_t now);
void vtimer_sync_hwstate(struct hypctx *hypctx, uint64_t now);
/* CNTPCT value at which a timer line of a sleeping vCPU rises; UINT64_MAX: never. */
uint64_t vtimer_deadline(struct hypctx *hypctx, uint64_t now);

/*
 * World switch in and out. `vhe`: the host runs with HCR_EL2.E2H. The host's
 * values wait in vtimer_cpu.host. The guest's virtual timer is stopped on the
 * way out.
 */
void vtimer_restore(struct pe *pe, struct hypctx *hypctx, bool vhe);
void vtimer_save(struct pe *pe, struct hypctx *hypctx, bool vhe);

/* Trapped CNTP_*, CNTPCT: 0; ENOENT: not one of these. */
int vtimer_sysreg(struct hypctx *hypctx, uint32_t enc, int dir, uint64_t *val, uint64_t now);

#endif /* VMM_IO_VTIMER_H */
