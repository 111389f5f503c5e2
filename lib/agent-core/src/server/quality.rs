//! Headers by which clients weigh alternatives (RFC 9110, section 12.4.2).

use http::{HeaderMap, HeaderName};

/// The alternatives that header `name` lists, in lower case and without parameters, with their weights; 1 where none is given, 0
/// where it makes no sense.
pub(crate) fn weighed(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = (String, f32)> {
    let lists = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(|one| {
        let mut parts = one.split(';').map(str::trim);
        let alternative = parts.next().unwrap_or("").to_ascii_lowercase();
        let weight = parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q="))).unwrap_or("1");
        (alternative, weight.parse::<f32>().ok().filter(|weight| weight.is_finite()).unwrap_or(0.0))
    })
}
