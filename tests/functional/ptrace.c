/*
 * A small debugger that watches itself: hardware breakpoint, watchpoint and
 * single step of a child through ptrace. Runs in a Linux guest (test_debug_linux.py).
 */
#include <elf.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

struct regs {
	uint64_t x[31], sp, pc, pstate;
};

struct debug {
	uint32_t info, pad;
	struct {
		uint64_t addr;
		uint32_t ctrl, pad;
	} reg[16];
};

static volatile uint64_t watched[2];
static volatile unsigned spun;

__attribute__((noinline)) static uint64_t
marked(uint64_t n)
{
	__asm__ volatile("" : "+r"(n));
	return (n * 3);
}

static int
child(void)
{
	uint64_t sum = 0;

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	for (unsigned i = 0; i < 200000; i++)
		spun++;
	sum += marked(1);
	watched[0] = 42;
	sum += watched[0];
	watched[1] = 43;
	__asm__ volatile(".globl steps\nsteps: nop\n nop\n b 1f\n nop\n1: nop\n");
	return (sum == 45 ? 7 : 8);
}

extern char steps[];

static struct regs
get(pid_t pid)
{
	struct regs r;
	struct iovec v = { &r, sizeof(r) };

	if (ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &v) != 0)
		perror("GETREGSET");
	return (r);
}

static void
set(pid_t pid, int which, const volatile void *addr, uint32_t ctrl)
{
	struct debug d;
	struct iovec v = { &d, offsetof(struct debug, reg[1]) };

	memset(&d, 0, sizeof(d));
	d.reg[0].addr = (uint64_t)addr;
	d.reg[0].ctrl = ctrl;
	if (ptrace(PTRACE_SETREGSET, pid, which, &v) != 0)
		perror("SETREGSET");
}

static unsigned
count(pid_t pid, int which)
{
	struct debug d;
	struct iovec v = { &d, sizeof(d) };

	if (ptrace(PTRACE_GETREGSET, pid, which, &v) != 0)
		perror("GETREGSET");
	return (d.info & 0xff);
}

/* Go on; the signal it stops with, or 1000 + its exit status. */
static int
go(pid_t pid, int how, siginfo_t *si)
{
	int status;

	if (ptrace(how, pid, NULL, NULL) != 0)
		perror("ptrace");
	waitpid(pid, &status, 0);
	if (WIFEXITED(status))
		return (1000 + WEXITSTATUS(status));
	ptrace(PTRACE_GETSIGINFO, pid, NULL, si);
	return (WSTOPSIG(status));
}

#define CHECK(what, cond) printf("%s %s\n", (cond) ? "PASS" : "FAIL", what)
#define HWBKPT 4

int
main(void)
{
	int status, sig;
	siginfo_t si;
	uint64_t pc;
	pid_t pid = fork();

	if (pid == 0)
		_exit(child());
	waitpid(pid, &status, 0);
	CHECK("six breakpoints", count(pid, NT_ARM_HW_BREAK) == 6);
	CHECK("four watchpoints", count(pid, NT_ARM_HW_WATCH) == 4);

	set(pid, NT_ARM_HW_BREAK, (void *)marked, 1 | 2 << 1 | 0xf << 5);
	sig = go(pid, PTRACE_CONT, &si);
	CHECK("breakpoint", sig == SIGTRAP && si.si_code == HWBKPT &&
				si.si_addr == (void *)marked && get(pid).pc == (uint64_t)marked);
	set(pid, NT_ARM_HW_BREAK, NULL, 0);

	set(pid, NT_ARM_HW_WATCH, &watched[0], 1 | 2 << 1 | 2 << 3 | 0xff << 5);
	sig = go(pid, PTRACE_CONT, &si);
	CHECK("store", sig == SIGTRAP && si.si_code == HWBKPT && si.si_addr == &watched[0]);
	set(pid, NT_ARM_HW_WATCH, &watched[0], 1 | 2 << 1 | 1 << 3 | 0xff << 5);
	sig = go(pid, PTRACE_CONT, &si);
	CHECK("load", sig == SIGTRAP && si.si_code == HWBKPT && si.si_addr == &watched[0]);
	set(pid, NT_ARM_HW_WATCH, NULL, 0);

	set(pid, NT_ARM_HW_BREAK, steps, 1 | 2 << 1 | 0xf << 5);
	sig = go(pid, PTRACE_CONT, &si);
	set(pid, NT_ARM_HW_BREAK, NULL, 0);
	pc = get(pid).pc;
	CHECK("at the steps", sig == SIGTRAP && pc == (uint64_t)steps);
	for (unsigned i = 0; i < 4; i++) {
		static const unsigned want[] = { 4, 8, 16, 20 };

		sig = go(pid, PTRACE_SINGLESTEP, &si);
		CHECK("step", sig == SIGTRAP && get(pid).pc == pc + want[i]);
	}
	for (sig = SIGTRAP, status = 0; sig == SIGTRAP; status++)
		sig = go(pid, PTRACE_SINGLESTEP, &si);
	CHECK("steps to the end, system call and all", sig == 1007 && status > 5);
	return (0);
}
