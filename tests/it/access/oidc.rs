//! Tokens of another issuer: a small one on loopback.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{Json, Router, extract::State, routing::get};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use libtest_mimic::Trial;
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{RULES, Ruled, Sender};
use crate::{exposed::basic, harness::trials, http::ask};

pub fn trials() -> Vec<Trial> {
    trials![
        a_ci_job_pushes_with_the_token_of_its_issuer,
        oidc_tokens_of_other_keys_audiences_or_claims_are_rejected,
        the_keys_of_an_issuer_are_cached_and_fetched_again_for_a_new_key,
    ]
}

/// An issuer with one key at a time.
struct Issuer {
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    url: String,
    keys: std::sync::Mutex<(String, Vec<u8>)>,
    fetched: AtomicUsize,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn new_key() -> Vec<u8> {
    Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key").as_ref().to_vec()
}

fn sign(id: &str, key: &[u8], claims: &Value) -> String {
    let header = Header { kid: Some(id.into()), ..Header::new(Algorithm::EdDSA) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_ed_der(key)).expect("a token")
}

impl Issuer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let keys = std::sync::Mutex::new(("one".into(), new_key()));
        let shared = Arc::new(Shared { url: url.clone(), keys, fetched: AtomicUsize::new(0) });
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/keys", get(keys_of))
            .with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("an issuer") });
        Self { url, shared, task }
    }

    fn claims(&self) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        json!({ "iss": self.url, "aud": "ocipfs", "sub": "job", "exp": now + 300, "iat": now,
            "repository": "org/app", "ref": "refs/heads/main" })
    }

    fn token(&self, changed: &Value) -> String {
        let mut claims = self.claims();
        claims.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        let (id, key) = self.shared.keys.lock().unwrap().clone();
        sign(&id, &key, &claims)
    }

    fn rules(&self) -> String {
        let url = &self.url;
        format!(
            "{RULES}\n[[rule]]\nusers = [\"ci:org/app\"]\nrepositories = [\"team/*\"]\nactions = [\"pull\", \"push\"]\n\
             [[oidc]]\nissuer = \"{url}\"\naudience = \"ocipfs\"\nuser = \"ci:{{repository}}\"\n\
             [oidc.claims]\nref = \"refs/heads/*\"\n"
        )
    }
}

async fn configuration(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "issuer": shared.url, "jwks_uri": format!("{}/keys", shared.url) }))
}

async fn keys_of(State(shared): State<Arc<Shared>>) -> Json<Value> {
    shared.fetched.fetch_add(1, Ordering::SeqCst);
    let (id, key) = shared.keys.lock().unwrap().clone();
    let public = Ed25519KeyPair::from_pkcs8(&key).expect("a key");
    let x = URL_SAFE_NO_PAD.encode(public.public_key());
    Json(
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": id, "x": x }] }),
    )
}

async fn a_ci_job_pushes_with_the_token_of_its_issuer() {
    let issuer = Issuer::start().await;
    let ruled = Ruled::with(&issuer.rules(), &[]);
    let token = issuer.token(&json!({}));
    let login = Sender { node: &ruled.node, authorization: Some(basic("ci", &token)) };
    for client in [ruled.bearer(&token), login] {
        client.push("team/app", "1", b"layer").await;
        client.upload("bob/app", b"layer").await.refused(403, "DENIED", &["ci:org/app", "push bob/app"]);
    }
    // As docker does it: a password for a token of the token endpoint.
    let url = ruled.node.url("/token?service=ocipfs&scope=repository:team/app:pull");
    let answer = ask("GET", &url, &[("authorization", &basic("ci", &token))]).await;
    let session = answer.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(ruled.bearer(&session).get("/v2/team/app/manifests/1").await.status, 200);
    assert_eq!(issuer.shared.fetched.load(Ordering::SeqCst), 1);
    // Users of the file still log in.
    assert_eq!(ruled.of("alice").get("/v2/team/app/manifests/1").await.status, 200);
}

async fn oidc_tokens_of_other_keys_audiences_or_claims_are_rejected() {
    let issuer = Issuer::start().await;
    let ruled = Ruled::with(&issuer.rules(), &[]);
    let other = sign("one", &new_key(), &issuer.claims());
    let unsigned = {
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        format!("{}.{}.", part(json!({ "alg": "none", "typ": "JWT" })), part(issuer.claims()))
    };
    for (what, token) in [
        ("another key", other),
        ("no signature", unsigned),
        ("another audience", issuer.token(&json!({ "aud": "other" }))),
        ("another issuer", issuer.token(&json!({ "iss": "https://other.example" }))),
        ("expired", issuer.token(&json!({ "exp": 1_000_000_000 }))),
        ("not valid yet", issuer.token(&json!({ "nbf": 9_000_000_000_u64 }))),
        ("another branch", issuer.token(&json!({ "ref": "refs/tags/v1" }))),
        ("no repository", issuer.token(&json!({ "repository": null }))),
    ] {
        let answer = ruled.bearer(&token).get("/v2/public/app/tags/list").await;
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
    }
    // Another repository is another user, whom no rule knows.
    let token = issuer.token(&json!({ "repository": "org/other" }));
    assert_eq!(ruled.bearer(&token).get("/v2/team/app/tags/list").await.status, 403);
}

async fn the_keys_of_an_issuer_are_cached_and_fetched_again_for_a_new_key() {
    let issuer = Issuer::start().await;
    let ruled = Ruled::with(&issuer.rules(), &[]);
    for number in 0..3 {
        let token = issuer.token(&json!({ "jti": number }));
        assert_eq!(ruled.bearer(&token).get("/v2/team/app/tags/list").await.status, 404);
    }
    let fetched = || issuer.shared.fetched.load(Ordering::SeqCst);
    assert_eq!(fetched(), 1);
    *issuer.shared.keys.lock().unwrap() = ("two".into(), new_key());
    let token = issuer.token(&json!({}));
    // At most every ten seconds.
    crate::harness::within(std::time::Duration::from_secs(30), async {
        while ruled.bearer(&token).get("/v2/team/app/tags/list").await.status != 404 {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    })
    .await;
    assert_eq!(fetched(), 2);
}
