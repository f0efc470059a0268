/*
 * The small guest kernel: one page of declarations.
 *
 * It finds everything in the device tree, so that the same image runs on
 * bhyvepy and on other virtual machines with a GICv3.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mmio.h"

/* What the device tree says; 0: not there. */
struct machine {
	uint64_t uart, dist, redist;
	uint32_t uart_irq;
	bool pl011, bhyve, psci_smc;
	uint64_t ram, ram_size;
	char bootargs[128];
};
extern struct machine machine;

struct frame {
	uint64_t x[22];
	uint64_t elr, spsr;
};

/* fdt.c */
int fdt_read(const void *fdt, struct machine *m);
/* mmu.c */
void mmu_init(uint64_t ram, uint64_t kernel);
/* gic.c */
void gic_init(void);
void gic_enable(uint32_t intid);
uint32_t gic_ack(void);
void gic_eoi(uint32_t intid);
/* timer.c */
void timer_init(unsigned hz);
void timer_irq(void);
extern volatile uint64_t ticks;
/* console.c */
void console_init(void);
void uart_irq(void);
int console_getc(void); /* -1: nothing there */
void putch(int c);
void puts_(const char *s);
void printf_(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
extern bool have_bvm;
/* shell.c */
void shell(void);
int streq(const char *a, const char *b);
/* start.S */
void count_forever(void) __attribute__((noreturn));
void kernel_main(const void *fdt) __attribute__((noreturn));
void handle_exception(unsigned kind, struct frame *f);
uint64_t psci(uint64_t fn, uint64_t a, uint64_t b, uint64_t c);

#define PSCI_VERSION 0x84000000u
#define PSCI_SYSTEM_OFF 0x84000008u
#define PSCI_SYSTEM_RESET 0x84000009u

#define mrs(reg)                                              \
	({                                                    \
		uint64_t v_;                                  \
		__asm__ volatile("mrs %0, " #reg : "=r"(v_)); \
		v_;                                           \
	})
#define msr(reg, v) __asm__ volatile("msr " #reg ", %0" : : "r"((uint64_t)(v)) : "memory")
#define isb() __asm__ volatile("isb" : : : "memory")
#define dsb() __asm__ volatile("dsb sy" : : : "memory")

#endif /* KERNEL_H */
