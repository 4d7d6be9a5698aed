use std::fs;

use super::*;

#[tokio::test]
async fn a_certificate_that_cannot_be_written_is_served_and_no_other_one_is_ordered() {
    let dir = tempfile::tempdir().unwrap();
    let acme_dir = dir.path().join("acme");
    let domain: Domain = "registry.example".parse().unwrap();
    let awaited = vec![domain.as_str().to_owned()];
    let tls = Tls::open(tls::Options { awaited, ..tls::Options::default() }).unwrap();
    let options = Options {
        domains: vec![domain.clone()],
        directory: "https://127.0.0.1:9/directory".into(),
        authority: None,
        contacts: Vec::new(),
        dir: acme_dir.clone(),
    };
    let acme = Acme::open(options, tls.clone()).unwrap();
    // The disk is full, or the directory went: a file is in its place.
    fs::remove_dir(&acme_dir).unwrap();
    fs::write(&acme_dir, "").unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let issued = rcgen::CertificateParams::new(vec![domain.to_string()]).unwrap().self_signed(&key).unwrap();
    let pem = format!("{}{}", key.serialize_pem(), issued.pem());
    acme.issued(&domain, pem.clone()).await.unwrap();
    assert!(tls.issued(domain.as_str()).is_some());
    assert!(acme.wait(&domain).is_some(), "it waits for the renewal");
    fs::remove_file(&acme_dir).unwrap();
    fs::create_dir(&acme_dir).unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    acme.run(stop).await;
    assert_eq!(fs::read_to_string(acme_dir.join("registry.example.pem")).unwrap(), pem);
}
