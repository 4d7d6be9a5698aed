//! skopeo, which needs neither a daemon nor root.

use std::path::Path;

use super::{Room, installed};

/// A skopeo with settings of its own.
pub struct Skopeo {
    room: Room,
}

impl Skopeo {
    /// Says what is missing to run it.
    pub fn available() -> Result<(), String> {
        installed(&[("skopeo", "skopeo")])
    }

    /// Makes room for one.
    pub fn new() -> Result<Self, String> {
        Ok(Self { room: Room::new("skopeo")? })
    }

    /// Tells an image's digest, tags and layers, as JSON.
    pub fn inspect(&self, reference: &str) -> Result<String, String> {
        self.room.run(&["skopeo", "inspect", "--tls-verify=false", &format!("docker://{reference}")])
    }

    /// Returns the manifest as it was served.
    pub fn inspect_raw(&self, reference: &str) -> Result<String, String> {
        self.room.run(&["skopeo", "inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")])
    }

    /// Lists the tags of a repository, as JSON.
    pub fn list_tags(&self, repository: &str) -> Result<String, String> {
        self.room.run(&["skopeo", "list-tags", "--tls-verify=false", &format!("docker://{repository}")])
    }

    /// Deletes an image, by its tag or its digest.
    pub fn delete(&self, reference: &str) -> Result<String, String> {
        self.room.run(&["skopeo", "delete", "--tls-verify=false", &format!("docker://{reference}")])
    }

    /// Logs in to a registry.
    pub fn login(&self, registry: &str, user: &str, password: &str) -> Result<String, String> {
        let flags = ["--tls-verify=false", "--username", user, "--password", password];
        self.room.run(&[&["skopeo", "login"][..], &flags, &[registry]].concat())
    }

    /// Copies an image to `destination`: `oci:DIR:TAG`, `dir:DIR`.
    pub fn copy(&self, reference: &str, destination: &str) -> Result<String, String> {
        let source = format!("docker://{reference}");
        self.room.run(&["skopeo", "copy", "--src-tls-verify=false", &source, destination])
    }

    /// Copies an image like [`Self::copy`]; of an index, the image for `architecture`.
    pub fn copy_for(&self, architecture: &str, reference: &str, destination: &str) -> Result<String, String> {
        let (source, chosen) = (format!("docker://{reference}"), format!("--override-arch={architecture}"));
        self.room.run(&["skopeo", &chosen, "copy", "--src-tls-verify=false", &source, destination])
    }

    /// Copies an image from or to registries with TLS; `certificates` has `ca.crt`, and `client.cert` and `client.key` if the client
    /// shows one.
    pub fn copy_over_tls(
        &self,
        certificates: &Path,
        source: &str,
        destination: &str,
    ) -> Result<String, String> {
        let certificates = certificates.display().to_string();
        let flags = ["--src-cert-dir", &certificates, "--dest-cert-dir", &certificates];
        self.room.run(&[&["skopeo", "copy"][..], &flags, &[source, destination]].concat())
    }

    /// Copies an image between archives: `oci:DIR:TAG`, `oci-archive:FILE:TAG`, `docker-archive:FILE:NAME:TAG`.
    pub fn convert(&self, source: &str, destination: &str) -> Result<String, String> {
        self.convert_as(&[], source, destination)
    }

    /// Copies an image like [`Self::convert`], with further flags.
    pub fn convert_as(&self, flags: &[&str], source: &str, destination: &str) -> Result<String, String> {
        self.room.run(&[&["skopeo", "copy"], flags, &[source, destination]].concat())
    }

    /// Pushes what is at `source` (`oci:DIR:TAG`, `docker://...`), with all images of a list.
    pub fn push(&self, source: &str, reference: &str) -> Result<String, String> {
        self.push_as(&[], source, reference)
    }

    /// Pushes like [`Self::push`], with further flags.
    pub fn push_as(&self, flags: &[&str], source: &str, reference: &str) -> Result<String, String> {
        let reference = format!("docker://{reference}");
        let copy = ["skopeo", "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false"];
        self.room.run(&[&copy, flags, &[source, &reference]].concat())
    }
}
