//! The state folder as seen from outside the host: where it is, how to find its daemon, and the API key.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// More than any file of ours here holds.
const MAX_FILE: u64 = 4096;
const KEY_PREFIX: &str = "e2b_";
const KEY_DIGITS: usize = 40;

/// A state folder. The host owns the rest of its content.
#[derive(Clone, Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
}

/// What a daemon writes down about itself while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DaemonInfo {
    /// Its process id.
    pub(crate) pid: u32,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
}

/// The key that requests must carry. Hidden in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ApiKey(String);

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl ApiKey {
    /// The key itself, for comparing and sending.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Takes `e2b_` and 40 hexadecimal digits: what SDKs of all versions accept.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(KEY_PREFIX)?;
        let good = digits.len() == KEY_DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        good.then(|| Self(text.to_owned()))
    }

    fn random() -> io::Result<Self> {
        let mut bytes = [0u8; KEY_DIGITS / 2];
        getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
        let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self(format!("{KEY_PREFIX}{digits}")))
    }
}

impl StateDir {
    /// The given folder, or `$XDG_STATE_HOME/dormouse`, or `~/.local/state/dormouse`; absolute.
    pub(crate) fn resolve(given: Option<PathBuf>) -> io::Result<Self> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = given
            .or_else(|| set("XDG_STATE_HOME").map(|state| state.join("dormouse")))
            .or_else(|| set("HOME").map(|home| home.join(".local/state/dormouse")))
            .ok_or_else(|| io::Error::other("neither XDG_STATE_HOME nor HOME is set; give --state"))?;
        Ok(Self { root: std::path::absolute(root)? })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The key, made at the first call.
    pub(crate) fn load_or_make_key(&self) -> io::Result<ApiKey> {
        match self.key() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = ApiKey::random()?;
                self.write_private("api-key", format!("{}\n", key.expose()).as_bytes())?;
                Ok(key)
            }
            other => other,
        }
    }

    /// The key. Refuses one that others on this machine can read.
    pub(crate) fn key(&self) -> io::Result<ApiKey> {
        let path = self.root.join("api-key");
        let file = fs::File::open(&path)?;
        let mode = file.metadata()?.permissions().mode();
        if mode & 0o077 != 0 {
            let text = format!("others can read {0}: run `chmod 600 {0}`", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let mut text = String::new();
        file.take(MAX_FILE).read_to_string(&mut text)?;
        ApiKey::parse(text.trim()).ok_or_else(|| {
            let text = format!("{} holds no API key: remove it, and the next start makes one", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }

    /// Tells clients where the daemon is.
    pub(crate) fn announce(&self, daemon: &DaemonInfo) -> io::Result<()> {
        self.write_private("daemon.json", &serde_json::to_vec(daemon)?)
    }

    /// Undoes [`announce`](Self::announce), best effort: a stale file only makes clients find nobody.
    pub(crate) fn withdraw(&self) {
        let _ = fs::remove_file(self.root.join("daemon.json"));
    }

    /// What the daemon told, if there is one or was one that ended badly.
    pub(crate) fn daemon(&self) -> io::Result<DaemonInfo> {
        let mut text = Vec::new();
        fs::File::open(self.root.join("daemon.json"))?.take(MAX_FILE).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Writes a file that only its owner can read, whole or not at all.
    fn write_private(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let temporary = self.root.join(format!(".{name}.{}", std::process::id()));
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let written = file.write_all(content).and_then(|()| file.sync_all());
        let placed = written.and_then(|()| fs::rename(&temporary, self.root.join(name)));
        if placed.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        placed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::resolve(Some(dir.path().to_owned())).unwrap();
        (dir, state)
    }

    #[test]
    fn the_key_is_made_once_private_and_in_the_form_of_e2b() {
        let (dir, state) = dir();
        let key = state.load_or_make_key().unwrap();
        assert_eq!(state.load_or_make_key().unwrap(), key);
        assert_eq!(key.expose().len(), 44);
        assert!(ApiKey::parse(key.expose()).is_some());
        let mode = fs::metadata(dir.path().join("api-key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{key:?}").contains(&key.expose()[4..]));
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused() {
        let (dir, state) = dir();
        let path = dir.path().join("api-key");
        state.load_or_make_key().unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(state.load_or_make_key().unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "e2b_short").unwrap();
        assert_eq!(state.key().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_daemon_is_found_until_it_withdraws() {
        let (_dir, state) = dir();
        assert_eq!(state.daemon().unwrap_err().kind(), io::ErrorKind::NotFound);
        let info = DaemonInfo { pid: 7, addr: "127.0.0.1:4000".parse().unwrap() };
        state.announce(&info).unwrap();
        assert_eq!(state.daemon().unwrap(), info);
        state.withdraw();
        assert!(state.daemon().is_err());
    }
}
