//! Users and the paths they mean. No name service is ever asked: a static program must not load it.

mod path;
mod request_user;
mod users;

pub(crate) use path::{PathError, resolve};
pub(crate) use request_user::basic_user;
pub(crate) use users::{IdentityError, Names, User, UserDatabase};
