"""Programs that try to reach anybody over a network or a socket. An escape: somebody hears them."""

ATTACKS = {
    "tcp": "s = socket.create_connection(('127.0.0.1', P['tcp']), 2); s.send(b'x'); escaped('connected')",
    "tcp_nonblocking": """
s = socket.socket(); s.setblocking(False); s.connect_ex(('127.0.0.1', P['tcp'])); time.sleep(0.2); s.send(b'x')
escaped('connected')
""",
    "udp": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', P['udp'])); escaped('sent')",
    "tcp_ipv6": "socket.create_connection(('::1', P['tcp']), 2); escaped('connected')",
    "unix_socket": """
s = socket.socket(socket.AF_UNIX); s.connect(P['unix']); s.send(b'x'); escaped('connected')
""",
    "abstract_socket": """
s = socket.socket(socket.AF_UNIX); s.connect('\\0' + P['abstract']); s.send(b'x'); escaped('connected')
""",
    "datagram_pair_to_abstract_name": """
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); a.sendto(b'x', '\\0' + P['abstract']); escaped('sent')
""",
    "listen": "s = socket.socket(); s.bind(('0.0.0.0', 0)); s.listen(); escaped('listens')",
    "raw_socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); escaped('raw socket')",
    "packet_socket": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW); escaped('packet socket')",
    "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); escaped('netlink socket')",
    "vsock": "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); escaped('vsock')",
    "resolve_a_name": "socket.getaddrinfo('example.org', 80); escaped('resolved')",
    "url": """
import urllib.request
urllib.request.urlopen(f"http://127.0.0.1:{P['tcp']}/", timeout=2); escaped('got')
""",
    "pass_a_descriptor": """
a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [1]); escaped('sent a descriptor')
""",
    "inherited_socket": """
for number in range(3, 64):
    try:
        s = socket.socket(fileno=os.dup(number))
        s.send(b'x')
        escaped(f'descriptor {number} is a socket that takes data')
    except OSError:
        pass
""",
}
