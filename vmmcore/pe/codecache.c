/*
 * Predecoded code by physical page: see codecache.h.
 *
 * Pages come from one reserved range of host memory, 32 KiB of addresses each
 * so that the instruction array is aligned to its size; only what is touched
 * becomes resident, about 17 KiB for a page whose code all runs.
 */
#include "pe/codecache.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "pe/jit/jit.h"
#include "pe/mmu.h"
#include "pe/strict.h"

#define STRIDE 32768u
#define MAX_PAGES 3072u /* 51 MiB when every word of them was executed */
#define PAGES_SIZE ((size_t)(MAX_PAGES + 1) * STRIDE)
#define BATCH 64u /* pages that are replaced together */
#define HASH_SIZE 4096u

struct codecache {
	char *base;    /* the pages, and behind them addresses for translated code */
	size_t size;   /* of both */
	unsigned next; /* first page never used, or the next to replace */
	bool full;
	struct codepage *hash[HASH_SIZE];
};

static inline unsigned
hash_of(uint64_t pa)
{
	return ((unsigned)((pa >> 12) ^ (pa >> 24)) & (HASH_SIZE - 1));
}

int
codecache_create(struct pe *pe)
{
	struct codecache *cc = calloc(1, sizeof(*cc));

	if (cc == NULL)
		return (ENOMEM);
	cc->size = PAGES_SIZE + jit_code_size(&pe->cfg);
	cc->base =
	    mmap(NULL, cc->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (cc->base == MAP_FAILED) {
		free(cc);
		return (ENOMEM);
	}
	pe->code = cc;
	if (mprotect(cc->base, PAGES_SIZE, PROT_READ | PROT_WRITE) != 0) {
		codecache_destroy(pe);
		return (ENOMEM);
	}
	return (0);
}

void *
codecache_code(const struct pe *pe)
{
	return (pe->code->base + PAGES_SIZE);
}

void
codecache_destroy(struct pe *pe)
{
	if (pe->code == NULL)
		return;
	munmap(pe->code->base, pe->code->size);
	free(pe->code);
	pe->code = NULL;
}

static struct codepage *
page_at(const struct codecache *cc, unsigned i)
{
	uintptr_t a = ((uintptr_t)cc->base + CODEPAGE_ALIGN - 1) & ~(uintptr_t)(CODEPAGE_ALIGN - 1);

	return ((struct codepage *)(a + (uintptr_t)i * STRIDE));
}

static void
unhash(struct codecache *cc, struct codepage *page)
{
	struct codepage **pp = &cc->hash[hash_of(page->pa)];

	for (; *pp != NULL; pp = &(*pp)->hash_next)
		if (*pp == page) {
			*pp = page->hash_next;
			return;
		}
}

/* Forget the oldest pages. Their fetch entries may be anywhere. */
static void
make_room(struct pe *pe)
{
	struct codecache *cc = pe->code;

	_Static_assert(MAX_PAGES % BATCH == 0, "batches end with the last page");
	for (unsigned i = 0; i < BATCH; i++) {
		struct codepage *page = page_at(cc, cc->next + i);

		unhash(cc, page);
		memset(page->insn, 0, sizeof(page->insn));
	}
	mmu_flush_fetch(pe);
}

struct codepage *
codecache_get(struct pe *pe, uint64_t pa, const void *words)
{
	struct codecache *cc = pe->code;
	struct codepage *page;
	unsigned h = hash_of(pa);

	for (page = cc->hash[h]; page != NULL; page = page->hash_next)
		if (page->pa == pa) {
			page->words = words;
			return (page);
		}
	if (cc->next == MAX_PAGES) {
		cc->next = 0;
		cc->full = true;
	}
	if (cc->full && cc->next % BATCH == 0)
		make_room(pe);
	page = page_at(cc, cc->next++);
	pe->count.code_pages++;
	if (pe->jit != NULL)
		jit_page_init(pe, page);
	page->end.op = A64_PAGE_END;
	page->watched = false;
	page->pa = pa;
	page->words = words;
	page->hash_next = cc->hash[h];
	cc->hash[h] = page;
	return (page);
}

static struct codepage *
find(struct pe *pe, uint64_t pa)
{
	struct codepage *page = pe->code->hash[hash_of(pa)];

	while (page != NULL && page->pa != pa)
		page = page->hash_next;
	return (page);
}

/* The operation alone: a handler may be in the middle of an instruction of the page. */
static void
forget(struct codepage *page, unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count; i++)
		page->insn[i].op = A64_UNDECODED;
}

void
codecache_drop_lines(struct pe *pe, uint64_t pa, uint64_t lines)
{
	struct codepage *page = find(pe, pa);

	for (; page != NULL && lines != 0; lines &= lines - 1) {
		unsigned line = (unsigned)__builtin_ctzll(lines);

		pe->count.code_inval++;
		forget(page, 16 * line, 16);
		if (pe->jit != NULL)
			jit_drop_line(pe, page, 64 * line);
	}
}

void
codecache_drop_page(struct pe *pe, uint64_t pa)
{
	struct codepage *page = find(pe, pa);

	if (page == NULL)
		return;
	pe->count.code_inval++;
	page->watched = false;
	forget(page, 0, CODEPAGE_INSNS);
	if (pe->jit != NULL)
		jit_page_init(pe, page);
}

void
codecache_drop_all(struct pe *pe)
{
	struct codecache *cc = pe->code;

	pe->count.code_inval++;
	memset(cc->hash, 0, sizeof(cc->hash));
	madvise(cc->base, PAGES_SIZE, MADV_DONTNEED);
	cc->next = 0;
	cc->full = false;
	mmu_flush_fetch(pe);
	if (pe->jit != NULL)
		jit_reset(pe);
}

/* -- rows that are not instructions -------------------------------------------- */

void
codecache_decode(struct pe *pe, struct codepage *page, unsigned i)
{
	struct insn *slot = &page->insn[i];
	uint32_t word;
	int feature;

	if (slot->op != A64_UNDECODED)
		return;
	if (unlikely(pe->cfg.jit_strict))
		strict_code(pe, page);
	word = __atomic_load_n(&page->words[i], __ATOMIC_RELAXED);
	a64_decode_insn(word, slot);
	slot->word = word;
	feature = a64_op_feature[slot->op];
	if (feature >= 0 && !pe_has(pe, (enum pe_feature)feature))
		slot->op = A64_UNDEFINED;
	/* Compilers put these at every call and return. */
	if (slot->op == A64_PAC_HINT && !pe_has(pe, PE_FEAT_PAuth))
		slot->op = A64_HINT;
}

int
op_undecoded(struct pe *pe, const struct insn *in)
{
	struct codepage *page =
	    (struct codepage *)((uintptr_t)in & ~(uintptr_t)(CODEPAGE_ALIGN - 1));
	unsigned i = (unsigned)(in - page->insn);
	uint32_t waits = pe->strict_waits;

	codecache_decode(pe, page, i);
	/* Others were served meanwhile: look where this is now. */
	if (unlikely(waits != pe->strict_waits) && !pe->debug.step) {
		pe->pc = pe_pc(pe, in);
		pe->count.insns--;
		return (INSN_EXC);
	}
	return (a64_handler[page->insn[i].op](pe, &page->insn[i]));
}

int
op_page_end(struct pe *pe, const struct insn *in)
{
	(void)in;
	pe->pc = pe->pc_page + 4096;
	pe->count.insns--; /* it is none */
	return (INSN_BRANCH);
}
