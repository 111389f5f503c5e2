//! The command line as users write it.

use clap::{CommandFactory, Parser};

use super::{Args, Command};

fn parse(line: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(line.split_whitespace())
}

#[test]
fn the_definition_of_the_command_line_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn what_the_manual_shows_is_understood() {
    for line in [
        "dormouse serve --listen 127.0.0.1:3000 --agent /x",
        "dormouse serve --store s3://bucket/prefix --store-cache 20G --store-wait 5m",
        "dormouse store verify --fetch base",
        "dormouse store gc --remote --dry-run",
        "dormouse template build base",
        "dormouse template build data --package jq --package git --ram 2G --vcpus 2 --disk 4G --kernel backports --no-la57",
        "dormouse template build mine --rootfs ./rootfs.tar",
        "dormouse template ls --json",
        "dormouse template rm base",
        "dormouse run -t base -e A=1 -- uname -a",
        "dormouse run uname -a",
        "dormouse create -t base --timeout 1h --on-timeout pause -e A=1 --metadata k=v",
        "dormouse exec i3f -u root -w /tmp -e A=1 -i -- ls -l",
        "dormouse shell i3f",
        "dormouse cp a.txt i3f:b.txt",
        "dormouse ls --json",
        "dormouse pause i3f --cache drop --measure",
        "dormouse resume i3f --timeout 90s",
        "dormouse fork i3f -n 3",
        "dormouse rm i3f i4e",
        "dormouse rm --all",
        "dormouse inspect i3f --svg a.svg --png a.png",
        "dormouse snapshot inspect i3f --json",
        "dormouse store stats --json",
        "dormouse store verify",
        "dormouse store verify base s4o --json",
        "dormouse store gc --dry-run",
        "dormouse console i3f",
        "dormouse doctor --json",
        "dormouse completions bash",
        "dormouse ls --state /x",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "dormouse",
        "dormouse template build x --rootfs a --package b",
        "dormouse create --timeout soon",
        "dormouse create --on-timeout forget",
        "dormouse exec i3f ls",
        "dormouse fork i3f -n 0",
        "dormouse fork i3f -n 101",
        "dormouse rm",
        "dormouse rm i3f --all",
        "dormouse run",
        "dormouse create -e =1",
    ] {
        assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
    }
}

#[test]
fn words_after_the_command_belong_to_it() {
    let Command::Run(_) = parse("dormouse run -t base ls -t --help").unwrap().command else { panic!("not a run") };
}

#[test]
fn the_help_text_is_the_one_in_the_snapshot() {
    let help = Args::command().render_help().to_string();
    insta::assert_snapshot!(help);
}
