//! `filesystem.Filesystem`.

use connectrpc::ErrorCode;
use dormouse_agent_proto::filesystem::{
    EntryInfo, FileType, ListDirRequest, MakeDirRequest, MoveRequest, RemoveRequest, StatRequest,
};

use crate::support::{TestAgent, agent};

async fn stat(agent: &TestAgent, path: &str) -> Result<EntryInfo, ErrorCode> {
    let request = StatRequest { path: path.into(), ..Default::default() };
    match agent.rpc.filesystem.stat(request).await {
        Ok(answer) => Ok(answer.into_owned().entry.into_option().unwrap()),
        Err(error) => Err(error.code),
    }
}

async fn list(agent: &TestAgent, path: &str, depth: u32) -> Result<Vec<String>, ErrorCode> {
    let request = ListDirRequest { path: path.into(), depth, ..Default::default() };
    match agent.rpc.filesystem.list_dir(request).await {
        Ok(answer) => Ok(answer.into_owned().entries.into_iter().map(|entry| entry.path).collect()),
        Err(error) => Err(error.code),
    }
}

async fn make_dir(agent: &TestAgent, path: &str) -> Result<(), ErrorCode> {
    let request = MakeDirRequest { path: path.into(), ..Default::default() };
    agent.rpc.filesystem.make_dir(request).await.map(drop).map_err(|error| error.code)
}

async fn move_entry(agent: &TestAgent, source: &str, destination: &str) -> Result<(), ErrorCode> {
    let request = MoveRequest { source: source.into(), destination: destination.into(), ..Default::default() };
    agent.rpc.filesystem.r#move(request).await.map(drop).map_err(|error| error.code)
}

async fn remove(agent: &TestAgent, path: &str) -> Result<(), ErrorCode> {
    let request = RemoveRequest { path: path.into(), ..Default::default() };
    agent.rpc.filesystem.remove(request).await.map(drop).map_err(|error| error.code)
}

#[tokio::test]
async fn an_entry_is_described() {
    let agent = agent().await;
    let path = agent.home.join("a.txt");
    std::fs::write(&path, "hello").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let entry = stat(&agent, "a.txt").await.unwrap();
    assert_eq!((entry.name.as_str(), entry.path.as_str(), entry.size), ("a.txt", path.to_str().unwrap(), 5));
    assert_eq!((entry.mode, entry.permissions.as_str()), (0o640, "-rw-r-----"));
    assert_eq!((entry.owner.as_str(), entry.group.as_str()), ("tester", "testers"));
    assert_eq!(entry.r#type.as_known(), Some(FileType::FILE_TYPE_FILE));
    assert!(entry.modified_time.seconds > 1_600_000_000);
    assert_eq!(stat(&agent, "missing").await.unwrap_err(), ErrorCode::NotFound);
}

#[tokio::test]
async fn a_link_tells_its_target_and_what_that_is() {
    let agent = agent().await;
    std::os::unix::fs::symlink("/etc", agent.home.join("etc")).unwrap();
    std::os::unix::fs::symlink("/no/where", agent.home.join("dangling")).unwrap();
    let link = stat(&agent, "etc").await.unwrap();
    assert_eq!(
        (link.r#type.as_known(), link.symlink_target.as_deref()),
        (Some(FileType::FILE_TYPE_DIRECTORY), Some("/etc"))
    );
    let dangling = stat(&agent, "dangling").await.unwrap();
    assert_eq!(dangling.r#type.as_known(), Some(FileType::FILE_TYPE_SYMLINK));
}

#[tokio::test]
async fn a_directory_is_listed_as_deep_as_asked() {
    let agent = agent().await;
    let home = agent.home.to_str().unwrap().to_owned();
    std::fs::create_dir_all(agent.home.join("a/b")).unwrap();
    std::fs::write(agent.home.join("a/b/c"), "").unwrap();
    std::fs::write(agent.home.join("z"), "").unwrap();
    let paths = |names: &[&str]| names.iter().map(|name| format!("{home}/{name}")).collect::<Vec<_>>();
    assert_eq!(list(&agent, "", 0).await.unwrap(), paths(&["a", "z"]));
    assert_eq!(list(&agent, "~", 2).await.unwrap(), paths(&["a", "a/b", "z"]));
    assert_eq!(list(&agent, ".", 9).await.unwrap(), paths(&["a", "a/b", "a/b/c", "z"]));
    assert_eq!(list(&agent, "z", 1).await.unwrap_err(), ErrorCode::InvalidArgument);
    assert_eq!(list(&agent, "missing", 1).await.unwrap_err(), ErrorCode::NotFound);
}

#[tokio::test]
async fn a_listing_does_not_follow_a_link_in_circles() {
    let agent = agent().await;
    std::os::unix::fs::symlink(".", agent.home.join("loop")).unwrap();
    assert_eq!(list(&agent, "", 1000).await.unwrap().len(), 1);
}

#[tokio::test]
async fn directories_are_made_moved_and_removed() {
    let agent = agent().await;
    make_dir(&agent, "a/b").await.unwrap();
    assert_eq!(make_dir(&agent, "a/b").await.unwrap_err(), ErrorCode::AlreadyExists);
    std::fs::write(agent.home.join("file"), "1").unwrap();
    assert_eq!(make_dir(&agent, "file").await.unwrap_err(), ErrorCode::InvalidArgument);
    move_entry(&agent, "file", "new/place/file").await.unwrap();
    assert_eq!(std::fs::read_to_string(agent.home.join("new/place/file")).unwrap(), "1");
    assert_eq!(move_entry(&agent, "file", "other").await.unwrap_err(), ErrorCode::NotFound);
    remove(&agent, "new").await.unwrap();
    assert!(!agent.home.join("new").exists());
    remove(&agent, "new").await.expect("removing nothing is fine");
    assert_eq!(remove(&agent, "/").await.unwrap_err(), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn removing_a_link_leaves_what_it_points_to() {
    let agent = agent().await;
    std::fs::create_dir(agent.home.join("kept")).unwrap();
    std::os::unix::fs::symlink(agent.home.join("kept"), agent.home.join("link")).unwrap();
    remove(&agent, "link").await.unwrap();
    assert!(agent.home.join("kept").is_dir() && !agent.home.join("link").is_symlink());
}
