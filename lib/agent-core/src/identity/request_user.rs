//! The user that a request names.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The user of `Authorization: Basic`, without its password. `None` when the request names none; an unreadable header is an empty
/// name, which no user has.
pub(crate) fn basic_user(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().unwrap_or("");
    let encoded = value.strip_prefix("Basic ").or_else(|| value.strip_prefix("basic "))?;
    let decoded = STANDARD.decode(encoded.trim()).unwrap_or_default();
    let text = String::from_utf8_lossy(&decoded);
    Some(text.split(':').next().unwrap_or("").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        basic_user(&headers)
    }

    #[test]
    fn the_name_stands_before_the_colon() {
        assert_eq!(user("Basic cm9vdDo=").as_deref(), Some("root"));
        assert_eq!(user("Bearer abc"), None);
        assert_eq!(user("Basic %%%").as_deref(), Some(""));
        assert_eq!(basic_user(&HeaderMap::new()), None);
    }
}
