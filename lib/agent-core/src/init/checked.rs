//! Requests of which nothing can be refused any more.

use std::net::IpAddr;

use dormouse_agent_proto::control::InitRequest;
use http::StatusCode;
use jiff::Timestamp;
use zeroize::{Zeroize, Zeroizing};

use super::ca_bundle::CaBundle;
use super::volume::{self, Volume};
use super::{entropy, is_hostname};
use crate::server::HttpError;

pub(super) struct Checked {
    pub(super) request: InitRequest,
    pub(super) timestamp: Option<Timestamp>,
    pub(super) entropy: Option<Zeroizing<Vec<u8>>>,
    /// Where E2B's hosts take events from programs in the guest.
    pub(super) events: Option<IpAddr>,
    pub(super) volumes: Option<Vec<Volume>>,
    pub(super) ca_bundle: Option<CaBundle>,
}

impl Drop for Checked {
    /// The token that counts lies elsewhere; of this copy nothing stays in memory.
    fn drop(&mut self) {
        self.request.access_token.zeroize();
        self.request.entropy.zeroize();
    }
}

pub(super) fn bad_request(message: String) -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST, message)
}

impl Checked {
    pub(super) fn new(request: InitRequest) -> Result<Self, HttpError> {
        let timestamp = request.timestamp.as_deref().map(str::parse).transpose();
        let timestamp = timestamp.map_err(|error| bad_request(format!("timestamp is not RFC 3339: {error}")))?;
        let entropy = request.entropy.as_deref().map(entropy::decode).transpose();
        let entropy = entropy.map_err(|error| bad_request(error.to_string()))?;
        if let Some(name) = request.hostname.as_ref().filter(|name| !is_hostname(name)) {
            return Err(bad_request(format!("not a host name: {name:?}")));
        }
        let events = request.hyperloop_ip.as_deref().filter(|ip| !ip.is_empty()).map(str::parse).transpose();
        let events = events.map_err(|error| bad_request(format!("hyperloopIP is not an address: {error}")))?;
        let volumes = request.volume_mounts.as_deref().map(volume::check_all).transpose();
        let volumes = volumes.map_err(|error| bad_request(error.to_string()))?;
        let ca_bundle = CaBundle::parse(request.ca_bundle.as_deref().unwrap_or_default());
        let ca_bundle = ca_bundle.map_err(|error| bad_request(error.to_string()))?;
        Ok(Self { request, timestamp, entropy, events, volumes, ca_bundle })
    }
}
