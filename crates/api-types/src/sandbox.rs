//! Sandboxes as answers show them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ApiError;

/// Answer to create, connect and resume: what a client needs to talk to the sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    /// The template that it came from.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Its id: lower-case letters and digits. Never a `-`, at which SDKs split host names.
    #[serde(rename = "sandboxID")]
    pub sandbox_id: String,
    /// Without meaning; SDKs want it to be there.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// Version of the agent, which decides what SDKs ask of it.
    pub envd_version: String,
    /// Another name of the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// What the agent wants in `X-Access-Token`. A secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envd_access_token: Option<String>,
    /// What the proxy wants for ports other than the agent's. A secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_access_token: Option<String>,
    /// Domain under which the sandbox's ports have host names, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// Answer to `GET /sandboxes/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxDetail {
    /// What a list shows as well.
    #[serde(flatten)]
    pub listed: ListedSandbox,
    /// What the agent wants in `X-Access-Token`. A secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envd_access_token: Option<String>,
    /// Whether it may reach the internet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_internet_access: Option<bool>,
    /// Domain under which the sandbox's ports have host names, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// What happens when its time is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
}

/// One sandbox in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedSandbox {
    /// The template that it came from.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Its id.
    #[serde(rename = "sandboxID")]
    pub sandbox_id: String,
    /// Without meaning; SDKs want it to be there.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// When it was first started.
    pub started_at: Timestamp,
    /// When its time is up.
    pub end_at: Timestamp,
    /// Version of the agent.
    pub envd_version: String,
    /// Virtual CPUs.
    pub cpu_count: u32,
    /// Guest RAM in MiB.
    #[serde(rename = "memoryMB")]
    pub memory_mb: u64,
    /// Virtual size of its disk in MiB.
    #[serde(rename = "diskSizeMB")]
    pub disk_size_mb: u64,
    /// Whether it runs.
    pub state: SandboxState,
    /// Another name of the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The creator's labels.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// The two states that E2B knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxState {
    /// It runs, or is about to.
    Running,
    /// It costs disk only, and can be resumed.
    Paused,
}

/// What happens when a sandbox's time is up, and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// Whether requests to the paused sandbox bring it back.
    pub auto_resume: bool,
    /// What happens when its time is up.
    pub on_timeout: OnTimeout,
}

/// What happens when a sandbox's time is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// It is removed.
    #[default]
    Kill,
    /// It is paused.
    Pause,
}

/// One of the answers to a fork: exactly one of the two is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForkResult {
    /// The new sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Sandbox>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;

    fn listed() -> ListedSandbox {
        ListedSandbox {
            template_id: "base".into(),
            sandbox_id: "i0123".into(),
            client_id: "dormouse".into(),
            started_at: "2026-11-23T13:00:00Z".parse().unwrap(),
            end_at: "2026-11-23T13:05:00Z".parse().unwrap(),
            envd_version: crate::ENVD_VERSION.into(),
            cpu_count: 1,
            memory_mb: 1024,
            disk_size_mb: 4096,
            state: SandboxState::Paused,
            alias: None,
            metadata: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        }
    }

    #[test]
    fn a_sandbox_has_the_names_and_required_fields_of_e2b() {
        let sandbox = Sandbox {
            template_id: "base".into(),
            sandbox_id: "i0123".into(),
            client_id: "dormouse".into(),
            envd_version: "0.6.13".into(),
            alias: None,
            envd_access_token: Some("t".into()),
            traffic_access_token: None,
            domain: None,
        };
        let wire = json!({"templateID": "base", "sandboxID": "i0123", "clientID": "dormouse",
            "envdVersion": "0.6.13", "envdAccessToken": "t"});
        assert_eq!(to_value(sandbox).unwrap(), wire);
    }

    #[test]
    fn details_are_a_list_entry_with_more_beside_it() {
        let detail = SandboxDetail {
            listed: listed(),
            envd_access_token: None,
            allow_internet_access: Some(false),
            domain: None,
            lifecycle: Some(Lifecycle { auto_resume: false, on_timeout: OnTimeout::Pause }),
        };
        let wire = json!({
            "templateID": "base", "sandboxID": "i0123", "clientID": "dormouse",
            "startedAt": "2026-11-23T13:00:00Z", "endAt": "2026-11-23T13:05:00Z", "envdVersion": "0.6.13",
            "cpuCount": 1, "memoryMB": 1024, "diskSizeMB": 4096, "state": "paused", "metadata": {"k": "v"},
            "allowInternetAccess": false, "lifecycle": {"autoResume": false, "onTimeout": "pause"},
        });
        assert_eq!(to_value(&detail).unwrap(), wire);
        assert_eq!(serde_json::from_value::<SandboxDetail>(wire).unwrap(), detail);
    }

    #[test]
    fn a_failed_fork_says_why_and_nothing_else() {
        let error = ApiError { code: 507, message: "full".into() };
        let wire = to_value(ForkResult { sandbox: None, error: Some(error) }).unwrap();
        assert_eq!(wire, json!({"error": {"code": 507, "message": "full"}}));
    }
}
