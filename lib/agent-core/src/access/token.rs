//! The access token.

use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::signature::{FileOperation, SignatureError, SignedQuery, check};

/// The current token, if any. Without one everything is open. The memory of a token that is replaced is zeroed.
#[derive(Default)]
pub(crate) struct Access {
    token: Mutex<Option<Zeroizing<String>>>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("secured", &self.is_secured()).finish()
    }
}

impl Access {
    pub(crate) fn set(&self, token: &str) {
        let token = Zeroizing::new(token.to_owned());
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }

    pub(crate) fn is_secured(&self) -> bool {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// True when `given` is the token, or when there is none to ask for. Takes the same time wherever the two differ.
    pub(crate) fn admits(&self, given: Option<&[u8]>) -> bool {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*token, given) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(token), Some(given)) => {
                Sha256::digest(token.as_bytes()).as_slice().ct_eq(Sha256::digest(given).as_slice()).into()
            }
        }
    }

    /// Checks a file signature against the current token at `now` (Unix seconds). Open when there is no token.
    pub(crate) fn admits_signature(
        &self,
        query: &SignedQuery,
        operation: FileOperation,
        now: i64,
    ) -> Result<(), SignatureError> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token.as_ref().map_or(Ok(()), |token| check(query, operation, token, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_open_until_a_token_is_set() {
        let access = Access::default();
        assert!(access.admits(None));
        access.set("tok");
        assert!(!access.admits(None));
        assert!(!access.admits(Some(b"to")));
        assert!(!access.admits(Some(b"tok2")));
        assert!(access.admits(Some(b"tok")));
    }

    #[test]
    fn a_token_lies_in_memory_that_is_zeroed_when_it_goes_and_is_not_shown() {
        fn zeroed<T: zeroize::ZeroizeOnDrop>(_: &T) {}
        let access = Access::default();
        access.set("tok");
        zeroed(access.token.lock().unwrap().as_ref().unwrap());
        assert!(!format!("{access:?}").contains("tok"));
    }

    #[test]
    fn a_new_token_replaces_the_old() {
        let access = Access::default();
        access.set("old");
        access.set("new");
        assert!(!access.admits(Some(b"old")));
        assert!(access.admits(Some(b"new")));
    }
}
