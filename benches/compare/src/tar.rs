//! Tars to send around: one file `data` of words that count up, so that no two blocks are the same.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use ocipfs_oci::{Algorithm, Digest, Hasher};

pub const MIB: usize = 1 << 20;
/// End marker of a tar.
pub const END: [u8; 1024] = [0; 1024];
const BLOCK: usize = 512;

/// Each tar counts from another word, so that its bytes are new to every program.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Writes a tar of `mib` MiB of new bytes.
pub fn write(path: &Path, mib: usize) -> io::Result<Digest> {
    let mut out = File::create(path)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut write = |bytes: &[u8]| {
        hasher.update(bytes);
        out.write_all(bytes)
    };
    write(&header("data", mib * MIB))?;
    let mut word = NEXT.fetch_add(1, Ordering::Relaxed) << 40;
    for _ in 0..mib {
        let piece: Vec<u8> = (word..word + MIB as u64 / 8).flat_map(u64::to_le_bytes).collect();
        word += MIB as u64 / 8;
        write(&piece)?;
    }
    write(&END)?;
    Ok(hasher.finish())
}

/// A small file in a tar.
pub fn entry(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut entry = [&header(name, bytes.len()), bytes].concat();
    entry.resize(entry.len().next_multiple_of(BLOCK), 0);
    entry
}

/// A ustar header: name, mode, owner, size, time, checksum, type, magic.
pub fn header(name: &str, size: usize) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
