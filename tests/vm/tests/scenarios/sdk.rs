//! The scenarios of the agent's API that run outside a VM too (`tests/sdk`), in a real guest.

use std::path::Path;

use dormouse_vm_tests::{block_on, host, sandbox};

#[test]
fn the_published_sdk_drives_a_real_guest() {
    block_on(async {
        let (info, guest) = sandbox().await;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/test-sdk");
        let tested = tokio::process::Command::new(script)
            .arg("--durations=5")
            .env("DORMOUSE_GUEST_URL", &guest.base)
            .env("DORMOUSE_GUEST_TOKEN", &guest.token)
            .output()
            .await
            .unwrap();
        println!("{}", String::from_utf8_lossy(&tested.stdout));
        assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
        host().await.kill(&info.id).await.unwrap();
    });
}
