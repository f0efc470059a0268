/*
 * Stolen time (Arm DEN 0057): how long each vCPU was ready to run while the
 * host ran something else, in memory that the guest can read. The host's own
 * account of the vCPU's thread is what is passed on: the second number of
 * /proc/PID/task/TID/schedstat, nanoseconds spent waiting on a run queue.
 *
 * How a guest finds the structures is userland's business (PV_TIME_ST).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/clock.h"
#include "vmm/vmm_handlers.h"

#define SEG_STOLEN 2
#define AREA_LEN 65536u /* a page of guests with 64 KiB pages */
#define STRUCT_LEN 64u  /* revision and attributes, both 0; time in ns; padding */
#define TIME_OFFSET 8u
#define UPDATE_NS 1000000u

int
vm_stolen_time(struct vm *vm, uint64_t gpa)
{
	uint64_t len = 0;
	int error;

	if (vm_get_memseg(vm, SEG_STOLEN, &len) == 0 && len != 0)
		return (EEXIST);
	if ((error = vm_alloc_memseg(vm, SEG_STOLEN, AREA_LEN, true)) != 0 ||
	    (error = vm_mmap_memseg(vm, gpa, SEG_STOLEN, 0, AREA_LEN, VM_PROT_READ)) != 0)
		return (error);
	vm->hyp->stolen_gpa = gpa;
	return (0);
}

/* Nanoseconds that the calling thread has waited for a host CPU; 0: not known. */
static uint64_t
waited(struct vcpu *vcpu)
{
	int tid = (int)syscall(SYS_gettid);
	char text[96], *second;
	ssize_t n;

	if (vcpu->sched_tid != tid) {
		if (vcpu->sched_tid != 0)
			close(vcpu->sched_fd);
		vcpu->sched_tid = 0;
		vcpu->sched_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
		if (vcpu->sched_fd < 0)
			return (0);
		vcpu->sched_tid = tid;
		vcpu->waited = 0;
	}
	n = pread(vcpu->sched_fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return (0);
	text[n] = '\0';
	(void)strtoull(text, &second, 10);
	return (strtoull(second, NULL, 10));
}

void
vm_stolen_update(struct vm *vm, struct hypctx *hypctx, struct vcpu *vcpu)
{
	uint64_t now = sys_now_ns(), total, len = sizeof(uint64_t);
	void *hva;

	if (now < vcpu->stolen_next)
		return;
	vcpu->stolen_next = now + UPDATE_NS;
	if ((total = waited(vcpu)) == 0)
		return;
	/* A thread's account begins with its first run of the vCPU. */
	if (vcpu->waited != 0 && total > vcpu->waited)
		hypctx->stolen_ns += total - vcpu->waited;
	vcpu->waited = total;
	hva = vm_gpa2hva(vm, vm->hyp->stolen_gpa + hypctx->vcpuid * STRUCT_LEN + TIME_OFFSET, &len);
	if (hva != NULL && len == sizeof(uint64_t))
		__atomic_store_n((uint64_t *)hva, hypctx->stolen_ns, __ATOMIC_RELEASE);
}

void
vm_stolen_close(struct vm *vm)
{
	for (unsigned i = 0; i < VM_MAXCPU; i++)
		if (vm->vcpu[i].sched_tid != 0)
			close(vm->vcpu[i].sched_fd);
}
