//! Signed file addresses, as E2B SDKs make them:
//! `v1_` + unpadded base64(SHA-256(`path:operation:username:token[:expiration]`)).

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// What a signature allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileOperation {
    Read,
    Write,
}

/// The query of `/files`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct SignedQuery {
    pub(crate) path: Option<String>,
    pub(crate) username: Option<String>,
    signature: Option<String>,
    signature_expiration: Option<i64>,
}

/// Why a signature was refused. The texts are part of the E2B API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum SignatureError {
    #[error("missing signature query parameter")]
    Missing,
    #[error("invalid signature")]
    Invalid,
    #[error("signature is already expired")]
    Expired,
}

/// Checks `query` against `token` at `now` (Unix seconds).
pub(super) fn check(
    query: &SignedQuery,
    operation: FileOperation,
    token: &str,
    now: i64,
) -> Result<(), SignatureError> {
    let given = query.signature.as_deref().ok_or(SignatureError::Missing)?;
    let right = sign(query, operation, token);
    if !bool::from(right.as_bytes().ct_eq(given.as_bytes())) {
        return Err(SignatureError::Invalid);
    }
    if query.signature_expiration.is_some_and(|expiration| expiration < now) {
        return Err(SignatureError::Expired);
    }
    Ok(())
}

fn sign(query: &SignedQuery, operation: FileOperation, token: &str) -> String {
    let operation = match operation {
        FileOperation::Read => "read",
        FileOperation::Write => "write",
    };
    let mut hash = Sha256::new();
    for part in
        [query.path.as_deref().unwrap_or(""), ":", operation, ":", query.username.as_deref().unwrap_or(""), ":", token]
    {
        hash.update(part);
    }
    if let Some(expiration) = query.signature_expiration {
        hash.update(format!(":{expiration}"));
    }
    format!("v1_{}", STANDARD_NO_PAD.encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "tok_imock000000000000001";
    const VECTOR: &str = "v1_aObyVvzXj1vdjGDlQdwfC6Xx+hEaeINMYVPMp/mk9mc";

    fn query(signature: Option<&str>, signature_expiration: Option<i64>) -> SignedQuery {
        SignedQuery {
            path: Some("/home/user/a.txt".into()),
            username: None,
            signature: signature.map(str::to_owned),
            signature_expiration,
        }
    }

    #[test]
    fn the_known_signature_opens_the_file_for_reading_only() {
        let query = query(Some(VECTOR), None);
        assert_eq!(check(&query, FileOperation::Read, TOKEN, 0), Ok(()));
        assert_eq!(check(&query, FileOperation::Write, TOKEN, 0), Err(SignatureError::Invalid));
        assert_eq!(check(&query, FileOperation::Read, "other", 0), Err(SignatureError::Invalid));
    }

    #[test]
    fn a_missing_signature_says_so() {
        assert_eq!(check(&query(None, None), FileOperation::Read, TOKEN, 0), Err(SignatureError::Missing));
    }

    #[test]
    fn a_signature_holds_until_its_expiration_and_no_longer() {
        let signature = sign(&query(None, Some(1000)), FileOperation::Read, TOKEN);
        let signed = query(Some(&signature), Some(1000));
        assert_eq!(check(&signed, FileOperation::Read, TOKEN, 1000), Ok(()));
        assert_eq!(check(&signed, FileOperation::Read, TOKEN, 1001), Err(SignatureError::Expired));
        let stretched = query(Some(&signature), Some(2000));
        assert_eq!(check(&stretched, FileOperation::Read, TOKEN, 1001), Err(SignatureError::Invalid));
    }
}
