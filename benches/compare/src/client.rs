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
/// Read timeout: a transfer without data for this long counts as stalled.
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

/// Body of a request.
pub enum Body<'a> {
    None,
    File(&'a Path),
    Bytes(&'a [u8]),
}

impl Body<'_> {
    fn length(&self) -> io::Result<u64> {
        match self {
            Self::None => Ok(0),
            Self::File(path) => Ok(path.metadata()?.len()),
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
        }
    }

    fn write(&self, to: &mut TcpStream) -> io::Result<()> {
        match self {
            Self::None => Ok(()),
            Self::File(path) => io::copy(&mut File::open(path)?, to).map(drop),
            Self::Bytes(bytes) => to.write_all(bytes),
        }
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

    /// Gets the body with these header lines, each with its end, and throws it away.
    pub fn get_with(&self, headers: &str) -> Result<(), Failure> {
        self.read(200, headers, |_| {}).map(drop)
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
        let answer = self.ask("GET", headers, Body::None)?;
        match answer.status == status {
            true => Ok(answer),
            false => Err(format!("{self} answered {}", answer.status).into()),
        }
    }

    /// The status of the answer to a `GET`, whatever it is.
    pub fn status(&self) -> Result<u16, Failure> {
        Ok(self.ask("GET", "", Body::None)?.status)
    }

    /// Sends a request with a body of a kind.
    pub fn send(&self, method: &str, kind: Option<&str>, body: Body) -> Result<Answer, Failure> {
        let kind = kind.map_or_else(String::new, |kind| format!("Content-Type: {kind}\r\n"));
        self.ask(method, &kind, body)
    }

    fn ask(&self, method: &str, headers: &str, body: Body) -> Result<Answer, Failure> {
        let mut stream = TcpStream::connect(&self.host)?;
        stream.set_read_timeout(Some(SILENCE))?;
        let Self { host, path } = self;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}")?;
        write!(stream, "Content-Length: {}\r\n\r\n", body.length()?)?;
        body.write(&mut stream)?;
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
