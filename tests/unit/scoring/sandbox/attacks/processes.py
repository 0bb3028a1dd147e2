"""Programs that try to touch, make or outlive processes. An escape: they could, the canary stirs, or one is left."""

ATTACKS = {
    "fork": "os.fork() and escaped('forked')",
    "fork_bomb": """
for _ in range(600):
    if os.fork() == 0: time.sleep(20); os._exit(0)
escaped('600 children')
""",
    "vfork": "libc.vfork() > 0 and escaped('vfork')",
    "clone_by_syscall": "libc.syscall(N['clone'], 17, 0, 0, 0, 0) > 0 and escaped('clone')",
    "clone3_by_syscall": """
arguments = (ctypes.c_uint64 * 11)(); arguments[4] = 17
libc.syscall(435, arguments, 88) > 0 and escaped('clone3')
""",
    "clone_untraced_parent": "libc.syscall(N['clone'], 0x00008000 | 17, 0, 0, 0, 0) > 0 and escaped('sibling')",
    "exec": "os.execv('/bin/sh', ['sh', '-c', 'echo ESCAPED ran a shell'])",
    "execveat": """
words = (ctypes.c_char_p * 3)(b'echo', b'ESCAPED', None)
libc.syscall(N['execveat'], -100, b'/bin/echo', words, words, 0)
""",
    "spawn": "os.posix_spawn('/bin/true', ['true'], {}); escaped('spawned')",
    "subprocess": "import subprocess; escaped(subprocess.run(['id'], capture_output=True).stdout)",
    "system": "os.system('true') == 0 and escaped('ran a shell')",
    "popen": "escaped(os.popen('id').read())",
    "memfd_exec": """
n = os.memfd_create('x'); os.write(n, b'#!/bin/sh\\necho ESCAPED\\n'); os.execve(n, ['x'], {})
""",
    "written_exec": """
open('x', 'w').write('#!/bin/sh\\necho ESCAPED\\n'); os.chmod('x', 0o755); os.execv('./x', ['x'])
""",
    "huge_arguments": "os.execv('/bin/echo', ['echo', 'ESCAPED'] + ['x' * 100_000] * 10)",
    "daemonize": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: os.execvp('sleep', ['sleep', '61.2323'])
    os._exit(0)
""",
    "hold_stdout": """
if os.fork() == 0: os.setsid(); time.sleep(30); os._exit(0)
print('parent leaves')
""",
    "multiprocessing": """
import multiprocessing
multiprocessing.get_context('fork').Process(target=print).start(); escaped('started')
""",
    "signal_parent": "os.kill(os.getppid(), signal.SIGKILL) if os.getppid() else os.kill(1, signal.SIGKILL)",
    "signal_canary": "os.kill(P['canary'], signal.SIGUSR1); escaped('sent')",
    "signal_canary_by_thread": "libc.syscall(N['tgkill'], P['canary'], P['canary'], 10) == 0 and escaped('sent')",
    "signal_canary_by_tkill": "libc.syscall(N['tkill'], P['canary'], 10) == 0 and escaped('sent')",
    "signal_canary_by_queue": """
info = (ctypes.c_int * 32)(); info[0] = 10; info[2] = -1
libc.syscall(N['rt_sigqueueinfo'], P['canary'], 10, info) == 0 and escaped('sent')
""",
    "signal_canary_by_pidfd": """
n = os.pidfd_open(P['canary']); signal.pidfd_send_signal(n, signal.SIGUSR1); escaped('sent')
""",
    "signal_canary_by_owner": """
import fcntl
a, b = socket.socketpair(); fcntl.fcntl(a, fcntl.F_SETOWN, P['canary']); fcntl.fcntl(a, 10, signal.SIGUSR1)
fcntl.fcntl(a, fcntl.F_SETFL, os.O_ASYNC); b.send(b'x'); escaped('sent')
""",
    "signal_all": "os.kill(-1, signal.SIGKILL)",
    "signal_group": "os.killpg(0, signal.SIGKILL)",
    "queued_signals": """
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
for _ in range(2000): os.kill(os.getpid(), 40)
taken = 0
while signal.sigtimedwait([40], 0): taken += 1
if taken > 1000: escaped(f'{taken} signals of the user wait')
""",
    "stop_itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "ignore_signals": """
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
""",
    "infinite_loop": "while True: pass",
    "sleep": "time.sleep(1000)",
    "sleep_in_exit_handler": "import atexit; atexit.register(time.sleep, 1000)",
    "endless_thread": """
threading.Thread(target=time.sleep, args=(1000,)).start()
""",
    "thread_bomb": """
for _ in range(5000): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
escaped('5000 threads')
""",
    "thread_bomb_with_small_stacks": """
threading.stack_size(32768)
for _ in range(1000): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
escaped('1000 threads')
""",
    "thread_bomb_by_clone": """
if os.uname().machine == 'x86_64':  # clone; the thread: pause for ever, on a stack that all share
    code = mmap.mmap(-1, 4096, prot=7)
    code.write(bytes.fromhex('b838000000' '0f05' '85c0' '7401' 'c3' 'b822000000' '0f05' 'ebf7'))
    stack = mmap.mmap(-1, 65536)
    clone = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_long] * 5)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    top = ctypes.addressof(ctypes.c_char.from_buffer(stack)) + 60000
    for number in range(1000):
        if clone(0x10D00, top, 0, 0, 0) < 0: os._exit(0)
        if number % 100 == 99: time.sleep(0.03)
    escaped('1000 threads')
""",
    "ptrace_parent": "libc.ptrace(16, os.getppid(), 0, 0) == 0 and escaped('attached')",
    "ptrace_canary": "libc.ptrace(16, P['canary'], 0, 0) == 0 and escaped('attached')",
    "read_memory_of_canary": """
piece = ctypes.create_string_buffer(8); one = (ctypes.c_void_p * 2)(ctypes.addressof(piece), 8)
libc.process_vm_readv(P['canary'], one, 1, one, 1, 0) >= 0 and escaped('read')
""",
    "write_memory_of_parent": """
piece = ctypes.create_string_buffer(8); one = (ctypes.c_void_p * 2)(ctypes.addressof(piece), 8)
libc.process_vm_writev(os.getppid(), one, 1, one, 1, 0) >= 0 and escaped('wrote')
""",
    "compare_with_parent": "libc.syscall(N['kcmp'], os.getpid(), os.getppid(), 1, 0, 0) >= 0 and escaped('compared')",
    "take_descriptor_of_parent": """
n = libc.syscall(434, os.getppid() or 1, 0)
if n >= 0 and libc.syscall(438, n, 1, 0) >= 0: escaped('took it')
""",
    "limits_of_canary": "resource.prlimit(P['canary'], resource.RLIMIT_NOFILE, (3, 3)); escaped('set')",
    "raise_own_limits": """
for name in ('RLIMIT_AS', 'RLIMIT_CPU', 'RLIMIT_FSIZE', 'RLIMIT_CORE'):
    try:
        resource.setrlimit(getattr(resource, name), (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        escaped(name)
    except (OSError, ValueError): pass
""",
    "priority": "os.setpriority(os.PRIO_PROCESS, 0, -10); escaped('faster')",
    "priority_of_canary": "os.setpriority(os.PRIO_PROCESS, P['canary'], 19); escaped('slowed the canary')",
    "affinity_of_canary": "os.sched_setaffinity(P['canary'], [0]); escaped('bound the canary')",
    "realtime": "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)); escaped('real time')",
    "death_signal_off": "libc.prctl(1, 0, 0, 0, 0) == 0 and escaped('would outlive its keeper')",
    "become_subreaper": "libc.prctl(36, 1, 0, 0, 0) == 0 and escaped('reaper')",
}
