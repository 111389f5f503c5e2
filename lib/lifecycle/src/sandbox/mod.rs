//! One sandbox: what may happen to it in which phase ([`decide`]), and the one task that makes it happen ([`owner`],
//! [`copies`]).

mod copies;
mod decide;
mod handle;
mod owner;

pub(crate) use handle::{Command, ForkSource, Handle};
pub(crate) use owner::{Owner, in_time};
