/*
 * Authentication codes of pointers: AddPAC, Auth and Strip of the Arm ARM (DDI
 * 0487, D8.10 and shared/functions/aarch64/pac), FEAT_PAuth without FEAT_EPAC,
 * FEAT_PAuth2 and FEAT_FPAC: a failed authentication leaves an error code in
 * the pointer, which then does not translate.
 *
 * The code is two rounds of a folded 128-bit multiplication, the
 * IMPLEMENTATION DEFINED algorithm (ID_AA64ISAR1_EL1.API, GPI), or QARMA5 with
 * the feature pauth-qarma5 (APA, GPA).
 */
#include "pe/pauth.h"

#include "pe/except.h"
#include "pe/mmu.h"

/* -- algorithms ------------------------------------------------------------------- */

static uint64_t
fold(uint64_t a, uint64_t b)
{
	unsigned __int128 p = (unsigned __int128)a * b;

	return ((uint64_t)p ^ (uint64_t)(p >> 64));
}

/* Constants: the first digits of pi's fraction. */
static uint64_t
impdef(uint64_t data, uint64_t modifier, uint64_t key0, uint64_t key1)
{
	uint64_t h;

	h = fold(data ^ key0 ^ UINT64_C(0x243f6a8885a308d3),
	    modifier ^ key1 ^ UINT64_C(0x13198a2e03707344));
	return (fold(h ^ key1 ^ UINT64_C(0xa4093822299f31d0),
	    h ^ data ^ key0 ^ UINT64_C(0x082efa98ec4e6c89)));
}

/*
 * QARMA (Avanzi, ToSC 2017) on 16 cells of 4 bits, cell 0 in the top bits. For
 * cell i, tau and tweak_perm say which cell moves there.
 */
static const uint8_t tau[16] = { 0, 11, 6, 13, 10, 1, 12, 7, 5, 14, 3, 8, 15, 4, 9, 2 };
static const uint8_t tweak_perm[16] = { 6, 5, 14, 15, 0, 1, 2, 3, 7, 12, 13, 4, 8, 9, 10, 11 };
static const uint8_t sbox[16] = { 11, 6, 8, 15, 12, 0, 9, 14, 3, 7, 4, 5, 13, 2, 1, 10 };
/* Cells of the tweak that go through the LFSR: 0, 1, 3, 4, 8, 11, 13. */
#define LFSR_CELLS 0x291bu

static const uint64_t round_const[5] = { 0, UINT64_C(0x13198a2e03707344),
	UINT64_C(0xa4093822299f31d0), UINT64_C(0x082efa98ec4e6c89), UINT64_C(0x452821e638d01377) };
#define QARMA_ALPHA UINT64_C(0xc0ac29b7c97c50dd)

static inline unsigned
cell(uint64_t v, unsigned i)
{
	return ((unsigned)(v >> (60 - 4 * i)) & 15);
}

static inline uint64_t
put_cell(unsigned v, unsigned i)
{
	return ((uint64_t)v << (60 - 4 * i));
}

static uint64_t
permute(uint64_t v, const uint8_t *perm, bool inverse)
{
	uint64_t out = 0;

	for (unsigned i = 0; i < 16; i++)
		out |= inverse ? put_cell(cell(v, i), perm[i]) : put_cell(cell(v, perm[i]), i);
	return (out);
}

static uint64_t
substitute(uint64_t v, bool inverse)
{
	uint8_t inv[16];
	uint64_t out = 0;

	for (unsigned i = 0; i < 16; i++)
		inv[sbox[i]] = (uint8_t)i;
	for (unsigned i = 0; i < 16; i++)
		out |= put_cell(inverse ? inv[cell(v, i)] : sbox[cell(v, i)], i);
	return (out);
}

static inline unsigned
rotate4(unsigned v, unsigned n)
{
	return ((v << n | v >> (4 - n)) & 15);
}

/* Each column times circ(0, rho, rho^2, rho); its own inverse. */
static uint64_t
mix(uint64_t v)
{
	uint64_t out = 0;

	for (unsigned i = 0; i < 16; i++)
		out |=
		    put_cell(rotate4(cell(v, (i + 4) & 15), 1) ^ rotate4(cell(v, (i + 8) & 15), 2) ^
				 rotate4(cell(v, (i + 12) & 15), 1),
			i);
	return (out);
}

static uint64_t
tweak_next(uint64_t t)
{
	uint64_t out = 0;

	t = permute(t, tweak_perm, false);
	for (unsigned i = 0; i < 16; i++) {
		unsigned c = cell(t, i);

		if ((LFSR_CELLS >> i & 1) != 0)
			c = c >> 1 | ((c ^ c >> 1) & 1) << 3;
		out |= put_cell(c, i);
	}
	return (out);
}

static uint64_t
tweak_prev(uint64_t t)
{
	uint64_t out = 0;

	for (unsigned i = 0; i < 16; i++) {
		unsigned c = cell(t, i);

		if ((LFSR_CELLS >> i & 1) != 0)
			c = (c << 1 & 15) | ((c >> 3 ^ c) & 1);
		out |= put_cell(c, i);
	}
	return (permute(out, tweak_perm, true));
}

uint64_t
qarma5(uint64_t data, uint64_t tweak, uint64_t key0, uint64_t key1)
{
	const unsigned last = 4;
	uint64_t key0m = key0 << 63 | (key0 >> 1 ^ key0 >> 63), v = data ^ key0;

	for (unsigned i = 0; i <= last; i++) {
		v ^= key1 ^ tweak ^ round_const[i];
		if (i > 0)
			v = mix(permute(v, tau, false));
		v = substitute(v, false);
		tweak = tweak_next(tweak);
	}
	/* Forward with the whitening key, the reflector, back. */
	v = substitute(mix(permute(v ^ key0m ^ tweak, tau, false)), false);
	v = mix(permute(v, tau, false)) ^ key1;
	v = substitute(permute(v, tau, true), true);
	v = permute(mix(v), tau, true) ^ key0 ^ tweak;
	for (unsigned i = 0; i <= last; i++) {
		v = substitute(v, true);
		if (i < last)
			v = permute(mix(v), tau, true);
		tweak = tweak_prev(tweak);
		v ^= round_const[last - i] ^ key1 ^ tweak ^ QARMA_ALPHA;
	}
	return (v ^ key0m);
}

uint64_t
pauth_compute(const struct pe *pe, uint64_t data, uint64_t modifier, enum pauth_key key)
{
	static const struct {
		uint16_t lo, hi;
	} sr[] = {
		[KEY_IA] = { SR_APIAKeyLo_EL1, SR_APIAKeyHi_EL1 },
		[KEY_IB] = { SR_APIBKeyLo_EL1, SR_APIBKeyHi_EL1 },
		[KEY_DA] = { SR_APDAKeyLo_EL1, SR_APDAKeyHi_EL1 },
		[KEY_DB] = { SR_APDBKeyLo_EL1, SR_APDBKeyHi_EL1 },
		[KEY_GA] = { SR_APGAKeyLo_EL1, SR_APGAKeyHi_EL1 },
	};
	uint64_t key0 = pe->sr[sr[key].hi], key1 = pe->sr[sr[key].lo];

	if (pe_has(pe, PE_FEAT_PAuth_QARMA5))
		return (qarma5(data, modifier, key0, key1));
	return (impdef(data, modifier, key0, key1));
}

/* -- pointers ------------------------------------------------------------------------ */

/* What a pointer looks like: where the code begins, and whether there is a tag above. */
struct shape {
	unsigned bottom;
	bool tbi, upper; /* upper: bit 55, or what stands for it */
};

static inline bool
is_data(enum pauth_key key)
{
	return (key == KEY_DA || key == KEY_DB);
}

/* Do tags count, for this half? EffectiveTBI(). */
static bool
tagged(const struct mmu_regime *r, bool upper, bool data)
{
	return (upper ? r->tbi1 && (data || !r->tbid1) : r->tbi0 && (data || !r->tbid0));
}

/* CalculateBottomPACBit() */
static unsigned
bottom_bit(const struct mmu_regime *r, bool upper)
{
	unsigned tsz = upper ? r->t1sz : r->t0sz;

	return (64 - (tsz < 16 ? 16 : tsz > 39 ? 39 : tsz));
}

static inline uint64_t
extend(uint64_t ptr, const struct shape *s)
{
	uint64_t mask = GENMASK(s->tbi ? 55 : 63, s->bottom);

	return (s->upper ? ptr | mask : ptr & ~mask);
}

uint64_t
pauth_add(const struct pe *pe, uint64_t ptr, uint64_t modifier, enum pauth_key key)
{
	struct mmu_regime r;
	struct shape s;
	uint64_t pac, top, place;
	bool data = is_data(key);

	mmu_regime(pe, &r);
	s.tbi = tagged(&r, (ptr & BIT(55)) != 0 && r.two, data);
	/* Bit 55 selects the half if any half of the regime has tags. */
	if (r.two ? tagged(&r, false, data) || tagged(&r, true, data) : s.tbi)
		s.upper = (ptr & BIT(55)) != 0;
	else
		s.upper = (ptr & BIT(63)) != 0;
	s.bottom = bottom_bit(&r, s.upper && r.two);
	pac = pauth_compute(pe, extend(ptr, &s), modifier, key);
	/* A pointer that was not canonical shall not authenticate. */
	top = GENMASK(s.tbi ? 55 : 63, s.bottom);
	if ((ptr & top) != 0 && (ptr & top) != top)
		pac ^= BIT(s.tbi ? 54 : 62);
	place = top & ~BIT(55);
	ptr = (ptr & ~top) | (pac & place);
	return (s.upper ? ptr | BIT(55) : ptr);
}

static void
shape_of(const struct pe *pe, uint64_t ptr, bool data, struct shape *s)
{
	struct mmu_regime r;

	mmu_regime(pe, &r);
	s->upper = (ptr & BIT(55)) != 0;
	s->tbi = tagged(&r, s->upper && r.two, data);
	s->bottom = bottom_bit(&r, s->upper && r.two);
}

uint64_t
pauth_auth(const struct pe *pe, uint64_t ptr, uint64_t modifier, enum pauth_key key)
{
	struct shape s;
	uint64_t orig, pac, place;
	unsigned shift;

	shape_of(pe, ptr, is_data(key), &s);
	orig = extend(ptr, &s);
	pac = pauth_compute(pe, orig, modifier, key);
	place = GENMASK(s.tbi ? 54 : 63, s.bottom) & ~BIT(55);
	if (((pac ^ ptr) & place) == 0)
		return (orig);
	/* The error code is the key's number and its complement. */
	shift = s.tbi ? 53 : 61;
	orig &= ~(UINT64_C(3) << shift);
	return (orig | ((key == KEY_IB || key == KEY_DB ? UINT64_C(2) : UINT64_C(1)) << shift));
}

uint64_t
pauth_strip(const struct pe *pe, uint64_t ptr, enum pauth_key key)
{
	struct shape s;

	shape_of(pe, ptr, is_data(key), &s);
	return (extend(ptr, &s));
}
