//! Templates on real guests: from packages, from a folder, from an archive, and a second time.

use std::fs;
use std::path::Path;
use std::process::Command;

use dormouse_vm_tests::{Daemon, FreshState, block_on};

/// A root filesystem of a shell and little else, from this machine's own files.
fn small_rootfs(root: &Path) {
    for program in ["/bin/bash", "/bin/cat", "/usr/bin/id"] {
        let needs = Command::new("ldd").arg(program).output().unwrap();
        let needs = String::from_utf8(needs.stdout).unwrap();
        let libraries = needs.split_whitespace().filter(|word| word.starts_with('/'));
        for file in libraries.chain([program]) {
            let to = root.join(file.trim_start_matches('/'));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(file, to).unwrap();
        }
    }
}

#[test]
fn a_root_filesystem_may_be_a_folder_or_an_archive_and_a_second_build_has_nothing_to_do() {
    block_on(async {
        let fresh = FreshState::new("templates").await;
        let daemon = Daemon::start(fresh.path()).await;
        let base = daemon.ok(&["template", "build", "base"]).await;
        assert!(base.starts_with("unchanged base:"), "{base}");

        let dir = tempfile::tempdir().unwrap();
        let (folder, archive) = (dir.path().join("root"), dir.path().join("root.tar.xz"));
        small_rootfs(&folder);
        let packed = Command::new("tar").arg("-C").arg(&folder).arg("-cJf").arg(&archive).arg(".").status().unwrap();
        assert!(packed.success());
        for (name, rootfs) in [("folder", &folder), ("archive", &archive)] {
            let build = ["template", "build", name, "--ram", "512M", "--rootfs", rootfs.to_str().unwrap()];
            let built = daemon.ok(&build).await;
            assert!(built.starts_with(&format!("built {name}: 512.0 MiB RAM")), "{built}");
            let hello = "id -un; echo $((6 * 7)) > /tmp/sum; cat /tmp/sum";
            let ran = daemon.ok(&["run", "-t", name, "--", "/bin/bash", "-c", hello]).await;
            assert_eq!(ran, "user\n42");
            let again = daemon.ok(&build).await;
            assert!(again.starts_with(&format!("unchanged {name}:")), "{again}");
        }

        // What is changed is seen.
        fs::write(folder.join("note"), "new").unwrap();
        let build = ["template", "build", "folder", "--ram", "512M", "--rootfs", folder.to_str().unwrap()];
        assert!(daemon.ok(&build).await.starts_with("built folder:"));
        assert_eq!(daemon.ok(&["run", "-t", "folder", "--", "/bin/cat", "/note"]).await, "new");

        let id = daemon.ok(&["create", "-t", "folder"]).await;
        let refused = daemon.cli(&["template", "rm", "folder"]).await;
        assert!(refused.code != Some(0) && refused.stderr.contains("used by 1 sandbox"), "{}", refused.stderr);
        daemon.ok(&["rm", &id]).await;
        daemon.ok(&["template", "rm", "folder", "archive"]).await;
        let left = daemon.ok(&["template", "ls", "--json"]).await;
        assert!(left.contains("base") && !left.contains("folder"), "{left}");
    });
}
