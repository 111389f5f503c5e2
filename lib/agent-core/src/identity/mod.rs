//! Users and the paths they mean. No name service is ever asked: a static program must not load it.

mod path;
mod request_user;
mod users;

/// Reads the lines of `text` as users and as groups.
#[cfg(feature = "testing")]
pub(crate) fn read_any(text: &str) {
    for user in text.lines().filter_map(users::parse_user) {
        assert!(user.home.is_absolute() && !user.name.is_empty());
    }
    text.lines().filter_map(users::parse_group).for_each(drop);
}

pub(crate) use path::{PathError, resolve};
pub(crate) use request_user::basic_user;
pub(crate) use users::{IdentityError, Names, User, UserDatabase};
