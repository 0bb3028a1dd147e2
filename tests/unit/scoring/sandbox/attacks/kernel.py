"""Programs that try doors of the kernel. An escape: one opens."""

ATTACKS = {
    "user_namespace": "libc.unshare(0x10000000) == 0 and escaped('user namespace')",
    "user_namespace_and_mount": """
if libc.unshare(0x10020000) == 0 and libc.mount(b'x', b'.', b'tmpfs', 0, None) == 0: escaped('mounted')
""",
    "clone_user_namespace": "libc.syscall(N['clone'], 0x10000000 | 17, 0, 0, 0, 0) > 0 and escaped('child')",
    "thread_in_namespace": "libc.syscall(N['clone'], 0x10000000 | 0x10900, 0, 0, 0, 0) > 0 and escaped('thread')",
    "join_namespace": "n = os.open('/proc/1/ns/net', 0); libc.setns(n, 0) == 0 and escaped('joined')",
    "mount": "libc.mount(b'x', b'.', b'tmpfs', 0, None) == 0 and escaped('mounted')",
    "bind_mount": "libc.mount(P['folder'].encode(), b'.', None, 4096, None) == 0 and escaped('bound')",
    "unmount": "libc.umount2(os.getcwd().encode(), 2) == 0 and escaped('unmounted')",
    "new_mount_api": "libc.syscall(430, b'tmpfs', 0) >= 0 and escaped('fsopen')",
    "open_tree": "libc.syscall(428, -100, b'/', 1) >= 0 and escaped('open_tree')",
    "pivot_root": "libc.syscall(N['pivot_root'], b'.', b'.') == 0 and escaped('pivoted')",
    "set_user": "os.setuid(0); os.getuid() == 0 and P['user'] != 0 and escaped('root')",
    "set_other_user": "os.setresuid(1, 1, 1); escaped('another user')",
    "set_groups": "os.setgroups([0]); escaped('groups')",
    "capabilities": """
header = (ctypes.c_uint32 * 2)(0x20080522, 0); data = (ctypes.c_uint32 * 6)(*([0xFFFFFFFF] * 6))
libc.capset(header, data) == 0 and escaped('capabilities')
""",
    "setuid_file": "open('s', 'w').close(); os.chmod('s', 0o4755); os.execv('s', ['s']); escaped('ran')",
    "core_pattern": "open('/proc/sys/kernel/core_pattern', 'w').write('|/bin/sh'); escaped('wrote')",
    "program_of_core_pattern": """
if resource.getrlimit(resource.RLIMIT_CORE)[1] != 1: escaped('a crash starts the program of a core pattern')
""",
    "host_name_is_told": "os.path.isdir('/box') and os.uname().nodename == P['host'] and escaped('its name')",
    "kernel_settings": "open('/proc/sys/kernel/hostname', 'w').write('pwned'); escaped('wrote')",
    "sysrq": "open('/proc/sysrq-trigger', 'w'); escaped('opened')",
    "oom_score": "open('/proc/self/oom_score_adj', 'w').write('-1000'); escaped('wrote')",
    "write_sys": """
for place in ('/sys/kernel/uevent_helper', '/sys/fs/cgroup/cgroup.procs', '/sys/fs/cgroup/memory/tasks'):
    try:
        open(place, 'w').write('1')
        escaped(place)
    except OSError: pass
""",
    "make_cgroup": """
for place in ('/sys/fs/cgroup', '/sys/fs/cgroup/memory', '/sys/fs/cgroup/pids', '/sys/fs/cgroup/unified'):
    try:
        os.mkdir(place + '/redone_attack')
        escaped(place)
    except OSError: pass
""",
    "module": "libc.syscall(N['finit_module'], 0, b'', 0) == 0 and escaped('loaded')",
    "kexec": "libc.syscall(N['kexec_load'], 0, 0, 0, 0) == 0 and escaped('kexec')",
    "reboot": "libc.reboot(0) == 0 and escaped('reboot')",
    "swap": "libc.swapoff(b'/swap') == 0 and escaped('swap')",
    "host_name": "socket.sethostname('pwned'); escaped('renamed the host')",
    "clock": "time.clock_settime(time.CLOCK_REALTIME, 0); escaped('set the clock')",
    "clock_adjust": "libc.syscall(N['adjtimex'], ctypes.create_string_buffer(256)) >= 0 and escaped('clock')",
    "kernel_log": "libc.klogctl(3, ctypes.create_string_buffer(100), 100) > 0 and escaped('read the log')",
    "accounting": "libc.acct(b'log') == 0 and escaped('accounting')",
    "bpf": "libc.syscall(N['bpf'], 0, ctypes.create_string_buffer(64), 64) >= 0 and escaped('bpf')",
    "perf_event": """
a = ctypes.create_string_buffer(128); a[4] = 128
libc.syscall(N['perf_event_open'], a, 0, -1, -1, 0) >= 0 and escaped('perf')
""",
    "userfaultfd": "libc.syscall(N['userfaultfd'], 1) >= 0 and escaped('userfaultfd')",
    "io_uring": "libc.syscall(425, 4, ctypes.create_string_buffer(120)) >= 0 and escaped('io_uring')",
    "add_key": "libc.syscall(N['add_key'], b'user', b'redone_attack', b'x', 1, -4) >= 0 and escaped('kept a key')",
    "keyring": "libc.syscall(N['keyctl'], 0, -4, 1) >= 0 and escaped('keyring')",
    "personality": "libc.personality(0x0040000) >= 0 and escaped('personality')",
    "new_seccomp_filter": "libc.syscall(N['seccomp'], 1, 0, None) == 0 and escaped('filter')",
    "fanotify": "libc.fanotify_init(0, 0) >= 0 and escaped('fanotify')",
    "inotify": "libc.inotify_init() >= 0 and escaped('inotify')",
    "open_by_handle": "libc.open_by_handle_at(-100, ctypes.create_string_buffer(128), 0) >= 0 and escaped('opened')",
    "quota": "libc.quotactl(0x800001, None, 0, None) == 0 and escaped('quota')",
    "memory_policy": "libc.syscall(N['set_mempolicy'], 1, None, 0) == 0 and escaped('policy')",
    "dumpable": "libc.prctl(4, 1, 0, 0, 0) == 0 and escaped('dumpable')",
    "terminal_input": "import fcntl; fcntl.ioctl(0, 0x5412, b'x'); escaped('typed')",
    "calls_of_another_machine": """
if os.uname().machine == 'x86_64':  # mov eax, 20 (getpid of 32 bits); int 0x80; ret
    code = mmap.mmap(-1, 4096, prot=7); code.write(bytes.fromhex('b814000000cd80c3'))
    at = ctypes.addressof(ctypes.c_char.from_buffer(code))
    got = ctypes.CFUNCTYPE(ctypes.c_int)(at)()
    escaped(f'a 32-bit call gave {got}')
""",
    "calls_of_x32": "os.uname().machine == 'x86_64' and libc.syscall(0x40000000 | 39) > 0 and escaped('an x32 call')",
    "unknown_call": "libc.syscall(999) >= 0 and escaped('call 999')",
}
