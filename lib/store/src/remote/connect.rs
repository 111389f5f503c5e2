//! From a description of the remote to something that can be asked.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::client::{HttpClient, HttpConnector};
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use rustls_platform_verifier::BuilderVerifierExt;

use super::target::{S3Target, Target};
use super::{RemoteError, RemoteLimits};

/// A connected remote.
pub(super) struct Connected {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// The same, if it takes large objects in parts that can be repeated one by one.
    pub(super) parts: Option<Arc<dyn MultipartStore>>,
    pub(super) prefix: Path,
}

pub(super) fn connect(target: &Target, limits: &RemoteLimits) -> Result<Connected, RemoteError> {
    match target {
        Target::Folder(path) => {
            let reason = |error: &dyn std::fmt::Display| RemoteError::Config {
                reason: format!("{} can not be opened: {error}", path.display()),
            };
            fs::create_dir_all(path).map_err(|error| reason(&error))?;
            let folder = LocalFileSystem::new_with_prefix(path).map_err(|error| reason(&error))?;
            Ok(Connected { objects: Arc::new(folder.with_fsync(true)), parts: None, prefix: Path::default() })
        }
        Target::S3(s3) => {
            let bucket = Arc::new(bucket(s3, limits)?);
            let prefix = Path::from(s3.prefix.as_str());
            Ok(Connected { objects: Arc::clone(&bucket) as Arc<_>, parts: Some(bucket), prefix })
        }
    }
}

fn bucket(s3: &S3Target, limits: &RemoteLimits) -> Result<object_store::aws::AmazonS3, RemoteError> {
    let plain_http = s3.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&s3.bucket)
        .with_region(s3.region.as_deref().unwrap_or("us-east-1"))
        .with_access_key_id(&s3.credentials.access_key_id)
        .with_secret_access_key(s3.credentials.secret_access_key.as_str())
        .with_allow_http(plain_http)
        // Not every server knows the call that deletes many objects.
        .with_disable_bulk_delete(true)
        // Retries are ours, so that they are counted and bounded in one place.
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .with_http_connector(Connector { connect: limits.stall, https_only: !plain_http });
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(token) = &s3.credentials.session_token {
        builder = builder.with_token(token.as_str());
    }
    builder.build().map_err(|error| RemoteError::Config { reason: error.to_string() })
}

/// Makes HTTP clients that read nothing from the environment and use the one TLS provider of this program.
#[derive(Debug)]
struct Connector {
    connect: Duration,
    https_only: bool,
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = self.client().map_err(|source| object_store::Error::Generic { store: "S3", source })?;
        Ok(HttpClient::new(client))
    }
}

impl Connector {
    fn client(&self) -> Result<reqwest::Client, Box<dyn std::error::Error + Send + Sync>> {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()?
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(self.https_only)
            .no_proxy()
            .connect_timeout(self.connect)
            .http1_only();
        Ok(client.build()?)
    }
}
