//! podman, which has no daemon.

use std::{fs, path::Path, process::Command};

use super::{Room, installed, root_for};

/// A podman with storage of its own.
pub struct Podman {
    room: Room,
}

impl Podman {
    /// Says what is missing to run it.
    pub fn available() -> Result<(), String> {
        root_for("podman")?;
        installed(&[("podman", "podman"), ("conmon", "conmon"), ("runc", "runc")])
    }

    /// Makes room for one that has no images.
    pub fn new() -> Result<Self, String> {
        Ok(Self { room: Room::new("podman")? })
    }

    /// Says what is missing for pulls in parts: its overlay driver alone has them.
    pub fn pulls_in_parts() -> Result<(), String> {
        Self::available()?;
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let path = |name: &str| dir.path().join(name);
        for name in ["lower", "upper", "work", "all"] {
            fs::create_dir(path(name)).map_err(|e| e.to_string())?;
        }
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| path(name).display().to_string());
        let layers = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let mount = Command::new("unshare")
            .args(["--mount", "mount", "-t", "overlay", "overlay", "-o", &layers])
            .arg(path("all"))
            .output();
        match mount {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(format!("no overlay: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Makes room for one that fetches of a `zstd:chunked` layer only the files that it lacks.
    pub fn in_parts() -> Result<Self, String> {
        let room = Room::new("podman")?;
        let root = room.path("");
        room.write(
            "storage.conf",
            &format!(
                "[storage]\ndriver = \"overlay\"\ngraphroot = \"{root}storage\"\nrunroot = \"{root}run/storage\"\n\
                 [storage.options]\npull_options = {{ enable_partial_images = \"true\", convert_images = \"false\" }}\n"
            ),
        )?;
        Ok(Self { room })
    }

    /// Pushes an image with an index of the files in each layer.
    pub fn push_chunked(&self, reference: &str) -> Result<String, String> {
        let flags = ["--tls-verify=false", "--compression-format", "zstd:chunked"];
        self.room.run(&[&["podman", "push"][..], &flags, &[reference]].concat())
    }

    /// Pulls an image.
    pub fn pull(&self, reference: &str) -> Result<String, String> {
        self.room.run(&["podman", "pull", "--tls-verify=false", reference])
    }

    /// Pushes an image.
    pub fn push(&self, reference: &str) -> Result<String, String> {
        self.room.run(&["podman", "push", "--tls-verify=false", reference])
    }

    /// Pulls an image over TLS, with the certificates in a directory as `skopeo` takes them.
    pub fn pull_over_tls(&self, certificates: &Path, reference: &str) -> Result<String, String> {
        self.room.run(&["podman", "pull", "--cert-dir", &certificates.display().to_string(), reference])
    }

    /// Pushes an image over TLS, as [`Self::pull_over_tls`] pulls it.
    pub fn push_over_tls(&self, certificates: &Path, image: &str, reference: &str) -> Result<String, String> {
        let certificates = certificates.display().to_string();
        self.room.run(&["podman", "push", "--cert-dir", &certificates, image, reference])
    }

    /// Logs in to a registry.
    pub fn login(&self, registry: &str, user: &str, password: &str) -> Result<String, String> {
        let flags = ["--tls-verify=false", "--username", user, "--password", password];
        self.room.run(&[&["podman", "login"][..], &flags, &[registry]].concat())
    }

    /// Logs out of a registry.
    pub fn logout(&self, registry: &str) -> Result<String, String> {
        self.room.run(&["podman", "logout", registry])
    }

    /// Lists the paths in an image that was pulled.
    pub fn image_files(&self, reference: &str) -> Result<Vec<String>, String> {
        // With vfs that is a directory, not a mount, so it needs no end either.
        let dir = self.room.run(&["podman", "image", "mount", reference])?;
        self.room.tree(dir.trim())
    }

    /// Runs `command` (nothing: what the image says itself) in the image, and returns what it printed.
    pub fn run(&self, image: &str, command: &[&str]) -> Result<String, String> {
        self.room.run(&[&["podman", "run", "--rm", "--tls-verify=false", image], command].concat())
    }

    /// Builds `dir/Dockerfile` into `tag`.
    pub fn build(&self, dir: &Path, tag: &str) -> Result<String, String> {
        self.room.run(&["podman", "build", "--isolation=chroot", "--tag", tag, &dir.display().to_string()])
    }

    /// Writes an image in a format of `podman save`: `docker-archive`, `oci-archive`, `oci-dir`.
    pub fn save(&self, image: &str, format: &str, archive: &Path) -> Result<String, String> {
        let archive = archive.display().to_string();
        self.room.run(&["podman", "save", "--format", format, "--output", &archive, image])
    }

    /// Writes images to one docker archive.
    pub fn save_all(&self, images: &[&str], archive: &Path) -> Result<String, String> {
        let archive = archive.display().to_string();
        self.room.run(&[&["podman", "save", "--multi-image-archive", "--output", &archive], images].concat())
    }

    /// Reads the images of an archive of any format.
    pub fn load(&self, archive: &Path) -> Result<String, String> {
        self.room.run(&["podman", "load", "--input", &archive.display().to_string()])
    }

    /// Removes every image.
    pub fn forget_images(&self) -> Result<String, String> {
        self.room.run(&["podman", "rmi", "--all", "--force"])
    }

    /// Runs a script of the shell in which podman is this one, and returns what it printed.
    pub fn script(&self, script: &str, arguments: &[&str]) -> Result<String, String> {
        self.room.run(&[&["sh", "-c", script, "sh"], arguments].concat())
    }
}
