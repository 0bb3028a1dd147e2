"""Programs that try to take more memory, disk or output than they may. An escape: they got it."""

ATTACKS = {
    "bytes": "held = bytearray(b'1') * (1 << 30); escaped('1 GiB')",
    "many_small": """
held = []
while True: held.append([0] * 100_000)
""",
    "anonymous_map": """
m = mmap.mmap(-1, 1 << 30)
for at in range(0, 1 << 30, 4096): m[at] = 1
escaped('1 GiB')
""",
    "private_map": """
m = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); m[0] = 1; escaped('1 GiB')
""",
    "children": """
for _ in range(8):
    if os.fork() == 0: held = bytearray(b'1') * (100 << 20); time.sleep(2); os._exit(0)
escaped('8 children with 100 MiB each')
""",
    "memory_files": """
for number in range(40):
    n = os.memfd_create(str(number))
    for _ in range(30): os.write(n, b'x' * (1 << 20))
escaped('1.2 GiB in memory files')
""",
    "system_v_memory": """
n = libc.shmget(0x5EED, 1 << 20, 0o1600)
if n >= 0: escaped('segment')
""",
    "system_v_semaphore": "libc.semget(0x5EED, 1, 0o1600) >= 0 and escaped('semaphore')",
    "system_v_queue": "libc.msgget(0x5EED, 0o1600) >= 0 and escaped('queue')",
    "posix_memory": """
from multiprocessing import shared_memory
shared_memory.SharedMemory('redone_attack', create=True, size=1 << 20); escaped('segment')
""",
    "posix_queue": "libc.syscall(N['mq_open'], b'redone_attack', 0o102, 0o600, None) >= 0 and escaped('queue')",
    "pipes": """
import fcntl
for _ in range(30):
    r, w = os.pipe()
    fcntl.fcntl(w, 1031, 1 << 20)
escaped('30 MiB in pipes')
""",
    "locked_memory": "libc.mlockall(3) == 0 and escaped('locked')",
    "disk_flood": """
for number in range(200):
    with open(str(number), 'wb') as file: file.write(b'x' * (1 << 20))
    time.sleep(0.01)
escaped('200 MiB')
""",
    "one_large_file": """
with open('big', 'wb') as file:
    for _ in range(200): file.write(b'x' * (1 << 20))
escaped('200 MiB')
""",
    "reserved_file": "n = os.open('big', os.O_CREAT | 2); os.posix_fallocate(n, 0, 200 << 20); escaped('200 MiB')",
    "deleted_files": """
held = []
for number in range(50):
    n = os.open('f', os.O_CREAT | os.O_RDWR); os.unlink('f'); held.append(n)
    for _ in range(4): os.write(n, b'x' * (1 << 20))
    time.sleep(0.01)
escaped('200 MiB in files without a name')
""",
    "mapped_files_without_a_name": """
libc.mmap.restype = ctypes.c_void_p
for number in range(8):
    n = os.open('f', os.O_CREAT | os.O_RDWR); os.unlink('f'); os.write(n, b'x' * (12 << 20))
    libc.mmap(None, ctypes.c_size_t(4096), 3, 1, n, ctypes.c_long(0)); os.close(n)
    time.sleep(0.03)
escaped('96 MiB in files that only a map holds')
""",
    "files_that_never_had_a_name": """
held = []
for number in range(8):
    held.append(os.open('.', os.O_TMPFILE | os.O_RDWR)); os.write(held[-1], b'x' * (12 << 20))
    time.sleep(0.03)
escaped('96 MiB in files without a name')
""",
    "flood_of_a_folder_that_cannot_be_listed": """
os.mkdir('d', 0o300)
for number in range(1000):
    os.close(os.open(f'd/{number}', os.O_CREAT))
    if number % 100 == 0: time.sleep(0.03)
escaped('1000 files')
""",
    "flood_below_long_names": """
for _ in range(20): os.mkdir('a' * 250); os.chdir('a' * 250)
for number in range(1000):
    os.close(os.open(str(number), os.O_CREAT))
    if number % 100 == 0: time.sleep(0.03)
escaped('1000 files')
""",
    "inode_flood": """
for number in range(200_000): os.close(os.open(str(number), os.O_CREAT))
escaped('200,000 files')
""",
    "folder_flood": """
for number in range(50_000): os.mkdir(str(number))
escaped('50,000 folders')
""",
    "link_flood": """
for number in range(50_000): os.symlink('/', str(number))
escaped('50,000 links')
""",
    "stdout_flood": "while True: print('x' * 1000)",
    "stderr_flood": "while True: print('x' * 1000, file=sys.stderr)",
    "flood_of_both": """
threading.Thread(target=lambda: [os.write(2, b'e' * 4096) for _ in range(10**6)]).start()
while True: os.write(1, b'o' * 4096)
""",
    "descriptors": """
for _ in range(5000): os.dup(1)
escaped('5000 descriptors')
""",
    "recursion": "def f(): return f()\nf()",
    "unlimited_recursion": "sys.setrecursionlimit(10**9)\ndef f(): return [f()] + [f()]\nf()",
    "deep_value": "x = []\nfor _ in range(10**6): x = [x]\nrepr(x)",
    "large_number": "x = 9 ** 9 ** 9",
    "slow_pattern": "import re; re.match('(a+)+$', 'a' * 60 + 'b')",
    "packed_bomb": "import zlib; d = zlib.compress(bytes(1 << 26)); x = [zlib.decompress(d) for _ in range(64)]",
}
