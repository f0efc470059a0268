/* Accesses to memory and device registers, of a size and once; for our kernel and the tests'. */
#ifndef MMIO_H
#define MMIO_H

#include <stdint.h>

static inline uint8_t
r8(uint64_t a)
{
	return (*(volatile uint8_t *)a);
}
static inline uint16_t
r16(uint64_t a)
{
	return (*(volatile uint16_t *)a);
}
static inline uint32_t
r32(uint64_t a)
{
	return (*(volatile uint32_t *)a);
}
static inline uint64_t
r64(uint64_t a)
{
	return (*(volatile uint64_t *)a);
}
static inline void
w8(uint64_t a, uint8_t v)
{
	*(volatile uint8_t *)a = v;
}
static inline void
w16(uint64_t a, uint16_t v)
{
	*(volatile uint16_t *)a = v;
}
static inline void
w32(uint64_t a, uint32_t v)
{
	*(volatile uint32_t *)a = v;
}
static inline void
w64(uint64_t a, uint64_t v)
{
	*(volatile uint64_t *)a = v;
}

#endif /* !MMIO_H */
