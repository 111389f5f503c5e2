//! The manifest: the JSON file that names all parts of a snapshot. Its presence says that they are complete.
//!
//! The file is `{"format": "dormouse-manifest", "version": 2, "checksum": …, "body": {…}}`; the checksum is BLAKE3 over the
//! bytes of the body as they stand in the file, from `{` to `}`. See `docs/formats/manifest.md`.

mod body;
mod error;
mod file;
mod v1;

pub use body::{
    BadFileName, BaseDiskRef, DeviceStateRef, FileName, Introspection, IntrospectionMethod, Manifest, MemoryRef,
    OverlayRef,
};
pub use error::ManifestError;
pub use file::{FILE_NAME, MAX_LEN, VERSION};
