//! A certificate authority of the host's, trusted by the guest's programs in addition to the usual ones.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use thiserror::Error;

use crate::bounded_file;

/// Where `update-ca-certificates` takes it from when it makes the bundle anew, and what tells which one was installed last. The name
/// is E2B's.
const EXTRA: &str = "usr/local/share/ca-certificates/e2b-ca.crt";
/// The bundle of Debian and most others; made where there is none.
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";
/// Bundles of other distributions, where they are.
const OTHERS: [&str; 3] = ["etc/pki/tls/certs/ca-bundle.crt", "etc/ssl/ca-bundle.pem", "etc/ssl/cert.pem"];
/// The usual bundle has about 220 KiB.
const MAX_BUNDLE: u64 = 4 << 20;
const MAX_LENGTH: usize = 64 << 10;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum CaError {
    #[error("caBundle has {bytes} bytes, send at most {MAX_LENGTH}")]
    TooLong { bytes: usize },
    #[error("caBundle holds something other than certificates in PEM form")]
    NotCertificates,
}

/// Certificates in PEM form, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CaBundle(Vec<String>);

impl CaBundle {
    /// `None` for a text of white space.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, CaError> {
        if text.len() > MAX_LENGTH {
            return Err(CaError::TooLong { bytes: text.len() });
        }
        let certificates = certificates(text);
        let rest = certificates.iter().fold(text.to_owned(), |rest, one| rest.replacen(one, "", 1));
        let only_comments = rest.lines().all(|line| line.trim().is_empty() || line.starts_with('#'));
        if !only_comments || !certificates.iter().all(|one| is_base64(one)) {
            return Err(CaError::NotCertificates);
        }
        let mut seen = BTreeSet::new();
        let once: Vec<_> = certificates.into_iter().filter(|one| seen.insert(*one)).map(str::to_owned).collect();
        Ok((!once.is_empty()).then_some(Self(once)))
    }

    /// Makes these the host's certificates in every bundle below `root`; those of an earlier time go.
    pub(super) fn install(&self, root: &Path) -> io::Result<()> {
        let extra = root.join(EXTRA);
        let noted = read(&extra)?.unwrap_or_default();
        let before = certificates(&noted);
        let usual = read(&root.join(BUNDLE))?.unwrap_or_default();
        let usual: Vec<_> = certificates(&usual).into_iter().filter(|one| !before.contains(one)).collect();
        let mut done = BTreeSet::new();
        for place in [BUNDLE].into_iter().chain(OTHERS) {
            let path = root.join(place);
            // One is often a link to another.
            let real = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
            let old = read(&path)?;
            if done.insert(real) && (old.is_some() || place == BUNDLE) {
                let old = old.unwrap_or_default();
                replace(&path, &old, &self.added_to(&old, &before))?;
            }
        }
        // What the guest trusts anyway must not go with the next change.
        let ours: String =
            self.0.iter().filter(|one| !usual.contains(&one.as_str())).map(|one| format!("{one}\n")).collect();
        if ours.is_empty() && noted.is_empty() { Ok(()) } else { replace(&extra, &noted, &ours) }
    }

    /// `bundle` with these and without those of `before`.
    fn added_to(&self, bundle: &str, before: &[&str]) -> String {
        let mut new = bundle.to_owned();
        for gone in before.iter().filter(|one| !self.0.iter().any(|own| own == *one)) {
            new = new.replace(&format!("{gone}\n"), "");
        }
        for one in &self.0 {
            if !certificates(&new).contains(&one.as_str()) {
                if !new.is_empty() && !new.ends_with('\n') {
                    new.push('\n');
                }
                new.push_str(one);
                new.push('\n');
            }
        }
        new
    }
}

/// The certificates in `text`, from their first to their last line.
fn certificates(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, from)) = rest.find(BEGIN).and_then(|at| rest.split_at_checked(at)) {
        let Some((one, after)) = from.find(END).and_then(|at| from.split_at_checked(at + END.len())) else { break };
        found.push(one);
        rest = after;
    }
    found
}

fn is_base64(certificate: &str) -> bool {
    let inner = certificate.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).unwrap_or("!");
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'\n' | b'\r');
    !inner.trim().is_empty() && inner.bytes().all(allowed)
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match bounded_file::read(path, MAX_BUNDLE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

fn replace(path: &Path, old: &str, new: &str) -> io::Result<()> {
    if old == new {
        return Ok(());
    }
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    bounded_file::replace(path, new, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pem(name: &str) -> String {
        format!("{BEGIN}\nMIIB{name}\nAAAA+/==\n{END}\n")
    }

    fn install(root: &Path, text: &str) {
        CaBundle::parse(text).unwrap().unwrap().install(root).unwrap();
    }

    #[test]
    fn only_certificates_of_a_bounded_size_are_taken() {
        assert_eq!(CaBundle::parse(" \n"), Ok(None));
        assert_eq!(CaBundle::parse(&format!("# the host's\n{}{}", pem("A"), pem("A"))).unwrap().unwrap().0.len(), 1);
        assert_eq!(CaBundle::parse(&pem("A").replace('\n', "\r\n")).unwrap().unwrap().0.len(), 1);
        let key = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n";
        for bad in ["certificate", BEGIN, &pem("A")[..40], &pem("A b"), &pem("<A>"), &format!("{}{key}", pem("A"))] {
            assert_eq!(CaBundle::parse(bad), Err(CaError::NotCertificates), "{bad}");
        }
        assert!(matches!(CaBundle::parse(&pem("A").repeat(2000)), Err(CaError::TooLong { .. })));
    }

    #[test]
    fn it_joins_every_bundle_once_and_a_later_one_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let file = |name: &str| fs::read_to_string(root.join(name)).unwrap();
        fs::create_dir_all(root.join("etc/ssl/certs")).unwrap();
        fs::create_dir_all(root.join("etc/pki/tls/certs")).unwrap();
        fs::write(root.join(BUNDLE), pem("Debian").trim_end()).unwrap();
        fs::write(root.join(OTHERS[0]), pem("RedHat")).unwrap();
        std::os::unix::fs::symlink("certs/ca-certificates.crt", root.join(OTHERS[2])).unwrap();
        for _ in 0..2 {
            install(root, &pem("Host"));
            assert_eq!(file(BUNDLE), pem("Debian") + &pem("Host"));
            assert_eq!(file(OTHERS[0]), pem("RedHat") + &pem("Host"));
            assert_eq!(file(EXTRA), pem("Host"));
        }
        assert!(root.join(OTHERS[2]).is_symlink() && !root.join(OTHERS[1]).exists());
        install(root, &(pem("New") + &pem("Debian")));
        assert_eq!(file(BUNDLE), pem("Debian") + &pem("New"), "known already, and not there twice");
        assert_eq!(file(EXTRA), pem("New"));
        install(root, &pem("Host"));
        assert_eq!(file(BUNDLE), pem("Debian") + &pem("Host"), "the usual ones stay");
    }

    #[test]
    fn a_guest_without_a_bundle_gets_one_and_a_hostile_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), &pem("Host"));
        assert_eq!(fs::read_to_string(dir.path().join(BUNDLE)).unwrap(), pem("Host"));
        fs::remove_file(dir.path().join(BUNDLE)).unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join(BUNDLE)).unwrap();
        assert!(CaBundle::parse(&pem("Host")).unwrap().unwrap().install(dir.path()).is_err());
    }

    proptest! {
        #[test]
        fn after_any_rotation_a_bundle_holds_the_usual_ones_and_the_last_of_the_hosts(
            rotations in prop::collection::vec(prop::collection::btree_set(0u8..5, 1..4), 1..6),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let usual: String = ["U", "V"].map(pem).concat();
            fs::create_dir_all(dir.path().join("etc/ssl/certs")).unwrap();
            fs::write(dir.path().join(BUNDLE), &usual).unwrap();
            for names in &rotations {
                let text: String = names.iter().map(|name| pem(&name.to_string())).collect();
                install(dir.path(), &text);
                let bundle = fs::read_to_string(dir.path().join(BUNDLE)).unwrap();
                let mut expected: Vec<String> = names.iter().map(|name| pem(&name.to_string())).collect();
                expected.extend(["U", "V"].map(pem));
                let mut held: Vec<String> = certificates(&bundle).into_iter().map(|one| format!("{one}\n")).collect();
                expected.sort();
                held.sort();
                prop_assert_eq!(held, expected);
            }
        }
    }
}
