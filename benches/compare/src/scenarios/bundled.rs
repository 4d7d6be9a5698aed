//! Images in a bundle, written by one node and imported by a new one, compared with `tar` of the same layers on the same disk. A
//! bundle is on the disk when its command ends, so `tar` is given the time of a sync, too.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use super::{
    Room,
    turns::{Contender, Taken, in_turns},
};
use crate::{
    Failure,
    memory::Memory,
    push::Descriptor,
    report::{Row, Series, Target},
    server::{Ocipfs, Serve, finish},
    tar::MIB,
};

const IMAGES: usize = 4;
/// What is asked for, in MB a second and as a share of the rate of `tar`: the lower of the two.
const RATE: f64 = 300.0;
const SHARE: f64 = 0.8;

pub fn run(room: &Room) -> Result<(), Failure> {
    let source = Ocipfs::start(room, &Serve::default())?;
    let layers = push(room, &source)?;
    let dir = room.new_dir("bundles")?;
    let [bundle, tar] = ["images.car", "layers.tar"].map(|name| dir.join(name));
    let memory = Memory::watch(source.pid());
    let contenders = vec![
        Contender::new("ocipfs", || export(room, &source, &bundle, &memory)),
        Contender::new("tar", || create(room, &layers, &tar)),
    ];
    show(room, "export", in_turns(room, room.plan.few(), contenders));
    let contenders = vec![
        Contender::new("ocipfs", || import(room, &bundle)),
        Contender::new("tar", || extract(room, &tar)),
    ];
    show(room, "import", in_turns(room, room.plan.few(), contenders));
    Ok(())
}

fn show(room: &Room, what: &str, series: Vec<Series>) {
    let title = format!("{what} a bundle of {IMAGES} images of {} MiB", room.plan.mib);
    let row = Row::new("bundle", title, series);
    let asked: Vec<f64> = row
        .values("ocipfs")
        .iter()
        .zip(row.values("tar"))
        .map(|(ours, theirs)| ours / RATE.min(SHARE * theirs))
        .collect();
    let (rates, memory) = (row.values("ocipfs").to_vec(), row.memory("ocipfs"));
    let row = row.ratio("tar", None).check("ocipfs to 300 MB/s", "MB/s", &rates, Target::at_least(RATE));
    let row = row.check("to 300 MB/s or 0.8 of tar, the lower", "x", &asked, Target::at_least(1.0));
    room.show(row.check("RssAnon meanwhile", "MB", memory.as_slice(), Target::at_most(150.0)));
}

/// Pushes the images. Returns the directory with their layers.
fn push(room: &Room, node: &Ocipfs) -> Result<PathBuf, Failure> {
    let dir = room.new_dir("layers")?;
    for image in 0..IMAGES {
        let (tar, digest) = room.new_tar(room.plan.mib)?;
        let repository = node.repository(&format!("bundle/image{image}"));
        repository.blob(&tar, &digest)?;
        let layer = Descriptor { digest, size: usize::try_from(fs::metadata(&tar)?.len())? };
        let config = repository.bytes(format!("{{\"image\":{image}}}").as_bytes())?;
        repository.manifest("1", &config, &layer, &[])?;
        fs::rename(&tar, dir.join(format!("layer{image}.tar")))?;
    }
    Ok(dir)
}

fn export(room: &Room, node: &Ocipfs, bundle: &Path, memory: &Memory) -> Result<Taken, Failure> {
    remove(bundle)?;
    room.settle();
    let start = Instant::now();
    node.ask(&["bundle", "export", &bundle.to_string_lossy(), "bundle/*"])?;
    Ok(taken(room, start).with_memory(memory.most()))
}

fn create(room: &Room, layers: &Path, tar: &Path) -> Result<Taken, Failure> {
    remove(tar)?;
    room.settle();
    let start = Instant::now();
    let mut command = Command::new("tar");
    command.arg("-cf").arg(tar).arg("-C").arg(layers).arg(".");
    finish(room.children.start(&mut command, &room.new_dir("created")?)?)?;
    File::open(tar)?.sync_all()?;
    Ok(taken(room, start))
}

/// Imports into a node that has nothing.
fn import(room: &Room, bundle: &Path) -> Result<Taken, Failure> {
    let node = Ocipfs::start(room, &Serve::default())?;
    let memory = Memory::watch(node.pid());
    room.settle();
    let start = Instant::now();
    node.ask(&["bundle", "import", &bundle.to_string_lossy()])?;
    let taken = taken(room, start).with_memory(memory.most());
    node.discard()?;
    Ok(taken)
}

fn extract(room: &Room, tar: &Path) -> Result<Taken, Failure> {
    let dir = room.new_dir("extracted")?;
    let start = Instant::now();
    let mut command = Command::new("tar");
    command.arg("-xf").arg(tar).arg("-C").arg(&dir);
    finish(room.children.start(&mut command, &room.new_dir("extracting")?)?)?;
    for image in 0..IMAGES {
        File::open(dir.join(format!("layer{image}.tar")))?.sync_all()?;
    }
    let taken = taken(room, start);
    fs::remove_dir_all(dir)?;
    Ok(taken)
}

/// The rate of the layers, which are nearly all of the bytes.
fn taken(room: &Room, start: Instant) -> Taken {
    Taken::rate((IMAGES * room.plan.mib * MIB) as u64, start.elapsed())
}

fn remove(file: &Path) -> Result<(), Failure> {
    if file.exists() { Ok(fs::remove_file(file)?) } else { Ok(()) }
}
