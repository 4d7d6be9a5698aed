//! The programs that are measured.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::{Failure, server};

pub struct Programs {
    pub ocipfs: PathBuf,
    pub docker_registry: PathBuf,
    pub nginx: PathBuf,
    boxo: OnceLock<Result<PathBuf, String>>,
    /// Directory for the programs that are built here.
    dir: PathBuf,
}

impl Programs {
    pub fn new(
        ocipfs: PathBuf,
        docker_registry: PathBuf,
        nginx: PathBuf,
        boxo: Option<PathBuf>,
        dir: &Path,
    ) -> Self {
        let boxo = boxo.map_or_else(OnceLock::new, |path| OnceLock::from(Ok(path)));
        Self { ocipfs, docker_registry, nginx, boxo, dir: dir.into() }
    }

    /// The boxo peer, which is built when it is first needed.
    pub fn boxo(&self) -> Result<&Path, Failure> {
        let built = self.boxo.get_or_init(|| {
            server::boxo::build(&self.dir).map_err(|error| format!("the boxo peer does not build: {error}"))
        });
        match built {
            Ok(path) => Ok(path),
            Err(why) => Err(why.clone().into()),
        }
    }
}
