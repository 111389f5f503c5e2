//! The user and group databases, read as files (passwd(5), group(5)).

use std::collections::HashMap;
use std::path::PathBuf;

use thiserror::Error;

use crate::bounded_file;

/// Largest database read. A bigger file is refused rather than held in memory.
const MAX_FILE: u64 = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, the primary one included.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: PathBuf,
}

#[derive(Debug, Error)]
pub(crate) enum IdentityError {
    #[error("invalid username: '{name}'")]
    UnknownUser { name: String },
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
}

/// The databases' places. Each look-up reads them anew, because users come and go.
#[derive(Clone, Debug)]
pub(crate) struct UserDatabase {
    passwd: PathBuf,
    group: PathBuf,
}

/// Names of ids, for listings.
#[derive(Debug, Default)]
pub(crate) struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    /// The name, or the number where there is none.
    pub(crate) fn user(&self, uid: u32) -> String {
        self.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }

    /// The name, or the number where there is none.
    pub(crate) fn group(&self, gid: u32) -> String {
        self.groups.get(&gid).cloned().unwrap_or_else(|| gid.to_string())
    }
}

impl UserDatabase {
    pub(crate) fn new(passwd: PathBuf, group: PathBuf) -> Self {
        Self { passwd, group }
    }

    pub(crate) fn lookup(&self, name: &str) -> Result<User, IdentityError> {
        let passwd = read(&self.passwd)?;
        let mut user = passwd
            .lines()
            .filter_map(parse_user)
            .find(|user| user.name == name)
            .ok_or_else(|| IdentityError::UnknownUser { name: name.to_owned() })?;
        // A system without groups still has users.
        let group = read(&self.group).unwrap_or_default();
        for (_, gid, members) in group.lines().filter_map(parse_group) {
            if gid != user.gid && members.split(',').any(|member| member == user.name) {
                user.groups.push(gid);
            }
        }
        Ok(user)
    }

    pub(crate) fn names(&self) -> Names {
        let (passwd, group) = (read(&self.passwd).unwrap_or_default(), read(&self.group).unwrap_or_default());
        let mut names = Names::default();
        for user in passwd.lines().filter_map(parse_user) {
            names.users.entry(user.uid).or_insert(user.name);
        }
        for (name, gid, _) in group.lines().filter_map(parse_group) {
            names.groups.entry(gid).or_insert_with(|| name.to_owned());
        }
        names
    }
}

fn read(path: &PathBuf) -> Result<String, IdentityError> {
    let bytes = bounded_file::read_bytes(path, MAX_FILE);
    let bytes = bytes.map_err(|source| IdentityError::Unreadable { path: path.clone(), source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn parse_user(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let (_password, uid, gid) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let (_comment, home) = (fields.next()?, fields.next()?);
    let home = if home.starts_with('/') { home } else { "/" };
    Some(User { name: name.to_owned(), uid, gid, groups: vec![gid], home: home.into() })
}

pub(super) fn parse_group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let (name, _password, gid) = (fields.next()?, fields.next()?, fields.next()?.parse().ok()?);
    Some((name, gid, fields.next().unwrap_or("")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn database(passwd: &str, group: &str) -> (tempfile::TempDir, UserDatabase) {
        let dir = tempfile::tempdir().unwrap();
        let (p, g) = (dir.path().join("passwd"), dir.path().join("group"));
        std::fs::write(&p, passwd).unwrap();
        std::fs::write(&g, group).unwrap();
        (dir, UserDatabase::new(p, g))
    }

    #[test]
    fn a_user_has_its_primary_and_its_supplementary_groups() {
        let (_dir, users) = database(
            "root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000::/home/user:/bin/bash\n",
            "user:x:1000:user\nsudo:x:27:other,user\nuse:x:28:use\n",
        );
        let user = users.lookup("user").unwrap();
        assert_eq!((user.uid, user.gid, user.home.to_str()), (1000, 1000, Some("/home/user")));
        assert_eq!(user.groups, [1000, 27]);
    }

    #[test]
    fn an_unknown_user_is_named_in_the_error() {
        let (_dir, users) = database("root:x:0:0::/root:\n", "");
        assert_eq!(users.lookup("root123").unwrap_err().to_string(), "invalid username: 'root123'");
    }

    #[test]
    fn broken_lines_are_passed_over() {
        let (_dir, users) =
            database("::::\n#c:x:1:1::/:\nhalf:x:1\nneg:x:-1:5::/:\nok:x:7:8::rel:/bin/sh", "bad\nok:x:no:\n");
        assert_eq!(users.lookup("ok").unwrap().home, PathBuf::from("/"));
        for name in ["", "half", "neg", "#c"] {
            assert!(users.lookup(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_database_that_is_no_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("passwd");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        for passwd in [pipe, "/dev/zero".into(), dir.path().to_owned()] {
            let users = UserDatabase::new(passwd.clone(), passwd);
            assert!(matches!(users.lookup("root"), Err(IdentityError::Unreadable { .. })));
            assert_eq!(users.names().user(0), "0");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_users_that_have_a_name_and_an_absolute_home(
            passwd in "(?s).{0,80}", lines in proptest::collection::vec("([a-z#/:é0-9\\-]{0,6}:?){0,9}", 0..6),
        ) {
            let text = format!("{passwd}\n{}", lines.join("\n"));
            for user in text.lines().filter_map(parse_user) {
                prop_assert!(!user.name.is_empty() && user.home.is_absolute() && user.groups == [user.gid]);
            }
            for (name, _, members) in text.lines().filter_map(parse_group) {
                prop_assert!(text.contains(name) && text.contains(members));
            }
        }
    }

    #[test]
    fn ids_without_a_name_show_as_numbers() {
        let (_dir, users) = database("a:x:5:6::/:\n", "g:x:6:\n");
        let names = users.names();
        assert_eq!((names.user(5), names.group(6), names.user(99)), ("a".into(), "g".into(), "99".into()));
    }
}
