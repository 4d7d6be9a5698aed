//! HTTP/1.1 by hand over a blocking socket: what a client needs to take a body and throw it away.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use ocipfs_oci::{Algorithm, Digest, Hasher};

use crate::Failure;

const BUFFER: usize = 1 << 20;
/// Who says nothing for so long has come to a stop.
const SILENCE: Duration = Duration::from_secs(120);

/// Where a blob is.
pub struct Url {
    pub host: String,
    pub path: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.host, self.path)
    }
}

/// The head of an answer; the body follows in `rest`.
pub struct Answer {
    pub status: u16,
    pub location: Option<String>,
    length: u64,
    rest: BufReader<TcpStream>,
}

impl Url {
    /// Gets the body and throws it away; its length is told.
    pub fn get(&self) -> Result<u64, Failure> {
        self.read(200, "", |_| {})
    }

    /// Gets the body and hashes it.
    pub fn hash(&self) -> Result<Digest, Failure> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        self.read(200, "", |bytes| hasher.update(bytes))?;
        Ok(hasher.finish())
    }

    /// Gets `length` bytes from `first` on.
    pub fn range(&self, first: u64, length: u64) -> Result<(), Failure> {
        let range = format!("Range: bytes={first}-{}\r\n", first + length - 1);
        match self.read(206, &range, |_| {})? {
            came if came == length => Ok(()),
            came => Err(format!("{self} gave {came} bytes, not {length}").into()),
        }
    }

    /// Gets the body; tells its length, when its first byte came and when its last, from the request on.
    pub fn timed(&self) -> Result<(u64, Duration, Duration), Failure> {
        let start = Instant::now();
        let mut first = None;
        let length = self.read(200, "", |_| {
            first.get_or_insert_with(|| start.elapsed());
        })?;
        Ok((length, first.unwrap_or_default(), start.elapsed()))
    }

    /// Gets the first byte of the body, and goes.
    pub fn first_byte(&self) -> Result<Duration, Failure> {
        let start = Instant::now();
        let mut answer = self.answer(200, "")?;
        answer.rest.read_exact(&mut [0])?;
        Ok(start.elapsed())
    }

    fn read(&self, status: u16, headers: &str, mut take: impl FnMut(&[u8])) -> Result<u64, Failure> {
        let answer = self.answer(status, headers)?;
        let mut body = answer.rest.take(answer.length);
        let mut buffer = vec![0; BUFFER];
        let mut length = 0;
        loop {
            match body.read(&mut buffer)? {
                0 if length == answer.length => return Ok(length),
                0 => return Err(format!("{self} ended after {length} of {} bytes", answer.length).into()),
                n => {
                    take(&buffer[..n]);
                    length += n as u64;
                }
            }
        }
    }

    fn answer(&self, status: u16, headers: &str) -> Result<Answer, Failure> {
        let answer = self.ask("GET", headers, None)?;
        match answer.status == status {
            true => Ok(answer),
            false => Err(format!("{self} answered {}", answer.status).into()),
        }
    }

    /// Sends a request, with a file as its body.
    pub fn send(&self, method: &str, body: Option<&Path>) -> Result<Answer, Failure> {
        self.ask(method, "Content-Type: application/octet-stream\r\n", body)
    }

    fn ask(&self, method: &str, headers: &str, body: Option<&Path>) -> Result<Answer, Failure> {
        let mut stream = TcpStream::connect(&self.host)?;
        stream.set_read_timeout(Some(SILENCE))?;
        let mut file = body.map(File::open).transpose()?;
        let length = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|data| data.len()))?;
        let Self { host, path } = self;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}")?;
        write!(stream, "Content-Length: {length}\r\n\r\n")?;
        if let Some(file) = &mut file {
            io::copy(file, &mut stream)?;
        }
        Answer::read(stream)
    }
}

impl Answer {
    fn read(stream: TcpStream) -> Result<Self, Failure> {
        let mut rest = BufReader::new(stream);
        let mut line = String::new();
        rest.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no HTTP answer")?;
        let (mut location, mut length) = (None, 0);
        loop {
            line.clear();
            rest.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "location" => location = Some(value.to_string()),
                "content-length" => length = value.parse()?,
                _ => {}
            }
        }
        Ok(Self { status, location, length, rest })
    }
}
