/*
 * Many system registers at a time, for a hypervisor that changes worlds: the
 * accesses that pe_mrs() and pe_msr() would do one by one, in the same order and
 * with the same meaning, but the rows are looked up once, and a value that a
 * register has already is not written again where that changes nothing.
 */
#include <errno.h>

#include "pe/sysreg.h"

/* How a value is written. */
enum {
	BANK_READ_ONLY,
	BANK_PLAIN,  /* to its storage */
	BANK_STORED, /* by a function; it reads as what was written, so the same changes nothing */
	BANK_CALL,   /* by a function */
};

int
pe_bank_add(struct pe *pe, struct pe_bank *bank, uint32_t enc, size_t offset)
{
	const struct sysreg *r = sysreg_at_el2_named(pe, enc);
	struct pe_bank_row *row = &bank->row[bank->count];

	if (r == NULL || (r->acc & SR_R2) == 0 || bank->count == PE_BANK_ROWS)
		return (ENOENT);
	row->reg = r;
	row->offset = (uint32_t)offset;
	if ((r->acc & SR_W2) == 0)
		row->how = BANK_READ_ONLY;
	else if (r->wr == NULL)
		row->how = BANK_PLAIN;
	else
		row->how = r->rd == NULL ? BANK_STORED : BANK_CALL;
	bank->count++;
	return (0);
}

static inline uint64_t
get(struct pe *pe, const struct pe_bank_row *row)
{
	return (sysreg_read(pe, row->reg));
}

static inline void
put(struct pe *pe, const struct pe_bank_row *row, uint64_t old, uint64_t v)
{
	const struct sysreg *r = row->reg;

	if (row->how == BANK_PLAIN)
		pe->sr[r->sr] = (v & r->wmask) | (r->reset & ~r->wmask);
	else if (row->how == BANK_CALL || (row->how == BANK_STORED && v != old))
		r->wr(pe, r, v);
}

static inline uint64_t *
place(void *base, const struct pe_bank_row *row)
{
	return ((uint64_t *)(void *)((char *)base + row->offset));
}

void
pe_bank_read(struct pe *pe, const struct pe_bank *bank, void *to)
{
	for (const struct pe_bank_row *row = bank->row; row < bank->row + bank->count; row++)
		*place(to, row) = get(pe, row);
}

void
pe_bank_write(struct pe *pe, const struct pe_bank *bank, const void *from)
{
	pe->unsynced = true;
	for (const struct pe_bank_row *row = bank->row; row < bank->row + bank->count; row++)
		put(pe, row, pe->sr[row->reg->sr], *place((void *)(uintptr_t)from, row));
	pe->unsynced = false;
}

void
pe_bank_swap(struct pe *pe, const struct pe_bank *bank, void *to, const void *from)
{
	uint64_t old;

	pe->unsynced = true;
	for (const struct pe_bank_row *row = bank->row; row < bank->row + bank->count; row++) {
		old = get(pe, row);
		*place(to, row) = old;
		put(pe, row, old, *place((void *)(uintptr_t)from, row));
	}
	pe->unsynced = false;
}
