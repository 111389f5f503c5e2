//! What is told about a written file.

use std::path::Path;

use serde::Serialize;

use super::metadata::Metadata;

/// One written file in the answer.
#[derive(Debug, Serialize)]
pub(super) struct Written {
    pub(super) path: String,
    name: String,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    metadata: Metadata,
}

impl Written {
    pub(super) fn new(path: &Path, metadata: &Metadata) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { path: path.to_string_lossy().into_owned(), name, r#type: "file", metadata: metadata.clone() }
    }
}
