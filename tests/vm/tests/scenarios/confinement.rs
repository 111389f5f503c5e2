//! What a guest, and the QEMU around it, cannot do.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;

use dormouse_vm_tests::{block_on, host, sandbox, state_dir, vm_pid};

/// Tries to reach each address, and prints those that answered.
const KNOCK: &str = r#"
import socket, sys
def reached(kind, host, port):
    s = socket.socket(socket.AF_INET, kind)
    s.settimeout(3)
    try:
        s.connect((host, port))
        if kind == socket.SOCK_DGRAM:
            s.send(b'\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01')
            s.recv(512)
        return True
    except OSError:
        return False
tcp = [('10.0.2.2', int(sys.argv[1])), ('10.0.2.2', 22), ('10.0.2.3', 53), ('1.1.1.1', 443), ('10.0.2.4', 445)]
udp = [('10.0.2.3', 53), ('10.0.2.2', 53), ('8.8.8.8', 53)]
open_ones = [a for a in tcp if reached(socket.SOCK_STREAM, *a)] + [a for a in udp if reached(socket.SOCK_DGRAM, *a)]
print(open_ones, reached(socket.SOCK_STREAM, '127.0.0.1', 49983))
"#;

#[test]
fn a_guest_reaches_neither_this_machine_nor_anything_beyond() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        guest.sh(&format!("cat > /run/knock.py <<'END'\n{KNOCK}\nEND")).await;
        // That it can reach its own agent shows that the knocking works.
        assert_eq!(guest.sh(&format!("python3 /run/knock.py {port}")).await, "[] True");
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody knocked");
        host().await.kill(&info.id).await.unwrap();
    });
}

#[test]
fn a_vms_process_is_apart_from_the_daemon_and_confined() {
    block_on(async {
        let (info, _guest) = sandbox().await;
        let pid = vm_pid(&state_dir(), &info.id);
        let about = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", pid.as_raw_nonzero())).unwrap();
        let status = about("status");
        assert!(status.contains("Seccomp:\t2"), "{status}");
        assert_eq!(about("environ"), "", "nothing of the daemon's environment");
        assert_eq!(rustix::process::getpgid(Some(pid)).unwrap(), pid, "Ctrl-C in the daemon's terminal is not for it");
        host().await.kill(&info.id).await.unwrap();
        assert!(fs::metadata(format!("/proc/{}", pid.as_raw_nonzero())).is_err(), "it is gone with its sandbox");
    });
}
