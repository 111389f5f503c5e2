//! Bodies of requests on an existing sandbox.

use serde::{Deserialize, Serialize};

use crate::own::{CachePolicy, PauseExtra};

/// Body of `POST /sandboxes/{id}/connect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    /// Seconds that the sandbox shall run at least, from now.
    pub timeout: u32,
    /// `false` asks for a cold boot from the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<bool>,
}

/// Body of `POST /v2/sandboxes/{id}/connect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectV2 {
    /// Seconds that the sandbox shall run at least, from now.
    #[serde(default = "ConnectV2::default_timeout")]
    pub timeout: u32,
    /// `false` asks for a cold boot from the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<bool>,
}

/// Body of the deprecated `POST /sandboxes/{id}/resume`. May be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resume {
    /// Seconds that the sandbox may run from now.
    #[serde(default = "Resume::default_timeout")]
    pub timeout: u32,
    /// Pause instead of kill when the time is up; absent leaves it as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_pause: Option<bool>,
    /// `false` asks for a cold boot from the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<bool>,
}

/// Body of `POST /sandboxes/{id}/timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetTimeout {
    /// Seconds from now; may shorten, and 0 ends the sandbox's time now.
    pub timeout: u32,
}

/// Body of the deprecated `POST /sandboxes/{id}/refreshes`. May be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh {
    /// Seconds that the sandbox shall run at least, from now.
    #[serde(default = "Refresh::default_duration")]
    pub duration: u32,
}

/// Body of `POST /sandboxes/{id}/pause`. May be absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// `false` asks for a pause that keeps the disk only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<bool>,
    /// What only dormouse understands.
    #[serde(flatten)]
    pub extra: PauseExtra,
}

/// Body of `POST /sandboxes/{id}/fork`. May be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// Seconds that each new sandbox may run from now.
    #[serde(default = "Fork::default_timeout")]
    pub timeout: u32,
    /// How many new sandboxes: 1 to [`Fork::MAX_COUNT`].
    #[serde(default = "Fork::default_count")]
    pub count: u32,
}

impl Fork {
    /// The most that one request may ask for.
    pub const MAX_COUNT: u32 = 100;

    fn default_timeout() -> u32 {
        15
    }

    fn default_count() -> u32 {
        1
    }
}

impl ConnectV2 {
    fn default_timeout() -> u32 {
        300
    }
}

impl Resume {
    fn default_timeout() -> u32 {
        15
    }
}

impl Refresh {
    /// The longest that one refresh may ask for, in seconds.
    pub const MAX_DURATION: u32 = 3600;

    fn default_duration() -> u32 {
        15
    }
}

impl From<Connect> for ConnectV2 {
    fn from(old: Connect) -> Self {
        Self { timeout: old.timeout, memory: old.memory }
    }
}

impl Default for Resume {
    fn default() -> Self {
        Self { timeout: Self::default_timeout(), auto_pause: None, memory: None }
    }
}

impl Default for Refresh {
    fn default() -> Self {
        Self { duration: Self::default_duration() }
    }
}

impl Default for Fork {
    fn default() -> Self {
        Self { timeout: Self::default_timeout(), count: Self::default_count() }
    }
}

impl Pause {
    /// A pause by dormouse's own client.
    #[must_use]
    pub fn with(cache: CachePolicy, measure: bool) -> Self {
        Self { memory: None, extra: PauseExtra { cache: Some(cache), measure } }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_str, json, to_value};

    use super::*;

    #[test]
    fn recorded_pause_bodies_of_old_and_new_sdks_are_understood() {
        assert_eq!(from_str::<Pause>("{}").unwrap(), Pause::default());
        assert_eq!(from_str::<Pause>(r#"{"memory":true}"#).unwrap().memory, Some(true));
    }

    #[test]
    fn our_own_pause_fields_lie_beside_those_of_e2b() {
        let pause = Pause::with(CachePolicy::Drop, true);
        assert_eq!(to_value(pause).unwrap(), json!({"cache": "drop", "measure": true}));
        assert_eq!(from_str::<Pause>(r#"{"cache":"drop","measure":true}"#).unwrap(), pause);
        assert!(from_str::<Pause>(r#"{"cache":"shred"}"#).is_err());
    }

    #[test]
    fn only_the_old_connect_insists_on_a_timeout() {
        assert!(from_str::<Connect>("{}").is_err());
        assert_eq!(from_str::<ConnectV2>("{}").unwrap().timeout, 300);
        assert_eq!(from_str::<ConnectV2>(r#"{"timeout":60}"#).unwrap().timeout, 60);
    }

    #[test]
    fn defaults_are_those_of_the_specification() {
        assert_eq!(from_str::<Resume>("{}").unwrap(), Resume::default());
        assert_eq!(from_str::<Fork>(r#"{"count":2}"#).unwrap(), Fork { timeout: 15, count: 2 });
        assert!(from_str::<SetTimeout>("{}").is_err());
    }
}
