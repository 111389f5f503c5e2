//! Templates as E2B shows them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One template in the answer to `GET /templates`. E2B requires every field, also those that are `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Its name.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// What its sandboxes start from; here the snapshot.
    #[serde(rename = "buildID")]
    pub build_id: String,
    /// Virtual CPUs of its sandboxes.
    pub cpu_count: u32,
    /// Guest RAM of its sandboxes in MiB.
    #[serde(rename = "memoryMB")]
    pub memory_mb: u64,
    /// Virtual size of their disk in MiB.
    #[serde(rename = "diskSizeMB")]
    pub disk_size_mb: u64,
    /// Whether others may use it.
    pub public: bool,
    /// Further names.
    pub aliases: Vec<String>,
    /// All names.
    pub names: Vec<String>,
    /// When it was built.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// By whom.
    pub created_by: Option<String>,
    /// When a sandbox was last started from it.
    pub last_spawned_at: Option<Timestamp>,
    /// How many sandboxes were started from it.
    pub spawn_count: u64,
    /// How often it was built.
    pub build_count: u64,
    /// Version of the agent in it.
    pub envd_version: String,
    /// How far its build is.
    pub build_status: BuildStatus,
}

/// How far the build of a template is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildStatus {
    /// Under way.
    Building,
    /// Sandboxes can be started.
    Ready,
    /// It failed.
    Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_there_even_when_it_says_nothing() {
        let at: Timestamp = "2026-11-23T13:00:00Z".parse().unwrap();
        let template = Template {
            template_id: "base".into(),
            build_id: "s1".into(),
            cpu_count: 1,
            memory_mb: 1024,
            disk_size_mb: 4096,
            public: false,
            aliases: vec![],
            names: vec!["base".into()],
            created_at: at,
            updated_at: at,
            created_by: None,
            last_spawned_at: None,
            spawn_count: 0,
            build_count: 1,
            envd_version: "0.6.13".into(),
            build_status: BuildStatus::Ready,
        };
        let wire = serde_json::to_value(template).unwrap();
        let mut names: Vec<&str> = wire.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        let required = "aliases buildCount buildID buildStatus cpuCount createdAt createdBy diskSizeMB envdVersion \
            lastSpawnedAt memoryMB names public spawnCount templateID updatedAt";
        assert_eq!(names, required.split_whitespace().collect::<Vec<_>>());
    }
}
