/*
 * Pointer authentication (FEAT_PAuth): authentication codes and the pointers
 * that carry them. Not here: instructions and their traps (exec_pauth.c).
 */
#ifndef PE_PAUTH_H
#define PE_PAUTH_H

#include "pe/pe_internal.h"

enum pauth_key { KEY_IA, KEY_IB, KEY_DA, KEY_DB, KEY_GA };

/* ComputePAC() with the algorithm of this PE. */
uint64_t pauth_compute(const struct pe *, uint64_t data, uint64_t modifier, enum pauth_key);
/* AddPAC(), Auth(), Strip(); the last takes a key for its kind only. */
uint64_t pauth_add(const struct pe *, uint64_t ptr, uint64_t modifier, enum pauth_key);
uint64_t pauth_auth(const struct pe *, uint64_t ptr, uint64_t modifier, enum pauth_key);
uint64_t pauth_strip(const struct pe *, uint64_t ptr, enum pauth_key);
/* QARMA-64 with five rounds, as ComputePACQARMA5(). */
uint64_t qarma5(uint64_t data, uint64_t tweak, uint64_t key0, uint64_t key1);

#endif /* PE_PAUTH_H */
