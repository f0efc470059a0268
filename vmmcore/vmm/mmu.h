/*
 * Stage-2 translation tables: formats (DDI 0487, D8.3) and the operations of
 * pmap.c. All are called with mem_lock held; none of them invalidates a TLB:
 * the caller runs vm_tlbi() after it made an entry stricter.
 */
#ifndef VMM_MMU_H
#define VMM_MMU_H

#include "vmm/vmm_vm.h"

#define S2_VALID UINT64_C(1)
#define S2_TABLE UINT64_C(3) /* levels 1 and 2 */
#define S2_BLOCK UINT64_C(1) /* levels 1 and 2 */
#define S2_PAGE UINT64_C(3)  /* level 3 */
#define S2_TYPE UINT64_C(3)
#define S2_MEMATTR_WB (UINT64_C(0xf) << 2)
#define S2_AP_R (UINT64_C(1) << 6)
#define S2_AP_W (UINT64_C(1) << 7)
#define S2_SH_INNER (UINT64_C(3) << 8)
#define S2_AF (UINT64_C(1) << 10)
#define S2_XN (UINT64_C(2) << 53)
#define S2_OA UINT64_C(0x0000fffffffff000)
/* Bits 58:55 belong to software. Both are kept in invalid entries too. */
#define S2_SW_LOG (UINT64_C(1) << 55)   /* not writable, to see the first write */
#define S2_SW_DIRTY (UINT64_C(1) << 56) /* written since the log was read */

/*
 * VTCR_EL2
 *	T0SZ 24		40-bit IPA
 *	SL0 1		start at level 1: with 4 KiB pages two concatenated tables
 *	IRGN0, ORGN0 1	table walks: write-back
 *	SH0 3		inner shareable
 *	TG0 0		4 KiB
 *	PS 5		48-bit PA
 *	VS		16-bit VMID
 */
#define VTCR_RES1 (UINT64_C(1) << 31)
#define VTCR_VS (UINT64_C(1) << 19)
#define VTCR_EL2_VALUE \
	(VTCR_RES1 | 24u | (1u << 6) | (1u << 8) | (1u << 10) | (3u << 12) | (5u << 16))

int pmap_init(struct vm *vm);
uint64_t pmap_root_pa(void);
static inline uint64_t
pmap_level_size(int level)
{
	return (UINT64_C(1) << (39 - 9 * level));
}
/* The entry for gpa and its level; invalid entries too. */
uint64_t pmap_lookup(struct vm *vm, uint64_t gpa, int *level);
/* Map pa at gpa with a block or page of `level` (1 to 3). ENOSPC. */
int pmap_enter(struct vm *vm, uint64_t gpa, uint64_t pa, int level, int prot, uint64_t sw);
/* Can a block of `level` be entered at gpa (no table is in the way)? */
bool pmap_block_ok(struct vm *vm, uint64_t gpa, int level);
int pmap_remove(struct vm *vm, uint64_t gpa, uint64_t len);
int pmap_protect(struct vm *vm, uint64_t gpa, uint64_t len, int prot);
int pmap_log_start(struct vm *vm, uint64_t gpa, uint64_t len);
/* A write to a page being logged: writable and dirty from now on. */
int pmap_log_write(struct vm *vm, uint64_t gpa, bool map);
/* Collect and clear; bit per page. */
int pmap_log_get(struct vm *vm, uint64_t gpa, uint64_t len, uint8_t *bitmap);

/* Stage-2 entries got stricter: no vCPU uses the old ones after this. */
int vm_tlbi(struct vm *vm);

#endif /* VMM_MMU_H */
