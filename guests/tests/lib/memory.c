/*
 * What the compiler calls for copies and fills.
 */
#include "lib.h"

void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);

void *
memcpy(void *to, const void *from, size_t n)
{
	char *t = to;
	const char *f = from;

	while (n-- > 0)
		*t++ = *f++;
	return (to);
}

void *
memset(void *to, int c, size_t n)
{
	char *t = to;

	while (n-- > 0)
		*t++ = (char)c;
	return (to);
}
