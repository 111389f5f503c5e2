//! The command line. Three words need no parser crate in a program that is to stay small.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

pub(crate) const HELP: &str = "\
The guest agent of dormouse. As PID 1 of a guest it boots the guest and then serves.

Usage: dormouse-agent --no-vm --listen ADDRESS:PORT
       dormouse-agent --help | --version

  --no-vm               run as a plain process, for tests: no clock, disk, cgroup or host name is touched
  --listen ADDRESS:PORT where to serve HTTP
";

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arguments {
    Help,
    Version,
    NoVm { listen: SocketAddr },
}

impl Arguments {
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["--help" | "-h"] => Ok(Self::Help),
            ["--version" | "-V"] => Ok(Self::Version),
            ["--no-vm", "--listen", address] | ["--listen", address, "--no-vm"] => {
                let listen =
                    address.parse().map_err(|_| format!("'{address}' is not ADDRESS:PORT, as 127.0.0.1:49983"))?;
                Ok(Self::NoVm { listen })
            }
            _ => Err("not PID 1 and no '--no-vm --listen ADDRESS:PORT' given, see --help".into()),
        }
    }
}

pub(crate) fn say(text: &str) -> ExitCode {
    if std::io::stdout().write_all(text.as_bytes()).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub(crate) fn complain(text: &str) -> ExitCode {
    // Without a standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "dormouse-agent: {text}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn an_agent_outside_a_guest_must_be_asked_for() {
        assert!(parse(&[]).is_err());
        assert!(parse(&["--no-vm"]).is_err());
        assert_eq!(
            parse(&["--no-vm", "--listen", "127.0.0.1:0"]),
            Ok(Arguments::NoVm { listen: ([127, 0, 0, 1], 0).into() })
        );
        assert!(parse(&["--no-vm", "--listen", "localhost"]).unwrap_err().contains("ADDRESS:PORT"));
    }
}
