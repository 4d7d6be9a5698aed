//! Requests as clients make them, and answers held against what the specification says.

use std::{
    fmt,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use reqwest::header::HeaderMap;
use serde_json::Value;

/// What a 404 says where no peer has answered yet; the last one of a name that only peers know the content of.
const NOT_YET: [&str; 3] =
    ["no provider found", "no record found", "not found, locally or under a followed name"];
/// How long what is at a peer is asked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A whole answer.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// Sends a request and reads its answer to the end.
pub async fn ask(method: &str, url: &str, headers: &[(&str, &str)]) -> Answer {
    send(method, url, headers, "").await
}

/// Sends a request with a body and reads its answer to the end.
pub async fn send(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<reqwest::Body>,
) -> Answer {
    let method = method.parse().expect("a method");
    let mut request = reqwest::Client::new().request(method, url).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap_or_else(|e| panic!("{url}: {e:?}"));
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.unwrap_or_else(|e| panic!("{url}: {e:?}"));
    Answer { status, headers, body: body.into() }
}

pub async fn get(url: &str) -> Answer {
    ask("GET", url, &[]).await
}

/// Gets what peers have, and again while the node has not found it: a peer on a busy machine may take longer to answer than the
/// node searches.
pub async fn get_found(url: &str) -> Answer {
    ask_found("GET", url, &[]).await
}

/// [`get_found`] with headers, or of the head only.
pub async fn ask_found(method: &str, url: &str, headers: &[(&str, &str)]) -> Answer {
    let start = Instant::now();
    loop {
        let answer = ask(method, url, headers).await;
        if !answer.is_late(method) || start.elapsed() > PATIENCE {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl fmt::Debug for Answer {
    /// With as much of the body as a refusal has.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(2000)]);
        write!(f, "{} {:?} {body:?}", self.status, self.headers)
    }
}

impl Answer {
    /// Whether a node says that no peer answered in time; to `HEAD` it does not say why.
    fn is_late(&self, method: &str) -> bool {
        let says = |text: &str| String::from_utf8_lossy(&self.body).contains(text);
        self.status == 504 || self.status == 404 && (method == "HEAD" || NOT_YET.into_iter().any(says))
    }

    /// Returns a header's text, empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Holds that this is a refusal in the form of the specification ("Error Codes"), saying all of `texts`.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str, texts: &[&str]) {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), "application/json");
        assert_eq!(self.header("docker-distribution-api-version"), "registry/2.0");
        let body = self.json();
        let [error] = body["errors"].as_array().expect("errors").as_slice() else { panic!("{body}") };
        assert_eq!(error["code"], code, "{body}");
        let message = error["message"].as_str().expect("a message");
        assert!(!message.is_empty() && message.is_ascii(), "{body}");
        for text in texts {
            assert!(message.contains(text), "{text:?} is not in {message:?}");
        }
    }
}

/// Whether a `GET` that began well, or did not begin, was broken off: a client must not believe it.
pub async fn is_broken_off(url: &str) -> bool {
    match reqwest::get(url).await {
        Ok(response) => {
            assert_eq!(response.status(), 200);
            response.bytes().await.is_err()
        }
        Err(_) => true,
    }
}

/// Sends a request as it is written and returns all that comes before the connection closes.
pub fn raw(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the registry listens");
    stream.write_all(request.as_bytes()).expect("a request is taken");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Begins a `GET` that succeeds, and reads none of its body.
pub fn begin(address: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the registry listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request is taken");
    let mut first = [0; 12];
    stream.read_exact(&mut first).expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}
