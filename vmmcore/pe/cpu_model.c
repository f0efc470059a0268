/*
 * Which extensions a PE may have: names, what each one needs, and the named
 * CPUs of `-o cpu=`. Not here: what a feature does (the executors), and how the
 * ID registers show it (idreg.c).
 */
#include "pe/pe_internal.h"

#define F(x) BIT(PE_FEAT_##x)

static const struct {
	const char *name, *desc;
} features[PE_FEAT_COUNT] = {
#define PE_FEATURE(name, desc) { #name, desc },
#include "pe/pe_feature.def"
#undef PE_FEATURE
};

/*
 * What a feature may not be without: the Arm ARM says so (A2.2), or its ID field
 * is one count for both.
 */
static const struct {
	uint8_t feature, needs;
} needs[] = {
#define N(a, b)                          \
	{                                \
		PE_FEAT_##a, PE_FEAT_##b \
	}
	N(PMULL, AES),
	N(SHA1, SHA256),
	N(SHA256, SHA1),
	N(SHA512, SHA256),
	N(SHA3, SHA512),
	N(FHM, FP16),
	N(LRCPC2, LRCPC),
	N(FlagM2, FlagM),
	N(PAN2, PAN),
	N(EPAN, PAN2),
	N(TLBIRANGE, TLBIOS),
	N(PAuth_QARMA5, PAuth),
	N(SM3, SM4),
	N(SM4, SM3),
#undef N
};

/* Armv8.0. Not speculating has no extension, but the guest wants to know. */
#define V8_0 (F(AES) | F(PMULL) | F(SHA1) | F(SHA256) | F(CRC32) | F(CSV2) | F(CSV3) | F(PMUv3))
/* The r4p1 TRM's ID registers, without RAS, LOR and SPE. */
#define NEOVERSE_N1                                                                             \
	(V8_0 | F(LSE) | F(RDM) | F(FP16) | F(DotProd) | F(LRCPC) | F(DPB) | F(PAN) | F(PAN2) | \
	    F(UAO) | F(HAFDBS) | F(XNX) | F(IESB) | F(SSBS) | F(VHE))
/* QARMA5 is not more, but another algorithm. */
#define MAX (GENMASK(PE_FEAT_COUNT - 1, 0) & ~F(PAuth_QARMA5))
/* PAuth and BTI cost something at every call and return. */
#define DEFAULT (MAX & ~(F(PAuth) | F(BTI)))

static const struct {
	const char *name;
	uint64_t features;
} models[] = {
	{ "cortex-a57", V8_0 },
	{ "neoverse-n1", NEOVERSE_N1 },
	{ "default", DEFAULT },
	{ "max", MAX },
};

uint64_t
pe_default_features(void)
{
	return (DEFAULT);
}

const char *
pe_feature_name(unsigned n, const char **desc)
{
	if (n >= PE_FEAT_COUNT)
		return (NULL);
	if (desc != NULL)
		*desc = features[n].desc;
	return (features[n].name);
}

const char *
pe_cpu_model(unsigned n, uint64_t *set)
{
	if (n >= sizeof(models) / sizeof(models[0]))
		return (NULL);
	*set = models[n].features;
	return (models[n].name);
}

void
pe_feature_switch(uint64_t *set, unsigned n, bool on)
{
	uint64_t before;

	if (n >= PE_FEAT_COUNT)
		return;
	*set = on ? *set | BIT(n) : *set & ~BIT(n);
	do {
		before = *set;
		for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
			uint64_t a = BIT(needs[i].feature), b = BIT(needs[i].needs);

			if ((*set & a) != 0 && (*set & b) == 0)
				*set = on ? *set | b : *set & ~a;
		}
	} while (*set != before);
}
