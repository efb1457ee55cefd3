"""Draws between two states: real generators, packed by the recorder itself, drawn from by known amounts."""

import json
import random
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reprodebug.diagnose.draws import Between, apart, between, seed_of
from reprodebug.recorder.randomness import Randomness, _packed

AMOUNTS = (0, 1, 2, 623, 624, 625, 1248, 100_000)
LIMIT = 200_000
WORDS = "words of 32 bits"
BITS = {"pcg64": np.random.PCG64, "pcg64dxsm": np.random.PCG64DXSM, "philox": np.random.Philox, "sfc64": np.random.SFC64}


class Kept:
    """A writer that keeps what the recorder writes."""

    def __init__(self):
        self.named, self.bodies = {}, {}

    def generator(self, number, name, algorithm):
        self.named[number] = (name, algorithm)

    def rng(self, row, number, position, digest):
        pass

    def state(self, number, digest, body):
        self.bodies[self.named[number]] = body


def recorded(name, rng=None):
    """(name, algorithm, body) of one generator now, through the recorder."""
    kept = Kept()
    randomness = Randomness(torch, kept, lambda b: bytes(b))
    if rng is not None:
        randomness.numpy_generator(rng)
    randomness.observe()
    return next((*key, body) for key, body in kept.bodies.items() if key[0] == name)


def packed(generator):
    """The kept body of a torch CPU generator, without observing all others."""
    return _packed(generator.get_state().numpy().tobytes())


def as_json(bits):
    """The kept body of a NumPy bit generator."""
    return json.dumps(bits.state, default=repr, sort_keys=True).encode()


def cpu(first, second, **k):
    return between("torch.cpu", "mt19937", first, second, **{"limit": LIMIT, **k})


@pytest.fixture(autouse=True)
def _own_randomness():
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    yield
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])


def use_torch(n):
    if n:
        torch.rand(n)  # one word per float32


def use_python(n):
    for _ in range(n):
        random.getrandbits(32)


def use_numpy(n):
    if n:  # bytes(0) takes a word too
        np.random.bytes(4 * n)


GLOBALS = {
    "torch.cpu": (torch.manual_seed, use_torch),
    "python.random": (random.seed, use_python),
    "numpy.random": (np.random.seed, use_numpy),
}


# Mersenne Twister


@pytest.mark.parametrize("warm", [0, 1, 623, 624, 1000])
@pytest.mark.parametrize("name", GLOBALS)
def test_counts_the_words_of_each_global_generator(name, warm):
    seed, use = GLOBALS[name]
    for n in AMOUNTS:
        seed(7)
        use(warm)
        _, algorithm, a = recorded(name)
        use(n)
        _, _, b = recorded(name)
        assert algorithm == "mt19937"
        assert between(name, algorithm, a, b, limit=LIMIT) == Between(n, WORDS, same_stream=True), (warm, n)
        assert apart(name, algorithm, a, b, limit=LIMIT)[0] == n
        back, how = apart(name, algorithm, b, a, limit=LIMIT)
        assert (back, how.count, how.same_stream) == (-n, n, True)
        if n:
            reverse = between(name, algorithm, b, a, limit=LIMIT)
            assert reverse.count is None and reverse.reason


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), steps=st.lists(st.integers(0, 3000), min_size=1, max_size=6), split=st.integers(0, 6))
def test_counts_add_up_over_any_path(seed, steps, split):
    g = torch.Generator().manual_seed(seed)
    states = [packed(g)]
    for n in steps:
        torch.rand(n, generator=g)
        states.append(packed(g))
    i = min(split, len(steps))
    assert cpu(states[0], states[i]).count == sum(steps[:i])
    assert cpu(states[i], states[-1]).count == sum(steps[i:])
    assert apart("torch.cpu", "mt19937", states[-1], states[i], limit=LIMIT)[0] == -sum(steps[i:])
    assert all(seed_of("torch.cpu", "mt19937", s) == seed for s in states)


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda g: torch.rand(5, generator=g), 5),
        (lambda g: torch.rand(5, generator=g, dtype=torch.float64), 10),
        (lambda g: torch.randint(9, (7,), generator=g), 7),
        (lambda g: torch.randint(2**40, (7,), generator=g), 14),
        (lambda g: torch.randn(64, generator=g), 64),
        (lambda g: torch.randperm(30, generator=g), 29),
    ],
    ids=["rand", "rand64", "randint", "randint64", "randn", "randperm"],
)
def test_words_that_torch_functions_take(draw, words):
    g = torch.Generator().manual_seed(3)
    torch.rand(600, generator=g)
    for times in (1, 40):
        a = packed(g)
        for _ in range(times):
            draw(g)
        assert cpu(a, packed(g)).count == times * words


def test_torch_body_as_torch_gives_it_is_read_too():
    g = torch.Generator().manual_seed(3)
    a = g.get_state().numpy().tobytes()
    torch.rand(1300, generator=g)
    b = g.get_state().numpy().tobytes()
    assert cpu(a, b).count == cpu(_packed(a), b).count == cpu(_packed(a), _packed(b)).count == 1300
    assert seed_of("torch.cpu", "mt19937", a) == 3


def test_generator_of_a_data_loader():
    name = "torch.Generator of DataLoader#0"
    g = torch.Generator().manual_seed(11)
    a = packed(g)
    torch.empty((), dtype=torch.int64).random_(generator=g)
    assert between(name, "mt19937", a, packed(g)).count == 2
    assert seed_of(name, "mt19937", a) == 11


def test_python_and_numpy_functions():
    random.seed(1)
    a = recorded("python.random")
    random.random(), random.random()
    assert between(*a, recorded("python.random")[2]).count == 4
    np.random.seed(1)
    a = recorded("numpy.random")
    np.random.rand(400)
    assert between(*a, recorded("numpy.random")[2]).count == 800


def test_a_kept_normal_deviate_is_told_where_no_word_was_drawn():
    random.seed(1)
    random.gauss(0, 1)
    a = recorded("python.random")
    random.gauss(0, 1)  # takes the kept one
    found = between(*a, recorded("python.random")[2])
    assert (found.count, found.same_stream) == (0, True)
    assert "normal" in found.reason


def test_torch_reseeded_with_another_seed_is_another_stream():
    g = torch.Generator().manual_seed(1)
    a = packed(g)
    torch.rand(10, generator=g)
    late = packed(g)
    g.manual_seed(2)
    for b in (packed(g), (torch.rand(700, generator=g), packed(g))[1]):
        for x, y in ((a, b), (late, b), (b, a)):
            found = cpu(x, y)
            assert (found.count, found.same_stream) == (None, False)
            assert found.reason
            n, how = apart("torch.cpu", "mt19937", x, y, limit=LIMIT)
            assert (n, how.same_stream) == (None, False)


def test_torch_seeds_equal_in_32_bits_make_one_stream():
    a = packed(torch.Generator().manual_seed(5))
    g = torch.Generator().manual_seed(5 + 2**32)
    torch.rand(50, generator=g)
    assert cpu(a, packed(g)) == Between(50, WORDS, same_stream=True)


def test_the_path_counts_whatever_the_head_says():
    g = torch.Generator().manual_seed(5)
    a = packed(g)
    torch.rand(50, generator=g)
    b = struct.pack("<Q", 99) + packed(g)[8:]
    assert cpu(a, b) == Between(50, WORDS, same_stream=True)


@pytest.mark.parametrize("name", ["python.random", "numpy.random"])
def test_reseeded_elsewhere_is_unknown(name):
    seed, _ = GLOBALS[name]
    seed(1)
    a = recorded(name)
    seed(2)
    b = recorded(name)[2]
    found = between(*a, b, limit=LIMIT)
    assert (found.count, found.same_stream) == (None, None)
    assert found.reason
    assert apart(*a, b, limit=LIMIT)[0] is None


@pytest.mark.parametrize("n", [1, 623, 624, 625, 40_000, 64 * 624, 64 * 624 + 1, 128 * 624])
def test_the_limit_is_exact(n):
    g = torch.Generator().manual_seed(5)
    torch.rand(100, generator=g)
    a = packed(g)
    torch.rand(n, generator=g)
    b = packed(g)
    assert cpu(a, b, limit=n).count == n
    short = cpu(a, b, limit=n - 1)
    assert (short.count, short.same_stream) == (None, True)  # one seed, proven by the head
    assert short.reason
    assert apart("torch.cpu", "mt19937", b, a, limit=n)[0] == -n
    assert apart("torch.cpu", "mt19937", b, a, limit=n - 1)[0] is None


def test_numpy_generator_over_a_mersenne_twister():
    rng = np.random.Generator(np.random.MT19937(4))
    name, algorithm, a = recorded("numpy.default_rng#0", rng)
    for n in AMOUNTS:
        rng.bit_generator.random_raw(n)
        _, _, b = recorded(name, rng)
        assert between(name, algorithm, a, b, limit=LIMIT) == Between(n, WORDS, same_stream=True)
        assert apart(name, algorithm, b, a, limit=LIMIT)[0] == -n
        a = b


# NumPy's generators of 64 bits


@pytest.mark.parametrize("algorithm", BITS)
def test_counts_the_outputs_of_numpy_generators(algorithm):
    for warm in (0, 1, 3, 4, 5):
        for n in (*AMOUNTS, 3, 4, 5, 6, 7):
            rng = np.random.Generator(BITS[algorithm](8))
            rng.random(warm)
            name, named, a = recorded("numpy.default_rng#0", rng)
            assert named == algorithm
            rng.random(n)
            b = recorded(name, rng)[2]
            assert between(name, algorithm, a, b) == Between(n, "64-bit outputs", same_stream=True), (warm, n)
            assert apart(name, algorithm, b, a)[0] == -n


@pytest.mark.parametrize("algorithm", BITS)
@settings(max_examples=25, deadline=None)
@given(draws=st.lists(st.sampled_from(["32", "64"]), max_size=30), start=st.integers(0, 30))
def test_a_kept_half_output_counts_as_a_half(algorithm, draws, start):
    rng = np.random.Generator(BITS[algorithm](8))
    start = min(start, len(draws))
    states, halves = [as_json(rng.bit_generator)], [0]
    for kind in draws:
        rng.integers(0, 2**32, dtype=np.uint32) if kind == "32" else rng.random()
        states.append(as_json(rng.bit_generator))
        halves.append(halves[-1] + (1 if kind == "32" else 2))
    n, how = apart("numpy.default_rng#0", algorithm, states[start], states[-1])
    assert n is not None and how.same_stream
    wanted = halves[-1] - halves[start]
    assert n * (2 if how.unit == "64-bit outputs" else 1) == wanted
    assert apart("numpy.default_rng#0", algorithm, states[-1], states[start])[0] == -n


@pytest.mark.parametrize("algorithm", ["pcg64", "pcg64dxsm", "philox"])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**64), n=st.integers(0, 2**62))
def test_far_along_one_stream(algorithm, seed, n):
    bits = BITS[algorithm](seed)
    a = as_json(bits)
    bits.advance(n)
    b = as_json(bits)
    outputs = n * (4 if algorithm == "philox" else 1)  # NumPy's advance counts blocks of four there
    assert apart("numpy.default_rng#0", algorithm, a, b)[0] == outputs
    assert apart("numpy.default_rng#0", algorithm, b, a)[0] == -outputs


@pytest.mark.parametrize("algorithm", ["pcg64", "pcg64dxsm", "philox"])
def test_a_jump_is_no_draw(algorithm):
    bits = BITS[algorithm](1)
    found = between("numpy.default_rng#0", algorithm, as_json(bits), as_json(bits.jumped()))
    assert (found.count, found.same_stream) == (None, True)
    assert "jump" in found.reason


@pytest.mark.parametrize("algorithm", BITS)
def test_other_seeds_of_numpy_generators_are_other_streams(algorithm):
    a, b = as_json(BITS[algorithm](1)), as_json(BITS[algorithm](2))
    for x, y in ((a, b), (b, a)):
        found = between("numpy.default_rng#0", algorithm, x, y)
        assert (found.count, found.same_stream) == (None, False)
        assert found.reason
        assert apart("numpy.default_rng#0", algorithm, x, y)[0] is None


def test_sfc64_beyond_the_limit_is_unknown():
    bits = np.random.SFC64(1)
    a = as_json(bits)
    bits.random_raw(1000, output=False)
    assert between("numpy.default_rng#0", "sfc64", a, as_json(bits), limit=1000).count == 1000
    found = between("numpy.default_rng#0", "sfc64", a, as_json(bits), limit=999)
    assert (found.count, found.same_stream) == (None, None)
    assert found.reason


# CUDA


def test_cuda_offsets():
    a, b, other = (struct.pack("<QQ", *state) for state in ((2**63 + 5, 8), (2**63 + 5, 20), (6, 20)))
    name, unit = "torch.cuda:0", "Philox offset"
    assert between(name, "philox", a, b) == Between(12, unit, same_stream=True)
    assert apart(name, "philox", b, a) == (-12, Between(12, unit, same_stream=True))
    back = between(name, "philox", b, a)
    assert (back.count, back.same_stream) == (None, True)
    found = between(name, "philox", a, other)
    assert (found.count, found.unit, found.same_stream) == (None, unit, False)
    assert found.reason
    assert seed_of(name, "philox", a) == 2**63 + 5


# no seed, no sense


def test_only_torch_bodies_hold_a_seed():
    assert seed_of(*recorded("python.random")) is None
    assert seed_of(*recorded("numpy.random")) is None
    assert seed_of("numpy.default_rng#0", "philox", as_json(np.random.Philox(1))) is None
    assert seed_of("torch.cpu", "mt19937", b"short") is None
    assert seed_of("torch.cuda:0", "philox", b"") is None
    assert seed_of("torch.mps", "unknown", bytes(5000)) is None


KINDS = [
    *[(name, "mt19937") for name in (*GLOBALS, "numpy.default_rng#0")],
    *[("numpy.default_rng#0", algorithm) for algorithm in BITS],
    ("torch.cuda:0", "philox"),
    ("torch.Generator of DataLoader#1", "unknown"),
    ("", ""),
]


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_damaged_bytes_never_raise(kind):
    name, algorithm = kind
    nested = b"[" * 200_000
    shortened = json.dumps(
        {"state": {"key": "array([1, ..., 2])", "state": "array([1, ..., 2])", "counter": [1]}, "has_uint32": 0}
    ).encode()
    pcg = b'{"state": {"state": %s, "inc": %s}, "has_uint32": 0, "uinteger": 0}'
    odd = [b"", b"{", b"{}", b"[]", b"null", b"5", b'{"state": 5}', bytes(15), b"\xff" * 5056, nested, shortened, b"\xff" * 2500]
    odd += [pcg % (b"1", b"2"), pcg % (b"-1", b"3"), pcg % (b"9" * 5000, b"1"), pcg % (b"NaN", b"1e400"), pcg % (b"true", b'"x"')]
    for body in odd:
        for x, y in ((body, body), (body, bytes(2560)), (bytes(2560), body)):
            found = between(name, algorithm, x, y, limit=2000)
            assert found.count is None and found.reason
            n, how = apart(name, algorithm, x, y, limit=2000)
            assert n is None and how.reason
        seed_of(name, algorithm, body)


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_damage_to_a_real_state_never_raises(kind, data):
    name, algorithm = kind
    if name in GLOBALS:
        good = recorded(name)[2]
    elif name.startswith("numpy"):
        good = as_json(np.random.MT19937(1) if algorithm == "mt19937" else BITS[algorithm](1))
    else:
        good = struct.pack("<QQ", 1, 4)
    at = data.draw(st.integers(0, len(good)))
    bad = data.draw(
        st.one_of(
            st.binary(max_size=40), st.just(good[:at]), st.binary(min_size=1, max_size=8).map(lambda x: good[:at] + x + good[at + len(x) :])
        )
    )
    for x, y in ((good, bad), (bad, good)):
        found = between(name, algorithm, x, y, limit=2000)
        assert isinstance(found, Between)
        assert found.count is None or found.count >= 0
        assert found.count is not None or found.reason
        n, how = apart(name, algorithm, x, y, limit=2000)
        assert how.count == (None if n is None else abs(n))


def test_a_limit_below_zero_finds_nothing_and_does_not_raise():
    a = packed(torch.Generator().manual_seed(5))
    assert cpu(a, a, limit=-1).count in (0, None)
    assert cpu(a, a, limit=0).count == 0


def test_import_needs_the_standard_library_only():
    import subprocess
    import sys

    code = "import sys, reprodebug.diagnose.draws; print(sorted({'numpy', 'torch'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
