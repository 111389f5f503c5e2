//! Who may call: the access token and file signatures.

mod guard;
mod signature;
mod token;

pub(crate) use guard::{files_allowed, init_allowed, require_token};
pub(crate) use signature::{FileOperation, SignedQuery};
pub(crate) use token::Access;
