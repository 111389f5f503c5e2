//! Volumes, by the NFS client of a real guest's kernel. The server runs in the guest too, since a guest reaches nothing else.

use std::time::Duration;

use dormouse_lifecycle::PauseOptions;
use dormouse_vm_tests::{Guest, block_on, host, sandbox};

const SERVER: &str = include_str!("nfs_server.py");
const PLACE: &str = "/mnt/volume";

async fn serve(guest: &Guest) {
    guest.sh(&format!("cat > /root/server.py << 'END'\n{SERVER}\nEND")).await;
    guest.sh("setsid python3 /root/server.py 2049 > /root/mounts 2>&1 < /dev/null &").await;
    let listens = "(exec 3<> /dev/tcp/127.0.0.1/2049) 2> /dev/null";
    guest.sh(&format!("for i in $(seq 600); do {listens} && exit 0; sleep 0.1; done; cat /root/mounts; exit 1")).await;
}

async fn want(guest: &Guest, life: &str) {
    let volume = serde_json::json!({"nfs_target": "127.0.0.1:/export", "path": PLACE});
    guest.init(&serde_json::json!({"lifecycleID": life, "volumeMounts": [volume]}).to_string()).await;
}

/// What is mounted at the place, and how often the server was asked for a mount.
async fn mounted(guest: &Guest) -> (String, usize) {
    let source = guest.sh(&format!("awk '$2 == \"{PLACE}\" {{ print $1, $3 }}' /proc/mounts")).await;
    (source, guest.sh("cat /root/mounts").await.matches("mounted").count())
}

#[test]
fn a_volume_is_mounted_by_the_guests_kernel_and_outlasts_a_pause() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let host = host().await;
        assert_eq!(guest.sh("grep -c '^nfs ' /proc/modules || true").await, "0", "not before it is needed");
        serve(&guest).await;
        want(&guest, "first").await;
        assert_eq!(mounted(&guest).await, ("127.0.0.1:/export nfs".into(), 1));
        guest
            .sh(&format!("cd {PLACE}; echo kept > file; head -c 300000 /dev/urandom | tee large | sha256sum > sum"))
            .await;

        host.pause(&info.id, PauseOptions::default()).await.unwrap();
        host.connect(&info.id, Duration::from_secs(600)).await.unwrap();
        let guest = Guest::of(host, &info.id).await;
        assert_eq!(mounted(&guest).await, ("127.0.0.1:/export nfs".into(), 1), "what was mounted is as it was");
        assert_eq!(guest.sh(&format!("cd {PLACE}; echo more >> file; cat file")).await, "kept\nmore");

        want(&guest, "second").await;
        assert_eq!(mounted(&guest).await, ("127.0.0.1:/export nfs".into(), 2), "anew in another life");
        let read = guest.sh(&format!("cd {PLACE}; ls; cat file; sha256sum < large | cmp - sum && echo same")).await;
        assert_eq!(read, "file\nlarge\nsum\nkept\nmore\nsame");
        guest.init(r#"{"volumeMounts":[]}"#).await;
        assert_eq!(mounted(&guest).await.0, "");
        host.kill(&info.id).await.unwrap();
    });
}
