/*
 * The translator from A64 to x86-64: what the run loop and the code cache use.
 *
 * Code is kept by physical page: each struct codepage has a table with one
 * entry address for every instruction. An entry that is not translated leads
 * back to C. Translated code jumps through the table, so that dropping a block
 * is one store and nothing is ever patched.
 */
#ifndef PE_JIT_JIT_H
#define PE_JIT_JIT_H

#include "pe/pe_internal.h"

/* In the 32 KiB of a code page, behind its predecoded instructions. */
#define JIT_ENTRIES 20480u /* 1024 addresses */
#define JIT_COUNTS 18432u  /* 1024 bytes: executions before translation */

/* Besides INSN_*: not translated, nothing ran. */
#define JIT_COLD 4
/* Besides INSN_*: the instruction at pe->pc is one for the interpreter. */
#define JIT_STEP 5

/* Instructions in a block. */
#define JIT_BLOCK_MAX 64u

/* The least code memory that pe_config.jit_memory may ask for. */
#define JIT_MEMORY_MIN 65536u

struct jit;

/* Bytes of code memory that a PE of this configuration wants; 0: none. */
size_t jit_code_size(const struct pe_config *);

/*
 * The code runs at codecache_code(), where it reaches the code pages with 32 bits.
 * NULL when this host cannot (BMI2 is needed) or memory is short.
 */
struct jit *jit_create(struct pe *);
void jit_destroy(struct jit *);
/* A code page was made, or all of its code is gone. */
void jit_page_init(struct pe *, struct codepage *);
/* The instructions at page offsets [off, off + 64) are gone. */
void jit_drop_line(struct pe *, struct codepage *, unsigned off);
/* All pages are gone. */
void jit_reset(struct pe *);
/*
 * Run translated code from pe->pc, which lies in `page`: INSN_* or JIT_COLD
 * with pe->pc set. Translates when the instruction was reached often enough.
 */
int jit_run(struct pe *, struct codepage *page);

#endif /* PE_JIT_JIT_H */
