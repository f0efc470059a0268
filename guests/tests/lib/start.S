/*
 * Entry of the test kernels, on the boot CPU and on those that PSCI starts, and
 * the exception vectors.
 *
 * A Linux arm64 Image: any loader of those can start it. x0 is the address of
 * the device tree; MMU off, EL1 (or EL2, which it leaves). A CPU started by
 * cpu_start() enters at secondary_entry with x0 = its struct cpu.
 */
#include "offsets.h"

	.section .text.start, "ax"
	.globl	_start
_start:
	b	entry			// code0
	.word	0			// code1
	.quad	0			// text_offset
	.quad	_image_size
	.quad	0xa			// flags: little endian, 4K pages, anywhere
	.quad	0, 0, 0
	.ascii	"ARM\x64"
	.word	0

	/* From EL2 to EL1 with timers and GIC open; clobbers x1 to x3. */
drop_to_el1:
	mrs	x1, CurrentEL
	cmp	x1, #8
	b.ne	1f
	mov	x1, #(1 << 31)
	msr	hcr_el2, x1
	mov	x1, #3
	msr	cnthctl_el2, x1
	msr	cntvoff_el2, xzr
	mrs	x1, S3_4_C12_C9_5	// ICC_SRE_EL2
	mov	x2, #9
	orr	x1, x1, x2
	msr	S3_4_C12_C9_5, x1
	mov	x1, #0x33ff
	msr	cptr_el2, x1
	mrs	x1, midr_el1
	msr	vpidr_el2, x1
	mrs	x1, mpidr_el1
	msr	vmpidr_el2, x1
	mov	x1, #0x3c5
	msr	spsr_el2, x1
	msr	elr_el2, x30
	eret
1:	ret

entry:
	mov	x19, x0
	bl	drop_to_el1
	adrp	x0, _image
	add	x0, x0, :lo12:_image
	adrp	x1, _rela
	add	x1, x1, :lo12:_rela
	adrp	x2, _rela_end
	add	x2, x2, :lo12:_rela_end
2:	cmp	x1, x2
	b.hs	3f
	ldp	x3, x5, [x1]		// r_offset, r_info
	ldr	x4, [x1, #16]		// r_addend
	add	x1, x1, #24
	cmp	x5, #0x403		// R_AARCH64_RELATIVE
	b.ne	2b
	add	x4, x4, x0
	str	x4, [x0, x3]
	b	2b
3:
	adrp	x1, _file_end
	adrp	x2, _end
4:	cmp	x1, x2
	b.hs	5f
	stp	xzr, xzr, [x1], #16
	b	4b
5:
	adrp	x0, cpus
	add	x0, x0, :lo12:cpus
	adrp	x1, boot_stack_top
	add	x1, x1, :lo12:boot_stack_top
	str	x1, [x0, #CPU_STACK]
	mov	x20, x0
	bl	cpu_setup
	mov	x0, x19
	bl	boot_main
	b	.

	.globl	secondary_entry
secondary_entry:
	mov	x20, x0
	bl	drop_to_el1
	bl	cpu_setup
	mov	x0, x20
	bl	secondary_main
	b	.

	/* x20: struct cpu. */
cpu_setup:
	ldr	x1, [x20, #CPU_STACK]
	mov	sp, x1
	msr	tpidr_el1, x20
	adr	x1, vectors
	msr	vbar_el1, x1
	mov	x1, #(3 << 20)
	msr	cpacr_el1, x1
	isb
	ret

	.macro	vector kind
	.align	7
	sub	sp, sp, #FRAME_SIZE
	stp	x0, x1, [sp]
	mov	x0, #\kind
	b	exception
	.endm

	.text
	.align	11
vectors:
	vector	0
	vector	1
	vector	2
	vector	3
	vector	4
	vector	5
	vector	6
	vector	7
	vector	8
	vector	9
	vector	10
	vector	11
	vector	12
	vector	13
	vector	14
	vector	15

exception:
	stp	x2, x3, [sp, #16]
	stp	x4, x5, [sp, #32]
	stp	x6, x7, [sp, #48]
	stp	x8, x9, [sp, #64]
	stp	x10, x11, [sp, #80]
	stp	x12, x13, [sp, #96]
	stp	x14, x15, [sp, #112]
	stp	x16, x17, [sp, #128]
	stp	x18, x19, [sp, #144]
	stp	x20, x21, [sp, #160]
	stp	x22, x23, [sp, #176]
	stp	x24, x25, [sp, #192]
	stp	x26, x27, [sp, #208]
	stp	x28, x29, [sp, #224]
	mrs	x1, elr_el1
	stp	x30, x1, [sp, #240]
	mrs	x1, spsr_el1
	mrs	x2, esr_el1
	stp	x1, x2, [sp, #256]
	mrs	x1, far_el1
	str	x1, [sp, #272]
	mov	x1, sp
	bl	exception_taken
	ldp	x30, x1, [sp, #240]
	ldr	x2, [sp, #256]
	msr	elr_el1, x1
	msr	spsr_el1, x2
	ldp	x28, x29, [sp, #224]
	ldp	x26, x27, [sp, #208]
	ldp	x24, x25, [sp, #192]
	ldp	x22, x23, [sp, #176]
	ldp	x20, x21, [sp, #160]
	ldp	x18, x19, [sp, #144]
	ldp	x16, x17, [sp, #128]
	ldp	x14, x15, [sp, #112]
	ldp	x12, x13, [sp, #96]
	ldp	x10, x11, [sp, #80]
	ldp	x8, x9, [sp, #64]
	ldp	x6, x7, [sp, #48]
	ldp	x4, x5, [sp, #32]
	ldp	x2, x3, [sp, #16]
	ldp	x0, x1, [sp]
	add	sp, sp, #FRAME_SIZE
	eret

	.bss
	.align	4
	.skip	16384
boot_stack_top:
