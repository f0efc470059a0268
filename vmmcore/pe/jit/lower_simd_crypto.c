/*
 * Lowering of the cryptographic extensions and CRC32C to the host's
 * instructions (DDI 0487, C4.1.96; Intel SDM, volume 2).
 */
#include "pe/jit/lower_simd.h"

/* -- AES: the host's rounds with a key of zero, the key being added before ------------- */

static void
aes_single(struct tr *t, const struct insn *in, unsigned vop)
{
	struct x86 *x = &t->x;
	int n, d;

	v_check(t);
	n = v_read(t, in->rn);
	d = v_modify(t, in->rd);
	x_v3(x, V_PXOR, T0, d, n);
	x_vzero(x, T1);
	x_v3(x, vop, d, T0, T1);
}

LOWER(v_aese)
{
	aes_single(t, in, V_AESENCLAST);
}

LOWER(v_aesd)
{
	aes_single(t, in, V_AESDECLAST);
}

/* A round of encryption undoes all of the last one of decryption; the columns are left. */
LOWER(v_aesmc)
{
	struct x86 *x = &t->x;
	int n;

	v_check(t);
	n = v_read(t, in->rn);
	x_vzero(x, T1);
	x_v3(x, V_AESDECLAST, T0, n, T1);
	x_v3(x, V_AESENC, v_write(t, in->rd), T0, T1);
}

LOWER(v_aesimc)
{
	int n;

	v_check(t);
	n = v_read(t, in->rn);
	x_v2(&t->x, V_AESIMC, v_write(t, in->rd), n);
}

/* PMULL, PMULL2 of 64 bits. */
LOWER(v_pmull)
{
	int a, b;

	v_check(t);
	a = v_read(t, in->rn);
	b = v_read(t, in->rm);
	x_v3i(&t->x, V_PCLMULQDQ, v_write(t, in->rd), a, b, V_Q(in) != 0 ? 0x11 : 0x00);
}

/* -- SHA-256 ------------------------------------------------------------------------------ */

/*
 * Four rounds, half of the state wanted. The host keeps the state as ABEF and
 * CDGH, A and C in the highest lane; two rounds turn CDGH into the new ABEF and
 * the old ABEF is the new CDGH.
 */
LOWER(v_sha256h)
{
	struct x86 *x = &t->x;
	bool second = FIELD(in->word, 12, 1) != 0; /* SHA256H2: Rd is efgh */
	int d, n, abcd, efgh;

	v_check(t);
	n = v_read(t, in->rn);
	x_vmov(x, T0, v_read(t, in->rm));
	d = v_modify(t, in->rd);
	abcd = second ? n : d;
	efgh = second ? d : n;
	x_v3i(x, V_SHUFPS, T2, efgh, abcd, 0x11); /* ABEF */
	x_v3i(x, V_SHUFPS, T1, efgh, abcd, 0xbb); /* CDGH */
	x_sse38(x, X_SHA256RNDS2, T1, T2);
	x_v2i(x, V_PSHUFD, T0, T0, 0x0e);
	x_sse38(x, X_SHA256RNDS2, T2, T1);
	x_v3i(x, V_SHUFPS, d, T2, T1, second ? 0x11 : 0xbb);
}

LOWER(v_sha256su0)
{
	int n, d;

	v_check(t);
	n = v_read(t, in->rn);
	d = v_modify(t, in->rd);
	x_sse38(&t->x, X_SHA256MSG1, d, n);
}

LOWER(v_sha256su1)
{
	int n, m, d;

	v_check(t);
	n = v_read(t, in->rn);
	m = v_read(t, in->rm);
	x_v3i(&t->x, V_PALIGNR, T0, m, n, 4);
	x_vmov(&t->x, T1, m);
	d = v_modify(t, in->rd);
	x_v3(&t->x, V_PADDD, d, d, T0);
	x_sse38(&t->x, X_SHA256MSG2, d, T1);
}

/* -- SHA-1 ---------------------------------------------------------------------------------- */

/*
 * SHA1C, SHA1P, SHA1M: the host has A in the highest lane and adds the round
 * constant itself, so it is taken off before.
 */
LOWER(v_sha1h4)
{
	static const uint32_t k[3] = { 0x5a827999, 0x6ed9eba1, 0x8f1bbcdc };
	struct x86 *x = &t->x;
	unsigned f = (unsigned)FIELD(in->word, 12, 2);
	int n, m, d;

	v_check(t);
	n = v_read(t, in->rn);
	m = v_read(t, in->rm);
	x_v2i(x, V_PSHUFD, T0, m, 0x1b);
	x_v3c(x, V_PSUBD, T0, T0, v_lanes_const(t, k[f], 2), 0);
	x_vshift(x, VS_PSLLDQ, T1, n, 12);
	x_v3(x, V_PADDD, T0, T0, T1);
	d = v_modify(t, in->rd);
	x_v2i(x, V_PSHUFD, T1, d, 0x1b);
	x_sha1rnds4(x, T1, T0, f);
	x_v2i(x, V_PSHUFD, d, T1, 0x1b);
}

/* T0 = lanes of s rotated left by n; uses T1. */
static void
rotate(struct tr *t, int s, unsigned n)
{
	x_vshift(&t->x, VS_PSLLD, T1, s, n);
	x_vshift(&t->x, VS_PSRLD, T0, s, 32 - n);
	x_v3(&t->x, V_POR, T0, T0, T1);
}

LOWER(v_sha1h)
{
	v_check(t);
	rotate(t, v_read(t, in->rn), 30);
	s_put(t, in, T0, 4);
}

LOWER(v_sha1su0)
{
	struct x86 *x = &t->x;
	int n, m, d;

	v_check(t);
	n = v_read(t, in->rn);
	m = v_read(t, in->rm);
	x_vmov(x, T1, m);
	x_vmov(x, T2, n);
	d = v_modify(t, in->rd);
	x_v3i(x, V_PALIGNR, T0, T2, d, 8);
	x_v3(x, V_PXOR, T0, T0, d);
	x_v3(x, V_PXOR, d, T0, T1);
}

LOWER(v_sha1su1)
{
	struct x86 *x = &t->x;
	int n, d;

	v_check(t);
	n = v_read(t, in->rn);
	x_vshift(x, VS_PSRLDQ, T2, n, 4);
	d = v_modify(t, in->rd);
	x_v3(x, V_PXOR, T2, T2, d);
	rotate(t, T2, 1);
	/* The last word also takes the first one, rotated once more. */
	x_vshift(x, VS_PSLLDQ, T2, T0, 12);
	x_vmov(x, d, T0);
	rotate(t, T2, 1);
	x_v3(x, V_PXOR, d, d, T0);
}

/* -- CRC32C ------------------------------------------------------------------------------------ */

LOWER(crc32c)
{
	unsigned size = (unsigned)FIELD(in->word, 10, 2);
	int m;

	g_load(t, false, RAX, in->rn);
	m = g_read(t, true, in->rm, RCX);
	x_crc32c(&t->x, size, RAX, m);
	g_commit(t, in->rd, RAX);
}
