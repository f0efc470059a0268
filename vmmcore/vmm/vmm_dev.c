/*
 * The life of a VM as files (docs/architecture.md, section 3): create, open,
 * close, destroy, state, the runner's ownership and the load record. This is
 * what the device nodes and their open and close are in FreeBSD.
 *
 * A VM appears and disappears whole, by rename. The half-made and half-removed
 * folders of killed processes have names that no VM can have, and are removed
 * by the next vm_create() or vm_destroy(): their maker holds a lock on them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sys/clock.h"
#include "sys/store.h"
#include "sys/futex.h"
#include "vmm/io/vgic.h"
#include "vmm/mmu.h"

#define TMP_PREFIX ".tmp-"
#define CONTROL_NAME "control"
#define DESTROY_WAIT_NS UINT64_C(2000000000)

const char *const vm_seg_name[SEG_COUNT] = {
	[VM_SYSMEM] = "sysmem",
	[VM_BOOTROM] = "bootrom",
	[2] = "devmem2",
	[3] = "devmem3",
	[SEG_STAGE2] = "stage2",
	[SEG_CONTROL] = CONTROL_NAME,
};

static int
check_name(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > VM_MAX_NAMELEN || name[0] == '.' || name[0] == '-')
		return (EINVAL);
	for (size_t i = 0; i < len; i++) {
		if (!((name[i] >= 'A' && name[i] <= 'Z') || (name[i] >= 'a' && name[i] <= 'z') ||
			(name[i] >= '0' && name[i] <= '9') || strchr("._-", name[i]) != NULL))
			return (EINVAL);
	}
	return (0);
}

/* Remove what killed processes left; a maker that lives holds its lock. */
static void
sweep(int root)
{
	struct dirent *de;
	DIR *dir;
	int fd;

	if ((fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return;
	if ((dir = fdopendir(fd)) == NULL) {
		close(fd);
		return;
	}
	while ((de = readdir(dir)) != NULL) {
		if (strncmp(de->d_name, TMP_PREFIX, strlen(TMP_PREFIX)) != 0)
			continue;
		fd = openat(root, de->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
			(void)sys_remove(root, de->d_name);
		if (fd >= 0)
			close(fd);
	}
	closedir(dir);
}

static void
tmp_name(char *buf, size_t len)
{
	static _Atomic unsigned serial;

	(void)snprintf(buf, len, TMP_PREFIX "%ld-%llu-%u", (long)getpid(),
	    (unsigned long long)sys_now_ns(), atomic_fetch_add(&serial, 1));
}

/* A folder under a temporary name, locked; the sweeper may win in between. */
static int
tmp_dir(int root, char *name, size_t len, int *fdp)
{
	struct stat st;
	int error, fd;

	for (int i = 0; i < 100; i++) {
		tmp_name(name, len);
		if ((error = sys_dir_create(root, name, &fd)) != 0) {
			if (error == EEXIST || error == ENOENT)
				continue;
			return (error);
		}
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && st.st_nlink > 0) {
			*fdp = fd;
			return (0);
		}
		close(fd);
	}
	return (EAGAIN);
}

static void
control_init(struct vm_file *f, const struct vm_options *opt, uint64_t features)
{
	struct vm_control *c = &f->control;
	struct hyp *hyp = &f->area.hyp;

	c->abi = VMM_ABI_VERSION;
	c->size_control = sizeof(struct vm_control);
	c->size_hyp = sizeof(struct hyp);
	c->size_hypctx = sizeof(struct hypctx);
	c->size_file = sizeof(struct vm_file);
	c->created = (uint64_t)time(NULL);
	c->maxcpus = (uint32_t)opt->maxcpus;
	c->uid = (uint32_t)geteuid();
	c->sockets = c->topo_maxcpus = (uint16_t)opt->maxcpus;
	c->cores = c->threads = 1;
	hyp->maxcpus = c->maxcpus;
	hyp->vhe = opt->vhe != 0;
	hyp->list_regs = opt->list_regs != 0 ? (uint32_t)opt->list_regs : 4;
	hyp->vmid_bits = opt->vmid_bits != 0 ? (uint32_t)opt->vmid_bits : 16;
	hyp->features = features & ((UINT64_C(1) << PE_FEAT_COUNT) - 1);
	hyp->vtcr_el2 = VTCR_EL2_VALUE | (hyp->vmid_bits == 16 ? VTCR_VS : 0);
}

static int
fill_dir(int dirfd, const struct vm_options *opt, uint64_t features)
{
	struct vm vm = { .seg = { [SEG_STAGE2] = { .fd = -1 } } };
	struct vm_file *f;
	size_t used;
	void *base;
	int error, fd = -1;

	if ((error = sys_file_create(dirfd, CONTROL_NAME, sizeof(struct vm_file), &fd)) != 0)
		return (error);
	used = offsetof(struct vm_file, area.ctx) + (size_t)opt->maxcpus * sizeof(struct hypctx);
	if ((error = sys_file_alloc(fd, 0, used)) != 0)
		goto out;
	if ((error = sys_map(fd, sizeof(struct vm_file), &base)) != 0)
		goto out;
	f = vm.file = base;
	vm.control = &f->control;
	vm.hyp = &f->area.hyp;
	control_init(f, opt, features);
	if ((error = sys_lock_init(&f->control.mem_lock)) != 0)
		goto out_map;
	if ((error = vgic_vminit(vm.hyp)) != 0)
		goto out_map;
	vtimer_vminit(vm.hyp, sys_counter());
	for (unsigned i = 0; i < vm.hyp->maxcpus; i++) {
		struct hypctx *hypctx = hyp_ctx(vm.hyp, i);

		hypctx->vcpuid = i;
		if ((error = sys_lock_init(&hypctx->gate)) != 0 ||
		    (error = sys_lock_init(&hypctx->lock)) != 0)
			goto out_map;
		vm_reset_ctx(vm.hyp, hypctx);
	}
	error = sys_file_create(dirfd, vm_seg_name[SEG_STAGE2], STAGE2_LEN, &vm.seg[SEG_STAGE2].fd);
	if (error != 0)
		goto out_map;
	error = pmap_init(&vm);
	close(vm.seg[SEG_STAGE2].fd);
	if (error == 0)
		f->control.magic = VM_MAGIC;
out_map:
	sys_unmap(base, sizeof(struct vm_file));
out:
	close(fd);
	return (error);
}

int
vm_create(const char *dir, const char *name, const struct vm_options *opt)
{
	static const struct vm_options defaults = { .maxcpus = 1 };
	uint64_t features;
	char tmp[64];
	int error, fd, root;

	if (opt == NULL)
		opt = &defaults;
	features = opt->features != 0 ? opt->features : pe_default_features();
	if ((error = check_name(name)) != 0)
		return (error);
	if (opt->maxcpus < 1 || opt->maxcpus > VM_MAXCPU || opt->list_regs < 0 ||
	    opt->list_regs > 16 ||
	    (opt->vmid_bits != 0 && opt->vmid_bits != 8 && opt->vmid_bits != 16))
		return (EINVAL);
	if (opt->vhe != 0 && ((features >> PE_FEAT_VHE) & 1) == 0)
		return (ENOTSUP);
	if ((error = sys_dir_open(AT_FDCWD, dir, &root)) != 0)
		return (error);
	sweep(root);
	if (faccessat(root, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		error = EEXIST;
		goto out;
	}
	if ((error = tmp_dir(root, tmp, sizeof(tmp), &fd)) != 0)
		goto out;
	error = fill_dir(fd, opt, features);
	if (error == 0 && renameat2(root, tmp, root, name, RENAME_NOREPLACE) != 0)
		error = errno;
	if (error != 0)
		(void)sys_remove(root, tmp);
	close(fd);
out:
	close(root);
	return (error);
}

/* Is this the head of a control file that this core wrote? */
static int
check_control(const struct vm_control *c, uint64_t size)
{
	if (c->magic != VM_MAGIC || c->abi != VMM_ABI_VERSION ||
	    c->size_control != sizeof(struct vm_control) || c->size_hyp != sizeof(struct hyp) ||
	    c->size_hypctx != sizeof(struct hypctx) || c->size_file != sizeof(struct vm_file) ||
	    size != sizeof(struct vm_file) || c->maxcpus < 1 || c->maxcpus > VM_MAXCPU ||
	    atomic_load(&c->state) > VM_STATE_ENDED)
		return (EPROTO);
	return (0);
}

static void
fill_info(struct vm_control *c, int fd, struct vm_info *info)
{
	bool owned = sys_owned(fd);

	memset(info, 0, sizeof(*info));
	info->state = (int)atomic_load(&c->state);
	if (owned)
		info->state = VM_STATE_RUNNING;
	else if (info->state == VM_STATE_RUNNING)
		info->state = VM_STATE_DEAD;
	info->how = (int)atomic_load(&c->how);
	info->maxcpus = (int)c->maxcpus;
	info->runner = owned ? (int)atomic_load(&c->runner_pid) : 0;
	info->uid = c->uid;
	info->mem = atomic_load(&c->seg[VM_SYSMEM].len);
	info->created = c->created;
}

static int
open_dir(const char *dir, const char *name, int *rootp, int *fdp)
{
	int error;

	if ((error = check_name(name)) != 0)
		return (error);
	if ((error = sys_dir_open(AT_FDCWD, dir, rootp)) != 0)
		return (error);
	if (fdp == NULL)
		return (0);
	if ((error = sys_dir_open(*rootp, name, fdp)) != 0) {
		/* It is in our folder, so it is a VM or the ruins of one. */
		if (error == EPERM)
			error = EPROTO;
		close(*rootp);
	}
	return (error);
}

int
vm_stat(const char *dir, const char *name, struct vm_info *info)
{
	struct vm_control c;
	uint64_t size;
	int error, fd, root, vmdir;

	memset(info, 0, sizeof(*info));
	if ((error = open_dir(dir, name, &root, &vmdir)) != 0)
		return (error);
	error = sys_file_open(vmdir, CONTROL_NAME, false, &fd, &size);
	if (error == 0) {
		if (pread(fd, &c, sizeof(c), 0) != (ssize_t)sizeof(c))
			error = EPROTO;
		else if ((error = check_control(&c, size)) == 0)
			fill_info(&c, fd, info);
		close(fd);
	} else
		error = EPROTO;
	close(vmdir);
	close(root);
	return (error);
}

int
vm_info(struct vm *vm, struct vm_info *info)
{
	fill_info(vm->control, vm->ctlfd, info);
	if (vm->runner) {
		info->state = VM_STATE_RUNNING;
		info->runner = (int)getpid();
	}
	return (0);
}

int
vm_open(const char *dir, const char *name, struct vm **vmp)
{
	struct vm *vm;
	uint64_t size;
	void *base;
	int error, root, vmdir;

	*vmp = NULL;
	if ((error = open_dir(dir, name, &root, &vmdir)) != 0)
		return (error);
	close(root);
	if ((vm = calloc(1, sizeof(*vm))) == NULL) {
		close(vmdir);
		return (ENOMEM);
	}
	vm->dirfd = vmdir;
	for (int i = 0; i < SEG_COUNT; i++)
		vm->seg[i].fd = -1;
	if ((error = sys_file_open(vmdir, CONTROL_NAME, true, &vm->ctlfd, &size)) != 0) {
		error = error == ENOENT ? EPROTO : error;
		goto fail_dir;
	}
	if (size != sizeof(struct vm_file)) {
		error = EPROTO;
		goto fail;
	}
	if ((error = sys_map(vm->ctlfd, size, &base)) != 0)
		goto fail;
	vm->file = base;
	vm->control = &vm->file->control;
	vm->hyp = &vm->file->area.hyp;
	if ((error = check_control(vm->control, size)) != 0 ||
	    vm->hyp->maxcpus != vm->control->maxcpus) {
		error = EPROTO;
		goto fail_map;
	}
	vm->seg[SEG_CONTROL].base = base;
	atomic_store(&vm->seg[SEG_CONTROL].len, size);
	if ((error = vm_seg_open(vm, SEG_STAGE2)) != 0) {
		error = error == ENOENT ? EPROTO : error;
		goto fail_map;
	}
	if ((error = pthread_mutex_init(&vm->mtx, NULL)) != 0)
		goto fail_map;
	if ((error = pthread_mutex_init(&vm->line_mtx, NULL)) != 0) {
		pthread_mutex_destroy(&vm->mtx);
		goto fail_map;
	}
	for (int i = 0; i < VM_MAXCPU; i++)
		vm->vcpu[i].s2_seen = UINT64_MAX; /* nothing is known of any TLB */
	*vmp = vm;
	return (0);
fail_map:
	if (vm->seg[SEG_STAGE2].base != NULL) {
		sys_unmap(vm->seg[SEG_STAGE2].base, atomic_load(&vm->seg[SEG_STAGE2].len));
		close(vm->seg[SEG_STAGE2].fd);
	}
	sys_unmap(base, size);
fail:
	close(vm->ctlfd);
fail_dir:
	close(vm->dirfd);
	free(vm);
	return (error);
}

void
vm_close(struct vm *vm)
{
	if (vm == NULL)
		return;
	if (vm->paused)
		(void)vm_unpause(vm);
	if (vm->runner)
		(void)vm_run_end(vm);
	pcpu_forget(vm);
	vm_stolen_close(vm);
	for (int i = 0; i < SEG_CONTROL; i++) {
		if (vm->seg[i].base != NULL)
			sys_unmap(vm->seg[i].base, atomic_load(&vm->seg[i].len));
		if (vm->seg[i].fd >= 0)
			close(vm->seg[i].fd);
	}
	sys_unmap(vm->file, sizeof(struct vm_file));
	close(vm->ctlfd);
	close(vm->dirfd);
	pthread_mutex_destroy(&vm->mtx);
	pthread_mutex_destroy(&vm->line_mtx);
	free(vm);
}

/* Ask the runner to leave and wait until it has: in vain after 2 s. */
static void
evict(const char *dir, const char *name)
{
	uint64_t end = sys_now_ns() + DESTROY_WAIT_NS, now;
	struct vm *vm;
	uint32_t seq;

	if (vm_open(dir, name, &vm) != 0)
		return;
	/* Whatever it was ending for, it is destroyed now. */
	(void)vm_suspend(vm, VM_SUSPEND_DESTROY);
	for (;;) {
		seq = atomic_load(&vm->control->life_seq);
		if (!sys_owned(vm->ctlfd) || (now = sys_now_ns()) >= end)
			break;
		/* vm_run_end() wakes us; a runner that is killed does not. */
		(void)sys_futex_wait(&vm->control->life_seq, seq, now + 10000000);
	}
	vm_close(vm);
}

int
vm_destroy(const char *dir, const char *name)
{
	char tmp[64];
	int error, fd, root;

	if ((error = open_dir(dir, name, &root, NULL)) != 0)
		return (error);
	if (faccessat(root, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0) {
		error = errno;
		goto out;
	}
	evict(dir, name);
	/* The lock keeps the sweepers of other processes off until we are done. */
	fd = openat(root, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0)
		(void)flock(fd, LOCK_EX | LOCK_NB);
	tmp_name(tmp, sizeof(tmp));
	if (renameat2(root, name, root, tmp, RENAME_NOREPLACE) != 0)
		error = errno;
	else
		error = sys_remove(root, tmp);
	if (fd >= 0)
		close(fd);
	sweep(root);
out:
	close(root);
	return (error);
}

int
vm_run_begin(struct vm *vm)
{
	struct vm_control *c = vm->control;
	uint32_t loaded = VM_STATE_LOADED;
	int error;

	if (vm->runner)
		return (EBUSY);
	if ((error = sys_own(vm->ctlfd)) != 0)
		return (error);
	if (!atomic_compare_exchange_strong(&c->state, &loaded, VM_STATE_RUNNING)) {
		sys_disown(vm->ctlfd);
		return (EINVAL);
	}
	atomic_store(&c->runner_pid, (uint32_t)getpid());
	atomic_store(&c->runner_start, sys_process_start(getpid()));
	vm->runner = true;
	return (0);
}

int
vm_run_end(struct vm *vm)
{
	struct vm_control *c = vm->control;

	if (!vm->runner)
		return (EINVAL);
	vm->runner = false;
	atomic_store(&c->how, atomic_load(&vm->hyp->suspend));
	atomic_store(&c->state, VM_STATE_ENDED);
	sys_disown(vm->ctlfd);
	atomic_fetch_add(&c->life_seq, 1);
	sys_futex_wake(&c->life_seq);
	return (0);
}

int
vm_set_load_record(struct vm *vm, const void *buf, size_t len)
{
	struct vm_control *c = vm->control;
	uint32_t empty = VM_STATE_EMPTY;
	int error;

	if (len > VM_MAX_LOADREC)
		return (E2BIG);
	if (len == 0 || atomic_load(&c->state) != VM_STATE_EMPTY)
		return (EINVAL);
	error = sys_file_alloc(vm->ctlfd, offsetof(struct vm_file, load_record), len);
	if (error != 0)
		return (error);
	memcpy(vm->file->load_record, buf, len);
	atomic_store(&c->load_len, (uint32_t)len);
	return (atomic_compare_exchange_strong(&c->state, &empty, VM_STATE_LOADED) ? 0 : EINVAL);
}

int
vm_get_load_record(struct vm *vm, void *buf, size_t *len)
{
	size_t room = *len, have = atomic_load(&vm->control->load_len);

	if (atomic_load(&vm->control->state) == VM_STATE_EMPTY || have == 0 ||
	    have > VM_MAX_LOADREC)
		return (ENOENT);
	*len = have;
	if (have > room)
		return (ERANGE);
	memcpy(buf, vm->file->load_record, have);
	return (0);
}

int
vm_memory_lost(void)
{
	return (sys_memory_lost());
}

int
vm_memory_guard(void *base, uint64_t len)
{
	return (len == 0 ? EINVAL : sys_guard(base, len));
}

void
vm_memory_unguard(void *base)
{
	sys_unguard(base);
}

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)

const char *
vmm_version(void)
{
	return ("vmmcore ABI " STRING(VMM_ABI_VERSION) ", A64, " __VERSION__);
}
