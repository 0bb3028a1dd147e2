"""Unit tests from a box of their own: right programs pass whatever they return, wrong ones do not talk their way in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from megatron_redone.scoring.sandbox.limits import Limits
from megatron_redone.scoring.sandbox.pool import Sandbox, TestedProgram

LIMITS = Limits(wall_seconds=20.0)


@pytest.fixture(scope="module")
def sandbox(sandbox_backend: str) -> Iterator[Sandbox]:
    with Sandbox(sandbox_backend, LIMITS, workers=2) as opened:
        yield opened


NODE = """
class Node:
    def __init__(self, value): self.value, self.left, self.right = value, None, None
def depth(node): return 0 if node is None else 1 + max(depth(node.left), depth(node.right))
"""
VECTOR = """
class Vector:
    def __init__(self, x, y): self.x, self.y = x, y
    def __add__(self, other): return Vector(self.x + other.x, self.y + other.y)
    def __mul__(self, k): return Vector(self.x * k, self.y * k)
    def __eq__(self, other): return (self.x, self.y) == (other.x, other.y)
    def __len__(self): return 2
    def __getitem__(self, i): return (self.x, self.y)[i]
    def __repr__(self): return f'<{self.x} {self.y}>'
"""
RIGHT: dict[str, tuple[str, str, list[str], str]] = {
    "plain values": (
        "def f(x): return x",
        "",
        ["for v in (None, True, 1, 1.5, 'a', (1, 2), [1, [2]], {1: 'a'}, {1, 2}, b'x', 10**60): assert f(v) == v"],
        "f",
    ),
    "types of values": ("def f(): return (1, 2)", "", ["assert f() != [1, 2] and type(f()) is tuple"], "f"),
    "named arguments": ("def f(a, *, b=2): return a - b", "", ["assert f(5, b=1) == 4 and f(a=5) == 3"], "f"),
    "a changed argument": (
        "def f(xs, d): xs.sort(); d['k'] = len(xs)",
        "",
        ["xs = ys = [3, 1]\nd = {}\nassert f(xs, d) is None\nassert ys == [1, 3] and d == {'k': 2}"],
        "f",
    ),
    "functions as arguments": (
        "def f(g, xs): return [g(x) for x in xs] + sorted(xs, key=g)",
        "",
        ["assert f(lambda x: -x, [1, 2]) == [-1, -2, 2, 1]", "assert f(abs, [-3]) == [3, -3]"],
        "f",
    ),
    "generators": (
        "def f():\n    n = 0\n    while True:\n        yield n\n        n += 1",
        "import itertools",
        ["assert list(itertools.islice(f(), 3)) == [0, 1, 2]", "g = f(); assert next(g) == 0 and next(g) == 1"],
        "f",
    ),
    "map and zip": ("def f(x): return map(str, x)", "", ["assert list(f([1])) == ['1'] and set(f([2])) == {'2'}"], "f"),
    "a function that stops": (
        "def f(): raise StopIteration",
        "",
        ["try: f()\nexcept StopIteration: pass\nelse: assert False"],
        "f",
    ),
    "an iterator that ends": (
        "def f():\n    yield 1",
        "",
        ["g = f(); assert next(g) == 1 and next(g, 'end') == 'end' and list(f()) == [1]"],
        "f",
    ),
    "closures": ("def f(n): return lambda x: x + n", "", ["assert f(2)(3) == 5"], "f"),
    "exceptions": (
        "class Bad(ValueError): pass\ndef f(x):\n    if x < 0: raise Bad('low')\n    return [][x]",
        "",
        [
            "try: f(-1)\nexcept ValueError as e: assert str(e) == 'low'\nelse: assert False",
            "try: f(-1)\nexcept Bad: pass\nelse: assert False",
            "try: f(1)\nexcept IndexError: pass\nelse: assert False",
        ],
        "f",
    ),
    "objects of the program": (
        NODE,
        "r = Node(1); r.left = Node(2)\nr.left.right = Node(3)",
        ["assert depth(r) == 3"],
        "",
    ),
    "attributes": (NODE, "n = Node([1, 2])", ["assert n.value == [1, 2] and n.left is None"], ""),
    "operators of the program": (
        VECTOR,
        "",
        [
            "assert Vector(1, 2) + Vector(1, 1) == Vector(2, 3) and Vector(1, 2) * 2 == Vector(2, 4)",
            "assert Vector(1, 2) != Vector(1, 3) and len(Vector(0, 0)) == 2 and list(Vector(1, 2)) == [1, 2]",
            "assert str(Vector(1, 2)) == '<1 2>' and Vector(5, 6)[1] == 6 and isinstance(Vector(1, 1), Vector)",
        ],
        "",
    ),
    "a kind of list": (
        "class Stack(list):\n    def top(self): return self[-1]",
        "s = Stack([1]); s.append(4)",
        ["assert s.top() == 4 and s == [1, 4] and len(s) == 2 and s.pop() == 4"],
        "",
    ),
    "named tuples": (
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)",
        "",
        ["assert f() == (1, 2) and P(1, 2) == (1, 2) and P(3, 4).y == 4"],
        "f",
    ),
    "helpers of the setup": ("def f(x): return x + 1", "def twice(x): return 2 * x", ["assert twice(f(1)) == 4"], "f"),
    "a head in the setup": ("def f(x): return x + 1", "def f(x):\n    '''adds'''", ["assert f(1) == 2"], "f"),
    "a built-in name": ("def sum(a, b): return a * b", "", ["assert sum(3, 5) == 15"], "sum"),
    "a module without import": (
        "import math\ndef f(): return math.pi",
        "",
        ["assert math.isclose(f(), 3.1, rel_tol=0.1)"],
        "f",
    ),
    "prints": ("print('x' * 100_000)\ndef f(): print('y' * 100_000); return 1", "", ["assert f() == 1"], "f"),
    "state": (
        "n = 0\ndef f():\n    global n\n    n += 1\n    return n",
        "",
        ["assert f() == 1", "assert f() == 2"],
        "f",
    ),
    "types as arguments": ("def f(x, t): return isinstance(x, t)", "", ["assert f(1, int) and not f(1, str)"], "f"),
    "standard collections": (
        "from collections import Counter, deque\ndef f(s): return Counter(s), deque(s)",
        "",
        ["c, d = f('aab'); assert c.most_common(1) == [('a', 2)] and d.popleft() == 'a'"],
        "f",
    ),
}  # fmt: skip


def test_right_programs_pass(sandbox: Sandbox) -> None:
    tested = [TestedProgram(program, tests, setup, entry) for program, setup, tests, entry in RIGHT.values()]
    verdicts = sandbox.test_many(tested)
    assert {name: verdict.reason for name, verdict in zip(RIGHT, verdicts, strict=True) if not verdict.passed} == {}


EQUAL = "class E:\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n"
FOOLS = (
    EQUAL
    + "    def __sub__(self, o): return 0\n    def __lt__(self, o): return True\n    def __gt__(self, o): return True\n"
    "    def __contains__(self, o): return True\n    def __float__(self): return 3.0\n"
    "    def __abs__(self): return 0\n"
    "    def startswith(self, o): return True\n    def __iter__(self): return iter([])\n"
    "def f(*a): return E()\n"
)
WRONG: dict[str, tuple[str, list[str], str]] = {
    "a wrong value": ("def f(): return 2", ["assert f() == 1"], "test 1, line 1: AssertionError"),
    "only the second test": ("def f(): return 1", ["assert f() == 1", "\nassert f() == 2"], "test 2, line 2"),
    "no such function": ("def g(): return 1", ["assert f() == 1"], "NameError"),
    "no Python": ("def f(:", ["assert f() == 1"], "SyntaxError"),
    "ends while it loads": ("raise SystemExit", ["assert f() == 1"], "Exception"),
    "asks for input": ("x = input()\ndef f(): return 1", ["assert f() == 1"], "EOFError"),
    "ends in the call": ("import os\ndef f(): os._exit(0)", ["assert f() == 1"], "the program ended before"),
    "ends and hides it": (
        "import os\ndef f(): os._exit(0)",
        ["try: f()\nexcept BaseException: pass"],
        "the program ended before",
    ),
    "an equal to all": (FOOLS, ["assert f() == 3"], "AssertionError"),
    "not unequal": (FOOLS, ["assert not f() != 3"], "AssertionError"),
    "in a list": (FOOLS, ["assert f() in [1, 2]"], "AssertionError"),
    "holds all": (FOOLS, ["assert 3 in f()"], "AssertionError"),
    "no distance": (FOOLS, ["assert abs(f() - 3) < 1e-6"], "TypeError"),
    "less and more": (FOOLS, ["assert 2 < f() < 4"], "TypeError"),
    "close": (FOOLS, ["import math\nassert math.isclose(f(), 3)"], "TypeError"),
    "starts with it": (FOOLS, ["assert f().startswith('x')"], "where a plain value is expected"),
    "inside a list": (EQUAL + "def f(): return [E()]", ["assert f() == [1]"], "AssertionError"),
    "as a key": (
        EQUAL + "    def __hash__(self): return hash('a')\ndef f(): return {E(): 1}",
        ["assert f() == {'a': 1}"],
        "AssertionError",
    ),
    "is no list": (FOOLS, ["assert isinstance(f(), list)"], "AssertionError"),
    "a tests' object as argument": (
        "def f(x): return 1",
        ["class T: pass\nassert f(T()) == 1"],
        "a test passes a T",
    ),
    "too much": ("def f(): return 'x' * (20 << 20)", ["assert f() == 1"], "a value of"),
    "half characters in an error": (
        "def f(): raise ValueError('x\\ud800y')",
        ["assert f() == 1"],
        "ValueError: x\\ud800y",
    ),
    "half an answer": (
        "import os\ndef f():\n    for n in range(3, 9):\n        try: os.write(n, b'\\0\\0\\0\\x04[[[[')\n"
        "        except OSError: pass\n",
        ["assert f() == 1"],
        "what is no message",
    ),
}


def test_wrong_programs_fail_with_the_reason(sandbox: Sandbox) -> None:
    tested = [TestedProgram(program, tests, "", "f") for program, tests, _ in WRONG.values()]
    for name, verdict, (_, _, said) in zip(WRONG, sandbox.test_many(tested), WRONG.values(), strict=True):
        assert not verdict.passed, name
        assert said in verdict.reason, (name, verdict.reason)


OBLIGING = """
class Obliging:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __contains__ = __instancecheck__ = __lt__
    def __sub__(self, other): return 0.0
    __rsub__ = __add__ = __radd__ = __mul__ = __rmul__ = __truediv__ = __mod__ = __pow__ = __sub__
    def __abs__(self): return 0.0
    def __round__(self, digits=None): return 3.5
    def __float__(self): return 3.5
    def __bool__(self): return True
    def __hash__(self): return hash(3.5)
    def __getattr__(self, name): return self
def f(x): return Obliging()
"""
QUESTIONS = [
    "f(2) == 3.5", "3.5 == f(2)", "not f(2) != 3.5", "f(2) is True", "f(2) <= 5", "f(2) >= 0", "abs(f(2) - 3.5) < 1e-6",
    "round(f(2), 2) == 3.5", "math.isclose(f(2), 3.5)", "float(f(2)) == 3.5", "f(2) in [3.5, 4]", "3.5 in f(2)",
    "[3.5] == [f(2)]", "(1, 3.5) == (1, f(2))", "{3.5: 1} == {f(2): 1}", "{f(2)} == {3.5}", "max(f(2), 3.5) == 3.5",
    "isinstance(f(2), float)", "type(f(2)) is float", "f(2).value == 3.5", "sorted([f(2), 4]) == [3.5, 4]",
    "json.dumps(f(2)) == '3.5'", "set(f(2)) == {3.5}", "f(2)[0] == 3.5", "sum([f(2)]) == 3.5",
]  # fmt: skip


def test_an_object_that_says_yes_to_every_question_passes_none(sandbox: Sandbox) -> None:
    """Whoever asks the program about an expected value would hear what it wants: these questions are never asked."""
    asked = [TestedProgram(OBLIGING, [f"assert {question}"], "import json, math", "f") for question in QUESTIONS]
    verdicts = sandbox.test_many(asked)
    assert [question for question, verdict in zip(QUESTIONS, verdicts, strict=True) if verdict.passed] == []


def test_a_program_that_hangs_costs_its_own_verdict_only(sandbox: Sandbox) -> None:
    hang, good = TestedProgram("while True: pass", ["assert f()"]), TestedProgram("def f(): return 1", ["assert f()"])
    with Sandbox(sandbox.backend, Limits(wall_seconds=0.5), workers=2, checked=False) as short:
        late = TestedProgram("import time\ndef f(): time.sleep(99)", ["assert f()"])
        verdicts = short.test_many([hang, good, late, good])
    assert [verdict.passed for verdict in verdicts] == [False, True, False, True]
    assert verdicts[0].reason == verdicts[2].reason == "timeout: not done after 0.5 s"


def test_the_program_never_sees_what_is_expected(sandbox: Sandbox) -> None:
    """It reports all it can find: its frames, objects, arguments, environment and descriptors."""
    spy = """
import gc, os, re, sys
def f(x):
    found = [repr(list(os.environ.items())), repr(sys.argv), repr(getattr(sys, 'orig_argv', []))]
    frame = sys._getframe()
    while frame:
        found += [repr(frame.f_locals), repr(list(frame.f_globals.items()))]
        frame = frame.f_back
    found += [repr(o) for o in gc.get_objects() if isinstance(o, (dict, list, tuple))]
    patterns = (''.join(['EXPEC', 'TED']), '\\\\b[0-9a-f]{32}\\\\b')
    return [pattern for pattern in patterns if any(re.search(pattern, text) for text in found)]
"""
    test = TestedProgram(spy, ["assert f('seen') == [], f('seen')", "assert f(1) != 'EXPECTED'"], "", "f")
    verdict = sandbox.test(test)
    assert verdict.passed, verdict.reason
