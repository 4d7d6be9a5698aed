//! TCP and nothing on top: one thread writes, another reads. More does not go over loopback.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use crate::{Failure, tar::MIB};

/// Sends `mib` MiB from thread to thread.
pub fn send(mib: usize) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut reader = TcpStream::connect(listener.local_addr()?)?;
    let (mut writer, _) = listener.accept()?;
    let sender = thread::spawn(move || {
        let piece = vec![7; MIB];
        (0..mib).try_for_each(|_| writer.write_all(&piece))
    });
    let mut buffer = vec![0; MIB];
    let mut length = 0;
    while let n @ 1.. = reader.read(&mut buffer)? {
        length += n;
    }
    sender.join().map_err(|_| "the writer panicked")??;
    match length == mib * MIB {
        true => Ok(()),
        false => Err(format!("{length} bytes came").into()),
    }
}
