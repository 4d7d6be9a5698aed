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
    kubo: OnceLock<Result<PathBuf, String>>,
    /// Directory for the programs that are built here.
    dir: PathBuf,
}

impl Programs {
    /// The last two are built if they are not given.
    pub fn new(
        ocipfs: PathBuf,
        docker_registry: PathBuf,
        nginx: PathBuf,
        (boxo, kubo): (Option<PathBuf>, Option<PathBuf>),
        dir: &Path,
    ) -> Self {
        let given = |path: Option<PathBuf>| path.map_or_else(OnceLock::new, |path| OnceLock::from(Ok(path)));
        Self { ocipfs, docker_registry, nginx, boxo: given(boxo), kubo: given(kubo), dir: dir.into() }
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

    /// Kubo, which is built when it is first needed.
    pub fn kubo(&self) -> Result<&Path, Failure> {
        let built = self.kubo.get_or_init(|| {
            server::kubo::build(&self.dir).map_err(|error| format!("Kubo does not build: {error}"))
        });
        match built {
            Ok(path) => Ok(path),
            Err(why) => Err(why.clone().into()),
        }
    }
}
