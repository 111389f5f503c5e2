//! The agent's API suite (`lib/agent-core/tests/api`), which runs on the host in seconds, in a real guest: against the guest's
//! kernel, its file systems and its user database's programs.
//!
//! It is the host's own build of the suite. The loader and the libraries that it needs go along, so that it does not matter what
//! the guest has of them.

use std::path::{Path, PathBuf};

use dormouse_vm_tests::{Guest, block_on, host, sandbox, scratch};
use tokio::process::Command;

/// Where it lies in the guest, and keeps its files: on the disk, since the tmpfs at `/tmp` has no extended attributes.
const FOLDER: &str = "/var/tmp/suite";
/// By how much the suite's time limits are stretched: emulation is that much slower on a busy machine.
const SLOWNESS: u32 = 10;

async fn output(command: &mut Command) -> String {
    let ran = command.output().await.unwrap();
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

/// The suite. Built of the whole workspace, as ./test does it, so that it is there already.
async fn built() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "test",
        "--release",
        "--locked",
        "--workspace",
        "--test",
        "api",
        "--no-run",
        "--message-format",
        "json",
    ]);
    let told = output(cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))).await;
    let messages = told.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut suites = messages.filter(|message| message["target"]["name"] == "api" && message["executable"].is_string());
    suites.find_map(|suite| suite["executable"].as_str().map(PathBuf::from)).expect("the API suite")
}

/// The loader of a program and the libraries that it loads.
async fn loaded_by(program: &Path) -> (PathBuf, Vec<PathBuf>) {
    let told = output(Command::new("ldd").arg(program)).await;
    // `NAME => PATH (ADDRESS)`, and for the loader `PATH (ADDRESS)`.
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    let (libraries, loader): (Vec<_>, Vec<_>) = told.lines().partition(|line| line.contains("=>"));
    let loader = loader.into_iter().find_map(path).expect("a loader");
    (loader, libraries.into_iter().filter_map(path).collect())
}

/// Puts a file there and tells its place. Without what only a debugger needs, which is most of the suite.
async fn put(guest: &Guest, file: &Path) -> String {
    let (place, folder) = (format!("{FOLDER}/{}", file.file_name().unwrap().to_str().unwrap()), scratch());
    let small = folder.path().join("small");
    output(Command::new("strip").arg("-o").arg(&small).arg(file)).await;
    guest.upload(&small, &place).await;
    place
}

/// How many tests a suite has.
async fn tests_of(suite: &Path) -> usize {
    output(Command::new(suite).arg("--list")).await.lines().filter(|line| line.ends_with(": test")).count()
}

#[test]
fn the_agents_api_suite_passes_in_a_real_guest() {
    block_on(async {
        let suite = built().await;
        let (loader, libraries) = loaded_by(&suite).await;
        let (info, guest) = sandbox().await;
        for library in &libraries {
            put(&guest, library).await;
        }
        let (loader, program) = (put(&guest, &loader).await, put(&guest, &suite).await);
        let suite_there = format!("{loader} --library-path {FOLDER} {program} --test-threads 2");
        // In a network of its own: the guest's agent would forward the ports of the suite's servers, which the suite counts.
        let apart = format!("unshare --net sh -c 'ip link set lo up && exec {suite_there}'");
        let settings = format!("TMPDIR={FOLDER} DORMOUSE_TEST_SLOWNESS={SLOWNESS}");
        let ran = guest.run(&format!("chmod +x {loader} && {settings} {apart} 2>&1")).await;
        let told = String::from_utf8_lossy(&ran.stdout);
        assert_eq!(ran.code, 0, "{told}");
        let summary = told.lines().find(|line| line.starts_with("test result: ")).expect("a summary");
        println!("the agent's API suite, in a guest: {summary}");
        let passed = format!("ok. {} passed", tests_of(&suite).await);
        assert!(summary.contains(&passed), "not {passed}: {summary}");
        host().await.kill(&info.id).await.unwrap();
    });
}
