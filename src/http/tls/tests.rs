use std::{
    fs,
    path::{Path, PathBuf},
};

use futures::FutureExt;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;

use super::*;
use crate::http::source::Source;

/// An authority with certificates of its own.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    root: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let root = parameters.self_signed(&key).unwrap();
        let (pem, der) = (root.pem(), root.der().clone());
        Self { issuer: rcgen::Issuer::new(parameters, key), root: der, pem }
    }

    /// A certificate and its key in PEM.
    fn issue(&self, common: &str, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut parameters = rcgen::CertificateParams::new(names).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, common);
        self.sign(parameters)
    }

    fn sign(&self, parameters: rcgen::CertificateParams) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        (parameters.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Writes a certificate and its key.
fn write(dir: &Path, name: &str, (certificate, key): &(String, String)) -> (PathBuf, PathBuf) {
    let paths = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    fs::write(&paths.0, certificate).unwrap();
    fs::write(&paths.1, key).unwrap();
    paths
}

fn client(authority: &Authority, own: Option<&(String, String)>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(authority.root.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.unwrap().with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    };
    TlsConnector::from(Arc::new(config))
}

/// One connection: the serial numbers of the certificate that the client sees, and what the listener learns.
async fn connect(
    tls: &Tls,
    client: &TlsConnector,
    name: &str,
) -> (Vec<u8>, Result<Secure, HandshakeRefused>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut stream, secure) = tls.accept(stream, |stream| stream).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await?;
        Ok(secure)
    };
    let connecting = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = client.connect(name, stream).await.ok()?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.ok()?;
        Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
    };
    let (accepted, seen) = tokio::join!(accepting, connecting);
    (seen.unwrap_or_default(), accepted)
}

fn der((certificate, _): &(String, String)) -> Vec<u8> {
    CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap().to_vec()
}

fn refused(pairs: &[(&PathBuf, &PathBuf)]) -> String {
    let pairs = pairs.iter().map(|(certificate, key)| ((*certificate).clone(), (*key).clone())).collect();
    Tls::open(Options { pairs, ..Options::default() }).err().expect("refused").to_string()
}

#[tokio::test]
async fn the_server_name_chooses_among_certificates_and_the_first_is_the_default() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let first = authority.issue("first", &["a.example", "127.0.0.1"]);
    let second = authority.issue("second", &["B.example", "*.c.example"]);
    let pairs = vec![write(dir.path(), "first", &first), write(dir.path(), "second", &second)];
    let tls = Tls::open(Options { pairs, ..Options::default() }).unwrap();
    let client = client(&authority, None);
    for (name, seen) in
        [("a.example", &first), ("b.example", &second), ("x.c.example", &second), ("127.0.0.1", &first)]
    {
        let (certificate, secure) = connect(&tls, &client, name).await;
        assert!(certificate == der(seen), "{name}");
        assert_eq!(secure.unwrap().user(), None);
    }
    let (_, secure) = connect(&tls, &client, "x.y.c.example").await;
    assert!(secure.is_err(), "a wildcard is one label, so the client refuses the default");
}

#[tokio::test]
async fn changed_files_are_served_to_new_connections_and_a_half_written_pair_is_not() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let [old, new] = ["old", "new"].map(|name| authority.issue(name, &["a.example"]));
    let pair = write(dir.path(), "tls", &old);
    let tls = Tls::open(Options { pairs: vec![pair.clone()], ..Options::default() }).unwrap();
    let client = client(&authority, None);
    fs::write(&pair.0, &new.0).unwrap();
    tls.reload().await;
    assert!(connect(&tls, &client, "a.example").await.0 == der(&old), "its key is not here yet");
    fs::write(&pair.1, &new.1).unwrap();
    tls.0.files.make_due();
    assert!(connect(&tls, &client, "a.example").await.0 == der(&new), "a handshake looks at the files");
    fs::remove_file(&pair.0).unwrap();
    tls.reload().await;
    assert!(connect(&tls, &client, "a.example").await.0 == der(&new));
    let before = tls.configs();
    write(dir.path(), "tls", &new);
    tls.reload().await;
    assert!(
        Arc::ptr_eq(&before.ours, &tls.configs().ours),
        "the same certificate is not a new configuration"
    );
}

#[tokio::test]
async fn a_pair_that_cannot_be_used_holds_up_no_other_at_the_start_and_at_a_reload() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let [good, bad, renewed] = ["good", "bad", "renewed"].map(|name| authority.issue(name, &["a.example"]));
    let other = authority.issue("other", &["b.example"]);
    let pair = write(dir.path(), "a", &good);
    let broken = write(dir.path(), "b", &(bad.0.clone(), "no key".into()));
    let tls = Tls::open(Options { pairs: vec![broken.clone(), pair.clone()], ..Options::default() }).unwrap();
    let client = client(&authority, None);
    assert!(connect(&tls, &client, "a.example").await.0 == der(&good), "the other one is served");
    fs::write(&pair.0, &renewed.0).unwrap();
    fs::write(&pair.1, &renewed.1).unwrap();
    tls.reload().await;
    assert!(connect(&tls, &client, "a.example").await.0 == der(&renewed), "and renewed");
    write(dir.path(), "b", &other);
    tls.0.files.make_due();
    assert!(connect(&tls, &client, "b.example").await.0 == der(&other), "it is tried again");
    fs::write(&broken.1, "no key").unwrap();
    write(dir.path(), "a", &good);
    tls.reload().await;
    assert!(connect(&tls, &client, "b.example").await.0 == der(&other), "its previous version stays");
    assert!(connect(&tls, &client, "a.example").await.0 == der(&good));
}

#[tokio::test]
async fn an_expired_certificate_does_not_prevent_the_start_and_replaces_no_other() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let mut parameters = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let expired = authority.sign(parameters);
    let valid = authority.issue("valid", &["a.example"]);
    let first = write(dir.path(), "first", &expired);
    let alone = Tls::open(Options { pairs: vec![first.clone()], ..Options::default() }).unwrap();
    assert!(connect(&alone, &client(&authority, None), "a.example").await.1.is_err(), "clients refuse it");
    write(dir.path(), "first", &valid);
    alone.reload().await;
    assert!(connect(&alone, &client(&authority, None), "a.example").await.0 == der(&valid));
    write(dir.path(), "first", &expired);
    alone.reload().await;
    assert!(connect(&alone, &client(&authority, None), "a.example").await.0 == der(&valid));
    let second = write(dir.path(), "second", &valid);
    let both = Tls::open(Options { pairs: vec![first, second], ..Options::default() }).unwrap();
    assert!(
        connect(&both, &client(&authority, None), "a.example").await.0 == der(&valid),
        "the valid one is chosen"
    );
}

#[tokio::test]
async fn an_open_connection_counts_as_long_as_its_client_certificate_is_accepted() {
    let (authority, other, dir) = (Authority::new(), Authority::new(), tempfile::tempdir().unwrap());
    let pairs = vec![write(dir.path(), "tls", &authority.issue("registry", &["a.example"]))];
    let ca = dir.path().join("ca.pem");
    fs::write(&ca, &authority.pem).unwrap();
    let (client_ca, client_certificates) = (Some(ca.clone()), ClientCertificates::Optional);
    let tls = Tls::open(Options { pairs, client_ca, client_certificates, awaited: Vec::new() }).unwrap();
    let own = authority.issue("me", &[]);
    let known = connect(&tls, &client(&authority, Some(&own)), "a.example").await.1.unwrap();
    let anonymous = connect(&tls, &client(&authority, None), "a.example").await.1.unwrap();
    assert!(tls.accepts(&known).await && tls.accepts(&anonymous).await);
    // One more authority ends no connection.
    fs::write(&ca, [authority.pem.as_str(), &other.pem].concat()).unwrap();
    tls.reload().await;
    assert!(tls.accepts(&known).await);
    let ends = tls.ends(&known);
    let removes = async {
        fs::write(&ca, &other.pem).unwrap();
        tls.0.files.make_due();
        assert!(!tls.accepts(&known).await, "without a signal, at a request");
    };
    let ended =
        tokio::time::timeout(std::time::Duration::from_secs(20), async { tokio::join!(ends, removes) });
    ended.await.expect("the connection ends");
    assert!(tls.accepts(&anonymous).await);
}

#[tokio::test]
async fn handshakes_that_a_client_does_not_finish_keep_no_other_source_out() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let pairs = vec![write(dir.path(), "tls", &authority.issue("a", &["a.example"]))];
    let tls = Tls::open(Options { pairs, ..Options::default() }).unwrap();
    let (client, stranger) = (client(&authority, None), Source::of("192.0.2.1".parse().unwrap()));
    let mut held = Vec::new();
    for _ in 1..turns::MAX_OF_SOURCE {
        held.push(tls.0.turns.next(stranger).await);
    }
    // Its last turn is that of a client that says hello, and nothing more.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut hello, name) = (Vec::new(), ServerName::try_from("a.example").unwrap());
    rustls::ClientConnection::new(client.config().clone(), name).unwrap().write_tls(&mut hello).unwrap();
    silent.write_all(&hello).await.unwrap();
    let ((accepted, _), its) = (listener.accept().await.unwrap(), tls.clone());
    tokio::spawn(async move { its.accept_of(stranger, accepted, |stream| stream).await.map(drop) });
    let has_turn = async {
        while tls.0.turns.count(stranger) < turns::MAX_OF_SOURCE {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), has_turn).await.expect("its handshake begins");
    // Further ones wait, more than there are turns.
    let mut waiting: Vec<_> =
        (0..turns::MAX_HANDSHAKES).map(|_| Box::pin(tls.0.turns.next(stranger))).collect();
    assert!(waiting.iter_mut().all(|turn| turn.now_or_never().is_none()), "it holds its turn");
    let (_, accepted) = connect(&tls, &client, "a.example").await;
    assert!(accepted.is_ok(), "another source has its turn");
}

/// Without sockets: their events would come while a paused clock goes on to the next timeout.
#[tokio::test(start_paused = true)]
async fn the_time_of_a_client_begins_with_its_turn_and_the_wait_for_that_has_a_limit() {
    let tls = Tls::open(Options::default()).unwrap();
    let (proxy, mut held) = (Source::of("127.0.0.1".parse().unwrap()), Vec::new());
    for _ in 0..turns::MAX_HANDSHAKES {
        held.push(tls.0.turns.next(proxy).await);
    }
    let after = |seconds| tokio::time::sleep(std::time::Duration::from_secs(seconds));
    let slow = async || {
        after(9).await;
        Ok::<_, HandshakeRefused>(())
    };
    let first = held.pop();
    let releasing = async {
        after(15).await;
        drop(first);
    };
    let (accepted, ()) = tokio::join!(tls.in_turn(proxy, slow()), releasing);
    assert!(accepted.is_ok(), "it had 10 s from its turn on");
    let endless = std::future::pending::<Result<(), HandshakeRefused>>();
    assert!(matches!(tls.in_turn(proxy, endless).await, Err(HandshakeRefused::Slow)));
    let _last = tls.0.turns.next(proxy).await;
    assert!(matches!(tls.in_turn(proxy, slow()).await, Err(HandshakeRefused::Crowded)));
}

#[tokio::test]
async fn a_client_certificate_is_a_user_and_may_be_required() {
    let (authority, other, dir) = (Authority::new(), Authority::new(), tempfile::tempdir().unwrap());
    let pairs = vec![write(dir.path(), "tls", &authority.issue("registry", &["a.example"]))];
    let ca = dir.path().join("ca.pem");
    fs::write(&ca, &authority.pem).unwrap();
    let open = |client_certificates| {
        let (pairs, client_ca) = (pairs.clone(), Some(ca.clone()));
        Tls::open(Options { pairs, client_ca, client_certificates, awaited: Vec::new() }).unwrap()
    };
    let (own, stranger) = (authority.issue("me", &[]), other.issue("me", &[]));
    for mode in [ClientCertificates::Optional, ClientCertificates::Required] {
        let tls = open(mode);
        let (_, secure) = connect(&tls, &client(&authority, Some(&own)), "a.example").await;
        assert_eq!(secure.unwrap().user(), Some("me"));
        let (_, secure) = connect(&tls, &client(&authority, Some(&stranger)), "a.example").await;
        assert!(secure.expect_err("refused").is_failed_login());
        let (_, secure) = connect(&tls, &client(&authority, None), "a.example").await;
        match mode {
            ClientCertificates::Required => {
                assert!(matches!(
                    secure,
                    Err(HandshakeRefused::Handshake(rustls::Error::NoCertificatesPresented))
                ));
            }
            _ => assert_eq!(secure.unwrap().user(), None),
        }
    }
    let ignored = open(ClientCertificates::Ignored);
    let (_, secure) = connect(&ignored, &client(&authority, Some(&own)), "a.example").await;
    assert_eq!(secure.unwrap().user(), None);
    // The authority goes, and with it its users.
    let tls = open(ClientCertificates::Required);
    fs::write(&ca, &other.pem).unwrap();
    tls.reload().await;
    let (_, secure) = connect(&tls, &client(&authority, Some(&own)), "a.example").await;
    assert!(secure.expect_err("refused").is_failed_login());
}

#[tokio::test]
async fn a_request_without_tls_is_answered_by_an_error_that_says_so() {
    let tls = Tls::open(Options::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    assert!(matches!(tls.accept(accepted, |stream| stream).await, Err(HandshakeRefused::Plain)));
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("docker-distribution-api-version"));
    assert!(answer.ends_with("the request came without TLS\n"), "{answer}");
}

#[tokio::test]
async fn an_acme_server_gets_its_proof_while_it_is_wanted() {
    let tls = Tls::open(Options { awaited: vec!["a.example".into()], ..Options::default() }).unwrap();
    let mut config = ClientConfig::clone(client(&Authority::new(), None).config());
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let client = TlsConnector::from(Arc::new(config));
    let answer = tls.challenges().answer("a.example", &[7; 32]).unwrap();
    // The client here does not know the certificate, which an ACME server does not have to.
    assert!(matches!(connect(&tls, &client, "A.example").await.1, Err(HandshakeRefused::Handshake(_))));
    assert!(tls.challenges().config("A.example").is_some());
    drop(answer);
    assert!(tls.challenges().config("a.example").is_none());
}

#[test]
fn files_that_cannot_be_served_are_refused_with_their_names() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let (certificate, key) = write(dir.path(), "a", &authority.issue("a", &["a.example"]));
    let (_, other_key) = write(dir.path(), "b", &authority.issue("b", &["b.example"]));
    let nowhere = dir.path().join("nowhere");
    for ((certificate, key), told) in [
        ((&nowhere, &key), "cannot read"),
        ((&key, &key), "has no certificate in PEM"),
        ((&certificate, &certificate), "has no private key"),
        ((&certificate, &other_key), "does not belong to the certificate in"),
    ] {
        let message = refused(&[(certificate, key)]);
        assert!(message.contains(told) && message.contains(&dir.path().display().to_string()), "{message}");
    }
}

#[test]
fn references_show_a_name_that_the_certificate_is_for() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    for (names, listen, shown) in [
        (&["127.0.0.1", "a.example"][..], "127.0.0.1:5050", "127.0.0.1:5050"),
        (&["a.example", "localhost"], "127.0.0.1:5050", "localhost:5050"),
        (&["*.example", "a.example"], "127.0.0.1:5050", "a.example:5050"),
        (&["a.example"], "192.0.2.1:443", "a.example"),
        (&["*.example"], "127.0.0.1:5050", "127.0.0.1:5050"),
    ] {
        let pairs = vec![write(dir.path(), "tls", &authority.issue("r", names))];
        let tls = Tls::open(Options { pairs, ..Options::default() }).unwrap();
        assert_eq!(tls.shown_at(listen.parse().unwrap()), shown, "{names:?}");
    }
    let awaited = Tls::open(Options { awaited: vec!["b.example".into()], ..Options::default() }).unwrap();
    assert_eq!(awaited.shown_at("127.0.0.1:443".parse().unwrap()), "b.example");
}
