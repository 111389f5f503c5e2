//! The guest agent, PID 1 of a dormouse microVM.
#![forbid(unsafe_code)]

mod arguments;
mod run;

use std::process::ExitCode;

use arguments::Arguments;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        run::guest();
        return ExitCode::FAILURE;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Arguments::parse(&arguments) {
        Ok(Arguments::Help) => arguments::say(arguments::HELP),
        Ok(Arguments::Version) => arguments::say(concat!("dormouse-agent ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Arguments::NoVm { listen }) => match run::plain(listen) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => arguments::complain(&format!("{error:#}")),
        },
        Err(error) => arguments::complain(&error),
    }
}
