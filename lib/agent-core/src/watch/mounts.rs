//! File systems whose changes inotify does not see.

use std::path::Path;

/// What a file system is for a watcher. Changes that another machine or the kernel itself makes raise no notice (inotify(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mount {
    Local,
    Network,
    /// Made up by the kernel, as /proc.
    Pseudo,
}

/// Of the file system that holds `path`.
pub(super) fn mount_of(path: &Path) -> std::io::Result<Mount> {
    let kind = rustix::fs::statfs(path)?.f_type;
    // The field is signed on some platforms; the magic numbers have 32 bits.
    Ok(classify(kind as u64 & 0xffff_ffff))
}

/// Magic numbers from include/uapi/linux/magic.h and, where they are not there, from the file systems' own sources.
fn classify(magic: u64) -> Mount {
    match magic {
        // NFS, SMB, CIFS, SMB2, FUSE (sshfs, object stores, virtiofs), 9P, Ceph, AFS (twice), Coda, GFS2, OCFS2
        0x6969 | 0x517b | 0xff53_4d42 | 0xfe53_4d42 | 0x6573_5546 | 0x0102_1997 | 0x00c3_6400 | 0x5346_414f
        | 0x6b41_4653 | 0x7375_7245 | 0x0116_1970 | 0x7461_636f => Mount::Network,
        // proc, sysfs, cgroup, cgroup2, devpts, debugfs, tracefs, securityfs, selinux, bpf, pstore, efivarfs
        0x9fa0 | 0x6265_6572 | 0x0027_e0eb | 0x6367_7270 | 0x1cd1 | 0x6462_6720 | 0x7472_6163 | 0x7363_6673
        | 0xf97c_ff8c | 0xcafe_4a11 | 0x6165_676c | 0xde5e_81e4 => Mount::Pseudo,
        _ => Mount::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nfs_is_network_ext4_is_local_and_proc_is_made_up() {
        assert_eq!([0x6969, 0xff53_4d42, 0xef53].map(classify), [Mount::Network, Mount::Network, Mount::Local]);
        assert_eq!(mount_of(Path::new("/proc")).unwrap(), Mount::Pseudo);
    }
}
