/*
 * Wires: a serial port's transmitter without an exit to userland for each byte.
 * The registers that a driver touches for every character of output are served
 * here, by the state that the device gave; what else the guest does with the
 * port leaves vm_run(), and the device takes the state back meanwhile.
 *
 * Transmission takes no time, as in the device: THR is empty again when the
 * store is done (devices/ns16550a.py). Registers: PC16550D, table II.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmm/io/vgic.h"
#include "vmm/vmm_vm.h"

enum { THR = 0, IER = 1, IIR = 2, LSR = 5, MSR = 6 };

#define IER_RX 0x01
#define IER_THRE 0x02
#define IER_RLS 0x04
#define IER_MS 0x08
#define IIR_MS 0x00
#define IIR_THRE 0x02
#define IIR_RLS 0x06
#define LSR_OE 0x02
#define MSR_DELTA 0x0f

int
vm_wire_add(struct vm *vm, uint64_t gpa, uint32_t irq, int fd, int *wire)
{
	struct vm_wire *w;
	int error = 0;

	if (fd < 0 || (irq != 0 && (irq < VGIC_PRV_I_NUM || irq >= VGIC_I_NUM)))
		return (EINVAL);
	pthread_mutex_lock(&vm->line_mtx);
	if (atomic_load(&vm->nwires) == VM_MAX_WIRES)
		error = ENOSPC;
	else {
		*wire = (int)atomic_load(&vm->nwires);
		w = &vm->wire[*wire];
		memset(w, 0, sizeof(*w));
		w->gpa = gpa;
		w->irq = irq;
		w->fd = fd;
		w->state.rx = VM_WIRE_NO_CAUSE;
		atomic_store(&vm->nwires, (unsigned)*wire + 1);
	}
	pthread_mutex_unlock(&vm->line_mtx);
	return (error);
}

static struct vm_wire *
find(struct vm *vm, int wire)
{
	return (wire < 0 || (unsigned)wire >= atomic_load(&vm->nwires) ? NULL : &vm->wire[wire]);
}

/* The enabled cause of highest priority, as IIR bits 3:0. */
static uint8_t
cause(const struct vm_wire_state *s)
{
	if ((s->ier & IER_RLS) != 0 && (s->lsr & LSR_OE) != 0)
		return (IIR_RLS);
	if ((s->ier & IER_RX) != 0 && s->rx != VM_WIRE_NO_CAUSE)
		return (s->rx);
	if ((s->ier & IER_THRE) != 0 && s->thre != 0)
		return (IIR_THRE);
	if ((s->ier & IER_MS) != 0 && (s->msr & MSR_DELTA) != 0)
		return (IIR_MS);
	return (VM_WIRE_NO_CAUSE);
}

/* Lock held. */
static void
drive(struct vm *vm, struct vm_wire *w)
{
	bool line = cause(&w->state) != VM_WIRE_NO_CAUSE;

	if (line == w->line)
		return;
	w->line = line;
	if (w->irq != 0)
		(void)vgic_inject_irq(vm->hyp, -1, w->irq, line);
}

int
vm_wire_hold(struct vm *vm, int wire, struct vm_wire_state *state)
{
	struct vm_wire *w;

	pthread_mutex_lock(&vm->line_mtx);
	if ((w = find(vm, wire)) != NULL) {
		w->state.serve = 0;
		*state = w->state;
	}
	pthread_mutex_unlock(&vm->line_mtx);
	return (w == NULL ? EINVAL : 0);
}

int
vm_wire_set(struct vm *vm, int wire, const struct vm_wire_state *state)
{
	struct vm_wire *w;

	pthread_mutex_lock(&vm->line_mtx);
	if ((w = find(vm, wire)) != NULL) {
		w->state = *state;
		drive(vm, w);
	}
	pthread_mutex_unlock(&vm->line_mtx);
	return (w == NULL ? EINVAL : 0);
}

/* Keep a byte; the first of them is told of. Lock held. */
static bool
keep(struct vm_wire *w, uint8_t byte)
{
	static const uint64_t one = 1;

	if (w->count == sizeof(w->bytes))
		return (false);
	w->bytes[w->count++] = byte;
	if (w->count == 1)
		(void)!write(w->fd, &one, sizeof(one));
	return (true);
}

int
vm_wire_put(struct vm *vm, int wire, uint8_t byte)
{
	struct vm_wire *w;
	int error;

	pthread_mutex_lock(&vm->line_mtx);
	w = find(vm, wire);
	error = w == NULL ? EINVAL : keep(w, byte) ? 0 : EAGAIN;
	pthread_mutex_unlock(&vm->line_mtx);
	return (error);
}

int
vm_wire_take(struct vm *vm, int wire, uint8_t *buf, size_t room, size_t *len)
{
	struct vm_wire *w;
	int error = 0;

	*len = 0;
	pthread_mutex_lock(&vm->line_mtx);
	if ((w = find(vm, wire)) == NULL)
		error = EINVAL;
	else if (w->count > room)
		error = ERANGE;
	else {
		*len = w->count;
		memcpy(buf, w->bytes, w->count);
		w->count = 0;
	}
	pthread_mutex_unlock(&vm->line_mtx);
	return (error);
}

/* -- registers; lock held --------------------------------------------------------- */

static bool
rd_ier(struct vm_wire *w, uint8_t *value)
{
	*value = w->state.ier;
	return (true);
}

/* Reading IIR clears THRE only when it is what is reported. */
static bool
rd_iir(struct vm_wire *w, uint8_t *value)
{
	uint8_t c = cause(&w->state);

	if (c == IIR_THRE)
		w->state.thre = 0;
	*value = c | w->state.fifo;
	return (true);
}

/* An overrun, which reading clears, is the device's. */
static bool
rd_lsr(struct vm_wire *w, uint8_t *value)
{
	*value = w->state.lsr;
	return ((w->state.lsr & LSR_OE) == 0);
}

/* As are changes of the modem's lines. */
static bool
rd_msr(struct vm_wire *w, uint8_t *value)
{
	*value = w->state.msr;
	return ((w->state.msr & MSR_DELTA) == 0);
}

static bool
wr_thr(struct vm_wire *w, uint8_t value)
{
	if (!keep(w, value))
		return (false);
	w->state.thre = 1;
	return (true);
}

/* THR is empty: to enable its interrupt raises it. */
static bool
wr_ier(struct vm_wire *w, uint8_t value)
{
	if ((value & ~w->state.ier & IER_THRE) != 0)
		w->state.thre = 1;
	w->state.ier = value & 0x0f;
	return (true);
}

static const struct {
	uint8_t rd_serve, wr_serve; /* 0: not here */
	bool (*rd)(struct vm_wire *, uint8_t *);
	bool (*wr)(struct vm_wire *, uint8_t);
} wire_reg[8] = {
	[THR] = { 0, VM_WIRE_THR, NULL, wr_thr },
	[IER] = { VM_WIRE_IER, VM_WIRE_IER, rd_ier, wr_ier },
	[IIR] = { VM_WIRE_IIR, 0, rd_iir, NULL },
	[LSR] = { VM_WIRE_LSR, 0, rd_lsr, NULL },
	[MSR] = { VM_WIRE_MSR, 0, rd_msr, NULL },
};

static bool
touch(struct vm_wire *w, unsigned reg, int dir, uint64_t *data)
{
	uint8_t value = 0;

	if (dir == VM_DIR_WRITE)
		return ((w->state.serve & wire_reg[reg].wr_serve) != 0 &&
			wire_reg[reg].wr(w, (uint8_t)*data));
	if ((w->state.serve & wire_reg[reg].rd_serve) == 0 || !wire_reg[reg].rd(w, &value))
		return (false);
	*data = value;
	return (true);
}

bool
vm_wire_access(struct vm *vm, uint64_t gpa, unsigned size, int dir, uint64_t *data)
{
	unsigned n = atomic_load_explicit(&vm->nwires, memory_order_acquire);
	bool hit;

	if (size != 1)
		return (false);
	/* A wire never goes away, and its address never changes. */
	for (unsigned i = 0; i < n; i++) {
		struct vm_wire *w = &vm->wire[i];

		if (gpa - w->gpa > 7)
			continue;
		pthread_mutex_lock(&vm->line_mtx);
		hit = touch(w, (unsigned)(gpa - w->gpa), dir, data);
		if (hit)
			drive(vm, w);
		pthread_mutex_unlock(&vm->line_mtx);
		return (hit);
	}
	return (false);
}
