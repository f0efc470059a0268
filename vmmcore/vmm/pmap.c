/*
 * Stage-2 page tables (mmu.h): VMSAv8-64 descriptors in the stage-2 segment of
 * the VM. The PE walks them and has no other way from IPA to memory.
 *
 * Every change is one aligned 64-bit store, and a new table is complete before
 * it is linked, so that a PE walking at the same time, or a process killed in
 * the middle, leaves a tree that is right. A block is split by storing a table
 * with the same translations over it; the PE takes old and new to be the same
 * then (FEAT_BBM level 2). Table pages are never given back while the VM lives.
 *
 * Not here: what is RAM and which size of block fits (vmm_mem.c).
 */
#include "vmm/mmu.h"

#include <errno.h>
#include <string.h>

#include "sys/store.h"

#define ROOT_PAGES 2u
#define ALLOC_STEP 16u /* pages of the file allocated at a time */
#define TABLE_PAGES (STAGE2_LEN / PAGE_SIZE)

typedef _Atomic uint64_t pte_t;

static pte_t *
table_at(struct vm *vm, uint32_t page)
{
	return ((pte_t *)(void *)((char *)vm->seg[SEG_STAGE2].base + page * PAGE_SIZE));
}

/* The table an entry points to; NULL when the entry names none of ours. */
static pte_t *
table_of(struct vm *vm, uint64_t pte)
{
	uint64_t page = ((pte & S2_OA) - SEG_PA(SEG_STAGE2, 0)) / PAGE_SIZE;

	return (page < vm->control->pmap.next ? table_at(vm, (uint32_t)page) : NULL);
}

static int
alloc_pages(struct vm *vm, uint32_t count, uint32_t *page)
{
	struct pmap *pm = &vm->control->pmap;
	uint32_t step = ALLOC_STEP;
	int error;

	if (pm->next + count > TABLE_PAGES)
		return (ENOSPC);
	while (pm->next + count > pm->allocated) {
		error = sys_file_alloc(
		    vm->seg[SEG_STAGE2].fd, pm->allocated * PAGE_SIZE, step * PAGE_SIZE);
		if (error != 0)
			return (error);
		pm->allocated += step;
	}
	*page = pm->next;
	pm->next += count;
	return (0);
}

int
pmap_init(struct vm *vm)
{
	uint32_t root;

	/* The first allocation: page 0, aligned for the concatenated tables. */
	return (alloc_pages(vm, ROOT_PAGES, &root));
}

uint64_t
pmap_root_pa(void)
{
	return (SEG_PA(SEG_STAGE2, 0));
}

static unsigned
pte_index(uint64_t gpa, int level)
{
	unsigned bits = level == 1 ? IPA_BITS - 30 : 9;

	return ((unsigned)(gpa >> (39 - 9 * level)) & ((1u << bits) - 1));
}

static bool
is_table(uint64_t pte, int level)
{
	return (level < 3 && (pte & S2_TYPE) == S2_TABLE);
}

static bool
is_leaf(uint64_t pte, int level)
{
	return ((pte & S2_TYPE) == (level == 3 ? S2_PAGE : S2_BLOCK));
}

/* The entry for gpa at `want`, or at the level where the walk ends before. */
static pte_t *
walk(struct vm *vm, uint64_t gpa, int want, int *level)
{
	pte_t *table = table_at(vm, 0), *next, *p;
	int l;

	for (l = 1;; l++) {
		p = &table[pte_index(gpa, l)];
		if (l == want || !is_table(atomic_load(p), l) ||
		    (next = table_of(vm, atomic_load(p))) == NULL)
			break;
		table = next;
	}
	*level = l;
	return (p);
}

uint64_t
pmap_lookup(struct vm *vm, uint64_t gpa, int *level)
{
	return (atomic_load(walk(vm, gpa, 3, level)));
}

/* Put a table in the place of what `p` holds at `level`, meaning the same. */
static int
split(struct vm *vm, pte_t *p, int level)
{
	uint64_t old = atomic_load(p), pte = 0;
	uint32_t page;
	pte_t *table;
	int error;

	if ((error = alloc_pages(vm, 1, &page)) != 0)
		return (error);
	table = table_at(vm, page);
	if (is_leaf(old, level)) {
		pte = old;
		if (level + 1 == 3)
			pte |= S2_PAGE;
	} else
		pte = old & (S2_SW_LOG | S2_SW_DIRTY);
	for (unsigned i = 0; i < 512; i++) {
		atomic_store_explicit(&table[i], pte, memory_order_relaxed);
		if (is_leaf(old, level))
			pte += pmap_level_size(level + 1);
	}
	atomic_store(p, SEG_PA(SEG_STAGE2, page * PAGE_SIZE) | S2_TABLE);
	return (0);
}

/* The entry for gpa at `want`, splitting on the way. */
static int
walk_split(struct vm *vm, uint64_t gpa, int want, pte_t **pp)
{
	int error, level;

	for (;;) {
		*pp = walk(vm, gpa, want, &level);
		if (level == want)
			return (0);
		if ((error = split(vm, *pp, level)) != 0)
			return (error);
	}
}

static uint64_t
prot_bits(int prot)
{
	return (((prot & VM_PROT_READ) != 0 ? S2_AP_R : 0) |
		((prot & VM_PROT_WRITE) != 0 ? S2_AP_W : 0) |
		((prot & VM_PROT_EXEC) != 0 ? 0 : S2_XN));
}

bool
pmap_block_ok(struct vm *vm, uint64_t gpa, int level)
{
	int l;
	pte_t *p = walk(vm, gpa, level, &l);

	/* A page that was written before it was mapped keeps its own entry. */
	return (l < level || !is_table(atomic_load(p), l));
}

int
pmap_enter(struct vm *vm, uint64_t gpa, uint64_t pa, int level, int prot, uint64_t sw)
{
	pte_t *p;
	int error;

	if ((error = walk_split(vm, gpa, level, &p)) != 0)
		return (error);
	atomic_store(p, pa | (level == 3 ? S2_PAGE : S2_BLOCK) | S2_MEMATTR_WB | S2_SH_INNER |
			    S2_AF | prot_bits(prot) | sw);
	return (0);
}

/*
 * Apply fn to the entries of [gpa, gpa + len): whole blocks where they lie in
 * the range; a leaf that sticks out is split. With `pages`, always single pages.
 */
static int
for_range(struct vm *vm, uint64_t gpa, uint64_t len, bool pages, bool absent,
    void (*fn)(pte_t *, int level, uint64_t gpa, void *arg), void *arg)
{
	uint64_t end = gpa + len, size;
	int error, level;
	pte_t *p;

	while (gpa < end) {
		p = walk(vm, gpa, 3, &level);
		size = pmap_level_size(level);
		if (!is_leaf(atomic_load(p), level) && !absent) {
			gpa = (gpa & ~(size - 1)) + size;
			continue;
		}
		if (level < 3 && (pages || (gpa & (size - 1)) != 0 || end - gpa < size)) {
			if ((error = split(vm, p, level)) != 0)
				return (error);
			continue;
		}
		fn(p, level, gpa, arg);
		gpa = (gpa & ~(size - 1)) + size;
	}
	return (0);
}

static void
remove_fn(pte_t *p, int level, uint64_t gpa, void *arg)
{
	(void)level, (void)gpa, (void)arg;
	atomic_store(p, 0);
}

int
pmap_remove(struct vm *vm, uint64_t gpa, uint64_t len)
{
	return (for_range(vm, gpa, len, false, false, remove_fn, NULL));
}

static void
protect_fn(pte_t *p, int level, uint64_t gpa, void *arg)
{
	uint64_t bits = *(const uint64_t *)arg, pte = atomic_load(p);

	(void)level, (void)gpa;
	pte = (pte & ~(S2_AP_R | S2_AP_W | S2_XN)) | bits;
	if ((pte & S2_SW_LOG) != 0)
		pte &= ~S2_AP_W;
	atomic_store(p, pte);
}

int
pmap_protect(struct vm *vm, uint64_t gpa, uint64_t len, int prot)
{
	uint64_t bits = prot_bits(prot);

	return (for_range(vm, gpa, len, false, false, protect_fn, &bits));
}

static void
log_fn(pte_t *p, int level, uint64_t gpa, void *arg)
{
	uint64_t pte = atomic_load(p);

	(void)level, (void)gpa, (void)arg;
	atomic_store(p, (pte & ~(S2_AP_W | S2_SW_DIRTY)) | S2_SW_LOG);
}

int
pmap_log_start(struct vm *vm, uint64_t gpa, uint64_t len)
{
	return (for_range(vm, gpa, len, false, false, log_fn, NULL));
}

int
pmap_log_write(struct vm *vm, uint64_t gpa, bool map)
{
	uint64_t pte;
	pte_t *p;
	int error;

	if ((error = walk_split(vm, gpa, 3, &p)) != 0)
		return (error);
	pte = atomic_load(p) | S2_SW_DIRTY;
	if (map && is_leaf(pte, 3))
		pte = (pte & ~S2_SW_LOG) | S2_AP_W;
	atomic_store(p, pte);
	return (0);
}

struct log_get {
	uint64_t start;
	uint8_t *bitmap;
};

static void
log_get_fn(pte_t *p, int level, uint64_t gpa, void *arg)
{
	struct log_get *lg = arg;
	uint64_t page, pte = atomic_load(p);

	if ((pte & S2_SW_DIRTY) == 0)
		return;
	for (uint64_t off = 0; off < pmap_level_size(level); off += PAGE_SIZE) {
		page = (gpa + off - lg->start) / PAGE_SIZE;
		lg->bitmap[page / 8] |= (uint8_t)(1u << (page % 8));
	}
	pte &= ~S2_SW_DIRTY;
	if (is_leaf(pte, level))
		pte = (pte & ~S2_AP_W) | S2_SW_LOG;
	atomic_store(p, pte);
}

int
pmap_log_get(struct vm *vm, uint64_t gpa, uint64_t len, uint8_t *bitmap)
{
	struct log_get lg = { .start = gpa, .bitmap = bitmap };
	uint64_t end = gpa + len, size;
	int level;
	pte_t *p;

	/* Not for_range(): an absent entry may be dirty and nothing may be split. */
	while (gpa < end) {
		p = walk(vm, gpa, 3, &level);
		size = pmap_level_size(level);
		if (level == 3)
			log_get_fn(p, level, gpa, &lg);
		gpa = (gpa & ~(size - 1)) + size;
	}
	return (0);
}
