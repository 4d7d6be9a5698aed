//! umoci, which makes and unpacks image layouts and speaks to no registry.

use std::path::Path;

use super::{Room, installed, root_for};

/// A umoci with settings of its own.
pub struct Umoci {
    room: Room,
}

impl Umoci {
    /// Says what is missing to run it.
    pub fn available() -> Result<(), String> {
        // What it unpacks keeps its owners.
        root_for("umoci")?;
        installed(&[("umoci", "umoci")])
    }

    /// Makes room for one.
    pub fn new() -> Result<Self, String> {
        Ok(Self { room: Room::new("umoci")? })
    }

    /// Makes a layout whose image `tag` is of one file, `/hello`, which it starts.
    pub fn make(&self, layout: &Path, tag: &str, program: &Path) -> Result<(), String> {
        let (image, layout) = (image(layout, tag), layout.display().to_string());
        for command in [
            &["umoci", "init", "--layout", &layout][..],
            &["umoci", "new", "--image", &image],
            &["umoci", "insert", "--image", &image, &program.display().to_string(), "/hello"],
            &["umoci", "config", "--image", &image, "--config.entrypoint", "/hello"],
        ] {
            self.room.run(command)?;
        }
        Ok(())
    }

    /// Unpacks the image `tag` of a layout, and lists the paths in it.
    pub fn image_files(&self, layout: &Path, tag: &str) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir_in(self.room.path("tmp")).map_err(|error| error.to_string())?;
        let rootfs = dir.path().join("rootfs").display().to_string();
        self.room.run(&["umoci", "raw", "unpack", "--image", &image(layout, tag), &rootfs])?;
        self.room.tree(&rootfs)
    }
}

fn image(layout: &Path, tag: &str) -> String {
    format!("{}:{tag}", layout.display())
}
