//! A daemon with a store behind it: snapshots go up whatever dies meanwhile, and come back when they are not here.

use std::fs;
use std::path::Path;
use std::time::Duration;

use dormouse_image::Digest;
use dormouse_image::manifest::Manifest;
use dormouse_test_s3::{BUCKET, Fault, KEY_ID, SECRET, Server};
use dormouse_vm_tests::{Daemon, FreshState, block_on, pack_file, qemus_of};
use http::Method;
use serde_json::Value;

const MANY: usize = usize::MAX;
/// For what happens in the background, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

async fn start(state: &Path, server: &Server) -> Daemon {
    let log = fs::File::options().create(true).append(true).open(state.join("log")).unwrap();
    Daemon::start_with(state, |command| {
        command
            .args(["--store", &format!("s3://{BUCKET}/p"), "--store-cache", "0", "--store-wait", "15s"])
            .env("AWS_ACCESS_KEY_ID", KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_ENDPOINT_URL", format!("http://{}", server.address))
            .env("AWS_ALLOW_HTTP", "true")
            .env("RUST_LOG", "debug")
            .stderr(log)
    })
    .await
}

async fn inspect(daemon: &Daemon, what: &str) -> Value {
    serde_json::from_str(&daemon.ok(&["snapshot", "inspect", what, "--json"]).await).unwrap()
}

async fn until(what: &str, mut come: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !come().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what} does not come"));
}

/// All of it is there, and no pack of it is here any more.
async fn is_only_there(daemon: &Daemon, what: &str) -> bool {
    let copy = inspect(daemon, what).await["remote"].take();
    copy["upload"] == "uploaded" && copy["notHere"].as_u64() > Some(0)
}

/// Every record names only what is there, whole. The snapshots that have one.
fn recorded(server: &Server) -> Vec<String> {
    let mut found = Vec::new();
    for key in server.keys().iter().filter(|key| key.ends_with("/snapshot.json")) {
        let record: Value = serde_json::from_slice(&fs::read(server.file(key)).unwrap()).unwrap();
        let body = &record["body"];
        let (name, generation) = (body["snapshot"].as_str().unwrap(), body["generation"].as_str().unwrap());
        for file in body["files"].as_array().unwrap() {
            let key = format!("p/snapshots/{name}/{generation}/{}", file["name"].as_str().unwrap());
            let there = fs::read(server.file(&key)).unwrap();
            assert_eq!(Digest::of(&there).to_string(), file["blake3"].as_str().unwrap(), "{key}");
        }
        for pack in body["packs"].as_array().unwrap() {
            let id = pack.as_str().unwrap();
            assert!(server.file(&format!("p/packs/{}/{id}.pack", &id[..2])).exists(), "{name} names {id}");
        }
        found.push(name.to_owned());
    }
    found
}

async fn memory(daemon: &Daemon, id: &str) -> String {
    let look = "sha256sum < /dev/shm/noise; kill -0 $(cat /dev/shm/pid) && cat /dev/shm/pid";
    daemon.ok(&["exec", id, "--", "sh", "-c", look]).await
}

#[test]
fn a_paused_guest_goes_to_the_store_whatever_dies_and_comes_back_from_there() {
    block_on(async {
        let fresh = FreshState::new("remote").await;
        let state = fresh.path();
        let server = Server::start().await;
        let daemon = start(state, &server).await;
        until("the template's upload", async || is_only_there(&daemon, "base").await).await;

        let id = daemon.ok(&["create", "--timeout", "1h"]).await;
        let work = "head -c 3000000 /dev/urandom > /dev/shm/noise; setsid sleep 100000 >/dev/null 2>&1 & echo $! > /dev/shm/pid";
        daemon.ok(&["exec", &id, "--", "sh", "-c", work]).await;
        let before = memory(&daemon, &id).await;
        for qemu in qemus_of(state) {
            let environment = fs::read(format!("/proc/{qemu}/environ")).unwrap();
            assert!(!String::from_utf8_lossy(&environment).contains(SECRET), "the VMM has the store's key");
        }

        // Nothing of what is here needs the store.
        let down = [Method::PUT, Method::GET, Method::HEAD, Method::DELETE]
            .map(|method| server.fail(&method, &[], MANY, Fault::Hang));
        for _ in 0..2 {
            daemon.ok(&["pause", &id]).await;
            daemon.ok(&["resume", &id]).await;
            assert_eq!(memory(&daemon, &id).await, before);
        }
        let snapshot = daemon.ok(&["pause", &id]).await;
        let snapshot = inspect(&daemon, &id).await["snapshot"].as_str().unwrap_or(&snapshot).to_owned();
        assert_ne!(inspect(&daemon, &id).await["remote"]["upload"], "uploaded");
        daemon.kill_dash_nine().await;
        down.iter().for_each(|asked| asked.end());

        // The daemon dies after each change that it makes on the remote.
        let mut deaths = 0;
        let daemon = loop {
            let passes = server.fail(&Method::PUT, &[], deaths, Fault::None);
            let hangs = server.fail(&Method::PUT, &[], MANY, Fault::Hang);
            let daemon = start(state, &server).await;
            until("an end of the upload", async || {
                hangs.left() < MANY || inspect(&daemon, &id).await["remote"]["upload"] == "uploaded"
            })
            .await;
            let died = hangs.left() < MANY;
            assert_eq!(recorded(&server).contains(&snapshot), !died);
            if !died {
                hangs.end();
                break daemon;
            }
            daemon.kill_dash_nine().await;
            passes.end();
            hangs.end();
            deaths += 1;
            assert!(deaths < 40, "it never gets to its end");
        };
        assert!(deaths > 4, "packs, three files, the manifest and the record take more than {deaths} requests");

        let own = format!("p/snapshots/{snapshot}/");
        let objects: Vec<_> = server.keys().into_iter().filter(|key| key.starts_with(&own)).collect();
        assert_eq!(objects.len(), 5, "nothing is there twice: {objects:?}");

        until("the eviction", async || is_only_there(&daemon, &id).await).await;
        let manifest = Manifest::read(&state.join("snapshots").join(&snapshot)).unwrap();
        let packs: Vec<_> = manifest.memory.packs.iter().map(|pack| pack_file(state, &pack.id)).collect();
        assert!(!packs.is_empty() && packs.iter().all(|pack| !pack.exists()));

        // A restart forgets the RAM that was unpacked.
        daemon.kill_dash_nine().await;
        let daemon = start(state, &server).await;
        for fault in
            [Fault::Status(403), Fault::Status(503), Fault::Hang, Fault::HalfBody, Fault::ShortBody, Fault::Flip]
        {
            let asked = server.fail(&Method::GET, &["/packs/"], MANY, fault);
            let refused = tokio::time::timeout(PATIENCE, daemon.cli(&["resume", &id])).await.expect("it ends");
            assert_eq!(refused.code, Some(1), "{fault:?}: {}", refused.stderr);
            let told = ["could not be fetched", "packs/"].iter().all(|word| refused.stderr.contains(word));
            assert!(told && asked.left() < MANY, "{fault:?}: {}", refused.stderr);
            assert_eq!(daemon.phase(&id).await, "paused", "{fault:?}");
            asked.end();
        }
        let verified: Value = serde_json::from_str(&daemon.ok(&["store", "verify", "--json", &id]).await).unwrap();
        assert_eq!(
            (&verified["unread"][0], &verified["damaged"]),
            (&snapshot.as_str().into(), &Value::Array(Vec::new()))
        );
        assert!(packs.iter().all(|pack| !pack.exists()), "nothing was left of what could not be had");
        daemon.ok(&["resume", &id]).await;
        assert_eq!(memory(&daemon, &id).await, before);
        assert!(packs.iter().all(|pack| pack.exists()), "what a living VM was started from stays");

        daemon.ok(&["rm", &id]).await;
        until("the removal", async || !recorded(&server).contains(&snapshot)).await;
        let log = fs::read_to_string(state.join("log")).unwrap();
        assert!(log.contains("fetching packs from the remote") && !log.contains(SECRET));
        let line = fs::read(format!("/proc/{}/cmdline", daemon.pid())).unwrap();
        assert!(!String::from_utf8_lossy(&line).contains(SECRET));
        let mut search = std::process::Command::new("grep");
        search.args(["-rlF", "--exclude=*.ram", "--exclude=*.ext4", "--exclude=*.pack", SECRET]).arg(state);
        let found = String::from_utf8(search.output().unwrap().stdout).unwrap();
        assert_eq!(found, "", "the store's key is in the state folder");
    });
}
