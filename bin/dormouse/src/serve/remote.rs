//! The remote store that `serve` is told of: the address on the command line, secrets from the environment.

use std::time::Duration;

use dormouse_guest_mem::Bytes;
use dormouse_lifecycle::{Credentials, Limits, RemoteFound, RemoteLimits, RemoteSetup, S3Target, Target, TargetUrl};
use zeroize::Zeroizing;

use crate::cli::{size, span};
use crate::command_error::{CommandError, CommandResult};

/// Where snapshots go up to.
#[derive(Debug, clap::Args)]
pub(super) struct RemoteArgs {
    /// Also keep snapshots there: s3://BUCKET/PREFIX or file:///FOLDER. Credentials come from the environment (AWS_…)
    #[arg(long, value_name = "URL", env = "DORMOUSE_STORE", hide_env_values = true)]
    store: Option<String>,
    /// What packs may take on this machine; longest unused ones that the store has go first [default: no bound]
    #[arg(long, value_name = "SIZE", value_parser = size, env = "DORMOUSE_STORE_CACHE", hide_env_values = true)]
    store_cache: Option<Bytes>,
    /// How long a resume waits for packs that only the store has [default: 15m]
    #[arg(long, value_name = "TIME", value_parser = span, env = "DORMOUSE_STORE_WAIT", hide_env_values = true)]
    store_wait: Option<u32>,
}

impl RemoteArgs {
    /// How long a resume may wait, if that is said.
    fn wait(&self) -> Option<Duration> {
        self.store_wait.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// The bounds of the host, with what is said of them here.
    pub(super) fn limits(&self) -> Limits {
        let usual = Limits::default();
        Limits { fetch: self.wait().unwrap_or(usual.fetch), ..usual }
    }

    /// What the host needs to know, or what is wrong with it. `env` reads the environment.
    pub(super) fn setup(&self, env: impl Fn(&str) -> Option<String>) -> CommandResult<Option<RemoteSetup>> {
        let Some(url) = &self.store else {
            return match self.store_cache {
                Some(_) => {
                    Err(CommandError::usage("--store-cache bounds the cache of a store, and there is no --store"))
                }
                None => Ok(None),
            };
        };
        let target = match TargetUrl::parse(url).map_err(|e| CommandError::usage(format!("--store: {e}")))? {
            TargetUrl::Folder(path) => Target::Folder(path),
            TargetUrl::S3 { bucket, prefix } => Target::S3(bucket_at(bucket, prefix, env)?),
        };
        let mut limits = RemoteLimits::default();
        if let Some(wait) = self.wait() {
            // A little less than all of it: then it is known what the last attempt met.
            limits.fetch.total = limits.fetch.total.min(wait.mul_f64(0.9));
        }
        Ok(Some(RemoteSetup { target, cache: self.store_cache, limits }))
    }
}

fn bucket_at(bucket: String, prefix: String, env: impl Fn(&str) -> Option<String>) -> CommandResult<S3Target> {
    let first = |names: &[&str]| names.iter().find_map(|name| env(name).filter(|value| !value.is_empty()));
    let needed = |name: &str| {
        let missing = format!("--store: {name} is not set in the environment of the daemon");
        first(&[name]).ok_or_else(|| CommandError::user(missing).hint("a bucket needs credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or file:///FOLDER as the store"))
    };
    let endpoint = first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]);
    let secure = |endpoint: &String| endpoint.starts_with("https://");
    let plain_is_fine = first(&["AWS_ALLOW_HTTP"]).is_some_and(|value| ["true", "1", "yes"].contains(&value.as_str()));
    match &endpoint {
        Some(endpoint) if endpoint.starts_with("http://") && !plain_is_fine => {
            let message =
                format!("--store: {endpoint} is not encrypted: snapshots and what signs them could be read on the way");
            return Err(CommandError::user(message).hint("use https://, or set AWS_ALLOW_HTTP=true"));
        }
        Some(endpoint) if !secure(endpoint) && !endpoint.starts_with("http://") => {
            return Err(CommandError::user(format!(
                "--store: the endpoint {endpoint:?} is no URL that starts with https://"
            )));
        }
        _ => {}
    }
    Ok(S3Target {
        bucket,
        prefix,
        region: first(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
        endpoint,
        credentials: Credentials {
            access_key_id: needed("AWS_ACCESS_KEY_ID")?,
            secret_access_key: Zeroizing::new(needed("AWS_SECRET_ACCESS_KEY")?),
            session_token: first(&["AWS_SESSION_TOKEN"]).map(Zeroizing::new),
        },
    })
}

/// What was found of the store, for people.
pub(super) fn told(found: &RemoteFound) -> String {
    let shown = &found.shown;
    match &found.unreachable {
        None => format!("dormouse: snapshots also go to {shown}"),
        Some(reason) => format!(
            "dormouse: the store {shown} cannot be reached: snapshots stay here and go up later; what is only there cannot be resumed until then ({reason})"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hush-hush";

    fn args(store: &str) -> RemoteArgs {
        RemoteArgs { store: Some(store.to_owned()), store_cache: None, store_wait: None }
    }

    fn env<'a>(set: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
    }

    fn refused(store: &str, set: &[(&str, &str)]) -> String {
        args(store).setup(env(set)).expect_err(store).message()
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", SECRET)];

    #[test]
    fn a_folder_needs_no_credentials() {
        let setup = args("file:///x/y").setup(env(&[])).unwrap().unwrap();
        assert_eq!(setup.target, Target::Folder("/x/y".into()));
    }

    #[test]
    fn a_bucket_takes_credentials_and_server_from_the_environment_and_shows_no_secret() {
        let set = [
            KEYS[0],
            KEYS[1],
            ("AWS_REGION", "r"),
            ("AWS_ENDPOINT_URL", "https://s3.example"),
            ("AWS_SESSION_TOKEN", SECRET),
        ];
        let setup = args("s3://b/p").setup(env(&set)).unwrap().unwrap();
        assert_eq!(setup.target.to_string(), "s3://b/p at https://s3.example");
        assert!(!format!("{setup:?}").contains(SECRET));
        let Target::S3(s3) = setup.target else { panic!("no bucket") };
        assert_eq!((s3.region.as_deref(), s3.credentials.secret_access_key.as_str()), (Some("r"), SECRET));
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_to_do_and_without_the_secret() {
        assert!(refused("s3://b", &KEYS[..1]).contains("AWS_SECRET_ACCESS_KEY"));
        assert!(refused("s3://b", &KEYS[1..]).contains("AWS_ACCESS_KEY_ID"));
        assert!(refused("s3://id:key@b", &KEYS).contains("do not belong here"));
        assert!(refused("ftp://b", &KEYS).contains("neither s3://"));
        let plain = [KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")];
        let message = refused("s3://b", &plain);
        assert!(message.contains("not encrypted") && !message.contains(SECRET), "{message}");
        assert!(refused("s3://b", &[KEYS[0], KEYS[1], ("AWS_ENDPOINT", "host:1")]).contains("no URL"));
        let bound = RemoteArgs { store: None, store_cache: Some(Bytes(1)), store_wait: None };
        assert!(bound.setup(env(&[])).unwrap_err().message().contains("no --store"));
    }

    #[test]
    fn who_waits_less_gives_up_on_a_pack_earlier() {
        let args = |store_wait| RemoteArgs { store_wait, ..args("file:///x") };
        let total = |args: RemoteArgs| args.setup(env(&[])).unwrap().unwrap().limits.fetch.total;
        assert_eq!(total(args(Some(20))), Duration::from_secs(18));
        assert_eq!(args(Some(20)).limits().fetch, Duration::from_secs(20));
        assert_eq!(total(args(Some(36_000))), RemoteLimits::default().fetch.total);
        assert_eq!(args(None).limits().fetch, Limits::default().fetch);
    }

    #[test]
    fn plain_http_is_taken_when_it_is_asked_for() {
        let set = [KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), ("AWS_ALLOW_HTTP", "true")];
        assert!(args("s3://b").setup(env(&set)).unwrap().is_some());
    }
}
