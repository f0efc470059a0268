/* Chooses the mutant, before constructors that fill tables run. */
#include <stdlib.h>

#include "mutant.h"

int pe_mutant;

__attribute__((constructor(101))) static void
choose(void)
{
	const char *s = getenv("PE_MUTANT");

	pe_mutant = s == NULL ? 0 : atoi(s);
}
