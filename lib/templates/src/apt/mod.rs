//! What this machine's apt knows: its sources, and which packages they offer.

mod private;
mod release;
mod select;
mod sources;

pub(crate) use private::{Apt, Offer};
pub(crate) use release::Release;
pub(crate) use select::{Suites, select};
pub(crate) use sources::{Source, machine_sources};
