"""An NFS server of version 3 (RFC 1813) for one client: one folder of files, in memory, both protocols on one port."""

import socketserver
import struct
import sys
import threading
import time

NFS, MOUNT = 100003, 100005
ROOT = 1
OK, NOENT, NOTSUPP = 0, 2, 10004
REGULAR, FOLDER = 1, 2
LOCK = threading.Lock()
NAMES, CONTENTS, TIMES = {}, {}, {ROOT: time.time()}


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def u32(self):
        self.at += 4
        return struct.unpack_from(">I", self.data, self.at - 4)[0]

    def u64(self):
        return self.u32() << 32 | self.u32()

    def opaque(self):
        length = self.u32()
        found = self.data[self.at:self.at + length]
        self.at += -(-length // 4) * 4
        return found

    def handle(self):
        return struct.unpack(">Q", self.opaque())[0]


def u32(*values):
    return struct.pack(f">{len(values)}I", *values)


def u64(value):
    return struct.pack(">Q", value)


def opaque(data):
    return u32(len(data)) + data + b"\0" * (-len(data) % 4)


def attributes(file):
    size = 4096 if file == ROOT else len(CONTENTS[file])
    kind, mode = (FOLDER, 0o777) if file == ROOT else (REGULAR, 0o666)
    seconds = u32(int(TIMES[file]), int(TIMES[file] % 1 * 1e9))
    return u32(kind, mode, 1, 0, 0) + u64(size) + u64(size) + u32(0, 0) + u64(7) + u64(file) + seconds * 3


def after(file):
    return u32(1) + attributes(file) if file in TIMES else u32(0)


def changed(file):
    """What was before is not told."""
    return u32(0) + after(file)


def touch(*files):
    for file in files:
        TIMES[file] = time.time()


def set_size(call, file):
    """Takes the new size, and reads over the other new attributes."""
    for _ in range(3):
        if call.u32():
            call.u32()
    if call.u32():
        size = call.u64()
        CONTENTS[file] = CONTENTS[file][:size].ljust(size, b"\0")
    for _ in range(2):
        if call.u32() == 2:
            call.u64()
    touch(file)


def listing(call, plus):
    folder, cookie = call.handle(), call.u64()
    entries = [(b".", ROOT), (b"..", ROOT), *sorted(NAMES.items())]
    told = u32(OK) + after(folder) + u64(1)
    for number, (name, file) in list(enumerate(entries, 1))[cookie:]:
        told += u32(1) + u64(file) + opaque(name) + u64(number)
        if plus:
            told += after(file) + u32(1) + opaque(u64(file))
    return told + u32(0, 1)


def nfs(procedure, call):
    if procedure == 0:
        return b""
    if procedure in (16, 17):
        return listing(call, procedure == 17)
    file = call.handle()
    if file not in TIMES:
        return u32(70, 0, 0)
    if procedure == 1:
        return u32(OK) + attributes(file)
    if procedure == 2:
        if file != ROOT:
            set_size(call, file)
        return u32(OK) + changed(file)
    if procedure == 3:
        found = NAMES.get(call.opaque())
        return u32(OK) + opaque(u64(found)) + after(found) + after(file) if found else u32(NOENT) + after(file)
    if procedure == 4:
        return u32(OK) + after(file) + u32(call.u32())
    if procedure == 6:
        at, count = call.u64(), call.u32()
        piece = bytes(CONTENTS[file][at:at + count])
        return u32(OK) + after(file) + u32(len(piece), at + len(piece) >= len(CONTENTS[file])) + opaque(piece)
    if procedure == 7:
        at, count, _stable, piece = call.u64(), call.u32(), call.u32(), call.opaque()
        content = CONTENTS[file].ljust(at, b"\0")
        CONTENTS[file] = content[:at] + piece[:count] + content[at + count:]
        touch(file)
        return u32(OK) + changed(file) + u32(count, 2) + u64(1)
    if procedure == 8:
        name = call.opaque()
        new = NAMES.setdefault(name, max(TIMES) + 1)
        CONTENTS.setdefault(new, b"")
        touch(new, file)
        if call.u32() < 2:
            set_size(call, new)
        return u32(OK, 1) + opaque(u64(new)) + after(new) + changed(file)
    if procedure == 12:
        gone = NAMES.pop(call.opaque(), None)
        touch(file)
        return u32(OK if gone else NOENT) + changed(file)
    if procedure == 18:
        return u32(OK) + after(file) + u64(1 << 30) * 6 + u32(0)
    if procedure == 19:
        return u32(OK) + after(file) + u32(65536, 65536, 4096, 65536, 65536, 4096, 65536) + u64(1 << 40) + u32(0, 1, 0x1B)
    if procedure == 20:
        return u32(OK) + after(file) + u32(1, 255, 1, 1, 0, 1)
    if procedure == 21:
        return u32(OK) + changed(file) + u64(1)
    return u32(NOTSUPP, 0, 0, 0)


def mount(procedure, call):
    if procedure == 1:
        call.opaque()
        print("mounted", flush=True)
        return u32(OK) + opaque(u64(ROOT)) + u32(1, 1)
    return b""


def answer(data):
    call = Reader(data)
    number, _call, _version, program = call.u32(), call.u32(), call.u32(), call.u32()
    version, procedure = call.u32(), call.u32()
    for _ in range(2):
        call.u32()
        call.opaque()
    head = u32(number, 1, 0, 0, 0)
    served = {NFS: nfs, MOUNT: mount}.get(program)
    if not served:
        return head + u32(1)
    if version != 3:
        return head + u32(2, 3, 3)
    with LOCK:
        return head + u32(0) + served(procedure, call)


class Connection(socketserver.StreamRequestHandler):
    def handle(self):
        whole = b""
        while mark := self.rfile.read(4):
            length = struct.unpack(">I", mark)[0]
            whole += self.rfile.read(length & 0x7FFFFFFF)
            if length >> 31:
                told = answer(whole)
                self.wfile.write(u32(1 << 31 | len(told)) + told)
                self.wfile.flush()
                whole = b""


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Server(("127.0.0.1", int(sys.argv[1])), Connection).serve_forever()
