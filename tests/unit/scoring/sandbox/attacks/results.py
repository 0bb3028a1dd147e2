"""Wrong programs that try to pass a unit test all the same. An escape: they pass."""

TESTS = ["assert answer(20) == 'EXPECTED-' + str(20 + 22)", "assert answer(1) == 'EXPECTED-23'"]

ATTACKS = {
    "wrong": "def answer(n): return 'EXPECTED-42'",
    "says_passed": "print('PASSED'); print('1 passed'); os._exit(0)",
    "exits": "sys.exit(0)",
    "exits_in_call": "def answer(n): os._exit(0)",
    "raises_exit_in_call": "def answer(n): raise SystemExit(0)",
    "kills_itself": "def answer(n): os.kill(os.getpid(), 9)",
    "exit_handler": "import atexit; atexit.register(os._exit, 0); sys.exit()",
    "nothing": "pass",
    "not_callable": "answer = 'EXPECTED-42'",
    "wrong_syntax": "def answer(n) return",
    "always_equal": """
class Equal:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
def answer(n): return Equal()
""",
    "text_that_is_always_equal": """
class Equal(str):
    def __eq__(self, other): return True
    __hash__ = str.__hash__
def answer(n): return Equal('x')
""",
    "number_that_is_always_equal": """
class Equal(int):
    def __eq__(self, other): return True
def answer(n): return Equal(3)
""",
    "type_that_answers_for_all": """
class Meta(type):
    def __eq__(cls, other): return True
    def __instancecheck__(cls, other): return True
class Equal(metaclass=Meta): pass
def answer(n): return Equal
""",
    "frames": """
def answer(n):
    frame = sys._getframe()
    while frame:
        for values in (frame.f_globals, frame.f_locals):
            for value in list(values.values()):
                if 'EXPEC' + 'TED-' in repr(value) or 'no' + 'nce' in repr(value): return 'EXPEC' 'TED-' + str(n + 22)
        frame = frame.f_back
    return None
""",
    "garbage": """
import gc
def answer(n):
    found = [o for o in gc.get_objects() if isinstance(o, dict) and ('no' + 'nce' in o or 'te' + 'sts' in o)]
    return 'EXPEC' 'TED-' + str(n + 22) if found else None
""",
    "arguments": """
def answer(n):
    text = ' '.join(sys.argv) + ' '.join(getattr(sys, 'orig_argv', []))
    return 'EXPEC' 'TED-' + str(n + 22) if 'EXPEC' + 'TED' in text else None
""",
    "verdict_on_every_descriptor": """
import json
line = json.dumps({'nonce': '', 'passed': True, 'reason': ''}).encode()
for number in range(64):
    try: os.write(number, line)
    except OSError: pass
""",
    "answers_ahead": """
import struct
def frame(text): return struct.pack('>I', len(text)) + text
replies = frame(b'["l","value","EXPECTED-42",["d"]]') * 5
for number in range(3, 20):
    try: os.write(number, replies)
    except OSError: pass
def answer(n): return 'EXPECTED-42'
""",
    "claims_to_be_a_module": """
import struct
text = b'["l","value",["d",["answer",["l","module","operator"]]],["d"]]'
for number in range(3, 20):
    try: os.write(number, struct.pack('>I', len(text)) + text)
    except OSError: pass
time.sleep(0.2)
""",
    "large_answer": "def answer(n): return 'x' * (100 << 20)",
    "deep_answer": """
def answer(n):
    x = []
    for _ in range(100_000): x = [x]
    return x
""",
    "endless_answer": "def answer(n):\n    while True: pass",
    "endless_sequence": "def answer(n):\n    while True: yield 'EXPECTED-42'",
    "builtins_of_the_tests": """
import builtins
builtins.str = lambda x: '42'; builtins.AssertionError = Exception
def answer(n): return 'EXPECTED-42'
""",
    "other_answer_each_time": """
answers = iter(['EXPECTED-41', 'EXPECTED-42'] * 10)
def answer(n): return next(answers)
""",
    "raises_what_tests_expect": "def answer(n): raise AssertionError",
    "traces": "import threading; threading.settrace(print); sys.settrace(print)\ndef answer(n): return None",
    "half_characters": "def answer(n): return '\\ud800'",
}

OTHER_TESTS = {
    "class_with_a_distance_of_nothing": (
        ["assert abs(answer(20) - 42.5) < 1e-6"],
        """
class answer:
    def __init__(self, n): pass
    def __sub__(self, other): return 0
    __rsub__ = __add__ = __mul__ = __truediv__ = __sub__
    def __abs__(self): return 0
    def __float__(self): return 42.5
    def __lt__(self, other): return True
""",
    ),
    "object_of_a_class_with_a_distance_of_nothing": (
        ["assert abs(Answer(20).area() - 42.5) < 1e-6"],
        """
class Area:
    def __sub__(self, other): return 0
class Answer:
    def __init__(self, n): pass
    def area(self): return Area()
    def __sub__(self, other): return 0
""",
    ),
    "class_with_methods_of_a_text": (
        ["assert answer(20).startswith('EXPECTED')", "assert answer(1).endswith('23')"],
        """
class answer:
    def __init__(self, n): pass
    def startswith(self, text): return True
    endswith = startswith
""",
    ),
    "ends_the_loop_of_the_test": (
        ["assert all(map(lambda pair: answer(pair[0]) == pair[1], [(20, 42), (1, 23)]))"],
        "def answer(n): raise StopIteration",
    ),
    "brings_the_module_that_compares": (
        ["assert math.isclose(answer(20), 42.5)"],
        """
class math:
    isclose = staticmethod(lambda *values: True)
def answer(n): return 0
""",
    ),
    "says_that_a_module_is_another": (
        ["assert math.isclose(answer(20), 42.5)"],
        """
import types
math = types.ModuleType('operator'); math.isclose = lambda *values: True
def answer(n): return 0
""",
    ),
    "number_with_a_truth_of_its_own": (
        ["assert (answer(20) == 42) is True", "assert not (answer(20) != 42)"],
        """
class Truth:
    def __bool__(self): return True
class Number(float):
    def __eq__(self, other): return Truth()
    def __ne__(self, other): return False
def answer(n): return Number(1)
""",
    ),
    "empty_message": (
        ["try: answer(20)\nexcept IndexError: pass"],
        """
import struct
def answer(n):
    for number in range(3, 20):
        try: os.write(number, struct.pack('>I', 5) + b'["l"]')
        except OSError: pass
    os._exit(0)
""",
    ),
}
"""Attacks on tests of other forms, as benchmarks have them: the tests, then the program."""
