//! Building a template.

use dormouse_guest_mem::Bytes;
use serde::{Deserialize, Serialize};

use super::TemplateEntry;

/// Body of `POST /dormouse/v1/templates/{name}/build`. What is absent is chosen by the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuildRequest {
    /// Where the root filesystem comes from.
    #[serde(default)]
    pub root: Root,
    /// Which kernel.
    #[serde(default)]
    pub kernel: Kernel,
    /// Virtual CPUs of sandboxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u8>,
    /// Guest RAM of sandboxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram: Option<Bytes>,
    /// Virtual size of their disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Bytes>,
    /// Whether the guest may use five-level page tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub five_level_paging: Option<bool>,
    /// More words for the kernel command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_args: Option<String>,
}

/// Where a template's root filesystem comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum Root {
    /// Debian with what the template `base` promises.
    #[default]
    Base,
    /// Debian with these packages beside those of `base`.
    Packages {
        /// Names of Debian packages.
        packages: Vec<String>,
    },
    /// A folder on the server's machine.
    Directory {
        /// Absolute path.
        path: String,
    },
    /// A tar file on the server's machine.
    Tar {
        /// Absolute path.
        path: String,
    },
}

/// Which of Debian's kernels a template boots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// That of the release.
    #[default]
    Stable,
    /// That of the backports suite.
    Backports,
}

/// One line of the answer to a build, as NDJSON. The last line is `done` or `error`; an answer that ends without
/// one was cut off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildEvent {
    /// A step begins.
    Step(String),
    /// The current step is so far.
    Advance {
        /// Units done; bytes or items, as the step has it.
        done: u64,
        /// Units in all, when known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
    },
    /// The template is there.
    Done {
        /// The template.
        template: TemplateEntry,
        /// Whether it was there already, built by the same recipe.
        unchanged: bool,
    },
    /// The build failed and left nothing behind.
    Error(crate::ApiError),
}

#[cfg(test)]
mod tests {
    use serde_json::{from_str, json, to_value};

    use super::*;

    #[test]
    fn an_empty_request_builds_the_base_template() {
        let request: BuildRequest = from_str("{}").unwrap();
        assert_eq!((&request.root, request.kernel), (&Root::Base, Kernel::Stable));
        assert_eq!(to_value(request).unwrap(), json!({"root": {"from": "base"}, "kernel": "stable"}));
        assert!(from_str::<BuildRequest>(r#"{"vcpu":2}"#).is_err(), "a misspelt option must not pass in silence");
    }

    #[test]
    fn events_are_told_apart_by_their_one_key() {
        assert_eq!(to_value(BuildEvent::Step("kernel".into())).unwrap(), json!({"step": "kernel"}));
        let advance = BuildEvent::Advance { done: 1, total: None };
        assert_eq!(to_value(&advance).unwrap(), json!({"advance": {"done": 1}}));
        assert_eq!(from_str::<BuildEvent>(r#"{"advance":{"done":1}}"#).unwrap(), advance);
        let error = BuildEvent::Error(crate::ApiError { code: 500, message: "m".into() });
        assert_eq!(to_value(error).unwrap(), json!({"error": {"code": 500, "message": "m"}}));
    }
}
