//! Paths as clients write them.

use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// A path that no file can have.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum PathError {
    #[error("path contains a zero byte")]
    ZeroByte,
    #[error("path is longer than 4096 bytes")]
    TooLong,
}

/// Makes `path` absolute: `~` and `~/x` lie in `home`, any other relative path lies in `base`; `.` and `..` are worked out by name.
pub(crate) fn resolve(path: &str, home: &Path, base: &Path) -> Result<PathBuf, PathError> {
    if path.contains('\0') {
        return Err(PathError::ZeroByte);
    }
    if path.len() > 4096 {
        return Err(PathError::TooLong);
    }
    let joined = match path.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => base.join(path),
    };
    Ok(clean(&joined))
}

fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resolved(path: &str) -> String {
        resolve(path, Path::new("/home/user"), Path::new("/home/user")).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn each_way_to_write_a_path() {
        for (given, meant) in [
            ("/etc/passwd", "/etc/passwd"),
            ("~", "/home/user"),
            ("~/a", "/home/user/a"),
            ("a/b", "/home/user/a/b"),
            ("", "/home/user"),
            (".", "/home/user"),
            ("~other/a", "/home/user/~other/a"),
            ("/a/./b/../c//d/", "/a/c/d"),
            ("../../../..", "/"),
        ] {
            assert_eq!(resolved(given), meant, "{given}");
        }
    }

    #[test]
    fn a_zero_byte_is_refused() {
        assert_eq!(resolve("/a\0b", Path::new("/"), Path::new("/")), Err(PathError::ZeroByte));
    }

    proptest! {
        #[test]
        fn a_resolved_path_is_absolute_and_has_no_dots(path in "[a-z./~]{0,64}") {
            let resolved = resolve(&path, Path::new("/h"), Path::new("/b")).unwrap();
            prop_assert!(resolved.is_absolute());
            prop_assert!(resolved.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_))));
        }
    }
}
