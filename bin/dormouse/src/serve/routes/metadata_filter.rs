//! The `metadata` filter of lists.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use crate::serve::failure::{Answer, Failure};

/// Labels that a sandbox must have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MetadataFilter(Vec<(String, String)>);

impl MetadataFilter {
    /// Reads `k=v&k2=v2`, as it is after the URL's query was decoded. SDKs percent-encode keys and values before they
    /// make a query string of them, and that once more for the URL, so two decodings remain.
    pub(crate) fn parse(text: &str) -> Answer<Self> {
        let decode = |part: &str| {
            let decoded = percent_decode_str(part).decode_utf8();
            decoded.map(String::from).map_err(|_| Failure::bad_request("metadata is no UTF-8 text"))
        };
        let pairs = form_urlencoded::parse(text.as_bytes());
        pairs.map(|(k, v)| Ok((decode(&k)?, decode(&v)?))).collect::<Answer<_>>().map(Self)
    }

    /// Whether all labels are there.
    pub(crate) fn matches(&self, metadata: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(k, v)| metadata.get(k) == Some(v))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_query_of_the_sdk_is_decoded_thrice_in_all() {
        // Raw: metadata=a%252520b%3Dc%252526d%26x%3D1; what is left when the URL's query is decoded:
        let filter = MetadataFilter::parse("a%2520b=c%2526d&x=1").unwrap();
        let has = |pairs: &[(&str, &str)]| {
            filter.matches(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
        };
        assert!(has(&[("a b", "c&d"), ("x", "1"), ("more", "")]));
        assert!(!has(&[("a b", "c&d"), ("x", "2")]));
        assert!(!has(&[("x", "1")]));
    }

    #[test]
    fn no_filter_matches_everything_and_a_broken_one_is_refused() {
        assert!(MetadataFilter::default().matches(&BTreeMap::new()));
        assert_eq!(MetadataFilter::parse("k=%25ff").unwrap_err().status, 400);
    }
}
