/* Statistics per vCPU: their numbers and how to count (stats.def, vmm_stat.c). */
#ifndef VMM_STAT_H
#define VMM_STAT_H

#define VMM_STAT(name, desc) name,
enum {
#include "vmm/stats.def"
#define PE_COUNTER(name, desc) PE_STAT_##name,
#include "pe/pe_counter.def"
#undef PE_COUNTER
	VMM_STAT_COUNT
};
#undef VMM_STAT

#define vmm_stat_incr(hypctx, stat) ((void)((hypctx)->stats[stat]++))

#endif /* VMM_STAT_H */
