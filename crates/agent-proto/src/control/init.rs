//! `POST /init`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most bytes of entropy, decoded, that one `/init` takes.
pub const MAX_ENTROPY_BYTES: usize = 4096;

/// Most volumes that one `/init` takes.
pub const MAX_VOLUMES: usize = 16;

/// A volume that the guest is to mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// An NFS export: `ADDRESS:/PATH`.
    pub nfs_target: String,
    /// Where it is to be, an absolute path.
    pub path: String,
}

/// Body of `POST /init`. Every field may be absent; unknown fields are ignored.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InitRequest {
    /// From now on every route but the exempt ones needs this token in `X-Access-Token`. Absent or empty leaves the token as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// The host's time, RFC 3339. The guest's clock is stepped forward to it, never backward. Of several calls, one with an older
    /// timestamp than an earlier call's changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// Environment of processes started from now on; replaces the earlier set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// User for requests that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_user: Option<String>,
    /// Directory for processes that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_workdir: Option<String>,
    /// New host name of the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The host's name for this life of the sandbox.
    #[serde(rename = "lifecycleID", skip_serializing_if = "Option::is_none")]
    pub lifecycle_id: Option<String>,
    /// Random bytes from the host, base64, at most [`MAX_ENTROPY_BYTES`] decoded; the kernel's generator is reseeded with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entropy: Option<String>,
    /// Number of this life: a restore is worked off once per generation. Absent means that the agent counts by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Where E2B's hosts take events from programs in the guest: an address, entered in `/etc/hosts` as `events.e2b.local` and in the
    /// environment as `E2B_EVENTS_ADDRESS`. Empty is absent.
    #[serde(rename = "hyperloopIP", skip_serializing_if = "Option::is_none")]
    pub hyperloop_ip: Option<String>,
    /// The volumes that are to be mounted, no others. Those of an earlier `lifecycle_id` are mounted anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_mounts: Option<Vec<VolumeMount>>,
    /// Certificates in PEM form that the guest's programs are to trust in addition to the usual ones; they replace those of an
    /// earlier call. Empty is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// Whether memory of an idle guest is given back. Absent leaves it as it is; at first it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reclaim: Option<bool>,
}

impl std::fmt::Debug for InitRequest {
    /// Leaves out the secrets: token, entropy and environment values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InitRequest")
            .field("access_token", &self.access_token.as_ref().map(|_| "…"))
            .field("timestamp", &self.timestamp)
            .field("env_vars", &self.env_vars.as_ref().map(|vars| vars.keys().collect::<Vec<_>>()))
            .field("default_user", &self.default_user)
            .field("default_workdir", &self.default_workdir)
            .field("hostname", &self.hostname)
            .field("lifecycle_id", &self.lifecycle_id)
            .field("entropy", &self.entropy.as_ref().map(String::len))
            .field("generation", &self.generation)
            .field("hyperloop_ip", &self.hyperloop_ip)
            .field("volume_mounts", &self.volume_mounts)
            .field("ca_bundle", &self.ca_bundle.as_ref().map(String::len))
            .field("reclaim", &self.reclaim)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_are_those_of_the_wire() {
        let body = r#"{"accessToken":"t","envVars":{"A":"1"},"lifecycleID":"l","generation":3,"hyperloopIP":"10.0.0.1",
            "volumeMounts":[{"nfs_target":"10.0.0.9:/v","path":"/mnt"}],"caBundle":"c","reclaim":false,"other":1}"#;
        let request: InitRequest = serde_json::from_str(body).unwrap();
        assert_eq!(request.access_token.as_deref(), Some("t"));
        assert_eq!(request.lifecycle_id.as_deref(), Some("l"));
        assert_eq!(request.generation, Some(3));
        assert_eq!(request.env_vars.unwrap()["A"], "1");
        assert_eq!(request.volume_mounts.unwrap()[0].nfs_target, "10.0.0.9:/v");
        assert_eq!((request.ca_bundle.as_deref(), request.reclaim), (Some("c"), Some(false)));
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let request = InitRequest {
            access_token: Some("tok_secret".into()),
            entropy: Some("c2VjcmV0".into()),
            env_vars: Some([("KEY".to_owned(), "hidden".to_owned())].into()),
            ..InitRequest::default()
        };
        let shown = format!("{request:?}");
        assert!(!shown.contains("tok_secret") && !shown.contains("c2VjcmV0") && !shown.contains("hidden"), "{shown}");
    }
}
