//! The RPC of Kubo by hand: requests whose bodies are sent and taken without a library, so that the daemons are measured.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::Failure;

const BUFFER: usize = 1 << 20;
/// Read timeout: an answer without data for this long counts as stalled.
const SILENCE: Duration = Duration::from_secs(120);
const TO_ANSWER: Duration = Duration::from_secs(60);
const BOUNDARY: &str = "b1946ac92492d2347c6235b4d2611184";

/// The RPC of a daemon.
#[derive(Clone, Copy)]
pub struct Rpc(pub SocketAddr);

/// The body of an answer, from which chunk lengths are taken out.
struct Answer {
    rest: BufReader<TcpStream>,
    /// Bytes that are left of the body, or of the current chunk.
    left: u64,
    is_chunked: bool,
    is_first: bool,
}

impl Rpc {
    /// Waits until `version` is answered; tells how long that took since `start`.
    pub fn until_answered(&self, start: Instant) -> Result<Duration, Failure> {
        loop {
            match self.call("version") {
                Ok(_) => return Ok(start.elapsed()),
                Err(why) if start.elapsed() > TO_ANSWER => return Err(why),
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Calls a command whose answer is one object.
    pub fn call(&self, command: &str) -> Result<Value, Failure> {
        let mut body = String::new();
        self.post(command, "", 0, |_| Ok(()))?.read_to_string(&mut body)?;
        Ok(serde_json::from_str(&body)?)
    }

    /// Adds a file as nerdctl does, and returns its CID.
    pub fn add(&self, path: &Path) -> Result<String, Failure> {
        self.add_with(path, "")
    }

    /// The same with further options.
    pub fn add_with(&self, path: &Path, options: &str) -> Result<String, Failure> {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let length = (head.len() + tail.len()) as u64 + path.metadata()?.len();
        let kind = format!("Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n");
        let mut answer = self.post(&format!("add?cid-version=1&pin=true{options}"), &kind, length, |to| {
            to.write_all(head.as_bytes())?;
            io::copy(&mut File::open(path)?, to)?;
            to.write_all(tail.as_bytes())
        })?;
        let mut body = String::new();
        answer.read_to_string(&mut body)?;
        let added: Value = serde_json::from_str(body.lines().next().unwrap_or_default())?;
        Ok(added["Hash"].as_str().ok_or_else(|| format!("no CID in {body}"))?.into())
    }

    /// Reads a file, or `length` bytes of it, and throws it away; tells how much came.
    pub fn cat(&self, cid: &str, range: Option<(u64, u64)>) -> Result<u64, Failure> {
        let range =
            range.map_or_else(String::new, |(offset, length)| format!("&offset={offset}&length={length}"));
        let mut answer = self.post(&format!("cat?arg=/ipfs/{cid}{range}"), "", 0, |_| Ok(()))?;
        let (mut buffer, mut came) = (vec![0; BUFFER], 0);
        loop {
            match answer.read(&mut buffer)? {
                0 => return Ok(came),
                n => came += n as u64,
            }
        }
    }

    fn post(
        &self,
        command: &str,
        headers: &str,
        length: u64,
        body: impl FnOnce(&mut TcpStream) -> io::Result<()>,
    ) -> Result<Answer, Failure> {
        let mut stream = TcpStream::connect(self.0)?;
        stream.set_read_timeout(Some(SILENCE))?;
        let host = self.0;
        write!(
            stream,
            "POST /api/v0/{command} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
        )?;
        body(&mut stream)?;
        Answer::begin(stream, command)
    }
}

impl Answer {
    fn begin(stream: TcpStream, command: &str) -> Result<Self, Failure> {
        let mut rest = BufReader::with_capacity(BUFFER, stream);
        let mut line = String::new();
        rest.read_line(&mut line)?;
        if line.split(' ').nth(1) != Some("200") {
            let mut why = String::new();
            rest.take(4096).read_to_string(&mut why)?;
            return Err(
                format!("{command}: {} {}", line.trim(), why.lines().last().unwrap_or_default()).into()
            );
        }
        let (mut is_chunked, mut left) = (false, u64::MAX);
        loop {
            line.clear();
            rest.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => left = value.parse()?,
                "transfer-encoding" => (is_chunked, left) = (true, 0),
                _ => {}
            }
        }
        Ok(Self { rest, left, is_chunked, is_first: true })
    }

    /// Goes to the next chunk; false at the end.
    fn next_chunk(&mut self) -> io::Result<bool> {
        let mut line = String::new();
        if !self.is_first {
            self.rest.read_line(&mut line)?;
        }
        (self.is_first, line) = (false, String::new());
        self.rest.read_line(&mut line)?;
        self.left = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        // After the last chunk only trailers follow.
        self.is_chunked = self.left > 0;
        Ok(self.is_chunked)
    }
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !(self.is_chunked && self.next_chunk()?) {
            return Ok(0);
        }
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.rest.read(&mut buffer[..most])?;
        if read == 0 && self.left != u64::MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= if self.left == u64::MAX { 0 } else { read as u64 };
        Ok(read)
    }
}
