//! Which of the machine's sources serve a build, and how they look for another release of the same mirror.

use super::Source;
use crate::BuildError;

/// Which suites of a release are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suites {
    /// The release itself with its updates and security updates.
    Release,
    /// Only its backports, derived from the release's own source when the machine has none.
    Backports,
}

/// The machine's sources of the component `main` for the release `wanted`, made from those for its own release `own`:
/// same mirrors, same keys. Sources of anything else (third parties) are left out.
pub(crate) fn select(sources: &[Source], own: &str, wanted: &str, suites: Suites) -> Result<Vec<Source>, BuildError> {
    let mut chosen: Vec<Source> = Vec::new();
    for source in sources.iter().filter(|source| source.is_active() && source.words("Components").any(|c| c == "main"))
    {
        let names: Vec<String> =
            source.words("Suites").filter_map(|suite| translate(suite, own, wanted, suites)).collect();
        if names.is_empty() || own.is_empty() {
            continue;
        }
        let mut source = source.clone();
        source.set("Types", "deb".to_owned());
        source.set("Suites", names.join(" "));
        source.set("Components", "main".to_owned());
        if !chosen.contains(&source) {
            chosen.push(source);
        }
    }
    if chosen.is_empty() { Err(BuildError::NoAptSource { suite: own.to_owned() }) } else { Ok(chosen) }
}

fn translate(suite: &str, own: &str, wanted: &str, suites: Suites) -> Option<String> {
    let pocket = suite.strip_prefix(own)?;
    match (suites, pocket) {
        (Suites::Release, "" | "-updates" | "-security" | "/updates") => Some(format!("{wanted}{pocket}")),
        (Suites::Backports, "") => Some(format!("{wanted}-backports")),
        _ => None,
    }
}

/// The sources as they may be shown to others: without user names and passwords in addresses.
pub(super) fn without_credentials(source: &Source) -> Source {
    let uris: Vec<String> = source
        .words("URIs")
        .map(|uri| match uri.split_once("://") {
            Some((scheme, rest)) => {
                let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                format!("{scheme}://{}{path}", host.rsplit('@').next().unwrap_or_default())
            }
            None => uri.to_owned(),
        })
        .collect();
    let mut clean = source.clone();
    clean.set("URIs", uris.join(" "));
    clean
}

impl Source {
    /// This source without user names and passwords in its addresses, to be left in a guest.
    pub(crate) fn without_credentials(&self) -> Self {
        without_credentials(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uri: &str, suites: &str, components: &str) -> Source {
        let mut source = Source::default();
        for (name, value) in [("Types", "deb"), ("URIs", uri), ("Suites", suites), ("Components", components)] {
            source.set(name, value.to_owned());
        }
        source.set("Signed-By", "/key".to_owned());
        source
    }

    fn shown(sources: &[Source]) -> Vec<String> {
        sources.iter().map(|s| format!("{} {}", s.get("URIs").unwrap(), s.get("Suites").unwrap())).collect()
    }

    #[test]
    fn another_release_comes_from_the_same_mirrors_and_third_parties_are_left_out() {
        let sources = [
            source("http://m/debian", "bookworm bookworm-updates bookworm-backports", "main contrib"),
            source("http://m/security", "bookworm-security", "main"),
            source("http://other/", "nodistro", "main"),
            source("http://cloud/", "bookworm", "stable"),
        ];
        let own = select(&sources, "bookworm", "bookworm", Suites::Release).unwrap();
        assert_eq!(shown(&own), ["http://m/debian bookworm bookworm-updates", "http://m/security bookworm-security"]);
        let next = select(&sources, "bookworm", "trixie", Suites::Release).unwrap();
        assert_eq!(shown(&next), ["http://m/debian trixie trixie-updates", "http://m/security trixie-security"]);
        let backports = select(&sources, "bookworm", "bookworm", Suites::Backports).unwrap();
        assert_eq!(shown(&backports), ["http://m/debian bookworm-backports"]);
        assert_eq!(backports[0].get("Signed-By"), Some("/key"));
    }

    #[test]
    fn a_machine_without_sources_is_told_what_is_missing() {
        let error = select(&[], "bookworm", "bookworm", Suites::Release).unwrap_err().to_string();
        assert!(error.contains("suite bookworm"), "{error}");
    }

    #[test]
    fn passwords_stay_on_the_host() {
        let clean = source("https://me:pa@ss@m/debian http://n/x@y file:/srv", "a", "main").without_credentials();
        assert_eq!(clean.get("URIs"), Some("https://m/debian http://n/x@y file:/srv"));
    }
}
