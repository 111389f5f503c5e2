//! What a downloaded file is called (RFC 6266).

use std::path::Path;

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but `attr-char` of RFC 8187.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// `inline` with the name of the file at `path`. A name that cannot stand in a quoted string is given twice: with `_` for what cannot,
/// and encoded.
pub(super) fn disposition(path: &Path) -> HeaderValue {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let plain: String =
        name.chars().map(|c| if matches!(c, ' '..='~') && c != '"' && c != '\\' { c } else { '_' }).collect();
    let mut text = format!("inline; filename=\"{plain}\"");
    if plain != name {
        text.push_str("; filename*=UTF-8''");
        text.extend(utf8_percent_encode(&name, ENCODED));
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("inline"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plain_name_is_given_once_and_a_strange_one_twice() {
        assert_eq!(disposition(Path::new("/a/b.txt")), "inline; filename=\"b.txt\"");
        assert_eq!(
            disposition(Path::new("/a\"b\r\nX: 1ü")),
            "inline; filename=\"a_b__X: 1_\"; filename*=UTF-8''a%22b%0D%0AX%3A%201%C3%BC"
        );
    }

    proptest! {
        #[test]
        fn no_name_breaks_out_of_its_quotes_or_the_header(name in "[^/\0]{1,40}") {
            let value = disposition(&Path::new("/").join(&name));
            let text = value.to_str().unwrap();
            prop_assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)));
            prop_assert!(matches!(text.matches('"').count(), 0 | 2));
        }
    }
}
