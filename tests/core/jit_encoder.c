/*
 * Every function of the encoder with several registers: the bytes go to the
 * file named, what a disassembler should say about each of them to stdout, one
 * instruction a line. test_jit_encoder.py compares.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pe/jit/x86_sse.h"

static uint8_t code[1 << 20];
static struct x86 x = { code, code + sizeof(code), false, 0 };

static const char *const r64[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8",
	"r9", "r10", "r11", "r12", "r13", "r14", "r15" };
static const char *const r32[] = { "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "r8d",
	"r9d", "r10d", "r11d", "r12d", "r13d", "r14d", "r15d" };
static const char *const r16[] = { "ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "r8w", "r9w",
	"r10w", "r11w", "r12w", "r13w", "r14w", "r15w" };
static const char *const r8[] = { "al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", "r8b", "r9b",
	"r10b", "r11b", "r12b", "r13b", "r14b", "r15b" };

static const char *
reg(bool w, int r)
{
	return (w ? r64[r] : r32[r]);
}

/* The instruction just emitted. */
static __attribute__((format(printf, 1, 2))) void
say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static const int regs[][3] = { { 1, 2, 3 }, { 9, 2, 3 }, { 1, 10, 3 }, { 1, 2, 11 }, { 15, 14, 13 },
	{ 0, 0, 0 }, { 5, 4, 12 } };
#define EACH for (unsigned k = 0; k < sizeof(regs) / sizeof(regs[0]); k++)
#define D regs[k][0]
#define A regs[k][1]
#define B regs[k][2]

/* Memory operands and their text. */
static const struct {
	struct x86_mem m;
	const char *text;
} mems[] = {
	{ { RAX, -1, 0, 0 }, "[rax]" },
	{ { R13, -1, 0, 0 }, "[r13+0x0]" },
	{ { RBP, -1, 0, -128 }, "[rbp-0x80]" },
	{ { R15, -1, 0, 128 }, "[r15+0x80]" },
	{ { R12, -1, 0, 8 }, "[r12+0x8]" },
	{ { RSP, -1, 0, 0 }, "[rsp]" },
	{ { R14, RCX, 3, 0x1000 }, "[r14+rcx*8+0x1000]" },
	{ { RAX, R9, 0, 0 }, "[rax+r9*1]" },
	{ { RAX, RDX, 0, 16 }, "[rax+rdx*1+0x10]" },
};
#define MEMS (sizeof(mems) / sizeof(mems[0]))

/* The forms of x86_vops.def. */
static void
three(unsigned vop, const char *name, bool imm)
{
	EACH
	{
		if (imm)
			x_v3i(&x, vop, D, A, B, 0x27);
		else
			x_v3(&x, vop, D, A, B);
		say("v%s xmm%d,xmm%d,xmm%d%s", name, D, A, B, imm ? ",0x27" : "");
	}
}

/* The name ends in _RZ. */
static void
rounded(unsigned vop, const char *name)
{
	EACH
	{
		x_v3(&x, vop, D, A, B);
		say("v%.*s xmm%d,xmm%d,xmm%d{rz-sae}", (int)strlen(name) - 3, name, D, A, B);
	}
}

static void
two(unsigned vop, const char *name, bool imm)
{
	EACH
	{
		if (imm)
			x_v2i(&x, vop, D, B, 0x27);
		else
			x_v2(&x, vop, D, B);
		say("v%s xmm%d,xmm%d%s", name, D, B, imm ? ",0x27" : "");
	}
}

static void
shift(unsigned vs, const char *name)
{
	EACH
	{
		x_vshift(&x, vs, D, B, 5);
		say("v%s xmm%d,xmm%d,0x5", name, D, B);
	}
}

static void
vector(void)
{
	static const uint8_t *here = code;

#define V3(name, pp, map, w, op) three(V_##name, #name, false);
#define V3I(name, pp, map, w, op) three(V_##name, #name, true);
#define V2(name, pp, map, w, op) two(V_##name, #name, false);
#define V2I(name, pp, map, w, op) two(V_##name, #name, true);
#define VSHIFT(name, op, ext) shift(VS_##name, #name);
#define E3 V3
#define E3I V3I
#define E2 V2
#define E3RZ(name, pp, map, w, op) rounded(V_##name, #name);
#include "pe/jit/x86_vops.def"
	EACH
	{
		x_vblend(&x, D, A, B, 15);
		say("vpblendvb xmm%d,xmm%d,xmm%d,xmm15", D, A, B);
		x_vzero(&x, D);
		say("vpxor xmm%d,xmm%d,xmm%d", D, D, D);
		x_vones(&x, D);
		say("vpcmpeqd xmm%d,xmm%d,xmm%d", D, D, D);
		/* A constant at the start of the code. */
		x_v3c(&x, V_PADDB, D, A, here, 0);
		say("vpaddb xmm%d,xmm%d,[rip] # 0x0", D, A);
		x_v3c(&x, V_PALIGNR, D, A, here, 1);
		x_byte(&x, 3);
		say("vpalignr xmm%d,xmm%d,[rip],0x3 # 0x0", D, A);
		x_v2c(&x, V_MOVDQU, D, here);
		say("vmovdqu xmm%d,[rip] # 0x0", D);
		x_lea_rip(&x, D, here);
		say("lea %s,[rip] # 0x0", r64[D]);
		x_lea_at(&x, D, here);
		say("lea %s,[rip] # 0x0", r64[D]);
	}
	x_jmp_at(&x, here);
	say("jmp [rip] # 0x0");
	for (unsigned i = 0; i < MEMS; i++)
		EACH
		{
			const char *t = mems[i].text;

			x_v3m(&x, V_PADDD, D, A, mems[i].m);
			say("vpaddd xmm%d,xmm%d,%s", D, A, t);
			x_v3m(&x, V_PSHUFB, D, A, mems[i].m);
			say("vpshufb xmm%d,xmm%d,%s", D, A, t);
			x_v2m(&x, V_MOVDQU, D, mems[i].m);
			say("vmovdqu xmm%d,%s", D, t);
			x_vstore(&x, true, mems[i].m, D);
			say("vmovq %s,xmm%d", t, D);
			x_vstore(&x, false, mems[i].m, D);
			say("vmovd %s,xmm%d", t, D);
			for (unsigned size = 0; size < 4; size++) {
				x_pextr_mem(&x, size, mems[i].m, D, 1);
				say("vpextr%c %s,xmm%d,0x1", "bwdq"[size], t, D);
				x_pinsr_mem(&x, size, D, A, mems[i].m, 1);
				say("vpinsr%c xmm%d,xmm%d,%s,0x1", "bwdq"[size], D, A, t);
			}
			x_movups_load(&x, D, mems[i].m);
			say("movups xmm%d,%s", D, t);
			x_movups_store(&x, mems[i].m, D);
			say("movups %s,xmm%d", t, D);
			x_movq_load(&x, D, mems[i].m);
			say("movq xmm%d,%s", D, t);
			x_movd_load(&x, D, mems[i].m);
			say("movd xmm%d,%s", D, t);
			x_movq_store(&x, mems[i].m, D);
			say("movq %s,xmm%d", t, D);
			x_movd_store(&x, mems[i].m, D);
			say("movd %s,xmm%d", t, D);
		}
}

/* Between general and vector registers, and the ones without VEX. */
static void
both_files(void)
{
	static const char *const sha[] = { "sha1nexte", "sha1msg1", "sha1msg2", "sha256rnds2",
		"sha256msg1", "sha256msg2" };

	EACH
	{
		for (int w = 0; w < 2; w++) {
			x_v_from_g(&x, w, D, B);
			say("vmov%c xmm%d,%s", w ? 'q' : 'd', D, reg(w, B));
			x_g_from_v(&x, w, D, B);
			say("vmov%c %s,xmm%d", w ? 'q' : 'd', reg(w, D), B);
			for (int dbl = 0; dbl < 2; dbl++) {
				x_cvt_to_g(&x, w, dbl, true, D, B);
				say("vcvtts%c2si %s,xmm%d", dbl ? 'd' : 's', reg(w, D), B);
				x_cvt_to_g(&x, w, dbl, false, D, B);
				say("vcvts%c2si %s,xmm%d", dbl ? 'd' : 's', reg(w, D), B);
				x_cvt_to_g_quiet(&x, w, dbl, D, B);
				say("vcvtts%c2si %s,xmm%d{sae}", dbl ? 'd' : 's', reg(w, D), B);
				x_cvt_from_g(&x, w, dbl, D, A, B);
				say("vcvtsi2s%c xmm%d,xmm%d,%s", dbl ? 'd' : 's', D, A, reg(w, B));
			}
		}
		for (unsigned size = 0; size < 4; size++) {
			x_pinsr(&x, size, D, A, B, 1);
			say("vpinsr%c xmm%d,xmm%d,%s,0x1", "bwdq"[size], D, A, reg(size == 3, B));
			x_pextr(&x, size, D, B, 1);
			say("vpextr%c %s,xmm%d,0x1", "bwdq"[size], reg(size == 3, D), B);
			x_crc32c(&x, size, D, B);
			say("crc32 %s,%s", reg(size == 3, D),
			    (size == 0      ? r8
				: size == 1 ? r16
				: size == 2 ? r32
					    : r64)[B]);
		}
		x_pmovmskb(&x, D, B);
		say("vpmovmskb %s,xmm%d", r32[D], B);
		x_movmskps(&x, D, B);
		say("vmovmskps %s,xmm%d", r32[D], B);
		x_movmskpd(&x, D, B);
		say("vmovmskpd %s,xmm%d", r32[D], B);
		for (unsigned op = X_SHA1NEXTE; op <= X_SHA256MSG2; op++) {
			x_sse38(&x, op, D, B);
			say("%s xmm%d,xmm%d%s", sha[op - X_SHA1NEXTE], D, B,
			    op == X_SHA256RNDS2 ? ",xmm0" : "");
		}
		x_sha1rnds4(&x, D, B, 2);
		say("sha1rnds4 xmm%d,xmm%d,0x2", D, B);
	}
	for (unsigned i = 0; i < MEMS; i++) {
		x_ldmxcsr(&x, mems[i].m);
		say("ldmxcsr %s", mems[i].text);
		x_stmxcsr(&x, mems[i].m);
		say("stmxcsr %s", mems[i].text);
	}
}

static void
general(void)
{
	static const char *const alu[] = { "add", "or", "adc", "sbb", "and", "sub", "xor", "cmp" };
	static const char *const sh[] = { "rol", "ror", "rcl", "rcr", "shl", "shr", NULL, "sar" };
	static const char *const cc[] = { "o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns",
		"p", "np", "l", "ge", "le", "g" };

	EACH
	{
		for (int w = 0; w < 2; w++) {
			const char *d = reg(w, D), *b = reg(w, B);

			x_mov(&x, w, D, B);
			say("mov %s,%s", d, b);
			for (unsigned op = 0; op < 8; op++) {
				x_alu(&x, w, op, D, B);
				say("%s %s,%s", alu[op], d, b);
				x_alu_imm(&x, w, op, D, 0x12);
				say("%s %s,0x12", alu[op], d);
				x_alu_imm(&x, w, op, B, 0x1234567);
				say("%s %s,0x1234567", alu[op], b);
				if (sh[op] == NULL)
					continue;
				x_shift(&x, w, op, D, 7);
				say("%s %s,0x7", sh[op], d);
				x_shift_cl(&x, w, op, D);
				say("%s %s,cl", sh[op], d);
			}
			x_test(&x, w, D, B);
			say("test %s,%s", d, b);
			x_shrd(&x, w, D, B, 9);
			say("shrd %s,%s,0x9", d, b);
			x_not(&x, w, D);
			say("not %s", d);
			x_neg(&x, w, D);
			say("neg %s", d);
			x_imul(&x, w, D, B);
			say("imul %s,%s", d, b);
			x_muldiv(&x, w, 4, B);
			say("mul %s", b);
			x_muldiv(&x, w, 7, B);
			say("idiv %s", b);
			x_cqo(&x, w);
			say("%s", w ? "cqo" : "cdq");
			x_bswap(&x, w, D);
			say("bswap %s", d);
			x_lzcnt(&x, w, D, B);
			say("lzcnt %s,%s", d, b);
			x_bt_imm(&x, w, D, 5);
			say("bt %s,0x5", d);
			x_shiftx(&x, w, X_SHL, D, A, B);
			say("shlx %s,%s,%s", d, reg(w, A), b);
			x_shiftx(&x, w, X_SHR, D, A, B);
			say("shrx %s,%s,%s", d, reg(w, A), b);
			x_shiftx(&x, w, X_SAR, D, A, B);
			say("sarx %s,%s,%s", d, reg(w, A), b);
			x_rorx(&x, w, D, B, 8);
			say("rorx %s,%s,0x8", d, b);
			x_pext(&x, w, D, A, B);
			say("pext %s,%s,%s", d, reg(w, A), b);
			x_pdep(&x, w, D, A, B);
			say("pdep %s,%s,%s", d, reg(w, A), b);
			x_andn(&x, w, D, A, B);
			say("andn %s,%s,%s", d, reg(w, A), b);
			for (unsigned c = 0; c < 16; c++) {
				x_cmov(&x, w, c, D, B);
				say("cmov%s %s,%s", cc[c], d, b);
			}
			x_sext(&x, w, D, B, 1);
			say("movsx %s,%s", d, r8[B]);
			x_sext(&x, w, D, B, 2);
			say("movsx %s,%s", d, r16[B]);
		}
		x_bt(&x, D, B);
		say("bt %s,%s", r32[D], r32[B]);
		x_sext(&x, true, D, B, 4);
		say("movsxd %s,%s", r64[D], r32[B]);
		x_zext(&x, D, B, 1);
		say("movzx %s,%s", r32[D], r8[B]);
		x_zext(&x, D, B, 2);
		say("movzx %s,%s", r32[D], r16[B]);
		x_zext(&x, D, B, 4);
		say("mov %s,%s", r32[D], r32[B]);
		x_const(&x, D, 0x1234);
		say("mov %s,0x1234", r32[D]);
		x_const(&x, D, ~UINT64_C(0x1233));
		say("mov %s,0xffffffffffffedcc", r64[D]);
		x_const(&x, D, UINT64_C(0x123456789abcdef0));
		say("movabs %s,0x123456789abcdef0", r64[D]);
		x_test_imm8(&x, D, 0x40);
		say("test %s,0x40", r8[D]);
		for (unsigned c = 0; c < 16; c++) {
			x_setcc(&x, c, D);
			say("set%s %s", cc[c], r8[D]);
		}
		x_push(&x, D);
		say("push %s", r64[D]);
		x_pop(&x, D);
		say("pop %s", r64[D]);
	}
	x_ret(&x);
	say("ret");
	x_lahf(&x);
	say("lahf");
	x_cmc(&x);
	say("cmc");
	x_fence(&x);
	say("lock or [rsp],0x0");
}

static void
memory(void)
{
	for (unsigned i = 0; i < MEMS; i++)
		EACH
		{
			struct x86_mem m = mems[i].m;
			const char *t = mems[i].text;

			for (int w = 0; w < 2; w++) {
				x_load(&x, w, D, m);
				say("mov %s,%s", reg(w, D), t);
				x_store(&x, w, m, D);
				say("mov %s,%s", t, reg(w, D));
				x_lea(&x, w, D, m);
				say("lea %s,%s", reg(w, D), t);
				x_alu_mem(&x, w, X_CMP, D, m);
				say("cmp %s,%s", reg(w, D), t);
				x_sload(&x, w, D, m, 1);
				say("movsx %s,%s", reg(w, D), t);
				x_sload(&x, w, D, m, 2);
				say("movsx %s,%s", reg(w, D), t);
			}
			x_zload(&x, D, m, 1);
			say("movzx %s,%s", r32[D], t);
			x_zload(&x, D, m, 2);
			say("movzx %s,%s", r32[D], t);
			x_sload(&x, true, D, m, 4);
			say("movsxd %s,%s", r64[D], t);
			x_store8(&x, m, D);
			say("mov %s,%s", t, r8[D]);
			x_store16(&x, m, D);
			say("mov %s,%s", t, r16[D]);
			x_store_imm(&x, true, m, 0x1234);
			say("mov %s,0x1234", t);
			x_alu_mem_imm(&x, true, X_ADD, m, 5);
			say("add %s,0x5", t);
			x_alu_mem_imm(&x, false, X_SUB, m, 0x1000);
			say("sub %s,0x1000", t);
			x_cmp8_mem_imm(&x, m, 3);
			say("cmp %s,0x3", t);
			x_test8_mem_imm(&x, m, 0x40);
			say("test %s,0x40", t);
			x_store8_imm(&x, m, 1);
			say("mov %s,0x1", t);
			x_cmpxchg16(&x, false, m);
			say("cmpxchg16b %s", t);
			x_cmpxchg16(&x, true, m);
			say("lock cmpxchg16b %s", t);
			x_jmp_mem(&x, m);
			say("jmp %s", t);
		}
}

int
main(int argc, char **argv)
{
	FILE *out;

	vector();
	both_files();
	general();
	memory();
	out = argc > 1 ? fopen(argv[1], "wb") : NULL;
	if (x.overflow || out == NULL || fwrite(code, (size_t)(x.p - code), 1, out) != 1 ||
	    fclose(out) != 0)
		return (1);
	return (0);
}
