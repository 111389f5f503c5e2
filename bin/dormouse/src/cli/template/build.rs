//! `dormouse template build`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dormouse_api_types::own::{self, BuildEvent, Kernel, Root, TemplateEntry};
use dormouse_guest_mem::Bytes;

use crate::cli::daemon::{Daemon, segment};
use crate::cli::events::{self, Events};
use crate::cli::progress::Steps;
use crate::cli::{output, sizes};
use crate::command_error::{CommandError, CommandResult};

/// Build a template, or find that nothing changed since it was built
///
/// Makes a root filesystem, boots it once, and takes the snapshot from which sandboxes start. Parts that did not change
/// are used again. Ctrl-C ends the build and leaves nothing behind; a template of that name from before stays.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  dormouse template build base\n  dormouse template build data --package postgresql --ram 2G\n  dormouse template build mine --rootfs ./rootfs.tar"
)]
pub(in crate::cli) struct BuildArgs {
    /// Name: letters, digits, `-`, `_` and `.`
    name: String,
    /// Take the root filesystem from a folder or a tar file
    #[arg(long, value_name = "PATH", conflicts_with = "package")]
    rootfs: Option<PathBuf>,
    /// Add a Debian package to those of `base`; may be repeated
    #[arg(long, value_name = "NAME")]
    package: Vec<String>,
    /// RAM of its sandboxes [default: 1G]
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    ram: Option<Bytes>,
    /// Virtual CPUs of its sandboxes [default: 1]
    #[arg(long, value_name = "N")]
    vcpus: Option<u8>,
    /// Size of their disk; takes only what is written to it [default: 8G]
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    disk: Option<Bytes>,
    /// Which of Debian's kernels to boot
    #[arg(long, value_enum, default_value_t = KernelChoice::Stable)]
    kernel: KernelChoice,
    /// Keep the guest to four-level page tables
    #[arg(long)]
    no_la57: bool,
    /// More words for the kernel's command line
    #[arg(long, value_name = "WORDS")]
    kernel_args: Option<String>,
    /// Print the template as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum KernelChoice {
    /// That of the release
    Stable,
    /// The newer one of its backports suite
    Backports,
}

/// Runs it.
pub(super) async fn run(args: BuildArgs, daemon: &Daemon) -> CommandResult {
    let path = format!("/dormouse/v1/templates/{}/build", segment(&args.name));
    let json = args.json;
    let events = Events::new("build", daemon.stream(&path, &request(args)?).await?);
    let mut steps = Steps::new();
    let (template, unchanged) = follow(events, &mut steps).await?;
    steps.finish();
    let word = if unchanged { "unchanged" } else { "built" };
    match json {
        true => output::json(&template)?,
        false => output::print(&format!(
            "{word} {}: {} RAM, kernel {}, base {} and snapshot {} on disk\n",
            template.name, template.ram, template.kernel, template.base_on_disk, template.snapshot_on_disk
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn request(args: BuildArgs) -> CommandResult<own::BuildRequest> {
    let root = match (args.rootfs, args.package) {
        (Some(path), _) => from_path(&path)?,
        (None, packages) if packages.is_empty() => Root::Base,
        (None, packages) => Root::Packages { packages },
    };
    Ok(own::BuildRequest {
        root,
        kernel: match args.kernel {
            KernelChoice::Stable => Kernel::Stable,
            KernelChoice::Backports => Kernel::Backports,
        },
        vcpus: args.vcpus,
        ram: args.ram,
        disk: args.disk,
        five_level_paging: args.no_la57.then_some(false),
        kernel_args: args.kernel_args,
    })
}

fn from_path(path: &Path) -> CommandResult<Root> {
    let absolute = path.canonicalize().map_err(CommandError::io(path.display().to_string()))?;
    let text = absolute.to_str().ok_or_else(|| CommandError::usage(format!("{} is no UTF-8", path.display())))?;
    let path = text.to_owned();
    Ok(if absolute.is_dir() { Root::Directory { path } } else { Root::Tar { path } })
}

/// Reads events to the last one, showing those before.
async fn follow(mut events: Events, steps: &mut Steps) -> CommandResult<(TemplateEntry, bool)> {
    loop {
        match events.next().await? {
            BuildEvent::Step(text) => steps.step(&text),
            BuildEvent::Advance { done, total } => steps.advance(done, total),
            BuildEvent::Done { template, unchanged } => return Ok((template, unchanged)),
            BuildEvent::Error(error) => return Err(events::failed(error)),
        }
    }
}
