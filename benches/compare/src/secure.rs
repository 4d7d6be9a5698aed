//! HTTPS by hand: a certificate for loopback, and a blocking client that trusts it. Both servers get the same certificate, and the client's
//! share of the work is the same for both.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use ocipfs_oci::{Algorithm, Digest, Hasher};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::ServerName};

use crate::{Failure, client::Url};

const BUFFER: usize = 256 << 10;
const NAME: &str = "localhost";

/// A certificate and its key in PEM, and what trusts it.
pub struct Secure {
    pub certificate: PathBuf,
    pub key: PathBuf,
    config: Arc<ClientConfig>,
}

impl Secure {
    /// Makes a certificate in `dir`.
    pub fn new(dir: &Path) -> Result<Self, Failure> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned(), "127.0.0.1".to_owned()])?;
        let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        fs::write(&certificate, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        Ok(Self { certificate, key, config })
    }

    /// Gets a body over a new connection and throws it away; tells its length, and how long all of it took.
    pub fn timed(&self, url: &Url) -> Result<(u64, Duration), Failure> {
        let start = Instant::now();
        let length = self.read(url, |_| {})?;
        Ok((length, start.elapsed()))
    }

    /// Gets a body and hashes it.
    pub fn hash(&self, url: &Url) -> Result<Digest, Failure> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        self.read(url, |bytes| hasher.update(bytes))?;
        Ok(hasher.finish())
    }

    fn read(&self, url: &Url, mut take: impl FnMut(&[u8])) -> Result<u64, Failure> {
        let session = ClientConnection::new(self.config.clone(), ServerName::try_from(NAME)?)?;
        let mut stream = StreamOwned::new(session, TcpStream::connect(&url.host)?);
        let port = url.host.rsplit(':').next().unwrap_or_default();
        write!(stream, "GET {} HTTP/1.1\r\nHost: {NAME}:{port}\r\nConnection: close\r\n\r\n", url.path)?;
        let mut rest = BufReader::new(stream);
        let expected = length(&mut rest).map_err(|error| format!("{url}: {error}"))?;
        let (mut came, mut buffer) = (0, vec![0; BUFFER]);
        while came < expected {
            match rest.read(&mut buffer)? {
                0 => return Err(format!("{url} ended after {came} of {expected} bytes").into()),
                n => {
                    take(&buffer[..n]);
                    came += n as u64;
                }
            }
        }
        Ok(came)
    }
}

/// Reads the head of a good answer; the length of its body.
fn length(rest: &mut impl BufRead) -> Result<u64, Failure> {
    let (mut line, mut length) = (String::new(), None);
    rest.read_line(&mut line)?;
    if line.split(' ').nth(1) != Some("200") {
        return Err(format!("answered {line:?}").into());
    }
    loop {
        line.clear();
        rest.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.parse()?);
        }
    }
    length.ok_or_else(|| "no length".into())
}
