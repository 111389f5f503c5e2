//! Starting processes: output, exit, environment, directory, user, input.

use std::time::Duration;

use connectrpc::ErrorCode;
use dormouse_agent_proto::client::CallOptions;
use dormouse_agent_proto::process::{CloseStdinRequest, ProcessInput, SendInputRequest, StartRequest};
use dormouse_agent_proto::proto::process::__buffa::oneof::process_input::Input;

use crate::support::{OPEN_FILES, agent, by_pid, live, shell};

#[tokio::test]
async fn a_process_tells_its_output_and_its_exit_code() {
    let agent = agent().await;
    let ran = agent.sh("echo out; echo err >&2; exit 7").await;
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!((ran.exit_code, ran.status.as_str()), (Some(7), "exit status 7"));
}

#[tokio::test]
async fn the_pid_is_the_real_one() {
    let agent = agent().await;
    let ran = agent.sh("echo $$").await;
    assert_eq!(ran.stdout.trim(), ran.pid.to_string());
}

#[tokio::test]
async fn much_output_comes_whole_in_small_pieces_before_the_end() {
    let agent = agent().await;
    let ran = agent.sh("head -c 3000000 /dev/zero | tr '\\0' x").await;
    assert_eq!(ran.stdout.len(), 3_000_000);
    assert!(ran.largest <= 32 * 1024, "{}", ran.largest);
}

#[tokio::test]
async fn the_environment_is_the_users_and_the_request_has_the_last_word() {
    let agent = agent().await;
    let init = agent.post("/init", r#"{"envVars":{"A":"sandbox","B":"sandbox"}}"#).await;
    assert_eq!(init.status, 204);
    let mut request = shell("echo $A $B $USER $LOGNAME $HOME; env | wc -l; echo $PATH");
    request.process.get_or_insert_default().envs = [("B".to_owned(), "request".to_owned())].into_iter().collect();
    let ran = agent.run(request).await.unwrap();
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines[0], format!("sandbox request tester tester {}", agent.home.display()));
    // PATH, HOME, USER, LOGNAME, A, B and the shell's own PWD: nothing of the agent's environment.
    assert_eq!(lines[1], "7");
    assert!(lines[2].contains("/usr/bin"));
}

#[tokio::test]
async fn the_directory_is_the_requests_or_the_default_or_the_home() {
    let agent = agent().await;
    let home = agent.home.to_str().unwrap().to_owned();
    assert_eq!(agent.sh("pwd").await.stdout.trim(), home);
    agent.post("/init", r#"{"defaultWorkdir":"/usr"}"#).await;
    assert_eq!(agent.sh("pwd").await.stdout.trim(), "/usr");
    std::fs::create_dir(agent.home.join("sub")).unwrap();
    for (cwd, meant) in [("/", "/".to_owned()), ("~/sub", format!("{home}/sub")), ("sub", format!("{home}/sub"))] {
        let mut request = shell("pwd");
        request.process.get_or_insert_default().cwd = Some(cwd.into());
        assert_eq!(agent.run(request).await.unwrap().stdout.trim(), meant, "{cwd}");
    }
}

#[tokio::test]
async fn what_cannot_be_started_is_refused_with_the_reason() {
    let agent = agent().await;
    let mut missing = shell("true");
    missing.process.get_or_insert_default().cmd = "/no/such/program".into();
    assert_eq!(agent.run(missing).await.unwrap_err().code, ErrorCode::NotFound);
    let mut nowhere = shell("true");
    nowhere.process.get_or_insert_default().cwd = Some("/no/such/directory".into());
    let error = agent.run(nowhere).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("/no/such/directory"), "{error}");
    assert_eq!(agent.run(StartRequest::default()).await.unwrap_err().code, ErrorCode::InvalidArgument);
    let stranger = CallOptions::default().with_header("authorization", "Basic cm9vdDEyMzo=");
    let error = agent.run_with(shell("true"), stranger).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unauthenticated);
    assert!(error.to_string().contains("invalid username: 'root123'"), "{error}");
}

#[tokio::test]
async fn standard_input_is_fed_and_closed() {
    let agent = agent().await;
    let mut request = shell("cat; echo end");
    request.stdin = None;
    let mut live = live!(agent.rpc.process.start(request));
    let pid = live.ran.pid;
    let input = |text: &str| SendInputRequest {
        process: by_pid(pid).into(),
        input: ProcessInput { input: Some(Input::Stdin(text.into())), ..Default::default() }.into(),
        ..Default::default()
    };
    agent.rpc.process.send_input(input("one\n")).await.unwrap();
    live.until(|ran| ran.stdout == "one\n").await;
    let close = CloseStdinRequest { process: by_pid(pid).into(), ..Default::default() };
    agent.rpc.process.close_stdin(close.clone()).await.unwrap();
    let error = agent.rpc.process.send_input(input("late")).await.unwrap_err();
    assert!(matches!(error.code, ErrorCode::FailedPrecondition | ErrorCode::NotFound), "{error}");
    assert_eq!(live.end().await.stdout, "one\nend\n");
}

#[tokio::test]
async fn without_standard_input_there_is_nothing_to_read_or_to_feed() {
    let agent = agent().await;
    assert_eq!(agent.sh("cat; echo eof; readlink /proc/$$/fd/0").await.stdout, "eof\n/dev/null\n");
}

#[tokio::test]
async fn a_slow_reader_slows_the_process_down() {
    let agent = agent().await;
    let live = live!(agent.rpc.process.start(shell("head -c 50000000 /dev/zero; echo > written")));
    let written = agent.home.join("written");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!written.exists(), "50 MB were taken for a reader that reads nothing");
    let ran = live.end().await;
    assert_eq!((ran.stdout.len(), ran.exit_code), (50_000_000, Some(0)));
}

#[tokio::test]
async fn an_idle_stream_shows_signs_of_life() {
    let agent = agent().await;
    let options = CallOptions::default().with_header("keepalive-ping-interval", "1");
    let ran = agent.run_with(shell("sleep 1.5"), options).await.unwrap();
    assert!(ran.keepalives >= 1);
}

#[tokio::test]
async fn a_process_may_open_as_many_descriptors_as_is_customary() {
    let agent = agent().await;
    assert_eq!(agent.sh("ulimit -Sn").await.stdout, format!("{OPEN_FILES}\n"));
}

#[tokio::test]
async fn a_named_user_has_its_own_identity_groups_and_home() {
    let agent = agent().await;
    if !rustix::process::geteuid().is_root() {
        // Only root can become somebody else; anybody else is told so.
        let options = CallOptions::default().with_header("authorization", "Basic Z3Vlc3Q6");
        assert_eq!(agent.run_with(shell("true"), options).await.unwrap_err().code, ErrorCode::PermissionDenied);
        return;
    }
    let options = CallOptions::default().with_header("authorization", "Basic Z3Vlc3Q6");
    let ran = agent.run_with(shell("id -u; id -g; id -G; echo $USER $HOME; pwd"), options).await.unwrap();
    assert_eq!(ran.stdout, "4321\n4322\n4322 4323\nguest /usr\n/usr\n", "{}", ran.stderr);
}
