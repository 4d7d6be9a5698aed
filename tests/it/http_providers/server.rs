//! A small HTTP server that tells what it was asked, and answers well or badly.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use tokio::{net::TcpListener, task::JoinHandle};

/// How it answers.
#[derive(Clone)]
pub enum Answers {
    /// Like the server at this URL.
    Of(String),
    /// With other bytes than those of the block.
    Wrong,
    /// With a body that has no end.
    Endless,
    /// With this status, and this place where the block is said to be.
    Status(u16, &'static str),
    /// Never.
    Nothing,
}

/// A request, as far as tests look at it.
#[derive(Clone, Debug)]
pub struct Heard {
    pub method: String,
    /// With the query.
    pub path: String,
    pub accept: String,
    pub cache_control: String,
}

/// Runs until it is dropped.
pub struct Server {
    address: std::net::SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    answers: Answers,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Heard>>>::default());
        let shared = Shared { answers, heard: heard.clone() };
        let router = Router::new().fallback(answer).with_state(shared);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, heard, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked so far.
    pub fn requests(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

fn heard(request: &Request) -> Heard {
    let header = |name| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    Heard {
        method: request.method().to_string(),
        path: request.uri().to_string(),
        accept: header(header::ACCEPT),
        cache_control: header(header::CACHE_CONTROL),
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let heard = heard(&request);
    shared.heard.lock().unwrap().push(heard.clone());
    match shared.answers {
        Answers::Of(url) => pass_on(&url, request.method().clone(), &heard).await,
        Answers::Wrong => "these are other bytes".into_response(),
        Answers::Endless => {
            let zeros = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[0; 16 << 10])));
            Body::from_stream(zeros).into_response()
        }
        Answers::Status(status, place) => {
            let status = StatusCode::from_u16(status).unwrap();
            (status, [(header::LOCATION, place)]).into_response()
        }
        Answers::Nothing => std::future::pending().await,
    }
}

async fn pass_on(url: &str, method: Method, heard: &Heard) -> Response {
    let asked = reqwest::Client::new().request(method, format!("{url}{}", heard.path));
    let answer = asked.header("cache-control", &heard.cache_control).send().await.unwrap();
    let status = answer.status();
    (status, answer.bytes().await.unwrap()).into_response()
}
