//! A docker archive: `ocipfs image import` compared with `skopeo copy docker-archive: oci:`. Both gzip its
//! layers, skopeo at level 6 and ocipfs as it always does, which gives less; into directories that have
//! nothing of it. ocipfs makes DAGs too.

use std::{
    cell::Cell,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use ocipfs_oci::{Algorithm, Hasher};
use serde_json::json;

use super::{
    Room,
    turns::{Contender, Taken, in_turns},
};
use crate::{
    Failure,
    memory::Memory,
    report::{Row, Target},
    server::{finish, ocipfs_command},
    tar::{self, MIB},
};

const LAYERS: usize = 4;

pub fn run(room: &Room) -> Result<(), Failure> {
    let mib = room.plan.size(1024);
    let archive = docker_archive(room, mib)?;
    let written = [Cell::new(0), Cell::new(0)];
    let contenders = vec![
        Contender::new("ocipfs", || import(room, &archive, &written[0])),
        Contender::new("skopeo", || copy(room, &archive, &written[1])),
    ];
    let series = in_turns(room, room.plan.few(), contenders);
    let row = Row::new("import", format!("import a docker archive of {mib} MiB, {LAYERS} layers"), series);
    let memory = row.memory("ocipfs");
    let row = row.ratio("skopeo", Target::at_least(1.0));
    let row = row.check("RssAnon of the import", "MB", memory.as_slice(), Target::at_most(150.0));
    let [ours, theirs] = written.map(|bytes| bytes.get() as f64);
    let beside = if theirs > 0.0 { vec![ours / theirs] } else { Vec::new() };
    room.show(row.check("what is on the disk then, to skopeo's", "x", &beside, Target::at_most(1.0)));
    Ok(())
}

fn import(room: &Room, archive: &Path, written: &Cell<u64>) -> Result<Taken, Failure> {
    let dir = room.new_dir("imported")?;
    let mut command = ocipfs_command(room, &dir);
    timed(room, command.args(["image", "import"]).arg(archive), archive, &dir, written)
}

fn copy(room: &Room, archive: &Path, written: &Cell<u64>) -> Result<Taken, Failure> {
    let dir = room.new_dir("copied")?;
    let mut command = Command::new("skopeo");
    command.args([
        "--insecure-policy",
        "copy",
        "--quiet",
        "--dest-compress-format=gzip",
        "--dest-compress-level=6",
    ]);
    command.env("TMPDIR", &dir).arg(format!("docker-archive:{}", archive.display()));
    timed(room, command.arg(format!("oci:{}:1", dir.join("layout").display())), archive, &dir, written)
}

fn timed(
    room: &Room,
    command: &mut Command,
    archive: &Path,
    dir: &Path,
    written: &Cell<u64>,
) -> Result<Taken, Failure> {
    let start = Instant::now();
    let process = room.children.start(command, dir)?;
    let memory = Memory::watch(process.pid());
    finish(process)?;
    let taken = Taken::rate(fs::metadata(archive)?.len(), start.elapsed()).with_memory(memory.most());
    written.set(size_of_files(dir)?);
    fs::remove_dir_all(dir)?;
    Ok(taken)
}

fn size_of_files(dir: &Path) -> Result<u64, Failure> {
    let mut size = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        size += match entry.file_type()?.is_dir() {
            true => size_of_files(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(size)
}

/// Writes an archive as `docker save` does, of bytes that compress as images do: a program, again and again. It is this one, so
/// that two builds of ocipfs that are compared import the same bytes.
fn docker_archive(room: &Room, mib: usize) -> Result<PathBuf, Failure> {
    let program = fs::read(std::env::current_exe()?)?;
    let path = room.new_dir("archive")?.join("docker.tar");
    let mut out = BufWriter::new(File::create(&path)?);
    let size = (mib / LAYERS).max(1) * MIB;
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for layer in 0..LAYERS {
        let name = format!("layer{layer}/layer.tar");
        let inner = tar::header(&format!("data{layer}"), size);
        out.write_all(&tar::header(&name, inner.len() + size + tar::END.len()))?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut write = |bytes: &[u8]| {
            hasher.update(bytes);
            out.write_all(bytes)
        };
        write(&inner)?;
        let mut left = size;
        while left > 0 {
            let part = &program[..program.len().min(left)];
            left -= part.len();
            write(part)?;
        }
        write(&tar::END)?;
        layers.push(name);
        diff_ids.push(hasher.finish().to_string());
    }
    let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
    let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": rootfs }).to_string();
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": ["bench:1"], "Layers": layers }]).to_string();
    out.write_all(&tar::entry("config.json", config.as_bytes()))?;
    out.write_all(&tar::entry("manifest.json", manifest.as_bytes()))?;
    out.write_all(&tar::END)?;
    out.flush()?;
    Ok(path)
}
