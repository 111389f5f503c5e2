//! Asking for a new sandbox.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Body of `POST /sandboxes`, sent by SDKs up to 2.50 and by E2B's CLI.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewSandbox {
    /// Name of the template to start from.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Seconds that the sandbox may run from now.
    #[serde(default = "NewSandbox::default_timeout")]
    pub timeout: u32,
    /// Pause instead of kill when the time is up.
    #[serde(default)]
    pub auto_pause: bool,
    /// `false` asks for a pause that keeps the disk only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_pause_memory: Option<bool>,
    /// Whether requests to a paused sandbox bring it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_resume: Option<AutoResume>,
    /// Whether the agent wants a token. Sandboxes of dormouse always do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    /// Whether the sandbox may reach the internet. The one snake_case name in this API.
    #[serde(default, rename = "allow_internet_access", skip_serializing_if = "Option::is_none")]
    pub allow_internet_access: Option<bool>,
    /// Labels, kept for the caller.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Environment of every process in the sandbox.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub env_vars: BTreeMap<String, String>,
    /// Volumes to mount.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMount>,
}

/// Body of `POST /v2/sandboxes`: [`NewSandbox`] with a longer default timeout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewSandboxV2 {
    /// Name of the template to start from.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Seconds that the sandbox may run from now.
    #[serde(default = "NewSandboxV2::default_timeout")]
    pub timeout: u32,
    /// Pause instead of kill when the time is up.
    #[serde(default)]
    pub auto_pause: bool,
    /// `false` asks for a pause that keeps the disk only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_pause_memory: Option<bool>,
    /// Whether requests to a paused sandbox bring it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_resume: Option<AutoResume>,
    /// Whether the sandbox may reach the internet.
    #[serde(default, rename = "allow_internet_access", skip_serializing_if = "Option::is_none")]
    pub allow_internet_access: Option<bool>,
    /// Labels, kept for the caller.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Environment of every process in the sandbox.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub env_vars: BTreeMap<String, String>,
    /// Volumes to mount.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMount>,
}

/// Whether requests to a paused sandbox bring it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoResume {
    /// They do.
    pub enabled: bool,
}

/// A volume and where it shall appear in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Name of the volume.
    pub name: String,
    /// Absolute path in the sandbox.
    pub path: String,
}

impl NewSandbox {
    fn default_timeout() -> u32 {
        15
    }
}

impl NewSandboxV2 {
    fn default_timeout() -> u32 {
        300
    }
}

impl From<NewSandbox> for NewSandboxV2 {
    /// Drops `secure`, the one field that the newer body lacks.
    fn from(old: NewSandbox) -> Self {
        Self {
            template_id: old.template_id,
            timeout: old.timeout,
            auto_pause: old.auto_pause,
            auto_pause_memory: old.auto_pause_memory,
            auto_resume: old.auto_resume,
            allow_internet_access: old.allow_internet_access,
            metadata: old.metadata,
            env_vars: old.env_vars,
            volume_mounts: old.volume_mounts,
        }
    }
}

/// Clients in some languages write `null` for a map or list that was not set.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(text: &str) -> NewSandboxV2 {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_body_that_the_newest_sdk_sends_is_understood() {
        // Recorded from PyPI e2b 2.63.0: `Sandbox.create(timeout=120, metadata, envs)`.
        let new = v2(r#"{"templateID":"base","timeout":120,"metadata":{"k":"v"},"envVars":{"A":"1"}}"#);
        assert_eq!((new.template_id.as_str(), new.timeout), ("base", 120));
        assert_eq!(new.metadata["k"], "v");
        assert_eq!(new.env_vars["A"], "1");
    }

    #[test]
    fn without_a_timeout_each_version_has_its_own_default() {
        let text = r#"{"templateID":"base","metadata":{},"envVars":{}}"#;
        assert_eq!(v2(text).timeout, 300);
        assert_eq!(serde_json::from_str::<NewSandbox>(text).unwrap().timeout, 15);
    }

    #[test]
    fn the_body_of_an_old_sdk_with_its_snake_case_name_is_understood() {
        // Recorded from PyPI e2b 2.45.1.
        let text = r#"{"templateID":"base","timeout":120,"secure":true,"allow_internet_access":true,
            "metadata":{},"envVars":{}}"#;
        let old: NewSandbox = serde_json::from_str(text).unwrap();
        assert_eq!((old.secure, old.allow_internet_access), (Some(true), Some(true)));
        assert_eq!(NewSandboxV2::from(old).timeout, 120);
    }

    #[test]
    fn a_body_with_everything_set_is_understood_and_more_is_ignored() {
        let new = v2(r#"{"templateID":"base","autoPause":true,"autoResume":{"enabled":true},
            "allow_internet_access":false,"network":{"allowPublicTraffic":false,"allowOut":["1.1.1.1"]},
            "volumeMounts":[{"name":"vol1","path":"/mnt"}],"fromTheFuture":[1]}"#);
        assert!(new.auto_pause);
        assert_eq!(new.auto_resume, Some(AutoResume { enabled: true }));
        assert_eq!(new.allow_internet_access, Some(false));
        assert_eq!(new.volume_mounts, [VolumeMount { name: "vol1".into(), path: "/mnt".into() }]);
    }

    #[test]
    fn null_maps_count_as_empty_and_a_missing_template_is_refused() {
        assert!(v2(r#"{"templateID":"b","metadata":null,"envVars":null,"volumeMounts":null}"#).metadata.is_empty());
        assert!(serde_json::from_str::<NewSandboxV2>(r#"{"timeout":1}"#).is_err());
        assert!(serde_json::from_str::<NewSandboxV2>(r#"{"templateID":"b","timeout":-1}"#).is_err());
    }
}
