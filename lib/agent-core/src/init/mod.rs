//! `POST /init`: what the host tells the guest, at the start of each of its lives.

mod clock;
mod entropy;
mod hostname;
mod route;
mod settings;

pub(crate) use hostname::{is_hostname, set_hostname};
pub(crate) use route::init;
pub(crate) use settings::Settings;
