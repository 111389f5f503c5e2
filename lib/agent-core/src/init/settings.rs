//! Settings that requests fall back on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use dormouse_agent_proto::control::InitRequest;

#[derive(Debug)]
struct State {
    default_user: String,
    default_workdir: Option<PathBuf>,
    env_vars: BTreeMap<String, String>,
    lifecycle_id: Option<String>,
    /// Timestamp of the newest `/init`, in nanoseconds since 1970.
    newest: Option<i128>,
}

/// What `/init` set, or the defaults.
#[derive(Debug)]
pub(crate) struct Settings(Mutex<State>);

impl Settings {
    pub(crate) fn new(default_user: String) -> Self {
        Self(Mutex::new(State {
            default_user,
            default_workdir: None,
            env_vars: BTreeMap::new(),
            lifecycle_id: None,
            newest: None,
        }))
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn default_user(&self) -> String {
        self.with(|s| s.default_user.clone())
    }

    pub(crate) fn default_workdir(&self) -> Option<PathBuf> {
        self.with(|s| s.default_workdir.clone())
    }

    pub(crate) fn env_vars(&self) -> BTreeMap<String, String> {
        self.with(|s| s.env_vars.clone())
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
    pub(super) fn apply(&self, request: &InitRequest) {
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
        settings.apply(&InitRequest { env_vars: vars(&[("A", "1"), ("B", "2")]), ..InitRequest::default() });
        settings.apply(&InitRequest { default_user: Some("root".into()), ..InitRequest::default() });
        assert_eq!(settings.default_user(), "root");
        assert_eq!(settings.env_vars().len(), 2);
        settings.apply(&InitRequest { env_vars: vars(&[("C", "3")]), ..InitRequest::default() });
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
