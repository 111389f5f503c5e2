//! Fresh randomness from the host.
//!
//! Two guests restored from one snapshot would give out the same random numbers. The vmgenid device makes the kernel reseed, but only
//! some time after the guest runs again; this reseeds before any user process does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dormouse_agent_proto::control::MAX_ENTROPY_BYTES;
use thiserror::Error;
use zeroize::Zeroizing;

#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum EntropyError {
    #[error("entropy is not base64")]
    NotBase64,
    #[error("entropy has {bytes} bytes, send at most {MAX_ENTROPY_BYTES}")]
    TooLong { bytes: usize },
}

pub(super) fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, EntropyError> {
    let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| EntropyError::NotBase64)?);
    if bytes.len() > MAX_ENTROPY_BYTES {
        return Err(EntropyError::TooLong { bytes: bytes.len() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_base64_of_at_most_4096_bytes() {
        assert_eq!(decode("AAEC").unwrap().as_slice(), [0, 1, 2]);
        assert_eq!(decode("not base64!").unwrap_err(), EntropyError::NotBase64);
        assert!(decode(&STANDARD.encode([7; 4096])).is_ok());
        assert_eq!(decode(&STANDARD.encode([7; 4097])).unwrap_err(), EntropyError::TooLong { bytes: 4097 });
    }
}
