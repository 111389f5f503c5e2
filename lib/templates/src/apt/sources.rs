//! apt's sources in both of their forms, sources.list(5).

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::BuildError;
use crate::error::AtPath;

/// One stanza of a deb822 source file; a one-line source is turned into one. All fields are kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    fields: Vec<(String, String)>,
}

impl Source {
    /// The value of a field, whose name is matched in any case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The words of a field; none when it is absent.
    pub(crate) fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        self.get(name).unwrap_or_default().split_whitespace()
    }

    /// Sets a field, in place of an older value.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        match self.fields.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case(name)) {
            Some((_, old)) => *old = value,
            None => self.fields.push((name.to_owned(), value)),
        }
    }

    /// Whether it is in use and offers binary packages.
    pub(crate) fn is_active(&self) -> bool {
        let off = self.get("Enabled").is_some_and(|value| ["no", "false", "0"].contains(&value.trim()));
        !off && self.words("Types").any(|kind| kind == "deb")
    }

    /// The stanza as text, to be followed by an empty line.
    pub(crate) fn to_deb822(&self) -> String {
        self.fields.iter().map(|(key, value)| format!("{key}: {value}\n")).collect()
    }
}

/// Every source of this machine: `/etc/apt/sources.list` and the files in `sources.list.d` that apt would read.
pub(crate) fn machine_sources(etc_apt: &Path) -> Result<Vec<Source>, BuildError> {
    let parts = etc_apt.join("sources.list.d");
    let mut paths = vec![etc_apt.join("sources.list")];
    match fs::read_dir(&parts) {
        Ok(entries) => paths.extend(entries.filter_map(|entry| Some(entry.ok()?.path()))),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).at(&parts),
    }
    paths.sort();
    let mut sources = Vec::new();
    for path in paths {
        let parse = match path.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => parse_deb822,
            Some("list") => parse_one_line,
            _ => continue,
        };
        match fs::read_to_string(&path) {
            Ok(text) => sources.extend(parse(&text)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).at(&path),
        }
    }
    Ok(sources)
}

fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut source = Source::default();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
        } else if line.trim().is_empty() {
            if !source.fields.is_empty() {
                sources.push(std::mem::take(&mut source));
            }
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = source.fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((key, value)) = line.split_once(':') {
            source.fields.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    sources
}

fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(|line| one_line(line.split('#').next().unwrap_or_default())).collect()
}

/// `deb [option=value …] uri suite [component …]`
fn one_line(line: &str) -> Option<Source> {
    let (kind, rest) = line.trim().split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let mut source = Source::default();
    source.set("Types", kind.to_owned());
    source.set("URIs", words.next()?.to_owned());
    source.set("Suites", words.next()?.to_owned());
    source.set("Components", words.collect::<Vec<_>>().join(" "));
    for (name, value) in options.split_whitespace().filter_map(|option| option.split_once('=')) {
        source.set(deb822_name(name.trim_end_matches(['+', '-'])), value.replace(',', " "));
    }
    Some(source)
}

/// The field that an option of the one-line form becomes; the others have the same name in both forms.
fn deb822_name(option: &str) -> &str {
    match option {
        "arch" => "Architectures",
        "lang" => "Languages",
        "target" => "Targets",
        "signed-by" => "Signed-By",
        "trusted" => "Trusted",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let line = "deb [arch=amd64,i386 signed-by=/k.gpg] http://m/debian bookworm main contrib # ours\n";
        let stanza = "# ours\nTypes: deb\nURIs: http://m/debian\nSuites: bookworm\nComponents: main contrib\n\
                      Architectures: amd64 i386\n# more\nSigned-By: /k.gpg\n";
        assert_eq!(parse_one_line(line), parse_deb822(stanza));
    }

    #[test]
    fn a_key_within_a_stanza_is_kept_as_it_is() {
        let stanza = "Types: deb\nSigned-By:\n -----BEGIN PGP-----\n .\n abc\n\n\n\nTypes: deb-src\n";
        let sources = parse_deb822(stanza);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].get("signed-by"), Some("\n -----BEGIN PGP-----\n .\n abc"));
        assert_eq!(parse_deb822(&sources[0].to_deb822()), sources[..1]);
        assert!(sources[0].is_active() && !sources[1].is_active());
    }

    #[test]
    fn only_files_that_apt_reads_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let parts = dir.path().join("sources.list.d");
        fs::create_dir(&parts).unwrap();
        fs::write(parts.join("a.list"), "deb http://a/ x main\n#deb http://b/ x main\nnonsense\n").unwrap();
        fs::write(parts.join("b.sources.save"), "Types: deb\nURIs: http://c/\n").unwrap();
        fs::write(parts.join("c.sources"), "Types: deb\nURIs: http://d/\nEnabled: no\n").unwrap();
        let sources = machine_sources(dir.path()).unwrap();
        let uris: Vec<_> = sources.iter().filter_map(|source| source.get("URIs")).collect();
        assert_eq!(uris, ["http://a/", "http://d/"]);
        assert!(!sources[1].is_active());
    }
}
