//! From a client's build request to the host's.

use std::path::PathBuf;

use dormouse_api_types::own::{self, Kernel, Root};
use dormouse_lifecycle::{BuildRequest, KernelLine, KernelSource, Recipe, RootfsSource};

use super::failure::{Answer, Failure};

/// Fills in what the client left open. Paths are on this machine, so they must be absolute.
pub(crate) fn request(body: own::BuildRequest) -> Answer<BuildRequest> {
    let default = BuildRequest::default();
    let flavour = match body.kernel {
        Kernel::Stable => KernelLine::Stable,
        Kernel::Backports => KernelLine::Backports,
    };
    let recipe = Recipe {
        rootfs: rootfs(body.root, &default.recipe.rootfs)?,
        kernel: KernelSource::Debian { flavour },
        disk: body.disk.unwrap_or(default.recipe.disk),
    };
    Ok(BuildRequest {
        recipe,
        vcpus: body.vcpus.unwrap_or(default.vcpus),
        ram: body.ram.unwrap_or(default.ram),
        five_level_paging: body.five_level_paging.unwrap_or(default.five_level_paging),
        kernel_args: body.kernel_args.unwrap_or(default.kernel_args),
    })
}

fn rootfs(root: Root, base: &RootfsSource) -> Answer<RootfsSource> {
    match root {
        Root::Base => Ok(base.clone()),
        Root::Packages { packages } => Ok(with_packages(base, packages)),
        Root::Directory { path } => absolute(path).map(RootfsSource::Directory),
        Root::Tar { path } => absolute(path).map(RootfsSource::Tar),
    }
}

/// What the base template promises is in every template that is made from packages.
fn with_packages(base: &RootfsSource, more: Vec<String>) -> RootfsSource {
    let (suite, mut packages) = match base.clone() {
        RootfsSource::Debian { suite, packages } => (suite, packages),
        _ => (None, Vec::new()),
    };
    for package in more {
        if !packages.contains(&package) {
            packages.push(package);
        }
    }
    RootfsSource::Debian { suite, packages }
}

fn absolute(path: String) -> Answer<PathBuf> {
    let path = PathBuf::from(path);
    match path.is_absolute() {
        true => Ok(path),
        false => Err(Failure::bad_request(format!("{} is no absolute path", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_come_on_top_of_those_of_base() {
        let root = Root::Packages { packages: vec!["jq".into(), "bash".into()] };
        let made = request(own::BuildRequest { root, ..own::BuildRequest::default() }).unwrap();
        let RootfsSource::Debian { packages, .. } = made.recipe.rootfs else { panic!("not made from packages") };
        assert!(packages.contains(&"python3".to_owned()) && packages.contains(&"jq".to_owned()));
        assert_eq!(packages.iter().filter(|p| *p == "bash").count(), 1);
    }

    #[test]
    fn a_relative_path_is_refused_since_client_and_server_may_differ_on_where_they_are() {
        let root = Root::Tar { path: "rootfs.tar".into() };
        assert_eq!(request(own::BuildRequest { root, ..own::BuildRequest::default() }).unwrap_err().status, 400);
    }
}
