"""The C library's functions on many arguments: a digest of the results' bits for each.

libm.py [COUNT]: so many random arguments of each kind.
"""

import cmath
import ctypes
import hashlib
import math
import random
import struct
import sys

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
ONE = """
sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh exp exp2 exp10 expm1 log
log2 log10 log1p sqrt cbrt erf erfc lgamma tgamma floor ceil trunc round rint nearbyint
roundeven logb fabs j0 j1 y0 y1
"""
TWO = "pow atan2 hypot fmod remainder fdim fmax fmin copysign nextafter jn"
# FPCR.RMode as <fenv.h> has it: nearest, up, down, to zero.
MODES = (0, 0x400000, 0x800000, 0xC00000)

libm = ctypes.CDLL("libm.so.6")
random.seed(20)
args = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, math.inf, -math.inf, math.nan, 5e-324]
args += [
    2.2250738585072014e-308,
    1.7976931348623157e308,
    1e-10,
    math.pi,
    -math.e,
    709.78,
    -745.1,
    0.1,
    1e22,
    123456789.123,
]
args += [random.gauss(0, 1) for _ in range(COUNT)]
args += [struct.unpack("<d", random.randbytes(8))[0] for _ in range(COUNT)]
args += [math.ldexp(random.random(), random.randrange(-60, 60)) for _ in range(COUNT)]


def digest(values, form):
    h = hashlib.sha256()
    for v in values:
        h.update(b"nan" if v != v else struct.pack(form, v))
    return h.hexdigest()[:24]


def text_digest(words):
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:24]


for suffix, kind, form in (("", ctypes.c_double, "<d"), ("f", ctypes.c_float, "<f")):
    vals = [kind(a).value for a in args]
    for name in (ONE + TWO).split():
        f = getattr(libm, name + suffix)
        f.restype, f.argtypes = kind, [kind] * (2 if name in TWO.split() else 1)
        if name == "jn":
            f.argtypes = [ctypes.c_int, kind]
            res = [f(i % 5, v) for i, v in enumerate(vals)]
        elif name in TWO.split():
            res = [f(v, w) for v, w in zip(vals, vals[7:] + vals[:7], strict=True)]
        else:
            res = [f(v) for v in vals]
        print(name + suffix, digest(res, form))
    f = getattr(libm, "fma" + suffix)
    f.restype, f.argtypes = kind, [kind] * 3
    turned = (vals[3:] + vals[:3], vals[11:] + vals[:11])
    res = [f(a, b, c) for a, b, c in zip(vals, *turned, strict=True)]
    print("fma" + suffix, digest(res, form))

for mode in MODES:
    libm.fesetround(mode)
    libm.feclearexcept(0x1F)
    pairs = zip(args[9:-11], args[20:], strict=True)
    out = [a * b + a / (abs(b) + 1e-3) - math.sqrt(abs(a)) for a, b in pairs]
    flags = libm.fetestexcept(0x1F)
    libm.fesetround(0)
    print("round", hex(mode), digest(out, "<d"), hex(flags))

print("repr", text_digest(map(repr, args)))
print("format", text_digest(f"{a:.3e} {a:g} {a:.20f}" for a in args))
print("back", all(float(repr(a)) == a or a != a for a in args))
print([cmath.exp(complex(a, b)) for a, b in zip(args[20:30], args[30:40], strict=True)])
