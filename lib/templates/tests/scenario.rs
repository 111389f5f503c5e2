//! Whole builds from small sources: what comes out, what is reused, what is contained, what a cancel leaves.

mod world;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use dormouse_guest_mem::Bytes;
use dormouse_templates::{BuildError, RootfsSource};
use world::{Recorder, World, debugfs, fsck, unpack_cpio};

#[test]
fn a_directory_becomes_a_clean_base_disk_with_owners_modes_and_attributes_kept() {
    let world = World::new();
    let artifacts = world.build(&world.directory_recipe(), &Recorder::default()).unwrap();
    fsck(&artifacts.base_disk);
    fsck(&artifacts.overlay_disk);
    let stat = debugfs(&artifacts.base_disk, "stat /usr/bin/tool");
    assert!(stat.contains("Mode:  04755") && stat.contains("User:    42") && stat.contains("Group:    43"), "{stat}");
    assert!(stat.contains("user.colour"), "{stat}");
    assert!(debugfs(&artifacts.base_disk, "stat /dev/zero").contains("05"), "a device stays a device");
    let passwd = debugfs(&artifacts.base_disk, "cat /etc/passwd");
    assert!(passwd.contains("user:x:1000:1000::/home/user:/bin/sh"), "{passwd}");
    assert!(debugfs(&artifacts.base_disk, "stat /home/user").contains("User:  1000"));
    assert!(debugfs(&artifacts.base_disk, "cat /etc/sudoers.d/user").contains("NOPASSWD"));
    assert_eq!(debugfs(&artifacts.base_disk, "cat /etc/machine-id"), "");
    assert!(debugfs(&artifacts.base_disk, "stat /etc/ssh/ssh_host_key").contains("File not found"));
    assert!(world.rootfs().join("etc/ssh/ssh_host_key").exists(), "the source is left as it was");
}

#[test]
fn an_empty_overlay_is_large_for_the_guest_and_tiny_on_the_host() {
    let world = World::new();
    let artifacts = world.build(&world.directory_recipe(), &Recorder::default()).unwrap();
    let meta = fs::metadata(&artifacts.overlay_disk).unwrap();
    assert_eq!(Bytes(meta.len()), world.directory_recipe().disk);
    assert!(meta.blocks() * 512 < 512 << 10, "{} bytes are allocated", meta.blocks() * 512);
}

#[test]
fn the_initramfs_holds_the_agent_and_the_modules_in_loading_order() {
    let world = World::new();
    let artifacts = world.build(&world.directory_recipe(), &Recorder::default()).unwrap();
    assert_eq!(artifacts.kernel_release, "6.9-test");
    let root = unpack_cpio(&artifacts.initramfs, &world.path("unpacked"));
    assert_eq!(fs::read(root.join("init")).unwrap(), fs::read(world.agent()).unwrap());
    assert_eq!(fs::metadata(root.join("init")).unwrap().permissions().mode() & 0o7777, 0o755);
    let console = fs::metadata(root.join("dev/console")).unwrap();
    assert!(console.file_type().is_char_device() && console.rdev() == 5 << 8 | 1);
    let list = fs::read_to_string(root.join("dormouse/modules.list")).unwrap();
    assert_eq!(list.lines().collect::<Vec<_>>(), ["virtio_pci.ko", "virtio_blk.ko", "failover.ko", "virtio_net.ko"]);
    for name in list.lines() {
        assert!(fs::read(root.join("dormouse/modules").join(name)).unwrap().starts_with(b"\x7fELF"));
    }
}

#[test]
fn the_base_disk_holds_the_modules_for_volumes_in_loading_order_and_none_that_is_loaded_at_boot() {
    let world = World::new();
    let disk = world.build(&world.directory_recipe(), &Recorder::default()).unwrap().base_disk;
    let list = debugfs(&disk, "cat /usr/lib/dormouse/volumes/modules.list");
    assert_eq!(list.lines().collect::<Vec<_>>(), ["sunrpc.ko", "nfs.ko", "nfsv3.ko"]);
    for name in list.lines() {
        let stat = debugfs(&disk, &format!("stat /usr/lib/dormouse/volumes/modules/{name}"));
        assert!(stat.contains("Mode:  0644"), "{stat}");
    }
}

#[test]
fn a_second_build_does_no_work_and_a_change_remakes_only_what_it_touches() {
    let world = World::new();
    let recipe = world.directory_recipe();
    let first = world.build(&recipe, &Recorder::default()).unwrap();
    let again = Recorder::default();
    assert_eq!(world.build(&recipe, &again).unwrap(), first);
    assert_eq!(again.unchanged(), ["kernel", "initramfs", "base disk", "overlay disk"]);

    fs::write(world.agent(), "another agent").unwrap();
    let new_agent = Recorder::default();
    let second = world.build(&recipe, &new_agent).unwrap();
    assert_eq!(new_agent.unchanged(), ["kernel", "base disk", "overlay disk"]);
    assert_ne!(second.id, first.id);

    fs::write(world.rootfs().join("etc/motd"), "new").unwrap();
    let new_file = Recorder::default();
    let third = world.build(&recipe, &new_file).unwrap();
    assert_eq!(new_file.unchanged(), ["kernel", "initramfs", "overlay disk"]);
    assert_ne!(third.base_disk, second.base_disk);

    fs::write(world.path("vmlinuz"), "another kernel").unwrap();
    let new_kernel = Recorder::default();
    world.build(&recipe, &new_kernel).unwrap();
    assert_eq!(new_kernel.unchanged(), ["overlay disk"], "the base disk has modules of the kernel");
}

#[test]
fn every_usual_compression_of_an_archive_gives_the_same_files() {
    let world = World::new();
    for (option, name) in
        [("--no-auto-compress", "r.tar"), ("-z", "r.tar.gz"), ("-J", "r.tar.xz"), ("--zstd", "r.tar.zst")]
    {
        let archive = world.path(name);
        let mut tar = Command::new("tar");
        tar.arg(option).args(["--xattrs", "--numeric-owner", "-cf"]).arg(&archive).arg("-C").arg(world.rootfs());
        assert!(tar.arg(".").status().unwrap().success());
        let artifacts = world.build(&world.recipe(RootfsSource::Tar(archive)), &Recorder::default()).unwrap();
        fsck(&artifacts.base_disk);
        let stat = debugfs(&artifacts.base_disk, "stat /usr/bin/tool");
        assert!(
            stat.contains("Mode:  04755") && stat.contains("User:    42") && stat.contains("user.colour"),
            "{stat}"
        );
    }
}

#[test]
fn a_hostile_archive_writes_nothing_outside() {
    let world = World::new();
    let target = world.path("target");
    fs::create_dir(&target).unwrap();
    for (name, members) in [
        ("dots", vec![("file", "../../target/evil"), ("file", "a/../../../target/evil")]),
        ("absolute", vec![("file", target.join("evil").to_str().unwrap())]),
        ("link", vec![("link", "escape"), ("file", "escape/evil")]),
    ] {
        let archive = world.path(&format!("{name}.tar"));
        world::write_tar(&archive, &members, &target);
        // Refused or contained: both will do.
        let _ = world.build(&world.recipe(RootfsSource::Tar(archive)), &Recorder::default());
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "{name} got out");
        assert!(world.leftovers().is_empty());
    }
}

#[test]
fn settings_are_never_written_through_links_that_lead_out_of_a_root_filesystem() {
    let world = World::new();
    let target = world.path("host-etc");
    fs::create_dir_all(target.join("sudoers.d")).unwrap();
    fs::remove_dir_all(world.rootfs().join("etc")).unwrap();
    symlink(&target, world.rootfs().join("etc")).unwrap();
    let _ = world.build(&world.directory_recipe(), &Recorder::default());
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    assert_eq!(fs::read_dir(target.join("sudoers.d")).unwrap().count(), 0);
}

#[test]
fn a_cancelled_build_leaves_no_files_and_no_processes() {
    let world = World::new();
    fs::write(world.rootfs().join("large"), vec![7; 64 << 20]).unwrap();
    for step in ["copying", "writing the filesystem"] {
        let start = Instant::now();
        let error = world.build(&world.directory_recipe(), &Recorder::cancelling_at(step)).unwrap_err();
        assert!(matches!(error, BuildError::Cancelled), "{error}");
        assert!(start.elapsed() < Duration::from_secs(20));
        assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
        assert!(!world.store().join("base-disk").exists());
        assert!(world.processes_in_scratch().is_empty());
    }
    world.build(&world.directory_recipe(), &Recorder::default()).unwrap();
}

#[test]
fn a_broken_archive_is_told_with_what_tar_said() {
    let world = World::new();
    let archive = world.path("broken.tar.gz");
    fs::write(&archive, [0x1f, 0x8b, 8, 0, 1, 2, 3]).unwrap();
    let error = world.build(&world.recipe(RootfsSource::Tar(archive)), &Recorder::default()).unwrap_err().to_string();
    assert!(error.contains("tar failed") && error.contains("is it a .tar"), "{error}");
}

#[test]
fn a_kernel_without_a_needed_module_is_refused_by_name() {
    let world = World::new();
    fs::remove_file(world.modules().join("kernel/virtio_blk.ko")).unwrap();
    let error = world.build(&world.directory_recipe(), &Recorder::default()).unwrap_err().to_string();
    assert!(error.contains("6.9-test has no module virtio_blk"), "{error}");
}

#[test]
fn what_a_killed_build_left_is_gone_after_the_next() {
    let world = World::new();
    fs::create_dir_all(world.scratch().join("rootfs/root/half")).unwrap();
    world.build(&world.directory_recipe(), &Recorder::default()).unwrap();
    assert!(world.leftovers().is_empty());
    assert!(Path::new(&world.store()).is_dir());
}
