//! `POST /init`: what the host tells the guest, at the start of each of its lives.

mod ca_bundle;
mod checked;
pub(crate) mod clock;
mod entropy;
mod envs;
mod guest;
mod hostname;
mod hosts;
mod machine_id;
pub(crate) mod nfs_client;
mod route;
mod settings;
mod volume;
mod volumes;

pub(crate) use envs::envs;
pub(crate) use guest::recover_alone;
pub(crate) use hostname::{is_hostname, set_hostname};
pub(crate) use route::init;
pub(crate) use settings::Settings;
pub(crate) use volume::Ports as VolumePorts;
pub use volume::Volume;
