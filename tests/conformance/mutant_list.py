"""The seeded bugs: where, what is right, what is wrong.

Responsible for: the list alone.  `where` is text of the file; the first `right` after it is
replaced by MUT(n, right, wrong).  Both must be expressions that stand alone there.  Several
are bugs that QEMU or other emulators had (docs/reference/reliability.md, 1.8).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One bug."""

    file: str  # below vmmcore/pe, or a64_decode.c, the generated decoder
    where: str
    right: str
    wrong: str
    what: str


def _file(name: str, *rows: tuple[str, str, str, str]) -> list[Mutant]:
    return [Mutant(name, *row) for row in rows]


MUTANTS: list[Mutant] = [
    # -- integer
    *_file(
        "exec_int.h",
        ("flags_add32(", "r < a", "r <= a", "ADDS W: carry when the other operand is zero"),
        ("flags_add64(", "((a ^ r) & (b ^ r)) >> 63", "((a ^ r) & (a ^ b)) >> 63", "ADDS X: V"),
        ("flags_sub32(", "a >= b", "a > b", "SUBS W: carry of equal operands"),
        ("flags_sub64(", "((a ^ b) & (a ^ r)) >> 63", "((a ^ b) & (b ^ r)) >> 63", "SUBS X: V"),
        ("flags_logic64(", "r >> 63", "r >> 31 & 1", "ANDS X: N from bit 31"),
        ("cond_holds(", "a64_cond[cond]", "a64_cond[cond == 8 ? 2 : cond]", "HI taken for CS"),
        ("extend64(", "(option & 4)", "(option & 5) == 4", "SXTH and SXTX without sign"),
        ("shift32(", "(uint32_t)((int32_t)v >> n)", "v >> n", "ASR W is LSR"),
    ),
    *_file(
        "exec_dpimm.c",
        ("decode_bitmask(", "immr & (esize - 1)", "immr & 31 & (esize - 1)", "rotation above 31"),
        ("OP_RD(adrp", "pe->pc_page", "pe_pc(pe, in)", "ADRP keeps the page offset"),
        (
            "OP(movk_w)",
            "(RD(uint32_t) & keep)",
            "(RD(uint64_t) & ~((uint64_t)0xffff << (in->a * 16)))",
            "MOVK W leaves the top half",
        ),
        (
            "OP_RD(sbfiz_w",
            "(int32_t)UP(uint32_t, 32) >> BACK_BY",
            "UP(uint32_t, 32) >> BACK_BY",
            "SBFIZ W without sign",
        ),
        ("OP(bfi_x)", "lsb + in->b", "lsb + in->b - 1", "BFI X one bit short"),
        ("OP(extr_x)", "(63 - in->a)", "(62 - in->a)", "EXTR X high part off by one"),
    ),
    *_file(
        "exec_dpreg.c",
        ("#define FLAGS_ADC", "(r == a && carry(pe) && b != 0)", "false", "ADCS: carry of ~0 + 1"),
        ("OP_RD(sbc_x", "~RM(uint64_t) + carry(pe)", "-RM(uint64_t)", "SBC X ignores the borrow"),
        ("#define OP_CCMP", "(uint32_t)in->b << 28", "pe->nzcv", "CCMP false: NZCV left alone"),
        ("OP_CSEL(csneg", "-RM(uint64_t)", "~RM(uint64_t)", "CSNEG X inverts"),
        ("sdiv32(", "(int32_t)-(uint32_t)n", "n", "SDIV W by -1"),
        ("OP_RD(lslv_x", "63", "31", "LSLV X: amount modulo 32"),
        ("OP_CRC(h", "2", "1", "CRC32H of one byte"),
        ("rbit(uint64_t v)", "0x0f0f0f0f0f0f0f0f", "0x0f0f0f0f0f0f0f0e", "RBIT loses a bit"),
        ("OP_RD(clz_w", "clz64(RN(uint32_t)) - 32", "clz64(pe->x[in->rn])", "CLZ W of Xn"),
        ("OP(rmif)", "ror64(RN(uint64_t), in->a)", "RN(uint64_t) >> in->a", "RMIF shifts"),
        ("setf(struct pe", "carry(pe)", "0", "SETF8, SETF16 clear C"),
        ("OP(axflag)", "c & ~v", "c", "AXFLAG: C with V set"),
        ("OP(xaflag)", "z & c", "z", "XAFLAG: Z without C"),
    ),
    # -- branches and exceptions
    *_file(
        "exec_branch.c",
        ("OP(bl)", "pe_pc(pe, in) + 4", "pe_pc(pe, in) + 8", "BL: return address"),
        (
            "OP_BRANCH_IF(tbz",
            "pe->x[in->rd] >> in->a",
            "pe->x[in->rd] >> (in->a & 31)",
            "TBZ of bits 32 to 63",
        ),
        ("OP_BRANCH_IF(cbz_w", "RD(uint32_t)", "RD(uint64_t)", "CBZ W of Xt"),
        ("OP_BRANCH_IF(b_cond", "cond_holds(pe, in->a)", "in->a != 15", "B.cond always but NV"),
        (
            "OP(blr)",
            "pe_branch_indirect(pe, in, target, true)",
            "pe_branch_indirect(pe, in, pe->x[in->rn], true)",
            "BLR X30",
        ),
    ),
    *_file(
        "exec_sys.c",
        ("OP(brk)", "pe_pc(pe, in)", "pe_pc(pe, in) + 4", "BRK: ELR behind the instruction"),
        ("OP(clrex)", "0", "pe->excl_size", "CLREX does nothing"),
    ),
    *_file(
        "codecache.c",
        ("op_page_end(", "4096", "4092", "the next page is entered one word early"),
    ),
    # -- loads and stores
    *_file(
        "exec_ldst.c",
        ("#define SET1", "(reg)(ext)v[0]", "(reg)v[0]", "sign-extending loads do not"),
        ("index_w(", "((v ^ sign) - sign)", "v", "SXTW index is UXTW"),
        ("index_x(", "(in->a * scale)", "(in->a * 3)", "LSL index always by 3"),
        ("LOAD_BODY(name##_post", "addr + offset(in)", "addr", "post-index load: no write-back"),
        ("STORE_BODY(name##_pre", "BASE = addr", "BASE", "pre-index store: no write-back"),
        ("#define GET2", "RA(mem)", "RD(mem)", "STP stores Rt twice"),
        ("#define SET2", "(uint64_t)(ext)v[1]", "(uint64_t)v[1]", "LDPSW: second word unsigned"),
        ("#define LOAD_LIT", "pe_pc(pe, in) + offset(in)", "pe_pc(pe, in)", "literal at PC"),
        ("#define UNPRIV_LOAD", "(reg)(ext)v", "(reg)v", "LDTRS without sign"),
    ),
    *_file(
        "mmu.c",
        ("pe_read_slow(", "(char *)buf + pc.n[0]", "(char *)buf", "second page over the first"),
        ("pe_write_slow(", "pc.n[1] != 0", "false", "store across a page: first part only"),
        ("EC_DABT_LOWER, iss, pe_pc(pe, in),", "va", "va & ~UINT64_C(7)", "FAR rounded"),
    ),
    *_file(
        "pe_internal.h",
        ("pe_tlb_hit(", "(va + len - 1)", "va", "an access over the end of a page hits"),
    ),
    # -- exclusives and atomics
    *_file(
        "exec_atomic.c",
        ("#define STXR", "pe->excl_host == (void *)p", "true", "STXR to another address"),
        ("OP(ldxp_w)", "pe->excl_val[0] >> 32", "pe->excl_val[0]", "LDXP W: Rt2"),
        ("OP(stxp_x)", "(u128)RA(uint64_t) << 64", "(u128)RD(uint64_t) << 64", "STXP X: Rt2"),
        ("OP(casp_x)", "(uint64_t)(old >> 64)", "(uint64_t)old", "CASP X: second old value"),
        (
            "#define FETCH_PICK",
            "(cmptype)old oper(cmptype) arg",
            "old oper arg",
            "LDSMIN, LDSMAX compare unsigned",
        ),
        ("FETCH_OP(ldclr", "(type)~RM(type)", "RM(type)", "LDCLR is LDAND"),
    ),
    # -- floating point
    *_file(
        "fp.c",
        ("fp_unpack_base(", "fpcr & FPCR_FZ16", "false", "FZ16 does not flush inputs"),
        ("fp_unpack_base(", "FPSR_IDC", "0", "flushed inputs without IDC"),
        ("fp_process_nan(", "FPSR_IOC", "0", "signaling NaN without IOC"),
        ("fp_process_nan(", "fp->fpcr & FPCR_DN", "false", "DN ignored"),
        ("fp_process_nans(", "n2->type == FPT_SNAN", "false", "SNaN second operand after QNaN"),
        ("fp_round_base(", "exp < min_exp", "exp <= min_exp", "FZ flushes the smallest normal"),
        ("fp_round_base(", "biased == 0 && inexact", "biased == 0 && !half && inexact", "UFC"),
        ("fp_round_base(", "(mant & 1) != 0", "false", "ties to even go down"),
        ("case FP_POSINF", "inexact && !sign", "half && !sign", "rounding up needs a half"),
        ("fp_round_base(", "mant == UINT64_C(1) << f)", "false)", "denormal rounded to normal"),
        ("fp_round_base(", "biased >= exp_max", "biased > exp_max", "overflow one binade late"),
        ("biased >= exp_max", "FPSR_OFC | FPSR_IXC", "FPSR_OFC", "overflow without Inexact"),
    ),
    *_file(
        "fp_soft.h",
        ("fp_shr_jam(", "((m << (128 - n)) != 0)", "0", "no sticky bit when aligning"),
    ),
    *_file(
        "fp_arith.c",
        ("if (a.m == 0)\n\t\treturn (fp_zero", "rounding == FP_NEGINF", "false", "x - x is -0"),
        ("fp_soft_div(", "FPSR_DZC", "0", "division by zero without DZC"),
        ("fp_soft_div(", "(q * n2.m != num)", "0", "division without sticky bit"),
        ("fp_soft_sqrt(", "((fp_u128)r * r != x)", "0", "square root without sticky bit"),
        (
            "mul_add(struct pe_fp",
            "(na->type == FPT_INF && na->sign != sign_p)",
            "false",
            "inf - inf in a fused multiply-add",
        ),
        (
            "fp_soft_muladd(",
            "na.type == FPT_QNAN && inf_times_zero(&n1, &n2)",
            "false",
            "quiet addend and inf * 0",
        ),
        ("nan_h(", "((h & 0x3ff) << 13)", "0", "FMLAL: NaN payload of a half"),
    ),
    *_file(
        "fp_cmp.c",
        ("fp_soft_compare(", "signal_nans ||", "false ||", "FCMPE is FCMP"),
        ("max_min(struct", "n1.sign && n2.sign", "n1.sign", "FMAX(-0, +0)"),
    ),
    *_file(
        "fp_conv.c",
        ("fp_soft_to_fixed(", "mag > limit", "mag >= limit", "the largest integer is invalid"),
        ("fp_soft_from_fixed(", "fp_rmode(fp)", "FP_TIEEVEN", "SCVTF ignores RMode"),
        ("fp_to_js(", "(fp_u128)0x7fffffff + n.sign", "(fp_u128)0x7fffffff", "FJCVTZS(-2^31)"),
        ("fp_round_int(", "inexact && exact", "inexact", "FRINT raises Inexact"),
    ),
    *_file(
        "fp_est.c",
        ("rsqrt_estimate(", "(a / 2 * 2 + 1) * 2", "(a + 1) * 2", "FRSQRTE of odd inputs"),
    ),
    *_file(
        "fp_host.h",
        ("fp_host_ok(", "(FPCR_FZ | FPCR_RMODE)", "FPCR_FZ", "host arithmetic in every mode"),
        (
            "float x = fp_f32(a), y = sub",
            "(x - (s - t)) + (y - t) == 0",
            "true",
            "FADD S: inexact sums without IXC",
        ),
    ),
    # -- Advanced SIMD
    *_file(
        "simd.h",
        ("simd_trim(", "bytes < 8", "false", "scalar results keep the lanes above"),
        ("simd_element(", "h << 1 | l", "h << 1", "by-element: index without L"),
        ("saturate_su(", "v >= 0", "true", "SQXTUN of negative lanes"),
    ),
    *_file(
        "exec_simd_shift.c",
        ("SHIFT_IMM(ssra", "(uint64_t)SHR_S", "(uint64_t)SHR_U", "SSRA by all the bits"),
        ("shift_u(uint64_t", "m > bits", "m >= bits", "URSHL right by all the bits"),
        ("SHIFT_IMM(sri", "lane_mask(bits) >> n", "lane_mask(bits) >> (n - 1)", "SRI keeps less"),
    ),
    *_file(
        "exec_simd_int.c",
        ("SAME3(srhadd", "((int64_t)a + b + 1) >> 1", "((int64_t)a + b) >> 1", "SRHADD truncates"),
        ("KERNEL_HS(sqrdmlah", "ROUND_HALF", "0", "SQRDMLAH does not round"),
    ),
    *_file(
        "exec_simd_perm.c",
        ("PERMUTE(uzp", "(2 * i + part) % n", "(2 * i + (n == 2 ? 0 : part)) % n", "UZP2 2D"),
        ("table_lookup(", "(in->rn + i) & 31", "(in->rn + i > 31 ? 31 : in->rn + i)", "TBL wrap"),
    ),
    *_file(
        "exec_simd_fpelem.c",
        ("complex_mla(", "rot == 1 || rot == 2", "rot == 1 || rot == 3", "FCMLA: rotation"),
    ),
    # -- crypto
    *_file(
        "exec_simd_crypto.c",
        ("aes_mix(", "(i < 3 ? c[i + 1] : first)", "c[(i + 1) & 3]", "AESMC: last column byte"),
        ("majority(uint32_t", "((x | y) & z)", "(x & z)", "SHA majority"),
    ),
    # -- decoder
    *_file(
        "a64_decode.c",
        ("extract(unsigned", "(int32_t)(w << 11) >> 23", "(int32_t)(w >> 12 & 511)", "simm9"),
        ("extract(unsigned", "(int32_t)(w << 6) >> 4", "(int32_t)(w & 0x3ffffff) << 2", "imm26"),
        (
            "extract(unsigned",
            "((int32_t)(w << 13) >> 16) & ~3",
            "(int32_t)(w >> 5 & 0x3fff) << 2",
            "imm14",
        ),
        ("extract(unsigned", "(FIELD(w, 22, 1) * 12)", "0", "ADD immediate without LSL #12"),
    ),
]

# Mutants that are not noticed, and why that is no gap.
SURVIVORS: dict[str, str] = {}
