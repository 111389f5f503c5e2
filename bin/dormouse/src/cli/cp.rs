//! `dormouse cp`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::daemon::Daemon;
use super::guest::Guest;
use super::{copy, select};
use crate::command_error::{CommandError, CommandResult};

/// Copy a file to or from a running sandbox
///
/// One side is ID:PATH. A relative PATH starts at the user's home. A target that is a folder, or ends in `/`, takes the
/// file under its own name.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  dormouse cp data.csv i3f:/home/user/\n  dormouse cp i3f:result.txt .")]
pub(super) struct CpArgs {
    /// What to copy
    source: String,
    /// Where to
    target: String,
    /// User whose home relative paths start at, and who owns what is written
    #[arg(short, long)]
    user: Option<String>,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Here(&'a Path),
    There { id: &'a str, path: &'a str },
}

/// Runs it.
pub(super) async fn run(args: CpArgs, daemon: &Daemon) -> CommandResult {
    let user = args.user.as_deref();
    match (side(&args.source), side(&args.target)) {
        (Side::Here(from), Side::There { id, path }) => {
            let to = remote_target(path, from)?;
            refuse_folder(from, id, &to)?;
            let guest = reach(daemon, id, user).await?;
            copy::upload(&guest, from, &to, user).await?;
        }
        (Side::There { id, path }, Side::Here(to)) => {
            let to = local_target(to, path)?;
            let guest = reach(daemon, id, user).await?;
            copy::download(&guest, path, &to, user).await?;
        }
        _ => return Err(CommandError::usage("one side must be ID:PATH and the other a local path")),
    }
    Ok(ExitCode::SUCCESS)
}

async fn reach(daemon: &Daemon, id: &str, user: Option<&str>) -> CommandResult<Guest> {
    let id = select::sandbox(daemon, id).await?.id;
    Guest::of(daemon, &id, user).await
}

/// Ids are lower-case letters and digits; `./a:b` names a local file whatever it holds.
fn side(text: &str) -> Side<'_> {
    match text.split_once(':') {
        Some((id, path)) if !id.is_empty() && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9')) => {
            Side::There { id, path }
        }
        _ => Side::Here(Path::new(text)),
    }
}

fn remote_target(path: &str, from: &Path) -> CommandResult<String> {
    if !path.is_empty() && !path.ends_with('/') {
        return Ok(path.to_owned());
    }
    let name = from.file_name().and_then(|n| n.to_str());
    let name = name.ok_or_else(|| CommandError::usage(format!("{} has no usable file name", from.display())))?;
    Ok(format!("{path}{name}"))
}

fn local_target(to: &Path, from: &str) -> CommandResult<PathBuf> {
    if !to.is_dir() {
        return Ok(to.to_owned());
    }
    let name = Path::new(from).file_name();
    let name =
        name.ok_or_else(|| CommandError::usage(format!("{from:?} has no file name; give one for the target")))?;
    Ok(to.join(name))
}

fn refuse_folder(from: &Path, id: &str, to: &str) -> CommandResult<()> {
    if !from.is_dir() {
        return Ok(());
    }
    let error = CommandError::user(format!("{} is a folder, and only files can be copied", from.display()));
    let command = format!("tar c {} | dormouse exec -i {id} -- tar x -C {to}", from.display());
    Err(error.hint(format!("`{command}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_an_id_before_a_colon_is_a_sandbox() {
        assert_eq!(side("i3f:/etc/motd"), Side::There { id: "i3f", path: "/etc/motd" });
        assert_eq!(side("i3f:a:b"), Side::There { id: "i3f", path: "a:b" });
        for here in ["./a:b", "/tmp/x", "a", "A:b", ":b"] {
            assert_eq!(side(here), Side::Here(Path::new(here)), "{here}");
        }
    }

    #[test]
    fn a_folder_as_target_takes_the_file_under_its_own_name() {
        assert_eq!(remote_target("/tmp/", Path::new("a/b.txt")).unwrap(), "/tmp/b.txt");
        assert_eq!(remote_target("", Path::new("b.txt")).unwrap(), "b.txt");
        assert_eq!(remote_target("/tmp/c", Path::new("b.txt")).unwrap(), "/tmp/c");
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(local_target(folder.path(), "/etc/motd").unwrap(), folder.path().join("motd"));
        assert!(local_target(folder.path(), "/").is_err());
    }

    #[test]
    fn a_folder_is_refused_with_a_way_that_works() {
        let folder = tempfile::tempdir().unwrap();
        assert!(refuse_folder(folder.path(), "i3f", "/tmp").unwrap_err().message().contains("is a folder"));
    }
}
