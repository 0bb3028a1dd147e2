"""Programs that try to read, write or leave something outside their folder. An escape: they could, or it is there."""

ATTACKS = {
    "read_secret": "escaped(open(P['folder'] + '/secret.txt').read())",
    "read_secret_by_posix": "import posix; escaped(posix.read(posix.open(P['folder'] + '/secret.txt', 0), 50))",
    "read_secret_by_libc": """
n = libc.open((P['folder'] + '/secret.txt').encode(), 0)
if n >= 0: escaped(os.read(n, 50))
""",
    "read_secret_upwards": "escaped(open('../' * 20 + P['folder'] + '/secret.txt').read())",
    "read_secret_through_symlink": "os.symlink(P['folder'] + '/secret.txt', 'link'); escaped(open('link').read())",
    "read_secret_through_folder_link": "os.symlink(P['folder'], 'link'); escaped(open('link/secret.txt').read())",
    "read_secret_through_hard_link": "os.link(P['folder'] + '/secret.txt', 'hard'); escaped(open('hard').read())",
    "read_secret_by_code": "import runpy; runpy.run_path(P['folder'] + '/secret.txt'); escaped('ran it')",
    "list_folder": "escaped(os.listdir(P['folder']))",
    "write_file": "open(P['folder'] + '/new', 'w').write('x'); escaped('wrote')",
    "write_through_symlink": "os.symlink(P['folder'] + '/new', 'link'); open('link', 'w').write('x'); escaped('wrote')",
    "overwrite_victim": "open(P['folder'] + '/victim', 'w').write('x'); escaped('wrote')",
    "truncate_victim": "os.truncate(P['folder'] + '/victim', 0); escaped('truncated')",
    "delete_victim": "os.unlink(P['folder'] + '/victim'); escaped('deleted')",
    "rename_victim": "os.rename(P['folder'] + '/victim', P['folder'] + '/other'); escaped('renamed')",
    "chmod_victim": "os.chmod(P['folder'] + '/victim', 0o777); escaped('chmod')",
    "chown_victim": "os.chown(P['folder'] + '/victim', 0, 0); escaped('chown')",
    "touch_victim": "os.utime(P['folder'] + '/victim', (1, 1)); escaped('times')",
    "attribute_of_victim": "os.setxattr(P['folder'] + '/victim', 'user.x', b'x'); escaped('attribute')",
    "remove_tree": "import shutil; shutil.rmtree(P['folder']); escaped('removed')",
    "make_folder": "os.mkdir(P['folder'] + '/dir'); escaped('made')",
    "passwords": "escaped(open('/etc/passwd').read()[:20])",
    "shadow": "escaped(open('/etc/shadow').read()[:20])",
    "homes": """
for place in ('/root', '/home'):
    names = [name for name in os.listdir(place) if name != '.pyenv']
    if names: escaped(names)
""",
    "write_usr": "open('/usr/lib/pwned', 'w'); escaped('wrote')",
    "write_python": """
import json.decoder
with open(json.decoder.__file__, 'a') as file: file.write('#')
escaped('wrote')
""",
    "write_dev_shm": "open('/dev/shm/pwned', 'w'); escaped('wrote')",
    "write_dev": "open('/dev/pwned', 'w'); escaped('wrote')",
    "write_var_tmp": "open('/var/tmp/pwned', 'w'); escaped('wrote')",
    "write_root": "open('/pwned', 'w'); escaped('wrote')",
    "proc_of_others": """
for number in os.listdir('/proc'):
    if number.isdigit() and int(number) not in (os.getpid(), os.getppid()):
        escaped(open(f'/proc/{number}/cmdline').read())
""",
    "environment_of_parent": "escaped(open(f'/proc/{os.getppid()}/environ').read())",
    "environment": "if 'SECRET_TOKEN' in os.environ: escaped(os.environ['SECRET_TOKEN'])",
    "environment_by_libc": """
libc.getenv.restype = ctypes.c_char_p
if libc.getenv(b'SECRET_TOKEN'): escaped('the token')
""",
    "root_of_parent": "escaped(os.listdir(f'/proc/{os.getppid()}/root' + P['folder']))",
    "root_of_init": "escaped(os.listdir('/proc/1/root' + P['folder']))",
    "memory_of_parent": "open(f'/proc/{os.getppid()}/mem', 'rb'); escaped('opened')",
    "descriptors": """
for number in range(3, 64):
    try:
        os.fstat(number)
        escaped(f'descriptor {number} is open: {os.read(number, 1)}')
    except OSError:
        pass
""",
    "times_of_devices": """
for name in ('null', 'zero', 'full', 'random', 'urandom'):
    try:
        os.utime('/dev/' + name)
        escaped('the times of ' + name)
    except OSError: pass
""",
    "chroot": "os.mkdir('jail'); os.chroot('jail'); escaped('chroot')",
    "block_device": "os.mknod('disk', 0o60600, os.makedev(8, 0)); escaped('made a device')",
    "kernel_memory": "open('/dev/mem', 'rb'); escaped('opened')",
    "terminal": "os.open('/dev/tty', os.O_RDWR); escaped('opened the terminal')",
    "docker_socket": "os.stat('/var/run/docker.sock'); escaped('sees it')",
    "core_dump": "os.chdir(os.getcwd()); ctypes.string_at(0)",
    "left_in_work_folder": "open('left', 'w').write('x' * 1000); os.mkdir('d'); os.symlink('/', 'd/link')",
    "locked_folders": """
os.makedirs('a/b/c'); open('a/b/c/f', 'w').close(); os.mkdir('closed', 0)
os.symlink(P['folder'], 'a/link')
""",
    "deep_folders": """
for _ in range(900):
    os.mkdir('d'); os.chdir('d')
""",
    "strange_names": """
for name in (b'\\xff\\xfe', b'\\n', b'-rf', b' ', b'a' * 255): os.close(os.open(name, os.O_CREAT))
""",
}
