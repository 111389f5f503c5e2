//! Which sandbox, snapshot or template is meant: ids may be cut short.

use dormouse_api_types::own::{SandboxEntry, SnapshotEntry, TemplateEntry};

use super::daemon::Daemon;
use crate::command_error::{CommandError, CommandResult};

/// How many candidates an error names.
const NAMED: usize = 5;

/// The sandbox whose id begins with `prefix`.
pub(super) async fn sandbox(daemon: &Daemon, prefix: &str) -> CommandResult<SandboxEntry> {
    let entries: Vec<SandboxEntry> = daemon.get("/dormouse/v1/sandboxes").await?;
    pick(prefix, entries, |entry| &entry.id).map_err(|e| e.into_error("sandbox", prefix))
}

/// The kept snapshot whose id begins with `text`, or the newest whose name it is.
pub(super) async fn kept(daemon: &Daemon, text: &str) -> CommandResult<SnapshotEntry> {
    let entries: Vec<SnapshotEntry> = daemon.get("/dormouse/v1/snapshots").await?;
    if let Some(named) = entries.iter().find(|entry| entry.name.as_deref() == Some(text)) {
        return Ok(named.clone());
    }
    pick(text, entries, |entry| &entry.id).map_err(|e| e.into_error("snapshot", text))
}

/// The snapshot that is meant by its name or a prefix of its id, or by a sandbox or template that has it.
pub(super) async fn snapshot(daemon: &Daemon, text: &str) -> CommandResult<String> {
    let sandboxes: Vec<SandboxEntry> = daemon.get("/dormouse/v1/sandboxes").await?;
    let templates: Vec<TemplateEntry> = daemon.get("/dormouse/v1/templates").await?;
    if let Some(template) = templates.iter().find(|t| t.name == text) {
        return Ok(template.snapshot.clone());
    }
    let kept: Vec<SnapshotEntry> = daemon.get("/dormouse/v1/snapshots").await?;
    if let Some(named) = kept.iter().find(|entry| entry.name.as_deref() == Some(text)) {
        return Ok(named.id.clone());
    }
    let mut named: Vec<(String, Option<String>)> = kept.into_iter().map(|s| (s.id.clone(), Some(s.id))).collect();
    for sandbox in sandboxes {
        named.extend(sandbox.snapshot.clone().map(|s| (s.clone(), Some(s))));
        named.push((sandbox.id, sandbox.snapshot));
    }
    named.extend(templates.into_iter().map(|t| (t.snapshot.clone(), Some(t.snapshot))));
    named.sort();
    named.dedup();
    let (id, snapshot) = pick(text, named, |n| &n.0).map_err(|e| e.into_error("sandbox or snapshot", text))?;
    let never = || {
        let error = CommandError::user(format!("sandbox {id} was never paused and has no snapshot"));
        error.hint(format!("`dormouse pause {id}` makes one"))
    };
    snapshot.ok_or_else(never)
}

/// Why a prefix names nothing.
#[derive(Debug, PartialEq, Eq)]
enum NoChoice {
    None,
    Many(Vec<String>),
}

/// The one whose id is `prefix`, or else the only one whose id begins with it.
fn pick<T>(prefix: &str, all: Vec<T>, id: impl Fn(&T) -> &String) -> Result<T, NoChoice> {
    let mut fitting: Vec<T> = all.into_iter().filter(|one| !prefix.is_empty() && id(one).starts_with(prefix)).collect();
    if let Some(exact) = fitting.iter().position(|one| id(one) == prefix) {
        return Ok(fitting.swap_remove(exact));
    }
    match fitting.pop() {
        None => Err(NoChoice::None),
        Some(only) if fitting.is_empty() => Ok(only),
        Some(last) => Err(NoChoice::Many(fitting.iter().chain([&last]).map(|one| id(one).clone()).collect())),
    }
}

impl NoChoice {
    fn into_error(self, what: &str, prefix: &str) -> CommandError {
        match self {
            Self::None => CommandError::user(format!("no {what} {prefix:?}")).hint("`dormouse ls` shows what there is"),
            Self::Many(ids) => {
                let shown = ids.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
                CommandError::user(format!("{prefix:?} fits {} ids: {shown}", ids.len())).hint("give more letters")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(prefix: &str) -> Result<String, NoChoice> {
        pick(prefix, ["iabc", "iabd", "ixyz", "ia"].map(String::from).to_vec(), |s| s)
    }

    #[test]
    fn a_prefix_that_fits_one_id_is_enough() {
        assert_eq!(choose("ix").unwrap(), "ixyz");
        assert_eq!(choose("iabd").unwrap(), "iabd");
    }

    #[test]
    fn a_whole_id_wins_over_longer_ones() {
        assert_eq!(choose("ia").unwrap(), "ia");
    }

    #[test]
    fn nothing_and_several_are_told_apart() {
        assert_eq!(choose("q"), Err(NoChoice::None));
        assert_eq!(choose(""), Err(NoChoice::None));
        assert_eq!(choose("iab"), Err(NoChoice::Many(vec!["iabc".into(), "iabd".into()])));
    }
}
