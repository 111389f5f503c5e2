//! Settings that requests fall back on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use dormouse_agent_proto::control::InitRequest;
use tokio::sync::{Mutex as Turns, MutexGuard as Turn};

use super::ca_bundle::CaBundle;
use super::volumes::Volumes;
use crate::offload::Offload;

/// Variable that names the host's events to programs, as E2B's agent does.
const EVENTS_VAR: &str = "E2B_EVENTS_ADDRESS";

#[derive(Debug)]
struct State {
    default_user: String,
    default_workdir: Option<PathBuf>,
    env_vars: BTreeMap<String, String>,
    lifecycle_id: Option<String>,
    hostname: Option<String>,
    events: Option<IpAddr>,
    /// Timestamp of the newest `/init`, in nanoseconds since 1970.
    newest: Option<i128>,
}

/// What earlier calls of `/init` have done to the guest.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) volumes: Volumes,
    pub(super) ca_bundle: Option<CaBundle>,
}

/// What `/init` set, or the defaults.
#[derive(Debug)]
pub(crate) struct Settings {
    state: Mutex<State>,
    turns: Turns<Done>,
    calls: Offload,
}

impl Settings {
    pub(crate) fn new(default_user: String) -> Self {
        let state = Mutex::new(State {
            default_user,
            default_workdir: None,
            env_vars: BTreeMap::new(),
            lifecycle_id: None,
            hostname: None,
            events: None,
            newest: None,
        });
        Self { state, turns: Turns::default(), calls: Offload::default() }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn default_user(&self) -> String {
        self.with(|s| s.default_user.clone())
    }

    pub(crate) fn default_workdir(&self) -> Option<PathBuf> {
        self.with(|s| s.default_workdir.clone())
    }

    pub(crate) fn env_vars(&self) -> BTreeMap<String, String> {
        self.with(|s| {
            let mut vars = s.env_vars.clone();
            if let Some(address) = s.events {
                let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
                vars.entry(EVENTS_VAR.to_owned()).or_insert_with(|| format!("http://{host}"));
            }
            vars
        })
    }

    /// The name that `/init` gave last.
    pub(super) fn hostname(&self) -> Option<String> {
        self.with(|s| s.hostname.clone())
    }

    /// The host's name for this life.
    pub(super) fn lifecycle_id(&self) -> Option<String> {
        self.with(|s| s.lifecycle_id.clone())
    }

    /// To be held while a call of `/init` is worked off.
    pub(super) async fn turn(&self) -> Turn<'_, Done> {
        self.turns.lock().await
    }

    /// What `/init` has under way in the guest.
    pub(super) fn calls(&self) -> &Offload {
        &self.calls
    }

    /// Notes a call of `timestamp` and tells whether it is stale, that is older than one before. A call without one never is.
    pub(super) fn is_stale(&self, timestamp: Option<i128>) -> bool {
        self.with(|s| {
            let stale = matches!((timestamp, s.newest), (Some(now), Some(newest)) if now < newest);
            if !stale {
                s.newest = timestamp.or(s.newest);
            }
            stale
        })
    }

    /// Takes what `request` names and leaves the rest.
    pub(super) fn apply(&self, request: &InitRequest, events: Option<IpAddr>) {
        self.with(|s| {
            if let Some(user) = request.default_user.as_ref().filter(|user| !user.is_empty()) {
                s.default_user.clone_from(user);
            }
            if let Some(workdir) = &request.default_workdir {
                s.default_workdir = Some(workdir).filter(|w| !w.is_empty()).map(PathBuf::from);
            }
            if let Some(vars) = &request.env_vars {
                s.env_vars.clone_from(vars);
            }
            if request.lifecycle_id.is_some() {
                s.lifecycle_id.clone_from(&request.lifecycle_id);
            }
            if request.hostname.is_some() {
                s.hostname.clone_from(&request.hostname);
            }
            s.events = events.or(s.events);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_change_nothing_and_env_vars_replace_the_set() {
        let settings = Settings::new("user".into());
        let vars = |pairs: &[(&str, &str)]| Some(pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect());
        settings.apply(&InitRequest { env_vars: vars(&[("A", "1"), ("B", "2")]), ..InitRequest::default() }, None);
        settings.apply(&InitRequest { default_user: Some("root".into()), ..InitRequest::default() }, None);
        assert_eq!(settings.default_user(), "root");
        assert_eq!(settings.env_vars().len(), 2);
        settings.apply(&InitRequest { env_vars: vars(&[("C", "3")]), ..InitRequest::default() }, None);
        assert_eq!(settings.env_vars().into_keys().collect::<Vec<_>>(), ["C"]);
    }

    #[test]
    fn an_older_timestamp_than_the_newest_is_stale() {
        let settings = Settings::new("user".into());
        assert!(!settings.is_stale(Some(10)));
        assert!(!settings.is_stale(Some(10)));
        assert!(!settings.is_stale(None));
        assert!(settings.is_stale(Some(9)));
        assert!(!settings.is_stale(Some(11)));
    }
}
