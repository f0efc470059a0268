/*
 * Predecoded code by physical page. A page's instructions decode one by one
 * when they are first reached; they are dropped by IC maintenance, by the code
 * epoch, and when the cache is full.
 */
#ifndef PE_CODECACHE_H
#define PE_CODECACHE_H

#include "pe/pe_internal.h"

int codecache_create(struct pe *);
void codecache_destroy(struct pe *);
/* Never NULL: replaces old pages when full. `words` is the page's host address. */
struct codepage *codecache_get(struct pe *, uint64_t pa, const void *words);
/* Decode slot i of a page that is not decoded yet. */
void codecache_decode(struct pe *, struct codepage *, unsigned i);
/* Drop the instructions of these 64-byte lines, a bit each, of the page at pa. */
void codecache_drop_lines(struct pe *, uint64_t pa, uint64_t lines);
/* Drop what is decoded of the page at pa; writes to it may go unnoticed. */
void codecache_drop_page(struct pe *, uint64_t pa);
/* All of it: the caller must look its own page up again. */
void codecache_drop_all(struct pe *);
/* Addresses beside the pages that nothing is mapped at: jit_code_size() bytes. */
void *codecache_code(const struct pe *);
/* Handlers of the rows that stand for a slot's state. */
int op_undecoded(struct pe *, const struct insn *);
int op_page_end(struct pe *, const struct insn *);

#endif /* PE_CODECACHE_H */
