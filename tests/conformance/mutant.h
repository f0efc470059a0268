/*
 * Seeded bugs: MUT(n, right, wrong) is `right` unless the environment chooses
 * mutant n with PE_MUTANT=n. Only in the copy of the PE that mutants.py makes;
 * included before everything else there.
 */
#ifndef CONF_MUTANT_H
#define CONF_MUTANT_H

extern int pe_mutant;
#define MUT(n, right, wrong) (__builtin_expect(pe_mutant == (n), 0) ? (wrong) : (right))

#endif /* CONF_MUTANT_H */
