/*
 * Runs tests on VIXL's simulator (Debian's libvixl-dev), a model that shares
 * nothing with QEMU: the third opinion when two differ. It has no FPSR and one
 * rounding mode, so it is run with CONF_PLAIN; what it does not implement ends
 * in abort(), which counts as UNDEFINED.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "aarch64/simulator-aarch64.h"

#include "conf.h"

using namespace vixl::aarch64;

static Simulator *sim;
static sigjmp_buf escape;

extern "C" uint32_t *
exec_code(void)
{
	return ((uint32_t *)(uintptr_t)CODE_BASE);
}

extern "C" uint64_t *
exec_scratch(void)
{
	return ((uint64_t *)(uintptr_t)SCRATCH);
}

extern "C" uint32_t
exec_head(void)
{
	return (NOP);
}

extern "C" uint32_t
exec_exit(uint64_t, bool)
{
	return (0xd4207e40); /* not executed: exec_run() stops in front of it */
}

extern "C" void
exec_code_changed(void)
{
}

static void
on_signal(int sig)
{
	siglongjmp(escape, sig);
}

extern "C" void
exec_run(struct conf_state *s, uint64_t va)
{
	uint32_t exit_word = exec_exit(0, false);
	const uint32_t *pc = (const uint32_t *)(va + 4);
	int sig;
	unsigned i, n;

	if (sim == NULL) {
		sim = new Simulator(new Decoder);
		sim->SetCPUFeatures(vixl::CPUFeatures::All());
	}
	for (i = 0; i < 31; i++)
		sim->WriteXRegister(i, s->x[i]);
	sim->WriteSp(s->sp);
	for (i = 0; i < 32; i++) {
		Simulator::qreg_t q;

		memcpy(&q, s->v[i], sizeof(q));
		sim->WriteQRegister(i, q, Simulator::NoRegLog);
	}
	sim->ReadNzcv().SetRawValue(s->nzcv);
	sim->ReadFpcr().SetRawValue(0);
	s->status = ST_END;
	s->pc = s->far = 0;
	sig = sigsetjmp(escape, 1);
	if (sig == 0) {
		sim->WritePc((const Instruction *)pc, Simulator::NoBranchLog);
		for (n = 0; n < 10000; n++) {
			pc = (const uint32_t *)sim->ReadPc();
			if (*pc == exit_word)
				break;
			sim->ExecuteInstruction();
		}
		/* two exits in a row: the second is that of a branch */
		if (pc[-1] == exit_word)
			s->status = ST_TAKEN;
	} else {
		s->status = sig == SIGABRT ? ST_UNDEF : sig == SIGTRAP || sig == SIGINT ? ST_TRAP : ST_FAULT;
		s->pc = (uint64_t)sim->ReadPc();
	}
	for (i = 0; i < 31; i++)
		s->x[i] = (uint64_t)sim->ReadXRegister(i);
	s->sp = (uint64_t)sim->ReadXRegister(31, Reg31IsStackPointer);
	for (i = 0; i < 32; i++) {
		Simulator::qreg_t q = sim->ReadVRegister<Simulator::qreg_t>(i);

		memcpy(s->v[i], &q, sizeof(q));
	}
	s->nzcv = sim->ReadNzcv().GetRawValue() & 0xf0000000;
	if (sig != 0)
		sim = NULL; /* it was left in the middle of something */
}

int
main(int argc, char **argv)
{
	const int signals[] = { SIGABRT, SIGSEGV, SIGBUS, SIGTRAP, SIGINT };
	void *p = mmap((void *)(uintptr_t)CODE_BASE, CODE_LEN + DATA_LEN, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (p == MAP_FAILED || freopen("/dev/null", "w", stderr) == NULL)
		return (1);
	for (int sig : signals)
		signal(sig, on_signal);
	return (conf_main(argc, argv));
}
